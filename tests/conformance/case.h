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
    bool has_optimizer;
    double learning_rate, beta1, beta2, epsilon, weight_decay, clip, gate_lr_factor;
    int64_t steps;
};

/* FILE error that says what is wrong. Local: every rank reads the whole file. */
enum status case_read(struct context *context, const char *path, struct conformance_case *test) MUST_USE;
void case_destroy(struct context *context, struct conformance_case *test);

/* NULL if there is none. */
struct case_tensor *case_find(const struct conformance_case *test, const char *prefix, const char *name);

#endif
