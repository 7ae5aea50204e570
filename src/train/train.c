#include "src/train/train_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/events/events.h"
#include "src/core/clock.h"
#include "src/evaluate/evaluate.h"
#include "src/model/layers.h"
#include "src/train/confusion.h"
#include "src/train/rewind.h"
#include "src/train/run_folder.h"
#include "src/train/sample.h"

/* -- The loop -- */

static enum status fill_batch(struct train *train)
{
    return train->source.ops->fill(&train->source, &train->trainer.batch, train->trainer.sequences, train->carried);
}

static void follow_evaluation(void *self, int64_t done, int64_t all)
{
    progress_evaluation(self, done, all);
}

static enum status write_evaluation(struct train *train, const struct evaluation *evaluation)
{
    bool of_images = family_of_images(train->config->model.family);
    struct metrics_field fields[8] = {{"step", (double)train->trainer.step, true},
                                      {"validation_loss", evaluation->loss, false},
                                      {"validation_seconds", evaluation->seconds, false}};
    int count = 3;
    fields[count++] = (struct metrics_field){of_images ? "validation_images" : "validation_tokens",
                                             (double)evaluation->targets, true};
    if (of_images) {
        fields[count++] = (struct metrics_field){"validation_accuracy", evaluation->accuracy, false};
        fields[count++] = (struct metrics_field){"validation_accuracy5", evaluation->accuracy5, false};
    } else if (depth_is_routed(&train->config->model)) {
        fields[count++] = (struct metrics_field){"validation_causal", 1.0, true}; /* routers decided token by token */
    }
    if (evaluation->bytes > 0)
        fields[count++] =
            (struct metrics_field){"validation_bits_per_byte", evaluation_bits_per_byte(evaluation), false};
    if (train->confusion) {
        enum status status = confusion_write(train->context, train->config->run.folder, train->source.data_facts,
                                             train->confusion, train->config->model.image.classes);
        if (status == STATUS_FILE) { /* as other records that the disk does not take: it does not end the run */
            context_log(train->context, "%s", train->context->text);
            context_clear(train->context);
        } else if (status != STATUS_OK) {
            return status;
        }
    }
    return metrics_write(train->metrics, fields, count);
}

/* *stopped: before it was done, so that there is no result, and it is left to the next start. */
static enum status run_evaluation(struct train *train, int64_t batches, bool *stopped)
{
    struct evaluation_plan plan = {.batches = batches,
                                   .sampling = train->config->data.sampling,
                                   .confusion = train->confusion,
                                   .follow = follow_evaluation,
                                   .self = &train->progress};
    struct evaluation evaluation;
    train->lifecycle.evaluating = true;
    trainer_swap_average(&train->trainer);
    CHECK(train->source.ops->evaluate(&train->source, &train->trainer.evaluator, &plan, &evaluation));
    trainer_swap_average(&train->trainer);
    train->lifecycle.evaluating = false;
    *stopped = evaluation.stopped;
    if (*stopped)
        return STATUS_OK;
    lifecycle_evaluated(&train->lifecycle, evaluation.seconds);
    train_measure_peak(train);
    progress_break(&train->progress);
    char text[160];
    evaluation_describe(&evaluation, train->config, text, sizeof text);
    context_log(train->context, "step %lld: %s", (long long)train->trainer.step, text);
    return mesh_agree(train->mesh, train->context, train->root ? write_evaluation(train, &evaluation) : STATUS_OK);
}

/* What a save has cost goes into the metrics. Collective, agreed status. */
static enum status report_saving(struct train *train, const struct saving *saving)
{
    enum status status = STATUS_OK;
    if (!saving->done)
        return status;
    lifecycle_saved(&train->lifecycle, saving->held, saving->seconds);
    if (train->root) {
        const struct metrics_field fields[] = {
            {"step", (double)train->trainer.step, true},       {"checkpoint_step", (double)saving->step, true},
            {"checkpoint_bytes", (double)saving->bytes, true}, {"checkpoint_seconds", saving->seconds, false},
            {"checkpoint_held_seconds", saving->held, false}, /* for which training stood still */
        };
        status = metrics_write(train->metrics, fields, sizeof fields / sizeof *fields);
    }
    return mesh_agree(train->mesh, train->context, status);
}

