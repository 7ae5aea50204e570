/* Sets of images as a source of batches. */
#ifndef CAIRN_TRAIN_IMAGE_SOURCE_H
#define CAIRN_TRAIN_IMAGE_SOURCE_H

#include "dist/mesh/mesh.h"
#include "io/images/images.h"
#include "src/core/config.h"

/* The settings' augmentation, with a normalisation. */
struct image_augmentation image_augmentation_of(const struct config *config, const struct image_moments *moments);

/* Opens what names stand for as the settings say. Local. */
enum status images_open(struct context *context, const struct config *config, const struct text_list *names,
                        struct image_set **set) MUST_USE;

/* The same on all ranks of the mesh: the first reads the headers of folders and lists for all. Collective. */
enum status images_open_shared(struct mesh *mesh, struct context *context, const struct config *config,
                               const struct text_list *names, struct image_set **set) MUST_USE;

/* Whether this rank needs labels only: stages behind the first. */
bool images_labels_only(const struct config *config, const struct mesh *mesh);

/* Threads that read ahead, of a rank of which `threads` compute. */
int images_threads(const struct config *config, const struct image_set *set, int threads);

#endif
