/* What chance decides for an image: each choice a function of the seed, the epoch, the image and the choice. */
#include "io/images/images.h"

#include "src/core/random.h"

#include <inttypes.h>
#include <math.h>

/* Numbers of the draws of an image; they must stay what they are, for runs that go on. */
enum {
    DRAW_ROWS,
    DRAW_COLUMNS,
    DRAW_FLIP,
    DRAW_ROTATION,
    DRAW_BRIGHTNESS,
    DRAW_CONTRAST,
    DRAW_SATURATION,
    DRAW_CUTOUT_ROW,
    DRAW_CUTOUT_COLUMN,
    DRAW_MIXED,
    DRAW_MIXED_CUT,
    DRAW_MIXED_ROW,
    DRAW_MIXED_COLUMN,
    DRAW_MIXED_SHARE,
    DRAW_PART, /* and all behind it, up to */
    DRAW_HUE = 1 << 20,
};

enum { PART_TRIES = 10 };

uint64_t image_key(uint64_t seed, int64_t epoch, int64_t index)
{
    return random_bits(random_bits(random_key(seed, "images"), (uint64_t)epoch), (uint64_t)index);
}

static double draw_real(uint64_t key, uint64_t draw, double low, double high)
{
    return low + (high - low) * random_uniform(key, draw);
}

static int64_t draw_integer(uint64_t key, uint64_t draw, int64_t count)
{
    return (int64_t)(random_uniform(key, draw) * (double)count);
}

/* -- The part that is resized -- */

static void choose_whole(const struct image_augmentation *augmentation, double share, int64_t rows, int64_t columns,
                         struct image_choices *choices)
{
    int64_t size = augmentation->size;
    double shorter = (double)(rows < columns ? rows : columns);
    double longer = (double)(rows < columns ? columns : rows);
    *choices = (struct image_choices){.width = (double)columns,
                                      .height = (double)rows,
                                      .shift_rows = augmentation->crop_padding,
                                      .shift_columns = augmentation->crop_padding,
                                      .brightness = 1.0,
                                      .contrast = 1.0,
                                      .saturation = 1.0,
                                      .cutout_row = -1};
    if (rows == size && columns == size)
        return;
    /* As if all of it were resized and the centre cut out. */
    double short_side = round((double)size / share);
    double long_side = floor(short_side * longer / shorter);
    double scale_x = (double)columns / (rows < columns ? long_side : short_side);
    double scale_y = (double)rows / (rows < columns ? short_side : long_side);
    double short_begin = nearbyint((short_side - (double)size) / 2.0);
    double long_begin = nearbyint((long_side - (double)size) / 2.0);
    choices->left = scale_x * (rows < columns ? long_begin : short_begin);
    choices->top = scale_y * (rows < columns ? short_begin : long_begin);
    choices->width = scale_x * (double)size;
    choices->height = scale_y * (double)size;
}

void image_choose_centre(const struct image_augmentation *augmentation, int64_t rows, int64_t columns,
                         struct image_choices *choices)
{
    choose_whole(augmentation, augmentation->crop_share > 0.0 ? augmentation->crop_share : 1.0, rows, columns, choices);
}

static void set_part(struct image_choices *choices, double left, double top, double width, double height)
{
    choices->left = left;
    choices->top = top;
    choices->width = width;
    choices->height = height;
}

/* torchvision's RandomResizedCrop.get_params. */
static void choose_part(const struct image_augmentation *augmentation, uint64_t key, int64_t rows, int64_t columns,
                        struct image_choices *choices)
{
    double area = (double)rows * (double)columns;
    for (uint64_t i = 0; i < PART_TRIES; i++) {
        uint64_t draw = DRAW_PART + 4 * i;
        double target = area * draw_real(key, draw, augmentation->scale_low, augmentation->scale_high);
        double ratio = exp(draw_real(key, draw + 1, log(augmentation->ratio_low), log(augmentation->ratio_high)));
        double width = nearbyint(sqrt(target * ratio));
        double height = nearbyint(sqrt(target / ratio));
        if (width < 1.0 || width > (double)columns || height < 1.0 || height > (double)rows)
            continue;
        int64_t left = draw_integer(key, draw + 2, columns - (int64_t)width + 1);
        int64_t top = draw_integer(key, draw + 3, rows - (int64_t)height + 1);
        set_part(choices, (double)left, (double)top, width, height);
        return;
    }
    double ratio = (double)columns / (double)rows;
    double width = (double)columns;
    double height = (double)rows;
    if (ratio < augmentation->ratio_low)
        height = fmax(1.0, nearbyint(width / augmentation->ratio_low));
    else if (ratio > augmentation->ratio_high)
        width = fmax(1.0, nearbyint(height * augmentation->ratio_high));
    height = fmin(height, (double)rows);
    width = fmin(width, (double)columns);
    set_part(choices, floor(((double)columns - width) / 2.0), floor(((double)rows - height) / 2.0), width, height);
}

