#include "src/evaluate/evaluate.h"

#include <math.h>
#include <stdio.h>

#include "src/core/clock.h"
#include "src/model/layers.h"

void evaluation_describe(const struct evaluation *evaluation, const struct config *config, char *text, size_t size)
{
    bool of_images = family_of_images(config->model.family);
    if (evaluation->targets == 0)
        snprintf(text, size, "no targets in what was evaluated, so no loss of it");
    else if (of_images)
        snprintf(text, size,
                 "held-out loss %.4f nats an image, %.2f %% right, %.2f %% among the first five, of %lld images",
                 evaluation->loss, 100.0 * evaluation->accuracy, 100.0 * evaluation->accuracy5,
                 (long long)evaluation->targets);
    else {
        char bits[48] = "";
        if (evaluation->bytes > 0)
            snprintf(bits, sizeof bits, ", %.4f bits a byte", evaluation_bits_per_byte(evaluation));
        snprintf(text, size, "held-out loss %.4f nats a token (perplexity %.2f)%s over %lld tokens%s", evaluation->loss,
                 exp(evaluation->loss), bits, (long long)evaluation->targets,
                 depth_is_routed(&config->model) ? ", routing causal" : "");
    }
}

double evaluation_bits_per_byte(const struct evaluation *evaluation)
{
    return evaluation->bytes > 0 ? evaluation->loss * (double)evaluation->targets / (M_LN2 * (double)evaluation->bytes)
                                 : NAN;
}

int64_t evaluation_confusion(const struct config *config)
{
    enum { MOST = 100 };
    int64_t classes = family_of_images(config->model.family) ? config->model.image.classes : 0;
    return classes <= MOST ? classes * classes : 0;
}

enum status evaluation_check(struct context *context, const struct model_config *config, int64_t length, int64_t window)
{
    int64_t segment = config->attention.segment;
    if (length <= window)
        return STATUS_OK;
    if (config->attention.kind != ATTENTION_INFINI)
        return context_fail(context, STATUS_USAGE,
                            "a context of %lld tokens: without model.attention.kind infini it is passed at once, and "
                            "training.sequence_length is %lld",
                            (long long)length, (long long)window);
    if (window % segment != 0)
        return context_fail(
            context, STATUS_USAGE,
            "a context of %lld tokens is read in windows of training.sequence_length (%lld), which must "
            "be whole segments of %lld (model.attention.segment); --set training.sequence_length=%lld "
            "fits",
            (long long)length, (long long)window, (long long)segment,
            (long long)(integer_max(1, window / segment) * segment));
    if (config->positions == POSITIONS_LEARNED)
        return context_fail(context, STATUS_USAGE,
                            "a context of %lld tokens: this model has learned positions for %lld only, and a memory "
                            "does not bring them back",
                            (long long)length, (long long)config->max_positions);
    return STATUS_OK;
}

struct reading {
    struct evaluator *evaluator;
    const struct evaluation_plan *plan;
    struct corpus_passages passages;
    int64_t shown;             /* of the passages those that are read */
    struct model_state *state; /* between windows; NULL when a passage is one window */
    int32_t *seen;             /* [batch.length] targets of a row of others, for their bytes; NULL: nobody asks */
    int64_t bytes;
};

/* Of the targets that count. */
static int64_t count_bytes(const struct reading *reading, const int32_t *targets, int64_t count)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; i++)
        bytes += targets[i] >= 0 ? reading->plan->token_bytes[targets[i]] : 0;
    return bytes;
}

/* Puts the window that begins at `begin` in its passage into this rank's row; beyond the passage there is padding.
 * Returns the targets that count, which every rank knows. */
static int64_t fill_row(struct reading *reading, int64_t index, int64_t begin, int64_t row, int64_t *tokens)
{
    struct batch *batch = reading->evaluator->batch;
    int64_t local = row - batch->mine.begin;
    bool mine = local >= 0 && local < batch->mine.count;
    int32_t *inputs = mine ? (int32_t *)batch_field(batch, "tokens") + local * batch->length : NULL;
    int32_t *targets = mine ? (int32_t *)batch_field(batch, "targets") + local * batch->length : NULL;
    struct range passage = {0};
    if (index < reading->shown)
        passage = corpus_passage(&reading->passages, index * reading->passages.count / reading->shown);
    int64_t valid = integer_max(0, integer_min(batch->length, passage.count - begin));
    if (mine)
        ((int64_t *)batch_field(batch, "valid"))[local] = valid;
    *tokens += valid;
    targets = targets ? targets : reading->seen;
    int64_t counted = corpus_part(reading->passages.corpus, valid > 0 ? passage.begin + begin : 0, valid, batch->length,
                                  inputs, targets);
    if (reading->plan->token_bytes)
        reading->bytes += count_bytes(reading, targets, valid);
    return counted;
}

