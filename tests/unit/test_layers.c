#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/layers.h"
#include "src/model/stages.h"

static struct model_config recursive(enum sharing_kind sharing, int64_t layers, int64_t recursions)
{
    struct model_config config = {
        .vocabulary = 64, .width = 16, .layers = layers, .heads = 2, .kv_heads = 2, .head_width = 8, .hidden = 24};
    config.depth.kind = DEPTH_MOR;
    config.depth.sharing = sharing;
    config.depth.recursions = recursions;
    config.depth.routing = ROUTING_NONE;
    return config;
}

static struct model_config plain(int64_t layers)
{
    struct model_config config = recursive(SHARING_CYCLE, layers, 1);
    config.depth.kind = DEPTH_FIXED;
    return config;
}

static const char *const names[] = {[SHARING_CYCLE] = "cycle",
                                    [SHARING_SEQUENCE] = "sequence",
                                    [SHARING_MIDDLE_CYCLE] = "middle_cycle",
                                    [SHARING_MIDDLE_SEQUENCE] = "middle_sequence"};

/* -- Unrolled and stored -- */

/* Nine layers that share and three recursions, as written out in the paper; -1 ends a row. */
static void layers_are_shared_as_the_paper_says(void **state)
{
    (void)state;
    static const struct {
        enum sharing_kind sharing;
        int layers, stored;
        int stored_of[12], recursion[12], use[12];
    } cases[] = {
        {SHARING_CYCLE,
         9,
         3,
         {0, 1, 2, 0, 1, 2, 0, 1, 2, -1},
         {0, 0, 0, 1, 1, 1, 2, 2, 2},
         {0, 0, 0, 1, 1, 1, 2, 2, 2}},
        {SHARING_SEQUENCE,
         9,
         3,
         {0, 0, 0, 1, 1, 1, 2, 2, 2, -1},
         {-1, -1, -1, -1, -1, -1, -1, -1, -1},
         {0, 1, 2, 0, 1, 2, 0, 1, 2}},
        {SHARING_MIDDLE_CYCLE,
         11,
         5,
         {0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, -1},
         {-1, 0, 0, 0, 1, 1, 1, 2, 2, 2, -1},
         {-1, 0, 0, 0, 1, 1, 1, 2, 2, 2, -1}},
        {SHARING_MIDDLE_SEQUENCE,
         11,
         5,
         {0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, -1},
         {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
         {-1, 0, 1, 2, 0, 1, 2, 0, 1, 2, -1}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct model_config config = recursive(cases[c].sharing, cases[c].layers, 3);
        assert_int_equal(layers_stored(&config), cases[c].stored);
        for (int layer = 0; layer < cases[c].layers; layer++) {
            assert_int_equal(layers_stored_of(&config, layer), cases[c].stored_of[layer]);
            assert_int_equal(layers_recursion(&config, layer), cases[c].recursion[layer]);
            assert_int_equal(layers_use(&config, layer), cases[c].use[layer]);
        }
        assert_int_equal(cases[c].stored_of[cases[c].layers], -1);
    }
}

static void layers_that_nothing_shares_are_their_own(void **state)
{
    (void)state;
    int64_t first;
    int64_t count;
    struct model_config config = plain(5);
    for (int kind = DEPTH_FIXED; kind <= DEPTH_MOD; kind++) {
        config.depth.kind = (enum depth_kind)kind;
        config.depth.every = 2;
        assert_int_equal(layers_stored(&config), 5);
        layers_shared(&config, &first, &count);
        assert_int_equal(count, 0);
        for (int64_t layer = 0; layer < 5; layer++) {
            assert_int_equal(layers_stored_of(&config, layer), layer);
            assert_int_equal(layers_recursion(&config, layer), -1);
            assert_int_equal(layers_routed(&config, layer), kind == DEPTH_MOD && (layer == 1 || layer == 3));
        }
    }
}

static void the_shared_layers_begin_behind_the_first(void **state)
{
    (void)state;
    int64_t first;
    int64_t count;
    struct model_config config = recursive(SHARING_CYCLE, 8, 2);
    layers_shared(&config, &first, &count);
    assert_int_equal(first, 0);
    assert_int_equal(count, 4);
    config = recursive(SHARING_MIDDLE_CYCLE, 8, 3);
    layers_shared(&config, &first, &count);
    assert_int_equal(first, 1);
    assert_int_equal(count, 2);
    config = recursive(SHARING_MIDDLE_SEQUENCE, 8, 3);
    layers_shared(&config, &first, &count);
    assert_int_equal(count, 0);
}

static void capacities_are_whole_numbers_of_all_tokens(void **state)
{
    (void)state;
    struct model_config config = recursive(SHARING_MIDDLE_CYCLE, 8, 3);
    /* Without routing every token takes every recursion. */
    assert_int_equal(layers_tokens(&config, 6, 2048, 0.0), 2048);
    for (int routing = ROUTING_EXPERT; routing <= ROUTING_TOKEN; routing++) {
        static const int64_t expected[] = {2048, 2048, 2048, 1365, 1365, 682, 682, 2048};
        config.depth.routing = (enum routing_kind)routing;
        for (int64_t layer = 0; layer < 8; layer++)
            assert_int_equal(layers_tokens(&config, layer, 2048, 0.0), expected[layer]);
        for (int64_t length = 1; length <= 3; length++)
            assert_int_equal(layers_tokens(&config, 6, length, 0.0), 1);
    }
    config = plain(4);
    config.depth.kind = DEPTH_MOD;
    config.depth.every = 2;
    config.depth.capacity = 0.125;
    assert_int_equal(layers_tokens(&config, 0, 31, 0.0), 31);
    assert_int_equal(layers_tokens(&config, 1, 31, 0.0), 3);
    assert_int_equal(layers_tokens(&config, 3, 7, 0.0), 1);
}

static void a_surplus_makes_room_for_more_tokens(void **state)
{
    (void)state;
    enum { LENGTH = 37 };
    static const double capacity[] = {1.0, 2.0 / 3.0, 1.0 / 3.0};
    struct model_config recursive_config = recursive(SHARING_MIDDLE_CYCLE, 8, 3);
    struct model_config mixture = plain(4);
    recursive_config.depth.routing = ROUTING_EXPERT;
    mixture.depth.kind = DEPTH_MOD;
    mixture.depth.every = 2;
    mixture.depth.capacity = 0.2;
    for (int i = 0; i <= 20; i++) {
        double surplus = 0.05 * i;
        for (int r = 0; r < 3; r++) {
            double room = (capacity[r] + (1.0 - capacity[r]) * surplus) * LENGTH;
            /* Rounded down from a hair above: thirds are no binary fractions. */
            assert_int_equal(layers_tokens(&recursive_config, 1 + 2 * r, LENGTH, surplus), floor(room + 1e-9));
        }
        assert_int_equal(layers_tokens(&mixture, 0, LENGTH, surplus), LENGTH);
        assert_int_equal(layers_tokens(&mixture, 1, LENGTH, surplus), floor((0.2 + 0.8 * surplus) * LENGTH + 1e-9));
    }
}

/* -- The pipeline -- */

static struct mesh_config pipeline(int64_t stages, int64_t chunks)
{
    return (struct mesh_config){1, stages, 1, 1, chunks};
}

/* All chunks of the model in order, without a gap, and what is stored once lies on one stage. */
static void check_chunks(const struct model_config *config, const struct mesh_config *mesh)
{
    int64_t chunks = mesh->pipeline * stages_chunks(config, mesh);
    int64_t next = 0;
    int64_t stage_of[64];
    memset(stage_of, -1, sizeof stage_of);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        struct range layers = stages_layers(config, mesh, chunk, 8);
        assert_true(layers.count >= 0);
        assert_int_equal(layers.begin, next);
        next = layers.begin + layers.count;
        for (int64_t layer = layers.begin; layer < next; layer++) {
            int64_t *stage = &stage_of[layers_stored_of(config, layer)];
            if (*stage != -1 && *stage != chunk % mesh->pipeline)
                fail_msg("%s, %lld stages: layer %lld shares parameters with another stage",
                         names[config->depth.sharing], (long long)mesh->pipeline, (long long)layer);
            *stage = chunk % mesh->pipeline;
        }
    }
    assert_int_equal(next, config->layers);
}

static void every_layer_is_in_one_chunk(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    for (int64_t stages = 1; stages <= 6; stages++)
        for (int64_t chunks = 1; chunks <= (stages > 1 ? 3 : 1); chunks++) {
            struct mesh_config mesh = pipeline(stages, chunks);
            for (int64_t recursions = 1; recursions <= 4; recursions++)
                for (int64_t shared = 1; shared <= 5; shared++)
                    for (int sharing = SHARING_CYCLE; sharing <= SHARING_MIDDLE_SEQUENCE; sharing++) {
                        int64_t ends = sharing >= SHARING_MIDDLE_CYCLE ? 2 : 0;
                        struct model_config config =
                            recursive((enum sharing_kind)sharing, ends + shared * recursions, recursions);
                        if (stages_check(&context, &mesh, &config) == STATUS_OK)
                            check_chunks(&config, &mesh);
                        context_clear(&context);
                    }
            struct model_config config = plain(stages * chunks + 1);
            assert_ok(&context, stages_check(&context, &mesh, &config));
            check_chunks(&config, &mesh);
        }
}

static void recursions_go_around_the_stages(void **state)
{
    (void)state;
    /* The first and the last layer, and three times the layers 1 to 4, of which three stages have 2, 1 and 1. */
    static const struct range expected[] = {{0, 3}, {3, 1}, {4, 1}, {5, 2}, {7, 1}, {8, 1}, {9, 2}, {11, 1}, {12, 2}};
    struct model_config config = recursive(SHARING_MIDDLE_CYCLE, 14, 3);
    struct mesh_config mesh = pipeline(3, 1);
    assert_int_equal(stages_chunks(&config, &mesh), 3);
    for (int64_t chunk = 0; chunk < 9; chunk++) {
        struct range layers = stages_layers(&config, &mesh, chunk, 8);
        assert_int_equal(layers.begin, expected[chunk].begin);
        assert_int_equal(layers.count, expected[chunk].count);
    }
    /* Alone, a rank needs no chunks; layers that repeat at once are placed like others. */
    mesh = pipeline(1, 1);
    assert_int_equal(stages_chunks(&config, &mesh), 1);
    config = recursive(SHARING_MIDDLE_SEQUENCE, 14, 3);
    mesh = pipeline(3, 2);
    assert_int_equal(stages_chunks(&config, &mesh), 2);
}

/* Fewer shared layers than stages: some stages have none of them, in any recursion. */
static void a_stage_may_have_no_layer(void **state)
{
    (void)state;
    struct model_config config = recursive(SHARING_MIDDLE_CYCLE, 4, 2);
    struct mesh_config mesh = pipeline(3, 1);
    static const struct range expected[] = {{0, 2}, {2, 0}, {2, 0}, {2, 1}, {3, 0}, {3, 1}};
    for (int64_t chunk = 0; chunk < 6; chunk++) {
        struct range layers = stages_layers(&config, &mesh, chunk, 8);
        assert_int_equal(layers.begin, expected[chunk].begin);
        assert_int_equal(layers.count, expected[chunk].count);
    }
}

/* Six stored layers of four uses; the head costs as much as two stored layers, so the last stage has two fewer. */
static void a_heavy_head_counts_in_stored_layers(void **state)
{
    (void)state;
    struct model_config config = recursive(SHARING_SEQUENCE, 24, 4);
    struct mesh_config mesh = pipeline(2, 1);
    config.vocabulary = 2 * 4 * (4 * 16 + 2 * 24 + 9); /* a layer: 4 maps of attention, 2 of the MLP, 9 keys */
    config.mlp = MLP_GELU;
    struct range last = stages_layers(&config, &mesh, 1, 8);
    assert_int_equal(last.begin, 16);
    assert_int_equal(last.count, 8);
    config.vocabulary = 1;
    last = stages_layers(&config, &mesh, 1, 8);
    assert_int_equal(last.begin, 12);
    assert_int_equal(last.count, 12);
}

static void pipelines_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    struct model_config config = recursive(SHARING_MIDDLE_CYCLE, 8, 3);
    struct mesh_config mesh = pipeline(4, 1);
    assert_ok(&context, stages_check(&context, &mesh, &config));
    mesh = pipeline(5, 1);
    assert_fails(&context, stages_check(&context, &mesh, &config), STATUS_USAGE, "share 4 stored layers");
    mesh = pipeline(2, 2);
    assert_fails(&context, stages_check(&context, &mesh, &config), STATUS_USAGE,
                 "mesh.virtual_stages: 2; each recursion is a chunk already, use 1");
    config = recursive(SHARING_SEQUENCE, 8, 2);
    assert_ok(&context, stages_check(&context, &mesh, &config));
    mesh = pipeline(2, 3);
    assert_fails(&context, stages_check(&context, &mesh, &config), STATUS_USAGE,
                 "pipeline x virtual_stages may be at most 4");
    config = plain(5);
    assert_fails(&context, stages_check(&context, &mesh, &config), STATUS_USAGE, "cannot share 5 layers");
}

