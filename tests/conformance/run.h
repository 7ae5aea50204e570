/* A conformance case under way, and what the files of the runner do for each other. */
#ifndef CAIRN_TESTS_CONFORMANCE_RUN_H
#define CAIRN_TESTS_CONFORMANCE_RUN_H

#include "src/generate/generate.h"
#include "src/model/decoder_model.h"
#include "src/train/trainer.h"
#include "tests/conformance/case.h"

struct runner {
    struct context context;
    struct mesh *mesh;
    struct engine engine;
    struct mesh_config wanted;
    double tolerance;
    bool speaks;
    int failed, passed, skipped;
};

struct run;

/* A micro-batch of a run, whose first row is `row` of the case. */
struct eye {
    struct run *run;
    int64_t row;
};

/* One case under way. */
struct run {
    struct runner *runner;
    struct context *context;
    struct conformance_case *test;
    struct config config;
    struct trainer trainer;
    struct model_state *streams;
    bool of_images;
    int64_t rows, length, vocabulary; /* an image has one target; the vocabulary are its classes */
    int64_t targets;                  /* of a row */
    double *logits;                   /* [rows, targets, vocabulary] */
    double *selected;                 /* [layers, rows, length]: what each router chose, in the form of the case */
    struct eye *eyes;                 /* [micro-batches] */
    double worst;
    char where[CASE_NAME];
};
/* Fills the masters of a session with the case's parameters. */
enum status run_load_parameters(struct run *run, struct session *session) MUST_USE;

/* max |a - b| / max |b|, kept if it is the worst so far. A tensor that is nothing but rounding beside `scale` (below
 * 1e-6 of it) is measured against scale: some gradients are exactly zero. */
void run_compare(struct run *run, struct case_tensor *expected, const double *values, double scale);

/* Compares all parameters, or their gradients, with what stands under `prefix`. Collective over the world. */
enum status run_compare_parameters(struct run *run, const char *prefix, bool gradient) MUST_USE;

/* The same with buffers, which every rank holds whole. */
enum status run_compare_buffers(struct run *run, const char *prefix) MUST_USE;

/* For a decoder's input; self is an eye. */
void run_see_logits(void *self, int64_t first, const struct tensor *logits);
void run_see_selection(void *self, const struct decoder_selection *selection);

/* Settings of a case of images, from /images. */
enum status run_set_up_images(struct run *run) MUST_USE;

/* Fills this rank's rows of the batch with the case's images. */
void run_fill_images(struct run *run);

/* For a batch of images; self is the run. */
void run_see_classes(void *self, int64_t row, int64_t first, const struct tensor *logits);

/* Collective over the world. */
void run_compare_selections(struct run *run);

/* Fills the memories that the case begins with, or compares those that it leaves; then collective over the world. */
enum status run_each_memory(struct run *run, bool load) MUST_USE;

#endif
