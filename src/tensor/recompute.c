#include <string.h>

#include "src/tensor/tape.h"

struct recompute {
    tape_function function;
    void *argument;
    int inputs;
    int outputs;
    int needing; /* outputs that need a gradient */
    struct tensor *input[RECOMPUTE_TENSORS];
    struct tensor *output[RECOMPUTE_TENSORS];
    struct tensor *need[RECOMPUTE_TENSORS];
};

static size_t tensor_bytes(const struct tensor *tensor)
{
    return (size_t)tensor_count(tensor) * dtype_size(tensor->dtype);
}

/* A tape on the shared work arena, for what lives only during one function. */
static struct tape tape_inner(const struct tape *tape, bool recording)
{
    struct tape inner = *tape;
    inner.arena = tape->work;
    inner.last = NULL;
    inner.leaves = NULL;
    inner.recording = recording;
    inner.rehearsal = !recording && (tape->recording || tape->rehearsal);
    return inner;
}

/* What the function sees of an input, so that the gradient it collects can be handed on as one. */
static struct tensor *stand_in(struct tape *inner, struct tensor *input)
{
    if (!input || input->parameter)
        return input;
    struct tensor *leaf = tape_leaf(inner, input->dtype, input->rank, input->shape, input->data, input->needs_gradient);
    if (leaf)
        leaf->block = input->block;
    return leaf;
}

/* Hands the gradients of the outputs to those of this run. */
static void pass_outputs(struct tape *inner, const struct recompute *call, struct tensor *const *results)
{
    for (int i = 0; i < call->outputs; i++) {
        const struct tensor *output = call->output[i];
        if (output && output->gradient)
            tape_pass(inner, output, results[i]);
        else if (output && results[i]->needs_gradient && !output->needs_gradient)
            context_fail(inner->context, STATUS_INTERNAL, "an operation pushes no record unless the tape records");
    }
}

static void recompute_backward(struct tape *tape, const struct tape_record *record)
{
    const struct recompute *call = record->saved;
    struct tensor *inputs[RECOMPUTE_TENSORS];
    struct tensor *results[RECOMPUTE_TENSORS] = {NULL};
    struct tape inner = tape_inner(tape, true);
    struct tape_mark start = tape_mark(&inner);
    inner.final = false; /* the uses were counted in the first run */
    inner.again = true;
    for (int i = 0; i < call->inputs; i++)
        inputs[i] = stand_in(&inner, call->input[i]);
    if (tape->context->status == STATUS_OK && call->function(&inner, call->argument, inputs, results)) {
        pass_outputs(&inner, call, results);
        inner.final = tape->final;
        tape_backward(&inner);
        for (int i = 0; i < call->inputs; i++)
            if (inputs[i] && inputs[i]->gradient)
                tape_pass(tape, inputs[i], call->input[i]);
    }
    tape_rewind(&inner, start);
}

static struct tensor *copy_of(struct tape *tape, const struct tensor *value)
{
    struct tensor *copy = value->data ? tape_tensor_like(tape, value) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy->data, value->data, tensor_bytes(value));
    copy->needs_gradient = value->needs_gradient && (tape->recording || tape->rehearsal);
    return copy;
}

/* Copies the function's results to the tape and gives its memory back to `start`. If the tape itself lives on the work
 * arena the copies belong where that memory was, so the values wait in the pool. */
static bool keep_results(struct tape *tape, struct recompute *call, struct tensor *const *results,
                         struct arena_mark start)
{
    struct tensor value[RECOMPUTE_TENSORS];
    bool nested = tape->arena == tape->work;
    for (int i = 0; i < call->outputs; i++) {
        if (!results[i])
            continue;
        value[i] = *results[i];
        if (!nested)
            continue;
        value[i].data = pool_allocate(tape->pool, tensor_bytes(results[i]));
        if (value[i].data)
            memcpy(value[i].data, results[i]->data, tensor_bytes(results[i]));
    }
    if (nested)
        arena_rewind(tape->work, start);
    for (int i = 0; i < call->outputs; i++) {
        if (!results[i])
            continue;
        call->output[i] = copy_of(tape, &value[i]);
        if (nested)
            pool_release(tape->pool, value[i].data);
    }
    if (!nested)
        arena_rewind(tape->work, start);
    return tape->context->status == STATUS_OK;
}

static bool record_call(struct tape *tape, struct recompute *call)
{
    for (int i = 0; i < call->outputs; i++)
        if (call->output[i] && call->output[i]->needs_gradient)
            call->need[call->needing++] = call->output[i];
    if (call->needing == 0)
        return true;
    return tape_push(tape, (struct tape_record){.backward = recompute_backward,
                                                .output = call->need[0],
                                                .further = call->need + 1,
                                                .further_count = call->needing - 1,
                                                .saved = call}) != NULL;
}

bool tape_recompute(struct tape *tape, tape_function function, const void *argument, size_t bytes,
                    struct tensor *const *inputs, int input_count, struct tensor **outputs, int output_count)
{
    struct tensor *results[RECOMPUTE_TENSORS] = {NULL};
    for (int i = 0; i < output_count; i++)
        outputs[i] = NULL;
    if (input_count > RECOMPUTE_TENSORS || output_count > RECOMPUTE_TENSORS)
        context_fail(tape->context, STATUS_INTERNAL, "a recomputed function has more than %d inputs or outputs",
                     RECOMPUTE_TENSORS);
    if (tape->context->status != STATUS_OK)
        return false;
    struct recompute *call = tape_save(tape, sizeof *call);
    void *copy = tape_save(tape, bytes);
    if (!call || !copy)
        return false;
    if (bytes)
        memcpy(copy, argument, bytes);
    *call = (struct recompute){.function = function, .argument = copy, .inputs = input_count, .outputs = output_count};
    for (int i = 0; i < input_count; i++)
        call->input[i] = inputs[i];
    struct arena_mark start = arena_mark(tape->work);
    struct tape inner = tape_inner(tape, false);
    if (!function(&inner, copy, call->input, results)) {
        arena_rewind(tape->work, start);
        return false;
    }
    if (!keep_results(tape, call, results, start) || !record_call(tape, call))
        return false;
    for (int i = 0; i < output_count; i++)
        outputs[i] = call->output[i];
    return true;
}
