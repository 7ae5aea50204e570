#include "src/evolve/evolve.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"
#include "io/json/json.h"
#include "io/texts/texts.h"
#include "src/core/text.h"
#include "src/evolve/agents.h"
#include "src/evolve/clean.h"
#include "src/evolve/store.h"
#include "src/train/image_source.h"
#include "src/train/run_folder.h"

enum { SETTINGS = CHECKPOINT_CONFIG_SIZE };

/* -- Opening -- */

/* Groups of the mesh's size; an axis of auto has one rank. */
static enum status divide(struct evolve *evolve, struct team *job)
{
    struct context *context = evolve->context;
    struct mesh_config mesh = evolve->config->mesh;
    int64_t *const axes[] = {&mesh.data, &mesh.pipeline, &mesh.context, &mesh.tensor};
    int64_t size = 1;
    for (int i = 0; i < 4; i++) {
        *axes[i] = integer_max(1, *axes[i]);
        size *= *axes[i];
    }
    int ranks = mesh_size(evolve->world, MESH_TEAM);
    int rank = mesh_rank(evolve->world, MESH_TEAM);
    if (ranks % size != 0)
        return context_fail(context, STATUS_USAGE,
                            "%d ranks do not divide into groups of %lld, which is what mesh makes of a group", ranks,
                            (long long)size);
    evolve->groups = ranks / (int)size;
    evolve->group = rank / (int)size;
    CHECK(team_create(context, job, evolve->group, &evolve->team));
    CHECK(mesh_create(context, evolve->team, &mesh, &evolve->mesh));
    return counter_create(context, job, &evolve->counter);
}

static void set_up_system(struct evolve *evolve)
{
    const struct evolve_config *wanted = &evolve->config->evolve;
    struct system *system = &evolve->system;
    system->seed = evolve->config->training.seed;
    system->mutation = (enum mutation)wanted->mutation;
    system->adapters = wanted->adapters;
    system->of_texts = evolve->config->model.family == FAMILY_DECODER;
    system->sizes = (struct sizes){&evolve->trial, trial_elements, trial_flops};
    evolve->trial = (struct trial){.context = evolve->context,
                                   .mesh = evolve->mesh,
                                   .engine = evolve->engine,
                                   .system = system,
                                   .config = evolve->config,
                                   .settings = evolve->settings,
                                   .group = evolve->group};
    system->scoring = (struct scoring){.size_base = wanted->size_base,
                                       .size_unit = wanted->size_unit,
                                       .flops_base = wanted->flops_base,
                                       .flops_unit = wanted->flops_unit};
}

/* A mesh must take the model at every depth that a path may come to. */
static enum status check_depths(struct evolve *evolve)
{
    const struct space_list *depths = &evolve->system.space.list[HYPER_LAYERS];
    struct model_config model = evolve->config->model;
    if (model.family == FAMILY_DECODER)
        model.classes = model.image.classes = integer_max(1, model.classes);
    if (model.adapters[0])
        return context_fail(evolve->context, STATUS_USAGE,
                            "model.adapters: a system's root has none, and paths get theirs by evolve.adapters");
    if (model.layers > SPACE_LAYERS)
        return context_fail(evolve->context, STATUS_USAGE, "model.layers: a path has at most %d layers, not %lld",
                            SPACE_LAYERS, (long long)model.layers);
    for (int i = 0; i < depths->count; i++) {
        model.layers = (int64_t)depths->value[i];
        CHECK(model_find(&model)->check(evolve->context, &model, mesh_config(evolve->mesh)));
    }
    if (depths->value[depths->standard] != (double)evolve->config->model.layers)
        return context_fail(evolve->context, STATUS_USAGE,
                            "evolve.space: paths begin with %g layers, but model.layers, which the root has, is %lld",
                            depths->value[depths->standard], (long long)evolve->config->model.layers);
    return STATUS_OK;
}

