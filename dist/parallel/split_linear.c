/* Linear layers of a split model, whose messages travel while products run: each rank exchanges its part with every
 * other one directly, multiplies what it has and moves the messages on between blocks of rows. */
#include <string.h>

#include "dist/parallel/split.h"
#include "src/ops/operation.h"

/* Messages move on after so many rows; products of fewer are over before a look at the messages is worth its time. */
enum { BLOCK_ROWS = 512, TAG_GATHER = 31, TAG_SCATTER = 32 };

/* -- An exchange of parts between all ranks of the tensor axis -- */

struct exchange {
    struct mesh *mesh;
    int64_t tokens, columns;
    enum dtype dtype;
    int ranks, rank;
    struct mesh_request *sends, *receives; /* [ranks], this rank's own are never started */
};

/* Takes the requests from the work arena, which the caller rewinds after exchange_finish. */
static bool exchange_create(struct tape *tape, struct mesh *mesh, int64_t tokens, int64_t columns, enum dtype dtype,
                            struct exchange *exchange)
{
    int ranks = mesh_size(mesh, MESH_TENSOR);
    struct mesh_request *requests = arena_allocate(tape->work, 2 * (size_t)ranks * sizeof *requests);
    if (!requests)
        return false;
    for (int i = 0; i < 2 * ranks; i++)
        mesh_request_clear(&requests[i]);
    *exchange = (struct exchange){.mesh = mesh,
                                  .tokens = tokens,
                                  .columns = columns,
                                  .dtype = dtype,
                                  .ranks = ranks,
                                  .rank = mesh_rank(mesh, MESH_TENSOR),
                                  .sends = requests,
                                  .receives = requests + ranks};
    return true;
}

static struct range exchange_part(const struct exchange *exchange, int rank)
{
    return range_partition(exchange->tokens, exchange->ranks, rank);
}

/* The ranks in an order in which no two send to the same one first: 1 is the next, `ranks` this one itself. */
static int exchange_neighbour(const struct exchange *exchange, int distance)
{
    return (exchange->rank + distance) % exchange->ranks;
}

static void exchange_send(struct exchange *exchange, int to, int tag, const void *rows, int64_t count)
{
    if (count > 0)
        mesh_send(exchange->mesh, MESH_TENSOR, to, tag, rows, count * exchange->columns, exchange->dtype,
                  &exchange->sends[to]);
}

static void exchange_receive(struct exchange *exchange, int from, int tag, void *rows, int64_t count)
{
    if (count > 0)
        mesh_receive(exchange->mesh, MESH_TENSOR, from, tag, rows, count * exchange->columns, exchange->dtype,
                     &exchange->receives[from]);
}

static void exchange_progress(struct exchange *exchange)
{
    for (int i = 0; i < exchange->ranks; i++) {
        (void)mesh_test(&exchange->sends[i]);
        (void)mesh_test(&exchange->receives[i]);
    }
}

static void exchange_finish(struct exchange *exchange)
{
    for (int i = 0; i < exchange->ranks; i++) {
        mesh_wait(&exchange->receives[i]);
        mesh_wait(&exchange->sends[i]);
    }
}

static size_t exchange_bytes(const struct exchange *exchange, int64_t rows)
{
    return (size_t)(rows * exchange->columns) * dtype_size(exchange->dtype);
}

/* Everyone's part to its place in `all`, this rank's at once, the others' when their receives are complete. */
static void gather_start(struct exchange *exchange, const void *mine, void *all)
{
    struct range own = exchange_part(exchange, exchange->rank);
    for (int i = 1; i < exchange->ranks; i++) {
        int from = exchange_neighbour(exchange, i);
        struct range part = exchange_part(exchange, from);
        exchange_receive(exchange, from, TAG_GATHER,
                         operation_at_mutable(all, part.begin * exchange->columns, exchange->dtype), part.count);
    }
    for (int i = 1; i < exchange->ranks; i++)
        exchange_send(exchange, exchange_neighbour(exchange, i), TAG_GATHER, mine, own.count);
    memcpy(operation_at_mutable(all, own.begin * exchange->columns, exchange->dtype), mine,
           exchange_bytes(exchange, own.count));
}

/* What the others have of the sum of this rank's rows, to `terms`, one behind the other. */
static void scatter_start(struct exchange *exchange, char *terms)
{
    int64_t rows = exchange_part(exchange, exchange->rank).count;
    for (int i = 1; i < exchange->ranks; i++) {
        exchange_receive(exchange, exchange_neighbour(exchange, i), TAG_SCATTER, terms, rows);
        terms += exchange_bytes(exchange, rows);
    }
}

