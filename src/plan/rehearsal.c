#include "src/plan/rehearsal.h"

#include <string.h>

#include "src/core/random.h"
#include "src/train/streams.h"
#include "src/train/trainer.h"

struct stage {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct trainer trainer;
    struct streams streams;
    struct rehearsal *rehearsal;
    struct rehearsal_work last; /* the counts when it was looked at last */
};

/* -- Counts ------------------------------------------------------------------------------------------------------- */

static struct rehearsal_work counts_now(const struct stage *stage)
{
    struct rehearsal_work work;
    struct time_account *time = &stage->context->time;
    (void)time_enter(time, time->kind); /* settles what has gone by */
    memcpy(work.seconds, time->seconds, sizeof work.seconds);
    memcpy(work.flops, time->flops, sizeof work.flops);
    memcpy(work.elements, time->elements, sizeof work.elements);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        struct mesh_traffic traffic = mesh_traffic(stage->mesh, (enum mesh_axis)axis);
        work.calls[axis] = (double)traffic.calls;
        work.bytes[axis] = (double)traffic.bytes;
    }
    return work;
}

/* Both are nothing but doubles. */
enum { WORK_NUMBERS = sizeof(struct rehearsal_work) / sizeof(double) };

/* Adds to `sum` the share of what was counted since the last look. */
static void add_counts(struct stage *stage, double share, struct rehearsal_work *sum)
{
    struct rehearsal_work now = counts_now(stage);
    double *to = (double *)sum;
    const double *after = (const double *)&now;
    const double *before = (const double *)&stage->last;
    for (int i = 0; i < WORK_NUMBERS; i++)
        to[i] += share * (after[i] - before[i]);
    stage->last = now;
}

static void after_pass(void *self, const struct pipeline_action *action)
{
    struct stage *stage = self;
    if (action)
        add_counts(stage, 1.0 / (double)stage->trainer.batch.micro_batches,
                   &stage->rehearsal->pass[action->pass][action->chunk]);
    else
        add_counts(stage, 1.0, &stage->rehearsal->rest);
}

/* -- Steps -------------------------------------------------------------------------------------------------------- */

static void fill_tokens(const struct trainer *trainer)
{
    const struct batch *batch = &trainer->batch;
    uint64_t key = random_key(0, "rehearsal tokens");
    uint64_t vocabulary = (uint64_t)trainer->config->model.vocabulary;
    for (int64_t i = 0; i < batch->mine.count * batch->length; i++) {
        batch->inputs[i] = (int32_t)(random_bits(key, 2 * (uint64_t)i) % vocabulary);
        batch->targets[i] = (int32_t)(random_bits(key, 2 * (uint64_t)i + 1) % vocabulary);
    }
}

static enum status create(struct stage *stage, const struct config *config, int threads)
{
    struct trainer *trainer = &stage->trainer;
    CHECK(engine_create(stage->context, threads, &stage->engine));
    CHECK(trainer_create(stage->context, stage->mesh, &stage->engine, config, true, trainer));
    if (trainer->decoder->chunks > REHEARSAL_CHUNKS)
        return context_fail(stage->context, STATUS_USAGE, "plans are of at most %d chunks a stage", REHEARSAL_CHUNKS);
    if (streams_carried(config))
        CHECK(streams_create(stage->context, trainer->decoder, trainer->batch.mine, trainer->batch.rows,
                             &stage->streams));
    trainer->batch.memory = streams_carried(config) ? &stage->streams.memory : NULL;
    trainer->acted = after_pass;
    trainer->acted_self = stage;
    /* Nobody has written the scores that a dry run's routers read. */
    trainer->decoder->balanced = stage->context->dry;
    if (!stage->context->dry)
        fill_tokens(trainer);
    trainer_scale_batch(trainer, trainer->batch.rows * trainer->batch.length);
    return STATUS_OK;
}

