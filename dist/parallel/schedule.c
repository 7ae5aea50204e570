#include "dist/parallel/schedule.h"

#include <string.h>

#include "src/core/integer.h"

enum { FORWARD_COST = 1, BACKWARD_COST = 2 };

/* A stage in the simulation. */
struct stage_state {
    int64_t done[2]; /* forwards and backwards finished, in the stage's own order */
    int64_t free_at;
    int64_t busy;
};

struct simulation {
    struct schedule_shape shape;
    int64_t total; /* forwards (or backwards) of one stage: chunks * micro_batches */
    struct stage_state *stages;
    /* When each piece of work is finished: [pass][model chunk][micro-batch], -1 before. */
    int64_t *finished;
};

/* The n-th forward of a stage: micro-batches in groups as large as the pipeline, each group through chunk after chunk;
 * backwards likewise with the chunks in reverse. (The order of interleaved 1F1B, Narayanan et al. 2021, for any
 * number of micro-batches.) */
static struct pipeline_action action_at(const struct schedule_shape *shape, enum pipeline_pass pass, int64_t n)
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

static int64_t *finished_at(const struct simulation *simulation, enum pipeline_pass pass, int64_t model_chunk,
                            int64_t micro_batch)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t model_chunks = (int64_t)shape->stages * shape->chunks;
    return &simulation->finished[((int64_t)pass * model_chunks + model_chunk) * shape->micro_batches + micro_batch];
}

/* When the input of an action is there; -1 if it is not known yet. */
static int64_t ready_at(const struct simulation *simulation, int stage, const struct pipeline_action *action)
{
    const struct schedule_shape *shape = &simulation->shape;
    int64_t model_chunk = (int64_t)action->chunk * shape->stages + stage;
    int64_t last = (int64_t)shape->stages * shape->chunks - 1;
    if (action->pass == PIPELINE_FORWARD)
        return model_chunk == 0 ? 0 : *finished_at(simulation, PIPELINE_FORWARD, model_chunk - 1, action->micro_batch);
    if (model_chunk == last)
        return *finished_at(simulation, PIPELINE_FORWARD, last, action->micro_batch);
    return *finished_at(simulation, PIPELINE_BACKWARD, model_chunk + 1, action->micro_batch);
}

/* How many forwards a stage may be ahead of its backwards: enough to fill the pipeline, no more, for memory. */
static int64_t forwards_ahead(const struct schedule_shape *shape, int stage)
{
    if (shape->forward_only)
        return INT64_MAX;
    int64_t behind = shape->stages - stage - 1;
    if (shape->chunks == 1)
        return behind + 1;
    return 2 * behind + (int64_t)(shape->chunks - 1) * shape->stages + 1;
}

/* What a stage would start next and when; false if nothing is ready. */
static bool choose(const struct simulation *simulation, int stage, bool unlimited, struct pipeline_action *action,
                   int64_t *start)
{
    const struct stage_state *state = &simulation->stages[stage];
    bool found = false;
    if (!simulation->shape.forward_only && state->done[PIPELINE_BACKWARD] < simulation->total) {
        struct pipeline_action backward =
            action_at(&simulation->shape, PIPELINE_BACKWARD, state->done[PIPELINE_BACKWARD]);
        int64_t ready = ready_at(simulation, stage, &backward);
        if (ready >= 0) {
            *action = backward;
            *start = integer_max(ready, state->free_at);
            found = true;
        }
    }
    int64_t ahead = state->done[PIPELINE_FORWARD] - state->done[PIPELINE_BACKWARD];
    if (state->done[PIPELINE_FORWARD] < simulation->total &&
        (unlimited || ahead < forwards_ahead(&simulation->shape, stage))) {
        struct pipeline_action forward = action_at(&simulation->shape, PIPELINE_FORWARD, state->done[PIPELINE_FORWARD]);
        int64_t ready = ready_at(simulation, stage, &forward);
        int64_t begin = integer_max(ready, state->free_at);
        if (ready >= 0 && (!found || begin < *start)) {
            *action = forward;
            *start = begin;
            found = true;
        }
    }
    return found;
}

