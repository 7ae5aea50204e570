/* Checkpoints at any number of ranks: every division of the elements writes the same file, any other division reads
 * it, and no damage goes unnoticed. */
#include "tests/support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/verify.h"
#include "io/checkpoint/write.h"

enum { DATASETS = 9, PIECES = 8, LARGEST = 160 };

/* How the ranks divide a dataset. */
enum division { BY_ROWS, BY_COLUMNS, BY_FLAT_RANGE, BY_ONE_RANK, BY_STRIPES, DIVISIONS };

struct world {
    struct context context;
    struct mesh *mesh;
    int rank;
    int size;
    char folder[CHECKPOINT_PATH];
};

static const struct {
    const char *name;
    int rank;
    int64_t shape[TENSOR_RANK];
} MODEL[DATASETS] = {
    {"/parameters/model.matrix", 2, {7, 10}},   {"/parameters/model.wide", 2, {2, 33}},
    {"/parameters/model.vector", 1, {13}},      {"/parameters/model.single", 1, {1}},
    {"/parameters/model.nothing", 2, {0, 4}},   {"/optimizer/m/model.matrix", 2, {7, 10}},
    {"/optimizer/v/model.cube", 3, {3, 4, 5}},  {"/memory/layers.0/state", 4, {2, 3, 4, 5}},
    {"/memory/layers.0/norm", 4, {1, 2, 1, 3}},
};

/* This rank's pieces of all datasets and memory for them; `whole` holds the right values of each. */
struct model {
    struct checkpoint_dataset datasets[DATASETS];
    struct checkpoint_piece pieces[DATASETS][PIECES];
    float memory[DATASETS][2 * LARGEST];
    float whole[DATASETS][LARGEST];
};

static int64_t shape_count(int rank, const int64_t *shape)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= shape[i];
    return count;
}

/* Copies between the whole dataset and a piece. */
static void piece_copy(const struct checkpoint_dataset *dataset, struct checkpoint_piece *piece, float *whole, bool out)
{
    int64_t count = box_count(&piece->box, dataset->rank);
    for (int64_t i = 0; i < count; i++) {
        int64_t left = i;
        int64_t index = 0;
        int64_t scale = 1;
        for (int d = dataset->rank - 1; d >= 0; d--) {
            index += (piece->box.offset[d] + left % piece->box.extent[d]) * scale;
            left /= piece->box.extent[d];
            scale *= dataset->shape[d];
        }
        if (out)
            piece->data[i] = whole[index];
        else
            whole[index] = piece->data[i];
    }
}

/* The boxes of a dataset that this rank holds, in no particular order. */
static int divide(const struct world *world, const struct checkpoint_dataset *dataset, enum division division,
                  int owner, struct box boxes[PIECES])
{
    int rank = dataset->rank;
    int axis = division == BY_ROWS ? 0 : rank - 1;
    struct box whole = {0};
    for (int i = 0; i < rank; i++)
        whole.extent[i] = dataset->shape[i];
    boxes[0] = whole;
    switch (division) {
    case BY_ROWS:
    case BY_COLUMNS: {
        struct range part = range_partition(dataset->shape[axis], world->size, world->rank);
        boxes[0].offset[axis] = part.begin;
        boxes[0].extent[axis] = part.count;
        return 1;
    }
    case BY_FLAT_RANGE:
        return box_from_range(&whole, rank, range_partition(box_count(&whole, rank), world->size, world->rank), boxes);
    case BY_ONE_RANK:
        return world->rank == owner % world->size ? 1 : 0;
    default:
        break;
    }
    /* Two stripes of columns, the later one first: in the file they interleave. */
    for (int i = 0; i < 2; i++) {
        struct range part = range_partition(dataset->shape[axis], 2 * world->size, (1 - i) * world->size + world->rank);
        boxes[i] = whole;
        boxes[i].offset[axis] = part.begin;
        boxes[i].extent[axis] = part.count;
    }
    return 2;
}

