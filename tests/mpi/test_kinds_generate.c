/* Generation in every kind of model: tokens that come one by one, or some at once, get the logits that they get when
 * the whole sequence passes; and sequences side by side do not disturb each other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/generate/generate.h"
#include "tests/mpi/kinds.h"
#include "tests/support/fields.h"

/* Three segments of 5 and five tokens more; steps that part a model from its beginning. */
enum { LONG = 20, WARM = 3 };

static bool warm_bench_create(struct bench *bench, void **state, int kind, struct mesh_config mesh)
{
    struct kind_options options = {.mesh = mesh, .micro_batch = KIND_ROWS, .length = LONG};
    if (!bench_create(bench, state, &kinds[kind], &options))
        return false;
    for (int step = 0; step < WARM; step++)
        (void)bench_step(bench);
    for (int64_t row = 0; row < bench->streams->mine.count; row++)
        decoder_state_ops.reset(bench->streams, row);
    bench->trainer.batch.causal = true;
    bench_prepare(bench);
    return true;
}

/* The logits of a pass over the whole batch, on all ranks. */
static float *look(struct bench *bench)
{
    int64_t count = bench->trainer.batch.rows * bench->trainer.batch.length * KIND_VOCABULARY;
    memset(bench->logits, 0, (size_t)count * sizeof(float));
    bench_look(bench);
    float *copy = memory_allocate(bench->context, (size_t)count * sizeof(float), MEMORY_OTHER);
    memcpy(copy, bench->logits, (size_t)count * sizeof(float));
    mesh_all_reduce(bench->mesh, MESH_PIPELINE, copy, count, DTYPE_F32, MESH_SUM);
    mesh_all_reduce(bench->mesh, MESH_CONTEXT, copy, count, DTYPE_F32, MESH_SUM);
    mesh_all_reduce(bench->mesh, MESH_TENSOR, copy, count, DTYPE_F32, MESH_SUM);
    return copy;
}

/* -- Some tokens at once -- */

struct decoding {
    struct bench *bench;
    struct decoder_cache *cache;
    struct pipeline *pipeline;
    struct decoder_input input;
    int32_t tokens[KIND_ROWS * LONG];
    int64_t begin[KIND_ROWS + 1];
    int32_t first_position[KIND_ROWS];
    float logits[KIND_ROWS * KIND_VOCABULARY]; /* of the rows that pass something, one behind the other */
};

static void form_packet(void *self, int64_t model_chunk, int64_t micro_batch, struct packet_form *form)
{
    (void)micro_batch;
    const struct decoding *decoding = self;
    decoder_form(decoder_of(decoding->bench->trainer.model), &decoding->input, model_chunk, form);
}

static bool run_stage(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                      struct packet *out)
{
    (void)micro_batch;
    struct decoding *decoding = self;
    return decoder_forward(decoder_of(decoding->bench->trainer.model), tape, chunk, &decoding->input, in, out);
}

static void see_logits(void *self, int64_t first, const struct tensor *logits)
{
    struct decoding *decoding = self;
    struct range columns = decoder_of(decoding->bench->trainer.model)->vocabulary;
    for (int64_t n = 0; n < tensor_rows(logits); n++)
        memcpy(decoding->logits + (first + n) * KIND_VOCABULARY + columns.begin,
               (float *)logits->data + n * columns.count, (size_t)columns.count * sizeof(float));
}

/* How many tokens a row passes at once, in one of the calls: one by one, a prompt of some first, two by two, later than
 * the others, and all at once. */
static int64_t tokens_at_once(int64_t row, int64_t call)
{
    const int64_t counts[KIND_ROWS] = {1, call == 0 ? 7 : 1, 2, call < 3 ? 0 : 3, call == 4 ? LONG : 0};
    return counts[row];
}

/* Passes the next tokens of the rows. Returns how many they are. */
static int64_t pass(struct decoding *decoding, int64_t call)
{
    struct bench *bench = decoding->bench;
    struct pipeline_stage stage = {.self = decoding, .form = form_packet, .forward = run_stage};
    int64_t total = 0;
    for (int64_t row = 0; row < KIND_ROWS; row++) {
        int64_t known = decoder_cache_length(decoding->cache, row);
        int64_t count = integer_min(tokens_at_once(row, call), LONG - known);
        decoding->begin[row] = total;
        decoding->first_position[row] = (int32_t)known;
        memcpy(decoding->tokens + total, batch_tokens(&bench->trainer.batch) + row * LONG + known,
               (size_t)count * sizeof(int32_t));
        total += count;
    }
    decoding->begin[KIND_ROWS] = total;
    decoding->input = (struct decoder_input){.tokens = decoding->tokens,
                                             .rows = KIND_ROWS,
                                             .length = LONG,
                                             .causal = true,
                                             .cache = decoding->cache,
                                             .begin = decoding->begin,
                                             .first_position = decoding->first_position,
                                             .batch_rows = KIND_ROWS,
                                             .see_logits = see_logits,
                                             .see_self = decoding};
    memset(decoding->logits, 0, sizeof decoding->logits);
    assert_ok(bench->context, pipeline_run(decoding->pipeline, &stage, NULL, NULL));
    decoder_cache_advance(decoding->cache, decoding->begin);
    mesh_all_reduce(bench->mesh, MESH_TENSOR, decoding->logits, KIND_ROWS * KIND_VOCABULARY, DTYPE_F32, MESH_SUM);
    return total;
}

