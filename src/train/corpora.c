#include "src/train/corpora.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/core/sample.h"
#include "src/prepare/tokenize.h"
#include "src/train/run_folder.h"

static enum status share_documents(struct context *context, struct mesh *mesh, struct corpus *corpus)
{
    bool reads = mesh_rank(mesh, MESH_TEAM) == 0;
    CHECK(mesh_agree(mesh, context, reads ? corpus_scan(corpus) : STATUS_OK));
    int64_t count = reads ? corpus_documents(corpus) : 0;
    mesh_broadcast(mesh, MESH_TEAM, 0, &count, 1, DTYPE_I64);
    CHECK(mesh_agree(mesh, context, reads ? STATUS_OK : corpus_take_documents(corpus, count)));
    mesh_broadcast(mesh, MESH_TEAM, 0, corpus_document_list(corpus), count, DTYPE_I64);
    return STATUS_OK;
}

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t count = strlen(end);
    return length > count && strcmp(name + length - count, end) == 0;
}

/* A file that is there and is not named as files of tokens are. */
static bool is_text(const char *name)
{
    struct stat entry;
    return !ends_in(name, ".bin") && !ends_in(name, ".idx") && stat(name, &entry) == 0 && S_ISREG(entry.st_mode);
}

enum status corpora_tokenizer(struct context *context, const struct text_list *files, char hash[TOKENIZER_HASH])
{
    struct corpus_names names;
    enum status status = corpus_names_create(context, files, &names);
    hash[0] = '\0';
    for (int i = 0; status == STATUS_OK && i < names.count && !hash[0]; i++) {
        struct token_card card = {.tokens = 0};
        if (!is_text(names.name[i]))
            status = token_card_read(context, names.name[i], &card);
        memcpy(hash, card.tokenizer, TOKENIZER_HASH);
    }
    corpus_names_destroy(context, &names);
    return status;
}

/* -- Texts that become tokens when a run starts -- */

static enum status check_cards(struct context *context, const struct corpus_names *names,
                               const struct tokenizer *tokenizer)
{
    for (int i = 0; i < names->count; i++) {
        struct token_card card;
        CHECK(token_card_read(context, names->name[i], &card));
        if (card.tokenizer[0] && strcmp(card.tokenizer, tokenizer_hash(tokenizer)) != 0)
            return context_fail(context, STATUS_FILE,
                                "%s: its tokens are of the tokenizer %s, but data.tokenizer is %s; make them anew with "
                                "`cairn data tokenize`, or name the tokenizer that made them",
                                names->name[i], card.tokenizer, tokenizer_hash(tokenizer));
    }
    return STATUS_OK;
}

/* Which texts there are among the names: all or none. */
static enum status find_texts(struct context *context, const struct corpus_names *names, bool *texts)
{
    int count = 0;
    for (int i = 0; i < names->count; i++)
        count += is_text(names->name[i]);
    *texts = count > 0;
    if (count > 0 && count < names->count)
        return context_fail(context, STATUS_USAGE,
                            "data.train, data.validation: with data.tokenizer name texts or files of tokens, not both");
    return STATUS_OK;
}

/* RUN/tokens/KEY: by the tokenizer, the token behind documents, and what the texts hold. */
static void name_tokens(const struct config *config, const struct tokenizer *tokenizer,
                        const struct corpus_names *names, int32_t end, char prefix[TEXT_LENGTH])
{
    uint64_t key = sample_hash(SAMPLE_HASH_BEGIN, tokenizer_hash(tokenizer), TOKENIZER_HASH);
    key = sample_hash(key, &end, sizeof end);
    for (int i = 0; i < names->count; i++) {
        char words[96];
        sample_describe(names->name[i], words, sizeof words);
        key = sample_hash(key, words, strlen(words));
    }
    snprintf(prefix, TEXT_LENGTH, "%.400s/tokens/%016" PRIx64, config->run.folder, key);
}

/* Every rank knows whether they are there by what rank 0 sees. */
static enum status make_tokens(struct context *context, struct mesh *mesh, const struct config *config,
                               const struct tokenizer *tokenizer, const struct corpus_names *names,
                               char prefix[TEXT_LENGTH])
{
    char path[TEXT_LENGTH + 16];
    int64_t there = 0;
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    struct tokenize_result result;
    struct tokenize_options options = {.prefix = prefix, .documents = {.field = "text"}, .begin = -1};
    options.end = config->data.eot >= 0 ? (int32_t)config->data.eot : tokenizer_end(tokenizer);
    name_tokens(config, tokenizer, names, options.end, prefix);
    snprintf(path, sizeof path, "%s.idx", prefix);
    there = first && access(path, F_OK) == 0;
    mesh_broadcast(mesh, MESH_TEAM, 0, &there, 1, DTYPE_I64);
    if (there)
        return STATUS_OK;
    snprintf(path, sizeof path, "%.400s/tokens", config->run.folder);
    CHECK(mesh_agree(mesh, context, first ? run_folder_make(context, path) : STATUS_OK));
    CHECK(tokenize_files(context, mesh, tokenizer, names->name, names->count, &options, &result));
    context_log(context, "tokens: %lld of %lld bytes in %d file%s, %.1f MB/s: %s.bin", (long long)result.tokens,
                (long long)result.bytes, names->count, names->count == 1 ? "" : "s",
                1e-6 * (double)result.bytes / result.seconds, prefix);
    return STATUS_OK;
}

/* The files that are to be opened in place of `files`. */
static enum status take_texts(struct context *context, struct mesh *mesh, const struct config *config,
                              const struct tokenizer *tokenizer, const struct text_list *files, struct text_list *taken,
                              enum data_format *format)
{
    struct corpus_names names = {0};
    bool texts = false;
    *taken = *files;
    enum status status = corpus_names_create(context, files, &names);
    if (status == STATUS_OK)
        status = check_cards(context, &names, tokenizer);
    if (status == STATUS_OK && *format == DATA_AUTO)
        status = find_texts(context, &names, &texts);
    TRY(mesh_agree(mesh, context, status));
    if (!texts)
        goto done;
    taken->count = 1;
    *format = DATA_MEGATRON;
    status = make_tokens(context, mesh, config, tokenizer, &names, taken->item[0]);
done:
    corpus_names_destroy(context, &names);
    return status;
}

enum status corpora_open(struct context *context, struct mesh *mesh, const struct config *config,
                         const struct tokenizer *tokenizer, const struct text_list *files, double begin, double end,
                         struct corpus **corpus)
{
    const struct data_config *data = &config->data;
    enum data_format format = data->format;
    struct text_list *taken = memory_allocate(context, sizeof *taken, MEMORY_OTHER);
    enum status status = mesh_agree(mesh, context, taken ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK && tokenizer)
        status = take_texts(context, mesh, config, tokenizer, files, taken, &format);
    if (status == STATUS_OK)
        status = mesh_agree(mesh, context,
                            corpus_map(context, tokenizer ? taken : files, format, config->model.vocabulary, data->eot,
                                       begin, end, corpus));
    memory_free(context, taken);
    return status == STATUS_OK ? share_documents(context, mesh, *corpus) : status;
}
