/* Checkpoints written by a thread of its own, at any number of ranks: the same to the byte as those written at once,
 * whatever happens to the elements meanwhile; failures on all ranks or on one leave nothing behind and can be retried.
 */
#include "tests/support/mpi_main.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/background.h"
#include "io/checkpoint/seal.h"
#include "tests/mpi/checkpoint_division.h"

enum { DATASETS = 7 };

static const struct {
    const char *name;
    int rank;
    int64_t shape[TENSOR_RANK];
} MODEL[DATASETS] = {
    {"/parameters/small", 1, {13}},        {"/parameters/large", 2, {401, 517}}, {"/parameters/nothing", 2, {0, 4}},
    {"/parameters/single", 1, {1}},        {"/parameters/wide", 2, {3, 70001}},  {"/optimizer/m/large", 2, {401, 517}},
    {"/memory/state", 4, {2, 13, 40, 41}},
};

struct world {
    struct mpi_fixture *fixture;
    struct context *context;
    struct mesh *mesh;
    bool first;
    char folder[CHECKPOINT_PATH];
    struct checkpoint_header *header;
    struct state_array datasets[DATASETS];
    struct state_piece pieces[DATASETS][PIECES];
    float *values; /* of this rank's pieces, one after the other */
    int64_t count;
};

/* Dataset i is divided in way (i + shift) % DIVISIONS; the values depend on the place in the dataset only where they
 * are the model's. */
static void model_create(struct world *world, int shift)
{
    world->values = calloc(1000000, sizeof *world->values);
    assert_non_null(world->values);
    world->count = 0;
    for (int i = 0; i < DATASETS; i++) {
        struct state_array *dataset = &world->datasets[i];
        struct box boxes[PIECES];
        snprintf(dataset->name, sizeof dataset->name, "%s", MODEL[i].name);
        dataset->rank = MODEL[i].rank;
        memcpy(dataset->shape, MODEL[i].shape, sizeof dataset->shape);
        dataset->pieces = world->pieces[i];
        dataset->piece_count = divide(dataset, (enum division)((i + shift) % DIVISIONS), i + shift,
                                      world->fixture->ranks, world->fixture->rank, boxes);
        for (int p = 0; p < dataset->piece_count; p++) {
            dataset->pieces[p] = (struct state_piece){.box = boxes[p], .data = world->values + world->count};
            world->count += box_count(&boxes[p], dataset->rank) + p;
        }
    }
    assert_true(world->count <= 1000000);
}

/* The same wherever it is, for each element of a dataset; another for each `salt`. */
static void model_fill(struct world *world, int salt)
{
    for (int i = 0; i < DATASETS; i++) {
        const struct state_array *dataset = &world->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct box *box = &dataset->pieces[p].box;
            for (int64_t e = 0; e < box_count(box, dataset->rank); e++) {
                int64_t index = 0;
                int64_t scale = 1;
                int64_t left = e;
                for (int d = dataset->rank - 1; d >= 0; d--) {
                    index += (box->offset[d] + left % box->extent[d]) * scale;
                    left /= box->extent[d];
                    scale *= dataset->shape[d];
                }
                dataset->pieces[p].data[e] = (float)(index % 100003 + 7 * i) * 0.37f + (float)salt;
            }
        }
    }
}

static void path_of(const char *folder, int64_t step, char path[CHECKPOINT_PATH])
{
    snprintf(path, CHECKPOINT_PATH, "%.700s/step-%08lld.h5", folder, (long long)step);
}

