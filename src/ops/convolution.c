#include <string.h>

#include "src/ops/convolution_plans.h"
#include "src/ops/image.h"
#include "src/ops/operation.h"

int64_t image_block(const struct engine *engine, int64_t channels)
{
    int64_t block = convolution_plans_block(engine->plans);
    return block && channels % block == 0 ? block : 0;
}

/* Elements of a row's images, whole blocks of them. */
static int64_t elements_in(const struct convolution_shape *s)
{
    return integer_round_up(s->inputs, integer_max(1, s->block_in)) * s->height * s->width;
}

static int64_t elements_out(const struct convolution_shape *s)
{
    return integer_round_up(s->outputs, integer_max(1, s->block_out)) * s->out_height * s->out_width;
}

/* -- Without the library -- */

/* The element of row n and channel c at position 0; positions are a block apart. */
static int64_t image_at(int64_t n, int64_t c, int64_t channels, int64_t positions, int64_t block)
{
    int64_t together = integer_max(block, 1);
    return (n * integer_round_up(channels, together) + c / together * together) * positions + c % together;
}

struct plain_pass {
    const struct convolution_shape *s;
    enum convolution_pass pass;
    const struct convolution_operands *with;
};

/* All positions of one kernel element: where the window's element (k, l) of output (r, c) is in the image. */
static void plain_element(const struct plain_pass *of, int64_t n, int64_t o, int64_t i, int64_t k, int64_t l)
{
    const struct convolution_shape *s = of->s;
    int64_t step_in = integer_max(s->block_in, 1);
    int64_t step_out = integer_max(s->block_out, 1);
    float *x = (float *)of->with->x + image_at(n, i, s->inputs, s->height * s->width, s->block_in);
    float *y = (float *)of->with->y + image_at(n, o, s->outputs, s->out_height * s->out_width, s->block_out);
    float *weight = (float *)of->with->weight + ((o * s->inputs + i) * s->kernel + k) * s->kernel + l;
    float sum = 0.0f;
    for (int64_t r = 0; r < s->out_height; r++) {
        int64_t row = s->stride * r + k - s->padding;
        for (int64_t c = 0; row >= 0 && row < s->height && c < s->out_width; c++) {
            int64_t column = s->stride * c + l - s->padding;
            if (column < 0 || column >= s->width)
                continue;
            float *in = x + (row * s->width + column) * step_in;
            float *out = y + (r * s->out_width + c) * step_out;
            if (of->pass == CONVOLUTION_FORWARD)
                *out += *weight * *in;
            else if (of->pass == CONVOLUTION_BACKWARD_DATA)
                *in += *weight * *out;
            else
                sum += *in * *out;
        }
    }
    if (of->pass == CONVOLUTION_BACKWARD_WEIGHTS)
        *weight += sum;
}

/* Threads divide what is written: rows, or output channels of the weights. */
static void plain_run(struct engine *engine, const struct plain_pass *of)
{
    const struct convolution_shape *s = of->s;
    bool of_weights = of->pass == CONVOLUTION_BACKWARD_WEIGHTS;
    int64_t in = elements_in(s);
    int64_t out = elements_out(s);
    int64_t parts = of_weights ? s->outputs : s->rows;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, s->rows *out))
    for (int64_t part = 0; part < parts; part++) {
        if (of->pass == CONVOLUTION_FORWARD)
            memset((float *)of->with->y + part * out, 0, (size_t)out * sizeof(float));
        if (of->pass == CONVOLUTION_BACKWARD_DATA)
            memset((float *)of->with->x + part * in, 0, (size_t)in * sizeof(float));
        struct range rows = of_weights ? (struct range){0, s->rows} : (struct range){part, 1};
        struct range outputs = of_weights ? (struct range){part, 1} : (struct range){0, s->outputs};
        for (int64_t n = rows.begin; n < rows.begin + rows.count; n++)
            for (int64_t o = outputs.begin; o < outputs.begin + outputs.count; o++)
                for (int64_t i = 0; i < s->inputs; i++)
                    for (int64_t e = 0; e < s->kernel * s->kernel; e++)
                        plain_element(of, n, o, i, e / s->kernel, e % s->kernel);
    }
}

/* -- A pass -- */

static enum status run_in_type(struct engine *engine, const struct convolution_shape *s, enum convolution_pass pass,
                               const struct convolution_operands *with)
{
    bool done = false;
    if (!engine->plans->plain)
        CHECK(convolution_plans_run(engine->context, engine->plans, s, pass, with, &done));
    if (!done && !engine->context->dry)
        plain_run(engine, &(struct plain_pass){.s = s, .pass = pass, .with = with});
    return STATUS_OK;
}

static float *widened(struct tape *tape, const void *from, int64_t count, bool reads)
{
    float *copy = arena_allocate(tape->work, (size_t)count * sizeof *copy);
    if (copy && reads)
        convert(tape->engine, copy, DTYPE_F32, from, DTYPE_BF16, count);
    return copy;
}

