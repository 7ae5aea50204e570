#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/watch/hang.h"
#include "src/watch/spike.h"
#include "tests/support/support.h"

/* -- Hangs -- */

enum { RANKS = 4, STEP = 12 };

struct scene {
    struct mesh_config mesh;
    struct hosts hosts;
    char names[RANKS][HOST_NAME];
    struct hang_state states[RANKS];
    struct hang hang;
    bool culprits[RANKS];
};

/* All ranks have done `done` collectives on every axis and are outside of MPI. */
static void scene_create(struct scene *scene, struct mesh_config mesh, int64_t done)
{
    memset(scene, 0, sizeof *scene);
    scene->mesh = mesh;
    scene->hosts = (struct hosts){RANKS, scene->names};
    scene->hang = (struct hang){&scene->mesh, &scene->hosts, scene->states};
    for (int rank = 0; rank < RANKS; rank++) {
        struct hang_state *state = &scene->states[rank];
        snprintf(scene->names[rank], sizeof scene->names[rank], "node%d", rank / 2);
        state->present = true;
        state->place = (struct location){STEP, 40, LOCATION_TRAINING, LOCATION_BACKWARD, 2, 4};
        for (int axis = 0; axis < MESH_AXES; axis++)
            state->begun[axis] = done;
    }
}

static struct mesh_event *wait_in(struct hang_state *state, enum mesh_axis axis, enum mesh_call call)
{
    state->waits = (struct mesh_event){.number = 7, .axis = axis, .call = call, .peer = -1, .tag = -1};
    state->waits.place = state->place;
    if (!mesh_call_is_message(call))
        state->waits.sequence = ++state->begun[axis];
    state->events[state->event_count++] = state->waits;
    return &state->waits;
}

/* Exactly the ranks of `expected`, as a text of digits, are to blame, and the text holds all of the parts. */
static void assert_blamed(struct scene *scene, const char *expected, const char *const parts[])
{
    char found[RANKS + 1] = "";
    char text[2048];
    bool scratch[2 * RANKS];
    int count = hang_culprits(&scene->hang, scene->culprits);
    for (int rank = 0; rank < RANKS; rank++)
        if (scene->culprits[rank])
            snprintf(found + strlen(found), 2, "%d", rank);
    assert_string_equal(found, expected);
    assert_int_equal(count, strlen(expected));
    hang_describe(&scene->hang, scene->culprits, scratch, text, sizeof text);
    for (int i = 0; parts[i]; i++)
        if (!strstr(text, parts[i]))
            fail_msg("\"%s\" is not in \"%s\"", parts[i], text);
}

static void a_silent_rank_is_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){4, 1, 1, 1, 1}, 118);
    for (int rank = 0; rank < RANKS; rank++)
        wait_in(&scene.states[rank], MESH_REPLICA, CALL_REDUCE_SCATTER);
    scene.states[1] = (struct hang_state){0};
    assert_blamed(&scene, "1",
                  (const char *const[]){"rank 1 on host node0 does not answer",
                                        "ranks 0, 2-3 wait in reduce-scatter number 119 on replica (step 12, in "
                                        "training, micro-batch 2, backward, layer 4)",
                                        NULL});
}

static void a_rank_outside_of_mpi_is_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){1, 1, 1, 4, 1}, 118);
    for (int rank = 0; rank < RANKS; rank++)
        if (rank != 2)
            wait_in(&scene.states[rank], MESH_TENSOR, CALL_ALL_GATHER);
    scene.states[2].place.layer = 3;
    assert_blamed(&scene, "2",
                  (const char *const[]){"rank 2 on host node1 is behind: its last collective on tensor was number 118, "
                                        "it is outside of MPI (step 12, in training, micro-batch 2, backward, layer 3)",
                                        "ranks 0-1, 3 wait in all-gather number 119 on tensor", NULL});
}

/* One that has left the collective already is not waited for. */
static void a_rank_that_is_through_is_not_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){1, 1, 1, 4, 1}, 118);
    wait_in(&scene.states[0], MESH_TENSOR, CALL_ALL_GATHER);
    wait_in(&scene.states[1], MESH_TENSOR, CALL_ALL_GATHER);
    wait_in(&scene.states[2], MESH_TENSOR, CALL_ALL_GATHER);
    scene.states[2].waits = (struct mesh_event){0};
    scene.states[2].place.moves++;
    assert_blamed(&scene, "3", (const char *const[]){"ranks 0-1 wait in all-gather number 119 on tensor", NULL});
}

