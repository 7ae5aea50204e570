#include "dist/parallel/pipeline.h"

#include <string.h>

/* A micro-batch in one chunk, until its backward (if only forward runs, until the stage's last chunk is through). */
struct visit {
    struct arena arena; /* what the chunk adds to the micro-batch's tape */
    struct tape_mark start;
    struct packet in;
    struct packet out; /* activations or loss */
    void *in_buffer;
    void *gradient_in_buffer;  /* of `out`, from the next stage */
    void *gradient_out_buffer; /* of `in`, to the previous stage */
    struct mesh_request in_arrives;
    struct mesh_request out_leaves;
    struct mesh_request gradient_arrives;
    struct mesh_request gradient_leaves;
};

struct chunk {
    int64_t model_chunk;
    bool first; /* of the model */
    bool last;
    int64_t visits;
    struct visit *visit;     /* micro-batches take them in turn */
    int64_t inputs_expected; /* micro-batches whose input has a receive posted */
};

struct pipeline {
    struct context *context;
    struct mesh *mesh;
    struct pipeline_shape shape;
    struct schedule schedule;
    int stages;
    int previous; /* stages of the ring */
    int next;
    struct chunk *chunk; /* [shape.chunks] */
    int64_t tapes;
    struct tape *tape; /* of the micro-batches on this stage, which take them in turn */
};

/* One run. */
struct run {
    struct pipeline *pipeline;
    const struct pipeline_stage *stage;
    const struct tape_listener *user; /* or NULL */
    struct tape_listener listener;    /* of the tapes: the user's, and messages that move meanwhile */
    struct mesh_request *leaving;     /* the latest message; NULL once it has left */
    double *loss;
};

enum { TAG_ACTIVATION, TAG_GRADIENT, TAGS };

/* -- Creation and end -- */

static enum status visit_create(struct pipeline *pipeline, const struct chunk *chunk, struct visit *visit)
{
    struct context *context = pipeline->context;
    bool backward = !pipeline->shape.forward_only;
    size_t bytes = (size_t)pipeline->shape.packet_bytes;
    arena_create(&visit->arena, context, MEMORY_ACTIVATIONS);
    mesh_request_clear(&visit->in_arrives);
    mesh_request_clear(&visit->out_leaves);
    mesh_request_clear(&visit->gradient_arrives);
    mesh_request_clear(&visit->gradient_leaves);
    if (!chunk->first)
        visit->in_buffer = memory_allocate(context, bytes, MEMORY_BUFFERS);
    if (!chunk->first && backward)
        visit->gradient_out_buffer = memory_allocate(context, bytes, MEMORY_BUFFERS);
    if (!chunk->last && backward)
        visit->gradient_in_buffer = memory_allocate(context, bytes, MEMORY_BUFFERS);
    return context->status;
}

static void visit_destroy(struct context *context, struct visit *visit)
{
    arena_destroy(&visit->arena);
    memory_free(context, visit->in_buffer);
    memory_free(context, visit->gradient_in_buffer);
    memory_free(context, visit->gradient_out_buffer);
}

static enum status chunk_create(struct pipeline *pipeline, int index, struct chunk *chunk)
{
    int64_t visits = pipeline->schedule.in_flight[index];
    int64_t model_chunks = (int64_t)pipeline->stages * pipeline->shape.chunks;
    chunk->model_chunk = (int64_t)index * pipeline->stages + mesh_rank(pipeline->mesh, MESH_PIPELINE);
    chunk->first = chunk->model_chunk == 0;
    chunk->last = chunk->model_chunk == model_chunks - 1;
    chunk->visit = memory_allocate(pipeline->context, (size_t)visits * sizeof *chunk->visit, MEMORY_OTHER);
    if (!chunk->visit)
        return STATUS_MEMORY;
    while (chunk->visits < visits)
        CHECK(visit_create(pipeline, chunk, &chunk->visit[chunk->visits++]));
    return STATUS_OK;
}

