#include "src/train/saver.h"

static void wait_copied(void *self)
{
    struct saver *saver = self;
    checkpoint_background_wait_copied(saver->background);
}

static enum status create_background(struct saver *saver)
{
    struct trainer *trainer = saver->trainer;
    const struct state_list *list = &saver->image.list;
    CHECK(checkpoint_background_create(trainer->context, trainer->mesh, list->arrays, list->count, &saver->background));
    trainer->update_listener = (struct update_listener){.self = saver, .before = wait_copied};
    return STATUS_OK;
}

enum status saver_create(struct trainer *trainer, const struct model_state *state, const char *folder,
                         struct saver *saver)
{
    const struct checkpoint_config *config = &trainer->config->checkpoint;
    *saver = (struct saver){
        .trainer = trainer, .state = state, .saved_step = -1, .begun_step = -1, .target = {.folder = folder}};
    saver->target.keep_last = INT64_MAX; /* pruning waits for a step that shows that the newest is good */
    saver->unproven = true;
    CHECK(mesh_agree(trainer->mesh, trainer->context, state_image_create(trainer, state, &saver->image)));
    return config->background ? create_background(saver) : STATUS_OK;
}

void saver_destroy(struct saver *saver)
{
    if (!saver->trainer)
        return;
    saver->trainer->update_listener = (struct update_listener){0};
    checkpoint_background_destroy(&saver->background);
    state_image_destroy(saver->trainer->context, &saver->image);
    *saver = (struct saver){0};
}

bool saver_active(const struct saver *saver)
{
    return saver->background && checkpoint_background_active(saver->background);
}

void saver_cast(struct saver *saver, double votes[VOTES])
{
    if (saver_active(saver) && checkpoint_background_busy(saver->background))
        votes[VOTE_WRITING] += 1.0;
}

static void report_failure(const struct saver *saver, int64_t step)
{
    struct context *context = saver->trainer->context;
    context_log(context, "checkpoint of step %lld failed: %s; training goes on", (long long)step, context->text);
    context_clear(context);
}

/* -- Behind the training ------------------------------------------------------------------------------------------ */

static void report_background(const struct saver *saver, const struct checkpoint_progress *done)
{
    bool large = done->bytes >= (int64_t)1 << 30;
    context_log(saver->trainer->context,
                "checkpoint of step %lld: %.1f %s, written in %.2f s behind the training, which it held up for %.2f s, "
                "%.2f GB/s",
                (long long)saver->saved_step, (double)done->bytes / (double)(1 << (large ? 30 : 20)),
                large ? "GiB" : "MiB", done->written, done->held, 1e-9 * (double)done->bytes / done->written);
}

static enum status advance(struct saver *saver, struct progress *progress, struct saving *saving)
{
    struct checkpoint_progress done;
    enum status status = checkpoint_background_advance(saver->background, &done);
    if (!done.complete)
        return STATUS_OK;
    progress_break(progress);
    if (status != STATUS_OK) {
        report_failure(saver, saver->begun_step);
        return STATUS_OK;
    }
    saver->saved_step = saver->begun_step;
    saver->unproven = true;
    report_background(saver, &done);
    *saving = (struct saving){
        .done = true, .step = saver->saved_step, .bytes = done.bytes, .seconds = done.written, .held = done.held};
    return STATUS_OK;
}

enum status saver_follow(struct saver *saver, const double votes[VOTES], struct progress *progress,
                         struct saving *saving)
{
    *saving = (struct saving){0};
    if (!saver_active(saver) || votes[VOTE_WRITING] > 0.0)
        return STATUS_OK;
    return advance(saver, progress, saving);
}

enum status saver_settle(struct saver *saver, struct progress *progress, struct saving *saving)
{
    *saving = (struct saving){0};
    while (saver_active(saver)) {
        checkpoint_background_wait(saver->background);
        CHECK(advance(saver, progress, saving));
    }
    return STATUS_OK;
}

static enum status begin(struct saver *saver, struct progress *progress)
{
    struct trainer *trainer = saver->trainer;
    if (saver_active(saver)) {
        progress_break(progress);
        context_log(trainer->context,
                    "no checkpoint of step %lld: that of step %lld is still being written; checkpoint.every is short "
                    "for this disk",
                    (long long)trainer->step, (long long)saver->begun_step);
        return STATUS_OK;
    }
    enum status status = state_image_fill(trainer, saver->state, &saver->image);
    status = mesh_agree(trainer->mesh, trainer->context, status);
    if (status == STATUS_OK)
        status = checkpoint_background_begin(saver->background, &saver->target, saver->image.header);
    saver->begun_step = trainer->step;
    if (status != STATUS_OK) {
        progress_break(progress);
        report_failure(saver, trainer->step);
    }
    return STATUS_OK;
}

void saver_prove(struct saver *saver)
{
    const struct checkpoint_config *config = &saver->trainer->config->checkpoint;
    if (!saver->unproven || saver_active(saver) || saver->saved_step < 0)
        return;
    saver->unproven = false;
    checkpoint_prune(saver->trainer->context, saver->trainer->mesh, saver->target.folder, config->keep_last,
                     config->keep_every);
}

/* -- At once ------------------------------------------------------------------------------------------------------ */

static enum status write_now(struct saver *saver, struct saving *saving)
{
    struct trainer *trainer = saver->trainer;
    struct context *context = trainer->context;
    const struct checkpoint_target *target = &saver->target;
    const struct state_list *list = &saver->image.list;
    double start = clock_seconds();
    CHECK(mesh_agree(trainer->mesh, context, state_image_fill(trainer, saver->state, &saver->image)));
    CHECK(checkpoint_write(context, trainer->mesh, target->folder, saver->image.header, list->arrays, list->count));
    saver->saved_step = trainer->step;
    saver->unproven = true;
    double seconds = clock_seconds() - start;
    *saving = (struct saving){.done = true,
                              .step = trainer->step,
                              .bytes = checkpoint_bytes(list->arrays, list->count),
                              .seconds = seconds,
                              .held = seconds};
    return STATUS_OK;
}

enum status saver_save(struct saver *saver, bool last, struct progress *progress, struct saving *saving)
{
    int64_t step = saver->trainer->step;
    *saving = (struct saving){0};
    if (saver->saved_step == step)
        return STATUS_OK;
    if (saver->background && !last)
        return begin(saver, progress);
    progress_break(progress);
    enum status status = write_now(saver, saving);
    if (status != STATUS_OK && !last) {
        report_failure(saver, step);
        return STATUS_OK;
    }
    return status;
}
