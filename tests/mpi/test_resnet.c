/* Residual networks: how many parameters there are, that learned residuals start as the plain network, that data ranks
 * with the group's statistics compute what one does, and that a run goes on to the bit where it was saved. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/core/random.h"
#include "src/train/state.h"
#include "tests/support/held.h"
#include "tests/support/mpi_main.h"

enum { STEPS = 4, SAVED = 2, ROWS = 7 };

static const char settings[] =
    "model: {family: resnet, depth_preset: 18, stem: small, width: 4, image: {size: 9, channels: 3, classes: 5},\n"
    "        batch_statistics: group}\n"
    "compute: {bucket_bytes: 4096}\n"
    "optimizer: {kind: sgd, learning_rate: 0.05, momentum: 0.9, schedule: constant}\n"
    "training: {steps: 4, batch: 7, micro_batch: 7, seed: 5}\n"
    "data: {train: none}\n";

struct run {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct config config;
    struct trainer trainer;
};

/* The same rows on any mesh. */
static void fill(struct batch *batch)
{
    const struct batch_field *images = &batch->field[0];
    float *pixels = batch_field(batch, "images");
    int32_t *labels = batch_field(batch, "labels");
    for (int64_t i = 0; i < batch->mine.count * images->elements; i++)
        pixels[i] = (float)random_normal(random_key(3, "pixels"), (uint64_t)(batch->mine.begin * images->elements + i));
    for (int64_t row = 0; row < batch->mine.count; row++)
        labels[row] = (int32_t)((batch->mine.begin + row) % 5);
    batch_ready(batch, batch->rows, batch->rows);
}

static void run_create(struct run *run, struct context *context, const struct team *team, const char *const *overrides,
                       int count)
{
    struct mesh_config mesh = {team_size(team), 1, 1, 1, 1};
    run->context = context;
    assert_ok(context, config_parse(context, "settings", settings, strlen(settings), overrides, count, &run->config));
    assert_ok(context, mesh_create(context, team, &mesh, &run->mesh));
    assert_ok(context, engine_create(context, 1, &run->engine));
    assert_ok(context, trainer_create(context, run->mesh, &run->engine, &run->config, &run->trainer));
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

/* -- Parameters -- */

static int64_t count_of(struct context *context, const char *const *overrides, int count)
{
    struct config config;
    struct parameter_list list;
    assert_ok(context, config_parse(context, "settings", settings, strlen(settings), overrides, count, &config));
    parameter_list_create(context, &list);
    assert_ok(context, resnet_ops.describe(context, &config.model, &list));
    int64_t elements = parameter_list_elements(&list);
    parameter_list_destroy(&list);
    return elements;
}

static int64_t deeper(struct context *context, const char *depth, const char *extra)
{
    char preset[64];
    char more[64];
    snprintf(preset, sizeof preset, "model.depth_preset=%s", depth);
    snprintf(more, sizeof more, "model.extra_blocks=%s", extra);
    const char *overrides[] = {
        preset, more, "model.stem=imagenet", "model.width=64", "model.image.classes=1000", "model.residual.kind=plain"};
    return count_of(context, overrides, 6);
}

static int64_t imagenet(struct context *context, const char *depth, const char *residual)
{
    char preset[64];
    snprintf(preset, sizeof preset, "model.depth_preset=%s", depth);
    const char *overrides[] = {preset, "model.stem=imagenet", "model.width=64", "model.image.classes=1000",
                               "model.residual.kind=plain"};
    const char *learned[] = {preset,
                             "model.stem=imagenet",
                             "model.width=64",
                             "model.image.classes=1000",
                             "model.residual.kind=laurel",
                             strstr(residual, "w") ? "model.residual.weights=true" : "model.residual.weights=false",
                             strstr(residual, "r") ? "model.residual.rank=16" : "model.residual.rank=0",
                             strstr(residual, "p") ? "model.residual.previous=3" : "model.residual.previous=0"};
    return *residual ? count_of(context, learned, 8) : count_of(context, overrides, 5);
}

static void parameters_are_those_of_torchvision(void **state)
{
    struct context *context = &mpi_fixture_of(state)->context;
    assert_int_equal(imagenet(context, "18", ""), 11689512);
    assert_int_equal(imagenet(context, "34", ""), 21797672);
    assert_int_equal(imagenet(context, "50", ""), 25557032);
    assert_int_equal(deeper(context, "50", "1") - 25557032, 1117184);
    assert_int_equal(deeper(context, "50", "17"), 44549160); /* torchvision's resnet101 */
    /* Identity blocks of ResNet-50: 2, 3, 5 and 2 of 256, 512, 1024 and 2048 channels. */
    int64_t channels = 2 * 256 + 3 * 512 + 5 * 1024 + 2 * 2048;
    assert_int_equal(imagenet(context, "50", "w") - 25557032, 12 * 2);
    assert_int_equal(imagenet(context, "50", "wr") - 25557032, 12 * 2 + 2 * 16 * channels);
    assert_int_equal(imagenet(context, "50", "wp") - 25557032, 12 * 2 + 12 * 3);
    assert_int_equal(imagenet(context, "50", "wrp") - 25557032, 12 * 2 + 12 * 3 + 3 * 2 * 16 * channels);
}

/* -- Training -- */

static void learned_residuals_start_as_the_plain_network(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    static const char *const forms[][5] = {
        {"model.residual.kind=plain"},
        {"model.residual.kind=laurel", "model.residual.weights=true"},
        {"model.residual.kind=laurel", "model.residual.rank=3"},
        {"model.residual.kind=laurel", "model.residual.previous=2"},
        {"model.residual.kind=laurel", "model.residual.weights=true", "model.residual.rank=3",
         "model.residual.previous=2"},
        {"model.residual.kind=plain", "compute.recompute=layer"},
    };
    for (int half = 0; half <= 1; half++) {
        double plain = 0.0;
        float seen[4];
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            const char *overrides[6];
            int count = 0;
            while (forms[i][count]) {
                overrides[count] = forms[i][count];
                count++;
            }
            overrides[count++] = half ? "compute.type=bf16" : "compute.type=fp32";
            struct run run;
            struct step_result result;
            run_create(&run, &fixture->context, fixture->team, overrides, count);
            assert_ok(run.context, trainer_gradients(&run.trainer, &result));
            const struct parameter *mean = parameter_find(run.trainer.model->parameters, "layer1.0.bn1.running_mean");
            if (i == 0) {
                plain = result.loss;
                memcpy(seen, mean->value.data, sizeof seen);
            }
            assert_true(isfinite(result.loss) && result.loss == plain);
            assert_memory_equal(seen, mean->value.data, sizeof seen);
            run_destroy(&run);
        }
    }
}