/* Of two ranks the one that has gone on is the one that left something out. */
static void a_rank_that_left_a_collective_out_is_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){2, 1, 1, 2, 1}, 118);
    wait_in(&scene.states[2], MESH_TENSOR, CALL_ALL_REDUCE);
    scene.states[3].place.layer = 2;
    scene.states[3].place.moves += 2;
    for (int rank = 0; rank < RANKS; rank++)
        if (rank != 2)
            wait_in(&scene.states[rank], MESH_TEAM, CALL_AGREE);
    assert_blamed(&scene, "3",
                  (const char *const[]){"rank 3 on host node1 is behind: its last collective on tensor was number 118, "
                                        "and it waits in agreement number 119 on team",
                                        "rank 2 waits in all-reduce number 119 on tensor", NULL});
}

/* Where the next collective of the same axis came in its place, MPI may even have let it pass. */
static void a_rank_one_collective_ahead_is_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){1, 1, 1, 4, 1}, 118);
    for (int rank = 0; rank < RANKS; rank++) {
        scene.states[rank].place.moves += rank == 1;
        wait_in(&scene.states[rank], MESH_TENSOR, rank == 1 ? CALL_REDUCE_SCATTER : CALL_ALL_GATHER);
    }
    assert_blamed(&scene, "1", (const char *const[]){"rank 1 on host node0", "reduce-scatter number 119", NULL});
    /* On every axis whose ranks do the same. */
    static const struct mesh_config meshes[] = {{1, 1, 4, 1, 1}, {4, 1, 1, 1, 1}, {4, 1, 1, 1, 1}};
    static const enum mesh_axis axes[] = {MESH_CONTEXT, MESH_REPLICA, MESH_DATA};
    for (int i = 0; i < 3; i++) {
        scene_create(&scene, meshes[i], 118);
        for (int rank = 0; rank < RANKS; rank++)
            wait_in(&scene.states[rank], axes[i], rank == 3 ? CALL_REDUCE_SCATTER : CALL_ALL_GATHER);
        assert_blamed(&scene, "3", (const char *const[]){"rank 3 on host node1", NULL});
    }
    scene_create(&scene, (struct mesh_config){2, 1, 1, 2, 1}, 118);
    for (int rank = 0; rank < RANKS; rank++) {
        scene.states[rank].place.moves += rank == 0;
        wait_in(&scene.states[rank], MESH_TENSOR, CALL_ALL_GATHER);
    }
    assert_blamed(&scene, "0", (const char *const[]){"rank 0 on host node0", NULL});
}

static void a_rank_in_a_collective_that_no_other_knows_is_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){4, 1, 1, 1, 1}, 118);
    for (int rank = 0; rank < RANKS; rank++)
        if (rank != 2) {
            scene.states[rank].place.moves += 5;
            wait_in(&scene.states[rank], MESH_TEAM, CALL_ALL_REDUCE);
        }
    wait_in(&scene.states[2], MESH_DATA, CALL_ALL_REDUCE);
    assert_blamed(&scene, "2", (const char *const[]){"rank 2 on host node1", NULL});
}

static void a_stage_that_sends_nothing_is_named(void **state)
{
    (void)state;
    struct scene scene;
    scene_create(&scene, (struct mesh_config){1, 4, 1, 1, 1}, 0);
    for (int rank = 0; rank < RANKS; rank++)
        if (rank != 1)
            wait_in(&scene.states[rank], MESH_PIPELINE, CALL_RECEIVE)->peer = rank == 0 ? 1 : rank - 1;
    assert_blamed(&scene, "1",
                  (const char *const[]){"rank 1 on host node0 is behind: it is outside of MPI",
                                        "rank 2 waits in receive from rank 1", NULL});
    /* A peer is a stage; the rank that is told is of the whole job. */
    scene_create(&scene, (struct mesh_config){1, 2, 1, 2, 1}, 0);
    wait_in(&scene.states[3], MESH_PIPELINE, CALL_RECEIVE)->peer = 0;
    wait_in(&scene.states[0], MESH_PIPELINE, CALL_RECEIVE)->peer = 1;
    scene.states[2].place.layer = 3;
    assert_blamed(
        &scene, "12",
        (const char *const[]){"rank 3 waits in receive from rank 1", "rank 0 waits in receive from rank 2", NULL});
}

