/* Spectra of the matrices in a checkpoint, and how far those of another one lie from them. */
#ifndef CAIRN_ANALYZE_ANALYSIS_H
#define CAIRN_ANALYZE_ANALYSIS_H

#include "io/checkpoint/checkpoint.h"

/* Singular values are s_1 >= s_2 >= ... >= s_n, n the shorter side; angles are in degrees. */
enum measure {
    MEASURE_NORM,      /* Frobenius */
    MEASURE_LARGEST,   /* s_1 */
    MEASURE_SMALLEST,  /* s_n */
    MEASURE_CONDITION, /* s_1 / s_n; infinite where the rank is less than n */
    MEASURE_RANK,      /* values above max(rows, columns) 1.2e-7 s_1, what fp32 can tell from nothing */
    MEASURE_STABLE,    /* |A|_F^2 / s_1^2 */
    MEASURE_EFFECTIVE, /* exp of the entropy of s_i / sum s (Roy and Vetterli 2007) */
    MEASURE_ENERGY,    /* the least number of values that have 0.9 of the squares */
    /* Beside another checkpoint's B: */
    MEASURE_MOVED,           /* |B - A|_F / |A|_F */
    MEASURE_MOVED_EFFECTIVE, /* effective rank of B - A */
    MEASURE_LEFT,      /* the largest of the principal angles between the first left singular directions of both */
    MEASURE_LEFT_MEAN, /* the mean of them */
    MEASURE_RIGHT,     /* the same of the right ones */
    MEASURE_RIGHT_MEAN,
    MEASURES,
    MEASURES_ALONE = MEASURE_MOVED
};

/* For CSV and JSON: "effective_rank". */
const char *measure_name(enum measure measure);

enum { ANALYZED_KIND = 96 };

/* A matrix, or a stack of matrices, of which the means are told. */
struct analyzed {
    char name[STATE_NAME];    /* of the dataset */
    char kind[ANALYZED_KIND]; /* what its layers have alike: "self_attn.q_proj" */
    int64_t layer;            /* the last number in the name; -1: none */
    int rank;                 /* of the dataset */
    int64_t shape[TENSOR_RANK];
    int64_t stack, rows, columns;
    int64_t first; /* of its min(rows, columns) singular values */
    double measure[MEASURES];
};

struct analysis {
    struct context *context;
    char path[CHECKPOINT_PATH], other[CHECKPOINT_PATH]; /* other: empty without */
    int64_t step;
    int64_t directions; /* that angles are between, at most */
    int count;
    struct analyzed *matrices; /* [count] in the order of the file */
    int left_out;              /* of them, that the other checkpoint does not have alike */
    int64_t value_count;
    double *values; /* falling, one matrix behind the other */
};

struct analysis_wish {
    const char *pattern; /* of a shell, over names without /parameters/; NULL: all */
    int64_t directions;
};

/* The values of a matrix: [min(rows, columns)]. */
const double *analysis_values(const struct analysis *analysis, const struct analyzed *matrix);

/* Of /parameters all with two sides of more than 1 (of four dimensions the first, and all others as one; of three a
 * stack), of /memory each layer's states, a stack. Every matrix is read and decomposed on one rank: they are dealt by
 * cost. All ranks get all of it. To be destroyed whatever comes back. Collective; agreed status. FILE error for what is
 * no checkpoint, USAGE where no matrix is named like the pattern, or none is in both files, or one is too large for one
 * rank, NUMERIC for one with an element that is not finite. */
enum status analysis_create(struct context *context, struct mesh *mesh, const char *path, const char *other,
                            const struct analysis_wish *wish, struct analysis *analysis) MUST_USE;
void analysis_destroy(struct analysis *analysis);

#endif
