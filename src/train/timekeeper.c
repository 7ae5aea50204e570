#include "src/train/timekeeper.h"

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

/* -- What it is told -- */

void timekeeper_create(struct timekeeper *timekeeper, double begin, double end, double mean_hours, int64_t bytes,
                       const struct timekeeper_history *history)
{
    *timekeeper = (struct timekeeper){.begin = begin, .end = end, .saved = begin, .history = *history};
    timekeeper->margin = isfinite(end) ? fmin(60.0, fmax(1.0, 0.01 * (end - begin))) : 0.0;
    timekeeper->prior_mean = 3600.0 * mean_hours;
    timekeeper->prior_write =
        history->write_seconds > 0.0 ? history->write_seconds : PRIOR_SECONDS + (double)bytes / PRIOR_BYTES_PER_SECOND;
}

void timekeeper_learn(struct timekeeper *timekeeper, enum timekeeper_part part, double seconds)
{
    struct timekeeper_samples *samples = &timekeeper->parts[part];
    samples->seconds[samples->count++ % TIMEKEEPER_SAMPLES] = seconds;
}

void timekeeper_saved(struct timekeeper *timekeeper, double now)
{
    timekeeper->saved = now;
    timekeeper->tried = true;
}

/* -- What it answers -- */

static int samples_held(const struct timekeeper_samples *samples)
{
    return samples->count < TIMEKEEPER_SAMPLES ? (int)samples->count : TIMEKEEPER_SAMPLES;
}

/* The largest of those that are left when one in twenty, the largest, are set aside; 0 without any. */
static double samples_high(const struct timekeeper_samples *samples)
{
    double sorted[TIMEKEEPER_SAMPLES];
    int count = samples_held(samples);
    for (int i = 0; i < count; i++) {
        int place = i;
        for (; place > 0 && sorted[place - 1] < samples->seconds[i]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = samples->seconds[i];
    }
    return count > 0 ? sorted[count / 20] : 0.0;
}

static double samples_mean(const struct timekeeper_samples *samples)
{
    int count = samples_held(samples);
    double sum = 0.0;
    for (int i = 0; i < count; i++)
        sum += samples->seconds[i];
    return count > 0 ? sum / count : 0.0;
}

double timekeeper_expect(const struct timekeeper *timekeeper, enum timekeeper_part part)
{
    const struct timekeeper_samples *samples = &timekeeper->parts[part];
    bool writes = part == TIMEKEEPER_WRITE || part == TIMEKEEPER_HOLD;
    return samples->count == 0 && writes ? timekeeper->prior_write : samples_high(samples);
}

bool timekeeper_must_stop(const struct timekeeper *timekeeper, double now, const struct timekeeper_outlook *outlook)
{
    double next = timekeeper_expect(timekeeper, TIMEKEEPER_STEP);
    double writes = outlook->writing ? 2.0 : 1.0;
    if (outlook->evaluates)
        next += timekeeper_expect(timekeeper, TIMEKEEPER_EVALUATION);
    if (outlook->saves)
        next += timekeeper_expect(timekeeper, TIMEKEEPER_HOLD);
    return now + next + writes * WRITE_RESERVE * timekeeper_expect(timekeeper, TIMEKEEPER_WRITE) + timekeeper->margin >
           timekeeper->end;
}

/* Who has to be done in time should know early what a write takes. */
static bool tries_storage(const struct timekeeper *timekeeper, double now)
{
    bool known = timekeeper->parts[TIMEKEEPER_WRITE].count > 0 || timekeeper->history.write_seconds > 0.0;
    return !known && now - timekeeper->begin >= TRIAL * (timekeeper->end - timekeeper->begin);
}

/* Where nothing was saved yet the next step must not come too late. */
static bool needs_first(const struct timekeeper *timekeeper, double now)
{
    return !timekeeper->tried && now + samples_mean(&timekeeper->parts[TIMEKEEPER_STEP]) - timekeeper->begin > FIRST;
}

bool timekeeper_must_save(const struct timekeeper *timekeeper, double now)
{
    double half = 0.5 * samples_mean(&timekeeper->parts[TIMEKEEPER_STEP]);
    bool due = now + half - timekeeper->saved >= timekeeper_interval(timekeeper, now);
    return timekeeper->chooses && (due || needs_first(timekeeper, now) || tries_storage(timekeeper, now));
}

double timekeeper_mean_between_failures(const struct timekeeper *timekeeper, double now)
{
    double seconds = timekeeper->history.seconds + (now - timekeeper->begin);
    return (timekeeper->prior_mean + seconds) / (1.0 + (double)timekeeper->history.failures);
}

double timekeeper_interval(const struct timekeeper *timekeeper, double now)
{
    const struct timekeeper_samples *held = &timekeeper->parts[TIMEKEEPER_HOLD];
    double hold = held->count > 0 ? samples_mean(held) : timekeeper->prior_write;
    double interval = timekeeper_daly(hold, timekeeper_mean_between_failures(timekeeper, now));
    /* A write behind the training must be over before the next one begins. */
    return fmax(interval, timekeeper_expect(timekeeper, TIMEKEEPER_WRITE));
}

static bool is_news(double value, double told)
{
    return told == 0.0 || value > 1.25 * told || value < 0.75 * told;
}

bool timekeeper_describe(struct timekeeper *timekeeper, double now, int64_t steps, char *text, size_t size)
{
    enum { STEPS_SEEN = 5 };
    const struct timekeeper_samples *seen = &timekeeper->parts[TIMEKEEPER_STEP];
    double step = samples_mean(seen);
    if (seen->count < STEPS_SEEN || !(step > 0.0))
        return false;
    double interval = timekeeper_interval(timekeeper, now);
    double room =
        timekeeper->end - timekeeper->margin - WRITE_RESERVE * timekeeper_expect(timekeeper, TIMEKEEPER_WRITE) - now;
    double fit = fmax(0.0, floor(room / step));
    bool tells_interval =
        timekeeper->chooses && interval < step * (double)steps && is_news(interval, timekeeper->told_interval);
    bool tells_end = fit < (double)steps && is_news(fit + (double)seen->count, timekeeper->told_steps);
    if (!tells_interval && !tells_end)
        return false;
    char every[32];
    char mean[32];
    char left[32];
    text_from_duration(interval, every, sizeof every);
    text_from_duration(timekeeper_mean_between_failures(timekeeper, now), mean, sizeof mean);
    text_from_duration(fmax(0.0, timekeeper->end - now), left, sizeof left);
    int length = snprintf(text, size, "timekeeper: a step takes %.3g s, a checkpoint %.3g s", step,
                          timekeeper_expect(timekeeper, TIMEKEEPER_HOLD));
    if (timekeeper->chooses)
        length += snprintf(text + length, size - (size_t)length,
                           "; with a failure every %s, a checkpoint every %s loses least", mean, every);
    if (fit < (double)steps)
        snprintf(text + length, size - (size_t)length, "; the job has %s left, for about %.0f of the %lld steps to go",
                 left, fit, (long long)steps);
    timekeeper->told_interval = interval;
    timekeeper->told_steps = fit + (double)seen->count;
    return true;
}

/* -- The numbers -- */

double timekeeper_daly(double hold, double mean)
{
    double ratio = hold / (2.0 * mean);
    if (ratio >= 1.0)
        return mean;
    return sqrt(2.0 * hold * mean) * (1.0 + sqrt(ratio) / 3.0 + ratio / 9.0) - hold;
}
