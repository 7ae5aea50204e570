/* Residual networks of images (src/model/README.md section 9): what they are made of, and their forward pass. Images
 * are divided among data ranks; every rank holds all parameters. */
#ifndef CAIRN_MODEL_RESNET_H
#define CAIRN_MODEL_RESNET_H

#include "dist/parallel/batch_norm.h"
#include "src/model/model.h"

enum {
    RESNET_STAGES = 4,
    RESNET_BLOCKS = 16 + RESNET_EXTRA_BLOCKS,
    RESNET_UNITS = 1 + RESNET_BLOCKS * 3 + RESNET_STAGES,
    RESNET_NAME = 64,
    /* Earlier inputs of blocks that a connection can reach: those of its stage. */
    RESNET_HISTORY = 5 + RESNET_EXTRA_BLOCKS,
};

/* A convolution and the batch normalisation of what it gives. */
struct resnet_unit_shape {
    char convolution[RESNET_NAME], norm[RESNET_NAME];
    int64_t inputs, outputs, kernel, stride;
    int64_t size; /* rows and columns of its input */
};

struct resnet_block_shape {
    char prefix[RESNET_NAME];
    int first, units; /* those on its way; the shortcut's unit follows them */
    bool identity;    /* the shortcut has none */
    int64_t channels; /* of its output */
    int64_t size;     /* rows and columns of that */
    int connection;   /* how many identity blocks of its stage come before one */
};

struct resnet_shape {
    struct resnet_unit_shape unit[RESNET_UNITS]; /* the stem first */
    struct resnet_block_shape block[RESNET_BLOCKS];
    int units, blocks;
    bool pools; /* behind the stem */
    int64_t features;
};

void resnet_shape_create(const struct model_config *config, struct resnet_shape *shape);

/* Rows and columns of what a unit gives. */
int64_t resnet_unit_output(const struct resnet_unit_shape *unit);

struct resnet_unit {
    struct parameter *convolution;
    struct batch_norm norm;
};

/* LAuReL's; NULL where the form has no such parameter. */
struct resnet_connection {
    struct parameter *weights, *down, *up, *gamma;
};

struct resnet {
    struct model *model;
    struct resnet_shape shape;
    struct resnet_unit unit[RESNET_UNITS];
    struct resnet_connection connection[RESNET_BLOCKS]; /* of identity blocks */
    struct parameter *classifier, *classifier_bias;
    int64_t block; /* the layout of images, as image_block gives it */
};

/* Declares all parameters and buffers in the order of the forward pass, whole on every rank. */
enum status resnet_declare(struct resnet *resnet, const struct model_config *config,
                           struct parameter_list *list) MUST_USE;

/* Rows [rows, channels, size, size] of fp32 to logits [rows, classes] F32; NULL with the context's error. With the
 * group's statistics collective over the data axis. */
struct tensor *resnet_logits(struct tape *tape, struct resnet *resnet, float *images, int64_t rows, bool training);

#endif
