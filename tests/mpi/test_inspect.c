/* What `cairn checkpoint inspect` says of memories, of a file whose memories are known. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/write.h"
#include "tests/support/mpi_main.h"

enum { STREAMS = 2, HEADS = 2, WIDTH = 6, STATE = STREAMS * HEADS * WIDTH * WIDTH, NORM = STREAMS * HEADS * WIDTH };

struct desk {
    struct context *context;
    struct mesh *mesh;
    char folder[64];
    char text[32768]; /* what was printed */
};

static void desk_create(struct desk *desk, void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    desk->context = &fixture->context;
    desk->mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 1, 1});
    strcpy(desk->folder, "/tmp/cairn-inspect-XXXXXX");
    assert_non_null(mkdtemp(desk->folder));
}

static void desk_destroy(struct desk *desk)
{
    char command[96];
    mesh_destroy(&desk->mesh);
    snprintf(command, sizeof command, "rm -rf %s", desk->folder);
    assert_int_equal(system(command), 0);
}

static struct state_array dataset_of(const char *name, int rank, const int64_t *shape, struct state_piece *piece,
                                     float *values)
{
    struct state_array dataset = {.rank = rank, .piece_count = 1, .pieces = piece};
    strcpy(dataset.name, name);
    memcpy(dataset.shape, shape, (size_t)rank * sizeof *shape);
    *piece = (struct state_piece){.data = values};
    memcpy(piece->box.extent, shape, (size_t)rank * sizeof *shape);
    return dataset;
}

static void write_file(struct desk *desk, const struct state_array *datasets, int count)
{
    static const struct checkpoint_header header = {.step = 1, .created = "now", .mesh = "one", .config = "none: 0\n"};
    assert_ok(desk->context, checkpoint_write(desk->context, desk->mesh, desk->folder, &header, datasets, count));
}

/* What is printed between the two goes into desk->text. */
static int listen(const struct desk *desk, int *file)
{
    char output[96];
    snprintf(output, sizeof output, "%s/output", desk->folder);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    *file = open(output, O_CREAT | O_TRUNC | O_RDWR, 0666);
    assert_true(saved >= 0 && *file >= 0);
    dup2(*file, STDOUT_FILENO);
    return saved;
}

static void stop_listening(struct desk *desk, int saved, int file)
{
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    ssize_t length = pread(file, desk->text, sizeof desk->text - 1, 0);
    close(file);
    assert_true(length >= 0);
    desk->text[length] = '\0';
}

static void inspect(struct desk *desk, bool verbose)
{
    char path[96];
    int file;
    snprintf(path, sizeof path, "%s/step-00000001.h5", desk->folder);
    int saved = listen(desk, &file);
    enum status status = checkpoint_inspect(desk->context, path, verbose);
    stop_listening(desk, saved, file);
    assert_int_equal(status, STATUS_OK);
    assert_true(desk->text[0] != '\0');
}

/* The numbers behind the words of a line of the table. */
static void expect_line(const struct desk *desk, const char *words, const double expected[4])
{
    double found[4];
    const char *line = strstr(desk->text, words);
    assert_non_null(line);
    assert_int_equal(sscanf(line + strlen(words), "%lf %lf %lf %lf", &found[0], &found[1], &found[2], &found[3]), 4);
    for (int i = 0; i < 4; i++)
        assert_close(found[i], expected[i], 1e-3, 1e-12);
}

/* Nothing; a rank of 1; all directions alike; three of them alike. */
static void fill(float *state, float *norm)
{
    float *one = state + (ptrdiff_t)WIDTH * WIDTH;
    float *all = one + (ptrdiff_t)WIDTH * WIDTH;
    float *three = all + (ptrdiff_t)WIDTH * WIDTH;
    for (int i = 0; i < WIDTH; i++) {
        for (int j = 0; j < WIDTH; j++)
            one[i * WIDTH + j] = (float)((i + 1) * (j - 2));
        all[i * WIDTH + (i + 1) % WIDTH] = i % 2 ? -2.0f : 2.0f;
        three[i * WIDTH + 2 * i % WIDTH] = i < 3 ? 3.0f : 0.0f;
        norm[WIDTH + i] = 8.0f;
        norm[2 * WIDTH + i] = i < 3 ? 4.0f : 0.0f;
        norm[3 * WIDTH + i] = (float)i;
    }
}

