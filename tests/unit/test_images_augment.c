/* What is done to an image: pixels from Pillow, and what every random choice must keep to. */
#include "tests/unit/images_support.h"

#include <math.h>

enum { ROWS = 5, COLUMNS = 7 };

/* The image of which Pillow 13.0.0 made the values below. */
static void fill(uint8_t *pixels)
{
    for (int y = 0; y < ROWS; y++)
        for (int x = 0; x < COLUMNS; x++)
            for (int c = 0; c < 3; c++)
                *pixels++ = (uint8_t)(y * 37 + x * 53 + x * y % 7 * 11 + c * 91);
}

static void check_resize(const struct image *image, const double *box, int64_t out_rows, int64_t out_columns,
                         const uint8_t *expected)
{
    uint8_t output[256];
    int64_t count = out_rows * out_columns * image->channels;
    void *scratch = malloc(image_resize_bytes(image->rows, image->columns, image->channels, out_rows, out_columns));
    assert_non_null(scratch);
    image_resize(image, box[0], box[1], box[2], box[3], out_rows, out_columns, scratch, output);
    free(scratch);
    assert_memory_equal(output, expected, (size_t)count);
}

/* image.resize(size, Image.BILINEAR, box=box) */
static void test_resize(void **state)
{
    (void)state;
    uint8_t pixels[ROWS * COLUMNS * 3];
    fill(pixels);
    struct image image = {pixels, ROWS, COLUMNS, 3};
    static const uint8_t smaller[] = {89,  140, 119, 134, 123, 139, 104, 115, 129,
                                      140, 136, 110, 90,  144, 143, 166, 130, 107};
    check_resize(&image, (double[]){0, 0, 7, 5}, 2, 3, smaller);
    static const uint8_t larger[] = {
        0,   91,  182, 35,  126, 217, 77,  168, 145, 118, 209, 44,  159, 250, 85,  200, 92,  126, 99,  76,  167,
        27,  118, 209, 62,  153, 244, 28,  119, 210, 69,  160, 123, 116, 122, 78,  164, 63,  90,  212, 111, 138,
        110, 109, 185, 80,  142, 126, 98,  126, 88,  139, 38,  129, 59,  150, 91,  106, 197, 67,  160, 138, 86,
        182, 50,  141, 121, 105, 196, 57,  124, 215, 79,  170, 118, 133, 139, 59,  180, 15,  106, 89,  180, 15,
        142, 162, 68,  157, 122, 130, 119, 94,  185, 40,  131, 222, 67,  158, 166, 101, 192, 93,  149, 155, 75,
        202, 37,  128, 120, 211, 46,  179, 100, 105, 126, 75,  166, 30,  121, 197, 54,  145, 172, 108, 199, 77,
        140, 196, 66,  178, 140, 104, 224, 59,  150, 148, 239, 74,  213, 133, 139, 140, 89,  180, 31,  122, 156,
        106, 197, 32,  122, 213, 48,  180, 129, 106, 230, 65,  156, 243, 78,  169};
    check_resize(&image, (double[]){0, 0, 7, 5}, 6, 9, larger);
    static const uint8_t part[] = {88,  138, 119, 165, 138, 115, 89,  111, 148, 147, 135, 101, 96, 111,
                                   190, 103, 162, 104, 135, 98,  157, 74,  165, 117, 167, 153, 93};
    check_resize(&image, (double[]){1, 0, 5, 5}, 3, 3, part);
    static const uint8_t broken[] = {45,  136, 181, 122, 149, 80,  171, 148, 126, 91,  104, 151, 91,  182, 83,  171,
                                     65,  110, 118, 103, 194, 77,  168, 116, 137, 165, 63,  132, 103, 168, 55,  143,
                                     195, 101, 192, 93,  183, 121, 109, 62,  107, 180, 88,  179, 103, 152, 175, 78};
    check_resize(&image, (double[]){0.5, 0.25, 5.25, 4.25}, 4, 4, broken);
    uint8_t gray[9 * 11];
    for (int i = 0; i < 99; i++)
        gray[i] = (uint8_t)(i / 11 * (i / 11) * 13 + i % 11 * 29);
    struct image gray_image = {gray, 9, 11, 1};
    static const uint8_t gray_smaller[] = {49,  122, 188, 90,  125, 137, 123, 124,
                                           135, 120, 131, 144, 136, 150, 106, 121};
    check_resize(&gray_image, (double[]){0, 0, 11, 9}, 4, 4, gray_smaller);
    check_resize(&image, (double[]){0, 0, 7, 5}, ROWS, COLUMNS, pixels);
}

