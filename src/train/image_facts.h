/* What a model has to know of the images that it was trained on: how they were normalised, and what its classes are
 * called. Stands in checkpoints as JSON: {"mean": [...], "deviation": [...], "classes": ["...", ...]}. */
#ifndef CAIRN_TRAIN_IMAGE_FACTS_H
#define CAIRN_TRAIN_IMAGE_FACTS_H

#include "io/images/images.h"

struct image_facts {
    int64_t channels;
    struct image_moments moments;
    int64_t classes;
    char **name; /* [classes] */
};

/* The text for a set; free with memory_free. Names that do not fit into `most` bytes are left out, all of them. */
enum status image_facts_write(struct context *context, const struct image_set *set, const struct image_moments *moments,
                              size_t most, char **text) MUST_USE;

/* From a text; `path` stands for where it comes from. FILE error if there is none or something is wrong with it. To be
 * destroyed whatever comes back. */
enum status image_facts_read(struct context *context, const char *path, const char *text,
                             struct image_facts *facts) MUST_USE;
void image_facts_destroy(struct context *context, struct image_facts *facts);

/* A class's name, or its number where names were left out. */
const char *image_facts_name(const struct image_facts *facts, int64_t label, char number[24]);

#endif
