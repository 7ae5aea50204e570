#include "src/train/streams.h"

#include <stdio.h>
#include <string.h>

bool streams_carried(const struct config *config)
{
    return config->model.attention.kind == ATTENTION_INFINI && config->data.sampling == SAMPLING_STREAM;
}

enum status streams_create(struct context *context, const struct decoder *decoder, struct range mine, int64_t total,
                           struct streams *streams)
{
    int64_t layers = decoder->config.layers;
    *streams = (struct streams){
        .context = context, .decoder = decoder, .mine = mine, .total = total, .size = decoder_memory_size(decoder)};
    size_t bytes = (size_t)(mine.count * streams->size) * sizeof(float);
    struct decoder_memory *memory = &streams->memory;
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

void streams_destroy(struct streams *streams)
{
    struct decoder_memory *memory = &streams->memory;
    for (int64_t layer = 0; memory->before && memory->after && layer < streams->decoder->config.layers; layer++) {
        memory_free(streams->context, memory->before[layer]);
        memory_free(streams->context, memory->after[layer]);
    }
    memory_free(streams->context, memory->before);
    memory_free(streams->context, memory->after);
    *streams = (struct streams){0};
}

void streams_reset(struct streams *streams, int64_t row)
{
    for (int64_t layer = 0; layer < streams->decoder->config.layers; layer++)
        if (streams->memory.before[layer])
            memset(streams->memory.before[layer] + row * streams->size, 0, (size_t)streams->size * sizeof(float));
}

void streams_empty(struct streams *streams)
{
    for (int64_t row = 0; row < streams->mine.count; row++)
        streams_reset(streams, row);
}

void streams_advance(struct streams *streams)
{
    float **before = streams->memory.before;
    streams->memory.before = streams->memory.after;
    streams->memory.after = before;
}

/* -- Checkpoints -----------------------------------------------------------------------------------------------------
 */

/* The two datasets of a memory. */
enum memory_part { PART_STATE, PART_NORM, MEMORY_PARTS };

static int64_t part_size(const struct decoder *decoder, enum memory_part part)
{
    int64_t width = decoder->config.head_width;
    return part == PART_STATE ? width * width : width;
}

/* A head that neighbours share belongs to the first of them, and what context ranks hold alike to the first of them. */
struct range streams_own_heads(const struct streams *streams)
{
    const struct decoder *decoder = streams->decoder;
    int64_t group = decoder->config.heads / decoder->config.kv_heads;
    struct range heads = {.begin = 0, .count = decoder->kv_heads.count};
    if (mesh_rank(decoder->mesh, MESH_CONTEXT) != 0)
        heads.count = 0;
    if (heads.count > 0 && decoder->heads.begin % group != 0)
        heads = (struct range){.begin = 1, .count = heads.count - 1};
    return heads;
}

/* The kv heads that go through an image. */
static struct range image_heads(const struct streams *streams, bool writes)
{
    return writes ? streams_own_heads(streams) : (struct range){.begin = 0, .count = streams->decoder->kv_heads.count};
}

/* Where an image's values begin that belong to a layer's part; they follow one another. */
static void copy_part(const struct streams *streams, float *layer, struct range heads, enum memory_part part,
                      float *values, bool out)
{
    int64_t width = streams->decoder->config.head_width;
    int64_t offset = part == PART_STATE ? 0 : width * width;
    size_t bytes = (size_t)part_size(streams->decoder, part) * sizeof(float);
    for (int64_t row = 0; row < streams->mine.count; row++)
        for (int64_t head = heads.begin; head < heads.begin + heads.count; head++) {
            float *own = layer + row * streams->size + head * (width * width + width) + offset;
            memcpy(out ? values : own, out ? own : values, bytes);
            values += part_size(streams->decoder, part);
        }
}

static struct checkpoint_dataset describe(const struct streams *streams, int64_t layer, enum memory_part part)
{
    const struct model_config *config = &streams->decoder->config;
    struct checkpoint_dataset dataset = {
        .rank = part == PART_STATE ? 4 : 3,
        .shape = {streams->total, config->kv_heads, config->head_width, config->head_width}};
    snprintf(dataset.name, sizeof dataset.name, "/memory/layers.%lld/%s", (long long)layer,
             part == PART_STATE ? "state" : "norm");
    if (part == PART_NORM)
        dataset.shape[3] = 0;
    return dataset;
}

static struct box image_box(const struct streams *streams, struct range heads, enum memory_part part)
{
    const struct decoder *decoder = streams->decoder;
    int64_t width = decoder->config.head_width;
    return (struct box){.offset = {streams->mine.begin, decoder->kv_heads.begin + heads.begin},
                        .extent = {streams->mine.count, heads.count, width, part == PART_STATE ? width : 1}};
}

enum status streams_image_create(const struct streams *streams, bool writes, struct streams_image *image)
{
    const struct decoder *decoder = streams->decoder;
    struct context *context = streams->context;
    int64_t layers = decoder->config.layers;
    struct range heads = image_heads(streams, writes);
    size_t most = (size_t)layers * MEMORY_PARTS;
    size_t each = (size_t)(streams->mine.count * streams->size);
    *image = (struct streams_image){0};
    image->datasets = memory_allocate(context, most * sizeof *image->datasets, MEMORY_OTHER);
    image->pieces = memory_allocate(context, most * sizeof *image->pieces, MEMORY_OTHER);
    image->values = memory_allocate(context, (size_t)layers * each * sizeof *image->values, MEMORY_BUFFERS);
    if (!image->datasets || !image->pieces || !image->values)
        return STATUS_MEMORY;
    float *values = image->values;
    for (int64_t layer = 0; layer < layers; layer++)
        for (int part = 0; part < MEMORY_PARTS && decoder_has_memory(decoder, layer); part++) {
            struct checkpoint_dataset *dataset = &image->datasets[image->count];
            *dataset = describe(streams, layer, part);
            dataset->pieces = &image->pieces[image->count++];
            if (!streams->memory.before[layer] || heads.count == 0 || streams->mine.count == 0)
                continue;
            dataset->piece_count = 1;
            dataset->pieces[0] = (struct checkpoint_piece){.box = image_box(streams, heads, part), .data = values};
            values += streams->mine.count * heads.count * part_size(decoder, part);
        }
    return STATUS_OK;
}

void streams_image_destroy(struct context *context, struct streams_image *image)
{
    memory_free(context, image->datasets);
    memory_free(context, image->pieces);
    memory_free(context, image->values);
    *image = (struct streams_image){0};
}

/* Copies what the memories are now between them and an image. */
static void image_copy(const struct streams *streams, const struct streams_image *image, bool writes)
{
    const struct decoder *decoder = streams->decoder;
    struct range heads = image_heads(streams, writes);
    int next = 0;
    for (int64_t layer = 0; layer < decoder->config.layers; layer++)
        for (int part = 0; part < MEMORY_PARTS && decoder_has_memory(decoder, layer); part++) {
            const struct checkpoint_dataset *dataset = &image->datasets[next++];
            if (dataset->piece_count > 0)
                copy_part(streams, streams->memory.before[layer], heads, part, dataset->pieces[0].data, writes);
        }
}

void streams_image_fill(const struct streams *streams, const struct streams_image *image)
{
    image_copy(streams, image, true);
}

void streams_restore(struct streams *streams, const struct streams_image *image)
{
    image_copy(streams, image, false);
}
