/* Families of models, teams and optimisers through their public interface: a toy family trains, is saved and goes on on
 * another mesh; two models train at the same time; parameters that are frozen stay; matrices that may not be cut are
 * dealt to ranks whole. */
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
static void fill(struct batch *batch)
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

static void run_create(struct run *run, struct context *context, const struct team *team, struct mesh_config mesh,
                       const struct model_ops *model, const struct optimizer_ops *optimizer,
                       const char *const *overrides, int count)
{
    run->context = context;
    assert_ok(context, config_parse(context, "settings", settings, strlen(settings), overrides, count, &run->config));
    assert_ok(context, mesh_create(context, team, &mesh, &run->mesh));
    assert_ok(context, engine_create(context, 1, &run->engine));
    assert_ok(context,
              trainer_create_with(context, run->mesh, &run->engine, &run->config, model, optimizer, &run->trainer));
    fill(&run->trainer.batch);
}

static void run_destroy(struct run *run)
{
    trainer_destroy(&run->trainer);
    engine_destroy(&run->engine);
    mesh_destroy(&run->mesh);
    assert_int_equal(run->context->memory.bytes_total, 0);
}

static void run_steps(struct run *run, int first, int end, double losses[STEPS])
{
    for (int step = first; step < end; step++) {
        struct step_result result;
        assert_ok(run->context, trainer_step(&run->trainer, &result));
        losses[step] = result.loss;
    }
}

/* All ranks in one data axis, or half of them with the model in two stages. */
static struct mesh_config mesh_of(int ranks, int stages)
{
    return (struct mesh_config){ranks / stages, stages, 1, 1, 1};
}

/* -- The toy -- */

/* The loss before the first step, by hand. */
static double first_loss(const struct run *run)
{
    int64_t hidden = run->config.model.hidden;
    double sum = 0.0;
    for (int64_t row = 0; row < ROWS; row++)
        for (int64_t o = 0; o < TOY_OUT; o++) {
            double y = 0.0;
            for (int64_t j = 0; j < hidden; j++) {
                double h = 0.0;
                for (int64_t i = 0; i < TOY_IN; i++)
                    h += 0.5 * random_normal(random_key(5, "first.weight"), (uint64_t)(j * TOY_IN + i)) *
                         (double)value_of("x", row * TOY_IN + i);
                h *= 0.5 * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (h + 0.044715 * h * h * h)));
                y += h * 0.5 * random_normal(random_key(5, "second.weight"), (uint64_t)(o * hidden + j));
            }
            y -= (double)value_of("y", row * TOY_OUT + o);
            sum += 0.5 * y * y / (ROWS * TOY_IN);
        }
    return sum;
}

/* A folder that all ranks know. */
static void make_folder(struct mesh *mesh, char folder[CHECKPOINT_PATH])
{
    snprintf(folder, CHECKPOINT_PATH, "/tmp/cairn-family-XXXXXX");
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        assert_non_null(mkdtemp(folder));
    mesh_broadcast(mesh, MESH_TEAM, 0, folder, CHECKPOINT_PATH, DTYPE_BYTE);
}

static void remove_folder(struct mesh *mesh, const char *folder)
{
    char command[CHECKPOINT_PATH + 16];
    mesh_barrier(mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(mesh_rank(mesh, MESH_TEAM) == 0 ? system(command) : 0, 0);
}

static void a_toy_trains_and_goes_on_on_another_mesh(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    int stages = fixture->ranks % 2 == 0 ? 2 : 1;
    struct run run;
    struct run other;
    double losses[STEPS];
    double resumed[STEPS];
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH + 32];
    run_create(&run, context, fixture->team, mesh_of(fixture->ranks, 1), &toy_ops, NULL, NULL, 0);
    make_folder(run.mesh, folder);
    double expected = first_loss(&run);
    run_steps(&run, 0, 2, losses);
    assert_close(losses[0], expected, 1e-6, 0.0);
    assert_ok(context, state_save(&run.trainer, NULL, folder));
    run_steps(&run, 2, STEPS, losses);
    assert_true(losses[STEPS - 1] < 0.9 * losses[0]);
    double seen = (double)*(float *)held(run.trainer.model->parameters, 3)->value.data;
    assert_close(seen, (double)(STEPS * ROWS) / fixture->ranks, 1e-6, 0.0);
    run_destroy(&run);
    run_create(&other, context, fixture->team, mesh_of(fixture->ranks, stages), &toy_ops, NULL, NULL, 0);
    snprintf(path, sizeof path, "%s/step-00000002.h5", folder);
    assert_ok(context, state_load(&other.trainer, NULL, path));
    run_steps(&other, 2, STEPS, resumed);
    for (int step = 2; step < STEPS; step++)
        assert_close(resumed[step], losses[step], 1e-5, 0.0);
    remove_folder(other.mesh, folder);
    run_destroy(&other);
}

