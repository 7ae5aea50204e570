/* Samples in the order of a run, read and augmented by threads ahead of the step.
 *
 * Announced samples wait in a queue of ranges. A thread that finds a free slot begins the first of them; who takes a
 * sample frees its slot. All of it is guarded by one lock, which nobody holds while pixels are worked on. */
#include "io/images/loader_private.h"

#include "src/core/affinity.h"
#include "src/core/random.h"

#include <signal.h>
#include <string.h>

/* -- The queue; the lock is held -- */

static void queue_remove(struct image_loader *loader, int which)
{
    loader->range_count--;
    memmove(loader->ranges + which, loader->ranges + which + 1,
            sizeof *loader->ranges * (size_t)(loader->range_count - which));
}

static int64_t queue_pop(struct image_loader *loader)
{
    int64_t n = loader->ranges[0].begin++;
    if (--loader->ranges[0].count == 0)
        queue_remove(loader, 0);
    return n;
}

/* Sample n will not be begun by a thread. */
static void queue_strike(struct image_loader *loader, int64_t n)
{
    for (int i = 0; i < loader->range_count; i++) {
        struct range *range = &loader->ranges[i];
        if (n < range->begin || n >= range->begin + range->count)
            continue;
        struct range rest = {n + 1, range->begin + range->count - n - 1};
        range->count = n - range->begin;
        if (range->count == 0 && rest.count == 0)
            queue_remove(loader, i);
        else if (range->count == 0)
            *range = rest;
        else if (rest.count > 0 && loader->range_count < RANGES) {
            memmove(range + 2, range + 1, sizeof *range * (size_t)(loader->range_count - i - 1));
            range[1] = rest;
            loader->range_count++;
        }
        return;
    }
}

static struct slot *slot_begin(struct image_loader *loader)
{
    for (int64_t i = 0; i < loader->options.ahead; i++)
        if (loader->slots[i].state == SLOT_FREE) {
            struct slot *slot = &loader->slots[i];
            slot->state = SLOT_WORKING;
            slot->forgotten = false;
            slot->n = queue_pop(loader);
            loader->free_slots--;
            return slot;
        }
    return NULL;
}

static void slot_free(struct image_loader *loader, struct slot *slot)
{
    slot->state = SLOT_FREE;
    loader->free_slots++;
    pthread_cond_signal(&loader->work);
}

static void slot_finish(struct image_loader *loader, struct slot *slot)
{
    slot->state = SLOT_READY;
    if (slot->forgotten)
        slot_free(loader, slot);
    pthread_cond_broadcast(&loader->ready);
}

static struct slot *slot_find(const struct image_loader *loader, int64_t n)
{
    for (int64_t i = 0; i < loader->options.ahead; i++) {
        struct slot *slot = &loader->slots[i];
        if (slot->n == n && !slot->forgotten && (slot->state == SLOT_WORKING || slot->state == SLOT_READY))
            return slot;
    }
    return NULL;
}

/* Whether the next sample of the queue is the partner of n, and could be begun with it. */
static bool may_pair(const struct image_loader *loader, int64_t n)
{
    return loader_is_mixing(loader) && loader->range_count > 0 && loader->free_slots > 0 &&
           loader->ranges[0].begin == n + 1 && loader_partner(loader, n) == n + 1 && loader_partner(loader, n + 1) == n;
}

