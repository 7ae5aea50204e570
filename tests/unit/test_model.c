#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/decoder.h"

/* SmolLM-360M, the base of the paper on Mixture-of-Recursions; its table of embeddings is its head. */
static struct model_config base_360m(int64_t layers)
{
    return (struct model_config){.vocabulary = 49152,
                                 .width = 960,
                                 .layers = layers,
                                 .heads = 15,
                                 .kv_heads = 5,
                                 .head_width = 64,
                                 .hidden = 2560,
                                 .tied_embeddings = true};
}

static struct model_config recursive_360m(int64_t layers, int64_t recursions, enum routing_kind routing)
{
    struct model_config config = base_360m(layers);
    config.depth.kind = DEPTH_MOR;
    config.depth.sharing = SHARING_MIDDLE_CYCLE;
    config.depth.recursions = recursions;
    config.depth.routing = routing;
    return config;
}

static struct model_config small(void)
{
    return (struct model_config){.vocabulary = 64,
                                 .width = 12,
                                 .layers = 4,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_width = 6,
                                 .hidden = 20,
                                 .residual = {.scope = RESIDUAL_SUBLAYER},
                                 .attention = {.segment = 4},
                                 .depth = {.every = 2, .capacity = 0.25, .recursions = 2, .sharing = SHARING_CYCLE}};
}

static void describe(struct context *context, const struct model_config *config, struct parameter_list *list)
{
    context_create(context);
    parameter_list_create(context, list);
    assert_ok(context, decoder_describe(context, config, list));
}

static void forget(struct context *context, struct parameter_list *list)
{
    parameter_list_destroy(list);
    assert_int_equal(context->memory.bytes_total, 0);
}

static struct parameter_totals totals_of(const struct model_config *config)
{
    struct context context;
    struct parameter_list list;
    describe(&context, config, &list);
    struct parameter_totals totals = parameter_totals(&list);
    forget(&context, &list);
    return totals;
}

static int64_t sum_groups(const int64_t *groups)
{
    int64_t sum = 0;
    for (int i = 0; i < PARAMETER_GROUPS; i++)
        sum += groups[i];
    return sum;
}

/* -- Numbers of parameters -- */

/* As timm counts vit_tiny, vit_small and vit_base of patches of 16 x 16, and what a step of the smallest computes: its
 * products written out. */
static void vision_transformers_have_the_usual_size(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{192, 3, 5717416}, {384, 6, 22050664}, {768, 12, 86567656}};
    struct model_config config = {.family = FAMILY_VIT,
                                  .vocabulary = 1000,
                                  .image = {.size = 224, .channels = 3, .patch = 16, .classes = 1000},
                                  .layers = 12,
                                  .head_width = 64,
                                  .mlp = MLP_GELU_ERF,
                                  .norm = NORM_LAYER,
                                  .positions = POSITIONS_LEARNED,
                                  .max_positions = 197,
                                  .bias = true,
                                  .attention = {.kind = ATTENTION_FULL}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        config.width = sizes[i][0];
        config.heads = config.kv_heads = sizes[i][1];
        config.hidden = 4 * config.width;
        struct parameter_totals totals = totals_of(&config);
        assert_int_equal(sum_groups(totals.stored), sizes[i][2]);
    }
    config.width = 192;
    config.heads = config.kv_heads = 3;
    config.hidden = 768;
    double layer = 197.0 * (4.0 * 192.0 * 192.0 + 2.0 * 192.0 * 768.0) + 2.0 * 197.0 * 197.0 * 192.0;
    double patches = 196.0 * 768.0 * 192.0 * 2.0 / 3.0; /* no gradient of the pixels */
    double image = 6.0 * (12.0 * layer + patches + 192.0 * 1000.0);
    assert_close(197.0 * decoder_flops_per_token(&config, 197, 0.0, NULL), image, 1e-12, 0.0);
}

