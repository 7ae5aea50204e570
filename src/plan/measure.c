#include "src/plan/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/core/random.h"
#include "src/train/checkpointer.h"

enum { REST_TAG = 7100, MESSAGE_TAG = 7101, SAMPLES = 9 };

/* Messages of a step come from all over a rank's memory, not from its caches. */
enum { ROOM = 1 << 22, PLACES = 4 };

/* A real rank. */
struct rank {
    struct planner *planner;
    struct context context; /* its account holds this rank's model and nothing else */
    struct mesh *mesh;
    struct engine engine;
    struct trainer trainer;
    struct model_state *carried;
    struct checkpointer checkpointer;
    struct rehearsal *rehearsal; /* what was planned for it */
};

/* -- Messages -- */

struct exchange {
    struct mesh *mesh;
    enum mesh_axis axis;
    int64_t count; /* fp32 elements of the average message */
    float *a, *b;  /* at the place of the moment, [ranks of the axis, count] of room [ROOM or more] */
};

/* Two calls, or messages, as training has them on the axis. */
static void run_exchange(const struct exchange *e)
{
    struct mesh_request requests[2];
    int64_t size = mesh_size(e->mesh, e->axis);
    int rank = mesh_rank(e->mesh, e->axis);
    switch (e->axis) {
    case MESH_PIPELINE:
        for (int way = 0; way < 2; way++) {
            int next = (int)((rank + (way ? size - 1 : 1)) % size);
            int before = (int)((rank + (way ? 1 : size - 1)) % size);
            mesh_receive(e->mesh, e->axis, before, MESSAGE_TAG + way, e->b, e->count, DTYPE_F32, &requests[0]);
            mesh_send(e->mesh, e->axis, next, MESSAGE_TAG + way, e->a, e->count, DTYPE_F32, &requests[1]);
            mesh_wait(&requests[0]);
            mesh_wait(&requests[1]);
        }
        break;
    case MESH_REPLICA:
        mesh_reduce_scatter_start(e->mesh, e->axis, e->a, e->b, e->count, &requests[0]);
        while (!mesh_test(&requests[0]))
            ;
        mesh_all_gather_start(e->mesh, e->axis, e->a, e->count, DTYPE_F32, &requests[1]);
        mesh_wait(&requests[1]);
        break;
    case MESH_TENSOR:
    case MESH_CONTEXT:
        mesh_all_gather(e->mesh, e->axis, e->b, e->a, size * e->count, 1, DTYPE_F32);
        mesh_reduce_scatter(e->mesh, e->axis, e->a, e->b, size * e->count, 1, DTYPE_F32);
        break;
    default:
        mesh_all_reduce(e->mesh, e->axis, e->a, e->count, DTYPE_F32, MESH_MAX);
        mesh_all_reduce(e->mesh, e->axis, e->a, e->count, DTYPE_F32, MESH_MAX);
    }
}

/* Seconds of one call, the slowest rank's, the median of several looks. */
static double time_exchange(struct exchange *e)
{
    float *a = e->a;
    float *b = e->b;
    int64_t stride = ROOM / PLACES;
    double looks[SAMPLES];
    bool takes_part = mesh_rank(e->mesh, e->axis) >= 0;
    for (int i = -1; i < SAMPLES; i++) {
        mesh_barrier(e->mesh, MESH_TEAM);
        double start = clock_seconds();
        for (int place = 0; takes_part && place < PLACES; place++) {
            e->a = a + place * stride;
            e->b = b + place * stride;
            run_exchange(e);
        }
        double seconds = 0.5 * (clock_seconds() - start) / PLACES;
        mesh_all_reduce(e->mesh, MESH_TEAM, &seconds, 1, DTYPE_F64, MESH_MAX);
        if (i >= 0)
            looks[i] = seconds;
    }
    e->a = a;
    e->b = b;
    return measure_median(looks, SAMPLES);
}

/* Bytes that the mesh counts for a call of run_exchange, on average. */
static double counted_bytes(const struct exchange *e, int64_t size)
{
    double each = (double)e->count * sizeof(float);
    if (e->axis == MESH_TENSOR || e->axis == MESH_CONTEXT)
        return 0.5 * (double)(size + 1) * each;
    return e->axis == MESH_REPLICA ? 0.5 * (double)size * each : each;
}

