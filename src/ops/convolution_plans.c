#include "src/ops/convolution_plans.h"

#include <string.h>

#include "src/ops/packed.h"

struct convolution_plan {
    struct convolution_shape shape;
    enum convolution_pass pass;
    dnnl_primitive_t primitive; /* NULL when the library cannot do it */
    dnnl_memory_t x, y;
    dnnl_memory_desc_t stored;  /* the weights as they come, or their gradient */
    dnnl_memory_desc_t weights; /* as the primitive wants or makes them */
    dnnl_memory_t made, sum;    /* of the gradient of weights, which a reorder adds to what there is */
    dnnl_primitive_t add;
    struct convolution_plan *next;
};

static void plan_destroy(struct context *context, struct convolution_plan *plan)
{
    if (plan->primitive)
        dnnl_primitive_destroy(plan->primitive);
    if (plan->add)
        dnnl_primitive_destroy(plan->add);
    dnnl_memory_t memories[] = {plan->x, plan->y, plan->made, plan->sum};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i])
            dnnl_memory_destroy(memories[i]);
    memory_free(context, plan);
}

void convolution_plans_destroy(struct context *context, struct matmul_plans *plans)
{
    while (plans->convolutions) {
        struct convolution_plan *next = plans->convolutions->next;
        plan_destroy(context, plans->convolutions);
        plans->convolutions = next;
    }
    memory_free(context, plans->convolution_gradient);
    plans->convolution_gradient = NULL;
    plans->convolution_bytes = 0;
}

/* -- Layouts -- */

int64_t convolution_plans_block(struct matmul_plans *plans)
{
    enum { CHANNELS = 64, SIDE = 14 };
    dnnl_dims_t images = {1, CHANNELS, SIDE, SIDE};
    dnnl_dims_t kernel = {CHANNELS, CHANNELS, 3, 3};
    dnnl_dims_t ones = {1, 1};
    dnnl_memory_desc_t x, weights;
    dnnl_convolution_desc_t description;
    dnnl_primitive_desc_t prepared = NULL;
    int64_t block = 0;
    if (plans->plain)
        return 0;
    if (dnnl_memory_desc_init_by_tag(&x, 4, images, dnnl_f32, dnnl_format_tag_any) == dnnl_success &&
        dnnl_memory_desc_init_by_tag(&weights, 4, kernel, dnnl_f32, dnnl_format_tag_any) == dnnl_success &&
        dnnl_convolution_forward_desc_init(&description, dnnl_forward_training, dnnl_convolution_direct, &x, &weights,
                                           NULL, &x, ones, ones, ones) == dnnl_success &&
        dnnl_primitive_desc_create(&prepared, &description, NULL, plans->engine, NULL) == dnnl_success) {
        const dnnl_memory_desc_t *y = dnnl_primitive_desc_query_md(prepared, dnnl_query_dst_md, 0);
        const dnnl_blocking_desc_t *blocks = &y->format_desc.blocking;
        if (y->format_kind == dnnl_blocked && blocks->inner_nblks == 1 && blocks->inner_idxs[0] == 1 &&
            (blocks->inner_blks[0] == 8 || blocks->inner_blks[0] == 16))
            block = blocks->inner_blks[0];
        dnnl_primitive_desc_destroy(prepared);
    }
    return block;
}

static dnnl_format_tag_t images_tag(int64_t block, int64_t channels, bool last)
{
    if (block <= 1)
        return last && channels == 1 ? dnnl_nhwc : dnnl_nchw;
    if (last || (block != 8 && block != 16))
        return dnnl_nhwc;
    return block == 8 ? dnnl_nChw8c : dnnl_nChw16c;
}

static dnnl_data_type_t type_of(int64_t type)
{
    return type == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
}

struct descriptions {
    dnnl_memory_desc_t x, weights, y;
};

/* Where all channels lie together on both sides that is one layout, not blocks that happen to be as large. */
static dnnl_status_t describe(const struct convolution_shape *s, dnnl_data_type_t weights, struct descriptions *of)
{
    dnnl_dims_t x = {s->rows, s->inputs, s->height, s->width};
    dnnl_dims_t w = {s->outputs, s->inputs, s->kernel, s->kernel};
    dnnl_dims_t y = {s->rows, s->outputs, s->out_height, s->out_width};
    bool last = s->block_in == s->inputs && s->block_out == s->outputs && s->inputs != s->outputs;
    dnnl_data_type_t type = type_of(s->type);
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&of->x, 4, x, type, images_tag(s->block_in, s->inputs, last));
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&of->weights, 4, w, weights, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&of->y, 4, y, type, images_tag(s->block_out, s->outputs, last));
    return status;
}

/* -- Plans -- */

