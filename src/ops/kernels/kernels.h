/* The inner loops of the operations, compiled once for each instruction set (CMakeLists.txt). Each works on one thread
 * on the rows or elements it is given; the operations divide the work. Data of type `dtype` is F32 or BF16, all
 * arithmetic is fp32. `beta` is 0 or 1: result = beta * result + value. `uncached` lets an output go around the caches,
 * for one that would not stay in them anyway; what is added to goes through them. */
#ifndef CAIRN_OPS_KERNELS_KERNELS_H
#define CAIRN_OPS_KERNELS_KERNELS_H

#include <stdbool.h>

#include "src/core/config.h"
#include "src/core/dtype.h"

/* Tiles of the attention are fp32 matrices whose leading dimension is a multiple of this many elements; their columns
 * up to that multiple may be written. */
enum { TILE_MULTIPLE = 16 };

/* Rows of a norm: x, y [rows, columns]; mean and inverse (1 / deviation) [rows]. */
struct norm_rows {
    int64_t rows;
    int64_t columns;
    enum norm_kind kind;
    enum dtype dtype;
    float epsilon;
    const void *x;
    const float *weight;
    const float *bias; /* or NULL */
    float *mean;       /* of NORM_LAYER */
    float *inverse;
    bool uncached; /* the output, as below */
};

/* tile C [m, n] = beta C + A B with A(i, p) at a[i * a_row + p * a_step], B [k, n] a tile. Columns of B and C up to
 * the next multiple of TILE_MULTIPLE are used too. */
struct tile_product {
    int64_t m, n, k;
    const float *a;
    int64_t a_row, a_step;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    float beta;
};

/* Tiles of bf16. Products go through their depth in steps of BF16_DEPTH, and write C in whole blocks of BF16_ROWS rows
 * and columns: what lies between a tile's own size and that multiple is there, is zero in A and B along the depth, and
 * may hold anything in C. */
enum { BF16_ROWS = 16, BF16_DEPTH = 32 };

/* C [m, n] = A [m, k] B [k, n], or the same added to C. B is in pairs, two bf16 in a word: the rows 2 p (low half) and
 * 2 p + 1 of column j are b[p * ldb + j]. The caches are asked for `next`, which will be read after it (or NULL), while
 * the product runs: many rows are needed for all of it. */
struct bf16_product {
    int64_t m, n, k;
    const bf16 *a;
    int64_t lda;
    const uint32_t *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    bool add;
    const char *next;
    int64_t next_bytes;
};

/* One step of the online softmax, to the base of 2: scores [rows, columns] become weights = 2^(scale * score -
 * largest), 0 from where a row has seen its keys (it sees seen[row], of which the first columns are number `first`
 * and on). largest and sum move on; factor is what older sums and outputs have to be multiplied by. rows is even,
 * columns a multiple of BF16_ROWS. */
struct bf16_weights {
    const float *scores;
    bf16 *weights;
    int64_t ld;
    int64_t rows, columns;
    const int32_t *seen;
    int64_t first;
    float scale;
    float *largest, *sum, *factor;
};

/* From scores and derivatives (d loss / d weight), [keys, queries]: weights = 2^(scale_power * score - log_sum), and
 * their derivatives weight * (scale * dy - mean), rounded and also in pairs of keys. Columns begin .. end - 1,
 * multiples of BF16_ROWS; if masked, query i sees the keys up to last[i], where the first row is key `first`. */
struct bf16_derivatives {
    const float *scores, *derivatives;
    bf16 *weights, *rounded;
    uint32_t *pairs;
    int64_t ld;
    int64_t keys; /* even */
    int64_t begin, end;
    float scale_power, scale;
    const float *log_sum, *mean;
    bool masked;
    const int32_t *last;
    int64_t first;
};

/* On machines that multiply pairs of bf16 as they are. */
struct bf16_kernels {
    const char *name;
    bool whole_rows; /* products read A, too, in whole blocks of BF16_ROWS rows */
    /* Around the products of a thread. */
    void (*begin)(void);
    void (*end)(void);
    void (*multiply)(const struct bf16_product *product);
    /* to [columns, rows] = from [rows, columns], all of words, multiples of 16. A tile of bf16 [rows, 2 * columns]
     * becomes the pairs of its transpose. */
    void (*transpose)(uint32_t *to, int64_t to_ld, const void *from, int64_t from_ld, int64_t rows, int64_t columns);
    /* A tile [rows, columns] into pairs, and pairs into a tile; rows is even. */
    void (*pair)(uint32_t *pairs, int64_t ld, const bf16 *tile, int64_t tile_ld, int64_t rows, int64_t columns);
    void (*part)(bf16 *tile, int64_t tile_ld, const uint32_t *pairs, int64_t ld, int64_t rows, int64_t columns);
    void (*weights)(const struct bf16_weights *step);
    void (*derivatives)(const struct bf16_derivatives *step);
};

