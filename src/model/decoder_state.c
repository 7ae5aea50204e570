/* Memories that sequences carry (Infini-attention): from step to step, emptied where a sequence begins. Every tensor
 * rank holds its heads, every pipeline stage its layers, every context rank the same. */
#include "src/model/decoder_model.h"

#include <stdio.h>
#include <string.h>

#include "src/ops/infini.h"

static bool carried(const struct config *config)
{
    return config->model.attention.kind == ATTENTION_INFINI && config->data.sampling == SAMPLING_STREAM;
}

static enum status create(const struct batch *batch, struct model_state **state)
{
    struct context *context = batch->model->context;
    const struct decoder *decoder = decoder_of(batch->model);
    int64_t layers = decoder->config.layers;
    struct model_state *carried = memory_allocate(context, sizeof *carried, MEMORY_OTHER);
    *state = carried;
    if (!carried)
        return STATUS_MEMORY;
    *carried = (struct model_state){.context = context,
                                    .decoder = decoder,
                                    .mine = batch->mine,
                                    .total = batch->rows,
                                    .size = decoder_memory_size(decoder)};
    size_t bytes = (size_t)(batch->mine.count * carried->size) * sizeof(float);
    struct decoder_memory *memory = &carried->memory;
    memory->before = memory_allocate(context, (size_t)layers * sizeof *memory->before, MEMORY_OTHER);
    memory->after = memory_allocate(context, (size_t)layers * sizeof *memory->after, MEMORY_OTHER);
    if (!memory->before || !memory->after)
        return STATUS_MEMORY;
    for (int64_t layer = 0; layer < layers; layer++) {
        if (!decoder_holds_layer(decoder, layer) || !decoder_has_memory(decoder, layer))
            continue;
        memory->before[layer] = memory_allocate(context, bytes, MEMORY_BUFFERS);
        memory->after[layer] = memory_allocate(context, bytes, MEMORY_BUFFERS);
    }
    return context->status;
}

static void destroy(struct model_state **state)
{
    struct model_state *carried = *state;
    if (!carried)
        return;
    struct decoder_memory *memory = &carried->memory;
    for (int64_t layer = 0; memory->before && memory->after && layer < carried->decoder->config.layers; layer++) {
        memory_free(carried->context, memory->before[layer]);
        memory_free(carried->context, memory->after[layer]);
    }
    memory_free(carried->context, memory->before);
    memory_free(carried->context, memory->after);
    memory_free(carried->context, carried);
    *state = NULL;
}

static void reset(struct model_state *carried, int64_t row)
{
    for (int64_t layer = 0; layer < carried->decoder->config.layers; layer++)
        if (carried->memory.before[layer])
            memset(carried->memory.before[layer] + row * carried->size, 0, (size_t)carried->size * sizeof(float));
}

static void advance(struct model_state *carried)
{
    float **before = carried->memory.before;
    carried->memory.before = carried->memory.after;
    carried->memory.after = before;
}

/* -- Checkpoints -- */

/* The two datasets of a memory. */
enum memory_part { PART_STATE, PART_NORM, MEMORY_PARTS };

/* The gated delta rule has no z. */
static int parts_of(const struct decoder *decoder)
{
    return decoder->config.attention.memory_update == MEMORY_UPDATE_GATED_DELTA ? PART_NORM : MEMORY_PARTS;
}

static int64_t part_size(const struct decoder *decoder, enum memory_part part)
{
    int64_t width = decoder->config.head_width;
    return part == PART_STATE ? width * width : width;
}

/* A head that neighbours share belongs to the first of them, and what context ranks hold alike to the first of them. */
struct range decoder_state_heads(const struct model_state *carried)
{
    const struct decoder *decoder = carried->decoder;
    int64_t group = decoder->config.heads / decoder->config.kv_heads;
    struct range heads = {.begin = 0, .count = decoder->kv_heads.count};
    if (mesh_rank(decoder->mesh, MESH_CONTEXT) != 0)
        heads.count = 0;
    if (heads.count > 0 && decoder->heads.begin % group != 0)
        heads = (struct range){.begin = 1, .count = heads.count - 1};
    return heads;
}

/* The kv heads that go through an image. */
static struct range image_heads(const struct model_state *carried, bool writes)
{
    return writes ? decoder_state_heads(carried)
                  : (struct range){.begin = 0, .count = carried->decoder->kv_heads.count};
}

/* Where an image's values begin that belong to a layer's part; they follow one another. */
static void copy_part(const struct model_state *carried, float *layer, struct range heads, enum memory_part part,
                      float *values, bool out)
{
    int64_t width = carried->decoder->config.head_width;
    int64_t offset = part == PART_STATE ? 0 : width * width;
    int64_t elements = infini_elements(carried->decoder->config.attention.memory_update, width);
    size_t bytes = (size_t)part_size(carried->decoder, part) * sizeof(float);
    for (int64_t row = 0; row < carried->mine.count; row++)
        for (int64_t head = heads.begin; head < heads.begin + heads.count; head++) {
            float *own = layer + row * carried->size + head * elements + offset;
            memcpy(out ? values : own, out ? own : values, bytes);
            values += part_size(carried->decoder, part);
        }
}

