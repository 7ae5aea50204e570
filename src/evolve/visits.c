/* The loop over iterations and tasks: visits, their lines and their rows of history. */
#include <math.h>
#include <stdio.h>

#include "io/json/json.h"
#include "src/core/text.h"
#include "src/evolve/agents.h"

/* Visits until all tasks have had theirs. */
static int64_t visits_left(const struct evolve *evolve)
{
    int64_t left = 0;
    for (int t = 0; t < evolve->system.task_count; t++)
        if (!evolve->system.tasks[t].removed)
            left += integer_max(0, evolve->config->evolve.iterations - evolve->system.tasks[t].visits);
    return left;
}

static void tell(const struct evolve *evolve, const struct visit *visit, int index, const struct child *child,
                 const struct trial_result *result, double left)
{
    char time[32];
    const struct system *system = &evolve->system;
    const struct path *parent = system_path(system, child->path.parent);
    text_from_duration(left, time, sizeof time);
    context_log(evolve->context,
                "%s, visit %lld, generation %d, child %d: from path %lld (%s): %s; accuracy %.4f, score %.4f, %s; "
                "%.1f s, %s left",
                system->tasks[visit->task].name, (long long)visit->iteration, visit->generation, index,
                (long long)child->path.parent, parent->task < 0 ? "root" : system->tasks[parent->task].name,
                child->notes[0] ? child->notes : "as its parent", result->quality,
                result->quality * path_factor(system, &child->path),
                result->kept     ? "accepted"
                : result->finite ? "dropped"
                                 : "dropped, its loss was not finite",
                result->seconds, time);
}

static void note(struct evolve *evolve, const struct visit *visit, int index, const struct child *child,
                 const struct trial_result *result)
{
    const struct system *system = &evolve->system;
    json_t *row =
        json_form("{s:I, s:s, s:I, s:i, s:i, s:I, s:I, s:s, s:f, s:f, s:b, s:b, s:I}", "visit",
                  (json_int_t)system->visits + 1, "task", system->tasks[visit->task].name, "iteration",
                  (json_int_t)visit->iteration, "generation", visit->generation, "child", index, "path",
                  (json_int_t)child->path.id, "parent", (json_int_t)child->path.parent, "mutations", child->notes,
                  "quality", result->quality, "score", result->quality * path_factor(system, &child->path), "accepted",
                  (int)result->kept, "finite", (int)result->finite, "steps", (json_int_t)result->steps);
    json_array_append_new(evolve->history, row);
}

static enum status write_metrics(struct evolve *evolve, const struct visit *visit, int index, const struct child *child,
                                 const struct trial_result *result)
{
    const struct system *system = &evolve->system;
    const struct path *path = &child->path;
    const struct metrics_field fields[] = {
        {"step", (double)path->id, true},
        {"visit", (double)system->visits + 1, true},
        {"task", visit->task, true},
        {"iteration", (double)visit->iteration, true},
        {"generation", visit->generation, true},
        {"child", index, true},
        {"parent", (double)path->parent, true},
        {"layers", path_layers(system, path), true},
        {"learning_rate", path_value(system, path, HYPER_LR), false},
        {"quality", result->quality, false},
        {"score", result->quality * path_factor(system, path), false},
        {"accepted", result->kept, true},
        {"steps", (double)result->steps, true},
        {"seconds", result->seconds, false},
        {"processor_seconds", result->processor_seconds, false},
        {"group", result->group, true},
    };
    if (!evolve->metrics)
        return STATUS_OK;
    return metrics_write_text(evolve->metrics, fields, sizeof fields / sizeof *fields, "mutations", child->notes);
}

/* Accepted in the order of their numbers, whoever was ready first. */
static enum status take_in(struct evolve *evolve, struct visit *visit, struct child *children,
                           const struct trial_result *results)
{
    const struct evolve_config *wanted = &evolve->config->evolve;
    double seconds = 0.0;
    for (int64_t i = 0; i < wanted->children; i++)
        seconds += results[i].seconds;
    double generations = (double)(visits_left(evolve) * wanted->generations - visit->generation);
    for (int64_t i = 0; i < wanted->children; i++) {
        tell(evolve, visit, (int)i + 1, &children[i], &results[i], generations * seconds / evolve->groups);
        note(evolve, visit, (int)i + 1, &children[i], &results[i]);
        CHECK(mesh_agree(evolve->world, evolve->context,
                         write_metrics(evolve, visit, (int)i + 1, &children[i], &results[i])));
        if (results[i].kept)
            CHECK(visit_accept(visit, &children[i], results[i].quality));
    }
    return STATUS_OK;
}