/* -- One step at a time, on 3 x 3 pixels of one channel -- */

static const uint8_t nine[9] = {10, 20, 30, 40, 50, 60, 70, 80, 90};

static struct image_augmentation plain(int64_t size, int64_t channels)
{
    struct image_augmentation augmentation = {.size = size, .channels = channels};
    for (int c = 0; c < IMAGE_CHANNELS; c++)
        augmentation.deviation[c] = 1.0 / 255.0; /* so that results are bytes again */
    return augmentation;
}

static void apply(struct fixture *fixture, const struct image_augmentation *augmentation, const struct image *image,
                  const struct image_choices *choices, bool training, float *output)
{
    struct image_workspace *workspace = NULL;
    assert_ok(&fixture->context,
              image_workspace_create(&fixture->context, augmentation, image->rows, image->columns, &workspace));
    image_apply(workspace, image, choices, training, output);
    image_workspace_destroy(&fixture->context, &workspace);
}

static void check_nine(struct fixture *fixture, const struct image_augmentation *augmentation,
                       const struct image_choices *choices, const uint8_t *expected)
{
    struct image image = {nine, 3, 3, 1};
    float output[9];
    apply(fixture, augmentation, &image, choices, true, output);
    for (int i = 0; i < 9; i++)
        assert_close(output[i], expected[i], 0.0, 1e-3);
}

static struct image_choices unchanged(const struct image_augmentation *augmentation)
{
    struct image_choices choices;
    image_choose_centre(augmentation, 3, 3, &choices);
    return choices;
}

static void test_moves(void **state)
{
    struct fixture *fixture = *state;
    struct image_augmentation augmentation = plain(3, 1);
    struct image_choices choices = unchanged(&augmentation);
    check_nine(fixture, &augmentation, &choices, nine);
    choices.flip = true;
    check_nine(fixture, &augmentation, &choices, (const uint8_t[]){30, 20, 10, 60, 50, 40, 90, 80, 70});
    augmentation.crop_padding = 2;
    choices = unchanged(&augmentation);
    check_nine(fixture, &augmentation, &choices, nine);
    choices.shift_rows = 0;
    choices.shift_columns = 3;
    check_nine(fixture, &augmentation, &choices, (const uint8_t[]){0, 0, 0, 0, 0, 0, 20, 30, 0});
    augmentation.crop_reflect = true;
    check_nine(fixture, &augmentation, &choices, (const uint8_t[]){80, 90, 80, 50, 60, 50, 20, 30, 20});
    choices.flip = true;
    check_nine(fixture, &augmentation, &choices, (const uint8_t[]){80, 90, 80, 50, 60, 50, 20, 30, 20});
    augmentation = plain(3, 1);
    choices = unchanged(&augmentation);
    choices.rotation = 90.0; /* counterclockwise */
    check_nine(fixture, &augmentation, &choices, (const uint8_t[]){30, 60, 90, 20, 50, 80, 10, 40, 70});
    choices.rotation = 45.0;
    /* Corners lie sqrt(2) from the centre, outside by 0.414 on one axis; edges at 0.707 on both. */
    struct image image = {nine, 3, 3, 1};
    float output[9];
    apply(fixture, &augmentation, &image, &choices, true, output);
    assert_close(output[4], 50.0, 0.0, 0.6);
    assert_close(output[0], 0.586 * 20.0, 0.0, 1.0);
    augmentation.cutout = 2;
    choices = unchanged(&augmentation);
    choices.cutout_row = 2;
    choices.cutout_column = 1;
    check_nine(fixture, &augmentation, &choices, (const uint8_t[]){10, 20, 30, 0, 0, 60, 0, 0, 90});
}

