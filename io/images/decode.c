/* What a file of one image is, by its first bytes, and who decodes it. */
#include "io/images/images_private.h"

#include <inttypes.h>
#include <string.h>

static bool is_png(const uint8_t *bytes, int64_t count)
{
    return count >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool is_jpeg(const uint8_t *bytes, int64_t count)
{
    return count >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0;
}

static enum status refuse_kind(struct context *context, const char *path, const uint8_t *bytes, int64_t count)
{
    static const struct {
        int place, count;
        const char *bytes, *is;
    } kinds[] = {
        {0, 4, "GIF8", "a GIF image"},
        {8, 4, "WEBP", "a WebP image"},
        {0, 2, "BM", "a BMP image"},
        {0, 4, "II*\0", "a TIFF image"},
        {0, 4, "MM\0*", "a TIFF image"},
        {4, 8, "ftypavif", "an AVIF image"},
        {4, 8, "ftypheic", "a HEIC image"},
        {0, 2, "\x1f\x8b", "compressed by gzip"},
        {0, 8, "\0\0\0\x0cjP  ", "a JPEG 2000 image"},
        {0, 5, "<?xml", "text"},
        {0, 5, "<svg ", "an SVG drawing"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (count >= kinds[i].place + kinds[i].count &&
            memcmp(bytes + kinds[i].place, kinds[i].bytes, (size_t)kinds[i].count) == 0)
            return context_fail(context, STATUS_FILE, "%s: is %s, where PNG or JPEG is wanted; convert it or remove it",
                                path, kinds[i].is);
    bool text = true;
    for (int64_t i = 0; i < count && i < 64; i++)
        text = text && (bytes[i] >= 0x20 || memchr("\t\n\r", bytes[i], 3));
    return context_fail(context, STATUS_FILE, "%s: is %s, neither PNG nor JPEG; remove it or copy it again", path,
                        text ? "text" : "damaged or something else");
}

static enum status check_header(struct context *context, const char *path, const struct image_header *header)
{
    if (header->rows > IMAGE_SIDE || header->columns > IMAGE_SIDE || header->rows * header->columns > IMAGE_PIXELS)
        return context_fail(context, STATUS_FILE,
                            "%s: its header says %" PRId64 " x %" PRId64 " pixels, where a side of %d and %d pixels in "
                            "all are the most; it is damaged, or to be made smaller",
                            path, header->columns, header->rows, IMAGE_SIDE, IMAGE_PIXELS);
    return STATUS_OK;
}

enum status image_header_read(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                              bool whole, struct image_header *header, bool *more)
{
    *more = false;
    if (is_png(bytes, count))
        CHECK(png_header(context, path, bytes, count, header));
    else if (is_jpeg(bytes, count)) {
        bool clear = context->status == STATUS_OK;
        enum status status = jpeg_header(context, path, bytes, count, header);
        /* Notes of cameras and profiles of colour may stand in front of it. */
        if (status == STATUS_FILE && !whole && clear) {
            context_clear(context);
            *more = true;
            return STATUS_OK;
        }
        if (status != STATUS_OK)
            return status;
    } else
        return refuse_kind(context, path, bytes, count);
    return check_header(context, path, header);
}

enum status image_decode(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                         const struct image_header *header, int64_t channels, uint8_t *pixels)
{
    if (is_png(bytes, count))
        return png_decode(context, path, bytes, count, header, channels, pixels);
    if (is_jpeg(bytes, count))
        return jpeg_decode(context, path, bytes, count, header, channels, pixels);
    return refuse_kind(context, path, bytes, count);
}
