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

static void release_outputs(struct tape *tape, const struct tape_record *record)
{
    tape_release(tape, record->output);
    for (int i = 0; i < record->further_count; i++)
        tape_release(tape, record->further[i]);
}

struct tape_mark tape_mark(const struct tape *tape)
{
    return (struct tape_mark){.record = tape->last, .leaf = tape->leaves, .arena = arena_mark(tape->arena)};
}

void tape_rewind(struct tape *tape, struct tape_mark mark)
{
    for (struct tape_record *record = tape->last; record != mark.record; record = record->previous)
        release_outputs(tape, record);
    for (struct tape_leaf *leaf = tape->leaves; leaf != mark.leaf; leaf = leaf->previous)
        tape_release(tape, &leaf->tensor);
    tape->last = mark.record;
    tape->leaves = mark.leaf;
    arena_rewind(tape->arena, mark.arena);
}

void tape_reset(struct tape *tape)
{
    tape_rewind(tape, (struct tape_mark){0});
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
    struct tensor *tensor = tape_tensor(tape, other->dtype, other->rank, other->shape);
    if (tensor)
        tensor->block = other->block;
    return tensor;
}

struct tensor *tape_matrix(struct tape *tape, enum dtype dtype, int64_t rows, int64_t columns)
{
    return tape_tensor(tape, dtype, 2, (int64_t[]){rows, columns});
}

struct tensor *tape_images(struct tape *tape, enum dtype dtype, const int64_t shape[4], int64_t block)
{
    struct tensor *tensor = tape_tensor(tape, dtype, 4, shape);
    if (tensor)
        tensor->block = block;
    return tensor;
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

struct tensor *tape_slice(struct tape *tape, struct tensor *whole, int64_t index)
{
    if (!whole)
        return NULL;
    if (whole->rank < 2 || index < 0 || index >= whole->shape[0] || (whole->needs_gradient && !whole->parameter)) {
        context_fail(tape->context, STATUS_INTERNAL, "a slice must lie inside a parameter of two dimensions or more");
        return NULL;
    }
    struct tensor *slice = arena_allocate(tape->arena, sizeof *slice);
    if (!slice)
        return NULL;
    *slice = *whole;
    slice->rank--;
    memcpy(slice->shape, whole->shape + 1, (size_t)slice->rank * sizeof *slice->shape);
    slice->data = (char *)whole->data + (size_t)index * tensor_bytes(slice);
    return slice;
}

void *tape_save(struct tape *tape, size_t bytes)
{
    return arena_allocate(tape->arena, bytes);
}

bool tape_needs(const struct tape *tape, const struct tensor *a, const struct tensor *b)
{
    return tape->recording && ((a && a->needs_gradient) || (b && b->needs_gradient));
}

/* Whether gradients are of a tensor's type. */
static bool is_floating(const struct tensor *tensor)
{
    return tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_BF16;
}

static void mark_outputs(const struct tape_record *record)
{
    record->output->needs_gradient = true;
    for (int i = 0; i < record->further_count; i++)
        record->further[i]->needs_gradient = is_floating(record->further[i]);
}

struct tensor *tape_push(struct tape *tape, struct tape_record record)
{
    if (!record.output)
        return NULL;
    if (tape->listener && tape->listener->progress)
        tape->listener->progress(tape->listener->self);
    bool needed = record.output->needs_gradient;
    for (int i = 0; i < RECORD_INPUTS; i++) {
        struct tensor *input = record.input[i];
        if (!input || !input->needs_gradient)
            continue;
        needed = true;
        /* A recomputed function runs unrecorded first: its uses count then, and only once. */
        if (tape->final && input->parameter)
            input->parameter->uses++;
    }
    if (!needed || !(tape->recording || tape->rehearsal))
        return record.output;
    mark_outputs(&record);
    if (!tape->recording)
        return record.output;
    struct tape_record *pushed = arena_allocate(tape->arena, sizeof *pushed);
    if (!pushed)
        return NULL;
    *pushed = record;
    pushed->layer = (int)location_layer(&tape->context->location);
    pushed->previous = tape->last;
    tape->last = pushed;
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
    if (input->parameter) {
        /* A slice lies as far into the gradient as into the value. */
        int64_t bytes = (const char *)input->data - (const char *)input->parameter->value.data;
        float *gradient = input->parameter->gradient + bytes / (int64_t)dtype_size(input->dtype);
        return (struct gradient_target){.data = gradient, .dtype = DTYPE_F32, .beta = 1.0f};
    }
    struct gradient *shared = input->gradient;
    if (shared && shared->references == 1)
        return (struct gradient_target){.data = shared->data, .dtype = input->dtype, .beta = 1.0f};
    struct gradient *own = gradient_create(tape, input);
    if (!own)
        return none;
    if (shared) {
        if (!tape->context->dry)
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

static void elements_add_one(enum dtype dtype, void *to, float beta, int64_t count)
{
    float *floats = to;
    bf16 *halves = to;
    for (int64_t i = 0; i < count; i++) {
        if (dtype == DTYPE_BF16)
            halves[i] = bf16_from_float(1.0f + (beta ? bf16_to_float(halves[i]) : 0.0f));
        else
            floats[i] = 1.0f + (beta ? floats[i] : 0.0f);
    }
}

void tape_seed(struct tape *tape, struct tensor *tensor, const void *values)
{
    if (!tape->recording)
        return;
    struct gradient_target target = tape_target(tape, tensor);
    if (!target.data || (values && tape->context->dry))
        return;
    int64_t count = tensor_count(tensor);
    if (!values)
        elements_add_one(tensor->dtype, target.data, target.beta, count);
    else if (target.beta == 0.0f)
        memcpy(target.data, values, tensor_bytes(tensor));
    else
        elements_add(tensor->dtype, target.data, values, count);
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
    if (target.data && !tape->context->dry)
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

static bool has_gradient(const struct tape_record *record)
{
    if (record->output->gradient)
        return true;
    for (int i = 0; i < record->further_count; i++)
        if (record->further[i]->gradient)
            return true;
    return false;
}

void tape_backward_to(struct tape *tape, struct tape_mark mark)
{
    for (struct tape_record *record = tape->last; record != mark.record; record = record->previous) {
        location_enter_layer(&tape->context->location, record->layer);
        if (has_gradient(record) && tape->context->status == STATUS_OK)
            record->backward(tape, record);
        release_outputs(tape, record);
        if (tape->final)
            tell_done(tape, record);
        if (tape->listener && tape->listener->progress)
            tape->listener->progress(tape->listener->self);
    }
    tape->last = mark.record;
}

void tape_backward(struct tape *tape)
{
    tape_backward_to(tape, (struct tape_mark){0});
}