/* Units that are not given: the root's. */
static void find_units(struct evolve *evolve)
{
    struct system *system = &evolve->system;
    if (system->scoring.size_unit == 0.0)
        system->scoring.size_unit = (double)path_elements(system, &system->paths[0]);
    if (system->scoring.flops_unit == 0.0)
        system->scoring.flops_unit = trial_flops(&evolve->trial, path_layers(system, &system->paths[0]), 0, 1);
}

enum status evolve_share_text(struct evolve *evolve, char **text)
{
    int64_t length = *text ? (int64_t)strlen(*text) : -1;
    mesh_broadcast(evolve->world, MESH_TEAM, 0, &length, 1, DTYPE_I64);
    if (length < 0)
        return STATUS_OK;
    if (!evolve->first)
        *text = memory_allocate(evolve->context, (size_t)length + 1, MEMORY_OTHER);
    CHECK(mesh_agree(evolve->world, evolve->context, *text ? STATUS_OK : STATUS_MEMORY));
    mesh_broadcast(evolve->world, MESH_TEAM, 0, *text, length + 1, DTYPE_BYTE);
    return STATUS_OK;
}

struct comparison_of_settings {
    struct context *context;
    enum status status;
};

/* More iterations, other threads and another folder change nothing that is there. */
static void compare(void *self, const char *key, const char (*values)[CONFIG_VALUE], int count)
{
    static const char *const free_keys[] = {"evolve.iterations", "evolve.tasks",         "compute.threads",
                                            "data.threads",      "checkpoint.keep_last", "run.folder"};
    struct comparison_of_settings *comparison = self;
    (void)count;
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (strcmp(key, free_keys[i]) == 0)
            return;
    if (comparison->status == STATUS_OK)
        comparison->status = context_fail(comparison->context, STATUS_USAGE,
                                          "%s: the system in the folder has %s, the configuration %s; name another "
                                          "run.folder, or leave the setting as it was",
                                          key, values[0], values[1]);
}

static enum status check_settings(struct evolve *evolve, const char *text)
{
    struct context *context = evolve->context;
    struct comparison_of_settings comparison = {.context = context};
    char *settings;
    CHECK(record_settings(context, text, &settings, &evolve->history));
    struct config *stored = memory_allocate(context, sizeof *stored, MEMORY_OTHER);
    enum status status = stored ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK)
        status = config_parse(context, "the state", settings, strlen(settings), NULL, 0, stored);
    if (status == STATUS_OK) {
        const struct config *const both[] = {stored, evolve->config};
        config_differences(both, 2, compare, &comparison);
        status = comparison.status;
    }
    memory_free(context, stored);
    memory_free(context, settings);
    return status;
}

static enum status begin_system(struct evolve *evolve)
{
    evolve->history = json_array();
    CHECK(system_add_root(&evolve->system));
    return evolve->context->status;
}

/* Takes the folder, and removes what was not finished in it. */
static enum status take_folder(struct evolve *evolve)
{
    const char *folder = evolve->config->run.folder;
    CHECK(run_folder_make(evolve->context, folder));
    CHECK(lock_take(evolve->context, folder, &evolve->lock));
    return clean_prepare(evolve->context, folder);
}

/* Children of the visit under way are told of again. */
static enum status open_metrics(struct evolve *evolve)
{
    char path[CHECKPOINT_PATH];
    snprintf(path, sizeof path, "%.700s/metrics.jsonl", evolve->config->run.folder);
    return metrics_open(evolve->context, path, evolve->system.next_path - 1, NULL, &evolve->metrics);
}

/* Whether every component is there, whole. */
static enum status verify(struct evolve *evolve)
{
    for (int i = 0; i < evolve->system.component_count; i++) {
        char path[CHECKPOINT_PATH];
        store_path(evolve->config->run.folder, evolve->system.components[i].id, path);
        CHECK(checkpoint_verify(evolve->context, evolve->world, path));
    }
    return STATUS_OK;
}