static size_t scatter_bytes(const struct exchange *exchange)
{
    return exchange_bytes(exchange, exchange_part(exchange, exchange->rank).count * (exchange->ranks - 1));
}

/* What this rank sends: the rows of all others. */
static size_t others_bytes(const struct exchange *exchange)
{
    return exchange_bytes(exchange, exchange->tokens - exchange_part(exchange, exchange->rank).count);
}

/* own += the terms, always in the same order. */
static void scatter_finish(struct tape *tape, struct exchange *exchange, void *own, const char *terms)
{
    int64_t rows = exchange_part(exchange, exchange->rank).count;
    for (int i = 1; i < exchange->ranks; i++) {
        mesh_wait(&exchange->receives[exchange_neighbour(exchange, i)]);
        accumulate(tape->engine, own, terms, exchange->dtype, rows * exchange->columns);
        terms += exchange_bytes(exchange, rows);
    }
    exchange_finish(exchange);
}

/* -- Products of rows -- */

/* y = x W^T (forward) or y = beta y + x W (backward) for `rows` of x. */
static void rows_multiply(struct tape *tape, struct exchange *exchange, const struct tensor *weight, bool backward,
                          const void *x, void *y, int64_t rows, float beta)
{
    int64_t outputs = tensor_rows(weight);
    int64_t inputs = tensor_columns(weight);
    struct matmul product = {.n = backward ? inputs : outputs,
                             .k = backward ? outputs : inputs,
                             .b = weight->data,
                             .ldb = inputs,
                             .type = weight->dtype,
                             .c_type = weight->dtype,
                             .b_transposed = !backward,
                             .b_lasts = weight->parameter != NULL,
                             .beta = beta};
    product.lda = product.k;
    product.ldc = product.n;
    for (int64_t row = 0; row < rows; row += BLOCK_ROWS) {
        product.m = integer_min(BLOCK_ROWS, rows - row);
        product.a = operation_at(x, row * product.k, weight->dtype);
        product.c = operation_at_mutable(y, row * product.n, weight->dtype);
        /* A failed product leaves its message in the context; the messages have to go on. */
        context_keep(tape->context, matmul_run(tape->engine, &product));
        if (product.m == BLOCK_ROWS)
            exchange_progress(exchange);
    }
}

/* dW += dy^T x over all tokens. */
static void weight_multiply(struct tape *tape, struct tensor *weight, const void *dy, const void *x, int64_t tokens)
{
    struct gradient_target dw = tape_target(tape, weight);
    int64_t outputs = tensor_rows(weight);
    int64_t inputs = tensor_columns(weight);
    if (dw.data)
        context_keep(tape->context, matmul_run(tape->engine, &(struct matmul){.m = outputs,
                                                                              .n = inputs,
                                                                              .k = tokens,
                                                                              .a = dy,
                                                                              .b = x,
                                                                              .c = dw.data,
                                                                              .lda = outputs,
                                                                              .ldb = inputs,
                                                                              .ldc = inputs,
                                                                              .type = weight->dtype,
                                                                              .c_type = dw.dtype,
                                                                              .a_transposed = true,
                                                                              .beta = dw.beta}));
}

/* -- Gather, then multiply -- */

struct column_saved {
    struct mesh *mesh;
    int64_t tokens;
    void *all; /* [tokens, I], x of all ranks */
    int count;
    struct tensor *outputs[COLUMN_LINEARS];
};

static const void *gradient_of(const struct tensor *output)
{
    return output->gradient ? tape_gradient(output) : NULL;
}

/* The input's gradient for the tokens of one rank: the sum over the layers, added to beta times what is there. */
static void column_derivatives(struct tape *tape, struct exchange *exchange, const struct tape_record *record, int rank,
                               void *derivatives, float beta)
{
    const struct column_saved *saved = record->saved;
    struct range part = exchange_part(exchange, rank);
    for (int i = 0; i < saved->count; i++) {
        const struct tensor *weight = record->input[1 + 2 * i];
        const void *dy = gradient_of(saved->outputs[i]);
        if (!dy)
            continue;
        rows_multiply(tape, exchange, weight, true, operation_at(dy, part.begin * tensor_rows(weight), weight->dtype),
                      derivatives, part.count, beta);
        beta = 1.0f;
    }
    if (beta == 0.0f)
        memset(derivatives, 0, exchange_bytes(exchange, part.count));
}