static void recursive_models_have_the_size_of_the_paper(void **state)
{
    (void)state;
    static const struct {
        int64_t layers, recursions;
        double stored, unrolled;
    } cases[] = {{32, 0, 315e6, 315e6}, {32, 2, 167e6, 315e6}, {32, 3, 118e6, 315e6}, {34, 4, 98e6, 334.2e6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config config = cases[i].recursions
                                         ? recursive_360m(cases[i].layers, cases[i].recursions, ROUTING_EXPERT)
                                         : base_360m(cases[i].layers);
        struct parameter_totals totals = totals_of(&config);
        assert_int_equal(totals.stored[GROUP_EMBEDDINGS], 49152 * 960);
        assert_int_equal(totals.stored[GROUP_HEAD], 0);
        assert_close((double)(sum_groups(totals.stored) - 49152 * 960), cases[i].stored, 5e-3, 0.0);
        assert_close((double)(sum_groups(totals.unrolled) - 49152 * 960), cases[i].unrolled, 5e-3, 0.0);
        assert_int_equal(totals.stored[GROUP_ROUTERS], cases[i].recursions * 960);
    }
}

/* N layers of width 1000 with r = 4, one connection a layer, as the paper on LAuReL counts them. */
static void learned_residuals_add_what_the_paper_says(void **state)
{
    (void)state;
    enum { N = 20, D = 1000, R = 4 };
    static const struct {
        bool weights;
        int64_t rank, previous, added;
    } cases[] = {
        {true, 0, 0, 2 * N},
        {false, R, 0, 2 * R * D * N},
        {true, R, 0, 2 * N * (4 * D + 1)},
        {false, 0, 3, 3 * N},
        {true, R, 3, N * (3 * 2 * R * D + 3 + 2)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int scope = RESIDUAL_SUBLAYER; scope <= RESIDUAL_LAYER; scope++) {
            struct model_config config = {.vocabulary = 64,
                                          .width = D,
                                          .layers = N,
                                          .heads = 10,
                                          .kv_heads = 10,
                                          .head_width = 100,
                                          .hidden = 64};
            struct parameter_totals without = totals_of(&config);
            config.residual.kind = RESIDUAL_LAUREL;
            config.residual.scope = (enum residual_scope)scope;
            config.residual.weights = cases[i].weights;
            config.residual.rank = cases[i].rank;
            config.residual.previous = cases[i].previous;
            struct parameter_totals with = totals_of(&config);
            int64_t connections = scope == RESIDUAL_SUBLAYER ? 2 : 1;
            assert_int_equal(with.stored[GROUP_RESIDUAL], connections * cases[i].added);
            assert_int_equal(sum_groups(with.stored) - sum_groups(without.stored), connections * cases[i].added);
        }
}

static void every_group_counts_its_own(void **state)
{
    (void)state;
    struct model_config config = small();
    config.bias = true;
    config.norm = NORM_LAYER;
    config.positions = POSITIONS_LEARNED;
    config.max_positions = 10;
    config.attention.kind = ATTENTION_INFINI;
    config.depth.kind = DEPTH_MOD;
    config.depth.causal_router = CAUSAL_ROUTER_PREDICTOR;
    struct parameter_totals totals = totals_of(&config);
    const int64_t expected[PARAMETER_GROUPS] = {
        [GROUP_EMBEDDINGS] = (64 + 10) * 12,
        [GROUP_ATTENTION] = 4 * (2 * 24 * 12 + 2 * 12 * 12 + 24 + 12 + 12 + 12),
        [GROUP_MLP] = 4 * (3 * 20 * 12 + 20 + 20 + 12),
        [GROUP_NORMS] = (4 * 2 + 1) * 2 * 12,
        [GROUP_MEMORY_GATES] = 4 * 4,
        [GROUP_ROUTERS] = 2 * 12,
        [GROUP_PREDICTORS] = 2 * (6 * 12 + 6),
        [GROUP_HEAD] = 64 * 12,
    };
    for (int group = 0; group < PARAMETER_GROUPS; group++) {
        assert_int_equal(totals.stored[group], expected[group]);
        assert_int_equal(totals.unrolled[group], expected[group]);
    }
}

/* -- Names, initial values, decay -- */

struct expected_spec {
    const char *name;
    int rank;
    int64_t shape[3];
    enum parameter_initial initial;
    double deviation; /* where it has one */
    bool decay, keeps_float, is_gate;
};

static void check_specs(const struct model_config *config, const struct expected_spec *expected, size_t count)
{
    struct context context;
    struct parameter_list list;
    describe(&context, config, &list);
    for (size_t i = 0; i < count; i++) {
        const struct parameter *parameter = parameter_find(&list, expected[i].name);
        const struct parameter_spec *spec = parameter ? &parameter->spec : NULL;
        if (!spec)
            fail_msg("no %s", expected[i].name);
        assert_int_equal(spec->rank, expected[i].rank);
        for (int axis = 0; axis < spec->rank; axis++)
            assert_int_equal(spec->shape[axis], expected[i].shape[axis]);
        assert_int_equal(spec->initial, expected[i].initial);
        if (expected[i].deviation != 0.0)
            assert_close(spec->deviation, expected[i].deviation, 1e-12, 0.0);
        if (spec->decay != expected[i].decay || spec->keeps_float != expected[i].keeps_float ||
            spec->is_gate != expected[i].is_gate)
            fail_msg("%s: decay %d, keeps_float %d, is_gate %d", spec->name, spec->decay, spec->keeps_float,
                     spec->is_gate);
    }
    forget(&context, &list);
}

#define CHECK_SPECS(config, expected) check_specs(config, expected, sizeof(expected) / sizeof *(expected))

static void plain_parameters(void **state)
{
    (void)state;
    static const struct expected_spec expected[] = {
        {"model.embed_tokens.weight", 2, {64, 12}, INITIAL_NORMAL, 0.02, true, false, false},
        {"model.layers.3.self_attn.q_proj.weight", 2, {24, 12}, INITIAL_NORMAL, 0.02, true, false, false},
        {"model.layers.3.self_attn.q_proj.bias", 1, {24}, INITIAL_ZERO, 0.0, false, false, false},
        {"model.layers.3.self_attn.o_proj.weight",
         2,
         {12, 24},
         INITIAL_NORMAL,
         0.02 / 2.8284271247461903,
         true,
         false,
         false},
        {"model.layers.0.mlp.down_proj.weight",
         2,
         {12, 20},
         INITIAL_NORMAL,
         0.02 / 2.8284271247461903,
         true,
         false,
         false},
        {"model.norm.weight", 1, {12}, INITIAL_ONE, 0.0, false, false, false},
        {"lm_head.weight", 2, {64, 12}, INITIAL_NORMAL, 0.02, true, false, false},
    };
    struct model_config config = small();
    config.bias = true;
    CHECK_SPECS(&config, expected);
}

static void memories_and_routed_layers(void **state)
{
    (void)state;
    static const struct expected_spec expected[] = {
        {"model.layers.0.self_attn.memory_gate", 1, {4}, INITIAL_ZERO, 0.0, false, true, true},
        {"model.layers.1.router.weight", 1, {12}, INITIAL_NORMAL, 0.02, false, true, false},
        {"model.layers.3.router.weight", 1, {12}, INITIAL_NORMAL, 0.02, false, true, false},
        {"model.layers.3.predictor.fc1.weight", 2, {6, 12}, INITIAL_NORMAL, 0.02, false, false, false},
        {"model.layers.3.predictor.fc2.weight", 2, {1, 6}, INITIAL_NORMAL, 0.02, false, false, false},
    };
    struct model_config config = small();
    config.attention.kind = ATTENTION_INFINI;
    config.depth.kind = DEPTH_MOD;
    config.depth.causal_router = CAUSAL_ROUTER_PREDICTOR;
    CHECK_SPECS(&config, expected);
    config.depth.causal_router = CAUSAL_ROUTER_LOSS;
    struct parameter_totals totals = totals_of(&config);
    assert_int_equal(totals.stored[GROUP_PREDICTORS], 0);
    assert_int_equal(totals.stored[GROUP_ROUTERS], 24);
}

static void gated_memories(void **state)
{
    (void)state;
    static const struct expected_spec expected[] = {
        {"model.layers.0.self_attn.memory_gate", 1, {4}, INITIAL_ZERO, 0.0, false, true, true},
        {"model.layers.0.self_attn.memory_write.weight", 2, {2, 12}, INITIAL_ZERO, 0.0, true, false, false},
        {"model.layers.0.self_attn.memory_write.bias", 1, {2}, INITIAL_CONSTANT, -2.0, false, false, false},
        {"model.layers.1.self_attn.memory_conv_q.weight", 2, {24, 4}, INITIAL_FIRST, 0.0, false, true, false},
        {"model.layers.1.self_attn.memory_conv_k.weight", 2, {12, 4}, INITIAL_FIRST, 0.0, false, true, false},
        {"model.layers.3.self_attn.memory_conv_v.weight", 2, {12, 4}, INITIAL_FIRST, 0.0, false, true, false},
        {"model.layers.3.self_attn.memory_norm.weight", 2, {4, 6}, INITIAL_ONE, 0.0, false, true, false},
    };
    struct model_config config = small();
    config.attention.kind = ATTENTION_INFINI;
    config.attention.memory_update = MEMORY_UPDATE_GATED_DELTA;
    config.attention.readout_norm = true;
    CHECK_SPECS(&config, expected);
}

static void recursions(void **state)
{
    (void)state;
    static const struct expected_spec expert[] = {
        {"model.recursions.0.router.weight", 1, {12}, INITIAL_NORMAL, 0.02, false, true, false},
        {"model.recursions.1.router.weight", 1, {12}, INITIAL_NORMAL, 0.02, false, true, false},
        {"model.layers.1.mlp.down_proj.weight",
         2,
         {12, 20},
         INITIAL_NORMAL,
         0.02 / 2.8284271247461903,
         true,
         false,
         false},
    };
    static const struct expected_spec token[] = {
        {"model.router.weight", 2, {2, 12}, INITIAL_NORMAL, 0.02, true, true, false},
    };
    struct model_config config = small();
    config.depth.kind = DEPTH_MOR;
    CHECK_SPECS(&config, expert);
    config.depth.routing = ROUTING_TOKEN;
    CHECK_SPECS(&config, token);
    config.depth.routing = ROUTING_NONE;
    struct parameter_totals totals = totals_of(&config);
    assert_int_equal(totals.stored[GROUP_ROUTERS], 0);
    assert_int_equal(2 * totals.stored[GROUP_MLP], totals.unrolled[GROUP_MLP]);
}

/* Products of a layer's seven low-rank maps of rank 3, which are their elements, and of those of keys and values. */
enum { LOW_RANK = 3 * (2 * (12 + 24) + 2 * (12 + 12) + 3 * (12 + 20)), KV_LOW_RANK = 3 * 2 * (12 + 12) };

static struct model_config with_low_rank(void)
{
    struct model_config config = small();
    config.depth.kind = DEPTH_MOR;
    config.depth.lora_rank = 3;
    return config;
}

static void recursions_add_to_the_layers_that_they_share(void **state)
{
    (void)state;
    static const struct expected_spec expected[] = {
        {"model.recursions.0.layers.0.self_attn.q_proj.lora_down.weight",
         2,
         {3, 12},
         INITIAL_NORMAL,
         0.02,
         true,
         false,
         false},
        {"model.recursions.1.layers.1.self_attn.q_proj.lora_up.weight", 2, {24, 3}, INITIAL_ZERO, 0.0, true},
        {"model.recursions.1.layers.1.self_attn.v_proj.lora_up.weight", 2, {12, 3}, INITIAL_ZERO, 0.0, true},
        {"model.recursions.1.layers.0.self_attn.o_proj.lora_down.weight", 2, {3, 24}, INITIAL_NORMAL, 0.02, true},
        {"model.recursions.1.layers.1.mlp.gate_proj.lora_up.weight", 2, {20, 3}, INITIAL_ZERO, 0.0, true},
        {"model.recursions.0.layers.1.mlp.down_proj.lora_down.weight", 2, {3, 20}, INITIAL_NORMAL, 0.02, true},
    };
    struct model_config config = with_low_rank();
    CHECK_SPECS(&config, expected);
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 4 * LOW_RANK);
    config.depth.cache = CACHE_SHARED;
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 4 * LOW_RANK - 2 * KV_LOW_RANK);
    config.depth.routing = ROUTING_NONE; /* then nothing is borrowed */
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 4 * LOW_RANK);
    config.depth.sharing = SHARING_MIDDLE_SEQUENCE;
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 2 * LOW_RANK);
}

