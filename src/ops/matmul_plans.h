/* Matrix products of BF16 prepared by oneDNN, one plan for each shape, and parameters packed for them once per
 * optimiser step. Not safe for several threads. */
#ifndef CAIRN_OPS_MATMUL_PLANS_H
#define CAIRN_OPS_MATMUL_PLANS_H

#include <dnnl.h>

#include "src/ops/engine.h"

struct plan;
struct packed;

struct matmul_plans {
    bool plain;  /* no library: C loops only */
    bool native; /* the library multiplies BF16; otherwise it is widened to fp32 */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct plan *table; /* open addressing; capacity is 0 or a power of two */
    int64_t capacity;
    int64_t count;
    struct packed *packed; /* parameters in the layouts that plans ask for */
    int64_t epoch;         /* of the parameters' values */
};

enum status plans_create(struct context *context, struct matmul_plans **plans) MUST_USE;
void plans_destroy(struct context *context, struct matmul_plans *plans);

/* Runs a product of BF16 matrices, none of them empty; *done is false when the library has no way to do it on this
 * machine. */
enum status plans_run(struct context *context, struct matmul_plans *plans, const struct matmul *product,
                      bool *done) MUST_USE;

#endif
