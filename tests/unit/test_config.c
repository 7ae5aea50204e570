#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/core/random.h"

enum { FORMAT_SIZE = 1 << 18, LARGE_TEXT = 1 << 20 };

#define MODEL "model:\n  vocabulary: 256\n  width: 64\n  layers: 8\n  heads: 4\n  hidden: 176\n"

struct fixture {
    struct context context;
    struct config config;
    struct config other;
    char text[FORMAT_SIZE];
    char again[FORMAT_SIZE];
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    context_create(&fixture->context);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    int64_t held = fixture->context.memory.bytes_total;
    free(fixture);
    return held == 0 ? 0 : -1;
}

static enum status parse(struct fixture *fixture, const char *text, const char *override)
{
    return config_parse(&fixture->context, "a.yaml", text, strlen(text), &override, override ? 1 : 0, &fixture->config);
}

static void expect_message(struct fixture *fixture, enum status status, const char *text, const char *message)
{
    if (status != STATUS_USAGE || strcmp(fixture->context.text, message) != 0)
        fail_msg("status %d for\n%.400s\nmessage:  %s\nexpected: %s", (int)status, text, fixture->context.text,
                 message);
    context_clear(&fixture->context);
}

struct wrong {
    const char *text;
    const char *message;
};

static void expect_wrong(struct fixture *fixture, const struct wrong *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_message(fixture, parse(fixture, cases[i].text, NULL), cases[i].text, cases[i].message);
}

#define EXPECT_WRONG(fixture, cases) expect_wrong(fixture, cases, sizeof(cases) / sizeof((cases)[0]))

/* The settings of `text` after MODEL, one of which is wrong. */
static void expect_wrong_value(struct fixture *fixture, const char *text, const char *message)
{
    char whole[4096];
    snprintf(whole, sizeof whole, "%s%s", MODEL, text);
    expect_message(fixture, parse(fixture, whole, NULL), whole, message);
}

static void expect_wrong_override(struct fixture *fixture, const char *override, const char *message)
{
    expect_message(fixture, parse(fixture, MODEL, override), override, message);
}

static void test_defaults(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    assert_ok(&fixture->context, parse(fixture, MODEL, NULL));
    assert_int_equal(config->model.family, FAMILY_DECODER);
    assert_int_equal(config->model.vocabulary, 256);
    assert_int_equal(config->model.kv_heads, 4);
    assert_int_equal(config->model.head_width, 16);
    assert_int_equal(config->model.mlp, MLP_SWIGLU);
    assert_true(config->model.norm_epsilon == 1e-5);
    assert_true(config->model.rope_base == 10000.0);
    assert_int_equal(config->model.attention.segment, 32);
    assert_int_equal(config->model.depth.sharing, SHARING_MIDDLE_CYCLE);
    assert_true(config->model.depth.capacity == 0.125);
    assert_false(config->model.bias);
    assert_int_equal(config->mesh.data, 0);
    assert_int_equal(config->mesh.pipeline, 1);
    assert_int_equal(config->compute.threads, 0);
    assert_int_equal(config->compute.bucket_bytes, 26214400);
    assert_int_equal(config->data.train.count, 0);
    assert_int_equal(config->data.seed, 1);
    assert_true(config->optimizer.learning_rate == 3e-4);
    assert_int_equal(config->optimizer.schedule, SCHEDULE_COSINE);
    assert_int_equal(config->training.steps, 1000);
    assert_int_equal(config->checkpoint.keep_last, 2);
    assert_string_equal(config->run.folder, "runs/default");
    assert_string_equal(config->run.prompt, "");
}

static void test_every_type(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    assert_ok(&fixture->context,
              parse(fixture,
                    MODEL "  bias: true\n  norm_epsilon: .5e-3\n  norm: 'layer'\n  rope_base: 500000\n"
                          "mesh: {data: 4, tensor: auto}\n"
                          "compute:\n"
                          "data:\n  train: one file\n  validation: [\"a, b\", c]\n  seed: 18446744073709551615\n"
                          "optimizer: {clip: 0, beta1: 0.}\n"
                          "run:\n  prompt: \"\\\"Once\\\"\\n\\tupon \\u00e9\"\n  folder: 7\n",
                    NULL));
    assert_true(config->model.bias);
    assert_true(config->model.norm_epsilon == 5e-4);
    assert_int_equal(config->model.norm, NORM_LAYER);
    assert_true(config->model.rope_base == 5e5);
    assert_int_equal(config->mesh.data, 4);
    assert_int_equal(config->mesh.tensor, 0);
    assert_int_equal(config->data.train.count, 1);
    assert_string_equal(config->data.train.item[0], "one file");
    assert_int_equal(config->data.validation.count, 2);
    assert_string_equal(config->data.validation.item[0], "a, b");
    assert_true(config->data.seed == UINT64_MAX);
    assert_true(config->optimizer.clip == 0.0 && config->optimizer.beta1 == 0.0);
    assert_string_equal(config->run.prompt, "\"Once\"\n\tupon \xc3\xa9");
    assert_string_equal(config->run.folder, "7");
}

static void test_auto_is_none_of_the_numbers(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    assert_ok(&fixture->context, parse(fixture, MODEL, NULL));
    assert_int_equal(config->checkpoint.every, -1);
    assert_ok(&fixture->context, parse(fixture, MODEL "checkpoint: {every: 0}\n", NULL));
    assert_int_equal(config->checkpoint.every, 0);
    assert_ok(&fixture->context, parse(fixture, MODEL "checkpoint: {every: auto}\n", NULL));
    assert_int_equal(config->checkpoint.every, -1);
    expect_wrong_value(fixture, "checkpoint:\n  every: -1\n",
                       "a.yaml:8: checkpoint.every: expected an integer of at least 0 or auto, got \"-1\"");
}

static void test_time_limits(void **state)
{
    struct fixture *fixture = *state;
    assert_ok(&fixture->context, parse(fixture, MODEL "job: {time_limit: 12:30:00}\n", NULL));
    assert_string_equal(fixture->config.job.time_limit, "12:30:00");
    assert_ok(&fixture->context, parse(fixture, MODEL "job: {time_limit: \"\"}\n", NULL));
    assert_fails(&fixture->context, parse(fixture, MODEL "job:\n  time_limit: 1:75\n", NULL), STATUS_USAGE,
                 "a.yaml:8: job.time_limit: expected a time as Slurm takes it, minutes, ");
    assert_fails(&fixture->context, parse(fixture, MODEL, "job.time_limit=soon"), STATUS_USAGE, "got \"soon\"");
}

