/* PNG files through libpng, to bytes of 1 or 3 channels. */
#include "io/images/images_private.h"

#include "src/core/text.h"

#include <png.h>
#include <string.h>

/* Signature, length and name of the first chunk, its 13 bytes, its checksum. */
enum { HEADER_BYTES = 8 + 8 + 13 + 4 };

/* Of gray made from colour, in 1/100000: ITU-R 601, as in JPEG. */
enum { RED_SHARE = 29900, GREEN_SHARE = 58700 };

struct decoder {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    int64_t left;
    char text[256]; /* of the error */
};

static void on_error(png_structp png, png_const_charp text)
{
    struct decoder *decoder = png_get_error_ptr(png);
    (void)text_copy(decoder->text, sizeof decoder->text, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep bytes, size_t count)
{
    struct decoder *decoder = png_get_io_ptr(png);
    if ((int64_t)count > decoder->left)
        png_error(png, "it ends too early");
    memcpy(bytes, decoder->bytes, count);
    decoder->bytes += count;
    decoder->left -= (int64_t)count;
}

static int64_t big_endian(const uint8_t *bytes)
{
    return (int64_t)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

enum status png_header(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                       struct image_header *header)
{
    if (count < HEADER_BYTES || memcmp(bytes + 12, "IHDR", 4) != 0)
        return context_fail(context, STATUS_FILE,
                            "%s: is a PNG that is truncated or damaged: it has no header; copy it "
                            "again or remove it",
                            path);
    *header = (struct image_header){.columns = big_endian(bytes + 16),
                                    .rows = big_endian(bytes + 20),
                                    .channels = bytes[25] & PNG_COLOR_MASK_COLOR ? 3 : 1};
    if (header->rows < 1 || header->columns < 1)
        return context_fail(context, STATUS_FILE, "%s: is a PNG without pixels; copy it again or remove it", path);
    return STATUS_OK;
}

/* Errors of libpng jump to where setjmp was called, so that function has no state of its own. */
static bool decode(struct decoder *decoder, int64_t rows, int64_t columns, int64_t channels, uint8_t *pixels)
{
    png_structp png = decoder->png;
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_read_fn(png, decoder, on_read);
    png_read_info(png, decoder->info);
    bool colour = (png_get_color_type(png, decoder->info) & PNG_COLOR_MASK_COLOR) != 0;
    png_set_scale_16(png);
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    if (channels == 3 && !colour)
        png_set_gray_to_rgb(png);
    if (channels == 1 && colour)
        png_set_rgb_to_gray_fixed(png, PNG_ERROR_ACTION_NONE, RED_SHARE, GREEN_SHARE);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, decoder->info);
    if (png_get_image_width(png, decoder->info) != columns || png_get_image_height(png, decoder->info) != rows ||
        png_get_rowbytes(png, decoder->info) != (size_t)(columns * channels))
        png_error(png, "its rows are not as its header says");
    for (int pass = 0; pass < passes; pass++)
        for (int64_t y = 0; y < rows; y++)
            png_read_row(png, pixels + y * columns * channels, NULL);
    png_read_end(png, NULL);
    return true;
}

enum status png_decode(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                       const struct image_header *header, int64_t channels, uint8_t *pixels)
{
    struct decoder decoder = {.bytes = bytes, .left = count};
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
    if (decoder.png)
        decoder.info = png_create_info_struct(decoder.png);
    if (!decoder.info) {
        png_destroy_read_struct(&decoder.png, NULL, NULL);
        return context_fail(context, STATUS_MEMORY, "%s: out of memory for decoding", path);
    }
    bool whole = decode(&decoder, header->rows, header->columns, channels, pixels);
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    if (!whole)
        return context_fail(context, STATUS_FILE,
                            "%s: is a PNG that is truncated or damaged: %s; copy it again or remove it", path,
                            decoder.text);
    return STATUS_OK;
}
