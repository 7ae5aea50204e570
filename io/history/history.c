#include "io/history/history.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io/json/json.h"

enum { PATH_LENGTH = 1024 };

struct history {
    struct context *context;
    FILE *file;
};

static double unix_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool number_of(const json_t *object, const char *key, double *value)
{
    const json_t *found = json_object_get(object, key);
    if (!json_is_number(found))
        return false;
    *value = json_number_value(found);
    return true;
}

/* A start that lasted until `end`; clocks of different machines must not make it less than nothing. */
static void count_end(struct history_summary *summary, double *start, double end, bool failed)
{
    if (isnan(*start))
        return;
    summary->seconds += fmax(0.0, end - *start);
    summary->failures += failed;
    *start = NAN;
}

static void count_line(struct history_summary *summary, double *start, const json_t *line)
{
    double time = 0.0;
    double value = 0.0;
    if (number_of(line, "start", &time)) {
        count_end(summary, start, *start, true);
        *start = time;
        summary->starts++;
    } else if (number_of(line, "lost", &time)) {
        count_end(summary, start, time, true);
    } else if (number_of(line, "end", &time) && number_of(line, "exit", &value)) {
        count_end(summary, start, time, value == 1.0);
        if (number_of(line, "checkpoint_seconds", &value) && value > 0.0)
            summary->checkpoint_seconds = value;
    }
}

/* The whole file. Returns the time of a start that has no end, or not a number; *torn: the last line is half written.
 */
static double read_lines(FILE *file, struct history_summary *summary, bool *torn)
{
    double start = NAN;
    char *line = NULL;
    size_t size = 0;
    *torn = false;
    while (getline(&line, &size, file) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        *torn = strchr(line, '\n') == NULL;
        count_line(summary, &start, object);
        json_decref(object);
    }
    free(line);
    return start;
}

static bool write_line(FILE *file, json_t *object)
{
    bool failed = json_dumpf(object, file, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(14)) != 0;
    json_decref(object);
    return !failed && fputc('\n', file) != EOF && fflush(file) == 0;
}

static double last_sign(const char *folder, double start)
{
    char path[PATH_LENGTH];
    struct stat entry;
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    return stat(path, &entry) == 0 ? fmax(start, (double)entry.st_mtime) : start;
}

enum status history_open(struct context *context, const char *folder, int64_t step, struct history_summary *summary,
                         struct history **history)
{
    char path[PATH_LENGTH];
    snprintf(path, sizeof path, "%s/starts.jsonl", folder);
    *summary = (struct history_summary){0};
    struct history *opened = memory_allocate(context, sizeof *opened, MEMORY_OTHER);
    *history = opened;
    if (!opened)
        return STATUS_MEMORY;
    opened->context = context;
    opened->file = fopen(path, "a+");
    if (!opened->file)
        return context_fail(context, STATUS_FILE, "%s: cannot open it: %s", path, strerror(errno));
    rewind(opened->file);
    bool torn;
    double start = read_lines(opened->file, summary, &torn);
    bool written = fseek(opened->file, 0, SEEK_END) == 0 && (!torn || fputc('\n', opened->file) != EOF);
    if (written && !isnan(start)) {
        double lost = last_sign(folder, start);
        count_end(summary, &start, lost, true);
        written = write_line(opened->file, json_form("{s:f}", "lost", lost));
    }
    if (!written ||
        !write_line(opened->file, json_form("{s:f, s:I}", "start", unix_seconds(), "step", (json_int_t)step)))
        return context_fail(context, STATUS_FILE, "%s: cannot write it: %s", path, strerror(errno));
    return STATUS_OK;
}

void history_close(struct history **history, int64_t step, int code, double checkpoint_seconds)
{
    struct history *closed = *history;
    if (!closed)
        return;
    if (closed->file) {
        (void)write_line(closed->file,
                         json_form("{s:f, s:I, s:i, s:f}", "end", unix_seconds(), "step", (json_int_t)step, "exit",
                                   code, "checkpoint_seconds", checkpoint_seconds));
        fclose(closed->file);
    }
    memory_free(closed->context, closed);
    *history = NULL;
}
