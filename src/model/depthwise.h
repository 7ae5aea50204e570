/* Continuous depth-wise batching (Relaxed Recursive Transformers, arXiv 2410.20672; Mixture-of-Recursions, appendix E):
 * when sequences are generated, a row of the batch has one token under way, and tokens of all rows pass the shared
 * layers together, each in the recursion that it has come to. One that leaves makes room for the row's next token at
 * once, so that the products over shared layers always have a full batch. */
#ifndef CAIRN_MODEL_DEPTHWISE_H
#define CAIRN_MODEL_DEPTHWISE_H

#include "src/model/decoder.h"

struct depthwise;

/* Whether it can be done and there is something to gain: routed recursions, all of them on one stage. */
bool depthwise_fits(const struct decoder *decoder);

/* For the rows of a cache. To be destroyed whatever comes back. */
enum status depthwise_create(struct decoder *decoder, int64_t rows, struct depthwise **depthwise) MUST_USE;
void depthwise_destroy(struct depthwise **depthwise);

/* Starts the tokens of the input, one in each row that has one and none under way; then passes the shared layers once
 * with all tokens under way, and finishes those that leave: left [rows] says which, and input->see_logits is shown
 * theirs in the order of the rows. The input is as for decoder_forward with a
 * cache. At least one token must be under way or start.
 * Collective over the tensor axis, on which sizes do not depend on who leaves. False with the context's error. */
bool depthwise_forward(struct depthwise *depthwise, struct tape *tape, const struct decoder_input *input,
                       uint8_t *left);

#endif