static void column_weights(struct tape *tape, struct exchange *exchange, const struct tape_record *record)
{
    const struct column_saved *saved = record->saved;
    for (int i = 0; i < saved->count; i++) {
        struct tensor *weight = record->input[1 + 2 * i];
        const void *dy = gradient_of(saved->outputs[i]);
        if (!dy)
            continue;
        operation_sum_columns(tape, tape_target(tape, record->input[2 + 2 * i]), dy, weight->dtype, saved->tokens,
                              tensor_rows(weight));
        weight_multiply(tape, weight, dy, saved->all, saved->tokens);
        if (saved->tokens >= BLOCK_ROWS)
            exchange_progress(exchange);
    }
}

/* What others wait for goes out first, and the weights' gradients are computed while it travels. Every rank takes part,
 * also one whose input needs no gradient. */
static void column_backward(struct tape *tape, const struct tape_record *record)
{
    const struct column_saved *saved = record->saved;
    struct tensor *x = record->input[0];
    struct gradient_target target = tape_target(tape, x);
    struct arena_mark mark = arena_mark(tape->work);
    struct exchange exchange;
    if (!exchange_create(tape, saved->mesh, saved->tokens, tensor_columns(x), x->dtype, &exchange))
        return;
    void *own = target.data ? target.data : arena_allocate(tape->work, exchange_bytes(&exchange, tensor_rows(x)));
    char *terms = arena_allocate(tape->work, scatter_bytes(&exchange));
    char *derivatives = arena_allocate(tape->work, others_bytes(&exchange));
    if (own && terms && derivatives) {
        scatter_start(&exchange, terms);
        for (int i = 1; i < exchange.ranks; i++) {
            int to = exchange_neighbour(&exchange, i);
            int64_t rows = exchange_part(&exchange, to).count;
            column_derivatives(tape, &exchange, record, to, derivatives, 0.0f);
            exchange_send(&exchange, to, TAG_SCATTER, derivatives, rows);
            derivatives += exchange_bytes(&exchange, rows);
        }
        column_weights(tape, &exchange, record);
        column_derivatives(tape, &exchange, record, exchange.rank, own, target.data ? target.beta : 0.0f);
        scatter_finish(tape, &exchange, own, terms);
    }
    arena_rewind(tape->work, mark);
}

/* outputs = the rows of one rank, times each weight. */
static void column_rows(struct tape *tape, struct exchange *exchange, const struct linear_weights *weights,
                        const struct column_saved *saved, int rank)
{
    struct range part = exchange_part(exchange, rank);
    for (int i = 0; i < saved->count; i++) {
        struct tensor *y = saved->outputs[i];
        rows_multiply(tape, exchange, weights[i].weight, false,
                      operation_at(saved->all, part.begin * exchange->columns, exchange->dtype),
                      operation_at_mutable(y->data, part.begin * tensor_columns(y), y->dtype), part.count, 0.0f);
    }
}

static bool column_forward(struct tape *tape, struct tensor *x, const struct linear_weights *weights,
                           const struct column_saved *saved)
{
    struct arena_mark mark = arena_mark(tape->work);
    struct exchange exchange;
    if (!exchange_create(tape, saved->mesh, saved->tokens, tensor_columns(x), x->dtype, &exchange))
        return false;
    gather_start(&exchange, x->data, saved->all);
    column_rows(tape, &exchange, weights, saved, exchange.rank);
    for (int i = 1; i < exchange.ranks; i++) {
        int from = exchange_neighbour(&exchange, i);
        mesh_wait(&exchange.receives[from]);
        column_rows(tape, &exchange, weights, saved, from);
    }
    exchange_finish(&exchange);
    arena_rewind(tape->work, mark);
    return tape->context->status == STATUS_OK;
}

static bool column_alone(struct tape *tape, struct tensor *x, const struct linear_weights *weights, int count,
                         struct tensor **outputs)
{
    for (int i = 0; i < count; i++) {
        outputs[i] = linear(tape, x, weights[i].weight, weights[i].bias, x->dtype);
        if (!outputs[i])
            return false;
    }
    return true;
}

