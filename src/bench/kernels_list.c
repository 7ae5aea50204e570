/* The operations of GPT-2 and of Llama-like models at GPT-2 124M's sizes. E below is the size of an element of the
 * chosen type. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dist/parallel/vocabulary.h"
#include "src/bench/kernels_private.h"

static double rate_size(const struct kernel_bench *bench)
{
    return (double)dtype_size(bench->dtype);
}

static void parameter_set(struct kernel_bench *bench, struct parameter *parameter, void *data, int rank, int64_t rows,
                          int64_t columns, bool needs_gradient)
{
    *parameter = (struct parameter){.gradient = bench->gradient};
    parameter->value = (struct tensor){.dtype = bench->dtype,
                                       .rank = rank,
                                       .shape = {rank == 1 ? columns : rows, columns},
                                       .data = data,
                                       .needs_gradient = needs_gradient,
                                       .parameter = parameter};
}

/* -- Products: y [tokens, O] = x [tokens, I] W^T -- */

static struct tensor *build_forward(struct kernel_bench *bench, int64_t inputs, int64_t outputs)
{
    parameter_set(bench, &bench->weight, bench->y, 2, outputs, inputs, false);
    struct tensor *x = kernel_leaf(bench, bench->x, bench->sizes.tokens, inputs, false);
    return linear(&bench->tape, x, &bench->weight.value, NULL, bench->dtype);
}

static struct tensor *build_input_gradient(struct kernel_bench *bench, int64_t inputs, int64_t outputs)
{
    parameter_set(bench, &bench->weight, bench->y, 2, outputs, inputs, false);
    struct tensor *x = kernel_leaf(bench, bench->x, bench->sizes.tokens, inputs, true);
    return linear(&bench->tape, x, &bench->weight.value, NULL, bench->dtype);
}

static struct tensor *build_weight_gradient(struct kernel_bench *bench, int64_t inputs, int64_t outputs)
{
    parameter_set(bench, &bench->weight, bench->y, 2, outputs, inputs, true);
    struct tensor *x = kernel_leaf(bench, bench->x, bench->sizes.tokens, inputs, false);
    return linear(&bench->tape, x, &bench->weight.value, NULL, bench->dtype);
}

static struct tensor *build_head(struct kernel_bench *bench, int64_t inputs, int64_t outputs)
{
    parameter_set(bench, &bench->weight, bench->y, 2, outputs, inputs, true);
    struct tensor *x = kernel_leaf(bench, bench->x, bench->sizes.tokens, inputs, true);
    struct vocabulary_targets targets = {
        .tokens = bench->indices, .vocabulary = outputs, .scale = 1.0f / (float)bench->sizes.tokens};
    return vocabulary_loss(&bench->tape, bench->mesh, x, &bench->weight.value, &targets);
}

void kernel_products(struct kernel_bench *bench)
{
    const struct kernel_sizes *s = &bench->sizes;
    const struct {
        const char *forward, *input, *weight;
        int64_t inputs, outputs;
    } products[] = {
        {"qkv forward", "qkv input gradient", "qkv weight gradient", s->width, 3 * s->width},
        {"o forward", "o input gradient", "o weight gradient", s->width, s->width},
        {"up forward", "up input gradient", "up weight gradient", s->width, s->hidden},
        {"down forward", "down input gradient", "down weight gradient", s->hidden, s->width},
        {"head forward", "head input gradient", "head weight gradient", s->width, s->vocabulary},
    };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        int64_t inputs = products[i].inputs;
        int64_t outputs = products[i].outputs;
        double each = 2.0 * (double)s->tokens * (double)inputs * (double)outputs;
        struct kernel_row row = {.flops = each, .counted = "2 T I O"};
        snprintf(row.shape, sizeof row.shape, "%lldx%lldx%lld", (long long)s->tokens, (long long)inputs,
                 (long long)outputs);
        row.operation = products[i].forward;
        kernel_measure(bench, build_forward, inputs, outputs, &row, NULL);
        row.operation = products[i].input;
        kernel_measure(bench, build_input_gradient, inputs, outputs, NULL, &row);
        row.operation = products[i].weight;
        kernel_measure(bench, build_weight_gradient, inputs, outputs, NULL, &row);
        engine_forget(bench->engine);
    }
    struct kernel_row head = {.operation = "head with loss",
                              .flops = 6.0 * (double)s->tokens * (double)s->width * (double)s->vocabulary,
                              .counted = "6 T I V"};
    snprintf(head.shape, sizeof head.shape, "%lldx%lldx%lld", (long long)s->tokens, (long long)s->width,
             (long long)s->vocabulary);
    kernel_measure(bench, build_head, s->width, s->vocabulary, &head, NULL);
    engine_forget(bench->engine);
}

/* -- Attention -- */

