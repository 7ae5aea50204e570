#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/metrics/metrics.h"

/* A number, or the mean of a list of numbers with the least and the most of them; false for anything else. */
static bool take_value(const json_t *json, struct metrics_value *value)
{
    double sum = 0.0;
    size_t count = 0;
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

/* False when the line is no object with a step. */
static bool see_line(const char *line, size_t length, metrics_visitor visit, void *self)
{
    json_t *object = json_loadb(line, length, 0, NULL);
    json_t *step = json_object_get(object, "step");
    bool good = json_is_integer(step) && json_integer_value(step) >= 0;
    const char *name;
    json_t *field;
    if (good)
        json_object_foreach(object, name, field)
        {
            struct metrics_value value;
            if (field != step && take_value(field, &value))
                visit(self, (int64_t)json_integer_value(step), name, &value);
        }
    json_decref(object);
    return good;
}

enum status metrics_read(struct context *context, const char *path, metrics_visitor visit, void *self,
                         struct metrics_seen *seen)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    *seen = (struct metrics_seen){0};
    FILE *file = fopen(path, "r");
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    errno = 0;
    while ((length = getline(&line, &size, file)) > 0) {
        /* A run that is going on may be in the middle of its last line. */
        if (line[length - 1] != '\n')
            break;
        if (see_line(line, (size_t)length, visit, self))
            seen->lines++;
        else
            seen->broken++;
    }
    bool failed = ferror(file) || (length < 0 && !feof(file));
    int code = errno;
    free(line);
    fclose(file);
    return failed ? context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(code)) : STATUS_OK;
}