/* One query and a block of keys or values, `rows` tokens that lie `stride` elements apart, each with a vector of
 * `width` for all kv heads: heads h and kv_of_head[h] belong together. */
struct query_block {
    int64_t heads, width, rows;
    const int32_t *kv_of_head;
    const void *from;
    int64_t stride;
    float *vectors; /* [heads, vectors_ld], the query or the output */
    int64_t vectors_ld;
    float *scores; /* [heads, scores_ld], or weights */
    int64_t scores_ld;
};

/* A part [positions, lanes] of images of one row, whose lanes are channels; numbers of channels [lanes]. What is
 * normalised is y = scale x + shift, plus the shortcut unless it is NULL, and if it rectifies the positive part of
 * that.
 */
struct channel_part {
    int64_t positions, lanes;
    enum dtype dtype;
    bool rectify;
    const void *x, *shortcut;
    const float *scale, *shift;
    const void *y, *dy; /* for backward */
    const float *mean;
};

/* dx = beta dx + along dy - tilt (x - mean) - offset, where dy is dy, or 0 where y is cut off; dshortcut = beta
 * dshortcut + dy. Either may be NULL. */
struct channel_backward {
    const float *along, *tilt, *offset;
    void *dx, *dshortcut;
    float dx_beta, dshortcut_beta;
};

struct kernel_adamw {
    float gradient_scale, rate, beta1, beta2, epsilon, decay, correction1, correction2;
};

struct kernels {
    const char *name;                  /* the instruction set of all but matrix */
    const struct bf16_kernels *matrix; /* NULL: tiles of bf16 are brought to fp32 */

