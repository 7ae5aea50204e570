/* Mean and deviation of the channels of a set. */
#include "io/images/images_private.h"

#include "src/core/notice.h"

#include <math.h>

/* Of bytes: exact until 2^48 pixels. */
struct sums {
    uint64_t pixels;
    uint64_t sum[IMAGE_CHANNELS], squares[IMAGE_CHANNELS];
};

static void sums_add(struct sums *sums, const struct image *image)
{
    int64_t pixels = image->rows * image->columns;
    for (int64_t c = 0; c < image->channels; c++) {
        const uint8_t *values = image->pixels + c;
        uint64_t sum = 0;
        uint64_t squares = 0;
        for (int64_t i = 0; i < pixels; i++) {
            uint64_t value = values[i * image->channels];
            sum += value;
            squares += value * value;
        }
        sums->sum[c] += sum;
        sums->squares[c] += squares;
    }
    sums->pixels += (uint64_t)pixels;
}

static void sums_finish(const struct sums *sums, int64_t channels, struct image_moments *moments)
{
    *moments = (struct image_moments){0};
    for (int64_t c = 0; c < channels; c++) {
        double mean = (double)sums->sum[c] / (double)sums->pixels;
        double variance = (double)sums->squares[c] / (double)sums->pixels - mean * mean;
        moments->mean[c] = mean / 255.0;
        moments->deviation[c] = sqrt(variance > 0.0 ? variance : 0.0) / 255.0;
    }
}

enum status image_set_measure(struct context *context, const struct image_set *set, int64_t most, bool skip_bad,
                              struct image_moments *moments, int64_t *bad)
{
    struct image_reader *reader = NULL;
    struct sums sums = {0};
    struct notice notice;
    int64_t count = most > 0 && most < set->facts.count ? most : set->facts.count;
    int64_t bad_count = 0;
    CHECK(image_reader_create(context, set, &reader));
    notice_begin(&notice, context, "measuring", "images");
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        struct image image;
        /* Evenly spaced, without a product that may overflow. */
        int64_t index = set->facts.count / count * i + set->facts.count % count * i / count;
        status = image_reader_read(reader, index, &image);
        if (status == STATUS_FILE && skip_bad) {
            if (bad_count++ < IMAGE_BAD_TEXTS)
                context_log(context, "%s", context->text);
            context_clear(context);
            status = STATUS_OK;
        } else if (status == STATUS_OK)
            sums_add(&sums, &image);
        notice_show(&notice, (double)(i + 1), (double)count);
    }
    notice_end(&notice);
    image_reader_destroy(&reader);
    if (status == STATUS_OK && sums.pixels == 0)
        status = context_fail(context, STATUS_FILE, "none of the images can be read");
    if (status != STATUS_OK)
        return status;
    sums_finish(&sums, set->facts.channels, moments);
    if (bad)
        *bad = bad_count;
    return STATUS_OK;
}
