#include "dist/parallel/schedule.h"

#include "src/core/integer.h"

enum { FORWARD_COST = 1, BACKWARD_COST = 2 };

struct simulation {
    struct schedule_shape shape;
    int64_t total;     /* forwards (or backwards) of one stage: chunks * micro_batches */
    int64_t extra;     /* forwards that stages run ahead beyond the usual */
    int64_t *position; /* [stages]: actions finished */
    int64_t *free_at;  /* [stages] */
    int64_t *finished; /* [pass][model chunk][micro-batch]: when; -1 before */
};

/* The n-th forward of a stage: micro-batches in groups as large as the pipeline, each group through chunk after chunk;
 * backwards likewise with the chunks in reverse. (The order of interleaved 1F1B, Narayanan et al. 2021, for any
 * number of micro-batches.) */
static struct pipeline_action pass_at(const struct schedule_shape *shape, enum pipeline_pass pass, int64_t n)
{
    int64_t group = n / ((int64_t)shape->stages * shape->chunks);
    int64_t first = group * shape->stages;
    int64_t size = integer_min(shape->stages, shape->micro_batches - first);
    int64_t within = n - first * shape->chunks;
    int chunk = (int)(within / size);
    return (struct pipeline_action){
        .pass = pass,
        .chunk = pass == PIPELINE_FORWARD ? chunk : shape->chunks - 1 - chunk,
        .micro_batch = first + within % size,
    };
}

/* Forwards of a stage before its first backward: enough to fill the pipeline, no more, for memory. */
static int64_t warm_up(const struct simulation *simulation, int stage)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t behind = shape->stages - stage - 1;
    int64_t usual = shape->chunks == 1 ? behind : 2 * behind + (int64_t)(shape->chunks - 1) * shape->stages;
    return shape->forward_only ? simulation->total : integer_min(simulation->total, usual + simulation->extra);
}

/* A stage's n-th action: warm-up, then forward and backward in turn, then the backwards that are left. */
static struct pipeline_action action_at(const struct simulation *simulation, int stage, int64_t n)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t warm = warm_up(simulation, stage);
    int64_t turns = simulation->total - warm;
    int64_t after = n - warm;
    if (after < 0)
        return pass_at(shape, PIPELINE_FORWARD, n);
    if (after >= 2 * turns)
        return pass_at(shape, PIPELINE_BACKWARD, after - turns);
    return after % 2 == 0 ? pass_at(shape, PIPELINE_FORWARD, warm + after / 2)
                          : pass_at(shape, PIPELINE_BACKWARD, after / 2);
}

static int64_t *finished_at(const struct simulation *simulation, enum pipeline_pass pass, int64_t model_chunk,
                            int64_t micro_batch)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t model_chunks = (int64_t)shape->stages * shape->chunks;
    return &simulation->finished[((int64_t)pass * model_chunks + model_chunk) * shape->micro_batches + micro_batch];
}

/* When the input of an action is there; -1 if it is not known yet. */
static int64_t ready_at(const struct simulation *simulation, int64_t model_chunk, const struct pipeline_action *action)
{
    int64_t last = (int64_t)simulation->shape.stages * simulation->shape.chunks - 1;
    if (action->pass == PIPELINE_FORWARD)
        return model_chunk == 0 ? 0 : *finished_at(simulation, PIPELINE_FORWARD, model_chunk - 1, action->micro_batch);
    if (model_chunk == last)
        return *finished_at(simulation, PIPELINE_FORWARD, last, action->micro_batch);
    return *finished_at(simulation, PIPELINE_BACKWARD, model_chunk + 1, action->micro_batch);
}

/* Runs a stage as far as its inputs reach. Returns how far it came. */
static int64_t advance(struct simulation *simulation, int stage, int64_t count)
{
    int64_t before = simulation->position[stage];
    while (simulation->position[stage] < count) {
        struct pipeline_action action = action_at(simulation, stage, simulation->position[stage]);
        int64_t model_chunk = (int64_t)action.chunk * simulation->shape.stages + stage;
        int64_t ready = ready_at(simulation, model_chunk, &action);
        if (ready < 0)
            break;
        int64_t end = integer_max(ready, simulation->free_at[stage]) +
                      (action.pass == PIPELINE_FORWARD ? FORWARD_COST : BACKWARD_COST);
        simulation->free_at[stage] = end;
        *finished_at(simulation, action.pass, model_chunk, action.micro_batch) = end;
        simulation->position[stage]++;
    }
    return simulation->position[stage] - before;
}