/* ImageEnhance.Brightness, .Contrast and .Color; they cut off fractions where these round. */
static void test_colour(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t pixels[18] = {0, 91, 182, 53, 144, 235, 106, 197, 32, 37, 128, 219, 101, 192, 27, 165, 0, 91};
    static const struct {
        double brightness, contrast, saturation, hue;
        uint8_t expected[18];
    } rows[] = {
        {1.3, 1, 1, 0, {0, 118, 236, 68, 187, 255, 137, 255, 41, 48, 166, 255, 131, 249, 35, 214, 0, 118}},
        {0.6, 1, 1, 0, {0, 54, 109, 31, 86, 141, 63, 118, 19, 22, 76, 131, 60, 115, 16, 99, 0, 54}},
        {1, 1.5, 1, 0, {0, 80, 217, 23, 160, 255, 103, 239, 0, 0, 136, 255, 95, 232, 0, 191, 0, 80}},
        {1, 0.5, 1, 0, {56, 101, 147, 82, 128, 173, 109, 154, 72, 74, 120, 165, 106, 152, 69, 138, 56, 101}},
        {1, 1, 1.7, 0, {0, 102, 255, 1, 155, 255, 74, 229, 0, 0, 139, 255, 69, 224, 0, 238, 0, 112}},
        {1, 1, 0.4, 0, {44, 80, 117, 97, 133, 170, 133, 169, 103, 81, 117, 154, 128, 164, 98, 102, 36, 72}},
        /* colorsys */
        {1, 1, 1, 0.1, {18, 0, 182, 71, 53, 235, 32, 197, 57, 55, 37, 219, 27, 192, 52, 165, 8, 0}},
        {1, 1, 1, -0.25, {0, 182, 0, 53, 235, 53, 197, 41, 32, 37, 219, 37, 192, 36, 27, 0, 9, 165}},
        {1, 1, 1, 0.5, {182, 91, 0, 235, 144, 53, 123, 32, 197, 219, 128, 37, 118, 27, 192, 0, 165, 74}},
    };
    /* Each of Pillow's six pixels six times, which leaves their mean as it is. */
    struct image_augmentation augmentation = plain(6, 3);
    uint8_t square[108];
    for (int i = 0; i < 36; i++)
        memcpy(square + 3 * i, pixels + 3 * (i % 6), 3);
    struct image image = {square, 6, 6, 3};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct image_choices choices;
        float output[108];
        image_choose_centre(&augmentation, 6, 6, &choices);
        choices.brightness = rows[r].brightness;
        choices.contrast = rows[r].contrast;
        choices.saturation = rows[r].saturation;
        choices.hue = rows[r].hue;
        apply(fixture, &augmentation, &image, &choices, true, output);
        for (int i = 0; i < 36; i++)
            for (int c = 0; c < 3; c++)
                assert_close(output[36 * c + i], rows[r].expected[3 * (i % 6) + c], 0.0, 1.01);
        apply(fixture, &augmentation, &image, &choices, false, output);
        assert_close(output[36 + 1], 144.0, 0.0, 1e-3);
    }
}

/* Contrast turns around the mean as a whole number: (100 + 3 x 101) / 4 is 101 then. */
static void test_contrast_of_a_fraction(void **state)
{
    struct fixture *fixture = *state;
    struct image_augmentation augmentation = plain(2, 1);
    uint8_t pixels[4] = {100, 101, 101, 101};
    struct image image = {pixels, 2, 2, 1};
    struct image_choices choices = unchanged(&augmentation);
    float output[4];
    choices.contrast = 0.5;
    apply(fixture, &augmentation, &image, &choices, true, output);
    for (int i = 0; i < 4; i++)
        assert_close(output[i], 101.0, 0.0, 1e-3);
}

