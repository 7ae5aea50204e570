/* Sets of images: every format, every error. */
#include "tests/unit/images_support.h"

#include <math.h>

static void check_pixels(struct fixture *fixture, const struct image_set *set, int64_t index, const uint8_t *pixels,
                         int64_t count)
{
    struct image_reader *reader = NULL;
    struct image image;
    assert_ok(&fixture->context, image_reader_create(&fixture->context, set, &reader));
    assert_ok(&fixture->context, image_reader_read(reader, index, &image));
    assert_int_equal(image.rows * image.columns * image.channels, count);
    assert_memory_equal(image.pixels, pixels, (size_t)count);
    image_reader_destroy(&reader);
}

/* -- IDX -- */

enum { IDX_IMAGES = 3 };

/* Two rows, three columns. */
static const uint8_t idx_pixels[IDX_IMAGES * 6] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 255, 254, 253, 252, 251, 250};
static const uint8_t idx_labels[] = {0, 0, 8, 1, 0, 0, 0, IDX_IMAGES, 4, 0, 2};

static size_t idx_make(uint8_t *bytes, int64_t channels)
{
    const uint8_t header[] = {0, 0, 8, 3, 0, 0, 0, IDX_IMAGES, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, (uint8_t)channels};
    size_t header_bytes = channels ? 20 : 16;
    memcpy(bytes, header, header_bytes);
    bytes[3] = channels ? 4 : 3;
    size_t count = sizeof idx_pixels * (size_t)(channels ? channels : 1);
    for (size_t i = 0; i < count; i++)
        bytes[header_bytes + i] = channels ? (uint8_t)i : idx_pixels[i];
    return header_bytes + count;
}

static void test_idx(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[256];
    size_t count = idx_make(bytes, 0);
    write_file(fixture, "train-images-idx3-ubyte", bytes, count);
    write_gzip(fixture, "train-labels-idx1-ubyte.gz", idx_labels, sizeof idx_labels);
    struct image_set *set = opened(fixture, "train-images-idx3-ubyte", IMAGES_AUTO);
    const struct image_set_facts *facts = image_set_facts(set);
    assert_int_equal(facts->format, IMAGES_IDX);
    assert_int_equal(facts->count, 3);
    assert_int_equal(facts->rows, 2);
    assert_int_equal(facts->columns, 3);
    assert_int_equal(facts->channels, 1);
    assert_int_equal(facts->classes, 5);
    assert_string_equal(image_set_class_name(set, 4), "4");
    for (int64_t i = 0; i < 3; i++) {
        assert_int_equal(image_set_label(set, i), idx_labels[8 + i]);
        check_pixels(fixture, set, i, idx_pixels + 6 * i, 6);
    }
    image_set_close(&set);

    /* Two files are one set; four dimensions are colours. */
    write_gzip(fixture, "more-images-idx3-ubyte.gz", bytes, count);
    write_file(fixture, "more-labels-idx1-ubyte", idx_labels, sizeof idx_labels);
    set = opened(fixture, "*-images-idx3-ubyte*", IMAGES_IDX);
    assert_int_equal(image_set_facts(set)->count, 6);
    check_pixels(fixture, set, 5, idx_pixels + 12, 6);
    char name[256];
    image_set_name(set, 4, name, sizeof name);
    assert_non_null(strstr(name, "train-images-idx3-ubyte: image 1"));
    image_set_close(&set);
    write_gzip(fixture, "colour-images-idx4-ubyte.gz", bytes, idx_make(bytes, 3));
    write_gzip(fixture, "colour-labels-idx1-ubyte.gz", idx_labels, sizeof idx_labels);
    set = opened(fixture, "colour-images-idx4-ubyte.gz", IMAGES_AUTO);
    assert_int_equal(image_set_facts(set)->channels, 3);
    check_pixels(fixture, set, 1, bytes + 20 + 18, 18);
    image_set_close(&set);
    assert_refused(fixture, "*-images-*", IMAGES_AUTO, "those before 2 x 3 x 3");
}

