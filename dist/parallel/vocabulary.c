#include "dist/parallel/vocabulary.h"

#include <math.h>
#include <string.h>

#include "src/ops/engine.h"
#include "src/ops/ops.h"

/* Logits of a chunk (fp32) should stay in the cache between the passes over them. The gradients of a block of chunks
 * (compute type) are kept for the products with them, of which the weight's reads and writes a matrix as large as the
 * vocabulary: the more tokens at once, the less that costs. */
enum { CHUNK_ELEMENTS = 4 << 20, CHUNK_LEAST = 64, BLOCK_TOKENS = 2048 };

struct vocabulary_pass {
    struct tape *tape;
    struct mesh *mesh;
    const struct tensor *n;
    const struct tensor *weight;
    const struct vocabulary_targets *targets;
    int64_t width, columns; /* D, V local */
    int64_t chunk;          /* tokens */
    float *logits;          /* [chunk, columns] */
    float *log_sum, *sums;  /* [chunk], [2, chunk] */
    void *derivatives;      /* [block, columns] of n's type: d loss / d logits; NULL when nothing needs them */
};

static const void *token_at(const struct tensor *n, int64_t row)
{
    return (const char *)n->data + (size_t)(row * tensor_columns(n)) * dtype_size(n->dtype);
}

/* The loss of `count` tokens from `row`; their derivatives go to row `slot` of the block. */
static double chunk_loss(const struct vocabulary_pass *pass, int64_t row, int64_t count, int64_t slot)
{
    struct engine *engine = pass->tape->engine;
    const int32_t *tokens = pass->targets->tokens + row;
    struct tensor logits = {.dtype = DTYPE_F32, .rank = 2, .shape = {count, pass->columns}, .data = pass->logits};
    context_keep(engine->context, matmul_run(engine, &(struct matmul){.m = count,
                                                                      .n = pass->columns,
                                                                      .k = pass->width,
                                                                      .a = token_at(pass->n, row),
                                                                      .b = pass->weight->data,
                                                                      .c = pass->logits,
                                                                      .lda = pass->width,
                                                                      .ldb = pass->width,
                                                                      .ldc = pass->columns,
                                                                      .type = pass->n->dtype,
                                                                      .c_type = DTYPE_F32,
                                                                      .b_transposed = true,
                                                                      .b_lasts = pass->weight->parameter != NULL}));
    if (pass->targets->see)
        pass->targets->see(pass->targets->see_self, row, &logits);
    cross_entropy_max(engine, &logits, pass->log_sum);
    mesh_all_reduce(pass->mesh, MESH_TENSOR, pass->log_sum, count, DTYPE_F32, MESH_MAX);
    float *target = pass->sums + count;
    cross_entropy_sums(engine, &logits, pass->log_sum, tokens, pass->targets->first, pass->sums, target);
    mesh_all_reduce(pass->mesh, MESH_TENSOR, pass->sums, 2 * count, DTYPE_F32, MESH_SUM);
    double total = 0.0;
    for (int64_t i = 0; i < count; i++) {
        pass->log_sum[i] += logf(pass->sums[i]);
        if (tokens[i] >= 0)
            total += (double)pass->log_sum[i] - (double)target[i];
    }
    if (pass->derivatives) {
        cross_entropy_gradient(engine, &logits, pass->log_sum, tokens, pass->targets->first, pass->targets->scale,
                               pass->logits);
        char *to = (char *)pass->derivatives + (size_t)(slot * pass->columns) * dtype_size(pass->n->dtype);
        convert(engine, to, pass->n->dtype, pass->logits, DTYPE_F32, count * pass->columns);
    }
    return total;
}

/* The products with the derivatives of `count` tokens from `row`. dn is n's gradient, to be added in backward. */
static void block_gradients(const struct vocabulary_pass *pass, int64_t row, int64_t count, void *dn,
                            const struct gradient_target *dweight)
{
    struct engine *engine = pass->tape->engine;
    enum dtype dtype = pass->n->dtype;
    if (dn)
        context_keep(
            engine->context,
            matmul_run(engine, &(struct matmul){.m = count,
                                                .n = pass->width,
                                                .k = pass->columns,
                                                .a = pass->derivatives,
                                                .b = pass->weight->data,
                                                .c = (char *)dn + (size_t)(row * pass->width) * dtype_size(dtype),
                                                .lda = pass->columns,
                                                .ldb = pass->width,
                                                .ldc = pass->width,
                                                .type = dtype,
                                                .c_type = dtype,
                                                .b_lasts = pass->weight->parameter != NULL}));
    if (dweight->data)
        context_keep(engine->context, matmul_run(engine, &(struct matmul){.m = pass->columns,
                                                                          .n = pass->width,
                                                                          .k = count,
                                                                          .a = pass->derivatives,
                                                                          .b = token_at(pass->n, row),
                                                                          .c = dweight->data,
                                                                          .lda = pass->columns,
                                                                          .ldb = pass->width,
                                                                          .ldc = pass->width,
                                                                          .type = dtype,
                                                                          .c_type = dweight->dtype,
                                                                          .a_transposed = true,
                                                                          .beta = row == 0 ? dweight->beta : 1.0f}));
}

