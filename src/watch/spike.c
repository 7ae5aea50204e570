#include "src/watch/spike.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Median absolute deviations in a standard deviation of a normal distribution. */
#define DEVIATION_OF_MEDIAN 1.4826
/* Losses that hardly differ must not make a spike of rounding. */
#define LEAST_DEVIATION 1e-3

enum status spike_create(struct context *context, const struct watch_config *config, struct spike_watch *watch)
{
    *watch = (struct spike_watch){.context = context,
                                  .factor = config->spike_factor,
                                  .window = config->spike_window,
                                  .steps = config->spike_steps};
    size_t bytes = (size_t)config->spike_window * sizeof(float);
    watch->losses = memory_allocate(context, bytes, MEMORY_OTHER);
    watch->sorted = memory_allocate(context, bytes, MEMORY_OTHER);
    watch->image = memory_allocate(context, bytes + SPIKE_IMAGE_HEAD * sizeof(float), MEMORY_OTHER);
    return watch->losses && watch->sorted && watch->image ? STATUS_OK : STATUS_MEMORY;
}

void spike_destroy(struct spike_watch *watch)
{
    if (!watch->context)
        return;
    memory_free(watch->context, watch->losses);
    memory_free(watch->context, watch->sorted);
    memory_free(watch->context, watch->image);
    *watch = (struct spike_watch){0};
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

static double median(float *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return 0.5 * ((double)values[(count - 1) / 2] + (double)values[count / 2]);
}

double spike_threshold(const struct spike_watch *watch)
{
    if (watch->count < watch->window)
        return INFINITY;
    memcpy(watch->sorted, watch->losses, (size_t)watch->count * sizeof *watch->sorted);
    double middle = median(watch->sorted, watch->count);
    for (int64_t i = 0; i < watch->count; i++)
        watch->sorted[i] = fabsf(watch->losses[i] - (float)middle);
    double deviation = fmax(DEVIATION_OF_MEDIAN * median(watch->sorted, watch->count), LEAST_DEVIATION * fabs(middle));
    return middle + watch->factor * deviation;
}

static void remember(struct spike_watch *watch, float loss)
{
    if (watch->count == watch->window)
        memmove(watch->losses, watch->losses + 1, (size_t)(--watch->count) * sizeof *watch->losses);
    watch->losses[watch->count++] = loss;
}

bool spike_step(struct spike_watch *watch, double loss, bool finite)
{
    if (watch->factor <= 0.0)
        return false;
    if (finite && !((float)loss > spike_threshold(watch))) {
        watch->in_row = 0;
        remember(watch, (float)loss);
        return false;
    }
    watch->in_row++;
    return !finite || watch->in_row >= watch->steps;
}

void spike_save(const struct spike_watch *watch)
{
    float *image = watch->image;
    image[0] = (float)watch->rewinds;
    image[1] = (float)watch->in_row;
    image[2] = (float)watch->count;
    for (int64_t i = 0; i < watch->window; i++)
        image[SPIKE_IMAGE_HEAD + i] = i < watch->count ? watch->losses[i] : 0.0f;
}

void spike_restore(struct spike_watch *watch)
{
    const float *image = watch->image;
    watch->rewinds = (int64_t)image[0];
    watch->in_row = (int64_t)image[1];
    watch->count = (int64_t)fminf(image[2], (float)watch->window);
    memcpy(watch->losses, image + SPIKE_IMAGE_HEAD, (size_t)watch->count * sizeof *watch->losses);
}
