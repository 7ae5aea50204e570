/* The mean loss over a corpus, in passages that each begin without a past, and end where a document does if training
 * reads documents apart (corpus_passages). With Infini-attention a passage may be longer than what is passed at once
 * (batch.length): it goes through in windows, and the memory is carried from one to the next, so that its length costs
 * no space. */
#ifndef CAIRN_EVALUATE_H
#define CAIRN_EVALUATE_H

#include "io/data/data.h"
#include "src/evaluate/evaluator.h"

struct evaluation_plan {
    int64_t context_length; /* tokens of a passage; 0 is the batch's length, and without a memory it cannot be more */
    int64_t batches;        /* at most so many batches of passages, spread evenly over the corpus; 0 is all of it */
    bool whole_routes;      /* where depth_is_routed: routers choose for whole windows, looking at later tokens */
    bool memory_off;        /* attention sees its own segment only */
    enum data_sampling sampling; /* of training */
    const int32_t *token_bytes;  /* [vocabulary] of text that each token stands for; NULL: a byte, or not known */
    double *confusion; /* of images: [classes, classes], how often a label was taken for a class; NULL: nobody asks */
    /* Told on every rank how many of all passes are done; NULL: nobody follows. */
    void (*follow)(void *self, int64_t done, int64_t all);
    void *self;
};

struct evaluation {
    double loss;     /* nats per target; not a number without any */
    int64_t targets; /* tokens that were predicted, or images */
    int64_t bytes;   /* of text that these tokens stand for; 0: not known */
    double accuracy; /* of images: share whose label has the largest score, and one of the five largest */
    double accuracy5;
    int64_t bad;    /* images of this rank that could not be read */
    int64_t tokens; /* that were read, without padding */
    double seconds;
    double processor_seconds; /* of this rank's process, in which other work on the machine does not count */
    bool stopped;             /* by a vote, behind one of the batches: the rest says nothing */
};

/* What it found, as in "held-out loss 1.2345 nats a token (perplexity 3.44) over 1000 tokens". */
void evaluation_describe(const struct evaluation *evaluation, const struct config *config, char *text, size_t size);

/* Bits a byte, which compare whatever the tokenizer; not a number where bytes are not known. */
double evaluation_bits_per_byte(const struct evaluation *evaluation);

/* Elements of the table of confusion that metrics and reports have room for; 0: there is none. */
int64_t evaluation_confusion(const struct config *config);

/* USAGE error if a model cannot read passages of that length in windows of `window` tokens, which says what fits. */
enum status evaluation_check(struct context *context, const struct model_config *config, int64_t length,
                             int64_t window) MUST_USE;

/* Passages are read side by side in the rows of the evaluator's batch. Collective. */
enum status evaluate(struct evaluator *evaluator, const struct corpus *corpus, const struct evaluation_plan *plan,
                     struct evaluation *evaluation) MUST_USE;

#endif
