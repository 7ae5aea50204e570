/* The whole: units to parts, parts to files, and the card beside them. */
#include "src/prepare/tokenize.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/json/json.h"
#include "src/core/clock.h"
#include "src/prepare/prepare_private.h"

/* -- What the parts are of: other parts are thrown away -- */

static json_t *describe_work(const struct work *work)
{
    const struct tokenize_options *options = work->options;
    json_t *files = json_array();
    for (int64_t i = 0; i < work->file_count; i++) {
        struct stat entry;
        const struct document_file *file = &work->files[i];
        int64_t changed = stat(file->path, &entry) == 0 ? (int64_t)entry.st_mtime : 0;
        json_array_append_new(files,
                              json_form("{s:s, s:I, s:I, s:i}", "path", file->path, "bytes", (json_int_t)file->bytes,
                                        "changed", (json_int_t)changed, "format", (int)file->format));
    }
    return json_form("{s:s, s:i, s:i, s:b, s:s, s:b, s:o}", "tokenizer", tokenizer_hash(work->tokenizer), "begin",
                     (int)options->begin, "end", (int)options->end, "specials", (int)options->specials, "field",
                     options->documents.field, "skip_bad", (int)options->documents.skip_bad, "files", files);
}

static void remove_parts(const struct work *work)
{
    DIR *folder = opendir(work->folder);
    const struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        char path[PREPARE_PATH + 300];
        snprintf(path, sizeof path, "%s/%s", work->folder, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (folder)
        closedir(folder);
}

/* On rank 0: the folder of parts, empty if what lies there is of other work. */
static enum status prepare_parts(const struct work *work)
{
    char path[PREPARE_PATH];
    struct context *context = work->context;
    if (mkdir(work->folder, 0777) != 0 && errno != EEXIST)
        return context_fail(context, STATUS_FILE, "%s: cannot be made: %s", work->folder, strerror(errno));
    snprintf(path, sizeof path, "%.1000s/work.json", work->folder);
    json_t *now = describe_work(work);
    json_t *then = json_load_file(path, 0, NULL);
    bool same = now && then && json_equal(now, then);
    if (!same)
        remove_parts(work);
    bool written = same || (now && json_dump_file(now, path, JSON_COMPACT) == 0);
    json_decref(now);
    json_decref(then);
    return written ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: cannot be written", path);
}

/* -- Units -- */

static int64_t unit_bytes(const struct work *work, int64_t unit)
{
    const struct unit *u = &work->units[unit];
    return integer_min(u->end, work->files[u->file].bytes) - u->begin;
}

/* How far rank 0 is, which the others are about as well: nobody waits for anybody. */
static void show_progress(const struct work *work, int64_t done, int64_t mine, double start, double *shown)
{
    double now = clock_seconds();
    if (work->options->quiet || now - *shown < 5.0)
        return;
    *shown = now;
    context_log(work->context, "tokenizing: %.0f %%, %.1f MB/s on rank 0 of %d", 100.0 * (double)done / (double)mine,
                1e-6 * (double)done / (now - start), mesh_size(work->mesh, MESH_TEAM));
}

static enum status write_mine(struct work *work)
{
    struct encoder *encoder = NULL;
    enum status status = encoder_create(work->context, work->tokenizer, &encoder);
    double start = clock_seconds();
    double shown = start;
    int64_t done = 0;
    int64_t mine = 0;
    for (int64_t unit = 0; unit < work->unit_count; unit++)
        mine += work_is_mine(work, unit) ? unit_bytes(work, unit) : 0;
    for (int64_t unit = 0; status == STATUS_OK && unit < work->unit_count; unit++) {
        if (!work_is_mine(work, unit))
            continue;
        if (!part_read_header(work, unit, work->numbers + unit * PART_NUMBERS))
            status = part_write(work, unit, encoder);
        done += unit_bytes(work, unit);
        show_progress(work, done, mine, start, &shown);
    }
    encoder_destroy(&encoder);
    return status;
}

/* -- The card -- */

static enum status write_card(const struct work *work, const struct tokenize_result *result)
{
    char path[PREPARE_PATH];
    snprintf(path, sizeof path, "%.1000s.json", work->options->prefix);
    json_t *card = json_form("{s:s, s:I, s:I, s:I, s:I, s:I}", "tokenizer", tokenizer_hash(work->tokenizer),
                             "vocabulary", (json_int_t)tokenizer_size(work->tokenizer), "end",
                             (json_int_t)work->options->end, "documents", (json_int_t)result->documents, "tokens",
                             (json_int_t)result->tokens, "bytes", (json_int_t)result->bytes);
    bool written = card && json_dump_file(card, path, JSON_INDENT(2)) == 0;
    json_decref(card);
    return written ? STATUS_OK : context_fail(work->context, STATUS_FILE, "%s: cannot be written", path);
}

enum status token_card_read(struct context *context, const char *name, struct token_card *card)
{
    char path[PREPARE_PATH];
    size_t length = strlen(name);
    bool ending = length > 4 && (strcmp(name + length - 4, ".bin") == 0 || strcmp(name + length - 4, ".idx") == 0);
    json_error_t error;
    *card = (struct token_card){.tokens = 0};
    snprintf(path, sizeof path, "%.*s.json", (int)integer_min(1000, (int64_t)length - (ending ? 4 : 0)), name);
    if (access(path, F_OK) != 0)
        return STATUS_OK;
    json_t *object = json_load_file(path, 0, &error);
    const char *hash = json_string_value(json_object_get(object, "tokenizer"));
    enum status status = STATUS_OK;
    if (!object)
        status = context_fail(context, STATUS_FILE, "%s: is no JSON: %s", path, error.text);
    else if (hash && strlen(hash) == TOKENIZER_HASH - 1) {
        strcpy(card->tokenizer, hash);
        card->tokens = json_integer_value(json_object_get(object, "tokens"));
        card->bytes = json_integer_value(json_object_get(object, "bytes"));
    }
    json_decref(object);
    return status;
}

/* -- -- */

static enum status join(struct work *work, struct tokenize_result *result)
{
    int64_t totals[PART_NUMBERS] = {0};
    bool first = mesh_rank(work->mesh, MESH_TEAM) == 0;
    mesh_all_reduce(work->mesh, MESH_TEAM, work->numbers, work->unit_count * PART_NUMBERS, DTYPE_I64, MESH_SUM);
    for (int64_t i = 0; i < work->unit_count * PART_NUMBERS; i++)
        totals[i % PART_NUMBERS] += work->numbers[i];
    result->documents = totals[PART_DOCUMENTS];
    result->tokens = totals[PART_TOKENS];
    result->bytes = totals[PART_BYTES];
    result->replaced = totals[PART_REPLACED];
    result->bad = totals[PART_BAD];
    /* Before the index, without which the tokens are not found. */
    CHECK(mesh_agree(work->mesh, work->context, first ? write_card(work, result) : STATUS_OK));
    CHECK(parts_join(work));
    if (first) {
        remove_parts(work);
        rmdir(work->folder);
    }
    return STATUS_OK;
}

enum status tokenize_files(struct context *context, struct mesh *mesh, const struct tokenizer *tokenizer,
                           char *const *names, int count, const struct tokenize_options *options,
                           struct tokenize_result *result)
{
    struct work work = {.context = context,
                        .mesh = mesh,
                        .tokenizer = tokenizer,
                        .options = options,
                        .file_count = count,
                        .width = tokenizer_size(tokenizer) < 65500 ? 2 : 4};
    double start = clock_seconds();
    enum status status = STATUS_OK;
    *result = (struct tokenize_result){0};
    if (strlen(options->prefix) > 900)
        status = context_fail(context, STATUS_USAGE, "%.64s...: the name is too long", options->prefix);
    snprintf(work.folder, sizeof work.folder, "%.1000s.parts", options->prefix);
    TRY(mesh_agree(mesh, context, status));
    TRY(work_find(&work, names));
    TRY(mesh_agree(mesh, context, mesh_rank(mesh, MESH_TEAM) == 0 ? prepare_parts(&work) : STATUS_OK));
    TRY(mesh_agree(mesh, context, write_mine(&work)));
    TRY(join(&work, result));
    result->seconds = clock_seconds() - start;
done:
    memory_free(context, work.files);
    memory_free(context, work.units);
    memory_free(context, work.numbers);
    return status;
}