static void memories_are_measured(void **state)
{
    struct desk desk;
    float states[STATE] = {0};
    float norms[NORM] = {0};
    float other[3] = {1, 2, 3};
    struct state_piece pieces[3];
    const int64_t shape[] = {STREAMS, HEADS, WIDTH, WIDTH};
    const int64_t three[] = {3};
    desk_create(&desk, state);
    fill(states, norms);
    const struct state_array datasets[] = {
        dataset_of("/parameters/other", 1, three, &pieces[0], other),
        dataset_of("/memory/layers.4/state", 4, shape, &pieces[1], states),
        dataset_of("/memory/layers.4/norm", 3, shape, &pieces[2], norms),
    };
    write_file(&desk, datasets, 3);
    inspect(&desk, false);
    const char *line = strstr(desk.text, "\nlayers.4 [2, 2, 6, 6] ");
    assert_non_null(line);
    assert_non_null(strstr(line, " 0 / 2.25 / 8 "));
    assert_non_null(strstr(line, " 0 / 0.6667 / 1 "));
    assert_non_null(strstr(line, " 0 / 2 / 6\n"));
    assert_null(strstr(desk.text, "stream 0"));
    inspect(&desk, true);
    assert_non_null(strstr(desk.text, " 0 / 2 / 6\n"));
    expect_line(&desk, "  stream 0 head 0", (const double[]){0, 0, 0, 0});
    expect_line(&desk, "  stream 0 head 1", (const double[]){8, 1, sqrt(91.0 * 19.0), 1});
    expect_line(&desk, "  stream 1 head 0", (const double[]){2, 0.5, sqrt(24.0), 6});
    expect_line(&desk, "  stream 1 head 1", (const double[]){2.5, 5.0 / 6.0, sqrt(27.0), 3});
    desk_destroy(&desk);
}

static void files_without_memories_have_no_table(void **state)
{
    struct desk desk;
    float values[STATE] = {0};
    struct state_piece pieces[3];
    const int64_t shape[] = {STREAMS, HEADS, WIDTH, WIDTH};
    const int64_t none[] = {0, HEADS, WIDTH, WIDTH};
    desk_create(&desk, state);
    /* Half a memory, and one of no stream. */
    const struct state_array datasets[] = {
        dataset_of("/memory/layers.0/state", 4, shape, &pieces[0], values),
        dataset_of("/memory/layers.1/state", 4, none, &pieces[1], values),
        dataset_of("/memory/layers.1/norm", 3, none, &pieces[2], values),
    };
    write_file(&desk, datasets, 3);
    inspect(&desk, true);
    assert_non_null(strstr(desk.text, "/memory/layers.0/state"));
    assert_null(strstr(desk.text, "effective rank"));
    desk_destroy(&desk);
}

/* -- Double precision -- */

/* Arrays of fp64 are written and read in parts that cut no element, and all digits of them are compared and shown. */
static void doubles_keep_their_digits(void **state)
{
    enum { COUNT = 15 };
    struct desk desk;
    double values[COUNT];
    double again[COUNT];
    struct state_piece piece;
    char path[2][160];
    desk_create(&desk, state);
    for (int i = 0; i < COUNT; i++)
        values[i] = again[i] = 1.0 / (i + 1);
    struct state_array array = dataset_of("/optimizer/left/w", 2, (int64_t[]){3, 10}, &piece, (float *)(void *)values);
    array.doubles = true;
    for (int method = WRITE_TOGETHER; method <= WRITE_ALONE; method++) {
        int index = method - WRITE_TOGETHER;
        const struct checkpoint_header header = {
            .step = method, .created = "now", .mesh = "one", .config = "none: 0\n"};
        const struct write_tuning tuning = {.method = (enum write_method)method, .transfer_bytes = 20};
        values[7] = 0.125 + 1e-12 * index;
        assert_ok(desk.context,
                  checkpoint_write_tuned(desk.context, desk.mesh, desk.folder, &header, &array, 1, &tuning));
        snprintf(path[index], sizeof path[index], "%s/step-%08d.h5", desk.folder, method);
        assert_ok(desk.context, checkpoint_verify(desk.context, desk.mesh, path[index]));
        piece.data = (float *)(void *)again;
        memset(again, 0x55, sizeof again);
        assert_ok(desk.context,
                  checkpoint_read_tuned(desk.context, desk.mesh, path[index], &array, 1, method == WRITE_TOGETHER, 20));
        assert_memory_equal(again, values, sizeof values);
        piece.data = (float *)(void *)values;
    }
    struct checkpoint_difference difference;
    assert_ok(desk.context, checkpoint_diff(desk.context, path[0], path[1], 0.0, &difference));
    assert_int_equal(difference.different, 1);
    assert_close(difference.largest, 1e-12, 1e-3, 0.0);
    array.shape[1] = 12;
    assert_fails(desk.context, checkpoint_read(desk.context, desk.mesh, path[0], &array, 1), STATUS_FILE,
                 "has shape [3, 5] float64, the model's is [3, 6] float64");
    inspect(&desk, false);
    assert_non_null(strstr(desk.text, "[3, 5] float64"));
    assert_non_null(strstr(desk.text, "1.25716"));
    desk_destroy(&desk);
}

