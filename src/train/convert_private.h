/* A conversion, for the files that do it. */
#ifndef CAIRN_TRAIN_CONVERT_PRIVATE_H
#define CAIRN_TRAIN_CONVERT_PRIVATE_H

#include "io/checkpoint/checkpoint.h"
#include "src/train/convert.h"

struct conversion {
    struct context *context;
    struct mesh *mesh;
    const struct config *config; /* of the new model */
    const char *path;
    const struct convert_way *way;
    struct checkpoint_header header;
    struct config from;
    struct parameter_list source, target; /* descriptions */
    float *norms;                         /* see relax_norms; NULL: matrices do not take norms in */

    struct trainer *trainer;       /* of the new model; NULL: only its ranks are wanted */
    char (*names)[PARAMETER_NAME]; /* [parameters of the trainer] */
    float *values;                 /* [replica_state_count] */
};

static inline const struct model_config *target_of(const struct conversion *conversion)
{
    return &conversion->config->model;
}

/* The index-th unrolled layer that uses a stored one; -1 if it has fewer uses. */
int64_t convert_use(const struct model_config *config, int64_t stored, int64_t index);

/* The index-th of the source's layers whose mean a stored layer is; -1 if those before are all. */
int64_t convert_origin(const struct conversion *conversion, int64_t stored, int64_t index);

/* Takes "model.layers.I.REST" apart, `rest` with its dot. */
bool convert_split_name(const char *name, int64_t *layer, const char **rest);

/* The mean of index + 1 values, of which the first have the mean `before`. What is left of a layer is as exact as the
 * mean is the same to the bit. */
static inline float convert_mean(float before, float value, int64_t index)
{
    return (float)(((double)index * (double)before + (double)value) / (double)(index + 1));
}

/* -- What recursions add (src/train/relax.c) -- */

/* Whether what the mean leaves of the layers becomes the low-rank maps of the recursions. */
bool relax_applies(const struct conversion *conversion);

/* Reads the weights of the source's norms into conversion->norms, where norms have no bias: the matrices behind them
 * take them in, so that norms of layers that become one agree. Collective; agreed status. */
enum status relax_norms(struct conversion *conversion) MUST_USE;

/* What column of a matrix REST of one of the source's layers is multiplied by, [width]; NULL: it stays as it is. */
const float *relax_scales(const struct conversion *conversion, int64_t stored, int64_t layer, const char *rest);

/* Whether REST of a stored layer is a norm that its matrices have taken in, and is 1. */
bool relax_is_taken_in(const struct conversion *conversion, int64_t stored, const char *rest);

/* Decomposes what is left of each layer, each matrix on one rank. With a trainer its low-rank maps get the values.
 * Collective; agreed status. */
enum status relax_residuals(struct conversion *conversion, struct convert_ranks *ranks) MUST_USE;

/* -- LoRA maps into their matrices (src/train/merge.c) -- */

struct lora_names {
    char down[PARAMETER_NAME], up[PARAMETER_NAME];
};

/* The LoRA maps of the source beside a matrix; false if it has none. */
bool merge_finds(const struct conversion *conversion, const char *name, struct lora_names *names);

/* Adds U D of all LoRA maps to the trainer's matrices. Collective; agreed status. */
enum status merge_lora(struct conversion *conversion) MUST_USE;

#endif