static void check_refuses_what_does_not_fit(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct run run = {.context = &fixture->context};
    if (fixture->ranks == 1)
        skip();
    struct mesh_config mesh = {1, 1, 1, fixture->ranks, 1};
    assert_ok(run.context, config_parse(run.context, "settings", settings, strlen(settings), NULL, 0, &run.config));
    assert_ok(run.context, mesh_create(run.context, fixture->team, &mesh, &run.mesh));
    assert_ok(run.context, engine_create(run.context, 1, &run.engine));
    assert_fails(run.context,
                 trainer_create_with(run.context, run.mesh, &run.engine, &run.config, &toy_ops, NULL, &run.trainer),
                 STATUS_USAGE, "a toy has two layers");
    run_destroy(&run);
}

/* -- Two at the same time -- */

/* Even ranks train a decoder, odd ones a toy: each as if it were alone. */
static void two_models_train_side_by_side(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct team *team;
    double losses[2][STEPS];
    int color = fixture->rank % 2;
    if (fixture->ranks == 1)
        skip();
    assert_ok(context, team_create(context, fixture->team, color, &team));
    int stages = team_size(team) % 2 == 0 ? 2 : 1;
    for (int together = 0; together <= 1; together++)
        for (int turn = 0; turn < 2; turn++) {
            struct run run;
            if (together ? turn == 0 : turn == color) {
                run_create(&run, context, team, mesh_of(team_size(team), stages), color ? &toy_ops : NULL, NULL, NULL,
                           0);
                run_steps(&run, 0, STEPS, losses[together]);
                run_destroy(&run);
            }
            assert_ok(context, team_agree(fixture->team, context, STATUS_OK));
        }
    assert_memory_equal(losses[0], losses[1], sizeof losses[0]);
    assert_true(losses[0][STEPS - 1] < losses[0][0]);
    team_destroy(&team);
}

/* -- Frozen parameters -- */

enum { FREEZING = 2 };
static const char *const lower_half[] = {"training.freeze=model.embed_tokens.*,model.layers.[01].*",
                                         "model.tied_embeddings=false"};

/* Meshes of the ranks that there are: some of every axis. */
static int meshes_of(int ranks, struct mesh_config meshes[MOST])
{
    int count = 0;
    for (int pipeline = 1; pipeline <= 4; pipeline++)
        for (int tensor = 1; tensor <= 2; tensor++)
            if (ranks % (pipeline * tensor) == 0 && count < MOST)
                meshes[count++] = (struct mesh_config){ranks / (pipeline * tensor), pipeline, 1, tensor, 1};
    return count;
}

