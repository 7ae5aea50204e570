#include "src/evolve/system.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void system_create(struct context *context, struct system *system)
{
    *system = (struct system){.context = context, .scoring = {1.0, 1.0, 1.0, 1.0}};
}

void system_destroy(struct system *system)
{
    if (!system->context)
        return;
    memory_free(system->context, system->tasks);
    memory_free(system->context, system->paths);
    memory_free(system->context, system->components);
    *system = (struct system){0};
}

/* Room for one more behind `count`, which doubles at powers of two; *array stays as it is when memory is out. */
static void *append(struct context *context, void **array, int *count, size_t size, const void *item)
{
    bool full = *count == 0 || (*count >= 8 && (*count & (*count - 1)) == 0);
    if (full) {
        size_t room = *count == 0 ? 8 : 2 * (size_t)*count;
        void *grown = memory_allocate(context, room * size, MEMORY_OTHER);
        if (!grown)
            return NULL;
        if (*array)
            memcpy(grown, *array, (size_t)*count * size);
        memory_free(context, *array);
        *array = grown;
    }
    return memcpy((char *)*array + (size_t)(*count)++ * size, item, size);
}

struct task *system_add_task(struct system *system, const struct task *task)
{
    return append(system->context, (void **)&system->tasks, &system->task_count, sizeof *task, task);
}

struct path *system_add_path(struct system *system, const struct path *path)
{
    return append(system->context, (void **)&system->paths, &system->path_count, sizeof *path, path);
}

struct component *system_add_component(struct system *system, const struct component *component)
{
    return append(system->context, (void **)&system->components, &system->component_count, sizeof *component,
                  component);
}

/* Its layers are those of the space's standard value, its head that of no task: none. */
enum status system_add_root(struct system *system)
{
    struct path root = {.id = system->next_path++, .parent = -1, .task = -1};
    for (int h = 0; h < HYPERS; h++)
        root.value[h] = system->space.list[h].standard;
    memset(root.act, -1, sizeof root.act);
    int layers = (int)system->space.list[HYPER_LAYERS].value[root.value[HYPER_LAYERS]];
    for (int i = 0; i < layers + 3; i++) {
        struct component component = {.origin = -1, .task = -1};
        component.part = i < 2 ? (enum part)i : i < layers + 2 ? PART_LAYER : PART_NORM;
        component.layer = component.part == PART_LAYER ? i - 2 : 0;
        component.elements = system->sizes.elements(system->sizes.self, component.part, 0);
        /* With rotated queries and keys there are no positions. */
        if (component.part == PART_POSITIONS && component.elements == 0)
            continue;
        component.id = system->next_component++;
        root.component[root.count++] = component.id;
        if (!system_add_component(system, &component))
            return STATUS_MEMORY;
    }
    return system_add_path(system, &root) ? STATUS_OK : STATUS_MEMORY;
}

struct path *system_path(const struct system *system, int64_t id)
{
    for (int i = 0; i < system->path_count; i++)
        if (system->paths[i].id == id)
            return &system->paths[i];
    return NULL;
}

struct component *system_component(const struct system *system, int64_t id)
{
    for (int i = 0; i < system->component_count; i++)
        if (system->components[i].id == id)
            return &system->components[i];
    return NULL;
}

int system_task(const struct system *system, const char *name)
{
    for (int t = 0; t < system->task_count; t++)
        if (!system->tasks[t].removed && strcmp(system->tasks[t].name, name) == 0)
            return t;
    return -1;
}

double path_value(const struct system *system, const struct path *path, enum hyper hyper)
{
    return system->space.list[hyper].value[path->value[hyper]];
}

const struct component *path_component(const struct system *system, const struct path *path, enum part part, int layer)
{
    for (int i = 0; i < path->count; i++) {
        const struct component *component = system_component(system, path->component[i]);
        if (component && component->part == part && component->layer == layer)
            return component;
    }
    return NULL;
}

int path_layers(const struct system *system, const struct path *path)
{
    int layers = 0;
    for (int i = 0; i < path->count; i++)
        layers += system_component(system, path->component[i])->part == PART_LAYER;
    return layers;
}

static int64_t path_adapters(const struct system *system, const struct path *path)
{
    int64_t widths = 0;
    for (int i = 0; i < path->count; i++)
        widths += system_component(system, path->component[i])->width;
    return widths;
}

void component_place(const struct system *system, const struct component *component, char text[PLACE_NAME])
{
    static const char *const words[] = {"patches", "positions", "layers", "norm", "head", "adapters"};
    const char *word = system->of_texts && component->part == PART_PATCHES ? "tokens" : words[component->part];
    if (component->part == PART_LAYER || component->part == PART_ADAPTER)
        snprintf(text, PLACE_NAME, "%s.%d", word, component->layer);
    else if (component->part == PART_HEAD)
        snprintf(text, PLACE_NAME, "%s.%s", word, system->tasks[component->task].name);
    else
        snprintf(text, PLACE_NAME, "%s", word);
}

/* -- Who holds what -- */

static bool holds(const struct path *path, int64_t id)
{
    for (int i = 0; path && i < path->count; i++)
        if (path->component[i] == id)
            return true;
    return false;
}

