/* Any bytes as a tokenizer.json and a text: the file is refused with its name, or its tokens of the text are known
 * ones, and what they stand for is UTF-8. The first two bytes say where the text begins. */
#include "io/tokenizer/tokenizer.h"
#include "src/core/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void decode(struct context *context, const struct tokenizer *tokenizer, const struct token_list *tokens)
{
    struct decoder_stream *stream = NULL;
    struct bytes text = {.context = context};
    size_t bad;
    bool cut;
    require(decoder_stream_create(context, tokenizer, false, &stream) == STATUS_OK);
    for (int64_t i = 0; i < tokens->count; i++) {
        int64_t length;
        require(tokenizer_text(tokenizer, tokens->ids[i], &length) != NULL);
        require(decoder_stream_push(stream, tokens->ids[i], &text) == STATUS_OK);
    }
    require(decoder_stream_finish(stream, &text) == STATUS_OK);
    (void)utf8_valid(text.data, (size_t)text.count, &bad, &cut);
    require(bad == 0);
    decoder_stream_destroy(&stream);
    bytes_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct context context;
    struct tokenizer *tokenizer = NULL;
    struct encoder *encoder = NULL;
    struct token_list tokens = {0};
    if (count < 2)
        return 0;
    size_t cut = 2 + (size_t)(bytes[0] << 8 | bytes[1]) % (count - 1);
    context_create(&context);
    if (tokenizer_parse(&context, "fuzz.json", (const char *)bytes + 2, (int64_t)(cut - 2), &tokenizer) != STATUS_OK) {
        require(context.status == STATUS_FILE && strstr(context.text, "fuzz.json"));
    } else {
        require(encoder_create(&context, tokenizer, &encoder) == STATUS_OK);
        enum status status =
            encoder_encode(encoder, (const char *)bytes + cut, (int64_t)(count - cut),
                           (struct encoding){.specials = bytes[0] & 1, .frame = bytes[1] & 1}, &tokens);
        require(status == STATUS_OK || status == STATUS_FILE);
        if (status == STATUS_OK)
            decode(&context, tokenizer, &tokens);
    }
    encoder_destroy(&encoder);
    tokenizer_close(&tokenizer);
    token_list_release(&context, &tokens);
    require(context.memory.bytes_total == 0);
    return 0;
}