/* The gradients were computed on the way; what is left is to hand on that of n. */
static void vocabulary_backward(struct tape *tape, const struct tape_record *record)
{
    struct tensor *n = record->input[0];
    if (*(const float *)tape_gradient(record->output) != 1.0f) {
        context_fail(tape->context, STATUS_INTERNAL, "a vocabulary loss must be the end of its tape");
        return;
    }
    struct gradient_target target = tape_target(tape, n);
    if (!target.data)
        return;
    if (target.beta == 0.0f)
        memcpy(target.data, record->saved, (size_t)tensor_count(n) * dtype_size(n->dtype));
    else
        accumulate(tape->engine, target.data, record->saved, n->dtype, tensor_count(n));
}

static bool pass_allocate(struct vocabulary_pass *pass, int64_t tokens, bool derivatives)
{
    struct arena *work = pass->tape->work;
    int64_t block = integer_min(tokens, BLOCK_TOKENS);
    /* Ranks reduce chunk by chunk, so a chunk is the same on all: that of the rank with the most columns. */
    int64_t most = range_partition(pass->targets->vocabulary, mesh_size(pass->mesh, MESH_TENSOR), 0).count;
    pass->chunk = integer_min(block, integer_max(CHUNK_LEAST, CHUNK_ELEMENTS / integer_max(1, most)));
    pass->logits = arena_allocate(work, (size_t)(pass->chunk * pass->columns) * sizeof(float));
    pass->log_sum = arena_allocate(work, (size_t)pass->chunk * sizeof(float));
    pass->sums = arena_allocate(work, 2 * (size_t)pass->chunk * sizeof(float));
    if (derivatives)
        pass->derivatives = arena_allocate(work, (size_t)(block * pass->columns) * dtype_size(pass->n->dtype));
    return pass->logits && pass->log_sum && pass->sums && (!derivatives || pass->derivatives);
}

struct tensor *vocabulary_loss(struct tape *tape, struct mesh *mesh, struct tensor *n, struct tensor *weight,
                               const struct vocabulary_targets *targets)
{
    if (!n || !weight)
        return NULL;
    int64_t tokens = tensor_rows(n);
    bool learns = tape_needs(tape, n, weight);
    struct vocabulary_pass pass = {.tape = tape,
                                   .mesh = mesh,
                                   .n = n,
                                   .weight = weight,
                                   .targets = targets,
                                   .width = tensor_columns(n),
                                   .columns = tensor_rows(weight)};
    struct tensor *loss = tape_tensor(tape, DTYPE_F32, 1, (int64_t[]){1});
    void *dn = learns ? tape_save(tape, (size_t)tensor_count(n) * dtype_size(n->dtype)) : NULL;
    struct arena_mark mark = arena_mark(tape->work);
    if (!loss || (learns && !dn) || !pass_allocate(&pass, tokens, learns)) {
        arena_rewind(tape->work, mark);
        return NULL;
    }
    struct gradient_target dweight = {0};
    if (learns)
        dweight = tape_target(tape, weight);
    double total = 0.0;
    for (int64_t block = 0; block < tokens; block += BLOCK_TOKENS) {
        int64_t end = integer_min(tokens, block + BLOCK_TOKENS);
        for (int64_t row = block; row < end; row += pass.chunk)
            total += chunk_loss(&pass, row, integer_min(pass.chunk, end - row), row - block);
        if (learns)
            block_gradients(&pass, block, end - block, dn, &dweight);
    }
    arena_rewind(tape->work, mark);
    *(float *)loss->data = (float)(targets->scale * total);
    return tape_push(
        tape, (struct tape_record){.backward = vocabulary_backward, .input = {n, weight}, .output = loss, .saved = dn});
}
