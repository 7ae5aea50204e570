#include "src/tensor/tape.h"

#include <string.h>

/* Shared by the tensors of a sum whose gradients are the same until one of them is added to. */
struct gradient {
    int references;
    void *data;
};

static size_t tensor_bytes(const struct tensor *tensor)
{
    return (size_t)tensor_count(tensor) * dtype_size(tensor->dtype);
}

void tape_create(struct tape *tape, struct context *context, struct engine *engine, struct arena *work,
                 struct pool *pool)
{
    *tape = (struct tape){.context = context, .engine = engine, .work = work, .pool = pool};
    arena_create(&tape->own, context, MEMORY_ACTIVATIONS);
    tape->arena = &tape->own;
}

void tape_destroy(struct tape *tape)
{
    arena_destroy(&tape->own);
}

void tape_reset(struct tape *tape)
{
    for (struct tape_record *record = tape->last; record; record = record->previous)
        tape_release(tape, record->output);
    for (struct tape_leaf *leaf = tape->leaves; leaf; leaf = leaf->previous)
        tape_release(tape, &leaf->tensor);
    tape->last = NULL;
    tape->leaves = NULL;
    arena_reset(tape->arena);
}

struct tensor *tape_tensor(struct tape *tape, enum dtype dtype, int rank, const int64_t *shape)
{
    struct tensor *tensor = arena_allocate(tape->arena, sizeof *tensor);
    if (!tensor)
        return NULL;
    *tensor = (struct tensor){.dtype = dtype, .rank = rank};
    memcpy(tensor->shape, shape, (size_t)rank * sizeof *shape);
    tensor->data = arena_allocate(tape->arena, tensor_bytes(tensor));
    return tensor->data ? tensor : NULL;
}

struct tensor *tape_tensor_like(struct tape *tape, const struct tensor *other)
{
    return tape_tensor(tape, other->dtype, other->rank, other->shape);
}

struct tensor *tape_matrix(struct tape *tape, enum dtype dtype, int64_t rows, int64_t columns)
{
    return tape_tensor(tape, dtype, 2, (int64_t[]){rows, columns});
}

struct tensor *tape_leaf(struct tape *tape, enum dtype dtype, int rank, const int64_t *shape, void *data,
                         bool needs_gradient)
{
    struct tape_leaf *leaf = arena_allocate(tape->arena, sizeof *leaf);
    if (!leaf)
        return NULL;
    leaf->tensor = (struct tensor){.dtype = dtype, .rank = rank, .data = data, .needs_gradient = needs_gradient};
    memcpy(leaf->tensor.shape, shape, (size_t)rank * sizeof *shape);
    leaf->previous = tape->leaves;
    tape->leaves = leaf;
    return &leaf->tensor;
}

void *tape_save(struct tape *tape, size_t bytes)
{
    return arena_allocate(tape->arena, bytes);
}

bool tape_needs(const struct tape *tape, const struct tensor *a, const struct tensor *b)
{
    return tape->recording && ((a && a->needs_gradient) || (b && b->needs_gradient));
}

struct tensor *tape_push(struct tape *tape, struct tape_record record)
{
    bool needed = false;
    for (int i = 0; i < RECORD_INPUTS; i++) {
        struct tensor *input = record.input[i];
        if (!input || !input->needs_gradient)
            continue;
        needed = true;
        /* A recomputed function runs unrecorded first: its uses count then, and only once. */
        if (tape->final && input->parameter)
            input->parameter->uses++;
    }
    if (!needed || !tape->recording)
        return record.output;
    struct tape_record *pushed = arena_allocate(tape->arena, sizeof *pushed);
    if (!pushed)
        return NULL;
    *pushed = record;
    pushed->previous = tape->last;
    tape->last = pushed;
    pushed->output->needs_gradient = true;
    return pushed->output;
}

static struct gradient *gradient_create(struct tape *tape, const struct tensor *tensor)
{
    struct gradient *gradient = pool_allocate(tape->pool, sizeof *gradient);
    if (!gradient)
        return NULL;
    gradient->references = 1;
    gradient->data = pool_allocate(tape->pool, tensor_bytes(tensor));
    if (!gradient->data) {
        pool_release(tape->pool, gradient);
        return NULL;
    }
    return gradient;
}

void tape_release(struct tape *tape, struct tensor *tensor)
{
    struct gradient *gradient = tensor->gradient;
    tensor->gradient = NULL;
    if (!gradient || --gradient->references > 0)
        return;
    pool_release(tape->pool, gradient->data);
    pool_release(tape->pool, gradient);
}

struct gradient_target tape_target(struct tape *tape, struct tensor *input)
{
    struct gradient_target none = {.data = NULL, .dtype = DTYPE_F32, .beta = 0.0f};
    if (!input || !input->needs_gradient)
        return none;
    if (input->parameter)
        return (struct gradient_target){.data = input->parameter->gradient, .dtype = DTYPE_F32, .beta = 1.0f};
    struct gradient *shared = input->gradient;
    if (shared && shared->references == 1)
        return (struct gradient_target){.data = shared->data, .dtype = input->dtype, .beta = 1.0f};
    struct gradient *own = gradient_create(tape, input);
    if (!own)
        return none;
    if (shared) {
        memcpy(own->data, shared->data, tensor_bytes(input));
        tape_release(tape, input);
    }
    input->gradient = own;
    return (struct gradient_target){.data = own->data, .dtype = input->dtype, .beta = shared ? 1.0f : 0.0f};
}

