/* PNG and JPEG: every kind, and files that are damaged. */
#include "tests/unit/images_support.h"

#include <math.h>

/* -- PNG and JPEG -- */

static void check_single(struct fixture *fixture, const char *name, int64_t channels, const uint8_t *pixels,
                         int64_t count, int tolerance)
{
    struct image image;
    assert_ok(&fixture->context, image_read_file(&fixture->context, path_of(fixture, name), channels, &image));
    assert_int_equal(image.rows * image.columns * image.channels, count);
    for (int64_t i = 0; i < count; i++)
        if (abs(image.pixels[i] - pixels[i]) > tolerance)
            fail_msg("%s: value %d is %d, not %d", name, (int)i, image.pixels[i], pixels[i]);
    memory_free(&fixture->context, (void *)image.pixels);
}

static void test_png_kinds(void **state)
{
    struct fixture *fixture = *state;
    /* 16 bits, rounded: 0x01ff * 255 / 65535 is 1.99. */
    static const uint8_t deep[] = {0, 0, 0x80, 0x80, 0x7f, 0xff, 0xff, 0xff, 0x80, 0xff, 0x01, 0xff};
    static const uint8_t shallow[] = {0, 128, 127, 255, 128, 2};
    write_png(fixture, "deep.png", 2, 3, PNG_COLOR_TYPE_GRAY, 16, deep, 6, NULL);
    check_single(fixture, "deep.png", 1, shallow, 6, 0);
    static const png_color palette[4] = {{1, 2, 3}, {40, 50, 60}, {255, 0, 255}, {9, 8, 7}};
    static const uint8_t packed[] = {0x1B, 0xE4}; /* 0 1 2 3, 3 2 1 0 */
    static const uint8_t unpacked[] = {1, 2, 3, 40,  50, 60,  255, 0,  255, 9, 8, 7,
                                       9, 8, 7, 255, 0,  255, 40,  50, 60,  1, 2, 3};
    write_png(fixture, "palette.png", 2, 4, PNG_COLOR_TYPE_PALETTE, 2, packed, 1, palette);
    check_single(fixture, "palette.png", 3, unpacked, 24, 0);
    static const uint8_t alpha[] = {10, 20, 30, 0, 40, 50, 60, 255};
    static const uint8_t opaque[] = {10, 20, 30, 40, 50, 60};
    write_png(fixture, "alpha.png", 1, 2, PNG_COLOR_TYPE_RGB_ALPHA, 8, alpha, 8, NULL);
    check_single(fixture, "alpha.png", 3, opaque, 6, 0);
    static const uint8_t gray_alpha[] = {10, 0, 200, 255};
    static const uint8_t spread[] = {10, 10, 10, 200, 200, 200};
    write_png(fixture, "gray-alpha.png", 1, 2, PNG_COLOR_TYPE_GRAY_ALPHA, 8, gray_alpha, 4, NULL);
    check_single(fixture, "gray-alpha.png", 3, spread, 6, 0);
    static const uint8_t bits[] = {0x50}; /* 0 1 0 1 */
    static const uint8_t levels[] = {0, 255, 0, 255};
    write_png(fixture, "bits.png", 1, 4, PNG_COLOR_TYPE_GRAY, 1, bits, 1, NULL);
    check_single(fixture, "bits.png", 1, levels, 4, 0);
    write_colour(fixture, "colour.png");
    static const uint8_t luminance[] = {74, 127, 151, 111, 146, 60}; /* 0.299 R + 0.587 G + 0.114 B */
    check_single(fixture, "colour.png", 1, luminance, 6, 1);
}

static void test_jpeg_kinds(void **state)
{
    struct fixture *fixture = *state;
    uint8_t flat[16 * 16 * 3];
    for (int i = 0; i < 256; i++)
        memcpy(flat + 3 * i, (const uint8_t[]){200, 100, 50}, 3);
    write_jpeg(fixture, "flat.jpg", 16, 16, JCS_RGB, 3, flat);
    check_single(fixture, "flat.jpg", 3, flat, sizeof flat, 3);
    uint8_t level[256];
    memset(level, 77, sizeof level);
    write_jpeg(fixture, "gray.jpg", 16, 16, JCS_GRAYSCALE, 1, level);
    check_single(fixture, "gray.jpg", 1, level, 256, 1);
    memset(flat, 77, sizeof flat);
    check_single(fixture, "gray.jpg", 3, flat, sizeof flat, 1);
}

/* Opening refuses it; with skip_bad it is left out and counted. */
static void check_bad_header(struct fixture *fixture, const char *name, const char *part)
{
    char path[64];
    snprintf(path, sizeof path, "set/a/%s", name);
    assert_refused(fixture, "set", IMAGES_AUTO, name);
    assert_refused(fixture, "set", IMAGES_AUTO, part);
    struct image_set *set = NULL;
    assert_ok(&fixture->context, open_set(fixture, "set", IMAGES_AUTO, true, &set));
    assert_int_equal(image_set_facts(set)->count, 1);
    assert_int_equal(image_set_facts(set)->skipped, 1);
    image_set_close(&set);
    assert_int_equal(remove(path_of(fixture, path)), 0);
}