static dnnl_status_t prepare_forward(struct matmul_plans *plans, const struct convolution_shape *s,
                                     dnnl_primitive_desc_t *prepared)
{
    struct descriptions of;
    dnnl_convolution_desc_t description;
    dnnl_dims_t stride = {s->stride, s->stride};
    dnnl_dims_t padding = {s->padding, s->padding};
    dnnl_status_t status = describe(s, type_of(s->type), &of);
    if (status == dnnl_success)
        status = dnnl_convolution_forward_desc_init(&description, dnnl_forward_training, dnnl_convolution_direct, &of.x,
                                                    &of.weights, NULL, &of.y, stride, padding, padding);
    return status == dnnl_success ? dnnl_primitive_desc_create(prepared, &description, NULL, plans->engine, NULL)
                                  : status;
}

/* The library's first choice, but for gradients of the weights of a 1 x 1 with a stride where all channels lie
 * together: that one writes past the end of its scratch memory (seen in 2.6). */
static dnnl_status_t choose(struct matmul_plans *plans, const dnnl_convolution_desc_t *description,
                            const_dnnl_primitive_desc_t forward, bool avoids, dnnl_primitive_desc_t *prepared)
{
    dnnl_primitive_desc_iterator_t all;
    if (!avoids)
        return dnnl_primitive_desc_create(prepared, description, NULL, plans->engine, forward);
    dnnl_status_t status = dnnl_primitive_desc_iterator_create(&all, description, NULL, plans->engine, forward);
    if (status != dnnl_success)
        return status;
    do {
        const char *name = "";
        *prepared = dnnl_primitive_desc_iterator_fetch(all);
        status = dnnl_primitive_desc_query(*prepared, dnnl_query_impl_info_str, 0, &name);
        if (status == dnnl_success && !strstr(name, "jit_1x1") && !strstr(name, "jit_bf16_1x1"))
            break;
        dnnl_primitive_desc_destroy(*prepared);
        *prepared = NULL;
        status = dnnl_primitive_desc_iterator_next(all);
    } while (status == dnnl_success);
    dnnl_primitive_desc_iterator_destroy(all);
    return *prepared ? dnnl_success : dnnl_unimplemented;
}

static dnnl_status_t prepare_backward(struct matmul_plans *plans, const struct convolution_shape *s,
                                      enum convolution_pass pass, dnnl_primitive_desc_t *prepared)
{
    struct descriptions of;
    dnnl_convolution_desc_t description;
    dnnl_primitive_desc_t forward = NULL;
    dnnl_dims_t stride = {s->stride, s->stride};
    dnnl_dims_t padding = {s->padding, s->padding};
    bool data = pass == CONVOLUTION_BACKWARD_DATA;
    dnnl_status_t status = prepare_forward(plans, s, &forward);
    if (status == dnnl_success)
        status = describe(s, data ? type_of(s->type) : dnnl_f32, &of);
    if (status == dnnl_success && data)
        status = dnnl_convolution_backward_data_desc_init(&description, dnnl_convolution_direct, &of.x, &of.weights,
                                                          &of.y, stride, padding, padding);
    else if (status == dnnl_success)
        status = dnnl_convolution_backward_weights_desc_init(&description, dnnl_convolution_direct, &of.x, &of.weights,
                                                             NULL, &of.y, stride, padding, padding);
    if (status == dnnl_success)
        status =
            choose(plans, &description, forward,
                   !data && s->kernel == 1 && s->stride > 1 && of.x.format_desc.blocking.inner_nblks == 0, prepared);
    if (forward)
        dnnl_primitive_desc_destroy(forward);
    return status;
}