static void states_survive_their_files(void **state)
{
    (void)state;
    struct scene scene;
    struct hang_state read;
    char folder[] = "hang-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    scene_create(&scene, (struct mesh_config){1, 2, 1, 2, 1}, 118);
    struct hang_state *written = &scene.states[3];
    written->still = 12.5;
    written->pid = 4711;
    wait_in(written, MESH_PIPELINE, CALL_RECEIVE)->peer = 1;
    written->waits.tag = 9;
    written->waits.bytes = 7680;
    written->events[1] = (struct mesh_event){.number = 6,
                                             .axis = MESH_TENSOR,
                                             .call = CALL_ALL_GATHER,
                                             .sequence = 118,
                                             .bytes = 4096,
                                             .peer = -1,
                                             .tag = -1,
                                             .place = written->place,
                                             .done = true};
    written->event_count = 2;
    written->events[0].begun = written->events[1].begun = clock_seconds() - 100.0;
    assert_false(hang_read(folder, 3, &read));
    assert_true(hang_write(folder, 3, "node1", written));
    assert_true(hang_read(folder, 3, &read));
    assert_true(read.present && read.still == 12.5 && read.pid == 4711);
    assert_memory_equal(&read.place, &written->place, sizeof read.place);
    assert_memory_equal(read.begun, written->begun, sizeof read.begun);
    assert_int_equal(read.event_count, 2);
    for (int i = 0; i < 2; i++) {
        /* One by one: what lies between fields is anything. */
        const struct mesh_event *event = &read.events[i];
        const struct mesh_event *expected = &written->events[i];
        assert_close(event->begun, expected->begun, 0.0, 2.0);
        assert_true(event->number == expected->number && event->axis == expected->axis);
        assert_true(event->call == expected->call && event->sequence == expected->sequence);
        assert_true(event->bytes == expected->bytes && event->peer == expected->peer && event->tag == expected->tag);
        assert_true(event->done == expected->done);
        assert_memory_equal(&event->place, &expected->place, sizeof event->place);
    }
    assert_int_equal(read.waits.axis, MESH_PIPELINE);
    assert_int_equal(read.waits.call, CALL_RECEIVE);
    assert_int_equal(read.waits.peer, 1);
    assert_int_equal(read.waits.tag, 9);
    assert_int_equal(read.waits.bytes, 7680);
    assert_int_equal(read.waits.place.layer, 4);
    /* Half a file is none. */
    assert_int_equal(truncate(hang_path(folder, 3, path, sizeof path), 300), 0);
    assert_false(hang_read(folder, 3, &read));
    unlink(path);
    assert_int_equal(rmdir(folder), 0);
}

static void places_pack_and_count(void **state)
{
    (void)state;
    struct location_mark mark = {0};
    location_step(&mark, 123456789);
    location_pass(&mark, LOCATION_BACKWARD, 70000);
    location_enter_layer(&mark, 65535);
    location_enter_layer(&mark, 65535);
    struct location place = location_unpack(location_where(&mark), location_position(&mark));
    assert_int_equal(place.step, 123456789);
    assert_int_equal(place.moves, 2);
    assert_int_equal(place.work, LOCATION_TRAINING);
    assert_int_equal(place.pass, LOCATION_BACKWARD);
    assert_int_equal(place.micro_batch, 70000);
    assert_int_equal(place.layer, 65535);
    location_work(&mark, LOCATION_OPTIMIZER);
    place = location_unpack(location_where(&mark), location_position(&mark));
    assert_int_equal(place.micro_batch, -1);
    assert_int_equal(place.layer, -1);
    assert_int_equal(place.pass, LOCATION_NO_PASS);
}

/* -- Spikes -- */

enum { WINDOW = 9 };

static void spikes_start(struct context *context, struct spike_watch *watch, int64_t steps)
{
    const struct watch_config config = {.spike_factor = 6.0, .spike_window = WINDOW, .spike_steps = steps};
    context_create(context);
    assert_ok(context, spike_create(context, &config, watch));
    for (int i = 0; i < WINDOW; i++) {
        assert_true(isinf(spike_threshold(watch)));
        assert_false(spike_step(watch, i == 4 ? 3.0 : 2.0 + 0.01 * i, true));
    }
}

