/* The tape: reverse-mode differentiation over whole operations.
 *
 * An operation takes the tape and tensors, computes its output into the tape's arena and, while the tape records,
 * pushes a record with its backward function. tape_backward pops the records in reverse. Gradients live in a pool
 * and go back to it as soon as the operation that made the tensor has used them.
 *
 * A tape that does not record is inference with the same code.
 *
 * Errors are sticky: when memory runs out an operation returns NULL with the context's error set, operations on
 * NULL return NULL, and the caller looks once at the end. So forward code reads like the equations. */
#ifndef CAIRN_TENSOR_TAPE_H
#define CAIRN_TENSOR_TAPE_H

#include "src/core/arena.h"
#include "src/tensor/parameter.h"
#include "src/tensor/tensor.h"

struct engine; /* kernels and scratch memory of the operations, src/ops/engine.h */
struct tape;

enum { RECORD_INPUTS = 15, RECOMPUTE_TENSORS = 24 };

struct tape_record {
    void (*backward)(struct tape *tape, const struct tape_record *record);
    struct tensor *input[RECORD_INPUTS]; /* NULL where there is none */
    struct tensor *output;
    struct tensor **further; /* more outputs, none NULL, from tape_save */
    int further_count;
    void *saved; /* whatever backward needs besides, from tape_save */
    int layer;   /* where it was pushed */
    struct tape_record *previous;
};

struct tape_leaf {
    struct tensor tensor;
    struct tape_leaf *previous;
};

struct tape_listener {
    void *self;
    /* Backward will not touch this parameter's gradient again in this step; may start reducing it. */
    void (*parameter_done)(void *self, struct parameter *parameter);
    /* Called between operations, forward and backward, to keep messages moving. */
    void (*progress)(void *self);
};

struct tape {
    struct context *context;
    struct engine *engine;
    struct arena own;
    struct arena *arena; /* activations and records: own, or one that the tape's user puts in its place between marks,
                            or work inside a recomputed function */
    struct arena *work;  /* shared by tapes: temporaries between mark and rewind, and recomputed functions */
    struct pool *pool;   /* shared by tapes: gradients of activations */
    struct tape_record *last;
    struct tape_leaf *leaves; /* that may have got a gradient */
    bool recording;
    bool rehearsal; /* the first run of a recomputed function: records nothing, but marks what would need a gradient */
    bool again;     /* its second run, for gradients: what it reports was reported by the first */
    bool final;     /* the last pass of a step over these parameters: their uses are counted, listener is told */
    const struct tape_listener *listener; /* may be NULL */
};

void tape_create(struct tape *tape, struct context *context, struct engine *engine, struct arena *work,
                 struct pool *pool);
void tape_destroy(struct tape *tape);

/* A point on the tape: what came later can be run backward and forgotten before what came earlier. The mark of a tape
 * that is empty is all zeros. */
struct tape_mark {
    struct tape_record *record;
    struct tape_leaf *leaf;
    struct arena_mark arena;
};

struct tape_mark tape_mark(const struct tape *tape);

/* Forgets the records and tensors made since the mark. Gradients of theirs that are not yet consumed go back to the
 * pool; those of earlier tensors stay. */
void tape_rewind(struct tape *tape, struct tape_mark mark);

/* Forgets all records and tensors. */
void tape_reset(struct tape *tape);

/* For operations: a new tensor, not zeroed. */
struct tensor *tape_tensor(struct tape *tape, enum dtype dtype, int rank, const int64_t *shape);
struct tensor *tape_tensor_like(struct tape *tape, const struct tensor *other);
struct tensor *tape_matrix(struct tape *tape, enum dtype dtype, int64_t rows, int64_t columns);
struct tensor *tape_images(struct tape *tape, enum dtype dtype, const int64_t shape[4], int64_t block);

/* A tensor over data that the caller keeps alive until tape_reset. */
struct tensor *tape_leaf(struct tape *tape, enum dtype dtype, int rank, const int64_t *shape, void *data,
                         bool needs_gradient);

/* whole[index] of a parameter's value (or of a tensor that needs no gradient) with two dimensions or more: a tensor
 * over the same data, whose gradient goes to its place in the parameter's. */
struct tensor *tape_slice(struct tape *tape, struct tensor *whole, int64_t index);

/* Memory that lives until tape_reset, for an operation's record. */
void *tape_save(struct tape *tape, size_t bytes);

/* Pushes a record if one of its inputs needs a gradient (or its output says that it does) and the tape records; marks
 * the outputs accordingly. Returns the output. Operations call it whether the tape records or not: it counts the uses
 * of parameters too. */
struct tensor *tape_push(struct tape *tape, struct tape_record record);

/* Whether pushing a record with these inputs would record anything: decides if something must be saved. */
bool tape_needs(const struct tape *tape, const struct tensor *a, const struct tensor *b);

/* Where an operation's backward adds the gradient of an input: data = beta * data + gradient, beta 0 or 1.
 * data is NULL if the input needs none. Parameters take fp32, other tensors their own type. */
struct gradient_target {
    void *data;
    enum dtype dtype;
    float beta;
};

struct gradient_target tape_target(struct tape *tape, struct tensor *input);

/* The gradient of an output that backward has collected, in the output's type. Inside the backward of a record there
 * is one, but with several outputs some may have none (output->gradient is NULL): it counts as zero. */
const void *tape_gradient(const struct tensor *output);

/* For backward of a sum: the gradient of `output` is also that of `input`; shared without a copy where possible. */
void tape_pass(struct tape *tape, const struct tensor *output, struct tensor *input);

/* Adds to the gradient of a tensor before backward: `values` in the tensor's type, or all ones if NULL. Nothing happens
 * where the tensor needs no gradient or the tape does not record. */
void tape_seed(struct tape *tape, struct tensor *tensor, const void *values);

/* Runs the records made since the mark and forgets them. Their leaves keep their gradients until tape_rewind. */
void tape_backward_to(struct tape *tape, struct tape_mark mark);

/* All records. */
void tape_backward(struct tape *tape);

/* Gives a tensor's gradient back to the pool before tape_reset does. */
void tape_release(struct tape *tape, struct tensor *tensor);

/* A function of several tensors, to be run without keeping its activations and run again in backward. False with the
 * context's error set. */
typedef bool (*tape_function)(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs);

/* `argument` is copied (bytes of it). Inputs, at most RECOMPUTE_TENSORS, may be NULL and are so inside. Outputs, as
 * many, are copies of the function's, of any shape and type, NULL where it leaves them so (or all on failure); nothing
 * else that it made stays in memory. One that needs no gradient inside needs none outside. The function may hold
 * collectives: every rank runs them again in the same order. If no output has got a gradient it is not run again, and
 * the listener does not hear of its parameters.
 * The way to run blocks without a tape, too: memory then holds one block's activations at a time. */
bool tape_recompute(struct tape *tape, tape_function function, const void *argument, size_t bytes,
                    struct tensor *const *inputs, int input_count, struct tensor **outputs, int output_count);

#endif
