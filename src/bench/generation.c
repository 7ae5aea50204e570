/* Generation of many sequences at once, by a model with its initial parameters. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/core/clock.h"
#include "src/core/notice.h"
#include "src/core/random.h"
#include "src/generate/generate.h"
#include "src/model/decoder_model.h"
#include "src/model/depthwise.h"
#include "src/model/layers.h"

struct watch {
    struct session *session;
    struct continuation *continuations;
    int32_t *tokens; /* [requests, prompt + tokens] */
    double *seconds; /* [tokens - 1] from each of the first row's tokens to its next */
    double begin, previous;
    double prompt;               /* seconds for the first prompts and their first tokens */
    double whole, processor;     /* seconds after that, of the clock and of this process */
    int64_t seen;                /* of the first row's tokens */
    double part[TIME_KINDS];     /* of the time after the first token */
    struct time_account account; /* when the first token was there */
    struct notice notice;
    int64_t drawn, all; /* tokens of all rows and runs */
};

struct generation_report {
    const struct config *config;
    const struct mesh *mesh;
    const struct engine *engine;
    const struct bench_options *options;
    bool depthwise; /* tokens of different depths passed together */
    int64_t parameters;
    double prompt; /* seconds, as in struct watch */
    double whole, processor;
    double median, least, most; /* seconds from a token of the first row to its next */
    double part[TIME_KINDS];    /* of all of it */
    double depth;               /* layers that such a token took */
};

/* Layers that a token took on average since the accounts began; what is not routed is taken by all. */
static double mean_depth(struct session *session, double *sums)
{
    const struct decoder *decoder = decoder_of(&session->model);
    const struct model_config *config = &decoder->config;
    bool recursive = recursions_are_routed(config);
    for (int64_t i = 0; i < config->layers; i++) {
        sums[2 * i] = (double)decoder->router_counts[i].offered;
        sums[2 * i + 1] = (double)decoder->router_counts[i].chosen;
    }
    mesh_all_reduce(session->mesh, MESH_TEAM, sums, 2 * config->layers, DTYPE_F64, MESH_SUM);
    double depth = 0.0;
    for (int64_t layer = 0; layer < config->layers; layer++) {
        int64_t router = recursive ? layers_recursion(config, layer) : layers_routed(config, layer) ? layer : -1;
        depth += router < 0 ? 1.0 : sums[2 * router + 1] / fmax(1.0, sums[2 * router]);
    }
    return depth;
}

static void see_token(void *self, int64_t continuation, int32_t token)
{
    (void)token;
    struct watch *watch = self;
    notice_show(&watch->notice, (double)++watch->drawn, (double)watch->all);
    if (continuation != 0)
        return;
    double now = clock_seconds();
    if (watch->seen == 0) {
        const struct decoder *decoder = decoder_of(&watch->session->model);
        watch->prompt = now - watch->begin;
        watch->account = watch->session->context->time;
        watch->processor = clock_process_seconds();
        memset(decoder->router_counts, 0, (size_t)decoder->config.layers * sizeof *decoder->router_counts);
    } else {
        watch->seconds[watch->seen - 1] = now - watch->previous;
    }
    watch->previous = now;
    watch->seen++;
}

static void fill_prompts(const struct watch *watch, const struct bench_options *options)
{
    uint64_t key = random_key(0, "bench tokens");
    uint64_t vocabulary = (uint64_t)watch->session->config->model.vocabulary;
    int64_t stride = options->prompt + options->tokens;
    for (int64_t row = 0; row < options->requests; row++) {
        int32_t *tokens = watch->tokens + row * stride;
        for (int64_t i = 0; i < options->prompt; i++)
            tokens[i] = (int32_t)(random_bits(key, (uint64_t)(row * stride + i)) % vocabulary);
        watch->continuations[row] = (struct continuation){.prompt = tokens,
                                                          .prompt_count = options->prompt,
                                                          .count = options->tokens,
                                                          .tokens = tokens + options->prompt};
    }
}