static void lora_stands_beside_what_is_named(void **state)
{
    (void)state;
    static const struct expected_spec expected[] = {
        {"model.layers.0.self_attn.q_proj.lora_down.weight", 2, {3, 12}, INITIAL_NORMAL, 0.02, true},
        {"model.layers.3.self_attn.q_proj.lora_up.weight", 2, {24, 3}, INITIAL_ZERO, 0.0, true},
        {"model.layers.1.mlp.down_proj.lora_down.weight", 2, {3, 20}, INITIAL_NORMAL, 0.02, true},
        {"model.layers.1.mlp.down_proj.lora_up.weight", 2, {12, 3}, INITIAL_ZERO, 0.0, true},
    };
    struct model_config config = small();
    config.lora.rank = 3;
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 4 * LOW_RANK);
    config.lora.targets = (struct text_list){.count = 2, .item = {"down_proj", "q_proj"}};
    CHECK_SPECS(&config, expected);
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 4 * 3 * (12 + 24 + 20 + 12));
    config.depth.kind = DEPTH_MOR; /* two layers, each used twice */
    assert_int_equal(totals_of(&config).stored[GROUP_LORA], 2 * 3 * (12 + 24 + 20 + 12));
    assert_int_equal(totals_of(&config).unrolled[GROUP_LORA], 4 * 3 * (12 + 24 + 20 + 12));
}

