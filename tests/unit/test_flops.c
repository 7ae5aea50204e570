/* Operations of a step, by kind of model. */
#include "tests/unit/model_support.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_layers_cost_their_weights_and_half_the_pairs),
        cmocka_unit_test(routed_layers_cost_what_their_tokens_take),
        cmocka_unit_test(recursions_cost_what_their_tokens_take),
        cmocka_unit_test(memories_cost_reads_and_writes_and_pairs_in_segments),
        cmocka_unit_test(learned_residuals_cost_their_low_rank_maps),
        cmocka_unit_test(expert_choice_saves_what_the_paper_says),
        cmocka_unit_test(frozen_parameters_spare_products),
        cmocka_unit_test(lora_costs_its_maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