static void test_idx_refusals(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[256];
    size_t count = idx_make(bytes, 0);
    write_file(fixture, "a-images", bytes, count);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "a-labels: no such file: the labels of");
    uint8_t labels[sizeof idx_labels];
    memcpy(labels, idx_labels, sizeof labels);
    labels[7] = 2;
    write_file(fixture, "a-labels", labels, sizeof labels - 1);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "2 labels for the 3 images");
    uint8_t more[sizeof idx_labels + 1] = {0};
    memcpy(more, idx_labels, sizeof idx_labels);
    more[7] = 4;
    write_file(fixture, "a-labels", more, sizeof more);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "4 labels for the 3 images");
    labels[7] = 3;
    write_file(fixture, "a-labels", labels, sizeof labels - 1);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "a-labels: is truncated");
    write_file(fixture, "a-labels", labels, sizeof labels);
    assert_refused(fixture, "a-labels", IMAGES_AUTO, "name the images");
    write_file(fixture, "a-images", bytes, count - 1);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "a-images: is truncated");
    bytes[count] = 0;
    write_file(fixture, "a-images", bytes, count + 1);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "goes on behind");
    bytes[4] = 127;
    write_file(fixture, "a-images", bytes, count);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "more elements than the file can hold");
    bytes[4] = 0;
    bytes[7] = 0;
    write_file(fixture, "a-images", bytes, count);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "dimension 1 is 0");
    bytes[7] = 3;
    bytes[2] = 13;
    write_file(fixture, "a-images", bytes, count);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "type 0x0d");
    bytes[2] = 8;
    write_gzip(fixture, "a-images", bytes, count);
    uint8_t packed[512];
    size_t packed_count = read_back(fixture, "a-images", packed, sizeof packed);
    write_file(fixture, "a-images", packed, packed_count - 9);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "no end");
    packed[packed_count - 6] ^= 1; /* of the checksum */
    write_file(fixture, "a-images", packed, packed_count);
    assert_refused(fixture, "a-images", IMAGES_AUTO, "incorrect data check");
    write_file(fixture, "nothing-images", bytes, 0);
    assert_refused(fixture, "nothing-images", IMAGES_AUTO, "nothing-images: is empty");
    assert_refused(fixture, "none", IMAGES_AUTO, "none: no such file");
}

/* -- CIFAR -- */

static uint8_t cifar[4 * 3074];

static void test_cifar(void **state)
{
    struct fixture *fixture = *state;
    for (int hundred = 0; hundred < 2; hundred++) {
        int64_t record = 3073 + hundred;
        for (int64_t i = 0; i < 4 * record; i++)
            cifar[i] = (uint8_t)(i % record % 251);
        for (int64_t i = 0; i < 4; i++) {
            cifar[i * record] = (uint8_t)(2 * i + 1);
            cifar[i * record + hundred] = (uint8_t)(hundred ? 30 * i + 5 : 2 * i + 1);
        }
        write_file(fixture, "plain.bin", cifar, (size_t)(3 * record));
        write_gzip(fixture, "rest.bin.gz", cifar + 3 * record, (size_t)record);
        struct image_set *set = opened(fixture, "*", IMAGES_AUTO);
        const struct image_set_facts *facts = image_set_facts(set);
        assert_int_equal(facts->format, hundred ? IMAGES_CIFAR100 : IMAGES_CIFAR10);
        assert_int_equal(facts->count, 4);
        assert_int_equal(facts->classes, hundred ? 100 : 10);
        assert_string_equal(image_set_class_name(set, 9), hundred ? "bottle" : "truck");
        assert_string_equal(image_set_class_name(set, facts->classes - 1), hundred ? "worm" : "truck");
        uint8_t pixels[3072];
        for (int64_t i = 0; i < 4; i++) {
            assert_int_equal(image_set_label(set, i), hundred ? 30 * i + 5 : 2 * i + 1);
            for (int64_t j = 0; j < 3072; j++)
                pixels[j] = cifar[i * record + 1 + hundred + j % 3 * 1024 + j / 3];
            check_pixels(fixture, set, i, pixels, 3072);
        }
        image_set_close(&set);
        write_file(fixture, "plain.bin", cifar, (size_t)(3 * record - 1));
        assert_refused(fixture, "plain.bin", IMAGES_AUTO, "CIFAR-10 (3073 bytes) or CIFAR-100 (3074)");
        assert_refused(fixture, "plain.bin", hundred ? IMAGES_CIFAR100 : IMAGES_CIFAR10, "no whole number of records");
    }
    cifar[3073] = 10;
    write_file(fixture, "plain.bin", cifar, 2 * 3073);
    assert_refused(fixture, "plain.bin", IMAGES_AUTO, "record 1 has the label 10, which cifar10 does not");
}