static struct state_array describe(const struct model_state *carried, int64_t layer, enum memory_part part)
{
    const struct model_config *config = &carried->decoder->config;
    struct state_array dataset = {.rank = part == PART_STATE ? 4 : 3,
                                  .shape = {carried->total, config->kv_heads, config->head_width, config->head_width}};
    snprintf(dataset.name, sizeof dataset.name, "/memory/layers.%lld/%s", (long long)layer,
             part == PART_STATE ? "state" : "norm");
    if (part == PART_NORM)
        dataset.shape[3] = 0;
    return dataset;
}

static struct box image_box(const struct model_state *carried, struct range heads, enum memory_part part)
{
    const struct decoder *decoder = carried->decoder;
    int64_t width = decoder->config.head_width;
    return (struct box){.offset = {carried->mine.begin, decoder->kv_heads.begin + heads.begin},
                        .extent = {carried->mine.count, heads.count, width, part == PART_STATE ? width : 1}};
}

/* Memories in a checkpoint: /memory/layers.I/state [streams, G, E, E] and, if there is a z, norm [streams, G, E], by
 * unrolled layer. */
struct image {
    bool writes;
    int count; /* arrays, the same on every rank */
    struct state_array *arrays;
    struct state_piece *pieces;
    float *values;
};

static enum status image_create(const struct model_state *carried, bool writes, void **created)
{
    const struct decoder *decoder = carried->decoder;
    struct context *context = carried->context;
    int64_t layers = decoder->config.layers;
    struct range heads = image_heads(carried, writes);
    size_t most = (size_t)layers * MEMORY_PARTS;
    size_t each = (size_t)(carried->mine.count * carried->size);
    struct image *image = memory_allocate(context, sizeof *image, MEMORY_OTHER);
    *created = image;
    if (!image)
        return STATUS_MEMORY;
    image->writes = writes;
    image->arrays = memory_allocate(context, most * sizeof *image->arrays, MEMORY_OTHER);
    image->pieces = memory_allocate(context, most * sizeof *image->pieces, MEMORY_OTHER);
    image->values = memory_allocate(context, (size_t)layers * each * sizeof *image->values, MEMORY_BUFFERS);
    if (!image->arrays || !image->pieces || !image->values)
        return STATUS_MEMORY;
    float *values = image->values;
    for (int64_t layer = 0; layer < layers; layer++)
        for (int part = 0; part < parts_of(decoder) && decoder_has_memory(decoder, layer); part++) {
            struct state_array *array = &image->arrays[image->count];
            *array = describe(carried, layer, part);
            array->pieces = &image->pieces[image->count++];
            if (!carried->memory.before[layer] || heads.count == 0 || carried->mine.count == 0)
                continue;
            array->piece_count = 1;
            array->pieces[0] = (struct state_piece){.box = image_box(carried, heads, part), .data = values};
            values += carried->mine.count * heads.count * part_size(decoder, part);
        }
    return STATUS_OK;
}

static void image_destroy(struct context *context, void **created)
{
    struct image *image = *created;
    if (!image)
        return;
    memory_free(context, image->arrays);
    memory_free(context, image->pieces);
    memory_free(context, image->values);
    memory_free(context, image);
    *created = NULL;
}

static enum status image_visit(const void *created, const struct state_visitor *visitor)
{
    const struct image *image = created;
    for (int i = 0; i < image->count; i++)
        CHECK(visitor->array(visitor->self, &image->arrays[i]));
    return STATUS_OK;
}

/* Copies what the memories are now between them and an image. */
static void image_copy(const struct model_state *carried, const struct image *image)
{
    const struct decoder *decoder = carried->decoder;
    struct range heads = image_heads(carried, image->writes);
    int next = 0;
    for (int64_t layer = 0; layer < decoder->config.layers; layer++)
        for (int part = 0; part < parts_of(decoder) && decoder_has_memory(decoder, layer); part++) {
            const struct state_array *array = &image->arrays[next++];
            if (array->piece_count > 0)
                copy_part(carried, carried->memory.before[layer], heads, part, array->pieces[0].data, image->writes);
        }
}

static void image_fill(const struct model_state *carried, void *image)
{
    image_copy(carried, image);
}

static void image_take(struct model_state *carried, const void *image)
{
    image_copy(carried, image);
}

const struct model_state_ops decoder_state_ops = {.carried = carried,
                                                  .create = create,
                                                  .destroy = destroy,
                                                  .reset = reset,
                                                  .advance = advance,
                                                  .image_create = image_create,
                                                  .image_destroy = image_destroy,
                                                  .image_visit = image_visit,
                                                  .image_fill = image_fill,
                                                  .image_take = image_take};
