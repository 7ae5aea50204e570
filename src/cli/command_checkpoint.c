#include <stdio.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "src/cli/command.h"

static enum status verify(struct command *command, const char *name)
{
    char path[CHECKPOINT_PATH];
    CHECK(mesh_create(&command->context, command->team, &(struct mesh_config){command->ranks, 1, 1, 1, 1},
                      &command->mesh));
    /* A run that goes on may have another newest one a moment later. */
    CHECK(mesh_agree(command->mesh, &command->context,
                     command->rank == 0 ? checkpoint_newest(&command->context, name, path) : STATUS_OK));
    mesh_broadcast(command->mesh, MESH_TEAM, 0, path, CHECKPOINT_PATH, DTYPE_BYTE);
    CHECK(team_same_file(command->team, &command->context, "checkpoint", path));
    CHECK(checkpoint_verify(&command->context, command->mesh, path));
    if (command->rank == 0)
        printf("%s: every hash is right\n", path);
    return STATUS_OK;
}

static enum status inspect(struct command *command, const char *name, bool verbose)
{
    char path[CHECKPOINT_PATH];
    CHECK(checkpoint_newest(&command->context, name, path));
    return checkpoint_inspect(&command->context, path, verbose);
}

static enum status diff(struct command *command, const char *first, const char *second, double tolerance)
{
    struct checkpoint_difference difference = {0};
    char a[CHECKPOINT_PATH];
    char b[CHECKPOINT_PATH];
    CHECK(checkpoint_newest(&command->context, first, a));
    CHECK(checkpoint_newest(&command->context, second, b));
    CHECK(checkpoint_diff(&command->context, a, b, tolerance, &difference));
    if (difference.different == 0 && tolerance == 0.0)
        printf("identical: %lld datasets\n", (long long)difference.datasets);
    else
        printf("%lld of %lld datasets differ by more than %g; the largest difference is %.3g\n",
               (long long)difference.different, (long long)difference.datasets, tolerance, difference.largest);
    command->exit_code = difference.different ? 1 : 0;
    return STATUS_OK;
}

/* Serial tools run on rank 0; the others learn how it ended. */
static enum status on_first_rank(struct command *command, enum status status)
{
    CHECK(team_agree(command->team, &command->context, status));
    return STATUS_OK;
}

enum status command_checkpoint_tools(struct command *command, int argc, char **argv)
{
    const char *words[3] = {NULL, NULL, NULL};
    const char *tolerance_text = NULL;
    bool verbose = false;
    double tolerance = 0.0;
    int count;
    struct convert_options conversion = {0};
    const struct option_row rows[] = {
        {"--tolerance", &tolerance_text, NULL},   {"--verbose", NULL, &verbose},
        {"--to", &conversion.config, NULL},       {"--initialization", &conversion.initialization, NULL},
        {"--rank", &conversion.rank, NULL},       {"--energy", &conversion.energy, NULL},
        {"--merge-lora", NULL, &conversion.merge}};
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, words, 3, &count));
    CHECK(command_real(command, "--tolerance", tolerance_text, 0.0, 1e30, &tolerance));
    const char *tool = count > 0 ? words[0] : "";
    bool first = command->rank == 0;
    if (strcmp(tool, "inspect") == 0 && count == 2)
        return on_first_rank(command, first ? inspect(command, words[1], verbose) : STATUS_OK);
    if (strcmp(tool, "verify") == 0 && count == 2)
        return verify(command, words[1]);
    if (strcmp(tool, "diff") == 0 && count == 3)
        return on_first_rank(command, first ? diff(command, words[1], words[2], tolerance) : STATUS_OK);
    if (strcmp(tool, "convert") == 0 && count == 3 && !conversion.config != !conversion.merge) {
        conversion.source = words[1];
        conversion.output = words[2];
        return command_convert(command, &conversion);
    }
    return context_fail(&command->context, STATUS_USAGE,
                        "checkpoint: inspect FILE, verify FILE, diff FILE FILE or convert SOURCE OUTPUT --to CONFIG or "
                        "--merge-lora; see `cairn checkpoint --help`");
}
