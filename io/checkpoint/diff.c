#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/layout.h"

enum { BLOCK = 1 << 18 }; /* elements read at a time, of each file */

struct side {
    const char *path;
    int descriptor;
    struct checkpoint_header header;
    struct layout_entry *entries;
    int count;
    struct reading reading;
    _Alignas(double) float block[BLOCK];
};

struct comparison {
    double difference; /* max |a - b| */
    double divisor;    /* max |b| */
    int64_t unequal;   /* elements whose bytes differ */
    bool unordered;    /* a not-a-number or an infinity on one side only */
};

static enum status side_open(struct context *context, const char *path, struct side **opened)
{
    struct seal seal;
    int64_t size;
    struct side *side = memory_allocate(context, sizeof *side, MEMORY_OTHER);
    *opened = side;
    if (!side)
        return STATUS_MEMORY;
    side->path = path;
    side->descriptor = -1;
    CHECK(seal_check(context, path, &seal));
    CHECK(layout_header(context, path, &side->header));
    CHECK(layout_list(context, path, &seal, &side->entries, &side->count));
    return file_open(context, path, false, &side->descriptor, &size);
}

static void side_close(struct context *context, struct side *side)
{
    if (!side)
        return;
    if (side->descriptor >= 0)
        close(side->descriptor);
    memory_free(context, side->entries);
    memory_free(context, side);
}

static const struct layout_entry *entry_find(const struct side *side, const char *name, int hint)
{
    /* Nearly always both files have the same order. */
    if (hint < side->count && strcmp(side->entries[hint].name, name) == 0)
        return &side->entries[hint];
    for (int i = 0; i < side->count; i++)
        if (strcmp(side->entries[i].name, name) == 0)
            return &side->entries[i];
    return NULL;
}

static void elements_compare(double a, double b, bool same, struct comparison *result)
{
    if (fabs(b) > result->divisor)
        result->divisor = fabs(b);
    if (same)
        return;
    double difference = fabs(a - b);
    result->unequal++;
    if (!isfinite(difference))
        result->unordered = true;
    else if (difference > result->difference)
        result->difference = difference;
}

static void block_compare(const float *a, const float *b, int64_t count, bool doubles, struct comparison *result)
{
    const double *wide_a = (const double *)(const void *)a;
    const double *wide_b = (const double *)(const void *)b;
    for (int64_t i = 0; doubles && i < count / 2; i++)
        elements_compare(wide_a[i], wide_b[i], memcmp(&wide_a[i], &wide_b[i], sizeof *wide_a) == 0, result);
    for (int64_t i = 0; !doubles && i < count; i++)
        elements_compare((double)a[i], (double)b[i], memcmp(&a[i], &b[i], sizeof *a) == 0, result);
}

static enum status entry_compare(struct context *context, struct side *a, struct side *b,
                                 const struct layout_entry *in_a, const struct layout_entry *in_b,
                                 struct comparison *result)
{
    for (int64_t at = 0; at < in_a->count; at += BLOCK) {
        int64_t count = integer_min(BLOCK, in_a->count - at);
        int64_t bytes = count * (int64_t)sizeof(float);
        int64_t before = at * (int64_t)sizeof(float);
        CHECK(file_read(context, a->descriptor, a->path, in_a->offset + before, a->block, bytes));
        CHECK(file_read(context, b->descriptor, b->path, in_b->offset + before, b->block, bytes));
        block_compare(a->block, b->block, count, in_a->doubles, result);
        reading_add(&a->reading, count);
    }
    return STATUS_OK;
}

static double comparison_value(const struct comparison *result)
{
    if (result->unordered)
        return INFINITY;
    if (result->difference == 0)
        return 0;
    return result->divisor > 0 ? result->difference / result->divisor : INFINITY;
}

static void difference_count(struct checkpoint_difference *difference, bool differs, double value)
{
    difference->datasets++;
    difference->different += differs;
    if (value > difference->largest)
        difference->largest = value;
}

static bool shape_same(const struct layout_entry *a, const struct layout_entry *b)
{
    return a->rank == b->rank && a->doubles == b->doubles &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

static enum status datasets_compare(struct context *context, struct side *a, struct side *b, double tolerance,
                                    struct checkpoint_difference *difference)
{
    int64_t all = 0;
    for (int i = 0; i < a->count; i++)
        all += a->entries[i].count;
    reading_begin(&a->reading, context, all);
    for (int i = 0; i < a->count; i++) {
        const struct layout_entry *in_a = &a->entries[i];
        const struct layout_entry *in_b = entry_find(b, in_a->name, i);
        struct comparison result = {0};
        if (!in_b || !shape_same(in_a, in_b)) {
            char shape_a[LAYOUT_SHAPE];
            char shape_b[LAYOUT_SHAPE] = "missing";
            if (in_b)
                layout_shape_text(in_b->rank, in_b->shape, in_b->doubles, shape_b);
            printf("%s: %s / %s\n", in_a->name, layout_shape_text(in_a->rank, in_a->shape, in_a->doubles, shape_a),
                   shape_b);
            difference_count(difference, true, INFINITY);
            continue;
        }
        CHECK(entry_compare(context, a, b, in_a, in_b, &result));
        double value = comparison_value(&result);
        bool differs = tolerance > 0 ? value > tolerance : result.unequal > 0;
        if (differs)
            printf("%s: differs by %.3g in %" PRId64 " of %" PRId64 " elements\n", in_a->name, value, result.unequal,
                   in_a->count / (in_a->doubles ? 2 : 1));
        difference_count(difference, differs, value);
    }
    notice_end(&a->reading.notice);
    for (int i = 0; i < b->count; i++) {
        char shape[LAYOUT_SHAPE];
        const struct layout_entry *in_b = &b->entries[i];
        if (entry_find(a, in_b->name, i))
            continue;
        printf("%s: missing / %s\n", in_b->name, layout_shape_text(in_b->rank, in_b->shape, in_b->doubles, shape));
        difference_count(difference, true, INFINITY);
    }
    return STATUS_OK;
}

static void headers_compare(const struct checkpoint_header *a, const struct checkpoint_header *b)
{
    const struct {
        const char *name;
        int64_t a;
        int64_t b;
    } numbers[] = {
        {"step", a->step, b->step},
        {"tokens", a->tokens, b->tokens},
        {"sequences", a->sequences, b->sequences},
        {"skipped", a->skipped, b->skipped},
        {"skipped_in_row", a->skipped_in_row, b->skipped_in_row},
        {"updates", a->updates, b->updates},
        {"seed", a->seed, b->seed},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].a != numbers[i].b)
            printf("%s: %" PRId64 " / %" PRId64 "\n", numbers[i].name, numbers[i].a, numbers[i].b);
    if (strcmp(a->config, b->config) != 0)
        printf("config: differs\n");
    if (strcmp(a->created, b->created) != 0)
        printf("(created: %s / %s)\n", a->created, b->created);
    if (strcmp(a->mesh, b->mesh) != 0)
        printf("(mesh: %s / %s)\n", a->mesh, b->mesh);
}

enum status checkpoint_diff(struct context *context, const char *path_a, const char *path_b, double tolerance,
                            struct checkpoint_difference *difference)
{
    struct side *a = NULL;
    struct side *b = NULL;
    enum status status;
    *difference = (struct checkpoint_difference){0};
    layout_quiet();
    TRY(side_open(context, path_a, &a));
    TRY(side_open(context, path_b, &b));
    headers_compare(&a->header, &b->header);
    TRY(datasets_compare(context, a, b, tolerance, difference));
done:
    side_close(context, a);
    side_close(context, b);
    return status;
}