/* The norm of an array is its own, whatever was read before it. */
static void norms_stand_alone(void **state)
{
    struct desk desk;
    float before[40];
    double values[3] = {3.0, 0.0, 4.0};
    struct state_piece pieces[2];
    desk_create(&desk, state);
    for (int i = 0; i < 40; i++)
        before[i] = 100.0f;
    struct state_array datasets[] = {
        dataset_of("/parameters/a", 1, (int64_t[]){40}, &pieces[0], before),
        dataset_of("/optimizer/left/b", 1, (int64_t[]){6}, &pieces[1], (float *)(void *)values)};
    datasets[1].doubles = true;
    write_file(&desk, datasets, 2);
    inspect(&desk, false);
    double norm = 0.0;
    const char *line = strstr(desk.text, "/optimizer/left/b");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "/optimizer/left/b [3] float64 %lf", &norm), 1);
    assert_close(norm, 5.0, 1e-6, 0.0);
    assert_non_null(strstr(desk.text, "\nparameters      40\n"));
    desk_destroy(&desk);
}

static void write_step(struct desk *desk, const struct checkpoint_header *header, const struct state_array *datasets,
                       int count, char path[160])
{
    assert_ok(desk->context, checkpoint_write(desk->context, desk->mesh, desk->folder, header, datasets, count));
    snprintf(path, 160, "%s/step-%08d.h5", desk->folder, (int)header->step);
}

/* Everything in which two files differ is said, of either side. */
static void differences_are_named(void **state)
{
    struct desk desk;
    float values[30];
    struct state_piece pieces[3];
    char path[2][160];
    char newest[CHECKPOINT_PATH];
    int file;
    desk_create(&desk, state);
    for (int i = 0; i < 30; i++)
        values[i] = (float)i;
    struct state_array datasets[] = {dataset_of("/parameters/same", 1, (int64_t[]){4}, &pieces[0], values),
                                     dataset_of("/parameters/w", 2, (int64_t[]){3, 10}, &pieces[1], values),
                                     dataset_of("/parameters/old", 1, (int64_t[]){5}, &pieces[2], values)};
    struct checkpoint_header header = {.step = 4,
                                       .tokens = 100,
                                       .sequences = 8,
                                       .updates = 4,
                                       .seed = 1,
                                       .created = "now",
                                       .mesh = "one",
                                       .config = "none: 0\n"};
    write_step(&desk, &header, datasets, 3, path[0]);
    header = (struct checkpoint_header){.step = 5,
                                        .tokens = 101,
                                        .sequences = 9,
                                        .skipped = 2,
                                        .skipped_in_row = 1,
                                        .updates = 3,
                                        .seed = 2,
                                        .created = "now",
                                        .mesh = "one",
                                        .config = "none: 1\n"};
    datasets[1].doubles = true; /* as many bytes: [3, 5] */
    strcpy(datasets[2].name, "/parameters/new");
    write_step(&desk, &header, datasets, 3, path[1]);
    struct checkpoint_difference difference;
    int saved = listen(&desk, &file);
    enum status status = checkpoint_diff(desk.context, path[0], path[1], 0.0, &difference);
    stop_listening(&desk, saved, file);
    assert_int_equal(status, STATUS_OK);
    assert_string_equal(desk.text, "step: 4 / 5\n"
                                   "tokens: 100 / 101\n"
                                   "sequences: 8 / 9\n"
                                   "skipped: 0 / 2\n"
                                   "skipped_in_row: 0 / 1\n"
                                   "updates: 4 / 3\n"
                                   "seed: 1 / 2\n"
                                   "config: differs\n"
                                   "/parameters/w: [3, 10] / [3, 5] float64\n"
                                   "/parameters/old: [5] / missing\n"
                                   "/parameters/new: missing / [5]\n");
    assert_int_equal(difference.datasets, 4);
    assert_int_equal(difference.different, 3);
    assert_true(isinf(difference.largest));
    /* The newest is that of the last step; a file is itself. */
    assert_ok(desk.context, checkpoint_newest(desk.context, desk.folder, newest));
    assert_string_equal(newest, path[1]);
    assert_ok(desk.context, checkpoint_newest(desk.context, path[0], newest));
    assert_string_equal(newest, path[0]);
    /* Of elements, those of 8 bytes count once. */
    values[2] = 100.0f;
    header.step = 6;
    write_step(&desk, &header, datasets, 3, path[0]);
    saved = listen(&desk, &file);
    status = checkpoint_diff(desk.context, path[0], path[1], 0.0, &difference);
    stop_listening(&desk, saved, file);
    assert_int_equal(status, STATUS_OK);
    assert_non_null(strstr(desk.text, "/parameters/same: differs by 32.7 in 1 of 4 elements\n"));
    assert_non_null(strstr(desk.text, " in 1 of 15 elements\n"));
    desk_destroy(&desk);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(norms_stand_alone),         cmocka_unit_test(differences_are_named),
    cmocka_unit_test(memories_are_measured),     cmocka_unit_test(files_without_memories_have_no_table),
    cmocka_unit_test(doubles_keep_their_digits),
};

MPI_MAIN(tests)
