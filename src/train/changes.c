#include "src/train/changes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"
#include "src/train/run_folder.h"

enum { PATH_LENGTH = 700, LINE = 512 };

/* Keys, or with a point at the end all keys of a section, that a run's losses follow from. */
static const char *const promised[] = {"data.",
                                       "optimizer.",
                                       "compute.type",
                                       "training.batch",
                                       "training.sequence_length",
                                       "training.seed",
                                       "training.capacity_warmup_steps"};

static bool is_promised(const char *key, const struct config *config)
{
    if (strcmp(key, "data.threads") == 0)
        return false;
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++) {
        size_t length = strlen(promised[i]);
        bool section = promised[i][length - 1] == '.';
        if (section ? strncmp(key, promised[i], length) == 0 : strcmp(key, promised[i]) == 0)
            return true;
    }
    /* A schedule that falls ends with the steps. */
    return strcmp(key, "training.steps") == 0 && config->optimizer.schedule != SCHEDULE_CONSTANT;
}

struct review {
    struct context *context;
    const struct config *config;
    const char *path;
    int64_t step;
    char *lines;
    size_t used;
    int broken;
    char first[LINE]; /* of those */
};

static void review_one(void *self, const char *key, const char (*values)[CONFIG_VALUE], int count)
{
    struct review *review = self;
    char change[LINE];
    (void)count;
    const char *before = values[0][0] ? values[0] : "nothing";
    const char *now = values[1][0] ? values[1] : "nothing";
    snprintf(change, sizeof change, "%s %s -> %s", key, before, now);
    context_log(review->context, "changed after step %lld: %s", (long long)review->step, change);
    if (is_promised(key, review->config) && review->broken++ == 0)
        snprintf(review->first, sizeof review->first, "%s", change);
    if (review->used < CHANGES_TEXT)
        review->used += (size_t)snprintf(review->lines + review->used, CHANGES_TEXT - review->used,
                                         "# after step %lld: %s\n", (long long)review->step, change);
}

/* -- Data -- */

static const char *const data_keys[DATA_KEYS] = {"data.train content", "data.validation content"};

void changes_describe_data(const char (*contents)[CHANGES_CONTENT], char *lines)
{
    size_t used = 0;
    lines[0] = '\0';
    for (int i = 0; i < DATA_KEYS; i++)
        if (contents[i][0])
            used += (size_t)snprintf(lines + used, CHANGES_DATA - used, "# %s: %s\n", data_keys[i], contents[i]);
}

/* What a line of comments says under the key; false if there is none. */
static bool find_data(const char *text, const char *key, char *value, size_t size)
{
    char begin[64];
    snprintf(begin, sizeof begin, "# %s: ", key);
    const char *line = strstr(text, begin);
    if (!line)
        return false;
    line += strlen(begin);
    snprintf(value, size, "%.*s", (int)strcspn(line, "\n"), line);
    return true;
}

/* Checkpoints of runs that did not write it down say nothing. */
static void review_data(struct review *review, const char *stored, const char *data_lines)
{
    for (int i = 0; i < DATA_KEYS; i++) {
        char values[2][CONFIG_VALUE] = {"", ""};
        if (find_data(stored, data_keys[i], values[0], sizeof values[0]) &&
            find_data(data_lines, data_keys[i], values[1], sizeof values[1]) && strcmp(values[0], values[1]) != 0)
            review_one(review, data_keys[i], (const char(*)[CONFIG_VALUE])values, 2);
    }
}

enum status changes_review(struct context *context, const char *path, const char *stored, int64_t step,
                           const struct config *config, const char *data_lines, bool accept, char *lines)
{
    struct review review = {.context = context, .config = config, .path = path, .step = step, .lines = lines};
    lines[0] = '\0';
    struct config *before = memory_allocate(context, sizeof *before, MEMORY_OTHER);
    if (!before)
        return STATUS_MEMORY;
    enum status status = config_parse(context, path, stored, strlen(stored), NULL, 0, before);
    if (status == STATUS_OK) {
        config_differences((const struct config *const[]){before, config}, 2, review_one, &review);
        review_data(&review, stored, data_lines);
    }
    memory_free(context, before);
    CHECK(status);
    /* What was made to begin with has no steps behind it that the change could contradict. */
    if (review.broken > 0 && !accept && step > 0)
        return context_fail(
            context, STATUS_USAGE,
            "%s: its run had other settings: %s%s. They change the data, the schedule or the arithmetic "
            "of the steps to come; --accept-changes goes on with them",
            path, review.first, review.broken > 1 ? ", and more (above)" : "");
    return STATUS_OK;
}

/* Comments of the file that is there, of changes before `step`: the checkpoint of that step knows no later ones. */
static void read_lines(const char *path, int64_t step, char *lines, size_t size)
{
    char line[LINE];
    size_t used = 0;
    lines[0] = '\0';
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        int64_t after;
        if (sscanf(line, "# after step %" SCNd64 ":", &after) == 1 && after < step && used + strlen(line) < size)
            used += (size_t)snprintf(lines + used, size - used, "%s", line);
    }
    if (file)
        fclose(file);
}

enum status changes_write_config(struct context *context, const struct config *config, int64_t step, const char *lines)
{
    char path[PATH_LENGTH];
    size_t size = CHECKPOINT_CONFIG_SIZE + 8 * CHANGES_TEXT;
    snprintf(path, sizeof path, "%s/config.yaml", config->run.folder);
    char *text = memory_allocate(context, size, MEMORY_OTHER);
    if (!text)
        return STATUS_MEMORY;
    size_t used = config_format(config, text, CHECKPOINT_CONFIG_SIZE);
    /* The same changes again, by a start that made no step, are not told twice. */
    read_lines(path, step, text + used, size - CHANGES_TEXT - used);
    if (!strstr(text + used, lines))
        strcat(text + used, lines);
    enum status status = run_folder_write(context, path, text);
    memory_free(context, text);
    return status;
}