/* Dataset i is divided in way (i + shift) % DIVISIONS. */
static struct model *model_create(const struct world *world, int shift, bool fill)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    for (int i = 0; i < DATASETS; i++) {
        struct checkpoint_dataset *dataset = &model->datasets[i];
        struct box boxes[PIECES];
        snprintf(dataset->name, sizeof dataset->name, "%s", MODEL[i].name);
        dataset->rank = MODEL[i].rank;
        memcpy(dataset->shape, MODEL[i].shape, sizeof dataset->shape);
        dataset->pieces = model->pieces[i];
        enum division division = (enum division)((i + shift) % DIVISIONS);
        dataset->piece_count = divide(world, dataset, division, i + shift, boxes);
        fill_random(model->whole[i], shape_count(dataset->rank, dataset->shape), dataset->name);
        int64_t used = 0;
        for (int p = 0; p < dataset->piece_count; p++) {
            dataset->pieces[p] = (struct checkpoint_piece){.box = boxes[p], .data = model->memory[i] + used};
            /* Parts of a flat range follow each other in memory, stripes have a gap. */
            used += box_count(&boxes[p], dataset->rank) + (division == BY_STRIPES ? 3 : 0);
            if (fill)
                piece_copy(dataset, &dataset->pieces[p], model->whole[i], true);
        }
    }
    return model;
}

static void model_assert(const struct model *model)
{
    for (int i = 0; i < DATASETS; i++) {
        const struct checkpoint_dataset *dataset = &model->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            float expected[LARGEST];
            struct checkpoint_piece piece = {.box = dataset->pieces[p].box, .data = expected};
            float *whole = (float *)(uintptr_t)model->whole[i];
            piece_copy(dataset, &piece, whole, true);
            int64_t count = box_count(&piece.box, dataset->rank);
            assert_memory_equal(dataset->pieces[p].data, expected, (size_t)count * sizeof expected[0]);
        }
    }
}

static struct checkpoint_header *header_create(int64_t step)
{
    struct checkpoint_header *header = calloc(1, sizeof *header);
    assert_non_null(header);
    header->step = step;
    header->tokens = step * 4096 + 1;
    header->sequences = (int64_t)1 << 40;
    header->skipped = 3;
    header->skipped_in_row = -1;
    header->seed = INT64_MIN;
    strcpy(header->created, "2024-02-29T12:00:00Z");
    strcpy(header->mesh, "data=2 pipeline=1 context=1 tensor=3");
    strcpy(header->config, "model:\n  layers: 2 # \xc3\xa9\n");
    return header;
}

static void write_step(struct world *world, const char *folder, int64_t step, int shift)
{
    struct model *model = model_create(world, shift, true);
    struct checkpoint_header *header = header_create(step);
    assert_ok(&world->context,
              checkpoint_write(&world->context, world->mesh, folder, header, model->datasets, DATASETS));
    free(header);
    free(model);
}

static void path_of(const char *folder, int64_t step, char path[CHECKPOINT_PATH])
{
    snprintf(path, CHECKPOINT_PATH, "%.700s/step-%08lld.h5", folder, (long long)step);
}

/* A folder of its own for each test, below the one that is removed in the end. */
static void folder_of(const struct world *world, const char *name, char folder[CHECKPOINT_PATH])
{
    snprintf(folder, CHECKPOINT_PATH, "%.500s/%s/checkpoints", world->folder, name);
}

/* CRC-64/XZ by its definition, bit for bit. */
static uint64_t crc_by_bits(const float *values, int64_t count)
{
    const unsigned char *bytes = (const unsigned char *)values;
    uint64_t crc = ~UINT64_C(0);
    for (int64_t i = 0; i < count * (int64_t)sizeof *values; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT64_C(0xc96c5795d7870f42) : crc >> 1;
    }
    return ~crc;
}

