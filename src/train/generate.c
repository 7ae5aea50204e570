#include "src/train/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/random.h"

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
    qsort(candidates, (size_t)count, sizeof *candidates, by_weight);
    int64_t kept = sampling->top_k > 0 ? integer_min(sampling->top_k, count) : count;
    double largest = candidates[0].weight;
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

struct generation {
    struct trainer *trainer;
    const struct sampling *sampling;
    struct decoder_cache *cache;
    struct pipeline *pipeline;
    struct decoder_input input;
    int32_t *history; /* prompt and what was drawn */
    int32_t *positions;
    float *logits; /* [vocabulary] */
    int64_t drawn;
};

static struct tensor *run_stage(void *self, struct tape *tape, int chunk, int64_t micro_batch, struct tensor *input)
{
    (void)micro_batch;
    struct generation *generation = self;
    return decoder_forward(generation->trainer->decoder, tape, chunk, &generation->input, input);
}

/* Each tensor rank has some columns. */
static void see_logits(void *self, int64_t row, const struct tensor *logits)
{
    (void)row;
    struct generation *generation = self;
    const struct decoder *decoder = generation->trainer->decoder;
    memset(generation->logits, 0, (size_t)decoder->config.vocabulary * sizeof(float));
    memcpy(generation->logits + decoder->vocabulary.begin, logits->data,
           (size_t)decoder->vocabulary.count * sizeof(float));
}

/* Runs tokens history[first .. first + count - 1] and draws the next. */
static enum status advance(struct generation *generation, int64_t first, int64_t count, int32_t *token)
{
    struct trainer *trainer = generation->trainer;
    struct mesh *mesh = trainer->mesh;
    int last = mesh_size(mesh, MESH_PIPELINE) - 1;
    int64_t vocabulary = trainer->decoder->config.vocabulary;
    struct pipeline_stage stage = {.self = generation, .forward = run_stage};
    for (int64_t i = 0; i < count; i++)
        generation->positions[i] = (int32_t)(decoder_cache_length(generation->cache) + i);
    generation->input = (struct decoder_input){.tokens = generation->history + first,
                                               .positions = generation->positions,
                                               .rows = 1,
                                               .length = count,
                                               .cache = generation->cache,
                                               .see_logits = see_logits,
                                               .see_self = generation};
    CHECK(pipeline_run(generation->pipeline, &stage, &count, NULL, NULL));
    decoder_cache_advance(generation->cache, count);
    if (mesh_rank(mesh, MESH_PIPELINE) == last) {
        mesh_all_reduce(mesh, MESH_TENSOR, generation->logits, vocabulary, DTYPE_F32, MESH_SUM);
        *token = sampling_draw(generation->sampling, generation->logits, vocabulary, generation->drawn, &trainer->work);
    }
    mesh_broadcast(mesh, MESH_PIPELINE, last, token, 1, DTYPE_I32);
    generation->drawn++;
    return trainer->context->status;
}

static enum status generation_create(struct generation *generation, int64_t tokens)
{
    struct trainer *trainer = generation->trainer;
    struct context *context = trainer->context;
    struct decoder *decoder = trainer->decoder;
    int64_t window = decoder->max_length;
    struct pipeline_shape shape = {.micro_batches = 1,
                                   .tokens = window,
                                   .columns = decoder->config.width,
                                   .dtype = decoder->dtype,
                                   .forward_only = true};
    generation->history = memory_allocate(context, (size_t)tokens * sizeof(int32_t), MEMORY_BUFFERS);
    generation->positions = memory_allocate(context, (size_t)window * sizeof(int32_t), MEMORY_BUFFERS);
    generation->logits = memory_allocate(context, (size_t)decoder->config.vocabulary * sizeof(float), MEMORY_BUFFERS);
    CHECK(context->status);
    CHECK(decoder_cache_create(decoder, window, &generation->cache));
    return pipeline_create(context, trainer->mesh, trainer->engine, &trainer->work, &trainer->pool, &shape,
                           &generation->pipeline);
}

enum status generate(struct trainer *trainer, const struct sampling *sampling, const int32_t *prompt,
                     int64_t prompt_count, int64_t count, int32_t *tokens, void (*see)(void *self, int32_t token),
                     void *see_self)
{
    struct generation generation = {.trainer = trainer, .sampling = sampling};
    struct context *context = trainer->context;
    int64_t window = trainer->decoder->max_length;
    enum status status;
    TRY(mesh_agree(trainer->mesh, context, generation_create(&generation, prompt_count + count)));
    memcpy(generation.history, prompt, (size_t)prompt_count * sizeof *prompt);
    int64_t first = integer_max(0, prompt_count - window);
    for (int64_t i = 0; i < count; i++) {
        int64_t end = prompt_count + i;
        if (decoder_cache_length(generation.cache) == window) {
            decoder_cache_advance(generation.cache, -window);
            first = end - (window + 1) / 2;
        }
        TRY(advance(&generation, first, end - first, &tokens[i]));
        generation.history[end] = tokens[i];
        first = end;
        if (see)
            see(see_self, tokens[i]);
    }
    status = STATUS_OK;
done:
    decoder_cache_destroy(trainer->decoder, &generation.cache);
    pipeline_destroy(&generation.pipeline);
    memory_free(context, generation.history);
    memory_free(context, generation.positions);
    memory_free(context, generation.logits);
    return status;
}
