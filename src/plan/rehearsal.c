#include "src/plan/rehearsal.h"

#include <stdlib.h>
#include <string.h>

#include "src/core/random.h"
#include "src/train/checkpointer.h"

struct stage {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct trainer trainer;
    struct model_state *carried;
    struct checkpointer checkpointer; /* where it holds a copy of the state */
    struct rehearsal *rehearsal;
    struct rehearsal_work last; /* the counts when it was looked at last */
};

/* -- Counts -- */

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

/* -- Steps -- */

static enum status create(struct stage *stage, const struct config *config, int threads)
{
    struct trainer *trainer = &stage->trainer;
    CHECK(engine_create(stage->context, threads, &stage->engine));
    CHECK(trainer_create(stage->context, stage->mesh, &stage->engine, config, trainer));
    if (trainer->model->chunks > REHEARSAL_CHUNKS)
        return context_fail(stage->context, STATUS_USAGE, "plans are of at most %d chunks a stage", REHEARSAL_CHUNKS);
    if (model_carries(trainer->model->ops, config))
        CHECK(trainer->model->ops->state->create(&trainer->batch, &stage->carried));
    trainer->batch.state = stage->carried;
    if (config->checkpoint.background)
        CHECK(checkpointer_create(trainer, stage->carried, "", &stage->checkpointer));
    trainer->acted = after_pass;
    trainer->acted_self = stage;
    /* Nobody has written the scores that a dry run's routers read. */
    trainer->model->balanced = stage->context->dry;
    if (stage->context->dry)
        batch_ready_whole(&trainer->batch);
    else
        batch_fill_random(&trainer->batch, 0);
    return STATUS_OK;
}

/* A step into `into`, whose passes and rest are empty. */
static enum status run_step(struct stage *stage, struct rehearsal *into)
{
    struct rehearsal *wanted = stage->rehearsal;
    struct step_result result;
    struct mesh_traffic before[MESH_AXES];
    for (int axis = 0; axis < MESH_AXES; axis++)
        before[axis] = mesh_traffic(stage->mesh, (enum mesh_axis)axis);
    stage->rehearsal = into;
    stage->last = counts_now(stage);
    enum status status = trainer_step(&stage->trainer, &result);
    add_counts(stage, 1.0, &into->rest);
    stage->rehearsal = wanted;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        struct mesh_traffic after = mesh_traffic(stage->mesh, (enum mesh_axis)axis);
        into->traffic[axis] = (struct mesh_traffic){after.calls - before[axis].calls, after.bytes - before[axis].bytes};
    }
    return status;
}

static int64_t count_parameters(const struct parameter_list *list)
{
    int64_t count = 0;
    for (int i = 0; i < list->count; i++) {
        struct box box = parameter_box(list->item[i]);
        count += list->item[i]->here ? box_count(&box, list->item[i]->spec.rank) : 0;
    }
    return count;
}

static struct rehearsal empty_rehearsal(const struct stage *stage)
{
    const struct session *session = &stage->trainer.session;
    return (struct rehearsal){.parameters = count_parameters(&session->parameters),
                              .shard = replica_state_count(session->replica),
                              .chunks = session->model.chunks,
                              .micro_batches = stage->trainer.batch.micro_batches};
}

/* After two steps all is allocated. */
static enum status run_dry(struct stage *stage)
{
    struct rehearsal *rehearsal = stage->rehearsal;
    for (int step = 0; step < 2; step++) {
        *rehearsal = empty_rehearsal(stage);
        CHECK(run_step(stage, rehearsal));
    }
    rehearsal->memory = stage->context->memory;
    return STATUS_OK;
}

struct timed_step {
    double seconds;
    struct rehearsal rehearsal;
};

static int compare_steps(const void *a, const void *b)
{
    double x = ((const struct timed_step *)a)->seconds;
    double y = ((const struct timed_step *)b)->seconds;
    return x < y ? -1 : x > y;
}

/* The step of median time. */
static enum status run_timed(struct stage *stage, double seconds)
{
    enum { LEAST = 3, MOST = 31, PATIENCE = 4 /* seconds */ };
    struct rehearsal ignored = empty_rehearsal(stage);
    CHECK(run_step(stage, &ignored));
    struct timed_step *steps = memory_allocate(stage->context, MOST * sizeof *steps, MEMORY_OTHER);
    if (!steps)
        return STATUS_MEMORY;
    enum status status = STATUS_OK;
    double begin = clock_seconds();
    double now = begin;
    int count = 0;
    while (status == STATUS_OK && count < MOST &&
           (now - begin < seconds || (count < LEAST && now - begin < PATIENCE))) {
        struct timed_step *step = &steps[count++];
        step->rehearsal = empty_rehearsal(stage);
        status = run_step(stage, &step->rehearsal);
        step->seconds = clock_seconds() - now;
        now += step->seconds;
    }
    qsort(steps, (size_t)count, sizeof *steps, compare_steps);
    *stage->rehearsal = steps[count / 2].rehearsal;
    stage->rehearsal->spread = (steps[(3 * count) / 4].seconds - steps[count / 4].seconds) / steps[count / 2].seconds;
    memory_free(stage->context, steps);
    return status;
}