static enum status open_state(struct evolve *evolve, bool writes)
{
    struct context *context = evolve->context;
    const char *folder = evolve->config->run.folder;
    char *text = NULL;
    enum status status = evolve->first && writes ? take_folder(evolve) : STATUS_OK;
    if (status == STATUS_OK && evolve->first)
        status = record_find(context, folder, &text);
    TRY(mesh_agree(evolve->world, context, status));
    TRY(evolve_share_text(evolve, &text));
    status = text ? check_settings(evolve, text) : begin_system(evolve);
    if (status == STATUS_OK && text)
        status = record_read(&evolve->system, text);
    TRY(mesh_agree(evolve->world, context, status));
    TRY(agents_take_up(evolve));
    status = writes && evolve->first ? open_metrics(evolve) : STATUS_OK;
    TRY(mesh_agree(evolve->world, context, status));
    if (text && writes)
        status = verify(evolve);
    else if (!text)
        status = mesh_agree(evolve->world, context, evolve->group == 0 ? trial_root(&evolve->trial) : STATUS_OK);
done:
    memory_free(context, text);
    return status;
}

enum status evolve_open(struct context *context, struct team *job, struct mesh *world, struct engine *engine,
                        struct config *config, bool writes, struct evolve *evolve)
{
    *evolve = (struct evolve){.context = context,
                              .world = world,
                              .engine = engine,
                              .config = config,
                              .first = mesh_rank(world, MESH_TEAM) == 0,
                              .agent = -1,
                              .begin = clock_seconds()};
    system_create(context, &evolve->system);
    CHECK(divide(evolve, job));
    evolve->settings = memory_allocate(context, SETTINGS, MEMORY_OTHER);
    enum status status = evolve->settings ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK && config_format(config, evolve->settings, SETTINGS) >= SETTINGS)
        status = context_fail(context, STATUS_USAGE, "the configuration is longer than a state can hold");
    space_standard(&evolve->system.space, config->model.layers);
    if (config->model.family == FAMILY_DECODER)
        space_fix_data(&evolve->system.space);
    if (status == STATUS_OK)
        status = space_read(context, &config->evolve.space, &evolve->system.space);
    if (status == STATUS_OK)
        status = check_depths(evolve);
    CHECK(mesh_agree(world, context, status));
    set_up_system(evolve);
    CHECK(open_state(evolve, writes));
    find_units(evolve);
    return STATUS_OK;
}

void evolve_close(struct evolve *evolve)
{
    if (!evolve->context)
        return;
    metrics_close(&evolve->metrics);
    lock_release(&evolve->lock);
    json_decref(evolve->history);
    system_destroy(&evolve->system);
    memory_free(evolve->context, evolve->settings);
    counter_destroy(&evolve->counter);
    mesh_destroy(&evolve->mesh);
    team_destroy(&evolve->team);
}

/* -- Tasks -- */

static enum status count_images(struct evolve *evolve, const char *name, int64_t *count, int64_t *classes)
{
    struct image_set *set = NULL;
    struct text_list names = {.count = 1};
    struct config *config = memory_allocate(evolve->context, sizeof *config, MEMORY_OTHER);
    if (!config)
        return STATUS_MEMORY;
    *config = *evolve->config;
    config->model.image.classes = INT32_MAX;
    (void)text_copy(names.item[0], sizeof names.item[0], name);
    enum status status = images_open(evolve->context, config, &names, &set);
    if (status == STATUS_OK) {
        *count = image_set_facts(set)->count;
        *classes = image_set_facts(set)->classes;
    }
    image_set_close(&set);
    memory_free(evolve->context, config);
    return status;
}

static enum status count_texts(struct evolve *evolve, const char *name, int64_t *count, int64_t *classes)
{
    struct texts *texts = NULL;
    enum status status = texts_open(evolve->context, name, &texts);
    if (status == STATUS_OK) {
        *count = texts_count(texts);
        *classes = texts_classes(texts);
    }
    texts_close(&texts);
    return status;
}

