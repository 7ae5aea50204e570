/* Integers of a file as tokens. */
#include "io/data/corpus_files.h"

#include <string.h>

int64_t token_bytes(enum token_kind kind)
{
    static const int64_t bytes[] = {
        [TOKEN_UINT8] = 1, [TOKEN_INT8] = 1,   [TOKEN_INT16] = 2,  [TOKEN_INT32] = 4,
        [TOKEN_INT64] = 8, [TOKEN_UINT16] = 2, [TOKEN_UINT32] = 4,
    };
    return bytes[kind];
}

/* Files give no alignment, hence the copies; the compiler makes plain loads of them. */
static inline int64_t token_load(enum token_kind kind, const unsigned char *address)
{
    switch (kind) {
    case TOKEN_UINT8:
        return address[0];
    case TOKEN_INT8: {
        int8_t value;
        memcpy(&value, address, sizeof value);
        return value;
    }
    case TOKEN_INT16: {
        int16_t value;
        memcpy(&value, address, sizeof value);
        return value;
    }
    case TOKEN_INT32: {
        int32_t value;
        memcpy(&value, address, sizeof value);
        return value;
    }
    case TOKEN_INT64: {
        int64_t value;
        memcpy(&value, address, sizeof value);
        return value;
    }
    case TOKEN_UINT16: {
        uint16_t value;
        memcpy(&value, address, sizeof value);
        return value;
    }
    case TOKEN_UINT32: {
        uint32_t value;
        memcpy(&value, address, sizeof value);
        return value;
    }
    }
    return -1;
}

int64_t token_value(enum token_kind kind, const unsigned char *address)
{
    return token_load(kind, address);
}

static inline void decode(enum token_kind kind, int64_t bytes, const unsigned char *address, int64_t count,
                          int64_t limit, int32_t *tokens)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t value = token_load(kind, address + i * bytes);
        tokens[i] = value >= 0 && value < limit ? (int32_t)value : -1;
    }
}

/* One loop for each kind, so that the choice is made outside of it. */
void tokens_decode(enum token_kind kind, const unsigned char *address, int64_t count, int64_t limit, int32_t *tokens)
{
    switch (kind) {
    case TOKEN_UINT8:
        decode(TOKEN_UINT8, 1, address, count, limit, tokens);
        break;
    case TOKEN_INT8:
        decode(TOKEN_INT8, 1, address, count, limit, tokens);
        break;
    case TOKEN_INT16:
        decode(TOKEN_INT16, 2, address, count, limit, tokens);
        break;
    case TOKEN_INT32:
        decode(TOKEN_INT32, 4, address, count, limit, tokens);
        break;
    case TOKEN_INT64:
        decode(TOKEN_INT64, 8, address, count, limit, tokens);
        break;
    case TOKEN_UINT16:
        decode(TOKEN_UINT16, 2, address, count, limit, tokens);
        break;
    case TOKEN_UINT32:
        decode(TOKEN_UINT32, 4, address, count, limit, tokens);
        break;
    }
}
