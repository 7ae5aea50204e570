/* `cairn tokenizer`: texts to tokens and back, and what a tokenizer is. */
#include <stdio.h>
#include <string.h>

#include "io/tokenizer/tokenizer.h"
#include "src/cli/command.h"
#include "src/cli/input.h"

struct tokenizer_run {
    struct command *command;
    const char *text, *ids;
    bool special, frame, pieces;
    const char *file; /* to read; "-" */
    struct tokenizer *tokenizer;
    struct encoder *encoder;
    struct decoder_stream *stream;
    struct bytes input, output;
    struct token_list tokens;
};

static void print_piece(const struct tokenizer *tokenizer, int32_t id)
{
    int64_t length = 0;
    const char *text = tokenizer_text(tokenizer, id, &length);
    printf("%8d  %.*s\n", (int)id, (int)length, text ? text : "");
}

static enum status run_encode(struct tokenizer_run *run)
{
    struct context *context = &run->command->context;
    const struct encoding encoding = {.specials = run->special, .frame = run->frame};
    if (run->text)
        CHECK(bytes_add(&run->input, run->text, (int64_t)strlen(run->text)));
    else
        CHECK(input_read(context, run->file, &run->input));
    CHECK(encoder_create(context, run->tokenizer, &run->encoder));
    CHECK(encoder_encode(run->encoder, run->input.data, run->input.count, encoding, &run->tokens));
    for (int64_t i = 0; i < run->tokens.count; i++)
        if (run->pieces)
            print_piece(run->tokenizer, run->tokens.ids[i]);
        else
            printf("%s%d", i > 0 ? " " : "", (int)run->tokens.ids[i]);
    if (!run->pieces)
        putchar('\n');
    if (encoder_replaced(run->encoder) > 0)
        context_log(context, "%s: %lld parts are no UTF-8 and were read as U+FFFD", run->text ? "--text" : run->file,
                    (long long)encoder_replaced(run->encoder));
    return STATUS_OK;
}

static enum status run_decode(struct tokenizer_run *run)
{
    struct context *context = &run->command->context;
    int64_t largest = tokenizer_size(run->tokenizer) - 1;
    struct bytes numbers = {.context = context};
    enum status status = STATUS_OK;
    if (!run->ids) {
        TRY(input_read(context, run->file, &run->input));
        TRY(bytes_add(&run->input, "", 1));
    }
    TRY(input_numbers(context, run->ids ? "--ids" : run->file, run->ids ? run->ids : run->input.data, largest,
                      &numbers));
    TRY(decoder_stream_create(context, run->tokenizer, !run->special, &run->stream));
    for (int64_t i = 0; i < numbers.count; i += (int64_t)sizeof(int32_t)) {
        int32_t id;
        memcpy(&id, numbers.data + i, sizeof id);
        TRY(decoder_stream_push(run->stream, id, &run->output));
    }
    TRY(decoder_stream_finish(run->stream, &run->output));
    fwrite(run->output.data, 1, (size_t)run->output.count, stdout);
    if (run->ids)
        putchar('\n');
done:
    bytes_release(&numbers);
    return status;
}

static enum status run_inspect(struct tokenizer_run *run)
{
    CHECK(tokenizer_describe(run->tokenizer, &run->output));
    fwrite(run->output.data, 1, (size_t)run->output.count, stdout);
    return STATUS_OK;
}

static enum status run_tool(struct tokenizer_run *run, const char *tool, const char *path)
{
    CHECK(tokenizer_open(&run->command->context, path, &run->tokenizer));
    if (strcmp(tool, "encode") == 0)
        return run_encode(run);
    return strcmp(tool, "decode") == 0 ? run_decode(run) : run_inspect(run);
}

static bool is_tool(const char *word)
{
    return strcmp(word, "encode") == 0 || strcmp(word, "decode") == 0 || strcmp(word, "inspect") == 0;
}

enum status command_tokenizer(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    if (argc > 0 && strcmp(argv[0], "train") == 0)
        return command_tokenizer_train(command, argc, argv);
    struct tokenizer_run run = {.command = command, .input = {.context = context}, .output = {.context = context}};
    const char *words[3]; /* the tool, a tokenizer, a file */
    int count;
    const struct option_row rows[] = {
        {"--text", &run.text, NULL},   {"--ids", &run.ids, NULL},       {"--special", NULL, &run.special},
        {"--frame", NULL, &run.frame}, {"--pieces", NULL, &run.pieces},
    };
    CHECK(command_parse(command, argc, argv, rows, (int)(sizeof rows / sizeof *rows), words, 3, &count));
    if (count < 2 || !is_tool(words[0]))
        return context_fail(context, STATUS_USAGE,
                            "tokenizer: say `encode`, `decode`, `inspect` or `train`, and a tokenizer.json; see `cairn "
                            "tokenizer --help`");
    run.file = count > 2 ? words[2] : "-";
    enum status status = command->rank == 0 ? run_tool(&run, words[0], words[1]) : STATUS_OK;
    decoder_stream_destroy(&run.stream);
    encoder_destroy(&run.encoder);
    tokenizer_close(&run.tokenizer);
    token_list_release(context, &run.tokens);
    bytes_release(&run.input);
    bytes_release(&run.output);
    return team_agree(command->team, context, status);
}
