#include "src/train/life.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/core/text.h"

/* A year: a scheduler that knows no limit may name a time in a far future. */
#define LONGEST_JOB 3.2e7

enum status life_create(struct context *context, const struct trainer *trainer, const struct config *config, bool root,
                        struct life *life)
{
    *life =
        (struct life){.context = context, .config = config, .trainer = trainer, .root = root, .began = clock_seconds()};
    return requests_create(context, root ? config->run.folder : NULL, &life->requests);
}

double life_job_seconds(struct context *context)
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

enum status life_begin(struct life *life, int64_t last_step, bool evaluates)
{
    const struct job_config *job = &life->config->job;
    struct history_summary past;
    CHECK(history_open(life->context, life->config->run.folder, life->trainer->step, &past, &life->history));
    double limit = 0.0;
    double end = text_to_time_limit(job->time_limit, &limit) ? life->began + limit
                                                             : clock_seconds() + life_job_seconds(life->context);
    struct pilot_history history = {past.seconds, past.failures, past.checkpoint_seconds};
    pilot_create(&life->pilot, life->began, end, job->mean_hours_between_failures, checkpoint_bytes(life->trainer),
                 &history);
    life->pilot.chooses = life->config->checkpoint.every < 0;
    life->first_step = life->trainer->step;
    life->last_step = last_step;
    life->evaluates = evaluates && life->config->evaluation.every > 0;
    return STATUS_OK;
}

void life_destroy(struct life *life, int code)
{
    if (!life->context)
        return;
    bool wrote = life->pilot.parts[PILOT_WRITE].count > 0;
    history_close(&life->history, life->trainer->step, code,
                  wrote ? pilot_expect(&life->pilot, PILOT_WRITE) : life->pilot.history.write_seconds);
    requests_destroy(life->context, &life->requests);
}

/* -- Votes ------------------------------------------------------------------------------------------------------- */

void life_cast(struct life *life, bool writing, double votes[VOTES])
{
    requests_cast(life->requests, votes);
    int64_t step = life->trainer->step + 1; /* the one under way, which is counted when it is over */
    if (!life->root || !life->history || (step == life->last_step && !life->evaluating))
        return;
    double now = clock_seconds();
    int64_t every = life->config->checkpoint.every;
    bool evaluates = !life->evaluating && life->evaluates && step % life->config->evaluation.every == 0;
    bool pays = !life->evaluating && pilot_must_save(&life->pilot, now);
    bool saves = pays || (!life->evaluating && every > 0 && step % every == 0);
    votes[VOTE_SAVE] += pays;
    if (pilot_must_stop(&life->pilot, now, &(struct pilot_outlook){evaluates, saves, writing})) {
        life->limited = true;
        votes[VOTE_STOP] += 1.0;
    }
}

/* -- What it learns ---------------------------------------------------------------------------------------------- */

void life_stepped(struct life *life, double seconds)
{
    char text[400];
    if (!life->root)
        return;
    history_retry(life->history);
    pilot_learn(&life->pilot, PILOT_STEP, seconds);
    int64_t left = life->last_step - life->trainer->step;
    if (pilot_describe(&life->pilot, clock_seconds(), left, text, sizeof text))
        context_log(life->context, "%s", text);
}

void life_evaluated(struct life *life, double seconds)
{
    pilot_learn(&life->pilot, PILOT_EVALUATION, seconds);
}

void life_save_begun(struct life *life)
{
    pilot_saved(&life->pilot, clock_seconds());
}

void life_saved(struct life *life, double held, double written)
{
    pilot_learn(&life->pilot, PILOT_HOLD, held);
    pilot_learn(&life->pilot, PILOT_WRITE, written);
}

/* -- What was decided -------------------------------------------------------------------------------------------- */

void life_obeyed(struct life *life, enum vote vote)
{
    if (life->root)
        requests_obeyed(life->requests, vote);
}

enum status life_stopped(struct life *life)
{
    int64_t step = life->trainer->step;
    int64_t left = life->last_step - step;
    int64_t done = step - life->first_step;
    const char *reason = requests_reason(life->requests);
    char jobs[64] = "";
    if (!life->root)
        return STATUS_OK;
    if (!reason)
        reason = life->limited ? "the time limit of the job" : "a signal to another rank";
    if (life->limited && life->pilot.parts[PILOT_STEP].count == 0)
        return context_fail(
            life->context, STATUS_USAGE,
            "the time limit of the job leaves no time for the evaluation after step %lld; choose a longer "
            "one (job.time_limit, sbatch --time) or fewer evaluation.batches",
            (long long)step);
    if (life->limited && left > 0 && done > 0)
        snprintf(jobs, sizeof jobs, "; %.1f more jobs like this one finish it", (double)left / (double)done);
    context_log(life->context, "stopped after step %lld of %lld by %s%s; start it again to go on", (long long)step,
                (long long)life->last_step, reason, jobs);
    return STATUS_OK;
}
