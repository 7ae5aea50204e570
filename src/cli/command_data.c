#include <stdio.h>
#include <string.h>

#include "io/data/data.h"
#include "io/passkey/passkey.h"
#include "src/cli/command.h"

static void write_sample(const void *self, int64_t index, unsigned char *bytes)
{
    passkey_sample(self, index, bytes);
}

/* Options of the command line, as they stand. */
struct passkey_options {
    const char *length, *count, *position, *digits, *seed;
};

static enum status read_options(struct command *command, const struct passkey_options *options,
                                struct passkey_task *task, int64_t *count)
{
    struct context *context = &command->context;
    int64_t seed = 1;
    if (!options->length || !options->count)
        return context_fail(context, STATUS_USAGE, "data passkey: needs --length and --count; see `cairn data --help`");
    CHECK(command_integer(command, "--digits", options->digits, 1, PASSKEY_DIGITS_MAXIMUM, &task->digits));
    CHECK(command_integer(command, "--length", options->length, passkey_smallest(task->digits), INT32_MAX,
                          &task->length));
    CHECK(command_integer(command, "--count", options->count, 1, INT32_MAX, count));
    CHECK(command_integer(command, "--seed", options->seed, 0, INT64_MAX, &seed));
    task->seed = (uint64_t)seed;
    if (options->position)
        task->position = passkey_position_named(options->position);
    if (task->position == PASSKEY_POSITIONS)
        return context_fail(context, STATUS_USAGE, "--position: expected start, middle, end or any, got \"%s\"",
                            options->position);
    return STATUS_OK;
}

enum status command_data(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    if (argc > 0 && strcmp(argv[0], "images") == 0)
        return command_data_images(command, argc, argv);
    if (argc > 0 && strcmp(argv[0], "tokenize") == 0)
        return command_data_tokenize(command, argc, argv);
    struct passkey_task task = {.digits = 5, .position = PASSKEY_ANY};
    struct passkey_options options = {0};
    const char *words[2]; /* what, and the file */
    int word_count;
    int64_t count = 0;
    const struct option_row rows[] = {
        {"--length", &options.length, NULL}, {"--count", &options.count, NULL}, {"--position", &options.position, NULL},
        {"--digits", &options.digits, NULL}, {"--seed", &options.seed, NULL},
    };
    CHECK(command_parse(command, argc, argv, rows, (int)(sizeof rows / sizeof *rows), words, 2, &word_count));
    if (word_count != 2 || strcmp(words[0], "passkey") != 0)
        return context_fail(context, STATUS_USAGE,
                            "data: say `passkey`, `images` or `tokenize`, and a file; see `cairn data --help`");
    CHECK(read_options(command, &options, &task, &count));
    enum status status = STATUS_OK;
    if (command->rank == 0)
        status = samples_write(context, words[1], count, task.length, task.digits, write_sample, &task);
    return team_agree(command->team, context, status);
}