/* Parameters that have grown out of all proportion give finite losses, too, at times. *sound on all ranks alike. */
static bool parameters_sound(struct train *train)
{
    double size = trainer_parameter_size(&train->trainer);
    if (size <= train->size_limit)
        return true;
    progress_break(&train->progress);
    context_log(
        train->context,
        "step %lld is not saved: the parameters have a root mean square of %.3g, where %.3g would be much; lower "
        "optimizer.learning_rate",
        (long long)train->trainer.step, size, train->size_limit);
    return false;
}

static enum status save(struct train *train, bool last)
{
    struct saving saving;
    if (train->checkpointer.saved_step != train->trainer.step)
        CHECK(trainer_compare(&train->trainer));
    location_work(&train->context->location, LOCATION_CHECKPOINT);
    if (last) {
        CHECK(checkpointer_settle(&train->checkpointer, &train->progress, &saving));
        CHECK(report_saving(train, &saving));
    }
    CHECK(checkpointer_save(&train->checkpointer, last, &train->progress, &saving));
    lifecycle_save_begun(&train->lifecycle);
    return report_saving(train, &saving);
}

/* What is written behind the training goes on. */
static enum status follow_saving(struct train *train, const struct step_result *result)
{
    struct saving saving;
    CHECK(checkpointer_follow(&train->checkpointer, result->votes, &train->progress, &saving));
    return report_saving(train, &saving);
}

/* What could not be written `seconds` ago or earlier. */
static enum status retry_records(struct train *train, double seconds)
{
    bool waits = train->config_waits || train->note_waits;
    if (!waits || clock_seconds() - train->records_tried < seconds)
        return STATUS_OK;
    if (train->note_waits)
        CHECK(train_write_note(train));
    return train->config_waits ? train_write_config(train) : STATUS_OK;
}

/* The model's own numbers, of the steps that are logged and of the one that is looked at for a warning. */
static void begin_scalars(struct train *train)
{
    const struct model_scalars_ops *ops = train->trainer.model->ops->scalars;
    const struct config *config = train->config;
    int64_t step = train->trainer.step + 1;
    if (ops)
        ops->begin(&train->scalars, step % config->run.log_every == 0 || step == config->training.gate_warning_steps);
}

static void end_scalars(struct train *train)
{
    const struct model_scalars_ops *ops = train->trainer.model->ops->scalars;
    char text[sizeof train->context->text];
    if (!ops)
        return;
    ops->end(&train->scalars);
    if (!ops->warning(&train->scalars, train->trainer.step, text, sizeof text))
        return;
    progress_break(&train->progress);
    context_log(train->context, "%s", text);
}

static void destroy_state(struct train *train)
{
    const struct model_ops *model = train->trainer.model ? train->trainer.model->ops : NULL;
    if (model && train->scalars.self)
        model->scalars->destroy(train->context, &train->scalars);
    if (model && train->carried)
        model->state->destroy(&train->carried);
}