static enum status add_task(struct evolve *evolve, const struct task_row *row)
{
    struct task task = {.classes = row->classes, .private = row->private, .kept = -1, .accuracy = NAN};
    int64_t classes;
    int known = system_task(&evolve->system, row->name);
    if (known >= 0 && strcmp(evolve->system.tasks[known].train, row->train) == 0)
        return STATUS_OK;
    if (known >= 0)
        return context_fail(evolve->context, STATUS_USAGE,
                            "there is a task %s already, of other images (%s); choose another name", row->name,
                            evolve->system.tasks[known].train);
    CHECK((evolve->system.of_texts ? count_texts : count_images)(evolve, row->train, &task.samples, &classes));
    task.classes = integer_max(task.classes, classes);
    (void)text_copy(task.name, sizeof task.name, row->name);
    (void)text_copy(task.train, sizeof task.train, row->train);
    (void)text_copy(task.validation, sizeof task.validation, row->validation);
    (void)text_copy(task.test, sizeof task.test, row->test);
    return system_add_task(&evolve->system, &task) ? STATUS_OK : STATUS_MEMORY;
}

enum status evolve_add(struct evolve *evolve, const struct task_row *rows, int count)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < count && status == STATUS_OK; i++)
        status = add_task(evolve, &rows[i]);
    return mesh_agree(evolve->world, evolve->context, status);
}

static enum status find_task(struct evolve *evolve, const char *name, int *task)
{
    *task = system_task(&evolve->system, name);
    if (*task >= 0)
        return STATUS_OK;
    return context_fail(evolve->context, STATUS_USAGE, "%s has no task %s; `cairn evolve --status` lists them",
                        evolve->config->run.folder, name);
}

enum status evolve_remove(struct evolve *evolve, const char *name)
{
    int task;
    CHECK(find_task(evolve, name, &task));
    evolve->system.tasks[task].kept = -1;
    evolve->system.tasks[task].removed = true;
    evolve->system.visits++;
    system_prune(&evolve->system);
    CHECK(system_check(&evolve->system));
    return evolve_publish(evolve);
}

enum status evolve_find(struct evolve *evolve, const char *name, const struct path **path)
{
    int task;
    CHECK(find_task(evolve, name, &task));
    *path = system_path(&evolve->system, evolve->system.tasks[task].kept);
    return *path ? STATUS_OK : context_fail(evolve->context, STATUS_USAGE, "task %s has had no visit yet", name);
}

enum status evolve_export(struct evolve *evolve, const char *name, const char *folder)
{
    const struct path *path;
    enum status status = STATUS_OK;
    CHECK(evolve_find(evolve, name, &path));
    if (evolve->first)
        status = run_folder_make(evolve->context, folder);
    CHECK(mesh_agree(evolve->world, evolve->context, status));
    return mesh_agree(evolve->world, evolve->context,
                      evolve->group == 0 ? trial_export(&evolve->trial, path, folder) : STATUS_OK);
}

/* -- State -- */

enum status evolve_read_again(struct evolve *evolve)
{
    struct system *system = &evolve->system;
    char *text = NULL;
    enum status status = evolve->first ? record_find(evolve->context, evolve->config->run.folder, &text) : STATUS_OK;
    TRY(mesh_agree(evolve->world, evolve->context, status));
    TRY(evolve_share_text(evolve, &text));
    system->task_count = system->path_count = system->component_count = 0;
    status = mesh_agree(evolve->world, evolve->context, record_read(system, text));
done:
    memory_free(evolve->context, text);
    return status;
}

enum status evolve_publish(struct evolve *evolve)
{
    if (evolve->agent >= 0)
        return agents_publish(evolve);
    enum status status = STATUS_OK;
    const char *folder = evolve->config->run.folder;
    if (evolve->first)
        status = lock_check(evolve->context, evolve->lock);
    if (evolve->first && status == STATUS_OK)
        status = record_write(&evolve->system, folder, evolve->settings, evolve->history,
                              evolve->config->checkpoint.keep_last);
    if (evolve->first && status == STATUS_OK) {
        clean_unnamed(&evolve->system, folder);
        clean_agents(&evolve->system, folder);
    }
    return mesh_agree(evolve->world, evolve->context, status);
}
