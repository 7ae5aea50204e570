#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/cli/command.h"
#include "src/cli/eval_images.h"
#include "src/core/text.h"
#include "src/evaluate/evaluate.h"
#include "src/generate/passkey.h"
#include "src/model/layers.h"
#include "src/prepare/run_tokenizer.h"
#include "src/session/load.h"
#include "src/train/corpora.h"

enum { LENGTHS = 32 };

/* Options of the command line, as they stand. */
struct eval_options {
    const char *config, *checkpoint, *data, *length, *memory, *routing, *task, *lengths, *count, *digits, *seed;
    bool json;
};

struct eval {
    struct command *command;
    struct config *config;
    struct session session;
    struct evaluator evaluator;
    struct corpus *corpus;       /* NULL with a task */
    struct tokenizer *tokenizer; /* NULL: there is none */
    int32_t *token_bytes;
    struct evaluation_plan plan;
    bool json;
    struct passkey_task task;
    int64_t lengths[LENGTHS];
    int length_count;
    int64_t samples; /* of each length and place */
};

/* -- Options -- */

/* One of two words, the second of which sets *second. NULL text leaves the value. */
static enum status read_word(struct command *command, const char *option, const char *text, const char *first_word,
                             const char *second_word, bool *second)
{
    if (!text)
        return STATUS_OK;
    *second = strcmp(text, second_word) == 0;
    if (!*second && strcmp(text, first_word) != 0)
        return context_fail(&command->context, STATUS_USAGE, "%s: expected %s or %s, got \"%s\"", option, first_word,
                            second_word, text);
    return STATUS_OK;
}

static enum status read_lengths(struct eval *eval, const char *text)
{
    struct context *context = &eval->command->context;
    int64_t smallest = passkey_smallest(eval->task.digits);
    while (text && *text) {
        char *end;
        int64_t length = strtoll(text, &end, 10);
        if (end == text || (*end && *end != ',') || length < smallest || length > INT32_MAX)
            return context_fail(context, STATUS_USAGE,
                                "--lengths: expected integers from %lld to %d, as in 4096,65536; got \"%s\"",
                                (long long)smallest, INT32_MAX, text);
        if (eval->length_count == LENGTHS)
            return context_fail(context, STATUS_USAGE, "--lengths: more than %d", LENGTHS);
        eval->lengths[eval->length_count++] = length;
        text = *end ? end + 1 : end;
    }
    if (eval->length_count == 0)
        return context_fail(context, STATUS_USAGE, "--task: needs --lengths; see `cairn eval --help`");
    return STATUS_OK;
}

static enum status read_task(struct eval *eval, const struct eval_options *options)
{
    struct command *command = eval->command;
    struct context *context = &command->context;
    int64_t seed = 1;
    if (!options->task) {
        if (options->lengths || options->count || options->digits || options->seed)
            return context_fail(context, STATUS_USAGE,
                                "eval: --lengths, --count, --digits and --seed belong to --task");
        return STATUS_OK;
    }
    if (strcmp(options->task, "passkey") != 0)
        return context_fail(context, STATUS_USAGE, "--task: expected passkey, got \"%s\"", options->task);
    if (options->data || options->length || options->routing)
        return context_fail(context, STATUS_USAGE,
                            "eval: --data, --context-length and --routing do not go with --task");
    if (eval->config->model.vocabulary != 256)
        return context_fail(context, STATUS_USAGE, "--task: needs a model of bytes (model.vocabulary 256), not %lld",
                            (long long)eval->config->model.vocabulary);
    CHECK(command_integer(command, "--digits", options->digits, 1, PASSKEY_DIGITS_MAXIMUM, &eval->task.digits));
    CHECK(command_integer(command, "--count", options->count, 1, INT32_MAX, &eval->samples));
    CHECK(command_integer(command, "--seed", options->seed, 0, INT64_MAX, &seed));
    eval->task.seed = (uint64_t)seed;
    return read_lengths(eval, options->lengths);
}

/* The window is training.sequence_length, or the passage where that is shorter or cannot be cut. */
static enum status choose_window(struct eval *eval, const char *length)
{
    struct config *config = eval->config;
    int64_t *window = &config->training.sequence_length;
    eval->plan.context_length = *window;
    CHECK(command_integer(eval->command, "--context-length", length, 1, INT32_MAX, &eval->plan.context_length));
    if (config->model.attention.kind != ATTENTION_INFINI || eval->plan.context_length < *window)
        *window = eval->plan.context_length;
    return evaluation_check(&eval->command->context, &config->model, eval->plan.context_length, *window);
}

