/* Plans as tables and as JSON. */
#include <stdio.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/plan/plan.h"

static const struct plan_stage *largest_of(const struct plan *plan)
{
    return &plan->stage[plan->largest];
}

static void print_mesh(const struct plan *plan)
{
    const struct mesh_config *mesh = &plan->mesh;
    printf("%5lld %9lld %8lld %7lld", (long long)mesh->data, (long long)mesh->pipeline, (long long)mesh->context,
           (long long)mesh->tensor);
}

static void print_basis(const struct planner *planner)
{
    const struct network *network = &planner->network;
    printf("\nMemory and traffic are those of a run, counted. Times are simulated: the schedule with the times of its "
           "passes,\nfrom layers of these shapes measured on this machine (%d cores), ",
           planner->cores);
    if (network->measured[MESH_TEAM])
        printf("and with messages as measured between these ranks.\n");
    else
        printf("and messages at %s %.3g us and %.3g GB/s within a\nhost%s",
               network->stated ? "stated or assumed" : "assumed", 1e6 * network->within.latency,
               1e-9 * network->within.bandwidth, network->ranks_per_host ? "" : ", where all ranks are.\n");
    if (!network->measured[MESH_TEAM] && network->ranks_per_host)
        printf(", %.3g us and %.3g GB/s between hosts of %lld ranks.\n", 1e6 * network->between.latency,
               1e-9 * network->between.bandwidth, (long long)network->ranks_per_host);
    if (network->ranks_per_host && planner->config->compute.threads > planner->cores)
        printf("Each of a rank's %lld threads is taken to be as fast as one of this machine's.\n",
               (long long)planner->config->compute.threads);
    if (busy_disturbs(&planner->busy)) {
        char words[256];
        busy_describe(&planner->busy, words, sizeof words);
        printf("\nMEASURED ON A BUSY MACHINE: %s.\nTimes may be too long by as much; plan again when it is quiet.\n",
               words);
    }
}

/* -- One mesh -- */

static void print_memory(const struct plan *plan)
{
    printf("%-24s", "memory of a rank");
    for (int i = 0; i < plan->stages; i++)
        printf("  %8s %3d", "stage", plan->stage[i].stage);
    printf("\n%-24s", "parameters it holds");
    for (int i = 0; i < plan->stages; i++)
        printf(" %12lld", (long long)plan->stage[i].parameters);
    printf("\n");
    for (int kind = 0; kind < MEMORY_KINDS; kind++) {
        printf("%-24s", memory_kind_name((enum memory_kind)kind));
        for (int i = 0; i < plan->stages; i++)
            printf(" %12s", show_bytes((double)plan->stage[i].memory[kind]).text);
        printf("\n");
    }
    printf("%-24s", "most held at once");
    for (int i = 0; i < plan->stages; i++)
        printf(" %12s", show_bytes((double)plan->stage[i].memory_total).text);
    printf("\n");
}

static void print_traffic(const struct plan *plan)
{
    printf("\n%-24s %12s %16s   of the rank that holds most (stage %d)\n", "traffic of a step", "calls", "bytes",
           largest_of(plan)->stage);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        struct mesh_traffic traffic = largest_of(plan)->traffic[axis];
        if (traffic.calls > 0)
            printf("%-24s %12lld %16lld\n", network_axis_name((enum mesh_axis)axis), (long long)traffic.calls,
                   (long long)traffic.bytes);
    }
}

/* Rows a second are what counts of images. */
static bool of_images(const struct planner *planner)
{
    return family_of_images(planner->config->model.family);
}

static double images_per_second(const struct planner *planner, const struct plan *plan)
{
    return (double)planner->config->training.batch / plan->step;
}

static void print_directions(const struct plan *plan)
{
    if (largest_of(plan)->direction_flops > 0.0)
        printf("%-24s %12.3f GFLOP   of that rank in a step: products and factors\n", "optimiser's matrices",
               1e-9 * largest_of(plan)->direction_flops);
}

static void print_time(const struct planner *planner, const struct plan *plan)
{
    const struct {
        const char *words;
        double seconds;
    } rows[] = {{"passes of a stage", plan->compute},
                {"collectives in them", plan->communication},
                {"pipeline, simulated", plan->pipeline},
                {"gradients, optimizer", plan->update},
                {"step", plan->step}};
    printf("\n%-24s %12s\n", "time of a step", "predicted");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%-24s %12s\n", rows[i].words, show_seconds(rows[i].seconds).text);
    printf("%-24s %10.1f %%   of the stages' time in the pipeline, %lld micro-batches\n", "bubble",
           100.0 * plan->bubble, (long long)plan->micro_batches);
    if (of_images(planner))
        printf("%-24s %12.1f\n", "images a second", images_per_second(planner, plan));
    else
        printf("%-24s %12.1f\n", "tokens a second", plan->tokens_per_second);
}

void plan_print(const struct planner *planner, const struct plan *plan)
{
    const struct mesh_config *mesh = &plan->mesh;
    printf("data %lld x pipeline %lld x context %lld x tensor %lld", (long long)mesh->data, (long long)mesh->pipeline,
           (long long)mesh->context, (long long)mesh->tensor);
    if (mesh->virtual_stages > 1)
        printf(", %lld chunks a stage", (long long)mesh->virtual_stages);
    int threads = planner_threads(planner, mesh);
    printf(": %d rank%s of %d thread%s\n\n", plan->ranks, plan->ranks == 1 ? "" : "s", threads,
           threads == 1 ? "" : "s");
    print_memory(plan);
    print_traffic(plan);
    print_directions(plan);
    print_time(planner, plan);
    print_basis(planner);
}