/* One rank's losses; every rank by itself. */
static void run_alone(struct context *context, struct team *job, const struct optimizer_ops *optimizer,
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

static bool is_lower(const char *name)
{
    return strncmp(name, "model.embed_tokens.", 19) == 0 || strncmp(name, "model.layers.0.", 15) == 0 ||
           strncmp(name, "model.layers.1.", 15) == 0;
}

static void check_frozen(struct run *run)
{
    const struct parameter_list *list = &run->trainer.session.parameters;
    for (int i = 0; i < held_count(list); i++) {
        const struct parameter *parameter = held(list, i);
        int64_t count = tensor_count(&parameter->value);
        float *initial = memory_allocate(run->context, (size_t)count * sizeof *initial, MEMORY_OTHER);
        bool changed = false;
        assert_int_equal(parameter->frozen, is_lower(parameter->spec.name));
        assert_true((parameter->gradient == NULL) == parameter->frozen);
        parameter_initialize(parameter, 5, (struct range){0, count}, initial);
        for (int64_t e = 0; e < count; e++)
            changed = changed || (parameter->value.dtype == DTYPE_F32
                                      ? ((float *)parameter->value.data)[e] != initial[e]
                                      : ((bf16 *)parameter->value.data)[e] != bf16_from_float(initial[e]));
        if (changed == parameter->frozen)
            fail_msg("%s: %s", parameter->spec.name, changed ? "changed" : "did not change");
        memory_free(run->context, initial);
    }
}

/* Nothing goes back into a stage that learns nothing, and it has no memory for it. */
static void check_saving(struct run *run, int64_t bytes_before)
{
    const struct mesh_config *mesh = mesh_config(run->mesh);
    const struct memory_account *memory = &run->context->memory;
    bool first = mesh_rank(run->mesh, MESH_PIPELINE) == 0;
    if (mesh->pipeline < 2 || mesh->tensor > 1)
        return;
    if (first) {
        assert_int_equal(memory->bytes[MEMORY_GRADIENTS], 0);
        assert_int_equal(memory->bytes[MEMORY_OPTIMIZER], 0);
    }
    /* The second of two stages sends nothing but what ranks agree on. */
    if (mesh->pipeline == 2 && !first)
        assert_int_equal(mesh_traffic(run->mesh, MESH_PIPELINE).bytes - bytes_before, 0);
}

static void frozen_parameters_stay_and_cost_nothing(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct mesh_config meshes[MOST];
    double alone[STEPS];
    int count = meshes_of(fixture->ranks, meshes);
    run_alone(context, fixture->team, NULL, lower_half, FREEZING, alone);
    for (int i = 0; i < count; i++)
        for (int type = 0; type <= 1; type++) {
            const char *overrides[] = {lower_half[0], lower_half[1], type ? "compute.type=bf16" : "compute.type=fp32",
                                       "compute.recompute=layer"};
            struct run run;
            double losses[STEPS];
            run_create(&run, context, fixture->team, meshes[i], NULL, NULL, overrides, 3 + i % 2);
            int64_t before = mesh_traffic(run.mesh, MESH_PIPELINE).bytes;
            run_steps(&run, 0, STEPS, losses);
            for (int step = 0; step < STEPS; step++)
                assert_close(losses[step], alone[step], type ? 2e-2 : 2e-5, 0.0);
            check_frozen(&run);
            check_saving(&run, before);
            run_destroy(&run);
        }
}

/* What learns gets the gradients that it gets when all does. */
static void frozen_parameters_change_no_other_gradient(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    static const char *const rest[] = {"model.tied_embeddings=false", "optimizer.clip=0", "optimizer.kind=sgd",
                                       "training.freeze=model.embed_tokens.*,model.layers.[01].*"};
    struct run full;
    struct run half;
    double losses[STEPS];
    run_create(&full, context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, rest, 3);
    run_create(&half, context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, rest, 4);
    run_steps(&full, 0, 1, losses);
    run_steps(&half, 0, 1, losses);
    const struct parameter_list *a = &full.trainer.session.parameters;
    const struct parameter_list *b = &half.trainer.session.parameters;
    int compared = 0;
    for (int i = 0; i < a->count; i++) {
        const struct tensor *value = &a->item[i]->value;
        if (b->item[i]->frozen)
            continue;
        /* Other buckets are summed over ranks in the same order. */
        assert_memory_equal(value->data, b->item[i]->value.data, (size_t)tensor_count(value) * sizeof(float));
        compared++;
    }
    assert_int_equal(compared, 2 * 9 + 2);
    trainer_destroy(&full.trainer);
    engine_destroy(&full.engine);
    mesh_destroy(&full.mesh);
    run_destroy(&half);
}

static void check_refused(struct run *run, const char *override, const char *message)
{
    assert_ok(run->context,
              config_parse(run->context, "settings", settings, strlen(settings), &override, 1, &run->config));
    assert_fails(run->context, trainer_create(run->context, run->mesh, &run->engine, &run->config, &run->trainer),
                 STATUS_USAGE, message);
    trainer_destroy(&run->trainer);
}

static void freezing_all_or_nothing_is_refused(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct run run = {.context = &fixture->context};
    struct mesh_config mesh = mesh_of(fixture->ranks, 1);
    assert_ok(run.context, mesh_create(run.context, fixture->team, &mesh, &run.mesh));
    assert_ok(run.context, engine_create(run.context, 1, &run.engine));
    check_refused(&run, "training.freeze=*", "every parameter is frozen");
    check_refused(&run, "training.freeze=model.layer.*", "no parameter is named like \"model.layer.*\"");
    check_refused(&run, "training.train_only=nothing", "training.train_only: no parameter is named like");
    check_refused(&run, "optimizer.no_decay=nothing.*", "optimizer.no_decay: no parameter is named like \"nothing.*\"");
    engine_destroy(&run.engine);
    mesh_destroy(&run.mesh);
    assert_int_equal(run.context->memory.bytes_total, 0);
}

/* What a run froze has no moments in its checkpoints; a run that trains it again begins with none. */
static void what_was_frozen_can_learn_again(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    static const char *const none[] = {"model.tied_embeddings=false"};
    struct run run;
    struct run other;
    double losses[STEPS];
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH + 32];
    run_create(&run, context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, lower_half, FREEZING);
    make_folder(run.mesh, folder);
    run_steps(&run, 0, 3, losses);
    assert_ok(context, state_save(&run.trainer, NULL, folder));
    run_destroy(&run);
    snprintf(path, sizeof path, "%s/step-00000003.h5", folder);
    run_create(&other, context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, none, 1);
    assert_ok(context, state_load(&other.trainer, NULL, path));
    assert_int_equal(other.trainer.step, 3);
    const struct optimizer *optimizer = &other.trainer.optimizer;
    for (int i = 0; i < optimizer->count; i++) {
        const struct shard *shard = &optimizer->shards[i];
        double sum = 0.0;
        for (int64_t e = 0; e < shard->flat.count; e++)
            sum += fabs((double)((float *)optimizer->state[i * OPTIMIZER_ARRAYS])[e]);
        assert_true((sum == 0.0) == is_lower(shard->parameter->spec.name));
    }
    run_steps(&other, 3, STEPS, losses);
    assert_true(losses[STEPS - 1] < losses[0]);
    remove_folder(other.mesh, folder);
    run_destroy(&other);
}