/* A call of the smallest size and one of the average size in a step. */
static enum status measure_axis(struct rank *rank, enum mesh_axis axis, struct network *network)
{
    struct context *context = &rank->context;
    struct mesh_traffic traffic = rank->rehearsal->traffic[axis];
    double average[2] = {traffic.calls ? (double)traffic.bytes / (double)traffic.calls : 0.0,
                         (double)integer_max(1, mesh_size(rank->mesh, axis))};
    mesh_all_reduce(rank->mesh, MESH_TEAM, average, 2, DTYPE_F64, MESH_MAX);
    int64_t size = (int64_t)average[1];
    if (average[0] == 0.0 || size < 2)
        return STATUS_OK;
    struct exchange e = {.mesh = rank->mesh, .axis = axis, .count = 1};
    double bytes_of_one = counted_bytes(&e, size);
    int64_t count = integer_max(2, (int64_t)(average[0] / bytes_of_one));
    size_t bytes = (size_t)(size * count + ROOM) * sizeof(float);
    e.a = memory_allocate(context, bytes, MEMORY_BUFFERS);
    e.b = memory_allocate(context, bytes, MEMORY_BUFFERS);
    CHECK(mesh_agree(rank->mesh, context, context->status));
    double least = time_exchange(&e);
    e.count = count;
    double most = time_exchange(&e);
    memory_free(context, e.a);
    memory_free(context, e.b);
    network->measured[axis] = true;
    network->byte[axis] = fmax(0.0, most - least) / (counted_bytes(&e, size) - bytes_of_one);
    network->call[axis] = least;
    return STATUS_OK;
}

static enum status measure_network(struct rank *rank)
{
    struct network *network = &rank->planner->network;
    memset(network->measured, 0, sizeof network->measured);
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (axis != MESH_HOST && axis != MESH_DATA && axis != MESH_STAGE)
            CHECK(measure_axis(rank, (enum mesh_axis)axis, network));
    network->measured[MESH_STAGE] = network->measured[MESH_TEAM];
    network->call[MESH_STAGE] = network->call[MESH_TEAM];
    network->byte[MESH_STAGE] = network->byte[MESH_TEAM];
    return STATUS_OK;
}

/* -- The plan, made while the others leave the cores alone -- */

static enum status make_plan(struct rank *rank, const struct mesh_config *mesh, struct plan *plan)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    struct context *context = rank->planner->context;
    struct mesh_request request;
    int32_t done = 0;
    enum status status = STATUS_OK;
    *plan = (struct plan){.mesh = *mesh};
    if (mesh_rank(rank->mesh, MESH_TEAM) > 0) {
        mesh_receive(rank->mesh, MESH_TEAM, 0, REST_TAG, &done, 1, DTYPE_I32, &request);
        while (!mesh_test(&request))
            nanosleep(&moment, NULL);
    } else {
        rank->planner->rates_count = 0; /* the machine may have become slower since */
        status = plan_make(rank->planner, mesh, plan);
        for (int other = 1; other < mesh_size(rank->mesh, MESH_TEAM); other++) {
            mesh_send(rank->mesh, MESH_TEAM, other, REST_TAG, &done, 1, DTYPE_I32, &request);
            mesh_wait(&request);
        }
    }
    return mesh_agree(rank->mesh, context, status);
}

/* The same again behind the steps: what the machine does for others changes meanwhile. */
static enum status make_again(struct rank *rank, const struct mesh_config *mesh, struct plan *plan)
{
    struct plan again;
    CHECK(measure_network(rank));
    CHECK(make_plan(rank, mesh, &again));
    double *const times[] = {&plan->compute, &plan->communication, &plan->pipeline,         &plan->bubble,
                             &plan->update,  &plan->step,          &plan->tokens_per_second};
    const double others[] = {again.compute, again.communication, again.pipeline,         again.bubble,
                             again.update,  again.step,          again.tokens_per_second};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        *times[i] = 0.5 * (*times[i] + others[i]);
    return STATUS_OK;
}

/* -- Steps -- */

