#include "dist/parallel/pipeline.h"

#include <string.h>

#include "dist/parallel/split.h"

/* A micro-batch between its forward and its backward in one chunk. */
struct slot {
    struct tape tape;
    struct tensor *input;  /* NULL on the model's first chunk */
    struct tensor *output; /* activations or loss */
    void *input_buffer;
    void *gradient_in_buffer;  /* of the output, from the next stage */
    void *gradient_out_buffer; /* of the input, to the previous stage */
    struct mesh_request input_arrives;
    struct mesh_request output_leaves;
    struct mesh_request gradient_arrives;
    struct mesh_request gradient_leaves;
};

struct chunk {
    int64_t model_chunk;
    bool first; /* of the model */
    bool last;
    int64_t slots;
    struct slot *slot;
    int64_t inputs_expected; /* micro-batches whose input has a receive posted */
};

struct pipeline {
    struct context *context;
    struct mesh *mesh;
    struct pipeline_shape shape;
    struct schedule schedule;
    int stages;
    int stage;
    int chunks;
    struct chunk *chunk;
};

/* One run. */
struct run {
    struct pipeline *pipeline;
    const struct pipeline_stage *stage;
    const int64_t *tokens;
    const struct tape_listener *listener;
    double *loss;
};

enum { TAG_ACTIVATION, TAG_GRADIENT, TAGS };

static enum status slot_create(struct pipeline *pipeline, struct engine *engine, struct arena *work, struct pool *pool,
                               const struct chunk *chunk, struct slot *slot)
{
    struct context *context = pipeline->context;
    tape_create(&slot->tape, context, engine, work, pool);
    mesh_request_clear(&slot->input_arrives);
    mesh_request_clear(&slot->output_leaves);
    mesh_request_clear(&slot->gradient_arrives);
    mesh_request_clear(&slot->gradient_leaves);
    int64_t tokens = integer_divide_up(pipeline->shape.tokens, mesh_size(pipeline->mesh, MESH_TENSOR));
    size_t bytes = (size_t)(tokens * pipeline->shape.columns) * dtype_size(pipeline->shape.dtype);
    if (!chunk->first)
        slot->input_buffer = memory_allocate(context, bytes, MEMORY_BUFFERS);
    if (!chunk->first && !pipeline->shape.forward_only)
        slot->gradient_out_buffer = memory_allocate(context, bytes, MEMORY_BUFFERS);
    if (!chunk->last && !pipeline->shape.forward_only)
        slot->gradient_in_buffer = memory_allocate(context, bytes, MEMORY_BUFFERS);
    return context->status;
}

enum status pipeline_create(struct context *context, struct mesh *mesh, struct engine *engine, struct arena *work,
                            struct pool *pool, const struct pipeline_shape *shape, struct pipeline **pipeline)
{
    struct pipeline *p = memory_allocate(context, sizeof *p, MEMORY_OTHER);
    *pipeline = p;
    if (!p)
        return STATUS_MEMORY;
    p->context = context;
    p->mesh = mesh;
    p->shape = *shape;
    p->stages = mesh_size(mesh, MESH_PIPELINE);
    p->stage = mesh_rank(mesh, MESH_PIPELINE);
    p->chunks = (int)mesh_config(mesh)->virtual_stages;
    struct schedule_shape schedule = {.stages = p->stages,
                                      .chunks = p->chunks,
                                      .micro_batches = shape->micro_batches,
                                      .forward_only = shape->forward_only};
    CHECK(schedule_create(context, &schedule, p->stage, &p->schedule));
    p->chunk = memory_allocate(context, (size_t)p->chunks * sizeof *p->chunk, MEMORY_OTHER);
    if (!p->chunk)
        return STATUS_MEMORY;
    for (int i = 0; i < p->chunks; i++) {
        struct chunk *chunk = &p->chunk[i];
        chunk->model_chunk = (int64_t)i * p->stages + p->stage;
        chunk->first = chunk->model_chunk == 0;
        chunk->last = chunk->model_chunk == (int64_t)p->stages * p->chunks - 1;
        chunk->slot = memory_allocate(context, (size_t)p->schedule.in_flight[i] * sizeof *chunk->slot, MEMORY_OTHER);
        if (!chunk->slot)
            return STATUS_MEMORY;
        for (chunk->slots = 0; chunk->slots < p->schedule.in_flight[i]; chunk->slots++)
            CHECK(slot_create(p, engine, work, pool, chunk, &chunk->slot[chunk->slots]));
    }
    return STATUS_OK;
}

