#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/cli/command.h"
#include "src/cli/share.h"
#include "src/plan/measure.h"

/* The command line, as it stands. */
struct plan_words {
    const char *path, *ranks, *network, *sbatch, *steps;
    bool parameters, all, measure, json;
};

/* The mesh that the configuration asks for, of --ranks or of as many as its sizes make. */
static enum status choose_mesh(struct command *command, const struct plan_words *words, const struct config *config,
                               int *ranks, struct mesh_config *mesh)
{
    struct context *context = &command->context;
    const struct mesh_config *wanted = &config->mesh;
    int64_t count = wanted->data * wanted->pipeline * wanted->context * wanted->tensor;
    if (words->measure)
        count = command->ranks;
    CHECK(command_integer(command, "--ranks", words->ranks, 1, 1 << 20, &count));
    if (words->measure && count != command->ranks)
        return context_fail(context, STATUS_USAGE, "--ranks: --measure runs on the %d ranks that were started",
                            command->ranks);
    if (count < 1)
        return context_fail(context, STATUS_USAGE, "plan: a size of the mesh is auto; say of how many --ranks");
    *ranks = (int)count;
    return words->all ? STATUS_OK : mesh_resolve(context, wanted, *ranks, mesh);
}

static enum status print_plans(struct planner *planner, const struct plan_words *words, const struct plan *plans,
                               const struct plan_measured *measured, int count)
{
    if (!words->json) {
        if (words->all)
            plan_print_all(planner, plans, count);
        else
            plan_print(planner, plans);
        if (measured)
            plan_print_measured(plans, measured, count);
        return STATUS_OK;
    }
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *plan = plan_json(planner, &plans[i]);
        if (measured && plans[i].reason[0] == '\0')
            json_object_set_new(plan, "measured", plan_measured_json(&measured[i]));
        json_array_append_new(list, plan);
    }
    return print_json(planner->context, json_form("{s:s, s:o, s:o}", "plan", "meshes", "basis",
                                                  plan_basis_json(planner), "meshes", list));
}

/* What stands behind the plans: a table, the job file of the first. */
static enum status finish(struct command *command, struct planner *planner, const struct plan_words *words,
                          const struct plan *plans, const struct plan_measured *measured, int count)
{
    struct context *context = &command->context;
    if (command->rank != 0)
        return STATUS_OK;
    if (!words->all && plans[0].reason[0] != '\0')
        return context_fail(context, STATUS_USAGE, "%.255s", plans[0].reason);
    CHECK(print_plans(planner, words, plans, measured, count));
    if (!words->sbatch)
        return STATUS_OK;
    if (plans[0].reason[0] != '\0')
        return context_fail(context, STATUS_USAGE, "--sbatch: no mesh of %d ranks can split the model", plans[0].ranks);
    CHECK(plan_write_job(planner, &plans[0], words->path, command->overrides, command->override_count, words->sbatch));
    context_log(context, "wrote %s", words->sbatch);
    return STATUS_OK;
}

/* Every mesh with real steps on it; in the order in which they are listed, for it is the same on all ranks. */
static enum status measure(struct command *command, struct planner *planner, const struct plan_words *words, int ranks,
                           const struct mesh_config *mesh)
{
    struct context *context = &command->context;
    int64_t steps = 9;
    int count = 1;
    struct mesh_config *meshes = NULL;
    struct plan *plans = NULL;
    struct plan_measured *measured = NULL;
    enum status status = STATUS_OK;
    TRY(command_integer(command, "--steps", words->steps, 1, 100000, &steps));
    if (words->all)
        TRY(plan_list_meshes(planner, ranks, &meshes, &count));
    plans = memory_allocate(context, (size_t)count * sizeof *plans, MEMORY_OTHER);
    measured = memory_allocate(context, (size_t)count * sizeof *measured, MEMORY_OTHER);
    TRY(team_agree(command->team, context, context->status));
    for (int i = 0; i < count; i++)
        TRY(plan_measure(planner, words->all ? &meshes[i] : mesh, (int)steps, &plans[i], &measured[i]));
    status = team_agree(command->team, context, finish(command, planner, words, plans, measured, count));
done:
    memory_free(context, meshes);
    memory_free(context, plans);
    memory_free(context, measured);
    return status;
}

static enum status make(struct command *command, struct planner *planner, const struct plan_words *words, int ranks,
                        const struct mesh_config *mesh)
{
    struct context *context = &command->context;
    struct plan *plans = NULL;
    int count = 1;
    enum status status = STATUS_OK;
    if (words->all) {
        TRY(plan_make_all(planner, ranks, &plans, &count));
    } else {
        plans = memory_allocate(context, sizeof *plans, MEMORY_OTHER);
        TRY(plans ? STATUS_OK : STATUS_MEMORY);
        TRY(plan_make(planner, mesh, plans));
    }
    status = finish(command, planner, words, plans, NULL, count);
done:
    memory_free(context, plans);
    return status;
}

static enum status run(struct command *command, const struct plan_words *words, const struct config *config)
{
    struct context *context = &command->context;
    struct planner planner;
    struct mesh_config mesh = {0};
    int ranks = 0;
    if (words->parameters)
        return command->rank == 0 ? plan_parameters(context, config, words->json) : STATUS_OK;
    if (words->measure)
        CHECK(share_config(command, config));
    CHECK(choose_mesh(command, words, config, &ranks, &mesh));
    CHECK(planner_create(context, config, &planner));
    planner.team = command->team;
    enum status status = words->network ? network_parse(context, words->network, &planner.network) : STATUS_OK;
    if (status == STATUS_OK)
        status = (words->measure ? measure : make)(command, &planner, words, ranks, &mesh);
    planner_destroy(&planner);
    return status;
}

enum status command_plan(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct plan_words words = {0};
    int others;
    const struct option_row rows[] = {
        {"--parameters", NULL, &words.parameters}, {"--all-meshes", NULL, &words.all},
        {"--measure", NULL, &words.measure},       {"--json", NULL, &words.json},
        {"--ranks", &words.ranks, NULL},           {"--network", &words.network, NULL},
        {"--sbatch", &words.sbatch, NULL},         {"--steps", &words.steps, NULL},
    };
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, &words.path, 1, &others));
    if (others != 1)
        return context_fail(context, STATUS_USAGE, "plan: name a configuration; see `cairn plan --help`");
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    if (!config)
        return STATUS_MEMORY;
    enum status status = config_load(context, words.path, command->overrides, command->override_count, config);
    if (words.measure)
        status = team_agree(command->team, context, status);
    if (status == STATUS_OK)
        status = run(command, &words, config);
    memory_free(context, config);
    return status;
}
