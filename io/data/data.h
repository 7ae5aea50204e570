/* Token corpora: memory-mapped, random access. What a step sees depends on the seed and on the number of sequences
 * drawn before it alone, so every rank of every mesh can compute it without a message. */
#ifndef CAIRN_IO_DATA_H
#define CAIRN_IO_DATA_H

#include "src/core/config.h"
#include "src/core/context.h"

struct corpus;

/* What names stand for: files, the files of folders (without those whose names begin with a point) and what patterns
 * match, each in the order of their names' bytes. FILE error for a folder or a pattern without any. */
struct corpus_names {
    char **name;
    int count, room;
};

enum status corpus_names_create(struct context *context, const struct text_list *files,
                                struct corpus_names *names) MUST_USE;
void corpus_names_destroy(struct context *context, struct corpus_names *names);

/* What files hold, by a sample, wherever they are: "2 files, 300 bytes, sample 0123456789abcdef"; or why that cannot be
 * told. 80 bytes of text are enough. Reads up to 256 KiB of each. */
void corpus_names_describe(struct context *context, const struct text_list *files, char *text, size_t size);

/* Opens files as one corpus: the concatenation of their tokens. A name may be a file, a folder, which stands for the
 * files in it, or a pattern of the shell; in the order of their bytes. Each file begins a document, and inside it
 *
 *   bytes     every byte is a token; the file is one document
 *   nanogpt   uint16 tokens and nothing else; GPT-2's end-of-text token 50256 ends its document
 *   llmc      llm.c's files, 1024 bytes of header; documents begin with the end-of-text token: 50256 in those of
 *             GPT-2 (magic 20240520, uint16 tokens), 128000 in those of Llama 3 (magic 20240801, uint32 tokens)
 *   megatron  PATH.bin with PATH.idx, named by either or by PATH; documents as in the index
 *   samples   written by samples_write: samples of equal length in bytes, each a document, of which only the answer,
 *             its last bytes, are targets that count
 *   auto      samples by their magic; megatron if the name ends in .idx or both its files exist; llmc by its magic;
 *             nanogpt if the name ends in .bin and the content is no text; bytes if it is text in UTF-8 and the
 *             vocabulary has 256 tokens or fewer. All else is refused, with what it looks like
 *
 * `part_begin` and `part_end` in [0, 1] cut each file to its tokens floor(part_begin * n) .. floor(part_end * n) - 1,
 * so that every text can be both training and validation data; a document that is cut is a shorter one in each part,
 * a sample that would be cut belongs to the second.
 * The tokens of the part are read once, to find the documents and to check every token. FILE error that names the
 * file and what is wrong with it: missing, a directory, unreadable, empty, truncated, damaged, a token not below
 * `vocabulary`. The files must not change while the corpus is open; the context must outlive it. */
enum status corpus_open(struct context *context, const struct text_list *files, enum data_format format,
                        int64_t vocabulary, double part_begin, double part_end, struct corpus **corpus) MUST_USE;

/* The same with another token that ends documents, or with DATA_BYTES a byte that does; in llm.c's files it begins
 * them. -1: that of the format. Files of Megatron and of samples know their documents. */
enum status corpus_open_with(struct context *context, const struct text_list *files, enum data_format format,
                             int64_t vocabulary, int64_t end_of_text, double part_begin, double part_end,
                             struct corpus **corpus) MUST_USE;

/* The two halves of corpus_open_with. Scanning reads all tokens, so that of several processes with the same files one
 * may do it, and hand what it found to the others: where each document begins, [corpus_documents], for which
 * corpus_take_documents makes room. */
enum status corpus_map(struct context *context, const struct text_list *files, enum data_format format,
                       int64_t vocabulary, int64_t end_of_text, double part_begin, double part_end,
                       struct corpus **corpus) MUST_USE;
enum status corpus_scan(struct corpus *corpus) MUST_USE;
int64_t *corpus_document_list(struct corpus *corpus);
enum status corpus_take_documents(struct corpus *corpus, int64_t count) MUST_USE;

/* Samplers of the corpus must be destroyed before. NULL inside is allowed. */
void corpus_close(struct corpus **corpus);

int64_t corpus_tokens(const struct corpus *corpus);
int corpus_files(const struct corpus *corpus);

/* Documents that are not empty. */
int64_t corpus_documents(const struct corpus *corpus);

