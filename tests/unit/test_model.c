/* Parameters of models: how many, their names, initial values and decay. */
#include "tests/unit/model_support.h"

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
        cmocka_unit_test(learned_residuals_start_as_the_plain_sum),
        cmocka_unit_test(parameters_are_declared_once_or_lent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