/* Once, when it is clear which path is kept. */
static enum status test(struct evolve *evolve, int task)
{
    struct task *of = &evolve->system.tasks[task];
    const struct path *path = system_path(&evolve->system, of->kept);
    double accuracy = NAN;
    enum status status = STATUS_OK;
    if (evolve->group == 0 && path)
        status = trial_measure(&evolve->trial, path, of->test, &accuracy);
    CHECK(mesh_agree(evolve->world, evolve->context, status));
    mesh_broadcast(evolve->world, MESH_TEAM, 0, &accuracy, 1, DTYPE_F64);
    of->accuracy = accuracy;
    return STATUS_OK;
}

static void tell_end(const struct evolve *evolve, int task)
{
    const struct task *of = &evolve->system.tasks[task];
    const struct path *path = system_path(&evolve->system, of->kept);
    if (!path)
        context_log(evolve->context, "%s: no child could be trained", of->name);
    else
        context_log(evolve->context,
                    "%s: keeps path %lld, validation %.4f, test %.4f, score %.4f; %lld parameters, the system has %lld",
                    of->name, (long long)path->id, path->quality, of->accuracy, path->score,
                    (long long)path_elements(&evolve->system, path), (long long)system_elements(&evolve->system));
}

/* A row that stands behind those of the visit's children. */
static void note_end(struct evolve *evolve, int task)
{
    const struct system *system = &evolve->system;
    const struct task *of = &system->tasks[task];
    const struct path *path = system_path(system, of->kept);
    if (!path)
        return;
    json_t *row =
        json_form("{s:I, s:s, s:I, s:I, s:f, s:f, s:I, s:I, s:I}", "visit", (json_int_t)system->visits, "task",
                  of->name, "iteration", (json_int_t)of->visits, "kept", (json_int_t)path->id, "validation",
                  path->quality, "score", path->score, "parameters", (json_int_t)path_elements(system, path), "own",
                  (json_int_t)path_own(system, path), "system_parameters", (json_int_t)system_elements(system));
    json_set_number(row, "accuracy", of->accuracy);
    json_array_append_new(evolve->history, row);
}

enum status evolve_visit(struct evolve *evolve, int task, struct child *children, struct trial_result *results)
{
    struct visit visit;
    enum status status;
    TRY(visit_begin(&evolve->system, task, evolve->system.tasks[task].visits + 1, &visit));
    for (int64_t g = 0; g < evolve->config->evolve.generations; g++) {
        TRY(evolve_generation(evolve, &visit, children, results));
        TRY(take_in(evolve, &visit, children, results));
    }
    TRY(visit_end(&visit));
    TRY(test(evolve, task));
    tell_end(evolve, task);
    note_end(evolve, task);
    status = evolve_publish(evolve);
done:
    visit_destroy(&visit);
    return status;
}

static enum status run_all(struct evolve *evolve, struct child *children, struct trial_result *results)
{
    struct system *system = &evolve->system;
    for (int64_t iteration = 1; iteration <= evolve->config->evolve.iterations; iteration++)
        for (int t = 0; t < system->task_count; t++)
            if (!system->tasks[t].removed && system->tasks[t].visits < iteration)
                CHECK(evolve_visit(evolve, t, children, results));
    return STATUS_OK;
}

enum status evolve_run(struct evolve *evolve)
{
    struct context *context = evolve->context;
    size_t count = (size_t)evolve->config->evolve.children;
    if (evolve->config->evolve.schedule == VISITS_ASYNCHRONOUS)
        return agents_run(evolve);
    struct child *children = memory_allocate(context, count * sizeof *children, MEMORY_OTHER);
    struct trial_result *results = memory_allocate(context, count * sizeof *results, MEMORY_OTHER);
    enum status status = mesh_agree(evolve->world, context, children && results ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = run_all(evolve, children, results);
    memory_free(context, children);
    memory_free(context, results);
    return status;
}
