#include "src/train/sample.h"

#include <stdio.h>
#include <string.h>

#include "src/generate/generate.h"

struct shown {
    bool speaks;
    int64_t count;                 /* of tokens */
    struct decoder_stream *stream; /* NULL: tokens are bytes */
    struct bytes text;
};

static bool wants_stop(void *self)
{
    const struct trainer *trainer = self;
    double votes[VOTES] = {0.0};
    if (trainer->evaluator.voter.cast)
        trainer->evaluator.voter.cast(trainer->evaluator.voter.self, votes);
    return votes[VOTE_STOP] > 0.0;
}

static void print_token(void *self, int64_t continuation, int32_t token)
{
    (void)continuation;
    struct shown *shown = self;
    shown->count++;
    if (!shown->speaks)
        return;
    if (!shown->stream) {
        putchar(token);
    } else {
        shown->text.count = 0;
        context_keep(shown->text.context, decoder_stream_push(shown->stream, token, &shown->text));
        fwrite(shown->text.data, 1, (size_t)shown->text.count, stdout);
    }
    fflush(stdout);
}

/* The prompt as tokens; none if there is no way to make them. */
static enum status read_prompt(struct trainer *trainer, const struct tokenizer *tokenizer, struct token_list *prompt)
{
    struct context *context = trainer->context;
    const char *text = trainer->config->run.prompt;
    struct encoder *encoder = NULL;
    int64_t length = (int64_t)strlen(text);
    if (tokenizer) {
        CHECK(encoder_create(context, tokenizer, &encoder));
        enum status status =
            encoder_encode(encoder, text, length, (struct encoding){.specials = true, .frame = true}, prompt);
        encoder_destroy(&encoder);
        return status;
    }
    if (trainer->config->model.vocabulary != 256)
        return STATUS_OK;
    CHECK(array_grow(context, &prompt->ids, 0, &prompt->room, length, sizeof *prompt->ids));
    for (; prompt->count < length; prompt->count++)
        prompt->ids[prompt->count] = (unsigned char)text[prompt->count];
    return STATUS_OK;
}

static enum status show(struct trainer *trainer, const struct token_list *prompt, struct shown *shown)
{
    const struct config *config = trainer->config;
    const struct run_config *run = &config->run;
    struct context *context = trainer->context;
    struct sampling sampling = {
        .temperature = 0.7, .top_p = 1.0, .seed = config->training.seed, .stops = wants_stop, .stops_self = trainer};
    int64_t kept = config->training.sequence_length; /* however many tokens there will be */
    int32_t *tokens = memory_allocate(context, (size_t)kept * sizeof *tokens, MEMORY_OTHER);
    CHECK(mesh_agree(trainer->mesh, context, context->status));
    if (shown->speaks)
        printf("\n%s", run->prompt);
    location_work(&context->location, LOCATION_END);
    struct continuation continuation = {.prompt = prompt->ids,
                                        .prompt_count = prompt->count,
                                        .count = run->prompt_tokens,
                                        .tokens = tokens,
                                        .kept = kept};
    enum status status = generate(&trainer->session, &sampling, &continuation, 1, 1, print_token, shown);
    shown->text.count = 0;
    if (shown->speaks && shown->stream && status == STATUS_OK) {
        status = decoder_stream_finish(shown->stream, &shown->text);
        fwrite(shown->text.data, 1, (size_t)shown->text.count, stdout);
    }
    if (shown->speaks)
        printf("\n");
    if (status == STATUS_OK && shown->count < run->prompt_tokens)
        context_log(context, "stopped after %lld of the %lld tokens of run.prompt_tokens; the run is finished",
                    (long long)shown->count, (long long)run->prompt_tokens);
    memory_free(context, tokens);
    return status;
}

enum status sample_show(struct trainer *trainer, const struct tokenizer *tokenizer, bool speaks)
{
    const struct run_config *run = &trainer->config->run;
    struct context *context = trainer->context;
    struct token_list prompt = {0};
    struct shown shown = {.speaks = speaks, .text = {.context = context}};
    if (run->prompt[0] == '\0' || run->prompt_tokens == 0)
        return STATUS_OK;
    enum status status = read_prompt(trainer, tokenizer, &prompt);
    if (status == STATUS_OK && tokenizer)
        status = decoder_stream_create(context, tokenizer, true, &shown.stream);
    status = mesh_agree(trainer->mesh, context, status);
    if (status == STATUS_OK && prompt.count > 0)
        status = show(trainer, &prompt, &shown);
    decoder_stream_destroy(&shown.stream);
    bytes_release(&shown.text);
    token_list_release(context, &prompt);
    return status;
}
