/* The list of measured operations, for src/bench/kernels*.c. */
#ifndef CAIRN_BENCH_KERNELS_PRIVATE_H
#define CAIRN_BENCH_KERNELS_PRIVATE_H

#include "src/bench/measure.h"
#include "src/core/notice.h"
#include "src/ops/ops.h"

enum { KERNEL_ROWS = 64 };

/* One line of the table. Rates count `flops` if there are any, otherwise `bytes`, which must cross between memory and
 * the cores: `counted` names them. */
struct kernel_row {
    const char *operation;
    char shape[32];
    double seconds; /* median */
    double flops;
    double bytes;
    double bandwidth; /* that memory had to give when it was measured, where it limits */
    const char *counted;
    enum dtype dtype; /* whose ceiling of arithmetic applies */
};

struct kernel_sizes {
    int64_t tokens; /* of products */
    int64_t width, hidden, vocabulary, heads;
    int64_t lengths[2];                         /* of attention */
    int64_t images, image_channels, image_side; /* of convolutions in the first stage */
    int64_t large_bytes;                        /* of a tensor that no cache holds, for operations that memory limits */
};

struct kernel_bench {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    bool quick;
    enum dtype dtype;
    struct kernel_sizes sizes;
    struct arena work;
    struct pool pool;
    struct tape tape;
    struct notice notice;
    struct kernel_row rows[KERNEL_ROWS];
    int count;
    /* Operands, each of large_bytes or more, filled with small numbers. */
    void *x, *y, *z;
    float *floats[4];
    float *gradient;    /* of parameters: of a table [vocabulary, width], of kernels */
    int32_t *indices;   /* below the vocabulary */
    int32_t *positions; /* below lengths[0] */
    struct parameter weight;
    struct parameter bias;
    struct parameter running_mean, running_variance;
};

/* A tensor of rows over one of the operands, new on the tape. */
struct tensor *kernel_leaf(struct kernel_bench *bench, void *data, int64_t rows, int64_t columns, bool needs_gradient);

/* An operation as it stands in a model: builds its output from leaves and parameters. */
typedef struct tensor *(*kernel_build)(struct kernel_bench *bench, int64_t rows, int64_t columns);

/* Adds a row for the forward pass and one for the backward pass; an operation of NULL is not wanted. */
void kernel_measure(struct kernel_bench *bench, kernel_build build, int64_t rows, int64_t columns,
                    const struct kernel_row *forward, const struct kernel_row *backward);

/* Adds a row for a function of plain arrays. */
void kernel_measure_call(struct kernel_bench *bench, void (*call)(struct kernel_bench *bench, int64_t count),
                         int64_t count, const struct kernel_row *row);

/* The rows themselves. */
void kernel_products(struct kernel_bench *bench);
void kernel_attentions(struct kernel_bench *bench);
void kernel_elementwise(struct kernel_bench *bench);
void kernel_arrays(struct kernel_bench *bench);
void kernel_images(struct kernel_bench *bench);

#endif
