/* Matrix products of BF16 prepared by oneDNN, one plan for each shape, and parameters packed for them once per
 * optimiser step. Not safe for several threads. */
#ifndef CAIRN_OPS_MATMUL_PLANS_H
#define CAIRN_OPS_MATMUL_PLANS_H

#include <dnnl.h>

#include "src/ops/engine.h"

struct plan;
struct packed;
struct convolution_plan; /* src/ops/convolution_plans.h */

/* A large model has a thousand parameters, most of them in two layouts. */
enum { PACKED_LISTS = 1024 };

struct matmul_plans {
    bool plain;       /* no library: C loops only */
    bool native;      /* the library multiplies BF16; otherwise it is widened to fp32 */
    bool rows_differ; /* the library's rounding of an fp32 row may depend on its place */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct plan *table; /* open addressing; capacity is 0 or a power of two */
    int64_t capacity;
    int64_t count;
    struct packed *packed[PACKED_LISTS]; /* parameters in the layouts that plans ask for, by their address */
    int64_t epoch;                       /* of the parameters' values */
    struct convolution_plan *convolutions;
    float *convolution_gradient; /* of weights, in the library's own layout */
    size_t convolution_bytes;
};

enum status plans_create(struct context *context, struct matmul_plans **plans) MUST_USE;
void plans_destroy(struct context *context, struct matmul_plans *plans);

/* Runs a product of BF16 matrices, none of them empty; *done is false when the library has no way to do it on this
 * machine. */
enum status plans_run(struct context *context, struct matmul_plans *plans, const struct matmul *product,
                      bool *done) MUST_USE;

enum { PANEL_COLUMNS = 64 };

/* A parameter B as it is packed for a product, if that is panels of PANEL_COLUMNS columns one behind the other, each of
 * them pairs [k / 2, PANEL_COLUMNS] as in src/ops/kernels/kernels.h, with something behind B's last column; else NULL.
 */
enum status plans_panels(struct context *context, struct matmul_plans *plans, const struct matmul *product,
                         const uint32_t **panels) MUST_USE;

#endif
