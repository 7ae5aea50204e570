/* Images with classes: sets of them in files, what is done to one before a model sees it, and a loader whose threads
 * do that ahead of the step.
 *
 * Pixels are bytes [rows, columns, channels] until they are normalised, then floats [channels, rows, columns]. What a
 * step sees depends on the seed and on the number of images drawn before it alone, so every rank of every mesh sees
 * the same, also after a resume. Functions without a context cannot fail. Nothing here is collective. */
#ifndef CAIRN_IO_IMAGES_H
#define CAIRN_IO_IMAGES_H

#include "src/core/config.h"
#include "src/core/context.h"

enum {
    IMAGE_CHANNELS = 4,         /* at most */
    IMAGE_SIDE = 32768,         /* rows or columns at most */
    IMAGE_PIXELS = 1 << 27,     /* rows * columns at most */
    IMAGE_CLASSES = 1 << 20,    /* at most */
    IMAGE_SIZE = 4096,          /* of the augmented image, at most */
    IMAGE_FILE_BYTES = 1 << 30, /* of a PNG or JPEG file, at most */
    IMAGE_BAD_TEXTS = 20,       /* that are kept of bad images */
    IMAGE_CLASS_NAME = 256,     /* bytes at most */
};

/* -- Sets -- */

enum image_format {
    IMAGES_AUTO,
    IMAGES_IDX, /* MNIST's: images [N, rows, columns] or [N, rows, columns, channels], labels in a file beside them */
    IMAGES_CIFAR10,  /* binary: a label byte and 3 planes of 32 x 32 */
    IMAGES_CIFAR100, /* binary: a coarse and a fine label byte, of which the fine one counts, and the same planes */
    IMAGES_FOLDER,   /* of folders, one a class, of PNG and JPEG files */
    IMAGES_LIST,     /* a text file: a line holds a path, from the list's folder on, a tab or blank, and a class */
};

/* "idx", "cifar10", ... */
const char *image_format_name(enum image_format format);

struct image_set;

struct image_set_facts {
    enum image_format format;
    int64_t count;
    int64_t channels;      /* 1 or 3, or those of an IDX file; gray images among colour ones count as colour */
    int64_t rows, columns; /* 0: they differ */
    int64_t rows_most, columns_most;
    int64_t pixels_most;     /* rows * columns of the largest image */
    int64_t file_bytes_most; /* of a PNG or JPEG file */
    int64_t classes;
    int64_t skipped; /* bad images that were left out when the set was opened */
    int64_t others;  /* files in the folders of classes that are neither PNG nor JPEG by their names */
};

/* Opens what the names stand for, one set in their order. A name is a file, a folder or a pattern of the shell; all
 * have the same format. AUTO goes by content. IDX and CIFAR files may be compressed by gzip, and are held in memory; of
 * PNG and JPEG files only the headers are read until they are needed.
 *
 * Classes are numbers in IDX and CIFAR files, and in lists whose classes are all numbers from 0 on. Otherwise they are
 * names in the order of their bytes: the folders of a folder, or what stands in the list.
 *
 * Converted, as is usual: 16 bits to 8, rounded; palettes to colours; gray to colour where the set has colour. Alpha is
 * left out, the colour below it stays. Orientation marks of cameras are not followed. Refused: CMYK, more pixels than
 * IMAGE_PIXELS, and what is no whole PNG or JPEG. With `skip_bad` an image whose header is bad is left out and counted
 * instead, wherever the set is opened alike; how the loader deals with what shows itself later, see there.
 *
 * FILE error that names the file, and says what is wrong and what to do. The context must outlive the set. */
enum status image_set_open(struct context *context, const struct text_list *names, enum image_format format,
                           bool skip_bad, struct image_set **set) MUST_USE;
void image_set_close(struct image_set **set);

const struct image_set_facts *image_set_facts(const struct image_set *set);

/* 0 <= index < count; 0 <= label < classes. */
int32_t image_set_label(const struct image_set *set, int64_t index);
const char *image_set_class_name(const struct image_set *set, int64_t label);

/* Why image number i of those that were skipped is bad, with the name of its file; i < IMAGE_BAD_TEXTS. */
const char *image_set_bad(const struct image_set *set, int64_t i);

/* How messages name an image: its file, and its number in a file of many. */
void image_set_name(const struct image_set *set, int64_t index, char *text, size_t size);

/* Makes a set that a model trained on `training` is evaluated on use its classes: labels follow the names. FILE error
 * for classes that `training` lacks and for other channels; classes that only `training` has are no mistake. */
enum status image_set_match(struct image_set *set, const struct image_set *training) MUST_USE;

/* The same for classes by name, as a checkpoint holds them. */
enum status image_set_match_names(struct image_set *set, const char *const *names, int64_t count) MUST_USE;

/* What is known of the files of a set, as bytes for other processes of this program, so that one reads the headers of a
 * folder or list for all. 0 bytes for sets held in memory, which each reads itself. The set made of them is as the one
 * they came from: the same paths, which must lead to the same files. */
