#include "src/train/line.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/config/config.h"
#include "src/core/sample.h"
#include "src/core/text.h"
#include "src/train/run_folder.h"

enum { PATH_LENGTH = 700 };

/* -- The instruction -- */

/* The same for each start of the same command. */
static void describe_instruction(const struct config *config, const struct resume *resume, char *text, size_t size)
{
    char words[96] = "";
    char settings[32];
    struct stat entry;
    char *formatted = malloc(CHECKPOINT_CONFIG_SIZE);
    uint64_t hash = SAMPLE_HASH_BEGIN;
    if (formatted) {
        size_t length = config_format(config, formatted, CHECKPOINT_CONFIG_SIZE);
        hash = sample_hash(hash, formatted, length < CHECKPOINT_CONFIG_SIZE ? length : 0);
    }
    free(formatted);
    bool is_folder = resume->kind == RESUME_FILE && stat(resume->path, &entry) == 0 && S_ISDIR(entry.st_mode);
    if (resume->kind == RESUME_FILE && !is_folder) /* a folder's newest may be another at the next start */
        sample_describe(resume->path, words, sizeof words);
    snprintf(settings, sizeof settings, "settings %016" PRIx64, hash);
    if (resume->kind == RESUME_FILE)
        snprintf(text, size, "--resume %s (%s), %s", resume->path, is_folder ? "a folder" : words, settings);
    else
        snprintf(text, size, "--resume none, %s", settings);
}

static void name_note(const struct config *config, char path[PATH_LENGTH])
{
    snprintf(path, PATH_LENGTH, "%s/resumed", config->run.folder);
}

/* The step behind which the run's folder says that it followed the instruction; -1 if it does not. */
static int64_t step_followed(const struct config *config, const char *instruction)
{
    char path[PATH_LENGTH];
    char line[CHECKPOINT_PATH + 200] = "";
    int64_t step = -1;
    name_note(config, path);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    if (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, instruction) != 0 || fscanf(file, "after step %" SCNd64, &step) != 1)
            step = -1;
    }
    fclose(file);
    return step;
}

enum status line_note(struct context *context, const struct config *config, const struct line *line, int64_t step)
{
    char path[PATH_LENGTH];
    char text[sizeof line->instruction + 40];
    if (line->instruction[0] == '\0')
        return STATUS_OK;
    name_note(config, path);
    snprintf(text, sizeof text, "%s\nafter step %" PRId64 "\n", line->instruction, step);
    return run_folder_write(context, path, text);
}

/* -- Choosing -- */

static enum status find_newest(struct context *context, struct mesh *mesh, const struct config *config,
                               struct line *line)
{
    char folder[PATH_LENGTH];
    snprintf(folder, sizeof folder, "%s/checkpoints", config->run.folder);
    checkpoint_clean(context, mesh, folder);
    CHECK(checkpoint_find(context, mesh, folder, &line->found, line->path));
    line->own = line->found;
    return STATUS_OK;
}

/* Whether a file lies in the folder of the run's checkpoints, by whatever name. */
static bool lies_within(const struct config *config, const char *file)
{
    char folder[PATH_LENGTH];
    char above[CHECKPOINT_PATH];
    snprintf(folder, sizeof folder, "%s/checkpoints", config->run.folder);
    if (!text_copy(above, sizeof above, file))
        return false;
    char *last = strrchr(above, '/');
    if (last)
        last[last == above] = '\0';
    char *a = realpath(folder, NULL);
    char *b = realpath(last ? above : ".", NULL);
    bool within = a && b && strcmp(a, b) == 0;
    free(a);
    free(b);
    return within;
}

/* Whether the folder has the very checkpoint, as a copy of the run would. */
static bool has_copy(const struct config *config, const char *file)
{
    char copy[CHECKPOINT_PATH];
    char words[2][96];
    snprintf(copy, sizeof copy, "%s/checkpoints/step-%08lld.h5", config->run.folder, (long long)checkpoint_step(file));
    sample_describe(file, words[0], sizeof words[0]);
    sample_describe(copy, words[1], sizeof words[1]);
    return checkpoint_step(file) >= 0 && strcmp(words[0], words[1]) == 0 && strstr(words[0], "sample");
}

/* An instruction to go back that was followed before: *done if the run has got beyond it. */
static enum status find_beyond(struct context *context, struct mesh *mesh, const struct config *config,
                               struct line *line, bool *done)
{
    int64_t followed = mesh_rank(mesh, MESH_TEAM) == 0 ? step_followed(config, line->instruction) : 0;
    mesh_broadcast(mesh, MESH_TEAM, 0, &followed, 1, DTYPE_I64);
    *done = false;
    if (followed < 0)
        return STATUS_OK;
    CHECK(find_newest(context, mesh, config, line));
    *done = line->found && checkpoint_step(line->path) > followed;
    if (*done)
        context_log(context,
                    "%.*s was followed before, after step %lld: the run has checkpoints of its own since, and goes on "
                    "from them; --anew follows it again",
                    (int)(strrchr(line->instruction, ',') - line->instruction), line->instruction, (long long)followed);
    return STATUS_OK;
}

enum status line_choose(struct context *context, struct mesh *mesh, const struct config *config,
                        const struct resume *resume, struct line *line)
{
    *line = (struct line){0};
    if (resume->kind == RESUME_AUTO)
        return find_newest(context, mesh, config, line);
    describe_instruction(config, resume, line->instruction, sizeof line->instruction);
    bool done = false;
    if (!resume->anew)
        CHECK(find_beyond(context, mesh, config, line, &done));
    if (done) {
        line->instruction[0] = '\0';
        return STATUS_OK;
    }
    line->found = resume->kind == RESUME_FILE;
    line->anew = !line->found;
    if (!line->found)
        return STATUS_OK;
    CHECK(checkpoint_named(context, mesh, resume->path, line->path));
    line->own = lies_within(config, line->path) || has_copy(config, line->path);
    line->brought = !line->own;
    return STATUS_OK;
}

/* -- Beginning -- */

enum status line_begin(struct context *context, const struct config *config, const struct line *line, int64_t step)
{
    char folder[PATH_LENGTH];
    char aside[PATH_LENGTH + 16];
    snprintf(folder, sizeof folder, "%s/checkpoints", config->run.folder);
    if (line->anew)
        CHECK(run_folder_move_aside(context, config->run.folder));
    else if (line->found) {
        run_folder_free_name(folder, aside, sizeof aside);
        CHECK(checkpoint_set_aside(context, folder, line->brought ? -1 : step, aside));
    }
    return STATUS_OK;
}
