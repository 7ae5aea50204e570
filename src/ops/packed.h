/* Parameters in the layouts that primitives of oneDNN ask for, made anew once their values have changed. */
#ifndef CAIRN_OPS_PACKED_H
#define CAIRN_OPS_PACKED_H

#include "src/ops/matmul_plans.h"

/* The parameter that lies at `from` as `stored` says, in another layout. */
enum status packed_find(struct context *context, struct matmul_plans *plans, const dnnl_memory_desc_t *stored,
                        const dnnl_memory_desc_t *layout, const void *from, dnnl_memory_t *memory) MUST_USE;

void packed_destroy_all(struct context *context, struct matmul_plans *plans);

/* Of primitives that add to what is there, or do not. */
dnnl_status_t attributes_create(bool add, dnnl_primitive_attr_t *attributes) MUST_USE;

/* `add` adds to what is there. */
dnnl_status_t reorder_create(struct matmul_plans *plans, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                             bool add, dnnl_primitive_t *reorder) MUST_USE;

#endif