static void decoding_create(struct decoding *decoding, struct bench *bench)
{
    struct trainer *trainer = &bench->trainer;
    memset(decoding, 0, sizeof *decoding);
    decoding->bench = bench;
    assert_ok(bench->context,
              decoder_cache_create(decoder_of(trainer->model), KIND_ROWS, LONG, LONG, &decoding->cache));
    decoding->begin[KIND_ROWS] = KIND_ROWS * LONG;
    struct decoder_input largest = {
        .rows = KIND_ROWS, .length = LONG, .causal = true, .cache = decoding->cache, .begin = decoding->begin};
    struct pipeline_shape shape = {.chunks = decoder_of(trainer->model)->chunks,
                                   .micro_batches = 1,
                                   .packet_bytes = decoder_packet_bytes(decoder_of(trainer->model), &largest),
                                   .forward_only = true};
    assert_ok(bench->context, pipeline_create(bench->context, bench->mesh, &bench->engine, &trainer->session.work,
                                              &trainer->session.pool, &shape, &decoding->pipeline));
}

static void check_decoding(struct bench *bench, const char *name)
{
    static struct decoding decoding;
    bool last = mesh_rank(bench->mesh, MESH_PIPELINE) == mesh_size(bench->mesh, MESH_PIPELINE) - 1;
    float *whole = look(bench);
    decoding_create(&decoding, bench);
    for (int64_t call = 0; pass(&decoding, call) > 0 || call < LONG; call++) {
        const float *logits = decoding.logits;
        for (int64_t row = 0; last && row < KIND_ROWS; row++) {
            int64_t count = decoding.begin[row + 1] - decoding.begin[row];
            int64_t token = row * LONG + decoder_cache_length(decoding.cache, row) - 1;
            char what[128];
            if (count == 0)
                continue;
            snprintf(what, sizeof what, "%s: row %d, token %d, call %d", name, (int)row, (int)(token - row * LONG),
                     (int)call);
            assert_near(logits, whole + token * KIND_VOCABULARY, KIND_VOCABULARY, 2e-5, what);
            logits += KIND_VOCABULARY;
        }
    }
    pipeline_destroy(&decoding.pipeline);
    decoder_cache_destroy(decoder_of(bench->trainer.model), &decoding.cache);
    memory_free(bench->context, whole);
}

static void tokens_may_come_in_any_portions(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct bench bench;
            if (meshes[i].data > 1 || !warm_bench_create(&bench, state, kind, meshes[i]))
                continue;
            check_decoding(&bench, kinds[kind].name);
            bench_destroy(&bench);
        }
}

/* -- Sequences side by side -- */

enum { SEQUENCES = 6 };

/* Each token is as likely as the most likely one after those before it, in a pass over the whole sequence. */
static void check_greedy(struct bench *bench, const struct continuation *continuation, const char *name)
{
    int64_t prompt = continuation->prompt_count;
    int64_t whole = prompt + continuation->count;
    int32_t *inputs = batch_tokens(&bench->trainer.batch);
    memcpy(inputs, continuation->prompt, (size_t)prompt * sizeof *inputs);
    memcpy(inputs + prompt, continuation->tokens, (size_t)continuation->count * sizeof *inputs);
    bench_prepare(bench);
    float *logits = look(bench);
    for (int64_t t = prompt; t < whole; t++) {
        const float *row = logits + (t - 1) * KIND_VOCABULARY;
        float most = row[0];
        for (int v = 1; v < KIND_VOCABULARY; v++)
            most = fmaxf(most, row[v]);
        if (row[inputs[t]] < most - 1e-4f)
            fail_msg("%s: token %d after a prompt of %d is %d, whose logit is %g; the largest is %g", name, (int)t,
                     (int)prompt, inputs[t], (double)row[inputs[t]], (double)most);
    }
    memory_free(bench->context, logits);
}