static void hashes_of(struct world *world, const char *path, uint64_t hashes[DATASETS])
{
    struct seal seal;
    struct layout_entry *entries;
    int count;
    assert_ok(&world->context, seal_check(&world->context, path, &seal));
    assert_ok(&world->context, layout_list(&world->context, path, &seal, &entries, &count));
    assert_int_equal(count, DATASETS);
    for (int i = 0; i < DATASETS; i++) {
        assert_string_equal(entries[i].name, MODEL[i].name);
        hashes[i] = entries[i].hash;
    }
    memory_free(&world->context, entries);
}

static void file_change(const char *path, int64_t offset, unsigned char mask)
{
    unsigned char byte;
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0);
    assert_int_equal(pread(descriptor, &byte, 1, offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(descriptor, &byte, 1, offset), 1);
    close(descriptor);
}

static int64_t file_size(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

/* Damages a file on rank 0 between two barriers. */
static void file_change_first(struct world *world, const char *path, int64_t offset)
{
    mesh_barrier(world->mesh, MESH_WORLD);
    if (world->rank == 0)
        file_change(path, offset, 0x10);
    mesh_barrier(world->mesh, MESH_WORLD);
}

/* -- Tests -------------------------------------------------------------------------------------------------------- */

static void test_any_division_reads_any(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    uint64_t first[DATASETS] = {0};
    folder_of(world, "divisions", folder);
    for (int writer = 0; writer < DIVISIONS; writer++) {
        write_step(world, folder, writer, writer);
        path_of(folder, writer, path);
        assert_ok(&world->context, checkpoint_verify(&world->context, world->mesh, path));
        for (int reader = 0; reader < DIVISIONS; reader++) {
            struct model *model = model_create(world, reader, false);
            assert_ok(&world->context, checkpoint_read(&world->context, world->mesh, path, model->datasets, DATASETS));
            model_assert(model);
            free(model);
        }
        uint64_t hashes[DATASETS];
        hashes_of(world, path, hashes);
        if (writer == 0)
            memcpy(first, hashes, sizeof first);
        assert_memory_equal(first, hashes, sizeof first);
    }
    struct model *model = model_create(world, 0, true);
    for (int i = 0; i < DATASETS; i++)
        assert_true(first[i] == crc_by_bits(model->whole[i], shape_count(MODEL[i].rank, MODEL[i].shape)));
    free(model);
}

static void test_small_transfers(void **state)
{
    struct world *world = *state;
    static const int64_t limits[] = {1, 8, 52, 100};
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    folder_of(world, "transfers", folder);
    path_of(folder, 5, path);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const struct write_tuning tuning = {.method = i % 2 ? WRITE_ALONE : WRITE_TOGETHER,
                                            .transfer_bytes = limits[i],
                                            .check_space = true,
                                            .reserve_space = true};
        struct model *model = model_create(world, (int)i, true);
        struct model *copy = model_create(world, (int)i + 2, false);
        struct checkpoint_header *header = header_create(5);
        assert_ok(&world->context, checkpoint_write_tuned(&world->context, world->mesh, folder, header, model->datasets,
                                                          DATASETS, &tuning));
        assert_ok(&world->context, checkpoint_verify(&world->context, world->mesh, path));
        assert_ok(&world->context, checkpoint_read_tuned(&world->context, world->mesh, path, copy->datasets, DATASETS,
                                                         i < 2, limits[i]));
        model_assert(copy);
        free(header);
        free(copy);
        free(model);
    }
}

static void test_header(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    folder_of(world, "header", folder);
    struct checkpoint_header *header = header_create(123456789);
    struct checkpoint_header *back = calloc(1, sizeof *back);
    assert_non_null(back);
    memset(header->config, 'x', sizeof header->config - 1);
    path_of(folder, header->step, path);
    for (int i = 0; i < 2; i++) {
        assert_ok(&world->context, checkpoint_write(&world->context, world->mesh, folder, header, NULL, 0));
        assert_ok(&world->context, checkpoint_read_header(&world->context, world->mesh, path, back));
        if (i == 0) {
            assert_memory_equal(header, back, sizeof *header);
            memset(header->config, 0, sizeof header->config);
            memset(header->created, 0, sizeof header->created);
        }
    }
    assert_string_equal(back->config, "");
    assert_int_equal(strlen(back->created), strlen("2024-02-29T12:00:00Z"));
    free(back);
    free(header);
}

