#include "src/ops/matmul_plans.h"
#include "src/ops/operation.h"

/* -- fp32 -- */

static void row_multiply(const struct matmul *p, int64_t row)
{
    const float *a = (const float *)p->a + (p->a_transposed ? row : row * p->lda);
    int64_t step = p->a_transposed ? p->lda : 1;
    const float *b = p->b;
    float *c = (float *)p->c + row * p->ldc;
    if (p->beta == 0.0f)
        memset(c, 0, (size_t)p->n * sizeof *c);
    if (p->b_transposed) {
        for (int64_t j = 0; j < p->n; j++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < p->k; i++)
                sum += a[i * step] * b[j * p->ldb + i];
            c[j] += sum;
        }
    } else {
        for (int64_t i = 0; i < p->k; i++)
            for (int64_t j = 0; j < p->n; j++)
                c[j] += a[i * step] * b[i * p->ldb + j];
    }
}

/* Threads that multiply beside each other may fail together; the first one's message stays. */
static enum status product_fail(struct engine *engine, const struct matmul *p, const char *reason)
{
#pragma omp critical
    context_fail(engine->context, STATUS_INTERNAL, "a product of %lld x %lld x %lld in %s cannot be computed: %s",
                 (long long)p->m, (long long)p->n, (long long)p->k, p->type == DTYPE_BF16 ? "bf16" : "fp32", reason);
    return STATUS_INTERNAL;
}

static enum status multiply_by_library(struct engine *engine, const struct matmul *p)
{
    if (engine->context->dry)
        return STATUS_OK;
    dnnl_status_t status = dnnl_sgemm(p->a_transposed ? 'T' : 'N', p->b_transposed ? 'T' : 'N', p->m, p->n, p->k, 1.0f,
                                      p->a, p->lda, p->b, p->ldb, p->beta, p->c, p->ldc);
    if (status == dnnl_success)
        return STATUS_OK;
    return product_fail(engine, p, "oneDNN refuses it");
}

/* For AVX2 the library takes rows by six and sums the last one, two or three in another order than all others. Padded
 * to six they are rounded like those, so that what a token's row gives does not depend on its place among the others.
 */
enum { ROW_BLOCK = 6, ROWS_APART = 3 };

static int64_t rows_apart(const struct engine *engine, const struct matmul *p)
{
    int64_t rest = p->m % ROW_BLOCK;
    bool of_tokens = !p->a_transposed && !omp_in_parallel();
    return engine->plans->rows_differ && of_tokens && rest <= ROWS_APART ? rest : 0;
}

static float *padded_rows(struct engine *engine, int64_t elements)
{
    if (elements > engine->padded_count) {
        memory_free(engine->context, engine->padded);
        engine->padded_count = 0;
        engine->padded = memory_allocate(engine->context, (size_t)elements * sizeof(float), MEMORY_BUFFERS);
        if (!engine->padded)
            return NULL;
        engine->padded_count = elements;
    }
    return engine->padded;
}

/* The last `rows` rows of the product. */
static enum status multiply_padded(struct engine *engine, const struct matmul *p, int64_t rows)
{
    struct matmul block = *p;
    float *a = padded_rows(engine, ROW_BLOCK * (p->k + p->n));
    if (!a)
        return STATUS_MEMORY;
    float *c = a + ROW_BLOCK * p->k;
    const float *from = (const float *)p->a + (p->m - rows) * p->lda;
    float *to = (float *)p->c + (p->m - rows) * p->ldc;
    block.m = ROW_BLOCK;
    block.a = a;
    block.c = c;
    block.lda = p->k;
    block.ldc = p->n;
    block.beta = 0.0f;
    for (int64_t row = 0; row < rows && !engine->context->dry; row++)
        memcpy(a + row * p->k, from + row * p->lda, (size_t)p->k * sizeof *a);
    CHECK(multiply_by_library(engine, &block));
    for (int64_t row = 0; row < rows && !engine->context->dry; row++)
        for (int64_t j = 0; j < p->n; j++)
            to[row * p->ldc + j] = c[row * p->n + j] + (p->beta == 0.0f ? 0.0f : to[row * p->ldc + j]);
    return STATUS_OK;
}

