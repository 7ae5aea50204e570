#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/background.h"
#include "io/checkpoint/layout.h"
#include "io/checkpoint/partial.h"
#include "io/checkpoint/snapshot.h"
#include "io/checkpoint/transfer.h"
#include "src/core/affinity.h"

/* What the thread does. From COPY it goes on by itself to WRITTEN, from FINISH to FINISHED; the rest is up to the
 * caller. */
enum stage {
    STAGE_IDLE,
    STAGE_COPY,
    STAGE_WRITE,
    STAGE_WRITTEN,
    STAGE_FINISH, /* on the first rank only */
    STAGE_FINISHED,
    STAGE_END,
};

struct checkpoint_background {
    struct context *context;
    struct mesh *mesh;
    bool first; /* this rank creates the file and finishes it */
    const struct state_array *datasets;
    int count;
    struct background_tuning tuning;
    bool active;
    double held;
    int64_t *elements; /* of the datasets, over the ranks */

    /* The thread's while it is busy, the caller's otherwise. */
    struct context own; /* its errors */
    enum status result;
    struct snapshot snapshot;
    struct partial partial;
    struct checkpoint_target target;
    int64_t *offsets;
    uint64_t *hashes;
    double began;
    double copied;
    double written;

    pthread_t thread;
    bool started;
    atomic_bool cancel;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum stage stage; /* under the mutex */
};

static bool stage_busy(enum stage stage)
{
    return stage == STAGE_COPY || stage == STAGE_WRITE || stage == STAGE_FINISH;
}

static void stage_set(struct checkpoint_background *background, enum stage stage)
{
    pthread_mutex_lock(&background->mutex);
    background->stage = stage;
    pthread_cond_broadcast(&background->changed);
    pthread_mutex_unlock(&background->mutex);
}

static enum stage stage_get(struct checkpoint_background *background)
{
    pthread_mutex_lock(&background->mutex);
    enum stage stage = background->stage;
    pthread_mutex_unlock(&background->mutex);
    return stage;
}

/* -- The thread -- */

static void write_snapshot(struct checkpoint_background *background)
{
    snapshot_hash(&background->snapshot, background->hashes);
    background->result = snapshot_write(&background->own, &background->snapshot, background->partial.partial,
                                        background->offsets, background->tuning.direct, &background->cancel);
    background->written = clock_seconds() - background->began;
}

static void finish_file(struct checkpoint_background *background)
{
    const struct checkpoint_target *target = &background->target;
    background->result = partial_finish(&background->own, &background->partial);
    if (background->result == STATUS_OK)
        folder_prune(&background->own, target->folder, target->keep_last, target->keep_every);
}

static void *work(void *self)
{
    struct checkpoint_background *background = self;
    affinity_widen();
    for (;;) {
        pthread_mutex_lock(&background->mutex);
        while (!stage_busy(background->stage) && background->stage != STAGE_END)
            pthread_cond_wait(&background->changed, &background->mutex);
        enum stage stage = background->stage;
        pthread_mutex_unlock(&background->mutex);
        if (stage == STAGE_END)
            return NULL;
        if (stage == STAGE_FINISH) {
            finish_file(background);
            stage_set(background, STAGE_FINISHED);
            continue;
        }
        snapshot_take(&background->snapshot);
        background->copied = clock_seconds() - background->began;
        stage_set(background, STAGE_WRITE);
        write_snapshot(background);
        stage_set(background, STAGE_WRITTEN);
    }
}

/* Signals are for the thread that started the program. */
static enum status thread_start(struct checkpoint_background *background)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&background->thread, NULL, work, background);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    background->started = code == 0;
    if (code != 0)
        return context_fail(background->context, STATUS_MEMORY,
                            "the thread that writes checkpoints cannot be started: %s; set checkpoint.background=false",
                            strerror(code));
    return STATUS_OK;
}

/* -- Set-up -- */

