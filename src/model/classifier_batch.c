/* What families of decoder blocks that end in classes keep for a batch. */
#include "src/model/decoder_model.h"

enum status classifier_batch_create(struct batch *batch)
{
    struct context *context = batch->model->context;
    size_t count = (size_t)batch->micro_batches;
    struct decoder_batch *own = memory_allocate(context, sizeof *own, MEMORY_BUFFERS);
    batch->prepared = own;
    if (!own)
        return STATUS_MEMORY;
    own->micro = memory_allocate(context, count * sizeof *own->micro, MEMORY_BUFFERS);
    own->images = memory_allocate(context, count * sizeof *own->images, MEMORY_BUFFERS);
    if (!own->micro || !own->images)
        return STATUS_MEMORY;
    batch->work = (double)(batch->mine.count * batch->length);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        struct range rows = batch_micro(batch, i);
        own->images[i].row = rows.begin;
        own->micro[i] = (struct decoder_input){
            .images = &own->images[i], .rows = rows.count, .length = batch->length, .batch_rows = batch->rows};
    }
    return STATUS_OK;
}

void classifier_batch_destroy(struct batch *batch)
{
    struct context *context = batch->model->context;
    struct decoder_batch *own = batch->prepared;
    if (!own)
        return;
    memory_free(context, own->images);
    memory_free(context, own->micro);
    memory_free(context, own);
}

void classifier_batch_ready(struct batch *batch)
{
    struct decoder_batch *own = batch->prepared;
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        own->images[i].see_classes = batch->see_classes;
        own->images[i].see_self = batch->see_self;
    }
}