/* -- Sessions -- */

/* A session that only computes reads what a trainer saved, as fp32 or rounded to bf16, on every data rank. */
static void a_session_reads_what_was_saved(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct run run;
    double losses[STEPS];
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH + 32];
    run_create(&run, context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, NULL, 0);
    make_folder(run.mesh, folder);
    run_steps(&run, 0, 2, losses);
    assert_ok(context, state_save(&run.trainer, NULL, folder));
    snprintf(path, sizeof path, "%s/step-00000002.h5", folder);
    const struct parameter_list *saved = &run.trainer.session.parameters;
    struct config config = run.config;
    for (int type = COMPUTE_FP32; type <= COMPUTE_BF16; type++) {
        struct session session;
        config.compute.type = (enum compute_type)type;
        assert_ok(context, session_create(context, run.mesh, &run.engine, &config, NULL, NULL, false, &session));
        assert_ok(context, session_load(&session, path));
        for (int i = 0; i < saved->count; i++) {
            const float *values = saved->item[i]->value.data;
            const struct tensor *read = &session.parameters.item[i]->value;
            for (int64_t e = 0; e < tensor_count(read); e++)
                if (read->dtype == DTYPE_F32)
                    assert_true(((float *)read->data)[e] == values[e]);
                else
                    assert_int_equal(((bf16 *)read->data)[e], bf16_from_float(values[e]));
        }
        session_destroy(&session);
    }
    remove_folder(run.mesh, folder);
    run_destroy(&run);
}