static void test_normalise(void **state)
{
    struct fixture *fixture = *state;
    struct image_augmentation augmentation = plain(3, 3);
    struct image image = {nine, 3, 3, 1};
    struct image_choices choices = unchanged(&augmentation);
    float output[27];
    for (int c = 0; c < 3; c++) {
        augmentation.mean[c] = 0.1 * (c + 1);
        augmentation.deviation[c] = 0.2 + 0.1 * c;
    }
    apply(fixture, &augmentation, &image, &choices, false, output); /* gray into three channels */
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 9; i++)
            assert_close(output[9 * c + i], (nine[i] / 255.0 - 0.1 * (c + 1)) / (0.2 + 0.1 * c), 1e-5, 1e-6);
}

/* torchvision: Resize(8) of 6 x 12 is 8 x 16, CenterCrop(4) of that begins at row 2, column 6. */
static void test_centre(void **state)
{
    (void)state;
    struct image_augmentation augmentation = plain(4, 1);
    augmentation.crop_share = 0.5;
    struct image_choices choices;
    image_choose_centre(&augmentation, 6, 12, &choices);
    assert_close(choices.top, 1.5, 0.0, 1e-12);
    assert_close(choices.left, 4.5, 0.0, 1e-12);
    assert_close(choices.height, 3.0, 0.0, 1e-12);
    assert_close(choices.width, 3.0, 0.0, 1e-12);
    image_choose_centre(&augmentation, 4, 4, &choices);
    assert_close(choices.width, 4.0, 0.0, 0.0);
}

/* -- Chance -- */

enum { DRAWS = 20000, CHOICES = 9 };

static struct image_augmentation everything(void)
{
    struct image_augmentation augmentation = plain(32, 3);
    augmentation.crop = IMAGE_CROP_PADDING;
    augmentation.crop_padding = 4;
    augmentation.flip = IMAGE_FLIP_RANDOM;
    augmentation.rotation = 15.0;
    augmentation.brightness = 0.4;
    augmentation.contrast = 2.0;
    augmentation.saturation = 0.1;
    augmentation.cutout = 8;
    augmentation.mixup = 0.3;
    augmentation.cutmix = 1.0;
    return augmentation;
}

/* The mean of `count` draws, uniform in [low, high], within five of its deviations. */
static void check_uniform(double sum, double count, double low, double high)
{
    double deviation = (high - low) / sqrt(12.0 * count);
    assert_close(sum / count, 0.5 * (low + high), 0.0, 5.0 * deviation);
}

static void test_choices(void **state)
{
    (void)state;
    struct image_augmentation augmentation = everything();
    int64_t together[CHOICES][CHOICES] = {{0}};
    double flips = 0.0;
    double rotations = 0.0;
    double brightness = 0.0;
    double contrast = 0.0;
    int64_t rows[9] = {0};
    int64_t columns[9] = {0};
    for (int64_t i = 0; i < DRAWS; i++) {
        struct image_choices a;
        image_choose(&augmentation, 7, i % 3, i, 32, 32, &a);
        assert_in_range(a.shift_rows, 0, 8);
        assert_in_range(a.shift_columns, 0, 8);
        rows[a.shift_rows]++;
        columns[a.shift_columns]++;
        flips += a.flip;
        rotations += a.rotation;
        brightness += a.brightness;
        contrast += a.contrast;
        assert_true(fabs(a.rotation) <= 15.0 && a.brightness >= 0.6 && a.brightness <= 1.4);
        assert_true(a.contrast >= 0.0 && a.contrast <= 3.0 && a.saturation >= 0.9 && a.saturation <= 1.1);
        bool high[] = {
            a.flip,           a.rotation > 0.0,    a.brightness > 1.0, a.contrast > 1.5,    a.saturation > 1.0,
            a.shift_rows > 3, a.shift_columns > 3, a.cutout_row > 15,  a.cutout_column > 15};
        for (int j = 0; j < CHOICES; j++)
            for (int k = 0; k < j; k++)
                together[j][k] += high[j] == high[k];
        assert_in_range(a.cutout_row, 0, 31);
        assert_in_range(a.cutout_column, 0, 31);
    }
    for (int i = 0; i < 9; i++) {
        assert_close((double)rows[i], DRAWS / 9.0, 0.1, 0.0);
        assert_close((double)columns[i], DRAWS / 9.0, 0.1, 0.0);
    }
    assert_close(flips / DRAWS, 0.5, 0.0, 5.0 * 0.5 / sqrt(DRAWS));
    for (int j = 0; j < CHOICES; j++) /* none follows from another */
        for (int k = 0; k < j; k++)
            assert_close((double)together[j][k], DRAWS / 2.0, 0.05, 0.0);
    check_uniform(rotations, DRAWS, -15.0, 15.0);
    check_uniform(brightness, DRAWS, 0.6, 1.4);
    check_uniform(contrast, DRAWS, 0.0, 3.0);
}