    void (*convert)(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count, bool uncached);
    void (*accumulate)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float beta, int64_t count);
    /* to = beta * to + factor * from */
    void (*accumulate_scaled)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float factor,
                              float beta, int64_t count);
    /* sum = a x + b y */
    void (*add_scaled)(void *sum, float a, const void *x, float b, const void *y, int64_t count, enum dtype dtype);
    /* to = x + factor (y - x): x itself, to the last bit, where y equals it. */
    void (*interpolate)(void *to, const void *x, const void *y, float factor, int64_t count, enum dtype dtype);
    void (*add)(void *sum, const void *x, const void *y, int64_t count, enum dtype dtype, bool uncached);
    /* y = x + bias in each row; y may be x. */
    void (*add_row)(void *y, const void *x, const float *bias, int64_t rows, int64_t columns, enum dtype dtype);
    /* sum[c] += x[r, c]; rows begin `stride` elements apart. */
    void (*sum_columns)(float *sum, const void *x, int64_t rows, int64_t columns, int64_t stride, enum dtype dtype);

    void (*norm_forward)(const struct norm_rows *norm, void *y);
    /* dx (or NULL) with beta; adds to dweight and dbias (or NULL) [columns]. */
    void (*norm_backward)(const struct norm_rows *norm, const void *dy, void *dx, float beta, float *dweight,
                          float *dbias);

    void (*swiglu_forward)(void *y, const void *gate, const void *up, int64_t count, enum dtype dtype, bool uncached);
    /* dgate or dup may be NULL. */
    void (*swiglu_backward)(void *dgate, float gate_beta, void *dup, float up_beta, const void *dy, const void *gate,
                            const void *up, int64_t count, enum dtype dtype, bool uncached);
    void (*silu_forward)(void *y, const void *x, int64_t count, enum dtype dtype);
    void (*silu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype);
    void (*gelu_forward)(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached);
    void (*gelu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                          bool uncached);
    void (*gelu_erf_forward)(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached);
    void (*gelu_erf_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                              bool uncached);

    /* One token: x, y [heads, width]; cosine and sine [width / 2]; sign -1 turns back. */
    void (*rope)(void *y, const void *x, int64_t heads, int64_t width, const float *cosine, const float *sine,
                 float sign, float beta, enum dtype dtype);

    /* The largest of a row; a not-a-number is passed over, the sum below keeps it. */
    float (*row_max)(const float *row, int64_t count);
    float (*row_sum_exp)(const float *row, float largest, int64_t count);
    /* gradient = scale * exp(row - log_sum); may be in place. */
    void (*row_softmax)(float *gradient, const float *row, float log_sum, float scale, int64_t count);

    /* tile [rows, columns] = factor * from, whose rows begin `stride` elements apart; columns up to ld become 0. */
    void (*tile_gather)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                        float factor, enum dtype dtype);
    /* The same, transposed: tile [columns, rows]. */
    void (*tile_gather_transposed)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows,
                                   int64_t columns, float factor, enum dtype dtype);
    /* to [rows, columns] = beta to + factor[row] * tile; factor NULL means 1. */
    void (*tile_scatter)(void *to, int64_t stride, const float *tile, int64_t ld, int64_t rows, int64_t columns,
                         const float *factor, float beta, enum dtype dtype);
    void (*tile_multiply)(const struct tile_product *product);
    void (*tile_scale)(float *tile, int64_t ld, int64_t rows, int64_t columns, const float *factor);

    /* sum[r] = the sum of x * y over row r; a leading dimension of 0 takes the same row each time. */
    void (*tile_dots)(float *sum, const float *x, int64_t x_ld, const float *y, int64_t y_ld, int64_t rows,
                      int64_t columns);
    /* As tile_gather, of sigma(from) = elu(from) + 1; columns up to ld become 0. */
    void (*feature_gather)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                           enum dtype dtype);
    /* to [rows, columns] = beta to + derivatives * sigma', for features that feature_gather made. */
    void (*feature_scatter)(void *to, int64_t stride, const float *derivatives, const float *features, int64_t ld,
                            int64_t rows, int64_t columns, float beta, enum dtype dtype);

    /* y[r] = the sum of filter[i] x[r - i] over CONVOLUTION_TAPS rows of filter: y, x [rows, columns], and `before`
     * rows of x, of the same sequence, lie before them. */
    void (*convolve)(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                     enum dtype dtype);
    /* dx[r] = beta dx[r] + the sum of filter[i] dy[r + i]; `behind` rows of dy lie behind these. */
    void (*convolve_backward)(void *dx, float beta, const float *dy, const float *filter, int64_t behind, int64_t rows,
                              int64_t columns, enum dtype dtype);
    /* dfilter[i] += the sum over r of dy[r] x[r - i], for a whole sequence of rows that begin `stride` elements apart.
     */
    void (*convolve_filter)(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride, int64_t rows,
                            int64_t columns, enum dtype dtype);

    /* scores = query keys^T; output += weights values. */
    void (*query_scores)(const struct query_block *block, enum dtype dtype);
    void (*query_sums)(const struct query_block *block, enum dtype dtype);

    /* One step of the online softmax over scores [keys, queries]: query i sees the first seen[i] of these keys (all
     * of them if that is more, none if it is less than 1). Scores become exp(score - largest), 0 where unseen; largest
     * and sum [queries] move on, factor is what older sums and outputs have to be multiplied by. */
    void (*softmax_step)(float *scores, int64_t ld, int64_t keys, int64_t queries, const int32_t *seen, float *largest,
                         float *sum, float *factor);
    /* scores [queries, keys] become p = exp(score - log_sum[query]), 0 where unseen; derivatives (d loss / d p) become
     * p * (dy - mean[query]). */
    void (*softmax_derivatives)(float *scores, float *derivatives, int64_t ld, int64_t queries, int64_t keys,
                                const int32_t *seen, const float *log_sum, const float *mean);
    /* The sum of x * y. */
    float (*dot)(const void *x, const void *y, int64_t count, enum dtype dtype);
    float (*dot_floats)(const void *x, const float *y, int64_t count, enum dtype dtype);
    /* The sum of x * (y - z). */
    float (*dot_difference)(const void *x, const void *y, const void *z, int64_t count, enum dtype dtype);

    /* Of each lane: the mean, and the sum of squared differences from it. */
    void (*channel_moments)(const struct channel_part *part, float *mean, float *squares);
    void (*channel_apply)(const struct channel_part *part, void *y);
    /* Of each lane: the sums of dy, and of dy * (x - mean). */
    void (*channel_gradient_sums)(const struct channel_part *part, float *total, float *along);
    void (*channel_backward)(const struct channel_part *part, const struct channel_backward *to);
    void (*relu_forward)(void *y, const void *x, int64_t count, enum dtype dtype);
    void (*relu_backward)(void *dx, float beta, const void *dy, const void *y, int64_t count, enum dtype dtype);

    /* values may be NULL. */
    void (*adamw)(const struct kernel_adamw *step, float *master, float *m, float *v, const float *gradient,
                  bf16 *values, int64_t count);
    double (*sum_of_squares)(const float *values, int64_t count);
};

extern const struct kernels kernels_reference;
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const struct kernels kernels_bf16; /* with matrix_bf16 */
extern const struct kernels kernels_amx;  /* the functions of bf16, with matrix_amx */

/* For dry runs: functions that do nothing, with the tiles that `kernels` have (src/ops/dry.c). */
const struct kernels *kernels_dry(const struct kernels *kernels);

extern const struct bf16_kernels matrix_bf16;
extern const struct bf16_kernels matrix_amx;
extern const struct bf16_kernels matrix_emulated; /* AMX in plain C, for the tests alone */

#endif
