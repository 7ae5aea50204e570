/* Scaling studies: a grid of meshes and sizes, each run a `cairn bench step` of its own; its rows; tables, figures and
 * a page of what they say. For one process that has not started MPI, since it starts programs that do. */
#ifndef CAIRN_STUDY_SCALE_H
#define CAIRN_STUDY_SCALE_H

#include "src/core/config.h"
#include "src/study/row.h"

struct scale_options {
    const char *program; /* to start: this one */
    const char *version; /* of it */
    const char *config;
    const char *const *overrides;
    int override_count;
    const char *ranks;    /* "1,2,4"; NULL: powers of two up to the cores of this host, or to the job's tasks */
    const char *layouts;  /* "data,tensor,data+tensor=2"; NULL: those that are usual */
    const char *vary;     /* "KEY=VALUE,VALUE", or NULL */
    const char *launcher; /* "mpirun -n %n": %n are the ranks */
    const char *output;   /* a folder */
    bool strong, weak;
    bool quick;
    bool again; /* measure what has a row already */
    int64_t repeats, steps, warmup;
    int64_t limit;    /* seconds that a run may take */
    double datasheet; /* GFLOP/s of one core as the makers say; 0 when nobody said */
};

struct scale_run {
    bool weak;
    int ranks;
    int repeat; /* from 1 */
    int variant;
    struct mesh_config mesh;
    int64_t batch;
    char layout[64];
    char setting[ROW_TEXT]; /* "KEY=VALUE", or empty */
};

struct scale_grid {
    struct context *context;
    struct scale_run
        *runs; /* all of the first repeat, then all of the second: what changes with time spoils no ratio */
    int count;
    int most;
};

/* The grid is the same wherever it is made from the same options. What the model or the batch does not permit is left
 * out and named in the log. USAGE error when an option makes no sense or nothing is left. */
enum status scale_grid_create(struct context *context, const struct scale_options *options,
                              struct scale_grid *grid) MUST_USE;
void scale_grid_destroy(struct scale_grid *grid);

/* One line a run: its number and what it is, as "3 strong ranks=2 data=2 pipeline=1 context=1 tensor=1 batch=16
 * repeat=1". */
void scale_grid_print(const struct scale_grid *grid, FILE *out);

/* Runs number `index` from 0 and writes its row to a file of its own, so that jobs on many nodes never write the same
 * one. A run that fails gives a row that says why; the status is of what goes wrong here. */
enum status scale_measure(struct context *context, const struct scale_options *options, const struct scale_grid *grid,
                          int index, struct scale_row *row) MUST_USE;

/* Whether a good row of exactly this run is there. */
bool scale_measured(const struct scale_options *options, const struct scale_grid *grid, int index);

/* Merges the rows of `folder` into scaling.csv and makes efficiency.csv, plots/ and index.html of them; the table goes
 * to `out` besides. FILE error without rows. */
enum status scale_report(struct context *context, const char *folder, FILE *out) MUST_USE;

#endif