static struct tensor *build_attention(struct kernel_bench *bench, int64_t length, int64_t width)
{
    int32_t *heads = tape_save(&bench->tape, (size_t)bench->sizes.heads * sizeof *heads);
    for (int64_t i = 0; heads && i < bench->sizes.heads; i++)
        heads[i] = (int32_t)i;
    struct attention_shape shape = {.spans = 1,
                                    .span = attention_rows(&bench->tape, 1, length, length),
                                    .heads = bench->sizes.heads,
                                    .kv_heads = bench->sizes.heads,
                                    .width = width / bench->sizes.heads,
                                    .kv_of_head = heads};
    if (!heads)
        return NULL;
    return attention(&bench->tape, kernel_leaf(bench, bench->x, length, width, true),
                     kernel_leaf(bench, bench->y, length, width, true),
                     kernel_leaf(bench, bench->z, length, width, true), &shape);
}

void kernel_attentions(struct kernel_bench *bench)
{
    for (int i = 0; i < 2; i++) {
        int64_t length = bench->sizes.lengths[i];
        double pairs = 0.5 * (double)length * ((double)length + 1.0);
        double product = 2.0 * pairs * (double)bench->sizes.width;
        struct kernel_row forward = {
            .operation = "attention forward", .flops = 2.0 * product, .counted = "2 causal products"};
        snprintf(forward.shape, sizeof forward.shape, "%lldx%lldx%lld", (long long)length,
                 (long long)bench->sizes.heads, (long long)(bench->sizes.width / bench->sizes.heads));
        struct kernel_row backward = forward;
        backward.operation = "attention backward";
        backward.flops = 5.0 * product;
        backward.counted = "5 causal products";
        kernel_measure(bench, build_attention, length, bench->sizes.width, &forward, &backward);
    }
}

/* -- Operations that memory limits -- */

static struct tensor *build_norm(struct kernel_bench *bench, int64_t rows, int64_t columns, enum norm_kind kind)
{
    bool biased = kind == NORM_LAYER;
    parameter_set(bench, &bench->weight, bench->y, 1, 1, columns, true);
    parameter_set(bench, &bench->bias, bench->z, 1, 1, columns, true);
    bench->bias.gradient = bench->gradient + columns;
    return norm(&bench->tape, kernel_leaf(bench, bench->x, rows, columns, true), &bench->weight.value,
                biased ? &bench->bias.value : NULL, kind, 1e-5);
}

static struct tensor *build_layer_norm(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    return build_norm(bench, rows, columns, NORM_LAYER);
}

static struct tensor *build_rms_norm(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    return build_norm(bench, rows, columns, NORM_RMS);
}

static struct tensor *build_swiglu(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    return swiglu(&bench->tape, kernel_leaf(bench, bench->x, rows, columns, true),
                  kernel_leaf(bench, bench->y, rows, columns, true));
}

static struct tensor *build_gelu(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    return gelu(&bench->tape, kernel_leaf(bench, bench->x, rows, columns, true));
}

static struct tensor *build_add(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    return add(&bench->tape, kernel_leaf(bench, bench->x, rows, columns, true),
               kernel_leaf(bench, bench->y, rows, columns, true));
}

static struct tensor *build_rope(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    return rope(&bench->tape, kernel_leaf(bench, bench->x, rows, columns, true), columns / bench->sizes.heads,
                bench->positions, bench->floats[1], bench->floats[2]);
}

static struct tensor *build_embedding(struct kernel_bench *bench, int64_t rows, int64_t columns)
{
    parameter_set(bench, &bench->weight, bench->y, 2, bench->sizes.vocabulary, columns, true);
    return embedding(&bench->tape, &bench->weight.value, bench->indices, rows, 0);
}