/* -- Folders and lists -- */

static void test_folder(void **state)
{
    struct fixture *fixture = *state;
    write_colour(fixture, "set/dog/b.png");
    write_gray(fixture, "set/dog/a.PNG");
    write_colour(fixture, "set/Cat/10.png");
    write_colour(fixture, "set/Cat/9.png");
    write_file(fixture, "set/Cat/notes.txt", "no image", 8);
    write_file(fixture, "set/.hidden", "", 0);
    write_file(fixture, "set/README", "no class", 8);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    const struct image_set_facts *facts = image_set_facts(set);
    assert_int_equal(facts->format, IMAGES_FOLDER);
    assert_int_equal(facts->count, 4);
    assert_int_equal(facts->channels, 3);
    assert_int_equal(facts->rows, 2);
    assert_int_equal(facts->columns, 3);
    assert_int_equal(facts->classes, 2);
    assert_int_equal(facts->others, 1);
    assert_string_equal(image_set_class_name(set, 0), "Cat");
    assert_string_equal(image_set_class_name(set, 1), "dog");
    static const char *const names[] = {"Cat/10.png", "Cat/9.png", "dog/a.PNG", "dog/b.png"};
    for (int64_t i = 0; i < 4; i++) {
        char name[256];
        image_set_name(set, i, name, sizeof name);
        assert_non_null(strstr(name, names[i]));
        assert_int_equal(image_set_label(set, i), i / 2);
    }
    check_pixels(fixture, set, 0, colours, 18);
    uint8_t spread[18]; /* gray among colours */
    for (int i = 0; i < 18; i++)
        spread[i] = grays[i / 3];
    check_pixels(fixture, set, 2, spread, 18);
    image_set_close(&set);

    write_jpeg(fixture, "set/dog/c.jpeg", 4, 3, JCS_GRAYSCALE, 1, colours);
    set = opened(fixture, "set", IMAGES_AUTO);
    assert_int_equal(image_set_facts(set)->rows, 0);
    assert_int_equal(image_set_facts(set)->columns, 3);
    assert_int_equal(image_set_facts(set)->pixels_most, 12);
    image_set_close(&set);
}

/* A set that came as bytes is the one that was read, the images that were left out and the match of classes included.
 */
