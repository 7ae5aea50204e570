#include "src/train/trainer.h"

#include <math.h>
#include <string.h>

#include "src/ops/ops.h"

static void form_packet(void *self, int64_t model_chunk, int64_t micro_batch, struct packet_form *form)
{
    const struct trainer *trainer = self;
    decoder_form(trainer->decoder, &trainer->batch.micro[micro_batch], model_chunk, form);
}

static bool run_stage(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                      struct packet *out)
{
    struct trainer *trainer = self;
    return decoder_forward(trainer->decoder, tape, chunk, &trainer->batch.micro[micro_batch], in, out);
}

static void tell_acted(void *self, const struct pipeline_action *action)
{
    const struct trainer *trainer = self;
    trainer->acted(trainer->acted_self, action);
}

/* -- The batch -------------------------------------------------------------------------------------------------------
 */

static enum status find_own_tokens(struct trainer *trainer)
{
    struct batch *batch = &trainer->batch;
    int rank = mesh_rank(trainer->mesh, MESH_CONTEXT);
    batch->own = memory_allocate(trainer->context, (size_t)batch->length * sizeof *batch->own, MEMORY_BUFFERS);
    if (!batch->own)
        return STATUS_MEMORY;
    batch->own_count = decoder_tokens_of_context(trainer->decoder, batch->length, rank, batch->own);
    batch->own_inputs = batch->inputs;
    batch->own_targets = batch->targets;
    if (mesh_size(trainer->mesh, MESH_CONTEXT) == 1)
        return STATUS_OK;
    size_t elements = (size_t)(batch->mine.count * batch->own_count) * sizeof(int32_t);
    batch->own_inputs = memory_allocate(trainer->context, elements, MEMORY_BUFFERS);
    batch->own_targets = memory_allocate(trainer->context, elements, MEMORY_BUFFERS);
    return trainer->context->status;
}

static enum status batch_create(struct trainer *trainer)
{
    const struct training_config *training = &trainer->config->training;
    struct context *context = trainer->context;
    struct batch *batch = &trainer->batch;
    int ranks = mesh_size(trainer->mesh, MESH_DATA);
    batch->rows = training->batch;
    batch->length = training->sequence_length;
    batch->mine = range_partition(batch->rows, ranks, mesh_rank(trainer->mesh, MESH_DATA));
    int64_t most = range_partition(batch->rows, ranks, 0).count;
    batch->micro_batches = integer_divide_up(most, training->micro_batch);
    size_t elements = (size_t)(batch->mine.count * batch->length) * sizeof(int32_t);
    batch->inputs = memory_allocate(context, elements, MEMORY_BUFFERS);
    batch->targets = memory_allocate(context, elements, MEMORY_BUFFERS);
    batch->valid = memory_allocate(context, (size_t)batch->mine.count * sizeof *batch->valid, MEMORY_BUFFERS);
    batch->micro = memory_allocate(context, (size_t)batch->micro_batches * sizeof *batch->micro, MEMORY_BUFFERS);
    if (!batch->inputs || !batch->targets || !batch->valid || !batch->micro)
        return STATUS_MEMORY;
    CHECK(find_own_tokens(trainer));
    for (int64_t row = 0; row < batch->mine.count; row++)
        batch->valid[row] = batch->length;
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        struct range rows = range_partition(batch->mine.count, batch->micro_batches, i);
        int64_t first = rows.begin * batch->own_count;
        batch->micro[i] = (struct decoder_input){.tokens = batch->own_inputs + first,
                                                 .targets = batch->own_targets + first,
                                                 .valid = batch->valid + rows.begin,
                                                 .rows = rows.count,
                                                 .length = batch->length,
                                                 .batch_rows = batch->rows,
                                                 .memory_row = rows.begin};
    }
    return STATUS_OK;
}

static void batch_destroy(struct context *context, struct batch *batch)
{
    if (batch->own_inputs != batch->inputs) {
        memory_free(context, batch->own_inputs);
        memory_free(context, batch->own_targets);
    }
    memory_free(context, batch->inputs);
    memory_free(context, batch->targets);
    memory_free(context, batch->valid);
    memory_free(context, batch->own);
    memory_free(context, batch->micro);
    *batch = (struct batch){0};
}

static void pick_own_tokens(struct batch *batch)
{
    for (int64_t row = 0; row < batch->mine.count; row++)
        for (int64_t i = 0; i < batch->own_count; i++) {
            batch->own_inputs[row * batch->own_count + i] = batch->inputs[row * batch->length + batch->own[i]];
            batch->own_targets[row * batch->own_count + i] = batch->targets[row * batch->length + batch->own[i]];
        }
}

void trainer_scale_batch(struct trainer *trainer, int64_t target_count, int64_t token_count)
{
    struct batch *batch = &trainer->batch;
    batch->target_count = target_count;
    batch->token_count = token_count;
    if (batch->own_inputs != batch->inputs)
        pick_own_tokens(batch);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        batch->micro[i].scale = target_count ? 1.0f / (float)target_count : 0.0f;
        batch->micro[i].memory = batch->memory;
        batch->micro[i].causal = batch->causal;
        batch->micro[i].memory_off = batch->memory_off;
    }
}

