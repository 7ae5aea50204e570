/* What the tests of attention share: the shape of rows of one length. */
#ifndef CAIRN_TESTS_UNIT_ATTENTION_SUPPORT_H
#define CAIRN_TESTS_UNIT_ATTENTION_SUPPORT_H

#include "tests/unit/ops_support.h"

/* Query i of a row sees the keys 0 .. i + keys_length - length of that row. */
struct rows_shape {
    int64_t rows, length, keys_length;
    int64_t heads, kv_heads, width;
    const int32_t *kv_of_head;
};

static inline struct tensor *rows_attend(struct tape *tape, struct tensor *const *input, const struct rows_shape *s)
{
    struct attention_shape shape = {.spans = s->rows,
                                    .span = attention_rows(tape, s->rows, s->length, s->keys_length),
                                    .heads = s->heads,
                                    .kv_heads = s->kv_heads,
                                    .width = s->width,
                                    .kv_of_head = s->kv_of_head};
    return attention(tape, input[0], input[1], input[2], &shape);
}

#endif
