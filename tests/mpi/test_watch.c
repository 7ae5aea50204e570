/* What is noticed about ranks: their communications, their work, their copies of the parameters. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dist/mesh/members.h"
#include "src/watch/hang.h"
#include "src/watch/straggler.h"
#include "tests/mpi/kinds.h"
#include "tests/support/fields.h"
#include "tests/support/held.h"

static void members_are_those_of_the_communicators(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++) {
        struct mesh *mesh = mpi_mesh(mpi_fixture_of(state), meshes[i]);
        int32_t world = mesh_rank(mesh, MESH_TEAM);
        assert_int_equal(members_stage(mesh_config(mesh), world), mesh_rank(mesh, MESH_PIPELINE));
        for (int axis = 0; axis < MESH_AXES; axis++) {
            int32_t all[8];
            int size = mesh_size(mesh, (enum mesh_axis)axis);
            if (axis == MESH_HOST)
                continue;
            assert_int_equal(members_count(mesh_config(mesh), (enum mesh_axis)axis, world), size);
            if (size == 0)
                continue;
            mesh_all_gather(mesh, (enum mesh_axis)axis, &world, all, size, 1, DTYPE_I32);
            for (int r = 0; r < size; r++)
                assert_int_equal(members_team_rank(mesh_config(mesh), (enum mesh_axis)axis, world, r), all[r]);
        }
        mesh_destroy(&mesh);
    }
}

static void communications_are_noted(void **state)
{
    struct mesh *mesh = mpi_mesh(mpi_fixture_of(state), (struct mesh_config){.data = 0, 1, 1, 1, 1});
    struct context *context = &mpi_fixture_of(state)->context;
    int ranks = mesh_size(mesh, MESH_TEAM);
    int rank = mesh_rank(mesh, MESH_TEAM);
    struct mesh_event events[MESH_EVENTS];
    struct mesh_request sent;
    struct mesh_request received;
    float values[3] = {1.0f, 2.0f, 3.0f};
    float others[3];
    if (ranks == 1)
        skip();
    int64_t before = mesh_event_count(mesh);
    int64_t collectives = mesh_collectives(mesh, MESH_TEAM);
    location_step(&context->location, 5);
    location_pass(&context->location, LOCATION_FORWARD, 3);
    location_enter_layer(&context->location, 2);
    mesh_all_reduce(mesh, MESH_TEAM, values, 3, DTYPE_F32, MESH_SUM);
    mesh_receive(mesh, MESH_DATA, (rank + ranks - 1) % ranks, 17, others, 3, DTYPE_F32, &received);
    assert_int_equal(mesh_events(mesh, events, 1), 1);
    assert_false(events[0].done);
    mesh_send(mesh, MESH_DATA, (rank + 1) % ranks, 17, values, 3, DTYPE_F32, &sent);
    mesh_wait(&received);
    mesh_wait(&sent);
    assert_int_equal(mesh_event_count(mesh), before + 3);
    assert_int_equal(mesh_event_waited(mesh), 0);
    assert_int_equal(mesh_collectives(mesh, MESH_TEAM), collectives + 1);
    assert_int_equal(mesh_events(mesh, events, 3), 3);
    assert_int_equal(events[0].call, CALL_ALL_REDUCE);
    assert_int_equal(events[0].axis, MESH_TEAM);
    assert_int_equal(events[0].bytes, 12);
    assert_int_equal(events[0].peer, -1);
    assert_int_equal(events[0].place.step, 5);
    assert_int_equal(events[0].place.micro_batch, 3);
    assert_int_equal(events[0].place.layer, 2);
    assert_int_equal(events[1].call, CALL_RECEIVE);
    assert_int_equal(events[1].peer, (rank + ranks - 1) % ranks);
    assert_int_equal(events[1].tag, 17);
    assert_int_equal(events[2].call, CALL_SEND);
    assert_true(events[0].done && events[1].done && events[2].done);
    for (int i = 0; i < 2 * MESH_EVENTS; i++)
        mesh_barrier(mesh, MESH_TEAM);
    assert_int_equal(mesh_events(mesh, events, MESH_EVENTS), MESH_EVENTS);
    for (int i = 1; i < MESH_EVENTS; i++)
        assert_int_equal(events[i].sequence, events[0].sequence + i);
    mesh_destroy(&mesh);
}

/* After steps of every kind of model ranks agree about every collective in their rings: that is what tells the one
 * that is wrong in a hang. */
