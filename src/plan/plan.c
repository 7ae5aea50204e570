#include "src/plan/plan.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/core/integer.h"
#include "src/ops/threads.h"
#include "src/plan/simulate.h"

/* Beyond this many ranks, the first of each stage stands for all of it: divisions give it no less than the others, but
 * for key heads that tensor ranks share. */
enum { ALL_RANKS = 16, RATES = 64, CONTEXTS = 4 };

/* Layers' shapes that were measured. */
struct planner_rates {
    int64_t tensor, context, rows; /* rows of a micro-batch */
    int ranks;
    struct rates rates;
};

/* -- The planner -- */

enum status planner_create(struct context *context, const struct config *config, struct planner *planner)
{
    *planner = (struct planner){.context = context, .config = config, .network = network_assumed()};
    planner->cores = omp_get_num_procs();
    planner->busy.load = busy_load();
    planner->all = 1.0;
    notice_begin(&planner->notice, context, "planning", "meshes");
    planner->rates = memory_allocate(context, RATES * sizeof *planner->rates, MEMORY_OTHER);
    return planner->rates ? STATUS_OK : STATUS_MEMORY;
}

void planner_destroy(struct planner *planner)
{
    memory_free(planner->context, planner->rates);
    planner->rates = NULL;
}

static int64_t ranks_of(const struct mesh_config *mesh)
{
    return mesh->data * mesh->pipeline * mesh->context * mesh->tensor;
}

static int ranks_on_host(const struct planner *planner, const struct mesh_config *mesh)
{
    int64_t ranks = ranks_of(mesh);
    return (int)(planner->network.ranks_per_host ? integer_min(ranks, planner->network.ranks_per_host) : ranks);
}

int planner_threads(const struct planner *planner, const struct mesh_config *mesh)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    if (planner->config->compute.threads > 0)
        return (int)planner->config->compute.threads;
    if (wanted && *wanted)
        return omp_get_max_threads();
    return (int)integer_max(1, planner->cores / ranks_on_host(planner, mesh));
}

/* Another machine than this one has the cores that its ranks ask for. */
static int cores_of_host(const struct planner *planner, const struct mesh_config *mesh)
{
    if (planner->network.ranks_per_host == 0)
        return planner->cores;
    return ranks_on_host(planner, mesh) * planner_threads(planner, mesh);
}

static void scale_rates(struct rates *rates, double factor)
{
    for (int pass = 0; pass < 2; pass++) {
        rates->product[pass] *= factor;
        rates->attention[pass] *= factor;
        rates->element[pass] *= factor;
    }
    rates->direction *= factor;
    rates->update *= factor;
}

/* Measured once for layers of the same shape. Threads that this machine has no cores for, or does not grant, are taken
 * to bring as much as those it has. */
static enum status find_rates(struct planner *planner, const struct mesh_config *mesh, const struct rates **found)
{
    const struct training_config *training = &planner->config->training;
    int wanted_threads = planner_threads(planner, mesh);
    int most = planner->network.ranks_per_host ? planner->cores : wanted_threads;
    int threads = threads_granted((int)integer_min(wanted_threads, most));
    int side_by_side = (int)integer_max(1, integer_min(ranks_on_host(planner, mesh), planner->cores / threads));
    /* What further context ranks do is the same with fewer tokens. */
    struct mesh_config shape = *mesh;
    shape.context = integer_min(mesh->context, CONTEXTS);
    struct planner_rates wanted = {
        .tensor = mesh->tensor,
        .context = shape.context,
        .rows = integer_min(training->micro_batch, range_partition(training->batch, mesh->data, 0).count),
        .ranks = side_by_side};
    for (int i = 0; i < planner->rates_count; i++) {
        const struct planner_rates *known = &planner->rates[i];
        if (known->tensor == wanted.tensor && known->context == wanted.context && known->rows == wanted.rows &&
            known->ranks == wanted.ranks) {
            *found = &known->rates;
            return STATUS_OK;
        }
    }
    if (planner->rates_count == RATES)
        planner->rates_count = 0;
    notice_show(&planner->notice, planner->done, planner->all);
    struct busy_look before = busy_look("/proc/stat");
    CHECK(rates_measure(planner->context, planner->config, &shape, side_by_side, threads, &wanted.rates));
    struct busy_look after = busy_look("/proc/stat");
    busy_add(&planner->busy, &before, &after);
    planner->busy.spread = fmax(planner->busy.spread, wanted.rates.spread);
    scale_rates(&wanted.rates, (double)threads / wanted_threads);
    planner->rates[planner->rates_count] = wanted;
    *found = &planner->rates[planner->rates_count++].rates;
    return STATUS_OK;
}