/* Whether all stages come to their end in these orders. */
static bool runs_through(struct simulation *simulation)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t count = (shape->forward_only ? 1 : 2) * simulation->total;
    int64_t pieces = 2 * (int64_t)shape->stages * simulation->total;
    int64_t left = count * shape->stages;
    int64_t moved = 1;
    for (int64_t i = 0; i < pieces; i++)
        simulation->finished[i] = -1;
    for (int stage = 0; stage < shape->stages; stage++)
        simulation->position[stage] = simulation->free_at[stage] = 0;
    while (left > 0 && moved > 0) {
        moved = 0;
        for (int stage = 0; stage < shape->stages; stage++)
            moved += advance(simulation, stage, count);
        left -= moved;
    }
    return left == 0;
}

static int64_t count_in_flight(const struct schedule *schedule, int chunk)
{
    const struct schedule_shape *shape = &schedule->shape;
    enum pipeline_pass leaving = shape->forward_only ? PIPELINE_FORWARD : PIPELINE_BACKWARD;
    int exit = shape->forward_only ? shape->chunks - 1 : chunk;
    int64_t most = shape->forward_only ? integer_min(2, shape->micro_batches) : 1;
    int64_t now = 0;
    for (int64_t i = 0; i < schedule->count; i++) {
        const struct pipeline_action *action = &schedule->actions[i];
        if (action->pass == PIPELINE_FORWARD && action->chunk == chunk)
            now++;
        most = integer_max(most, now);
        if (action->pass == leaving && action->chunk == exit)
            now--;
    }
    return most;
}

static void take_order(const struct simulation *simulation, int stage, struct schedule *schedule)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t end = 0;
    schedule->count = (shape->forward_only ? 1 : 2) * simulation->total;
    for (int64_t i = 0; i < schedule->count; i++)
        schedule->actions[i] = action_at(simulation, stage, i);
    for (int i = 0; i < shape->stages; i++)
        end = integer_max(end, simulation->free_at[i]);
    int64_t busy = simulation->total * (shape->forward_only ? FORWARD_COST : FORWARD_COST + BACKWARD_COST);
    schedule->bubble = end ? 1.0 - (double)busy / (double)end : 0.0;
    for (int chunk = 0; chunk < shape->chunks; chunk++)
        schedule->in_flight[chunk] = count_in_flight(schedule, chunk);
}

enum status schedule_create(struct context *context, const struct schedule_shape *shape, int stage,
                            struct schedule *schedule)
{
    enum status status = STATUS_MEMORY;
    size_t stages = (size_t)shape->stages;
    size_t total = (size_t)(shape->chunks * shape->micro_batches);
    struct simulation simulation = {.shape = *shape, .total = (int64_t)total};
    *schedule = (struct schedule){.shape = *shape};
    simulation.position = memory_allocate(context, stages * sizeof(int64_t), MEMORY_OTHER);
    simulation.free_at = memory_allocate(context, stages * sizeof(int64_t), MEMORY_OTHER);
    simulation.finished = memory_allocate(context, 2 * stages * total * sizeof(int64_t), MEMORY_OTHER);
    schedule->actions = memory_allocate(context, 2 * total * sizeof *schedule->actions, MEMORY_OTHER);
    schedule->in_flight = memory_allocate(context, (size_t)shape->chunks * sizeof *schedule->in_flight, MEMORY_OTHER);
    if (context->status != STATUS_OK)
        goto done;
    /* A last group that is not full may wait for itself; with all forwards first, every order runs through. */
    while (!runs_through(&simulation))
        simulation.extra++;
    take_order(&simulation, stage, schedule);
    status = STATUS_OK;
done:
    memory_free(context, simulation.position);
    memory_free(context, simulation.free_at);
    memory_free(context, simulation.finished);
    if (status != STATUS_OK)
        schedule_destroy(context, schedule);
    return status;
}

void schedule_destroy(struct context *context, struct schedule *schedule)
{
    memory_free(context, schedule->actions);
    memory_free(context, schedule->in_flight);
    *schedule = (struct schedule){0};
}