/* What is frozen keeps its statistics, too, and counts no batches; the rest goes on. */
static void frozen_norms_keep_their_statistics(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    const char *const overrides[] = {"training.freeze=layer1.*,bn1.*"};
    struct run run;
    double losses[STEPS];
    run_create(&run, &fixture->context, fixture->team, overrides, 1);
    run_steps(&run, 0, 2, losses);
    const struct parameter_list *list = run.trainer.model->parameters;
    static const char *const names[] = {"bn1", "layer1.0.bn1", "layer2.0.bn1"};
    for (int i = 0; i < 3; i++) {
        char name[PARAMETER_NAME];
        double changed = 0.0;
        snprintf(name, sizeof name, "%s.running_mean", names[i]);
        struct parameter *mean = parameter_find(list, name);
        for (int64_t c = 0; c < tensor_count(&mean->value); c++)
            changed += fabs((double)((const float *)mean->value.data)[c]);
        snprintf(name, sizeof name, "%s.running_var", names[i]);
        struct parameter *variance = parameter_find(list, name);
        for (int64_t c = 0; c < tensor_count(&variance->value); c++)
            changed += fabs((double)((const float *)variance->value.data)[c] - 1.0);
        snprintf(name, sizeof name, "%s.num_batches_tracked", names[i]);
        double batches = *parameter_count(parameter_find(list, name));
        assert_true(i < 2 ? changed == 0.0 && batches == 0.0 : changed > 0.0 && batches == 2.0);
    }
    run_destroy(&run);
}

/* A pixel that is no number costs a step, and nothing of it stays in the statistics. */
static void a_skipped_step_leaves_no_statistics(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct run run;
    struct step_result result;
    run_create(&run, &fixture->context, fixture->team, NULL, 0);
    const struct parameter *mean = parameter_find(run.trainer.model->parameters, "bn1.running_mean");
    const float *values = mean->value.data;
    if (run.trainer.batch.mine.begin == 0 && run.trainer.batch.mine.count > 0)
        ((float *)batch_field(&run.trainer.batch, "images"))[7] = NAN;
    assert_ok(run.context, trainer_step(&run.trainer, &result));
    assert_true(result.skipped);
    for (int64_t c = 0; c < tensor_count(&mean->value); c++)
        assert_true(values[c] == 0.0f);
    fill(&run.trainer.batch);
    assert_ok(run.context, trainer_step(&run.trainer, &result));
    assert_true(!result.skipped && values[0] != 0.0f && isfinite(values[0]));
    run_destroy(&run);
}