/* A run that goes on with a later program makes the same choices: as another one (in Python) draws them. */
static void test_choices_stay(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        int64_t epoch, index;
        int shift[2], flip;
        double rotation, brightness, contrast, saturation;
        int cutout[2];
        double part[4]; /* left, top, width, height, of 100 x 80 */
        int mixed, cut;
    } rows[] = {
        {7,
         0,
         0,
         {5, 0},
         1,
         -5.52683572842,
         1.27867723977,
         2.73355173269,
         0.906608030871,
         {6, 14},
         {18, 6, 60, 66},
         0,
         0},
        {7,
         0,
         1,
         {4, 2},
         0,
         0.0330542642244,
         1.00564845507,
         1.39285653963,
         0.954838964017,
         {28, 26},
         {3, 3, 64, 62},
         0,
         0},
        {7,
         3,
         1,
         {0, 8},
         1,
         4.63961692786,
         0.836972516747,
         2.01258294319,
         1.0745675719,
         {13, 14},
         {5, 29, 64, 68},
         0,
         0},
        {8, 3, 5, {2, 7}, 1, 14.495160746, 1.21090065985, 2.45827707052, 1.0189630133, {18, 26}, {5, 0, 74, 98}, 1, 0},
    };
    struct image_augmentation augmentation = everything();
    struct image_augmentation resized = augmentation;
    augmentation.mixing = 0.5;
    resized.crop = IMAGE_CROP_RESIZED;
    resized.scale_low = 0.3;
    resized.scale_high = 1.0;
    resized.ratio_low = 0.75;
    resized.ratio_high = 1.25;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct image_choices choices;
        struct image_mixing mixing;
        image_choose(&augmentation, rows[r].seed, rows[r].epoch, rows[r].index, 32, 32, &choices);
        assert_int_equal(choices.shift_rows, rows[r].shift[0]);
        assert_int_equal(choices.shift_columns, rows[r].shift[1]);
        assert_int_equal(choices.flip, rows[r].flip);
        assert_close(choices.rotation, rows[r].rotation, 1e-10, 0.0);
        assert_close(choices.brightness, rows[r].brightness, 1e-10, 0.0);
        assert_close(choices.contrast, rows[r].contrast, 1e-10, 0.0);
        assert_close(choices.saturation, rows[r].saturation, 1e-10, 0.0);
        assert_int_equal(choices.cutout_row, rows[r].cutout[0]);
        assert_int_equal(choices.cutout_column, rows[r].cutout[1]);
        image_choose(&resized, rows[r].seed, rows[r].epoch, rows[r].index, 100, 80, &choices);
        const double part[4] = {choices.left, choices.top, choices.width, choices.height};
        for (int i = 0; i < 4; i++)
            assert_close(part[i], rows[r].part[i], 0.0, 0.0);
        image_mixing_choose(&augmentation, rows[r].seed, rows[r].epoch, rows[r].index, &mixing);
        assert_int_equal(mixing.amount > 0.0, rows[r].mixed);
        assert_int_equal(mixing.cut, rows[r].cut);
    }
}