void pipeline_destroy(struct pipeline **pipeline)
{
    struct pipeline *p = *pipeline;
    if (!p)
        return;
    for (int i = 0; p->chunk && i < p->chunks; i++) {
        for (int64_t s = 0; s < p->chunk[i].slots; s++) {
            struct slot *slot = &p->chunk[i].slot[s];
            tape_destroy(&slot->tape);
            memory_free(p->context, slot->input_buffer);
            memory_free(p->context, slot->gradient_in_buffer);
            memory_free(p->context, slot->gradient_out_buffer);
        }
        memory_free(p->context, p->chunk[i].slot);
    }
    memory_free(p->context, p->chunk);
    schedule_destroy(p->context, &p->schedule);
    memory_free(p->context, p);
    *pipeline = NULL;
}

double pipeline_bubble(const struct pipeline *pipeline)
{
    return pipeline->schedule.bubble;
}

/* Elements of a micro-batch that this rank exchanges. */
static int64_t message_count(const struct run *run, int64_t micro_batch)
{
    const struct pipeline *p = run->pipeline;
    return sequence_part(p->mesh, run->tokens[micro_batch]).count * p->shape.columns;
}

static int tag_of(int64_t model_chunk, int kind)
{
    return (int)(model_chunk * TAGS) + kind;
}

static struct slot *slot_of(const struct chunk *chunk, int64_t micro_batch)
{
    return &chunk->slot[micro_batch % chunk->slots];
}

/* Posts receives of inputs while there are free slots for them; `freed` micro-batches have left the chunk. */
static void expect_inputs(struct run *run, struct chunk *chunk, int64_t freed)
{
    struct pipeline *p = run->pipeline;
    int from = (p->stage + p->stages - 1) % p->stages;
    while (!chunk->first && chunk->inputs_expected < p->shape.micro_batches &&
           chunk->inputs_expected < freed + chunk->slots) {
        struct slot *slot = slot_of(chunk, chunk->inputs_expected);
        mesh_receive(p->mesh, MESH_PIPELINE, from, tag_of(chunk->model_chunk, TAG_ACTIVATION), slot->input_buffer,
                     message_count(run, chunk->inputs_expected), p->shape.dtype, &slot->input_arrives);
        chunk->inputs_expected++;
    }
}

static enum status take_output(struct run *run, struct chunk *chunk, struct slot *slot, int64_t micro_batch)
{
    struct pipeline *p = run->pipeline;
    if (p->context->status != STATUS_OK)
        return p->context->status;
    if (chunk->last) {
        if (slot->output && run->loss && slot->output->rank == 1)
            *run->loss += *(const float *)slot->output->data;
        return STATUS_OK;
    }
    int next = (p->stage + 1) % p->stages;
    int64_t count = message_count(run, micro_batch);
    if (!slot->output || tensor_count(slot->output) != count)
        return context_fail(p->context, STATUS_INTERNAL,
                            "a pipeline stage returned no activations of the agreed shape");
    mesh_send(p->mesh, MESH_PIPELINE, next, tag_of(chunk->model_chunk + 1, TAG_ACTIVATION), slot->output->data, count,
              p->shape.dtype, &slot->output_leaves);
    if (!p->shape.forward_only)
        mesh_receive(p->mesh, MESH_PIPELINE, next, tag_of(chunk->model_chunk + 1, TAG_GRADIENT),
                     slot->gradient_in_buffer, count, p->shape.dtype, &slot->gradient_arrives);
    return STATUS_OK;
}

