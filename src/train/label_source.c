/* Texts with labels as a source of batches: each epoch in an order of its own, cut to what a sequence takes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/texts/texts.h"
#include "src/core/clock.h"
#include "src/core/random.h"
#include "src/evaluate/class_scores.h"
#include "src/train/source.h"

struct labels {
    struct texts *train;
    struct texts *validation; /* NULL: there is none */
    int64_t *order;           /* [texts] of `epoch` */
    int64_t epoch;            /* -1: none yet */
};

static enum status open_one(struct source *source, const struct text_list *names, struct texts **texts)
{
    if (names->count != 1)
        return context_fail(source->context, STATUS_USAGE, "data.train: expected one file of labelled texts, got %d",
                            names->count);
    CHECK(texts_open(source->context, names->item[0], texts));
    if (texts_classes(*texts) > source->config->model.classes)
        return context_fail(source->context, STATUS_USAGE, "%s: texts of %lld classes, but model.classes is %lld",
                            names->item[0], (long long)texts_classes(*texts), (long long)source->config->model.classes);
    if (source->config->model.vocabulary < 256)
        return context_fail(source->context, STATUS_USAGE,
                            "model.vocabulary: expected at least 256 for texts, whose bytes are the tokens, got %lld",
                            (long long)source->config->model.vocabulary);
    return STATUS_OK;
}

static enum status open_files(struct source *source, struct labels *labels)
{
    const struct data_config *data = &source->config->data;
    CHECK(open_one(source, &data->train, &labels->train));
    if (data->validation.count > 0)
        CHECK(open_one(source, &data->validation, &labels->validation));
    labels->epoch = -1;
    labels->order =
        memory_allocate(source->context, (size_t)texts_count(labels->train) * sizeof *labels->order, MEMORY_OTHER);
    return labels->order ? STATUS_OK : STATUS_MEMORY;
}

static enum status open_texts(struct source *source, int threads)
{
    char text[160];
    (void)threads;
    struct labels *labels = source->self = memory_allocate(source->context, sizeof *labels, MEMORY_OTHER);
    CHECK(mesh_agree(source->mesh, source->context, labels ? open_files(source, labels) : STATUS_MEMORY));
    snprintf(text, sizeof text, "texts of data.train: %lld, bytes: %lld\ntexts of data.validation: %lld",
             (long long)texts_count(labels->train), (long long)texts_bytes(labels->train),
             (long long)(labels->validation ? texts_count(labels->validation) : 0));
    source->validates = labels->validation != NULL;
    snprintf(source->contents[0], sizeof source->contents[0], "%lld texts, %lld bytes",
             (long long)texts_count(labels->train), (long long)texts_bytes(labels->train));
    snprintf(source->description, sizeof source->description, "%lld texts in %lld classes",
             (long long)texts_count(labels->train), (long long)texts_classes(labels->train));
    return team_same(mesh_team(source->mesh), source->context, text);
}

static void close_texts(struct source *source)
{
    struct labels *labels = source->self;
    if (!labels)
        return;
    texts_close(&labels->train);
    texts_close(&labels->validation);
    memory_free(source->context, labels->order);
    memory_free(source->context, labels);
}

/* -- Batches -- */

/* The text that is number `sequence` of a run. */
static int64_t find(const struct source *source, struct labels *labels, int64_t sequence)
{
    int64_t count = texts_count(labels->train);
    if (labels->epoch != sequence / count) {
        char name[48];
        labels->epoch = sequence / count;
        snprintf(name, sizeof name, "texts/%lld", (long long)labels->epoch);
        uint64_t key = random_key(source->config->data.seed, name);
        for (int64_t i = 0; i < count; i++)
            labels->order[i] = i;
        for (int64_t i = count - 1; i > 0; i--) {
            int64_t j = (int64_t)(random_uniform(key, (uint64_t)i) * (double)(i + 1));
            int64_t moved = labels->order[i];
            labels->order[i] = labels->order[j];
            labels->order[j] = moved;
        }
    }
    return labels->order[sequence % count];
}