/* One window of each passage in the batch. */
static enum status read_window(struct reading *reading, int64_t first, int64_t begin, struct evaluation *evaluation,
                               double *sum)
{
    struct batch *batch = reading->evaluator->batch;
    const struct session *session = reading->evaluator->session;
    int64_t targets = 0;
    int64_t tokens = 0;
    struct pass_result result;
    for (int64_t row = 0; row < batch->rows; row++)
        targets += fill_row(reading, first + row, begin, row, &tokens);
    CHECK(mesh_agree(session->mesh, session->context, session->context->status));
    batch_ready(batch, targets, tokens);
    evaluation->tokens += tokens;
    CHECK(evaluator_pass(reading->evaluator, &result));
    if (reading->state)
        session->model.ops->state->advance(reading->state);
    if (targets > 0)
        *sum += result.loss * (double)targets;
    evaluation->targets += targets;
    evaluation->stopped = result.votes[VOTE_STOP] > 0.0;
    return STATUS_OK;
}

static enum status read_passages(struct reading *reading, struct evaluation *evaluation)
{
    struct batch *batch = reading->evaluator->batch;
    double start = clock_seconds();
    double processor_start = clock_process_seconds();
    double sum = 0.0;
    /* All windows that some passage may have; the last of them are shorter, or only of other passages. */
    int64_t windows = integer_divide_up(reading->passages.longest, batch->length);
    int64_t all = integer_divide_up(reading->shown, batch->rows) * windows;
    int64_t done = 0;
    batch->state = reading->state;
    for (int64_t first = 0; first < reading->shown && !evaluation->stopped; first += batch->rows) {
        for (int64_t row = 0; reading->state && row < batch->mine.count; row++)
            batch->model->ops->state->reset(reading->state, row);
        for (int64_t window = 0; window < windows && !evaluation->stopped; window++) {
            CHECK(read_window(reading, first, window * batch->length, evaluation, &sum));
            if (reading->plan->follow)
                reading->plan->follow(reading->plan->self, ++done, all);
        }
    }
    evaluation->loss = evaluation->targets ? sum / (double)evaluation->targets : NAN;
    bool of_bytes = reading->evaluator->session->config->model.vocabulary == 256;
    evaluation->bytes = reading->plan->token_bytes ? reading->bytes : of_bytes ? evaluation->targets : 0;
    evaluation->seconds = clock_seconds() - start;
    evaluation->processor_seconds = clock_process_seconds() - processor_start;
    return STATUS_OK;
}

enum status evaluate(struct evaluator *evaluator, const struct corpus *corpus, const struct evaluation_plan *plan,
                     struct evaluation *evaluation)
{
    struct session *session = evaluator->session;
    struct context *context = session->context;
    struct batch *batch = evaluator->batch;
    struct reading reading = {.evaluator = evaluator, .plan = plan};
    int64_t length = plan->context_length ? plan->context_length : batch->length;
    enum status status = corpus_passages_create(context, corpus, plan->sampling, length, &reading.passages);
    *evaluation = (struct evaluation){0};
    if (status == STATUS_OK && plan->token_bytes) {
        reading.seen = memory_allocate(context, (size_t)batch->length * sizeof *reading.seen, MEMORY_OTHER);
        status = reading.seen ? STATUS_OK : STATUS_MEMORY;
    }
    TRY(mesh_agree(session->mesh, context, status));
    reading.shown = reading.passages.count;
    if (plan->batches)
        reading.shown = integer_min(reading.shown, plan->batches * batch->rows);
    if (reading.passages.longest > batch->length)
        TRY(mesh_agree(session->mesh, context, session->model.ops->state->create(batch, &reading.state)));
    location_work(&context->location, LOCATION_EVALUATION);
    batch->causal = !plan->whole_routes;
    batch->memory_off = plan->memory_off;
    TRY(read_passages(&reading, evaluation));
done:
    batch->state = NULL;
    batch->causal = false;
    batch->memory_off = false;
    if (reading.state)
        session->model.ops->state->destroy(&reading.state);
    corpus_passages_destroy(&reading.passages);
    memory_free(context, reading.seen);
    return status;
}