int64_t image_set_packed_bytes(const struct image_set *set);
void image_set_pack(const struct image_set *set, void *packed);
enum status image_set_unpack(struct context *context, const void *packed, struct image_set **set) MUST_USE;

/* -- One image -- */

struct image {
    const uint8_t *pixels; /* [rows, columns, channels] */
    int64_t rows, columns, channels;
};

/* Reads images of a set, one after the other; for one thread. */
struct image_reader;

enum status image_reader_create(struct context *context, const struct image_set *set,
                                struct image_reader **reader) MUST_USE;
void image_reader_destroy(struct image_reader **reader);

/* The pixels are valid until the next call. FILE error of the reader's context, which names the file. */
enum status image_reader_read(struct image_reader *reader, int64_t index, struct image *image) MUST_USE;

/* A PNG or JPEG file by itself, with 1 or 3 channels, whatever it holds; frees with memory_free((void *)pixels). */
enum status image_read_file(struct context *context, const char *path, int64_t channels, struct image *image) MUST_USE;

/* Mean and deviation of each channel over all pixels of at most `most` images, evenly spread over the set (0: all), of
 * values from 0 to 1. Exact sums, so that the order does not matter. With skip_bad, bad images are counted in `bad` and
 * left out, the first IMAGE_BAD_TEXTS of them with a word to the log; otherwise the first is the error. `bad` may be
 * NULL. */
struct image_moments {
    double mean[IMAGE_CHANNELS], deviation[IMAGE_CHANNELS];
};
enum status image_set_measure(struct context *context, const struct image_set *set, int64_t most, bool skip_bad,
                              struct image_moments *moments, int64_t *bad) MUST_USE;

/* -- Augmentation -- */

enum image_crop {
    IMAGE_CROP_NONE,    /* as for evaluation, with crop_share 1 */
    IMAGE_CROP_PADDING, /* the same with a border of crop_padding black pixels, of which a random place is cut out */
    IMAGE_CROP_RESIZED, /* a random part of the image, resized: torchvision's RandomResizedCrop */
};

enum image_flip {
    IMAGE_FLIP_NONE,
    IMAGE_FLIP_RANDOM,      /* of left and right, with probability 1/2 */
    IMAGE_FLIP_ALTERNATING, /* every other epoch, where each image begins at random */
};

/* All that can be set; zeros are off. Angles in degrees. */
struct image_augmentation {
    int64_t size;                                           /* rows and columns of the result */
    int64_t channels;                                       /* of the result: those of the set, or 3 for a gray one */
    double mean[IMAGE_CHANNELS], deviation[IMAGE_CHANNELS]; /* result = (value / 255 - mean) / deviation */

    /* Evaluation: the shorter side becomes size / crop_share, and the centre is cut out (0.875: 224 of 256). 0 is 1. An
     * image of the right size already stays as it is. */
    double crop_share;

    /* Training, in the order in which it is done. */
    enum image_crop crop;
    int64_t crop_padding;
    bool crop_reflect;            /* the border mirrors the image instead of being black */
    double scale_low, scale_high; /* of IMAGE_CROP_RESIZED: share of the area (0.08 to 1) */
    double ratio_low, ratio_high; /* of columns to rows (3/4 to 4/3) */
    enum image_flip flip;
    double rotation;                         /* uniform in [-rotation, rotation], around the centre; black comes in */
    double brightness, contrast, saturation; /* factors uniform in [max(0, 1 - x), 1 + x], in this order */
    double hue;                              /* behind them; turned by a part of the circle uniform in [-hue, hue] */
    int64_t cutout;       /* side of a square that becomes the mean, its centre anywhere in the image */
    double mixup, cutmix; /* alpha of Beta(alpha, alpha), from which the share of the other image is drawn; of both, one
                             or the other with probability 1/2 */
    double mixing;        /* probability that an image is mixed at all; 0 is 1 */
};

/* USAGE error that says which value is out of range; `set` may be NULL. */
enum status image_augmentation_check(struct context *context, const struct image_augmentation *augmentation,
                                     const struct image_set *set) MUST_USE;

/* From which all choices for an image of an epoch follow. */
uint64_t image_key(uint64_t seed, int64_t epoch, int64_t index);

/* What is done to one image. `augmentation` decides what is drawn; each choice has draws of its own, so that turning
 * one on changes no other. */
struct image_choices {
    double left, top, width, height;   /* the part that is resized to `size`, in pixels of the image */
    int64_t shift_rows, shift_columns; /* of the result against the padded image: 0 .. 2 * crop_padding */
    bool flip;
    double rotation;                         /* degrees, counterclockwise */
    double brightness, contrast, saturation; /* 1 changes nothing */
    double hue;                              /* part of the circle */
    int64_t cutout_row, cutout_column;       /* its centre */
};

