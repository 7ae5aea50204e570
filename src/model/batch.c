#include "src/model/batch.h"

#include <string.h>

#include "src/model/model.h"

static void fill(const struct batch_field *field, int64_t rows)
{
    for (int64_t i = 0; i < rows * field->elements; i++)
        if (field->dtype == DTYPE_I32)
            ((int32_t *)field->data)[i] = (int32_t)field->initial;
        else if (field->dtype == DTYPE_I64)
            ((int64_t *)field->data)[i] = field->initial;
        else
            ((float *)field->data)[i] = (float)field->initial;
}

enum status batch_create(struct model *model, int64_t rows, int64_t micro_rows, struct batch *batch)
{
    struct context *context = model->context;
    int ranks = mesh_size(model->mesh, MESH_DATA);
    *batch = (struct batch){.model = model,
                            .rows = rows,
                            .length = model->config->training.sequence_length,
                            .mine = range_partition(rows, ranks, mesh_rank(model->mesh, MESH_DATA)),
                            .micro_rows = micro_rows,
                            .micro_batches = integer_divide_up(range_partition(rows, ranks, 0).count, micro_rows)};
    batch->field_count = model->ops->fields(model->config, batch->field);
    for (int i = 0; i < batch->field_count; i++) {
        struct batch_field *field = &batch->field[i];
        size_t elements = (size_t)(batch->mine.count * field->elements);
        field->data = memory_allocate(context, elements * dtype_size(field->dtype), MEMORY_BUFFERS);
        if (!field->data)
            return STATUS_MEMORY;
        if (field->initial != 0)
            fill(field, batch->mine.count);
    }
    batch->work = (double)batch->mine.count;
    return model->ops->batch_create ? model->ops->batch_create(batch) : STATUS_OK;
}

void batch_destroy(struct batch *batch)
{
    if (!batch->model)
        return;
    if (batch->model->ops->batch_destroy)
        batch->model->ops->batch_destroy(batch);
    for (int i = 0; i < batch->field_count; i++)
        memory_free(batch->model->context, batch->field[i].data);
    *batch = (struct batch){0};
}

void *batch_field(const struct batch *batch, const char *name)
{
    for (int i = 0; i < batch->field_count; i++)
        if (strcmp(batch->field[i].name, name) == 0)
            return batch->field[i].data;
    return NULL;
}

void batch_ready(struct batch *batch, int64_t target_count, int64_t token_count)
{
    batch->target_count = target_count;
    batch->token_count = token_count;
    if (batch->model->ops->batch_ready)
        batch->model->ops->batch_ready(batch);
}

struct range batch_micro(const struct batch *batch, int64_t micro_batch)
{
    return range_partition(batch->mine.count, batch->micro_batches, micro_batch);
}
