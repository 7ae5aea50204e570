/* What a file is, by its content: a corpus that is taken for something else trains without a word. */
#include "io/data/corpus_files.h"

#include "src/core/integer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Bytes that are looked at, in pieces at the beginning, in the middle and at the end. */
enum { PIECE = 1 << 16, PIECES = 3, LEAST = 64 };

/* Words of 2 bytes: places in words of 8, and how many there must be of each to know how often each value comes. */
enum { PLACES = 4, LEAST_OF_PLACE = 512 };

struct signature {
    int64_t place;
    const char *bytes;
    int64_t count;
    const char *is, *remedy;
};

#define AT(place, bytes, is, remedy)               \
    {                                              \
        place, bytes, sizeof bytes - 1, is, remedy \
    }

static const struct signature signatures[] = {
    AT(0, "\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    AT(0, "\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with unzstd"),
    AT(0,
       "\xfd"
       "7zXZ",
       "compressed by xz", "unpack it with unxz"),
    AT(0, "BZh", "compressed by bzip2", "unpack it with bunzip2"),
    AT(0, "\x04\x22\x4d\x18", "compressed by lz4", "unpack it with unlz4"),
    AT(0, "PK\x03\x04", "a zip archive (or an .npz, .docx, .pt)", "unpack it, and take its text or tokens"),
    AT(0, "7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    AT(257, "ustar", "a tar archive", "unpack it with tar -x"),
    AT(0, "\x93NUMPY", "an array of NumPy (.npy)", "write its tokens with array.astype('uint16').tofile('FILE.bin')"),
    AT(0, "\x89HDF\r\n", "an HDF5 file", "take its text or tokens"),
    AT(0, "PAR1", "a Parquet file", "take its text, as a column in plain UTF-8"),
    AT(0, "ARROW1", "an Arrow file", "take its text, as plain UTF-8"),
    AT(0, "SQLite format 3", "an SQLite database", "take its text, as plain UTF-8"),
    AT(0, "%PDF-", "a PDF document", "take its text, as with pdftotext"),
    AT(0, "\x89PNG", "an image", "name text or tokens"),
    AT(0, "\xff\xd8\xff", "an image", "name text or tokens"),
    AT(0,
       "\x7f"
       "ELF",
       "a program", "name text or tokens"),
    AT(0, "MMIDIDX", "the index of a Megatron pair", "name it with the ending .idx, beside its .bin"),
    AT(0, "\xff\xfe\x00\x00", "text in UTF-32", "convert it with iconv -f UTF-32 -t UTF-8"),
    AT(0, "\x00\x00\xfe\xff", "text in UTF-32", "convert it with iconv -f UTF-32 -t UTF-8"),
    AT(0, "\xff\xfe", "text in UTF-16", "convert it with iconv -f UTF-16 -t UTF-8"),
    AT(0, "\xfe\xff", "text in UTF-16", "convert it with iconv -f UTF-16 -t UTF-8"),
};

/* -- Counts over the pieces -- */

struct looks {
    int64_t bytes;
    int64_t control;                      /* bytes that plain text does not have */
    int64_t broken;                       /* bytes that are no UTF-8 */
    int64_t words[4];                     /* zero bytes by their place in words of 4 */
    int64_t upper[PLACES][UINT8_MAX + 1]; /* of words of 2 bytes, by place: how often the upper byte has each value */
};

/* Bytes of the UTF-8 character at `at`; 0 if it is none. */
static int64_t character_bytes(const unsigned char *at, int64_t rest)
{
    int64_t count = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : at[0] >= 0xe0 && at[0] < 0xf0 ? 3 : 4;
    if (at[0] >= 0x80 && (at[0] < 0xc2 || at[0] > 0xf4))
        return 0;
    for (int64_t i = 1; i < count && i < rest; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return count;
}

static void look_at(const unsigned char *bytes, int64_t count, bool first, struct looks *looks)
{
    /* A piece may begin inside a character. */
    int64_t i = 0;
    while (!first && i < 3 && i < count && (bytes[i] & 0xc0) == 0x80)
        i++;
    while (i < count) {
        int64_t step = character_bytes(bytes + i, count - i);
        looks->broken += step == 0;
        looks->control += (bytes[i] < 0x20 && !memchr("\t\n\r\f\v\b\x1b", bytes[i], 7)) || bytes[i] == 0x7f;
        i += step ? step : 1;
    }
    for (int64_t j = 0; j < count; j++)
        looks->words[j % 4] += bytes[j] == 0;
    for (int64_t j = 1; j < count; j += 2)
        looks->upper[j / 2 % PLACES][bytes[j]]++;
    looks->bytes += count;
}

static struct looks take_looks(const struct mapping *mapping)
{
    struct looks looks = {0};
    if (mapping->bytes <= PIECES * PIECE) {
        look_at(mapping->address, mapping->bytes, true, &looks);
        return looks;
    }
    for (int64_t i = 0; i < PIECES; i++) {
        int64_t begin = (mapping->bytes - PIECE) / (PIECES - 1) * i / 8 * 8;
        look_at(mapping->address + begin, PIECE, i == 0, &looks);
    }
    return looks;
}

/* Text of a few odd bytes is text; some books have them. */
static bool is_text(const struct looks *looks)
{
    return looks->control == 0 && 1000 * looks->broken <= looks->bytes;
}

/* -- What it is -- */

static bool is_json(const struct mapping *mapping)
{
    int64_t i = 0;
    int64_t bytes = mapping->bytes;
    const unsigned char *text = mapping->address;
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        i = 3;
    while (i < bytes && memchr(" \t\r\n[", text[i], 5))
        i++;
    if (i + 1 >= bytes || text[i] != '{')
        return false;
    for (i++; i < bytes && memchr(" \t\r\n", text[i], 4);)
        i++;
    return i < bytes && (text[i] == '"' || text[i] == '}');
}

static enum status refuse(struct context *context, const struct corpus_file *file, const char *is, const char *remedy,
                          const char *otherwise)
{
    return context_fail(context, STATUS_FILE, "%s: looks like %s; %s, or set data.format (%s) if it is meant so",
                        file->path, is, remedy, otherwise);
}

/* Words of 4 bytes whose upper half, or of 8 whose upper six bytes, are nearly always zero. */
static const char *wider_tokens(const struct looks *looks)
{
    double quarter = (double)looks->bytes / 4.0;
    bool upper = (double)looks->words[3] > 0.98 * quarter && (double)looks->words[2] > 0.9 * quarter;
    bool lower = (double)looks->words[0] > 0.4 * quarter && (double)looks->words[1] > 0.4 * quarter;
    return !upper ? NULL : lower ? "tokens of 8 bytes" : "tokens of 4 bytes";
}

/* The share of a place's words that would have to be others for it to look like another place. */
static double place_distance(const struct looks *looks, int a, int b)
{
    double sum = 0.0;
    for (int value = 0; value <= UINT8_MAX; value++)
        sum += fabs((double)(looks->upper[a][value] - looks->upper[b][value]));
    return 4.0 * sum / (double)looks->bytes;
}

/* Floats of 2 bytes: of either sign, and with exponents that tell of sizes from about 1e-4 to 10. */
static bool are_half_floats(const struct looks *looks)
{
    int64_t sized[2] = {0, 0};
    for (int place = 0; place < PLACES; place++)
        for (int value = 0; value <= UINT8_MAX; value++)
            if ((value & 0x7f) >= 0x04 && (value & 0x7f) <= 0x49)
                sized[value >> 7] += looks->upper[place][value];
    double words = (double)looks->bytes / 2.0;
    return (double)(sized[0] + sized[1]) > 0.98 * words && (double)integer_min(sized[0], sized[1]) > 0.2 * words;
}

/* What vocabularies of 65536 would take for tokens. Tokens come as often at one place as at another; in wider floats
 * some places have exponents, which are much alike, and the others the noise of fractions. */
static bool are_floats(const struct looks *looks)
{
    double farthest = 0.0;
    if (looks->bytes < 2 * PLACES * LEAST_OF_PLACE)
        return false;
    for (int place = 1; place < PLACES; place++)
        farthest = fmax(farthest, place_distance(looks, 0, place));
    return farthest > 0.5 || are_half_floats(looks);
}

enum status corpus_recognize(struct context *context, const char *name, const struct corpus_file *file,
                             enum data_format *format)
{
    const struct mapping *mapping = &file->mapping;
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];
        if (mapping->bytes >= s->place + s->count &&
            memcmp(mapping->address + s->place, s->bytes, (size_t)s->count) == 0)
            return refuse(context, file, s->is, s->remedy, "bytes for its bytes as they are");
    }
    /* Few bytes say little. */
    if (mapping->bytes < LEAST) {
        *format = name_ends(name, ".bin") ? DATA_NANOGPT : DATA_BYTES;
        return STATUS_OK;
    }
    struct looks looks = take_looks(mapping);
    bool named = name_ends(name, ".bin");
    if (is_text(&looks) && is_json(mapping))
        return refuse(context, file, "JSON", "take the text out of it into files of plain UTF-8",
                      "bytes to learn JSON itself");
    if (is_text(&looks) && named)
        return refuse(context, file, "text, though its name ends in .bin as token files do", "give it another name",
                      "bytes or nanogpt");
    *format = named ? DATA_NANOGPT : DATA_BYTES;
    const char *wide = wider_tokens(&looks);
    if (wide)
        return refuse(context, file, wide, "write them as uint16 (nanoGPT's format) or as a Megatron pair", "nanogpt");
    if (named && are_floats(&looks))
        return refuse(context, file, "floating-point numbers, or others of more than 2 bytes",
                      "write tokens as uint16 (nanoGPT's format) or as a Megatron pair", "nanogpt");
    if (!named && !is_text(&looks) &&
        10 * (looks.words[0] + looks.words[1] + looks.words[2] + looks.words[3]) > looks.bytes)
        return refuse(context, file, "text in UTF-16, or tokens of 2 bytes",
                      "convert text with iconv -t UTF-8, and let the names of token files end in .bin",
                      "bytes or nanogpt");
    if (!named && !is_text(&looks))
        return refuse(context, file, "neither text in UTF-8 nor a token file that is known",
                      "convert text with iconv -t UTF-8", "bytes, nanogpt, llmc or megatron");
    return STATUS_OK;
}
