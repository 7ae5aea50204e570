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
#include "src/tensor/tensor.h"

struct engine; /* kernels and scratch memory of the operations, src/ops/engine.h */
struct tape;

enum { RECORD_INPUTS = 6 };

struct tape_record {
    void (*backward)(struct tape *tape, const struct tape_record *record);
    struct tensor *input[RECORD_INPUTS]; /* NULL where there is none */
    struct tensor *output;
    void *saved; /* whatever backward needs besides, from tape_save */
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
    /* Called between records, to keep messages moving. */
    void (*progress)(void *self);
};

struct tape {
    struct context *context;
    struct engine *engine;
    struct arena own;
    struct arena *arena; /* activations and records until tape_reset: own, or work inside a recomputed function */
    struct arena *work;  /* shared by tapes: temporaries between mark and rewind, and recomputed functions */
    struct pool *pool;   /* shared by tapes: gradients of activations */
    struct tape_record *last;
    struct tape_leaf *leaves; /* that may have got a gradient */
    bool recording;
    bool final; /* the last pass of a step over these parameters: their uses are counted, listener is told */
    const struct tape_listener *listener; /* may be NULL */
};

void tape_create(struct tape *tape, struct context *context, struct engine *engine, struct arena *work,
                 struct pool *pool);
void tape_destroy(struct tape *tape);

/* Forgets all records and tensors. Gradients not yet consumed go back to the pool. */
void tape_reset(struct tape *tape);

/* For operations: a new tensor, not zeroed. */
struct tensor *tape_tensor(struct tape *tape, enum dtype dtype, int rank, const int64_t *shape);
struct tensor *tape_tensor_like(struct tape *tape, const struct tensor *other);
struct tensor *tape_matrix(struct tape *tape, enum dtype dtype, int64_t rows, int64_t columns);

/* A tensor over data that the caller keeps alive until tape_reset. */
struct tensor *tape_leaf(struct tape *tape, enum dtype dtype, int rank, const int64_t *shape, void *data,
                         bool needs_gradient);

/* Memory that lives until tape_reset, for an operation's record. */
void *tape_save(struct tape *tape, size_t bytes);

/* Pushes a record if one of its inputs needs a gradient and the tape records; marks the output accordingly.
 * Returns the output. */
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

/* The gradient of an output that backward has collected, in the output's type; never NULL inside a backward. */
const void *tape_gradient(const struct tensor *output);

/* For backward of a sum: the gradient of `output` is also that of `input`; shared without a copy where possible. */
void tape_pass(struct tape *tape, const struct tensor *output, struct tensor *input);

/* Sets the gradient of a tensor before backward: a copy of `values` in the tensor's type, or all ones if NULL. */
void tape_seed(struct tape *tape, struct tensor *tensor, const void *values);

void tape_backward(struct tape *tape);

/* Gives a tensor's gradient back to the pool before tape_reset does. */
void tape_release(struct tape *tape, struct tensor *tensor);

/* A function of one tensor, to be run without keeping its activations and run again in backward. */
typedef struct tensor *(*tape_function)(struct tape *tape, void *argument, struct tensor *input);

/* `argument` is copied (bytes of it). The output is the function's, which has the shape and type of the input; nothing
 * else that the function made stays in memory. It may hold collectives: every rank runs them again in the same order.
 * The way to run blocks without a tape, too: memory then holds one block's activations at a time. */
struct tensor *tape_recompute(struct tape *tape, tape_function function, const void *argument, size_t bytes,
                              struct tensor *input);

#endif
