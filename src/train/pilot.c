#include "src/train/pilot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/core/text.h"

/* What a slow file system takes, until the first write is seen. */
#define PRIOR_SECONDS 1.0
#define PRIOR_BYTES_PER_SECOND 1e8
/* A write may become slower than any before: other jobs use the same storage. */
#define WRITE_RESERVE 1.5
/* Seconds after which a start has its first checkpoint at the latest. */
#define FIRST 60.0
/* The share of the job after which the first checkpoint is written at the latest. */
#define TRIAL 0.1

/* -- What it is told --------------------------------------------------------------------------------------------- */

void pilot_create(struct pilot *pilot, double begin, double end, double mean_hours, int64_t bytes,
                  const struct pilot_history *history)
{
    *pilot = (struct pilot){.begin = begin, .end = end, .saved = begin, .history = *history};
    pilot->margin = isfinite(end) ? fmin(60.0, fmax(1.0, 0.01 * (end - begin))) : 0.0;
    pilot->prior_mean = 3600.0 * mean_hours;
    pilot->prior_write =
        history->write_seconds > 0.0 ? history->write_seconds : PRIOR_SECONDS + (double)bytes / PRIOR_BYTES_PER_SECOND;
}

void pilot_learn(struct pilot *pilot, enum pilot_part part, double seconds)
{
    struct pilot_samples *samples = &pilot->parts[part];
    samples->seconds[samples->count++ % PILOT_SAMPLES] = seconds;
}

void pilot_saved(struct pilot *pilot, double now)
{
    pilot->saved = now;
    pilot->tried = true;
}

/* -- What it answers --------------------------------------------------------------------------------------------- */

static int samples_held(const struct pilot_samples *samples)
{
    return samples->count < PILOT_SAMPLES ? (int)samples->count : PILOT_SAMPLES;
}

/* The largest of those that are left when one in twenty, the largest, are set aside; 0 without any. */
static double samples_high(const struct pilot_samples *samples)
{
    double sorted[PILOT_SAMPLES];
    int count = samples_held(samples);
    for (int i = 0; i < count; i++) {
        int place = i;
        for (; place > 0 && sorted[place - 1] < samples->seconds[i]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = samples->seconds[i];
    }
    return count > 0 ? sorted[count / 20] : 0.0;
}

static double samples_mean(const struct pilot_samples *samples)
{
    int count = samples_held(samples);
    double sum = 0.0;
    for (int i = 0; i < count; i++)
        sum += samples->seconds[i];
    return count > 0 ? sum / count : 0.0;
}

double pilot_expect(const struct pilot *pilot, enum pilot_part part)
{
    const struct pilot_samples *samples = &pilot->parts[part];
    bool writes = part == PILOT_WRITE || part == PILOT_HOLD;
    return samples->count == 0 && writes ? pilot->prior_write : samples_high(samples);
}

bool pilot_must_stop(const struct pilot *pilot, double now, const struct pilot_outlook *outlook)
{
    double next = pilot_expect(pilot, PILOT_STEP);
    double writes = outlook->writing ? 2.0 : 1.0;
    if (outlook->evaluates)
        next += pilot_expect(pilot, PILOT_EVALUATION);
    if (outlook->saves)
        next += pilot_expect(pilot, PILOT_HOLD);
    return now + next + writes * WRITE_RESERVE * pilot_expect(pilot, PILOT_WRITE) + pilot->margin > pilot->end;
}

/* Who has to be done in time should know early what a write takes. */
static bool tries_storage(const struct pilot *pilot, double now)
{
    bool known = pilot->parts[PILOT_WRITE].count > 0 || pilot->history.write_seconds > 0.0;
    return !known && now - pilot->begin >= TRIAL * (pilot->end - pilot->begin);
}

/* Where nothing was saved yet the next step must not come too late. */
static bool needs_first(const struct pilot *pilot, double now)
{
    return !pilot->tried && now + samples_mean(&pilot->parts[PILOT_STEP]) - pilot->begin > FIRST;
}

bool pilot_must_save(const struct pilot *pilot, double now)
{
    double half = 0.5 * samples_mean(&pilot->parts[PILOT_STEP]);
    bool due = now + half - pilot->saved >= pilot_interval(pilot, now);
    return pilot->chooses && (due || needs_first(pilot, now) || tries_storage(pilot, now));
}

double pilot_mean_between_failures(const struct pilot *pilot, double now)
{
    double seconds = pilot->history.seconds + (now - pilot->begin);
    return (pilot->prior_mean + seconds) / (1.0 + (double)pilot->history.failures);
}

double pilot_interval(const struct pilot *pilot, double now)
{
    const struct pilot_samples *held = &pilot->parts[PILOT_HOLD];
    double hold = held->count > 0 ? samples_mean(held) : pilot->prior_write;
    double interval = pilot_daly(hold, pilot_mean_between_failures(pilot, now));
    /* A write behind the training must be over before the next one begins. */
    return fmax(interval, pilot_expect(pilot, PILOT_WRITE));
}

static bool is_news(double value, double told)
{
    return told == 0.0 || value > 1.25 * told || value < 0.75 * told;
}

bool pilot_describe(struct pilot *pilot, double now, int64_t steps, char *text, size_t size)
{
    enum { STEPS_SEEN = 5 };
    const struct pilot_samples *seen = &pilot->parts[PILOT_STEP];
    double step = samples_mean(seen);
    if (seen->count < STEPS_SEEN || !(step > 0.0))
        return false;
    double interval = pilot_interval(pilot, now);
    double room = pilot->end - pilot->margin - WRITE_RESERVE * pilot_expect(pilot, PILOT_WRITE) - now;
    double fit = fmax(0.0, floor(room / step));
    bool tells_interval = pilot->chooses && interval < step * (double)steps && is_news(interval, pilot->told_interval);
    bool tells_end = fit < (double)steps && is_news(fit + (double)seen->count, pilot->told_steps);
    if (!tells_interval && !tells_end)
        return false;
    char every[32];
    char mean[32];
    char left[32];
    text_from_duration(interval, every, sizeof every);
    text_from_duration(pilot_mean_between_failures(pilot, now), mean, sizeof mean);
    text_from_duration(fmax(0.0, pilot->end - now), left, sizeof left);
    int length =
        snprintf(text, size, "pilot: a step takes %.3g s, a checkpoint %.3g s", step, pilot_expect(pilot, PILOT_HOLD));
    if (pilot->chooses)
        length += snprintf(text + length, size - (size_t)length,
                           "; with a failure every %s, a checkpoint every %s loses least", mean, every);
    if (fit < (double)steps)
        snprintf(text + length, size - (size_t)length, "; the job has %s left, for about %.0f of the %lld steps to go",
                 left, fit, (long long)steps);
    pilot->told_interval = interval;
    pilot->told_steps = fit + (double)seen->count;
    return true;
}

/* -- The numbers ------------------------------------------------------------------------------------------------- */

double pilot_daly(double hold, double mean)
{
    double ratio = hold / (2.0 * mean);
    if (ratio >= 1.0)
        return mean;
    return sqrt(2.0 * hold * mean) * (1.0 + sqrt(ratio) / 3.0 + ratio / 9.0) - hold;
}
