#include "io/history/history.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/json/json.h"
#include "io/records/records.h"

enum { PATH_LENGTH = 1024, DIGITS = 14 };

struct history {
    struct context *context;
    struct record *record;
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

struct past {
    struct history_summary *summary;
    double start; /* of a start that has no end yet; not a number: there is none */
    int64_t damaged;
};

static bool see_line(void *self, const struct record_piece *piece)
{
    struct past *past = self;
    past->damaged += !piece->object;
    count_line(past->summary, &past->start, piece->object);
    return true;
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
    struct past past = {.summary = summary, .start = NAN};
    if (access(path, F_OK) == 0)
        CHECK(records_read(context, path, see_line, &past));
    if (past.damaged > 0)
        context_log(context, "%s: %lld damaged lines are passed over", path, (long long)past.damaged);
    enum status status = record_open(context, path, DIGITS, &opened->record);
    if (status != STATUS_OK)
        record_close(&opened->record);
    CHECK(status);
    if (!isnan(past.start)) {
        double lost = last_sign(folder, past.start);
        count_end(summary, &past.start, lost, true);
        CHECK(record_add(opened->record, json_form("{s:f}", "lost", lost)));
    }
    return record_add(opened->record, json_form("{s:f, s:I}", "start", unix_seconds(), "step", (json_int_t)step));
}

void history_retry(struct history *history)
{
    record_retry(history->record);
}

void history_close(struct history **history, int64_t step, int code, double checkpoint_seconds)
{
    struct history *closed = *history;
    if (!closed)
        return;
    enum status status = STATUS_OK;
    if (closed->record)
        status = record_add(closed->record,
                            json_form("{s:f, s:I, s:i, s:f}", "end", unix_seconds(), "step", (json_int_t)step, "exit",
                                      code, "checkpoint_seconds", checkpoint_seconds));
    if (status != STATUS_OK) /* it counts as a start that was lost, no more */
        context_clear(closed->context);
    record_close(&closed->record);
    memory_free(closed->context, closed);
    *history = NULL;
}
