/* Images that are asked about one by one. */
#include "src/cli/predict.h"

#include <math.h>
#include <stdio.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/evaluate/class_scores.h"
#include "src/train/image_source.h"

enum { ROWS = 32 };

struct predict {
    const struct predictions *wanted;
    struct context *context;
    struct evaluator *evaluator;
    struct class_scores scores;
    bool tells;
    json_t *list; /* NULL: lines of text */
};

static enum status read_image(struct predict *predict, const char *path, float *pixels)
{
    struct context *context = predict->context;
    struct image_workspace *workspace = NULL;
    struct image_choices choices;
    struct image_augmentation augmentation =
        image_augmentation_of(predict->evaluator->session->config, &predict->wanted->facts->moments);
    struct image image = {0};
    CHECK(image_read_file(context, path, predict->wanted->facts->channels, &image));
    enum status status = image_workspace_create(context, &augmentation, image.rows, image.columns, &workspace);
    if (status == STATUS_OK) {
        image_choose_centre(&augmentation, image.rows, image.columns, &choices);
        image_apply(workspace, &image, &choices, false, pixels);
    }
    image_workspace_destroy(context, &workspace);
    memory_free(context, (void *)image.pixels);
    return status;
}

static enum status fill(struct predict *predict, int first)
{
    struct batch *batch = predict->evaluator->batch;
    float *pixels = batch_field(batch, "images");
    int32_t *labels = batch_field(batch, "labels");
    int64_t each = batch->field[0].elements;
    for (int64_t row = 0; row < batch->mine.count; row++) {
        int64_t index = first + batch->mine.begin + row;
        labels[row] = -1;
        if (index < predict->wanted->count)
            CHECK(read_image(predict, predict->wanted->image[index], pixels + row * each));
    }
    return STATUS_OK;
}

/* exp(logit) over its sum. */
static double probability(const float *logits, int64_t classes, int64_t class)
{
    double sum = 0.0;
    for (int64_t c = 0; c < classes; c++)
        sum += exp((double)logits[c] - (double)logits[class]);
    return 1.0 / sum;
}

static void print_row(struct predict *predict, const char *path, int64_t row)
{
    const float *logits = class_scores_row(&predict->scores, row);
    int64_t classes = predict->scores.classes;
    json_t *found = predict->list ? json_array() : NULL;
    if (!found)
        printf("%s\n", path);
    for (int64_t place = 0; place < integer_min(predict->wanted->top, classes); place++)
        for (int64_t c = 0; c < classes; c++) {
            char number[24];
            if (class_scores_place(&predict->scores, row, c) != place)
                continue;
            const char *name = image_facts_name(predict->wanted->facts, c, number);
            double p = probability(logits, classes, c);
            if (found)
                json_array_append_new(found, json_form("{s:s, s:I, s:f, s:f}", "name", name, "class", (json_int_t)c,
                                                       "probability", p, "logit", (double)logits[c]));
            else
                printf("  %6.2f %%  %s\n", 100.0 * p, name);
        }
    if (found)
        json_array_append_new(predict->list, json_form("{s:s, s:o}", "image", path, "classes", found));
}

static enum status predict_all(struct predict *predict)
{
    int64_t rows = predict->evaluator->batch->rows;
    for (int first = 0; first < predict->wanted->count; first += (int)rows) {
        struct pass_result result;
        CHECK(mesh_agree(predict->evaluator->session->mesh, predict->context, fill(predict, first)));
        CHECK(class_scores_pass(&predict->scores, &result));
        for (int64_t row = 0; row < rows && first + row < predict->wanted->count && predict->tells; row++)
            print_row(predict, predict->wanted->image[first + row], row);
    }
    if (!predict->list || !predict->tells)
        return STATUS_OK;
    json_t *list = predict->list;
    predict->list = NULL;
    return print_json(predict->context, list);
}

int64_t predict_rows(int count)
{
    return integer_min(ROWS, count);
}

enum status predict_images(struct session *session, const struct predictions *wanted)
{
    struct evaluator evaluator;
    struct predict predict = {.wanted = wanted,
                              .context = session->context,
                              .evaluator = &evaluator,
                              .tells = mesh_rank(session->mesh, MESH_TEAM) == 0,
                              .list = wanted->json ? json_array() : NULL};
    enum status status;
    TRY(evaluator_create(session, NULL, &evaluator));
    TRY(mesh_agree(session->mesh, session->context, class_scores_create(&evaluator, &predict.scores)));
    status = predict_all(&predict);
done:
    class_scores_destroy(&predict.scores);
    evaluator_destroy(&evaluator);
    json_decref(predict.list);
    return status;
}