static enum status create_trainer(struct rank *rank)
{
    const struct config *config = rank->planner->config;
    struct trainer *trainer = &rank->trainer;
    struct batch *batch = &trainer->batch;
    CHECK(trainer_create(&rank->context, rank->mesh, &rank->engine, config, trainer));
    if (model_carries(trainer->model->ops, config))
        CHECK(mesh_agree(rank->mesh, &rank->context, trainer->model->ops->state->create(batch, &rank->carried)));
    batch->state = rank->carried;
    if (config->checkpoint.background)
        CHECK(checkpointer_create(trainer, rank->carried, "", &rank->checkpointer));
    batch_fill_random(batch, 0);
    return STATUS_OK;
}

static enum status run_steps(struct rank *rank, int steps, double *seconds, struct mesh_traffic *traffic)
{
    enum { BEFORE = 2 };
    for (int step = -BEFORE; step < steps; step++) {
        struct step_result result;
        struct mesh_traffic before[MESH_AXES];
        mesh_barrier(rank->mesh, MESH_TEAM);
        for (int axis = 0; axis < MESH_AXES; axis++)
            before[axis] = mesh_traffic(rank->mesh, (enum mesh_axis)axis);
        double start = clock_seconds();
        CHECK(trainer_step(&rank->trainer, &result));
        double took = clock_seconds() - start;
        for (int axis = 0; axis < MESH_AXES; axis++) {
            struct mesh_traffic after = mesh_traffic(rank->mesh, (enum mesh_axis)axis);
            traffic[axis] = (struct mesh_traffic){after.calls - before[axis].calls, after.bytes - before[axis].bytes};
        }
        mesh_all_reduce(rank->mesh, MESH_TEAM, &took, 1, DTYPE_F64, MESH_MAX);
        if (step >= 0)
            seconds[step] = took;
    }
    return STATUS_OK;
}

/* What every rank found, to all. */
static enum status compare(struct rank *rank, const struct mesh_traffic *traffic, struct plan_measured *measured)
{
    int ranks = mesh_size(rank->mesh, MESH_TEAM);
    const struct rehearsal *planned = rank->rehearsal;
    int64_t mine[3] = {planned->memory.bytes_total, rank->context.memory.bytes_total, 0};
    int64_t *all = memory_allocate(&rank->context, 3 * (size_t)ranks * sizeof *all, MEMORY_OTHER);
    for (int axis = 0; axis < MESH_AXES; axis++)
        mine[2] |=
            traffic[axis].calls != planned->traffic[axis].calls || traffic[axis].bytes != planned->traffic[axis].bytes;
    CHECK(mesh_agree(rank->mesh, &rank->context, rank->context.status));
    mesh_all_gather(rank->mesh, MESH_TEAM, mine, all, ranks, 3, DTYPE_I64);
    for (int i = 0; i < ranks; i++) {
        const int64_t *one = all + 3 * (ptrdiff_t)i;
        if (i == 0 || llabs(one[1] - one[0]) > llabs(measured->held_memory - measured->planned_memory)) {
            measured->planned_memory = one[0];
            measured->held_memory = one[1];
        }
        measured->held_most = integer_max(measured->held_most, one[1]);
        measured->traffic_differs += one[2] != 0;
    }
    memory_free(&rank->context, all);
    return STATUS_OK;
}

static enum status measure_steps(struct rank *rank, int steps, struct plan_measured *measured)
{
    struct mesh_traffic traffic[MESH_AXES];
    double *seconds = memory_allocate(rank->planner->context, (size_t)steps * sizeof *seconds, MEMORY_OTHER);
    CHECK(mesh_agree(rank->mesh, &rank->context, seconds ? STATUS_OK : STATUS_MEMORY));
    enum status status = create_trainer(rank);
    if (status == STATUS_OK)
        status = run_steps(rank, steps, seconds, traffic);
    if (status == STATUS_OK)
        status = compare(rank, traffic, measured);
    if (status == STATUS_OK) {
        measured->seconds = measure_median(seconds, steps); /* which sorts them */
        measured->least = seconds[0];
        measured->most = seconds[steps - 1];
    }
    memory_free(rank->planner->context, seconds);
    return status;
}

/* -- All of it -- */

