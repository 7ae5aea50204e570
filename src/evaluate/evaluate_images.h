/* The loss of a classifier over a set of images, and how often it is right. */
#ifndef CAIRN_EVALUATE_IMAGES_H
#define CAIRN_EVALUATE_IMAGES_H

#include "io/images/images.h"
#include "src/evaluate/evaluate.h"

struct image_evaluation {
    const struct image_set *set;                   /* of the classes that the model was trained on */
    const struct image_augmentation *augmentation; /* of which the size and the normalisation count */
    bool skip_bad;
    bool labels_only; /* this rank needs no pixels */
    int threads;      /* that read ahead */
};

/* All images once, in batches of the evaluator; with plan->batches so many batches, spread evenly over the set.
 * Collective; agreed status. */
enum status evaluate_images(struct evaluator *evaluator, const struct image_evaluation *images,
                            const struct evaluation_plan *plan, struct evaluation *evaluation) MUST_USE;

#endif
