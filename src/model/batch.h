/* The rows of a step, of which each data rank computes its part (range_partition) in micro-batches: named fields that a
 * model asks for and a source of data fills. All ranks of a model hold the same. */
#ifndef CAIRN_MODEL_BATCH_H
#define CAIRN_MODEL_BATCH_H

#include "dist/parallel/class_loss.h"
#include "src/core/config.h"
#include "src/core/context.h"
#include "src/core/dtype.h"
#include "src/core/integer.h"

enum { BATCH_FIELDS = 4 };

struct model;
struct model_state;

struct batch_field {
    const char *name;
    enum dtype dtype;
    int64_t elements; /* of a row */
    int64_t initial;  /* of every element */
    int64_t bound;    /* integers are below it; 0: what stands in the field is not for measurements to draw */
    void *data;       /* [mine.count, elements] */
};

struct batch {
    struct model *model;
    int64_t rows;          /* of the step, over all data ranks */
    int64_t length;        /* of a sequence, where rows are sequences */
    struct range mine;     /* rows of this data rank */
    int64_t micro_rows;    /* the most rows of a micro-batch */
    int64_t micro_batches; /* the same on every data rank; some may have no rows */
    struct batch_field field[BATCH_FIELDS];
    int field_count;
    /* What the rows of this data rank go on from, and leave; NULL: they begin with nothing, and nobody wants what is
     * left. */
    struct model_state *state;
    bool training;   /* the pass under way is one of training, not of evaluation */
    bool causal;     /* routers decide as when generating */
    bool memory_off; /* attention sees its own segment only */
    /* Of classifiers, on the last chunk: shown the logits [rows, classes local] F32 of the rows `row`.., which count
     * from mine.begin, and of the classes `first`.. of all. NULL: nobody looks. */
    void (*see_classes)(void *self, int64_t row, int64_t first, const struct tensor *logits);
    void *see_self;

    int64_t target_count; /* predictions that count, over all data ranks */
    int64_t token_count;  /* inputs that are no padding, over all data ranks */
    double work;          /* inputs that this rank computes, of all its rows */
    void *prepared;       /* the model's own */
};

/* The fields of families of images: `images` F32 [channels, rows, columns] normalised, `labels` (negative: the row does
 * not count), and `mixed_labels`, which has a share `mixing` of the row's target. */
int batch_image_fields(const struct config *config, struct batch_field fields[BATCH_FIELDS]);

/* The targets of the rows from `row` of mine on in the pass under way, for the classes from `first` on. Only training
 * smooths labels. */
struct class_targets batch_class_targets(const struct batch *batch, int64_t row, int64_t first);

/* As the model's fields say, for `rows` in micro-batches of `micro_rows`. Local. To be destroyed whatever comes back.
 */
enum status batch_create(struct model *model, int64_t rows, int64_t micro_rows, struct batch *batch) MUST_USE;
void batch_destroy(struct batch *batch);

/* The memory of a field; NULL if the model has none of this name. */
void *batch_field(const struct batch *batch, const char *name);

/* For measurements: draws what fields with a bound hold (floats from the standard normal), by the seed and the place in
 * the step's batch, and makes it ready with all targets. */
void batch_fill_random(struct batch *batch, uint64_t seed);

/* Makes a batch ready of which everything counts. */
void batch_ready_whole(struct batch *batch);

/* Makes a filled batch ready for the next passes: the loss is averaged over the targets. Both counts are over all data
 * ranks, and the same on all ranks. Local. */
void batch_ready(struct batch *batch, int64_t target_count, int64_t token_count);

/* The rows of a micro-batch, counted from mine.begin. */
struct range batch_micro(const struct batch *batch, int64_t micro_batch);

#endif