static enum status read_options(struct eval *eval, const struct eval_options *options)
{
    struct command *command = eval->command;
    struct context *context = &command->context;
    const struct model_config *model = &eval->config->model;
    CHECK(config_load(context, options->config, command->overrides, command->override_count, eval->config));
    eval->json = options->json;
    CHECK(read_word(command, "--memory", options->memory, "on", "off", &eval->plan.memory_off));
    CHECK(read_word(command, "--routing", options->routing, "causal", "whole", &eval->plan.whole_routes));
    if (options->memory && model->attention.kind != ATTENTION_INFINI)
        return context_fail(context, STATUS_USAGE, "--memory: this model has none (model.attention.kind)");
    if (options->routing && !depth_is_routed(model))
        return context_fail(context, STATUS_USAGE, "--routing: this model has no routers (model.depth.kind)");
    if (model->classes > 0)
        return context_fail(context, STATUS_USAGE,
                            "model.classes: models that tell texts apart are measured by `cairn evolve`, which trains "
                            "them; see its --status");
    if (family_of_images(model->family))
        return options->length || options->task
                   ? context_fail(context, STATUS_USAGE,
                                  "eval: --context-length and --task are of language models, and this one is of images")
                   : STATUS_OK;
    CHECK(choose_window(eval, options->length));
    return read_task(eval, options);
}

/* -- Text -- */

/* Which files, and from which share of them on. */
static enum status choose_text(struct eval *eval, const char *data, struct text_list *files, double *begin)
{
    struct context *context = &eval->command->context;
    const struct data_config *wanted = &eval->config->data;
    *begin = 0.0;
    files->count = 1;
    if (data && !text_copy(files->item[0], TEXT_LENGTH, data))
        return context_fail(context, STATUS_USAGE, "--data: the name is too long");
    if (data)
        return STATUS_OK;
    *files = wanted->validation.count > 0 ? wanted->validation : wanted->train;
    if (wanted->validation.count > 0)
        return STATUS_OK;
    *begin = 1.0 - wanted->validation_fraction;
    if (wanted->train.count == 0 || wanted->validation_fraction == 0.0)
        return context_fail(context, STATUS_USAGE,
                            "eval: the configuration has no validation data; name some with --data");
    return STATUS_OK;
}

static enum status fit_batch(struct eval *eval, const char *name)
{
    struct context *context = &eval->command->context;
    struct config *config = eval->config;
    struct corpus_passages found;
    eval->plan.sampling = config->data.sampling;
    CHECK(corpus_passages_create(context, eval->corpus, eval->plan.sampling, eval->plan.context_length, &found));
    int64_t passages = found.count;
    int64_t longest = found.longest;
    corpus_passages_destroy(&found);
    if (passages == 0)
        return context_fail(context, STATUS_FILE, "%s: fewer than two tokens to evaluate on", name);
    /* What is passed at once costs by its length, and padding would be most of one that no text has. */
    if (config->model.attention.kind != ATTENTION_INFINI && longest < config->training.sequence_length)
        eval->plan.context_length = config->training.sequence_length = longest;
    /* Rows without a passage would only cost time. */
    config->training.batch = integer_min(config->training.batch, passages);
    config->training.micro_batch = integer_min(config->training.micro_batch, config->training.batch);
    return STATUS_OK;
}

static enum status open_text(struct eval *eval, const char *data)
{
    struct context *context = &eval->command->context;
    struct mesh *mesh = eval->command->mesh;
    double begin = 0.0;
    struct text_list *files = memory_allocate(context, sizeof *files, MEMORY_OTHER);
    enum status status = files ? choose_text(eval, data, files, &begin) : STATUS_MEMORY;
    TRY(mesh_agree(mesh, context, status));
    TRY(corpora_open(context, mesh, eval->config, eval->tokenizer, files, begin, 1.0, &eval->corpus));
    status = mesh_agree(mesh, context, fit_batch(eval, files->item[0]));
done:
    memory_free(context, files);
    return status;
}