static bool exists(const char *folder, const char *name)
{
    char path[CHECKPOINT_PATH];
    snprintf(path, sizeof path, "%.600s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Metadata hold times of the day. */
static void assert_same_elements(struct context *context, const char *a, const char *b)
{
    char command[2 * CHECKPOINT_PATH + 128];
    struct seal seal[2];
    assert_ok(context, seal_check(context, a, &seal[0]));
    assert_ok(context, seal_check(context, b, &seal[1]));
    assert_int_equal(seal[0].size, seal[1].size);
    assert_int_equal(seal[0].data_begin, seal[1].data_begin);
    assert_int_equal(seal[0].data_end, seal[1].data_end);
    snprintf(command, sizeof command, "cmp -i %lld -n %lld '%s' '%s'", (long long)seal[0].data_begin,
             (long long)(seal[0].data_end - seal[0].data_begin), a, b);
    assert_int_equal(system(command), 0);
}

static void background_create(struct world *world, const struct background_tuning *tuning,
                              struct checkpoint_background **background)
{
    assert_ok(world->context,
              background_create_tuned(world->context, world->mesh, world->datasets, DATASETS, tuning, background));
}

static const struct background_tuning usual = {.direct = true, .check_space = true, .reserve_space = true};

static enum status begin(struct world *world, struct checkpoint_background *background, const char *folder,
                         int64_t step)
{
    const struct checkpoint_target target = {.folder = folder, .keep_last = 2};
    world->header->step = step;
    return checkpoint_background_begin(background, &target, world->header);
}

/* As a run that ends does. */
static enum status complete(struct checkpoint_background *background, struct checkpoint_progress *progress)
{
    enum status status = STATUS_OK;
    while (checkpoint_background_active(background)) {
        checkpoint_background_wait(background);
        status = checkpoint_background_advance(background, progress);
        assert_true(status == STATUS_OK || progress->complete);
    }
    return status;
}

static void folder_of(const struct world *world, const char *name, char folder[CHECKPOINT_PATH])
{
    snprintf(folder, CHECKPOINT_PATH, "%.600s/%s", world->folder, name);
}

/* -- Tests -- */

static void the_file_is_that_of_a_synchronous_write(struct world *world)
{
    char at_once[CHECKPOINT_PATH];
    char behind[CHECKPOINT_PATH];
    char path[2][CHECKPOINT_PATH];
    folder_of(world, "at-once", at_once);
    folder_of(world, "behind", behind);
    for (int round = 0; round < 2 * DIVISIONS; round++) {
        const struct background_tuning tuning = {.direct = round % 2, .check_space = true, .reserve_space = round % 4};
        struct checkpoint_background *background;
        struct checkpoint_progress progress;
        model_create(world, round / 2);
        background_create(world, &tuning, &background);
        model_fill(world, round);
        world->header->step = round;
        assert_ok(world->context,
                  checkpoint_write(world->context, world->mesh, at_once, world->header, world->datasets, DATASETS));
        int64_t allocations = world->context->memory.allocations;
        assert_false(checkpoint_background_active(background));
        assert_ok(world->context, begin(world, background, behind, round));
        assert_true(checkpoint_background_active(background));
        checkpoint_background_wait_copied(background);
        model_fill(world, -1);
        assert_ok(world->context, complete(background, &progress));
        assert_int_equal(world->context->memory.allocations, allocations);
        assert_int_equal(progress.bytes, 4 * (13 + 2 * 401 * 517 + 1 + 3 * 70001 + 2 * 13 * 40 * 41));
        assert_true(progress.written >= progress.copied && progress.copied > 0 && progress.held > 0);
        path_of(at_once, round, path[0]);
        path_of(behind, round, path[1]);
        assert_ok(world->context, checkpoint_verify(world->context, world->mesh, path[1]));
        if (world->first)
            assert_same_elements(world->context, path[0], path[1]);
        checkpoint_background_destroy(&background);
        free(world->values);
    }
    if (world->first)
        assert_true(exists(behind, "step-00000008.h5") && exists(behind, "step-00000009.h5") &&
                    !exists(behind, "step-00000007.h5") && exists(behind, "latest"));
}

/* Nothing but an earlier checkpoint is in the folder, which is good, and the next write succeeds. */
static void assert_recovers(struct world *world, struct checkpoint_background *background, const char *folder)
{
    char path[CHECKPOINT_PATH];
    struct checkpoint_progress progress;
    assert_false(checkpoint_background_active(background));
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_false(exists(folder, ".step-00000002.h5.partial"));
    assert_false(exists(folder, "step-00000002.h5"));
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_ok(world->context, begin(world, background, folder, 3));
    assert_ok(world->context, complete(background, &progress));
    path_of(folder, 3, path);
    assert_ok(world->context, checkpoint_verify(world->context, world->mesh, path));
}

/* Files of the last rank may have no more than a few bytes. */
static void a_rank_that_cannot_write_fails_all(struct world *world)
{
    char folder[CHECKPOINT_PATH];
    struct checkpoint_background *background;
    struct checkpoint_progress progress;
    struct rlimit before;
    folder_of(world, "limit", folder);
    model_create(world, 0);
    model_fill(world, 0);
    background_create(world, &usual, &background);
    assert_ok(world->context, begin(world, background, folder, 1));
    assert_ok(world->context, complete(background, &progress));
    bool last = world->fixture->rank == world->fixture->ranks - 1;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 100, .rlim_max = before.rlim_max};
    if (last)
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status status = begin(world, background, folder, 2);
    if (status == STATUS_OK)
        status = complete(background, &progress);
    assert_fails(world->context, status, STATUS_FILE, ".step-00000002.h5.partial: ");
    if (last)
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_recovers(world, background, folder);
    checkpoint_background_destroy(&background);
    free(world->values);
}

static void a_folder_that_goes_away_is_a_failure(struct world *world)
{
    char folder[CHECKPOINT_PATH];
    char command[CHECKPOINT_PATH + 16];
    struct checkpoint_background *background;
    struct checkpoint_progress progress;
    folder_of(world, "gone", folder);
    model_create(world, 1);
    model_fill(world, 0);
    background_create(world, &usual, &background);
    assert_ok(world->context, begin(world, background, folder, 2));
    checkpoint_background_wait(background);
    mesh_barrier(world->mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (world->first)
        assert_int_equal(system(command), 0);
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_fails(world->context, complete(background, &progress), STATUS_FILE, folder);
    assert_recovers(world, background, folder);
    /* All is well until the very end. */
    path_of(folder, 2, command);
    if (world->first)
        assert_int_equal(mkdir(command, 0777), 0);
    assert_ok(world->context, begin(world, background, folder, 2));
    assert_fails(world->context, complete(background, &progress), STATUS_FILE,
                 "is a folder, in the place of a file: move it away");
    if (world->first)
        assert_int_equal(rmdir(command), 0);
    assert_recovers(world, background, folder);
    checkpoint_background_destroy(&background);
    free(world->values);
}

static void a_full_disk_is_a_failure(struct world *world)
{
    char folder[CHECKPOINT_PATH];
    char large[CHECKPOINT_PATH + 16];
    struct checkpoint_progress progress;
    int64_t mounted = 0;
    folder_of(world, "disk", folder);
    if (world->first) {
        mkdir(folder, 0777);
        mounted = mount("tmpfs", folder, "tmpfs", 0, "size=8m") == 0;
    }
    mesh_broadcast(world->mesh, MESH_TEAM, 0, &mounted, 1, DTYPE_I64);
    if (!mounted) {
        print_message("skipped: a small file system cannot be mounted here\n");
        return;
    }
    model_create(world, 2);
    model_fill(world, 0);
    snprintf(large, sizeof large, "%.700s/large", folder);
    static const char *const messages[] = {"MiB free", "no space for", "o space left"};
    for (int i = 0; i < 3; i++) {
        const struct background_tuning tuning = {.direct = true, .check_space = i == 0, .reserve_space = i <= 1};
        struct checkpoint_background *background;
        background_create(world, &tuning, &background);
        FILE *file = world->first ? fopen(large, "w") : NULL;
        if (world->first) {
            static const char zeros[1 << 20];
            assert_non_null(file);
            for (int m = 0; m < 7; m++)
                (void)!fwrite(zeros, 1, sizeof zeros, file);
            fclose(file);
        }
        enum status status = begin(world, background, folder, 2);
        if (status == STATUS_OK)
            status = complete(background, &progress);
        assert_fails(world->context, status, STATUS_FILE, messages[i]);
        if (world->first)
            unlink(large);
        assert_recovers(world, background, folder);
        if (world->first) {
            path_of(folder, 3, large);
            unlink(large);
            snprintf(large, sizeof large, "%.700s/large", folder);
        }
        checkpoint_background_destroy(&background);
    }
    free(world->values);
    mesh_barrier(world->mesh, MESH_TEAM);
    if (world->first)
        umount(folder);
}

static void an_end_in_the_middle_leaves_nothing(struct world *world)
{
    char folder[CHECKPOINT_PATH];
    struct checkpoint_background *background;
    folder_of(world, "end", folder);
    model_create(world, 3);
    for (int waits = 0; waits < 2; waits++) {
        background_create(world, &usual, &background);
        assert_ok(world->context, begin(world, background, folder, 2));
        if (waits)
            checkpoint_background_wait(background);
        checkpoint_background_destroy(&background);
        assert_null(background);
        mesh_barrier(world->mesh, MESH_TEAM);
        assert_false(exists(folder, ".step-00000002.h5.partial"));
        assert_false(exists(folder, "step-00000002.h5"));
        mesh_barrier(world->mesh, MESH_TEAM);
    }
    /* A dataset that the ranks do not hold all of. */
    world->datasets[1].shape[0]++;
    assert_fails(world->context,
                 background_create_tuned(world->context, world->mesh, world->datasets, DATASETS, &usual, &background),
                 STATUS_INTERNAL, "elements of /parameters/large");
    assert_null(background);
    free(world->values);
}

/* -- Main -- */

static void with_world(void **state, void (*test)(struct world *))
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    char command[CHECKPOINT_PATH + 16];
    const char *temporary = getenv("TMPDIR");
    world->fixture = mpi_fixture_of(state);
    world->context = &world->fixture->context;
    world->first = world->fixture->rank == 0;
    world->mesh = mpi_mesh(world->fixture, (struct mesh_config){world->fixture->ranks, 1, 1, 1, 1});
    world->header = calloc(1, sizeof *world->header);
    assert_non_null(world->header);
    strcpy(world->header->created, "2024-02-29T12:00:00Z");
    strcpy(world->header->config, "model:\n  layers: 2\n");
    snprintf(world->folder, sizeof world->folder, "%.200s/cairn-background-XXXXXX", temporary ? temporary : "/tmp");
    if (world->first)
        assert_non_null(mkdtemp(world->folder));
    mesh_broadcast(world->mesh, MESH_TEAM, 0, world->folder, sizeof world->folder, DTYPE_BYTE);
    test(world);
    mesh_barrier(world->mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", world->folder);
    if (world->first)
        assert_int_equal(system(command), 0);
    mesh_destroy(&world->mesh);
    assert_int_equal(world->context->memory.bytes_total, 0);
    free(world->header);
    free(world);
}

#define TEST(name)                        \
    static void test_##name(void **state) \
    {                                     \
        with_world(state, name);          \
    }
TEST(the_file_is_that_of_a_synchronous_write)
TEST(a_rank_that_cannot_write_fails_all)
TEST(a_folder_that_goes_away_is_a_failure)
TEST(a_full_disk_is_a_failure)
TEST(an_end_in_the_middle_leaves_nothing)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_the_file_is_that_of_a_synchronous_write),
    cmocka_unit_test(test_a_rank_that_cannot_write_fails_all),
    cmocka_unit_test(test_a_folder_that_goes_away_is_a_failure),
    cmocka_unit_test(test_a_full_disk_is_a_failure),
    cmocka_unit_test(test_an_end_in_the_middle_leaves_nothing),
};

MPI_MAIN(tests)
