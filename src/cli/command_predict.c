#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/cli/command.h"
#include "src/evaluate/class_scores.h"
#include "src/session/load.h"
#include "src/train/image_facts.h"
#include "src/train/image_source.h"

enum { ROWS = 32 };

struct predict {
    struct command *command;
    struct config *config;
    struct checkpoint_header *header;
    struct image_facts facts;
    struct image_augmentation augmentation;
    struct session session;
    struct evaluator evaluator;
    struct class_scores scores;
    const char **image; /* [images] paths */
    int images;
    int64_t top;
    json_t *list; /* NULL: lines of text */
};

static enum status read_image(struct predict *predict, const char *path, float *pixels)
{
    struct context *context = &predict->command->context;
    struct image_workspace *workspace = NULL;
    struct image_choices choices;
    struct image image = {0};
    CHECK(image_read_file(context, path, predict->facts.channels, &image));
    enum status status = image_workspace_create(context, &predict->augmentation, image.rows, image.columns, &workspace);
    if (status == STATUS_OK) {
        image_choose_centre(&predict->augmentation, image.rows, image.columns, &choices);
        image_apply(workspace, &image, &choices, false, pixels);
    }
    image_workspace_destroy(context, &workspace);
    memory_free(context, (void *)image.pixels);
    return status;
}

static enum status fill(struct predict *predict, int first)
{
    struct batch *batch = predict->evaluator.batch;
    float *pixels = batch_field(batch, "images");
    int32_t *labels = batch_field(batch, "labels");
    int64_t each = batch->field[0].elements;
    for (int64_t row = 0; row < batch->mine.count; row++) {
        int64_t index = first + batch->mine.begin + row;
        labels[row] = -1;
        if (index < predict->images)
            CHECK(read_image(predict, predict->image[index], pixels + row * each));
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
    for (int64_t place = 0; place < integer_min(predict->top, classes); place++)
        for (int64_t c = 0; c < classes; c++) {
            char number[24];
            if (class_scores_place(&predict->scores, row, c) != place)
                continue;
            const char *name = image_facts_name(&predict->facts, c, number);
            double p = probability(logits, classes, c);
            if (found)
                json_array_append_new(
                    found, json_form("{s:s, s:I, s:f}", "name", name, "class", (json_int_t)c, "probability", p));
            else
                printf("  %6.2f %%  %s\n", 100.0 * p, name);
        }
    if (found)
        json_array_append_new(predict->list, json_form("{s:s, s:o}", "image", path, "classes", found));
}

static enum status predict_all(struct predict *predict)
{
    struct command *command = predict->command;
    int64_t rows = predict->evaluator.batch->rows;
    for (int first = 0; first < predict->images; first += (int)rows) {
        struct pass_result result;
        CHECK(mesh_agree(command->mesh, &command->context, fill(predict, first)));
        CHECK(class_scores_pass(&predict->scores, &result));
        for (int64_t row = 0; row < rows && first + row < predict->images && command->rank == 0; row++)
            print_row(predict, predict->image[first + row], row);
    }
    if (!predict->list || command->rank != 0)
        return STATUS_OK;
    json_t *list = predict->list;
    predict->list = NULL;
    return print_json(&command->context, list);
}

static enum status prepare(struct predict *predict, const char *path)
{
    struct context *context = &predict->command->context;
    struct config *config = predict->config;
    if (config->model.family == FAMILY_DECODER)
        return context_fail(context, STATUS_USAGE,
                            "predict: %s is a language model; `cairn generate` continues a text with it", path);
    CHECK(image_facts_read(context, path, predict->header->data, &predict->facts));
    predict->augmentation = image_augmentation_of(config, &predict->facts.moments);
    config->training.batch = integer_min(ROWS, predict->images);
    config->training.micro_batch = config->training.batch;
    return STATUS_OK;
}

static enum status run(struct predict *predict, const char *checkpoint)
{
    struct command *command = predict->command;
    struct context *context = &command->context;
    char path[CHECKPOINT_PATH];
    enum status status;
    TRY(command_start_stored(command, checkpoint, predict->config, predict->header, path));
    TRY(mesh_agree(command->mesh, context, prepare(predict, path)));
    TRY(session_create(context, command->mesh, &command->engine, predict->config, NULL, NULL, false,
                       &predict->session));
    TRY(session_load(&predict->session, path));
    TRY(evaluator_create(&predict->session, NULL, &predict->evaluator));
    TRY(mesh_agree(command->mesh, context, class_scores_create(&predict->evaluator, &predict->scores)));
    status = predict_all(predict);
done:
    class_scores_destroy(&predict->scores);
    evaluator_destroy(&predict->evaluator);
    session_destroy(&predict->session);
    image_facts_destroy(context, &predict->facts);
    json_decref(predict->list);
    return status;
}

enum status command_predict(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct predict predict = {.command = command, .top = 5};
    const char *top = NULL;
    bool json = false;
    int count = 0;
    const struct option_row rows[] = {{"--top", &top, NULL}, {"--json", NULL, &json}};
    const char **others = calloc((size_t)argc + 1, sizeof *others);
    if (!others)
        return context_fail(context, STATUS_MEMORY, "out of memory");
    enum status status = command_parse(command, argc, argv, rows, 2, others, argc, &count);
    if (status == STATUS_OK && count < 2)
        status =
            context_fail(context, STATUS_USAGE, "predict: name a checkpoint and images; see `cairn predict --help`");
    if (status == STATUS_OK)
        status = command_integer(command, "--top", top, 1, INT32_MAX, &predict.top);
    predict.image = others + 1;
    predict.images = count - 1;
    predict.config = memory_allocate(context, sizeof *predict.config, MEMORY_OTHER);
    predict.header = memory_allocate(context, sizeof *predict.header, MEMORY_OTHER);
    predict.list = json ? json_array() : NULL;
    if (status == STATUS_OK)
        status = team_agree(command->team, context, predict.config && predict.header ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = run(&predict, others[0]);
    else
        json_decref(predict.list);
    memory_free(context, predict.config);
    memory_free(context, predict.header);
    free(others);
    return status;
}