void image_choose(const struct image_augmentation *augmentation, uint64_t seed, int64_t epoch, int64_t index,
                  int64_t rows, int64_t columns, struct image_choices *choices);

/* The same without chance, for evaluation. */
void image_choose_centre(const struct image_augmentation *augmentation, int64_t rows, int64_t columns,
                         struct image_choices *choices);

/* Room to work in, for images of up to so many rows and columns; for one thread. */
struct image_workspace;

enum status image_workspace_create(struct context *context, const struct image_augmentation *augmentation, int64_t rows,
                                   int64_t columns, struct image_workspace **workspace) MUST_USE;
void image_workspace_destroy(struct context *context, struct image_workspace **workspace);

/* output [channels, size, size]. `training` false: nothing but resizing, cutting and normalising. */
void image_apply(struct image_workspace *workspace, const struct image *image, const struct image_choices *choices,
                 bool training, float *output);

/* The part of an image from (left, top) on, of width by height, which need not be whole, resized to output [out_rows,
 * out_columns, channels] by a triangle filter that grows with the reduction, as Pillow's BILINEAR does, to the bit.
 * `scratch` takes image_resize_bytes. */
size_t image_resize_bytes(int64_t rows, int64_t columns, int64_t channels, int64_t out_rows, int64_t out_columns);
void image_resize(const struct image *image, double left, double top, double width, double height, int64_t out_rows,
                  int64_t out_columns, void *scratch, uint8_t *output);

/* How an image is mixed with another; amount 0: not at all. The target is (1 - amount) * label + amount * the other's.
 */
struct image_mixing {
    bool cut;      /* cutmix: the box is the other's; otherwise all is the weighted mean */
    double amount; /* the share of the other image; of a box, that of its area */
    int64_t row, column, rows, columns;
};

void image_mixing_choose(const struct image_augmentation *augmentation, uint64_t seed, int64_t epoch, int64_t index,
                         struct image_mixing *mixing);

/* image and other [channels, size, size]. */
void image_mix(const struct image_mixing *mixing, int64_t channels, int64_t size, float *image, const float *other);

/* -- Loader -- */

struct image_loader;

struct image_loader_options {
    const struct image_set *set;                   /* must outlive the loader */
    const struct image_augmentation *augmentation; /* copied */
    uint64_t seed;
    bool evaluation;  /* sample n is image n, without chance; behind the last come rows that do not count */
    bool labels_only; /* images stay zeros and no file is read, for who needs only the targets; not with skip_bad, where
                         a label may be another image's */
    bool skip_bad;    /* see image_loader_take */
    int threads;      /* 0: the caller does the work in image_loader_take */
    int64_t ahead;    /* samples that may wait, finished, to be taken: two or three batches of this rank */
};

struct image_loader_counts {
    int64_t taken;
    int64_t waited; /* of them, those that were not ready */
    int64_t bad;    /* of them, those that were replaced or left out */
    double seconds; /* that image_loader_take waited, or worked itself */
    int64_t ready;  /* samples that wait to be taken now */
};

/* Starts the threads. USAGE error for augmentation that does not fit the set. */
enum status image_loader_create(struct context *context, const struct image_loader_options *options,
                                struct image_loader **loader) MUST_USE;
void image_loader_destroy(struct image_loader **loader);

/* Which image sample n of the run is: in epoch n / count each comes once, in an order of the seed and the epoch.
 * `epoch` may be NULL. -1 behind the last of an evaluation. */
int64_t image_loader_index(const struct image_loader *loader, int64_t n, int64_t *epoch);

/* Samples begin .. begin + count - 1 will be asked for, after those that were announced before. Never waits: any number
 * may be announced, in up to 64 ranges at a time (more are not worked on ahead); threads begin as room comes free. */
void image_loader_announce(struct image_loader *loader, int64_t begin, int64_t count);

/* Forgets what was announced and not taken, as when a run goes back. */
void image_loader_forget(struct image_loader *loader);

/* Sample n of the run: image [channels, size, size], its label, and for mixup and cutmix the other label and its share
 * (the same label and 0 without; both may be NULL). Waits if it is not ready, and does the work itself if nobody has
 * begun it. A label of -1: the row does not count, and is all zeros.
 *
 * A bad image is a FILE error of the loader's context, which names the file. With skip_bad the next good one of the set
 * takes its place, with its label, everywhere and in every epoch alike; in an evaluation its row does not count. */
enum status image_loader_take(struct image_loader *loader, int64_t n, float *image, int32_t *label,
                              int32_t *mixed_label, float *mixing) MUST_USE;

struct image_loader_counts image_loader_counts(struct image_loader *loader);

/* -- Contact sheet -- */

/* A PNG file: a row for each of the first `classes` classes with the first `columns` images of it, each fit into a
 * square of `side` pixels. Bad images stay empty. FILE error. */
enum status image_sheet_write(struct context *context, const struct image_set *set, const char *path, int64_t classes,
                              int64_t columns, int64_t side) MUST_USE;

#endif