static void test_packed(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    write_colour(fixture, "set/dog/b.png");
    write_gray(fixture, "set/cat/a.png");
    write_file(fixture, "set/cat/broken.png", "no image", 8);
    write_colour(fixture, "other/cat/1.png");
    write_colour(fixture, "other/bee/1.png");
    write_colour(fixture, "other/dog/1.png");
    struct text_list name = {.count = 1};
    snprintf(name.item[0], TEXT_LENGTH, "%s", path_of(fixture, "set"));
    struct image_set *read = NULL;
    assert_ok(context, image_set_open(context, &name, IMAGES_AUTO, true, &read));
    int64_t bytes = image_set_packed_bytes(read);
    assert_true(bytes > 0);
    char *packed = malloc((size_t)bytes);
    image_set_pack(read, packed);
    struct image_set *set = NULL;
    assert_ok(context, image_set_unpack(context, packed, &set));
    free(packed);
    assert_memory_equal(image_set_facts(set), image_set_facts(read), sizeof(struct image_set_facts));
    assert_int_equal(image_set_facts(set)->skipped, 1);
    assert_string_equal(image_set_bad(set, 0), image_set_bad(read, 0));
    image_set_close(&read);
    assert_non_null(strstr(image_set_bad(set, 0), "broken.png"));
    assert_string_equal(image_set_class_name(set, 1), "dog");
    check_pixels(fixture, set, 1, colours, 18);
    struct image_set *other = opened(fixture, "other", IMAGES_AUTO);
    assert_int_equal(image_set_packed_bytes(other) > 0, 1);
    assert_ok(context, image_set_match(set, other));
    assert_int_equal(image_set_label(set, 1), 2);
    assert_string_equal(image_set_class_name(set, 0), "bee");
    image_set_close(&other);
    image_set_close(&set);
    write_file(fixture, "one.bin", cifar, 3073);
    set = opened(fixture, "one.bin", IMAGES_CIFAR10);
    assert_int_equal(image_set_packed_bytes(set), 0);
    image_set_close(&set);
}

static void test_folder_refusals(void **state)
{
    struct fixture *fixture = *state;
    write_gray(fixture, "set/train/dog/b.png");
    assert_refused(fixture, "set", IMAGES_AUTO, "dog: is a folder inside the class train");
    assert_refused(fixture, "set/train/dog", IMAGES_AUTO, "put its images into folders by class");
    assert_refused(fixture, "set/train/dog/b.png", IMAGES_AUTO, "b.png: is one image");
    assert_refused(fixture, "set/train/dog/b.png", IMAGES_FOLDER, "b.png: is no folder");
    write_file(fixture, "set/train/cat/b.txt", "x", 1);
    assert_refused(fixture, "set/train", IMAGES_AUTO, "cat: a class without images");
}

static void test_list(void **state)
{
    struct fixture *fixture = *state;
    write_colour(fixture, "files/with blank.png");
    write_colour(fixture, "files/b.png");
    write_gray(fixture, "files/c.png");
    const char named[] = "files/with blank.png\tred fox\r\n\n  \nfiles/b.png hen\nfiles/c.png\tred fox";
    write_file(fixture, "list.txt", named, sizeof named - 1);
    struct image_set *set = opened(fixture, "list.txt", IMAGES_AUTO);
    assert_int_equal(image_set_facts(set)->format, IMAGES_LIST);
    assert_int_equal(image_set_facts(set)->count, 3);
    assert_int_equal(image_set_facts(set)->classes, 2);
    assert_string_equal(image_set_class_name(set, 0), "hen");
    assert_string_equal(image_set_class_name(set, 1), "red fox");
    static const int32_t labels[] = {1, 0, 1};
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal(image_set_label(set, i), labels[i]);
    check_pixels(fixture, set, 1, colours, 18);
    image_set_close(&set);

    /* Numbers are labels; a path may begin anywhere. */
    char numbered[256];
    int count = snprintf(numbered, sizeof numbered, "%s/files/b.png 3\nfiles/c.png\t1\n", fixture->folder);
    write_file(fixture, "numbers", numbered, (size_t)count);
    set = opened(fixture, "numbers", IMAGES_AUTO);
    assert_int_equal(image_set_facts(set)->classes, 4);
    assert_int_equal(image_set_label(set, 0), 3);
    assert_int_equal(image_set_label(set, 1), 1);
    image_set_close(&set);

    static const char missing[] = "files/b.png 0\n\nfiles/none.png 1\n";
    write_file(fixture, "bad", missing, sizeof missing - 1);
    assert_refused(fixture, "bad", IMAGES_AUTO, "bad: line 3: ");
    assert_refused(fixture, "bad", IMAGES_AUTO, "files/none.png: no such file");
    write_file(fixture, "bad", "files/b.png\n", 12);
    assert_refused(fixture, "bad", IMAGES_AUTO,
                   "line 1: expected a path, a tab or blank, and a class, got \"files/b.png\"");
    write_file(fixture, "bad", "\n\n", 2);
    assert_refused(fixture, "bad", IMAGES_AUTO, "holds no images");
    write_file(fixture, "bad", "a.png\0 1", 8);
    assert_refused(fixture, "bad", IMAGES_LIST, "zero bytes");
}