static void learned_residuals_start_as_the_plain_sum(void **state)
{
    (void)state;
    static const struct expected_spec one[] = {
        {"model.layers.1.attn_residual.weights", 1, {2}, INITIAL_ZERO, 0.0, false, true, false},
        {"model.layers.1.mlp_residual.down.weight", 2, {3, 12}, INITIAL_ORTHOGONAL, 1.0 / 6.0, true, false, false},
        {"model.layers.1.mlp_residual.up.weight", 2, {12, 3}, INITIAL_ZERO, 0.0, true, false, false},
    };
    static const struct expected_spec several[] = {
        {"model.layers.3.residual.down.weight", 3, {2, 3, 12}, INITIAL_ORTHOGONAL, 1.0 / 6.0, true, false, false},
        {"model.layers.3.residual.up.weight", 3, {2, 12, 3}, INITIAL_ZERO, 0.0, true, false, false},
        {"model.layers.3.residual.gamma", 1, {2}, INITIAL_ONE, 0.0, false, true, false},
    };
    static const struct expected_spec sums[] = {
        {"model.layers.3.residual.gamma", 1, {2}, INITIAL_ZERO, 0.0, false, true, false},
    };
    struct model_config config = small();
    config.residual.kind = RESIDUAL_LAUREL;
    config.residual.weights = true;
    config.residual.rank = 3;
    CHECK_SPECS(&config, one);
    config.residual.scope = RESIDUAL_LAYER;
    config.residual.previous = 2;
    config.parallel_block = true;
    CHECK_SPECS(&config, several);
    config.residual.rank = 0;
    CHECK_SPECS(&config, sums);
}