static enum status run_step(struct stage *stage, bool counts)
{
    struct rehearsal ignored = {0};
    struct rehearsal *wanted = stage->rehearsal;
    struct step_result result;
    if (!counts)
        stage->rehearsal = &ignored;
    stage->last = counts_now(stage);
    enum status status = trainer_step(&stage->trainer, &result);
    add_counts(stage, 1.0, &stage->rehearsal->rest);
    stage->rehearsal = wanted;
    return status;
}

static int64_t count_parameters(const struct decoder *decoder)
{
    int64_t count = 0;
    for (int i = 0; i < decoder->parameter_count; i++) {
        struct box box = parameter_box(&decoder->parameters[i]);
        count += box_count(&box, decoder->parameters[i].spec.rank);
    }
    return count;
}

static enum status run_steps(struct stage *stage, int steps)
{
    struct rehearsal *rehearsal = stage->rehearsal;
    const struct decoder *decoder = stage->trainer.decoder;
    struct mesh_traffic before[MESH_AXES];
    rehearsal->chunks = decoder->chunks;
    rehearsal->micro_batches = stage->trainer.batch.micro_batches;
    rehearsal->parameters = count_parameters(decoder);
    rehearsal->shard = replica_state_count(decoder->replica);
    for (int step = 0; step < steps; step++) {
        for (int axis = 0; axis < MESH_AXES; axis++)
            before[axis] = mesh_traffic(stage->mesh, (enum mesh_axis)axis);
        CHECK(run_step(stage, step > 0));
    }
    for (int axis = 0; axis < MESH_AXES; axis++) {
        struct mesh_traffic after = mesh_traffic(stage->mesh, (enum mesh_axis)axis);
        rehearsal->traffic[axis] =
            (struct mesh_traffic){after.calls - before[axis].calls, after.bytes - before[axis].bytes};
    }
    rehearsal->memory = stage->context->memory;
    return STATUS_OK;
}

static void scale_counts(struct rehearsal_work *work, double factor)
{
    double *numbers = (double *)work;
    for (int i = 0; i < WORK_NUMBERS; i++)
        numbers[i] *= factor;
}

static void destroy(struct stage *stage)
{
    if (stage->streams.total > 0)
        streams_destroy(&stage->streams);
    trainer_destroy(&stage->trainer);
    engine_destroy(&stage->engine);
    mesh_destroy(&stage->mesh);
}

static enum status run(struct context *context, bool dry, const struct config *config, const struct mesh_config *mesh,
                       int rank, int threads, int steps, struct rehearsal *rehearsal)
{
    /* An account of its own. */
    struct context inner;
    context_create(&inner);
    inner.quiet = true;
    inner.dry = dry;
    struct stage stage = {.context = &inner, .engine = {.context = &inner}, .rehearsal = rehearsal};
    stage.trainer.context = &inner;
    memset(rehearsal, 0, sizeof *rehearsal);
    (void)time_enter(&inner.time, TIME_COMPUTE);
    enum status status = mesh_create_dry(&inner, mesh, rank, &stage.mesh);
    if (status == STATUS_OK)
        status = create(&stage, config, threads);
    if (status == STATUS_OK)
        status = run_steps(&stage, steps);
    if (status == STATUS_OK)
        status = inner.status;
    for (int chunk = 0; chunk < rehearsal->chunks; chunk++)
        for (int pass = 0; pass < 2; pass++)
            scale_counts(&rehearsal->pass[pass][chunk], 1.0 / (steps - 1));
    scale_counts(&rehearsal->rest, 1.0 / (steps - 1));
    destroy(&stage);
    return status == STATUS_OK ? STATUS_OK : context_fail(context, status, "%s", inner.text);
}

enum status rehearse(struct context *context, const struct config *config, const struct mesh_config *mesh, int rank,
                     int threads, struct rehearsal *rehearsal)
{
    return run(context, true, config, mesh, rank, threads, 2, rehearsal);
}

enum status rehearse_alone(struct context *context, const struct config *config, int threads, int steps,
                           struct rehearsal *rehearsal)
{
    const struct mesh_config alone = {1, 1, 1, 1, 1};
    return run(context, false, config, &alone, 0, threads, steps, rehearsal);
}
