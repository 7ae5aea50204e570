/* Inside io/data: how the tokens of a corpus lie in its mapped files. */
#ifndef CAIRN_IO_DATA_CORPUS_FILES_H
#define CAIRN_IO_DATA_CORPUS_FILES_H

#include "io/data/data.h"

/* Every format is little-endian and is read as it lies in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "corpora are read on little-endian machines only");

enum { PATH_LENGTH = TEXT_LENGTH + 8 };

enum token_kind { TOKEN_UINT8, TOKEN_INT8, TOKEN_INT16, TOKEN_INT32, TOKEN_INT64, TOKEN_UINT16, TOKEN_UINT32 };

/* Which end of a document its delimiter belongs to. */
enum delimiter_place { DELIMITER_NONE, DELIMITER_FIRST, DELIMITER_LAST };

/* A whole file, mapped for reading. */
struct mapping {
    const unsigned char *address;
    int64_t bytes;
    uint64_t inode;
};

/* Consecutive tokens of the corpus that lie one behind the other in a file, at any alignment. */
struct token_span {
    const unsigned char *address;
    enum token_kind kind;
    int64_t begin; /* of the first in the file's order */
    int64_t count;
};

/* Megatron's index, whose three arrays begin at any alignment. */
struct megatron_index {
    struct mapping mapping; /* closed once the corpus is open */
    int64_t sequences;
    int64_t documents;
    const unsigned char *lengths;         /* int32 [sequences] */
    const unsigned char *pointers;        /* int64 [sequences], bytes into the token file */
    const unsigned char *documents_first; /* int64 [documents + 1], the last is `sequences` */
};

struct corpus_file {
    char path[PATH_LENGTH];
    struct mapping mapping;
    struct token_span *spans; /* rising in begin */
    int64_t span_count;
    int64_t begin; /* of its tokens in the corpus */
    int64_t count; /* of its tokens, after the cut to its part */
    int64_t first; /* of them, in the file */
    enum delimiter_place delimiter_place;
    int32_t delimiter;
    int64_t sample_length, sample_answer; /* of a file of samples; 0 in others */
    struct megatron_index index;          /* mapped for Megatron's format only */
};

struct corpus {
    struct context *context;
    int64_t vocabulary;
    int64_t end_of_text; /* that ends documents; -1: as the format says */
    int64_t tokens;
    int64_t *documents; /* where each begins, rising from 0; never an empty one */
    int64_t document_count;
    int64_t document_capacity;
    int file_count;
    struct corpus_file *files;
};

/* The format of a mapped file that is neither llm.c's nor samples, by its content. FILE error, with what it looks like
 * and what to do, for what is neither text in UTF-8 nor tokens of 2 bytes. */
enum status corpus_recognize(struct context *context, const char *name, const struct corpus_file *file,
                             enum data_format *format) MUST_USE;

enum status mapping_open(struct context *context, const char *path, struct mapping *mapping) MUST_USE;
void mapping_close(struct mapping *mapping);

int64_t token_bytes(enum token_kind kind);
int64_t token_value(enum token_kind kind, const unsigned char *address);

/* The first `count` tokens at an address; -1 for each that is not in 0 .. limit - 1. */
void tokens_decode(enum token_kind kind, const unsigned char *address, int64_t count, int64_t limit, int32_t *tokens);

bool name_ends(const char *name, const char *end);

/* Maps the files behind a name and finds where their tokens lie. FILE error; what was opened is closed with the
 * corpus. `format` may be DATA_AUTO, which takes text for bytes only if the vocabulary is theirs. */
enum status corpus_file_open(struct context *context, const char *name, enum data_format format, int64_t vocabulary,
                             struct corpus_file *file) MUST_USE;

/* The whole file as one span from a byte on. */
enum status corpus_file_set_span(struct context *context, struct corpus_file *file, enum token_kind kind,
                                 int64_t offset, int64_t count) MUST_USE;
void corpus_file_close(struct context *context, struct corpus_file *file);

/* Whether a name means a Megatron pair without being told so. */
bool megatron_recognize(const char *name);
enum status megatron_open(struct context *context, const char *name, struct corpus_file *file) MUST_USE;

/* Files of samples. */
bool samples_recognize(const struct mapping *mapping);
enum status samples_open(struct context *context, struct corpus_file *file) MUST_USE;
enum status samples_add_documents(struct corpus *corpus, const struct corpus_file *file) MUST_USE;

/* Notes that a document begins at a token of a file, counted before the cut; to be called in rising order. */
enum status corpus_add_document(struct corpus *corpus, const struct corpus_file *file, int64_t token) MUST_USE;
enum status megatron_add_documents(struct corpus *corpus, const struct corpus_file *file) MUST_USE;

/* Has the system read the files' pages with these tokens while the caller goes on. */
void corpus_announce(const struct corpus *corpus, int64_t begin, int64_t count);

/* The document that holds a token. */
int64_t corpus_document_at(const struct corpus *corpus, int64_t token);

/* The largest i in 0 .. count - 1 with values[i] <= value; values rise and values[0] <= value. */
int64_t search_last_not_above(const int64_t *values, int64_t count, int64_t value);

#endif