static void sequences_do_not_disturb_each_other(void **state)
{
    static const int64_t prompts[SEQUENCES] = {4, 11, 1, 6, 5, 9};
    static const int64_t counts[SEQUENCES] = {12, 9, 5, 0, 15, 1};
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct sampling greedy = {.temperature = 0.0, .top_p = 1.0};
            struct continuation continuations[SEQUENCES];
            int32_t prompt[SEQUENCES][LONG];
            int32_t tokens[SEQUENCES][LONG];
            struct bench bench;
            if (!warm_bench_create(&bench, state, kind, meshes[i]))
                continue;
            for (int s = 0; s < SEQUENCES; s++) {
                for (int t = 0; t < LONG; t++)
                    prompt[s][t] = (s * 17 + t * 5) % KIND_VOCABULARY;
                continuations[s] = (struct continuation){
                    .prompt = prompt[s], .prompt_count = prompts[s], .count = counts[s], .tokens = tokens[s]};
            }
            assert_ok(bench.context,
                      generate(&bench.trainer.session, &greedy, continuations, SEQUENCES, 3, NULL, NULL));
            for (int s = 0; meshes[i].data == 1 && s < SEQUENCES; s++)
                check_greedy(&bench, &continuations[s], kinds[kind].name);
            bench_destroy(&bench);
        }
}

/* Of one prompt every sequence is another. */
static void sequences_of_one_prompt_differ(void **state)
{
    enum { ALIKE = 5, TOKENS = 8 };
    struct bench bench;
    struct mesh_config meshes[KIND_MESHES];
    (void)kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    const struct sampling sampling = {.temperature = 2.0, .top_p = 1.0, .seed = 3};
    static const int32_t prompt[] = {1, 2};
    struct continuation continuations[ALIKE];
    int32_t tokens[ALIKE][TOKENS];
    if (!warm_bench_create(&bench, state, 0, meshes[0]))
        skip();
    for (int s = 0; s < ALIKE; s++)
        continuations[s] =
            (struct continuation){.prompt = prompt, .prompt_count = 2, .count = TOKENS, .tokens = tokens[s]};
    for (int64_t rows = 1; rows <= ALIKE; rows += ALIKE - 1) {
        assert_ok(bench.context, generate(&bench.trainer.session, &sampling, continuations, ALIKE, rows, NULL, NULL));
        for (int a = 0; a < ALIKE; a++)
            for (int b = 0; b < a; b++)
                assert_memory_not_equal(tokens[a], tokens[b], sizeof tokens[a]);
    }
    bench_destroy(&bench);
}

/* -- Depth-wise batching -- */

enum { QUEUE = 9, DRAWN = 13 };

/* Prompts of 1 to 5 tokens, of which `rows` go on side by side. */
static void draw_queue(struct bench *bench, const struct sampling *sampling, int64_t rows, int32_t tokens[QUEUE][DRAWN])
{
    struct continuation continuations[QUEUE];
    int32_t prompt[QUEUE][5];
    for (int s = 0; s < QUEUE; s++) {
        for (int t = 0; t < 5; t++)
            prompt[s][t] = (s * 7 + t * 11) % KIND_VOCABULARY;
        memset(tokens[s], 0, sizeof tokens[s]);
        continuations[s] = (struct continuation){
            .prompt = prompt[s], .prompt_count = 1 + (s * 3) % 5, .count = DRAWN - s % 4, .tokens = tokens[s]};
    }
    memset(decoder_of(bench->trainer.model)->router_counts, 0,
           (size_t)bench->config.model.layers * sizeof(struct router_counts));
    assert_ok(bench->context, generate(&bench->trainer.session, sampling, continuations, QUEUE, rows, NULL, NULL));
}

/* Tokens in different recursions did pass together: some took the second one, and some did not. */
static void check_depths(const struct bench *bench, const char *name, struct router_counts *routing)
{
    const struct decoder *decoder = decoder_of(bench->trainer.model);
    for (int64_t r = 0; r < decoder->config.depth.recursions; r++) {
        if (decoder->router_counts[r].offered != routing[r].offered ||
            decoder->router_counts[r].chosen != routing[r].chosen)
            fail_msg("%s: %d of %d tokens take recursion %d; in step %d of %d", name,
                     (int)decoder->router_counts[r].chosen, (int)decoder->router_counts[r].offered, (int)r,
                     (int)routing[r].chosen, (int)routing[r].offered);
        if (decoder->model->balanced && r > 0 && routing[r].offered > 0) /* on the stage with the routers */
            assert_in_range(routing[r].chosen, 1, routing[r].offered - 1);
    }
}

