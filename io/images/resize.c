/* Resizing by a triangle filter that grows with the reduction: what is not sampled must not alias. The arithmetic is
 * that of Pillow's BILINEAR (src/libImaging/Resample.c), so that models trained by others see the same pixels. */
#include "io/images/images.h"

#include <math.h>
#include <string.h>

enum { PRECISION_BITS = 32 - 8 - 2 };

/* For each output, the inputs that it is a weighted sum of. */
struct filter {
    int64_t taps;     /* that there is room for */
    int32_t *begin;   /* [out] */
    int32_t *count;   /* [out] */
    int32_t *weights; /* [out, taps], fixed point; their sum is 1 up to rounding */
};

static int64_t filter_taps(double scale)
{
    return 2 * (int64_t)ceil(scale < 1.0 ? 1.0 : scale) + 1;
}

static size_t filter_bytes(int64_t size, int64_t out)
{
    return sizeof(int32_t) * (size_t)(out * (2 + filter_taps((double)size / (double)out)));
}

static struct filter filter_place(int64_t out, double scale, void *scratch)
{
    int32_t *at = scratch;
    return (struct filter){.taps = filter_taps(scale), .begin = at, .count = at + out, .weights = at + 2 * out};
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static void filter_fill(struct filter *filter, int64_t size, double origin, double scale, int64_t out)
{
    double support = scale < 1.0 ? 1.0 : scale;
    for (int64_t i = 0; i < out; i++) {
        double centre = origin + ((double)i + 0.5) * scale;
        int64_t begin = (int64_t)(centre - support + 0.5);
        int64_t end = (int64_t)(centre + support + 0.5);
        begin = begin < 0 ? 0 : begin;
        end = end > size ? size : end;
        end = end > begin + filter->taps ? begin + filter->taps : end;
        double sum = 0.0;
        for (int64_t j = begin; j < end; j++)
            sum += triangle(((double)j - centre + 0.5) / support);
        int32_t *weights = filter->weights + i * filter->taps;
        for (int64_t j = begin; j < end; j++) {
            double weight = triangle(((double)j - centre + 0.5) / support);
            weights[j - begin] = (int32_t)(0.5 + (sum != 0.0 ? weight / sum : weight) * (1 << PRECISION_BITS));
        }
        filter->begin[i] = (int32_t)begin;
        filter->count[i] = (int32_t)(end > begin ? end - begin : 0);
    }
}

static inline uint8_t clip(int32_t value)
{
    value >>= PRECISION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* output [rows, out, channels] from the rows of an image, each of `columns`. */
static void filter_rows(const struct filter *filter, const uint8_t *pixels, int64_t rows, int64_t columns,
                        int64_t channels, int64_t out, uint8_t *output)
{
    for (int64_t y = 0; y < rows; y++, pixels += columns * channels)
        for (int64_t x = 0; x < out; x++) {
            const uint8_t *from = pixels + filter->begin[x] * channels;
            const int32_t *weights = filter->weights + x * filter->taps;
            for (int64_t c = 0; c < channels; c++) {
                int32_t sum = 1 << (PRECISION_BITS - 1);
                for (int64_t j = 0; j < filter->count[x]; j++)
                    sum += from[j * channels + c] * weights[j];
                *output++ = clip(sum);
            }
        }
}

/* output [out, values] from rows of so many values, the first of which is row `first` of the image. */
static void filter_columns(const struct filter *filter, const uint8_t *pixels, int64_t first, int64_t values,
                           int64_t out, uint8_t *output)
{
    for (int64_t y = 0; y < out; y++) {
        const uint8_t *from = pixels + (filter->begin[y] - first) * values;
        const int32_t *weights = filter->weights + y * filter->taps;
        for (int64_t i = 0; i < values; i++) {
            int32_t sum = 1 << (PRECISION_BITS - 1);
            for (int64_t j = 0; j < filter->count[y]; j++)
                sum += from[j * values + i] * weights[j];
            *output++ = clip(sum);
        }
    }
}

size_t image_resize_bytes(int64_t rows, int64_t columns, int64_t channels, int64_t out_rows, int64_t out_columns)
{
    return filter_bytes(rows, out_rows) + filter_bytes(columns, out_columns) + (size_t)(rows * out_columns * channels);
}

static bool is_copy(double left, double top, double width, double height, int64_t out_rows, int64_t out_columns)
{
    return width == (double)out_columns && height == (double)out_rows && left == floor(left) && top == floor(top);
}

void image_resize(const struct image *image, double left, double top, double width, double height, int64_t out_rows,
                  int64_t out_columns, void *scratch, uint8_t *output)
{
    int64_t row_bytes = image->columns * image->channels;
    if (is_copy(left, top, width, height, out_rows, out_columns)) {
        const uint8_t *from = image->pixels + (int64_t)top * row_bytes + (int64_t)left * image->channels;
        for (int64_t y = 0; y < out_rows; y++)
            memcpy(output + y * out_columns * image->channels, from + y * row_bytes,
                   (size_t)(out_columns * image->channels));
        return;
    }
    double scale_x = width / (double)out_columns;
    double scale_y = height / (double)out_rows;
    struct filter across = filter_place(out_columns, scale_x, scratch);
    struct filter down = filter_place(out_rows, scale_y, across.weights + out_columns * across.taps);
    uint8_t *between = (uint8_t *)(down.weights + out_rows * down.taps);
    filter_fill(&across, image->columns, left, scale_x, out_columns);
    filter_fill(&down, image->rows, top, scale_y, out_rows);
    /* Only the rows that the second pass wants. */
    int64_t first = down.begin[0];
    int64_t rows = down.begin[out_rows - 1] + down.count[out_rows - 1] - first;
    filter_rows(&across, image->pixels + first * row_bytes, rows, image->columns, image->channels, out_columns,
                between);
    filter_columns(&down, between, first, out_columns * image->channels, out_rows, output);
}
