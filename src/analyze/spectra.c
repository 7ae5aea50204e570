#include "src/analyze/spectra.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "dist/matrix/matrix.h"
#include "dist/matrix/svd.h"
#include "src/core/effective_rank.h"
#include "src/core/integer.h"

void spectra_measure(const double *values, int64_t rows, int64_t columns, double *measure)
{
    int64_t small = integer_min(rows, columns);
    double largest = small > 0 ? values[0] : 0.0;
    double smallest = small > 0 ? values[small - 1] : 0.0;
    double noise = (double)integer_max(rows, columns) * (double)FLT_EPSILON * largest;
    double squares = 0.0;
    double sum = 0.0;
    int64_t rank = 0;
    int64_t energy = 0;
    for (int64_t i = 0; i < small; i++) {
        squares += values[i] * values[i];
        rank += values[i] > noise;
    }
    while (energy < small && sum < 0.9 * squares) {
        sum += values[energy] * values[energy];
        energy++;
    }
    measure[MEASURE_NORM] = sqrt(squares);
    measure[MEASURE_LARGEST] = largest;
    measure[MEASURE_SMALLEST] = smallest;
    measure[MEASURE_CONDITION] = rank < small ? INFINITY : largest / smallest;
    measure[MEASURE_RANK] = (double)rank;
    measure[MEASURE_STABLE] = largest > 0.0 ? squares / (largest * largest) : 0.0;
    measure[MEASURE_EFFECTIVE] = effective_rank(values, small);
    measure[MEASURE_ENERGY] = (double)energy;
}

/* -- Angles -- */

/* cosines fall, sines fall: the i-th angle has the i-th cosine and the i-th sine from the end. */
static void join_angles(int64_t k, const double *cosines, const double *sines, double *largest, double *mean)
{
    const double degrees = 180.0 / acos(-1.0);
    *largest = k > 0 ? 0.0 : NAN;
    *mean = k > 0 ? 0.0 : NAN;
    for (int64_t i = 0; i < k; i++) {
        double cosine = fmin(1.0, cosines[i]);
        double sine = fmin(1.0, sines[k - 1 - i]);
        double angle = degrees * (cosine * cosine < 0.5 ? acos(cosine) : asin(sine));
        *largest = fmax(*largest, angle);
        *mean += angle / (double)k;
    }
}

enum status spectra_angles(struct context *context, const char *what, int64_t n, int64_t k, const double *a,
                           const double *b, double *largest, double *mean)
{
    size_t small_work = matrix_svd_work(k, k, false);
    size_t large_work = matrix_svd_work(n, k, false);
    size_t work = small_work > large_work ? small_work : large_work;
    size_t square = (size_t)(k * k);
    size_t tall = (size_t)(n * k);
    double *room = memory_allocate(context, (2 * square + tall + 2 * (size_t)k + work) * sizeof *room, MEMORY_OTHER);
    enum status status = room ? STATUS_OK : STATUS_MEMORY;
    if (!room)
        return status;
    double *overlap = room;
    double *copy = overlap + square; /* a decomposition destroys what it is given */
    double *rest = copy + square;
    double *cosines = rest + tall;
    double *sines = cosines + k;
    matrix_multiply(&(struct matrix_product){
        .m = k, .n = k, .k = n, .a = a, .b = b, .c = overlap, .a_transposed = true, .alpha = 1.0});
    memcpy(copy, overlap, square * sizeof *copy);
    if (tall > 0) /* there may be no directions */
        memcpy(rest, b, tall * sizeof *rest);
    matrix_multiply(
        &(struct matrix_product){.m = n, .n = k, .k = k, .a = a, .b = overlap, .c = rest, .alpha = -1.0, .beta = 1.0});
    TRY(matrix_svd(context, what, k, k, copy, cosines, NULL, NULL, sines + k));
    TRY(matrix_svd(context, what, n, k, rest, sines, NULL, NULL, sines + k));
    join_angles(k, cosines, sines, largest, mean);
done:
    memory_free(context, room);
    return status;
}

/* -- A stack -- */

struct decomposed {
    double *values, *left, *right; /* [small], [rows, small], [small, columns] */
};

struct room {
    struct context *context;
    const char *what;
    int64_t rows, columns, small;
    double *matrix, *work, *first, *second; /* [rows, columns]; directions of one side, [longer, small] */
    struct decomposed a, b;
};

static void *take(struct room *room, int64_t count)
{
    return memory_allocate(room->context, (size_t)count * sizeof(double), MEMORY_OTHER);
}

