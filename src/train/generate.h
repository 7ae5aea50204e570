/* Generation: tokens are drawn one by one, with the keys and values of earlier ones cached. Works on any mesh; every
 * rank learns every token. */
#ifndef CAIRN_TRAIN_GENERATE_H
#define CAIRN_TRAIN_GENERATE_H

#include "src/train/trainer.h"

struct sampling {
    double temperature; /* 0 takes the most likely token */
    int64_t top_k;      /* only the k most likely; 0 is all */
    double top_p;       /* only the most likely that make up this probability; 1 is all */
    uint64_t seed;
};

/* Draws from logits [count]; `index` is the number of the draw. Local. */
int32_t sampling_draw(const struct sampling *sampling, const float *logits, int64_t count, int64_t index,
                      struct arena *work);

/* Continues `prompt` (prompt_count > 0 tokens) by `count` tokens, written to `tokens`. The model never looks back
 * further than its max_length: when that is full, it goes on with the later half. `see` (may be NULL) is called with
 * each token as it is drawn. Collective. */
enum status generate(struct trainer *trainer, const struct sampling *sampling, const int32_t *prompt,
                     int64_t prompt_count, int64_t count, int32_t *tokens, void (*see)(void *self, int32_t token),
                     void *see_self) MUST_USE;

#endif
