/* A job file for a plan: the resources it counts on, and slurm/train.sbatch for the rest. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/core/integer.h"
#include "src/plan/plan.h"

/* A word as the shell reads it back. */
static void write_word(FILE *file, const char *word)
{
    fputs(" '", file);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", file);
        else
            fputc(*word, file);
    fputc('\'', file);
}

static void write_resources(FILE *file, const struct planner *planner, const struct plan *plan)
{
    int64_t most = planner->network.ranks_per_host;
    int64_t host = most ? integer_min(most, plan->ranks) : plan->ranks;
    int64_t nodes = integer_divide_up(plan->ranks, host);
    double memory = (double)plan->stage[plan->largest].memory_total * (double)host;
    fprintf(file, "#SBATCH --job-name=cairn\n");
    fprintf(file, "#SBATCH --nodes=%lld\n", (long long)nodes);
    fprintf(file, "#SBATCH --ntasks=%d\n", plan->ranks);
    fprintf(file, "#SBATCH --ntasks-per-node=%lld\n", (long long)host);
    fprintf(file, "#SBATCH --cpus-per-task=%d\n", planner_threads(planner, &plan->mesh));
    fprintf(file, "#SBATCH --signal=B:USR1@120\n#SBATCH --requeue\n#SBATCH --open-mode=append\n");
    fprintf(file, "#SBATCH --output=%%x-%%j.log\n");
    fprintf(file,
            "# A node's ranks hold at most %.1f GiB, beside the program and MPI. A limit on the time is for you to "
            "say:\n##SBATCH --time=1-00:00:00\n\n",
            memory / 1073741824.0);
}

/* The script installed with this program; empty for a program that was not installed, whose script is that of the
 * checkout. */
static void find_script(char path[PATH_MAX])
{
    static const char place[] = "/bin/cairn", script[] = "/share/cairn/slurm/train.sbatch";
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - sizeof script);
    path[length > 0 ? length : 0] = '\0';
    char *end = strstr(path, place);
    while (end && end[sizeof place - 1] != '\0')
        end = strstr(end + 1, place);
    if (end)
        memcpy(end, script, sizeof script);
    if (!end || access(path, R_OK) != 0)
        path[0] = '\0';
}

static void write_start(FILE *file, const struct plan *plan, const char *path, const char *const *overrides,
                        int override_count)
{
    const struct mesh_config *mesh = &plan->mesh;
    char script[PATH_MAX];
    find_script(script);
    fputs("exec bash", file);
    if (script[0])
        write_word(file, script);
    else
        fputs(" \"${SLURM_SUBMIT_DIR:-.}/slurm/train.sbatch\"", file);
    write_word(file, path);
    for (int i = 0; i < override_count; i++) {
        fputs(" \\\n    --set", file);
        write_word(file, overrides[i]);
    }
    fprintf(file,
            " \\\n    --set mesh.data=%lld --set mesh.pipeline=%lld --set mesh.context=%lld --set mesh.tensor=%lld"
            " --set mesh.virtual_stages=%lld\n",
            (long long)mesh->data, (long long)mesh->pipeline, (long long)mesh->context, (long long)mesh->tensor,
            (long long)mesh->virtual_stages);
}

enum status plan_write_job(const struct planner *planner, const struct plan *plan, const char *path,
                           const char *const *overrides, int override_count, const char *name)
{
    FILE *file = fopen(name, "w");
    if (!file)
        return context_fail(planner->context, STATUS_FILE, "--sbatch %s: cannot write it: %s", name, strerror(errno));
    fprintf(file,
            "#!/bin/bash\n# Written by `cairn plan`; submit it with sbatch from the folder that paths start from: "
            "that of CONFIG and\n# data and, where Cairn is not installed, of build/ and slurm/.\n");
    write_resources(file, planner, plan);
    write_start(file, plan, path, overrides, override_count);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return context_fail(planner->context, STATUS_FILE, "--sbatch %s: cannot write it; is the disk full?", name);
    return STATUS_OK;
}
