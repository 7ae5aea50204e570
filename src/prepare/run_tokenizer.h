/* The tokenizer of a run: where it lies, and whether it is the one that tokens, data and a checkpoint are of. What a
 * checkpoint knows of it is {"tokenizer": HASH} among the facts of its data. */
#ifndef CAIRN_PREPARE_RUN_TOKENIZER_H
#define CAIRN_PREPARE_RUN_TOKENIZER_H

#include "src/core/config.h"
#include "src/prepare/tokenize.h"

enum { TOKENIZER_FACTS = 64 };

/* Where a checkpoint's run keeps its tokenizer.json: in the file's folder, or the one above. False: there is none. */
bool run_tokenizer_beside(const char *checkpoint, char path[TEXT_LENGTH + 64]);

/* Opens a tokenizer for a model of that many tokens. FILE error if it has more ids, or another hash than the facts of
 * the checkpoint `what` say (facts may be NULL or empty). Local. */
enum status run_tokenizer_open(struct context *context, const char *path, int64_t vocabulary, const char *what,
                               const char *facts, struct tokenizer **tokenizer) MUST_USE;

/* That of --tokenizer (NULL: not given), of the settings, or beside the checkpoint; NULL when there is none. */
enum status run_tokenizer_find(struct context *context, const char *given, const struct config *config,
                               const char *checkpoint, const char *facts, struct tokenizer **tokenizer) MUST_USE;

/* The hash in facts; an empty text: they have none. */
void run_tokenizer_hash(const char *facts, char hash[TOKENIZER_HASH]);
void run_tokenizer_facts(const char *hash, char facts[TOKENIZER_FACTS]);

/* FILE error if data and checkpoint are of different tokenizers, as far as both are known. Local. */
enum status run_tokenizer_same(struct context *context, const char *what, const char *facts,
                               const char *data_facts) MUST_USE;

/* Copies a tokenizer.json into a folder, under that name; nothing where it lies there. Local, for one rank. */
enum status run_tokenizer_keep(struct context *context, const char *path, const char *folder) MUST_USE;

/* Bytes of text that each token stands for, [vocabulary]; of memory_allocate. */
enum status run_tokenizer_bytes(struct context *context, const struct tokenizer *tokenizer, int64_t vocabulary,
                                int32_t **bytes) MUST_USE;

#endif
