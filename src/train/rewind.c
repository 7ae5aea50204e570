#include "src/train/rewind.h"

#include "io/events/events.h"

#include <stdio.h>

#include "src/train/run_folder.h"
#include "src/train/state.h"

/* What was saved in the spike, or behind it. */
static enum status set_aside(const struct trainer *trainer, const char *folder)
{
    char aside[CHECKPOINT_PATH];
    if (mesh_rank(trainer->mesh, MESH_TEAM) != 0)
        return STATUS_OK;
    run_folder_free_name(folder, aside, sizeof aside);
    return checkpoint_set_aside(trainer->context, folder, trainer->step, aside);
}

enum status rewind_run(struct trainer *trainer, struct model_state *state, const char *folder, struct rewind *rewind)
{
    const struct watch_config *watch = &trainer->config->watch;
    struct spike_watch *spikes = &trainer->spikes;
    struct context *context = trainer->context;
    struct mesh *mesh = trainer->mesh;
    int64_t rewinds = spikes->rewinds + 1;
    int64_t next = trainer->sequences + watch->spike_skip * trainer->batch.rows;
    char path[CHECKPOINT_PATH];
    *rewind = (struct rewind){.first = trainer->step - spikes->in_row + 1, .from = trainer->step};
    if (rewinds > watch->spike_limit) {
        enum status status = context_fail(
            context, STATUS_NUMERIC,
            "the loss spikes at step %lld, and the run has gone back %lld times before (watch.spike_limit); lower "
            "optimizer.learning_rate, look at the data behind sequence %lld, or raise watch.spike_factor",
            (long long)rewind->first, (long long)watch->spike_limit,
            (long long)(trainer->sequences - spikes->in_row * trainer->batch.rows));
        context->agreed = true; /* every rank saw the same losses */
        return status;
    }
    spikes->in_row = 0;
    CHECK(checkpoint_find_before(context, mesh, folder, rewind->first, &rewind->done, path));
    if (!rewind->done)
        return STATUS_OK;
    CHECK(state_load(trainer, state, path));
    rewind->to = trainer->step;
    rewind->skipped = (next - trainer->sequences) / trainer->batch.rows;
    int64_t before = trainer->sequences;
    trainer->sequences = next;
    spikes->rewinds = rewinds;
    spikes->in_row = 0;
    for (int64_t row = 0; state && trainer->sequences != before && row < trainer->batch.mine.count; row++)
        trainer->model->ops->state->reset(state, row);
    CHECK(mesh_agree(mesh, context, set_aside(trainer, folder)));
    enum status status = state_save(trainer, state, folder);
    rewind->saved = status == STATUS_OK;
    if (status != STATUS_FILE)
        return status;
    context_log(context, "checkpoint of step %lld failed: %s; training goes on, and a start would go back once more",
                (long long)trainer->step, context->text);
    context_clear(context);
    return STATUS_OK;
}

enum status rewind_tell(struct context *context, const struct rewind *rewind, const char *run, struct metrics **metrics)
{
    char path[CHECKPOINT_PATH];
    char aside[CHECKPOINT_PATH + 16];
    if (!rewind->done) {
        context_log(context,
                    "step %lld: the loss has spiked since step %lld, and there is no checkpoint from before to go back "
                    "to; training goes on",
                    (long long)rewind->from, (long long)rewind->first);
        return STATUS_OK;
    }
    context_log(context,
                "step %lld: the loss has spiked since step %lld; back to step %lld, leaving out the data of %lld steps",
                (long long)rewind->from, (long long)rewind->first, (long long)rewind->to, (long long)rewind->skipped);
    if (!*metrics)
        return STATUS_OK;
    const struct metrics_field fields[] = {
        {"step", (double)rewind->to, true},
        {"rewind_from", (double)rewind->from, true},
        {"rewind_spike", (double)rewind->first, true},
        {"rewind_skipped", (double)rewind->skipped, true},
    };
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    struct events *events = metrics_events(*metrics);
    metrics_close(metrics);
    run_folder_free_name(path, aside, sizeof aside);
    CHECK(metrics_open(context, path, rewind->to, aside, metrics));
    metrics_mirror(*metrics, events);
    if (events)
        events_restart(events, rewind->to + 1);
    return metrics_write(*metrics, fields, (int)(sizeof fields / sizeof *fields));
}