static enum status report_step(struct train *train, const struct step_result *result, double seconds,
                               int64_t allocations)
{
    const struct trainer *trainer = &train->trainer;
    bool of_images = family_of_images(train->config->model.family);
    double tokens = (double)trainer->batch.token_count;
    double flops = tokens * trainer->model->ops->flops(&train->config->model, trainer->batch.length, result->surplus,
                                                       &trainer->session.parameters);
    /* What a step reached is possible, whatever the looks at products saw. */
    train->peak = fmax(train->peak, fmax(flops, result->executed) / seconds);
    struct progress_line line = {.step = trainer->step,
                                 .steps = train->config->training.steps,
                                 .end = train_end(train),
                                 .loss = result->loss,
                                 .router_loss = result->router_loss,
                                 .rate = result->rate,
                                 .seconds = seconds,
                                 .tokens_per_second = tokens / seconds,
                                 .images_per_second = of_images ? (double)trainer->batch.target_count / seconds : 0.0,
                                 .mfu = flops / seconds / train->peak,
                                 .skipped = result->skipped,
                                 .no_target = result->no_target};
    progress_show(&train->progress, &line);
    end_scalars(train);
    if (train->root)
        CHECK(retry_records(train, 1.0));
    if (!train->root || trainer->step % train->config->run.log_every != 0)
        return STATUS_OK;
    const struct metrics_field always[] = {
        {"step", (double)trainer->step, true},
        {"tokens", (double)trainer->tokens, true},
        {"targets", (double)trainer->batch.target_count, true}, /* of this step; without any there is no loss */
        {"loss", result->loss, false},
        {"loss_router", result->router_loss, false},
        {"learning_rate", result->rate, false},
        {"grad_norm", result->gradient_norm, false},
        {"skipped", (double)trainer->skipped, true},
        {"updates", (double)trainer->updates, true},
        {"seconds", seconds, false},
        {"tokens_per_second", line.tokens_per_second, false},
        {"mfu", line.mfu, false},
        {"flops_peak", train->peak, true}, /* a second, of all ranks: the most that was seen so far */
        {"flops_useful", flops, true},
        {"flops_executed", result->executed, true},
        {"memory_bytes", (double)train->context->memory.bytes_total, true},
        {"memory_resident_bytes", (double)memory_resident(), true},
        {"step_allocations", (double)allocations, true},
    };
    enum { ALWAYS = sizeof always / sizeof *always };
    const struct model_scalars *scalars = &train->scalars;
    struct metrics_field fields[ALWAYS + MODEL_NUMBERS + SOURCE_COUNTS + 1];
    struct metrics_list lists[MODEL_LISTS];
    int count = ALWAYS;
    memcpy(fields, always, sizeof always);
    for (int i = 0; i < scalars->number_count; i++)
        fields[count++] = (struct metrics_field){scalars->number[i].name, scalars->number[i].value, false};
    if (of_images)
        fields[count++] = (struct metrics_field){"images_per_second", line.images_per_second, false};
    struct source_count counts[SOURCE_COUNTS];
    int source_counts = train->source.ops->count ? train->source.ops->count(&train->source, counts) : 0;
    for (int i = 0; i < source_counts; i++)
        fields[count++] = (struct metrics_field){counts[i].name, counts[i].value, counts[i].integer};
    for (int i = 0; i < scalars->list_count; i++)
        lists[i] = (struct metrics_list){scalars->list[i].name, scalars->list[i].values, scalars->list[i].count};
    return metrics_write_lists(train->metrics, fields, count, lists, scalars->list_count);
}

/* After a spike of the loss; the metrics then go on after the step that the run has gone back to. */
static enum status go_back(struct train *train)
{
    struct rewind rewind;
    struct saving saving;
    progress_break(&train->progress);
    CHECK(checkpointer_settle(&train->checkpointer, &train->progress, &saving));
    CHECK(report_saving(train, &saving));
    CHECK(rewind_run(&train->trainer, train->carried, train->checkpoints, &rewind));
    if (rewind.done)
        train->checkpointer.saved_step = rewind.saved ? rewind.to : -1;
    return mesh_agree(train->mesh, train->context,
                      rewind_tell(train->context, &rewind, train->config->run.folder, &train->metrics));
}

/* What was saved before a sound step is good; when steps are not, nothing is saved, which is told when it begins. */
static void watch_soundness(struct train *train, const struct step_result *result)
{
    struct trainer *trainer = &train->trainer;
    if (result->no_target)
        return;
    if (trainer->sound && trainer->step > train->checkpointer.saved_step)
        checkpointer_prove(&train->checkpointer);
    if (!trainer->sound && !result->skipped && !train->ruined) {
        progress_break(&train->progress);
        context_log(train->context,
                    "step %lld: the loss is %.4g, and above %.4g the parameters are taken for ruined: nothing is saved "
                    "until it comes down; lower optimizer.learning_rate, or look at the data",
                    (long long)trainer->step, result->loss, trainer->loss_limit);
    }
    train->ruined = !trainer->sound && !result->skipped;
}

