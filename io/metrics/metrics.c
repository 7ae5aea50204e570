#include "io/metrics/metrics.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_LENGTH = 4096, PATH_LENGTH = 1024 };

struct metrics {
    struct context *context;
    FILE *file;
    char path[PATH_LENGTH];
};

static enum status fail(struct metrics *metrics, const char *what)
{
    return context_fail(metrics->context, STATUS_FILE, "%s: cannot %s: %s", metrics->path, what, strerror(errno));
}

/* The step of a complete line; -1 if it is none. */
static int64_t step_of(const char *line)
{
    int64_t step = -1;
    json_t *object = json_loads(line, 0, NULL);
    const json_t *value = json_object_get(object, "step");
    if (json_is_integer(value))
        step = json_integer_value(value);
    json_decref(object);
    return step;
}

/* Where the lines up to `step` end. */
static long end_of_step(FILE *file, int64_t step)
{
    char line[LINE_LENGTH];
    long end = 0;
    while (fgets(line, sizeof line, file)) {
        int64_t found = strchr(line, '\n') ? step_of(line) : -1;
        if (found < 0 || found > step)
            break;
        end = ftell(file);
    }
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
    rewind(m->file);
    long end = end_of_step(m->file, step);
    if (fflush(m->file) != 0 || ftruncate(fileno(m->file), end) != 0 || fseek(m->file, 0, SEEK_END) != 0)
        return fail(m, "shorten it");
    return STATUS_OK;
}

enum status metrics_write(struct metrics *metrics, const struct metrics_field *fields, int count)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        json_t *value;
        if (!isfinite(fields[i].value))
            value = json_null();
        else
            value = fields[i].integer ? json_integer((json_int_t)fields[i].value) : json_real(fields[i].value);
        json_object_set_new(object, fields[i].name, value);
    }
    int failed = json_dumpf(object, metrics->file, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (failed || fputc('\n', metrics->file) == EOF || fflush(metrics->file) != 0)
        return fail(metrics, "write it");
    return STATUS_OK;
}

void metrics_close(struct metrics **metrics)
{
    struct metrics *m = *metrics;
    if (!m)
        return;
    if (m->file)
        fclose(m->file);
    memory_free(m->context, m);
    *metrics = NULL;
}
