#include "src/model/batch.h"

#include <string.h>

#include "src/core/random.h"
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

void batch_fill_random(struct batch *batch, uint64_t seed)
{
    for (int i = 0; i < batch->field_count; i++) {
        const struct batch_field *field = &batch->field[i];
        uint64_t key = random_key(seed, field->name);
        uint64_t before = (uint64_t)(batch->mine.begin * field->elements);
        int64_t count = batch->mine.count * field->elements;
        if (field->bound == 0)
            continue;
        for (int64_t n = 0; n < count; n++)
            if (field->dtype == DTYPE_I32)
                ((int32_t *)field->data)[n] =
                    (int32_t)(random_bits(key, before + (uint64_t)n) % (uint64_t)field->bound);
            else
                ((float *)field->data)[n] = (float)random_normal(key, before + (uint64_t)n);
    }
    batch_ready_whole(batch);
}

void batch_ready_whole(struct batch *batch)
{
    int64_t targets = batch_field(batch, "labels") ? batch->rows : batch->rows * batch->length;
    batch_ready(batch, targets, batch->rows * batch->length);
}

/* -- Images -- */

int batch_image_fields(const struct config *config, struct batch_field fields[BATCH_FIELDS])
{
    int64_t pixels = config->model.image.channels * config->model.image.size * config->model.image.size;
    int64_t classes = config->model.image.classes;
    fields[0] = (struct batch_field){.name = "images", .dtype = DTYPE_F32, .elements = pixels, .bound = 1};
    fields[1] = (struct batch_field){.name = "labels", .dtype = DTYPE_I32, .elements = 1, .bound = classes};
    fields[2] = (struct batch_field){.name = "mixed_labels", .dtype = DTYPE_I32, .elements = 1};
    fields[3] = (struct batch_field){.name = "mixing", .dtype = DTYPE_F32, .elements = 1};
    return 4;
}

struct class_targets batch_class_targets(const struct batch *batch, int64_t row, int64_t first)
{
    const struct config *config = batch->model->config;
    const int32_t *mixed_labels = batch_field(batch, "mixed_labels");
    const float *mixing = batch_field(batch, "mixing");
    return (struct class_targets){.labels = (const int32_t *)batch_field(batch, "labels") + row,
                                  .mixed_labels = mixed_labels ? mixed_labels + row : NULL,
                                  .mixing = mixing ? mixing + row : NULL,
                                  .classes = config->model.image.classes,
                                  .first = first,
                                  .smoothing = batch->training ? (float)config->training.label_smoothing : 0.0f,
                                  .scale = batch->target_count ? 1.0f / (float)batch->target_count : 0.0f};
}

struct range batch_micro(const struct batch *batch, int64_t micro_batch)
{
    return range_partition(batch->mine.count, batch->micro_batches, micro_batch);
}