/* Ranks without rows among them. */
static void data_ranks_compute_what_one_does(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    double losses[2][STEPS];
    for (int alone = 0; alone <= 1; alone++) {
        struct team *team;
        struct run run;
        int color = alone ? fixture->rank : 0;
        assert_ok(&fixture->context, team_create(&fixture->context, fixture->team, color, &team));
        /* Half of it is no float of which three have a mean. */
        const double before = 4503601758076928.0;
        run_create(&run, &fixture->context, team, NULL, 0);
        struct parameter *tracked = parameter_find(run.trainer.model->parameters, "bn1.num_batches_tracked");
        *parameter_count(tracked) = before;
        run_steps(&run, 0, STEPS, losses[alone]);
        assert_true(*parameter_count(tracked) == before + STEPS);
        run_destroy(&run);
        team_destroy(&team);
        assert_ok(&fixture->context, team_agree(fixture->team, &fixture->context, STATUS_OK));
    }
    for (int step = 0; step < STEPS; step++)
        assert_close(losses[0][step], losses[1][step], 2e-4, 0.0);
    assert_true(losses[1][STEPS - 1] < losses[1][0]);
}

static void a_run_goes_on_to_the_bit(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct run run;
    double losses[STEPS], resumed[STEPS];
    struct step_result evaluated[2];
    char folder[CHECKPOINT_PATH] = "/tmp/cairn-resnet-XXXXXX";
    char path[CHECKPOINT_PATH + 32];
    const char *overrides[] = {"model.batch_statistics=rank", "training.micro_batch=2"};
    run_create(&run, context, fixture->team, overrides, 2);
    if (fixture->rank == 0)
        assert_non_null(mkdtemp(folder));
    mesh_broadcast(run.mesh, MESH_TEAM, 0, folder, CHECKPOINT_PATH, DTYPE_BYTE);
    run_steps(&run, 0, SAVED, losses);
    assert_ok(context, state_save(&run.trainer, NULL, folder));
    run_steps(&run, SAVED, STEPS, losses);
    assert_ok(context, trainer_loss(&run.trainer, &evaluated[0]));
    run_destroy(&run);
    run_create(&run, context, fixture->team, overrides, 2);
    snprintf(path, sizeof path, "%s/step-%08d.h5", folder, SAVED);
    assert_ok(context, state_load(&run.trainer, NULL, path));
    run_steps(&run, SAVED, STEPS, resumed);
    assert_ok(context, trainer_loss(&run.trainer, &evaluated[1]));
    for (int step = SAVED; step < STEPS; step++)
        assert_true(resumed[step] == losses[step]);
    assert_true(evaluated[0].loss == evaluated[1].loss && evaluated[0].loss != losses[STEPS - 1]);
    struct parameter *tracked = parameter_find(run.trainer.model->parameters, "layer4.1.bn2.num_batches_tracked");
    assert_true(*parameter_count(tracked) == (double)(STEPS * run.trainer.batch.micro_batches));
    char command[CHECKPOINT_PATH + 16];
    mesh_barrier(run.mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(fixture->rank == 0 ? system(command) : 0, 0);
    run_destroy(&run);
}

static void other_splits_are_refused(void **state)
{
    struct context *context = &mpi_fixture_of(state)->context;
    struct mesh_config mesh = {2, 3, 1, 1, 1};
    assert_fails(context, resnet_ops.check(context, NULL, &mesh), STATUS_USAGE, "use 1 and mesh.data 6");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(parameters_are_those_of_torchvision),
    cmocka_unit_test(learned_residuals_start_as_the_plain_network),
    cmocka_unit_test(frozen_norms_keep_their_statistics),
    cmocka_unit_test(a_skipped_step_leaves_no_statistics),
    cmocka_unit_test(data_ranks_compute_what_one_does),
    cmocka_unit_test(a_run_goes_on_to_the_bit),
    cmocka_unit_test(other_splits_are_refused),
};

MPI_MAIN(tests)