/* -- All choices -- */

static bool choose_flip(enum image_flip flip, uint64_t seed, uint64_t key, int64_t epoch, int64_t index)
{
    if (flip == IMAGE_FLIP_RANDOM)
        return random_bits(key, DRAW_FLIP) & 1;
    if (flip == IMAGE_FLIP_ALTERNATING)
        return ((random_bits(random_key(seed, "alternating flip"), (uint64_t)index) ^ (uint64_t)epoch) & 1) != 0;
    return false;
}

static double draw_factor(uint64_t key, uint64_t draw, double strength)
{
    return strength > 0.0 ? draw_real(key, draw, fmax(0.0, 1.0 - strength), 1.0 + strength) : 1.0;
}

void image_choose(const struct image_augmentation *augmentation, uint64_t seed, int64_t epoch, int64_t index,
                  int64_t rows, int64_t columns, struct image_choices *choices)
{
    uint64_t key = image_key(seed, epoch, index);
    choose_whole(augmentation, 1.0, rows, columns, choices);
    if (augmentation->crop == IMAGE_CROP_RESIZED)
        choose_part(augmentation, key, rows, columns, choices);
    if (augmentation->crop == IMAGE_CROP_PADDING) {
        choices->shift_rows = draw_integer(key, DRAW_ROWS, 2 * augmentation->crop_padding + 1);
        choices->shift_columns = draw_integer(key, DRAW_COLUMNS, 2 * augmentation->crop_padding + 1);
    }
    choices->flip = choose_flip(augmentation->flip, seed, key, epoch, index);
    if (augmentation->rotation > 0.0)
        choices->rotation = draw_real(key, DRAW_ROTATION, -augmentation->rotation, augmentation->rotation);
    choices->brightness = draw_factor(key, DRAW_BRIGHTNESS, augmentation->brightness);
    choices->contrast = draw_factor(key, DRAW_CONTRAST, augmentation->contrast);
    choices->saturation = draw_factor(key, DRAW_SATURATION, augmentation->saturation);
    if (augmentation->hue > 0.0)
        choices->hue = draw_real(key, DRAW_HUE, -augmentation->hue, augmentation->hue);
    if (augmentation->cutout > 0) {
        choices->cutout_row = draw_integer(key, DRAW_CUTOUT_ROW, augmentation->size);
        choices->cutout_column = draw_integer(key, DRAW_CUTOUT_COLUMN, augmentation->size);
    }
}

/* -- Mixing -- */