enum status pipeline_create(struct context *context, struct mesh *mesh, struct engine *engine, struct arena *work,
                            struct pool *pool, const struct pipeline_shape *shape, struct pipeline **pipeline)
{
    struct pipeline *p = memory_allocate(context, sizeof *p, MEMORY_OTHER);
    *pipeline = p;
    if (!p)
        return STATUS_MEMORY;
    int stage = mesh_rank(mesh, MESH_PIPELINE);
    p->context = context;
    p->mesh = mesh;
    p->shape = *shape;
    p->stages = mesh_size(mesh, MESH_PIPELINE);
    p->previous = (stage + p->stages - 1) % p->stages;
    p->next = (stage + 1) % p->stages;
    struct schedule_shape schedule = {.stages = p->stages,
                                      .chunks = shape->chunks,
                                      .micro_batches = shape->micro_batches,
                                      .forward_only = shape->forward_only};
    CHECK(schedule_create(context, &schedule, stage, &p->schedule));
    int64_t tapes = p->schedule.in_flight[0];
    p->chunk = memory_allocate(context, (size_t)shape->chunks * sizeof *p->chunk, MEMORY_OTHER);
    p->tape = memory_allocate(context, (size_t)tapes * sizeof *p->tape, MEMORY_OTHER);
    if (!p->chunk || !p->tape)
        return STATUS_MEMORY;
    while (p->tapes < tapes)
        tape_create(&p->tape[p->tapes++], context, engine, work, pool);
    for (int i = 0; i < shape->chunks; i++)
        CHECK(chunk_create(p, i, &p->chunk[i]));
    return STATUS_OK;
}

void pipeline_destroy(struct pipeline **pipeline)
{
    struct pipeline *p = *pipeline;
    if (!p)
        return;
    for (int i = 0; p->chunk && i < p->shape.chunks; i++) {
        for (int64_t v = 0; v < p->chunk[i].visits; v++)
            visit_destroy(p->context, &p->chunk[i].visit[v]);
        memory_free(p->context, p->chunk[i].visit);
    }
    for (int64_t i = 0; i < p->tapes; i++)
        tape_destroy(&p->tape[i]);
    memory_free(p->context, p->tape);
    memory_free(p->context, p->chunk);
    schedule_destroy(p->context, &p->schedule);
    memory_free(p->context, p);
    *pipeline = NULL;
}

double pipeline_bubble(const struct pipeline *pipeline)
{
    return pipeline->schedule.bubble;
}

/* -- Messages -- */

static int tag_of(int64_t model_chunk, int kind)
{
    return (int)(model_chunk * TAGS) + kind;
}

static struct visit *visit_of(const struct chunk *chunk, int64_t micro_batch)
{
    return &chunk->visit[micro_batch % chunk->visits];
}

/* What enters a chunk of the model with a micro-batch. */
static enum status form_of(const struct run *run, int64_t model_chunk, int64_t micro_batch, struct packet_form *form)
{
    const struct pipeline *p = run->pipeline;
    *form = (struct packet_form){0};
    run->stage->form(run->stage->self, model_chunk, micro_batch, form);
    if (packet_bytes(form) > p->shape.packet_bytes)
        return context_fail(p->context, STATUS_INTERNAL, "a packet of %lld bytes, but buffers of %lld",
                            (long long)packet_bytes(form), (long long)p->shape.packet_bytes);
    return STATUS_OK;
}

static void send_message(struct run *run, int to, int tag, const struct packet_layout *layout, const void *data,
                         struct mesh_request *request)
{
    mesh_send(run->pipeline->mesh, MESH_PIPELINE, to, tag, data, layout->count, layout->dtype, request);
    run->leaving = request;
}

static void parameter_done(void *self, struct parameter *parameter)
{
    const struct run *run = self;
    run->user->parameter_done(run->user->self, parameter);
}

/* Between operations: a large message leaves only while its sender is in MPI, and the next stage waits for it. A look
 * at one moves all. */
static void progress(void *self)
{
    struct run *run = self;
    if (run->leaving && mesh_test(run->leaving))
        run->leaving = NULL;
    if (run->user && run->user->progress)
        run->user->progress(run->user->self);
}

static void receive_message(struct pipeline *pipeline, int from, int tag, const struct packet_layout *layout,
                            void *buffer, struct mesh_request *request)
{
    mesh_receive(pipeline->mesh, MESH_PIPELINE, from, tag, buffer, layout->count, layout->dtype, request);
}

/* Waits for what a neighbouring stage has to compute first: the bubble, as far as messages are fast. */
static void wait_for_stage(struct pipeline *pipeline, struct mesh_request *request)
{
    double start = clock_seconds();
    mesh_wait(request);
    pipeline->context->time.waiting += clock_seconds() - start;
}

/* Posts receives of inputs while there are free buffers for them; `freed` micro-batches need theirs no more. */
static enum status expect_inputs(struct run *run, struct chunk *chunk, int64_t freed)
{
    struct pipeline *p = run->pipeline;
    int64_t end = integer_min(p->shape.micro_batches, freed + chunk->visits);
    for (; !chunk->first && chunk->inputs_expected < end; chunk->inputs_expected++) {
        struct visit *visit = visit_of(chunk, chunk->inputs_expected);
        struct packet_form form;
        CHECK(form_of(run, chunk->model_chunk, chunk->inputs_expected, &form));
        struct packet_layout layout = packet_layout(&form, PACKET_FORWARD);
        receive_message(p, p->previous, tag_of(chunk->model_chunk, TAG_ACTIVATION), &layout, visit->in_buffer,
                        &visit->in_arrives);
    }
    return STATUS_OK;
}