/* Into row `local` of this rank if it has it; returns the tokens of the row. A text is cut to its beginning. */
static int64_t put(struct batch *batch, int64_t local, const struct texts *texts, int64_t index)
{
    int64_t length;
    int32_t label;
    const unsigned char *bytes = texts_at(texts, index, &length, &label);
    length = integer_min(length, batch->length);
    if (local < 0 || local >= batch->mine.count)
        return length;
    int32_t *tokens = (int32_t *)batch_field(batch, "tokens") + local * batch->length;
    for (int64_t i = 0; i < batch->length; i++)
        tokens[i] = i < length ? bytes[i] : 0;
    ((int32_t *)batch_field(batch, "labels"))[local] = label;
    ((int64_t *)batch_field(batch, "valid"))[local] = length;
    return length;
}

static enum status fill(struct source *source, struct batch *batch, int64_t first, struct model_state *carried)
{
    struct labels *labels = source->self;
    int64_t tokens = 0;
    (void)carried;
    for (int64_t row = 0; row < batch->rows; row++)
        tokens += put(batch, row - batch->mine.begin, labels->train, find(source, labels, first + row));
    batch_ready(batch, batch->rows, tokens);
    return STATUS_OK;
}

/* Rows behind the last text do not count. */
static void put_batch(struct batch *batch, const struct texts *texts, int64_t first)
{
    int64_t rows = integer_min(batch->rows, texts_count(texts) - first);
    batch->target_count = rows;
    batch->token_count = 0;
    for (int64_t row = 0; row < batch->rows; row++) {
        int64_t local = row - batch->mine.begin;
        batch->token_count += put(batch, local, texts, row < rows ? first + row : 0);
        if (row >= rows && local >= 0 && local < batch->mine.count)
            ((int32_t *)batch_field(batch, "labels"))[local] = -1;
    }
}

static void judge(const struct class_scores *scores, int64_t rows, double right[2])
{
    for (int64_t row = 0; row < rows; row++) {
        int64_t label = (int64_t)class_scores_row(scores, row)[scores->classes] - 1;
        int64_t place = class_scores_place(scores, row, label);
        right[0] += place < 1;
        right[1] += place < 5;
    }
}

static enum status evaluate_all(struct source *source, struct class_scores *scores, const struct evaluation_plan *plan,
                                struct evaluation *evaluation)
{
    const struct labels *labels = source->self;
    struct batch *batch = scores->evaluator->batch;
    double right[2] = {0.0, 0.0};
    double sum = 0.0;
    int64_t batches = integer_divide_up(texts_count(labels->validation), batch->rows);
    int64_t shown = plan->batches ? integer_min(batches, plan->batches) : batches;
    for (int64_t i = 0; i < shown && !evaluation->stopped; i++) {
        struct pass_result result;
        put_batch(batch, labels->validation, i * batches / shown * batch->rows);
        CHECK(class_scores_pass(scores, &result));
        judge(scores, batch->target_count, right);
        sum += result.loss * (double)batch->target_count;
        evaluation->targets += batch->target_count;
        evaluation->tokens += batch->token_count;
        evaluation->stopped = result.votes[VOTE_STOP] > 0.0;
        if (plan->follow)
            plan->follow(plan->self, i + 1, shown);
    }
    evaluation->loss = sum / (double)evaluation->targets;
    evaluation->accuracy = right[0] / (double)evaluation->targets;
    evaluation->accuracy5 = right[1] / (double)evaluation->targets;
    return STATUS_OK;
}

static enum status evaluate_texts(struct source *source, struct evaluator *evaluator,
                                  const struct evaluation_plan *plan, struct evaluation *evaluation)
{
    struct class_scores scores = {0};
    double begin = clock_seconds();
    double processor_begin = clock_process_seconds();
    enum status status;
    *evaluation = (struct evaluation){0};
    TRY(mesh_agree(source->mesh, source->context, class_scores_create(evaluator, &scores)));
    TRY(evaluate_all(source, &scores, plan, evaluation));
    evaluation->seconds = clock_seconds() - begin;
    evaluation->processor_seconds = clock_process_seconds() - processor_begin;
done:
    class_scores_destroy(&scores);
    return status;
}

const struct source_ops label_source_ops = {
    .open = open_texts, .close = close_texts, .fill = fill, .evaluate = evaluate_texts};
