/* Inside io/images: what a set holds, and who reads which format. */
#ifndef CAIRN_IO_IMAGES_PRIVATE_H
#define CAIRN_IO_IMAGES_PRIVATE_H

#include <stdio.h>
#include <zlib.h>

#include "io/images/images.h"

enum { PATH_ROOM = 4096 };

/* A PNG or JPEG file. */
struct image_file {
    int64_t name; /* its path in the set's texts */
    int64_t bytes;
    int32_t label, rows, columns, channels;
};

/* A file of many images, for their names. */
struct image_origin {
    int64_t name;
    int64_t begin; /* its first image in the set */
};

struct image_set {
    struct context *context;
    struct image_set_facts facts;
    bool skip_bad;

    /* IDX and CIFAR: all of it. */
    uint8_t *pixels; /* [count, rows, columns, channels] */
    int32_t *labels; /* [count] */
    struct image_origin *origins;
    int64_t origin_count;

    /* Folders and lists. */
    struct image_file *files; /* [count] */
    uint8_t *look;            /* [LOOK_HEADER], while the set is being opened */

    /* Each text ends with a zero byte. */
    char *texts;
    int64_t bad[IMAGE_BAD_TEXTS]; /* why images were left out, in texts */
    int64_t *class_names;         /* [classes], into texts */

    /* Bytes that there is room for. */
    size_t pixel_room, label_room, origin_room, file_room, text_room, class_room;
    int64_t text_bytes;
};

/* Makes an array that begins as *array does have room for `bytes`. */
enum status room_grow(struct context *context, void **array, size_t *room, size_t used, size_t bytes) MUST_USE;

/* Keeps a text in the set; where it begins in *place. */
enum status set_keep_text(struct image_set *set, const char *text, int64_t *place) MUST_USE;
const char *set_text(const struct image_set *set, int64_t place);

/* Adds a class, which becomes the last. */
enum status set_add_class(struct image_set *set, const char *name) MUST_USE;

/* Classes that are numbers from 0 to count - 1. */
enum status set_number_classes(struct image_set *set, int64_t count) MUST_USE;

/* Makes room for `count` more images in memory, of this size, from a file; the first is the set's image `count` so far.
 * FILE error when the files before have others. */
enum status set_add_origin(struct image_set *set, const char *path, int64_t count, int64_t rows, int64_t columns,
                           int64_t channels) MUST_USE;

/* Adds a PNG or JPEG file, whose header is read; leaves it out if it is bad and the set permits that. */
enum status set_add_file(struct image_set *set, const char *path, int32_t label) MUST_USE;

/* Takes names as classes, each once, in the order of their bytes; sorts `names`. */
enum status set_take_classes(struct image_set *set, const char **names, int64_t count) MUST_USE;

/* The place of a name among classes that set_take_classes took; -1 if it is none. */
int32_t set_find_class(const struct image_set *set, const char *name);

/* -- PNG and JPEG -- */

struct image_header {
    int64_t rows, columns;
    int64_t channels; /* 1 or 3, after what is usually converted */
};

/* What the first bytes of a file say; with `whole` they are all of it. FILE error that names the file, also for what is
 * to be refused. *more: it might say more if it had more bytes, and no error is set. */
enum status image_header_read(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                              bool whole, struct image_header *header, bool *more) MUST_USE;

/* pixels [rows, columns, channels] of the header; channels 1 or 3. */
enum status image_decode(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                         const struct image_header *header, int64_t channels, uint8_t *pixels) MUST_USE;

enum status png_header(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                       struct image_header *header) MUST_USE;
enum status png_decode(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                       const struct image_header *header, int64_t channels, uint8_t *pixels) MUST_USE;
enum status jpeg_header(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                        struct image_header *header) MUST_USE;
enum status jpeg_decode(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                        const struct image_header *header, int64_t channels, uint8_t *pixels) MUST_USE;

/* From now on errors of reading stand in another context, as a thread needs. */
void reader_set_errors(struct image_reader *reader, struct context *errors);

/* Opens a file and says how long it is; FILE error for what is none. */
enum status image_file_open(struct context *context, const char *path, int *descriptor, int64_t *bytes) MUST_USE;

/* Reads `count` bytes, or says that the file has become shorter. */
enum status image_file_read(struct context *context, const char *path, int descriptor, uint8_t *bytes,
                            int64_t count) MUST_USE;

/* -- Files -- */

/* A file, compressed by gzip or not, from its beginning to its end. */
struct unzip {
    struct context *context;
    const char *path;
    gzFile file;
    int64_t bytes_most; /* that it can hold */
};

enum status unzip_open(struct context *context, const char *path, struct unzip *unzip) MUST_USE;
void unzip_close(struct unzip *unzip);

/* Up to `count` bytes; fewer at the end. */
enum status unzip_read(struct unzip *unzip, void *bytes, int64_t count, int64_t *got) MUST_USE;

/* All of them, or a FILE error that says that the file is truncated. */
enum status unzip_read_all(struct unzip *unzip, void *bytes, int64_t count) MUST_USE;

/* FILE error unless the file ends here. */
enum status unzip_expect_end(struct unzip *unzip) MUST_USE;

/* Why a file that is named cannot be opened, in one word for all. */
enum status image_file_refuse(struct context *context, const char *path) MUST_USE;

/* -- Formats -- */

/* Bytes of a file from which its format shows, and the header of an image nearly always. */
enum { LOOK = 4096, LOOK_HEADER = 1 << 16 };

enum status idx_add(struct image_set *set, const char *path) MUST_USE;
enum status cifar_add(struct image_set *set, const char *path) MUST_USE;
enum status cifar_name_classes(struct image_set *set) MUST_USE;
enum status folder_add(struct image_set *set, char *const *paths, int64_t count) MUST_USE;
enum status list_add(struct image_set *set, char *const *paths, int64_t count) MUST_USE;

#endif
