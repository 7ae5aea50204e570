/* Routers that let in all tokens, none, a single one, or find all equal: on every mesh the same tokens are chosen,
 * those that can be foretold, ranks without any take part, and nothing hangs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/layers.h"
#include "tests/mpi/kinds.h"
#include "tests/support/fields.h"

/* EXTREME: scores of 1e4 and more, which saturate all that follows. */
enum adversary { ALL, NONE, ONE, TIES, EXTREME, ADVERSARIES };

static const char *const names[ADVERSARIES] = {"all tokens", "no token", "one token", "ties", "extreme scores"};

/* The first feature of the stream is LEVEL for tokens that are to be let in, else -LEVEL: more than the layers of so
 * small a model change. Routers look at nothing else. */
static const float LEVEL = 4.0f;

static int32_t the_one(void)
{
    return kind_token(0, 2);
}

static float level_of(enum adversary adversary, int64_t token)
{
    return adversary == ONE && token != the_one() ? -LEVEL : LEVEL;
}

/* Element [row, column] of a parameter that has a part in the plot; false for all others. */
static bool plot(const struct bench *bench, enum adversary adversary, const char *name, int64_t row, int64_t column,
                 float *value)
{
    const struct model_config *model = &bench->config.model;
    float weight = adversary == EXTREME ? 1e4f : 1.0f;
    if (adversary == TIES)
        weight = 0.0f;
    if (strstr(name, "embed_tokens")) {
        if (column == 0)
            *value = level_of(adversary, row);
        return true;
    }
    bool first = column == 0;
    if (strcmp(name, "model.router.weight") == 0)
        *value = first && row == (adversary == NONE ? 0 : model->depth.recursions - 1) ? weight : 0.0f;
    else if (strstr(name, "fc1"))
        *value = first && row == 0 ? 1.0f : 0.0f;
    else if (strstr(name, "router.weight") || strstr(name, "fc2"))
        *value = !first ? 0.0f : adversary == NONE ? -weight : weight;
    else
        return false;
    return true;
}

static void corrupt_shards(const struct bench *bench, enum adversary adversary, const struct shard *shards, int count)
{
    for (int i = 0; i < count; i++) {
        const struct parameter *parameter = shards[i].parameter;
        int64_t columns = tensor_columns(&parameter->value);
        for (int64_t n = 0; n < shards[i].flat.count; n++) {
            int64_t element = shards[i].flat.begin + n;
            int64_t row = element / columns + (parameter->division.axis == 0 ? parameter->division.slice.begin : 0);
            if (!plot(bench, adversary, parameter->spec.name, row, element % columns, &shards[i].master[n]))
                break;
        }
    }
}

static void corrupt(struct bench *bench, enum adversary adversary)
{
    struct replica *replica = bench->trainer.session.replica;
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    corrupt_shards(bench, adversary, shards, count);
    shards = replica_frozen(replica, &count);
    corrupt_shards(bench, adversary, shards, count);
    replica_gather_all(replica);
}

/* -- What can be foretold -- */

/* Routed layers, or recursions. */
static bool has_router(const struct model_config *model, int64_t index)
{
    return model->depth.kind == DEPTH_MOR ? index < model->depth.recursions : layers_routed(model, index);
}

/* Whether the router of this index chooses the token. */
static bool foretold(const struct model_config *model, enum adversary adversary, bool causal, int64_t index,
                     int64_t row, int64_t position)
{
    bool recursive = model->depth.kind == DEPTH_MOR;
    int64_t first;
    int64_t count;
    layers_shared(model, &first, &count);
    if (recursive && index == 0)
        return true;
    if (causal || (recursive && model->depth.routing == ROUTING_TOKEN))
        return adversary == ALL || adversary == EXTREME || (adversary == ONE && kind_token(row, position) == the_one());
    /* Of equal scores the lower positions win. */
    return position < layers_tokens(model, recursive ? first + index * count : index, KIND_LENGTH, 0.0);
}

static int64_t foretell(const struct model_config *model, enum adversary adversary, bool causal)
{
    int64_t selections = 0;
    for (int64_t index = 0; index < model->layers; index++)
        for (int64_t row = 0; has_router(model, index) && row < KIND_ROWS; row++)
            for (int64_t position = 0; position < KIND_LENGTH; position++)
                if (foretold(model, adversary, causal, index, row, position))
                    selections += kind_selection(0, index, row, position);
    return selections;
}

static void check_selections(struct bench *bench, enum adversary adversary, bool causal, const char *kind)
{
    int64_t selections = bench->selections;
    mesh_all_reduce(bench->mesh, MESH_TEAM, &selections, 1, DTYPE_I64, MESH_SUM);
    if (selections != foretell(&bench->config.model, adversary, causal))
        fail_msg("%s, %s, %s: other tokens are chosen than foretold", kind, names[adversary],
                 causal ? "token by token" : "over whole sequences");
}

/* -- What the causal router is told to be worth -- */

static void add_routing(const struct bench *bench, int64_t index, double sums[4])
{
    const struct router_counts *routing = &decoder_of(bench->trainer.model)->router_counts[index];
    const double own[4] = {(double)routing->judged, (double)routing->wanted, (double)routing->admitted,
                           (double)routing->hits};
    memcpy(sums, own, sizeof own);
    mesh_all_reduce(bench->mesh, MESH_TEAM, sums, 4, DTYPE_F64, MESH_SUM);
}