/* -- All meshes -- */

void plan_print_all(const struct planner *planner, const struct plan *plans, int count)
{
    int refused = 0;
    printf("%5s %9s %8s %7s %12s %9s %12s %12s %14s\n", "data", "pipeline", "context", "tensor", "memory", "bubble",
           "sent a step", "step", of_images(planner) ? "images/s" : "tokens/s");
    for (int i = 0; i < count; i++) {
        const struct plan *plan = &plans[i];
        refused += plan->reason[0] != '\0';
        if (plan->reason[0] != '\0')
            continue;
        double sent = 0.0;
        for (int axis = 0; axis < MESH_AXES; axis++)
            sent += (double)largest_of(plan)->traffic[axis].bytes;
        print_mesh(plan);
        printf(" %12s %7.1f %% %12s %12s %14.1f\n", show_bytes((double)largest_of(plan)->memory_total).text,
               100.0 * plan->bubble, show_bytes(sent).text, show_seconds(plan->step).text,
               of_images(planner) ? images_per_second(planner, plan) : plan->tokens_per_second);
    }
    printf("Memory and what is sent are those of the rank that holds most.\n");
    if (refused > 0)
        printf("\n%d of %d meshes cannot split the model:\n", refused, count);
    for (int i = 0; i < count; i++)
        if (plans[i].reason[0] != '\0') {
            print_mesh(&plans[i]);
            printf("   %s\n", plans[i].reason);
        }
    print_basis(planner);
}

/* -- JSON -- */

static json_t *stage_json(const struct plan_stage *stage)
{
    json_t *memory = json_object();
    json_t *traffic = json_object();
    for (int kind = 0; kind < MEMORY_KINDS; kind++)
        json_object_set_new(memory, memory_kind_name((enum memory_kind)kind),
                            json_integer((json_int_t)stage->memory[kind]));
    json_object_set_new(memory, "held_peak", json_integer((json_int_t)stage->memory_total));
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (stage->traffic[axis].calls > 0)
            json_object_set_new(traffic, network_axis_name((enum mesh_axis)axis),
                                json_form("{s:I, s:I}", "calls", (json_int_t)stage->traffic[axis].calls, "bytes",
                                          (json_int_t)stage->traffic[axis].bytes));
    return json_form("{s:i, s:I, s:f, s:o, s:o}", "stage", stage->stage, "parameters", (json_int_t)stage->parameters,
                     "optimizer_matrix_flops", stage->direction_flops, "memory_bytes", memory, "traffic", traffic);
}

json_t *plan_json(const struct planner *planner, const struct plan *plan)
{
    const struct mesh_config *mesh = &plan->mesh;
    json_t *object = json_form("{s:i, s:i, s:{s:I, s:I, s:I, s:I, s:I}}", "ranks", plan->ranks, "threads",
                               planner_threads(planner, mesh), "mesh", "data", (json_int_t)mesh->data, "pipeline",
                               (json_int_t)mesh->pipeline, "context", (json_int_t)mesh->context, "tensor",
                               (json_int_t)mesh->tensor, "virtual_stages", (json_int_t)mesh->virtual_stages);
    if (plan->reason[0] != '\0') {
        json_object_set_new(object, "cannot_split", json_text(plan->reason));
        return object;
    }
    json_t *stages = json_array();
    for (int i = 0; i < plan->stages; i++)
        json_array_append_new(stages, stage_json(&plan->stage[i]));
    json_t *rest = json_form("{s:o, s:i, s:I, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:f, s:b}", "stages", stages,
                             "largest_stage", largest_of(plan)->stage, "micro_batches", (json_int_t)plan->micro_batches,
                             "seconds", "passes", plan->compute, "collectives", plan->communication, "pipeline",
                             plan->pipeline, "update", plan->update, "step", plan->step, "bubble", plan->bubble,
                             "tokens_per_second", plan->tokens_per_second, "simulated", 1);
    if (rest)
        json_object_update(object, rest);
    json_decref(rest);
    if (of_images(planner))
        json_set_number(object, "images_per_second", images_per_second(planner, plan));
    return object;
}

json_t *plan_basis_json(const struct planner *planner)
{
    const struct network *network = &planner->network;
    const char *source = network->measured[MESH_TEAM] ? "measured" : network->stated ? "stated" : "assumed";
    const struct busy *busy = &planner->busy;
    json_t *machine =
        json_form("{s:b, s:f, s:f, s:f}", "disturbed", busy_disturbs(busy), "others_share", busy_others_share(busy),
                  "stolen_share", busy_stolen_share(busy), "spread_of_steps", busy->spread);
    if (busy->load >= 0.0)
        json_set_number(machine, "load_average", busy->load);
    return json_form("{s:o, s:i, s:s, s:I, s:f, s:f, s:f, s:f}", "machine", machine, "cores", planner->cores, "network",
                     source, "ranks_per_host", (json_int_t)network->ranks_per_host, "host_latency",
                     network->within.latency, "host_bandwidth", network->within.bandwidth, "latency",
                     network->between.latency, "bandwidth", network->between.bandwidth);
}
