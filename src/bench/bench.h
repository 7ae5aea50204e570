/* Measurements of this program on this machine: single operations, collectives, whole training steps, each beside
 * ceilings that were measured in the same run. All ranks take part; the first prints, a table or one JSON object. */
#ifndef CAIRN_BENCH_H
#define CAIRN_BENCH_H

#include "dist/mesh/mesh.h"
#include "src/ops/engine.h"

struct bench_options {
    bool json;
    bool quick;             /* sizes and durations that only show that everything runs */
    enum compute_type type; /* of kernels */
    int64_t warmup;         /* of step */
    int64_t steps;
    int64_t rows, prompt, tokens; /* of generate: sequences side by side, and tokens of each */
    int64_t requests;             /* sequences in all, at least `rows` */
    bool in_step;                 /* generate: no depth-wise batching */
    bool balanced;                /* routing at the intended load (decoder.balanced) */
    double datasheet;             /* FLOP/s of all ranks together as the makers say; 0 when nobody said */
};

/* Every operation at the shapes of GPT-2 124M. Collective. */
enum status bench_kernels(struct context *context, struct mesh *mesh, struct engine *engine,
                          const struct bench_options *options) MUST_USE;

/* Every collective that training uses, over all ranks, from 8 B to 64 MiB. USAGE error with one rank. Collective. */
enum status bench_collectives(struct context *context, struct mesh *mesh, const struct bench_options *options) MUST_USE;

/* Steps of whole matrices as Muon and SOAP take them, by side: on one rank and over grids of ranks, and the side from
 * which these are faster. Collective. */
enum status bench_matrices(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct bench_options *options) MUST_USE;

/* Training steps of `config` on generated tokens: their time by kind, FLOPs, and memory. Collective. */
enum status bench_step(struct context *context, struct mesh *mesh, struct engine *engine, const struct config *config,
                       const struct bench_options *options) MUST_USE;

/* Generation of `requests` sequences, `rows` at once, by a model of `config` with its initial parameters: tokens a
 * second, and how many layers a token took. USAGE error when `prompt` and `tokens` do not fit into the model's length.
 * Collective. */
enum status bench_generate(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, const struct bench_options *options) MUST_USE;

#endif
