#include "io/checkpoint/memories.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/spectrum.h"
#include "src/core/effective_rank.h"

/* What is told of a memory. */
enum measure { MEASURE_Z, MEASURE_USED, MEASURE_NORM, MEASURE_RANK, MEASURES };

static const char *const MEASURE_NAMES[MEASURES] = {"mean z", "share of z above 0", "norm of M", "effective rank"};

enum { LOCATION_WIDTH = 28 }; /* columns of the table */
static const int MEASURE_WIDTHS[MEASURES] = {29, 22, 29, 0};

/* One layer's memories, and room for one of them. */
struct memories {
    const struct layout_entry *state, *norm;
    int64_t heads, width;
    int64_t count; /* streams * heads */
    float *m, *z;
    double *matrix, *values;
    double *measures; /* [MEASURES, count] */
    double *sorted;   /* [count] */
};

static bool find_memories(const struct layout_entry *entries, int count, int index, struct memories *memories)
{
    const struct layout_entry *state = &entries[index];
    char name[sizeof state->name];
    int length = (int)strlen(state->name) - (int)strlen("/state");
    if (strncmp(state->name, "/memory/", 8) != 0 || length < 0 || strcmp(state->name + length, "/state") != 0)
        return false;
    snprintf(name, sizeof name, "%.*s/norm", length, state->name);
    for (int i = 0; i < count; i++) {
        const struct layout_entry *norm = &entries[i];
        if (strcmp(norm->name, name) != 0)
            continue;
        *memories = (struct memories){.state = state,
                                      .norm = norm,
                                      .heads = state->shape[1],
                                      .width = state->shape[2],
                                      .count = state->shape[0] * state->shape[1]};
        return state->rank == 4 && norm->rank == 3 && state->shape[2] == state->shape[3] && state->count > 0 &&
               memcmp(state->shape, norm->shape, 3 * sizeof *norm->shape) == 0;
    }
    return false;
}

static enum status memories_allocate(struct context *context, struct memories *memories)
{
    size_t square = (size_t)(memories->width * memories->width);
    memories->m = memory_allocate(context, square * sizeof *memories->m, MEMORY_OTHER);
    memories->z = memory_allocate(context, (size_t)memories->width * sizeof *memories->z, MEMORY_OTHER);
    memories->matrix = memory_allocate(context, square * sizeof *memories->matrix, MEMORY_OTHER);
    memories->values = memory_allocate(context, (size_t)memories->width * sizeof *memories->values, MEMORY_OTHER);
    memories->measures =
        memory_allocate(context, MEASURES * (size_t)memories->count * sizeof *memories->measures, MEMORY_OTHER);
    memories->sorted = memory_allocate(context, (size_t)memories->count * sizeof *memories->sorted, MEMORY_OTHER);
    return context->status;
}

static void memories_free(struct context *context, struct memories *memories)
{
    memory_free(context, memories->m);
    memory_free(context, memories->z);
    memory_free(context, memories->matrix);
    memory_free(context, memories->values);
    memory_free(context, memories->measures);
    memory_free(context, memories->sorted);
}

static void measure(struct memories *memories, int64_t index)
{
    int64_t width = memories->width;
    double sum = 0.0;
    double squares = 0.0;
    int64_t used = 0;
    for (int64_t i = 0; i < width; i++) {
        sum += (double)memories->z[i];
        used += memories->z[i] > 0.0f;
    }
    for (int64_t i = 0; i < width * width; i++) {
        memories->matrix[i] = (double)memories->m[i];
        squares += memories->matrix[i] * memories->matrix[i];
    }
    spectrum_singular_values(memories->matrix, width, memories->values);
    double *measures = memories->measures + index;
    measures[MEASURE_Z * memories->count] = sum / (double)width;
    measures[MEASURE_USED * memories->count] = (double)used / (double)width;
    measures[MEASURE_NORM * memories->count] = sqrt(squares);
    measures[MEASURE_RANK * memories->count] = effective_rank(memories->values, width);
}

static enum status measure_all(struct context *context, int descriptor, const char *path, struct memories *memories)
{
    int64_t z_bytes = memories->width * (int64_t)sizeof(float);
    int64_t m_bytes = memories->width * z_bytes;
    for (int64_t i = 0; i < memories->count; i++) {
        CHECK(file_read(context, descriptor, path, memories->state->offset + i * m_bytes, memories->m, m_bytes));
        CHECK(file_read(context, descriptor, path, memories->norm->offset + i * z_bytes, memories->z, z_bytes));
        measure(memories, i);
    }
    return STATUS_OK;
}

/* Not-a-numbers last. */
static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

static void print_each(const struct memories *memories)
{
    for (int64_t i = 0; i < memories->count; i++) {
        char place[64];
        snprintf(place, sizeof place, "  stream %" PRId64 " head %" PRId64, i / memories->heads, i % memories->heads);
        printf("%-*s", LOCATION_WIDTH, place);
        for (int measure = 0; measure < MEASURES; measure++)
            printf(" %-*.4g", MEASURE_WIDTHS[measure], memories->measures[measure * memories->count + i]);
        printf("\n");
    }
}

static void print_summary(const struct memories *memories)
{
    const struct layout_entry *state = memories->state;
    char place[LAYOUT_SHAPE + sizeof state->name];
    char shape[LAYOUT_SHAPE];
    int length = (int)strlen(state->name + 8) - (int)strlen("/state");
    snprintf(place, sizeof place, "%.*s %s", length, state->name + 8, layout_shape_text(4, state->shape, false, shape));
    printf("%-*s", LOCATION_WIDTH, place);
    for (int measure = 0; measure < MEASURES; measure++) {
        double *values = memories->sorted;
        memcpy(values, memories->measures + measure * memories->count, (size_t)memories->count * sizeof *values);
        qsort(values, (size_t)memories->count, sizeof *values, by_size);
        double median = 0.5 * (values[(memories->count - 1) / 2] + values[memories->count / 2]);
        char text[64];
        snprintf(text, sizeof text, "%.4g / %.4g / %.4g", values[0], median, values[memories->count - 1]);
        printf(" %-*s", MEASURE_WIDTHS[measure], text);
    }
    printf("\n");
}

static void print_heading(void)
{
    printf("\nmemories: smallest / median / largest over streams and heads; a token adds about 1 to the mean z\n");
    printf("%-*s", LOCATION_WIDTH, "layer");
    for (int measure = 0; measure < MEASURES; measure++)
        printf(" %-*s", MEASURE_WIDTHS[measure], MEASURE_NAMES[measure]);
    printf("\n");
}

enum status memories_print(struct context *context, const char *path, const struct layout_entry *entries, int count,
                           bool verbose)
{
    enum status status;
    int descriptor = -1;
    int64_t size;
    int layers = 0;
    struct memories memories = {0};
    TRY(file_open(context, path, false, &descriptor, &size));
    for (int i = 0; i < count; i++) {
        if (!find_memories(entries, count, i, &memories))
            continue;
        TRY(memories_allocate(context, &memories));
        TRY(measure_all(context, descriptor, path, &memories));
        if (layers++ == 0)
            print_heading();
        print_summary(&memories);
        if (verbose)
            print_each(&memories);
        memories_free(context, &memories);
        memories = (struct memories){0};
    }
done:
    memories_free(context, &memories);
    if (descriptor >= 0)
        close(descriptor);
    return status;
}
