/* Token corpora: memory-mapped, random access. What a step sees depends on the seed and on the number of sequences
 * drawn before it alone, so every rank of every mesh can compute it without a message. */
#ifndef CAIRN_IO_DATA_H
#define CAIRN_IO_DATA_H

#include "src/core/config.h"
#include "src/core/context.h"

struct corpus;

/* Opens files as one corpus. `part_begin` and `part_end` in [0, 1] cut it to a share of its tokens, so that one text
 * can be both training and validation data. FILE error that names the file and what is wrong with it: missing, a
 * directory, empty, truncated, a token not below `vocabulary`, too short for one sequence. */
enum status corpus_open(struct context *context, const struct text_list *files, enum data_format format,
                        int64_t vocabulary, double part_begin, double part_end, struct corpus **corpus) MUST_USE;
void corpus_close(struct corpus **corpus);

int64_t corpus_tokens(const struct corpus *corpus);
int64_t corpus_documents(const struct corpus *corpus);

/* How sequences are drawn. SAMPLING_SHUFFLE: every window of the corpus once per epoch, in an order of the seed, the
 * windows' start shifted by the seed each epoch. SAMPLING_STREAM: each of `streams` reads whole documents in an order
 * of the seed, window after window; a window never crosses into the next document: what is left is padding. */
struct sampler {
    const struct corpus *corpus;
    enum data_sampling sampling;
    uint64_t seed;
    int64_t length;  /* T: inputs per sequence */
    int64_t streams; /* rows of a batch */
};

/* One sequence: tokens [T + 1] for inputs 0..T-1 and targets 1..T. */
struct sequence {
    int64_t document; /* of its first token */
    int64_t stream;
    int64_t position; /* of its first token in its document */
    bool reset;       /* does not continue what the stream read before */
    int64_t targets;  /* how many targets count; the rest is padding */
};

/* FILE error if the corpus has no window of this length. */
enum status sampler_create(struct context *context, const struct corpus *corpus, const struct data_config *config,
                           int64_t length, int64_t streams, struct sampler *sampler) MUST_USE;

/* Sequence number `index` of the run (index = sequences drawn before; row = index % streams). inputs [T] and targets
 * [T] may be NULL when only the description is wanted; padding has input 0 and target -1. */
void sampler_sequence(const struct sampler *sampler, int64_t index, int32_t *inputs, int32_t *targets,
                      struct sequence *sequence);

/* For evaluation: the corpus in order, window after window of `length` targets, each token a target exactly once
 * (except the first of all); the last window may be short. Count and content. */
int64_t corpus_windows(const struct corpus *corpus, int64_t length);
void corpus_window(const struct corpus *corpus, int64_t length, int64_t index, int32_t *inputs, int32_t *targets,
                   int64_t *target_count);

#endif