/* Turning one choice on or off changes no other; other seeds, epochs and images change all. */
static void test_choices_apart(void **state)
{
    (void)state;
    struct image_augmentation augmentation = everything();
    struct image_augmentation fewer = augmentation;
    fewer.rotation = 0.0;
    fewer.flip = IMAGE_FLIP_NONE;
    fewer.contrast = 0.0;
    int64_t same_seed = 0;
    int64_t same_epoch = 0;
    int64_t same_index = 0;
    for (int64_t i = 0; i < 1000; i++) {
        struct image_choices a;
        struct image_choices b;
        image_choose(&augmentation, 7, 2, i, 32, 32, &a);
        image_choose(&fewer, 7, 2, i, 32, 32, &b);
        assert_true(b.rotation == 0.0 && !b.flip && b.contrast == 1.0);
        b.rotation = a.rotation;
        b.flip = a.flip;
        b.contrast = a.contrast;
        assert_memory_equal(&a, &b, sizeof a);
        image_choose(&augmentation, 8, 2, i, 32, 32, &b);
        same_seed += a.brightness == b.brightness;
        image_choose(&augmentation, 7, 3, i, 32, 32, &b);
        same_epoch += a.brightness == b.brightness;
        image_choose(&augmentation, 7, 2, i + 1, 32, 32, &b);
        same_index += a.brightness == b.brightness;
    }
    assert_int_equal(same_seed + same_epoch + same_index, 0);
}

static void test_alternating_flip(void **state)
{
    (void)state;
    struct image_augmentation augmentation = plain(32, 3);
    augmentation.flip = IMAGE_FLIP_ALTERNATING;
    int64_t flips = 0;
    for (int64_t i = 0; i < 10000; i++) {
        struct image_choices epoch[3];
        for (int e = 0; e < 3; e++)
            image_choose(&augmentation, 7, e, i, 32, 32, &epoch[e]);
        assert_true(epoch[0].flip != epoch[1].flip && epoch[0].flip == epoch[2].flip);
        flips += epoch[0].flip;
    }
    assert_close((double)flips, 5000.0, 0.0, 250.0);
}

static void test_random_part(void **state)
{
    (void)state;
    struct image_augmentation augmentation = plain(32, 3);
    augmentation.crop = IMAGE_CROP_RESIZED;
    augmentation.scale_low = 0.08;
    augmentation.scale_high = 1.0;
    augmentation.ratio_low = 3.0 / 4.0;
    augmentation.ratio_high = 4.0 / 3.0;
    double area = 0.0;
    for (int64_t i = 0; i < DRAWS; i++) {
        struct image_choices a;
        image_choose(&augmentation, 7, 0, i, 400, 400, &a);
        assert_true(a.left >= 0.0 && a.top >= 0.0 && a.left + a.width <= 400.0 && a.top + a.height <= 400.0);
        assert_true(a.width / a.height > 0.74 && a.width / a.height < 1.35);
        area += a.width * a.height / 160000.0;
    }
    /* Large parts that do not fit are drawn again, so less than 0.54: 400,000 calls of torchvision's get_params. */
    assert_close(area / DRAWS, 0.4788, 0.0, 0.01);
    /* What no try fits: the largest part of an allowed ratio, in the middle. */
    struct image_choices a;
    augmentation.scale_low = 0.9;
    image_choose(&augmentation, 7, 0, 0, 10, 1000, &a);
    assert_true(a.height == 10.0 && a.width == 13.0 && a.left == 493.0 && a.top == 0.0);
    image_choose(&augmentation, 7, 0, 0, 1, 1, &a);
    assert_true(a.height == 1.0 && a.width == 1.0 && a.left == 0.0 && a.top == 0.0);
}

