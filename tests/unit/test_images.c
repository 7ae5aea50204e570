/* Sets of images: every format, every error. */
#include "tests/unit/images_support.h"

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
        assert_string_equal(image_set_class_name(set, 9), hundred ? "9" : "truck");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(test_idx),
        IMAGE_TEST(test_idx_refusals),
        IMAGE_TEST(test_cifar),
    };
    return cmocka_run_group_tests_name("images", tests, NULL, NULL);
}