int component_users(const struct system *system, int64_t id, int task)
{
    int users = 0;
    for (int t = 0; t < system->task_count; t++)
        users += t != task && system->tasks[t].kept >= 0 && holds(system_path(system, system->tasks[t].kept), id);
    return users;
}

bool component_locked(const struct system *system, int64_t id, int task)
{
    return holds(&system->paths[0], id) || component_users(system, id, task) > 0;
}

/* -- Scores -- */

double path_accounted(const struct system *system, const struct path *path)
{
    double sum = 0.0;
    for (int i = 0; i < path->count; i++)
        sum += (double)system_component(system, path->component[i])->elements /
               (component_users(system, path->component[i], path->task) + 1);
    return sum;
}

int64_t path_elements(const struct system *system, const struct path *path)
{
    int64_t sum = 0;
    for (int i = 0; i < path->count; i++)
        sum += system_component(system, path->component[i])->elements;
    return sum;
}

int64_t path_own(const struct system *system, const struct path *path)
{
    int64_t sum = 0;
    for (int i = 0; i < path->count; i++)
        if (!component_locked(system, path->component[i], path->task))
            sum += system_component(system, path->component[i])->elements;
    return sum;
}

double path_factor(const struct system *system, const struct path *path)
{
    const struct scoring *scoring = &system->scoring;
    double factor = 1.0;
    if (scoring->size_base != 1.0)
        factor *= pow(scoring->size_base, path_accounted(system, path) / scoring->size_unit);
    if (scoring->flops_base != 1.0 && path->task >= 0)
        factor *= pow(scoring->flops_base,
                      system->sizes.flops(system->sizes.self, path_layers(system, path), path_adapters(system, path),
                                          system->tasks[path->task].classes) /
                          scoring->flops_unit);
    return factor;
}

int64_t system_elements(const struct system *system)
{
    int64_t sum = 0;
    for (int i = 0; i < system->component_count; i++)
        if (component_users(system, system->components[i].id, -1) > 0)
            sum += system->components[i].elements;
    return sum;
}

/* -- Pruning -- */

static bool survives(const struct system *system, const struct path *path)
{
    return path->task < 0 || system->tasks[path->task].kept == path->id;
}

static void find_parents(const struct system *system)
{
    for (int i = 0; i < system->path_count; i++) {
        struct path *path = &system->paths[i];
        const struct path *parent = system_path(system, path->parent);
        while (parent && !survives(system, parent))
            parent = system_path(system, parent->parent);
        if (survives(system, path))
            path->parent = parent ? parent->id : path->task < 0 ? -1 : system->paths[0].id;
    }
}

void system_prune(struct system *system)
{
    int paths = 0;
    int components = 0;
    find_parents(system);
    for (int i = 0; i < system->path_count; i++)
        if (survives(system, &system->paths[i]))
            system->paths[paths++] = system->paths[i];
    system->path_count = paths;
    for (int i = 0; i < system->component_count; i++)
        if (component_locked(system, system->components[i].id, -1))
            system->components[components++] = system->components[i];
    system->component_count = components;
    for (int i = 0; i < system->path_count; i++) {
        struct path *path = &system->paths[i];
        path->clones = 0;
        path->score = path->quality * path_factor(system, path);
    }
}

static enum status check_path(const struct system *system, const struct path *path)
{
    long long id = path->id;
    if (path->parent >= 0 ? !system_path(system, path->parent) : path->task >= 0)
        return context_fail(system->context, STATUS_INTERNAL, "path %lld has no parent", id);
    if (path->count < 3 || path->count > PATH_COMPONENTS)
        return context_fail(system->context, STATUS_INTERNAL, "path %lld has %d components", id, path->count);
    for (int i = 0; i < path->count; i++) {
        const struct component *component = system_component(system, path->component[i]);
        if (!component)
            return context_fail(system->context, STATUS_INTERNAL, "path %lld names component %lld, which is not there",
                                id, (long long)path->component[i]);
        bool is_head = component->part == PART_HEAD;
        if (is_head != (path->task >= 0 && i == path->count - 1) || (is_head && component->task != path->task))
            return context_fail(system->context, STATUS_INTERNAL, "path %lld has no head of its own task", id);
    }
    return STATUS_OK;
}

enum status system_check(const struct system *system)
{
    double sum = 0.0;
    for (int i = 0; i < system->path_count; i++)
        CHECK(check_path(system, &system->paths[i]));
    for (int t = 0; t < system->task_count; t++) {
        const struct path *path = system_path(system, system->tasks[t].kept);
        if (system->tasks[t].kept >= 0 && !path)
            return context_fail(system->context, STATUS_INTERNAL, "task %s has lost its path", system->tasks[t].name);
        sum += path ? path_accounted(system, path) : 0.0;
    }
    double whole = (double)system_elements(system);
    if (fabs(sum - whole) > 1e-9 * whole)
        return context_fail(system->context, STATUS_INTERNAL, "accounted sizes add up to %.17g, not %.17g", sum, whole);
    return STATUS_OK;
}