/* What only bf16 holds of frozen parameters is what a file has, written at once or behind the training. */
static void frozen_bf16_is_saved_as_it_is(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    const char *overrides[] = {lower_half[0], lower_half[1], "compute.type=bf16"};
    struct run run;
    struct state_image image;
    struct checkpoint_background *background;
    struct checkpoint_progress progress = {0};
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH + 32];
    run_create(&run, context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, overrides, 3);
    make_folder(run.mesh, folder);
    snprintf(path, sizeof path, "%s/step-00000000.h5", folder);
    assert_ok(context, state_image_create(&run.trainer, NULL, &image));
    assert_ok(context, state_image_fill(&run.trainer, NULL, &image));
    assert_ok(context,
              checkpoint_background_create(context, run.mesh, image.list.arrays, image.list.count, &background));
    for (int behind = 0; behind <= 1; behind++) {
        struct session session;
        const struct checkpoint_target target = {.folder = folder, .keep_last = 5};
        if (behind)
            assert_ok(context, checkpoint_background_begin(background, &target, image.header));
        else
            assert_ok(context, state_save(&run.trainer, NULL, folder));
        while (behind && !progress.complete) {
            checkpoint_background_wait(background);
            assert_ok(context, checkpoint_background_advance(background, &progress));
        }
        assert_ok(context, checkpoint_verify(context, run.mesh, path));
        assert_ok(context, session_create(context, run.mesh, &run.engine, &run.config, NULL, NULL, false, &session));
        for (int i = 0; i < session.parameters.count; i++) {
            const struct tensor *value = &session.parameters.item[i]->value;
            memset(value->data, 0x11, (size_t)tensor_count(value) * dtype_size(value->dtype));
        }
        assert_ok(context, session_load(&session, path));
        for (int i = 0; i < session.parameters.count; i++) {
            const struct tensor *value = &session.parameters.item[i]->value;
            assert_memory_equal(value->data, run.trainer.session.parameters.item[i]->value.data,
                                (size_t)tensor_count(value) * dtype_size(value->dtype));
        }
        session_destroy(&session);
    }
    checkpoint_background_destroy(&background);
    state_image_destroy(context, &image);
    remove_folder(run.mesh, folder);
    run_destroy(&run);
}

/* -- Optimisers -- */

static int whole_arrays(const struct optimizer_config *config, const struct parameter_spec *spec,
                        struct optimizer_array *arrays)
{
    (void)config;
    (void)spec;
    arrays[0] = (struct optimizer_array){.name = "norms", .rank = 2, .shape = {2, 3}};
    return 1;
}

/* Steps of the length of the rate along each parameter's gradient, which has to be there whole. */
static enum status whole_direct(const struct optimizer_step *step, const struct parameter_spec *spec,
                                const float *gradient, void *const *state, float *direction)
{
    float *norms = state[0];
    double squares = 0.0;
    int64_t count = parameter_elements(spec);
    for (int64_t i = 0; i < count; i++)
        squares += (double)gradient[i] * (double)gradient[i];
    for (int64_t i = 0; i < count; i++)
        direction[i] = (float)((double)gradient[i] / (sqrt(squares) + 1e-12));
    norms[(step->t - 1) % 6] = (float)sqrt(squares);
    return STATUS_OK;
}

static const struct optimizer_ops whole_ops = {.name = "whole", .arrays = whole_arrays, .direct = whole_direct};

