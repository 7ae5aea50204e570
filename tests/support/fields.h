/* The fields of a decoder's batch. */
#ifndef CAIRN_TESTS_FIELDS_H
#define CAIRN_TESTS_FIELDS_H

#include "src/model/decoder_model.h"

static inline int32_t *batch_tokens(const struct batch *batch)
{
    return batch_field(batch, "tokens");
}

static inline int32_t *batch_targets(const struct batch *batch)
{
    return batch_field(batch, "targets");
}

static inline int64_t *batch_valid(const struct batch *batch)
{
    return batch_field(batch, "valid");
}

#endif
