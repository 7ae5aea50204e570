#include "src/study/run.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/config/config.h"
#include "io/records/records.h"
#include "src/core/text.h"

static struct series *find_series(const struct run *run, const char *name)
{
    for (int i = 0; i < run->series_count; i++)
        if (strcmp(run->series[i]->name, name) == 0)
            return run->series[i];
    return NULL;
}

const struct series *run_series(const struct run *run, const char *name)
{
    return find_series(run, name);
}

static struct series *series_of(struct run *run, const char *name)
{
    struct series *series = find_series(run, name);
    if (series || run->series_count == RUN_SERIES || strlen(name) >= SERIES_NAME)
        return series;
    series = memory_allocate(run->context, sizeof *series, MEMORY_OTHER);
    if (!series)
        return NULL;
    series_create(series, name);
    return run->series[run->series_count++] = series;
}

/* A line may stand for the steps since the one before it (run.log_every). */
static void count_seconds(struct run *run, int64_t step, double seconds)
{
    int64_t steps = run->timed > 0 && step > run->timed ? step - run->timed : 1;
    run->seconds += seconds * (double)steps;
    run->timed = step;
}

static void see_metric(void *self, int64_t step, const char *name, const struct metrics_value *value)
{
    struct run *run = self;
    struct series *series = series_of(run, name);
    if (series)
        series_add(series, step, value);
    if (strcmp(name, "seconds") == 0)
        count_seconds(run, step, value->mean);
    run->steps = step > run->steps ? step : run->steps;
}

static bool see_start(void *self, const struct record_piece *piece)
{
    struct run *run = self;
    run->starts += json_is_number(json_object_get(piece->object, "start"));
    return true;
}

/* Files of later or older programs may have settings that this one does not know: then they are not compared. */
static void read_config(struct run *run)
{
    char path[REPORT_PATH + 16];
    snprintf(path, sizeof path, "%s/config.yaml", run->folder);
    if (access(path, F_OK) != 0) {
        snprintf(run->obstacle, sizeof run->obstacle, "%.400s: there is none", path);
        return;
    }
    run->has_config = config_load(run->context, path, NULL, 0, &run->config) == STATUS_OK;
    if (!run->has_config)
        text_copy(run->obstacle, sizeof run->obstacle, run->context->text);
    context_clear(run->context);
}

static void find_folder(struct run *run, const char *name, char path[REPORT_PATH + 16])
{
    struct stat entry;
    text_copy(run->name, sizeof run->name, name);
    for (size_t length = strlen(run->name); length > 1 && run->name[length - 1] == '/'; length--)
        run->name[length - 1] = '\0';
    text_copy(run->folder, sizeof run->folder, run->name);
    if (stat(run->name, &entry) != 0 || S_ISDIR(entry.st_mode)) {
        snprintf(path, REPORT_PATH + 16, "%s/metrics.jsonl", run->folder);
        return;
    }
    snprintf(path, REPORT_PATH + 16, "%s", run->name);
    char *slash = strrchr(run->folder, '/');
    text_copy(slash ? slash : run->folder, 2, slash ? "" : ".");
}

enum status run_read(struct context *context, const char *name, struct run *run)
{
    char path[REPORT_PATH + 16];
    run->context = context;
    find_folder(run, name, path);
    CHECK(metrics_read(context, path, see_metric, run, &run->seen));
    CHECK(context->status);
    if (run->seen.lines == 0)
        return context_fail(context, STATUS_FILE, "%s: has no line with a step%s", path,
                            run->seen.broken ? "; is it the metrics of a run?" : " yet");
    if (run->seen.broken > 0)
        context_log(context, "%s: %lld lines are broken and left out", path, (long long)run->seen.broken);
    if (run->seen.replaced > 0)
        context_log(context, "%s: %lld lines are of steps that were done again, and left out", path,
                    (long long)run->seen.replaced);
    snprintf(path, sizeof path, "%s/starts.jsonl", run->folder);
    if (access(path, F_OK) == 0 && records_read(context, path, see_start, run) != STATUS_OK)
        context_clear(context);
    read_config(run);
    return STATUS_OK;
}

void run_destroy(struct run *run)
{
    for (int i = 0; i < run->series_count; i++)
        memory_free(run->context, run->series[i]);
    run->series_count = 0;
}