bool column_linear(struct tape *tape, struct mesh *mesh, struct tensor *x, int64_t tokens,
                   const struct linear_weights *weights, int count, struct tensor **outputs)
{
    if (!x)
        return false;
    if (mesh_size(mesh, MESH_TENSOR) == 1)
        return column_alone(tape, x, weights, count, outputs);
    struct column_saved *saved = tape_save(tape, sizeof *saved);
    if (!saved)
        return false;
    *saved = (struct column_saved){.mesh = mesh, .tokens = tokens, .count = count};
    saved->all = tape_save(tape, (size_t)(tokens * tensor_columns(x)) * dtype_size(x->dtype));
    struct tape_record record = {.backward = column_backward, .input = {x}, .saved = saved};
    for (int i = 0; i < count; i++) {
        outputs[i] = tape_matrix(tape, x->dtype, tokens, tensor_rows(weights[i].weight));
        saved->outputs[i] = outputs[i];
        record.input[1 + 2 * i] = weights[i].weight;
        record.input[2 + 2 * i] = weights[i].bias;
    }
    record.output = saved->outputs[0];
    record.further = saved->outputs + 1;
    record.further_count = count - 1;
    if (tape->context->status != STATUS_OK || !column_forward(tape, x, weights, saved))
        return false;
    for (int i = 0; i < count; i++)
        if (weights[i].bias && !bias_add_in_place(tape, outputs[i], weights[i].bias))
            return false;
    return tape_push(tape, record) != NULL;
}

/* -- Multiply, then scatter -- */

/* The output's gradient of all ranks arrives while the rows that are there are multiplied. */
static void row_backward(struct tape *tape, const struct tape_record *record)
{
    struct mesh *mesh = record->saved;
    struct tensor *x = record->input[0];
    struct tensor *weight = record->input[1];
    int64_t tokens = tensor_rows(x);
    int64_t inputs = tensor_columns(x);
    struct gradient_target target = tape_target(tape, x);
    struct arena_mark mark = arena_mark(tape->work);
    struct exchange exchange;
    if (!exchange_create(tape, mesh, tokens, tensor_rows(weight), x->dtype, &exchange))
        return;
    char *all = arena_allocate(tape->work, exchange_bytes(&exchange, tokens));
    if (all)
        gather_start(&exchange, tape_gradient(record->output), all);
    for (int i = 0; all && i < exchange.ranks; i++) {
        int from = exchange_neighbour(&exchange, i);
        struct range part = exchange_part(&exchange, from);
        mesh_wait(&exchange.receives[from]);
        if (target.data)
            rows_multiply(tape, &exchange, weight, true, all + exchange_bytes(&exchange, part.begin),
                          operation_at_mutable(target.data, part.begin * inputs, x->dtype), part.count, target.beta);
    }
    if (all)
        weight_multiply(tape, weight, all, x->data, tokens);
    exchange_finish(&exchange);
    arena_rewind(tape->work, mark);
}

struct tensor *row_linear(struct tape *tape, struct mesh *mesh, struct tensor *x, struct tensor *weight)
{
    if (!x || !weight)
        return NULL;
    if (mesh_size(mesh, MESH_TENSOR) == 1)
        return linear(tape, x, weight, NULL, x->dtype);
    int64_t inputs = tensor_columns(x);
    struct range own = sequence_part(mesh, tensor_rows(x));
    struct tensor *y = tape_matrix(tape, x->dtype, own.count, tensor_rows(weight));
    struct arena_mark mark = arena_mark(tape->work);
    struct exchange exchange;
    if (!y || !exchange_create(tape, mesh, tensor_rows(x), tensor_rows(weight), x->dtype, &exchange))
        return NULL;
    char *terms = arena_allocate(tape->work, scatter_bytes(&exchange));
    char *sums = arena_allocate(tape->work, others_bytes(&exchange));
    if (!terms || !sums)
        return NULL;
    scatter_start(&exchange, terms);
    for (int i = 1; i < exchange.ranks; i++) {
        int to = exchange_neighbour(&exchange, i);
        struct range part = exchange_part(&exchange, to);
        rows_multiply(tape, &exchange, weight, false, operation_at(x->data, part.begin * inputs, x->dtype), sums,
                      part.count, 0.0f);
        exchange_send(&exchange, to, TAG_SCATTER, sums, part.count);
        sums += exchange_bytes(&exchange, part.count);
    }
    rows_multiply(tape, &exchange, weight, false, operation_at(x->data, own.begin * inputs, x->dtype), y->data,
                  own.count, 0.0f);
    scatter_finish(tape, &exchange, y->data, terms);
    arena_rewind(tape->work, mark);
    if (tape->context->status != STATUS_OK)
        return NULL;
    return tape_push(tape,
                     (struct tape_record){.backward = row_backward, .input = {x, weight}, .output = y, .saved = mesh});
}