/* -- Life ------------------------------------------------------------------------------------------------------------
 */

static enum status pipelines_create(struct trainer *trainer)
{
    const struct batch *batch = &trainer->batch;
    struct decoder_input largest = batch->micro[0];
    largest.rows = trainer->config->training.micro_batch;
    largest.causal = true;
    struct pipeline_shape shape = {.chunks = trainer->decoder->chunks,
                                   .micro_batches = batch->micro_batches,
                                   .packet_bytes = decoder_packet_bytes(trainer->decoder, &largest)};
    if (trainer->trains)
        CHECK(pipeline_create(trainer->context, trainer->mesh, trainer->engine, &trainer->work, &trainer->pool, &shape,
                              &trainer->forward_backward));
    shape.forward_only = true;
    return pipeline_create(trainer->context, trainer->mesh, trainer->engine, &trainer->work, &trainer->pool, &shape,
                           &trainer->forward);
}

static enum status create_parts(struct trainer *trainer)
{
    const struct config *config = trainer->config;
    CHECK(decoder_create(trainer->context, trainer->mesh, trainer->engine, &config->model, &config->compute,
                         config->training.sequence_length, trainer->trains, &trainer->decoder));
    if (trainer->trains)
        CHECK(optimizer_create(trainer->context, &config->optimizer, replica_state_count(trainer->decoder->replica),
                               &trainer->optimizer));
    if (trainer->trains && config->watch.compare_every)
        CHECK(comparison_create(trainer->context, trainer->mesh, trainer->engine, trainer->decoder->parameters,
                                trainer->decoder->parameter_count, trainer->decoder->replica, &trainer->comparison));
    if (trainer->trains && config->watch.spike_factor > 0.0)
        CHECK(spike_create(trainer->context, &config->watch, &trainer->spikes));
    CHECK(batch_create(trainer));
    return pipelines_create(trainer);
}

enum status trainer_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, bool trains, struct trainer *trainer)
{
    *trainer = (struct trainer){
        .context = context, .mesh = mesh, .engine = engine, .config = config, .trains = trains, .sound = true};
    trainer->optimizer.context = context;
    arena_create(&trainer->work, context, MEMORY_ACTIVATIONS);
    pool_create(&trainer->pool, context, MEMORY_ACTIVATIONS);
    CHECK(mesh_agree(mesh, context, create_parts(trainer)));
    trainer->listener = replica_listener(trainer->decoder->replica);
    if (!context->dry)
        decoder_initialize(trainer->decoder, config->training.seed);
    return STATUS_OK;
}

void trainer_destroy(struct trainer *trainer)
{
    struct context *context = trainer->context;
    pipeline_destroy(&trainer->forward_backward);
    pipeline_destroy(&trainer->forward);
    comparison_destroy(&trainer->comparison);
    spike_destroy(&trainer->spikes);
    optimizer_destroy(&trainer->optimizer);
    decoder_destroy(&trainer->decoder);
    arena_destroy(&trainer->work);
    pool_destroy(&trainer->pool);
    batch_destroy(context, &trainer->batch);
}

/* -- Steps -----------------------------------------------------------------------------------------------------------
 */

/* The last stage knows the loss of its tokens; one of its tensor ranks brings it to the sum. Routers' losses belong to
 * the tokens of each rank. */
static void sum_over_mesh(struct trainer *trainer, double loss, double norm_squares, double executed,
                          struct step_result *result)
{
    struct mesh *mesh = trainer->mesh;
    bool speaks =
        mesh_rank(mesh, MESH_TENSOR) == 0 && mesh_rank(mesh, MESH_PIPELINE) == mesh_size(mesh, MESH_PIPELINE) - 1;
    enum { OWN = 4, SUMS = OWN + VOTES };
    double sums[SUMS] = {speaks ? loss : 0.0, norm_squares, trainer->decoder->router_loss, executed};
    if (trainer->voter.cast)
        trainer->voter.cast(trainer->voter.self, sums + OWN);
    mesh_all_reduce(mesh, MESH_TEAM, sums, SUMS, DTYPE_F64, MESH_SUM);
    result->loss = trainer->batch.target_count > 0 || trainer->context->dry ? sums[0] : NAN;
    result->gradient_norm = sqrt(sums[1]);
    result->router_loss = sums[2];
    result->executed = sums[3];
    memcpy(result->votes, sums + OWN, sizeof result->votes);
}

/* Floating-point operations so far. */
static double executed_flops(const struct context *context)
{
    double sum = 0.0;
    for (int kind = 0; kind < TIME_KINDS; kind++)
        sum += context->time.flops[kind];
    return sum;
}

/* The warm-up of the routers' capacity after so many steps: half a cosine from all tokens down to the model's own. */
static double capacity_surplus(const struct training_config *training, int64_t steps)
{
    double progress = (double)steps / (double)integer_max(1, training->capacity_warmup_steps);
    if (steps >= training->capacity_warmup_steps)
        return 0.0;
    return 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
}

