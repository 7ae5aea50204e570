/* Settings: defaults, types, overrides, and how they are written again. */
#include "tests/unit/config_support.h"

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
        cmocka_unit_test_setup_teardown(test_long_differences, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overridden_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(test_products, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_type, setup, teardown),
        cmocka_unit_test_setup_teardown(test_auto_is_none_of_the_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recursive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_format_cuts_like_snprintf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_describe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_visit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_describe_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
