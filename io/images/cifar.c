/* CIFAR's binary form: records of one label byte (CIFAR-10) or two (CIFAR-100), and planes of red, green and blue. */
#include "io/images/images_private.h"

#include <inttypes.h>
#include <string.h>

enum {
    SIDE = 32,
    PLANE = SIDE * SIDE,
    PIXEL_BYTES = 3 * PLANE,
    RECORD10 = 1 + PIXEL_BYTES,
    RECORD100 = 2 + PIXEL_BYTES
};
enum { CLASSES10 = 10, COARSE100 = 20, CLASSES100 = 100 };

/* How large it is shows at its end only. */
static enum status read_whole(struct unzip *unzip, void **bytes, size_t *room, int64_t *count)
{
    int64_t got = 0;
    *count = 0;
    do {
        CHECK(room_grow(unzip->context, bytes, room, (size_t)*count, (size_t)*count + (1 << 20)));
        CHECK(unzip_read(unzip, (char *)*bytes + *count, (int64_t)*room - *count, &got));
        *count += got;
    } while (got > 0);
    return STATUS_OK;
}

static bool labels_fit(const uint8_t *bytes, int64_t count, bool hundred)
{
    for (int64_t at = 0; at < count; at += hundred ? RECORD100 : RECORD10)
        if (hundred ? bytes[at] >= COARSE100 || bytes[at + 1] >= CLASSES100 : bytes[at] >= CLASSES10)
            return false;
    return true;
}

static enum status recognize(struct image_set *set, const char *path, const uint8_t *bytes, int64_t count)
{
    bool ten = count % RECORD10 == 0;
    bool hundred = count % RECORD100 == 0;
    if (!ten && !hundred)
        return context_fail(set->context, STATUS_FILE,
                            "%s: is no set of images that is known: its %" PRId64 " bytes are no whole number of "
                            "records of CIFAR-10 (%d bytes) or CIFAR-100 (%d), and it is neither IDX, nor a folder, "
                            "nor a list in text; it is truncated, or something else",
                            path, count, RECORD10, RECORD100);
    set->facts.format = ten && (!hundred || labels_fit(bytes, count, false)) ? IMAGES_CIFAR10 : IMAGES_CIFAR100;
    return STATUS_OK;
}

static enum status check(const struct image_set *set, const char *path, const uint8_t *bytes, int64_t count)
{
    bool hundred = set->facts.format == IMAGES_CIFAR100;
    int64_t record = hundred ? RECORD100 : RECORD10;
    if (count == 0 || count % record != 0)
        return context_fail(set->context, STATUS_FILE,
                            "%s: its %" PRId64 " bytes are no whole number of records of %s (%" PRId64 " bytes); it is "
                            "truncated, or data.format does not fit",
                            path, count, image_format_name(set->facts.format), record);
    for (int64_t i = 0; i < count / record; i++)
        if (!labels_fit(bytes + i * record, 1, hundred))
            return context_fail(set->context, STATUS_FILE,
                                "%s: record %" PRId64 " has the label %d, which %s does not; the file is damaged, or "
                                "data.format does not fit",
                                path, i, bytes[i * record + hundred], image_format_name(set->facts.format));
    return STATUS_OK;
}

enum status cifar_add(struct image_set *set, const char *path)
{
    struct unzip unzip;
    void *raw = NULL;
    size_t room = 0;
    int64_t count = 0;
    enum status status = unzip_open(set->context, path, &unzip);
    if (status != STATUS_OK)
        return status;
    TRY(read_whole(&unzip, &raw, &room, &count));
    const uint8_t *bytes = raw;
    if (set->facts.format == IMAGES_AUTO)
        TRY(recognize(set, path, bytes, count));
    TRY(check(set, path, bytes, count));
    bool hundred = set->facts.format == IMAGES_CIFAR100;
    int64_t record = hundred ? RECORD100 : RECORD10;
    int64_t begin = set->facts.count;
    TRY(set_add_origin(set, path, count / record, SIDE, SIDE, 3));
    for (int64_t i = 0; i < count / record; i++) {
        const uint8_t *planes = bytes + (i + 1) * record - PIXEL_BYTES;
        uint8_t *pixels = set->pixels + (begin + i) * PIXEL_BYTES;
        set->labels[begin + i] = planes[-1];
        for (int64_t j = 0; j < PLANE; j++)
            for (int64_t c = 0; c < 3; c++)
                pixels[3 * j + c] = planes[c * PLANE + j];
    }
    set->facts.classes = hundred ? CLASSES100 : CLASSES10;
done:
    memory_free(set->context, raw);
    unzip_close(&unzip);
    return status;
}

static const char *const names10[CLASSES10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                               "dog",      "frog",       "horse", "ship", "truck"};

/* The fine ones. */
static const char *const names100[CLASSES100] = {
    "apple",      "aquarium_fish", "baby",         "bear",       "beaver",      "bed",         "bee",
    "beetle",     "bicycle",       "bottle",       "bowl",       "boy",         "bridge",      "bus",
    "butterfly",  "camel",         "can",          "castle",     "caterpillar", "cattle",      "chair",
    "chimpanzee", "clock",         "cloud",        "cockroach",  "couch",       "crab",        "crocodile",
    "cup",        "dinosaur",      "dolphin",      "elephant",   "flatfish",    "forest",      "fox",
    "girl",       "hamster",       "house",        "kangaroo",   "keyboard",    "lamp",        "lawn_mower",
    "leopard",    "lion",          "lizard",       "lobster",    "man",         "maple_tree",  "motorcycle",
    "mountain",   "mouse",         "mushroom",     "oak_tree",   "orange",      "orchid",      "otter",
    "palm_tree",  "pear",          "pickup_truck", "pine_tree",  "plain",       "plate",       "poppy",
    "porcupine",  "possum",        "rabbit",       "raccoon",    "ray",         "road",        "rocket",
    "rose",       "sea",           "seal",         "shark",      "shrew",       "skunk",       "skyscraper",
    "snail",      "snake",         "spider",       "squirrel",   "streetcar",   "sunflower",   "sweet_pepper",
    "table",      "tank",          "telephone",    "television", "tiger",       "tractor",     "train",
    "trout",      "tulip",         "turtle",       "wardrobe",   "whale",       "willow_tree", "wolf",
    "woman",      "worm"};

enum status cifar_name_classes(struct image_set *set)
{
    bool hundred = set->facts.format == IMAGES_CIFAR100;
    set->facts.classes = 0;
    for (int i = 0; i < (hundred ? CLASSES100 : CLASSES10); i++)
        CHECK(set_add_class(set, hundred ? names100[i] : names10[i]));
    return STATUS_OK;
}
