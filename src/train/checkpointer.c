#include "src/train/checkpointer.h"

static void wait_copied(void *self)
{
    struct checkpointer *checkpointer = self;
    checkpoint_background_wait_copied(checkpointer->background);
}

static enum status create_background(struct checkpointer *checkpointer)
{
    struct trainer *trainer = checkpointer->trainer;
    const struct state_list *list = &checkpointer->image.list;
    CHECK(checkpoint_background_create(trainer->context, trainer->mesh, list->arrays, list->count,
                                       &checkpointer->background));
    trainer->update_listener = (struct update_listener){.self = checkpointer, .before = wait_copied};
    return STATUS_OK;
}

enum status checkpointer_create(struct trainer *trainer, const struct model_state *state, const char *folder,
                                struct checkpointer *checkpointer)
{
    const struct checkpoint_config *config = &trainer->config->checkpoint;
    *checkpointer = (struct checkpointer){
        .trainer = trainer, .state = state, .saved_step = -1, .begun_step = -1, .target = {.folder = folder}};
    checkpointer->target.keep_last = INT64_MAX; /* pruning waits for a step that shows that the newest is good */
    checkpointer->unproven = true;
    CHECK(mesh_agree(trainer->mesh, trainer->context, state_image_create(trainer, state, &checkpointer->image)));
    return config->background ? create_background(checkpointer) : STATUS_OK;
}

void checkpointer_destroy(struct checkpointer *checkpointer)
{
    if (!checkpointer->trainer)
        return;
    checkpointer->trainer->update_listener = (struct update_listener){0};
    checkpoint_background_destroy(&checkpointer->background);
    state_image_destroy(checkpointer->trainer->context, &checkpointer->image);
    *checkpointer = (struct checkpointer){0};
}

bool checkpointer_active(const struct checkpointer *checkpointer)
{
    return checkpointer->background && checkpoint_background_active(checkpointer->background);
}

void checkpointer_cast(struct checkpointer *checkpointer, double votes[VOTES])
{
    if (checkpointer_active(checkpointer) && checkpoint_background_busy(checkpointer->background))
        votes[VOTE_WRITING] += 1.0;
}

static void report_failure(const struct checkpointer *checkpointer, int64_t step)
{
    struct context *context = checkpointer->trainer->context;
    context_log(context, "checkpoint of step %lld failed: %s; training goes on", (long long)step, context->text);
    context_clear(context);
}

/* -- Behind the training -- */

static void report_background(const struct checkpointer *checkpointer, const struct checkpoint_progress *done)
{
    bool large = done->bytes >= (int64_t)1 << 30;
    context_log(checkpointer->trainer->context,
                "checkpoint of step %lld: %.1f %s, written in %.2f s behind the training, which it held up for %.2f s, "
                "%.2f GB/s",
                (long long)checkpointer->saved_step, (double)done->bytes / (double)(1 << (large ? 30 : 20)),
                large ? "GiB" : "MiB", done->written, done->held, 1e-9 * (double)done->bytes / done->written);
}

static enum status advance(struct checkpointer *checkpointer, struct progress *progress, struct saving *saving)
{
    struct checkpoint_progress done;
    enum status status = checkpoint_background_advance(checkpointer->background, &done);
    if (!done.complete)
        return STATUS_OK;
    progress_break(progress);
    if (status != STATUS_OK) {
        report_failure(checkpointer, checkpointer->begun_step);
        return STATUS_OK;
    }
    checkpointer->saved_step = checkpointer->begun_step;
    checkpointer->unproven = true;
    report_background(checkpointer, &done);
    *saving = (struct saving){.done = true,
                              .step = checkpointer->saved_step,
                              .bytes = done.bytes,
                              .seconds = done.written,
                              .held = done.held};
    return STATUS_OK;
}

enum status checkpointer_follow(struct checkpointer *checkpointer, const double votes[VOTES], struct progress *progress,
                                struct saving *saving)
{
    *saving = (struct saving){0};
    if (!checkpointer_active(checkpointer) || votes[VOTE_WRITING] > 0.0)
        return STATUS_OK;
    return advance(checkpointer, progress, saving);
}

enum status checkpointer_settle(struct checkpointer *checkpointer, struct progress *progress, struct saving *saving)
{
    *saving = (struct saving){0};
    while (checkpointer_active(checkpointer)) {
        checkpoint_background_wait(checkpointer->background);
        CHECK(advance(checkpointer, progress, saving));
    }
    return STATUS_OK;
}

static enum status begin(struct checkpointer *checkpointer, struct progress *progress)
{
    struct trainer *trainer = checkpointer->trainer;
    if (checkpointer_active(checkpointer)) {
        progress_break(progress);
        context_log(trainer->context,
                    "no checkpoint of step %lld: that of step %lld is still being written; checkpoint.every is short "
                    "for this disk",
                    (long long)trainer->step, (long long)checkpointer->begun_step);
        return STATUS_OK;
    }
    enum status status = state_image_fill(trainer, checkpointer->state, &checkpointer->image);
    status = mesh_agree(trainer->mesh, trainer->context, status);
    if (status == STATUS_OK)
        status =
            checkpoint_background_begin(checkpointer->background, &checkpointer->target, checkpointer->image.header);
    checkpointer->begun_step = trainer->step;
    if (status != STATUS_OK) {
        progress_break(progress);
        report_failure(checkpointer, trainer->step);
    }
    return STATUS_OK;
}

void checkpointer_prove(struct checkpointer *checkpointer)
{
    const struct checkpoint_config *config = &checkpointer->trainer->config->checkpoint;
    if (!checkpointer->unproven || checkpointer_active(checkpointer) || checkpointer->saved_step < 0)
        return;
    checkpointer->unproven = false;
    checkpoint_prune(checkpointer->trainer->context, checkpointer->trainer->mesh, checkpointer->target.folder,
                     config->keep_last, config->keep_every);
}

/* -- At once -- */

static enum status write_now(struct checkpointer *checkpointer, struct saving *saving)
{
    struct trainer *trainer = checkpointer->trainer;
    struct context *context = trainer->context;
    const struct checkpoint_target *target = &checkpointer->target;
    const struct state_list *list = &checkpointer->image.list;
    double start = clock_seconds();
    CHECK(mesh_agree(trainer->mesh, context, state_image_fill(trainer, checkpointer->state, &checkpointer->image)));
    CHECK(checkpoint_write(context, trainer->mesh, target->folder, checkpointer->image.header, list->arrays,
                           list->count));
    checkpointer->saved_step = trainer->step;
    checkpointer->unproven = true;
    double seconds = clock_seconds() - start;
    *saving = (struct saving){.done = true,
                              .step = trainer->step,
                              .bytes = checkpoint_bytes(list->arrays, list->count),
                              .seconds = seconds,
                              .held = seconds};
    return STATUS_OK;
}

enum status checkpointer_save(struct checkpointer *checkpointer, bool last, struct progress *progress,
                              struct saving *saving)
{
    int64_t step = checkpointer->trainer->step;
    *saving = (struct saving){0};
    if (checkpointer->saved_step == step)
        return STATUS_OK;
    if (checkpointer->background && !last)
        return begin(checkpointer, progress);
    progress_break(progress);
    enum status status = write_now(checkpointer, saving);
    if (status != STATUS_OK && !last) {
        report_failure(checkpointer, step);
        return STATUS_OK;
    }
    return status;
}
