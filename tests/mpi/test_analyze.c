/* Checkpoints of literal matrices are analysed alike by any number of ranks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/analyze/analysis.h"
#include "tests/support/mpi_main.h"

enum { FOLDER = 64, DATASETS = 7 };

/* Of the values that `fill` makes: a diagonal that falls from `top` by 1, in a shape of any sides. */
struct literal {
    const char *name;
    int rank;
    int64_t shape[TENSOR_RANK];
    double top;
};

static const struct literal literals[DATASETS] = {
    {"/parameters/model.embed_tokens.weight", 2, {300, 7}, 9.0},
    {"/parameters/model.layers.0.mlp.up_proj.weight", 2, {5, 11}, 6.0},
    {"/parameters/model.layers.0.input_layernorm.weight", 1, {11}, 1.0},
    {"/parameters/model.layers.1.mlp.up_proj.weight", 2, {5, 11}, 4.0}, /* 4 3 2 1 0 */
    {"/parameters/conv.weight", 4, {3, 2, 1, 2}, 3.0},
    {"/optimizer/m/model.layers.0.mlp.up_proj.weight", 2, {5, 11}, 6.0},
    {"/memory/layers.1/state", 4, {2, 3, 4, 4}, 4.0},
};

/* Rows of the last two sides, or of the first and the rest. */
static void fill(const struct literal *literal, float *data)
{
    bool convolution = literal->rank == 4 && strncmp(literal->name, "/parameters", 11) == 0;
    int64_t count = 1;
    for (int d = 0; d < literal->rank; d++)
        count *= literal->shape[d];
    int64_t columns = literal->shape[literal->rank - 1];
    int64_t rows = literal->rank > 1 ? literal->shape[literal->rank - 2] : 1;
    if (convolution) {
        rows = literal->shape[0];
        columns = count / rows;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t row = i / columns % rows;
        data[i] = row == i % columns ? (float)fmax(0.0, literal->top - (double)row) : 0.0f;
    }
}

/* Each dataset is written by another rank. `broken`: one of its elements is not a number. */
static void write(struct context *context, struct mesh *mesh, const char *folder, int64_t step, double times,
                  const char *broken)
{
    static struct checkpoint_header header;
    struct state_array arrays[DATASETS];
    struct state_piece pieces[DATASETS];
    float *data = calloc(DATASETS, 2100 * sizeof *data);
    assert_non_null(data);
    for (int i = 0; i < DATASETS; i++) {
        float *own = data + (size_t)i * 2100;
        fill(&literals[i], own);
        for (int j = 0; j < 2100; j++)
            own[j] *= (float)times;
        if (broken && strcmp(broken, literals[i].name) == 0)
            own[3] = NAN;
        pieces[i] = (struct state_piece){.data = own};
        memcpy(pieces[i].box.extent, literals[i].shape, sizeof pieces[i].box.extent);
        arrays[i] = (struct state_array){.rank = literals[i].rank,
                                         .pieces = &pieces[i],
                                         .piece_count = i % mesh_size(mesh, MESH_TEAM) == mesh_rank(mesh, MESH_TEAM)};
        snprintf(arrays[i].name, sizeof arrays[i].name, "%s", literals[i].name);
        memcpy(arrays[i].shape, literals[i].shape, sizeof arrays[i].shape);
    }
    header.step = step;
    assert_ok(context, checkpoint_write(context, mesh, folder, &header, arrays, DATASETS));
    free(data);
}

static void make_folder(struct mesh *mesh, char folder[FOLDER])
{
    snprintf(folder, FOLDER, "/tmp/cairn-analyze-XXXXXX");
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        assert_non_null(mkdtemp(folder));
    mesh_broadcast(mesh, MESH_TEAM, 0, folder, FOLDER, DTYPE_BYTE);
}

