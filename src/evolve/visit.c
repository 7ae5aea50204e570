#include "src/evolve/visit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/core/random.h"

uint64_t visit_key(const struct visit *visit, int child, const char *purpose)
{
    char name[EVOLVE_NAME + 128];
    snprintf(name, sizeof name, "evolve/%lld/%s/%d/%d/%s", (long long)visit->iteration,
             visit->system->tasks[visit->task].name, visit->generation, child, purpose);
    return random_key(visit->system->seed, name);
}

/* -- Begin and end -- */

static void shuffle(const struct visit *visit)
{
    uint64_t key = visit_key(visit, 0, "seeds");
    for (int i = visit->seed_count - 1; i > 0; i--) {
        int j = (int)(random_uniform(key, (uint64_t)i) * (i + 1));
        int64_t id = visit->seeds[i];
        visit->seeds[i] = visit->seeds[j];
        visit->seeds[j] = id;
    }
}

/* Paths of other tasks that are not private, and the root. */
enum status visit_begin(struct system *system, int task, int64_t iteration, struct visit *visit)
{
    *visit = (struct visit){.system = system, .task = task, .iteration = iteration};
    visit->seeds = memory_allocate(system->context, (size_t)system->path_count * sizeof *visit->seeds, MEMORY_OTHER);
    if (!visit->seeds)
        return STATUS_MEMORY;
    for (int i = 0; i < system->path_count; i++) {
        struct path *path = &system->paths[i];
        path->clones = 0;
        if (path->task < 0 || (path->task != task && !system->tasks[path->task].private))
            visit->seeds[visit->seed_count++] = path->id;
    }
    shuffle(visit);
    return STATUS_OK;
}

void visit_destroy(struct visit *visit)
{
    if (visit->system)
        memory_free(visit->system->context, visit->seeds);
    *visit = (struct visit){0};
}

/* Of the population, behind `after` (NULL: none) in the order of falling scores, of equal ones the newest first. */
static struct path *next_of_population(const struct visit *visit, const struct path *after)
{
    struct system *system = visit->system;
    struct path *best = NULL;
    for (int i = 0; i < system->path_count; i++) {
        struct path *path = &system->paths[i];
        bool behind = !after || path->score < after->score || (path->score == after->score && path->id < after->id);
        if (path->task == visit->task && behind &&
            (!best || path->score > best->score || (path->score == best->score && path->id > best->id)))
            best = path;
    }
    return best;
}

const struct path *visit_best(const struct visit *visit)
{
    return next_of_population(visit, NULL);
}

enum status visit_end(struct visit *visit)
{
    struct system *system = visit->system;
    struct task *task = &system->tasks[visit->task];
    const struct path *best = visit_best(visit);
    task->kept = best ? best->id : -1;
    task->visits++;
    system->visits++;
    system_prune(system);
    return system_check(system);
}

/* -- What a generation shares -- */

/* Whether an action fires. Of an action with a probability of its own, that one makes a step first. `draw` counts the
 * stream's numbers. */
static bool fires(const struct system *system, double mu, signed char *act, uint64_t key, uint64_t *draw)
{
    const struct space_list *list = &system->space.actions;
    if (system->mutation == MUTATION_PATH)
        return random_uniform(key, (*draw)++) < mu;
    int place = *act;
    for (int i = 0; place < 0 && i < list->count; i++)
        if (i == list->count - 1 || mu <= list->value[i] + 1e-9)
            place = i;
    if (random_uniform(key, (*draw)++) < mu)
        place = space_step(list, place, random_uniform(key, (*draw)++) < 0.5 ? -1 : 1);
    *act = (signed char)place;
    return random_uniform(key, (*draw)++) < list->value[place];
}

/* One place up or down. */
static void step(const struct system *system, int h, int *value, uint64_t key, uint64_t *draw)
{
    *value = space_step(&system->space.list[h], *value, random_uniform(key, (*draw)++) < 0.5 ? -1 : 1);
}

