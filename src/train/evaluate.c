#include "src/train/evaluate.h"

#include "src/core/clock.h"
#include "src/train/streams.h"

bool evaluation_routed(const struct model_config *config)
{
    return config->depth.kind == DEPTH_MOD ||
           (config->depth.kind == DEPTH_MOR && config->depth.routing != ROUTING_NONE);
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
    struct trainer *trainer;
    const struct corpus *corpus;
    int64_t context;         /* tokens */
    int64_t contexts, shown; /* of the corpus, and of them those that are read */
    struct streams streams;  /* memories between windows; without rows when a context is one window */
};

/* Puts the window that begins at `begin` in its context into this rank's row; beyond the context there is padding.
 * Returns the targets that count, which every rank knows. */
static int64_t fill_row(struct reading *reading, int64_t index, int64_t begin, int64_t row, int64_t *tokens)
{
    struct batch *batch = &reading->trainer->batch;
    int64_t local = row - batch->mine.begin;
    bool mine = local >= 0 && local < batch->mine.count;
    int32_t *inputs = mine ? batch->inputs + local * batch->length : NULL;
    int32_t *targets = mine ? batch->targets + local * batch->length : NULL;
    int64_t context = index * reading->contexts / reading->shown;
    int64_t end = integer_min((context + 1) * reading->context, corpus_tokens(reading->corpus) - 1);
    begin += context * reading->context;
    int64_t valid = index < reading->shown ? integer_max(0, integer_min(batch->length, end - begin)) : 0;
    if (mine)
        batch->valid[local] = valid;
    *tokens += valid;
    return corpus_part(reading->corpus, valid > 0 ? begin : 0, valid, batch->length, inputs, targets);
}

/* One window of each context in the batch. */
static enum status read_window(struct reading *reading, int64_t first, int64_t begin, struct evaluation *evaluation,
                               double *sum)
{
    struct trainer *trainer = reading->trainer;
    int64_t targets = 0;
    struct step_result result;
    for (int64_t row = 0; row < trainer->batch.rows; row++)
        targets += fill_row(reading, first + row, begin, row, &evaluation->tokens);
    trainer_scale_batch(trainer, targets);
    CHECK(trainer_loss(trainer, &result));
    if (reading->streams.total > 0)
        streams_advance(&reading->streams);
    *sum += result.loss * (double)targets;
    evaluation->targets += targets;
    evaluation->stopped = result.votes[VOTE_STOP] > 0.0;
    return STATUS_OK;
}

static enum status read_contexts(struct reading *reading, struct evaluation *evaluation)
{
    struct batch *batch = &reading->trainer->batch;
    double start = clock_seconds();
    double processor_start = clock_process_seconds();
    double sum = 0.0;
    batch->memory = reading->streams.total > 0 ? &reading->streams.memory : NULL;
    for (int64_t first = 0; first < reading->shown && !evaluation->stopped; first += batch->rows) {
        for (int64_t row = 0; reading->streams.total > 0 && row < batch->mine.count; row++)
            streams_reset(&reading->streams, row);
        for (int64_t begin = 0; begin < reading->context && !evaluation->stopped; begin += batch->length)
            CHECK(read_window(reading, first, begin, evaluation, &sum));
    }
    evaluation->loss = evaluation->targets ? sum / (double)evaluation->targets : 0.0;
    evaluation->seconds = clock_seconds() - start;
    evaluation->processor_seconds = clock_process_seconds() - processor_start;
    return STATUS_OK;
}

enum status evaluate(struct trainer *trainer, const struct corpus *corpus, const struct evaluation_plan *plan,
                     struct evaluation *evaluation)
{
    struct context *context = trainer->context;
    struct batch *batch = &trainer->batch;
    struct reading reading = {
        .trainer = trainer, .corpus = corpus, .context = plan->context ? plan->context : batch->length};
    enum status status = STATUS_OK;
    reading.contexts = corpus_windows(corpus, reading.context);
    reading.shown = plan->batches ? integer_min(reading.contexts, plan->batches * batch->rows) : reading.contexts;
    *evaluation = (struct evaluation){0};
    if (reading.context > batch->length)
        TRY(mesh_agree(trainer->mesh, context,
                       streams_create(context, trainer->decoder, batch->mine, batch->rows, &reading.streams)));
    place_work(&context->place, PLACE_EVALUATION);
    batch->causal = !plan->whole_routes;
    batch->memory_off = plan->memory_off;
    TRY(read_contexts(&reading, evaluation));
done:
    batch->memory = NULL;
    batch->causal = false;
    batch->memory_off = false;
    if (reading.streams.context)
        streams_destroy(&reading.streams);
    return status;
}