/* Once to warm up: products are prepared, parameters packed. */
static enum status measure(struct watch *watch, const struct bench_options *options)
{
    struct session *session = watch->session;
    const struct sampling sampling = {.temperature = 1.0, .top_p = 1.0, .in_step = options->in_step};
    struct time_account *account = &session->context->time;
    watch->all = (options->warmup + 1) * options->requests * options->tokens;
    notice_begin(&watch->notice, session->context, "measuring", "tokens");
    for (int64_t i = 0; i <= options->warmup; i++) {
        watch->seen = 0;
        mesh_barrier(session->mesh, MESH_TEAM);
        /* What no operation claims for itself is the work of the others. */
        (void)time_enter(account, TIME_COMPUTE);
        watch->begin = clock_seconds();
        CHECK(generate(session, &sampling, watch->continuations, options->requests, options->rows, see_token, watch));
        watch->whole = clock_seconds() - watch->begin - watch->prompt;
        watch->processor = clock_process_seconds() - watch->processor;
        (void)time_enter(account, TIME_OTHER);
    }
    notice_end(&watch->notice);
    for (int kind = 0; kind < TIME_KINDS; kind++)
        watch->part[kind] = account->seconds[kind] - watch->account.seconds[kind];
    return STATUS_OK;
}

static enum status watch_create(struct watch *watch, const struct bench_options *options)
{
    struct context *context = watch->session->context;
    size_t rows = (size_t)options->requests;
    size_t stride = (size_t)(options->prompt + options->tokens);
    watch->continuations = memory_allocate(context, rows * sizeof *watch->continuations, MEMORY_OTHER);
    watch->tokens = memory_allocate(context, rows * stride * sizeof *watch->tokens, MEMORY_OTHER);
    watch->seconds = memory_allocate(context, (size_t)options->tokens * sizeof *watch->seconds, MEMORY_OTHER);
    if (context->status == STATUS_OK)
        fill_prompts(watch, options);
    return mesh_agree(watch->session->mesh, context, context->status);
}

static void watch_destroy(struct watch *watch)
{
    struct context *context = watch->session->context;
    memory_free(context, watch->continuations);
    memory_free(context, watch->tokens);
    memory_free(context, watch->seconds);
}

static enum status summarize(struct watch *watch, struct generation_report *report)
{
    struct context *context = watch->session->context;
    int64_t layers = report->config->model.layers;
    double *sums = memory_allocate(context, 2 * (size_t)layers * sizeof *sums, MEMORY_OTHER);
    CHECK(mesh_agree(watch->session->mesh, context, context->status));
    report->depth = mean_depth(watch->session, sums);
    memory_free(context, sums);
    int count = (int)watch->seen - 1;
    report->depthwise = !report->options->in_step && depthwise_fits(decoder_of(&watch->session->model));
    report->parameters = parameter_list_elements(&watch->session->parameters);
    report->prompt = watch->prompt;
    memcpy(report->part, watch->part, sizeof report->part);
    report->whole = watch->whole;
    report->processor = watch->processor;
    report->median = measure_median(watch->seconds, count);
    report->least = watch->seconds[0];
    report->most = watch->seconds[count - 1];
    return STATUS_OK;
}

/* -- Showing -- */

static bool is_routed(const struct generation_report *report)
{
    return depth_is_routed(&report->config->model);
}

static const char *router_choices_name(const struct generation_report *report)
{
    return !is_routed(report) ? "none" : report->options->balanced ? "balanced" : "trained";
}

/* Tokens after the first ones of the first rows. */
static double drawn(const struct generation_report *report)
{
    return (double)(report->options->requests * report->options->tokens - report->options->rows);
}

static const char *batching_name(const struct generation_report *report)
{
    return report->depthwise ? "depthwise" : "step";
}

static double prompt_speed(const struct generation_report *report)
{
    return (double)(report->options->rows * report->options->prompt) / report->prompt;
}