static dnnl_status_t create_memories(struct matmul_plans *plans, const_dnnl_primitive_desc_t prepared,
                                     struct convolution_plan *plan)
{
    const struct convolution_shape *s = &plan->shape;
    bool data = plan->pass == CONVOLUTION_BACKWARD_DATA;
    bool of_weights = plan->pass == CONVOLUTION_BACKWARD_WEIGHTS;
    dnnl_dims_t kernel = {s->outputs, s->inputs, s->kernel, s->kernel};
    const dnnl_memory_desc_t *x =
        dnnl_primitive_desc_query_md(prepared, data ? dnnl_query_diff_src_md : dnnl_query_src_md, 0);
    const dnnl_memory_desc_t *y = dnnl_primitive_desc_query_md(
        prepared, plan->pass == CONVOLUTION_FORWARD ? dnnl_query_dst_md : dnnl_query_diff_dst_md, 0);
    plan->weights =
        *dnnl_primitive_desc_query_md(prepared, of_weights ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    dnnl_status_t status = dnnl_memory_create(&plan->x, x, plans->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&plan->y, y, plans->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status =
            dnnl_memory_desc_init_by_tag(&plan->stored, 4, kernel, of_weights ? dnnl_f32 : type_of(s->type), dnnl_oihw);
    if (status != dnnl_success || !of_weights)
        return status;
    status = dnnl_memory_create(&plan->made, &plan->weights, plans->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&plan->sum, &plan->stored, plans->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = reorder_create(plans, &plan->weights, &plan->stored, true, &plan->add);
    return status;
}

static enum status make_gradient_room(struct context *context, struct matmul_plans *plans, size_t bytes)
{
    if (bytes <= plans->convolution_bytes)
        return STATUS_OK;
    memory_free(context, plans->convolution_gradient);
    plans->convolution_bytes = 0;
    plans->convolution_gradient = memory_allocate(context, bytes, MEMORY_BUFFERS);
    if (!plans->convolution_gradient)
        return STATUS_MEMORY;
    plans->convolution_bytes = bytes;
    return STATUS_OK;
}

static enum status plan_create(struct context *context, struct matmul_plans *plans,
                               const struct convolution_shape *shape, enum convolution_pass pass,
                               struct convolution_plan **created)
{
    struct convolution_plan *plan = memory_allocate(context, sizeof *plan, MEMORY_OTHER);
    *created = plan;
    if (!plan)
        return STATUS_MEMORY;
    *plan = (struct convolution_plan){.shape = *shape, .pass = pass, .next = plans->convolutions};
    plans->convolutions = plan;
    dnnl_primitive_desc_t prepared = NULL;
    dnnl_status_t status = pass == CONVOLUTION_FORWARD ? prepare_forward(plans, shape, &prepared)
                                                       : prepare_backward(plans, shape, pass, &prepared);
    if (status == dnnl_unimplemented)
        return STATUS_OK;
    if (status == dnnl_success)
        status = create_memories(plans, prepared, plan);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&plan->primitive, prepared);
    if (prepared)
        dnnl_primitive_desc_destroy(prepared);
    if (status != dnnl_success)
        return context_fail(context, STATUS_INTERNAL,
                            "oneDNN cannot prepare a convolution of %lld to %lld channels: status %d",
                            (long long)shape->inputs, (long long)shape->outputs, (int)status);
    return pass == CONVOLUTION_BACKWARD_WEIGHTS
               ? make_gradient_room(context, plans, dnnl_memory_desc_get_size(&plan->weights))
               : STATUS_OK;
}

static bool same_shape(const struct convolution_shape *a, const struct convolution_shape *b)
{
    return a->rows == b->rows && a->inputs == b->inputs && a->height == b->height && a->width == b->width &&
           a->outputs == b->outputs && a->kernel == b->kernel && a->stride == b->stride && a->padding == b->padding &&
           a->block_in == b->block_in && a->block_out == b->block_out && a->type == b->type;
}

/* The library takes inputs through pointers to data that is not const, and only reads them. */
static dnnl_status_t plan_execute(struct matmul_plans *plans, const struct convolution_plan *plan,
                                  dnnl_memory_t weights)
{
    static const int names[][3] = {
        [CONVOLUTION_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        [CONVOLUTION_BACKWARD_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        [CONVOLUTION_BACKWARD_WEIGHTS] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    const int *name = names[plan->pass];
    dnnl_exec_arg_t arguments[] = {{name[0], plan->x}, {name[1], weights}, {name[2], plan->y}};
    dnnl_status_t status = dnnl_primitive_execute(plan->primitive, plans->stream, 3, arguments);
    if (status != dnnl_success || plan->pass != CONVOLUTION_BACKWARD_WEIGHTS)
        return status;
    dnnl_exec_arg_t adding[] = {{DNNL_ARG_FROM, plan->made}, {DNNL_ARG_TO, plan->sum}};
    return dnnl_primitive_execute(plan->add, plans->stream, 2, adding);
}

enum status convolution_plans_run(struct context *context, struct matmul_plans *plans,
                                  const struct convolution_shape *shape, enum convolution_pass pass,
                                  const struct convolution_operands *operands, bool *done)
{
    struct convolution_plan *plan = plans->convolutions;
    while (plan && !(plan->pass == pass && same_shape(&plan->shape, shape)))
        plan = plan->next;
    if (!plan)
        CHECK(plan_create(context, plans, shape, pass, &plan));
    *done = plan->primitive != NULL;
    if (!*done)
        return STATUS_OK;
    dnnl_memory_t weights = plan->made;
    if (pass != CONVOLUTION_BACKWARD_WEIGHTS)
        CHECK(packed_find(context, plans, &plan->stored, &plan->weights, operands->weight, &weights));
    if (context->dry)
        return STATUS_OK;
    dnnl_memory_set_data_handle(plan->x, operands->x);
    dnnl_memory_set_data_handle(plan->y, operands->y);
    if (pass == CONVOLUTION_BACKWARD_WEIGHTS) {
        dnnl_memory_set_data_handle(plan->made, plans->convolution_gradient);
        dnnl_memory_set_data_handle(plan->sum, operands->weight);
    }
    dnnl_status_t status = plan_execute(plans, plan, weights);
    if (status != dnnl_success)
        return context_fail(context, STATUS_INTERNAL, "oneDNN failed in a convolution: status %d", (int)status);
    return STATUS_OK;
}
