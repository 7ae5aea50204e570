#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/share.h"
#include "src/evolve/evolve.h"

struct wishes {
    const char *task, *add, *lineage;
    bool status;
    const char *other[3];
    int others;
};

/* The settings of a system: of a configuration file, or of the state in a folder. */
static enum status read_settings(struct command *command, const char *name, struct config *config)
{
    struct context *context = &command->context;
    char *text = NULL;
    char *settings = NULL;
    size_t length = strlen(name);
    if (length > 5 && (strcmp(name + length - 5, ".yaml") == 0 || strcmp(name + length - 4, ".yml") == 0))
        return config_load(context, name, command->overrides, command->override_count, config);
    CHECK(record_find(context, name, &text));
    if (!text)
        return context_fail(context, STATUS_USAGE, "%s: neither a configuration (*.yaml) nor the folder of a system",
                            name);
    enum status status = record_settings(context, text, &settings, NULL);
    if (status == STATUS_OK)
        status = config_parse(context, name, settings, strlen(settings), command->overrides, command->override_count,
                              config);
    /* It may have been moved. */
    if (status == STATUS_OK)
        snprintf(config->run.folder, sizeof config->run.folder, "%s", name);
    memory_free(context, settings);
    memory_free(context, text);
    return status;
}

static enum status read_tasks(struct evolve *evolve, const char *path)
{
    struct context *context = evolve->context;
    int count = 0;
    struct task_row *rows = memory_allocate(context, TASKS_MOST * sizeof *rows, MEMORY_OTHER);
    enum status status = rows ? tasks_read(context, path, rows, &count) : STATUS_MEMORY;
    status = mesh_agree(evolve->world, context, status);
    if (status == STATUS_OK)
        status = evolve_add(evolve, rows, count);
    memory_free(context, rows);
    return status;
}

static enum status act(struct evolve *evolve, const struct wishes *wishes)
{
    const struct config *config = evolve->config;
    const char *verb = wishes->others > 1 ? wishes->other[0] : "run";
    if (wishes->status || wishes->lineage) {
        enum status status = STATUS_OK;
        if (evolve->first && wishes->status)
            status = evolve_show_status(&evolve->system);
        if (evolve->first && wishes->lineage && status == STATUS_OK)
            status = evolve_show_lineage(&evolve->system, wishes->lineage);
        return mesh_agree(evolve->world, evolve->context, status);
    }
    if (strcmp(verb, "remove") == 0)
        return evolve_remove(evolve, wishes->task);
    if (strcmp(verb, "export") == 0)
        return evolve_export(evolve, wishes->task, wishes->other[2]);
    if (evolve->system.task_count == 0)
        CHECK(read_tasks(evolve, config->evolve.tasks));
    if (wishes->add)
        CHECK(read_tasks(evolve, wishes->add));
    return evolve_run(evolve);
}

static enum status check(struct command *command, const struct wishes *wishes)
{
    struct context *context = &command->context;
    const char *verb = wishes->others > 1 ? wishes->other[0] : "";
    bool exports = strcmp(verb, "export") == 0;
    if (wishes->others == 0)
        return context_fail(context, STATUS_USAGE, "evolve: name a configuration; see `cairn evolve --help`");
    if (wishes->others > 1 && !exports && strcmp(verb, "remove") != 0)
        return context_fail(context, STATUS_USAGE, "evolve: expected remove or export, got %s", verb);
    if (wishes->others > 1 && (!wishes->task || wishes->others != (exports ? 3 : 2)))
        return context_fail(context, STATUS_USAGE, "evolve: %s RUN --task TASK%s", verb, exports ? " FOLDER" : "");
    return STATUS_OK;
}

enum status command_evolve(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct wishes wishes = {0};
    struct evolve evolve = {0};
    const struct option_row rows[] = {{"--task", &wishes.task, NULL},
                                      {"--add", &wishes.add, NULL},
                                      {"--lineage", &wishes.lineage, NULL},
                                      {"--status", NULL, &wishes.status}};
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, wishes.other, 3, &wishes.others));
    CHECK(check(command, &wishes));
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    enum status status = config ? read_settings(command, wishes.other[wishes.others > 1], config) : STATUS_MEMORY;
    if (status == STATUS_OK && config->model.family != FAMILY_VIT)
        status = context_fail(context, STATUS_USAGE, "evolve: expected model.family vit");
    TRY(team_agree(command->team, context, status));
    TRY(share_config(command, config));
    TRY(command_start(command, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &config->compute));
    bool looks = wishes.status || wishes.lineage || (wishes.others > 1 && strcmp(wishes.other[0], "export") == 0);
    TRY(evolve_open(context, command->team, command->mesh, &command->engine, config, !looks, &evolve));
    status = act(&evolve, &wishes);
done:
    evolve_close(&evolve);
    memory_free(context, config);
    return status;
}