/* -- What the ranks of a stage hold and do -- */

static enum status rehearse_rank(struct planner *planner, const struct mesh_config *mesh, int64_t rank,
                                 struct rehearsal *rehearsal)
{
    struct context *context = planner->context;
    notice_show(&planner->notice, planner->done, planner->all);
    return rehearse(context, planner->config, mesh, (int)rank, planner_threads(planner, mesh), rehearsal);
}

static void keep_stage(const struct rehearsal *rehearsal, int stage, struct plan_stage *kept)
{
    kept->stage = stage;
    kept->memory_total = rehearsal->memory.bytes_peak;
    kept->parameters = rehearsal->parameters;
    kept->direction_flops = rehearsal->rest.flops[TIME_PRODUCTS];
    memcpy(kept->memory, rehearsal->memory.bytes, sizeof kept->memory);
    memcpy(kept->traffic, rehearsal->traffic, sizeof kept->traffic);
}

/* The first rank of the stage into `rehearsal`; the one with most memory into the plan. */
static enum status rehearse_stage(struct planner *planner, struct plan *plan, int stage, struct rehearsal *rehearsal)
{
    const struct mesh_config *mesh = &plan->mesh;
    int64_t width = mesh->context * mesh->tensor;
    struct plan_stage *kept = &plan->stage[plan->stages];
    CHECK(rehearse_rank(planner, mesh, stage * width, rehearsal));
    keep_stage(rehearsal, stage, kept);
    plan->stages++;
    if (plan->ranks > ALL_RANKS)
        return STATUS_OK;
    struct rehearsal *other = memory_allocate(planner->context, sizeof *other, MEMORY_OTHER);
    if (!other)
        return STATUS_MEMORY;
    enum status status = STATUS_OK;
    for (int64_t rank = 0; rank < plan->ranks && status == STATUS_OK; rank++) {
        if (rank == stage * width || rank / width % mesh->pipeline != stage)
            continue;
        status = rehearse_rank(planner, mesh, rank, other);
        if (status == STATUS_OK && other->memory.bytes_peak > kept->memory_total)
            keep_stage(other, stage, kept);
    }
    memory_free(planner->context, other);
    return status;
}

/* Stages that are counted: of many, those at the ends, where the model and the schedule are uneven, and the middle. */
static bool is_counted(int64_t stages, int64_t stage)
{
    return stages <= PLAN_STAGES || stage < 3 || stage >= stages - 3 || stage == stages / 2;
}

/* -- Time -- */

/* What is known of all stages for the simulation. */
struct timing {
    double *pass, *message; /* [stages, chunks, 2] */
    int chunks;
    double update; /* of the slowest stage */
};

static double collective_seconds(const struct planner *planner, const struct mesh_config *mesh,
                                 const struct rehearsal_work *work, bool in_pass)
{
    double seconds = 0.0;
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (axis != MESH_REPLICA && !(in_pass && axis == MESH_PIPELINE))
            seconds +=
                network_seconds(&planner->network, mesh, (enum mesh_axis)axis, work->calls[axis], work->bytes[axis]);
    return seconds;
}

/* Gradients summed over the replicas and parameters gathered. Between hosts that runs under the last backward pass, but
 * for what the first layers have left. */
static double replica_seconds(const struct planner *planner, const struct mesh_config *mesh,
                              const struct rehearsal *rehearsal, double backward)
{
    struct mesh_traffic traffic = rehearsal->traffic[MESH_REPLICA];
    double all = network_seconds(&planner->network, mesh, MESH_REPLICA, (double)traffic.calls, (double)traffic.bytes);
    double hidden = network_crosses(&planner->network, mesh, MESH_REPLICA) ? fmin(0.5 * all, backward) : 0.0;
    return all - hidden;
}