/* -- FLOPs -- */

/* Products of a layer of small() for each of these tokens: its maps, and those with a key and a value for each pair. */
enum { MAPS = 2 * 24 * 12 + 2 * 12 * 12 + 3 * 20 * 12, KV_MAPS = 2 * 12 * 12, PAIR = 2 * 24, HEAD = 64 * 12 };

static double products(const struct model_config *config, int64_t length)
{
    return decoder_flops_per_token(config, length, 0.0, NULL) * (double)length / 6.0;
}

static void dense_layers_cost_their_weights_and_half_the_pairs(void **state)
{
    (void)state;
    struct model_config config = small();
    assert_close(products(&config, 7), 4.0 * (7 * MAPS + 28 * PAIR) + 7 * HEAD, 1e-12, 0.0);
    assert_close(decoder_head_cost(&config, 7), 7.0 * HEAD / (7 * MAPS + 28 * PAIR), 1e-12, 0.0);
}

static void routed_layers_cost_what_their_tokens_take(void **state)
{
    (void)state;
    struct model_config config = small();
    config.depth.kind = DEPTH_MOD;
    double expected = 2.0 * (8 * MAPS + 36 * PAIR) + 2.0 * (2 * MAPS + 3 * PAIR) + 2.0 * 8 * 12 + 8 * HEAD;
    assert_close(products(&config, 8), expected, 1e-12, 0.0);
    config.depth.causal_router = CAUSAL_ROUTER_PREDICTOR;
    assert_close(products(&config, 8), expected + 2.0 * 8 * (6 * 12 * 2.0 / 3.0 + 6), 1e-12, 0.0);
}

