#include "src/prepare/train_tokenizer.h"

#include <string.h>

#include "src/core/clock.h"
#include "src/prepare/prepare_private.h"

enum { TAG_COUNTS = 1, BLOCK = 1 << 26 };

struct counting {
    struct work *work;
    struct tokenizer *tokenizer;
    struct encoder *encoder;
    struct piece_counts *counts;
    struct bytes packed;
    int64_t totals[PART_NUMBERS];
};

static enum status count_unit(struct counting *counting, const struct unit *unit)
{
    struct work *work = counting->work;
    struct document_reader *reader = NULL;
    const char *text;
    int64_t length;
    CHECK(document_reader_open(work->context, &work->files[unit->file], &work->options->documents, unit->begin,
                               unit->end, &reader));
    enum status status = document_reader_next(reader, &text, &length);
    while (status == STATUS_OK && text) {
        counting->totals[PART_DOCUMENTS]++;
        counting->totals[PART_BYTES] += length;
        status = encoder_count(counting->encoder, text, length, counting->counts);
        if (status == STATUS_OK)
            status = document_reader_next(reader, &text, &length);
    }
    counting->totals[PART_BAD] += document_reader_bad(reader);
    document_reader_close(&reader);
    return status;
}

static enum status count_mine(struct counting *counting, const struct tokenizer_plan *plan)
{
    struct work *work = counting->work;
    CHECK(tokenizer_counter(work->context, plan, &counting->tokenizer));
    CHECK(encoder_create(work->context, counting->tokenizer, &counting->encoder));
    CHECK(piece_counts_create(work->context, &counting->counts));
    for (int64_t unit = 0; unit < work->unit_count; unit++)
        if (work_is_mine(work, unit))
            CHECK(count_unit(counting, &work->units[unit]));
    counting->totals[PART_REPLACED] = encoder_replaced(counting->encoder);
    return mesh_rank(work->mesh, MESH_TEAM) == 0 ? STATUS_OK : piece_counts_pack(counting->counts, &counting->packed);
}

static void send(struct mesh *mesh, int to, int tag, const void *data, int64_t count)
{
    struct mesh_request request;
    mesh_send(mesh, MESH_TEAM, to, tag, data, count, DTYPE_BYTE, &request);
    mesh_wait(&request);
}

static void receive(struct mesh *mesh, int from, int tag, void *data, int64_t count)
{
    struct mesh_request request;
    mesh_receive(mesh, MESH_TEAM, from, tag, data, count, DTYPE_BYTE, &request);
    mesh_wait(&request);
}

/* Rank 0 adds up one rank after the other. It has room for what comes, or the job ends: all agree on that. */
static enum status gather(struct counting *counting)
{
    struct mesh *mesh = counting->work->mesh;
    struct bytes *packed = &counting->packed;
    int own = mesh_rank(mesh, MESH_TEAM);
    for (int rank = 1; rank < mesh_size(mesh, MESH_TEAM); rank++) {
        int64_t size = rank == own ? packed->count : 0;
        mesh_broadcast(mesh, MESH_TEAM, rank, &size, 1, DTYPE_I64);
        packed->count = own == 0 ? 0 : packed->count;
        CHECK(mesh_agree(mesh, counting->work->context, own == 0 ? bytes_reserve(packed, size) : STATUS_OK));
        for (int64_t at = 0; at < size && (own == 0 || own == rank); at += BLOCK) {
            int64_t count = integer_min(BLOCK, size - at);
            if (own == rank)
                send(mesh, 0, TAG_COUNTS, packed->data + at, count);
            else
                receive(mesh, rank, TAG_COUNTS, packed->data + at, count);
        }
        CHECK(mesh_agree(mesh, counting->work->context,
                         own == 0 ? piece_counts_unpack(counting->counts, packed->data, size) : STATUS_OK));
    }
    mesh_all_reduce(mesh, MESH_TEAM, counting->totals, PART_NUMBERS, DTYPE_I64, MESH_SUM);
    return STATUS_OK;
}

static enum status train(struct counting *counting, const struct tokenizer_plan *plan, struct bytes *text)
{
    struct work *work = counting->work;
    bool first = mesh_rank(work->mesh, MESH_TEAM) == 0;
    CHECK(mesh_agree(work->mesh, work->context, count_mine(counting, plan)));
    CHECK(gather(counting));
    if (first && !work->options->quiet)
        context_log(work->context, "tokenizer: %lld different pieces of %lld bytes",
                    (long long)piece_counts_size(counting->counts), (long long)counting->totals[PART_BYTES]);
    return mesh_agree(work->mesh, work->context,
                      first ? tokenizer_learn(work->context, plan, counting->counts, text) : STATUS_OK);
}

enum status tokenizer_train(struct context *context, struct mesh *mesh, const struct tokenizer_plan *plan,
                            char *const *names, int count, const struct tokenize_options *options, struct bytes *text,
                            struct tokenize_result *result)
{
    struct work work = {.context = context, .mesh = mesh, .options = options, .file_count = count};
    struct counting counting = {.work = &work, .packed = {.context = context}};
    double start = clock_seconds();
    enum status status;
    TRY(work_find(&work, names));
    TRY(train(&counting, plan, text));
    *result = (struct tokenize_result){.documents = counting.totals[PART_DOCUMENTS],
                                       .bytes = counting.totals[PART_BYTES],
                                       .replaced = counting.totals[PART_REPLACED],
                                       .bad = counting.totals[PART_BAD],
                                       .seconds = clock_seconds() - start};
done:
    piece_counts_destroy(&counting.counts);
    encoder_destroy(&counting.encoder);
    tokenizer_close(&counting.tokenizer);
    bytes_release(&counting.packed);
    memory_free(context, work.files);
    memory_free(context, work.units);
    memory_free(context, work.numbers);
    return status;
}
