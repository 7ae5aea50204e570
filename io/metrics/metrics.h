/* RUN/metrics.jsonl: one JSON object a line, flushed with each (formats.md, "Metrics"). Written by one rank. */
#ifndef CAIRN_IO_METRICS_H
#define CAIRN_IO_METRICS_H

#include "src/core/context.h"

struct metrics;

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

/* Opens PATH to be continued after `step`: lines of later steps, and a half-written last line, are cut off. */
enum status metrics_open(struct context *context, const char *path, int64_t step, struct metrics **metrics) MUST_USE;
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

/* -- Reading ------------------------------------------------------------------------------------------------------- */

/* A field of a line: a number, for which all three are the same, or the mean and the range of a list. */
struct metrics_value {
    double mean, low, high;
};

typedef void (*metrics_visitor)(void *self, int64_t step, const char *name, const struct metrics_value *value);

struct metrics_seen {
    int64_t lines;  /* with a step */
    int64_t broken; /* without; a last line that has no end is neither */
};

/* Shows every field of every line in the order of the file, of any length; fields that are no numbers, as null for what
 * was not finite, are passed over. */
enum status metrics_read(struct context *context, const char *path, metrics_visitor visit, void *self,
                         struct metrics_seen *seen) MUST_USE;

#endif