static void test_unknown_keys(void **state)
{
    static const struct wrong cases[] = {
        {"modle:\n  width: 5\n", "a.yaml:1: modle: unknown key; did you mean model?"},
        {MODEL "  widht: 5\n", "a.yaml:7: model.widht: unknown key; did you mean model.width?"},
        {MODEL "  attention:\n    segments: 5\n",
         "a.yaml:8: model.attention.segments: unknown key; did you mean model.attention.segment?"},
        {MODEL "  learning_rate: 5\n",
         "a.yaml:7: model.learning_rate: unknown key; did you mean optimizer.learning_rate?"},
        {MODEL "evaluation:\n  interval: 5\n",
         "a.yaml:8: evaluation.interval: unknown key; expected one of every, batches, final_batches"},
        {"zzzzzzz: 1\n", "a.yaml:1: zzzzzzz: unknown key; expected one of model, mesh, compute, data, optimizer, "
                         "training, evaluation, checkpoint, watch, evolve, run, job"},
        {"model.width: 5\n",
         "a.yaml:1: \"model.width\": unknown key; write nested maps, the point works in --set only"},
        {"[model]: 5\n", "a.yaml:1: expected a key, got a list"},
        {"{? : 5}\n", "a.yaml:1: expected a key, got nothing"},
        {"\"a\\e[2J\": 5\n", "a.yaml:1: a?[2J: unknown key; expected one of model, mesh, compute, data, optimizer, "
                             "training, evaluation, checkpoint, watch, evolve, run, job"},
    };
    EXPECT_WRONG((struct fixture *)*state, cases);
}

static void test_wrong_numbers(void **state)
{
    struct fixture *fixture = *state;
    static const char *const integers[] = {"abc", "1.0", "1e9", "0x10", "010", "-5", "0", "--5", "5 5", "1_000"};
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        char text[128];
        char message[256];
        snprintf(text, sizeof text, "training:\n  batch: %s\n", integers[i]);
        bool is_digits = strspn(integers[i], "0123456789") == strlen(integers[i]);
        snprintf(message, sizeof message, "a.yaml:8: training.batch: expected an integer %s, got \"%s\"",
                 is_digits ? "from 1 to 2147483647" : "of at least 1", integers[i]);
        expect_wrong_value(fixture, text, message);
    }
    static const char *const reals[] = {".nan",  "nan",   "inf", ".inf", "-.inf", "infinity",
                                        "0x1p3", "1e999", "-1",  "e",    "1,5"};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        char text[128];
        char message[256];
        snprintf(text, sizeof text, "optimizer:\n  clip: %s\n", reals[i]);
        snprintf(message, sizeof message, "a.yaml:8: optimizer.clip: expected a number of at least 0, got \"%s\"",
                 reals[i]);
        expect_wrong_value(fixture, text, message);
    }
    expect_wrong_value(fixture, "training:\n  steps: 99999999999999999999\n",
                       "a.yaml:8: training.steps: expected an integer from 0 to 1000000000000000, got "
                       "\"99999999999999999999\"");
    expect_wrong_value(fixture, "mesh:\n  data: 0\n",
                       "a.yaml:8: mesh.data: expected an integer from 1 to 2147483647 or auto, got \"0\"");
    expect_wrong_value(fixture, "mesh:\n  virtual_stages: auto\n",
                       "a.yaml:8: mesh.virtual_stages: expected an integer from 1 to 65536, got \"auto\"");
    expect_wrong_value(fixture, "optimizer:\n  beta1: 1.0\n",
                       "a.yaml:8: optimizer.beta1: expected a number of at least 0 and below 1, got \"1.0\"");
    expect_wrong_value(fixture, "optimizer:\n  epsilon: 0\n",
                       "a.yaml:8: optimizer.epsilon: expected a number above 0, got \"0\"");
    expect_wrong_value(fixture, "data:\n  seed: 18446744073709551616\n",
                       "a.yaml:8: data.seed: expected an integer from 0 to 18446744073709551615, got "
                       "\"18446744073709551616\"");
}