static void test_find(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    char newest[CHECKPOINT_PATH];
    char stale[CHECKPOINT_PATH + 32];
    char text[64] = "";
    bool found = true;
    folder_of(world, "find", folder);
    assert_ok(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path));
    assert_false(found);
    write_step(world, folder, 90, 0);
    write_step(world, folder, 100000000, 1);
    path_of(folder, 100000000, newest);
    snprintf(stale, sizeof stale, "%s/.step-00000091.h5.partial", folder);
    if (world->rank == 0) {
        FILE *file = fopen(stale, "w");
        assert_non_null(file);
        fclose(file);
    }
    assert_ok(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path));
    assert_true(found);
    assert_string_equal(path, newest);
    /* Whoever only looks leaves alone what a running job may be writing. */
    mesh_barrier(world->mesh, MESH_WORLD);
    assert_int_equal(access(stale, F_OK), 0);
    mesh_barrier(world->mesh, MESH_WORLD);
    checkpoint_clean(&world->context, world->mesh, folder);
    mesh_barrier(world->mesh, MESH_WORLD);
    assert_int_not_equal(access(stale, F_OK), 0);
    snprintf(stale, sizeof stale, "%s/latest", folder);
    FILE *latest = fopen(stale, "r");
    assert_non_null(latest);
    assert_non_null(fgets(text, sizeof text, latest));
    fclose(latest);
    assert_string_equal(text, "step-100000000.h5\n");
    /* Damage in the elements, whose bytes are the file's last. */
    file_change_first(world, newest, file_size(newest) - 3);
    assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, newest), STATUS_FILE,
                 MODEL[DATASETS - 1].name);
    assert_ok(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path));
    assert_true(found);
    path_of(folder, 90, newest);
    assert_string_equal(path, newest);
    file_change_first(world, newest, 2000);
    assert_fails(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path), STATUS_FILE,
                 "all 2 checkpoints");
    assert_false(found);
}

static void test_prune(void **state)
{
    struct world *world = *state;
    static const int64_t steps[] = {10, 20, 30, 40, 50, 60};
    static const bool kept[] = {true, false, true, true, true, true};
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH];
    folder_of(world, "prune", folder);
    for (int i = 0; i < 6; i++)
        write_step(world, folder, steps[i], i);
    write_step(world, folder, 10, 0); /* latest is now the oldest */
    checkpoint_prune(&world->context, world->mesh, folder, 3, 30);
    mesh_barrier(world->mesh, MESH_WORLD);
    for (int i = 0; i < 6; i++) {
        path_of(folder, steps[i], path);
        assert_int_equal(access(path, F_OK) == 0, kept[i]);
    }
    mesh_barrier(world->mesh, MESH_WORLD);
    write_step(world, folder, 50, 0);
    checkpoint_prune(&world->context, world->mesh, folder, 0, 0);
    mesh_barrier(world->mesh, MESH_WORLD);
    for (int i = 0; i < 6; i++) {
        path_of(folder, steps[i], path);
        assert_int_equal(access(path, F_OK) == 0, steps[i] >= 50);
    }
    checkpoint_prune(&world->context, world->mesh, "/nowhere", 1, 0);
    assert_int_equal(world->context.status, STATUS_OK);
}

/* Runs the tools with standard output in a file, whose start it returns. */
static void output_to(const char *path, int *saved)
{
    fflush(stdout);
    *saved = dup(STDOUT_FILENO);
    int descriptor = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    assert_true(*saved >= 0 && descriptor >= 0);
    dup2(descriptor, STDOUT_FILENO);
    close(descriptor);
}

