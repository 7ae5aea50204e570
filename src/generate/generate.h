/* Generation: tokens are drawn one by one, with the keys and values (and memories) of earlier ones cached. Works on any
 * mesh; every rank learns every token. */
#ifndef CAIRN_GENERATE_H
#define CAIRN_GENERATE_H

#include "src/session/session.h"

struct sampling {
    double temperature; /* 0 takes the most likely token */
    int64_t top_k;      /* only the k most likely; 0 is all */
    double top_p;       /* only the most likely that make up this probability; 1 is all */
    uint64_t seed;
    bool memory_off;           /* attention sees its own segment only */
    bool in_step;              /* all rows pass a layer together, also where tokens could be batched depth-wise */
    bool (*stops)(void *self); /* asked on every rank between tokens: one that says yes ends it; NULL: nobody is */
    void *stops_self;
};

/* Draws from logits [count]; `index` is the number of the draw. Local. */
int32_t sampling_draw(const struct sampling *sampling, const float *logits, int64_t count, int64_t index,
                      struct arena *work);

/* A sequence to continue. */
struct continuation {
    const int32_t *prompt; /* [prompt_count], at least one token */
    int64_t prompt_count;
    int64_t count;   /* tokens to draw */
    int32_t *tokens; /* [count], filled; or [kept] */
    int64_t kept;    /* only the last so many stay, number i at i % kept; at least the model's max_length; 0: all */
};

/* Continues sequences of any lengths, up to `rows` of them side by side: one that is finished makes room for the next
 * at once. Without Infini-attention the model never looks back further than its max_length: when that is full, a
 * sequence goes on with the later half. Routers decide token by token; with routed recursions on one pipeline stage
 * tokens of different depths pass the shared layers together (src/model/depthwise.h), so that rows do not go on in step
 * with one another. `see` (may be NULL) is called with each token as it is drawn. What a sequence gets depends neither
 * on the others nor on that, but for rounding. Collective. */
enum status generate(struct session *session, const struct sampling *sampling, const struct continuation *continuations,
                     int64_t count, int64_t rows, void (*see)(void *self, int64_t continuation, int32_t token),
                     void *see_self) MUST_USE;

#endif
