#include "src/evolve/record.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/json/json.h"
#include "src/train/run_folder.h"

enum { RECORD_PATH = 800, RECORD_VERSION = 1 };

/* -- Writing -- */

static json_t *list_of(const signed char *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *write_task(const struct task *task)
{
    json_t *object =
        json_form("{s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:b, s:I, s:I}", "name", task->name, "train", task->train,
                  "validation", task->validation, "test", task->test, "classes", (json_int_t)task->classes, "samples",
                  (json_int_t)task->samples, "private", (int)task->private, "removed", (int)task->removed, "kept",
                  (json_int_t)task->kept, "visits", (json_int_t)task->visits);
    json_set_number(object, "accuracy", task->accuracy);
    return object;
}

static json_t *write_path(const struct system *system, const struct path *path)
{
    json_t *places = json_object();
    json_t *components = json_array();
    for (int h = 0; h < HYPERS; h++)
        json_object_set_new(places, hyper_name((enum hyper)h), json_integer(path->value[h]));
    for (int i = 0; i < path->count; i++)
        json_array_append_new(components, json_integer((json_int_t)path->component[i]));
    json_t *object = json_form("{s:I, s:I, s:i, s:f, s:f, s:o, s:o}", "id", (json_int_t)path->id, "parent",
                               (json_int_t)path->parent, "task", path->task, "quality", path->quality, "score",
                               path->score, "places", places, "components", components);
    if (system->mutation == MUTATION_ACTIONS)
        json_object_set_new(object, "actions", list_of(path->act, ACTIONS));
    return object;
}

static json_t *write_component(const struct component *component)
{
    return json_form("{s:I, s:I, s:i, s:i, s:i, s:I, s:I}", "id", (json_int_t)component->id, "origin",
                     (json_int_t)component->origin, "part", (int)component->part, "layer", component->layer, "task",
                     component->task, "width", (json_int_t)component->width, "elements",
                     (json_int_t)component->elements);
}

static char *write_text(const struct system *system, const char *settings, const json_t *history)
{
    json_t *tasks = json_array();
    json_t *paths = json_array();
    json_t *components = json_array();
    for (int i = 0; i < system->task_count; i++)
        json_array_append_new(tasks, write_task(&system->tasks[i]));
    for (int i = 0; i < system->path_count; i++)
        json_array_append_new(paths, write_path(system, &system->paths[i]));
    for (int i = 0; i < system->component_count; i++)
        json_array_append_new(components, write_component(&system->components[i]));
    json_t *object =
        json_form("{s:i, s:s, s:I, s:I, s:I, s:o, s:o, s:o}", "version", (int)RECORD_VERSION, "settings", settings,
                  "next_component", (json_int_t)system->next_component, "next_path", (json_int_t)system->next_path,
                  "visits", (json_int_t)system->visits, "tasks", tasks, "paths", paths, "components", components);
    json_object_set(object, "history", (json_t *)(uintptr_t)history);
    char *text = object ? json_dumps(object, JSON_INDENT(1)) : NULL;
    json_decref(object);
    return text;
}

static void state_name(int64_t visits, char name[64])
{
    snprintf(name, 64, "state-%06lld.json", (long long)visits);
}

enum status record_write(const struct system *system, const char *folder, const char *settings, const json_t *history,
                         int64_t keep)
{
    struct context *context = system->context;
    char name[64];
    char path[RECORD_PATH];
    char *text = write_text(system, settings, history);
    if (!text)
        return context_fail(context, STATUS_MEMORY, "out of memory");
    state_name(system->visits, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    enum status status = run_folder_write(context, path, text);
    free(text);
    CHECK(status);
    snprintf(path, sizeof path, "%s/latest", folder);
    CHECK(run_folder_write(context, path, name));
    if (system->visits >= keep) {
        state_name(system->visits - keep, name);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        (void)unlink(path);
    }
    return STATUS_OK;
}

/* -- Reading -- */

static enum status read_file(struct context *context, const char *path, char **text)
{
    *text = NULL;
    FILE *file = fopen(path, "r");
    if (!file && errno == ENOENT)
        return STATUS_OK;
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: %s", path, strerror(errno));
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    *text = size >= 0 ? memory_allocate(context, (size_t)size + 1, MEMORY_OTHER) : NULL;
    bool whole = *text && fread(*text, 1, (size_t)size, file) == (size_t)size;
    fclose(file);
    return whole ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: cannot be read", path);
}

enum status record_find(struct context *context, const char *folder, char **text)
{
    char path[RECORD_PATH];
    char *name;
    snprintf(path, sizeof path, "%s/latest", folder);
    CHECK(read_file(context, path, &name));
    *text = NULL;
    if (!name)
        return STATUS_OK;
    snprintf(path, sizeof path, "%s/%.63s", folder, name);
    memory_free(context, name);
    CHECK(read_file(context, path, text));
    return *text ? STATUS_OK
                 : context_fail(context, STATUS_FILE, "%s: missing, though %s/latest names it", path, folder);
}

static enum status refuse(struct context *context, const char *what)
{
    return context_fail(context, STATUS_FILE, "the state of the system is damaged: %s", what);
}

enum status record_settings(struct context *context, const char *text, char **settings, json_t **history)
{
    json_error_t error;
    json_t *object = json_loads(text, 0, &error);
    const char *found = json_string_value(json_object_get(object, "settings"));
    *settings = NULL;
    enum status status = found ? STATUS_OK : refuse(context, object ? "it has no settings" : error.text);
    if (found && json_integer_value(json_object_get(object, "version")) != RECORD_VERSION)
        status = refuse(context, "it is of another version");
    if (status == STATUS_OK) {
        *settings = memory_allocate(context, strlen(found) + 1, MEMORY_OTHER);
        status = *settings ? STATUS_OK : STATUS_MEMORY;
    }
    if (status == STATUS_OK) {
        strcpy(*settings, found);
        if (history)
            *history = json_incref(json_object_get(object, "history"));
    }
    json_decref(object);
    return status;
}

static int64_t number_of(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}

static bool read_text(const json_t *object, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && (size_t)snprintf(to, size, "%s", text) < size;
}

static enum status read_task(struct system *system, const json_t *object)
{
    struct task task = {.classes = number_of(object, "classes"),
                        .samples = number_of(object, "samples"),
                        .private = json_is_true(json_object_get(object, "private")),
                        .removed = json_is_true(json_object_get(object, "removed")),
                        .kept = number_of(object, "kept"),
                        .visits = number_of(object, "visits"),
                        .accuracy = NAN};
    const json_t *accuracy = json_object_get(object, "accuracy");
    if (json_is_number(accuracy))
        task.accuracy = json_number_value(accuracy);
    if (!read_text(object, "name", task.name, sizeof task.name) ||
        !read_text(object, "train", task.train, sizeof task.train) ||
        !read_text(object, "validation", task.validation, sizeof task.validation) ||
        !read_text(object, "test", task.test, sizeof task.test))
        return refuse(system->context, "a task lacks its name or its images");
    return system_add_task(system, &task) ? STATUS_OK : STATUS_MEMORY;
}

static enum status read_path(struct system *system, const json_t *object)
{
    struct path path = {.id = number_of(object, "id"),
                        .parent = number_of(object, "parent"),
                        .task = (int)number_of(object, "task"),
                        .quality = json_number_value(json_object_get(object, "quality")),
                        .score = json_number_value(json_object_get(object, "score"))};
    const json_t *components = json_object_get(object, "components");
    const json_t *actions = json_object_get(object, "actions");
    if (path.task < -1 || path.task >= system->task_count || json_array_size(components) > PATH_COMPONENTS)
        return refuse(system->context, "a path of no task, or of too many components");
    path.count = (int)json_array_size(components);
    for (int i = 0; i < path.count; i++)
        path.component[i] = (int64_t)json_integer_value(json_array_get(components, (size_t)i));
    memset(path.act, -1, sizeof path.act);
    for (int i = 0; i < ACTIONS && i < (int)json_array_size(actions); i++)
        path.act[i] = (signed char)json_integer_value(json_array_get(actions, (size_t)i));
    for (int h = 0; h < HYPERS; h++) {
        path.value[h] = (int)number_of(json_object_get(object, "places"), hyper_name((enum hyper)h));
        if (path.value[h] < 0 || path.value[h] >= system->space.list[h].count)
            return refuse(system->context, "a hyperparameter outside of its list");
    }
    return system_add_path(system, &path) ? STATUS_OK : STATUS_MEMORY;
}

static enum status read_component(struct system *system, const json_t *object)
{
    struct component component = {.id = number_of(object, "id"),
                                  .origin = number_of(object, "origin"),
                                  .part = (enum part)number_of(object, "part"),
                                  .layer = (int)number_of(object, "layer"),
                                  .task = (int)number_of(object, "task"),
                                  .width = number_of(object, "width"),
                                  .elements = number_of(object, "elements")};
    if (component.part > PART_ADAPTER || component.task < -1 || component.task >= system->task_count)
        return refuse(system->context, "a component of no part or task");
    return system_add_component(system, &component) ? STATUS_OK : STATUS_MEMORY;
}

static enum status read_each(struct system *system, const json_t *object, const char *key,
                             enum status (*read)(struct system *system, const json_t *object))
{
    const json_t *list = json_object_get(object, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        CHECK(read(system, json_array_get(list, i)));
    return STATUS_OK;
}

enum status record_read(struct system *system, const char *text)
{
    enum status status;
    json_t *object = json_loads(text, 0, NULL);
    if (!object)
        return refuse(system->context, "it is no JSON");
    system->next_component = number_of(object, "next_component");
    system->next_path = number_of(object, "next_path");
    system->visits = number_of(object, "visits");
    TRY(read_each(system, object, "tasks", read_task));
    TRY(read_each(system, object, "components", read_component));
    TRY(read_each(system, object, "paths", read_path));
    status = system->path_count > 0 && system->paths[0].task < 0 ? system_check(system)
                                                                 : refuse(system->context, "it has no root");
done:
    json_decref(object);
    return status;
}