static void output_back(const char *path, int saved, char *text, size_t size)
{
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void test_tools(void **state)
{
    struct world *world = *state;
    char folder[CHECKPOINT_PATH];
    char path[3][CHECKPOINT_PATH];
    char output[CHECKPOINT_PATH + 32];
    char text[16384];
    struct checkpoint_difference difference;
    int saved;
    folder_of(world, "tools", folder);
    for (int i = 0; i < 2; i++) {
        write_step(world, folder, i, i);
        path_of(folder, i, path[i]);
    }
    struct model *model = model_create(world, 0, true);
    struct checkpoint_header *header = header_create(2);
    struct checkpoint_piece *piece = &model->pieces[0][0];
    if (model->datasets[0].piece_count && piece->box.offset[0] == 0) {
        piece->data[4] = 8;
        piece->data[5] = 7;
    }
    assert_ok(&world->context,
              checkpoint_write(&world->context, world->mesh, folder, header, model->datasets, DATASETS - 1));
    path_of(folder, 2, path[2]);
    if (world->rank == 0) {
        snprintf(output, sizeof output, "%s/output", folder);
        output_to(output, &saved);
        assert_ok(&world->context, checkpoint_diff(&world->context, path[0], path[1], 0, &difference));
        output_back(output, saved, text, sizeof text);
        assert_int_equal(difference.datasets, DATASETS);
        assert_int_equal(difference.different, 0);
        assert_true(difference.largest == 0);
        assert_non_null(strstr(text, "step: 0 / 1"));
        output_to(output, &saved);
        assert_ok(&world->context, checkpoint_diff(&world->context, path[0], path[2], 0, &difference));
        output_back(output, saved, text, sizeof text);
        assert_int_equal(difference.different, 2);
        assert_true(isinf(difference.largest));
        assert_non_null(strstr(text, "/memory/layers.0/norm: [1, 2, 1, 3] / missing"));
        double expected = fmax(fabs(8 - (double)model->whole[0][4]), fabs(7 - (double)model->whole[0][5])) / 8;
        char line[128];
        snprintf(line, sizeof line, "/parameters/model.matrix: differs by %.3g in 2 of 70 elements", expected);
        assert_non_null(strstr(text, line));
        output_to(output, &saved);
        assert_ok(&world->context, checkpoint_diff(&world->context, path[2], path[0], 1e3, &difference));
        output_back(output, saved, text, sizeof text);
        assert_int_equal(difference.different, 1);
        output_to(output, &saved);
        enum status status = checkpoint_inspect(&world->context, path[0], true);
        output_back(output, saved, text, sizeof text);
        assert_int_equal(status, STATUS_OK);
        assert_non_null(strstr(text, "parameters      150\n"));
        assert_non_null(strstr(text, "/memory/layers.0/state"));
        file_change(path[0], file_size(path[0]) - 1, 1);
        output_to(output, &saved);
        status = checkpoint_inspect(&world->context, path[0], true);
        output_back(output, saved, text, sizeof text);
        assert_non_null(strstr(text, "DAMAGED"));
        assert_int_equal(status, STATUS_FILE);
        context_clear(&world->context);
    }
    free(header);
    free(model);
}

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
    struct checkpoint_piece piece = {.box = {.offset = {part.begin}, .extent = {part.count}}, .data = mine};
    struct checkpoint_dataset dataset = {
        .name = "/numbers", .rank = 1, .shape = {7}, .piece_count = 1, .pieces = &piece};
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
    mesh_barrier(world->mesh, MESH_WORLD);
    assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_FILE,
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
    mesh_broadcast(world->mesh, MESH_WORLD, 0, &mounted, 1, DTYPE_I64);
    return mounted;
}

