/* A text to tokens: added tokens, normalisation, pieces, and the model on each. */
#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

static enum status create_states(struct encoder *encoder)
{
    struct context *context = encoder->context;
    const struct tokenizer *tokenizer = encoder->tokenizer;
    for (int i = 0; i < tokenizer->normalize_count; i++)
        if (tokenizer->normalize[i].pattern)
            CHECK(pattern_state_create(context, tokenizer->normalize[i].pattern, &encoder->normalize_states[i]));
    for (int i = 0; i < tokenizer->split_count; i++)
        if (tokenizer->split[i].pattern)
            CHECK(pattern_state_create(context, tokenizer->split[i].pattern, &encoder->split_states[i]));
    return word_cache_create(context, &encoder->cache);
}

enum status encoder_create(struct context *context, const struct tokenizer *tokenizer, struct encoder **encoder)
{
    struct encoder *created = *encoder = memory_allocate(context, sizeof *created, MEMORY_OTHER);
    if (!created)
        return STATUS_MEMORY;
    *created = (struct encoder){.context = context,
                                .tokenizer = tokenizer,
                                .normal = {{.context = context}, {.context = context}},
                                .clean = {.context = context},
                                .letters = {.context = context}};
    for (int i = 0; i < TOKENIZER_STEPS; i++)
        created->split_text[i].context = context;
    enum status status = create_states(created);
    if (status != STATUS_OK)
        encoder_destroy(encoder);
    return status;
}

void encoder_destroy(struct encoder **encoder)
{
    struct encoder *old = *encoder;
    if (!old)
        return;
    struct context *context = old->context;
    for (int i = 0; i < TOKENIZER_STEPS; i++) {
        pattern_state_destroy(context, &old->normalize_states[i]);
        pattern_state_destroy(context, &old->split_states[i]);
        bytes_release(&old->split_text[i]);
    }
    bytes_release(&old->normal[0]);
    bytes_release(&old->normal[1]);
    bytes_release(&old->clean);
    bytes_release(&old->letters);
    memory_free(context, old->work.symbols);
    memory_free(context, old->work.heap);
    word_cache_destroy(context, &old->cache);
    memory_free(context, old->path);
    token_list_release(context, &old->pieces);
    memory_free(context, old);
    *encoder = NULL;
}

int64_t encoder_replaced(const struct encoder *encoder)
{
    return encoder->replaced;
}

static enum status encode_pieces(struct encoder *encoder, const char *text, int64_t length, bool first)
{
    return split_text(encoder, 0, text, length, first);
}

enum status encoder_normalize(struct encoder *encoder, const char **text, int64_t *length, bool *first)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    for (int i = 0; i < tokenizer->normalize_count; i++) {
        struct bytes *to = &encoder->normal[i % 2];
        CHECK(normalize(&tokenizer->normalize[i], encoder->normalize_states[i], *text, *length, to, first));
        *text = to->data;
        *length = to->count;
    }
    return STATUS_OK;
}

/* What lies between added tokens. */
static enum status encode_normalized(struct encoder *encoder, const char *text, int64_t length, bool first)
{
    CHECK(encoder_normalize(encoder, &text, &length, &first));
    return added_split(encoder, &encoder->tokenizer->normalized, text, length, first, encode_pieces);
}

/* The text with U+FFFD for what is no UTF-8. */
static enum status make_clean(struct encoder *encoder, const char **text, int64_t *length)
{
    struct bytes *clean = &encoder->clean;
    size_t bad;
    bool cut;
    size_t valid = utf8_valid(*text, (size_t)*length, &bad, &cut);
    if (bad == 0)
        return STATUS_OK;
    clean->count = 0;
    for (int64_t at = 0;;) {
        CHECK(bytes_add(clean, *text + at, (int64_t)valid));
        at += (int64_t)(valid + bad);
        if (bad == 0)
            break;
        CHECK(bytes_add(clean, UTF8_REPLACEMENT, 3));
        encoder->replaced++;
        valid = utf8_valid(*text + at, (size_t)(*length - at), &bad, &cut);
    }
    *text = clean->data;
    *length = clean->count;
    return STATUS_OK;
}

enum status encoder_encode(struct encoder *encoder, const char *text, int64_t length, struct encoding encoding,
                           struct token_list *tokens)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    struct context *context = encoder->context;
    encoder->specials = encoding.specials;
    encoder->tokens = tokens;
    CHECK(make_clean(encoder, &text, &length));
    if (encoding.frame)
        CHECK(token_list_add(context, tokens, tokenizer->before.ids, tokenizer->before.count));
    CHECK(added_split(encoder, &tokenizer->raw, text, length, true, encode_normalized));
    return encoding.frame ? token_list_add(context, tokens, tokenizer->after.ids, tokenizer->after.count) : STATUS_OK;
}
