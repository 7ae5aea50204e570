/* Checkpoints that go wrong, at any number of ranks: files of others, disks that are full or cannot be written, and no
 * damage that goes unnoticed. */
#include "tests/mpi/checkpoint_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/seal.h"

static void test_wrong_shapes(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    folder_of(world, "shapes", folder);
    write_step(world, folder, 1, 0);
    path_of(folder, 1, path);
    struct model *model = model_create(world, 3, false);
    struct checkpoint_header *header = header_create(2);
    model->datasets[1].shape[1] = 34;
    assert_fails(&world->context, checkpoint_read(&world->context, world->mesh, path, model->datasets, DATASETS),
                 STATUS_FILE, "/parameters/model.wide has shape [2, 33], the model's is [2, 34]");
    assert_fails(&world->context,
                 checkpoint_write(&world->context, world->mesh, folder, header, model->datasets, DATASETS),
                 STATUS_INTERNAL, "the ranks hold 66 elements of /parameters/model.wide, which has 68");
    strcpy(model->datasets[0].name, "/parameters/other");
    assert_fails(&world->context, checkpoint_read(&world->context, world->mesh, path, model->datasets, DATASETS),
                 STATUS_FILE, "no dataset /parameters/other");
    model->datasets[1].shape[1] = 33;
    /* Wrong on one rank only. */
    if (world->rank == world->size - 1) {
        model->datasets[2].piece_count = 1;
        model->pieces[2][0].box.extent[0] = 14;
    }
    assert_fails(&world->context, checkpoint_read(&world->context, world->mesh, path, model->datasets, DATASETS),
                 STATUS_INTERNAL, "/parameters/model.vector");
    free(header);
    free(model);
}

/* Files of others: no seal, and numbers of another type. */
static void test_foreign_file(void **state)
{
    struct world *world = *state;
    char path[CHECKPOINT_PATH];
    double numbers[7] = {0, 1, -2, 3.5, 1e-3, 1e30, -7};
    float mine[7] = {0};
    snprintf(path, sizeof path, "%.700s/foreign.h5", world->folder);
    if (world->rank == 0) {
        hsize_t size = 7;
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hid_t space = H5Screate_simple(1, &size, NULL);
        hid_t dataset = H5Dcreate2(file, "/numbers", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        assert_true(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers) >= 0);
        H5Dclose(dataset);
        H5Sclose(space);
        assert_true(H5Fclose(file) >= 0);
    }
    struct range part = range_partition(7, world->size, world->rank);
    struct state_piece piece = {.box = {.offset = {part.begin}, .extent = {part.count}}, .data = mine};
    struct state_array dataset = {.name = "/numbers", .rank = 1, .shape = {7}, .piece_count = 1, .pieces = &piece};
    assert_ok(&world->context, checkpoint_read(&world->context, world->mesh, path, &dataset, 1));
    for (int64_t i = 0; i < part.count; i++)
        assert_true(mine[i] == (float)numbers[part.begin + i]);
    struct checkpoint_header *header = header_create(0);
    assert_fails(&world->context, checkpoint_read_header(&world->context, world->mesh, path, header), STATUS_FILE,
                 "not a checkpoint");
    assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_FILE,
                 "not a checkpoint");
    assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, "/nowhere/x.h5"), STATUS_FILE,
                 "/nowhere/x.h5: cannot be opened");
    free(header);
}

/* A good seal, but hashes of another kind. */
static void test_other_hashes(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    struct seal seal;
    folder_of(world, "hashes", folder);
    write_step(world, folder, 1, 0);
    path_of(folder, 1, path);
    if (world->rank == 0) {
        assert_ok(&world->context, seal_check(&world->context, path, &seal));
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(H5Adelete(file, "hash") >= 0);
        assert_true(H5Fclose(file) >= 0);
        assert_ok(&world->context, seal_write(&world->context, path, seal.data_begin, seal.data_end));
    }
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_USAGE,
                 "its hashes are not CRC-64/XZ");
    bool found;
    assert_fails(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path), STATUS_USAGE,
                 "its hashes are not CRC-64/XZ");
}

static void test_unwritable(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    snprintf(folder, sizeof folder, "%.700s/file", world->folder);
    if (world->rank == 0) {
        FILE *file = fopen(folder, "w");
        assert_non_null(file);
        fclose(file);
    }
    struct model *model = model_create(world, 0, true);
    struct checkpoint_header *header = header_create(1);
    assert_fails(&world->context,
                 checkpoint_write(&world->context, world->mesh, folder, header, model->datasets, DATASETS), STATUS_FILE,
                 "not a folder");
    assert_fails(
        &world->context,
        checkpoint_write(&world->context, world->mesh, "/proc/nothing/here", header, model->datasets, DATASETS),
        STATUS_FILE, "/proc/nothing");
    free(header);
    free(model);
}

/* Mounts on rank 0; false on all ranks if that is not allowed. */
static bool disk_mount(struct world *world, const char *folder, const char *options, unsigned long flags)
{
    int64_t mounted = 0;
    if (world->rank == 0) {
        mkdir(folder, 0777);
        mounted = mount("tmpfs", folder, "tmpfs", flags, options) == 0;
    }
    mesh_broadcast(world->mesh, MESH_TEAM, 0, &mounted, 1, DTYPE_I64);
    return mounted;
}

static void disk_unmount(struct world *world, const char *folder)
{
    mesh_barrier(world->mesh, MESH_TEAM);
    if (world->rank == 0)
        umount(folder);
    mesh_barrier(world->mesh, MESH_TEAM);
}