/* Data ranks share parameters without cutting one, and what is kept for them has a shape of its own. */
static void parameters_may_be_dealt_whole(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    static const char *const sizes[] = {"compute.bucket_bytes=2048", "compute.bucket_bytes=1000000"};
    double alone[STEPS];
    run_alone(context, fixture->team, &whole_ops, sizes, 1, alone);
    for (int i = 0; i < 2; i++) {
        struct run run;
        struct run other;
        double losses[STEPS];
        double resumed[STEPS];
        char folder[CHECKPOINT_PATH];
        char path[CHECKPOINT_PATH + 32];
        int stages = fixture->ranks % 2 == 0 ? 1 + i : 1;
        run_create(&run, context, fixture->team, mesh_of(fixture->ranks, stages), NULL, &whole_ops, &sizes[i], 1);
        make_folder(run.mesh, folder);
        run_steps(&run, 0, 2, losses);
        assert_ok(context, state_save(&run.trainer, NULL, folder));
        run_steps(&run, 2, STEPS, losses);
        for (int step = 0; step < STEPS; step++)
            assert_close(losses[step], alone[step], 2e-5, 0.0);
        /* In one bucket nobody has more than a fair part and the largest parameter. */
        int64_t all = parameter_list_elements(&run.trainer.session.parameters);
        if (i == 1)
            assert_true(replica_state_count(run.trainer.session.replica) <=
                        all / fixture->ranks + 61 * 24 + PADDING * run.trainer.session.parameters.count);
        run_destroy(&run);
        stages = fixture->ranks % 2 == 0 ? 2 - i : 1;
        run_create(&other, context, fixture->team, mesh_of(fixture->ranks, stages), NULL, &whole_ops, &sizes[1 - i], 1);
        snprintf(path, sizeof path, "%s/step-00000002.h5", folder);
        assert_ok(context, state_load(&other.trainer, NULL, path));
        for (int o = 0; o < other.trainer.optimizer.count; o++) {
            const float *norms = other.trainer.optimizer.state[o * OPTIMIZER_ARRAYS];
            if (!norms)
                continue;
            assert_true(norms[0] > 0.0f && norms[1] > 0.0f && norms[2] == 0.0f);
        }
        run_steps(&other, 2, STEPS, resumed);
        for (int step = 2; step < STEPS; step++)
            assert_close(resumed[step], losses[step], 2e-5, 0.0);
        remove_folder(other.mesh, folder);
        run_destroy(&other);
    }
}

/* The settings of a test on a mesh, whose last may be for as many ranks as its stages have. */
struct settings {
    const char *const *overrides;
    int count;
    int together; /* ranks that step a matrix, at most; 0: it does not matter */
};

enum { SETTINGS = 12 };

static void settings_run(struct run *run, struct mpi_fixture *fixture, struct mesh_config mesh,
                         const struct settings *s)
{
    const char *overrides[SETTINGS + 1];
    char ranks[64];
    int64_t stage = mesh.data * mesh.context * mesh.tensor;
    memcpy(overrides, s->overrides, (size_t)s->count * sizeof *overrides);
    snprintf(ranks, sizeof ranks, "optimizer.matrix_ranks=%d", (int)integer_min(stage, s->together));
    overrides[s->count] = ranks;
    run_create(run, &fixture->context, fixture->team, mesh, NULL, NULL, overrides, s->count + (s->together > 0));
}

/* Trains, and goes on from the middle on the same mesh to the bit, and on another one. */
static void check_resume(struct mpi_fixture *fixture, const struct mesh_config meshes[2],
                         const struct settings *settings_of)
{
    struct context *context = &fixture->context;
    struct run run;
    double losses[STEPS];
    char folder[CHECKPOINT_PATH];
    char path[CHECKPOINT_PATH + 32];
    settings_run(&run, fixture, meshes[0], settings_of);
    make_folder(run.mesh, folder);
    run_steps(&run, 0, 3, losses);
    assert_ok(context, state_save(&run.trainer, NULL, folder));
    run_steps(&run, 3, STEPS, losses);
    run_destroy(&run);
    snprintf(path, sizeof path, "%s/step-00000003.h5", folder);
    for (int i = 0; i < 2; i++) {
        double resumed[STEPS];
        settings_run(&run, fixture, meshes[i], settings_of);
        assert_ok(context, state_load(&run.trainer, NULL, path));
        run_steps(&run, 3, STEPS, resumed);
        for (int step = 3; step < STEPS; step++)
            assert_close(resumed[step], losses[step], i ? 2e-5 : 0.0, 0.0);
        if (i == 1)
            remove_folder(run.mesh, folder);
        run_destroy(&run);
    }
}

