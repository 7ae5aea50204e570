#include "src/ops/packed.h"

struct packed {
    const void *from;
    dnnl_memory_desc_t stored; /* how it lies at `from`: a square one may be used both ways */
    dnnl_memory_desc_t layout;
    dnnl_memory_t memory;
    dnnl_primitive_t reorder;
    dnnl_memory_t plain;
    void *data;
    int64_t epoch;
    struct packed *next;
};

static void packed_destroy(struct context *context, struct packed *packed)
{
    if (packed->reorder)
        dnnl_primitive_destroy(packed->reorder);
    if (packed->memory)
        dnnl_memory_destroy(packed->memory);
    if (packed->plain)
        dnnl_memory_destroy(packed->plain);
    memory_free(context, packed->data);
    memory_free(context, packed);
}

void packed_destroy_all(struct context *context, struct matmul_plans *plans)
{
    for (int i = 0; i < PACKED_LISTS; i++)
        while (plans->packed[i]) {
            struct packed *next = plans->packed[i]->next;
            packed_destroy(context, plans->packed[i]);
            plans->packed[i] = next;
        }
}

dnnl_status_t attributes_create(bool add, dnnl_primitive_attr_t *attributes)
{
    dnnl_post_ops_t after = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attributes);
    if (status == dnnl_success)
        status = dnnl_post_ops_create(&after);
    if (status == dnnl_success && add)
        status = dnnl_post_ops_append_sum(after, 1.0f);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(*attributes, after);
    if (after)
        dnnl_post_ops_destroy(after);
    return status;
}

dnnl_status_t reorder_create(struct matmul_plans *plans, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                             bool add, dnnl_primitive_t *reorder)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t prepared = NULL;
    dnnl_status_t status = attributes_create(add, &attributes);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&prepared, from, plans->engine, to, plans->engine, attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_create(reorder, prepared);
    if (prepared)
        dnnl_primitive_desc_destroy(prepared);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return status;
}

static struct packed **packed_list(struct matmul_plans *plans, const void *from)
{
    /* The low bits are alike: parameters begin at multiples of 64 bytes or of their rows. */
    uint64_t hash = (uint64_t)(uintptr_t)from * 0x9e3779b97f4a7c15u;
    return &plans->packed[(hash >> 32) % PACKED_LISTS];
}

static enum status packed_create(struct context *context, struct matmul_plans *plans, const dnnl_memory_desc_t *stored,
                                 const dnnl_memory_desc_t *layout, const void *from, struct packed **created)
{
    struct packed *packed = memory_allocate(context, sizeof *packed, MEMORY_OTHER);
    void *data = memory_allocate(context, dnnl_memory_desc_get_size(layout), MEMORY_PARAMETERS);
    if (!packed || !data) {
        memory_free(context, packed);
        memory_free(context, data);
        return STATUS_MEMORY;
    }
    struct packed **list = packed_list(plans, from);
    *packed =
        (struct packed){.from = from, .stored = *stored, .layout = *layout, .data = data, .epoch = -1, .next = *list};
    *list = packed;
    *created = packed;
    dnnl_status_t status = dnnl_memory_create(&packed->memory, layout, plans->engine, data);
    if (status == dnnl_success)
        status = dnnl_memory_create(&packed->plain, stored, plans->engine, (void *)(uintptr_t)from);
    if (status == dnnl_success)
        status = reorder_create(plans, stored, layout, false, &packed->reorder);
    if (status != dnnl_success)
        return context_fail(context, STATUS_INTERNAL, "oneDNN cannot pack a parameter: status %d", (int)status);
    return STATUS_OK;
}

enum status packed_find(struct context *context, struct matmul_plans *plans, const dnnl_memory_desc_t *stored,
                        const dnnl_memory_desc_t *layout, const void *from, dnnl_memory_t *memory)
{
    struct packed *packed = *packed_list(plans, from);
    while (packed && (packed->from != from || !dnnl_memory_desc_equal(&packed->stored, stored) ||
                      !dnnl_memory_desc_equal(&packed->layout, layout)))
        packed = packed->next;
    if (!packed)
        CHECK(packed_create(context, plans, stored, layout, from, &packed));
    *memory = packed->memory;
    if (packed->epoch == plans->epoch || context->dry)
        return STATUS_OK;
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, packed->plain}, {DNNL_ARG_TO, packed->memory}};
    if (dnnl_primitive_execute(packed->reorder, plans->stream, 2, arguments) != dnnl_success)
        return context_fail(context, STATUS_INTERNAL, "oneDNN failed to pack a parameter");
    packed->epoch = plans->epoch;
    return STATUS_OK;
}