/* Whether data lies where something arrived that the next message may overwrite. */
static bool was_received(const struct pipeline *pipeline, int64_t micro_batch, const void *data)
{
    for (int i = 0; i < pipeline->shape.chunks; i++) {
        uintptr_t begin = (uintptr_t)visit_of(&pipeline->chunk[i], micro_batch)->in_buffer;
        if (begin && (uintptr_t)data - begin < (uintptr_t)pipeline->shape.packet_bytes)
            return true;
    }
    return false;
}

/* The packet as one piece of memory that stays until it has left: a tensor's own, or a copy on the tape. */
static const void *message_of(const struct pipeline *pipeline, struct tape *tape, int64_t micro_batch,
                              const struct packet *packet, const struct packet_layout *layout)
{
    if (layout->parts == 1 && !was_received(pipeline, micro_batch, packet->tensor[0]->data))
        return packet->tensor[0]->data;
    void *copy = tape_save(tape, (size_t)layout->bytes);
    if (copy)
        packet_write(packet, layout, copy);
    return copy;
}

static enum status send_output(struct run *run, const struct chunk *chunk, struct tape *tape, struct visit *visit,
                               int64_t micro_batch)
{
    struct pipeline *p = run->pipeline;
    struct packet_form form;
    CHECK(form_of(run, chunk->model_chunk + 1, micro_batch, &form));
    if (!packet_fits(&visit->out, &form))
        return context_fail(p->context, STATUS_INTERNAL, "a chunk of the model returned no packet of the agreed form");
    struct packet_layout layout = packet_layout(&form, PACKET_FORWARD);
    const void *message = message_of(p, tape, micro_batch, &visit->out, &layout);
    if (!message)
        return STATUS_MEMORY;
    send_message(run, p->next, tag_of(chunk->model_chunk + 1, TAG_ACTIVATION), &layout, message, &visit->out_leaves);
    if (p->shape.forward_only)
        return STATUS_OK;
    layout = packet_layout(&form, PACKET_BACKWARD);
    if (layout.parts == 0) /* nothing before this chunk's end learns */
        return STATUS_OK;
    receive_message(p, p->next, tag_of(chunk->model_chunk + 1, TAG_GRADIENT), &layout, visit->gradient_in_buffer,
                    &visit->gradient_arrives);
    return STATUS_OK;
}

static enum status take_loss(struct run *run, const struct packet *out)
{
    const struct tensor *loss = out->count ? out->tensor[0] : NULL;
    if (!loss && run->pipeline->shape.forward_only)
        return STATUS_OK;
    if (!loss || loss->dtype != DTYPE_F32 || tensor_count(loss) != 1)
        return context_fail(run->pipeline->context, STATUS_INTERNAL, "the last chunk of the model returned no loss");
    if (run->loss)
        *run->loss += *(const float *)loss->data;
    return STATUS_OK;
}

/* -- Forward and backward -- */

/* The tape of a micro-batch, in a chunk's part of its memory. What the chunk sent from there the last time has left
 * before it is used again. */
static struct tape *enter_chunk(const struct run *run, const struct pipeline_action *action, struct visit *visit)
{
    struct pipeline *p = run->pipeline;
    struct tape *tape = &p->tape[action->micro_batch % p->tapes];
    bool backward = action->pass == PIPELINE_BACKWARD;
    tape->arena = &visit->arena;
    location_pass(&p->context->location, backward ? LOCATION_BACKWARD : LOCATION_FORWARD, action->micro_batch);
    if (backward)
        return tape;
    mesh_wait(&visit->out_leaves);
    arena_reset(&visit->arena);
    tape->recording = !p->shape.forward_only;
    tape->final = tape->recording && action->micro_batch == p->shape.micro_batches - 1;
    tape->listener = &run->listener;
    visit->start = tape_mark(tape);
    visit->in.count = visit->out.count = 0;
    return tape;
}

/* Where only forward runs: until its last chunk is through, a micro-batch may use all that its chunks made or got. */
static enum status leave_stage(struct run *run, struct tape *tape, int64_t micro_batch)
{
    struct pipeline *p = run->pipeline;
    tape->arena = &tape->own; /* the chunks' memory stays: the last output may still be on its way */
    tape_reset(tape);
    for (int i = 0; i < p->shape.chunks; i++)
        CHECK(expect_inputs(run, &p->chunk[i], micro_batch + 1));
    return STATUS_OK;
}

