/* JPEG files through libjpeg-turbo, to bytes of 1 or 3 channels. */
#include "io/images/images_private.h"

#include "src/core/text.h"

#include <setjmp.h>
#include <string.h>
/* libjpeg's headers want those above first. */
#include <jpeglib.h>

#include <jerror.h>

/* A progressive file of a few bytes can ask for the whole image to be gone over again and again. */
enum { SCANS_MOST = 200 };

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char text[JMSG_LENGTH_MAX]; /* of the error */
};

static void on_error(j_common_ptr jpeg)
{
    struct decoder *decoder = jpeg->client_data;
    jpeg->err->format_message(jpeg, decoder->text);
    longjmp(decoder->jump, 1);
}

/* Warnings after which pixels are missing or wrong are errors; others are odd files that everyone reads. */
static void on_message(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE ||
                      code == JWRN_ARITH_BAD_CODE || code == JWRN_NOT_SEQUENTIAL))
        on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg)
{
    struct decoder *decoder = jpeg->client_data;
    if (decoder->jpeg.input_scan_number > SCANS_MOST) {
        (void)text_copy(decoder->text, sizeof decoder->text, "it is made of too many scans");
        longjmp(decoder->jump, 1);
    }
}

static void decoder_set_up(struct decoder *decoder)
{
    memset(decoder, 0, sizeof *decoder);
    decoder->jpeg.err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = on_error;
    decoder->errors.emit_message = on_message;
    decoder->progress.progress_monitor = on_progress;
    decoder->jpeg.client_data = decoder;
}

/* Errors of libjpeg jump to where setjmp was called, so these functions have no state of their own. */
static bool read_header(struct decoder *decoder, const uint8_t *bytes, int64_t count)
{
    if (setjmp(decoder->jump))
        return false;
    jpeg_create_decompress(&decoder->jpeg);
    decoder->jpeg.progress = &decoder->progress;
    jpeg_mem_src(&decoder->jpeg, bytes, (unsigned long)count);
    (void)jpeg_read_header(&decoder->jpeg, TRUE);
    return true;
}

static bool decode(struct decoder *decoder, int64_t channels, uint8_t *pixels)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    if (setjmp(decoder->jump))
        return false;
    jpeg->out_color_space = channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    (void)jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = pixels + (int64_t)jpeg->output_scanline * jpeg->output_width * channels;
        (void)jpeg_read_scanlines(jpeg, &row, 1);
    }
    (void)jpeg_finish_decompress(jpeg);
    return true;
}

static enum status refuse(struct context *context, const char *path, const struct decoder *decoder)
{
    return context_fail(context, STATUS_FILE,
                        "%s: is a JPEG that is truncated or damaged: %s; copy it again or remove it", path,
                        decoder->text);
}

static enum status take_header(struct context *context, const char *path, const struct decoder *decoder,
                               struct image_header *header)
{
    const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    *header = (struct image_header){.rows = jpeg->image_height,
                                    .columns = jpeg->image_width,
                                    .channels = jpeg->jpeg_color_space == JCS_GRAYSCALE ? 1 : 3};
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
        return context_fail(context, STATUS_FILE,
                            "%s: is a JPEG in CMYK, the colours of printers; convert it to RGB or remove it", path);
    if (jpeg->jpeg_color_space == JCS_UNKNOWN)
        return context_fail(context, STATUS_FILE, "%s: is a JPEG of %d channels that mean no colours; remove it", path,
                            jpeg->num_components);
    return STATUS_OK;
}

enum status jpeg_header(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                        struct image_header *header)
{
    struct decoder decoder;
    decoder_set_up(&decoder);
    enum status status = read_header(&decoder, bytes, count) ? take_header(context, path, &decoder, header)
                                                             : refuse(context, path, &decoder);
    jpeg_destroy_decompress(&decoder.jpeg);
    return status;
}

enum status jpeg_decode(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                        const struct image_header *header, int64_t channels, uint8_t *pixels)
{
    struct decoder decoder;
    struct image_header found = {0};
    decoder_set_up(&decoder);
    enum status status = read_header(&decoder, bytes, count) ? take_header(context, path, &decoder, &found)
                                                             : refuse(context, path, &decoder);
    if (status == STATUS_OK && (found.rows != header->rows || found.columns != header->columns))
        status = context_fail(context, STATUS_FILE, "%s: has another size than when the set was opened", path);
    if (status == STATUS_OK && !decode(&decoder, channels, pixels))
        status = refuse(context, path, &decoder);
    jpeg_destroy_decompress(&decoder.jpeg);
    return status;
}
