/* Text at the end of a run, to see what a model has learned. */
#ifndef CAIRN_TRAIN_SAMPLE_H
#define CAIRN_TRAIN_SAMPLE_H

#include "io/tokenizer/tokenizer.h"
#include "src/train/trainer.h"

/* Continues run.prompt by run.prompt_tokens on standard output of the rank that speaks; nothing if there is no prompt
 * or tokens are neither bytes nor of a tokenizer (NULL: none). A stop that the evaluator's voter asks for ends it
 * early. Collective; agreed status. */
enum status sample_show(struct trainer *trainer, const struct tokenizer *tokenizer, bool speaks) MUST_USE;

#endif
