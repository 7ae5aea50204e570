/* What a system has come to: a table of its tasks, and a graph of where components came from. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/evolve/evolve.h"

static bool shares(const struct system *system, const struct path *a, const struct path *b)
{
    for (int i = 0; a && b && i < a->count; i++)
        for (int k = 0; k < b->count; k++)
            if (a->component[i] == b->component[k] && component_users(system, a->component[i], -1) > 0)
                return true;
    return false;
}

static void print_sharing(const struct system *system, const struct path *path)
{
    int found = 0;
    for (int t = 0; t < system->task_count; t++)
        if (t != path->task && system->tasks[t].kept >= 0 &&
            shares(system, path, system_path(system, system->tasks[t].kept)))
            printf("%s%s", found++ ? ", " : "", system->tasks[t].name);
    printf("%s\n", found ? "" : "-");
}

enum status evolve_show_status(const struct system *system)
{
    printf("%-20s %6s %8s %10s %8s %10s %10s %10s  %s\n", "task", "visits", "test", "validation", "score", "parameters",
           "accounted", "own", "shares with");
    for (int t = 0; t < system->task_count; t++) {
        const struct task *task = &system->tasks[t];
        const struct path *path = system_path(system, task->kept);
        if (task->removed)
            continue;
        printf("%-20s %6lld ", task->name, (long long)task->visits);
        if (!path) {
            printf("%8s\n", "-");
            continue;
        }
        printf("%8.4f %10.4f %8.4f %10lld %10.0f %10lld  ", task->accuracy, path->quality, path->score,
               (long long)path_elements(system, path), path_accounted(system, path), (long long)path_own(system, path));
        print_sharing(system, path);
    }
    printf("%lld visits, %lld parameters in use, the root has %lld\n", (long long)system->visits,
           (long long)system_elements(system), (long long)path_elements(system, &system->paths[0]));
    return STATUS_OK;
}

/* Components are boxes, colored by the task that made them; a task holds those on its line. */
static void write_graph(const struct system *system, FILE *out)
{
    char place[PLACE_NAME];
    fprintf(out, "digraph system {\n  rankdir=LR; node [fontname=Helvetica, fontsize=10];\n");
    for (int i = 0; i < system->component_count; i++) {
        const struct component *component = &system->components[i];
        component_place(system, component, place);
        fprintf(out, "  c%lld [shape=box, style=filled, fillcolor=\"%.3f 0.25 0.95\", label=\"%s\\n%lld\"];\n",
                (long long)component->id,
                component->task < 0 ? 0.0 : fmod(0.13 + 0.618034 * (component->task + 1), 1.0), place,
                (long long)component->id);
        if (system_component(system, component->origin))
            fprintf(out, "  c%lld -> c%lld [style=dashed, label=copy, fontsize=8];\n", (long long)component->origin,
                    (long long)component->id);
    }
    for (int i = 0; i < system->path_count; i++) {
        const struct path *path = &system->paths[i];
        const char *name = path->task < 0 ? "root" : system->tasks[path->task].name;
        fprintf(out, "  p%lld [shape=ellipse, label=\"%s\\n%.4f\"];\n", (long long)path->id, name,
                path->task < 0 ? 0.0 : path->quality);
        for (int k = 0; k < path->count; k++)
            fprintf(out, "  c%lld -> p%lld;\n", (long long)path->component[k], (long long)path->id);
        if (path->parent >= 0)
            fprintf(out, "  p%lld -> p%lld [style=bold, color=gray];\n", (long long)path->parent, (long long)path->id);
    }
    fprintf(out, "}\n");
}

enum status evolve_show_lineage(const struct system *system, const char *path)
{
    char command[CHECKPOINT_PATH + 64];
    if (strchr(path, '\''))
        return context_fail(system->context, STATUS_USAGE, "%s: choose a name without quotes", path);
    snprintf(command, sizeof command, "dot -Tsvg -o '%.700s'", path);
    FILE *dot = popen(command, "w");
    if (!dot)
        return context_fail(system->context, STATUS_FILE, "dot: %s", strerror(errno));
    write_graph(system, dot);
    if (pclose(dot) != 0)
        return context_fail(system->context, STATUS_FILE,
                            "%s: graphviz's dot did not write it; is it installed? (apt install graphviz)", path);
    printf("%s\n", path);
    return STATUS_OK;
}
