/* Contact sheets: the first images of each class beside each other, a class a row, as a PNG file. */
#include "io/images/images_private.h"

#include "src/core/text.h"

#include <errno.h>
#include <png.h>
#include <string.h>
#include <sys/stat.h>

enum { GAP = 2, BACKGROUND = 255 };

struct sheet {
    struct context *context;
    const struct image_set *set;
    const char *path;
    int64_t classes, columns, side;
    int64_t width;  /* of the sheet in pixels */
    int64_t *index; /* [classes, columns], -1: there are not so many */
    uint8_t *strip; /* [side, width, 3]: the images of a class */
    uint8_t *blank; /* [width, 3] */
    uint8_t *tile;  /* [side, side, channels] */
    void *scratch;
    struct image_reader *reader;
    FILE *file;
    png_structp png;
    png_infop info;
    char text[256]; /* of libpng's error */
};

static void on_error(png_structp png, png_const_charp text)
{
    struct sheet *sheet = png_get_error_ptr(png);
    (void)text_copy(sheet->text, sizeof sheet->text, errno ? strerror(errno) : text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

/* -- Libpng: its errors jump to where setjmp was called, so these functions have no state of their own -- */

static bool begin(struct sheet *sheet)
{
    if (setjmp(png_jmpbuf(sheet->png)))
        return false;
    int64_t height = sheet->classes * (sheet->side + GAP) + GAP;
    png_init_io(sheet->png, sheet->file);
    png_set_IHDR(sheet->png, sheet->info, (png_uint_32)sheet->width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(sheet->png, sheet->info);
    return true;
}

static bool write_rows(struct sheet *sheet, const uint8_t *rows, int64_t count, int64_t step)
{
    if (setjmp(png_jmpbuf(sheet->png)))
        return false;
    for (int64_t y = 0; y < count; y++)
        png_write_row(sheet->png, rows + y * step);
    return true;
}

static bool end(struct sheet *sheet)
{
    if (setjmp(png_jmpbuf(sheet->png)))
        return false;
    png_write_end(sheet->png, NULL);
    return true;
}

/* -- Tiles -- */

/* Puts an image into its place of the strip, made smaller if it does not fit. */
static void place_image(struct sheet *sheet, const struct image *image, int64_t column)
{
    int64_t longer = image->rows > image->columns ? image->rows : image->columns;
    bool fits = longer <= sheet->side;
    int64_t rows = fits ? image->rows : image->rows * sheet->side / longer;
    int64_t columns = fits ? image->columns : image->columns * sheet->side / longer;
    rows = rows > 0 ? rows : 1;
    columns = columns > 0 ? columns : 1;
    image_resize(image, 0.0, 0.0, (double)image->columns, (double)image->rows, rows, columns, sheet->scratch,
                 sheet->tile);
    int64_t left = GAP + column * (sheet->side + GAP) + (sheet->side - columns) / 2;
    int64_t top = (sheet->side - rows) / 2;
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < columns; x++)
            for (int64_t c = 0; c < 3; c++)
                sheet->strip[((top + y) * sheet->width + left + x) * 3 + c] =
                    sheet->tile[(y * columns + x) * image->channels + (image->channels < 3 ? 0 : c)];
}

static enum status fill_strip(struct sheet *sheet, int64_t class)
{
    memset(sheet->strip, BACKGROUND, (size_t)(sheet->side * sheet->width * 3));
    for (int64_t i = 0; i < sheet->columns; i++) {
        int64_t index = sheet->index[class * sheet->columns + i];
        struct image image;
        if (index < 0)
            continue;
        enum status status = image_reader_read(sheet->reader, index, &image);
        if (status == STATUS_FILE) {
            context_clear(sheet->context);
            continue;
        }
        if (status != STATUS_OK)
            return status;
        place_image(sheet, &image, i);
    }
    return STATUS_OK;
}

static void find_images(struct sheet *sheet)
{
    for (int64_t i = 0; i < sheet->classes * sheet->columns; i++)
        sheet->index[i] = -1;
    for (int64_t i = 0; i < sheet->set->facts.count; i++) {
        int64_t class = image_set_label(sheet->set, i);
        if (class >= sheet->classes)
            continue;
        int64_t *row = sheet->index + class * sheet->columns;
        for (int64_t j = 0; j < sheet->columns; j++)
            if (row[j] < 0) {
                row[j] = i;
                break;
            }
    }
}

static enum status refuse(struct sheet *sheet)
{
    return context_fail(sheet->context, STATUS_FILE, "%s: cannot be written: %s", sheet->path, sheet->text);
}

static enum status write_all(struct sheet *sheet)
{
    if (!begin(sheet))
        return refuse(sheet);
    for (int64_t class = 0; class < sheet->classes; class ++) {
        CHECK(fill_strip(sheet, class));
        if (!write_rows(sheet, sheet->blank, GAP, 0) || !write_rows(sheet, sheet->strip, sheet->side, 3 * sheet->width))
            return refuse(sheet);
    }
    if (!write_rows(sheet, sheet->blank, GAP, 0) || !end(sheet))
        return refuse(sheet);
    return STATUS_OK;
}

static enum status write_file(struct sheet *sheet)
{
    sheet->file = fopen(sheet->path, "wb");
    if (!sheet->file)
        return context_fail(sheet->context, STATUS_FILE, "%s: cannot be written: %s", sheet->path, strerror(errno));
    struct stat information;
    bool regular = fstat(fileno(sheet->file), &information) == 0 && S_ISREG(information.st_mode);
    errno = 0;
    sheet->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, sheet, on_error, on_warning);
    sheet->info = sheet->png ? png_create_info_struct(sheet->png) : NULL;
    enum status status =
        sheet->info ? write_all(sheet) : context_fail(sheet->context, STATUS_MEMORY, "%s: out of memory", sheet->path);
    png_destroy_write_struct(&sheet->png, &sheet->info);
    if (fclose(sheet->file) != 0 && status == STATUS_OK)
        status = context_fail(sheet->context, STATUS_FILE, "%s: cannot be written: %s", sheet->path, strerror(errno));
    if (status != STATUS_OK && regular)
        (void)remove(sheet->path);
    return status;
}

static enum status allocate(struct sheet *sheet)
{
    const struct image_set_facts *facts = &sheet->set->facts;
    struct context *context = sheet->context;
    sheet->index =
        memory_allocate(context, (size_t)(sheet->classes * sheet->columns) * sizeof *sheet->index, MEMORY_OTHER);
    sheet->strip = memory_allocate(context, (size_t)(sheet->side * sheet->width * 3), MEMORY_OTHER);
    sheet->blank = memory_allocate(context, (size_t)sheet->width * 3, MEMORY_OTHER);
    sheet->tile = memory_allocate(context, (size_t)(sheet->side * sheet->side * IMAGE_CHANNELS), MEMORY_OTHER);
    /* Whatever sides an image that is made smaller comes to: from 1 to `side`. */
    size_t bytes = image_resize_bytes(facts->rows_most, facts->columns_most, facts->channels, 1, sheet->side) +
                   image_resize_bytes(facts->rows_most, facts->columns_most, facts->channels, sheet->side, 1) +
                   image_resize_bytes(facts->rows_most, facts->columns_most, facts->channels, sheet->side, sheet->side);
    sheet->scratch = memory_allocate(context, bytes, MEMORY_OTHER);
    if (!sheet->index || !sheet->strip || !sheet->blank || !sheet->tile || !sheet->scratch)
        return STATUS_MEMORY;
    memset(sheet->blank, BACKGROUND, (size_t)sheet->width * 3);
    return image_reader_create(context, sheet->set, &sheet->reader);
}

enum status image_sheet_write(struct context *context, const struct image_set *set, const char *path, int64_t classes,
                              int64_t columns, int64_t side)
{
    struct sheet sheet = {.context = context, .set = set, .path = path, .columns = columns, .side = side};
    sheet.classes = classes < set->facts.classes ? classes : set->facts.classes;
    sheet.width = columns * (side + GAP) + GAP;
    enum status status = allocate(&sheet);
    if (status == STATUS_OK) {
        find_images(&sheet);
        status = write_file(&sheet);
    }
    image_reader_destroy(&sheet.reader);
    void *const arrays[] = {sheet.index, sheet.strip, sheet.blank, sheet.tile, sheet.scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        memory_free(context, arrays[i]);
    return status;
}
