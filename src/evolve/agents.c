#include "src/evolve/agents.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/json/json.h"
#include "src/evolve/clean.h"
#include "src/train/run_folder.h"

/* How many ids an agent has for itself in a start; looks for a state that others replace meanwhile. */
enum { BLOCK = 1 << 24, TRIES = 20 };

static void agent_folder(const struct evolve *evolve, int task, char folder[CHECKPOINT_PATH])
{
    snprintf(folder, CHECKPOINT_PATH, "%.600s/agents/%s", evolve->config->run.folder, evolve->system.tasks[task].name);
}

/* -- What others have finished -- */

/* A state may be removed between the look for its name and the look into it. */
static enum status find_state(struct evolve *evolve, int task, char **text)
{
    char folder[CHECKPOINT_PATH];
    agent_folder(evolve, task, folder);
    for (int i = 1; i < TRIES; i++) {
        if (record_find(evolve->context, folder, text) == STATUS_OK)
            return STATUS_OK;
        context_clear(evolve->context);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return record_find(evolve->context, folder, text);
}

/* The task, its kept path and what that holds, from its agent's system. */
static enum status adopt(struct system *system, int task, const struct system *of)
{
    struct task *mine = &system->tasks[task];
    const struct task *theirs = &of->tasks[task];
    const struct path *path = system_path(of, theirs->kept);
    mine->kept = theirs->kept;
    mine->visits = theirs->visits;
    mine->accuracy = theirs->accuracy;
    for (int i = 0; path && i < path->count; i++)
        if (!system_component(system, path->component[i]) &&
            !system_add_component(system, system_component(of, path->component[i])))
            return STATUS_MEMORY;
    if (path && !system_path(system, path->id) && !system_add_path(system, path))
        return STATUS_MEMORY;
    system->next_component = integer_max(system->next_component, of->next_component);
    system->next_path = integer_max(system->next_path, of->next_path);
    return STATUS_OK;
}

/* Of a state's text; `history` gets its rows if there is news. */
static enum status read_news(struct evolve *evolve, int task, const char *text, json_t *history)
{
    struct system *system = &evolve->system;
    struct system of = *system;
    json_t *rows = NULL;
    char *settings = NULL;
    of.tasks = NULL;
    of.paths = NULL;
    of.components = NULL;
    of.task_count = of.path_count = of.component_count = 0;
    enum status status = record_read(&of, text);
    if (status == STATUS_OK && (task >= of.task_count || strcmp(of.tasks[task].name, system->tasks[task].name) != 0))
        status = context_fail(evolve->context, STATUS_FILE, "agents/%s: the state of another system",
                              system->tasks[task].name);
    if (status == STATUS_OK && of.tasks[task].visits > system->tasks[task].visits) {
        status = adopt(system, task, &of);
        if (status == STATUS_OK && history)
            status = record_settings(evolve->context, text, &settings, &rows);
        json_array_extend(history, rows);
        json_decref(rows);
        memory_free(evolve->context, settings);
    }
    system_destroy(&of);
    return status;
}

static enum status read_task(struct evolve *evolve, int task, json_t *history)
{
    char *text = NULL;
    enum status status = evolve->first ? find_state(evolve, task, &text) : STATUS_OK;
    TRY(mesh_agree(evolve->world, evolve->context, status));
    TRY(evolve_share_text(evolve, &text));
    status = mesh_agree(evolve->world, evolve->context, text ? read_news(evolve, task, text, history) : STATUS_OK);
done:
    memory_free(evolve->context, text);
    return status;
}

static enum status read_all(struct evolve *evolve, json_t *history)
{
    struct system *system = &evolve->system;
    for (int t = 0; t < system->task_count; t++)
        if (!system->tasks[t].removed)
            CHECK(read_task(evolve, t, history));
    system_prune(system);
    return mesh_agree(evolve->world, evolve->context, system_check(system));
}

static int64_t sum_visits(const struct system *system)
{
    int64_t sum = 0;
    for (int t = 0; t < system->task_count; t++)
        sum += system->tasks[t].visits;
    return sum;
}

enum status agents_take_up(struct evolve *evolve)
{
    struct system *system = &evolve->system;
    char folder[CHECKPOINT_PATH];
    snprintf(folder, sizeof folder, "%.600s/agents", evolve->config->run.folder);
    int32_t there = evolve->first && access(folder, F_OK) == 0;
    mesh_broadcast(evolve->world, MESH_TEAM, 0, &there, 1, DTYPE_I32);
    if (!there)
        return STATUS_OK;
    int64_t before = sum_visits(system);
    CHECK(read_all(evolve, evolve->history));
    system->visits += sum_visits(system) - before;
    return STATUS_OK;
}

/* -- Visits of one agent after the other -- */

enum status agents_publish(struct evolve *evolve)
{
    char folder[CHECKPOINT_PATH];
    enum status status = STATUS_OK;
    agent_folder(evolve, evolve->agent, folder);
    if (evolve->first)
        status = run_folder_make(evolve->context, folder);
    if (evolve->first && status == STATUS_OK)
        status = record_write(&evolve->system, folder, evolve->settings, evolve->history,
                              integer_max(2, evolve->config->checkpoint.keep_last));
    return mesh_agree(evolve->world, evolve->context, status);
}

/* What an agent goes on from. */
struct agent {
    int64_t next_component, next_path;
    json_t *history;
};

static enum status visit(struct evolve *evolve, int task, struct agent *agent, struct child *children,
                         struct trial_result *results)
{
    struct system *system = &evolve->system;
    CHECK(read_all(evolve, NULL));
    system->next_component = agent->next_component;
    system->next_path = agent->next_path;
    system->visits = system->tasks[task].visits;
    evolve->agent = task;
    evolve->history = agent->history;
    CHECK(evolve_visit(evolve, task, children, results));
    agent->next_component = system->next_component;
    agent->next_path = system->next_path;
    return STATUS_OK;
}

/* This group's tasks, until another group has failed. `failures` is what all groups count them in. */
static enum status visit_own(struct evolve *evolve, int group, int groups, struct counter *failures,
                             struct agent *agents, struct child *children, struct trial_result *results)
{
    const struct system *system = &evolve->system;
    for (int64_t iteration = 1; iteration <= evolve->config->evolve.iterations; iteration++)
        for (int t = group; t < system->task_count; t += groups) {
            int64_t failed = evolve->first ? counter_add(failures, 0) : 0;
            mesh_broadcast(evolve->world, MESH_TEAM, 0, &failed, 1, DTYPE_I64);
            if (failed > 0)
                return STATUS_OK;
            if (!system->tasks[t].removed && system->tasks[t].visits < iteration)
                CHECK(visit(evolve, t, &agents[t], children, results));
        }
    return STATUS_OK;
}

/* The group as if it were alone, with a counter of its own; then everything is as before. */
static enum status run_group(struct evolve *evolve, struct agent *agents, struct child *children,
                             struct trial_result *results)
{
    struct evolve all = *evolve;
    bool quiet = evolve->context->quiet;
    enum status status = counter_create(evolve->context, evolve->team, &evolve->counter);
    evolve->world = evolve->mesh;
    evolve->first = mesh_rank(evolve->mesh, MESH_TEAM) == 0;
    evolve->group = 0;
    evolve->groups = 1;
    evolve->context->quiet = !evolve->first;
    if (status == STATUS_OK)
        status = visit_own(evolve, all.group, all.groups, all.counter, agents, children, results);
    if (status != STATUS_OK)
        (void)counter_add(all.counter, 1);
    counter_destroy(&evolve->counter);
    evolve->context->quiet = quiet;
    evolve->counter = all.counter;
    evolve->world = all.world;
    evolve->first = all.first;
    evolve->group = all.group;
    evolve->groups = all.groups;
    evolve->history = all.history;
    evolve->agent = -1;
    return mesh_agree(evolve->world, evolve->context, status);
}

/* Every agent's ids lie in a block that no start has used. */
static enum status create_agents(struct evolve *evolve, struct agent **agents)
{
    const struct system *system = &evolve->system;
    int64_t block = integer_max(system->next_component, system->next_path) / BLOCK + 1;
    *agents = memory_allocate(evolve->context, (size_t)system->task_count * sizeof **agents, MEMORY_OTHER);
    for (int t = 0; *agents && t < system->task_count; t++)
        (*agents)[t] = (struct agent){(block + t) * BLOCK, (block + t) * BLOCK, json_array()};
    return *agents ? STATUS_OK : STATUS_MEMORY;
}

static void destroy_agents(struct evolve *evolve, struct agent *agents)
{
    for (int t = 0; agents && t < evolve->system.task_count; t++)
        json_decref(agents[t].history);
    memory_free(evolve->context, agents);
}

/* The root and the tasks must be on disk before agents build on them; in the end one state is made of all. */
enum status agents_run(struct evolve *evolve)
{
    struct context *context = evolve->context;
    struct agent *agents = NULL;
    size_t count = (size_t)evolve->config->evolve.children;
    struct child *children = memory_allocate(context, count * sizeof *children, MEMORY_OTHER);
    struct trial_result *results = memory_allocate(context, count * sizeof *results, MEMORY_OTHER);
    enum status status = children && results ? create_agents(evolve, &agents) : STATUS_MEMORY;
    TRY(mesh_agree(evolve->world, context, status));
    TRY(evolve_publish(evolve));
    counter_reset(evolve->counter);
    TRY(run_group(evolve, agents, children, results));
    /* Each group knows its own visits best, and all are to know the same: from the state before, and the files. */
    TRY(evolve_read_again(evolve));
    TRY(agents_take_up(evolve));
    status = evolve_publish(evolve);
done:
    destroy_agents(evolve, agents);
    memory_free(context, children);
    memory_free(context, results);
    return status;
}
