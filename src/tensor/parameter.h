/* Parameters: tensors that know their global shape and which part of it this rank holds; and the list of them, into
 * which models declare theirs. A list knows every parameter of the whole model on every rank, held here or not, in an
 * order that is the same everywhere. */
#ifndef CAIRN_TENSOR_PARAMETER_H
#define CAIRN_TENSOR_PARAMETER_H

#include "src/core/context.h"
#include "src/tensor/box.h"

enum { PARAMETER_NAME = 96 };

/* The rows of an INITIAL_ORTHOGONAL matrix share no column: element (m, n) is `deviation` where n mod rows is m, else
 * 0. INITIAL_FIRST is 1 in the first column of a matrix, else 0; INITIAL_CONSTANT is `deviation`, and that bounds
 * INITIAL_UNIFORM on both sides. */
enum parameter_initial {
    INITIAL_ZERO,
    INITIAL_ONE,
    INITIAL_NORMAL,
    INITIAL_UNIFORM,
    INITIAL_ORTHOGONAL,
    INITIAL_FIRST,
    INITIAL_CONSTANT,
};

/* What is the same on every rank of any mesh. */
struct parameter_spec {
    char name[PARAMETER_NAME];
    int rank;
    int64_t shape[TENSOR_RANK];
    enum parameter_initial initial;
    double deviation; /* of INITIAL_NORMAL; see above */
    bool decay;
    bool is_gate;     /* its learning rate has the factor optimizer.gate_lr_factor */
    bool is_matrix;   /* a linear map inside a layer, over its last two dimensions: optimisers may step it as such */
    bool keeps_float; /* its values are fp32 whatever the compute type: few numbers, on which much depends */
    bool is_buffer;   /* numbers that a model keeps beside its parameters, in fp32 and whole on every tensor rank:
                         averaged over replicas and saved, never stepped; forward may change them, but not in the second
                         run of a recomputed function (tape->again) */
    bool is_count;    /* a buffer of one whole number as a double, in the place of two floats: counted alike on all
                         ranks, and never averaged */
    int group;        /* what it is for, in words of the model (src/model/model.h) */
    int64_t repeats;  /* as often as it stands in the unrolled model; 0 counts as 1 */
};

/* What a tensor rank has of a parameter: the range `slice` along `axis`, all of the other axes. Ranks may hold
 * overlapping slices (or all of it); each element is then owned by one of them, which counts it in norms and writes it
 * to checkpoints, and the gradients of all copies are summed. */
struct parameter_division {
    int axis;
    struct range slice;
    struct range owned; /* global indices along the axis; count 0 when another rank owns what this one holds */
    bool replicated;    /* over tensor ranks: the gradients of all copies need a sum */
    bool overlapping;   /* replicated only in part: tensor ranks hold ranges of the axis 0 that overlap */
};

struct parameter {
    struct parameter_spec spec;
    struct parameter_division division;
    bool here;           /* this rank holds its slice; what follows the next two is of use only then */
    bool uncut;          /* one replica steps all of its local block */
    int grid_ranks;      /* that step it together over a grid (src/optim/spread.h); 0: one does */
    double cost;         /* of stepping it if it is uncut, in any unit, the same on all ranks */
    bool frozen;         /* never stepped: has no gradient and no state of an optimiser */
    int64_t model_chunk; /* the first chunk of the model that uses it */
    bool copy;           /* a second place of the parameter before of this name, on another pipeline stage */
    bool tied;           /* has a copy on another stage, or is it: both gradients need a sum */
    struct tensor value; /* local shape; of the compute type, or fp32 if it keeps_float */
    float *gradient;     /* local shape, fp32, accumulates; NULL if frozen */
    int uses;            /* in the forward pass that is the last of the step, still to be seen by backward */
    int bucket;          /* where its gradient is reduced */
};

/* The part of the global tensor that a rank's local block covers. */
struct box parameter_box(const struct parameter *parameter);

/* Elements of the global tensor. */
int64_t parameter_elements(const struct parameter_spec *spec);

/* The elements of a parameter's local block that this rank owns, clipped to `flat`, as ranges of the local block.
 * Owned elements are contiguous when the axis is 0, and all of the block otherwise, so one range is enough. */
struct range parameter_owned(const struct parameter *parameter, struct range flat);

/* Initial values of elements `flat` of the local block, by seed, name and global index (src/model/README.md section 2).
 */
void parameter_initialize(const struct parameter *parameter, uint64_t seed, struct range flat, float *values);

/* Of a buffer that is_count. */
double *parameter_count(struct parameter *parameter);

/* Whether steps change it: not frozen, and no buffer. */
bool parameter_learns(const struct parameter *parameter);

/* -- The list -- */

struct parameter_list {
    struct context *context;
    struct parameter **item; /* [count] */
    int count;
    int room;
    int borrowed; /* the first so many belong to another list */
};

void parameter_list_create(struct context *context, struct parameter_list *list);
void parameter_list_destroy(struct parameter_list *list);

/* Adds a parameter, on every rank of the mesh in the same order. Returns it where this rank holds it (`here`), NULL
 * elsewhere and when memory is out, which the context knows. One that the list has borrowed under this name is
 * returned as it is; a second of a name, or a borrowed one of another shape, is an INTERNAL error. Local. */
struct parameter *parameter_declare(struct parameter_list *list, const struct parameter_spec *spec,
                                    const struct parameter_division *division, bool here, int64_t model_chunk);

/* A second place of a parameter, on another pipeline stage: `here` there. Both become tied. */
struct parameter *parameter_declare_copy(struct parameter_list *list, struct parameter *first,
                                         const struct parameter_spec *spec, const struct parameter_division *division,
                                         bool here, int64_t model_chunk);

/* Lends a parameter of another list, which must outlive this one: two models then compute with the same values. It must
 * be frozen, and be lent before anything is declared. INTERNAL error. */
enum status parameter_borrow(struct parameter_list *list, struct parameter *parameter) MUST_USE;

/* By name, copies apart; NULL if there is none. */
struct parameter *parameter_find(const struct parameter_list *list, const char *name);

/* Parameters of the whole model: those that are neither buffers nor copies. */
bool parameter_counts(const struct parameter *parameter);
int64_t parameter_list_elements(const struct parameter_list *list);

/* The first chunk of the model that has something to learn: gradients need not go further back. INT64_MAX if nothing
 * learns. */
int64_t parameter_list_lowest(const struct parameter_list *list);

#endif