/* What single precision makes of a number is what has to keep to the limits. */
static void test_single(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *override, *message;
    } refused[] = {
        {"optimizer.epsilon=1e-50", "--set optimizer.epsilon=1e-50: expected a number above 0 in single precision"},
        {"optimizer.epsilon=1e-39", "optimizer.epsilon=1e-39: expected a number above 0 in single precision"},
        {"model.norm_epsilon=1e-60", "model.norm_epsilon=1e-60: expected a number above 0, at most 1 in single"},
        {"optimizer.beta1=0.99999999", "and below 1 in single precision, which knows 0, numbers from 1.175e-38 to "},
        {"optimizer.beta2=0.999999999", "none between 0.99999994 and 1"},
        {"optimizer.learning_rate=1e39", "optimizer.learning_rate=1e39: expected a number of at least 0 in single"},
        {"optimizer.learning_rate=1e-46", "optimizer.learning_rate=1e-46: expected a number of at least 0 in single"},
        {"optimizer.weight_decay=1e300", "optimizer.weight_decay=1e300: expected a number of at least 0 in single"},
        {"optimizer.clip=1e-100", "optimizer.clip=1e-100: expected a number of at least 0 in single"},
        {"optimizer.gate_lr_factor=1e40", "optimizer.gate_lr_factor=1e40: expected a number of at least 0 in single"},
        {"model.depth.alpha=1e-44", "model.depth.alpha=1e-44: expected a number of at least 0 in single"},
        {"model.depth.router_loss=5e38", "model.depth.router_loss=5e38: expected a number of at least 0 in single"},
        {"model.rope_base=0.5", "model.rope_base=0.5: expected a number from 1 to 1e+30"},
        {"model.rope_base=1e300", "model.rope_base=1e300: expected a number from 1 to 1e+30"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_fails(&fixture->context, parse(fixture, MODEL, refused[i].override), STATUS_USAGE, refused[i].message);
    static const char *const taken[] = {"optimizer.epsilon=1.2e-38", "optimizer.beta1=0.9999999",
                                        "optimizer.clip=0",          "optimizer.learning_rate=0",
                                        "optimizer.beta1=0",         "model.norm_epsilon=1"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        assert_ok(&fixture->context, parse(fixture, MODEL, taken[i]));
    assert_fails(&fixture->context,
                 parse(fixture, MODEL "optimizer:\n  learning_rate: 1.0e+30\n", "optimizer.gate_lr_factor=1e10"),
                 STATUS_USAGE, "--set optimizer.gate_lr_factor=1e10: expected optimizer.learning_rate times");
}

static void count_difference(void *self, const char *key, const char (*values)[CONFIG_VALUE], int count)
{
    (void)values;
    assert_string_equal(key, "data.train");
    *(int *)self += count;
}

/* Values are shown cut, and compared whole. */
static void test_long_differences(void **state)
{
    struct fixture *fixture = *state;
    int seen = 0;
    char override[200] = "data.train=";
    memset(override + 11, 'x', 150);
    override[161] = 'a';
    assert_ok(&fixture->context, parse(fixture, MODEL, override));
    fixture->other = fixture->config;
    override[161] = 'b';
    assert_ok(&fixture->context, parse(fixture, MODEL, override));
    const struct config *both[] = {&fixture->config, &fixture->other};
    config_differences(both, 2, count_difference, &seen);
    assert_int_equal(seen, 2);
    /* An item more, where it is not shown; and of three the one in the middle. */
    override[161] = 'a';
    strcpy(override + 162, ",b");
    assert_ok(&fixture->context, parse(fixture, MODEL, override));
    const struct config *three[] = {&fixture->other, &fixture->config, &fixture->other};
    seen = 0;
    config_differences(three, 2, count_difference, &seen);
    config_differences(three + 1, 2, count_difference, &seen);
    assert_int_equal(seen, 4);
    config_differences(three, 3, count_difference, &seen);
    assert_int_equal(seen, 7);
    assert_ok(&fixture->context, parse(fixture, MODEL, "data.train=c"));
    config_differences(three, 3, count_difference, &seen);
    assert_int_equal(seen, 10);
}

/* What a value was before it was overridden leaves no trace, neither of a longer text nor of more items. */
static void test_overridden_alike(void **state)
{
    struct fixture *fixture = *state;
    int seen = 0;
    const char *long_before = MODEL "data:\n  train: [long-name, second]\nrun:\n  folder: long-name\n";
    const char *overrides[] = {"data.train=a", "run.folder=b"};
    assert_ok(&fixture->context, config_parse(&fixture->context, "test.yaml", long_before, strlen(long_before),
                                              overrides, 2, &fixture->other));
    const char *plain = MODEL "data:\n  train: a\nrun:\n  folder: b\n";
    assert_ok(&fixture->context,
              config_parse(&fixture->context, "test.yaml", plain, strlen(plain), NULL, 0, &fixture->config));
    const struct config *both[] = {&fixture->config, &fixture->other};
    config_differences(both, 2, count_difference, &seen);
    assert_int_equal(seen, 0);
}

/* Products of sizes that 64 bits would not hold. */
static void test_products(void **state)
{
    struct fixture *fixture = *state;
    assert_fails(&fixture->context, parse(fixture, MODEL, "model.width=2147483640"), STATUS_USAGE,
                 "expected model.heads times model.head_width times model.width to be at "
                 "most 1e+15");
    assert_fails(&fixture->context, parse(fixture, MODEL "  head_width: 1073741824\n", "model.width=249998"),
                 STATUS_USAGE,
                 "a.yaml:7: model.head_width: expected model.heads times model.head_width times model.width to be at "
                 "most 1e+15, got 1.07373e+15");
    assert_ok(&fixture->context, parse(fixture, MODEL, "model.vocabulary=2147483647"));
    static const struct wrong cases[] = {
        {"model: {vocabulary: 2147483647, width: 500000, heads: 1, layers: 1, hidden: 1}",
         "a.yaml:1: model.vocabulary: expected model.vocabulary times model.width to be at most 1e+15, got "
         "1.07374e+15"},
        {"model: {vocabulary: 1, width: 500000, heads: 1, head_width: 2, layers: 1, hidden: 2147483647}",
         "a.yaml:1: model.hidden: expected model.hidden times model.width to be at most 1e+15, got 1.07374e+15"}};
    EXPECT_WRONG(fixture, cases);
    assert_fails(&fixture->context,
                 parse(fixture, MODEL "training:\n  batch: 2147483647\n", "training.sequence_length=2147483647"),
                 STATUS_USAGE, "expected training.batch times training.sequence_length to be at most 1e+15");
}

static void test_wrong_values(void **state)
{
    static const struct wrong cases[] = {
        {MODEL "  bias: yes\n", "a.yaml:7: model.bias: expected true or false, got \"yes\""},
        {MODEL "  norm: group\n", "a.yaml:7: model.norm: expected one of rms, layer, got \"group\""},
        {MODEL "  norm:\n", "a.yaml:7: model.norm: expected one of rms, layer, got nothing"},
        {"model:\n  width: \"64\"\n", "a.yaml:2: model.width: expected an integer of at least 1, got the text \"64\""},
        {"model:\n  width:\n    64: 5\n", "a.yaml:3: model.width: expected an integer of at least 1, got a map"},
        {"model:\n  width: [64]\n", "a.yaml:2: model.width: expected an integer of at least 1, got a list"},
        {"model: 5\n", "a.yaml:1: model: expected a map of keys, got \"5\""},
        {"model: [5]\n", "a.yaml:1: model: expected a map of keys, got a list"},
        {"model:\n  width: 6\n\n  width: 7\n", "a.yaml:4: model.width: given twice; the first is in line 2"},
        {MODEL "run: {}\nmodel: {}\n", "a.yaml:8: model: given twice; the first is in line 1"},
        {MODEL "data:\n  train:\n    - a\n    - [b]\n",
         "a.yaml:10: data.train: expected at most 64 texts of 1 to 511 bytes, got a list"},
        {MODEL "data:\n  train: {a: b}\n",
         "a.yaml:8: data.train: expected at most 64 texts of 1 to 511 bytes, got a map"},
        {MODEL "run:\n  prompt: \"a\\0b\"\n",
         "a.yaml:8: run.prompt: expected text of at most 511 bytes of UTF-8 without a zero byte, got \"a?b\""},
        /* Cut before a character, not within. */
        {MODEL
         "  norm: aaaa\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\n",
         "a.yaml:7: model.norm: expected one of rms, layer, got "
         "\"aaaa\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9...\""},
        {MODEL
         "  norm: aaa\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\n",
         "a.yaml:7: model.norm: expected one of rms, layer, got "
         "\"aaa\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
         "\u00e9"
         "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9...\""},
        {MODEL "run:\n  folder: ''\n",
         "a.yaml:8: run.folder: expected text of 1 to 511 bytes of UTF-8 without a zero byte, got \"\""},
        {MODEL "run:\n  folder: null\n", "a.yaml:8: run.folder: expected text of 1 to 511 bytes, got nothing"},
    };
    EXPECT_WRONG((struct fixture *)*state, cases);
}

static void test_wrong_yaml(void **state)
{
    static const struct wrong cases[] = {
        {"", "a.yaml: empty; expected a map of settings"},
        {"# nothing\n\n", "a.yaml: empty; expected a map of settings"},
        {"---\n", "a.yaml:2: expected a map of settings, got nothing"},
        {"- a\n", "a.yaml:1: expected a map of settings, got a list"},
        {"text\n", "a.yaml:1: expected a map of settings, got \"text\""},
        {MODEL "---\n" MODEL, "a.yaml:7: a second document; expected one"},
        {"model: &m\n  width: 5\n", "a.yaml:1: anchors and aliases (& and *) are not accepted; write the value out"},
        {"model: *m\n", "a.yaml:1: anchors and aliases (& and *) are not accepted; write the value out"},
        {"model: &m\n  attention: *m\n",
         "a.yaml:1: anchors and aliases (& and *) are not accepted; write the value out"},
        {"<<: &m {width: 5}\n",
         "a.yaml:1: <<: unknown key; expected one of model, mesh, compute, data, optimizer, training, evaluation, "
         "checkpoint, watch, evolve, run, job"},
        {"model:\n  width: !!int 5\n", "a.yaml:2: tags (!) are not accepted; the key decides the type"},
        {"model:\n\twidth: 5\n", "a.yaml:2: not valid YAML: found character that cannot start any token"},
        {"model:\n  width: 5\n heads: 2\n", "a.yaml:3: not valid YAML: did not find expected key"},
        {"model: {width: 5\n", "a.yaml:2: not valid YAML: did not find expected ',' or '}'"},
        {"run:\n  folder: \"abc\n", "a.yaml:3: not valid YAML: found unexpected end of stream"},
        {"model:\n  width: 5\nrun: \xff\n", "a.yaml:3: not valid YAML: invalid leading UTF-8 octet"},
        {"model: {width: 5}\nrun: \x01\n", "a.yaml:2: not valid YAML: control characters are not allowed"},
    };
    EXPECT_WRONG((struct fixture *)*state, cases);
}

static void test_required(void **state)
{
    static const struct wrong cases[] = {
        {"run: {}\n", "a.yaml: model.vocabulary: missing; expected an integer of at least 1"},
        {"model: {vocabulary: 5, width: 4, heads: 2, hidden: 3}\n",
         "a.yaml: model.layers: missing; expected an integer from 1 to 65536"},
    };
    EXPECT_WRONG((struct fixture *)*state, cases);
}

static void test_combinations_of_a_model(void **state)
{
    struct fixture *fixture = *state;
    static const struct wrong cases[] = {
        {"  kv_heads: 3\n", "a.yaml:7: model.kv_heads: expected model.kv_heads to divide model.heads, got 3 and 4"},
        {"  head_width: 5\n",
         "a.yaml:7: model.head_width: expected an even model.head_width with model.positions rope, got 5"},
        {"  parallel_block: true\n  residual: {kind: laurel}\n",
         "a.yaml:7: model.parallel_block: expected model.residual.scope layer with model.parallel_block true and "
         "laurel, got sublayer"},
        {"  residual: {kind: laurel, rank: 65}\n",
         "a.yaml:7: model.residual.rank: expected model.residual.rank to be at most model.width (64), got 65"},
        {"  depth: {kind: recursive, lora_rank: 65}\n",
         "a.yaml:7: model.depth.lora_rank: expected model.depth.lora_rank to be at most model.width (64), got 65"},
        {"  lora: {rank: 65}\n",
         "a.yaml:7: model.lora.rank: expected model.lora.rank to be at most model.width (64), got 65"},
        {"  lora: {rank: 4, alpha: 0}\n", "a.yaml:7: model.lora.alpha: expected a number above 0, got \"0\""},
        {"  lora: {rank: 4, targets: [q_proj, query]}\n",
         "a.yaml:7: model.lora.targets: expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj, got "
         "\"query\""},
        {"  mlp: gelu\n  lora: {rank: 4, targets: gate_proj}\n",
         "a.yaml:8: model.lora.targets: expected no gate_proj, which only a model with model.mlp swiglu has"},
        {"  depth: {kind: mod, lora_rank: 4}\n",
         "a.yaml:7: model.depth.lora_rank: expected 0, or model.depth.kind mor or recursive, whose recursions it tells "
         "apart; got 4"},
        {"  depth: {kind: mod, every: 9}\n",
         "a.yaml:7: model.depth.every: expected model.depth.every to be at most model.layers (8), or no layer is "
         "routed; got 9"},
        {"  depth:\n    kind: mor\n    recursions: 4\n",
         "a.yaml:9: model.depth.recursions: expected model.depth.recursions to divide model.layers - 2 (6) with "
         "model.depth.sharing middle_cycle, got 4"},
        {"  depth: {kind: mor, sharing: cycle}\n",
         "a.yaml:4: model.layers: expected model.depth.recursions to divide model.layers (8) with "
         "model.depth.sharing cycle, got 3"},
        {"  depth: {kind: mor, sharing: sequence, routing: none, recursions: 5}\n",
         "a.yaml:7: model.depth.recursions: expected model.depth.recursions to divide model.layers (8) with "
         "model.depth.sharing sequence, got 5"},
        {"  depth: {kind: mor, sharing: middle_sequence, routing: none, recursions: 7}\n",
         "a.yaml:7: model.depth.recursions: expected model.depth.recursions to divide model.layers - 2 (6) with "
         "model.depth.sharing middle_sequence, got 7"},
        {"  depth: {kind: mor, sharing: middle_sequence}\n",
         "a.yaml:7: model.depth.sharing: expected model.depth.sharing cycle or middle_cycle with routing; sequence "
         "and middle_sequence need model.depth.routing none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_wrong_value(fixture, cases[i].text, cases[i].message);
    assert_ok(&fixture->context,
              parse(fixture, MODEL "  depth: {kind: mor, routing: none, sharing: sequence, recursions: 2}\n", NULL));
    expect_wrong_override(fixture, "model.heads=5",
                          "--set model.heads=5: expected model.heads to divide model.width, or model.head_width to be "
                          "given; got 5 and 64");
    static const char small[] = "model: {vocabulary: 9, width: 8, layers: 2, heads: 2, hidden: 8, depth: {kind: mor}}";
    expect_message(fixture, parse(fixture, small, NULL), small,
                   "a.yaml:1: model.layers: expected at least 3 layers with model.depth.sharing middle_cycle, got 2");
}

static void test_combinations_of_a_run(void **state)
{
    struct fixture *fixture = *state;
    static const struct wrong cases[] = {
        {"  positions: learned\ntraining:\n  sequence_length: 2000\n",
         "a.yaml:9: training.sequence_length: expected model.max_positions to be at least training.sequence_length "
         "(2000) with learned positions, got 1024"},
        {"mesh:\n  virtual_stages: 2\n",
         "a.yaml:8: mesh.virtual_stages: expected mesh.virtual_stages 1 with mesh.pipeline 1, got 2"},
        {"optimizer:\n  warmup_steps: 1001\n",
         "a.yaml:8: optimizer.warmup_steps: expected optimizer.warmup_steps to be at most training.steps (1000), got "
         "1001"},
        {"optimizer:\n  schedule: wsd\n  decay_steps: 1001\n",
         "a.yaml:9: optimizer.decay_steps: expected optimizer.decay_steps to be at most training.steps (1000), got "
         "1001"},
        {"training:\n  capacity_warmup_steps: 1001\n",
         "a.yaml:8: training.capacity_warmup_steps: expected training.capacity_warmup_steps to be at most "
         "training.steps (1000), got 1001"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_wrong_value(fixture, cases[i].text, cases[i].message);
    assert_ok(&fixture->context, parse(fixture, MODEL "mesh: {virtual_stages: 2, pipeline: auto}\n", NULL));
    assert_ok(&fixture->context, parse(fixture, MODEL "optimizer: {decay_steps: 1001}\n", NULL));
}

static void test_overrides(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    static const char *const overrides[] = {
        "model.width=128", "data.train=a=b,c d", "run.prompt=", "run.folder=x", "run.folder=y", "mesh.data=auto",
    };
    static const char text[] = MODEL "mesh: {data: 4}\ndata: {train: [x, y, z]}\nrun: {prompt: p}\n";
    assert_ok(&fixture->context,
              config_parse(&fixture->context, "a.yaml", text, sizeof text - 1, overrides, 6, &fixture->config));
    assert_int_equal(config->model.width, 128);
    assert_int_equal(config->model.head_width, 32);
    assert_int_equal(config->mesh.data, 0);
    assert_int_equal(config->data.train.count, 2);
    assert_string_equal(config->data.train.item[0], "a=b");
    assert_string_equal(config->data.train.item[1], "c d");
    assert_string_equal(config->run.prompt, "");
    assert_string_equal(config->run.folder, "y");
    assert_ok(&fixture->context, parse(fixture, text, "data.train=[a b, c,d ]"));
    assert_int_equal(fixture->config.data.train.count, 3);
    assert_string_equal(fixture->config.data.train.item[0], "a b");
    assert_string_equal(fixture->config.data.train.item[1], "c");
    assert_string_equal(fixture->config.data.train.item[2], "d");
    assert_ok(&fixture->context, parse(fixture, text, "data.train=[ab]*"));
    assert_string_equal(fixture->config.data.train.item[0], "[ab]*");
    assert_ok(&fixture->context, parse(fixture, text, "data.train=[ ]"));
    assert_int_equal(fixture->config.data.train.count, 0);
    assert_ok(&fixture->context, parse(fixture, text, "data.train="));
    assert_int_equal(config->data.train.count, 0);
}

static void test_wrong_overrides(void **state)
{
    struct fixture *fixture = *state;
    expect_wrong_override(fixture, "model.width=abc",
                          "--set model.width=abc: expected an integer of at least 1, got \"abc\"");
    expect_wrong_override(fixture, "model.width=", "--set model.width=: expected an integer of at least 1, got \"\"");
    expect_wrong_override(fixture, "model.widht=5", "--set model.widht: unknown key; did you mean model.width?");
    expect_wrong_override(fixture, "modle.width=5", "--set modle.width: unknown key; did you mean model?");
    expect_wrong_override(fixture, "width=5", "--set width: unknown key; did you mean model.width?");
    expect_wrong_override(fixture, "model=5", "--set model: a map of keys, not a value");
    expect_wrong_override(fixture, "model.width", "--set \"model.width\": expected key.path=value");
    expect_wrong_override(fixture, "=5", "--set \"=5\": expected key.path=value");
    expect_wrong_override(fixture, "data.train=a,,b",
                          "--set data.train=a,,b: expected at most 64 texts of 1 to 511 bytes of UTF-8 without a zero "
                          "byte, got \"a,,b\"");
    expect_wrong_override(fixture, "data.train=[a, ]",
                          "--set data.train=[a, ]: expected at most 64 texts of 1 to 511 bytes of UTF-8 without a zero "
                          "byte, got \"[a, ]\"");
    expect_wrong_override(fixture, "data.train=a,",
                          "--set data.train=a,: expected at most 64 texts of 1 to 511 bytes of UTF-8 without a zero "
                          "byte, got \"a,\"");
    expect_wrong_override(fixture, "model.kv_heads=3",
                          "--set model.kv_heads=3: expected model.kv_heads to divide model.heads, got 3 and 4");
    expect_wrong_override(fixture, "data.eot=256",
                          "--set data.eot=256: expected data.eot to be one of the 256 tokens, 0 to 255, got 256");
    assert_ok(&fixture->context, parse(fixture, MODEL, "data.eot=255"));
    assert_fails(&fixture->context, parse(fixture, MODEL "data: {format: bytes, eot: 256}\n", "model.vocabulary=300"),
                 STATUS_USAGE, "data.eot to be one of the 256 tokens");
    assert_fails(&fixture->context, parse(fixture, MODEL, "run.prompt=\xc3("), STATUS_USAGE, "of UTF-8");
    char *large = fixture->text;
    memset(large, 'x', 4000);
    large[4000] = '\0';
    assert_fails(&fixture->context, parse(fixture, MODEL, large), STATUS_USAGE, "xxx...\": expected key.path=value");
    memcpy(large, "run.folder=", 11);
    assert_fails(&fixture->context, parse(fixture, MODEL, large), STATUS_USAGE, "xxx...: expected text of 1 to 511");
    memcpy(large + 2000, "=", 1);
    memset(large, 'y', 11);
    assert_fails(&fixture->context, parse(fixture, MODEL, large), STATUS_USAGE, "unknown key; expected one of model");
}

/* Every key with a value that is not its default. */
static const char all_changed[] =
    "model:\n"
    "  {family: decoder, vocabulary: 300, width: 96, layers: 9, heads: 6, kv_heads: 3, head_width: 8, hidden: 100,\n"
    "   mlp: gelu, norm: layer, norm_epsilon: 1.2345678901234567e-6, positions: learned, rope_base: 500000.5,\n"
    "   max_positions: 4096, bias: true, parallel_block: true, tied_embeddings: true, classes: 3, adapters: 0 16,\n"
    "   attention: {kind: infini, bias: true, segment: 48, memory_update: gated_delta, readout_norm: true},\n"
    "   residual: {kind: laurel, scope: layer, weights: true, rank: 4, previous: 3},\n"
    "   depth: {kind: mor, every: 3, capacity: 0.1, gate: sigmoid, causal_router: predictor, router_loss: 0.001,\n"
    "           recursions: 3, sharing: sequence, routing: none, cache: shared, alpha: 0.30000000000000004, lora_rank: "
    "5},\n"
    "   lora: {rank: 7, alpha: 14.5, targets: [q_proj, down_proj]}}\n"
    "mesh: {data: 2, pipeline: 4, context: auto, tensor: 3, virtual_stages: 2, recursions: stage}\n"
    "compute: {type: bf16, recompute: layer, threads: 6, bucket_bytes: 4096}\n"
    "data: {weights: [0.5, 1, 2], tokenizer: t.json, train: [a, \"b \\\"c\\\" \\\\ \\x01\\n\\r\\t\\x7f\\e\", "
    "\"\\N\\_\\L\\P\\uFEFF\\uFFFF "
    "\\u00e9 "
    "\\U0001F600\"],\n"
    "       validation: 'null', validation_fraction: 0.25, format: megatron, sampling: stream,\n"
    "       eot: 7, seed: 18446744073709551615}\n"
    "optimizer: {kind: sgd, momentum: 0.5, nesterov: true, learning_rate: 1.2e-38, beta1: 0.85, beta2: 0.99, epsilon: "
    "1.0e-30, weight_decay: 0, clip: 1e38,\n"
    "            polar: exact, adamw_learning_rate: 0.5, beta3: 0.5, every: 3, max_side: 99, matrix_ranks: 3, "
    "matrix_border: 77,\n"
    "            no_decay: [a.*, '?b'],\n"
    "            gate_lr_factor: 10, schedule: wsd, warmup_start: 0.25, warmup_steps: 7, decay_steps: 11, "
    "minimum_ratio: 0.05}\n"
    "training: {average: 0.5, freeze: [a*, b], train_only: [c], steps: 2000, stop_at: 500, batch: 16, micro_batch: 2, "
    "sequence_length: 128,\n"
    "           seed: 77, skip_limit: 3, capacity_warmup_steps: 9, gate_warning_steps: 20}\n"
    "evaluation: {every: 100, batches: 4, final_batches: 6}\n"
    "checkpoint: {every: 50, keep_last: 5, keep_every: 200, background: true}\n"
    "watch: {hang_seconds: 60, straggler_factor: 2, straggler_steps: 7, compare_every: 9, spike_factor: 8, "
    "spike_window: 33, spike_steps: 2, spike_skip: 5, spike_limit: 4}\n"
    "evolve: {tasks: t, root: r, iterations: 3, generations: 5, children: 6, intervals: 7, samples: 8, "
    "validation_samples: 9, schedule: asynchronous, mutation: actions, adapters: true, size_base: 0.5, size_unit: 2, "
    "flops_base: 0.25, flops_unit: 3, space: [lr = 1]}\n"
    "run: {folder: '# : - {}', log_every: 10, tensorboard: true, prompt: \" x \\n y: [ \", prompt_tokens: 9}\n"
    "job: {time_limit: 1-12:00:00, mean_hours_between_failures: 3.5}\n";

static void check_round_trip(struct fixture *fixture)
{
    size_t length = config_format(&fixture->config, fixture->text, sizeof fixture->text);
    assert_int_equal(length, strlen(fixture->text));
    assert_ok(&fixture->context,
              config_parse(&fixture->context, "again", fixture->text, length, NULL, 0, &fixture->other));
    assert_memory_equal(&fixture->config, &fixture->other, sizeof fixture->config);
    config_format(&fixture->other, fixture->again, sizeof fixture->again);
    assert_string_equal(fixture->text, fixture->again);
}

/* The plain recursive transformer has a word of its own for what mor with routing none is. */
static void test_recursive(void **state)
{
    struct fixture *fixture = *state;
    assert_ok(&fixture->context, parse(fixture, MODEL, "model.depth.kind=recursive"));
    assert_int_equal(fixture->config.model.depth.kind, DEPTH_MOR);
    assert_int_equal(fixture->config.model.depth.routing, ROUTING_NONE);
    check_round_trip(fixture);
    assert_fails(&fixture->context, parse(fixture, MODEL "  depth: {kind: recursive, routing: token}\n", NULL),
                 STATUS_USAGE, "expected none with model.depth.kind recursive");
    assert_ok(&fixture->context, parse(fixture, MODEL "  depth: {kind: recursive, routing: none}\n", NULL));
}

static void test_round_trip(void **state)
{
    struct fixture *fixture = *state;
    assert_ok(&fixture->context, parse(fixture, MODEL, NULL));
    check_round_trip(fixture);
    char *defaults = strdup(fixture->text);
    assert_ok(&fixture->context, parse(fixture, MODEL, "model.hidden=2147483647"));
    check_round_trip(fixture);
    assert_ok(&fixture->context, parse(fixture, all_changed, NULL));
    check_round_trip(fixture);

    /* Line by line nothing but the names of the maps, family (of one word) and recursions is as in the defaults. */
    int same = 0;
    for (char *line = strtok(defaults, "\n"); line; line = strtok(NULL, "\n")) {
        const char *found = strstr(fixture->text, line);
        bool is_map = line[strlen(line) - 1] == ':';
        bool is_same = found && found[strlen(line)] == '\n' && (found == fixture->text || found[-1] == '\n');
        if (is_same && !is_map && !strstr(line, "recursions: 3") && !strstr(line, "family:"))
            same++;
    }
    free(defaults);
    assert_int_equal(same, 0);

    struct text_list *list = &fixture->config.data.train;
    list->count = TEXT_LIST_ITEMS;
    for (int i = 0; i < TEXT_LIST_ITEMS; i++)
        memset(list->item[i], i % 2 ? '\x01' : 'a', TEXT_LENGTH - 1);
    check_round_trip(fixture);
}

static void test_format_cuts_like_snprintf(void **state)
{
    struct fixture *fixture = *state;
    assert_ok(&fixture->context, parse(fixture, MODEL, NULL));
    size_t length = config_format(&fixture->config, NULL, 0);
    char *exact = malloc(length + 1);
    assert_int_equal(config_format(&fixture->config, exact, length + 1), length);
    assert_int_equal(strlen(exact), length);
    assert_int_equal(config_format(&fixture->config, exact, 100), length);
    assert_int_equal(strlen(exact), 99);
    free(exact);
}

static void test_model_only(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    struct model_config model;
    static const char text[] = MODEL "  positions: learned\n  max_positions: 48\n";
    assert_ok(context, config_parse_model(context, "case.h5", text, sizeof text - 1, &model));
    assert_int_equal(model.max_positions, 48);
    assert_int_equal(model.head_width, 16);
    static const char more[] = MODEL "run:\n  folder: x\n";
    assert_fails(context, config_parse_model(context, "case.h5", more, sizeof more - 1, &model), STATUS_USAGE,
                 "case.h5:8: run.folder: expected keys of model: only");
}

static void test_same_model(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    struct model_config given;
    struct model_config derived;
    static const char text[] = MODEL "  kv_heads: 4\n  head_width: 16\n  norm: rms\n";
    assert_ok(context, config_parse_model(context, "a", MODEL, sizeof MODEL - 1, &derived));
    assert_ok(context, config_parse_model(context, "b", text, sizeof text - 1, &given));
    assert_ok(context, config_same_model(context, &given, &derived, "a.yaml", "b.h5"));
    given.depth.alpha = 0.5;
    assert_fails(context, config_same_model(context, &given, &derived, "a.yaml", "b.h5"), STATUS_USAGE,
                 "model.depth.alpha: 0.5 in a.yaml, but 0.1 in b.h5");
    given.norm = NORM_LAYER;
    assert_fails(context, config_same_model(context, &given, &derived, "a.yaml", "b.h5"), STATUS_USAGE,
                 "model.norm: layer in a.yaml, but rms in b.h5");
}

static void test_describe(void **state)
{
    struct fixture *fixture = *state;
    FILE *out = fmemopen(fixture->text, sizeof fixture->text, "w");
    assert_ok(&fixture->context, config_describe(&fixture->context, out, ""));
    fclose(out);
    assert_non_null(strstr(fixture->text, "\n  width                        an integer of at least 1; required\n"));
    assert_non_null(strstr(fixture->text, "\n  mean_hours_between_failures  a number above 0; default 24.0\n"));
    assert_non_null(
        strstr(fixture->text, "\n  family                       one of decoder, vit, resnet; default decoder\n"));
    assert_non_null(
        strstr(fixture->text, "default\n                               middle_cycle; family decoder or vit\n"));
    assert_non_null(strstr(fixture->text, "\nmodel.attention\n"));
    assert_non_null(
        strstr(fixture->text, "\n  vocabulary                   an integer of at least 1; required; family decoder\n"));
    assert_non_null(strstr(fixture->text, "default 1.0e-5 (vit: 1.0e-6);"));
    for (char *line = strtok(fixture->text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 100 && line[strlen(line) - 1] != ' ');
}

static void refuse(struct fixture *fixture, const char *text, const char *override, const char *message)
{
    assert_int_equal(parse(fixture, text, override), STATUS_USAGE);
    assert_non_null(strstr(fixture->context.text, message));
    context_clear(&fixture->context);
}

/* A family has its own defaults and required keys, derives what images fix, and refuses what has no meaning for it. */
static void test_families(void **state)
{
    struct fixture *fixture = *state;
    static const char vit[] =
        "model: {family: vit, width: 32, layers: 4, heads: 4, hidden: 40, image: {size: 16, patch: 4, classes: 7}}\n";
    assert_ok(&fixture->context, parse(fixture, vit, NULL));
    const struct model_config *model = &fixture->config.model;
    assert_int_equal(model->vocabulary, 7);
    assert_int_equal(model->max_positions, 17);
    assert_int_equal(fixture->config.training.sequence_length, 17);
    assert_int_equal(model->attention.kind, ATTENTION_FULL);
    assert_int_equal(model->norm, NORM_LAYER);
    assert_int_equal(model->mlp, MLP_GELU_ERF);
    assert_true(model->bias && model->norm_epsilon == 1e-6 && model->positions == POSITIONS_LEARNED);
    config_format(&fixture->config, fixture->text, sizeof fixture->text);
    assert_null(strstr(fixture->text, "vocabulary:"));
    assert_null(strstr(fixture->text, "sequence_length:"));
    static struct config again;
    assert_ok(&fixture->context,
              config_parse(&fixture->context, "b", fixture->text, strlen(fixture->text), NULL, 0, &again));
    assert_memory_equal(&again, &fixture->config, sizeof again);
    assert_ok(&fixture->context, parse(fixture, vit, "model.pooling=mean"));
    assert_int_equal(fixture->config.training.sequence_length, 16);
    refuse(fixture, vit, "model.vocabulary=7", "has no meaning with model.family vit");
    refuse(fixture, vit, "model.attention.kind=causal", "expected full with model.family vit");
    refuse(fixture, vit, "model.image.patch=5", "to divide model.image.size, got 5 and 16");
    refuse(fixture, vit, "model.max_positions=16", "expected the 17 tokens of an image, got 16");
    refuse(fixture, vit, "model.depth_preset=18", "has no meaning with model.family vit");
    refuse(fixture, MODEL, "model.attention.kind=full", "expected causal or infini with model.family decoder");
    refuse(fixture, MODEL, "model.image.size=32", "has no meaning with model.family decoder");
    refuse(fixture, "model: {family: resnet, width: 8, image: {size: 16, classes: 3}}\n", "model.heads=2",
           "has no meaning with model.family resnet");
    refuse(fixture, "model: {family: resnet, width: 8, image: {size: 16}}\n", NULL, "model.image.classes: missing");
    refuse(fixture, "model: {family: resnet, width: 8, image: {size: 16, classes: 3}}\noptimizer: {kind: muon}\n", NULL,
           "expected adamw or sgd with model.family resnet");
    refuse(fixture, "model: {family: resnet, width: 8, image: {size: 16, classes: 3}}\noptimizer: {kind: soap}\n", NULL,
           "expected adamw or sgd with model.family resnet");
}

struct visited {
    int count;
    int of_images;
    char value[TEXT_LENGTH];
};

static void note(void *self, const char *key, const char *value)
{
    struct visited *visited = self;
    visited->count++;
    visited->of_images += strcmp(key, "model.image.size") == 0;
    if (strcmp(key, "data.train") == 0)
        snprintf(visited->value, sizeof visited->value, "%s", value);
}

/* Every setting of the family once, lists with all their items: what ranks compare. */
static void test_visit(void **state)
{
    struct fixture *fixture = *state;
    struct visited visited = {0};
    int lines = 1; /* data.train, whose items stand below */
    assert_ok(&fixture->context, parse(fixture, MODEL "data: {train: [a, b, c]}\n", NULL));
    config_visit(&fixture->config, note, &visited);
    assert_string_equal(visited.value, "\"a\", \"b\", \"c\"");
    assert_int_equal(visited.of_images, 0);
    config_format(&fixture->config, fixture->text, sizeof fixture->text);
    assert_non_null(strstr(fixture->text, "  train:\n"));
    for (const char *value = strstr(fixture->text, ": "); value; value = strstr(value + 2, ": "))
        lines++;
    assert_int_equal(visited.count, lines);
    assert_ok(&fixture->context,
              parse(fixture, "model: {family: resnet, width: 8, image: {size: 16, classes: 3}}\n", NULL));
    config_visit(&fixture->config, note, &visited);
    assert_int_equal(visited.of_images, 1);
}

static void describe(struct fixture *fixture, const char *words, const char *expected)
{
    memset(fixture->text, 0, sizeof fixture->text);
    FILE *out = fmemopen(fixture->text, sizeof fixture->text, "w");
    assert_ok(&fixture->context, config_describe(&fixture->context, out, words));
    fclose(out);
    assert_string_equal(fixture->text, expected);
}

static void test_describe_one(void **state)
{
    struct fixture *fixture = *state;
    static const char jobs[] = "compute\n"
                               "  bucket_bytes                 an integer of at least 1024; default 26214400\n"
                               "                               Bytes of fp32 gradients that are reduced together.\n";
    static const char seeds[] =
        "data\n"
        "  seed                         an integer from 0 to 18446744073709551615; default 1\n"
        "                               Seed of the order of the sequences or images, and of what is done to\n"
        "                               images at random.\n"
        "\n"
        "training\n"
        "  seed                         an integer from 0 to 18446744073709551615; default 1\n"
        "                               Seed of the initial weights.\n";
    describe(fixture, "compute.bucket_bytes", jobs);
    describe(fixture, "bucket_bytes", jobs);
    describe(fixture, "seed", seeds);
    describe(fixture, "evaluation",
             "evaluation\n"
             "  every                        an integer of at least 0; default 0\n"
             "                               Steps between evaluations; 0 is only at the end.\n"
             "  batches                      an integer of at least 0; default 0\n"
             "                               Batches of an evaluation during training; 0 is the whole validation\n"
             "                               set.\n"
             "  final_batches                an integer of at least 0; default 0\n"
             "                               Batches of the evaluation at the end; 0 is the whole validation set.\n");
    assert_fails(&fixture->context, config_describe(&fixture->context, NULL, "optimizer.learning_rat"), STATUS_USAGE,
                 "optimizer.learning_rat: unknown key; did you mean optimizer.learning_rate?");
    assert_fails(&fixture->context, config_describe(&fixture->context, NULL, "optim"), STATUS_USAGE, "optim");
}

/* Shells put HOME for a ~ only where a word begins. */
static void test_home(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    char *kept = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    setenv("HOME", "/home/ada", 1);
    assert_ok(&fixture->context,
              parse(fixture,
                    MODEL "data: {train: [~/a, b~, \"~\", ./~/c], validation: ~/d}\nrun: {folder: ~/r, prompt: ~/p}\n",
                    NULL));
    assert_string_equal(config->data.train.item[0], "/home/ada/a");
    assert_string_equal(config->data.train.item[1], "b~");
    assert_string_equal(config->data.train.item[2], "/home/ada");
    assert_string_equal(config->data.train.item[3], "./~/c");
    assert_string_equal(config->data.validation.item[0], "/home/ada/d");
    assert_string_equal(config->run.folder, "/home/ada/r");
    assert_string_equal(config->run.prompt, "~/p");
    assert_ok(&fixture->context, parse(fixture, MODEL, "data.train=x,~/y"));
    assert_string_equal(config->data.train.item[1], "/home/ada/y");
    expect_wrong_value(fixture, "run: {folder: ~bob/r}\n",
                       "a.yaml:7: run.folder: only ~ and ~/... stand for a home directory, that of HOME, within 511 "
                       "bytes; write the path out (or ./~... for a name), got \"~bob/r\"");
    expect_wrong_value(fixture, "data: {train: [~bob/r]}\n",
                       "a.yaml:7: data.train: only ~ and ~/... stand for a home directory, that of HOME, within 511 "
                       "bytes; write the path out (or ./~... for a name), got \"~bob/r\"");
    unsetenv("HOME");
    assert_fails(&fixture->context, parse(fixture, MODEL, "run.folder=~/r"), STATUS_USAGE,
                 "--set run.folder=~/r: only ~ and ~/... stand for a home directory, that of HOME");
    if (kept)
        setenv("HOME", kept, 1);
    free(kept);
}

static void write_file(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
}

static void test_files(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    char path[] = "test_config_XXXXXX";
    char inside[64];
    assert_non_null(mkdtemp(path));
    snprintf(inside, sizeof inside, "%s/a.yaml", path);
    assert_fails(context, config_load(context, inside, NULL, 0, &fixture->config), STATUS_USAGE,
                 "a.yaml: cannot be opened: No such file or directory");
    assert_fails(context, config_load(context, path, NULL, 0, &fixture->config), STATUS_USAGE,
                 "cannot be read: Is a directory");
    write_file(inside, MODEL, sizeof MODEL - 1);
    assert_ok(context, config_load(context, inside, NULL, 0, &fixture->config));
    assert_int_equal(fixture->config.model.width, 64);
    static const char *const override = "model.hidden=x";
    assert_fails(context, config_load(context, inside, &override, 1, &fixture->config), STATUS_USAGE,
                 "--set model.hidden=x: expected");
    if (geteuid() != 0) {
        chmod(inside, 0);
        assert_fails(context, config_load(context, inside, NULL, 0, &fixture->config), STATUS_USAGE,
                     "cannot be opened: Permission denied");
    }
    assert_fails(context, config_load(context, "/dev/zero", NULL, 0, &fixture->config), STATUS_USAGE,
                 "/dev/zero: larger than 1048576 bytes");
    char *whole = calloc(1, LARGE_TEXT + 1); /* as long as a file may be, and a byte longer */
    memset(whole, '\n', LARGE_TEXT + 1);
    memcpy(whole, MODEL, sizeof MODEL - 1);
    write_file(inside, whole, LARGE_TEXT);
    assert_ok(context, config_load(context, inside, NULL, 0, &fixture->config));
    write_file(inside, whole, LARGE_TEXT + 1);
    assert_fails(context, config_load(context, inside, NULL, 0, &fixture->config), STATUS_USAGE, "larger than 1048576");
    free(whole);
    unlink(inside);
    rmdir(path);
}

static void test_attacks(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    static const char *const units[] = {"[",    "{",   "- ",  "? ", "{a: ", "\"", "a",     "\n",
                                        "- \n", "*a ", "&a ", "! ", "%",    "\r", "a: a\n"};
    char *text = malloc(LARGE_TEXT + 16);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        static const char *const starts[] = {"", "model: ", "data: {train: "};
        for (size_t j = 0; j < 3; j++) {
            size_t unit = strlen(units[i]);
            size_t length = strlen(starts[j]);
            memcpy(text, starts[j], length);
            for (; length + unit <= LARGE_TEXT; length += unit)
                memcpy(text + length, units[i], unit);
            assert_int_equal(config_parse(context, "a", text, length, NULL, 0, &fixture->config), STATUS_USAGE);
            context_clear(context);
        }
    }
    memset(text, ' ', LARGE_TEXT + 1);
    assert_fails(context, config_parse(context, "a", text, LARGE_TEXT + 1, NULL, 0, &fixture->config), STATUS_USAGE,
                 "a: larger than 1048576 bytes");
    size_t length = (size_t)sprintf(text, "data: {train: [");
    for (int i = 0; i <= TEXT_LIST_ITEMS; i++)
        length += (size_t)sprintf(text + length, "f%d, ", i);
    assert_fails(context, config_parse(context, "a", text, length, NULL, 0, &fixture->config), STATUS_USAGE,
                 "a:1: data.train: expected at most 64 texts");
    free(text);
}

/* Random damage to a valid text: any answer is right, as long as it is one. */
static void test_mutations(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    static const char spice[] = "&*!:{}[]-?|>'\"%#\n\t ,\\~0";
    uint64_t key = random_key(1, "config mutations");
    uint64_t draw = 0;
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        size_t length = sizeof all_changed - 1;
        memcpy(fixture->text, all_changed, length);
        int count = 1 + (int)(random_bits(key, draw++) % 4);
        for (int j = 0; j < count; j++) {
            char *at = fixture->text + random_bits(key, draw++) % length;
            size_t rest = length - (size_t)(at - fixture->text);
            uint64_t bits = random_bits(key, draw++);
            char byte = bits & 8 ? (char)(bits >> 8) : spice[(bits >> 8) % (sizeof spice - 1)];
            if (bits % 3 == 0) {
                *at = byte;
            } else if (bits % 3 == 1) {
                memmove(at + 1, at, rest);
                *at = byte;
                length++;
            } else {
                memmove(at, at + 1, rest - 1);
                length--;
            }
        }
        enum status status = config_parse(context, "a", fixture->text, length, NULL, 0, &fixture->config);
        assert_true(status == STATUS_OK || (status == STATUS_USAGE && context->text[0]));
        accepted += status == STATUS_OK;
        context_clear(context);
    }
    assert_in_range(accepted, 100, 19900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_single, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_differences, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overridden_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(test_products, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_type, setup, teardown),
        cmocka_unit_test_setup_teardown(test_auto_is_none_of_the_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_yaml, setup, teardown),
        cmocka_unit_test_setup_teardown(test_required, setup, teardown),
        cmocka_unit_test_setup_teardown(test_combinations_of_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_combinations_of_a_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recursive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_format_cuts_like_snprintf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_describe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_families, setup, teardown),
        cmocka_unit_test_setup_teardown(test_visit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_describe_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_home, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