static void *work(void *pointer)
{
    struct worker *worker = pointer;
    struct image_loader *loader = worker->loader;
    affinity_widen();
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        if (loader->range_count == 0 || loader->free_slots == 0) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        struct slot *slot = slot_begin(loader);
        struct slot *second = may_pair(loader, slot->n) ? slot_begin(loader) : NULL;
        pthread_mutex_unlock(&loader->lock);
        if (second)
            sample_make_pair(worker, slot, second);
        else
            sample_make(worker, slot);
        pthread_mutex_lock(&loader->lock);
        slot_finish(loader, slot);
        if (second)
            slot_finish(loader, second);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* -- For the caller -- */

void image_loader_announce(struct image_loader *loader, int64_t begin, int64_t count)
{
    if (count <= 0 || loader->started == 0)
        return;
    pthread_mutex_lock(&loader->lock);
    struct range *last = &loader->ranges[loader->range_count - (loader->range_count > 0)];
    if (loader->range_count > 0 && last->begin + last->count == begin)
        last->count += count;
    else if (loader->range_count < RANGES)
        loader->ranges[loader->range_count++] = (struct range){begin, count};
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

void image_loader_forget(struct image_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->range_count = 0;
    for (int64_t i = 0; i < loader->options.ahead; i++) {
        struct slot *slot = &loader->slots[i];
        if (slot->state == SLOT_READY)
            slot_free(loader, slot);
        slot->forgotten = slot->state == SLOT_WORKING;
    }
    pthread_mutex_unlock(&loader->lock);
}

/* Copies a finished sample out; nobody else touches its slot. */
static enum status slot_deliver(struct image_loader *loader, const struct slot *slot, float *image, int32_t *label,
                                int32_t *mixed_label, float *mixing)
{
    if (slot->status != STATUS_OK)
        return context_fail(loader->context, slot->status, "%s", slot->error);
    if (image != slot->image)
        memcpy(image, slot->image, sizeof *image * (size_t)loader->image_floats);
    *label = slot->label;
    if (mixed_label)
        *mixed_label = slot->mixed_label;
    if (mixing)
        *mixing = slot->mixing;
    return STATUS_OK;
}

/* The caller does the work, straight into its own image. */
static enum status take_alone(struct image_loader *loader, int64_t n, float *image, int32_t *label,
                              int32_t *mixed_label, float *mixing, bool *bad)
{
    char error[ERROR_BYTES];
    struct slot slot = {.n = n, .image = image, .error = error};
    sample_make(&loader->workers[loader->options.threads], &slot);
    *bad = slot.bad;
    return slot_deliver(loader, &slot, image, label, mixed_label, mixing);
}

enum status image_loader_take(struct image_loader *loader, int64_t n, float *image, int32_t *label,
                              int32_t *mixed_label, float *mixing)
{
    double began = clock_seconds();
    pthread_mutex_lock(&loader->lock);
    struct slot *slot = slot_find(loader, n);
    bool waited = !slot || slot->state != SLOT_READY;
    while (slot && slot->state != SLOT_READY)
        pthread_cond_wait(&loader->ready, &loader->lock);
    if (slot)
        slot->state = SLOT_TAKEN;
    else
        queue_strike(loader, n);
    pthread_mutex_unlock(&loader->lock);

    bool bad = false;
    double ready = clock_seconds();
    enum status status = slot ? slot_deliver(loader, slot, image, label, mixed_label, mixing)
                              : take_alone(loader, n, image, label, mixed_label, mixing, &bad);
    if (!slot)
        ready = clock_seconds();

    pthread_mutex_lock(&loader->lock);
    loader->counts.taken++;
    loader->counts.waited += waited;
    loader->counts.bad += slot ? slot->bad : bad;
    loader->counts.seconds += waited ? ready - began : 0.0;
    if (slot)
        slot_free(loader, slot);
    pthread_mutex_unlock(&loader->lock);
    return status;
}

struct image_loader_counts image_loader_counts(struct image_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    struct image_loader_counts counts = loader->counts;
    for (int64_t i = 0; i < loader->options.ahead; i++)
        counts.ready += loader->slots[i].state == SLOT_READY;
    pthread_mutex_unlock(&loader->lock);
    return counts;
}

/* -- From the start to the end -- */

static enum status worker_create(struct image_loader *loader, struct worker *worker)
{
    struct context *context = loader->context;
    const struct image_set *set = loader->options.set;
    worker->loader = loader;
    context_create(&worker->context);
    CHECK(image_reader_create(context, set, &worker->reader));
    reader_set_errors(worker->reader, &worker->context);
    CHECK(image_workspace_create(context, &loader->augmentation, set->facts.rows_most, set->facts.columns_most,
                                 &worker->workspace));
    if (loader_is_mixing(loader))
        worker->other = memory_allocate(context, sizeof(float) * (size_t)loader->image_floats, MEMORY_OTHER);
    return loader_is_mixing(loader) && !worker->other ? STATUS_MEMORY : STATUS_OK;
}

static enum status loader_allocate(struct image_loader *loader)
{
    struct context *context = loader->context;
    const struct image_loader_options *options = &loader->options;
    size_t image_bytes = sizeof(float) * (size_t)loader->image_floats;
    loader->workers = memory_allocate(context, (size_t)(options->threads + 1) * sizeof *loader->workers, MEMORY_OTHER);
    if (!loader->workers)
        return STATUS_MEMORY;
    for (int i = 0; i <= options->threads; i++)
        CHECK(worker_create(loader, &loader->workers[i]));
    loader->slots = memory_allocate(context, (size_t)options->ahead * sizeof *loader->slots, MEMORY_OTHER);
    loader->errors = memory_allocate(context, (size_t)options->ahead * ERROR_BYTES, MEMORY_OTHER);
    loader->images = memory_allocate(context, (size_t)options->ahead * image_bytes, MEMORY_OTHER);
    if (!loader->slots || !loader->errors || !loader->images)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < options->ahead; i++) {
        loader->slots[i].image = loader->images + i * loader->image_floats;
        loader->slots[i].error = loader->errors + i * ERROR_BYTES;
    }
    loader->free_slots = options->ahead;
    return STATUS_OK;
}

/* Signals are for the thread that started the program. */
static enum status threads_start(struct image_loader *loader)
{
    sigset_t all;
    sigset_t before;
    int code = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (code == 0 && loader->started < loader->options.threads) {
        struct worker *worker = &loader->workers[loader->started];
        code = pthread_create(&worker->thread, NULL, work, worker);
        loader->started += code == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return context_fail(loader->context, STATUS_MEMORY,
                            "a thread that reads images cannot be started: %s; use fewer", strerror(code));
    return STATUS_OK;
}

enum status image_loader_create(struct context *context, const struct image_loader_options *options,
                                struct image_loader **loader)
{
    *loader = NULL;
    CHECK(image_augmentation_check(context, options->augmentation, options->set));
    struct image_loader *made = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    made->options = *options;
    made->augmentation = *options->augmentation;
    made->options.augmentation = &made->augmentation;
    if (made->options.threads < 0)
        made->options.threads = 0;
    /* A slot for each thread to work in, and one more to be taken meanwhile; none is needed without threads. */
    if (made->options.threads == 0)
        made->options.ahead = 0;
    else if (made->options.ahead <= made->options.threads)
        made->options.ahead = made->options.threads + 1;
    made->image_floats = made->augmentation.channels * made->augmentation.size * made->augmentation.size;
    made->order_key = random_key(options->seed, "order of images");
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->work, NULL);
    pthread_cond_init(&made->ready, NULL);
    enum status status = loader_allocate(made);
    if (status == STATUS_OK)
        status = threads_start(made);
    if (status == STATUS_OK)
        *loader = made;
    else
        image_loader_destroy(&made);
    return status;
}

void image_loader_destroy(struct image_loader **loader)
{
    struct image_loader *old = *loader;
    if (!old)
        return;
    struct context *context = old->context;
    pthread_mutex_lock(&old->lock);
    old->stop = true;
    pthread_cond_broadcast(&old->work);
    pthread_mutex_unlock(&old->lock);
    for (int i = 0; i < old->started; i++)
        pthread_join(old->workers[i].thread, NULL);
    for (int i = 0; old->workers && i <= old->options.threads; i++) {
        image_reader_destroy(&old->workers[i].reader);
        image_workspace_destroy(context, &old->workers[i].workspace);
        memory_free(context, old->workers[i].other);
    }
    pthread_cond_destroy(&old->ready);
    pthread_cond_destroy(&old->work);
    pthread_mutex_destroy(&old->lock);
    void *const arrays[] = {old->workers, old->slots, old->errors, old->images, old};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        memory_free(context, arrays[i]);
    *loader = NULL;
}
