/* The kernels of dry runs: each takes what it is given and leaves it as it is. */
#include "src/ops/kernels/kernels.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

/* -- Tiles of bf16 -- */

static void bf16_begin(void)
{
}

static void bf16_end(void)
{
}

static void bf16_multiply(const struct bf16_product *product)
{
}

static void bf16_transpose(uint32_t *to, int64_t to_ld, const void *from, int64_t from_ld, int64_t rows,
                           int64_t columns)
{
}

static void bf16_pair(uint32_t *pairs, int64_t ld, const bf16 *tile, int64_t tile_ld, int64_t rows, int64_t columns)
{
}

static void bf16_part(bf16 *tile, int64_t tile_ld, const uint32_t *pairs, int64_t ld, int64_t rows, int64_t columns)
{
}

static void bf16_weights(const struct bf16_weights *step)
{
}

static void bf16_derivatives(const struct bf16_derivatives *step)
{
}

#define BF16_FUNCTIONS                                                                                           \
    .name = "dry", .begin = bf16_begin, .end = bf16_end, .multiply = bf16_multiply, .transpose = bf16_transpose, \
    .pair = bf16_pair, .part = bf16_part, .weights = bf16_weights, .derivatives = bf16_derivatives

static const struct bf16_kernels dry_bf16 = {BF16_FUNCTIONS};
static const struct bf16_kernels dry_whole_rows = {BF16_FUNCTIONS, .whole_rows = true};

/* -- All others -- */

static void convert(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count, bool uncached)
{
}

static void accumulate(void *to, enum dtype to_type, const void *from, enum dtype from_type, float beta, int64_t count)
{
}

static void accumulate_scaled(void *to, enum dtype to_type, const void *from, enum dtype from_type, float factor,
                              float beta, int64_t count)
{
}

static void add_scaled(void *sum, float a, const void *x, float b, const void *y, int64_t count, enum dtype dtype)
{
}

static void interpolate(void *to, const void *x, const void *y, float factor, int64_t count, enum dtype dtype)
{
}

static void add(void *sum, const void *x, const void *y, int64_t count, enum dtype dtype, bool uncached)
{
}

static void add_row(void *y, const void *x, const float *bias, int64_t rows, int64_t columns, enum dtype dtype)
{
}

static void sum_columns(float *sum, const void *x, int64_t rows, int64_t columns, int64_t stride, enum dtype dtype)
{
}

static void norm_forward(const struct norm_rows *norm, void *y)
{
}

static void norm_backward(const struct norm_rows *norm, const void *dy, void *dx, float beta, float *dweight,
                          float *dbias)
{
}

static void swiglu_forward(void *y, const void *gate, const void *up, int64_t count, enum dtype dtype, bool uncached)
{
}

static void swiglu_backward(void *dgate, float gate_beta, void *dup, float up_beta, const void *dy, const void *gate,
                            const void *up, int64_t count, enum dtype dtype, bool uncached)
{
}

static void silu_forward(void *y, const void *x, int64_t count, enum dtype dtype)
{
}

static void silu_backward(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype)
{
}

static void gelu_forward(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached)
{
}

static void gelu_backward(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                          bool uncached)
{
}

static void gelu_erf_forward(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached)
{
}

static void gelu_erf_backward(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                              bool uncached)
{
}

static void rope(void *y, const void *x, int64_t heads, int64_t width, const float *cosine, const float *sine,
                 float sign, float beta, enum dtype dtype)
{
}

static float row_max(const float *row, int64_t count)
{
    return 0;
}

static float row_sum_exp(const float *row, float largest, int64_t count)
{
    return 0;
}

static void row_softmax(float *gradient, const float *row, float log_sum, float scale, int64_t count)
{
}

static void tile_gather(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                        float factor, enum dtype dtype)
{
}

static void tile_gather_transposed(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows,
                                   int64_t columns, float factor, enum dtype dtype)
{
}

static void tile_scatter(void *to, int64_t stride, const float *tile, int64_t ld, int64_t rows, int64_t columns,
                         const float *factor, float beta, enum dtype dtype)
{
}

static void tile_multiply(const struct tile_product *product)
{
}

static void tile_scale(float *tile, int64_t ld, int64_t rows, int64_t columns, const float *factor)
{
}

static void tile_dots(float *sum, const float *x, int64_t x_ld, const float *y, int64_t y_ld, int64_t rows,
                      int64_t columns)
{
}

static void feature_gather(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                           enum dtype dtype)
{
}

