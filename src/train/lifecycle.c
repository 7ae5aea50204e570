#include "src/train/lifecycle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/core/text.h"

/* A year: a scheduler that knows no limit may name a time in a far future. */
#define LONGEST_JOB 3.2e7

enum status lifecycle_create(struct context *context, const struct trainer *trainer, const struct config *config,
                             bool root, struct lifecycle *lifecycle)
{
    *lifecycle = (struct lifecycle){
        .context = context, .config = config, .trainer = trainer, .root = root, .began = clock_seconds()};
    return requests_create(context, root ? config->run.folder : NULL, &lifecycle->requests);
}

double lifecycle_job_seconds(struct context *context)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    int64_t end = 0;
    if (!text || !text[0])
        return INFINITY;
    if (!text_to_integer(text, &end)) {
        context_log(context, "SLURM_JOB_END_TIME is \"%s\" and no time; the job is taken to have no limit", text);
        return INFINITY;
    }
    double left = difftime((time_t)end, time(NULL));
    if (end > 0 && left <= 0.0) {
        context_log(
            context,
            "SLURM_JOB_END_TIME was %.0f s ago, so it is that of another job; this one is taken to have no limit",
            -left);
        return INFINITY;
    }
    return end > 0 && left < LONGEST_JOB ? left : INFINITY;
}

/* Of parameters and both moments in fp32. */
static int64_t checkpoint_bytes(const struct trainer *trainer)
{
    return 3 * (int64_t)sizeof(float) * parameter_list_elements(&trainer->session.parameters);
}

enum status lifecycle_begin(struct lifecycle *lifecycle, int64_t last_step, bool evaluates)
{
    const struct job_config *job = &lifecycle->config->job;
    struct history_summary past;
    CHECK(history_open(lifecycle->context, lifecycle->config->run.folder, lifecycle->trainer->step, &past,
                       &lifecycle->history));
    double limit = 0.0;
    double end = text_to_time_limit(job->time_limit, &limit)
                     ? lifecycle->began + limit
                     : clock_seconds() + lifecycle_job_seconds(lifecycle->context);
    struct timekeeper_history history = {past.seconds, past.failures, past.checkpoint_seconds};
    timekeeper_create(&lifecycle->timekeeper, lifecycle->began, end, job->mean_hours_between_failures,
                      checkpoint_bytes(lifecycle->trainer), &history);
    lifecycle->timekeeper.chooses = lifecycle->config->checkpoint.every < 0;
    lifecycle->first_step = lifecycle->trainer->step;
    lifecycle->last_step = last_step;
    lifecycle->evaluates = evaluates && lifecycle->config->evaluation.every > 0;
    return STATUS_OK;
}

void lifecycle_destroy(struct lifecycle *lifecycle, int code)
{
    if (!lifecycle->context)
        return;
    bool wrote = lifecycle->timekeeper.parts[TIMEKEEPER_WRITE].count > 0;
    history_close(&lifecycle->history, lifecycle->trainer->step, code,
                  wrote ? timekeeper_expect(&lifecycle->timekeeper, TIMEKEEPER_WRITE)
                        : lifecycle->timekeeper.history.write_seconds);
    requests_destroy(lifecycle->context, &lifecycle->requests);
}

/* -- Votes -- */

void lifecycle_cast(struct lifecycle *lifecycle, bool writing, double votes[VOTES])
{
    requests_cast(lifecycle->requests, votes);
    int64_t step = lifecycle->trainer->step + 1; /* the one under way, which is counted when it is over */
    if (!lifecycle->root || !lifecycle->history || (step == lifecycle->last_step && !lifecycle->evaluating))
        return;
    double now = clock_seconds();
    int64_t every = lifecycle->config->checkpoint.every;
    bool evaluates = !lifecycle->evaluating && lifecycle->evaluates && step % lifecycle->config->evaluation.every == 0;
    bool pays = !lifecycle->evaluating && timekeeper_must_save(&lifecycle->timekeeper, now);
    bool saves = pays || (!lifecycle->evaluating && every > 0 && step % every == 0);
    votes[VOTE_SAVE] += pays;
    if (timekeeper_must_stop(&lifecycle->timekeeper, now, &(struct timekeeper_outlook){evaluates, saves, writing})) {
        lifecycle->limited = true;
        votes[VOTE_STOP] += 1.0;
    }
}

/* -- What it learns -- */

void lifecycle_stepped(struct lifecycle *lifecycle, double seconds)
{
    char text[400];
    if (!lifecycle->root)
        return;
    history_retry(lifecycle->history);
    timekeeper_learn(&lifecycle->timekeeper, TIMEKEEPER_STEP, seconds);
    int64_t left = lifecycle->last_step - lifecycle->trainer->step;
    if (timekeeper_describe(&lifecycle->timekeeper, clock_seconds(), left, text, sizeof text))
        context_log(lifecycle->context, "%s", text);
}

void lifecycle_evaluated(struct lifecycle *lifecycle, double seconds)
{
    timekeeper_learn(&lifecycle->timekeeper, TIMEKEEPER_EVALUATION, seconds);
}

void lifecycle_save_begun(struct lifecycle *lifecycle)
{
    timekeeper_saved(&lifecycle->timekeeper, clock_seconds());
}

void lifecycle_saved(struct lifecycle *lifecycle, double held, double written)
{
    timekeeper_learn(&lifecycle->timekeeper, TIMEKEEPER_HOLD, held);
    timekeeper_learn(&lifecycle->timekeeper, TIMEKEEPER_WRITE, written);
}

/* -- What was decided -- */

void lifecycle_obeyed(struct lifecycle *lifecycle, enum vote vote)
{
    if (lifecycle->root)
        requests_obeyed(lifecycle->requests, vote);
}

enum status lifecycle_stopped(struct lifecycle *lifecycle)
{
    int64_t step = lifecycle->trainer->step;
    int64_t left = lifecycle->last_step - step;
    int64_t done = step - lifecycle->first_step;
    const char *reason = requests_reason(lifecycle->requests);
    char jobs[64] = "";
    if (!lifecycle->root)
        return STATUS_OK;
    if (!reason)
        reason = lifecycle->limited ? "the time limit of the job" : "a signal to another rank";
    if (lifecycle->limited && lifecycle->timekeeper.parts[TIMEKEEPER_STEP].count == 0)
        return context_fail(
            lifecycle->context, STATUS_USAGE,
            "the time limit of the job leaves no time for the evaluation after step %lld; choose a longer "
            "one (job.time_limit, sbatch --time) or fewer evaluation.batches",
            (long long)step);
    if (lifecycle->limited && left > 0 && done > 0)
        snprintf(jobs, sizeof jobs, "; %.1f more jobs like this one finish it", (double)left / (double)done);
    context_log(lifecycle->context, "stopped after step %lld of %lld by %s%s; start it again to go on", (long long)step,
                (long long)lifecycle->last_step, reason, jobs);
    return STATUS_OK;
}
