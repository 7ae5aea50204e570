#include "src/train/sample.h"

#include <stdio.h>
#include <string.h>

#include "src/generate/generate.h"

struct shown {
    bool speaks;
    int64_t count; /* of tokens */
};

static bool wants_stop(void *self)
{
    const struct trainer *trainer = self;
    double votes[VOTES] = {0.0};
    if (trainer->evaluator.voter.cast)
        trainer->evaluator.voter.cast(trainer->evaluator.voter.self, votes);
    return votes[VOTE_STOP] > 0.0;
}

static void print_byte(void *self, int64_t continuation, int32_t token)
{
    (void)continuation;
    struct shown *shown = self;
    shown->count++;
    if (shown->speaks) {
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
    struct sampling sampling = {
        .temperature = 0.7, .top_p = 1.0, .seed = config->training.seed, .stops = wants_stop, .stops_self = trainer};
    if (length == 0 || run->prompt_tokens == 0 || config->model.vocabulary != 256)
        return STATUS_OK;
    for (int64_t i = 0; i < length; i++)
        prompt[i] = (unsigned char)run->prompt[i];
    int64_t kept = config->training.sequence_length; /* however many tokens there will be */
    int32_t *tokens = memory_allocate(context, (size_t)kept * sizeof *tokens, MEMORY_OTHER);
    CHECK(mesh_agree(trainer->mesh, context, context->status));
    if (speaks)
        printf("\n%s", run->prompt);
    location_work(&context->location, LOCATION_END);
    struct continuation continuation = {
        .prompt = prompt, .prompt_count = length, .count = run->prompt_tokens, .tokens = tokens, .kept = kept};
    struct shown shown = {.speaks = speaks};
    enum status status = generate(&trainer->session, &sampling, &continuation, 1, 1, print_byte, &shown);
    if (speaks)
        printf("\n");
    if (status == STATUS_OK && shown.count < run->prompt_tokens)
        context_log(context, "stopped after %lld of the %lld tokens of run.prompt_tokens; the run is finished",
                    (long long)shown.count, (long long)run->prompt_tokens);
    memory_free(context, tokens);
    return status;
}