static void test_full_disk(void **state)
{
    struct world *world = *state;
    enum { ROWS = 600, COLUMNS = 1024 };
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    char partial[CHECKPOINT_PATH + 32];
    snprintf(folder, sizeof folder, "%.500s/disk", world->folder);
    if (!disk_mount(world, folder, "size=2m", 0)) {
        print_message("skipped: a small file system cannot be mounted here\n");
        skip();
    }
    write_step(world, folder, 1, 0);
    path_of(folder, 1, path);
    snprintf(partial, sizeof partial, "%s/.step-00000002.h5.partial", folder);
    struct range rows = range_partition(ROWS, world->size, world->rank);
    float *data = calloc(ROWS * COLUMNS, sizeof *data);
    assert_non_null(data);
    struct state_piece piece = {.box = {.offset = {rows.begin, 0}, .extent = {rows.count, COLUMNS}}, .data = data};
    struct state_array dataset = {
        .name = "/parameters/large", .rank = 2, .shape = {ROWS, COLUMNS}, .piece_count = 1, .pieces = &piece};
    struct checkpoint_header *header = header_create(2);
    /* Together and not reserved, MPI-IO may hang, except on one rank. */
    static const char *const messages[] = {"MiB free", "no space for", "o space left", "cannot be written"};
    for (int i = 0; i < (world->size == 1 ? 4 : 3); i++) {
        const struct write_tuning tuning = {.method = i == 3 ? WRITE_TOGETHER : WRITE_AS_FITS,
                                            .transfer_bytes = 1 << 20,
                                            .check_space = i == 0,
                                            .reserve_space = i <= 1};
        assert_fails(&world->context,
                     checkpoint_write_tuned(&world->context, world->mesh, folder, header, &dataset, 1, &tuning),
                     STATUS_FILE, messages[i]);
        mesh_barrier(world->mesh, MESH_TEAM);
        assert_int_not_equal(access(partial, F_OK), 0);
        assert_ok(&world->context, checkpoint_verify(&world->context, world->mesh, path));
    }
    bool found;
    assert_ok(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path));
    assert_true(found);
    free(header);
    free(data);
    disk_unmount(world, folder);
}

static void test_read_only_disk(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    snprintf(folder, sizeof folder, "%.500s/read-only", world->folder);
    if (!disk_mount(world, folder, "size=2m", MS_RDONLY)) {
        print_message("skipped: a read-only file system cannot be mounted here\n");
        skip();
    }
    struct model *model = model_create(world, 0, true);
    struct checkpoint_header *header = header_create(1);
    assert_fails(&world->context,
                 checkpoint_write(&world->context, world->mesh, folder, header, model->datasets, DATASETS), STATUS_FILE,
                 "ead-only file system");
    free(header);
    free(model);
    disk_unmount(world, folder);
}

/* Every byte in turn by one rank alone; a sample by all together. */
static void test_damage(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    folder_of(world, "damage", folder);
    write_step(world, folder, 1, 0);
    path_of(folder, 1, path);
    int64_t size = file_size(path);
    if (world->rank == 0) {
        context_clear(&world->context);
        for (int64_t i = 0; i < size; i++) {
            file_change(path, i, (unsigned char)(1 << i % 8));
            assert_fails(&world->context, verify_file(&world->context, path), STATUS_FILE, path);
            file_change(path, i, (unsigned char)(1 << i % 8));
        }
        assert_ok(&world->context, verify_file(&world->context, path));
    }
    for (int64_t i = 0; i < 100; i++) {
        int64_t at = i * 7919 % size;
        file_change_first(world, path, at);
        assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_FILE, path);
        file_change_first(world, path, at);
    }
    assert_ok(&world->context, checkpoint_verify(&world->context, world->mesh, path));
}

/* A seal that claims more of the file for elements than there are: those bytes would have no hash. */
static void test_bytes_without_hash(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    struct seal seal;
    folder_of(world, "unhashed", folder);
    write_step(world, folder, 1, 0);
    path_of(folder, 1, path);
    if (world->rank == 0) {
        assert_ok(&world->context, seal_check(&world->context, path, &seal));
        assert_ok(&world->context, seal_write(&world->context, path, seal.data_begin - 8, seal.data_end));
    }
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_FILE,
                 "damaged: bytes that no hash covers");
}

static void test_wrong_length(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    bool found;
    folder_of(world, "length", folder);
    write_step(world, folder, 1, 0);
    path_of(folder, 1, path);
    int64_t size = file_size(path);
    for (int64_t i = 0; i <= 50; i++) {
        mesh_barrier(world->mesh, MESH_TEAM);
        /* One byte too many first, then ever less of it, then nothing. */
        if (world->rank == 0)
            assert_int_equal(truncate(path, i ? (size - 1) * (50 - i) / 49 : size + 1), 0);
        mesh_barrier(world->mesh, MESH_TEAM);
        assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_FILE, path);
    }
    assert_fails(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path), STATUS_FILE,
                 "damaged");
}

/* -- Main -- */

static int run(struct world *world)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_wrong_shapes, world),
        cmocka_unit_test_prestate(test_foreign_file, world),
        cmocka_unit_test_prestate(test_other_hashes, world),
        cmocka_unit_test_prestate(test_unwritable, world),
        cmocka_unit_test_prestate(test_full_disk, world),
        cmocka_unit_test_prestate(test_read_only_disk, world),
        cmocka_unit_test_prestate(test_damage, world),
        cmocka_unit_test_prestate(test_wrong_length, world),
        cmocka_unit_test_prestate(test_bytes_without_hash, world),
    };
    return cmocka_run_group_tests_name("checkpoint_faults", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return world_run(argc, argv, run);
}
