/* Tiny models of every kind (src/model/README.md sections 3 to 6 and 10), odd in all that ranks share, for the tests
 * that hold them against themselves: on other meshes, in other types, token by token. */
#ifndef CAIRN_TESTS_KINDS_H
#define CAIRN_TESTS_KINDS_H

#include "src/model/decoder_model.h"
#include "src/train/trainer.h"
#include "tests/support/mpi_main.h"

enum { KINDS = 36, KIND_VOCABULARY = 53, KIND_ROWS = 5, KIND_LENGTH = 13, KIND_MESHES = 16 };

/* The name says what the model has; `model` is YAML that completes a small Llama. */
struct kind {
    const char *name, *model;
};

extern const struct kind kinds[KINDS];

struct kind_options {
    struct mesh_config mesh;
    enum compute_type type;
    enum recompute_kind recompute;
    int64_t micro_batch;   /* 0 is 2 */
    int64_t rows;          /* 0 is KIND_ROWS */
    int64_t length;        /* 0 is KIND_LENGTH */
    int64_t compare_every; /* steps between comparisons of copies; 0 is off */
    bool causal;           /* routers decide token by token */
};

/* A model that trains on random tokens, the same ones in every step; Infini-attention's memories are carried. */
struct bench {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct config config;
    struct trainer trainer;
    struct model_state *streams;
    struct bench_eye *eyes; /* [micro-batches] */
    int64_t step;
    int64_t bytes_before; /* of memory */
    int64_t selections;   /* a hash of what routers chose so far, on one rank of each stage */
    int64_t selected;     /* tokens they chose, likewise */
    float *logits;        /* [rows of this data rank, length, vocabulary] of the last pass; other ranks' parts are 0 */
};

/* A micro-batch, and its first row in the step. */
struct bench_eye {
    struct bench *bench;
    int64_t row;
};

/* The token at a place of the text. The first 53 of a row differ. */
int32_t kind_token(int64_t row, int64_t position);

/* What a chosen token adds to bench->selections: `index` of the routed layer or recursion. */
int64_t kind_selection(int64_t step, int64_t index, int64_t row, int64_t position);

/* False if the mesh cannot split the kind. Collective, as all below. */
bool bench_create(struct bench *bench, void **state, const struct kind *kind, const struct kind_options *options);
void bench_destroy(struct bench *bench);

/* After other tokens or another number of valid ones: prepares for the next pass. */
void bench_prepare(struct bench *bench);

/* One step of training; memories go on. */
struct step_result bench_step(struct bench *bench);

/* Forward alone; makes logits and the memories' `after`, which do not go on. */
void bench_look(struct bench *bench);

/* The sum over all parameters of the model, each times a random sign: `number` says which signs. */
double bench_projection(struct bench *bench, int number);

/* The meshes of that many ranks that the kinds are tried on. */
int kind_meshes(int ranks, struct mesh_config meshes[KIND_MESHES]);

#endif