static void disk_unmount(struct world *world, const char *folder)
{
    mesh_barrier(world->mesh, MESH_WORLD);
    if (world->rank == 0)
        umount(folder);
    mesh_barrier(world->mesh, MESH_WORLD);
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
    struct checkpoint_piece piece = {.box = {.offset = {rows.begin, 0}, .extent = {rows.count, COLUMNS}}, .data = data};
    struct checkpoint_dataset dataset = {
        .name = "/parameters/large", .rank = 2, .shape = {ROWS, COLUMNS}, .piece_count = 1, .pieces = &piece};
    struct checkpoint_header *header = header_create(2);
    /* Together and not reserved, MPI-IO may hang, except on one rank. */
    static const char *const messages[] = {"MiB free", "no space for", "o space left", "cannot be written"};
    for (int i = 0; i < 3; i++) {
        const struct write_tuning tuning = {.method = i == 3 ? WRITE_TOGETHER : WRITE_AS_FITS,
                                            .transfer_bytes = 1 << 20,
                                            .check_space = i == 0,
                                            .reserve_space = i <= 1};
        assert_fails(&world->context,
                     checkpoint_write_tuned(&world->context, world->mesh, folder, header, &dataset, 1, &tuning),
                     STATUS_FILE, messages[i]);
        mesh_barrier(world->mesh, MESH_WORLD);
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
        mesh_barrier(world->mesh, MESH_WORLD);
        /* One byte too many first, then ever less of it, then nothing. */
        if (world->rank == 0)
            assert_int_equal(truncate(path, i ? (size - 1) * (50 - i) / 49 : size + 1), 0);
        mesh_barrier(world->mesh, MESH_WORLD);
        assert_fails(&world->context, checkpoint_verify(&world->context, world->mesh, path), STATUS_FILE, path);
    }
    assert_fails(&world->context, checkpoint_find(&world->context, world->mesh, folder, &found, path), STATUS_FILE,
                 "damaged");
}

/* -- Main --------------------------------------------------------------------------------------------------------- */

static int world_create(void **state)
{
    struct world *world = *state;
    char place[256];
    const char *temporary = getenv("TMPDIR");
    snprintf(place, sizeof place, "%.200s/cairn-checkpoint-XXXXXX", temporary ? temporary : "/tmp");
    struct mesh_config config = {.data = world->size, .pipeline = 1, .context = 1, .tensor = 1, .virtual_stages = 1};
    if (mesh_create(&world->context, &config, &world->mesh) != STATUS_OK)
        return -1;
    if (world->rank == 0 && !mkdtemp(place))
        return -1;
    strcpy(world->folder, place);
    mesh_broadcast(world->mesh, MESH_WORLD, 0, world->folder, sizeof world->folder, DTYPE_BYTE);
    return 0;
}

static int world_destroy(void **state)
{
    struct world *world = *state;
    char command[CHECKPOINT_PATH + 16];
    mesh_barrier(world->mesh, MESH_WORLD);
    snprintf(command, sizeof command, "rm -rf '%s'", world->folder);
    int failed = world->rank == 0 ? system(command) : 0;
    mesh_destroy(&world->mesh);
    return failed;
}

int main(int argc, char **argv)
{
    struct world world = {0};
    context_create(&world.context);
    if (mesh_start(&world.context, &argc, &argv, &world.rank, &world.size) != STATUS_OK)
        return 1;
    world.context.quiet = world.rank != 0;
    struct world *state = &world;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_any_division_reads_any, state),
        cmocka_unit_test_prestate(test_small_transfers, state),
        cmocka_unit_test_prestate(test_header, state),
        cmocka_unit_test_prestate(test_find, state),
        cmocka_unit_test_prestate(test_prune, state),
        cmocka_unit_test_prestate(test_tools, state),
        cmocka_unit_test_prestate(test_wrong_shapes, state),
        cmocka_unit_test_prestate(test_foreign_file, state),
        cmocka_unit_test_prestate(test_other_hashes, state),
        cmocka_unit_test_prestate(test_unwritable, state),
        cmocka_unit_test_prestate(test_full_disk, state),
        cmocka_unit_test_prestate(test_read_only_disk, state),
        cmocka_unit_test_prestate(test_damage, state),
        cmocka_unit_test_prestate(test_wrong_length, state),
    };
    void *setup = state;
    if (world_create(&setup) != 0)
        mesh_abort(1);
    int failed = cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
    if (world_destroy(&setup) != 0)
        failed++;
    mesh_stop();
    return failed;
}