const void *tape_gradient(const struct tensor *output)
{
    return output->gradient->data;
}

void tape_seed(struct tape *tape, struct tensor *tensor, const void *values)
{
    struct gradient_target target = tape_target(tape, tensor);
    if (!target.data)
        return;
    if (values) {
        memcpy(target.data, values, tensor_bytes(tensor));
        return;
    }
    int64_t count = tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) {
        if (tensor->dtype == DTYPE_BF16)
            ((bf16 *)target.data)[i] = bf16_from_float(1.0f);
        else
            ((float *)target.data)[i] = 1.0f;
    }
}

static void elements_add(enum dtype dtype, void *to, const void *from, int64_t count)
{
    if (dtype == DTYPE_BF16) {
        bf16 *sum = to;
        const bf16 *term = from;
        for (int64_t i = 0; i < count; i++)
            sum[i] = bf16_from_float(bf16_to_float(sum[i]) + bf16_to_float(term[i]));
    } else {
        float *sum = to;
        const float *term = from;
        for (int64_t i = 0; i < count; i++)
            sum[i] += term[i];
    }
}

void tape_pass(struct tape *tape, const struct tensor *output, struct tensor *input)
{
    if (!input->needs_gradient)
        return;
    if (!input->parameter && !input->gradient) {
        input->gradient = output->gradient;
        input->gradient->references++;
        return;
    }
    struct gradient_target target = tape_target(tape, input);
    if (target.data)
        elements_add(input->dtype, target.data, tape_gradient(output), tensor_count(input));
}

static void tell_done(const struct tape *tape, const struct tape_record *record)
{
    for (int i = 0; i < RECORD_INPUTS; i++) {
        struct tensor *input = record->input[i];
        if (!input || !input->parameter || !input->needs_gradient)
            continue;
        if (--input->parameter->uses == 0 && tape->listener && tape->listener->parameter_done)
            tape->listener->parameter_done(tape->listener->self, input->parameter);
    }
}

void tape_backward(struct tape *tape)
{
    for (struct tape_record *record = tape->last; record; record = record->previous) {
        if (record->output->gradient && tape->context->status == STATUS_OK)
            record->backward(tape, record);
        tape_release(tape, record->output);
        if (tape->final)
            tell_done(tape, record);
        if (tape->listener && tape->listener->progress)
            tape->listener->progress(tape->listener->self);
    }
    tape->last = NULL;
}

/* -- Recomputation --------------------------------------------------------------------------------------------- */

struct recompute_saved {
    tape_function function;
    void *argument;
};

/* A tape on the shared work arena, for what lives only during one function. */
static struct tape tape_inner(const struct tape *tape, bool recording)
{
    struct tape inner = *tape;
    inner.arena = tape->work;
    inner.last = NULL;
    inner.leaves = NULL;
    inner.recording = recording;
    return inner;
}

static void recompute_backward(struct tape *tape, const struct tape_record *record)
{
    const struct recompute_saved *saved = record->saved;
    struct tensor *input = record->input[0];
    struct arena_mark mark = arena_mark(tape->work);
    struct tape inner = tape_inner(tape, true);
    inner.final = false; /* the uses were counted in the first run */
    struct tensor *leaf = tape_leaf(&inner, input->dtype, input->rank, input->shape, input->data, true);
    struct tensor *output = leaf ? saved->function(&inner, saved->argument, leaf) : NULL;
    if (output && output->needs_gradient) {
        output->gradient = record->output->gradient;
        output->gradient->references++;
        inner.final = tape->final;
        tape_backward(&inner);
        if (leaf->gradient)
            tape_pass(tape, leaf, input);
    }
    for (struct tape_leaf *made = inner.leaves; made; made = made->previous)
        tape_release(tape, &made->tensor);
    arena_rewind(tape->work, mark);
}

struct tensor *tape_recompute(struct tape *tape, tape_function function, const void *argument, size_t bytes,
                              struct tensor *input)
{
    if (!input)
        return NULL;
    struct recompute_saved *saved = tape_save(tape, sizeof *saved);
    void *copy = tape_save(tape, bytes);
    struct tensor *output = tape_tensor_like(tape, input);
    if (!saved || !copy || !output)
        return NULL;
    memcpy(copy, argument, bytes);
    *saved = (struct recompute_saved){.function = function, .argument = copy};
    struct arena_mark mark = arena_mark(tape->work);
    struct tape inner = tape_inner(tape, false);
    struct tensor *result = function(&inner, copy, input);
    if (result)
        memcpy(output->data, result->data, tensor_bytes(output));
    arena_rewind(tape->work, mark);
    if (!result)
        return NULL;
    /* The parameters inside need gradients even where the input does not. */
    if (tape->recording && !input->needs_gradient)
        input = tape_leaf(tape, input->dtype, input->rank, input->shape, input->data, true);
    if (!input)
        return NULL;
    return tape_push(
        tape, (struct tape_record){.backward = recompute_backward, .input = {input}, .output = output, .saved = saved});
}