static void print_report(const struct generation_report *report)
{
    const struct bench_options *options = report->options;
    const struct mesh_config *mesh = mesh_config(report->mesh);
    int ranks = mesh_size(report->mesh, MESH_TEAM);
    int threads = report->engine->threads;
    printf("%-12s %.2f million parameters in %s, %lld layers; initial values\n", "model",
           1e-6 * (double)report->parameters, report->config->compute.type == COMPUTE_BF16 ? "bf16" : "fp32",
           (long long)report->config->model.layers);
    printf("%-12s pipeline %lld x tensor %lld; %d rank%s of %d thread%s, %s kernels\n", "mesh",
           (long long)mesh->pipeline, (long long)mesh->tensor, ranks, ranks == 1 ? "" : "s", threads,
           threads == 1 ? "" : "s", report->engine->isa);
    printf("%-12s %lld rows, %lld sequences of %lld tokens and %lld drawn, batched %s\n", "batch",
           (long long)options->rows, (long long)options->requests, (long long)options->prompt,
           (long long)options->tokens, batching_name(report));
    if (is_routed(report))
        printf("%-12s %s\n", "routing",
               options->balanced ? "balanced: tokens drawn in the shares that training aims at, not by the routers"
                                 : "by the routers, which have learned nothing");
    printf("\n%-24s %12.1f tokens/s   %s\n", "prompts", prompt_speed(report), show_seconds(report->prompt).text);
    printf("%-24s %12.1f tokens/s   %s from a row's token to its next, the median (%.4g to %.4g s)\n", "generation",
           drawn(report) / report->whole, show_seconds(report->median).text, report->least, report->most);
    printf("%-24s %12.1f tokens/s   of processor time, on the first rank\n", "", drawn(report) / report->processor);
    for (int i = 0; i < TIME_KINDS; i++)
        if (time_rows[i].kind != TIME_OPTIMIZER)
            printf("  %-22s %12s %9.1f %%\n", time_rows[i].words,
                   show_seconds((double)options->rows * report->part[time_rows[i].kind] / drawn(report)).text,
                   100.0 * report->part[time_rows[i].kind] / report->whole);
    printf("%-24s %12.2f of %lld layers\n", "mean depth", report->depth, (long long)report->config->model.layers);
}

static enum status print_report_json(struct context *context, const struct generation_report *report)
{
    const struct bench_options *options = report->options;
    json_t *object =
        json_form("{s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:I}", "bench", "generate", "type",
                  report->config->compute.type == COMPUTE_BF16 ? "bf16" : "fp32", "isa", report->engine->isa, "ranks",
                  mesh_size(report->mesh, MESH_TEAM), "threads", report->engine->threads, "parameters",
                  (json_int_t)report->parameters, "rows", (json_int_t)options->rows, "prompt",
                  (json_int_t)options->prompt, "tokens", (json_int_t)options->tokens);
    json_t *rest =
        json_form("{s:s, s:s, s:I, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "routing",
                  router_choices_name(report), "batching", batching_name(report), "requests",
                  (json_int_t)options->requests, "tokens_per_processor_second", drawn(report) / report->processor,
                  "mean_depth", report->depth, "layers", (json_int_t)report->config->model.layers, "prompt_seconds",
                  report->prompt, "prompt_tokens_per_second", prompt_speed(report), "tokens_per_second",
                  drawn(report) / report->whole, "token_seconds", report->median, "token_seconds_least", report->least,
                  "token_seconds_most", report->most, "seconds_by_kind", time_json(report->part));
    if (object && rest)
        json_object_update(object, rest);
    json_decref(rest);
    return print_json(context, object);
}

enum status bench_generate(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, const struct bench_options *options)
{
    struct session session = {.context = context};
    struct watch watch = {.session = &session};
    struct generation_report report = {.mesh = mesh, .engine = engine, .options = options};
    struct config *fitted = memory_allocate(context, sizeof *fitted, MEMORY_OTHER);
    enum status status;
    TRY(mesh_agree(mesh, context, context->status));
    *fitted = *config;
    fitted->training.sequence_length = options->prompt + options->tokens;
    fitted->training.batch = fitted->training.micro_batch = 1;
    report.config = fitted;
    TRY(session_create(context, mesh, engine, fitted, NULL, NULL, false, &session));
    session.model.balanced = options->balanced;
    TRY(watch_create(&watch, options));
    TRY(measure(&watch, options));
    TRY(summarize(&watch, &report));
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        status = options->json ? print_report_json(context, &report) : (print_report(&report), STATUS_OK);
done:
    watch_destroy(&watch);
    session_destroy(&session);
    memory_free(context, fitted);
    return status;
}
