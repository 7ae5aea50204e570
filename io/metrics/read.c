#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/metrics/continue.h"
#include "io/metrics/metrics.h"
#include "io/records/records.h"

/* Seconds since 1970 of a time of day as metrics_write has it. */
static bool take_time(const char *text, double *seconds)
{
    struct tm utc = {0};
    double second;
    int used = 0;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%lfZ%n", &utc.tm_year, &utc.tm_mon, &utc.tm_mday, &utc.tm_hour, &utc.tm_min,
               &second, &used) != 6 ||
        used == 0 || text[used] != '\0')
        return false;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    *seconds = (double)timegm(&utc) + second;
    return true;
}

/* A number, a time of day, or the mean of a list of numbers with the least and the most of them; false for anything
 * else. */
static bool take_value(const char *name, const json_t *json, struct metrics_value *value)
{
    double sum = 0.0;
    size_t count = 0;
    if (strcmp(name, "time") == 0 && json_is_string(json) && take_time(json_string_value(json), &value->mean)) {
        value->low = value->high = value->mean;
        return true;
    }
    if (json_is_number(json)) {
        value->mean = value->low = value->high = json_number_value(json);
        return true;
    }
    value->low = INFINITY;
    value->high = -INFINITY;
    for (size_t i = 0; json_is_array(json) && i < json_array_size(json); i++) {
        const json_t *item = json_array_get(json, i);
        if (!json_is_number(item))
            continue;
        sum += json_number_value(item);
        value->low = fmin(value->low, json_number_value(item));
        value->high = fmax(value->high, json_number_value(item));
        count++;
    }
    value->mean = sum / (double)count;
    return count > 0;
}

/* -- Which lines count -- */

struct counted_line {
    int64_t number; /* among those with a step */
    int64_t step;
    bool training; /* it has a loss of a training step, of which a step has one */
};

struct reading {
    struct metrics_seen *seen;
    struct counted_line *lines; /* that count, their steps in order */
    size_t count, room;
    bool failed;
    metrics_visitor visit;
    void *self;
    int64_t number;
    size_t next; /* of `lines` */
};

/* How many of the lines so far stand before the one that comes now. */
static size_t lines_before(const struct reading *reading, const struct counted_line *line)
{
    size_t before = reading->count;
    while (before > 0 && reading->lines[before - 1].step > line->step)
        before--;
    for (size_t i = before; line->training && i > 0 && reading->lines[i - 1].step == line->step; i--)
        if (reading->lines[i - 1].training)
            before = i - 1;
    if (before == reading->count)
        return before;
    /* The run went back: what it wrote of this very step belongs to the line of history that it left. */
    while (line->training && before > 0 && reading->lines[before - 1].step == line->step)
        before--;
    return before;
}

static bool push(struct reading *reading, const struct counted_line *line)
{
    size_t before = lines_before(reading, line);
    reading->seen->replaced += (int64_t)(reading->count - before);
    reading->count = before;
    if (reading->count == reading->room) {
        size_t room = reading->room ? 2 * reading->room : 1024;
        struct counted_line *lines = realloc(reading->lines, room * sizeof *lines);
        if (!lines)
            return false;
        reading->lines = lines;
        reading->room = room;
    }
    reading->lines[reading->count++] = *line;
    return true;
}

static bool count_line(void *self, const struct record_piece *piece)
{
    struct reading *reading = self;
    struct counted_line line = {.number = reading->seen->lines, .step = metrics_step(piece->object)};
    if (line.step < 0) {
        /* A run that is going on may be in the middle of its last line. */
        reading->seen->broken += !piece->torn;
        return true;
    }
    line.training = json_object_get(piece->object, "loss") != NULL;
    reading->seen->lines++;
    reading->failed = !push(reading, &line);
    return !reading->failed;
}

/* -- Showing them -- */

static bool show_line(void *self, const struct record_piece *piece)
{
    struct reading *reading = self;
    const char *name;
    json_t *field;
    int64_t step = metrics_step(piece->object);
    if (step < 0)
        return true;
    if (reading->number++ != reading->lines[reading->next].number)
        return true;
    json_object_foreach(piece->object, name, field)
    {
        struct metrics_value value;
        if (strcmp(name, "step") != 0 && take_value(name, field, &value))
            reading->visit(reading->self, step, name, &value);
    }
    return ++reading->next < reading->count; /* a run that goes on has written more meanwhile */
}

enum status metrics_read(struct context *context, const char *path, metrics_visitor visit, void *self,
                         struct metrics_seen *seen)
{
    struct reading reading = {.seen = seen, .visit = visit, .self = self};
    *seen = (struct metrics_seen){0};
    enum status status = records_read(context, path, count_line, &reading);
    if (status == STATUS_OK && reading.failed)
        status = context_fail(context, STATUS_MEMORY, "%s: no memory to read it", path);
    if (status == STATUS_OK && reading.count > 0)
        status = records_read(context, path, show_line, &reading);
    free(reading.lines);
    return status;
}