/* Two recursions of two layers; the second takes 4 of 8 tokens. */
static void recursions_cost_what_their_tokens_take(void **state)
{
    (void)state;
    struct model_config config = small();
    config.depth.kind = DEPTH_MOR;
    double first = 2.0 * (8 * MAPS + 36 * PAIR) + 8 * HEAD;
    assert_close(products(&config, 8), first + 2.0 * (4 * MAPS + 10 * PAIR) + 2 * 8 * 12, 1e-12, 0.0);
    config.depth.cache = CACHE_SHARED;
    /* Its queries see 4.5 of the 8 keys, which are there already. */
    double second = 2.0 * (4 * (MAPS - KV_MAPS) + 18 * PAIR);
    assert_close(products(&config, 8), first + second + 2 * 8 * 12, 1e-12, 0.0);
    config.depth.routing = ROUTING_TOKEN;
    assert_close(products(&config, 8), first + second + 8 * 2 * 12, 1e-12, 0.0);
    config.depth.routing = ROUTING_NONE;
    assert_close(products(&config, 8), 4.0 * (8 * MAPS + 36 * PAIR) + 8 * HEAD, 1e-12, 0.0);
    config = with_low_rank();
    config.depth.cache = CACHE_SHARED;
    assert_close(products(&config, 8),
                 first + second + 2.0 * (8 * LOW_RANK + 4 * (LOW_RANK - KV_LOW_RANK)) + 2 * 8 * 12, 1e-12, 0.0);
}

static void lora_costs_its_maps(void **state)
{
    (void)state;
    struct model_config config = small();
    double plain = products(&config, 8);
    config.lora.rank = 3;
    assert_close(products(&config, 8), plain + 4.0 * 8 * LOW_RANK, 1e-12, 0.0);
    config.lora.targets = (struct text_list){.count = 1, .item = {"k_proj"}};
    assert_close(products(&config, 8), plain + 4.0 * 8 * 3 * (12 + 12), 1e-12, 0.0);
}

/* Segments of 4, 4 and 2 tokens: 10 + 10 + 3 pairs. */
static void memories_cost_reads_and_writes_and_pairs_in_segments(void **state)
{
    (void)state;
    struct model_config config = small();
    config.attention.kind = ATTENTION_INFINI;
    double linear = 4.0 * (10 * MAPS + 23 * PAIR + 10 * (4 + 2) * 36) + 10 * HEAD;
    assert_close(products(&config, 10), linear, 1e-12, 0.0);
    config.attention.memory_update = MEMORY_UPDATE_DELTA;
    assert_close(products(&config, 10), linear + 4.0 * 10 * 2 * 36, 1e-12, 0.0);
    config.attention.memory_update = MEMORY_UPDATE_GATED_DELTA;
    assert_close(products(&config, 10), linear + 4.0 * 10 * 2 * (36 + 12), 1e-12, 0.0);
    config.attention.memory_update = MEMORY_UPDATE_DELTA;
    /* One segment that is not full. */
    assert_close(products(&config, 3), 4.0 * (3 * MAPS + 6 * PAIR + 3 * (4 + 2 * 2) * 36) + 3 * HEAD, 1e-12, 0.0);
}

