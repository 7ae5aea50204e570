#include "src/evolve/trial_settings.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/config/config.h"

enum { LINES = 40, LINE = 64 * (SPACE_LAYERS + 4) };

/* Settings as on a command line. */
struct lines {
    int count;
    char text[LINES][LINE];
};

static void add(struct lines *lines, const char *format, ...) PRINTF_LIKE(2, 3);

static void add(struct lines *lines, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(lines->text[lines->count++], LINE, format, arguments);
    va_end(arguments);
}

int64_t trial_interval(const struct trial *trial, const struct path *path)
{
    const struct config *config = trial->config;
    int64_t samples = integer_min(trial->system->tasks[path->task].samples, config->evolve.samples);
    return integer_divide_up(samples, config->training.batch);
}

/* Nothing where there are none, so that the model is the same as one that never had any. */
static void add_adapters(const struct trial *trial, const struct path *path, struct lines *lines)
{
    int layers = path_layers(trial->system, path);
    bool any = false;
    char *text = lines->text[lines->count];
    size_t length = (size_t)snprintf(text, LINE, "model.adapters=");
    for (int layer = 0; layer < layers; layer++) {
        const struct component *adapter = path_component(trial->system, path, PART_ADAPTER, layer);
        any = any || adapter;
        length += (size_t)snprintf(text + length, LINE - length, "%s%lld", layer ? " " : "",
                                   adapter ? (long long)adapter->width : 0LL);
    }
    lines->count += any;
}

static void add_model(const struct trial *trial, const struct path *path, struct lines *lines)
{
    const struct task *task = &trial->system->tasks[path->task];
    add(lines, "model.layers=%d", path_layers(trial->system, path));
    add_adapters(trial, path, lines);
    add(lines, "model.%sclasses=%lld", trial->system->of_texts ? "" : "image.", (long long)task->classes);
    add(lines, "data.train=%s", task->train);
}

/* Everything that only this path's task trains. */
static void add_frozen(const struct trial *trial, const struct path *path, struct lines *lines)
{
    static const char *const patterns[] = {"model.embed_patches.*", "model.embed_positions.*",
                                           "model.layers.%d.*",     "model.norm.*",
                                           "classifier.*",          "model.adapters.%d.*"};
    char *text = lines->text[lines->count];
    size_t length = (size_t)snprintf(text, LINE, "training.freeze=");
    size_t begin = length;
    for (int i = 0; i < path->count; i++) {
        const struct component *component = system_component(trial->system, path->component[i]);
        char pattern[64];
        if (!component_locked(trial->system, component->id, path->task))
            continue;
        bool tokens = trial->system->of_texts && component->part == PART_PATCHES;
        snprintf(pattern, sizeof pattern, tokens ? "model.embed_tokens.*" : patterns[component->part],
                 component->layer);
        length += (size_t)snprintf(text + length, LINE - length, "%s%s", length > begin ? "," : "", pattern);
        if (component->part == PART_PATCHES && !tokens && trial->config->model.pooling == POOLING_CLASS)
            length += (size_t)snprintf(text + length, LINE - length, ",model.class_token.*");
    }
    lines->count += length > begin;
}

static void add_training(const struct trial *trial, const struct path *path, struct lines *lines)
{
    const struct system *system = trial->system;
    int64_t steps = trial_interval(trial, path) * trial->config->evolve.intervals;
    add(lines, "training.steps=%lld", (long long)steps);
    add(lines, "optimizer.kind=sgd");
    add(lines, "optimizer.weight_decay=0");
    add(lines, "optimizer.clip=1");
    add(lines, "optimizer.schedule=cosine");
    add(lines, "optimizer.minimum_ratio=0");
    add(lines, "optimizer.warmup_start=0.01");
    add(lines, "optimizer.learning_rate=%.17g", path_value(system, path, HYPER_LR));
    add(lines, "optimizer.momentum=%.17g", path_value(system, path, HYPER_MOMENTUM));
    add(lines, "optimizer.nesterov=%s", path_value(system, path, HYPER_NESTEROV) > 0.0 ? "true" : "false");
    add(lines, "optimizer.warmup_steps=%lld", llround(path_value(system, path, HYPER_WARMUP) * (double)steps));
}

static void add_augmentation(const struct trial *trial, const struct path *path, struct lines *lines)
{
    const struct system *system = trial->system;
    double aspect = path_value(system, path, HYPER_ASPECT_MIN);
    add(lines, "data.augment.crop=%s", path_value(system, path, HYPER_CROP) > 0.0 ? "resized" : "none");
    add(lines, "data.augment.scale_low=%.17g", path_value(system, path, HYPER_AREA_MIN));
    add(lines, "data.augment.scale_high=1");
    add(lines, "data.augment.ratio_low=%.17g", aspect);
    add(lines, "data.augment.ratio_high=%.17g", 1.0 / aspect);
    add(lines, "data.augment.flip=%s", path_value(system, path, HYPER_FLIP) > 0.0 ? "random" : "none");
    add(lines, "data.augment.brightness=%.17g", path_value(system, path, HYPER_BRIGHTNESS));
    add(lines, "data.augment.contrast=%.17g", path_value(system, path, HYPER_CONTRAST));
    add(lines, "data.augment.hue=%.17g", path_value(system, path, HYPER_HUE));
    add(lines, "data.augment.saturation=%.17g", path_value(system, path, HYPER_SATURATION));
}

enum status trial_settings(const struct trial *trial, const struct path *path, const struct trial_wishes *wishes,
                           struct config *config)
{
    const char *overrides[LINES];
    struct lines *lines = memory_allocate(trial->context, sizeof *lines, MEMORY_OTHER);
    if (!lines)
        return STATUS_MEMORY;
    if (path->task >= 0)
        add_model(trial, path, lines);
    if (wishes->validation)
        add(lines, "data.validation=%s", wishes->validation);
    if (wishes->trains) {
        add_frozen(trial, path, lines);
        add_training(trial, path, lines);
        if (!trial->system->of_texts)
            add_augmentation(trial, path, lines);
    }
    if (wishes->batch > 0) {
        add(lines, "training.batch=%lld", (long long)wishes->batch);
        add(lines, "training.micro_batch=%lld", (long long)wishes->batch);
    }
    /* Seeds are read as signed. */
    add(lines, "training.seed=%llu", (unsigned long long)(wishes->seed >> 1));
    add(lines, "data.seed=%llu", (unsigned long long)(wishes->data_seed >> 1));
    for (int i = 0; i < lines->count; i++)
        overrides[i] = lines->text[i];
    enum status status = config_parse(trial->context, "the settings of a path", trial->settings,
                                      strlen(trial->settings), overrides, lines->count, config);
    memory_free(trial->context, lines);
    return status;
}
