#include "src/train/trainer.h"

#include <math.h>
#include <string.h>

static struct tensor *run_stage(void *self, struct tape *tape, int chunk, int64_t micro_batch, struct tensor *input)
{
    struct trainer *trainer = self;
    return decoder_forward(trainer->decoder, tape, chunk, &trainer->batch.micro[micro_batch], input);
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
    size_t micro = (size_t)batch->micro_batches;
    batch->inputs = memory_allocate(context, elements, MEMORY_BUFFERS);
    batch->targets = memory_allocate(context, elements, MEMORY_BUFFERS);
    batch->positions = memory_allocate(context, elements, MEMORY_BUFFERS);
    batch->tokens = memory_allocate(context, micro * sizeof *batch->tokens, MEMORY_BUFFERS);
    batch->micro = memory_allocate(context, micro * sizeof *batch->micro, MEMORY_BUFFERS);
    if (!batch->inputs || !batch->targets || !batch->positions || !batch->tokens || !batch->micro)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < batch->mine.count * batch->length; i++)
        batch->positions[i] = (int32_t)(i % batch->length);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        struct range rows = range_partition(batch->mine.count, batch->micro_batches, i);
        int64_t first = rows.begin * batch->length;
        batch->tokens[i] = rows.count * batch->length;
        batch->micro[i] = (struct decoder_input){.tokens = batch->inputs + first,
                                                 .targets = batch->targets + first,
                                                 .positions = batch->positions + first,
                                                 .rows = rows.count,
                                                 .length = batch->length};
    }
    return STATUS_OK;
}

static enum status pipelines_create(struct trainer *trainer)
{
    const struct batch *batch = &trainer->batch;
    struct pipeline_shape shape = {.micro_batches = batch->micro_batches,
                                   .tokens = trainer->config->training.micro_batch * batch->length,
                                   .columns = trainer->config->model.width,
                                   .dtype = trainer->decoder->dtype};
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
    CHECK(batch_create(trainer));
    return pipelines_create(trainer);
}

enum status trainer_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, bool trains, struct trainer *trainer)
{
    *trainer = (struct trainer){.context = context, .mesh = mesh, .engine = engine, .config = config, .trains = trains};
    trainer->optimizer.context = context;
    arena_create(&trainer->work, context, MEMORY_ACTIVATIONS);
    pool_create(&trainer->pool, context, MEMORY_ACTIVATIONS);
    CHECK(mesh_agree(mesh, context, create_parts(trainer)));
    trainer->listener = replica_listener(trainer->decoder->replica);
    decoder_initialize(trainer->decoder, config->training.seed);
    return STATUS_OK;
}

void trainer_destroy(struct trainer *trainer)
{
    struct context *context = trainer->context;
    pipeline_destroy(&trainer->forward_backward);
    pipeline_destroy(&trainer->forward);
    optimizer_destroy(&trainer->optimizer);
    decoder_destroy(&trainer->decoder);
    arena_destroy(&trainer->work);
    pool_destroy(&trainer->pool);
    memory_free(context, trainer->batch.inputs);
    memory_free(context, trainer->batch.targets);
    memory_free(context, trainer->batch.positions);
    memory_free(context, trainer->batch.tokens);
    memory_free(context, trainer->batch.micro);
    trainer->batch = (struct batch){0};
}

void trainer_scale_batch(struct trainer *trainer, int64_t target_count)
{
    struct batch *batch = &trainer->batch;
    batch->target_count = target_count;
    for (int64_t i = 0; i < batch->micro_batches; i++)
        batch->micro[i].scale = target_count ? 1.0f / (float)target_count : 0.0f;
}

/* The last stage knows the loss of its data rank; one of its tensor ranks brings it to the sum. */
static void sum_over_mesh(struct trainer *trainer, double *loss, double *norm_squares)
{
    struct mesh *mesh = trainer->mesh;
    bool speaks =
        mesh_rank(mesh, MESH_TENSOR) == 0 && mesh_rank(mesh, MESH_PIPELINE) == mesh_size(mesh, MESH_PIPELINE) - 1;
    double sums[2] = {speaks ? *loss : 0.0, *norm_squares};
    mesh_all_reduce(mesh, MESH_WORLD, sums, 2, DTYPE_F64, MESH_SUM);
    *loss = sums[0];
    *norm_squares = sums[1];
}

enum status trainer_gradients(struct trainer *trainer, double *loss, double *gradient_norm)
{
    struct replica *replica = trainer->decoder->replica;
    struct pipeline_stage stage = {.self = trainer, .forward = run_stage};
    *loss = 0.0;
    replica_begin(replica);
    CHECK(pipeline_run(trainer->forward_backward, &stage, trainer->batch.tokens, &trainer->listener, loss));
    replica_finish(replica);
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    double norm_squares = optimizer_norm_squares(trainer->engine, shards, count);
    sum_over_mesh(trainer, loss, &norm_squares);
    *gradient_norm = sqrt(norm_squares);
    return STATUS_OK;
}

enum status trainer_step(struct trainer *trainer, struct step_result *result)
{
    struct replica *replica = trainer->decoder->replica;
    CHECK(trainer_gradients(trainer, &result->loss, &result->gradient_norm));
    trainer->step++;
    trainer->sequences += trainer->batch.rows;
    trainer->tokens += trainer->batch.rows * trainer->batch.length;
    result->rate = schedule_rate(&trainer->config->optimizer, trainer->config->training.steps, trainer->step);
    result->skipped = !isfinite(result->loss) || !isfinite(result->gradient_norm);
    if (result->skipped) {
        trainer->skipped++;
        trainer->skipped_in_row++;
        return STATUS_OK;
    }
    trainer->skipped_in_row = 0;
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    double scale = optimizer_clip_scale(&trainer->config->optimizer, result->gradient_norm);
    optimizer_update(&trainer->optimizer, trainer->engine, shards, count, trainer->step - trainer->skipped,
                     result->rate, scale);
    replica_gather(replica);
    return STATUS_OK;
}

enum status trainer_loss(struct trainer *trainer, double *loss)
{
    struct pipeline_stage stage = {.self = trainer, .forward = run_stage};
    double none = 0.0;
    *loss = 0.0;
    CHECK(pipeline_run(trainer->forward, &stage, trainer->batch.tokens, NULL, loss));
    sum_over_mesh(trainer, loss, &none);
    return STATUS_OK;
}