/* That of the settings or beside the checkpoint, which must be the one that the checkpoint knows. */
static enum status open_tokenizer(struct eval *eval, const char *path)
{
    struct context *context = &eval->command->context;
    struct mesh *mesh = eval->command->mesh;
    const struct config *config = eval->config;
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    enum status status = mesh_agree(mesh, context, header ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = checkpoint_read_header(context, mesh, path, header);
    if (status == STATUS_OK)
        status = run_tokenizer_find(context, NULL, config, path, header->data, &eval->tokenizer);
    if (status == STATUS_OK && eval->tokenizer) {
        status = run_tokenizer_bytes(context, eval->tokenizer, config->model.vocabulary, &eval->token_bytes);
        eval->plan.token_bytes = eval->token_bytes;
    }
    memory_free(context, header);
    return mesh_agree(mesh, context, status);
}

static const char *memory_name(const struct eval *eval)
{
    bool any = eval->config->model.attention.kind == ATTENTION_INFINI;
    return !any ? "none" : eval->plan.memory_off ? "off" : "on";
}

static const char *routing_name(const struct eval *eval)
{
    return !depth_is_routed(&eval->config->model) ? "none" : eval->plan.whole_routes ? "whole" : "causal";
}

static void print_bits(const struct eval *eval, const struct evaluation *evaluation)
{
    bool known = evaluation->bytes > 0;
    printf("loss %.6f nats a token, perplexity %.4f, %.4f bits a %s, over %lld tokens in contexts of %lld",
           evaluation->loss, exp(evaluation->loss),
           known ? evaluation_bits_per_byte(evaluation) : evaluation->loss / log(2.0), known ? "byte" : "token",
           (long long)evaluation->targets, (long long)eval->plan.context_length);
}

static void print_loss(const struct eval *eval, const struct evaluation *evaluation)
{
    if (evaluation->targets == 0)
        printf("no targets: %lld tokens in contexts of %lld, none of which counts", (long long)evaluation->tokens,
               (long long)eval->plan.context_length);
    else
        print_bits(eval, evaluation);
    if (eval->plan.context_length > eval->config->training.sequence_length)
        printf(", windows of %lld", (long long)eval->config->training.sequence_length);
    if (strcmp(memory_name(eval), "none") != 0)
        printf("; memory %s", memory_name(eval));
    if (strcmp(routing_name(eval), "none") != 0)
        printf("; routing %s", routing_name(eval));
    printf("; %.3f us a token, %.0f tokens/s, %.1f MB resident\n",
           1e6 * evaluation->seconds / (double)evaluation->tokens, (double)evaluation->tokens / evaluation->seconds,
           1e-6 * (double)memory_resident_peak());
}

static enum status measure_loss(struct eval *eval)
{
    struct evaluation evaluation;
    CHECK(evaluate(&eval->evaluator, eval->corpus, &eval->plan, &evaluation));
    if (eval->command->rank != 0)
        return STATUS_OK;
    if (!eval->json) {
        print_loss(eval, &evaluation);
        return STATUS_OK;
    }
    json_t *object = json_form(
        "{s:f, s:f, s:I, s:I, s:I, s:I, s:s, s:s, s:f, s:f, s:f, s:I}", "loss", evaluation.loss, "perplexity",
        exp(evaluation.loss), "targets", (json_int_t)evaluation.targets, "tokens", (json_int_t)evaluation.tokens,
        "context", (json_int_t)eval->plan.context_length, "window", (json_int_t)eval->config->training.sequence_length,
        "memory", memory_name(eval), "routing", routing_name(eval), "seconds", evaluation.seconds, "seconds_per_token",
        evaluation.seconds / (double)evaluation.tokens, "processor_seconds", evaluation.processor_seconds,
        "memory_resident_bytes", (json_int_t)memory_resident_peak());
    if (object && evaluation.bytes > 0) {
        json_object_set_new(object, "bytes", json_integer((json_int_t)evaluation.bytes));
        json_set_number(object, "bits_per_byte", evaluation_bits_per_byte(&evaluation));
    }
    if (object && evaluation.targets == 0)
        for (int i = 0; i < 2; i++)
            json_object_set_new(object, i ? "perplexity_reason" : "loss_reason", json_string("no targets"));
    return print_json(&eval->command->context, object);
}

/* -- Passkey -- */

enum { PLACES = PASSKEY_ANY }; /* start, middle, end */

static json_t *length_json(int64_t length, int64_t digits, const struct passkey_score *scores)
{
    json_t *object = json_form("{s:I}", "length", (json_int_t)length);
    for (int place = 0; place < PLACES; place++) {
        const struct passkey_score *score = &scores[place];
        json_object_set_new(object, passkey_position_name((enum passkey_position)place),
                            json_form("{s:I, s:I, s:f, s:f, s:f}", "samples", (json_int_t)score->samples, "right",
                                      (json_int_t)score->right, "accuracy",
                                      (double)score->right / (double)score->samples, "digit_accuracy",
                                      (double)score->right_digits / (double)(score->samples * digits),
                                      "seconds_per_token", score->seconds / (double)score->tokens));
    }
    json_object_set_new(object, "memory_resident_bytes", json_integer((json_int_t)memory_resident_peak()));
    return object;
}

static void print_length(int64_t length, const struct passkey_score *scores)
{
    int64_t tokens = 0;
    double seconds = 0.0;
    printf("%9lld", (long long)length);
    for (int place = 0; place < PLACES; place++) {
        printf("   %6.1f %%", 100.0 * (double)scores[place].right / (double)scores[place].samples);
        tokens += scores[place].tokens;
        seconds += scores[place].seconds;
    }
    printf("   %8.3f   %7.1f\n", 1e6 * seconds / (double)tokens, 1e-6 * (double)memory_resident_peak());
    fflush(stdout);
}

static enum status measure_passkey(struct eval *eval)
{
    bool speaks = eval->command->rank == 0;
    json_t *lengths = eval->json && speaks ? json_array() : NULL;
    struct passkey_task task = eval->task;
    if (speaks && !eval->json)
        printf("keys of %lld digits that came back whole, of %lld samples each; memory %s\n"
               "   length      start     middle        end   us/token        MB\n",
               (long long)task.digits, (long long)eval->samples, memory_name(eval));
    for (int i = 0; i < eval->length_count; i++) {
        struct passkey_score scores[PLACES];
        task.length = eval->lengths[i];
        for (int place = 0; place < PLACES; place++) {
            task.position = (enum passkey_position)place;
            CHECK(passkey_evaluate(&eval->session, &task, eval->samples, eval->config->training.batch,
                                   eval->plan.memory_off, &scores[place]));
        }
        if (lengths)
            json_array_append_new(lengths, length_json(task.length, task.digits, scores));
        else if (speaks)
            print_length(task.length, scores);
    }
    if (!lengths)
        return STATUS_OK;
    return print_json(&eval->command->context,
                      json_form("{s:s, s:I, s:I, s:s, s:o}", "task", "passkey", "digits", (json_int_t)task.digits,
                                "seed", (json_int_t)task.seed, "memory", memory_name(eval), "lengths", lengths));
}

/* -- The command -- */

static enum status run(struct eval *eval, const struct eval_options *options)
{
    struct command *command = eval->command;
    struct context *context = &command->context;
    struct config *config = eval->config;
    char path[CHECKPOINT_PATH];
    enum status status = read_options(eval, options);
    TRY(team_agree(command->team, context, status));
    TRY(command_start_with(command, config));
    bool of_images = family_of_images(config->model.family);
    const char *name = options->checkpoint ? options->checkpoint : config->run.folder;
    TRY(checkpoint_named(context, command->mesh, name, path));
    if (!options->task && !of_images) {
        TRY(open_tokenizer(eval, path));
        TRY(open_text(eval, options->data));
    }
    if (of_images)
        return eval_images(command, config, path, options->data, options->json);
    TRY(session_create(context, command->mesh, &command->engine, config, NULL, NULL, false, &eval->session));
    TRY(session_load(&eval->session, path));
    if (!options->task)
        TRY(evaluator_create(&eval->session, NULL, &eval->evaluator));
    status = options->task ? measure_passkey(eval) : measure_loss(eval);
done:
    evaluator_destroy(&eval->evaluator);
    session_destroy(&eval->session);
    corpus_close(&eval->corpus);
    tokenizer_close(&eval->tokenizer);
    memory_free(context, eval->token_bytes);
    return status;
}

enum status command_eval(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct eval_options options = {0};
    struct eval eval = {.command = command, .task = {.digits = 5}, .samples = 20};
    int others;
    const struct option_row rows[] = {
        {"--checkpoint", &options.checkpoint, NULL},
        {"--data", &options.data, NULL},
        {"--context-length", &options.length, NULL},
        {"--memory", &options.memory, NULL},
        {"--routing", &options.routing, NULL},
        {"--task", &options.task, NULL},
        {"--lengths", &options.lengths, NULL},
        {"--count", &options.count, NULL},
        {"--digits", &options.digits, NULL},
        {"--seed", &options.seed, NULL},
        {"--json", NULL, &options.json},
    };
    CHECK(command_parse(command, argc, argv, rows, (int)(sizeof rows / sizeof *rows), &options.config, 1, &others));
    if (others != 1)
        return context_fail(context, STATUS_USAGE, "eval: name a configuration; see `cairn eval --help`");
    eval.config = memory_allocate(context, sizeof *eval.config, MEMORY_OTHER);
    if (!eval.config)
        return STATUS_MEMORY;
    enum status status = run(&eval, &options);
    memory_free(context, eval.config);
    return status;
}
