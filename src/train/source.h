/* Where the batches of a run come from, and what it is evaluated on: texts or images, as the family of the model takes
 * them. Collective, agreed status, unless said otherwise. */
#ifndef CAIRN_TRAIN_SOURCE_H
#define CAIRN_TRAIN_SOURCE_H

#include "io/tokenizer/tokenizer.h"
#include "src/evaluate/evaluate.h"
#include "src/train/changes.h"

enum { SOURCE_COUNTS = 3 };

struct source_count {
    const char *name;
    double value;
    bool integer;
};

struct source {
    const struct source_ops *ops;
    void *self;
    struct context *context;
    struct mesh *mesh;
    const struct config *config;
    bool validates;        /* there is something to evaluate on */
    char description[128]; /* of what there is to train on */
    char contents[DATA_KEYS]
                 [CHANGES_CONTENT]; /* of data.train and data.validation, to tell others by; on the rank that writes */
    struct tokenizer *tokenizer;    /* of texts; NULL: there is none */
    const char
        *data_facts; /* what a model has to know of its data beside its parameters, for checkpoints; NULL: nothing */
};

struct source_ops {
    /* `threads` of a rank compute. */
    enum status (*open)(struct source *source, int threads) MUST_USE;
    void (*close)(struct source *source);
    /* The batch that begins with number `first` of all sequences (images); carried: what rows carry, which begins anew
     * where a row does (NULL: nothing). */
    enum status (*fill)(struct source *source, struct batch *batch, int64_t first,
                        struct model_state *carried) MUST_USE;
    /* On what the settings name for validation. */
    enum status (*evaluate)(struct source *source, struct evaluator *evaluator, const struct evaluation_plan *plan,
                            struct evaluation *evaluation) MUST_USE;
    /* Numbers for a line of metrics; returns how many. Local, allocates nothing. May be NULL. */
    int (*count)(struct source *source, struct source_count counts[SOURCE_COUNTS]);
};

/* To be closed whatever comes back. config must outlive it. */
enum status source_open(struct context *context, struct mesh *mesh, const struct config *config, int threads,
                        struct source *source) MUST_USE;
void source_close(struct source *source);

extern const struct source_ops token_source_ops, image_source_ops, label_source_ops;

#endif