void visit_generation(struct visit *visit)
{
    const struct system *system = visit->system;
    const struct space_list *list = &system->space.list[HYPER_MU];
    const struct path *best = visit_best(visit);
    const struct path *from = best ? best : &system->paths[0];
    struct shared_values *shared = &visit->shared;
    uint64_t draw = 0;
    visit->generation++;
    uint64_t key = visit_key(visit, 0, "data");
    memcpy(shared->value, from->value, sizeof shared->value);
    memcpy(shared->act, from->act, sizeof shared->act);
    /* With probabilities of actions the first values are tried as they are. */
    if (!best && system->mutation == MUTATION_ACTIONS)
        return;
    for (int h = HYPERS_OF_CHILD; h < HYPERS; h++)
        if (fires(system, list->value[list->standard], &shared->act[h], key, &draw))
            step(system, h, &shared->value[h], key, &draw);
}

/* -- Parents -- */

static bool takes(const struct path *path, uint64_t key, uint64_t *draw)
{
    return random_uniform(key, (*draw)++) < ldexp(1.0, -path->clones);
}

static struct path *choose_seed(struct visit *visit, uint64_t key, uint64_t *draw)
{
    for (int i = 0; i < visit->seed_count; i++) {
        int64_t id = visit->seeds[i];
        struct path *path = system_path(visit->system, id);
        if (!takes(path, key, draw))
            continue;
        memmove(visit->seeds + i, visit->seeds + i + 1, (size_t)(visit->seed_count - i - 1) * sizeof id);
        visit->seeds[visit->seed_count - 1] = id;
        return path;
    }
    return NULL;
}

static struct path *choose_any(const struct visit *visit, uint64_t key, uint64_t *draw)
{
    int members = 0;
    for (int i = 0; i < visit->system->path_count; i++)
        members += visit->system->paths[i].task == visit->task;
    int chosen = (int)(random_uniform(key, (*draw)++) * (members + visit->seed_count));
    if (chosen >= members)
        return system_path(visit->system, visit->seeds[chosen - members]);
    struct path *path = next_of_population(visit, NULL);
    for (; chosen > 0; chosen--)
        path = next_of_population(visit, path);
    return path;
}

static struct path *choose_parent(struct visit *visit, int index)
{
    uint64_t key = visit_key(visit, index, "parent");
    uint64_t draw = 0;
    struct path *path = next_of_population(visit, NULL);
    while (path && !takes(path, key, &draw))
        path = next_of_population(visit, path);
    if (!path)
        path = choose_seed(visit, key, &draw);
    if (!path)
        path = choose_any(visit, key, &draw);
    path->clones++;
    return path;
}

/* -- Mutations -- */

static void note(struct child *child, const char *text)
{
    size_t length = strlen(child->notes);
    snprintf(child->notes + length, sizeof child->notes - length, "%s%s", length ? ", " : "", text);
}

static void note_values(const struct system *system, const struct path *parent, struct child *child)
{
    for (int h = 0; h < HYPERS; h++) {
        char text[96];
        if (child->path.value[h] == parent->value[h])
            continue;
        snprintf(text, sizeof text, "%s %g -> %g", hyper_name((enum hyper)h), path_value(system, parent, (enum hyper)h),
                 path_value(system, &child->path, (enum hyper)h));
        note(child, text);
    }
}

static void mutate_values(const struct visit *visit, int index, struct path *path)
{
    const struct system *system = visit->system;
    uint64_t key = visit_key(visit, index, "values");
    uint64_t draw = 0;
    for (int h = 0; h < HYPERS; h++) {
        if (h >= HYPERS_OF_CHILD) {
            path->value[h] = visit->shared.value[h];
            path->act[h] = visit->shared.act[h];
        } else if (fires(system, path_value(system, path, HYPER_MU), &path->act[h], key, &draw)) {
            step(system, h, &path->value[h], key, &draw);
        }
    }
}

/* A component of the child: the parent's own if that is locked and not copied, otherwise a new one with its values, or
 * with random ones if there is no parent's. */
