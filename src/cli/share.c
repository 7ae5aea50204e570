#include "src/cli/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/config/config.h"
#include "io/data/data.h"
#include "src/cli/revision.h"
#include "src/cli/usage.h"
#include "src/core/sample.h"

/* Compares what has been written to `out`, which is closed. */
static enum status compare(struct command *command, FILE *out, char **text)
{
    struct context *context = &command->context;
    bool failed = !out || fclose(out) != 0;
    CHECK(
        team_agree(command->team, context, failed ? context_fail(context, STATUS_MEMORY, "out of memory") : STATUS_OK));
    enum status status = team_same(command->team, context, *text);
    free(*text);
    return status;
}

/* A value may hold anything; lines are what is compared. */
static void write_line(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s: ", name);
    for (; *value; value++)
        fputc(*value == '\n' ? ' ' : *value, out);
    fputc('\n', out);
}

static bool takes_tool(const char *command)
{
    static const char *const names[] = {"bench", "checkpoint", "data", "tokenizer"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(command, names[i]) == 0)
            return true;
    return false;
}

enum status share_command(struct command *command, const char *help, int argc, char **argv)
{
    char library[256];
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) {
        fprintf(out, "program: cairn %s, commit %s\n", CAIRN_VERSION, cairn_revision);
        team_library_version(library, sizeof library);
        write_line(out, "MPI library", library);
        fprintf(out, "command: %s\n", argc > 1 ? argv[1] : "none");
    }
    int others = 0;
    for (int i = 2; out && i < argc; i++) {
        bool has_value = i + 1 < argc && usage_takes_value(help, argv[i]);
        bool is_set = strcmp(argv[i], "--set") == 0 || strncmp(argv[i], "--set=", 6) == 0;
        if (strncmp(argv[i], "--", 2) == 0 && !is_set) {
            fprintf(out, "option ");
            write_line(out, argv[i], has_value ? argv[i + 1] : "given");
        }
        if (strncmp(argv[i], "--", 2) != 0 && others++ == 0 && takes_tool(argv[1]))
            write_line(out, "tool", argv[i]);
        i += has_value;
    }
    return compare(command, out, &text);
}

static void write_setting(void *out, const char *key, const char *value)
{
    write_line(out, key, value);
}

static void write_file(FILE *out, const char *key, const char *path)
{
    char words[96];
    sample_describe(path, words, sizeof words);
    fprintf(out, "%s ", key);
    write_line(out, path, words);
}

/* A name may stand for a pair of files, for a folder or for what a pattern matches. */
static void write_files(struct context *context, FILE *out, const char *key, const struct text_list *files)
{
    struct corpus_names names;
    if (corpus_names_create(context, files, &names) != STATUS_OK) {
        fprintf(out, "%s ", key);
        write_line(out, "cannot be read", context->text);
        context_clear(context);
        return;
    }
    for (int i = 0; i < names.count; i++) {
        char path[TEXT_LENGTH + 300];
        write_file(out, key, names.name[i]);
        for (int j = 0; j < 2; j++) {
            snprintf(path, sizeof path, "%s%s", names.name[i], j ? ".idx" : ".bin");
            if (access(path, F_OK) == 0)
                write_file(out, key, path);
        }
    }
    corpus_names_destroy(context, &names);
}

enum status share_config(struct command *command, const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) {
        const char *io = getenv("CAIRN_CHECKPOINT_IO");
        config_visit(config, write_setting, out);
        write_files(&command->context, out, "data.train", &config->data.train);
        write_files(&command->context, out, "data.validation", &config->data.validation);
        write_line(out, "CAIRN_CHECKPOINT_IO", io ? io : "not set");
    }
    return compare(command, out, &text);
}