/* One recursion cannot be cut: what lies before and after is all that other stages can have. */
static void all_recursions_may_be_on_one_stage(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    struct model_config middle = recursive(SHARING_MIDDLE_CYCLE, 8, 3);
    struct model_config cycle = recursive(SHARING_CYCLE, 6, 3);
    const struct {
        const struct model_config *config;
        int64_t stages;
        struct range chunk[3];
    } cases[] = {{&middle, 2, {{0, 7}, {7, 1}}}, {&middle, 3, {{0, 1}, {1, 6}, {7, 1}}}, {&cycle, 2, {{0, 6}, {6, 0}}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mesh_config mesh = pipeline(cases[i].stages, 1);
        mesh.recursions = RECURSIONS_STAGE;
        assert_ok(&context, stages_check(&context, &mesh, cases[i].config));
        assert_int_equal(stages_chunks(cases[i].config, &mesh), 1);
        for (int64_t chunk = 0; chunk < cases[i].stages; chunk++) {
            struct range layers = stages_layers(cases[i].config, &mesh, chunk, 8);
            assert_int_equal(layers.begin, cases[i].chunk[chunk].begin);
            assert_int_equal(layers.count, cases[i].chunk[chunk].count);
        }
        mesh.pipeline++;
        if (cases[i].config == &cycle || cases[i].stages == 3)
            assert_fails(&context, stages_check(&context, &mesh, cases[i].config), STATUS_USAGE,
                         "or mesh.recursions ring");
        mesh = pipeline(2, 2);
        mesh.recursions = RECURSIONS_STAGE;
        assert_fails(&context, stages_check(&context, &mesh, cases[i].config), STATUS_USAGE,
                     "mesh.virtual_stages: 2; with mesh.recursions stage");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_are_shared_as_the_paper_says),
        cmocka_unit_test(layers_that_nothing_shares_are_their_own),
        cmocka_unit_test(the_shared_layers_begin_behind_the_first),
        cmocka_unit_test(capacities_are_whole_numbers_of_all_tokens),
        cmocka_unit_test(a_surplus_makes_room_for_more_tokens),
        cmocka_unit_test(every_layer_is_in_one_chunk),
        cmocka_unit_test(recursions_go_around_the_stages),
        cmocka_unit_test(a_stage_may_have_no_layer),
        cmocka_unit_test(a_heavy_head_counts_in_stored_layers),
        cmocka_unit_test(pipelines_that_do_not_fit_are_refused),
        cmocka_unit_test(all_recursions_may_be_on_one_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