static void compare_batching(struct bench *bench, const char *name, double temperature, int64_t rows)
{
    enum { MOST = 4 };
    static int32_t in_step[QUEUE][DRAWN], depthwise[QUEUE][DRAWN];
    struct sampling sampling = {.temperature = temperature, .top_p = 0.95, .seed = 5, .in_step = true};
    struct router_counts routing[MOST];
    draw_queue(bench, &sampling, rows, in_step);
    memcpy(routing, decoder_of(bench->trainer.model)->router_counts, sizeof routing);
    sampling.in_step = false;
    draw_queue(bench, &sampling, rows, depthwise);
    for (int s = 0; s < QUEUE; s++)
        for (int t = 0; t < DRAWN; t++)
            if (in_step[s][t] != depthwise[s][t])
                fail_msg("%s, %d rows: token %d of sequence %d is %d, in step %d", name, (int)rows, t, s,
                         depthwise[s][t], in_step[s][t]);
    check_depths(bench, name, routing);
}

/* The same tokens as when all rows pass each layer together, with a queue longer than the batch; and with depths spread
 * as training aims at, which go by the row, so that each sequence has one of its own. */
static void depths_may_mix(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct bench bench;
            if (!strstr(kinds[kind].name, "mor ") || !warm_bench_create(&bench, state, kind, meshes[i]))
                continue;
            compare_batching(&bench, kinds[kind].name, 0.0, 4);
            compare_batching(&bench, kinds[kind].name, 1.0, 4);
            bench.trainer.model->balanced = true;
            compare_batching(&bench, kinds[kind].name, 1.0, QUEUE);
            bench_destroy(&bench);
        }
}

/* Without Infini-attention a sequence that fills the window goes on with the later half: as if it were a prompt. */
static void check_windows(struct bench *bench, const int32_t *sequence, int64_t known, const char *name)
{
    for (int64_t full = LONG; full < known; full += (LONG + 1) / 2 + 1) {
        int64_t begin = full + 1 - (LONG + 1) / 2; /* token `full` does not fit in */
        struct continuation later = {.prompt = sequence + begin, .prompt_count = full + 1 - begin};
        later.count = integer_min(LONG - later.prompt_count, known - full - 1);
        int32_t tokens[LONG];
        memcpy(tokens, sequence + full + 1, (size_t)later.count * sizeof *tokens);
        later.tokens = tokens;
        check_greedy(bench, &later, name);
    }
}

static void a_full_window_goes_on_with_its_later_half(void **state)
{
    enum { PROMPT = 5, MORE = 36 };
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct sampling greedy = {.temperature = 0.0, .top_p = 1.0};
            int32_t sequence[PROMPT + MORE] = {3, 30, 7, 41, 22};
            struct continuation continuation = {
                .prompt = sequence, .prompt_count = PROMPT, .count = MORE, .tokens = sequence + PROMPT};
            struct bench bench;
            if (strstr(kinds[kind].model, "infini") || meshes[i].data > 1 ||
                !warm_bench_create(&bench, state, kind, meshes[i]))
                continue;
            assert_ok(bench.context, generate(&bench.trainer.session, &greedy, &continuation, 1, 1, NULL, NULL));
            check_windows(&bench, sequence, PROMPT + MORE, kinds[kind].name);
            bench_destroy(&bench);
        }
}

/* Infini-attention has no end: a prompt of three times what the model is made for, and on from there. */
static void prompts_may_be_longer_than_the_model(void **state)
{
    enum { SHORT = 9, PROMPT = 27, MORE = 8 };
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct sampling greedy = {.temperature = 0.0, .top_p = 1.0};
            struct kind_options options = {
                .mesh = meshes[i], .micro_batch = KIND_ROWS, .length = SHORT, .causal = true};
            struct bench small;
            struct bench large;
            int32_t prompt[PROMPT];
            int32_t tokens[MORE];
            if (!strstr(kinds[kind].model, "infini") || meshes[i].data > 1 ||
                !bench_create(&small, state, &kinds[kind], &options))
                continue;
            options.length = PROMPT + MORE;
            assert_true(bench_create(&large, state, &kinds[kind], &options));
            for (int t = 0; t < PROMPT; t++)
                prompt[t] = (t * 11 + 3) % KIND_VOCABULARY;
            struct continuation continuation = {
                .prompt = prompt, .prompt_count = PROMPT, .count = MORE, .tokens = tokens};
            assert_ok(small.context, generate(&small.trainer.session, &greedy, &continuation, 1, 1, NULL, NULL));
            check_greedy(&large, &continuation, kinds[kind].name);
            bench_destroy(&large);
            bench_destroy(&small);
        }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tokens_may_come_in_any_portions),
    cmocka_unit_test(sequences_do_not_disturb_each_other),
    cmocka_unit_test(depths_may_mix),
    cmocka_unit_test(sequences_of_one_prompt_differ),
    cmocka_unit_test(a_full_window_goes_on_with_its_later_half),
    cmocka_unit_test(prompts_may_be_longer_than_the_model),
};

MPI_MAIN(tests)
