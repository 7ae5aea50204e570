/* What any model is to those who train, plan, measure and use it. A family of models is a table of functions, in the
 * list of model.c. */
#ifndef CAIRN_MODEL_H
#define CAIRN_MODEL_H

#include "dist/mesh/mesh.h"
#include "dist/parallel/packet.h"
#include "src/core/config.h"
#include "src/model/batch.h"
#include "src/tensor/parameter.h"
#include "src/tensor/state.h"

/* What parameters are for: parameter_spec.group. */
enum parameter_group {
    GROUP_EMBEDDINGS,
    GROUP_ATTENTION,
    GROUP_MLP,
    GROUP_CONVOLUTIONS,
    GROUP_NORMS,
    GROUP_MEMORY_GATES,
    GROUP_ROUTERS,
    GROUP_PREDICTORS,
    GROUP_RESIDUAL,
    GROUP_LORA,
    GROUP_ADAPTERS,
    GROUP_HEAD,
    PARAMETER_GROUPS,
};

const char *parameter_group_name(enum parameter_group group);

/* Elements of the whole model: as they are stored, and as if each unrolled layer had parameters of its own. */
struct parameter_totals {
    int64_t stored[PARAMETER_GROUPS];
    int64_t unrolled[PARAMETER_GROUPS];
};

struct parameter_totals parameter_totals(const struct parameter_list *list);

/* -- A model on a mesh -- */

struct model {
    const struct model_ops *ops;
    void *self; /* the family's own */
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    const struct config *config;
    struct parameter_list *parameters; /* into which it declares its own */
    enum dtype dtype;                  /* of activations */
    int chunks;                        /* of this pipeline rank */
    double surplus; /* how far the warm-up of the routers' capacity is from its end, in passes to come: on all ranks the
                       same */
    double auxiliary_loss; /* losses of its own since it was last set to 0, of this rank's inputs */
    bool balanced; /* routing at the load of a trained model, for measurements of one that has learned nothing */
};

/* What a model wants to be known of a step beside its loss. */
enum { MODEL_LISTS = 11, MODEL_NUMBERS = 3 };

struct model_scalars {
    void *self;
    struct {
        const char *name;
        const double *values;
        int64_t count;
    } list[MODEL_LISTS];
    struct {
        const char *name;
        double value;
    } number[MODEL_NUMBERS];
    int list_count;
    int number_count;
};

struct model_ops {
    const char *name; /* model.family */

    /* USAGE error, with what would fit, when a mesh cannot split the model. Local. */
    enum status (*check)(struct context *context, const struct model_config *config,
                         const struct mesh_config *mesh) MUST_USE;

    /* Declares the parameters, on one rank, without memory for them: the largest model can be described anywhere. */
    enum status (*describe)(struct context *context, const struct model_config *config,
                            struct parameter_list *list) MUST_USE;

    /* Declares the parameters in model->parameters, and fills in self and chunks. Local; every rank of a mesh comes to
     * the same verdict. */
    enum status (*create)(struct model *model) MUST_USE;
    void (*destroy)(struct model *model);

    /* The fields of a batch, with names, types and sizes; returns their number. */
    int (*fields)(const struct config *config, struct batch_field fields[BATCH_FIELDS]);

    /* What it keeps for a batch, in batch->prepared and batch->work; and brings up to date when that is filled. The
     * three may be NULL. */
    enum status (*batch_create)(struct batch *batch) MUST_USE;
    void (*batch_destroy)(struct batch *batch);
    void (*batch_ready)(struct batch *batch);

    /* The passes of a micro-batch through a chunk, as struct pipeline_stage has them: the packet's form into a chunk of
     * the model, the largest that there is for any micro-batch, and the chunk of this stage itself, which is
     * collective over the tensor and context axes. */
    void (*form)(const struct batch *batch, int64_t micro_batch, int64_t model_chunk, struct packet_form *form);
    int64_t (*packet_bytes)(const struct batch *batch);
    bool (*forward)(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk, const struct packet *in,
                    struct packet *out);

    /* Useful floating-point operations of a training step for a token (an image where rows are those); `list`: less
     * what its frozen parameters spare, NULL: all learn. */
    double (*flops)(const struct model_config *config, int64_t length, double surplus,
                    const struct parameter_list *list);

    /* What rows carry from step to step; all NULL where they carry nothing. */
    const struct model_state_ops *state;

    /* Numbers for the metrics; NULL if it has none. */
    const struct model_scalars_ops *scalars;
};

struct model_state_ops {
    bool (*carried)(const struct config *config);
    enum status (*create)(const struct batch *batch, struct model_state **state) MUST_USE; /* begins with nothing */
    void (*destroy)(struct model_state **state);
    void (*reset)(struct model_state *state, int64_t row); /* a row begins anew */
    void (*advance)(struct model_state *state);            /* what rows left is what they go on from */
    /* Its arrays for a checkpoint: an image of what this rank writes (only what no other rank does) or reads; filled
     * before it is written, taken after it was read. */
    enum status (*image_create)(const struct model_state *state, bool writes, void **image) MUST_USE;
    void (*image_destroy)(struct context *context, void **image);
    enum status (*image_visit)(const void *image, const struct state_visitor *visitor) MUST_USE;
    void (*image_fill)(const struct model_state *state, void *image);
    void (*image_take)(struct model_state *state, const void *image);
};

struct model_scalars_ops {
    /* batch and state (NULL: none) must outlive it. Local; to be destroyed whatever comes back. */
    enum status (*create)(struct batch *batch, const struct model_state *state, struct model_scalars *scalars) MUST_USE;
    void (*destroy)(struct context *context, struct model_scalars *scalars);
    void (*begin)(struct model_scalars *scalars, bool due); /* before a step; `due`: its numbers are wanted */
    void (*end)(struct model_scalars *scalars);             /* after it: brings them up to date. Collective if due */
    /* Something to tell whoever watches, after the step; false: nothing. */
    bool (*warning)(const struct model_scalars *scalars, int64_t step, char *text, size_t size);
};

extern const struct model_ops decoder_ops, vit_ops, resnet_ops, text_ops;

/* The family of a configuration. */
const struct model_ops *model_find(const struct model_config *config);

/* Of the family `ops`, or the configuration's if that is NULL. Local; to be destroyed whatever comes back. */
enum status model_create(struct context *context, struct mesh *mesh, struct engine *engine, const struct config *config,
                         const struct model_ops *ops, struct parameter_list *parameters, struct model *model) MUST_USE;
void model_destroy(struct model *model);

/* Whether runs of a configuration carry state from step to step. */
bool model_carries(const struct model_ops *ops, const struct config *config);

#endif