/* 2.00 2.01 2.02 2.03 3.00 2.05 2.06 2.07 2.08: median 2.05, deviations' median 0.03. */
static void the_threshold_is_of_medians(void **state)
{
    (void)state;
    struct context context;
    struct spike_watch watch;
    spikes_start(&context, &watch, 1);
    assert_close(spike_threshold(&watch), 2.05 + 6.0 * 1.4826 * 0.03, 0.0, 1e-6);
    assert_false(spike_step(&watch, 2.31, true));
    assert_true(spike_step(&watch, 2.40, true));
    assert_int_equal(watch.in_row, 1);
    spike_destroy(&watch);
    assert_int_equal(context.memory.bytes_total, 0);
}

/* Losses that hardly differ: a thousandth of them counts as their deviation. */
static void rounding_is_no_spike(void **state)
{
    (void)state;
    struct context context;
    struct spike_watch watch;
    spikes_start(&context, &watch, 1);
    for (int i = 0; i < WINDOW; i++)
        assert_false(spike_step(&watch, 2.0, true));
    assert_close(spike_threshold(&watch), 2.0 + 6.0 * 0.002, 0.0, 1e-6);
    assert_false(spike_step(&watch, 2.01, true));
    assert_true(spike_step(&watch, 2.02, true));
    spike_destroy(&watch);
}

static void a_spike_has_to_last(void **state)
{
    (void)state;
    struct context context;
    struct spike_watch watch;
    spikes_start(&context, &watch, 3);
    double before = spike_threshold(&watch);
    assert_false(spike_step(&watch, 9.0, true));
    assert_false(spike_step(&watch, 9.0, true));
    assert_true(spike_threshold(&watch) == before);
    assert_false(spike_step(&watch, 2.0, true));
    assert_int_equal(watch.in_row, 0);
    assert_false(spike_step(&watch, 9.0, true));
    assert_false(spike_step(&watch, 9.0, true));
    assert_true(spike_step(&watch, 9.0, true));
    assert_int_equal(watch.in_row, 3);
    watch.in_row = 0;
    assert_true(spike_step(&watch, NAN, false));
    spike_destroy(&watch);
}

static void what_is_saved_goes_on_the_same(void **state)
{
    (void)state;
    struct context context;
    struct spike_watch a;
    struct spike_watch b;
    spikes_start(&context, &a, 3);
    spikes_start(&context, &b, 3);
    assert_false(spike_step(&a, 2.0123456789, true));
    assert_false(spike_step(&a, 9.0, true));
    a.rewinds = 2;
    spike_save(&a);
    memcpy(b.image, a.image, (SPIKE_IMAGE_HEAD + WINDOW) * sizeof *b.image);
    spike_restore(&b);
    assert_int_equal(b.rewinds, 2);
    assert_int_equal(b.in_row, 1);
    assert_int_equal(b.count, WINDOW);
    assert_true(spike_threshold(&a) == spike_threshold(&b));
    assert_memory_equal(a.losses, b.losses, WINDOW * sizeof *a.losses);
    spike_destroy(&a);
    spike_destroy(&b);
}

static void nothing_is_a_spike_without_a_factor(void **state)
{
    (void)state;
    struct spike_watch watch = {0};
    assert_false(spike_step(&watch, NAN, false));
    spike_destroy(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_rank_is_named),
        cmocka_unit_test(a_rank_outside_of_mpi_is_named),
        cmocka_unit_test(a_rank_that_is_through_is_not_named),
        cmocka_unit_test(a_rank_that_left_a_collective_out_is_named),
        cmocka_unit_test(a_rank_one_collective_ahead_is_named),
        cmocka_unit_test(a_rank_in_a_collective_that_no_other_knows_is_named),
        cmocka_unit_test(a_stage_that_sends_nothing_is_named),
        cmocka_unit_test(states_survive_their_files),
        cmocka_unit_test(places_pack_and_count),
        cmocka_unit_test(the_threshold_is_of_medians),
        cmocka_unit_test(rounding_is_no_spike),
        cmocka_unit_test(a_spike_has_to_last),
        cmocka_unit_test(what_is_saved_goes_on_the_same),
        cmocka_unit_test(nothing_is_a_spike_without_a_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