/* An optimiser comes to the same on every mesh; unit tests hold it to its formula. */
static void check_settings(struct mpi_fixture *fixture, const struct settings *settings_of)
{
    struct context *context = &fixture->context;
    struct mesh_config meshes[MOST];
    double alone[STEPS];
    int mesh_count = meshes_of(fixture->ranks, meshes);
    run_alone(context, fixture->team, NULL, settings_of->overrides, settings_of->count, alone);
    assert_true(alone[STEPS - 1] < alone[0] - 0.05);
    for (int i = 0; i < mesh_count; i++) {
        struct run run;
        double losses[STEPS];
        settings_run(&run, fixture, meshes[i], settings_of);
        run_steps(&run, 0, STEPS, losses);
        for (int step = 0; step < STEPS; step++)
            assert_close(losses[step], alone[step], 2e-5, 0.0);
        run_destroy(&run);
        const struct mesh_config both[2] = {meshes[i], meshes[(i + 1) % mesh_count]};
        check_resume(fixture, both, settings_of);
    }
}

static void check_kind(struct mpi_fixture *fixture, const char *const *overrides, int count)
{
    check_settings(fixture, &(struct settings){overrides, count, 0});
}

static void descent_is_the_same_on_every_mesh(void **state)
{
    static const char *const sgd[] = {"optimizer.kind=sgd", "optimizer.nesterov=true", "optimizer.learning_rate=0.1"};
    check_kind(mpi_fixture_of(state), sgd, 3);
}

/* Some matrices are 3-D, tensor ranks hold keys and values that overlap, and one of two has nothing of a single hidden
 * unit. */
static void muon_is_the_same_on_every_mesh(void **state)
{
    static const char *const muon[] = {
        "optimizer.kind=muon",       "model.residual.kind=laurel",          "model.residual.rank=2",
        "model.residual.previous=2", "optimizer.adamw_learning_rate=0.003", "model.hidden=1"};
    check_kind(mpi_fixture_of(state), muon, 5);
    check_kind(mpi_fixture_of(state), muon, 6);
}

/* Bases of one side only, too. */
static void soap_is_the_same_on_every_mesh(void **state)
{
    static const char *const soap[] = {"optimizer.kind=soap",   "model.residual.kind=laurel",
                                       "model.residual.rank=2", "model.residual.previous=2",
                                       "optimizer.every=2",     "optimizer.max_side=30"};
    check_kind(mpi_fixture_of(state), soap, 6);
}