/* Candidates, chosen, let in, both: known where all are let in or none. */
static void check_accounts(const struct bench *bench, enum adversary adversary, const char *kind)
{
    const struct model_config *model = &bench->config.model;
    int64_t first;
    int64_t count;
    layers_shared(model, &first, &count);
    bool by_token = model->depth.kind == DEPTH_MOR && model->depth.routing == ROUTING_TOKEN;
    double entropy[2] = {decoder_of(bench->trainer.model)->router_counts[0].entropy,
                         (double)decoder_of(bench->trainer.model)->router_counts[0].decided};
    for (int64_t index = 0; !by_token && index < model->layers; index++) {
        double sums[4];
        if (!has_router(model, index))
            continue;
        add_routing(bench, index, sums);
        bool recursive = model->depth.kind == DEPTH_MOR;
        int64_t before =
            recursive && index > 0 ? layers_tokens(model, first + (index - 1) * count, KIND_LENGTH, 0.0) : KIND_LENGTH;
        int64_t after = layers_tokens(model, recursive ? first + index * count : index, KIND_LENGTH, 0.0);
        double all = adversary == ALL ? 1.0 : 0.0;
        const double expected[4] = {(double)(KIND_ROWS * before), (double)(KIND_ROWS * after),
                                    all * (double)(KIND_ROWS * before), all * (double)(KIND_ROWS * after)};
        /* With a predictor the scores that choose are others than those that are judged, but as one-sided. */
        for (int i = 0; i < 4; i++)
            if (sums[i] != expected[i])
                fail_msg("%s, %s, router %d: number %d is %g, expected %g", kind, names[adversary], (int)index, i,
                         sums[i], expected[i]);
    }
    mesh_all_reduce(bench->mesh, MESH_TEAM, entropy, 2, DTYPE_F64, MESH_SUM);
    if (by_token && adversary == TIES)
        assert_close(entropy[0] / entropy[1], log((double)model->depth.recursions), 1e-6, 0.0);
    if (by_token)
        assert_true(entropy[1] == (double)(KIND_ROWS * KIND_LENGTH));
}

/* -- On every mesh -- */

static bool is_routed(const struct model_config *model)
{
    return model->depth.kind == DEPTH_MOD || (model->depth.kind == DEPTH_MOR && model->depth.routing != ROUTING_NONE);
}

static bool corrupt_bench_create(struct bench *bench, void **state, int kind, enum adversary adversary,
                                 const struct kind_options *options)
{
    if (!strstr(kinds[kind].name, "mod") && !strstr(kinds[kind].name, "mor"))
        return false;
    if (!bench_create(bench, state, &kinds[kind], options))
        return false;
    assert_true(is_routed(&bench->config.model));
    corrupt(bench, adversary);
    return true;
}

/* A linear gate of extreme scores overthrows the stream, and the next routers see another one. */
static bool can_foretell(const struct model_config *model, enum adversary adversary, bool causal)
{
    bool linear = model->depth.kind == DEPTH_MOD && model->depth.gate == GATE_LINEAR;
    bool by_token = model->depth.kind == DEPTH_MOR && model->depth.routing == ROUTING_TOKEN;
    return adversary == TIES || ((causal || by_token) && !(linear && adversary == EXTREME));
}

static void look(void **state, int kind, enum adversary adversary, const struct kind_options *options)
{
    struct bench bench;
    if (!corrupt_bench_create(&bench, state, kind, adversary, options))
        return;
    bench_look(&bench);
    if (can_foretell(&bench.config.model, adversary, options->causal))
        check_selections(&bench, adversary, options->causal, kinds[kind].name);
    if (!options->causal && (adversary == ALL || adversary == NONE || adversary == TIES))
        check_accounts(&bench, adversary, kinds[kind].name);
    bench_destroy(&bench);
}

static void every_mesh_chooses_what_is_foretold(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++)
            for (int adversary = 0; adversary < ADVERSARIES; adversary++)
                for (int causal = 0; causal <= 1; causal++) {
                    struct kind_options options = {.mesh = meshes[i], .causal = causal};
                    look(state, kind, (enum adversary)adversary, &options);
                }
}

/* A step of training, against that of data ranks alone. */
struct lesson {
    double loss;
    int64_t selections;
};

static bool learn(void **state, int kind, enum adversary adversary, const struct mesh_config *mesh,
                  struct lesson *lesson)
{
    struct kind_options options = {.mesh = *mesh, .micro_batch = 1};
    struct bench bench;
    if (!corrupt_bench_create(&bench, state, kind, adversary, &options))
        return false;
    lesson->loss = bench_step(&bench).loss;
    lesson->selections = bench.selections;
    mesh_all_reduce(bench.mesh, MESH_TEAM, &lesson->selections, 1, DTYPE_I64, MESH_SUM);
    bench_destroy(&bench);
    return true;
}

static void every_mesh_learns_alike(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int adversary = 0; adversary < ADVERSARIES; adversary++) {
            struct lesson expected;
            if (!learn(state, kind, (enum adversary)adversary, &(struct mesh_config){ranks, 1, 1, 1, 1}, &expected))
                continue;
            for (int i = 0; i < count; i++) {
                struct lesson lesson;
                if (!learn(state, kind, (enum adversary)adversary, &meshes[i], &lesson))
                    continue;
                bool same = lesson.selections == expected.selections;
                if (!same || !(fabs(lesson.loss - expected.loss) <= 2e-5 * expected.loss))
                    fail_msg("%s, %s, data %d pipeline %d context %d tensor %d: loss %.8f, expected %.8f%s",
                             kinds[kind].name, names[adversary], (int)meshes[i].data, (int)meshes[i].pipeline,
                             (int)meshes[i].context, (int)meshes[i].tensor, lesson.loss, expected.loss,
                             same ? "" : "; and other tokens are chosen");
            }
        }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_mesh_chooses_what_is_foretold),
    cmocka_unit_test(every_mesh_learns_alike),
};

MPI_MAIN(tests)