static enum status run_forward(struct run *run, const struct pipeline_action *action)
{
    struct pipeline *p = run->pipeline;
    struct chunk *chunk = &p->chunk[action->chunk];
    struct visit *visit = visit_of(chunk, action->micro_batch);
    struct tape *tape = enter_chunk(run, action, visit);
    if (!chunk->first) {
        struct packet_form form;
        CHECK(form_of(run, chunk->model_chunk, action->micro_batch, &form));
        wait_for_stage(p, &visit->in_arrives);
        if (!packet_enter(tape, &form, visit->in_buffer, &visit->in))
            return STATUS_MEMORY;
    }
    if (!run->stage->forward(run->stage->self, tape, action->chunk, action->micro_batch, &visit->in, &visit->out))
        context_fail(p->context, STATUS_INTERNAL, "a chunk of the model failed and gave no reason");
    CHECK(p->context->status);
    CHECK(chunk->last ? take_loss(run, &visit->out) : send_output(run, chunk, tape, visit, action->micro_batch));
    return p->shape.forward_only && action->chunk == p->shape.chunks - 1 ? leave_stage(run, tape, action->micro_batch)
                                                                         : STATUS_OK;
}

static enum status seed_output(const struct run *run, const struct chunk *chunk, struct tape *tape, struct visit *visit,
                               int64_t micro_batch)
{
    struct packet_form form;
    if (chunk->last) {
        tape_seed(tape, visit->out.tensor[0], NULL);
        return STATUS_OK;
    }
    CHECK(form_of(run, chunk->model_chunk + 1, micro_batch, &form));
    struct packet_layout layout = packet_layout(&form, PACKET_BACKWARD);
    wait_for_stage(run->pipeline, &visit->gradient_arrives);
    packet_seed(tape, &visit->out, &layout, visit->gradient_in_buffer);
    return STATUS_OK;
}

static enum status send_gradients(struct run *run, const struct chunk *chunk, struct visit *visit, int64_t micro_batch)
{
    struct pipeline *p = run->pipeline;
    struct packet_form form;
    CHECK(form_of(run, chunk->model_chunk, micro_batch, &form));
    struct packet_layout layout = packet_layout(&form, PACKET_BACKWARD);
    if (layout.parts == 0)
        return STATUS_OK;
    mesh_wait(&visit->gradient_leaves);
    packet_write_gradients(&visit->in, &layout, visit->gradient_out_buffer);
    send_message(run, p->previous, tag_of(chunk->model_chunk, TAG_GRADIENT), &layout, visit->gradient_out_buffer,
                 &visit->gradient_leaves);
    return STATUS_OK;
}

static enum status run_backward(struct run *run, const struct pipeline_action *action)
{
    struct pipeline *p = run->pipeline;
    struct chunk *chunk = &p->chunk[action->chunk];
    struct visit *visit = visit_of(chunk, action->micro_batch);
    struct tape *tape = enter_chunk(run, action, visit);
    CHECK(seed_output(run, chunk, tape, visit, action->micro_batch));
    tape_backward_to(tape, visit->start);
    if (!chunk->first)
        CHECK(send_gradients(run, chunk, visit, action->micro_batch));
    mesh_wait(&visit->out_leaves);
    tape_rewind(tape, visit->start);
    CHECK(expect_inputs(run, chunk, action->micro_batch + 1));
    return p->context->status;
}

enum status pipeline_run(struct pipeline *pipeline, const struct pipeline_stage *stage,
                         const struct tape_listener *listener, double *loss)
{
    struct run run = {.pipeline = pipeline, .stage = stage, .user = listener, .loss = loss};
    run.listener =
        (struct tape_listener){.self = &run,
                               .parameter_done = listener && listener->parameter_done ? parameter_done : NULL,
                               .progress = progress};
    for (int i = 0; i < pipeline->shape.chunks; i++) {
        pipeline->chunk[i].inputs_expected = 0;
        CHECK(expect_inputs(&run, &pipeline->chunk[i], 0));
    }
    if (stage->acted)
        stage->acted(stage->acted_self, NULL);
    for (int64_t i = 0; i < pipeline->schedule.count; i++) {
        const struct pipeline_action *action = &pipeline->schedule.actions[i];
        CHECK(action->pass == PIPELINE_FORWARD ? run_forward(&run, action) : run_backward(&run, action));
        if (stage->acted)
            stage->acted(stage->acted_self, action);
    }
    for (int i = 0; i < pipeline->shape.chunks; i++)
        for (int64_t v = 0; v < pipeline->chunk[i].visits; v++) {
            mesh_wait(&pipeline->chunk[i].visit[v].out_leaves);
            mesh_wait(&pipeline->chunk[i].visit[v].gradient_leaves);
        }
    return STATUS_OK;
}
