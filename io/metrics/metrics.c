#include "io/metrics/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/json/json.h"

enum { PATH_LENGTH = 1024 };

struct metrics {
    struct context *context;
    FILE *file;
    char path[PATH_LENGTH];
    json_t *last; /* fields of the step that was the last when the file was opened */
};

static enum status fail(struct metrics *metrics, const char *what)
{
    return context_fail(metrics->context, STATUS_FILE, "%s: cannot %s: %s", metrics->path, what, strerror(errno));
}

/* The step of a line's object; -1 if it has none. */
static int64_t step_of(const json_t *object)
{
    const json_t *value = json_object_get(object, "step");
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Where the lines up to `step` end; the fields of those of that very step are kept. */
static long end_of_step(struct metrics *metrics, int64_t step)
{
    char *line = NULL;
    size_t size = 0;
    long end = 0;
    int64_t found = 0;
    while (found >= 0 && found <= step && getline(&line, &size, metrics->file) > 0) {
        json_t *object = strchr(line, '\n') ? json_loads(line, 0, NULL) : NULL;
        found = step_of(object);
        if (found >= 0 && found <= step)
            end = ftell(metrics->file);
        if (found == step)
            json_object_update(metrics->last, object);
        json_decref(object);
    }
    free(line);
    return end;
}

enum status metrics_open(struct context *context, const char *path, int64_t step, struct metrics **metrics)
{
    struct metrics *m = memory_allocate(context, sizeof *m, MEMORY_OTHER);
    *metrics = m;
    if (!m)
        return STATUS_MEMORY;
    m->context = context;
    snprintf(m->path, sizeof m->path, "%s", path);
    m->file = fopen(path, "a+");
    if (!m->file)
        return fail(m, "open it");
    m->last = json_object();
    rewind(m->file);
    long end = end_of_step(m, step);
    if (fflush(m->file) != 0 || ftruncate(fileno(m->file), end) != 0 || fseek(m->file, 0, SEEK_END) != 0)
        return fail(m, "shorten it");
    return STATUS_OK;
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

static json_t *object_of(const struct metrics_field *fields, int count)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++)
        if (fields[i].integer && isfinite(fields[i].value))
            json_object_set_new(object, fields[i].name, json_integer((json_int_t)fields[i].value));
        else
            json_set_number(object, fields[i].name, fields[i].value);
    return object;
}

/* A line; takes the object. */
static enum status write_object(struct metrics *metrics, json_t *object)
{
    int failed = json_dumpf(object, metrics->file, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (failed || fputc('\n', metrics->file) == EOF || fflush(metrics->file) != 0)
        return fail(metrics, "write it");
    return STATUS_OK;
}

enum status metrics_write_lists(struct metrics *metrics, const struct metrics_field *fields, int count,
                                const struct metrics_list *lists, int list_count)
{
    json_t *object = object_of(fields, count);
    for (int i = 0; i < list_count; i++)
        json_object_set_new(object, lists[i].name, array(&lists[i]));
    return write_object(metrics, object);
}

enum status metrics_write_text(struct metrics *metrics, const struct metrics_field *fields, int count, const char *name,
                               const char *text)
{
    json_t *object = object_of(fields, count);
    json_object_set_new(object, name, json_text(text));
    return write_object(metrics, object);
}

enum status metrics_write(struct metrics *metrics, const struct metrics_field *fields, int count)
{
    return metrics_write_lists(metrics, fields, count, NULL, 0);
}

void metrics_close(struct metrics **metrics)
{
    struct metrics *m = *metrics;
    if (!m)
        return;
    if (m->file)
        fclose(m->file);
    json_decref(m->last);
    memory_free(m->context, m);
    *metrics = NULL;
}
