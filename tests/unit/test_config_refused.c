/* Settings that are refused, with the line, the key and what would fit; files of settings, and where names lead. */
#include "tests/unit/config_support.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_single, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_yaml, setup, teardown),
        cmocka_unit_test_setup_teardown(test_required, setup, teardown),
        cmocka_unit_test_setup_teardown(test_combinations_of_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_combinations_of_a_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_families, setup, teardown),
        cmocka_unit_test_setup_teardown(test_home, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attacks, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