/* Beta(alpha, alpha) has the mean 1/2 and the variance 1 / (4 (2 alpha + 1)). */
static void test_mixing(void **state)
{
    (void)state;
    static const double alphas[] = {0.2, 1.0, 4.0};
    for (int k = 0; k < 3; k++) {
        struct image_augmentation augmentation = plain(32, 3);
        augmentation.mixup = alphas[k];
        double sum = 0.0;
        double squares = 0.0;
        for (int64_t i = 0; i < DRAWS; i++) {
            struct image_mixing mixing;
            image_mixing_choose(&augmentation, 7, 1, i, &mixing);
            assert_true(!mixing.cut && mixing.amount >= 0.0 && mixing.amount <= 1.0);
            sum += mixing.amount;
            squares += mixing.amount * mixing.amount;
        }
        double mean = sum / DRAWS;
        double variance = 0.25 / (2.0 * alphas[k] + 1.0);
        assert_close(mean, 0.5, 0.0, 5.0 * sqrt(variance / DRAWS));
        assert_close(squares / DRAWS - mean * mean, variance, 0.05, 0.0);
    }
    struct image_augmentation augmentation = everything();
    augmentation.mixing = 0.6;
    int64_t cut = 0;
    int64_t whole = 0;
    for (int64_t i = 0; i < DRAWS; i++) {
        struct image_mixing mixing;
        image_mixing_choose(&augmentation, 7, 1, i, &mixing);
        cut += mixing.cut;
        whole += !mixing.cut && mixing.amount > 0.0;
        assert_true(mixing.row >= 0 && mixing.column >= 0 && mixing.row + mixing.rows <= 32 &&
                    mixing.column + mixing.columns <= 32);
        if (mixing.cut)
            assert_close(mixing.amount, (double)(mixing.rows * mixing.columns) / 1024.0, 1e-12, 0.0);
    }
    assert_close((double)cut, 0.3 * DRAWS, 0.05, 0.0);
    assert_close((double)whole, 0.3 * DRAWS, 0.05, 0.0);
}

static void test_mix(void **state)
{
    (void)state;
    float image[18];
    float other[18];
    for (int i = 0; i < 18; i++) {
        image[i] = (float)i;
        other[i] = (float)(100 + 2 * i);
    }
    struct image_mixing box = {.cut = true, .amount = 2.0 / 9.0, .row = 1, .column = 1, .rows = 1, .columns = 2};
    image_mix(&box, 2, 3, image, other);
    static const float boxed[] = {0, 1, 2, 3, 108, 110, 6, 7, 8, 9, 10, 11, 12, 126, 128, 15, 16, 17};
    assert_memory_equal(image, boxed, sizeof boxed);
    struct image_mixing whole = {.amount = 0.25};
    image_mix(&whole, 2, 3, image, other);
    assert_close(image[1], 0.75 * 1.0 + 0.25 * 102.0, 1e-6, 0.0);
    assert_close(image[17], 0.75 * 17.0 + 0.25 * 134.0, 1e-6, 0.0);
}

static void test_check(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    struct image_augmentation good = everything();
    assert_ok(context, image_augmentation_check(context, &good, NULL));
    struct image_augmentation bad = good;
    bad.crop_padding = 33;
    assert_fails(context, image_augmentation_check(context, &bad, NULL), STATUS_USAGE, "crop_padding");
    bad = good;
    bad.rotation = NAN;
    assert_fails(context, image_augmentation_check(context, &bad, NULL), STATUS_USAGE, "rotation");
    bad = good;
    bad.crop = IMAGE_CROP_RESIZED;
    assert_fails(context, image_augmentation_check(context, &bad, NULL), STATUS_USAGE, "scale");
    bad = good;
    bad.deviation[1] = 0.0;
    assert_fails(context, image_augmentation_check(context, &bad, NULL), STATUS_USAGE, "deviation");
    bad = good;
    bad.mixup = -0.1;
    assert_fails(context, image_augmentation_check(context, &bad, NULL), STATUS_USAGE, "mixup");
    bad = good;
    bad.cutout = 65;
    assert_fails(context, image_augmentation_check(context, &bad, NULL), STATUS_USAGE, "cutout");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(test_resize),
        IMAGE_TEST(test_moves),
        IMAGE_TEST(test_colour),
        IMAGE_TEST(test_normalise),
        IMAGE_TEST(test_centre),
        IMAGE_TEST(test_choices),
        IMAGE_TEST(test_choices_apart),
        IMAGE_TEST(test_random_part),
        IMAGE_TEST(test_alternating_flip),
        IMAGE_TEST(test_contrast_of_a_fraction),
        IMAGE_TEST(test_choices_stay),
        IMAGE_TEST(test_mixing),
        IMAGE_TEST(test_mix),
        IMAGE_TEST(test_check),
    };
    return cmocka_run_group_tests_name("images_augment", tests, NULL, NULL);
}
