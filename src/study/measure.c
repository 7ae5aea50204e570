#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/core/folder.h"
#include "src/core/text.h"
#include "src/study/launch.h"
#include "src/study/scale.h"

/* -- What is started -- */

/* The run's name among its study's files: the same wherever the grid holds it. */
static void name_file(const struct scale_options *options, const struct scale_run *run, const char *ending, char *path,
                      size_t size)
{
    const struct mesh_config *mesh = &run->mesh;
    snprintf(path, size, "%s/runs/%s-n%d-d%lldp%lldc%lldt%lld-v%d-r%d.%s", options->output,
             run->weak ? "weak" : "strong", run->ranks, (long long)mesh->data, (long long)mesh->pipeline,
             (long long)mesh->context, (long long)mesh->tensor, run->variant, run->repeat, ending);
}

static void add_setting(struct arguments *arguments, const char *key, int64_t value)
{
    arguments_add(arguments, "--set");
    arguments_add(arguments, "%s=%lld", key, (long long)value);
}

static void make_arguments(const struct scale_options *options, const struct scale_run *run,
                           struct arguments *arguments)
{
    const struct mesh_config *mesh = &run->mesh;
    arguments_add_template(arguments, options->launcher, run->ranks);
    arguments_add(arguments, "%s", options->program);
    arguments_add(arguments, "bench");
    arguments_add(arguments, "step");
    arguments_add(arguments, "%s", options->config);
    arguments_add(arguments, "--json");
    arguments_add(arguments, "--steps");
    arguments_add(arguments, "%lld", (long long)options->steps);
    arguments_add(arguments, "--warmup");
    arguments_add(arguments, "%lld", (long long)options->warmup);
    if (options->quick)
        arguments_add(arguments, "--quick");
    for (int i = 0; i < options->override_count; i++) {
        arguments_add(arguments, "--set");
        arguments_add(arguments, "%s", options->overrides[i]);
    }
    if (run->setting[0]) {
        arguments_add(arguments, "--set");
        arguments_add(arguments, "%s", run->setting);
    }
    add_setting(arguments, "training.batch", run->batch);
    add_setting(arguments, "mesh.data", mesh->data);
    add_setting(arguments, "mesh.pipeline", mesh->pipeline);
    add_setting(arguments, "mesh.context", mesh->context);
    add_setting(arguments, "mesh.tensor", mesh->tensor);
    add_setting(arguments, "mesh.virtual_stages", mesh->virtual_stages);
}

/* -- What it found -- */

/* The value at a path of keys with points between them. */
static const json_t *value_at(const json_t *object, const char *path)
{
    char key[32];
    while (object && *path) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        object = json_object_get(object, key);
        path += length + (path[length] == '.');
    }
    return object;
}

static double real_at(const json_t *object, const char *path)
{
    const json_t *value = value_at(object, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static int64_t count_at(const json_t *object, const char *path)
{
    const json_t *value = value_at(object, path);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static void text_at(const json_t *object, const char *path, char *text, size_t size)
{
    const char *value = json_string_value(value_at(object, path));
    text_copy(text, size, value ? value : "");
}

static void take_counts(const json_t *found, struct scale_row *row)
{
    row->nodes = count_at(found, "nodes");
    row->threads = count_at(found, "threads");
    row->micro_batch = count_at(found, "micro_batch");
    row->length = count_at(found, "sequence_length");
    row->parameters = count_at(found, "parameters");
    text_at(found, "type", row->type, sizeof row->type);
    text_at(found, "isa", row->isa, sizeof row->isa);
    text_at(found, "hosts", row->hosts, sizeof row->hosts);
}

static void take_times(const json_t *found, struct scale_row *row)
{
    row->tokens_per_second = real_at(found, "tokens_per_second");
    row->p50 = real_at(found, "seconds");
    row->p95 = real_at(found, "seconds_p95");
    row->least = real_at(found, "seconds_least");
    row->most = real_at(found, "seconds_most");
    row->products = real_at(found, "seconds_by_kind.mean.products");
    row->attention = real_at(found, "seconds_by_kind.mean.attention");
    row->other = real_at(found, "seconds_by_kind.mean.compute");
    row->optimizer = real_at(found, "seconds_by_kind.mean.optimizer");
    row->compute = row->products + row->attention + row->other + row->optimizer;
    row->bubble = real_at(found, "seconds_by_kind.waiting_for_stages");
    row->communication = real_at(found, "seconds_by_kind.mean.communication") - row->bubble;
    row->input = real_at(found, "seconds_by_kind.mean.other");
    row->schedule_idle = real_at(found, "schedule_idle");
}

static void take_rates(const struct scale_options *options, const json_t *found, struct scale_row *row)
{
    row->mfu = real_at(found, "flops.mfu");
    row->peak = fmax(real_at(found, "peak.gflops_before"), real_at(found, "peak.gflops_after"));
    row->useful = 1e-9 * real_at(found, "flops.useful");
    row->executed = 1e-9 * real_at(found, "flops.executed");
    row->memory = real_at(found, "memory_bytes.resident_peak_of_any_rank");
    row->loss = real_at(found, "loss");
    if (options->datasheet > 0.0) {
        row->datasheet = options->datasheet * (double)(row->ranks * row->threads);
        row->mfu_datasheet = row->useful / row->p50 / row->datasheet;
    }
}

/* The object among what the run printed; NULL when there is none. */
static json_t *find_object(const char *path)
{
    char *line = NULL;
    size_t size = 0;
    json_t *found = NULL;
    FILE *file = fopen(path, "r");
    while (file && !found && getline(&line, &size, file) > 0)
        if (line[0] == '{')
            found = json_loads(line, 0, NULL);
    free(line);
    if (file)
        fclose(file);
    return found;
}

/* The first warning of the run, so that a crowded machine is not taken for a bad program. */
static void find_warning(const char *path, char *note, size_t size)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    while (file && !note[0] && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "warning: ", 9) == 0)
            text_copy(note, size, line);
    }
    if (file)
        fclose(file);
}

