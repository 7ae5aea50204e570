#include "src/plan/simulate.h"

#include <math.h>

#include "dist/parallel/schedule.h"

/* Waiting ranks look for their message again and again, and give way in between: where ranks outnumber cores, one takes
 * about so much of the turn of one that works. */
static const double turn_of_waiting = 0.5;

struct stage_state {
    struct schedule schedule;
    int64_t position; /* actions done */
    bool busy;
    double left; /* of the action under way, in seconds at full speed */
    double worked;
};

struct run {
    const struct simulation *simulation;
    struct stage_state *stages;
    double *arrival; /* [pass][model chunk][micro-batch]: when an action's input is there; INFINITY before */
    double now;
};

static double *arrival_of(const struct run *run, int pass, int64_t model_chunk, int64_t micro_batch)
{
    const struct simulation *s = run->simulation;
    int64_t chunks = (int64_t)s->stages * s->chunks;
    return &run->arrival[(pass * chunks + model_chunk) * s->micro_batches + micro_batch];
}

static int64_t model_chunk_of(const struct run *run, int stage, const struct pipeline_action *action)
{
    return (int64_t)action->chunk * run->simulation->stages + stage;
}

/* The next action of a stage; NULL when it has done all. */
static const struct pipeline_action *next_action(const struct stage_state *stage)
{
    return stage->position < stage->schedule.count ? &stage->schedule.actions[stage->position] : NULL;
}

static double seconds_of(const double *table, const struct run *run, int stage, const struct pipeline_action *action)
{
    return table[((ptrdiff_t)stage * run->simulation->chunks + action->chunk) * 2 + action->pass];
}

/* Its result goes to the next chunk of the model, or back to the one before. */
static void finish(struct run *run, int stage)
{
    const struct simulation *s = run->simulation;
    struct stage_state *state = &run->stages[stage];
    const struct pipeline_action *action = next_action(state);
    int64_t chunk = model_chunk_of(run, stage, action);
    int64_t last = (int64_t)s->stages * s->chunks - 1;
    double then = run->now + seconds_of(s->message, run, stage, action);
    if (action->pass == PIPELINE_FORWARD && chunk < last)
        *arrival_of(run, PIPELINE_FORWARD, chunk + 1, action->micro_batch) = then;
    else if (action->pass == PIPELINE_FORWARD)
        *arrival_of(run, PIPELINE_BACKWARD, chunk, action->micro_batch) = run->now;
    else if (chunk > 0)
        *arrival_of(run, PIPELINE_BACKWARD, chunk - 1, action->micro_batch) = then;
    state->busy = false;
    state->position++;
}

/* Begins what can begin now. Returns how many stages are at work; *until is when the next waiting one can begin. */
static int begin_all(struct run *run, double *until)
{
    const struct simulation *s = run->simulation;
    int busy = 0;
    *until = INFINITY;
    for (int stage = 0; stage < s->stages; stage++) {
        struct stage_state *state = &run->stages[stage];
        const struct pipeline_action *action = next_action(state);
        if (!state->busy && action) {
            double ready = *arrival_of(run, action->pass, model_chunk_of(run, stage, action), action->micro_batch);
            state->busy = ready <= run->now;
            if (state->busy)
                state->left = seconds_of(s->pass, run, stage, action);
            else
                *until = fmin(*until, ready);
        }
        busy += state->busy;
    }
    return busy;
}

/* Goes on to the next moment at which something ends or can begin. False when all is done. */
static bool advance(struct run *run)
{
    const struct simulation *s = run->simulation;
    double until;
    int busy = begin_all(run, &until);
    if (busy == 0 && isinf(until))
        return false;
    double turns = busy + turn_of_waiting * (s->stages - busy);
    double speed = fmin(1.0, s->speed_limit / fmax(1.0, turns));
    double step = until - run->now;
    for (int stage = 0; stage < s->stages; stage++)
        if (run->stages[stage].busy)
            step = fmin(step, run->stages[stage].left / speed);
    run->now += step;
    for (int stage = 0; stage < s->stages; stage++) {
        struct stage_state *state = &run->stages[stage];
        if (!state->busy)
            continue;
        state->worked += step;
        state->left -= step * speed;
        if (state->left <= 1e-9 * seconds_of(s->pass, run, stage, next_action(state)))
            finish(run, stage);
    }
    return true;
}

enum status simulate(struct context *context, const struct simulation *simulation, struct simulated *result)
{
    const struct schedule_shape shape = {
        .stages = simulation->stages, .chunks = simulation->chunks, .micro_batches = simulation->micro_batches};
    struct run run = {.simulation = simulation};
    size_t stages = (size_t)simulation->stages;
    size_t pieces = 2 * stages * (size_t)(simulation->chunks * simulation->micro_batches);
    enum status status = STATUS_MEMORY;
    int created = 0;
    run.stages = memory_allocate(context, stages * sizeof *run.stages, MEMORY_OTHER);
    run.arrival = memory_allocate(context, pieces * sizeof *run.arrival, MEMORY_OTHER);
    if (!run.stages || !run.arrival)
        goto done;
    for (; created < simulation->stages; created++)
        TRY(schedule_create(context, &shape, created, &run.stages[created].schedule));
    for (size_t i = 0; i < pieces; i++)
        run.arrival[i] = INFINITY;
    for (int64_t i = 0; i < simulation->micro_batches; i++)
        *arrival_of(&run, PIPELINE_FORWARD, 0, i) = 0.0;
    while (advance(&run))
        ;
    double worked = 0.0;
    for (size_t stage = 0; stage < stages; stage++)
        worked += run.stages[stage].worked;
    *result = (struct simulated){.seconds = run.now,
                                 .bubble = run.now > 0.0 ? 1.0 - worked / (run.now * (double)stages) : 0.0};
    status = STATUS_OK;
done:
    for (int stage = 0; run.stages && stage < created; stage++)
        schedule_destroy(context, &run.stages[stage].schedule);
    memory_free(context, run.stages);
    memory_free(context, run.arrival);
    return status;
}