/* Gamma(shape, 1): Marsaglia and Tsang, A simple method for generating gamma variables, 2000. */
static double draw_gamma(uint64_t key, double shape)
{
    double boost = shape < 1.0 ? pow(random_uniform(key, 0), 1.0 / shape) : 1.0;
    double d = (shape < 1.0 ? shape + 1.0 : shape) - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    for (uint64_t i = 1;; i++) {
        double x = random_normal(random_bits(key, 1), i);
        double v = 1.0 + c * x;
        double u = 1.0 - random_uniform(random_bits(key, 2), i);
        v = v * v * v;
        if (v > 0.0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

static double draw_beta(uint64_t key, double alpha)
{
    double a = draw_gamma(random_bits(key, 0), alpha);
    double b = draw_gamma(random_bits(key, 1), alpha);
    if (a + b > 0.0)
        return a / (a + b);
    return random_bits(key, 2) & 1 ? 1.0 : 0.0; /* both too small to be told from 0 */
}

static void choose_box(uint64_t key, int64_t size, double share, struct image_mixing *mixing)
{
    int64_t side = (int64_t)((double)size * sqrt(share));
    int64_t row = draw_integer(key, DRAW_MIXED_ROW, size) - side / 2;
    int64_t column = draw_integer(key, DRAW_MIXED_COLUMN, size) - side / 2;
    int64_t row_end = row + side < size ? row + side : size;
    int64_t column_end = column + side < size ? column + side : size;
    mixing->row = row > 0 ? row : 0;
    mixing->column = column > 0 ? column : 0;
    mixing->rows = row_end - mixing->row;
    mixing->columns = column_end - mixing->column;
    mixing->amount = (double)(mixing->rows * mixing->columns) / (double)(size * size);
}

void image_mixing_choose(const struct image_augmentation *augmentation, uint64_t seed, int64_t epoch, int64_t index,
                         struct image_mixing *mixing)
{
    uint64_t key = image_key(seed, epoch, index);
    double probability = augmentation->mixing > 0.0 ? augmentation->mixing : 1.0;
    bool cut = augmentation->cutmix > 0.0;
    bool whole = augmentation->mixup > 0.0;
    *mixing = (struct image_mixing){0};
    if ((!cut && !whole) || random_uniform(key, DRAW_MIXED) >= probability)
        return;
    mixing->cut = cut && (!whole || (random_bits(key, DRAW_MIXED_CUT) & 1));
    double alpha = mixing->cut ? augmentation->cutmix : augmentation->mixup;
    double share = draw_beta(random_bits(key, DRAW_MIXED_SHARE), alpha);
    if (mixing->cut)
        choose_box(key, augmentation->size, share, mixing);
    else
        mixing->amount = share;
}

/* -- What can be chosen -- */

static enum status refuse(struct context *context, const char *what, const char *range)
{
    return context_fail(context, STATUS_USAGE, "data.augment: %s must be %s", what, range);
}

static enum status check_values(struct context *context, const struct image_augmentation *a)
{
    if (a->size < 1 || a->size > IMAGE_SIZE)
        return refuse(context, "the size of images", "from 1 to 4096");
    if (!(a->crop_share >= 0.0 && a->crop_share <= 1.0))
        return refuse(context, "crop_share", "above 0, and 1 at most");
    if (a->crop_padding < 0 || a->crop_padding > a->size - a->crop_reflect)
        return refuse(context, "crop_padding", "from 0 to the size of images, or one less if it mirrors them");
    if (a->crop == IMAGE_CROP_RESIZED && !(a->scale_low > 0.0 && a->scale_low <= a->scale_high && a->scale_high <= 1.0))
        return refuse(context, "the range of scale", "above 0, 1 at most, and rising");
    if (a->crop == IMAGE_CROP_RESIZED &&
        !(a->ratio_low >= 0.01 && a->ratio_low <= a->ratio_high && a->ratio_high <= 100.0))
        return refuse(context, "the range of ratio", "from 0.01 to 100, and rising");
    if (!(a->rotation >= 0.0 && a->rotation <= 180.0))
        return refuse(context, "rotation", "from 0 to 180 degrees");
    if (!(a->brightness >= 0.0 && a->brightness <= 10.0 && a->contrast >= 0.0 && a->contrast <= 10.0 &&
          a->saturation >= 0.0 && a->saturation <= 10.0))
        return refuse(context, "brightness, contrast and saturation", "from 0 to 10");
    if (!(a->hue >= 0.0 && a->hue <= 0.5))
        return refuse(context, "hue", "from 0 to 0.5");
    if (a->cutout < 0 || a->cutout > 2 * a->size)
        return refuse(context, "cutout", "from 0 to twice the size of images");
    if (!(a->mixup >= 0.0 && a->mixup <= 100.0 && a->cutmix >= 0.0 && a->cutmix <= 100.0))
        return refuse(context, "mixup and cutmix", "from 0 to 100");
    if (!(a->mixing >= 0.0 && a->mixing <= 1.0))
        return refuse(context, "mixing", "from 0 to 1");
    return STATUS_OK;
}

enum status image_augmentation_check(struct context *context, const struct image_augmentation *augmentation,
                                     const struct image_set *set)
{
    CHECK(check_values(context, augmentation));
    for (int64_t c = 0; c < augmentation->channels && c < IMAGE_CHANNELS; c++)
        if (!(augmentation->deviation[c] > 0.0))
            return refuse(context, "the deviation of each channel", "above 0; images all alike have none");
    int64_t channels = set ? image_set_facts(set)->channels : augmentation->channels;
    if (augmentation->channels < 1 || augmentation->channels > IMAGE_CHANNELS ||
        (augmentation->channels != channels && !(augmentation->channels == 3 && channels == 1)))
        return context_fail(context, STATUS_USAGE,
                            "the model takes images of %" PRId64 " channels, the set has %" PRId64
                            "; set model.image.channels",
                            augmentation->channels, channels);
    return STATUS_OK;
}