static void destroy(struct stage *stage)
{
    checkpointer_destroy(&stage->checkpointer);
    if (stage->carried)
        stage->trainer.model->ops->state->destroy(&stage->carried);
    trainer_destroy(&stage->trainer);
    engine_destroy(&stage->engine);
    mesh_destroy(&stage->mesh);
}

static enum status run(struct context *context, bool dry, const struct config *config, const struct mesh_config *mesh,
                       int rank, int threads, double seconds, struct rehearsal *rehearsal)
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
        status = dry ? run_dry(&stage) : run_timed(&stage, seconds);
    if (status == STATUS_OK)
        status = inner.status;
    destroy(&stage);
    return status == STATUS_OK ? STATUS_OK : context_fail(context, status, "%s", inner.text);
}

/* -- Many micro-batches -- */

/* Once as many micro-batches as ever are in flight, each further group of them, one a stage, adds the same to what is
 * counted: with how many a step is compared to one with a group more, so that whole groups are left; 0 where all have
 * to be run, because they are few or have not the same rows. */
static int64_t enough_micro_batches(const struct config *config, const struct mesh_config *mesh, int64_t *all)
{
    const struct training_config *training = &config->training;
    int64_t each = training->micro_batch * mesh->data;
    int64_t rounds = mesh->virtual_stages;
    if (config->model.depth.kind == DEPTH_MOR)
        rounds = integer_max(rounds, config->model.depth.recursions);
    *all = training->batch / each;
    int64_t enough = 2 * mesh->pipeline * rounds + 2;
    enough += (*all - enough) % mesh->pipeline;
    return training->batch % each == 0 && *all > 2 * enough ? enough : 0;
}

static void extend(int64_t before, int64_t *after, int64_t more)
{
    *after += (*after - before) * more;
}

/* From a step and one of a group of micro-batches more to one of so many further groups. */
static void extrapolate(const struct rehearsal *before, struct rehearsal *after, int64_t more)
{
    for (int kind = 0; kind < MEMORY_KINDS; kind++)
        extend(before->memory.bytes[kind], &after->memory.bytes[kind], more);
    extend(before->memory.bytes_total, &after->memory.bytes_total, more);
    extend(before->memory.bytes_peak, &after->memory.bytes_peak, more);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        extend(before->traffic[axis].calls, &after->traffic[axis].calls, more);
        extend(before->traffic[axis].bytes, &after->traffic[axis].bytes, more);
    }
    extend(before->micro_batches, &after->micro_batches, more);
}

static enum status rehearse_some(struct context *context, const struct config *config, const struct mesh_config *mesh,
                                 int rank, int threads, int64_t micro_batches, struct rehearsal *rehearsal)
{
    struct config *few = memory_allocate(context, sizeof *few, MEMORY_OTHER);
    if (!few)
        return STATUS_MEMORY;
    *few = *config;
    few->training.batch = micro_batches * few->training.micro_batch * mesh->data;
    enum status status = run(context, true, few, mesh, rank, threads, 0.0, rehearsal);
    memory_free(context, few);
    return status;
}

enum status rehearse(struct context *context, const struct config *config, const struct mesh_config *mesh, int rank,
                     int threads, struct rehearsal *rehearsal)
{
    int64_t all;
    int64_t enough = enough_micro_batches(config, mesh, &all);
    if (enough == 0)
        return run(context, true, config, mesh, rank, threads, 0.0, rehearsal);
    struct rehearsal *before = memory_allocate(context, sizeof *before, MEMORY_OTHER);
    if (!before)
        return STATUS_MEMORY;
    enum status status = rehearse_some(context, config, mesh, rank, threads, enough, before);
    if (status == STATUS_OK)
        status = rehearse_some(context, config, mesh, rank, threads, enough + mesh->pipeline, rehearsal);
    if (status == STATUS_OK)
        extrapolate(before, rehearsal, (all - enough) / mesh->pipeline - 1);
    memory_free(context, before);
    return status;
}

enum status rehearse_alone(struct context *context, const struct config *config, int threads, double seconds,
                           struct rehearsal *rehearsal)
{
    const struct mesh_config alone = {1, 1, 1, 1, 1};
    return run(context, false, config, &alone, 0, threads, seconds, rehearsal);
}