/* -- The row -- */

static void name_job(char *text, size_t size)
{
    const char *array = getenv("SLURM_ARRAY_JOB_ID");
    const char *task = getenv("SLURM_ARRAY_TASK_ID");
    const char *job = getenv("SLURM_JOB_ID");
    if (array && task)
        snprintf(text, size, "%s_%s", array, task);
    else
        text_copy(text, size, job ? job : getenv("PBS_JOBID") ? getenv("PBS_JOBID") : "");
}

static void begin_row(const struct scale_options *options, const struct scale_run *run, struct scale_row *row)
{
    time_t now = time(NULL);
    struct tm date;
    row_clear(row);
    text_copy(row->study, sizeof row->study, run->weak ? "weak" : "strong");
    text_copy(row->layout, sizeof row->layout, run->layout);
    text_copy(row->variant, sizeof row->variant, run->setting);
    text_copy(row->version, sizeof row->version, options->version);
    name_job(row->job, sizeof row->job);
    strftime(row->started, sizeof row->started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &date));
    row->repeat = run->repeat;
    row->ranks = run->ranks;
    row->data = run->mesh.data;
    row->pipeline = run->mesh.pipeline;
    row->context = run->mesh.context;
    row->tensor = run->mesh.tensor;
    row->batch = run->batch;
    row->steps = options->steps;
}

static void run_once(const struct scale_options *options, const struct scale_run *run, struct arguments *arguments,
                     struct scale_row *row)
{
    char output[REPORT_PATH];
    char messages[REPORT_PATH];
    name_file(options, run, "json", output, sizeof output);
    name_file(options, run, "log", messages, sizeof messages);
    launch(arguments, output, messages, options->limit, row->note, sizeof row->note);
    json_t *found = row->note[0] ? NULL : find_object(output);
    if (!found && !row->note[0])
        snprintf(row->note, sizeof row->note, "it printed no result; see %.900s", messages);
    text_copy(row->status, sizeof row->status, found ? "ok" : "failed");
    if (found) {
        take_counts(found, row);
        take_times(found, row);
        take_rates(options, found, row);
        find_warning(messages, row->note, sizeof row->note);
    }
    json_decref(found);
}

enum status scale_measure(struct context *context, const struct scale_options *options, const struct scale_grid *grid,
                          int index, struct scale_row *row)
{
    char path[REPORT_PATH];
    char folder[REPORT_PATH];
    const struct scale_run *run = &grid->runs[index];
    snprintf(folder, sizeof folder, "%s/runs", options->output);
    CHECK(folder_make(context, "", folder));
    struct arguments *arguments = memory_allocate(context, sizeof *arguments, MEMORY_OTHER);
    if (!arguments)
        return STATUS_MEMORY;
    begin_row(options, run, row);
    make_arguments(options, run, arguments);
    arguments_format(arguments, row->command, sizeof row->command);
    run_once(options, run, arguments, row);
    memory_free(context, arguments);
    name_file(options, run, "csv", path, sizeof path);
    return row_write(context, path, row);
}

bool scale_measured(const struct scale_options *options, const struct scale_grid *grid, int index)
{
    struct context scratch;
    char path[REPORT_PATH];
    char command[ROW_LONG];
    int count = 0;
    context_create(&scratch);
    struct scale_row *row = memory_allocate(&scratch, sizeof *row, MEMORY_OTHER);
    struct arguments *arguments = memory_allocate(&scratch, sizeof *arguments, MEMORY_OTHER);
    bool measured = false;
    if (row && arguments) {
        make_arguments(options, &grid->runs[index], arguments);
        arguments_format(arguments, command, sizeof command);
        name_file(options, &grid->runs[index], "csv", path, sizeof path);
        measured = rows_read(&scratch, path, row, 1, &count) == STATUS_OK && count == 1 &&
                   strcmp(row->status, "ok") == 0 && strcmp(row->command, command) == 0 &&
                   strcmp(row->version, options->version) == 0;
    }
    memory_free(&scratch, row);
    memory_free(&scratch, arguments);
    return measured;
}
