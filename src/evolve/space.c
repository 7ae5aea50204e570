#include "src/evolve/space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/text.h"

static const char *const names[HYPERS] = {
    [HYPER_MU] = "mu",
    [HYPER_ADAPTER_WIDTH] = "adapter_width",
    [HYPER_LAYERS] = "layers",
    [HYPER_LR] = "lr",
    [HYPER_MOMENTUM] = "momentum",
    [HYPER_NESTEROV] = "nesterov",
    [HYPER_WARMUP] = "warmup",
    [HYPER_AREA_MIN] = "area_min",
    [HYPER_ASPECT_MIN] = "aspect_min",
    [HYPER_BRIGHTNESS] = "brightness",
    [HYPER_CONTRAST] = "contrast",
    [HYPER_CROP] = "crop",
    [HYPER_FLIP] = "flip",
    [HYPER_HUE] = "hue",
    [HYPER_SATURATION] = "saturation",
};

/* What each value may be; layers are whole and at least 1. */
static const struct {
    double low, high;
    bool whole;
} bounds[HYPERS] = {
    [HYPER_MU] = {0.0, 1.0, false},
    [HYPER_ADAPTER_WIDTH] = {1.0, 1 << 20, true},
    [HYPER_LAYERS] = {1.0, SPACE_LAYERS, true},
    [HYPER_LR] = {0.0, 1e6, false},
    [HYPER_MOMENTUM] = {0.0, 0.9999, false},
    [HYPER_NESTEROV] = {0.0, 1.0, true},
    [HYPER_WARMUP] = {0.0, 1.0, false},
    [HYPER_AREA_MIN] = {1e-4, 1.0, false},
    [HYPER_ASPECT_MIN] = {1e-4, 1.0, false},
    [HYPER_BRIGHTNESS] = {0.0, 10.0, false},
    [HYPER_CONTRAST] = {0.0, 10.0, false},
    [HYPER_CROP] = {0.0, 1.0, true},
    [HYPER_FLIP] = {0.0, 1.0, true},
    [HYPER_HUE] = {0.0, 0.5, false},
    [HYPER_SATURATION] = {0.0, 10.0, false},
};

const char *hyper_name(enum hyper hyper)
{
    return names[hyper];
}

void space_standard(struct space *space, int64_t layers)
{
    static const struct space_list colour = {6, 0, {0.0, 0.01, 0.02, 0.05, 0.1, 0.2}};
    static const struct space_list choice = {2, 0, {0.0, 1.0}};
    static const struct space_list lists[HYPERS] = {
        [HYPER_MU] = {11, 5, {0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.22, 0.24, 0.26, 0.28, 0.30}},
        [HYPER_ADAPTER_WIDTH] = {5, 2, {8, 16, 32, 64, 128}},
        [HYPER_LR] = {12, 6, {1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5}},
        [HYPER_MOMENTUM] = {9, 6, {0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99}},
        [HYPER_WARMUP] = {7, 2, {0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4}},
        [HYPER_AREA_MIN] = {7, 2, {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0}},
        [HYPER_ASPECT_MIN] = {4, 2, {0.25, 0.5, 0.75, 1.0}},
    };
    memcpy(space->list, lists, sizeof lists);
    space->list[HYPER_MOMENTUM].standard = 5;
    space->list[HYPER_LAYERS] = (struct space_list){1, 0, {(double)layers}};
    space->list[HYPER_BRIGHTNESS] = space->list[HYPER_CONTRAST] = space->list[HYPER_SATURATION] = colour;
    space->list[HYPER_HUE] = colour;
    space->list[HYPER_NESTEROV] = space->list[HYPER_CROP] = space->list[HYPER_FLIP] = choice;
    space->list[HYPER_CROP].standard = space->list[HYPER_FLIP].standard = 1;
    space->actions = (struct space_list){.count = 15};
    for (int i = 0; i < space->actions.count; i++)
        space->actions.value[i] = 0.02 * (i + 1);
}

void space_fix_data(struct space *space)
{
    for (int h = HYPERS_OF_CHILD; h < HYPERS; h++)
        space->list[h] = (struct space_list){.count = 1};
}

static bool read_value(const char *word, enum hyper hyper, double *value)
{
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0)
        *value = word[0] == 't';
    else if (!text_to_real(word, value))
        return false;
    return *value >= bounds[hyper].low && *value <= bounds[hyper].high &&
           (!bounds[hyper].whole || *value == (double)(int64_t)*value);
}

/* Words behind the equals sign into the list; false where something is wrong with them. */
static bool read_values(char *words, enum hyper hyper, struct space_list *list)
{
    char *rest;
    int standards = 0;
    *list = (struct space_list){0};
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        size_t length = strlen(word);
        if (list->count == SPACE_VALUES)
            return false;
        if (word[0] == '[' && length > 2 && word[length - 1] == ']') {
            list->standard = list->count;
            standards++;
            word[length - 1] = '\0';
            word++;
        }
        if (!read_value(word, hyper, &list->value[list->count]))
            return false;
        list->count++;
    }
    if (list->count == 1)
        standards = 1;
    return list->count > 0 && standards == 1;
}

static enum status read_line(struct context *context, const char *line, struct space *space)
{
    char text[TEXT_LENGTH];
    char name[32];
    int begin = 0;
    (void)text_copy(text, sizeof text, line);
    if (sscanf(text, " %31[a-z_] = %n", name, &begin) != 1 || begin == 0)
        return context_fail(context, STATUS_USAGE, "evolve.space: \"%s\" is not NAME = VALUES", line);
    for (int h = 0; h < HYPERS; h++)
        if (strcmp(name, names[h]) == 0) {
            if (!read_values(text + begin, (enum hyper)h, &space->list[h]))
                return context_fail(context, STATUS_USAGE,
                                    "evolve.space: \"%s\": up to %d values from %g to %g, one of them in brackets, "
                                    "which is where paths begin: %s = 1 [2] 3",
                                    line, SPACE_VALUES, bounds[h].low, bounds[h].high, name);
            return STATUS_OK;
        }
    return context_fail(
        context, STATUS_USAGE,
        "evolve.space: there is no \"%s\"; there are mu, adapter_width, layers, lr, momentum, nesterov, warmup, "
        "area_min, aspect_min, brightness, contrast, crop, flip, hue and saturation",
        name);
}

enum status space_read(struct context *context, const struct text_list *lines, struct space *space)
{
    for (int i = 0; i < lines->count; i++)
        CHECK(read_line(context, lines->item[i], space));
    return STATUS_OK;
}

int space_step(const struct space_list *list, int place, int step)
{
    place += step;
    return place < 0 ? 0 : place >= list->count ? list->count - 1 : place;
}
