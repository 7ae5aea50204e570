/* Inside src/train: a run, which src/train/start.c sets up and src/train/train.c goes through. */
#ifndef CAIRN_TRAIN_TRAIN_PRIVATE_H
#define CAIRN_TRAIN_TRAIN_PRIVATE_H

#include "io/lock/lock.h"
#include "io/metrics/metrics.h"
#include "src/train/changes.h"
#include "src/train/checkpointer.h"
#include "src/train/lifecycle.h"
#include "src/train/line.h"
#include "src/train/progress.h"
#include "src/train/source.h"
#include "src/train/train.h"
#include "src/train/trainer.h"
#include "src/train/watches.h"

enum { RUN_PATH = 700 };

struct train {
    struct context *context;
    struct mesh *mesh;
    const struct config *config;
    bool root; /* the rank that writes and speaks */
    char checkpoints[RUN_PATH];
    struct line line; /* that this start goes on with */
    char changes[CHANGES_TEXT];
    char data_lines[CHANGES_DATA]; /* what the files of data hold */
    struct source source;
    char token_facts[64]; /* of a checkpoint whose data say nothing of their tokenizer */
    double *confusion;    /* [classes, classes] of the last evaluation; NULL: no images, or of too many classes */
    struct trainer trainer;
    struct model_state *carried; /* from step to step; NULL: nothing is */
    struct model_scalars scalars;
    struct watches watches;
    struct lifecycle lifecycle;
    struct lock *lock;       /* of the run's folder; root only */
    struct metrics *metrics; /* root only */
    struct events *events;   /* root only, with run.tensorboard */
    int64_t first_step;      /* that was done before this start */
    bool config_waits;       /* config.yaml could not be written */
    bool note_waits;         /* RUN/resumed could not */
    double records_tried;    /* when */
    struct progress progress;
    struct checkpointer checkpointer;
    double size_limit; /* of parameters that have not been ruined: their root mean square */
    bool ruined;       /* losses are finite, but say that the parameters are of no use */
    double peak;       /* FLOP/s of all ranks, the most that products or steps have reached */
};

/* Data, model, outputs; resumes. Collective; agreed status. */
enum status train_start(struct train *train, const struct resume *resume) MUST_USE;

/* RUN/config.yaml, and RUN/resumed for the instruction that was followed; where the disk takes no more it is told once,
 * and left to be tried again. Root only; local. */
enum status train_write_config(struct train *train) MUST_USE;
enum status train_write_note(struct train *train) MUST_USE;

/* After which step this start ends by itself. */
int64_t train_end(const struct train *train);

/* Looks once more at what products reach: on a machine that others use the best of several looks is nearest to what it
 * can do. Collective. */
void train_measure_peak(struct train *train);

#endif