enum status trainer_gradients(struct trainer *trainer, struct step_result *result)
{
    struct replica *replica = trainer->decoder->replica;
    struct pipeline_stage stage = {
        .self = trainer, .form = form_packet, .forward = run_stage, .acted = trainer->acted ? tell_acted : NULL};
    double loss = 0.0;
    double executed = executed_flops(trainer->context);
    trainer->decoder->router_loss = 0.0;
    trainer->decoder->surplus = result->surplus = capacity_surplus(&trainer->config->training, trainer->step);
    replica_begin(replica);
    CHECK(pipeline_run(trainer->forward_backward, &stage, &trainer->listener, &loss));
    trainer->decoder->surplus = 0.0;
    replica_finish(replica);
    executed = executed_flops(trainer->context) - executed;
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    sum_over_mesh(trainer, loss, optimizer_norm_squares(trainer->engine, shards, count), executed, result);
    return STATUS_OK;
}

static bool comparison_due(const struct trainer *trainer, int64_t step)
{
    return trainer->comparison && !trainer->context->dry && step % trainer->config->watch.compare_every == 0;
}

double trainer_parameter_size(struct trainer *trainer)
{
    int count;
    const struct shard *shards = replica_shards(trainer->decoder->replica, &count);
    double sums[2] = {0.0, 0.0};
    for (int i = 0; i < count; i++) {
        struct range owned = parameter_owned(shards[i].parameter, shards[i].flat);
        sums[0] += sum_of_squares(trainer->engine, shards[i].master + owned.begin - shards[i].flat.begin, owned.count);
        sums[1] += (double)owned.count;
    }
    mesh_all_reduce(trainer->mesh, MESH_TEAM, sums, 2, DTYPE_F64, MESH_SUM);
    return sqrt(sums[0] / sums[1]);
}

enum status trainer_compare(struct trainer *trainer)
{
    return trainer->comparison ? comparison_run(trainer->comparison) : STATUS_OK;
}

enum status trainer_loss(struct trainer *trainer, struct step_result *result)
{
    struct pipeline_stage stage = {.self = trainer, .form = form_packet, .forward = run_stage};
    double own = 0.0;
    double executed = executed_flops(trainer->context);
    trainer->decoder->router_loss = 0.0;
    CHECK(pipeline_run(trainer->forward, &stage, NULL, &own));
    sum_over_mesh(trainer, own, 0.0, executed_flops(trainer->context) - executed, result);
    return STATUS_OK;
}

static bool is_sound(struct trainer *trainer, double loss)
{
    double even = log((double)trainer->config->model.vocabulary);
    if (trainer->loss_limit == 0.0)
        trainer->loss_limit = 2.0 * fmax(loss, even);
    return loss <= trainer->loss_limit;
}

/* As in training, where trainer_loss evaluates; what routers would learn is nothing, either. */
static enum status pass_forward(struct trainer *trainer, struct step_result *result)
{
    trainer->decoder->surplus = result->surplus = capacity_surplus(&trainer->config->training, trainer->step);
    CHECK(trainer_loss(trainer, result));
    trainer->decoder->surplus = 0.0;
    result->router_loss = result->gradient_norm = NAN;
    return STATUS_OK;
}

enum status trainer_step(struct trainer *trainer, struct step_result *result)
{
    struct replica *replica = trainer->decoder->replica;
    struct place_mark *place = &trainer->context->place;
    place_step(place, trainer->step + 1);
    result->no_target = trainer->batch.target_count == 0;
    CHECK(result->no_target ? pass_forward(trainer, result) : trainer_gradients(trainer, result));
    place_work(place, PLACE_OPTIMIZER);
    trainer->step++;
    trainer->sequences += trainer->batch.rows;
    trainer->tokens += trainer->batch.token_count;
    result->rate = schedule_rate(&trainer->config->optimizer, trainer->config->training.steps, trainer->step);
    result->skipped = false;
    if (result->no_target)
        return comparison_due(trainer, trainer->step) ? trainer_compare(trainer) : STATUS_OK;
    /* What a dry run computes has no meaning. */
    result->skipped = !trainer->context->dry &&
                      (!isfinite(result->loss) || !isfinite(result->router_loss) || !isfinite(result->gradient_norm));
    /* The values that passes have used, before new ones cover up what was wrong with them. */
    if (comparison_due(trainer, trainer->step))
        CHECK(trainer_compare(trainer));
    trainer->sound = !result->skipped && is_sound(trainer, result->loss);
    if (result->skipped) {
        trainer->skipped++;
        trainer->skipped_in_row++;
        return STATUS_OK;
    }
    trainer->skipped_in_row = 0;
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    double scale = optimizer_clip_scale(&trainer->config->optimizer, result->gradient_norm);
    comparison_forget(trainer->comparison);
    if (trainer->update_listener.before)
        trainer->update_listener.before(trainer->update_listener.self);
    trainer->updates++;
    optimizer_update(&trainer->optimizer, trainer->engine, shards, count, trainer->updates, result->rate, scale);
    replica_gather(replica);
    if (comparison_due(trainer, trainer->step + 1))
        comparison_note(trainer->comparison);
    return STATUS_OK;
}