static enum status take_memory(struct checkpoint_background *background)
{
    struct context *context = background->context;
    size_t count = (size_t)background->count;
    CHECK(transfer_check(context, background->datasets, background->count));
    background->elements = memory_allocate(context, count * sizeof *background->elements, MEMORY_OTHER);
    background->hashes = memory_allocate(context, count * sizeof *background->hashes, MEMORY_OTHER);
    background->offsets = memory_allocate(context, count * sizeof *background->offsets, MEMORY_OTHER);
    if (!background->elements || !background->hashes || !background->offsets)
        return STATUS_MEMORY;
    return snapshot_create(context, background->datasets, background->count, &background->snapshot);
}

/* Collective. */
static enum status check_elements(struct checkpoint_background *background)
{
    for (int i = 0; i < background->count; i++) {
        const struct state_array *dataset = &background->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++)
            background->elements[i] += box_count(&dataset->pieces[p].box, dataset->rank);
    }
    if (background->count > 0)
        mesh_all_reduce(background->mesh, MESH_TEAM, background->elements, background->count, DTYPE_I64, MESH_SUM);
    return transfer_complete(background->context, background->datasets, background->count, background->elements);
}

enum status background_create_tuned(struct context *context, struct mesh *mesh, const struct state_array *datasets,
                                    int count, const struct background_tuning *tuning,
                                    struct checkpoint_background **background)
{
    enum status status = STATUS_MEMORY;
    struct checkpoint_background *b = memory_allocate(context, sizeof *b, MEMORY_OTHER);
    *background = b;
    if (b) {
        b->context = context;
        b->mesh = mesh;
        b->first = mesh_rank(mesh, MESH_TEAM) == 0;
        b->datasets = datasets;
        b->count = count;
        b->tuning = *tuning;
        context_create(&b->own);
        b->own.quiet = !b->first;
        pthread_mutex_init(&b->mutex, NULL);
        pthread_cond_init(&b->changed, NULL);
        atomic_init(&b->cancel, false);
        status = take_memory(b);
    }
    TRY(mesh_agree(mesh, context, status));
    if (context->dry) /* whoever plans a run wants to know of the memory */
        return STATUS_OK;
    TRY(mesh_agree(mesh, context, check_elements(b)));
    TRY(mesh_agree(mesh, context, thread_start(b)));
    layout_quiet();
    return STATUS_OK;
done:
    checkpoint_background_destroy(background);
    return status;
}

enum status checkpoint_background_create(struct context *context, struct mesh *mesh, const struct state_array *datasets,
                                         int count, struct checkpoint_background **background)
{
    const struct background_tuning tuning = {.direct = true, .check_space = true, .reserve_space = true};
    return background_create_tuned(context, mesh, datasets, count, &tuning, background);
}

void checkpoint_background_destroy(struct checkpoint_background **background)
{
    struct checkpoint_background *b = *background;
    if (!b)
        return;
    if (b->started) {
        atomic_store(&b->cancel, true);
        checkpoint_background_wait(b);
        stage_set(b, STAGE_END);
        pthread_join(b->thread, NULL);
    }
    if (b->active && b->first)
        unlink(b->partial.partial);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    struct context *context = b->context;
    snapshot_destroy(context, &b->snapshot);
    memory_free(context, b->offsets);
    memory_free(context, b->hashes);
    memory_free(context, b->elements);
    memory_free(context, b);
    *background = NULL;
}

/* -- Use -- */

bool checkpoint_background_active(const struct checkpoint_background *background)
{
    return background->active;
}

bool checkpoint_background_busy(struct checkpoint_background *background)
{
    return stage_busy(stage_get(background));
}

void checkpoint_background_wait(struct checkpoint_background *background)
{
    double start = clock_seconds();
    location_enter_files(&background->context->location);
    pthread_mutex_lock(&background->mutex);
    while (stage_busy(background->stage))
        pthread_cond_wait(&background->changed, &background->mutex);
    pthread_mutex_unlock(&background->mutex);
    location_leave_files(&background->context->location);
    background->held += clock_seconds() - start;
}

void checkpoint_background_wait_copied(struct checkpoint_background *background)
{
    double start = clock_seconds();
    pthread_mutex_lock(&background->mutex);
    while (background->stage == STAGE_COPY)
        pthread_cond_wait(&background->changed, &background->mutex);
    pthread_mutex_unlock(&background->mutex);
    background->held += clock_seconds() - start;
}