static void remove_folder(struct mesh *mesh, const char *folder)
{
    char command[FOLDER + 16];
    mesh_barrier(mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        assert_int_equal(system(command), 0);
}

static void check_values(const struct analysis *analysis, int index, const char *kind, int64_t layer, int64_t count,
                         double top)
{
    const struct analyzed *matrix = &analysis->matrices[index];
    assert_string_equal(matrix->kind, kind);
    assert_int_equal(matrix->layer, layer);
    for (int64_t i = 0; i < count; i++)
        assert_close(analysis_values(analysis, matrix)[i], fmax(0.0, top - (double)i), 1e-14, 1e-14);
    assert_close(matrix->measure[MEASURE_LARGEST], top, 1e-14, 0.0);
}

static void matrices_and_memories_are_found(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){fixture->ranks, 1, 1, 1, 1});
    struct analysis analysis;
    char folder[FOLDER];
    char path[2][CHECKPOINT_PATH];
    make_folder(mesh, folder);
    for (int i = 0; i < 2; i++) {
        write(context, mesh, folder, i + 4, 1.0 + 0.5 * i, NULL);
        snprintf(path[i], CHECKPOINT_PATH, "%s/step-0000000%d.h5", folder, i + 4);
    }
    struct analysis_wish wish = {.directions = 3};
    assert_ok(context, analysis_create(context, mesh, path[0], NULL, &wish, &analysis));
    assert_int_equal(analysis.count, 5);
    assert_int_equal(analysis.step, 4);
    check_values(&analysis, 0, "model.embed_tokens", -1, 7, 9.0);
    check_values(&analysis, 1, "mlp.up_proj", 0, 5, 6.0);
    check_values(&analysis, 2, "mlp.up_proj", 1, 5, 4.0);
    check_values(&analysis, 3, "conv", -1, 3, 3.0);
    check_values(&analysis, 4, "memory.layers.state", 1, 4, 4.0);
    assert_int_equal(analysis.matrices[4].stack, 6);
    assert_close(analysis.matrices[2].measure[MEASURE_RANK], 4.0, 0.0, 0.0);
    assert_true(isinf(analysis.matrices[2].measure[MEASURE_CONDITION]));
    assert_close(analysis.matrices[1].measure[MEASURE_CONDITION], 3.0, 1e-14, 0.0);
    analysis_destroy(&analysis);

    wish.pattern = "*up_proj*";
    assert_ok(context, analysis_create(context, mesh, path[0], path[1], &wish, &analysis));
    assert_int_equal(analysis.count, 2);
    check_values(&analysis, 0, "mlp.up_proj", 0, 5, 6.0);
    for (int i = 0; i < 2; i++) {
        assert_close(analysis.matrices[i].measure[MEASURE_MOVED], 0.5, 1e-14, 0.0);
        assert_close(analysis.matrices[i].measure[MEASURE_LEFT], 0.0, 0.0, 1e-5);
    }
    analysis_destroy(&analysis);
    remove_folder(mesh, folder);
    mesh_destroy(&mesh);
    assert_int_equal(context->memory.bytes_total, 0);
}

static void what_cannot_be_analysed_is_said(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){fixture->ranks, 1, 1, 1, 1});
    struct analysis analysis;
    char folder[FOLDER];
    char path[CHECKPOINT_PATH];
    make_folder(mesh, folder);
    write(context, mesh, folder, 1, 1.0, "/memory/layers.1/state");
    snprintf(path, sizeof path, "%s/step-00000001.h5", folder);
    struct analysis_wish wish = {.directions = 3};
    assert_fails(context, analysis_create(context, mesh, path, NULL, &wish, &analysis), STATUS_NUMERIC,
                 "memory/layers.1/state: element [0, 3] is not a number");
    analysis_destroy(&analysis);
    context_clear(context);
    wish.pattern = "model.layers.7.*";
    assert_fails(context, analysis_create(context, mesh, path, NULL, &wish, &analysis), STATUS_USAGE,
                 "is named like \"model.layers.7.*\"; the first is model.embed_tokens.weight");
    analysis_destroy(&analysis);
    context_clear(context);
    wish.pattern = "model.layers.0.*"; /* what is broken is not asked for */
    assert_ok(context, analysis_create(context, mesh, path, NULL, &wish, &analysis));
    analysis_destroy(&analysis);
    snprintf(path, sizeof path, "%s/latest", folder);
    assert_fails(context, analysis_create(context, mesh, path, NULL, &wish, &analysis), STATUS_FILE, "/latest: ");
    analysis_destroy(&analysis);
    context_clear(context);
    remove_folder(mesh, folder);
    mesh_destroy(&mesh);
    assert_int_equal(context->memory.bytes_total, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(matrices_and_memories_are_found),
    cmocka_unit_test(what_cannot_be_analysed_is_said),
};

MPI_MAIN(tests)
