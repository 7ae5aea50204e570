#include "src/train/image_facts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/core/text.h"

static json_t *numbers(const double *values, int64_t count)
{
    json_t *array = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(array, json_real(values[i]));
    return array;
}

static json_t *names_of(const struct image_set *set)
{
    json_t *array = json_array();
    for (int64_t c = 0; c < image_set_facts(set)->classes; c++)
        json_array_append_new(array, json_text(image_set_class_name(set, c)));
    return array;
}

static char *dump(struct context *context, const json_t *object, size_t *length)
{
    *length = json_dumpb(object, NULL, 0, JSON_COMPACT);
    char *text = memory_allocate(context, *length + 1, MEMORY_OTHER);
    if (text)
        json_dumpb(object, text, *length, JSON_COMPACT);
    return text;
}

enum status image_facts_write(struct context *context, const struct image_set *set, const struct image_moments *moments,
                              size_t most, char **text)
{
    int64_t channels = image_set_facts(set)->channels;
    size_t length;
    json_t *object = json_object();
    json_object_set_new(object, "mean", numbers(moments->mean, channels));
    json_object_set_new(object, "deviation", numbers(moments->deviation, channels));
    json_object_set_new(object, "classes", names_of(set));
    *text = dump(context, object, &length);
    if (*text && length >= most) {
        memory_free(context, *text);
        json_object_set_new(object, "classes", json_integer((json_int_t)image_set_facts(set)->classes));
        *text = dump(context, object, &length);
    }
    json_decref(object);
    return *text ? STATUS_OK : STATUS_MEMORY;
}

/* Up to IMAGE_CHANNELS finite numbers; returns how many, or -1. */
static int64_t read_numbers(const json_t *array, double *values)
{
    int64_t count = (int64_t)json_array_size(array);
    if (!json_is_array(array) || count < 1 || count > IMAGE_CHANNELS)
        return -1;
    for (int64_t i = 0; i < count; i++) {
        values[i] = json_number_value(json_array_get(array, (size_t)i));
        if (!json_is_number(json_array_get(array, (size_t)i)) || !isfinite(values[i]))
            return -1;
    }
    return count;
}

static enum status read_names(struct context *context, const json_t *array, struct image_facts *facts)
{
    facts->name = memory_allocate(context, (size_t)facts->classes * sizeof *facts->name, MEMORY_OTHER);
    if (!facts->name)
        return STATUS_MEMORY;
    for (int64_t c = 0; c < facts->classes; c++) {
        const char *name = json_string_value(json_array_get(array, (size_t)c));
        facts->name[c] = memory_allocate(context, strlen(name ? name : "") + 1, MEMORY_OTHER);
        if (!facts->name[c])
            return STATUS_MEMORY;
        strcpy(facts->name[c], name ? name : "");
    }
    return STATUS_OK;
}

enum status image_facts_read(struct context *context, const char *path, const char *text, struct image_facts *facts)
{
    *facts = (struct image_facts){0};
    json_t *object = json_loads(text, 0, NULL);
    const json_t *classes = json_object_get(object, "classes");
    facts->channels = read_numbers(json_object_get(object, "mean"), facts->moments.mean);
    bool sound = facts->channels > 0 &&
                 read_numbers(json_object_get(object, "deviation"), facts->moments.deviation) == facts->channels &&
                 (json_is_array(classes) || json_is_integer(classes));
    enum status status = STATUS_OK;
    if (!sound)
        status = context_fail(context, STATUS_FILE,
                              "%s: does not say how its images were normalised; it is no checkpoint of a run on images",
                              path);
    facts->classes = json_is_array(classes) ? (int64_t)json_array_size(classes) : json_integer_value(classes);
    if (status == STATUS_OK && json_is_array(classes))
        status = read_names(context, classes, facts);
    json_decref(object);
    return status;
}

void image_facts_destroy(struct context *context, struct image_facts *facts)
{
    for (int64_t c = 0; facts->name && c < facts->classes; c++)
        memory_free(context, facts->name[c]);
    memory_free(context, facts->name);
    *facts = (struct image_facts){0};
}

const char *image_facts_name(const struct image_facts *facts, int64_t label, char number[24])
{
    if (facts->name && label < facts->classes)
        return facts->name[label];
    snprintf(number, 24, "%lld", (long long)label);
    return number;
}
