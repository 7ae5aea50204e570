/* Texts made into token files by all ranks: PREFIX.bin and PREFIX.idx in Megatron's format, the documents in the order
 * of the files, whatever the number of ranks; and PREFIX.json, which says by which tokenizer. What was done before a
 * start was ended is kept in PREFIX.parts and not done again. */
#ifndef CAIRN_PREPARE_TOKENIZE_H
#define CAIRN_PREPARE_TOKENIZE_H

#include "dist/mesh/mesh.h"
#include "io/documents/documents.h"
#include "io/tokenizer/tokenizer.h"

struct tokenize_options {
    const char *prefix;
    enum document_format format;
    struct document_options documents;
    int32_t begin, end; /* put before and behind each document; -1: nothing */
    bool specials;      /* special tokens in the texts become themselves */
    bool quiet;         /* no lines about how far it is */
};

struct tokenize_result {
    int64_t documents, tokens, bytes; /* of text */
    int64_t replaced;                 /* parts that were no UTF-8 */
    int64_t bad;                      /* lines that were left out */
    double seconds;
};

/* Collective over the team; agreed status. */
enum status tokenize_files(struct context *context, struct mesh *mesh, const struct tokenizer *tokenizer,
                           char *const *names, int count, const struct tokenize_options *options,
                           struct tokenize_result *result) MUST_USE;

/* What stands in PREFIX.json beside a file of tokens, PREFIX.bin, .idx or PREFIX itself. Empty hash: there is none.
 * FILE error if it is damaged. Local. */
struct token_card {
    char tokenizer[TOKENIZER_HASH];
    int64_t tokens, bytes;
};

enum status token_card_read(struct context *context, const char *name, struct token_card *card) MUST_USE;

#endif