static void ranks_agree_about_what_they_did(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    char names[8][HOST_NAME] = {""};
    const struct hosts hosts = {ranks, names};
    for (int i = 0; i < count; i++)
        for (int k = 0; k < KINDS; k += 3) {
            struct bench bench;
            const struct kind_options options = {.mesh = meshes[i], .recompute = (enum recompute_kind)(k % 2 * 2)};
            struct hang_state mine;
            static const size_t bytes = sizeof mine;
            bool culprits[8];
            if (!bench_create(&bench, state, &kinds[k], &options))
                continue;
            bench_step(&bench);
            bench_step(&bench);
            hang_observe(bench.context, bench.mesh, &mine);
            struct hang_state *all = memory_allocate(bench.context, (size_t)ranks * bytes, MEMORY_OTHER);
            mesh_all_gather(bench.mesh, MESH_TEAM, &mine, all, ranks, (int64_t)bytes, DTYPE_BYTE);
            const struct hang hang = {mesh_config(bench.mesh), &hosts, all};
            if (hang_culprits(&hang, culprits) != 0)
                fail_msg("%s: ranks differ about a collective", kinds[k].name);
            memory_free(bench.context, all);
            bench_destroy(&bench);
        }
}

static void slow_ranks_are_named(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    if (fixture->ranks != 4)
        skip();
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 2, 1, 2, 1});
    struct straggler_watch watch;
    /* Ranks 0 and 1 are peers, and 2 and 3. Each look covers two steps; rank 3 has half of the work. */
    int rank = mesh_rank(mesh, MESH_TEAM);
    static const double seconds[] = {1.0, 1.2, 4.0, 3.0};
    assert_ok(&fixture->context, straggler_create(&fixture->context, mesh, 1.3, 2, rank == 3 ? 0.5 : 1.0, &watch));
    for (int step = 1; step <= 12; step++) {
        int found = straggler_step(&watch, seconds[rank] + (step % 2 ? 0.1 : -0.1));
        assert_int_equal(found, step % 6 == 0);
        if (found) {
            assert_int_equal(watch.found[0].rank, 3);
            assert_close(watch.found[0].seconds, 6.0, 1e-12, 0.0);
            assert_close(watch.found[0].peers, 4.0, 1e-12, 0.0);
        }
    }
    straggler_destroy(&watch);
    mesh_destroy(&mesh);
    mesh = mpi_mesh(fixture, (struct mesh_config){4, 1, 1, 1, 1});
    assert_ok(&fixture->context, straggler_create(&fixture->context, mesh, 1.3, 1, 1.0, &watch));
    /* A rank without work is no peer, and one fast look begins the count anew. */
    for (int look = 1; look <= 8; look++)
        assert_int_equal(straggler_look(&watch, (const double[]){1.0, look == 2 ? 1.0 : 1.4, -1.0, 1.1}),
                         look == 5 || look == 8);
    assert_int_equal(watch.found[0].rank, 1);
    assert_close(watch.found[0].peers, 1.05, 1e-12, 0.0);
    straggler_destroy(&watch);
    mesh_destroy(&mesh);
    /* Nor does one that is alone have peers. */
    mesh = mpi_mesh(fixture, (struct mesh_config){1, 4, 1, 1, 1});
    assert_ok(&fixture->context, straggler_create(&fixture->context, mesh, 1.3, 1, 1.0, &watch));
    for (int look = 1; look <= 8; look++)
        assert_int_equal(straggler_look(&watch, (const double[]){1.0, 9.0, 0.5, 1.0}), 0);
    straggler_destroy(&watch);
    mesh_destroy(&mesh);
    assert_int_equal(fixture->context.memory.bytes_total, 0);
}

/* -- Copies of the parameters -- */

static struct parameter *parameter_of(const struct bench *bench, bool replicated)
{
    const struct decoder *decoder = decoder_of(bench->trainer.model);
    for (int i = 0; i < held_count(decoder->list); i++)
        if (held(decoder->list, i)->division.replicated == replicated &&
            !held(decoder->list, i)->division.overlapping && tensor_count(&held(decoder->list, i)->value) > 8)
            return held(decoder->list, i);
    fail();
    return NULL;
}

