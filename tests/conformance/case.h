/* A conformance case (tests/conformance/README.md) in memory: the reference's numbers as they stand in the file. */
#ifndef CAIRN_TESTS_CONFORMANCE_CASE_H
#define CAIRN_TESTS_CONFORMANCE_CASE_H

#include "src/core/config.h"
#include "src/core/context.h"

enum { CASE_NAME = 160, CASE_RANK = 4 };

/* A dataset; `checked` is set once something was compared with it, so that nothing expected goes unseen. */
struct case_tensor {
    char name[CASE_NAME]; /* path in the file */
    int rank;
    int64_t shape[CASE_RANK];
    int64_t count;
    double *values;
    bool checked;
};

struct conformance_case {
    char *model; /* YAML */
    struct case_tensor *tensors;
    int count;
    double label_smoothing;
    bool has_optimizer;
    struct optimizer_config optimizer; /* as the case says, with a constant rate */
    int64_t steps;
};

/* FILE error that says what is wrong. Local: every rank reads the whole file. */
enum status case_read(struct context *context, const char *path, struct conformance_case *test) MUST_USE;
void case_destroy(struct context *context, struct conformance_case *test);

/* NULL if there is none. */
struct case_tensor *case_find(const struct conformance_case *test, const char *prefix, const char *name);

#endif
