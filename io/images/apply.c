/* Doing to an image what was chosen: bytes [rows, columns, channels] in, floats [channels, size, size] out. */
#include "io/images/images.h"

#include <math.h>
#include <string.h>

struct image_workspace {
    struct image_augmentation augmentation;
    void *resize;
    uint8_t *first, *second; /* [size, size, channels] */
};

enum status image_workspace_create(struct context *context, const struct image_augmentation *augmentation, int64_t rows,
                                   int64_t columns, struct image_workspace **workspace)
{
    int64_t size = augmentation->size;
    size_t bytes = (size_t)(size * size * IMAGE_CHANNELS);
    *workspace = memory_allocate(context, sizeof **workspace, MEMORY_OTHER);
    if (!*workspace)
        return STATUS_MEMORY;
    struct image_workspace *made = *workspace;
    made->augmentation = *augmentation;
    made->resize =
        memory_allocate(context, image_resize_bytes(rows, columns, IMAGE_CHANNELS, size, size), MEMORY_OTHER);
    made->first = memory_allocate(context, bytes, MEMORY_OTHER);
    made->second = memory_allocate(context, bytes, MEMORY_OTHER);
    if (made->resize && made->first && made->second)
        return STATUS_OK;
    image_workspace_destroy(context, workspace);
    return STATUS_MEMORY;
}

void image_workspace_destroy(struct context *context, struct image_workspace **workspace)
{
    if (!*workspace)
        return;
    memory_free(context, (*workspace)->resize);
    memory_free(context, (*workspace)->first);
    memory_free(context, (*workspace)->second);
    memory_free(context, *workspace);
    *workspace = NULL;
}

/* Where a row or column of the padded image lies in the image; -1 outside. */
static int64_t padded(int64_t place, int64_t size, bool reflect)
{
    if (place >= 0 && place < size)
        return place;
    if (!reflect)
        return -1;
    return place < 0 ? -place : 2 * (size - 1) - place;
}

static void shift_and_flip(const struct image_augmentation *augmentation, const struct image_choices *choices,
                           int64_t channels, const uint8_t *from, uint8_t *to)
{
    int64_t size = augmentation->size;
    bool reflect = augmentation->crop_reflect;
    for (int64_t y = 0; y < size; y++) {
        int64_t row = padded(y + choices->shift_rows - augmentation->crop_padding, size, reflect);
        for (int64_t x = 0; x < size; x++, to += channels) {
            int64_t place = (choices->flip ? size - 1 - x : x) + choices->shift_columns - augmentation->crop_padding;
            int64_t column = padded(place, size, reflect);
            for (int64_t c = 0; c < channels; c++)
                to[c] = row < 0 || column < 0 ? 0 : from[(row * size + column) * channels + c];
        }
    }
}

static double pixel(const uint8_t *pixels, int64_t size, int64_t channels, int64_t row, int64_t column, int64_t channel)
{
    if (row < 0 || row >= size || column < 0 || column >= size)
        return 0.0;
    return pixels[(row * size + column) * channels + channel];
}

/* Counterclockwise to the eye: rows grow downwards. */
static void rotate(int64_t size, int64_t channels, double degrees, const uint8_t *from, uint8_t *to)
{
    double angle = degrees * 3.141592653589793238463 / 180.0;
    double cosine = cos(angle);
    double sine = sin(angle);
    double centre = 0.5 * (double)(size - 1);
    for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++, to += channels) {
            double dx = (double)x - centre;
            double dy = (double)y - centre;
            double column = centre + cosine * dx - sine * dy;
            double row = centre + sine * dx + cosine * dy;
            int64_t c0 = (int64_t)floor(column);
            int64_t r0 = (int64_t)floor(row);
            double u = column - (double)c0;
            double v = row - (double)r0;
            for (int64_t c = 0; c < channels; c++) {
                double upper =
                    (1.0 - u) * pixel(from, size, channels, r0, c0, c) + u * pixel(from, size, channels, r0, c0 + 1, c);
                double lower = (1.0 - u) * pixel(from, size, channels, r0 + 1, c0, c) +
                               u * pixel(from, size, channels, r0 + 1, c0 + 1, c);
                to[c] = (uint8_t)(0.5 + (1.0 - v) * upper + v * lower);
            }
        }
}

/* -- Colour -- */

static uint8_t blend(double base, double value, double factor)
{
    double result = base + factor * (value - base) + 0.5;
    return (uint8_t)(result < 0.0 ? 0.0 : result > 255.0 ? 255.0 : result);
}

/* ITU-R 601, as everyone's conversion to gray. */
static double gray(const uint8_t *values, int64_t channels)
{
    if (channels == 3)
        return 0.299 * values[0] + 0.587 * values[1] + 0.114 * values[2];
    double sum = 0.0;
    for (int64_t c = 0; c < channels; c++)
        sum += values[c];
    return sum / (double)channels;
}

static void change_contrast(uint8_t *pixels, int64_t count, int64_t channels, double factor)
{
    double mean = 0.0;
    for (int64_t i = 0; i < count; i++)
        mean += gray(pixels + i * channels, channels);
    mean = floor(mean / (double)count + 0.5);
    for (int64_t i = 0; i < count * channels; i++)
        pixels[i] = blend(mean, pixels[i], factor);
}