/* The same where ranks step every matrix together: two of them (of a tensor axis, or of a stage), or all. */
static void matrices_over_grids_are_stepped_alike(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    static const struct {
        const char *kind, *other;
        int together;
    } cases[] = {{"optimizer.kind=muon", "optimizer.adamw_learning_rate=0.003", 2},
                 {"optimizer.kind=soap", "optimizer.max_side=30", 4},
                 {"optimizer.kind=muon", "optimizer.polar=exact", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *overrides[] = {cases[i].kind,
                                   cases[i].other,
                                   "model.residual.kind=laurel",
                                   "model.residual.rank=2",
                                   "model.residual.previous=2",
                                   "optimizer.every=2",
                                   "optimizer.matrix_border=2"};
        check_settings(fixture, &(struct settings){overrides, 7, cases[i].together});
    }
}

/* What auto makes of it: no rank has more than its even share of the costs but for grids. */
static void auto_spreads_what_would_be_waited_for(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    static const char *const muon[] = {"optimizer.kind=muon", "optimizer.matrix_border=24", "model.layers=1",
                                       "model.hidden=100"};
    struct run run;
    run_create(&run, &fixture->context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, muon, 4);
    const struct parameter_list *list = &run.trainer.session.parameters;
    double all = 0.0;
    for (int i = 0; i < list->count; i++)
        all += list->item[i]->spec.is_matrix ? list->item[i]->cost : 0.0;
    for (int i = 0; i < list->count; i++) {
        const struct parameter *p = list->item[i];
        bool large = p->spec.is_matrix && integer_min(p->spec.shape[0], p->spec.shape[1]) >= 24;
        bool waited_for = p->cost * fixture->ranks > all;
        assert_int_equal(p->grid_ranks, large && waited_for && fixture->ranks > 1 ? fixture->ranks : 0);
        assert_int_equal(p->uncut, p->spec.is_matrix && p->grid_ranks == 0);
    }
    run_destroy(&run);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    struct config config;
    struct trainer trainer;
    static const char *const many[] = {"optimizer.kind=muon", "optimizer.matrix_ranks=9"};
    assert_ok(&fixture->context,
              config_parse(&fixture->context, "settings", settings, strlen(settings), many, 2, &config));
    assert_ok(&fixture->context, engine_create(&fixture->context, 1, &run.engine));
    assert_fails(&fixture->context, trainer_create(&fixture->context, mesh, &run.engine, &config, &trainer),
                 STATUS_USAGE, "optimizer.matrix_ranks: 9 do not fit the");
    trainer_destroy(&trainer);
    engine_destroy(&run.engine);
    mesh_destroy(&mesh);
}

/* What is left of AdamW's moments and Muon's momentum in a checkpoint: one or the other. */
static void groups_keep_their_own_arrays(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    static const char *const muon[] = {"optimizer.kind=muon", "optimizer.no_decay=model.layers.0.mlp.*"};
    struct run run;
    run_create(&run, &fixture->context, fixture->team, mesh_of(fixture->ranks, 1), NULL, NULL, muon, 2);
    struct state_list list = {.context = &fixture->context};
    struct state_visitor visitor = state_list_visitor(&list, true);
    const struct parameter_list *parameters = &run.trainer.session.parameters;
    assert_ok(&fixture->context, optimizer_visit(&run.trainer.optimizer, parameters, &visitor));
    for (int i = 0; i < list.count; i++) {
        bool is_momentum = strncmp(list.arrays[i].name, "/optimizer/momentum/", 20) == 0;
        assert_true(is_momentum == (strstr(list.arrays[i].name, "_proj.weight") != NULL));
    }
    assert_int_equal(list.count, 4 * (7 + 2 * 2) + 2 * 2);
    state_list_destroy(&list);
    for (int i = 0; i < parameters->count; i++) {
        const struct parameter_spec *spec = &parameters->item[i]->spec;
        assert_int_equal(spec->decay, spec->rank == 2 && strncmp(spec->name, "model.layers.0.mlp.", 19) != 0);
    }
    run_destroy(&run);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_toy_trains_and_goes_on_on_another_mesh),
    cmocka_unit_test(check_refuses_what_does_not_fit),
    cmocka_unit_test(two_models_train_side_by_side),
    cmocka_unit_test(frozen_parameters_stay_and_cost_nothing),
    cmocka_unit_test(frozen_parameters_change_no_other_gradient),
    cmocka_unit_test(freezing_all_or_nothing_is_refused),
    cmocka_unit_test(what_was_frozen_can_learn_again),
    cmocka_unit_test(a_session_reads_what_was_saved),
    cmocka_unit_test(frozen_bf16_is_saved_as_it_is),
    cmocka_unit_test(parameters_may_be_dealt_whole),
    cmocka_unit_test(descent_is_the_same_on_every_mesh),
    cmocka_unit_test(muon_is_the_same_on_every_mesh),
    cmocka_unit_test(soap_is_the_same_on_every_mesh),
    cmocka_unit_test(matrices_over_grids_are_stepped_alike),
    cmocka_unit_test(auto_spreads_what_would_be_waited_for),
    cmocka_unit_test(groups_keep_their_own_arrays),
};

MPI_MAIN(tests)
