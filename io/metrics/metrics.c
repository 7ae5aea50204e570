#include "io/metrics/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "io/events/events.h"
#include "io/json/json.h"
#include "io/metrics/continue.h"
#include "io/records/records.h"

struct metrics {
    struct context *context;
    struct record *record;
    struct events *events; /* or NULL */
    json_t *last;          /* fields of the step that was the last when the file was opened */
};

enum status metrics_open(struct context *context, const char *path, int64_t step, const char *aside,
                         struct metrics **metrics)
{
    enum { DIGITS = 9 };
    struct metrics *m = memory_allocate(context, sizeof *m, MEMORY_OTHER);
    *metrics = m;
    if (!m)
        return STATUS_MEMORY;
    m->context = context;
    m->last = json_object();
    CHECK(metrics_continue(context, path, step, aside, m->last));
    return record_open(context, path, DIGITS, &m->record);
}

bool metrics_seen(const struct metrics *metrics, const char *field)
{
    return json_object_get(metrics->last, field) != NULL;
}

static json_t *number(double value, bool integer)
{
    if (!isfinite(value))
        return json_null();
    return integer ? json_integer((json_int_t)value) : json_real(value);
}

/* Whole numbers are exact, others have 5 digits: there are many of them. */
static json_t *array(const struct metrics_list *list)
{
    json_t *array = json_array();
    for (int64_t i = 0; i < list->count; i++) {
        double value = list->values[i];
        bool integer = fabs(value) < 1e15 && value == rint(value);
        char text[32];
        snprintf(text, sizeof text, "%.4e", value);
        json_array_append_new(array, number(integer ? value : strtod(text, NULL), integer));
    }
    return array;
}

/* UTC, by the clock of the host. */
static json_t *time_of_day(void)
{
    char text[80];
    char second[40];
    struct timeval now;
    struct tm utc;
    gettimeofday(&now, NULL);
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    snprintf(text, sizeof text, "%s.%03dZ", second, (int)(now.tv_usec / 1000));
    return json_string(text);
}

static json_t *object_of(const struct metrics_field *fields, int count)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++)
        if (fields[i].integer && isfinite(fields[i].value))
            json_object_set_new(object, fields[i].name, json_integer((json_int_t)fields[i].value));
        else
            json_set_number(object, fields[i].name, fields[i].value);
    json_object_set_new(object, "time", time_of_day());
    return object;
}

/* Takes the object. */
static enum status add(struct metrics *metrics, json_t *object)
{
    if (metrics->events)
        events_line(metrics->events, object);
    return record_add(metrics->record, object);
}

enum status metrics_write_lists(struct metrics *metrics, const struct metrics_field *fields, int count,
                                const struct metrics_list *lists, int list_count)
{
    json_t *object = object_of(fields, count);
    for (int i = 0; i < list_count; i++)
        json_object_set_new(object, lists[i].name, array(&lists[i]));
    return add(metrics, object);
}

enum status metrics_write_text(struct metrics *metrics, const struct metrics_field *fields, int count, const char *name,
                               const char *text)
{
    json_t *object = object_of(fields, count);
    json_object_set_new(object, name, json_text(text));
    return add(metrics, object);
}

enum status metrics_write(struct metrics *metrics, const struct metrics_field *fields, int count)
{
    return metrics_write_lists(metrics, fields, count, NULL, 0);
}

void metrics_mirror(struct metrics *metrics, struct events *events)
{
    metrics->events = events;
}

struct events *metrics_events(const struct metrics *metrics)
{
    return metrics->events;
}

void metrics_close(struct metrics **metrics)
{
    struct metrics *m = *metrics;
    if (!m)
        return;
    record_close(&m->record);
    json_decref(m->last);
    memory_free(m->context, m);
    *metrics = NULL;
}