/* Starts the earliest piece of work of all stages. Returns its stage, or -1 when nothing is ready. */
static int advance(struct simulation *simulation, bool unlimited, struct pipeline_action *action)
{
    int chosen = -1;
    int64_t earliest = 0;
    for (int stage = 0; stage < simulation->shape.stages; stage++) {
        struct pipeline_action candidate;
        int64_t start = 0;
        if (choose(simulation, stage, unlimited, &candidate, &start) && (chosen < 0 || start < earliest)) {
            chosen = stage;
            earliest = start;
            *action = candidate;
        }
    }
    if (chosen < 0)
        return -1;
    struct stage_state *state = &simulation->stages[chosen];
    int64_t cost = action->pass == PIPELINE_FORWARD ? FORWARD_COST : BACKWARD_COST;
    int64_t model_chunk = (int64_t)action->chunk * simulation->shape.stages + chosen;
    state->free_at = earliest + cost;
    state->busy += cost;
    state->done[action->pass]++;
    *finished_at(simulation, action->pass, model_chunk, action->micro_batch) = earliest + cost;
    return chosen;
}

static void count_in_flight(struct schedule *schedule)
{
    const struct schedule_shape *shape = &schedule->shape;
    for (int chunk = 0; chunk < shape->chunks; chunk++) {
        int64_t now = 0;
        schedule->in_flight[chunk] = shape->forward_only ? integer_min(2, shape->micro_batches) : 0;
        for (int64_t i = 0; i < schedule->count && !shape->forward_only; i++) {
            if (schedule->actions[i].chunk != chunk)
                continue;
            now += schedule->actions[i].pass == PIPELINE_FORWARD ? 1 : -1;
            schedule->in_flight[chunk] = integer_max(schedule->in_flight[chunk], now);
        }
    }
}

enum status schedule_create(struct context *context, const struct schedule_shape *shape, int stage,
                            struct schedule *schedule)
{
    enum status status = STATUS_MEMORY;
    int64_t model_chunks = (int64_t)shape->stages * shape->chunks;
    int64_t total = shape->chunks * shape->micro_batches;
    size_t pieces = 2 * (size_t)(model_chunks * shape->micro_batches);
    struct simulation simulation = {.shape = *shape, .total = total};
    *schedule = (struct schedule){.shape = *shape};
    simulation.stages = memory_allocate(context, (size_t)shape->stages * sizeof *simulation.stages, MEMORY_OTHER);
    simulation.finished = memory_allocate(context, pieces * sizeof *simulation.finished, MEMORY_OTHER);
    schedule->actions = memory_allocate(context, 2 * (size_t)total * sizeof *schedule->actions, MEMORY_OTHER);
    schedule->in_flight = memory_allocate(context, (size_t)shape->chunks * sizeof *schedule->in_flight, MEMORY_OTHER);
    if (!simulation.stages || !simulation.finished || !schedule->actions || !schedule->in_flight)
        goto done;
    for (size_t i = 0; i < pieces; i++)
        simulation.finished[i] = -1;
    int64_t left = (shape->forward_only ? 1 : 2) * total * shape->stages;
    while (left-- > 0) {
        struct pipeline_action action = {0};
        int chosen = advance(&simulation, false, &action);
        if (chosen < 0)
            chosen = advance(&simulation, true, &action); /* memory yields to progress */
        if (chosen == stage)
            schedule->actions[schedule->count++] = action;
    }
    int64_t end = 0;
    for (int i = 0; i < shape->stages; i++)
        end = integer_max(end, simulation.stages[i].free_at);
    schedule->bubble = end ? 1.0 - (double)simulation.stages[stage].busy / (double)end : 0.0;
    count_in_flight(schedule);
    status = STATUS_OK;
done:
    memory_free(context, simulation.stages);
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
