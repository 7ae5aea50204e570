#include "src/study/series.h"

#include <math.h>
#include <string.h>

#include "src/core/text.h"

void series_create(struct series *series, const char *name)
{
    memset(series, 0, sizeof *series);
    text_copy(series->name, sizeof series->name, name);
    series->width = 1;
    series->least = INFINITY;
    series->most = -INFINITY;
}

static void bin_join(struct series_bin *bin, const struct series_bin *other)
{
    if (other->count == 0)
        return;
    bin->low = bin->count ? fmin(bin->low, other->low) : other->low;
    bin->high = bin->count ? fmax(bin->high, other->high) : other->high;
    bin->sum += other->sum;
    bin->count += other->count;
}

static void halve(struct series *series)
{
    for (int i = 0; i < series->used; i++) {
        struct series_bin bin = series->bin[i];
        series->bin[i] = (struct series_bin){0};
        bin_join(&series->bin[i / 2], &bin);
    }
    series->used = (series->used + 1) / 2;
    series->width *= 2;
}

void series_add(struct series *series, int64_t step, const struct metrics_value *value)
{
    if (series->count == 0)
        series->first = step;
    int64_t offset = step > series->first ? step - series->first : 0;
    while (offset / series->width >= SERIES_BINS)
        halve(series);
    int index = (int)(offset / series->width);
    const struct series_bin one = {.sum = value->mean, .low = value->low, .high = value->high, .count = 1};
    bin_join(&series->bin[index], &one);
    series->used = index >= series->used ? index + 1 : series->used;
    series->count++;
    series->sum += value->mean;
    series->last = value->mean;
    series->last_step = step;
    series->least = fmin(series->least, value->low);
    series->most = fmax(series->most, value->high);
}

int series_points(const struct series *series, double scale, struct report_point points[SERIES_BINS])
{
    int count = 0;
    for (int i = 0; i < series->used; i++) {
        const struct series_bin *bin = &series->bin[i];
        if (bin->count == 0)
            continue;
        double begin = (double)(series->first + i * series->width);
        double end = fmin(begin + (double)(series->width - 1), (double)series->last_step);
        points[count++] = (struct report_point){.x = 0.5 * (begin + end),
                                                .y = scale * bin->sum / (double)bin->count,
                                                .low = scale * bin->low,
                                                .high = scale * bin->high};
    }
    return count;
}