static enum status multiply_floats(struct engine *engine, const struct matmul *p)
{
    if (engine->plans->plain) {
        if (engine->context->dry)
            return STATUS_OK;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, p->m * p->n))
        for (int64_t row = 0; row < p->m; row++)
            row_multiply(p, row);
        return STATUS_OK;
    }
    int64_t apart = rows_apart(engine, p);
    struct matmul whole = *p;
    whole.m -= apart;
    if (whole.m > 0)
        CHECK(multiply_by_library(engine, &whole));
    return apart > 0 ? multiply_padded(engine, p, apart) : STATUS_OK;
}

/* -- BF16 widened to fp32 tile by tile, for machines whose library has no product of BF16 -- */

enum { WIDE = 512 };

/* An operand's rows and columns as they are stored, to a dense tile with leading dimension WIDE. */
static void tile_widen(struct engine *engine, float *tile, const bf16 *from, int64_t leading, int64_t rows,
                       int64_t columns)
{
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, rows *columns))
    for (int64_t r = 0; r < rows; r++)
        engine->kernels->convert(tile + r * WIDE, DTYPE_F32, from + r * leading, DTYPE_BF16, columns, false);
}

/* The block of an operand [rows, columns] at (row, column) of the matrix that is multiplied. */
static void operand_widen(struct engine *engine, float *tile, const bf16 *from, int64_t leading, bool transposed,
                          int64_t row, int64_t column, int64_t rows, int64_t columns)
{
    if (transposed)
        tile_widen(engine, tile, from + column * leading + row, leading, columns, rows);
    else
        tile_widen(engine, tile, from + row * leading + column, leading, rows, columns);
}

static enum status block_multiply(struct engine *engine, const struct matmul *p, int64_t row, int64_t column,
                                  float *tiles)
{
    float *a = tiles;
    float *b = tiles + WIDE * WIDE;
    float *c = tiles + 2 * WIDE * WIDE;
    int64_t m = integer_min(WIDE, p->m - row);
    int64_t n = integer_min(WIDE, p->n - column);
    for (int64_t step = 0; step < p->k; step += WIDE) {
        int64_t k = integer_min(WIDE, p->k - step);
        operand_widen(engine, a, p->a, p->lda, p->a_transposed, row, step, m, k);
        operand_widen(engine, b, p->b, p->ldb, p->b_transposed, step, column, k, n);
        struct matmul wide = {.m = m,
                              .n = n,
                              .k = k,
                              .a = a,
                              .b = b,
                              .c = c,
                              .lda = WIDE,
                              .ldb = WIDE,
                              .ldc = WIDE,
                              .type = DTYPE_F32,
                              .c_type = DTYPE_F32,
                              .a_transposed = p->a_transposed,
                              .b_transposed = p->b_transposed,
                              .beta = step > 0 ? 1.0f : 0.0f};
        CHECK(multiply_floats(engine, &wide));
    }
    void *to = operation_at_mutable(p->c, row * p->ldc + column, p->c_type);
    engine->kernels->tile_scatter(to, p->ldc, c, WIDE, m, n, NULL, p->beta, p->c_type);
    return STATUS_OK;
}

static enum status multiply_widened(struct engine *engine, const struct matmul *p)
{
    size_t stride;
    size_t bytes = 3 * WIDE * WIDE * sizeof(float);
    float *tiles = engine_scratch(engine, bytes / (size_t)engine->threads + 64, &stride);
    if (!tiles || (engine->plans->rows_differ && !padded_rows(engine, ROW_BLOCK * 2 * WIDE)))
        return STATUS_MEMORY;
    if (engine->context->dry)
        return STATUS_OK;
    for (int64_t row = 0; row < p->m; row += WIDE)
        for (int64_t column = 0; column < p->n; column += WIDE)
            CHECK(block_multiply(engine, p, row, column, tiles));
    return STATUS_OK;
}

/* -------------------------------------------------------------------------------------------------------------- */

/* -- A few rows by a parameter, as in generation: B comes from memory -- */