static enum status create(struct room *room, bool both)
{
    int64_t longer = integer_max(room->rows, room->columns);
    room->matrix = take(room, room->rows * room->columns);
    room->work = take(room, (int64_t)matrix_svd_work(room->rows, room->columns, both));
    room->a.values = take(room, room->small);
    if (!both)
        return room->context->status;
    room->first = take(room, longer * room->small);
    room->second = take(room, longer * room->small);
    struct decomposed *each[2] = {&room->a, &room->b};
    room->b.values = take(room, room->small);
    for (int i = 0; i < 2; i++) {
        each[i]->left = take(room, room->rows * room->small);
        each[i]->right = take(room, room->small * room->columns);
    }
    return room->context->status;
}

static void destroy(struct room *room)
{
    void *owned[] = {room->matrix, room->work,    room->first,    room->second, room->a.values,
                     room->a.left, room->a.right, room->b.values, room->b.left, room->b.right};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(room->context, owned[i]);
}

/* Of a, or of a - b. */
static enum status decompose(struct room *room, const float *a, const float *b, struct decomposed *result)
{
    for (int64_t i = 0; i < room->rows * room->columns; i++)
        room->matrix[i] = (double)a[i] - (b ? (double)b[i] : 0.0);
    return matrix_svd(room->context, room->what, room->rows, room->columns, room->matrix, result->values, result->left,
                      result->right, room->work);
}

/* The first k columns of U, or rows of V^T as columns. */
static void take_left(const struct room *room, const struct decomposed *from, int64_t k, double *to)
{
    for (int64_t i = 0; i < room->rows; i++)
        memcpy(to + i * k, from->left + i * room->small, (size_t)k * sizeof *to);
}

static void take_right(const struct room *room, const struct decomposed *from, int64_t k, double *to)
{
    for (int64_t i = 0; i < room->columns; i++)
        for (int64_t j = 0; j < k; j++)
            to[i * k + j] = from->right[j * room->columns + i];
}

static enum status compare(struct room *room, int64_t directions, const float *a, const float *b, double *measure)
{
    double other[MEASURES];
    double moved[MEASURES];
    CHECK(decompose(room, b, NULL, &room->b));
    spectra_measure(room->b.values, room->rows, room->columns, other);
    int64_t ranks = (int64_t)fmin(measure[MEASURE_RANK], other[MEASURE_RANK]);
    int64_t k = integer_min(directions, ranks); /* directions of nothing mean nothing */
    take_left(room, &room->a, k, room->first);
    take_left(room, &room->b, k, room->second);
    CHECK(spectra_angles(room->context, room->what, room->rows, k, room->first, room->second, &measure[MEASURE_LEFT],
                         &measure[MEASURE_LEFT_MEAN]));
    take_right(room, &room->a, k, room->first);
    take_right(room, &room->b, k, room->second);
    CHECK(spectra_angles(room->context, room->what, room->columns, k, room->first, room->second,
                         &measure[MEASURE_RIGHT], &measure[MEASURE_RIGHT_MEAN]));
    CHECK(decompose(room, b, a, &room->b));
    spectra_measure(room->b.values, room->rows, room->columns, moved);
    measure[MEASURE_MOVED] = moved[MEASURE_NORM] == 0.0 ? 0.0 : moved[MEASURE_NORM] / measure[MEASURE_NORM];
    measure[MEASURE_MOVED_EFFECTIVE] = moved[MEASURE_EFFECTIVE];
    return STATUS_OK;
}

enum status spectra_of_stack(struct context *context, const char *const what[2], const struct analyzed *matrix,
                             int64_t directions, const float *a, const float *b, double *measure, double *values)
{
    struct room room = {.context = context,
                        .rows = matrix->rows,
                        .columns = matrix->columns,
                        .small = integer_min(matrix->rows, matrix->columns)};
    enum status status;
    TRY(create(&room, b != NULL));
    for (int64_t s = 0; s < matrix->stack; s++) {
        int64_t begin = s * room.rows * room.columns;
        double own[MEASURES] = {0};
        room.what = what[0];
        TRY(decompose(&room, a + begin, NULL, &room.a));
        spectra_measure(room.a.values, room.rows, room.columns, own);
        for (int64_t i = 0; i < room.small; i++)
            values[i] += room.a.values[i] / (double)matrix->stack;
        room.what = what[1];
        if (b)
            TRY(compare(&room, directions, a + begin, b + begin, own));
        for (int m = 0; m < MEASURES; m++)
            measure[m] += own[m] / (double)matrix->stack;
    }
done:
    destroy(&room);
    return status;
}
