#define _GNU_SOURCE /* O_DIRECT */
#include "io/checkpoint/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/hash.h"
#include "io/checkpoint/runs.h"
#include "io/checkpoint/transfer.h"

/* Disks want direct writes at multiples of their blocks, which are no larger than a page; in a call goes enough to keep
 * them busy, and not so much that it cannot be cancelled. */
enum { PAGE = 4096, DIRECT_LEAST = 16 * PAGE, CALL_BYTES = 16 << 20, FLOAT = sizeof(float) };

/* -- Layout -- */

static int piece_total(const struct state_array *datasets, int count)
{
    int total = 0;
    for (int i = 0; i < count; i++)
        total += datasets[i].piece_count;
    return total;
}

/* Places all pieces; returns the bytes that takes. The elements of the file are taken to begin at a page and to follow
 * each other in the order of the datasets: where they do not, writing is slower, not wrong. */
static int64_t place_pieces(struct snapshot *snapshot)
{
    int64_t in_file = 0; /* of the dataset */
    int64_t used = 0;
    int64_t follows = -1; /* in the file, what could go on at `used` */
    int64_t *place = snapshot->place;
    for (int i = 0; i < snapshot->count; i++) {
        const struct state_array *dataset = &snapshot->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct box *box = &dataset->pieces[p].box;
            struct runs runs = runs_of_box(box, dataset->rank, dataset->shape);
            int64_t bytes = box_count(box, dataset->rank) * FLOAT;
            int64_t at = runs.count ? in_file + runs_begin(&runs, box, dataset->rank, dataset->shape, 0) * FLOAT : 0;
            if (runs.count == 1 && at != follows)
                used += ((at - used) % PAGE + PAGE) % PAGE;
            *place++ = used;
            used += bytes;
            snapshot->bytes += bytes;
            if (runs.count > 0)
                follows = runs.count == 1 ? at + bytes : -1;
        }
        in_file += dataset_elements(dataset) * FLOAT;
    }
    return used;
}

enum status snapshot_create(struct context *context, const struct state_array *datasets, int count,
                            struct snapshot *snapshot)
{
    *snapshot = (struct snapshot){.datasets = datasets, .count = count};
    size_t pieces = (size_t)piece_total(datasets, count);
    snapshot->place = memory_allocate(context, pieces * sizeof *snapshot->place, MEMORY_OTHER);
    if (!snapshot->place)
        return STATUS_MEMORY;
    size_t bytes = (size_t)place_pieces(snapshot);
    snapshot->memory = memory_allocate(context, bytes + PAGE, MEMORY_BUFFERS);
    if (!snapshot->memory)
        return STATUS_MEMORY;
    snapshot->begin = snapshot->memory + (PAGE - (uintptr_t)snapshot->memory % PAGE) % PAGE;
    return STATUS_OK;
}

void snapshot_destroy(struct context *context, struct snapshot *snapshot)
{
    memory_free(context, snapshot->memory);
    memory_free(context, snapshot->place);
    *snapshot = (struct snapshot){0};
}

/* -- Use -- */

void snapshot_take(struct snapshot *snapshot)
{
    const int64_t *place = snapshot->place;
    for (int i = 0; i < snapshot->count; i++) {
        const struct state_array *dataset = &snapshot->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct state_piece *piece = &dataset->pieces[p];
            int64_t elements = box_count(&piece->box, dataset->rank);
            char *to = snapshot->begin + *place++;
            if (piece->values)
                for (int64_t e = 0; e < elements; e++)
                    ((float *)(void *)to)[e] = bf16_to_float(piece->values[e]);
            else
                memcpy(to, piece->data, (size_t)elements * FLOAT);
        }
    }
}

void snapshot_hash(const struct snapshot *snapshot, uint64_t *hashes)
{
    const int64_t *place = snapshot->place;
    for (int i = 0; i < snapshot->count; i++) {
        const struct state_array *dataset = &snapshot->datasets[i];
        hashes[i] = 0;
        for (int p = 0; p < dataset->piece_count; p++)
            hashes[i] ^= hash_box((const float *)(const void *)(snapshot->begin + *place++), &dataset->pieces[p].box,
                                  dataset->rank, dataset->shape);
    }
}

/* -- Writing -- */