/* A bit of an element near the end is flipped on one rank, compared, and flipped back. */
static void flip(struct bench *bench, struct parameter *parameter, int guilty, const char *why)
{
    const struct tensor *value = &parameter->value;
    unsigned char *byte = (unsigned char *)value->data + (size_t)(tensor_count(value) - 2) * dtype_size(value->dtype);
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d on host", guilty);
    bool mine = mesh_rank(bench->mesh, MESH_TEAM) == guilty;
    *byte ^= mine ? 1 : 0;
    enum status status = trainer_compare(&bench->trainer);
    if (status != STATUS_AGAIN || !strstr(bench->context->text, expected) || !strstr(bench->context->text, why) ||
        (mine && !strstr(bench->context->text, parameter->spec.name)) || !bench->context->agreed)
        fail_msg("rank %d: status %d, %s; expected %s %s", guilty, (int)status, bench->context->text, expected, why);
    context_clear(bench->context);
    *byte ^= mine ? 1 : 0;
    assert_ok(bench->context, trainer_compare(&bench->trainer));
}

static void check_flips(struct bench *bench)
{
    int ranks = mesh_size(bench->mesh, MESH_TEAM);
    bool majority = mesh_size(bench->mesh, MESH_REPLICA) > 2;
    for (int step = 0; step < 3; step++)
        bench_step(bench);
    assert_ok(bench->context, trainer_compare(&bench->trainer));
    for (int guilty = 0; guilty < ranks && majority; guilty++)
        flip(bench, parameter_of(bench, false), guilty, "");
    /* What has changed since a look shows on the rank itself. */
    for (int guilty = 0; guilty < ranks; guilty++) {
        comparison_note(bench->trainer.comparison);
        flip(bench, parameter_of(bench, false), guilty, "has changed between two updates");
        if (mesh_size(bench->mesh, MESH_TENSOR) > 1)
            flip(bench, parameter_of(bench, true), guilty, "has changed between two updates");
    }
}

static void a_flipped_bit_is_named(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++)
        for (int type = COMPUTE_FP32; type <= COMPUTE_BF16; type++) {
            struct bench bench;
            const struct kind_options options = {
                .mesh = meshes[i], .type = (enum compute_type)type, .compare_every = 2};
            if (!bench_create(&bench, state, &kinds[0], &options))
                continue;
            check_flips(&bench);
            bench_destroy(&bench);
        }
}

/* The first shard's master is not what its values were rounded from. */
static void a_changed_master_is_named(void **state)
{
    int ranks = mpi_fixture_of(state)->ranks;
    for (int guilty = 0; guilty < ranks; guilty++) {
        struct bench bench;
        const struct kind_options options = {
            .mesh = {ranks, 1, 1, 1, 1}, .type = COMPUTE_BF16, .rows = 2 * ranks, .compare_every = 1};
        char expected[64];
        int count;
        assert_true(bench_create(&bench, state, &kinds[0], &options));
        bench_step(&bench);
        const struct shard *shard = replica_shards(bench.trainer.session.replica, &count);
        while (!shard->values)
            shard++;
        if (mesh_rank(bench.mesh, MESH_TEAM) == guilty)
            shard->master[0] += 1.0f;
        snprintf(expected, sizeof expected, "rank %d on host", guilty);
        enum status status = trainer_compare(&bench.trainer);
        assert_int_equal(status, STATUS_AGAIN);
        assert_non_null(strstr(bench.context->text, expected));
        assert_non_null(strstr(bench.context->text, "is not the rounding of its fp32 master"));
        context_clear(bench.context);
        bench_destroy(&bench);
    }
}

/* The comparison of a step sees what its passes have used, before the update covers it up. */
static void a_step_stops_before_its_update(void **state)
{
    int ranks = mpi_fixture_of(state)->ranks;
    struct bench bench;
    struct step_result result;
    const struct kind_options options = {.mesh = {ranks, 1, 1, 1, 1}, .rows = 2 * ranks, .compare_every = 2};
    assert_true(bench_create(&bench, state, &kinds[0], &options));
    bench_step(&bench);
    struct parameter *parameter = parameter_of(&bench, false);
    if (mesh_rank(bench.mesh, MESH_TEAM) == ranks - 1)
        ((unsigned char *)parameter->value.data)[4] ^= 4;
    assert_int_equal(trainer_step(&bench.trainer, &result), STATUS_AGAIN);
    assert_non_null(strstr(bench.context->text, "has changed between two updates"));
    context_clear(bench.context);
    bench_destroy(&bench);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(members_are_those_of_the_communicators),
    cmocka_unit_test(communications_are_noted),
    cmocka_unit_test(ranks_agree_about_what_they_did),
    cmocka_unit_test(slow_ranks_are_named),
    cmocka_unit_test(a_flipped_bit_is_named),
    cmocka_unit_test(a_changed_master_is_named),
    cmocka_unit_test(a_step_stops_before_its_update),
};

MPI_MAIN(tests)
