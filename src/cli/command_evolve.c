#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/predict.h"
#include "src/cli/share.h"
#include "src/evolve/evolve.h"
#include "src/evolve/trial_model.h"

struct wishes {
    const char *task, *add, *lineage, *top_text;
    bool status, report;
    int64_t top;
    bool json;
    const char **other;
    int others;
};

static bool says(const struct wishes *wishes, const char *verb)
{
    return wishes->others > 1 && strcmp(wishes->other[0], verb) == 0;
}

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

/* By the first group; the others wait. */
static enum status predict(struct evolve *evolve, const struct wishes *wishes)
{
    struct context *context = evolve->context;
    struct trial_model model = {0};
    struct image_facts facts = {0};
    const struct path *path;
    struct predictions wanted = {.facts = &facts,
                                 .image = wishes->other + 2,
                                 .count = wishes->others - 2,
                                 .top = wishes->top,
                                 .json = wishes->json};
    const struct trial_wishes settings = {.batch = predict_rows(wanted.count)};
    enum status status;
    CHECK(evolve_find(evolve, wishes->task, &path));
    if (evolve->system.of_texts)
        return context_fail(context, STATUS_USAGE, "evolve: predict says what is on images; the tasks of %s are texts",
                            evolve->config->run.folder);
    if (evolve->group != 0)
        return STATUS_OK;
    TRY(trial_model_open(&evolve->trial, path, &settings, &model));
    TRY(mesh_agree(evolve->mesh, context, image_facts_read(context, wishes->task, model.source.data_facts, &facts)));
    status = predict_images(model.session, &wanted);
done:
    image_facts_destroy(context, &facts);
    trial_model_close(&model);
    return status;
}

static enum status act(struct evolve *evolve, const struct wishes *wishes)
{
    const struct config *config = evolve->config;
    if (wishes->status || wishes->lineage || wishes->report) {
        enum status status = STATUS_OK;
        if (evolve->first && wishes->status)
            status = evolve_show_status(&evolve->system);
        if (evolve->first && wishes->lineage && status == STATUS_OK)
            status = evolve_show_lineage(&evolve->system, wishes->lineage);
        if (evolve->first && wishes->report && status == STATUS_OK)
            status = evolve_show_page(evolve);
        return mesh_agree(evolve->world, evolve->context, status);
    }
    if (says(wishes, "remove"))
        return evolve_remove(evolve, wishes->task);
    if (says(wishes, "export"))
        return evolve_export(evolve, wishes->task, wishes->other[2]);
    if (says(wishes, "predict"))
        return mesh_agree(evolve->world, evolve->context, predict(evolve, wishes));
    if (evolve->system.task_count == 0)
        CHECK(read_tasks(evolve, config->evolve.tasks));
    if (wishes->add)
        CHECK(read_tasks(evolve, wishes->add));
    return evolve_run(evolve);
}

static enum status check(struct command *command, struct wishes *wishes)
{
    static const struct {
        const char *verb, *rest;
        int least, most;
    } verbs[] = {{"export", " FOLDER", 3, 3}, {"remove", "", 2, 2}, {"predict", " IMAGE...", 3, INT32_MAX}};
    struct context *context = &command->context;
    if (wishes->others == 0)
        return context_fail(context, STATUS_USAGE, "evolve: name a configuration; see `cairn evolve --help`");
    CHECK(command_integer(command, "--top", wishes->top_text, 1, INT32_MAX, &wishes->top));
    if (wishes->others == 1)
        return STATUS_OK;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (says(wishes, verbs[i].verb))
            return wishes->task && wishes->others >= verbs[i].least && wishes->others <= verbs[i].most
                       ? STATUS_OK
                       : context_fail(context, STATUS_USAGE, "evolve: %s RUN --task TASK%s", verbs[i].verb,
                                      verbs[i].rest);
    return context_fail(context, STATUS_USAGE, "evolve: expected export, predict or remove, got %s", wishes->other[0]);
}

static enum status run(struct command *command, const struct wishes *wishes)
{
    struct context *context = &command->context;
    struct evolve evolve = {0};
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    enum status status = config ? read_settings(command, wishes->other[wishes->others > 1], config) : STATUS_MEMORY;
    if (status == STATUS_OK && config->model.family == FAMILY_RESNET)
        status = context_fail(context, STATUS_USAGE, "evolve: expected model.family vit or decoder");
    TRY(team_agree(command->team, context, status));
    TRY(share_config(command, config));
    TRY(command_start(command, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &config->compute));
    bool looks =
        wishes->status || wishes->lineage || wishes->report || says(wishes, "export") || says(wishes, "predict");
    TRY(evolve_open(context, command->team, command->mesh, &command->engine, config, !looks, &evolve));
    status = act(&evolve, wishes);
done:
    evolve_close(&evolve);
    memory_free(context, config);
    return status;
}

enum status command_evolve(struct command *command, int argc, char **argv)
{
    struct wishes wishes = {.top = 5};
    const struct option_row rows[] = {{"--task", &wishes.task, NULL},       {"--add", &wishes.add, NULL},
                                      {"--lineage", &wishes.lineage, NULL}, {"--status", NULL, &wishes.status},
                                      {"--report", NULL, &wishes.report},   {"--top", &wishes.top_text, NULL},
                                      {"--json", NULL, &wishes.json}};
    wishes.other = calloc((size_t)argc + 1, sizeof *wishes.other);
    if (!wishes.other)
        return context_fail(&command->context, STATUS_MEMORY, "out of memory");
    enum status status =
        command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, wishes.other, argc, &wishes.others);
    if (status == STATUS_OK)
        status = check(command, &wishes);
    if (status == STATUS_OK)
        status = run(command, &wishes);
    free(wishes.other);
    return status;
}
