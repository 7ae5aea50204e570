/* One run of a scaling study, as a row of its CSV file. */
#ifndef CAIRN_STUDY_ROW_H
#define CAIRN_STUDY_ROW_H

#include "io/report/report.h"

enum { ROW_TEXT = 256, ROW_LONG = 1024 };

/* A number that is not known is NAN, or -1 for counts, and an empty cell. Seconds of the parts are the mean of all
 * ranks in the step of median time; they add up to it. */
struct scale_row {
    char study[16];         /* "strong" or "weak" */
    char layout[ROW_TEXT];  /* what the axes are named by: "data", "data+tensor=2" */
    char variant[ROW_TEXT]; /* "model.width=512" */
    int64_t repeat;
    char status[16]; /* "ok" or "failed" */
    char job[64];    /* of the scheduler */
    char started[32];
    int64_t nodes, ranks, threads;
    int64_t tensor, pipeline, context, data;
    int64_t micro_batch, batch, length, steps;
    char type[8];
    int64_t parameters;
    double tokens_per_second;
    double p50, p95, least, most;
    double compute, communication, bubble, input; /* p50 in parts; the bubble is not communication here */
    double products, attention, other, optimizer; /* compute in parts */
    double schedule_idle;
    double mfu, peak;                /* of the measured peak, GFLOP/s of all ranks */
    double mfu_datasheet, datasheet; /* of what the makers say */
    double useful, executed;         /* GFLOP a step */
    double memory;                   /* bytes: the most that any rank had resident */
    double loss;
    char version[64];
    char isa[32];
    char hosts[ROW_LONG];
    char command[ROW_LONG];
    char note[ROW_LONG]; /* why it failed, or a warning */
};

void row_clear(struct scale_row *row);

/* A file with heads and one row. */
enum status row_write(struct context *context, const char *path, const struct scale_row *row) MUST_USE;

/* Heads and rows. */
enum status rows_write(struct context *context, const char *path, const struct scale_row *rows, int count) MUST_USE;

/* The rows of a file, up to `most` of them, by the names of its heads: columns may be missing or unknown. FILE error
 * with the line of a row that is broken. */
enum status rows_read(struct context *context, const char *path, struct scale_row *rows, int most, int *count) MUST_USE;

#endif