static enum status run_step(struct train *train, double votes[VOTES])
{
    struct trainer *trainer = &train->trainer;
    int64_t limit = train->config->training.skip_limit;
    int64_t allocations = train->context->memory.allocations;
    double start = clock_seconds();
    double waited = train->context->time.seconds[TIME_COMMUNICATION];
    struct step_result result;
    CHECK(fill_batch(train));
    begin_scalars(train);
    CHECK(trainer_step(trainer, &result));
    if (result.votes[VOTE_LOST] > 0.0)
        CHECK(mesh_agree(train->mesh, train->context, lock_check(train->context, train->lock)));
    /* What a step that went wrong left behind is not to be remembered. */
    if (train->carried && !result.skipped)
        trainer->model->ops->state->advance(train->carried);
    double seconds = clock_seconds() - start;
    waited = train->context->time.seconds[TIME_COMMUNICATION] - waited;
    CHECK(report_step(train, &result, seconds, train->context->memory.allocations - allocations));
    CHECK(follow_saving(train, &result));
    lifecycle_stepped(&train->lifecycle, clock_seconds() - start);
    memcpy(votes, result.votes, sizeof result.votes);
    CHECK(watches_step(&train->watches, trainer, seconds - waited, &train->progress, train->metrics));
    watch_soundness(train, &result);
    if (!result.no_target && spike_step(&trainer->spikes, result.loss, !result.skipped))
        return go_back(train);
    if (result.skipped && trainer->skipped_in_row >= limit) {
        enum status status = context_fail(
            train->context, STATUS_NUMERIC,
            "%lld steps in a row had a loss or gradient norm that is not finite (step %lld: loss %g, norm %g); lower "
            "optimizer.learning_rate, or resume from an earlier checkpoint",
            (long long)trainer->skipped_in_row, (long long)trainer->step, result.loss, result.gradient_norm);
        train->context->agreed = true; /* every rank computed the same loss and norm */
        return status;
    }
    return STATUS_OK;
}

static bool evaluation_due(const struct train *train)
{
    int64_t every = train->config->evaluation.every;
    return train->source.validates && every && train->trainer.step % every == 0;
}

/* Whether the step that the run goes on from was evaluated before. Collective. */
static bool evaluation_seen(const struct train *train)
{
    int64_t seen = train->root && metrics_seen(train->metrics, "validation_loss");
    mesh_broadcast(train->mesh, MESH_TEAM, 0, &seen, 1, DTYPE_I64);
    return seen;
}

/* What is done between two steps. */
static enum status run_between(struct train *train, const double votes[VOTES], bool *stopped)
{
    const struct config *config = train->config;
    *stopped = votes[VOTE_STOP] > 0.0;
    if (!*stopped && evaluation_due(train))
        CHECK(run_evaluation(train, config->evaluation.batches, stopped));
    /* Nothing to go back to is made while a spike may be under way. */
    bool calm = train->trainer.spikes.in_row == 0 && train->trainer.sound;
    bool due = calm && config->checkpoint.every > 0 && train->trainer.step % config->checkpoint.every == 0;
    bool asked = calm && votes[VOTE_SAVE] > 0.0;
    if ((due || asked) && parameters_sound(train))
        CHECK(save(train, *stopped));
    if (asked)
        lifecycle_obeyed(&train->lifecycle, VOTE_SAVE);
    return STATUS_OK;
}

/* The loss of the next batch, which is the first to know the newest parameters, decides whether the checkpoint of this
 * step may take the place of those before it. */