static enum status run_forward(struct run *run, const struct pipeline_action *action)
{
    struct pipeline *p = run->pipeline;
    struct chunk *chunk = &p->chunk[action->chunk];
    struct slot *slot = slot_of(chunk, action->micro_batch);
    struct tape *tape = &slot->tape;
    mesh_wait(&slot->output_leaves);
    tape_reset(tape);
    tape->recording = !p->shape.forward_only;
    tape->final = tape->recording && action->micro_batch == p->shape.micro_batches - 1;
    tape->listener = run->listener;
    slot->input = NULL;
    if (!chunk->first) {
        mesh_wait(&slot->input_arrives);
        int64_t shape[2] = {sequence_part(p->mesh, run->tokens[action->micro_batch]).count, p->shape.columns};
        slot->input = tape_leaf(tape, p->shape.dtype, 2, shape, slot->input_buffer, tape->recording);
    }
    slot->output = run->stage->forward(run->stage->self, tape, action->chunk, action->micro_batch, slot->input);
    CHECK(take_output(run, chunk, slot, action->micro_batch));
    if (p->shape.forward_only)
        expect_inputs(run, chunk, action->micro_batch + 1);
    return STATUS_OK;
}

static enum status run_backward(struct run *run, const struct pipeline_action *action)
{
    struct pipeline *p = run->pipeline;
    struct chunk *chunk = &p->chunk[action->chunk];
    struct slot *slot = slot_of(chunk, action->micro_batch);
    struct tape *tape = &slot->tape;
    if (chunk->last) {
        tape_seed(tape, slot->output, NULL);
    } else {
        mesh_wait(&slot->gradient_arrives);
        tape_seed(tape, slot->output, slot->gradient_in_buffer);
    }
    tape_backward(tape);
    if (!chunk->first) {
        int previous = (p->stage + p->stages - 1) % p->stages;
        int64_t count = message_count(run, action->micro_batch);
        mesh_wait(&slot->gradient_leaves);
        if (slot->input->gradient)
            memcpy(slot->gradient_out_buffer, tape_gradient(slot->input), (size_t)count * dtype_size(p->shape.dtype));
        else
            memset(slot->gradient_out_buffer, 0, (size_t)count * dtype_size(p->shape.dtype));
        tape_release(tape, slot->input);
        mesh_send(p->mesh, MESH_PIPELINE, previous, tag_of(chunk->model_chunk, TAG_GRADIENT), slot->gradient_out_buffer,
                  count, p->shape.dtype, &slot->gradient_leaves);
    }
    mesh_wait(&slot->output_leaves);
    tape_reset(tape);
    expect_inputs(run, chunk, action->micro_batch + 1);
    return p->context->status;
}

enum status pipeline_run(struct pipeline *pipeline, const struct pipeline_stage *stage, const int64_t *tokens,
                         const struct tape_listener *listener, double *loss)
{
    struct run run = {.pipeline = pipeline, .stage = stage, .tokens = tokens, .listener = listener, .loss = loss};
    for (int i = 0; i < pipeline->chunks; i++) {
        pipeline->chunk[i].inputs_expected = 0;
        expect_inputs(&run, &pipeline->chunk[i], 0);
    }
    for (int64_t i = 0; i < pipeline->schedule.count; i++) {
        const struct pipeline_action *action = &pipeline->schedule.actions[i];
        CHECK(action->pass == PIPELINE_FORWARD ? run_forward(&run, action) : run_backward(&run, action));
    }
    for (int i = 0; i < pipeline->chunks; i++)
        for (int64_t s = 0; s < pipeline->chunk[i].slots; s++) {
            mesh_wait(&pipeline->chunk[i].slot[s].output_leaves);
            mesh_wait(&pipeline->chunk[i].slot[s].gradient_leaves);
        }
    return STATUS_OK;
}
