#include "src/train/evaluate_images.h"

#include <math.h>
#include <string.h>

#include "src/core/clock.h"

struct reading {
    struct trainer *trainer;
    const struct evaluation_plan *plan;
    struct image_loader *loader;
    int64_t classes;
    int64_t count; /* of the set */
    /* [rows of the step, classes + 1]: a row's logits, and behind them its label + 1, of which 0 does not count; every
     * rank puts in what it has of them. */
    float *scores;
    double right, right5; /* images */
};

static void see_classes(void *self, int64_t row, int64_t first, const struct tensor *logits)
{
    struct reading *reading = self;
    const struct batch *batch = &reading->trainer->batch;
    const int32_t *labels = batch_field(batch, "labels");
    int64_t columns = tensor_columns(logits);
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        float *scores = reading->scores + (batch->mine.begin + row + n) * (reading->classes + 1);
        memcpy(scores + first, (const float *)logits->data + n * columns, (size_t)columns * sizeof *scores);
        if (mesh_rank(reading->trainer->mesh, MESH_TENSOR) == 0)
            scores[reading->classes] = (float)(labels[row + n] + 1);
    }
}

/* How many classes come before the label: those with a larger score, and of equal ones those in front of it. */
static int64_t place_of(const float *scores, int64_t classes, int64_t label)
{
    int64_t place = 0;
    for (int64_t c = 0; c < classes; c++)
        place += scores[c] > scores[label] || (scores[c] == scores[label] && c < label);
    return place;
}

static void judge(struct reading *reading, struct evaluation *evaluation)
{
    for (int64_t row = 0; row < reading->trainer->batch.rows; row++) {
        const float *scores = reading->scores + row * (reading->classes + 1);
        int64_t label = (int64_t)scores[reading->classes] - 1;
        if (label < 0)
            continue;
        int64_t place = place_of(scores, reading->classes, label);
        int64_t best = 0;
        for (int64_t c = 1; c < reading->classes; c++)
            best = scores[c] > scores[best] ? c : best;
        reading->right += place < 1;
        reading->right5 += place < 5;
        evaluation->targets++;
        if (reading->plan->confusion)
            reading->plan->confusion[label * reading->classes + best] += 1.0;
    }
}

static enum status take_rows(struct reading *reading, int64_t first, int64_t *counted)
{
    struct batch *batch = &reading->trainer->batch;
    float *images = batch_field(batch, "images");
    int32_t *labels = batch_field(batch, "labels");
    int32_t *mixed_labels = batch_field(batch, "mixed_labels");
    float *mixing = batch_field(batch, "mixing");
    int64_t each = batch->field[0].elements;
    *counted = 0;
    for (int64_t row = 0; row < batch->mine.count; row++) {
        CHECK(image_loader_take(reading->loader, first + batch->mine.begin + row, images + row * each, &labels[row],
                                &mixed_labels[row], &mixing[row]));
        *counted += labels[row] >= 0;
    }
    return STATUS_OK;
}

/* The images from `first` on, as many as there are rows. */
static enum status read_batch(struct reading *reading, int64_t first, struct evaluation *evaluation, double *sum)
{
    struct trainer *trainer = reading->trainer;
    struct batch *batch = &trainer->batch;
    struct step_result result;
    int64_t counted;
    int64_t before = evaluation->targets;
    CHECK(mesh_agree(trainer->mesh, trainer->context, take_rows(reading, first, &counted)));
    /* Each data rank knows its own, all others of it the same. */
    mesh_all_reduce(trainer->mesh, MESH_DATA, &counted, 1, DTYPE_I64, MESH_SUM);
    int64_t elements = batch->rows * (reading->classes + 1);
    memset(reading->scores, 0, (size_t)elements * sizeof *reading->scores);
    batch_ready(batch, counted, counted * batch->length);
    CHECK(trainer_loss(trainer, &result));
    mesh_all_reduce(trainer->mesh, MESH_TEAM, reading->scores, elements, DTYPE_F32, MESH_SUM);
    judge(reading, evaluation);
    if (counted > 0)
        *sum += result.loss * (double)(evaluation->targets - before);
    evaluation->tokens += counted * batch->length;
    evaluation->stopped = result.votes[VOTE_STOP] > 0.0;
    return STATUS_OK;
}

static enum status read_all(struct reading *reading, struct evaluation *evaluation)
{
    struct batch *batch = &reading->trainer->batch;
    double start = clock_seconds();
    double processor_start = clock_process_seconds();
    double sum = 0.0;
    int64_t batches = integer_divide_up(reading->count, batch->rows);
    int64_t shown = reading->plan->batches ? integer_min(batches, reading->plan->batches) : batches;
    for (int64_t i = 0; i < shown; i++)
        image_loader_announce(reading->loader, i * batches / shown * batch->rows + batch->mine.begin,
                              batch->mine.count);
    for (int64_t i = 0; i < shown && !evaluation->stopped; i++) {
        CHECK(read_batch(reading, i * batches / shown * batch->rows, evaluation, &sum));
        if (reading->plan->follow)
            reading->plan->follow(reading->plan->self, i + 1, shown);
    }
    evaluation->loss = evaluation->targets ? sum / (double)evaluation->targets : NAN;
    evaluation->accuracy = evaluation->targets ? reading->right / (double)evaluation->targets : NAN;
    evaluation->accuracy5 = evaluation->targets ? reading->right5 / (double)evaluation->targets : NAN;
    evaluation->seconds = clock_seconds() - start;
    evaluation->processor_seconds = clock_process_seconds() - processor_start;
    return STATUS_OK;
}

enum status evaluate_images(struct trainer *trainer, const struct image_evaluation *images,
                            const struct evaluation_plan *plan, struct evaluation *evaluation)
{
    struct context *context = trainer->context;
    struct batch *batch = &trainer->batch;
    struct image_loader_options options = {.set = images->set,
                                           .augmentation = images->augmentation,
                                           .evaluation = true,
                                           .skip_bad = images->skip_bad,
                                           .threads = images->threads,
                                           .ahead = 2 * integer_max(1, batch->mine.count)};
    struct reading reading = {.trainer = trainer,
                              .plan = plan,
                              .classes = trainer->config->model.image.classes,
                              .count = image_set_facts(images->set)->count};
    *evaluation = (struct evaluation){0};
    if (plan->confusion)
        memset(plan->confusion, 0, (size_t)(reading.classes * reading.classes) * sizeof *plan->confusion);
    reading.scores = memory_allocate(context, (size_t)(batch->rows * (reading.classes + 1)) * sizeof *reading.scores,
                                     MEMORY_BUFFERS);
    enum status status = reading.scores ? image_loader_create(context, &options, &reading.loader) : STATUS_MEMORY;
    TRY(mesh_agree(trainer->mesh, context, status));
    location_work(&context->location, LOCATION_EVALUATION);
    batch->see_classes = see_classes;
    batch->see_self = &reading;
    TRY(read_all(&reading, evaluation));
    evaluation->bad = image_loader_counts(reading.loader).bad;
done:
    batch->see_classes = NULL;
    image_loader_destroy(&reading.loader);
    memory_free(context, reading.scores);
    return status;
}