/* How sequences are drawn.
 *
 * SAMPLING_SHUFFLE: an epoch is `windows` windows of T targets, one behind the other from a shift that the seed
 * draws for the epoch out of 0 .. shifts - 1, each once in an order of the seed and the epoch. Windows may cross from
 * one document into the next. The count of windows is the same in every epoch; the up to 2 T tokens at the two ends
 * that this leaves out change with the shift.
 *
 * SAMPLING_STREAM: the documents in an order of the seed, the same in every epoch, each cut into windows of T targets;
 * a window never crosses into the next document: what is left is padding, and documents of one token have no window.
 * Each of `streams` reads its own contiguous share of these `windows` (range_partition), and begins it again when it
 * is through. When there are fewer windows than streams, stream b without a share of its own reads window
 * b % windows. */
struct sampler {
    const struct corpus *corpus;
    enum data_sampling sampling;
    uint64_t seed;
    int64_t length;        /* T: inputs per sequence */
    int64_t streams;       /* rows of a batch */
    int64_t windows;       /* in an epoch */
    int64_t shifts;        /* SHUFFLE: how many different first tokens an epoch may have */
    int64_t *window_begin; /* STREAM: [documents + 1] windows before each document in the order of reading; owned */
};

/* One sequence: T + 1 tokens of the corpus, 0..T-1 of them inputs and 1..T targets. */
struct sequence {
    int64_t document; /* of its first token */
    int64_t stream;
    int64_t position; /* of its first token in its document */
    bool reset;       /* does not continue what the stream read before */
    int64_t valid;    /* inputs; the rest is padding */
    int64_t targets;  /* of them that count */
};

/* FILE error if the corpus has no window of this length: SHUFFLE needs length + 1 tokens, STREAM a document of two. */
enum status sampler_create(struct context *context, const struct corpus *corpus, const struct data_config *config,
                           int64_t length, int64_t streams, struct sampler *sampler) MUST_USE;
void sampler_destroy(struct sampler *sampler);

/* Sequence number `index` of the run (index = sequences drawn before; row = index % streams). inputs [T] and targets
 * [T] may be NULL when only the description is wanted; padding has input 0 and target -1, and so has a token that is
 * not below the vocabulary, which only a file that has changed since corpus_open can hold. A file that has become
 * shorter is a FILE error of the corpus's context. */
void sampler_sequence(const struct sampler *sampler, int64_t index, int32_t *inputs, int32_t *targets,
                      struct sequence *sequence);

/* Sequence number `index` will be asked for soon: its part of the files is read ahead. */
void sampler_announce(const struct sampler *sampler, int64_t index);

/* Sets in fixed shares: at every place of a run each has given as many sequences as its weight says, to about one. */
struct blend {
    struct context *context;
    int count;
    double *weights; /* [count], their sum is 1; owned */
    int64_t *taken;  /* [count] of the sequences before `next`; owned */
    int64_t next;
};

/* Weights are above 0. To be destroyed whatever comes back. */
enum status blend_create(struct context *context, const double *weights, int count, struct blend *blend) MUST_USE;
void blend_destroy(struct blend *blend);

/* The set that sequence `index` of the run comes from; *place is its number among those of the set. Quick where indices
 * rise from call to call; one that falls is counted from the first again. */
int blend_at(struct blend *blend, int64_t index, int64_t *place);

/* For evaluation: passages of `length` inputs, one behind the other; the last of a text may be short. As in training a
 * text is the whole corpus with SAMPLING_SHUFFLE, and with SAMPLING_STREAM each document, which no passage leaves. Each
 * token of a text but the first is a target exactly once. */
struct corpus_passages {
    const struct corpus *corpus;
    int64_t length;
    int64_t count;
    int64_t longest; /* inputs */
    int64_t *before; /* SAMPLING_STREAM: [documents + 1] passages in front of each document; owned */
};

/* Texts of fewer than two tokens have none, so the count may be 0. */
enum status corpus_passages_create(struct context *context, const struct corpus *corpus, enum data_sampling sampling,
                                   int64_t length, struct corpus_passages *passages) MUST_USE;
void corpus_passages_destroy(struct corpus_passages *passages);

/* The inputs of passage `index`: tokens of the corpus, each followed by its target. */
struct range corpus_passage(const struct corpus_passages *passages, int64_t index);

/* `count` inputs from token `begin` on, and the targets that follow them; inputs [length] and targets [length] as in
 * sampler_sequence. Returns how many of the targets count. */
int64_t corpus_part(const struct corpus *corpus, int64_t begin, int64_t count, int64_t length, int32_t *inputs,
                    int32_t *targets);

/* A file of samples: the bytes "cairn-samples", zeros up to 16 bytes; int64 version (1), samples, length, answer; then
 * the samples, each `length` bytes that end with `answer` bytes of answer. Little-endian. `sample` fills in each. */
enum status samples_write(struct context *context, const char *path, int64_t samples, int64_t length, int64_t answer,
                          void (*sample)(const void *self, int64_t index, unsigned char *bytes),
                          const void *self) MUST_USE;

#endif