static enum status take_component(struct visit *visit, struct child *child, const struct component *from,
                                  enum part part, int layer, bool copied)
{
    struct system *system = visit->system;
    struct path *path = &child->path;
    char place[PLACE_NAME];
    char text[PLACE_NAME + 16];
    if (from && !copied) {
        path->component[path->count++] = from->id;
        return STATUS_OK;
    }
    struct component component = {.id = system->next_component++,
                                  .origin = from ? from->id : -1,
                                  .part = part,
                                  .layer = layer,
                                  .task = visit->task};
    if (part == PART_ADAPTER)
        component.width = from ? from->width : (int64_t)path_value(system, path, HYPER_ADAPTER_WIDTH);
    component.elements = system->sizes.elements(
        system->sizes.self, part, part == PART_ADAPTER ? component.width : system->tasks[visit->task].classes);
    path->component[path->count++] = component.id;
    component_place(system, &component, place);
    snprintf(text, sizeof text, "%s %s", from ? "copies" : "new", place);
    if (part != PART_NORM && (part != PART_HEAD || !from))
        note(child, text);
    return system_add_component(system, &component) ? STATUS_OK : STATUS_MEMORY;
}

/* The task's head of the parent or its nearest ancestor that is of the task. */
static const struct component *find_head(const struct visit *visit, const struct path *path)
{
    while (path && path->task != visit->task)
        path = system_path(visit->system, path->parent);
    return path ? system_component(visit->system, path->component[path->count - 1]) : NULL;
}

struct taking {
    struct visit *visit;
    const struct path *parent;
    struct child *child;
    uint64_t key;
    uint64_t draw;
};

static bool acts(struct taking *taking, int action)
{
    struct path *path = &taking->child->path;
    const struct system *system = taking->visit->system;
    return fires(system, path_value(system, path, HYPER_MU), &path->act[action], taking->key, &taking->draw);
}

/* What only this task holds is always copied, anything else if the action `copy` fires. */
static enum status take_part(struct taking *taking, enum part part, int layer, int copy)
{
    struct visit *visit = taking->visit;
    const struct component *from = path_component(visit->system, taking->parent, part, layer);
    bool copied = from && (!component_locked(visit->system, from->id, visit->task) || acts(taking, copy));
    return take_component(visit, taking->child, from, part, layer, copied);
}

/* The adapter of a layer: the parent's, or perhaps a new one. */
static enum status take_adapter(struct taking *taking, int layer)
{
    const struct system *system = taking->visit->system;
    if (!path_component(system, taking->parent, PART_ADAPTER, layer) &&
        !(system->adapters && acts(taking, ACTION_ADD + layer)))
        return STATUS_OK;
    return take_part(taking, PART_ADAPTER, layer, ACTION_ADAPTER + layer);
}

static enum status take_components(struct visit *visit, int index, const struct path *parent, struct child *child)
{
    struct system *system = visit->system;
    int layers = (int)path_value(system, &child->path, HYPER_LAYERS);
    struct taking taking = {.visit = visit, .parent = parent, .child = child, .key = visit_key(visit, index, "copies")};
    CHECK(take_part(&taking, PART_PATCHES, 0, ACTION_PATCHES));
    if (path_component(system, parent, PART_POSITIONS, 0))
        CHECK(take_part(&taking, PART_POSITIONS, 0, ACTION_POSITIONS));
    for (int layer = 0; layer < layers; layer++) {
        CHECK(take_adapter(&taking, layer));
        CHECK(take_part(&taking, PART_LAYER, layer, ACTION_LAYER + layer));
    }
    CHECK(take_component(visit, child, path_component(system, parent, PART_NORM, 0), PART_NORM, 0, true));
    return take_component(visit, child, find_head(visit, parent), PART_HEAD, 0, true);
}

enum status visit_sample(struct visit *visit, int index, struct child *child)
{
    struct system *system = visit->system;
    const struct path *parent = choose_parent(visit, index);
    *child = (struct child){.bar = parent->task == visit->task ? parent->score : -INFINITY, .path = *parent};
    struct path *path = &child->path;
    path->id = system->next_path++;
    path->parent = parent->id;
    path->task = visit->task;
    path->count = path->clones = 0;
    path->quality = path->score = 0.0;
    mutate_values(visit, index, path);
    note_values(system, parent, child);
    return take_components(visit, index, parent, child);
}

enum status visit_accept(struct visit *visit, struct child *child, double quality)
{
    child->path.quality = quality;
    child->path.score = quality * path_factor(visit->system, &child->path);
    return system_add_path(visit->system, &child->path) ? STATUS_OK : STATUS_MEMORY;
}
