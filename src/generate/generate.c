#include "src/generate/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist/parallel/pipeline.h"
#include "src/core/random.h"
#include "src/model/decoder_model.h"
#include "src/model/depthwise.h"

struct candidate {
    double weight; /* logit, then probability */
    int32_t token;
};

static int by_weight(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    return x->token < y->token ? -1 : 1;
}

static int32_t most_likely(const float *logits, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

int32_t sampling_draw(const struct sampling *sampling, const float *logits, int64_t count, int64_t index,
                      struct arena *work)
{
    if (sampling->temperature == 0.0)
        return most_likely(logits, count);
    struct arena_mark mark = arena_mark(work);
    struct candidate *candidates = arena_allocate(work, (size_t)count * sizeof *candidates);
    if (!candidates)
        return 0;
    for (int64_t i = 0; i < count; i++)
        candidates[i] = (struct candidate){.weight = logits[i], .token = (int32_t)i};
    int64_t kept = sampling->top_k > 0 ? integer_min(sampling->top_k, count) : count;
    double largest = (double)logits[most_likely(logits, count)];
    /* Without a limit any order of the candidates will do. */
    if (kept < count || sampling->top_p < 1.0)
        qsort(candidates, (size_t)count, sizeof *candidates, by_weight);
    double sum = 0.0;
    for (int64_t i = 0; i < kept; i++) {
        candidates[i].weight = exp((candidates[i].weight - largest) / sampling->temperature);
        sum += candidates[i].weight;
    }
    double part = 0.0;
    for (int64_t i = 0; i < kept && sampling->top_p < 1.0; i++) {
        part += candidates[i].weight;
        if (part >= sampling->top_p * sum) {
            kept = i + 1;
            sum = part;
        }
    }
    double draw = sum * random_uniform(random_key(sampling->seed, "generate"), (uint64_t)index);
    int64_t chosen = 0;
    while (chosen + 1 < kept && draw >= candidates[chosen].weight)
        draw -= candidates[chosen++].weight;
    int32_t token = candidates[chosen].token;
    arena_rewind(work, mark);
    return token;
}

/* A row of the batch and the sequence it is at. */
struct row {
    int64_t continuation; /* -1: none */
    int64_t passed;       /* tokens of the sequence that went into the model */
    int64_t drawn;
    bool under_way; /* a token of it is between recursions */
};

struct generation {
    struct session *session;
    struct decoder *decoder; /* the session's model */
    const struct sampling *sampling;
    const struct continuation *continuations;
    int64_t count, next; /* continuations, and the first that is not yet begun */
    int64_t rows, most;  /* of the batch; tokens that a row may pass at once */
    struct row *row;
    struct decoder_cache *cache;
    struct depthwise *depthwise; /* NULL: all rows pass in step */
    struct pipeline *pipeline;
    struct decoder_input input;
    int32_t *tokens;         /* [rows * most] that pass now */
    int64_t *begin;          /* [rows + 1] each row's in them */
    int32_t *first_position; /* [rows] */
    uint8_t *seen;           /* [rows] of whose last tokens there are logits */
    float *logits;           /* [rows, vocabulary] theirs, one behind the other */
    int32_t *drawn;          /* [rows] */
    void (*see)(void *self, int64_t continuation, int32_t token);
    void *see_self;
};

static void form_packet(void *self, int64_t model_chunk, int64_t micro_batch, struct packet_form *form)
{
    (void)micro_batch;
    const struct generation *generation = self;
    decoder_form(generation->decoder, &generation->input, model_chunk, form);
}

static bool run_stage(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                      struct packet *out)
{
    (void)micro_batch;
    struct generation *generation = self;
    return decoder_forward(generation->decoder, tape, chunk, &generation->input, in, out);
}

static bool run_depthwise(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                          struct packet *out)
{
    (void)chunk;
    (void)micro_batch;
    (void)in;
    (void)out;
    struct generation *generation = self;
    return depthwise_forward(generation->depthwise, tape, &generation->input, generation->seen);
}

/* Each tensor rank has some columns. */
static void see_logits(void *self, int64_t first, const struct tensor *logits)
{
    struct generation *generation = self;
    const struct decoder *decoder = generation->decoder;
    int64_t vocabulary = decoder->config.vocabulary;
    int64_t columns = decoder->vocabulary.count;
    for (int64_t i = 0; i < tensor_rows(logits); i++) {
        float *row = generation->logits + (first + i) * vocabulary;
        memset(row, 0, (size_t)vocabulary * sizeof *row);
        memcpy(row + decoder->vocabulary.begin, (const float *)logits->data + i * columns,
               (size_t)columns * sizeof *row);
    }
}

/* Where a drawn token stands. */
static int32_t *drawn_at(const struct continuation *continuation, int64_t index)
{
    return continuation->tokens + (continuation->kept > 0 ? index % continuation->kept : index);
}

static int32_t token_at(const struct continuation *continuation, int64_t index)
{
    int64_t prompt = continuation->prompt_count;
    return index < prompt ? continuation->prompt[index] : *drawn_at(continuation, index - prompt);
}

/* How far back a row whose cache is full goes on. */
static void make_room(struct generation *generation, int64_t index)
{
    const struct decoder *decoder = generation->decoder;
    int64_t window = decoder->max_length;
    struct row *row = &generation->row[index];
    if (decoder->config.attention.kind == ATTENTION_INFINI || decoder_cache_length(generation->cache, index) < window)
        return;
    decoder_cache_reset(generation->cache, index);
    row->passed = row->passed + 1 - (window + 1) / 2;
}

/* How many tokens a row passes next. */
static int64_t next_count(struct generation *generation, int64_t index)
{
    const struct decoder *decoder = generation->decoder;
    struct row *row = &generation->row[index];
    if (row->continuation < 0 || row->under_way)
        return 0;
    int64_t known = generation->continuations[row->continuation].prompt_count + row->drawn;
    make_room(generation, index);
    if (decoder->config.attention.kind != ATTENTION_INFINI && row->passed + decoder->max_length < known)
        row->passed = known - decoder->max_length; /* a prompt longer than the model looks back */
    return integer_min(known - row->passed, generation->most);
}

/* The next tokens of the rows that have least..most of them. Returns how many they are. */
static int64_t fill(struct generation *generation, int64_t least, int64_t most)
{
    int64_t total = 0;
    for (int64_t i = 0; i < generation->rows; i++) {
        struct row *row = &generation->row[i];
        int64_t count = next_count(generation, i);
        generation->begin[i] = total;
        if (count < least || count > most)
            continue;
        generation->first_position[i] = (int32_t)decoder_cache_length(generation->cache, i);
        for (int64_t n = 0; n < count; n++)
            generation->tokens[total++] = token_at(&generation->continuations[row->continuation], row->passed + n);
        row->passed += count;
        generation->seen[i] = 1;
    }
    generation->begin[generation->rows] = total;
    return total;
}

/* Rows without a sequence begin the next one. */
static void refill(struct generation *generation)
{
    for (int64_t i = 0; i < generation->rows; i++) {
        struct row *row = &generation->row[i];
        const struct continuation *now = row->continuation < 0 ? NULL : &generation->continuations[row->continuation];
        if (now && row->drawn < now->count)
            continue;
        while (generation->next < generation->count && generation->continuations[generation->next].count == 0)
            generation->next++;
        *row = (struct row){.continuation = generation->next < generation->count ? generation->next++ : -1};
        decoder_cache_reset(generation->cache, i);
    }
}

static bool any_runs(const struct generation *generation)
{
    for (int64_t i = 0; i < generation->rows; i++)
        if (generation->row[i].continuation >= 0)
            return true;
    return false;
}

static bool any_under_way(const struct generation *generation)
{
    for (int64_t i = 0; i < generation->rows; i++)
        if (generation->row[i].under_way)
            return true;
    return false;
}

/* Draws from the logits of each row whose sequence is known no further; -1 for the others. */
static void draw(struct generation *generation)
{
    int64_t vocabulary = generation->decoder->config.vocabulary;
    const float *logits = generation->logits;
    for (int64_t i = 0; i < generation->rows; i++) {
        const struct row *row = &generation->row[i];
        generation->drawn[i] = -1;
        if (!generation->seen[i])
            continue;
        if (row->passed == generation->continuations[row->continuation].prompt_count + row->drawn)
            generation->drawn[i] = sampling_draw(generation->sampling, logits, vocabulary,
                                                 (row->continuation << 32) + row->drawn, &generation->session->work);
        logits += vocabulary;
    }
}

static void deliver(struct generation *generation)
{
    for (int64_t i = 0; i < generation->rows; i++) {
        struct row *row = &generation->row[i];
        if (generation->drawn[i] < 0)
            continue;
        *drawn_at(&generation->continuations[row->continuation], row->drawn++) = generation->drawn[i];
        if (generation->see)
            generation->see(generation->see_self, row->continuation, generation->drawn[i]);
    }
}

/* Passes what was filled in, and draws where a sequence's end is reached. */
static enum status pass(struct generation *generation, const struct pipeline_stage *stage)
{
    struct session *session = generation->session;
    struct mesh *mesh = session->mesh;
    int last = mesh_size(mesh, MESH_PIPELINE) - 1;
    int64_t vocabulary = generation->decoder->config.vocabulary;
    generation->input = (struct decoder_input){.tokens = generation->tokens,
                                               .rows = generation->rows,
                                               .length = generation->most,
                                               .causal = true,
                                               .cache = generation->cache,
                                               .begin = generation->begin,
                                               .first_position = generation->first_position,
                                               .batch_rows = generation->rows,
                                               .memory_off = generation->sampling->memory_off,
                                               .see_logits = see_logits,
                                               .see_self = generation};
    CHECK(pipeline_run(generation->pipeline, stage, NULL, NULL));
    decoder_cache_advance(generation->cache, generation->begin);
    if (mesh_rank(mesh, MESH_PIPELINE) == last) {
        mesh_all_reduce(mesh, MESH_TENSOR, generation->logits, generation->rows * vocabulary, DTYPE_F32, MESH_SUM);
        draw(generation);
    }
    mesh_broadcast(mesh, MESH_PIPELINE, last, generation->drawn, generation->rows, DTYPE_I32);
    deliver(generation);
    return session->context->status;
}

/* Depth-wise, only what comes in numbers passes in step; single tokens go through the recursions with those that are
 * under way. */
static enum status advance(struct generation *generation)
{
    const struct pipeline_stage in_step = {.self = generation, .form = form_packet, .forward = run_stage};
    const struct pipeline_stage depthwise = {.self = generation, .form = form_packet, .forward = run_depthwise};
    int64_t rows = generation->rows;
    memset(generation->seen, 0, (size_t)rows);
    if (!generation->depthwise) {
        (void)fill(generation, 1, generation->most);
        return pass(generation, &in_step);
    }
    if (fill(generation, 2, generation->most) > 0) {
        CHECK(pass(generation, &in_step));
        refill(generation);
    }
    memset(generation->seen, 0, (size_t)rows);
    if (fill(generation, 1, 1) == 0 && !any_under_way(generation))
        return STATUS_OK;
    for (int64_t i = 0; i < rows; i++)
        generation->row[i].under_way = generation->row[i].under_way || generation->seen[i];
    CHECK(pass(generation, &depthwise));
    for (int64_t i = 0; i < rows; i++)
        generation->row[i].under_way = generation->row[i].under_way && !generation->seen[i];
    return STATUS_OK;
}

/* Learned positions end somewhere, and a memory does not bring them back. */
static enum status check_positions(const struct generation *generation)
{
    const struct model_config *config = &generation->decoder->config;
    if (config->positions != POSITIONS_LEARNED || config->attention.kind != ATTENTION_INFINI)
        return STATUS_OK;
    for (int64_t i = 0; i < generation->count; i++)
        if (generation->continuations[i].prompt_count + generation->continuations[i].count > config->max_positions)
            return context_fail(
                generation->session->context, STATUS_USAGE,
                "prompt and continuation have %lld tokens, but the model has learned positions for "
                "%lld only (model.max_positions)",
                (long long)(generation->continuations[i].prompt_count + generation->continuations[i].count),
                (long long)config->max_positions);
    return STATUS_OK;
}

static enum status generation_create(struct generation *generation)
{
    struct session *session = generation->session;
    struct context *context = session->context;
    struct decoder *decoder = generation->decoder;
    CHECK(check_positions(generation));
    size_t rows = (size_t)generation->rows;
    size_t tokens = rows * (size_t)generation->most;
    generation->row = memory_allocate(context, rows * sizeof *generation->row, MEMORY_BUFFERS);
    generation->tokens = memory_allocate(context, tokens * sizeof *generation->tokens, MEMORY_BUFFERS);
    generation->begin = memory_allocate(context, (rows + 1) * sizeof *generation->begin, MEMORY_BUFFERS);
    generation->first_position = memory_allocate(context, rows * sizeof *generation->first_position, MEMORY_BUFFERS);
    generation->logits =
        memory_allocate(context, rows * (size_t)decoder->config.vocabulary * sizeof(float), MEMORY_BUFFERS);
    generation->drawn = memory_allocate(context, rows * sizeof *generation->drawn, MEMORY_BUFFERS);
    generation->seen = memory_allocate(context, rows * sizeof *generation->seen, MEMORY_BUFFERS);
    CHECK(context->status);
    for (int64_t i = 0; i < generation->rows; i++)
        generation->row[i].continuation = -1;
    for (int64_t i = 0; i <= generation->rows; i++)
        generation->begin[i] = i * generation->most;
    CHECK(decoder_cache_create(decoder, generation->rows, decoder->max_length, generation->most, &generation->cache));
    if (!generation->sampling->in_step && depthwise_fits(decoder))
        CHECK(depthwise_create(decoder, generation->rows, &generation->depthwise));
    struct decoder_input largest = {.rows = generation->rows,
                                    .length = generation->most,
                                    .causal = true,
                                    .cache = generation->cache,
                                    .begin = generation->begin};
    struct pipeline_shape shape = {.chunks = decoder->chunks,
                                   .micro_batches = 1,
                                   .packet_bytes = decoder_packet_bytes(decoder, &largest),
                                   .forward_only = true};
    return pipeline_create(context, session->mesh, session->engine, &session->work, &session->pool, &shape,
                           &generation->pipeline);
}

/* Whether a stop is asked for on some rank. Collective if the generation can be stopped. */
static bool is_stopped(const struct generation *generation)
{
    const struct sampling *sampling = generation->sampling;
    if (!sampling->stops)
        return false;
    int32_t stops = sampling->stops(sampling->stops_self);
    mesh_all_reduce(generation->session->mesh, MESH_TEAM, &stops, 1, DTYPE_I32, MESH_MAX);
    return stops != 0;
}

static enum status run(struct generation *generation)
{
    refill(generation);
    while (any_runs(generation) && !is_stopped(generation)) {
        CHECK(advance(generation));
        refill(generation);
    }
    return STATUS_OK;
}

enum status generate(struct session *session, const struct sampling *sampling, const struct continuation *continuations,
                     int64_t count, int64_t rows, void (*see)(void *self, int64_t continuation, int32_t token),
                     void *see_self)
{
    struct context *context = session->context;
    struct generation generation = {.session = session,
                                    .decoder = decoder_of(&session->model),
                                    .sampling = sampling,
                                    .continuations = continuations,
                                    .count = count,
                                    .rows = integer_max(1, integer_min(rows, count)),
                                    .most = session->config->training.sequence_length,
                                    .see = see,
                                    .see_self = see_self};
    enum status status;
    if (!generation.decoder)
        return context_fail(context, STATUS_USAGE, "model.family: %s models do not generate", session->model.ops->name);
    TRY(mesh_agree(session->mesh, context, generation_create(&generation)));
    TRY(run(&generation));
done:
    depthwise_destroy(&generation.depthwise);
    decoder_cache_destroy(generation.decoder, &generation.cache);
    pipeline_destroy(&generation.pipeline);
    void *owned[] = {generation.row,    generation.tokens, generation.begin, generation.first_position,
                     generation.logits, generation.drawn,  generation.seen};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    return status;
}
