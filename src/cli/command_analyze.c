/* `cairn analyze`. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/json/json.h"
#include "src/analyze/show.h"
#include "src/cli/command.h"
#include "src/core/folder.h"
#include "src/core/integer.h"
#include "src/core/text.h"

struct analyze_run {
    struct command *command;
    const char *first, *second, *output;
    bool all, json;
    struct analysis_wish wish;
    char path[CHECKPOINT_PATH], other[CHECKPOINT_PATH];
    struct analysis *analyses;
    int count;
};

static enum status read_options(struct analyze_run *run, int argc, char **argv)
{
    struct command *command = run->command;
    const char *words[2] = {NULL, NULL};
    const char *directions = NULL;
    int count;
    const struct option_row rows[] = {{"--output", &run->output, NULL},
                                      {"--match", &run->wish.pattern, NULL},
                                      {"--directions", &directions, NULL},
                                      {"--all", NULL, &run->all},
                                      {"--json", NULL, &run->json}};
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, words, 2, &count));
    if (command->override_count > 0)
        return context_fail(&command->context, STATUS_USAGE, "analyze: takes no --set; see `cairn analyze --help`");
    if (count == 0)
        return context_fail(&command->context, STATUS_USAGE, "analyze: name a checkpoint; see `cairn analyze --help`");
    if (run->all && count > 1)
        return context_fail(&command->context, STATUS_USAGE,
                            "analyze: --all goes through the checkpoints of one run's folder, beside no other");
    run->first = words[0];
    run->second = words[1];
    run->wish.directions = 8;
    return command_integer(command, "--directions", directions, 1, INT32_MAX, &run->wish.directions);
}

static enum status measure(struct analyze_run *run, const char *path, const char *other)
{
    struct command *command = run->command;
    return analysis_create(&command->context, command->mesh, path, other, &run->wish, &run->analyses[run->count++]);
}

/* All checkpoints beside the newest, the oldest first. */
static enum status measure_all(struct analyze_run *run)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    int64_t *steps = NULL;
    int64_t count = 0;
    enum status status;
    char *end = strrchr(run->path, '/');
    if (end)
        *end = '\0';
    const char *folder = end ? run->path : ".";
    TRY(checkpoint_steps(context, command->mesh, folder, &steps, &count));
    run->analyses = memory_allocate(context, (size_t)count * sizeof *run->analyses, MEMORY_OTHER);
    TRY(mesh_agree(command->mesh, context, run->analyses ? STATUS_OK : STATUS_MEMORY));
    for (int64_t i = count - 1; i >= 0; i--) {
        char path[CHECKPOINT_PATH + 32];
        snprintf(path, sizeof path, "%s/step-%08lld.h5", folder, (long long)steps[i]);
        TRY(measure(run, path, NULL));
    }
done:
    memory_free(context, steps);
    return status;
}

static enum status measure_some(struct analyze_run *run)
{
    struct command *command = run->command;
    if (run->all)
        return measure_all(run);
    run->analyses = memory_allocate(&command->context, sizeof *run->analyses, MEMORY_OTHER);
    CHECK(mesh_agree(command->mesh, &command->context, run->analyses ? STATUS_OK : STATUS_MEMORY));
    return measure(run, run->path, run->second ? run->other : NULL);
}

static enum status print_table(const struct analyze_run *run)
{
    const struct analysis *last = &run->analyses[run->count - 1];
    const char *heads[SHOW_COLUMNS];
    struct report_table table;
    printf("%s, step %lld\n", last->path, (long long)last->step);
    if (last->other[0])
        printf("beside %s\n", last->other);
    if (last->left_out > 0)
        printf("%d matrices are not in both files in the same shape\n", last->left_out);
    if (run->count > 1)
        printf("the last of %d checkpoints\n", run->count);
    enum status status = show_table(last, heads, &table);
    if (status == STATUS_OK)
        report_table_print(&table, stdout);
    report_table_destroy(&table);
    return status;
}

static enum status print_all_json(const struct analyze_run *run)
{
    json_t *list = json_array();
    for (int i = 0; i < run->count; i++)
        json_array_append_new(list, show_json(&run->analyses[i]));
    json_t *object = run->all ? json_form("{s:o}", "checkpoints", list) : json_incref(json_array_get(list, 0));
    int failed = json_dumpf(object, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(object);
    if (!run->all)
        json_decref(list);
    return failed ? context_fail(&run->command->context, STATUS_MEMORY, "the JSON object cannot be made") : STATUS_OK;
}

/* On rank 0. */
static enum status show(const struct analyze_run *run)
{
    struct context *context = &run->command->context;
    bool drawn = true;
    CHECK(run->json ? print_all_json(run) : print_table(run));
    if (!run->output)
        return STATUS_OK;
    CHECK(folder_make(context, "", run->output));
    CHECK(show_csv(context, run->output, run->analyses, run->count));
    CHECK(show_page(context, run->output, run->analyses, run->count, &drawn));
    if (!drawn)
        context_log(context, "%s", report_without_gnuplot);
    if (!run->json)
        printf("\n%s/index.html\n", run->output);
    return STATUS_OK;
}

static enum status run_analysis(struct analyze_run *run)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    CHECK(mesh_create(context, command->team, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &command->mesh));
    CHECK(checkpoint_named(context, command->mesh, run->first, run->path));
    if (run->second)
        CHECK(checkpoint_named(context, command->mesh, run->second, run->other));
    CHECK(measure_some(run));
    return mesh_agree(command->mesh, context, command->rank == 0 ? show(run) : STATUS_OK);
}

enum status command_analyze(struct command *command, int argc, char **argv)
{
    struct analyze_run *run = memory_allocate(&command->context, sizeof *run, MEMORY_OTHER);
    if (!run)
        return STATUS_MEMORY;
    run->command = command;
    enum status status = read_options(run, argc, argv);
    if (status == STATUS_OK)
        status = run_analysis(run);
    for (int i = 0; i < run->count; i++)
        analysis_destroy(&run->analyses[i]);
    memory_free(&command->context, run->analyses);
    memory_free(&command->context, run);
    return status;
}