/* -- Sets together -- */

static void test_match(void **state)
{
    struct fixture *fixture = *state;
    write_colour(fixture, "train/ant/1.png");
    write_colour(fixture, "train/bee/1.png");
    write_colour(fixture, "train/cow/1.png");
    write_gray(fixture, "test/bee/1.png");
    write_gray(fixture, "test/cow/1.png");
    struct image_set *train = opened(fixture, "train", IMAGES_AUTO);
    struct image_set *test = opened(fixture, "test", IMAGES_AUTO);
    assert_int_equal(image_set_label(test, 0), 0);
    assert_ok(&fixture->context, image_set_match(test, train));
    assert_int_equal(image_set_facts(test)->classes, 3);
    assert_int_equal(image_set_label(test, 0), 1);
    assert_int_equal(image_set_label(test, 1), 2);
    assert_string_equal(image_set_class_name(test, 0), "ant");
    image_set_close(&test);
    write_gray(fixture, "test/dodo/1.png");
    test = opened(fixture, "test", IMAGES_AUTO);
    assert_fails(&fixture->context, image_set_match(test, train), STATUS_FILE,
                 "test/dodo/1.png: is of the class \"dodo\", which is none of the 3 that are trained");
    image_set_close(&test);
    image_set_close(&train);
    write_gray(fixture, "gray/ant/1.png");
    train = opened(fixture, "gray", IMAGES_AUTO);
    test = opened(fixture, "train", IMAGES_AUTO);
    assert_fails(&fixture->context, image_set_match(test, train), STATUS_FILE, "have 3 channels, those to train on 1");
    image_set_close(&test);
    image_set_close(&train);
}

static void test_measure(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[256];
    write_file(fixture, "a-images", bytes, idx_make(bytes, 0));
    write_file(fixture, "a-labels", idx_labels, sizeof idx_labels);
    struct image_set *set = opened(fixture, "a-images", IMAGES_AUTO);
    struct image_moments moments;
    /* Of 1 to 12 and 250 to 255. */
    assert_ok(&fixture->context, image_set_measure(&fixture->context, set, 0, false, &moments, NULL));
    assert_close(moments.mean[0], 1593.0 / 18.0 / 255.0, 1e-12, 0.0);
    assert_close(moments.deviation[0], sqrt(383205.0 / 18.0 - 88.5 * 88.5) / 255.0, 1e-12, 0.0);
    assert_ok(&fixture->context, image_set_measure(&fixture->context, set, 1, false, &moments, NULL));
    assert_close(moments.mean[0], 3.5 / 255.0, 1e-12, 0.0);
    image_set_close(&set);

    /* Fewer than all are spread over all: of four images of a pixel the first and the third. */
    static const uint8_t four[] = {0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 10, 20, 30, 40};
    static const uint8_t four_labels[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1};
    write_file(fixture, "b-images", four, sizeof four);
    write_file(fixture, "b-labels", four_labels, sizeof four_labels);
    set = opened(fixture, "b-images", IMAGES_AUTO);
    assert_ok(&fixture->context, image_set_measure(&fixture->context, set, 2, false, &moments, NULL));
    assert_close(moments.mean[0], 20.0 / 255.0, 1e-12, 0.0);
    image_set_close(&set);

    write_gray(fixture, "set/a/good.png");
    write_gray(fixture, "set/a/cut.png");
    size_t count = read_back(fixture, "set/a/cut.png", bytes, sizeof bytes);
    write_file(fixture, "set/a/cut.png", bytes, count - 20);
    set = opened(fixture, "set", IMAGES_AUTO);
    int64_t bad = 0;
    assert_fails(&fixture->context, image_set_measure(&fixture->context, set, 0, false, &moments, &bad), STATUS_FILE,
                 "cut.png");
    assert_ok(&fixture->context, image_set_measure(&fixture->context, set, 0, true, &moments, &bad));
    assert_int_equal(bad, 1);
    assert_close(moments.mean[0], 755.0 / 6.0 / 255.0, 1e-12, 0.0);
    image_set_close(&set);
}

