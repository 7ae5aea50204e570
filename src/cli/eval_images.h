/* `cairn eval` of a classifier. */
#ifndef CAIRN_CLI_EVAL_IMAGES_H
#define CAIRN_CLI_EVAL_IMAGES_H

#include "src/cli/command.h"

/* Measures the checkpoint `path` on the images of `data`, or on those of data.validation if that is NULL, and prints.
 * Collective; agreed status. */
enum status eval_images(struct command *command, struct config *config, const char *path, const char *data,
                        bool json) MUST_USE;

#endif
