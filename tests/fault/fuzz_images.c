/* Any bytes as a file of images: opening refuses or accepts, and what it accepts can be read, or is refused with the
 * file's name. The first byte chooses the format and whether bad images are skipped, the second where the rest is cut
 * into images and labels. */
#include "io/images/images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHOICES = 2, READS = 8, LARGE = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void file_write(const char *path, const uint8_t *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    require(file && fwrite(bytes, 1, count, file) == count && fclose(file) == 0);
}

static void check_error(struct context *context, const char *folder)
{
    require(context->status == STATUS_FILE && strstr(context->text, folder));
    context_clear(context);
}

static void set_read(struct context *context, const struct image_set *set, const char *folder)
{
    const struct image_set_facts *facts = image_set_facts(set);
    struct image_reader *reader = NULL;
    require(facts->count > 0 && facts->classes > 0 && facts->channels >= 1 && facts->channels <= IMAGE_CHANNELS);
    for (int64_t i = 0; i < facts->count; i++)
        require(image_set_label(set, i) >= 0 && image_set_label(set, i) < facts->classes);
    if (facts->pixels_most > LARGE) /* good, and slow */
        return;
    require(image_reader_create(context, set, &reader) == STATUS_OK);
    for (int64_t i = 0; i < facts->count; i += 1 + facts->count / READS) {
        struct image image;
        if (image_reader_read(reader, i, &image) != STATUS_OK) {
            check_error(context, folder);
            continue;
        }
        require(image.rows * image.columns <= facts->pixels_most && image.channels == facts->channels);
        int64_t sum = 0; /* every byte is there */
        for (int64_t j = 0; j < image.rows * image.columns * image.channels; j++)
            sum += image.pixels[j];
        require(sum >= 0);
    }
    image_reader_destroy(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const char *const names[] = {"a-images", "a-labels", "class/a.png", "list"};
    if (count < CHOICES)
        return 0;
    enum image_format format = (enum image_format)(bytes[0] % 6);
    bool skip_bad = bytes[0] & 0x80;
    size_t rest = count - CHOICES;
    size_t split = rest * bytes[1] / 255;
    char folder[] = "/dev/shm/fuzz_images_XXXXXX";
    char paths[4][64];
    char class[64];
    struct text_list files = {.count = 1};
    require(mkdtemp(folder) != NULL);
    snprintf(class, sizeof class, "%s/class", folder);
    require(mkdir(class, 0700) == 0);
    for (int i = 0; i < 4; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
    file_write(paths[0], bytes + CHOICES, split);
    file_write(paths[1], bytes + CHOICES + split, rest - split);
    file_write(paths[2], bytes + CHOICES + split, rest - split);
    /* A list of its own, or one of the image beside it. */
    static const char line[] = "class/a.png one\nclass/a.png\ttwo words\n";
    bool given = bytes[0] & 0x40;
    file_write(paths[3], given ? bytes + CHOICES : (const uint8_t *)line, given ? split : sizeof line - 1);
    bool by_list = format == IMAGES_LIST;
    snprintf(files.item[0], sizeof files.item[0], "%s", format == IMAGES_FOLDER ? folder : paths[by_list ? 3 : 0]);

    struct context context;
    struct image_set *set = NULL;
    context_create(&context);
    context.quiet = true;
    if (image_set_open(&context, &files, format, skip_bad, &set) == STATUS_OK)
        set_read(&context, set, folder);
    else
        check_error(&context, folder);
    image_set_close(&set);
    require(context.memory.bytes_total == 0);
    for (int i = 0; i < 4; i++)
        remove(paths[i]);
    rmdir(class);
    rmdir(folder);
    return 0;
}