/* On the first rank. */
static enum status create_file(struct checkpoint_background *background, const struct checkpoint_header *header)
{
    const struct partial_tuning tuning = {.check_space = background->tuning.check_space,
                                          .reserve_space = background->tuning.reserve_space};
    /* The hashes are not known yet. */
    memset(background->hashes, 0, (size_t)background->count * sizeof *background->hashes);
    return partial_create(background->context, header, background->datasets, background->count, background->hashes,
                          tuning, background->offsets, &background->partial);
}

/* Collective; agreed status. */
static enum status create_together(struct checkpoint_background *background, const struct checkpoint_header *header)
{
    struct mesh *mesh = background->mesh;
    struct context *context = background->context;
    struct partial *partial = &background->partial;
    CHECK(mesh_agree(mesh, context, partial_name(context, background->target.folder, header->step, partial)));
    background->active = true;
    CHECK(mesh_agree(mesh, context, background->first ? create_file(background, header) : STATUS_OK));
    mesh_broadcast(mesh, MESH_TEAM, 0, &partial->place, PARTIAL_PLACE, DTYPE_I64);
    mesh_broadcast(mesh, MESH_TEAM, 0, background->offsets, background->count, DTYPE_I64);
    return transfer_visible(context, mesh, partial->partial, true, partial->place.size);
}

static void end_active(struct checkpoint_background *background, enum status status)
{
    if (status != STATUS_OK && background->active && background->first)
        unlink(background->partial.partial);
    background->active = false;
    stage_set(background, STAGE_IDLE);
}

enum status checkpoint_background_begin(struct checkpoint_background *background,
                                        const struct checkpoint_target *target, const struct checkpoint_header *header)
{
    double start = clock_seconds();
    background->target = *target;
    enum status status = create_together(background, header);
    if (status != STATUS_OK) {
        end_active(background, status);
        return status;
    }
    background->began = clock_seconds();
    stage_set(background, STAGE_COPY);
    background->held = clock_seconds() - start;
    return STATUS_OK;
}

/* The thread's error becomes this rank's, and then that of all. Collective; agreed status. */
static enum status agree_with_thread(struct checkpoint_background *background)
{
    enum status status = background->result;
    if (status != STATUS_OK)
        status = context_fail(background->context, status, "%s", background->own.text);
    context_clear(&background->own);
    return mesh_agree(background->mesh, background->context, status);
}

/* All elements are on disk: the hashes come into the file, and the first rank's thread has the rest to do. */
static enum status start_finish(struct checkpoint_background *background)
{
    struct context *context = background->context;
    int count = background->count;
    CHECK(agree_with_thread(background));
    hashes_join(background->mesh, background->datasets, count, background->hashes);
    enum status status = STATUS_OK;
    if (background->first)
        status = layout_hashes(context, background->partial.partial, background->datasets, count, background->hashes);
    CHECK(mesh_agree(background->mesh, context, status));
    stage_set(background, background->first ? STAGE_FINISH : STAGE_FINISHED);
    return STATUS_OK;
}

enum status checkpoint_background_advance(struct checkpoint_background *background,
                                          struct checkpoint_progress *progress)
{
    double start = clock_seconds();
    bool finished = stage_get(background) == STAGE_FINISHED;
    *progress = (struct checkpoint_progress){.bytes = checkpoint_bytes(background->datasets, background->count)};
    enum status status = finished ? agree_with_thread(background) : start_finish(background);
    progress->complete = finished || status != STATUS_OK;
    if (progress->complete)
        end_active(background, status);
    background->held += clock_seconds() - start;
    if (progress->complete) {
        double seconds[] = {background->copied, background->written, background->held};
        mesh_all_reduce(background->mesh, MESH_TEAM, seconds, sizeof seconds / sizeof *seconds, DTYPE_F64, MESH_MAX);
        progress->copied = seconds[0];
        progress->written = seconds[1];
        progress->held = seconds[2];
    }
    return status;
}
