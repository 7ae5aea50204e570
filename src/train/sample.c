#include "src/train/sample.h"

#include <stdio.h>
#include <string.h>

#include "src/train/generate.h"

static void print_byte(void *self, int64_t continuation, int32_t token)
{
    (void)continuation;
    const bool *speaks = self;
    if (*speaks) {
        putchar(token);
        fflush(stdout);
    }
}

enum status sample_show(struct trainer *trainer, bool speaks)
{
    const struct config *config = trainer->config;
    const struct run_config *run = &config->run;
    struct context *context = trainer->context;
    int32_t prompt[TEXT_LENGTH];
    int64_t length = (int64_t)strlen(run->prompt);
    struct sampling sampling = {.temperature = 0.7, .top_p = 1.0, .seed = config->training.seed};
    if (length == 0 || run->prompt_tokens == 0 || config->model.vocabulary != 256)
        return STATUS_OK;
    for (int64_t i = 0; i < length; i++)
        prompt[i] = (unsigned char)run->prompt[i];
    int32_t *tokens = memory_allocate(context, (size_t)run->prompt_tokens * sizeof *tokens, MEMORY_OTHER);
    if (!tokens)
        team_abort(1);
    if (speaks)
        printf("\n%s", run->prompt);
    place_work(&context->place, PLACE_END);
    struct continuation continuation = {
        .prompt = prompt, .prompt_count = length, .count = run->prompt_tokens, .tokens = tokens};
    enum status status = generate(trainer, &sampling, &continuation, 1, 1, print_byte, &speaks);
    if (speaks)
        printf("\n");
    memory_free(context, tokens);
    return status;
}
