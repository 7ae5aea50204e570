#include "tests/mpi/toy.h"

#include <stdio.h>

#include "src/ops/ops.h"

struct toy {
    struct parameter *first, *bias, *second, *seen;
};

static enum status check(struct context *context, const struct model_config *config, const struct mesh_config *mesh)
{
    (void)config;
    if (mesh->tensor > 1 || mesh->context > 1 || mesh->pipeline > 2 || mesh->virtual_stages > 1)
        return context_fail(context, STATUS_USAGE, "mesh: a toy has two layers");
    return STATUS_OK;
}

static struct parameter *hold(struct parameter_list *list, const char *name, int64_t rows, int64_t columns, int chunk,
                              int stage)
{
    struct parameter_spec spec = {.shape = {rows, columns}, .deviation = 0.5, .is_buffer = rows == 1};
    spec.rank = columns ? 2 : 1;
    spec.initial = columns ? INITIAL_NORMAL : INITIAL_ZERO;
    snprintf(spec.name, sizeof spec.name, "%s", name);
    const struct parameter_division whole = {.slice = {0, rows}, .owned = {0, rows}};
    return parameter_declare(list, &spec, &whole, chunk == stage, chunk);
}

static void declare(const struct model_config *config, struct parameter_list *list, int last, int stage,
                    struct toy *toy)
{
    toy->first = hold(list, "first.weight", config->hidden, TOY_IN, 0, stage);
    toy->bias = hold(list, "first.bias", config->hidden, 0, 0, stage);
    toy->second = hold(list, "second.weight", TOY_OUT, config->hidden, last, stage);
    toy->seen = hold(list, "second.seen", 1, 0, last, stage);
}

static enum status describe(struct context *context, const struct model_config *config, struct parameter_list *list)
{
    struct toy toy;
    declare(config, list, 0, 0, &toy);
    return context->status;
}

static enum status create(struct model *model)
{
    struct toy *toy = memory_allocate(model->context, sizeof *toy, MEMORY_OTHER);
    model->self = toy;
    if (toy)
        declare(&model->config->model, model->parameters, mesh_size(model->mesh, MESH_PIPELINE) - 1,
                mesh_rank(model->mesh, MESH_PIPELINE), toy);
    return model->context->status;
}

static void destroy(struct model *model)
{
    memory_free(model->context, model->self);
}

static int fields(const struct config *config, struct batch_field fields[BATCH_FIELDS])
{
    (void)config;
    fields[0] = (struct batch_field){.name = "x", .dtype = DTYPE_F32, .elements = TOY_IN};
    fields[1] = (struct batch_field){.name = "y", .dtype = DTYPE_F32, .elements = TOY_OUT};
    return 2;
}

static void form(const struct batch *batch, int64_t micro_batch, int64_t model_chunk, struct packet_form *form)
{
    const struct model *model = batch->model;
    form->count = 1;
    form->part[0] = (struct packet_part){.rows = batch_micro(batch, micro_batch).count,
                                         .columns = model->config->model.hidden,
                                         .differentiable = parameter_list_lowest(model->parameters) < model_chunk};
}

static int64_t packet_size(const struct batch *batch)
{
    return batch->micro_rows * batch->model->config->model.hidden * (int64_t)sizeof(float);
}

static void error_backward(struct tape *tape, const struct tape_record *record)
{
    struct gradient_target target = tape_target(tape, record->input[0]);
    const float *difference = record->saved;
    float scale = *(const float *)tape_gradient(record->output);
    for (int64_t i = 0; target.data && i < tensor_count(record->input[0]); i++)
        ((float *)target.data)[i] = (target.beta ? ((float *)target.data)[i] : 0.0f) + scale * difference[i];
}

static struct tensor *error(struct tape *tape, struct tensor *y, const float *wanted, float scale)
{
    struct tensor *loss = tape_tensor(tape, DTYPE_F32, 1, (int64_t[]){1});
    float *difference = y && loss ? tape_save(tape, (size_t)tensor_count(y) * sizeof *difference) : NULL;
    if (!difference)
        return NULL;
    float sum = 0.0f;
    for (int64_t i = 0; i < tensor_count(y); i++) {
        float d = ((float *)y->data)[i] - wanted[i];
        sum += 0.5f * scale * d * d;
        difference[i] = scale * d;
    }
    *(float *)loss->data = sum;
    return tape_push(
        tape, (struct tape_record){.backward = error_backward, .input = {y}, .output = loss, .saved = difference});
}

static bool forward(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk, const struct packet *in,
                    struct packet *out)
{
    struct toy *toy = batch->model->self;
    struct range rows = batch_micro(batch, micro_batch);
    struct tensor *h = in->count ? in->tensor[0] : NULL;
    (void)chunk;
    if (toy->first) {
        float *x = (float *)batch_field(batch, "x") + rows.begin * TOY_IN;
        h = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){rows.count, TOY_IN}, x, false);
        h = gelu(tape, linear(tape, h, &toy->first->value, &toy->bias->value, DTYPE_F32));
    }
    out->count = 1;
    out->tensor[0] = h;
    if (!toy->second)
        return h != NULL;
    if (tape->recording && !tape->again && !toy->seen->frozen)
        *(float *)toy->seen->value.data += (float)rows.count;
    const float *y = (const float *)batch_field(batch, "y") + rows.begin * TOY_OUT;
    h = linear(tape, h, &toy->second->value, NULL, DTYPE_F32);
    out->tensor[0] = error(tape, h, y, 1.0f / (float)batch->target_count);
    return out->tensor[0] != NULL;
}

static double flops(const struct model_config *config, int64_t length, double surplus,
                    const struct parameter_list *list)
{
    (void)length, (void)surplus, (void)list;
    return 6.0 * (double)(config->hidden * (TOY_IN + TOY_OUT));
}

const struct model_ops toy_ops = {.name = "toy",
                                  .check = check,
                                  .describe = describe,
                                  .create = create,
                                  .destroy = destroy,
                                  .fields = fields,
                                  .form = form,
                                  .packet_bytes = packet_size,
                                  .forward = forward,
                                  .flops = flops};