static void time_stage(const struct planner *planner, struct plan *plan, const struct rates *rates, int stage,
                       const struct rehearsal *rehearsal, struct timing *timing)
{
    const struct mesh_config *mesh = &plan->mesh;
    double compute = 0.0, communication = 0.0, backward = 0.0;
    for (int chunk = 0; chunk < timing->chunks; chunk++)
        for (int pass = 0; pass < 2; pass++) {
            const struct rehearsal_work *work = &rehearsal->pass[pass][chunk];
            ptrdiff_t at = ((ptrdiff_t)stage * timing->chunks + chunk) * 2 + pass;
            double own = rates_pass(rates, pass, work);
            double shared = collective_seconds(planner, mesh, work, true);
            timing->pass[at] = own + shared;
            timing->message[at] = network_seconds(&planner->network, mesh, MESH_PIPELINE, work->calls[MESH_PIPELINE],
                                                  work->bytes[MESH_PIPELINE]);
            compute += own * (double)plan->micro_batches;
            communication += shared * (double)plan->micro_batches;
            backward += pass == 1 ? own + shared : 0.0;
        }
    double update = rates_rest(rates, &rehearsal->rest) + collective_seconds(planner, mesh, &rehearsal->rest, false) +
                    replica_seconds(planner, mesh, rehearsal, backward);
    timing->update = fmax(timing->update, update);
    if (compute + communication > plan->compute + plan->communication) {
        plan->compute = compute;
        plan->communication = communication;
    }
}

/* How many stages a host's cores can run at once at full speed. */
static double stages_at_once(const struct planner *planner, const struct mesh_config *mesh)
{
    int64_t host = ranks_on_host(planner, mesh);
    double stages_here = fmax(1.0, fmin((double)mesh->pipeline, (double)host / (double)(mesh->context * mesh->tensor)));
    double ranks_of_stage = (double)host / stages_here;
    double share = (double)cores_of_host(planner, mesh) / (ranks_of_stage * planner_threads(planner, mesh));
    /* Hosts do their stages side by side. */
    return share * (double)mesh->pipeline / stages_here;
}

static enum status time_step(struct planner *planner, struct plan *plan, const struct timing *timing)
{
    struct simulation simulation = {.stages = (int)plan->mesh.pipeline,
                                    .chunks = timing->chunks,
                                    .micro_batches = plan->micro_batches,
                                    .pass = timing->pass,
                                    .message = timing->message,
                                    .speed_limit = stages_at_once(planner, &plan->mesh)};
    struct simulated simulated;
    CHECK(simulate(planner->context, &simulation, &simulated));
    double crowd = (double)ranks_on_host(planner, &plan->mesh) * planner_threads(planner, &plan->mesh) /
                   cores_of_host(planner, &plan->mesh);
    const struct training_config *training = &planner->config->training;
    plan->pipeline = simulated.seconds;
    plan->bubble = simulated.bubble;
    plan->update = timing->update * fmax(1.0, crowd);
    plan->step = plan->pipeline + plan->update;
    plan->tokens_per_second = (double)(training->batch * training->sequence_length) / plan->step;
    return STATUS_OK;
}

static enum status plan_stages(struct planner *planner, struct plan *plan, struct timing *timing,
                               struct rehearsal *rehearsal)
{
    const struct rates *rates = NULL;
    for (int stage = 0; stage < plan->mesh.pipeline; stage++) {
        if (is_counted(plan->mesh.pipeline, stage))
            CHECK(rehearse_stage(planner, plan, stage, rehearsal));
        if (stage == 0) {
            size_t entries = 2 * (size_t)plan->mesh.pipeline * (size_t)rehearsal->chunks;
            plan->micro_batches = rehearsal->micro_batches;
            timing->chunks = rehearsal->chunks;
            timing->pass = memory_allocate(planner->context, entries * sizeof(double), MEMORY_OTHER);
            timing->message = memory_allocate(planner->context, entries * sizeof(double), MEMORY_OTHER);
            if (!timing->pass || !timing->message)
                return STATUS_MEMORY;
            CHECK(find_rates(planner, &plan->mesh, &rates));
        }
        time_stage(planner, plan, rates, stage, rehearsal, timing);
    }
    for (int i = 1; i < plan->stages; i++)
        if (plan->stage[i].memory_total > plan->stage[plan->largest].memory_total)
            plan->largest = i;
    return time_step(planner, plan, timing);
}

