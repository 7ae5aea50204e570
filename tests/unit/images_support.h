/* What the tests of images share: a folder of their own, and writers of files through zlib, libpng and libjpeg. */
#ifndef CAIRN_TESTS_UNIT_IMAGES_SUPPORT_H
#define CAIRN_TESTS_UNIT_IMAGES_SUPPORT_H

#define _XOPEN_SOURCE 700 /* nftw */

#include "tests/support/support.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
/* libjpeg wants stdio.h first. */
#include <jpeglib.h>
#include <png.h>

#include "io/images/images.h"

struct fixture {
    struct context context;
    char folder[64];
    char path[256];
};

static inline int fixture_create(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (!fixture)
        return -1;
    context_create(&fixture->context);
    fixture->context.quiet = true;
    strcpy(fixture->folder, "/tmp/test_images_XXXXXX");
    return mkdtemp(fixture->folder) ? 0 : -1;
}

static inline int remove_entry(const char *path, const struct stat *information, int kind, struct FTW *place)
{
    (void)information;
    (void)kind;
    (void)place;
    return remove(path);
}

static inline int fixture_destroy(void **state)
{
    struct fixture *fixture = *state;
    int result = nftw(fixture->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    if (fixture->context.memory.bytes_total != 0)
        result = -1;
    free(fixture);
    return result;
}

/* Makes the folders that a name in the test's folder needs. */
static inline const char *path_of(struct fixture *fixture, const char *name)
{
    int begin = snprintf(fixture->path, sizeof fixture->path, "%s/%s", fixture->folder, name);
    assert_true(begin > 0 && (size_t)begin < sizeof fixture->path);
    for (char *at = fixture->path + strlen(fixture->folder) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(fixture->path, 0755);
        *at = '/';
    }
    return fixture->path;
}

static inline void write_file(struct fixture *fixture, const char *name, const void *bytes, size_t count)
{
    FILE *file = fopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static inline void write_gzip(struct fixture *fixture, const char *name, const void *bytes, size_t count)
{
    gzFile file = gzopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)count), count);
    assert_int_equal(gzclose(file), Z_OK);
}

/* Reads a file back, to be cut or changed. */
static inline size_t read_back(struct fixture *fixture, const char *name, uint8_t *bytes, size_t room)
{
    FILE *file = fopen(path_of(fixture, name), "rb");
    assert_non_null(file);
    size_t count = fread(bytes, 1, room, file);
    fclose(file);
    assert_true(count > 0 && count < room);
    return count;
}

/* Rows of `bits` a channel, as libpng packs them; palette of 256 entries or NULL. */
static inline void write_png(struct fixture *fixture, const char *name, int64_t rows, int64_t columns, int type,
                             int bits, const uint8_t *data, size_t row_bytes, const png_color *palette)
{
    FILE *file = fopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)columns, (png_uint_32)rows, bits, type, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (palette)
        png_set_PLTE(png, info, palette, 4);
    png_write_info(png, info);
    for (int64_t y = 0; y < rows; y++)
        png_write_row(png, data + (size_t)y * row_bytes);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    assert_int_equal(fclose(file), 0);
}

static inline void write_jpeg(struct fixture *fixture, const char *name, int64_t rows, int64_t columns,
                              J_COLOR_SPACE space, int channels, const uint8_t *data)
{
    FILE *file = fopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = (JDIMENSION)columns;
    jpeg.image_height = (JDIMENSION)rows;
    jpeg.input_components = channels;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 95, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)(data + (size_t)jpeg.next_scanline * (size_t)columns * (size_t)channels);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    assert_int_equal(fclose(file), 0);
}

static inline enum status open_set(struct fixture *fixture, const char *name, enum image_format format, bool skip_bad,
                                   struct image_set **set)
{
    struct text_list names = {.count = 1};
    snprintf(names.item[0], sizeof names.item[0], "%s", name[0] ? path_of(fixture, name) : fixture->folder);
    return image_set_open(&fixture->context, &names, format, skip_bad, set);
}

static inline struct image_set *opened(struct fixture *fixture, const char *name, enum image_format format)
{
    struct image_set *set = NULL;
    assert_ok(&fixture->context, open_set(fixture, name, format, false, &set));
    return set;
}

#define assert_refused(fixture, name, format, part)                                                          \
    do {                                                                                                     \
        struct image_set *set_ = NULL;                                                                       \
        assert_fails(&(fixture)->context, open_set(fixture, name, format, false, &set_), STATUS_FILE, part); \
        assert_null(set_);                                                                                   \
    } while (0)

#define IMAGE_TEST(function) cmocka_unit_test_setup_teardown(function, fixture_create, fixture_destroy)

/* 2 x 3 of colour. */
static const uint8_t colours[18] = {0, 91, 182, 53, 144, 235, 106, 197, 32, 37, 128, 219, 101, 192, 27, 165, 0, 91};
static const uint8_t grays[6] = {0, 50, 100, 150, 200, 255};

static inline void write_colour(struct fixture *fixture, const char *name)
{
    write_png(fixture, name, 2, 3, PNG_COLOR_TYPE_RGB, 8, colours, 9, NULL);
}

static inline void write_gray(struct fixture *fixture, const char *name)
{
    write_png(fixture, name, 2, 3, PNG_COLOR_TYPE_GRAY, 8, grays, 3, NULL);
}

#endif
