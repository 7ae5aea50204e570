#include "src/cli/command.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "src/cli/share.h"
#include "src/cli/threads.h"
#include "src/core/suggest.h"
#include "src/core/text.h"

/* Shells leave a ~ alone that stands behind = or in quotes. */
static enum status take_path(struct command *command, const char *name, const char **path)
{
    struct context *context = &command->context;
    if ((*path)[0] != '~')
        return STATUS_OK;
    const char *home = getenv("HOME");
    size_t size = strlen(*path) + (home ? strlen(home) : 0) + 1;
    struct command_path *taken = malloc(sizeof *taken + size);
    if (!taken)
        return context_fail(context, STATUS_MEMORY, "out of memory");
    taken->next = command->paths;
    command->paths = taken;
    if (!text_expand_home(taken->text, size, *path))
        return context_fail(context, STATUS_USAGE,
                            "%s%s%s: only ~ and ~/... stand for a home directory, that of HOME; write the path out (or "
                            "./~... for a name)",
                            name, name[0] ? " " : "", *path);
    *path = taken->text;
    return STATUS_OK;
}

void command_forget_paths(struct command *command)
{
    while (command->paths) {
        struct command_path *next = command->paths->next;
        free(command->paths);
        command->paths = next;
    }
}

static bool is_path(const char *option)
{
    static const char *const names[] = {"--checkpoint", "--data",   "--resume", "--folder", "--network",
                                        "--output",     "--sbatch", "--to",     "--sheet"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(option, names[i]) == 0)
            return true;
    return false;
}

static enum status refuse_option(struct command *command, const char *argument, const struct option_row *rows,
                                 int row_count)
{
    enum { MOST = 32 };
    const char *names[MOST + 2] = {"set", "help"};
    char word[64];
    int count = 2;
    for (int i = 0; i < row_count && i < MOST; i++)
        names[count++] = rows[i].name + 2;
    const char *begin = argument + strspn(argument, "-");
    snprintf(word, sizeof word, "%.*s", (int)strcspn(begin, "="), begin);
    const char *meant = suggest_name(word, names, count);
    if (meant)
        return context_fail(&command->context, STATUS_USAGE, "%s: unknown option; did you mean --%s?", argument, meant);
    return context_fail(&command->context, STATUS_USAGE, "%s: unknown option; see --help", argument);
}

static enum status take_option(struct command *command, const char *argument, const char *next, bool *took_next,
                               const struct option_row *rows, int row_count)
{
    const char *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    bool is_set = length == 5 && strncmp(argument, "--set", 5) == 0;
    const struct option_row *row = NULL;
    for (int i = 0; i < row_count; i++)
        if (strlen(rows[i].name) == length && strncmp(rows[i].name, argument, length) == 0)
            row = &rows[i];
    if (!row && !is_set)
        return refuse_option(command, argument, rows, row_count);
    if (row && row->present) {
        *row->present = true;
        return equals ? context_fail(&command->context, STATUS_USAGE, "%s takes no value", row->name) : STATUS_OK;
    }
    const char *value = equals ? equals + 1 : next;
    *took_next = !equals;
    if (!value)
        return context_fail(&command->context, STATUS_USAGE, "%s needs a value", argument);
    if (row) {
        *row->value = value;
        return is_path(row->name) ? take_path(command, row->name, row->value) : STATUS_OK;
    }
    if (command->override_count == OVERRIDES)
        return context_fail(&command->context, STATUS_USAGE, "more than %d times --set", OVERRIDES);
    command->overrides[command->override_count++] = value;
    return STATUS_OK;
}

static enum status parse(struct command *command, int argc, char **argv, const struct option_row *rows, int row_count,
                         const char **others, int most, int *other_count)
{
    *other_count = 0;
    for (int i = 0; i < argc; i++) {
        bool took_next = false;
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            CHECK(take_option(command, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &took_next, rows, row_count));
            i += took_next;
        } else if (*other_count < most) {
            others[*other_count] = argv[i];
            CHECK(take_path(command, "", &others[(*other_count)++]));
        } else {
            return context_fail(&command->context, STATUS_USAGE, "%s: one argument too many; see --help", argv[i]);
        }
    }
    return STATUS_OK;
}

enum status command_parse(struct command *command, int argc, char **argv, const struct option_row *rows, int row_count,
                          const char **others, int most, int *other_count)
{
    enum status status = parse(command, argc, argv, rows, row_count, others, most, other_count);
    return team_agree(command->team, &command->context, status);
}

/* A rank's share of the cores: those it is bound to, or its part of the host's. */
static int threads_automatic(const struct mesh *mesh)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    if (wanted && *wanted)
        return omp_get_max_threads();
    int granted = omp_get_num_procs();
    bool bound = granted < (int)sysconf(_SC_NPROCESSORS_ONLN);
    return (int)integer_max(1, bound ? granted : granted / mesh_ranks_on_host(mesh));
}

/* Parameters that several ranks hold are updated on each, which gives the same bits by the same instructions only: all
 * use those of the rank that has the least. NULL: each chooses the same by itself. */
static enum status agree_on_instructions(struct command *command, const char **name)
{
    int rank = 0;
    CHECK(mesh_agree(command->mesh, &command->context, engine_rank(&command->context, &rank)));
    int32_t ends[2] = {rank, -rank};
    mesh_all_reduce(command->mesh, MESH_TEAM, ends, 2, DTYPE_I32, MESH_MAX);
    *name = ends[0] == -ends[1] && !getenv("CAIRN_CPU") ? NULL : engine_name(ends[0]);
    if (ends[0] != -ends[1])
        context_log(&command->context, "hosts differ in their instructions, %s and %s: all ranks use %s kernels",
                    engine_name(-ends[1]), engine_name(ends[0]), engine_name(ends[0]));
    return STATUS_OK;
}

enum status command_start(struct command *command, const struct mesh_config *mesh, const struct compute_config *compute)
{
    struct mesh_config resolved;
    CHECK(mesh_resolve(&command->context, mesh, command->ranks, &resolved));
    CHECK(mesh_create(&command->context, command->team, &resolved, &command->mesh));
    const char *instructions;
    CHECK(agree_on_instructions(command, &instructions));
    int threads = compute->threads ? (int)compute->threads : threads_automatic(command->mesh);
    CHECK(mesh_agree(command->mesh, &command->context,
                     engine_create_as(&command->context, threads, instructions, &command->engine)));
    command->engine_ready = true;
    return threads_settle(&command->context, command->mesh, &command->engine);
}

enum status command_start_with(struct command *command, const struct config *config)
{
    CHECK(share_config(command, config));
    return command_start(command, &config->mesh, &config->compute);
}

enum status command_integer(struct command *command, const char *option, const char *text, int64_t low, int64_t high,
                            int64_t *value)
{
    int64_t parsed;
    if (!text)
        return STATUS_OK;
    if (!text_to_integer(text, &parsed) || parsed < low || parsed > high)
        return context_fail(&command->context, STATUS_USAGE, "%s: expected an integer from %lld to %lld, got \"%s\"",
                            option, (long long)low, (long long)high, text);
    *value = parsed;
    return STATUS_OK;
}

enum status command_real(struct command *command, const char *option, const char *text, double low, double high,
                         double *value)
{
    double parsed;
    if (!text)
        return STATUS_OK;
    if (!text_to_real(text, &parsed) || !(parsed >= low && parsed <= high))
        return context_fail(&command->context, STATUS_USAGE, "%s: expected a number from %g to %g, got \"%s\"", option,
                            low, high, text);
    *value = parsed;
    return STATUS_OK;
}
