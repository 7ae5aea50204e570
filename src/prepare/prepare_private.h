/* Inside src/prepare: units of work, and the parts that come of them. */
#ifndef CAIRN_PREPARE_PRIVATE_H
#define CAIRN_PREPARE_PRIVATE_H

#include "src/prepare/tokenize.h"

enum { PREPARE_PATH = DOCUMENT_PATH + 64 };

/* Numbers of a part, or of all. */
enum part_number { PART_DOCUMENTS, PART_TOKENS, PART_BYTES, PART_REPLACED, PART_BAD, PART_NUMBERS };

/* A file, or a range of one that divides. */
struct unit {
    int64_t file, begin, end;
};

struct work {
    struct context *context;
    struct mesh *mesh;
    const struct tokenizer *tokenizer;
    const struct tokenize_options *options;
    struct document_file *files;
    int64_t file_count;
    struct unit *units; /* the same on all ranks, whatever their number; unit u is rank u % ranks' */
    int64_t unit_count;
    int64_t *numbers; /* [unit_count, PART_NUMBERS] of the parts that are done */
    int64_t width;    /* bytes of a token: 2 if all ids fit, or 4 */
    char folder[PREPARE_PATH];
};

/* All files and units, as rank 0 finds them. Collective; agreed. */
enum status work_find(struct work *work, char *const *names) MUST_USE;

static inline bool work_is_mine(const struct work *work, int64_t unit)
{
    return unit % mesh_size(work->mesh, MESH_TEAM) == mesh_rank(work->mesh, MESH_TEAM);
}

/* PREFIX.parts/UNIT: a header, the tokens, the documents' lengths. */
struct part_header {
    char magic[16];
    int64_t numbers[PART_NUMBERS];
};

void part_path(const struct work *work, int64_t unit, const char *end, char path[PREPARE_PATH]);

/* Whether a part is whole; its numbers. Local. */
bool part_read_header(const struct work *work, int64_t unit, int64_t numbers[PART_NUMBERS]);

/* Local. */
enum status part_write(struct work *work, int64_t unit, struct encoder *encoder) MUST_USE;

/* All parts into the files. Collective; agreed. */
enum status parts_join(struct work *work) MUST_USE;

#endif