/* The first connections find fewer states than three. */
static void learned_residuals_cost_their_low_rank_maps(void **state)
{
    (void)state;
    struct model_config config = small();
    double plain = products(&config, 7);
    config.residual.kind = RESIDUAL_LAUREL;
    config.residual.weights = true;
    assert_close(products(&config, 7), plain, 1e-12, 0.0);
    config.residual.rank = 5;
    assert_close(products(&config, 7), plain + 7 * 8 * 2 * 5 * 12, 1e-12, 0.0);
    config.residual.previous = 3;
    assert_close(products(&config, 7), plain + 7 * (1 + 2 + 6 * 3) * 2 * 5 * 12, 1e-12, 0.0);
    config.residual.scope = RESIDUAL_LAYER;
    assert_close(products(&config, 7), plain + 7 * (1 + 2 + 3 + 3) * 2 * 5 * 12, 1e-12, 0.0);
}

/* Steps of the paper's runs with the same forward FLOPs as the dense model's 9438; the head does not count there. */
static void expert_choice_saves_what_the_paper_says(void **state)
{
    (void)state;
    static const struct {
        int64_t layers, recursions;
        double steps;
    } cases[] = {{32, 2, 12619.0}, {32, 3, 14161.0}, {34, 4, 14216.0}};
    struct model_config dense = base_360m(32);
    const double head = 6.0 * 960.0 * 49152.0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config config = recursive_360m(cases[i].layers, cases[i].recursions, ROUTING_EXPERT);
        double ratio = (decoder_flops_per_token(&dense, 2048, 0.0, NULL) - head) /
                       (decoder_flops_per_token(&config, 2048, 0.0, NULL) - head);
        assert_close(ratio, cases[i].steps / 9438.0, 5e-3, 0.0);
    }
}

/* What is frozen spares the products of its gradients, and of all gradients where nothing before it learns. */
static void frozen_parameters_spare_products(void **state)
{
    (void)state;
    struct context context;
    struct parameter_list list;
    struct model_config config = small();
    config.tied_embeddings = false;
    describe(&context, &config, &list);
    double head = (double)(config.width * config.vocabulary);
    double all = decoder_flops_per_token(&config, 16, 0.0, NULL);
    double layer = (all / 6.0 - head) / 4.0;
    assert_close(decoder_flops_per_token(&config, 16, 0.0, &list), all, 1e-12, 0.0);
    for (int i = 0; i < list.count; i++)
        list.item[i]->frozen = strncmp(list.item[i]->spec.name, "model.layers.2.", 15) < 0 &&
                               strcmp(list.item[i]->spec.name, "lm_head.weight") != 0;
    assert_true(parameter_find(&list, "model.embed_tokens.weight")->frozen);
    assert_true(parameter_find(&list, "model.layers.1.mlp.up_proj.weight")->frozen);
    assert_false(parameter_find(&list, "model.layers.2.mlp.up_proj.weight")->frozen);
    assert_close(decoder_flops_per_token(&config, 16, 0.0, &list), 2.0 * 2.0 * layer + 6.0 * (2.0 * layer + head),
                 1e-12, 0.0);
    for (int i = 0; i < list.count; i++)
        list.item[i]->frozen = strcmp(list.item[i]->spec.name, "lm_head.weight") != 0;
    assert_close(decoder_flops_per_token(&config, 16, 0.0, &list), 2.0 * 4.0 * layer + 4.0 * head, 1e-12, 0.0);
    /* Gradients pass through what is frozen to the table before it. */
    for (int i = 0; i < list.count; i++)
        list.item[i]->frozen = strcmp(list.item[i]->spec.name, "model.embed_tokens.weight") != 0;
    assert_close(decoder_flops_per_token(&config, 16, 0.0, &list), 4.0 * (4.0 * layer + head), 1e-12, 0.0);
    forget(&context, &list);
    config = with_low_rank();
    config.depth.routing = ROUTING_NONE;
    describe(&context, &config, &list);
    for (int i = 0; i < list.count; i++)
        list.item[i]->frozen = strncmp(list.item[i]->spec.name, "model.recursions.", 17) != 0;
    layer = (decoder_flops_per_token(&config, 16, 0.0, NULL) / 6.0 - head) / 4.0;
    /* The layer is stored once for what two recursions add, of which one is at work in it at a time. */
    double share = (double)LOW_RANK / (MAPS + LOW_RANK);
    assert_close(decoder_flops_per_token(&config, 16, 0.0, &list), (4.0 + 2.0 * share) * 4.0 * layer + 4.0 * head,
                 1e-12, 0.0);
    forget(&context, &list);
}

