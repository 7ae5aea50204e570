/* RUN/metrics.jsonl: one JSON object a line, written with each (io/README.md, Metrics), with the time of day in "time".
 * Written by one rank. Lines that cannot be written wait in memory until they can (io/records). */
#ifndef CAIRN_IO_METRICS_H
#define CAIRN_IO_METRICS_H

#include "src/core/context.h"

struct metrics;
struct events;

struct metrics_field {
    const char *name;
    double value; /* not finite becomes null, with the reason in NAME_reason */
    bool integer;
};

/* A field that is an array. */
struct metrics_list {
    const char *name;
    const double *values; /* [count]; written with 5 digits, whole numbers exactly; not finite becomes null */
    int64_t count;
};

/* Opens PATH to be continued after `step`. Lines of later steps, which will be done anew, go, or to the file `aside`
 * unless that is NULL. Whatever is damaged goes to PATH.damaged, and the log says so; all other lines stay. */
enum status metrics_open(struct context *context, const char *path, int64_t step, const char *aside,
                         struct metrics **metrics) MUST_USE;
/* Whether a kept line of exactly that step has this field. */
bool metrics_seen(const struct metrics *metrics, const char *field);

enum status metrics_write(struct metrics *metrics, const struct metrics_field *fields, int count) MUST_USE;
/* The same with arrays behind the fields. */
enum status metrics_write_lists(struct metrics *metrics, const struct metrics_field *fields, int count,
                                const struct metrics_list *lists, int list_count) MUST_USE;
/* The same with a text behind the fields. */
enum status metrics_write_text(struct metrics *metrics, const struct metrics_field *fields, int count, const char *name,
                               const char *text) MUST_USE;
void metrics_close(struct metrics **metrics);

/* From now on every line goes to these events too, which must live as long; NULL: no more. */
void metrics_mirror(struct metrics *metrics, struct events *events);
struct events *metrics_events(const struct metrics *metrics);

/* -- Reading -- */

/* A field of a line: a number, for which all three are the same, or the mean and the range of a list; "time" in seconds
 * since 1970. */
struct metrics_value {
    double mean, low, high;
};

typedef void (*metrics_visitor)(void *self, int64_t step, const char *name, const struct metrics_value *value);

struct metrics_seen {
    int64_t lines;    /* with a step */
    int64_t broken;   /* without; a last line that has no end is neither */
    int64_t replaced; /* of `lines`, of steps that stand in the file once more behind them */
};

/* Shows every field of every line in the order of the file; fields that are no numbers, as null for what was not
 * finite, are passed over. Where the steps go back, what was written of those from there on before is not shown. */
enum status metrics_read(struct context *context, const char *path, metrics_visitor visit, void *self,
                         struct metrics_seen *seen) MUST_USE;

#endif