static enum status prove_last(struct train *train, bool *good)
{
    struct trainer *trainer = &train->trainer;
    struct step_result result;
    CHECK(fill_batch(train));
    train->lifecycle.evaluating = true;
    CHECK(trainer_loss(trainer, &result));
    train->lifecycle.evaluating = false;
    bool judged = trainer->batch.target_count > 0 && trainer->loss_limit > 0.0;
    *good = !judged || result.loss <= trainer->loss_limit;
    if (*good) {
        checkpointer_prove(&train->checkpointer);
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (train->root && train->checkpointer.saved_step == trainer->step) {
        char aside[RUN_PATH + 16];
        run_folder_free_name(train->checkpoints, aside, sizeof aside);
        status = checkpoint_set_aside(train->context, train->checkpoints, trainer->step - 1, aside);
    }
    return mesh_agree(train->mesh, train->context, status);
}

/* At the end, or where a stop was asked for. A state that no sound step vouches for is not kept: a run that was stopped
 * goes on from the one before, and one that ends so has failed. */
static enum status save_last(struct train *train, bool stopped, bool moved)
{
    const struct trainer *trainer = &train->trainer;
    struct saving saving;
    bool good = trainer->sound && (train->checkpointer.saved_step == trainer->step || parameters_sound(train));
    if (good)
        CHECK(save(train, true));
    if (good && moved)
        CHECK(prove_last(train, &good));
    if (good)
        return STATUS_OK;
    CHECK(checkpointer_settle(&train->checkpointer, &train->progress, &saving));
    CHECK(report_saving(train, &saving));
    if (stopped) {
        context_log(train->context, "step %lld was not sound, and is not kept; the next start goes on before it",
                    (long long)trainer->step);
        return STATUS_OK;
    }
    enum status status = context_fail(train->context, STATUS_NUMERIC,
                                      "the run came to its end at step %lld with a loss or parameters that are not "
                                      "finite or far beyond where it began "
                                      "(%lld steps skipped in a row), so this step is not saved; lower "
                                      "optimizer.learning_rate, and start again: it goes on from "
                                      "the last good checkpoint",
                                      (long long)trainer->step, (long long)trainer->skipped_in_row);
    train->context->agreed = true; /* every rank computed the same losses */
    return status;
}

static enum status run_steps(struct train *train, bool *stopped)
{
    int64_t end = train_end(train);
    bool runs = train->trainer.step < end;
    bool seen = evaluation_seen(train);
    /* A stop may have come between a step and its evaluation. */
    if (runs && train->checkpointer.saved_step > 0 && !seen && evaluation_due(train))
        CHECK(run_evaluation(train, train->config->evaluation.batches, stopped));
    while (train->trainer.step < end && !*stopped) {
        double votes[VOTES];
        int64_t before = train->trainer.step;
        CHECK(run_step(train, votes));
        /* A run that went back has done before what is due there. */
        if (train->trainer.step > before && train->trainer.step < end)
            CHECK(run_between(train, votes, stopped));
    }
    progress_break(&train->progress);
    CHECK(save_last(train, *stopped, runs));
    lifecycle_obeyed(&train->lifecycle, VOTE_SAVE);
    /* A run that was finished before may have its last evaluation, too. */
    if (!*stopped && train->source.validates && (runs || !seen))
        CHECK(run_evaluation(train, train->config->evaluation.final_batches, stopped));
    lifecycle_obeyed(&train->lifecycle, VOTE_STOP);
    return mesh_agree(train->mesh, train->context, *stopped ? lifecycle_stopped(&train->lifecycle) : STATUS_OK);
}

enum status train_run(struct context *context, struct mesh *mesh, struct engine *engine, const struct config *config,
                      const struct resume *resume, bool *stopped)
{
    enum status status = STATUS_MEMORY;
    struct train *train = memory_allocate(context, sizeof *train, MEMORY_OTHER);
    if (!train)
        return status;
    train->context = context;
    train->mesh = mesh;
    train->config = config;
    train->root = mesh_rank(mesh, MESH_TEAM) == 0;
    train->trainer.context = context;
    train->trainer.engine = engine;
    snprintf(train->checkpoints, sizeof train->checkpoints, "%s/checkpoints", config->run.folder);
    progress_create(&train->progress, train->root);
    TRY(mesh_agree(mesh, context, lifecycle_create(context, &train->trainer, config, train->root, &train->lifecycle)));
    TRY(train_start(train, resume));
    TRY(run_steps(train, stopped));
    TRY(retry_records(train, 0.0));
    train->lifecycle.evaluating = true;
    if (!*stopped) {
        trainer_swap_average(&train->trainer);
        TRY(sample_show(&train->trainer, train->source.tokenizer, train->root));
    }
    lifecycle_obeyed(&train->lifecycle, VOTE_STOP);
done:
    progress_break(&train->progress);
    watches_destroy(&train->watches);
    bool again = status == STATUS_OK ? *stopped : status == STATUS_AGAIN;
    lifecycle_destroy(&train->lifecycle, again ? TRAIN_AGAIN : status != STATUS_OK ? 1 : 0);
    checkpointer_destroy(&train->checkpointer);
    metrics_close(&train->metrics);
    events_destroy(&train->events);
    lock_release(&train->lock);
    destroy_state(train);
    trainer_destroy(&train->trainer);
    source_close(&train->source);
    memory_free(context, train->confusion);
    memory_free(context, train);
    return status;
}