static void test_bad_headers(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[4096];
    write_gray(fixture, "set/a/good.png");
    write_file(fixture, "set/a/empty.png", "", 0);
    check_bad_header(fixture, "empty.png", "is empty");
    write_file(fixture, "set/a/text.png", "hello, this is text\n", 20);
    check_bad_header(fixture, "text.png", "is text, neither PNG nor JPEG");
    write_file(fixture, "set/a/moving.png", "GIF89a......", 12);
    check_bad_header(fixture, "moving.png", "is a GIF image");
    write_gray(fixture, "set/a/huge.png");
    size_t count = read_back(fixture, "set/a/huge.png", bytes, sizeof bytes);
    memcpy(bytes + 16, (const uint8_t[]){0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60}, 8);
    write_file(fixture, "set/a/huge.png", bytes, count);
    check_bad_header(fixture, "huge.png", "60000 x 60000 pixels");
    memcpy(bytes + 16, (const uint8_t[]){0, 0, 0, 1, 0, 0, 0x80, 0x01}, 8);
    write_file(fixture, "set/a/long.png", bytes, count);
    check_bad_header(fixture, "long.png", "1 x 32769 pixels");
    memcpy(bytes + 16, (const uint8_t[]){0, 0, 0x40, 0x01, 0, 0, 0x20, 0}, 8);
    write_file(fixture, "set/a/large.png", bytes, count);
    check_bad_header(fixture, "large.png", "16385 x 8192 pixels");
    write_file(fixture, "set/a/short.png", bytes, 20);
    check_bad_header(fixture, "short.png", "it has no header");
    write_jpeg(fixture, "set/a/huge.jpg", 2, 3, JCS_RGB, 3, colours);
    count = read_back(fixture, "set/a/huge.jpg", bytes, sizeof bytes);
    for (size_t i = 0; i + 8 < count; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == 0xc0)
            memcpy(bytes + i + 5, (const uint8_t[]){0xea, 0x60, 0xea, 0x60}, 4);
    write_file(fixture, "set/a/huge.jpg", bytes, count);
    check_bad_header(fixture, "huge.jpg", "60000 x 60000 pixels");
    write_file(fixture, "set/a/short.jpg", bytes, 60);
    check_bad_header(fixture, "short.jpg", "truncated or damaged");
    write_jpeg(fixture, "set/a/cmyk.jpg", 2, 2, JCS_CMYK, 4, colours);
    check_bad_header(fixture, "cmyk.jpg", "is a JPEG in CMYK");
    remove(path_of(fixture, "set/a/good.png"));
    write_file(fixture, "set/a/only.png", "text", 4);
    struct image_set *set = NULL;
    assert_fails(&fixture->context, open_set(fixture, "set", IMAGES_AUTO, true, &set), STATUS_FILE,
                 "none of its 1 images is good");
}

/* Their headers are good; what is behind shows when they are read. */
static void test_bad_bodies(void **state)
{
    struct fixture *fixture = *state;
    uint8_t noise[64 * 64 * 3];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * i * 2654435761U >> 7);
    static uint8_t bytes[1 << 15];
    write_png(fixture, "whole.png", 64, 64, PNG_COLOR_TYPE_RGB, 8, noise, 192, NULL);
    write_jpeg(fixture, "whole.jpg", 64, 64, JCS_RGB, 3, noise);
    for (int jpeg = 0; jpeg < 2; jpeg++) {
        const char *ending = jpeg ? "jpg" : "png";
        char name[32];
        snprintf(name, sizeof name, "whole.%s", ending);
        size_t count = read_back(fixture, name, bytes, sizeof bytes);
        snprintf(name, sizeof name, "half.%s", ending);
        write_file(fixture, name, bytes, count / 2);
        struct image image;
        assert_fails(&fixture->context, image_read_file(&fixture->context, path_of(fixture, name), 3, &image),
                     STATUS_FILE,
                     jpeg ? "half.jpg: is a JPEG that is truncated" : "half.png: is a PNG that is truncated");
        write_file(fixture, name, bytes, count - (jpeg ? 2 : 4));
        assert_fails(&fixture->context, image_read_file(&fixture->context, path_of(fixture, name), 3, &image),
                     STATUS_FILE, "truncated");
        if (jpeg)
            continue;
        bytes[count / 2] ^= 0x10;
        write_file(fixture, name, bytes, count);
        assert_fails(&fixture->context, image_read_file(&fixture->context, path_of(fixture, name), 3, &image),
                     STATUS_FILE, "CRC error");
    }
    /* A file that changes behind the set's back. */
    write_gray(fixture, "set/a/x.png");
    struct image_set *set = opened(fixture, "set", IMAGES_AUTO);
    write_colour(fixture, "set/a/x.png");
    struct image_reader *reader = NULL;
    struct image image;
    assert_ok(&fixture->context, image_reader_create(&fixture->context, set, &reader));
    assert_fails(&fixture->context, image_reader_read(reader, 0, &image), STATUS_FILE, "x.png: has changed");
    image_reader_destroy(&reader);
    image_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(test_png_kinds),
        IMAGE_TEST(test_jpeg_kinds),
        IMAGE_TEST(test_bad_headers),
        IMAGE_TEST(test_bad_bodies),
    };
    return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
