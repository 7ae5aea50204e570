/* Hyperparameters of paths: each is a place in an ordered list of values, and a mutation moves it one place. */
#ifndef CAIRN_EVOLVE_SPACE_H
#define CAIRN_EVOLVE_SPACE_H

#include "src/core/config.h"
#include "src/core/context.h"

/* In the order in which a child's are mutated, names sorted behind mu; then those of the data, which all children of a
 * generation share. */
enum hyper {
    HYPER_MU,            /* probability of a mutation */
    HYPER_ADAPTER_WIDTH, /* of new ones */
    HYPER_LAYERS,
    HYPER_LR,
    HYPER_MOMENTUM,
    HYPER_NESTEROV,
    HYPER_WARMUP, /* share of the steps */
    HYPERS_OF_CHILD,
    HYPER_AREA_MIN = HYPERS_OF_CHILD,
    HYPER_ASPECT_MIN,
    HYPER_BRIGHTNESS,
    HYPER_CONTRAST,
    HYPER_CROP,
    HYPER_FLIP,
    HYPER_HUE,
    HYPER_SATURATION,
    HYPERS,
};

/* So many layers, with an adapter each, can be named one by one in training.freeze. */
enum { SPACE_VALUES = 32, SPACE_LAYERS = 30 };

struct space_list {
    int count;
    int standard; /* the place that the root's children begin with */
    double value[SPACE_VALUES];
};

struct space {
    struct space_list list[HYPERS];
    struct space_list actions; /* probabilities of single actions */
};

const char *hyper_name(enum hyper hyper);

/* The lists of the authors' space, and for the layers the model's number alone. */
void space_standard(struct space *space, int64_t layers);

/* Leaves one value in the lists of the data: there is nothing to be done to texts. */
void space_fix_data(struct space *space);

/* Replaces lists by lines of "NAME = VALUES", the standard value in brackets: "lr = 0.001 [0.01] 0.1". USAGE error that
 * names the line, and where the result makes no sense. */
enum status space_read(struct context *context, const struct text_list *lines, struct space *space) MUST_USE;

/* The place `step` (-1 or 1) further, which stays where the list ends. */
int space_step(const struct space_list *list, int place, int step);

#endif