/* Two classes, of which one has fewer images than columns; a wide image is made smaller, a bad one stays empty. */
static void test_sheet(void **state)
{
    struct fixture *fixture = *state;
    uint8_t wide[16 * 4];
    memset(wide, 100, sizeof wide);
    uint8_t bytes[256];
    write_gray(fixture, "set/a/1.png");
    write_png(fixture, "set/a/2.png", 4, 16, PNG_COLOR_TYPE_GRAY, 8, wide, 16, NULL);
    write_gray(fixture, "set/a/3.png");
    write_colour(fixture, "set/b/1.png");
    write_colour(fixture, "set/b/2.png");
    size_t count = read_back(fixture, "set/b/2.png", bytes, sizeof bytes);
    write_file(fixture, "set/b/2.png", bytes, count - 20);
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    struct image sheet;
    assert_ok(&fixture->context, image_sheet_write(&fixture->context, set, path_of(fixture, "sheet.png"), 9, 2, 8));
    assert_ok(&fixture->context, image_read_file(&fixture->context, path_of(fixture, "sheet.png"), 3, &sheet));
    assert_int_equal(sheet.rows, 2 * 10 + 2);
    assert_int_equal(sheet.columns, 2 * 10 + 2);
    /* Where something else than white is: 2 x 3 in the middle of 8 x 8, and 2 x 8 of the wide one. */
    for (int64_t y = 0; y < 22; y++)
        for (int64_t x = 0; x < 22; x++) {
            const uint8_t *pixel = sheet.pixels + (y * 22 + x) * 3;
            bool first = y >= 5 && y < 7 && x >= 4 && x < 7;
            bool second = y >= 5 && y < 7 && x >= 12 && x < 20;
            bool third = y >= 15 && y < 17 && x >= 4 && x < 7;
            uint8_t expected[3] = {255, 255, 255};
            if (first)
                memset(expected, grays[(y - 5) * 3 + x - 4], 3);
            if (second)
                memset(expected, 100, 3);
            if (third)
                memcpy(expected, colours + ((y - 15) * 3 + x - 4) * 3, 3);
            assert_memory_equal(pixel, expected, 3);
        }
    memory_free(&fixture->context, (void *)sheet.pixels);
    assert_fails(&fixture->context, image_sheet_write(&fixture->context, set, "/nowhere/sheet.png", 9, 2, 8),
                 STATUS_FILE, "/nowhere/sheet.png: cannot be written: No such file");
    if (access("/dev/full", W_OK) == 0)
        assert_fails(&fixture->context, image_sheet_write(&fixture->context, set, "/dev/full", 9, 2, 8), STATUS_FILE,
                     "/dev/full: cannot be written: No space left");
    image_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(test_idx),     IMAGE_TEST(test_idx_refusals),    IMAGE_TEST(test_cifar), IMAGE_TEST(test_folder),
        IMAGE_TEST(test_packed),  IMAGE_TEST(test_folder_refusals), IMAGE_TEST(test_list),  IMAGE_TEST(test_match),
        IMAGE_TEST(test_measure), IMAGE_TEST(test_sheet),
    };
    return cmocka_run_group_tests_name("images", tests, NULL, NULL);
}