void kernel_elementwise(struct kernel_bench *bench)
{
    const struct kernel_sizes *s = &bench->sizes;
    double e = rate_size(bench);
    /* Bytes of an element, forward and backward; the gradient of a sum is shared, not computed. */
    const struct {
        kernel_build build;
        const char *forward, *backward;
        int64_t columns;
        double forward_bytes, backward_bytes;
        const char *forward_counted, *backward_counted;
    } list[] = {
        {build_layer_norm, "layer norm forward", "layer norm backward", s->width, 2 * e, 3 * e, "x, y", "dy, x, dx"},
        {build_rms_norm, "rms norm forward", "rms norm backward", s->width, 2 * e, 3 * e, "x, y", "dy, x, dx"},
        {build_swiglu, "swiglu forward", "swiglu backward", s->hidden, 3 * e, 5 * e, "gate, up, y",
         "dy, 2 inputs, 2 grads"},
        {build_gelu, "gelu forward", "gelu backward", s->hidden, 2 * e, 3 * e, "x, y", "dy, x, dx"},
        {build_add, "add", NULL, s->width, 3 * e, 0, "x, y, sum", NULL},
        {build_rope, "rope forward", "rope backward", s->width, 2 * e, 2 * e, "x, y", "dy, dx"},
        {build_embedding, "embedding forward", "embedding backward", s->width, 2 * e, e + 8, "rows, y",
         "dy, rows' fp32 twice"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t rows = integer_max(1, s->large_bytes / (int64_t)e / list[i].columns);
        double elements = (double)(rows * list[i].columns);
        struct kernel_row forward = {.operation = list[i].forward,
                                     .bytes = elements * list[i].forward_bytes,
                                     .counted = list[i].forward_counted};
        struct kernel_row backward = {.operation = list[i].backward,
                                      .bytes = elements * list[i].backward_bytes,
                                      .counted = list[i].backward_counted};
        snprintf(forward.shape, sizeof forward.shape, "%lldx%lld", (long long)rows, (long long)list[i].columns);
        memcpy(backward.shape, forward.shape, sizeof backward.shape);
        kernel_measure(bench, list[i].build, rows, list[i].columns, &forward, list[i].backward ? &backward : NULL);
    }
}

/* -- Functions of arrays -- */

static void call_narrow(struct kernel_bench *bench, int64_t count)
{
    convert(bench->engine, bench->floats[0], DTYPE_BF16, bench->floats[1], DTYPE_F32, count);
}

static void call_widen(struct kernel_bench *bench, int64_t count)
{
    convert(bench->engine, bench->floats[1], DTYPE_F32, bench->floats[0], DTYPE_BF16, count);
}

static void call_squares(struct kernel_bench *bench, int64_t count)
{
    bench->gradient[0] = (float)sum_of_squares(bench->engine, bench->floats[2], count);
}

static void call_adamw(struct kernel_bench *bench, int64_t count)
{
    adamw_step(bench->engine, &(struct adamw_step){.count = count,
                                                   .master = bench->floats[0],
                                                   .m = bench->floats[1],
                                                   .v = bench->floats[2],
                                                   .gradient = bench->floats[3],
                                                   .values = bench->dtype == DTYPE_BF16 ? bench->x : NULL,
                                                   .gradient_scale = 1.0f,
                                                   .rate = 1e-4f,
                                                   .beta1 = 0.9f,
                                                   .beta2 = 0.95f,
                                                   .epsilon = 1e-8f,
                                                   .correction1 = 1.0f,
                                                   .correction2 = 1.0f});
}

/* The three passes over the logits of all tokens. */
static void call_cross_entropy(struct kernel_bench *bench, int64_t count)
{
    int64_t tokens = count / bench->sizes.vocabulary;
    struct tensor logits = {
        .dtype = DTYPE_F32, .rank = 2, .shape = {tokens, bench->sizes.vocabulary}, .data = bench->floats[2]};
    float *largest = bench->floats[0];
    float *sum = largest + tokens;
    float *target = sum + tokens;
    cross_entropy_max(bench->engine, &logits, largest);
    cross_entropy_sums(bench->engine, &logits, largest, bench->indices, 0, sum, target);
    for (int64_t i = 0; i < tokens; i++)
        sum[i] = largest[i] + logf(sum[i]);
    cross_entropy_gradient(bench->engine, &logits, sum, bench->indices, 0, 1.0f, bench->floats[3]);
}

void kernel_arrays(struct kernel_bench *bench)
{
    const struct kernel_sizes *s = &bench->sizes;
    bool is_bf16 = bench->dtype == DTYPE_BF16;
    int64_t large = s->large_bytes / (int64_t)sizeof(float);
    const struct {
        void (*call)(struct kernel_bench *bench, int64_t count);
        const char *operation;
        int64_t count;
        double bytes;
        const char *counted;
    } list[] = {
        {call_narrow, "convert fp32 to bf16", large, 6, "from, to"},
        {call_widen, "convert bf16 to fp32", large, 6, "from, to"},
        {call_cross_entropy, "cross entropy", s->tokens * s->vocabulary, 16, "logits 3 times, derivatives"},
        {call_squares, "sum of squares", large, 4, "x"},
        {call_adamw, "AdamW", large, is_bf16 ? 30 : 28,
         is_bf16 ? "4 fp32 read, 3.5 written" : "4 fp32 read, 3 written"},
    };
    for (int64_t i = 0; i < large; i++) /* the second moments are positive */
        bench->floats[2][i] = 1e-4f;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct kernel_row row = {
            .operation = list[i].operation, .bytes = (double)list[i].count * list[i].bytes, .counted = list[i].counted};
        snprintf(row.shape, sizeof row.shape, "%lld", (long long)list[i].count);
        kernel_measure_call(bench, list[i].call, list[i].count, &row);
    }
}
