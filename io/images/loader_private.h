/* Inside io/images: the loader's threads, slots and samples. */
#ifndef CAIRN_IO_IMAGES_LOADER_PRIVATE_H
#define CAIRN_IO_IMAGES_LOADER_PRIVATE_H

#include <pthread.h>

#include "io/images/images_private.h"
#include "src/core/integer.h"

enum { RANGES = 64, ERROR_BYTES = 1024 };

enum slot_state { SLOT_FREE, SLOT_WORKING, SLOT_READY, SLOT_TAKEN };

/* A sample that is worked on, or waits to be taken. */
struct slot {
    enum slot_state state;
    bool forgotten; /* while it was worked on */
    int64_t n;
    float *image;
    int32_t label, mixed_label;
    float mixing;
    bool bad;
    enum status status;
    char *error; /* [ERROR_BYTES] */
};

/* What one thread needs to work. */
struct worker {
    struct image_loader *loader;
    struct context context; /* of its errors */
    struct image_reader *reader;
    struct image_workspace *workspace;
    float *other; /* the image that is mixed in */
    pthread_t thread;
};

struct image_loader {
    struct context *context;
    struct image_loader_options options;
    struct image_augmentation augmentation;
    int64_t image_floats;
    uint64_t order_key;

    struct worker *workers; /* [threads + 1], the last for the caller */
    int started;

    pthread_mutex_t lock;
    pthread_cond_t work;  /* there may be something to begin */
    pthread_cond_t ready; /* a slot was finished */
    bool stop;
    struct slot *slots; /* [ahead] */
    int64_t free_slots;
    struct range ranges[RANGES]; /* the first one is begun first */
    int range_count;
    struct image_loader_counts counts;

    float *images;
    char *errors;
};

/* Whether samples are mixed with their partners: the neighbours in the order of the epoch. */
bool loader_is_mixing(const struct image_loader *loader);
int64_t loader_partner(const struct image_loader *loader, int64_t n);

/* Fills in the slot of sample slot->n, or its error. */
void sample_make(struct worker *worker, struct slot *slot);

/* The same for two that are each other's partners, of which each image is read once. */
void sample_make_pair(struct worker *worker, struct slot *a, struct slot *b);

#endif