/* On machines whose library has no bf16. */
static enum status run_widened(struct tape *tape, const struct convolution_shape *s, enum convolution_pass pass,
                               const struct convolution_operands *with)
{
    struct engine *engine = tape->engine;
    int64_t in = s->rows * elements_in(s);
    int64_t out = s->rows * elements_out(s);
    struct convolution_shape wide = *s;
    struct convolution_operands floats = *with;
    struct arena_mark mark = arena_mark(tape->work);
    wide.type = DTYPE_F32;
    floats.x = widened(tape, with->x, in, pass != CONVOLUTION_BACKWARD_DATA);
    floats.y = widened(tape, with->y, out, pass != CONVOLUTION_FORWARD);
    if (pass != CONVOLUTION_BACKWARD_WEIGHTS)
        floats.weight = widened(tape, with->weight, s->outputs * s->inputs * s->kernel * s->kernel, true);
    enum status status = floats.x && floats.y && floats.weight ? STATUS_OK : STATUS_MEMORY;
    /* A copy lies where another parameter's copy lay before. */
    engine_forget(engine);
    TRY(status);
    TRY(run_in_type(engine, &wide, pass, &floats));
    if (pass == CONVOLUTION_FORWARD)
        convert(engine, with->y, DTYPE_BF16, floats.y, DTYPE_F32, out);
    if (pass == CONVOLUTION_BACKWARD_DATA)
        convert(engine, with->x, DTYPE_BF16, floats.x, DTYPE_F32, in);
done:
    arena_rewind(tape->work, mark);
    return status;
}

static enum status run_pass(struct tape *tape, const struct convolution_shape *s, enum convolution_pass pass,
                            const struct convolution_operands *with)
{
    struct engine *engine = tape->engine;
    struct time_account *time = &engine->context->time;
    if (s->rows == 0)
        return STATUS_OK;
    enum time_kind before = time_enter(time, TIME_PRODUCTS);
    bool wide = s->type == DTYPE_BF16 && (engine->plans->plain || !engine->plans->native);
    enum status status = wide ? run_widened(tape, s, pass, with) : run_in_type(engine, s, pass, with);
    time->flops[TIME_PRODUCTS] += 2.0 * (double)(s->rows * s->outputs * s->out_height * s->out_width) *
                                  (double)(s->inputs * s->kernel * s->kernel);
    time_leave(time, before);
    return status;
}

/* -- The operation -- */

static void backward_data(struct tape *tape, const struct convolution_shape *s, struct gradient_target dx,
                          struct convolution_operands with)
{
    int64_t count = s->rows * elements_in(s);
    struct arena_mark mark = arena_mark(tape->work);
    with.x = dx.beta == 0.0f ? dx.data : arena_allocate(tape->work, (size_t)count * dtype_size(dx.dtype));
    if (with.x)
        context_keep(tape->context, run_pass(tape, s, CONVOLUTION_BACKWARD_DATA, &with));
    if (with.x && dx.beta != 0.0f && tape->context->status == STATUS_OK)
        accumulate(tape->engine, dx.data, with.x, dx.dtype, count);
    arena_rewind(tape->work, mark);
}

static void convolution_backward(struct tape *tape, const struct tape_record *record)
{
    const struct convolution_shape *s = record->saved;
    struct tensor *x = record->input[0];
    struct tensor *weight = record->input[1];
    struct convolution_operands with = {
        .x = x->data, .weight = weight->data, .y = (void *)(uintptr_t)tape_gradient(record->output)};
    struct gradient_target dweight = tape_target(tape, weight);
    if (dweight.data && dweight.dtype != DTYPE_F32) {
        (void)operation_refuse(tape, "convolution", "the gradient of weights must be fp32");
        return;
    }
    if (dweight.data) {
        if (dweight.beta == 0.0f && !tape->context->dry)
            memset(dweight.data, 0, (size_t)tensor_count(weight) * sizeof(float));
        with.weight = dweight.data;
        context_keep(tape->context, run_pass(tape, s, CONVOLUTION_BACKWARD_WEIGHTS, &with));
        with.weight = weight->data;
    }
    struct gradient_target dx = tape_target(tape, x);
    if (dx.data)
        backward_data(tape, s, dx, with);
}

struct tensor *convolution(struct tape *tape, struct tensor *x, struct tensor *weight, int64_t stride, int64_t padding,
                           int64_t block)
{
    if (!x || !weight)
        return NULL;
    int64_t kernel = weight->rank == 4 ? weight->shape[3] : 1;
    bool fits = x->rank == 4 && (weight->rank == 2 || (weight->rank == 4 && weight->shape[2] == kernel)) &&
                integer_round_up(weight->shape[1], integer_max(1, x->block)) == x->shape[1] &&
                x->shape[2] + 2 * padding >= kernel && x->shape[3] + 2 * padding >= kernel;
    if (!fits || !operation_is_floating(x) || weight->dtype != x->dtype)
        return operation_refuse(tape, "convolution", "images and weights do not fit in shape or type");
    struct convolution_shape *s = tape_save(tape, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct convolution_shape){.rows = x->shape[0],
                                    .inputs = weight->shape[1],
                                    .height = x->shape[2],
                                    .width = x->shape[3],
                                    .outputs = weight->shape[0],
                                    .out_height = (x->shape[2] + 2 * padding - kernel) / stride + 1,
                                    .out_width = (x->shape[3] + 2 * padding - kernel) / stride + 1,
                                    .kernel = kernel,
                                    .stride = stride,
                                    .padding = padding,
                                    .block_in = x->block,
                                    .block_out = block,
                                    .type = x->dtype};
    int64_t channels = integer_round_up(s->outputs, integer_max(1, block));
    struct tensor *y = tape_images(tape, x->dtype, (int64_t[]){s->rows, channels, s->out_height, s->out_width}, block);
    if (!y)
        return NULL;
    /* Only a parameter's values are known to stay until the next step. */
    if (!weight->parameter)
        engine_forget(tape->engine);
    struct convolution_operands with = {.x = x->data, .weight = weight->data, .y = y->data};
    if (run_pass(tape, s, CONVOLUTION_FORWARD, &with) != STATUS_OK)
        return NULL;
    return tape_push(
        tape, (struct tape_record){.backward = convolution_backward, .input = {x, weight}, .output = y, .saved = s});
}