/* The library reads a panel for its first block of rows as fast as memory gives it, and computes the others meanwhile
 * memory rests. With many rows the next panel can come during these. Measured on AMD Zen 5, 32 x 2048 x 768 with
 * parameters that are in no cache: 222 us, in the library 305 us; and 429 us to 512 us with 64 rows. */
enum { FEW_ROWS = 64, AHEAD_ROWS = 16 };

static void panel_multiply(struct engine *engine, const struct matmul *p, const uint32_t *panels, int64_t index,
                           float *tile)
{
    int64_t words = p->k / 2 * PANEL_COLUMNS;
    int64_t column = index * PANEL_COLUMNS;
    bool ahead = p->m >= AHEAD_ROWS && column + PANEL_COLUMNS < p->n;
    const uint32_t *panel = panels + index * words;
    engine->kernels->matrix->multiply(&(struct bf16_product){.m = p->m,
                                                             .n = PANEL_COLUMNS,
                                                             .k = p->k,
                                                             .a = p->a,
                                                             .lda = p->lda,
                                                             .b = panel,
                                                             .ldb = PANEL_COLUMNS,
                                                             .c = tile,
                                                             .ldc = PANEL_COLUMNS,
                                                             .next = ahead ? (const char *)(panel + words) : NULL,
                                                             .next_bytes = words * (int64_t)sizeof *panel});
    engine->kernels->tile_scatter(operation_at_mutable(p->c, column, p->c_type), p->ldc, tile, PANEL_COLUMNS, p->m,
                                  integer_min(PANEL_COLUMNS, p->n - column), NULL, p->beta, p->c_type);
}

static enum status multiply_few(struct engine *engine, const struct matmul *p, bool *done)
{
    const struct bf16_kernels *matrix = engine->kernels->matrix;
    if (!matrix || matrix->whole_rows || !p->b_lasts || p->a_transposed || p->m > FEW_ROWS)
        return STATUS_OK;
    const uint32_t *panels;
    CHECK(plans_panels(engine->context, engine->plans, p, &panels));
    if (!panels)
        return STATUS_OK;
    size_t stride;
    char *scratch = engine_scratch(engine, FEW_ROWS * PANEL_COLUMNS * sizeof(float), &stride);
    if (!scratch)
        return STATUS_MEMORY;
    *done = true;
    if (engine->context->dry)
        return STATUS_OK;
    int64_t count = integer_divide_up(p->n, PANEL_COLUMNS);
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, p->n * p->k))
    for (int64_t i = 0; i < count; i++)
        panel_multiply(engine, p, panels, i, (float *)(scratch + (size_t)omp_get_thread_num() * stride));
    return STATUS_OK;
}

static enum status multiply_bf16(struct engine *engine, const struct matmul *p)
{
    bool done = false;
    if (engine->plans->native)
        CHECK(multiply_few(engine, p, &done));
    if (engine->plans->native && !done)
        CHECK(plans_run(engine->context, engine->plans, p, &done));
    return done ? STATUS_OK : multiply_widened(engine, p);
}

enum status matmul_run(struct engine *engine, const struct matmul *p)
{
    if (p->m == 0 || p->n == 0)
        return STATUS_OK;
    if (p->k == 0) {
        for (int64_t row = 0; row < p->m && p->beta == 0.0f; row++)
            memset(operation_at_mutable(p->c, row * p->ldc, p->c_type), 0, (size_t)p->n * dtype_size(p->c_type));
        return STATUS_OK;
    }
    /* The accounts are the first thread's alone. */
    if (omp_in_parallel())
        return p->type == DTYPE_F32 ? multiply_floats(engine, p)
                                    : product_fail(engine, p, "plans of bf16 are for the first thread alone");
    struct time_account *time = &engine->context->time;
    enum time_kind before = time_enter(time, TIME_PRODUCTS);
    enum status status = p->type == DTYPE_F32 ? multiply_floats(engine, p) : multiply_bf16(engine, p);
    time->flops[TIME_PRODUCTS] += 2.0 * (double)p->m * (double)p->n * (double)p->k;
    time_leave(time, before);
    return status;
}
