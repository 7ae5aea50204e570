/* Checkpoints at any number of ranks: every division of the elements writes the same file, and any other division reads
 * it; what the tools show. */
#include "tests/mpi/checkpoint_world.h"

#include "io/checkpoint/hash.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* -- Tests -- */

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
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_int_equal(access(stale, F_OK), 0);
    mesh_barrier(world->mesh, MESH_TEAM);
    /* Of what is named like it only what writes of checkpoints leave goes. */
    static const char *const others[] = {".latest.partial", "notes.partial", ".step-1.h5", ".partial"};
    char other[CHECKPOINT_PATH + 32];
    for (int i = 0; i < 4 && world->rank == 0; i++) {
        snprintf(other, sizeof other, "%s/%s", folder, others[i]);
        fclose(fopen(other, "w"));
    }
    checkpoint_clean(&world->context, world->mesh, folder);
    mesh_barrier(world->mesh, MESH_TEAM);
    assert_int_not_equal(access(stale, F_OK), 0);
    for (int i = 0; i < 4 && world->rank == 0; i++) {
        snprintf(other, sizeof other, "%s/%s", folder, others[i]);
        assert_int_equal(access(other, F_OK), i == 0 ? -1 : 0);
    }
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

/* An array's hash is that of its boxes joined, whatever gaps lie between their runs. */
static void test_hashes_of_boxes(void **state)
{
    enum { A = 3, B = 4, C = 5 };
    static const int64_t shape[] = {A, B, C}, cuts[3][3] = {{0, 1, A}, {0, 2, B}, {0, 3, C}};
    float values[A * B * C];
    uint64_t joined = 0;
    (void)state;
    for (int i = 0; i < A * B * C; i++)
        values[i] = 1.0f / (float)(i + 1);
    for (int piece = 0; piece < 8; piece++) {
        struct box box = {{0}, {0}};
        float part[A * B * C];
        int count = 0;
        for (int d = 0; d < 3; d++) {
            int side = piece >> d & 1;
            box.offset[d] = cuts[d][side];
            box.extent[d] = cuts[d][side + 1] - cuts[d][side];
        }
        for (int64_t a = box.offset[0]; a < box.offset[0] + box.extent[0]; a++)
            for (int64_t b = box.offset[1]; b < box.offset[1] + box.extent[1]; b++)
                for (int64_t c = box.offset[2]; c < box.offset[2] + box.extent[2]; c++)
                    part[count++] = values[(a * B + b) * C + c];
        joined ^= hash_box(part, &box, 3, shape);
    }
    assert_true(joined == hash_range(values, 0, A * B * C, A * B * C));
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
    mesh_barrier(world->mesh, MESH_TEAM);
    for (int i = 0; i < 6; i++) {
        path_of(folder, steps[i], path);
        assert_int_equal(access(path, F_OK) == 0, kept[i]);
    }
    mesh_barrier(world->mesh, MESH_TEAM);
    write_step(world, folder, 50, 0);
    checkpoint_prune(&world->context, world->mesh, folder, 0, 0);
    mesh_barrier(world->mesh, MESH_TEAM);
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
    struct state_piece *piece = &model->pieces[0][0];
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

/* -- Main -- */

static int run(struct world *world)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_any_division_reads_any, world),
        cmocka_unit_test_prestate(test_small_transfers, world),
        cmocka_unit_test_prestate(test_header, world),
        cmocka_unit_test_prestate(test_find, world),
        cmocka_unit_test_prestate(test_hashes_of_boxes, world),
        cmocka_unit_test_prestate(test_prune, world),
        cmocka_unit_test_prestate(test_tools, world),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return world_run(argc, argv, run);
}
