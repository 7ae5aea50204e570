/* Residual networks as a family of models: batches of images, passes, operations. */
#include <stdio.h>

#include "dist/parallel/class_loss.h"
#include "src/model/resnet.h"
#include "src/ops/image.h"

static enum status check(struct context *context, const struct model_config *config, const struct mesh_config *mesh)
{
    (void)config;
    const struct {
        const char *name;
        int64_t ranks;
    } axes[] = {{"mesh.tensor", mesh->tensor}, {"mesh.pipeline", mesh->pipeline}, {"mesh.context", mesh->context}};
    for (int i = 0; i < 3; i++)
        if (axes[i].ranks > 1)
            return context_fail(context, STATUS_USAGE,
                                "%s: %lld ranks cannot share a resnet, which data ranks alone divide; use 1 and "
                                "mesh.data %lld",
                                axes[i].name, (long long)axes[i].ranks,
                                (long long)(mesh->data * mesh->tensor * mesh->pipeline * mesh->context));
    return STATUS_OK;
}

static enum status describe(struct context *context, const struct model_config *config, struct parameter_list *list)
{
    struct resnet *resnet = memory_allocate(context, sizeof *resnet, MEMORY_OTHER);
    if (!resnet)
        return STATUS_MEMORY;
    resnet_shape_create(config, &resnet->shape);
    enum status status = resnet_declare(resnet, config, list);
    memory_free(context, resnet);
    return status;
}

static enum status create(struct model *model)
{
    const struct model_config *config = &model->config->model;
    struct resnet *resnet = memory_allocate(model->context, sizeof *resnet, MEMORY_OTHER);
    model->self = resnet;
    if (!resnet)
        return STATUS_MEMORY;
    resnet->model = model;
    resnet->block = image_block(model->engine, config->width);
    resnet_shape_create(config, &resnet->shape);
    return resnet_declare(resnet, config, model->parameters);
}

static void destroy(struct model *model)
{
    memory_free(model->context, model->self);
}

static int64_t image_elements(const struct model_config *config)
{
    return config->image.channels * config->image.size * config->image.size;
}

/* There is one chunk, and nothing passes between chunks. */
static void form(const struct batch *batch, int64_t micro_batch, int64_t model_chunk, struct packet_form *form)
{
    (void)batch, (void)micro_batch, (void)model_chunk;
    form->count = 0;
}

static int64_t packet_size(const struct batch *batch)
{
    (void)batch;
    return 0;
}

static bool forward(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk, const struct packet *in,
                    struct packet *out)
{
    struct resnet *resnet = batch->model->self;
    const struct config *config = batch->model->config;
    struct range rows = batch_micro(batch, micro_batch);
    float *images = (float *)batch_field(batch, "images") + rows.begin * image_elements(&config->model);
    (void)chunk, (void)in;
    out->count = 1;
    out->tensor[0] = NULL;
    struct tensor *logits = resnet_logits(tape, resnet, images, rows.count, batch->training);
    if (!logits)
        return false;
    if (batch->see_classes)
        batch->see_classes(batch->see_self, rows.begin, 0, logits);
    struct class_targets targets = batch_class_targets(batch, rows.begin, 0);
    out->tensor[0] = class_loss(tape, batch->model->mesh, logits, &targets);
    return out->tensor[0] != NULL;
}

/* -- Operations -- */

static bool learns(const struct parameter_list *list, const char *name, const char *suffix)
{
    char whole[PARAMETER_NAME];
    snprintf(whole, sizeof whole, "%s%s", name, suffix);
    const struct parameter *parameter = list ? parameter_find(list, whole) : NULL;
    return !parameter || parameter_learns(parameter);
}

/* Forward, the gradient of what comes in unless it is an image, and that of the weights if they learn. */
static double product_flops(double products, bool of_images, bool learns)
{
    return 2.0 * products * (1.0 + !of_images + learns);
}

static double unit_flops(const struct resnet_unit_shape *unit, bool of_images, const struct parameter_list *list)
{
    double positions = (double)resnet_unit_output(unit) * (double)resnet_unit_output(unit);
    double products = positions * (double)(unit->outputs * unit->inputs * unit->kernel * unit->kernel);
    return product_flops(products, of_images, learns(list, unit->convolution, ".weight"));
}

/* Low-rank maps of each state that a connection reaches. */
static double connection_flops(const struct model_config *config, const struct resnet_block_shape *block)
{
    if (config->residual.kind != RESIDUAL_LAUREL || !block->identity)
        return 0.0;
    int64_t previous = config->residual.previous;
    double maps = previous ? (double)integer_min(previous, 1 + block->connection) : 1.0;
    double products = (double)(block->size * block->size * 2 * config->residual.rank * block->channels);
    return product_flops(maps * products, false, true);
}

static double flops(const struct model_config *config, int64_t length, double surplus,
                    const struct parameter_list *list)
{
    struct resnet_shape shape;
    double sum = 0.0;
    (void)length, (void)surplus;
    resnet_shape_create(config, &shape);
    for (int u = 0; u < shape.units; u++)
        sum += unit_flops(&shape.unit[u], u == 0, list);
    for (int b = 0; b < shape.blocks; b++)
        sum += connection_flops(config, &shape.block[b]);
    return sum + product_flops((double)(shape.features * config->image.classes), false, learns(list, "fc", ".weight"));
}

const struct model_ops resnet_ops = {.name = "resnet",
                                     .check = check,
                                     .describe = describe,
                                     .create = create,
                                     .destroy = destroy,
                                     .fields = batch_image_fields,
                                     .form = form,
                                     .packet_bytes = packet_size,
                                     .forward = forward,
                                     .flops = flops};