enum status plan_make(struct planner *planner, const struct mesh_config *mesh, struct plan *plan)
{
    struct context *context = planner->context;
    struct timing timing = {0};
    *plan = (struct plan){.mesh = *mesh, .ranks = (int)ranks_of(mesh)};
    struct rehearsal *rehearsal = memory_allocate(context, sizeof *rehearsal, MEMORY_OTHER);
    if (!rehearsal)
        return STATUS_MEMORY;
    enum status status = plan_stages(planner, plan, &timing, rehearsal);
    memory_free(context, timing.pass);
    memory_free(context, timing.message);
    memory_free(context, rehearsal);
    if (status != STATUS_USAGE)
        return status;
    snprintf(plan->reason, sizeof plan->reason, "%.*s", PLAN_REASON - 1, context->text);
    context_clear(context);
    return STATUS_OK;
}

/* -- All meshes -- */

static int compare(const void *a, const void *b)
{
    const struct plan *x = a, *y = b;
    if ((x->reason[0] != '\0') != (y->reason[0] != '\0'))
        return x->reason[0] != '\0' ? 1 : -1;
    return x->step < y->step ? -1 : x->step > y->step;
}

/* The next divisor of `number` after `divisor`; 0 after the last. */
static int64_t next_divisor(int64_t number, int64_t divisor)
{
    while (++divisor <= number)
        if (number % divisor == 0)
            return divisor;
    return 0;
}

/* Their number, and the meshes themselves if there is room for them. */
static int fill_meshes(const struct planner *planner, int64_t ranks, struct mesh_config *meshes)
{
    int count = 0;
    for (int64_t tensor = 1; tensor; tensor = next_divisor(ranks, tensor))
        for (int64_t context = 1; context; context = next_divisor(ranks / tensor, context))
            for (int64_t pipeline = 1; pipeline; pipeline = next_divisor(ranks / tensor / context, pipeline)) {
                if (meshes)
                    meshes[count] =
                        (struct mesh_config){.data = ranks / tensor / context / pipeline,
                                             .pipeline = pipeline,
                                             .context = context,
                                             .tensor = tensor,
                                             .virtual_stages = pipeline > 1 ? planner->config->mesh.virtual_stages : 1,
                                             .recursions = planner->config->mesh.recursions};
                count++;
            }
    return count;
}

enum status plan_list_meshes(struct planner *planner, int ranks, struct mesh_config **meshes, int *count)
{
    *count = fill_meshes(planner, ranks, NULL);
    *meshes = memory_allocate(planner->context, (size_t)*count * sizeof **meshes, MEMORY_OTHER);
    if (!*meshes)
        return STATUS_MEMORY;
    fill_meshes(planner, ranks, *meshes);
    return STATUS_OK;
}

enum status plan_make_all(struct planner *planner, int ranks, struct plan **plans, int *count)
{
    struct mesh_config *meshes;
    *plans = NULL;
    CHECK(plan_list_meshes(planner, ranks, &meshes, count));
    *plans = memory_allocate(planner->context, (size_t)*count * sizeof **plans, MEMORY_OTHER);
    enum status status = *plans ? STATUS_OK : STATUS_MEMORY;
    planner->all = *count;
    for (int i = 0; i < *count && status == STATUS_OK; i++) {
        planner->done = i;
        status = plan_make(planner, &meshes[i], &(*plans)[i]);
    }
    notice_end(&planner->notice);
    memory_free(planner->context, meshes);
    if (status == STATUS_OK)
        qsort(*plans, (size_t)*count, sizeof **plans, compare);
    return status;
}
