/* A run of the toy family, or of a decoder, on any mesh. */
#ifndef CAIRN_TESTS_FAMILY_SUPPORT_H
#define CAIRN_TESTS_FAMILY_SUPPORT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/core/random.h"
#include "src/session/load.h"
#include "src/session/state_list.h"
#include "src/train/state.h"
#include "tests/mpi/toy.h"
#include "tests/support/fields.h"
#include "tests/support/held.h"
#include "tests/support/mpi_main.h"

enum { STEPS = 6, ROWS = 7, MOST = 8, PADDING = 16 };

static const char settings[] =
    "model: {vocabulary: 61, width: 24, layers: 4, heads: 6, kv_heads: 3, hidden: 37, tied_embeddings: true}\n"
    "compute: {bucket_bytes: 2048}\n"
    "optimizer: {learning_rate: 0.01, clip: 0.5, schedule: constant}\n"
    "training: {steps: 6, batch: 7, micro_batch: 2, sequence_length: 8, seed: 5}\n"
    "data: {train: none}\n";

struct run {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct config config;
    struct trainer trainer;
};

static float value_of(const char *field, int64_t element)
{
    return (float)(2.0 * random_uniform(random_key(3, field), (uint64_t)element) - 1.0);
}

/* The same rows at every step, on any mesh. */
static inline void fill(struct batch *batch)
{
    for (int f = 0; f < batch->field_count; f++) {
        const struct batch_field *field = &batch->field[f];
        for (int64_t i = 0; i < batch->mine.count * field->elements; i++) {
            int64_t element = batch->mine.begin * field->elements + i;
            if (field->dtype == DTYPE_F32)
                ((float *)field->data)[i] = value_of(field->name, element);
            else if (field->dtype == DTYPE_I32)
                ((int32_t *)field->data)[i] =
                    (int32_t)(random_bits(random_key(4, field->name), (uint64_t)element) % 61);
        }
    }
    batch_ready(batch, batch->rows * batch->field[0].elements, batch->rows);
}

static inline void run_create(struct run *run, struct context *context, const struct team *team,
                              struct mesh_config mesh, const struct model_ops *model,
                              const struct optimizer_ops *optimizer, const char *const *overrides, int count)
{
    run->context = context;
    assert_ok(context, config_parse(context, "settings", settings, strlen(settings), overrides, count, &run->config));
    assert_ok(context, mesh_create(context, team, &mesh, &run->mesh));
    assert_ok(context, engine_create(context, 1, &run->engine));
    assert_ok(context,
              trainer_create_with(context, run->mesh, &run->engine, &run->config, model, optimizer, &run->trainer));
    fill(&run->trainer.batch);
}

static inline void run_destroy(struct run *run)
{
    trainer_destroy(&run->trainer);
    engine_destroy(&run->engine);
    mesh_destroy(&run->mesh);
    assert_int_equal(run->context->memory.bytes_total, 0);
}

static inline void run_steps(struct run *run, int first, int end, double losses[STEPS])
{
    for (int step = first; step < end; step++) {
        struct step_result result;
        assert_ok(run->context, trainer_step(&run->trainer, &result));
        losses[step] = result.loss;
    }
}

/* All ranks in one data axis, or half of them with the model in two stages. */
static inline struct mesh_config mesh_of(int ranks, int stages)
{
    return (struct mesh_config){ranks / stages, stages, 1, 1, 1};
}

/* A folder that all ranks know. */
static inline void make_folder(struct mesh *mesh, char folder[CHECKPOINT_PATH])
{
    snprintf(folder, CHECKPOINT_PATH, "/tmp/cairn-family-XXXXXX");
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        assert_non_null(mkdtemp(folder));
    mesh_broadcast(mesh, MESH_TEAM, 0, folder, CHECKPOINT_PATH, DTYPE_BYTE);
}

static inline void remove_folder(struct mesh *mesh, const char *folder)
{
    char command[CHECKPOINT_PATH + 16];
    mesh_barrier(mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(mesh_rank(mesh, MESH_TEAM) == 0 ? system(command) : 0, 0);
}

/* Meshes of the ranks that there are: some of every axis. */
static inline int meshes_of(int ranks, struct mesh_config meshes[MOST])
{
    int count = 0;
    for (int pipeline = 1; pipeline <= 4; pipeline++)
        for (int tensor = 1; tensor <= 2; tensor++)
            if (ranks % (pipeline * tensor) == 0 && count < MOST)
                meshes[count++] = (struct mesh_config){ranks / (pipeline * tensor), pipeline, 1, tensor, 1};
    return count;
}

/* One rank's losses; every rank by itself. */
static inline void run_alone(struct context *context, struct team *job, const struct optimizer_ops *optimizer,
                             const char *const *overrides, int count, double losses[STEPS])
{
    struct team *alone;
    struct run run;
    assert_ok(context, team_create(context, job, team_rank(job), &alone));
    run_create(&run, context, alone, (struct mesh_config){1, 1, 1, 1, 1}, NULL, optimizer, overrides, count);
    run_steps(&run, 0, STEPS, losses);
    run_destroy(&run);
    team_destroy(&alone);
}

#endif