static void feature_scatter(void *to, int64_t stride, const float *derivatives, const float *features, int64_t ld,
                            int64_t rows, int64_t columns, float beta, enum dtype dtype)
{
}

static void convolve(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                     enum dtype dtype)
{
}

static void convolve_backward(void *dx, float beta, const float *dy, const float *filter, int64_t behind, int64_t rows,
                              int64_t columns, enum dtype dtype)
{
}

static void convolve_filter(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride, int64_t rows,
                            int64_t columns, enum dtype dtype)
{
}

static void query_scores(const struct query_block *block, enum dtype dtype)
{
}

static void query_sums(const struct query_block *block, enum dtype dtype)
{
}

static void softmax_step(float *scores, int64_t ld, int64_t keys, int64_t queries, const int32_t *seen, float *largest,
                         float *sum, float *factor)
{
}

static void softmax_derivatives(float *scores, float *derivatives, int64_t ld, int64_t queries, int64_t keys,
                                const int32_t *seen, const float *log_sum, const float *mean)
{
}

static float dot(const void *x, const void *y, int64_t count, enum dtype dtype)
{
    return 0;
}

static float dot_floats(const void *x, const float *y, int64_t count, enum dtype dtype)
{
    return 0;
}

static float dot_difference(const void *x, const void *y, const void *z, int64_t count, enum dtype dtype)
{
    return 0;
}

static void channel_moments(const struct channel_part *part, float *mean, float *squares)
{
}

static void channel_apply(const struct channel_part *part, void *y)
{
}

static void channel_gradient_sums(const struct channel_part *part, float *total, float *along)
{
}

static void channel_backward(const struct channel_part *part, const struct channel_backward *to)
{
}

static void relu_forward(void *y, const void *x, int64_t count, enum dtype dtype)
{
}

static void relu_backward(void *dx, float beta, const void *dy, const void *y, int64_t count, enum dtype dtype)
{
}

static void adamw(const struct kernel_adamw *step, float *master, float *m, float *v, const float *gradient,
                  bf16 *values, int64_t count)
{
}

static double sum_of_squares(const float *values, int64_t count)
{
    return 0;
}

#define FUNCTIONS                                                                                                     \
    .name = "dry", .convert = convert, .accumulate = accumulate, .accumulate_scaled = accumulate_scaled,              \
    .add_scaled = add_scaled, .interpolate = interpolate, .add = add, .add_row = add_row, .sum_columns = sum_columns, \
    .norm_forward = norm_forward, .norm_backward = norm_backward, .swiglu_forward = swiglu_forward,                   \
    .swiglu_backward = swiglu_backward, .silu_forward = silu_forward, .silu_backward = silu_backward,                 \
    .gelu_forward = gelu_forward, .gelu_backward = gelu_backward, .gelu_erf_forward = gelu_erf_forward,               \
    .gelu_erf_backward = gelu_erf_backward, .rope = rope, .row_max = row_max, .row_sum_exp = row_sum_exp,             \
    .row_softmax = row_softmax, .tile_gather = tile_gather, .tile_gather_transposed = tile_gather_transposed,         \
    .tile_scatter = tile_scatter, .tile_multiply = tile_multiply, .tile_scale = tile_scale, .tile_dots = tile_dots,   \
    .feature_gather = feature_gather, .feature_scatter = feature_scatter, .query_scores = query_scores,               \
    .query_sums = query_sums, .softmax_step = softmax_step, .softmax_derivatives = softmax_derivatives, .dot = dot,   \
    .convolve = convolve, .convolve_backward = convolve_backward, .convolve_filter = convolve_filter,                 \
    .channel_moments = channel_moments, .channel_apply = channel_apply,                                               \
    .channel_gradient_sums = channel_gradient_sums, .channel_backward = channel_backward,                             \
    .relu_forward = relu_forward, .relu_backward = relu_backward, .dot_floats = dot_floats,                           \
    .dot_difference = dot_difference, .adamw = adamw, .sum_of_squares = sum_of_squares

static const struct kernels dry_kernels = {FUNCTIONS};
static const struct kernels dry_kernels_bf16 = {FUNCTIONS, .matrix = &dry_bf16};
static const struct kernels dry_kernels_whole_rows = {FUNCTIONS, .matrix = &dry_whole_rows};

const struct kernels *kernels_dry(const struct kernels *kernels)
{
    if (!kernels->matrix)
        return &dry_kernels;
    return kernels->matrix->whole_rows ? &dry_kernels_whole_rows : &dry_kernels_bf16;
}
