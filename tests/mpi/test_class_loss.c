#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist/parallel/class_loss.h"
#include "tests/mpi/tape_bench.h"

struct classifier {
    int64_t rows, classes;
    float smoothing;
    float *logits, *mixing;
    int32_t *labels, *mixed_labels;
    double loss, *slopes; /* in double precision, by the definition of the cross entropy */
};

/* The target distribution of a row, written out. */
static double target_of(const struct classifier *c, int64_t row, int64_t class)
{
    double mixing = c->mixing ? (double)c->mixing[row] : 0.0;
    double asked =
        (1.0 - mixing) * (c->labels[row] == class) + (c->mixing ? mixing * (c->mixed_labels[row] == class) : 0);
    return (1.0 - (double)c->smoothing) * asked + (double)c->smoothing / (double)c->classes;
}

static void expect_loss(struct classifier *c, double scale)
{
    c->loss = 0.0;
    for (int64_t row = 0; row < c->rows; row++) {
        const float *logits = c->logits + row * c->classes;
        double sum = 0.0;
        for (int64_t k = 0; k < c->classes; k++)
            sum += exp((double)logits[k] - 50.0);
        for (int64_t k = 0; k < c->classes; k++) {
            double log_p = (double)logits[k] - 50.0 - log(sum);
            bool counts = c->labels[row] >= 0;
            c->loss -= counts ? scale * target_of(c, row, k) * log_p : 0.0;
            c->slopes[row * c->classes + k] = counts ? scale * (exp(log_p) - target_of(c, row, k)) : 0.0;
        }
    }
}

static void check_loss(struct bench *bench, struct classifier *c)
{
    struct range mine = range_partition(c->classes, bench->fixture->ranks, bench->fixture->rank);
    float *own = memory_allocate(bench->context, (size_t)(c->rows * mine.count) * sizeof *own, MEMORY_OTHER);
    for (int64_t row = 0; row < c->rows && mine.count > 0; row++)
        memcpy(own + row * mine.count, c->logits + row * c->classes + mine.begin, (size_t)mine.count * sizeof *own);
    struct tensor *logits = tape_leaf(&bench->tape, DTYPE_F32, 2, (int64_t[]){c->rows, mine.count}, own, true);
    struct class_targets targets = {.labels = c->labels,
                                    .mixed_labels = c->mixing ? c->mixed_labels : NULL,
                                    .mixing = c->mixing,
                                    .classes = c->classes,
                                    .first = mine.begin,
                                    .smoothing = c->smoothing,
                                    .scale = 0.25f};
    expect_loss(c, 0.25);
    struct tensor *loss = class_loss(&bench->tape, bench->mesh, logits, &targets);
    assert_non_null(loss);
    assert_close((double)*(float *)loss->data, c->loss, 1e-6, 0.0);
    tape_seed(&bench->tape, loss, NULL);
    tape_backward(&bench->tape);
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t k = 0; k < mine.count; k++)
            assert_close((double)((const float *)tape_gradient(logits))[row * mine.count + k],
                         c->slopes[row * c->classes + mine.begin + k], 1e-4, 1e-6);
    tape_reset(&bench->tape);
    memory_free(bench->context, own);
}

/* One row or many; fewer classes than ranks; smoothed or not; mixed or not; rows that do not count; logits that would
 * overflow without their maximum. */
static void the_loss_is_the_cross_entropy_with_the_target(void **state)
{
    static const int64_t shapes[][2] = {{6, 10}, {1, 2}, {5, 3}, {33, 101}};
    struct bench bench;
    bench_create(&bench, state, (struct mesh_config){1, 1, 1, 0, 1});
    for (size_t i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++) {
        int64_t rows = shapes[i / 4][0];
        int64_t classes = shapes[i / 4][1];
        struct classifier c = {.rows = rows, .classes = classes, .smoothing = i % 2 ? 0.1f : 0.0f};
        size_t elements = (size_t)(rows * classes);
        c.logits = memory_allocate(bench.context, elements * sizeof(float), MEMORY_OTHER);
        c.slopes = memory_allocate(bench.context, elements * sizeof(double), MEMORY_OTHER);
        c.labels = memory_allocate(bench.context, (size_t)rows * sizeof(int32_t), MEMORY_OTHER);
        c.mixed_labels = memory_allocate(bench.context, (size_t)rows * sizeof(int32_t), MEMORY_OTHER);
        float *mixing = memory_allocate(bench.context, (size_t)rows * sizeof(float), MEMORY_OTHER);
        c.mixing = i % 4 >= 2 ? mixing : NULL;
        fill_random(c.logits, rows * classes, "logits");
        c.logits[0] += 100.0f;
        for (int64_t row = 0; row < rows; row++) {
            c.labels[row] = row % 5 == 3 ? -1 : (int32_t)(row * 7 % classes);
            c.mixed_labels[row] = (int32_t)((row * 5 + 1) % classes);
            mixing[row] = row % 4 == 2 ? 0.0f : 0.125f * (float)(row % 8);
        }
        check_loss(&bench, &c);
        void *owned[] = {c.logits, c.slopes, c.labels, c.mixed_labels, mixing};
        for (size_t j = 0; j < sizeof owned / sizeof *owned; j++)
            memory_free(bench.context, owned[j]);
    }
    bench_destroy(&bench);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(the_loss_is_the_cross_entropy_with_the_target)};

MPI_MAIN(tests)
