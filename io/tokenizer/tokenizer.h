/* Texts to tokens and back, as the file tokenizer.json of Hugging Face's tokenizers says: BPE of bytes (GPT-2, Llama 3,
 * Qwen, SmolLM2, Pythia), BPE of characters with bytes for the rest (SentencePiece: Llama 2, Mistral) and Unigram. The
 * ids are those of that library to the last one, or the file is refused with the name of what is not known here. */
#ifndef CAIRN_IO_TOKENIZER_H
#define CAIRN_IO_TOKENIZER_H

#include "src/core/context.h"
#include "src/core/grow.h"

enum { TOKENIZER_HASH = 17, TOKENIZER_LARGEST_ID = (1 << 22) - 1 };

struct tokenizer;

/* Reads a file; or its content, of which `name` is said in errors. FILE error that names the file and the key for
 * everything that is missing, damaged or not supported. Local. */
enum status tokenizer_open(struct context *context, const char *path, struct tokenizer **tokenizer) MUST_USE;
enum status tokenizer_parse(struct context *context, const char *name, const char *text, int64_t length,
                            struct tokenizer **tokenizer) MUST_USE;
void tokenizer_close(struct tokenizer **tokenizer);

/* The largest id, and one. There may be ids without a token. */
int64_t tokenizer_size(const struct tokenizer *tokenizer);

/* 16 digits by which tokenizers are told apart: of what the ids follow from, however the file is laid out. */
const char *tokenizer_hash(const struct tokenizer *tokenizer);

/* The text of a token as the file has it, or NULL; and the token of such a text, or -1. */
const char *tokenizer_text(const struct tokenizer *tokenizer, int64_t id, int64_t *length);
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text);

/* The token that ends documents, by its name (<|endoftext|>, <|end_of_text|>, </s>, <eos>); -1: there is none. */
int32_t tokenizer_end(const struct tokenizer *tokenizer);

/* What a person wants to know of it, in lines. */
enum status tokenizer_describe(const struct tokenizer *tokenizer, struct bytes *text) MUST_USE;

struct token_list {
    int32_t *ids;
    int64_t count, room;
};

void token_list_release(struct context *context, struct token_list *tokens);

/* -- Encoding -- */

struct encoder;

/* The context and the tokenizer must outlive it. */
enum status encoder_create(struct context *context, const struct tokenizer *tokenizer,
                           struct encoder **encoder) MUST_USE;
void encoder_destroy(struct encoder **encoder);

struct encoding {
    bool specials; /* special tokens that stand in the text as they are written become themselves, not text */
    bool frame;    /* with the tokens that the file puts around a text, such as one that begins it */
};

/* Appends the tokens of a text. Bytes that are no UTF-8 are read as U+FFFD, one for each part that begins no character,
 * and counted. */
enum status encoder_encode(struct encoder *encoder, const char *text, int64_t length, struct encoding encoding,
                           struct token_list *tokens) MUST_USE;

/* How many parts were no UTF-8 so far. */
int64_t encoder_replaced(const struct encoder *encoder);

/* -- Decoding -- */

/* Tokens to text as they come. What comes out is always UTF-8: a character whose bytes several tokens bring waits for
 * the last of them. */
struct decoder_stream;

enum status decoder_stream_create(struct context *context, const struct tokenizer *tokenizer, bool skip_specials,
                                  struct decoder_stream **stream) MUST_USE;
void decoder_stream_destroy(struct decoder_stream **stream);

/* Appends to `text` what the token completes; ids without a token stand for nothing. */
enum status decoder_stream_push(struct decoder_stream *stream, int64_t id, struct bytes *text) MUST_USE;

/* Appends what waits, with U+FFFD for what is no character, and begins anew. */
enum status decoder_stream_finish(struct decoder_stream *stream, struct bytes *text) MUST_USE;

/* How many bytes of text a token stands for inside of a text; 0 for special ones. */
int64_t tokenizer_bytes(const struct tokenizer *tokenizer, int64_t id);

/* -- Learning a BPE of bytes -- */

struct tokenizer_plan {
    const char *pattern;         /* that cuts texts: gpt2, llama3, qwen2, or an expression */
    const char *const *specials; /* ids from 0 on */
    int special_count;
    int64_t size;  /* of the vocabulary, special tokens and 256 bytes included */
    int64_t least; /* pairs that occur less often are left */
};

/* Pieces of texts, and how often they occur. */
struct piece_counts;
enum status piece_counts_create(struct context *context, struct piece_counts **counts) MUST_USE;
void piece_counts_destroy(struct piece_counts **counts);
enum status piece_counts_add(struct piece_counts *counts, const char *text, int64_t length, int64_t times) MUST_USE;
int64_t piece_counts_size(const struct piece_counts *counts);

/* All counts as bytes, and those of another process added. */
enum status piece_counts_pack(const struct piece_counts *counts, struct bytes *packed) MUST_USE;
enum status piece_counts_unpack(struct piece_counts *counts, const char *packed, int64_t count) MUST_USE;

/* A tokenizer that cuts as the plan says and knows no token, and an encoder of it that counts the pieces of a text. */
enum status tokenizer_counter(struct context *context, const struct tokenizer_plan *plan,
                              struct tokenizer **tokenizer) MUST_USE;
enum status encoder_count(struct encoder *encoder, const char *text, int64_t length,
                          struct piece_counts *counts) MUST_USE;

/* Appends the tokenizer.json that the counts give: the same however they were brought together, and the one that the
 * tokenizers library learns of the same pieces. */
enum status tokenizer_learn(struct context *context, const struct tokenizer_plan *plan,
                            const struct piece_counts *counts, struct bytes *text) MUST_USE;

#endif
