#include "src/prepare/run_tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/json/json.h"

bool run_tokenizer_beside(const char *checkpoint, char path[TEXT_LENGTH + 64])
{
    static const char *const places[] = {"tokenizer.json", "../tokenizer.json"};
    const char *slash = strrchr(checkpoint, '/');
    int folder = slash ? (int)(slash - checkpoint) + 1 : 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int length = snprintf(path, TEXT_LENGTH + 64, "%.*s%s", folder, checkpoint, places[i]);
        if (length < TEXT_LENGTH + 64 && access(path, F_OK) == 0)
            return true;
    }
    return false;
}

void run_tokenizer_hash(const char *facts, char hash[TOKENIZER_HASH])
{
    json_t *object = facts && *facts ? json_loads(facts, 0, NULL) : NULL;
    const char *found = json_string_value(json_object_get(object, "tokenizer"));
    hash[0] = '\0';
    if (found && strlen(found) == TOKENIZER_HASH - 1)
        memcpy(hash, found, TOKENIZER_HASH);
    json_decref(object);
}

void run_tokenizer_facts(const char *hash, char facts[TOKENIZER_FACTS])
{
    snprintf(facts, TOKENIZER_FACTS, "{\"tokenizer\": \"%.16s\"}", hash);
}

enum status run_tokenizer_same(struct context *context, const char *what, const char *facts, const char *data_facts)
{
    char known[TOKENIZER_HASH];
    char data[TOKENIZER_HASH];
    run_tokenizer_hash(facts, known);
    run_tokenizer_hash(data_facts, data);
    if (!known[0] || !data[0] || strcmp(known, data) == 0)
        return STATUS_OK;
    return context_fail(context, STATUS_FILE,
                        "%s: was trained on tokens of the tokenizer %s, but the data are of %s (`cairn tokenizer "
                        "inspect` shows the hash); name the same data.tokenizer, or data made by it",
                        what, known, data);
}

enum status run_tokenizer_open(struct context *context, const char *path, int64_t vocabulary, const char *what,
                               const char *facts, struct tokenizer **tokenizer)
{
    char known[TOKENIZER_HASH];
    CHECK(tokenizer_open(context, path, tokenizer));
    enum status status = STATUS_OK;
    run_tokenizer_hash(facts, known);
    if (known[0] && strcmp(known, tokenizer_hash(*tokenizer)) != 0)
        status = context_fail(context, STATUS_FILE,
                              "%s: its hash is %s, but %s was trained with the tokenizer %s; name that one", path,
                              tokenizer_hash(*tokenizer), what, known);
    else if (tokenizer_size(*tokenizer) > vocabulary)
        status = context_fail(context, STATUS_FILE, "%s: it has %lld ids, but model.vocabulary is %lld", path,
                              (long long)tokenizer_size(*tokenizer), (long long)vocabulary);
    if (status != STATUS_OK)
        tokenizer_close(tokenizer);
    return status;
}

enum status run_tokenizer_find(struct context *context, const char *given, const struct config *config,
                               const char *checkpoint, const char *facts, struct tokenizer **tokenizer)
{
    char beside[TEXT_LENGTH + 64];
    const char *path = given;
    *tokenizer = NULL;
    if (!path && run_tokenizer_beside(checkpoint, beside))
        path = beside;
    if (!path && config->data.tokenizer[0])
        path = config->data.tokenizer;
    return path ? run_tokenizer_open(context, path, config->model.vocabulary, checkpoint, facts, tokenizer) : STATUS_OK;
}

static enum status copy(struct context *context, FILE *from, FILE *to, const char *path)
{
    char block[1 << 16];
    for (size_t got; (got = fread(block, 1, sizeof block, from)) > 0;)
        if (fwrite(block, 1, got, to) != got)
            return context_fail(context, STATUS_FILE, "%s: cannot be written: %s", path, strerror(errno));
    return ferror(from) ? context_fail(context, STATUS_FILE, "the tokenizer for %s cannot be read", path) : STATUS_OK;
}

enum status run_tokenizer_keep(struct context *context, const char *path, const char *folder)
{
    char name[TEXT_LENGTH + 600];
    char temporary[sizeof name + 4];
    struct stat source, target;
    snprintf(name, sizeof name, "%.1000s/tokenizer.json", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    if (stat(path, &source) == 0 && stat(name, &target) == 0 && source.st_ino == target.st_ino &&
        source.st_dev == target.st_dev)
        return STATUS_OK;
    FILE *from = fopen(path, "rb");
    FILE *to = from ? fopen(temporary, "wb") : NULL;
    enum status status = STATUS_OK;
    if (!from || !to)
        status = context_fail(context, STATUS_FILE, "%s: cannot be %s: %s", from ? temporary : path,
                              from ? "written" : "read", strerror(errno));
    else
        status = copy(context, from, to, name);
    if (to && fclose(to) != 0 && status == STATUS_OK)
        status = context_fail(context, STATUS_FILE, "%s: cannot be written: %s", temporary, strerror(errno));
    if (from)
        fclose(from);
    if (status == STATUS_OK && rename(temporary, name) != 0)
        status = context_fail(context, STATUS_FILE, "%s: cannot be written: %s", name, strerror(errno));
    return status;
}

enum status run_tokenizer_bytes(struct context *context, const struct tokenizer *tokenizer, int64_t vocabulary,
                                int32_t **bytes)
{
    *bytes = memory_allocate(context, (size_t)vocabulary * sizeof **bytes, MEMORY_OTHER);
    if (!*bytes)
        return STATUS_MEMORY;
    for (int64_t id = 0; id < vocabulary; id++)
        (*bytes)[id] = id < tokenizer_size(tokenizer) ? (int32_t)tokenizer_bytes(tokenizer, id) : 0;
    return STATUS_OK;
}
