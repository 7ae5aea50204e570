/* Inside of a decoder; for this folder only. */
#ifndef CAIRN_MODEL_DECODER_PRIVATE_H
#define CAIRN_MODEL_DECODER_PRIVATE_H

#include "src/model/decoder.h"

struct decoder_cache {
    int64_t capacity;
    int64_t length;
    void **keys; /* [blocks of this rank] of [capacity, kv heads * head width] */
    void **values;
    int blocks;
};

/* Declares all parameters, in the order of the forward pass, and allocates this rank's. */
enum status decoder_declare(struct decoder *decoder, int64_t bucket_bytes, bool trains) MUST_USE;

int decoder_block_count(const struct decoder *decoder);

#endif
