#include "src/evaluate/evaluate_images.h"

#include <math.h>
#include <string.h>

#include "src/core/clock.h"
#include "src/evaluate/class_scores.h"

struct reading {
    struct evaluator *evaluator;
    const struct evaluation_plan *plan;
    struct image_loader *loader;
    struct class_scores scores;
    int64_t count;        /* of the set */
    double right, right5; /* images */
};

static void judge(struct reading *reading, struct evaluation *evaluation)
{
    int64_t classes = reading->scores.classes;
    for (int64_t row = 0; row < reading->evaluator->batch->rows; row++) {
        int64_t label = (int64_t)class_scores_row(&reading->scores, row)[classes] - 1;
        if (label < 0)
            continue;
        evaluation->targets++;
        /* A model that computes no numbers takes an image for nothing. */
        if (isnan(class_scores_row(&reading->scores, row)[label]))
            continue;
        int64_t place = class_scores_place(&reading->scores, row, label);
        reading->right += place < 1;
        reading->right5 += place < 5;
        for (int64_t c = 0; c < classes && reading->plan->confusion; c++)
            if (class_scores_place(&reading->scores, row, c) == 0)
                reading->plan->confusion[label * classes + c] += 1.0;
    }
}

static enum status take_rows(struct reading *reading, int64_t first, int64_t *counted)
{
    struct batch *batch = reading->evaluator->batch;
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
    const struct session *session = reading->evaluator->session;
    struct batch *batch = reading->evaluator->batch;
    struct pass_result result;
    int64_t counted;
    int64_t before = evaluation->targets;
    CHECK(mesh_agree(session->mesh, session->context, take_rows(reading, first, &counted)));
    /* Each data rank knows its own, all others of it the same. */
    mesh_all_reduce(session->mesh, MESH_DATA, &counted, 1, DTYPE_I64, MESH_SUM);
    batch->target_count = counted;
    batch->token_count = counted * batch->length;
    CHECK(class_scores_pass(&reading->scores, &result));
    judge(reading, evaluation);
    if (counted > 0)
        *sum += result.loss * (double)(evaluation->targets - before);
    evaluation->tokens += counted * batch->length;
    evaluation->stopped = result.votes[VOTE_STOP] > 0.0;
    return STATUS_OK;
}

static enum status read_all(struct reading *reading, struct evaluation *evaluation)
{
    struct batch *batch = reading->evaluator->batch;
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

enum status evaluate_images(struct evaluator *evaluator, const struct image_evaluation *images,
                            const struct evaluation_plan *plan, struct evaluation *evaluation)
{
    const struct session *session = evaluator->session;
    struct context *context = session->context;
    const struct batch *batch = evaluator->batch;
    struct image_loader_options options = {.set = images->set,
                                           .augmentation = images->augmentation,
                                           .evaluation = true,
                                           .labels_only = images->labels_only,
                                           .skip_bad = images->skip_bad,
                                           .threads = images->threads,
                                           .ahead = 2 * integer_max(1, batch->mine.count)};
    struct reading reading = {.evaluator = evaluator, .plan = plan, .count = image_set_facts(images->set)->count};
    *evaluation = (struct evaluation){0};
    if (plan->confusion)
        memset(plan->confusion, 0, (size_t)evaluation_confusion(session->config) * sizeof *plan->confusion);
    enum status status = class_scores_create(evaluator, &reading.scores);
    if (status == STATUS_OK)
        status = image_loader_create(context, &options, &reading.loader);
    TRY(mesh_agree(session->mesh, context, status));
    location_work(&context->location, LOCATION_EVALUATION);
    TRY(read_all(&reading, evaluation));
    evaluation->bad = image_loader_counts(reading.loader).bad;
done:
    image_loader_destroy(&reading.loader);
    class_scores_destroy(&reading.scores);
    return status;
}