/* Turns the hue by a part of the circle; value and saturation (those of HSV) stay. */
static void turn_hue(uint8_t *rgb, double part)
{
    double high = fmax(rgb[0], fmax(rgb[1], rgb[2]));
    double range = high - fmin(rgb[0], fmin(rgb[1], rgb[2]));
    double sixth; /* where the hue is, in sixths from red */
    if (range == 0.0)
        return;
    if (high == rgb[0])
        sixth = (rgb[1] - rgb[2]) / range;
    else if (high == rgb[1])
        sixth = 2.0 + (rgb[2] - rgb[0]) / range;
    else
        sixth = 4.0 + (rgb[0] - rgb[1]) / range;
    for (int c = 0; c < 3; c++) {
        /* A channel falls to nothing over a sixth of the circle on both sides of the third in which it is whole. */
        double place = fmod(sixth + 6.0 * part + 12.0 - 2.0 * c, 6.0);
        double distance = fmin(place, 6.0 - place);
        rgb[c] = (uint8_t)(high - range * fmin(1.0, fmax(0.0, distance - 1.0)) + 0.5);
    }
}

static void change_colour(const struct image_choices *choices, uint8_t *pixels, int64_t count, int64_t channels)
{
    if (choices->brightness != 1.0)
        for (int64_t i = 0; i < count * channels; i++)
            pixels[i] = blend(0.0, pixels[i], choices->brightness);
    if (choices->contrast != 1.0)
        change_contrast(pixels, count, channels, choices->contrast);
    for (int64_t i = 0; i < count && choices->saturation != 1.0 && channels == 3; i++) {
        double base = floor(gray(pixels + 3 * i, 3) + 0.5);
        for (int64_t c = 0; c < 3; c++)
            pixels[3 * i + c] = blend(base, pixels[3 * i + c], choices->saturation);
    }
    for (int64_t i = 0; i < count && choices->hue != 0.0 && channels == 3; i++)
        turn_hue(pixels + 3 * i, choices->hue);
}

/* -- To floats -- */

static void normalise(const struct image_augmentation *augmentation, const uint8_t *pixels, int64_t channels,
                      float *output)
{
    int64_t count = augmentation->size * augmentation->size;
    for (int64_t c = 0; c < augmentation->channels; c++) {
        float table[256];
        for (int i = 0; i < 256; i++)
            table[i] = (float)((i / 255.0 - augmentation->mean[c]) / augmentation->deviation[c]);
        const uint8_t *from = pixels + (channels == 1 ? 0 : c);
        for (int64_t i = 0; i < count; i++)
            output[c * count + i] = table[from[i * channels]];
    }
}

static void cut_out(const struct image_augmentation *augmentation, const struct image_choices *choices, float *output)
{
    int64_t size = augmentation->size;
    int64_t row = choices->cutout_row - augmentation->cutout / 2;
    int64_t column = choices->cutout_column - augmentation->cutout / 2;
    for (int64_t c = 0; c < augmentation->channels; c++)
        for (int64_t y = row < 0 ? 0 : row; y < size && y < row + augmentation->cutout; y++)
            for (int64_t x = column < 0 ? 0 : column; x < size && x < column + augmentation->cutout; x++)
                output[(c * size + y) * size + x] = 0.0F;
}

static void exchange(struct image_workspace *workspace)
{
    uint8_t *first = workspace->first;
    workspace->first = workspace->second;
    workspace->second = first;
}

void image_apply(struct image_workspace *workspace, const struct image *image, const struct image_choices *choices,
                 bool training, float *output)
{
    const struct image_augmentation *augmentation = &workspace->augmentation;
    int64_t size = augmentation->size;
    int64_t channels = image->channels;
    image_resize(image, choices->left, choices->top, choices->width, choices->height, size, size, workspace->resize,
                 workspace->first);
    bool moved = choices->shift_rows != augmentation->crop_padding ||
                 choices->shift_columns != augmentation->crop_padding || choices->flip;
    if (training && moved) {
        shift_and_flip(augmentation, choices, channels, workspace->first, workspace->second);
        exchange(workspace);
    }
    if (training && choices->rotation != 0.0) {
        rotate(size, channels, choices->rotation, workspace->first, workspace->second);
        exchange(workspace);
    }
    if (training)
        change_colour(choices, workspace->first, size * size, channels);
    normalise(augmentation, workspace->first, channels, output);
    if (training && augmentation->cutout > 0 && choices->cutout_row >= 0)
        cut_out(augmentation, choices, output);
}

void image_mix(const struct image_mixing *mixing, int64_t channels, int64_t size, float *image, const float *other)
{
    if (mixing->amount == 0.0)
        return;
    if (!mixing->cut) {
        float share = (float)mixing->amount;
        for (int64_t i = 0; i < channels * size * size; i++)
            image[i] += share * (other[i] - image[i]);
        return;
    }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = mixing->row; y < mixing->row + mixing->rows; y++) {
            int64_t begin = (c * size + y) * size + mixing->column;
            memcpy(image + begin, other + begin, sizeof *image * (size_t)mixing->columns);
        }
}
