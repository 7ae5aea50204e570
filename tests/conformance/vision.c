/* Cases of images: what goes in, and what classifiers show. */
#include "tests/conformance/run.h"

enum status run_set_up_images(struct run *run)
{
    const struct case_tensor *images = case_find(run->test, "/images", "");
    const struct case_tensor *labels = case_find(run->test, "/labels", "");
    const struct case_tensor *logits = case_find(run->test, "/expect/logits", "");
    if (images->rank != 4 || !labels || labels->rank != 1 || labels->shape[0] != images->shape[0] || !logits ||
        logits->rank != 2 || logits->shape[0] != images->shape[0])
        return context_fail(run->context, STATUS_FILE, "/images, /labels or /expect/logits has another shape");
    run->rows = images->shape[0];
    run->length = run->config.model.family == FAMILY_VIT ? run->config.model.max_positions : 1;
    run->targets = 1;
    run->config.training.label_smoothing = run->test->label_smoothing;
    run->config.model.batch_statistics = STATISTICS_GROUP;
    run->vocabulary = logits->shape[1];
    return STATUS_OK;
}

void run_fill_images(struct run *run)
{
    struct batch *batch = &run->trainer.batch;
    const struct case_tensor *images = case_find(run->test, "/images", "");
    const struct case_tensor *labels = case_find(run->test, "/labels", "");
    float *pixels = batch_field(batch, "images");
    int32_t *classes = batch_field(batch, "labels");
    int64_t each = images->count / run->rows;
    for (int64_t row = 0; row < batch->mine.count; row++) {
        const double *from = images->values + (batch->mine.begin + row) * each;
        for (int64_t i = 0; i < each; i++)
            pixels[row * each + i] = (float)from[i];
        classes[row] = (int32_t)labels->values[batch->mine.begin + row];
    }
    batch_ready_whole(batch);
}

void run_see_classes(void *self, int64_t row, int64_t first, const struct tensor *logits)
{
    struct run *run = self;
    int64_t columns = tensor_columns(logits);
    const float *values = logits->data;
    for (int64_t n = 0; n < tensor_rows(logits); n++)
        for (int64_t v = 0; v < columns; v++)
            run->logits[(run->trainer.batch.mine.begin + row + n) * run->vocabulary + first + v] =
                (double)values[n * columns + v];
}