static enum status measure_rank(struct rank *rank, const struct mesh_config *mesh, int steps, struct plan *plan,
                                struct plan_measured *measured)
{
    struct planner *planner = rank->planner;
    struct context *context = planner->context;
    int threads = planner_threads(planner, mesh);
    CHECK(mesh_create(&rank->context, rank->planner->team, mesh, &rank->mesh));
    enum status status =
        rehearse(context, planner->config, mesh, mesh_rank(rank->mesh, MESH_TEAM), threads, rank->rehearsal);
    status = mesh_agree(rank->mesh, context, status);
    if (status == STATUS_USAGE) { /* the plan says why */
        *plan = (struct plan){.mesh = *mesh, .ranks = mesh_size(rank->mesh, MESH_TEAM)};
        snprintf(plan->reason, sizeof plan->reason, "%.*s", PLAN_REASON - 1, context->text);
        context_clear(context);
        return STATUS_OK;
    }
    CHECK(status);
    CHECK(mesh_agree(rank->mesh, &rank->context, engine_create(&rank->context, threads, &rank->engine)));
    CHECK(measure_network(rank));
    CHECK(make_plan(rank, mesh, plan));
    CHECK(measure_steps(rank, steps, measured));
    return make_again(rank, mesh, plan);
}

enum status plan_measure(struct planner *planner, const struct mesh_config *mesh, int steps, struct plan *plan,
                         struct plan_measured *measured)
{
    struct context *context = planner->context;
    struct rank rank = {.planner = planner};
    *measured = (struct plan_measured){0};
    context_create(&rank.context);
    rank.context.quiet = context->quiet;
    rank.engine.context = rank.trainer.context = &rank.context;
    rank.rehearsal = memory_allocate(context, sizeof *rank.rehearsal, MEMORY_OTHER);
    if (!rank.rehearsal)
        team_abort(1);
    enum status status = measure_rank(&rank, mesh, steps, plan, measured);
    if (status != STATUS_OK && context->status == STATUS_OK) {
        context_fail(context, status, "%s", rank.context.text);
        context->agreed = rank.context.agreed;
    }
    checkpointer_destroy(&rank.checkpointer);
    if (rank.carried)
        rank.trainer.model->ops->state->destroy(&rank.carried);
    trainer_destroy(&rank.trainer);
    engine_destroy(&rank.engine);
    mesh_destroy(&rank.mesh);
    memory_free(context, rank.rehearsal);
    return status;
}

/* -- Shown -- */

static double off(double planned, double found)
{
    return found > 0.0 ? 100.0 * (planned / found - 1.0) : 0.0;
}

void plan_print_measured(const struct plan *plans, const struct plan_measured *measured, int count)
{
    printf("\n%5s %9s %8s %7s %11s %11s %8s %11s %11s %8s %12s %12s %8s\n", "data", "pipeline", "context", "tensor",
           "planned", "held", "off", "predicted", "step", "off", "fastest", "slowest", "traffic");
    for (int i = 0; i < count; i++) {
        const struct mesh_config *mesh = &plans[i].mesh;
        const struct plan_measured *found = &measured[i];
        if (plans[i].reason[0] != '\0')
            continue;
        printf("%5lld %9lld %8lld %7lld %11s %11s %6.1f %% %11s %11s %6.1f %% %12s %12s %8s\n", (long long)mesh->data,
               (long long)mesh->pipeline, (long long)mesh->context, (long long)mesh->tensor,
               show_bytes((double)found->planned_memory).text, show_bytes((double)found->held_memory).text,
               off((double)found->planned_memory, (double)found->held_memory), show_seconds(plans[i].step).text,
               show_seconds(found->seconds).text, off(plans[i].step, found->seconds), show_seconds(found->least).text,
               show_seconds(found->most).text, found->traffic_differs ? "differs" : "equal");
    }
    printf("Memory is that of the rank that differs most from its plan; traffic is compared on every rank and axis, by "
           "calls and bytes.\n");
}

json_t *plan_measured_json(const struct plan_measured *measured)
{
    return json_form("{s:I, s:I, s:I, s:i, s:f, s:f, s:f}", "planned_memory", (json_int_t)measured->planned_memory,
                     "held_memory", (json_int_t)measured->held_memory, "held_most", (json_int_t)measured->held_most,
                     "ranks_whose_traffic_differs", measured->traffic_differs, "seconds", measured->seconds,
                     "seconds_least", measured->least, "seconds_most", measured->most);
}