/* A second of a name, a lent one of another shape, and lending what learns are mistakes; what is lent is shared. */
static void parameters_are_declared_once_or_lent(void **state)
{
    (void)state;
    struct context context;
    struct parameter_list owner;
    struct parameter_list list;
    struct parameter_spec spec = {.name = "a", .rank = 1, .shape = {5}};
    struct parameter_division whole = {.slice = {0, 5}, .owned = {0, 5}};
    context_create(&context);
    parameter_list_create(&context, &owner);
    parameter_list_create(&context, &list);
    struct parameter *first = parameter_declare(&owner, &spec, &whole, true, 3);
    assert_int_equal(parameter_list_lowest(&owner), 3);
    assert_null(parameter_declare(&owner, &spec, &whole, true, 3));
    assert_non_null(strstr(context.text, "a is declared twice"));
    context_clear(&context);
    assert_fails(&context, parameter_borrow(&list, first), STATUS_INTERNAL, "only frozen parameters can be lent");
    first->frozen = true;
    assert_int_equal(parameter_list_lowest(&owner), INT64_MAX);
    assert_ok(&context, parameter_borrow(&list, first));
    assert_ptr_equal(parameter_declare(&list, &spec, &whole, true, 0), first);
    spec.shape[0] = 6;
    assert_null(parameter_declare(&list, &spec, &whole, true, 0));
    context_clear(&context);
    for (int i = 0; i < 200; i++) {
        snprintf(spec.name, sizeof spec.name, "b%d", i);
        assert_true((parameter_declare(&list, &spec, &whole, i % 2 == 0, 0) != NULL) == (i % 2 == 0));
    }
    assert_int_equal(list.count, 201);
    assert_int_equal(parameter_list_elements(&list), 5 + 200 * 6);
    assert_string_equal(parameter_find(&list, "b199")->spec.name, "b199");
    assert_fails(&context, parameter_borrow(&list, first), STATUS_INTERNAL, "before others");
    parameter_list_destroy(&list);
    assert_int_equal(first->spec.shape[0], 5);
    parameter_list_destroy(&owner);
    assert_int_equal(context.memory.bytes_total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vision_transformers_have_the_usual_size),
        cmocka_unit_test(recursive_models_have_the_size_of_the_paper),
        cmocka_unit_test(learned_residuals_add_what_the_paper_says),
        cmocka_unit_test(every_group_counts_its_own),
        cmocka_unit_test(plain_parameters),
        cmocka_unit_test(memories_and_routed_layers),
        cmocka_unit_test(gated_memories),
        cmocka_unit_test(recursions),
        cmocka_unit_test(recursions_add_to_the_layers_that_they_share),
        cmocka_unit_test(lora_stands_beside_what_is_named),
        cmocka_unit_test(lora_costs_its_maps),
        cmocka_unit_test(learned_residuals_start_as_the_plain_sum),
        cmocka_unit_test(dense_layers_cost_their_weights_and_half_the_pairs),
        cmocka_unit_test(routed_layers_cost_what_their_tokens_take),
        cmocka_unit_test(recursions_cost_what_their_tokens_take),
        cmocka_unit_test(memories_cost_reads_and_writes_and_pairs_in_segments),
        cmocka_unit_test(learned_residuals_cost_their_low_rank_maps),
        cmocka_unit_test(expert_choice_saves_what_the_paper_says),
        cmocka_unit_test(frozen_parameters_spare_products),
        cmocka_unit_test(parameters_are_declared_once_or_lent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