/* What follows each other in memory and in the file is written together. */
struct stretch {
    const char *from;
    int64_t to; /* in the file */
    int64_t bytes;
};

struct writing {
    struct context *context;
    const char *path;
    int plain;  /* the file */
    int direct; /* the same, past the cache; -1: not possible */
    const atomic_bool *cancel;
    struct stretch stretch; /* not written yet */
};

static enum status write_plain(const struct writing *writing, const char *from, int64_t to, int64_t bytes)
{
    for (int64_t done = 0; done < bytes; done += CALL_BYTES) {
        if (atomic_load(writing->cancel))
            return context_fail(writing->context, STATUS_INTERNAL, "%s: given up", writing->path);
        CHECK(file_write(writing->context, writing->plain, writing->path, to + done, from + done,
                         integer_min(CALL_BYTES, bytes - done)));
    }
    return STATUS_OK;
}

/* Writes as much as it can of whole pages and says how much that was; what is left goes the usual way, where errors
 * come out. */
static int64_t write_direct(const struct writing *writing, const char *from, int64_t to, int64_t bytes)
{
    int64_t done = 0;
    while (done < bytes && !atomic_load(writing->cancel)) {
        ssize_t wrote = pwrite(writing->direct, from + done, (size_t)integer_min(CALL_BYTES, bytes - done), to + done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            break;
        done += wrote;
        if (wrote % PAGE != 0)
            break;
    }
    return done;
}

static enum status stretch_flush(struct writing *writing)
{
    struct stretch *stretch = &writing->stretch;
    int64_t to = stretch->to;
    int64_t head = (PAGE - to % PAGE) % PAGE;
    int64_t body = (stretch->bytes - head) / PAGE * PAGE;
    int64_t done = 0;
    if (writing->direct >= 0 && stretch->bytes >= DIRECT_LEAST && (uintptr_t)(stretch->from + head) % PAGE == 0) {
        CHECK(write_plain(writing, stretch->from, to, head));
        done = head + write_direct(writing, stretch->from + head, to + head, body);
    }
    CHECK(write_plain(writing, stretch->from + done, to + done, stretch->bytes - done));
    stretch->bytes = 0;
    return STATUS_OK;
}

static enum status stretch_add(struct writing *writing, const char *from, int64_t to, int64_t bytes)
{
    struct stretch *stretch = &writing->stretch;
    bool follows = from == stretch->from + stretch->bytes && to == stretch->to + stretch->bytes;
    if (stretch->bytes > 0 && follows) {
        stretch->bytes += bytes;
        return STATUS_OK;
    }
    if (stretch->bytes > 0)
        CHECK(stretch_flush(writing));
    *stretch = (struct stretch){.from = from, .to = to, .bytes = bytes};
    return STATUS_OK;
}

static enum status write_pieces(struct writing *writing, const struct snapshot *snapshot, const int64_t *offsets)
{
    const int64_t *place = snapshot->place;
    for (int i = 0; i < snapshot->count; i++) {
        const struct state_array *dataset = &snapshot->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct box *box = &dataset->pieces[p].box;
            const char *from = snapshot->begin + *place++;
            struct runs runs = runs_of_box(box, dataset->rank, dataset->shape);
            for (int64_t r = 0; r < runs.count; r++) {
                int64_t begin = runs_begin(&runs, box, dataset->rank, dataset->shape, r);
                CHECK(stretch_add(writing, from + r * runs.length * FLOAT, offsets[i] + begin * FLOAT,
                                  runs.length * FLOAT));
            }
        }
    }
    return writing->stretch.bytes > 0 ? stretch_flush(writing) : STATUS_OK;
}

enum status snapshot_write(struct context *context, const struct snapshot *snapshot, const char *path,
                           const int64_t *offsets, bool direct, const atomic_bool *cancel)
{
    struct writing writing = {.context = context, .path = path, .direct = -1, .cancel = cancel};
    int64_t size;
    enum status status;
    TRY(file_open(context, path, true, &writing.plain, &size));
    if (direct)
        writing.direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    TRY(write_pieces(&writing, snapshot, offsets));
    TRY(file_sync(context, writing.plain, path));
done:
    if (writing.direct >= 0)
        close(writing.direct);
    if (writing.plain >= 0)
        close(writing.plain);
    return status;
}
