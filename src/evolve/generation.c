/* A generation over the groups: who trains which child, and what came of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json/json.h"
#include "src/evolve/evolve.h"
#include "src/train/run_folder.h"

enum { NUMBERS = 8 }; /* of a result: known, then as in struct trial_result */

static void result_path(const struct evolve *evolve, const struct visit *visit, int index, char path[CHECKPOINT_PATH])
{
    snprintf(path, CHECKPOINT_PATH, "%s/children/%s%06lld-%04d-%04d.json", evolve->config->run.folder,
             evolve->agent < 0 ? "" : evolve->system.tasks[visit->task].name, (long long)evolve->system.visits,
             visit->generation, index);
}

static void result_to_numbers(const struct trial_result *result, double numbers[NUMBERS])
{
    numbers[0] = 1.0;
    numbers[1] = result->quality;
    numbers[2] = result->kept;
    numbers[3] = result->finite;
    numbers[4] = (double)result->steps;
    numbers[5] = result->seconds;
    numbers[6] = result->processor_seconds;
    numbers[7] = result->group;
}

static void result_from_numbers(const double numbers[NUMBERS], struct trial_result *result)
{
    *result = (struct trial_result){.quality = numbers[1],
                                    .kept = numbers[2] > 0.0,
                                    .finite = numbers[3] > 0.0,
                                    .steps = (int64_t)numbers[4],
                                    .seconds = numbers[5],
                                    .processor_seconds = numbers[6],
                                    .group = (int)numbers[7]};
}

/* What an earlier start has finished: the components are complete before the result is there. */
static void read_result(const struct evolve *evolve, const struct visit *visit, int index, double numbers[NUMBERS])
{
    char path[CHECKPOINT_PATH];
    result_path(evolve, visit, index, path);
    json_t *object = json_load_file(path, 0, NULL);
    const json_t *list = json_object_get(object, "result");
    for (size_t i = 0; json_array_size(list) == NUMBERS && i < NUMBERS; i++)
        numbers[i] = json_number_value(json_array_get(list, i));
    json_decref(object);
}

static enum status write_result(const struct evolve *evolve, const struct visit *visit, int index,
                                const double numbers[NUMBERS])
{
    char path[CHECKPOINT_PATH];
    json_t *list = json_array();
    for (int i = 0; i < NUMBERS; i++)
        json_array_append_new(list, json_real(numbers[i]));
    json_t *object = json_form("{s:o}", "result", list);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text)
        return context_fail(evolve->context, STATUS_MEMORY, "out of memory");
    result_path(evolve, visit, index, path);
    enum status status = run_folder_write(evolve->context, path, text);
    free(text);
    return status;
}

/* Layers that a step passes forward, and twice those that it passes backward. */
static double cost_of(const struct evolve *evolve, const struct child *child)
{
    const struct path *path = &child->path;
    int lowest = 0;
    while (lowest < path->count - 1 && component_locked(&evolve->system, path->component[lowest], path->task))
        lowest++;
    return path->count + 2.0 * (path->count - lowest);
}

/* The children that are not known yet, the longest first; returns their number. */
static int find_order(const struct evolve *evolve, const struct child *children, const double *numbers, int count,
                      int *order)
{
    int pending = 0;
    for (int i = 0; i < count; i++) {
        int at = pending;
        if (numbers[i * NUMBERS] > 0.0)
            continue;
        for (; at > 0 && cost_of(evolve, &children[order[at - 1]]) < cost_of(evolve, &children[i]); at--)
            order[at] = order[at - 1];
        order[at] = i;
        pending++;
    }
    return pending;
}

static int64_t take_next(struct evolve *evolve)
{
    int64_t next = 0;
    if (mesh_rank(evolve->mesh, MESH_TEAM) == 0)
        next = counter_add(evolve->counter, 1);
    mesh_broadcast(evolve->mesh, MESH_TEAM, 0, &next, 1, DTYPE_I64);
    return next;
}

/* The children that this group comes to. Agreed in the group only. */
static enum status train_some(struct evolve *evolve, const struct visit *visit, const struct child *children,
                              const int *order, int pending, double *numbers)
{
    bool leads = mesh_rank(evolve->mesh, MESH_TEAM) == 0;
    for (int64_t next = take_next(evolve); next < pending; next = take_next(evolve)) {
        int index = order[next];
        struct trial_result result;
        CHECK(trial_run(&evolve->trial, visit, index + 1, &children[index], &result));
        double mine[NUMBERS];
        result_to_numbers(&result, mine);
        if (leads)
            memcpy(numbers + (ptrdiff_t)index * NUMBERS, mine, sizeof mine);
        CHECK(mesh_agree(evolve->mesh, evolve->context,
                         leads ? write_result(evolve, visit, index + 1, mine) : STATUS_OK));
    }
    return STATUS_OK;
}

static enum status train_pending(struct evolve *evolve, const struct visit *visit, const struct child *children,
                                 double *numbers, int *order)
{
    int count = (int)evolve->config->evolve.children;
    if (evolve->first)
        for (int i = 0; i < count; i++)
            read_result(evolve, visit, i + 1, numbers + (ptrdiff_t)i * NUMBERS);
    mesh_broadcast(evolve->world, MESH_TEAM, 0, numbers, (int64_t)count * NUMBERS, DTYPE_F64);
    int pending = find_order(evolve, children, numbers, count, order);
    for (int i = 0; i < count * NUMBERS && !evolve->first; i++)
        numbers[i] = 0.0;
    counter_reset(evolve->counter);
    enum status status = train_some(evolve, visit, children, order, pending, numbers);
    /* The others begin nothing more. */
    if (status != STATUS_OK)
        (void)counter_add(evolve->counter, pending);
    CHECK(mesh_agree(evolve->world, evolve->context, status));
    mesh_all_reduce(evolve->world, MESH_TEAM, numbers, (int64_t)count * NUMBERS, DTYPE_F64, MESH_SUM);
    return STATUS_OK;
}

enum status evolve_generation(struct evolve *evolve, struct visit *visit, struct child *children,
                              struct trial_result *results)
{
    struct context *context = evolve->context;
    size_t count = (size_t)evolve->config->evolve.children;
    enum status status;
    double *numbers = memory_allocate(context, count * NUMBERS * sizeof *numbers, MEMORY_OTHER);
    int *order = memory_allocate(context, count * sizeof *order, MEMORY_OTHER);
    visit_generation(visit);
    status = numbers && order ? STATUS_OK : STATUS_MEMORY;
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = visit_sample(visit, (int)i + 1, &children[i]);
    if (status == STATUS_OK)
        status = context->status;
    TRY(mesh_agree(evolve->world, context, status));
    TRY(train_pending(evolve, visit, children, numbers, order));
    for (size_t i = 0; i < count; i++)
        result_from_numbers(numbers + i * NUMBERS, &results[i]);
done:
    memory_free(context, numbers);
    memory_free(context, order);
    return status;
}
