/* Frozen parameters: they stay as they are and cost nothing, on every mesh. */
#include "tests/mpi/family_support.h"

/* -- Frozen parameters -- */

enum { FREEZING = 2 };
static const char *const lower_half[] = {"training.freeze=model.embed_tokens.*,model.layers.[01].*",
                                         "model.tied_embeddings=false"};

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

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(frozen_parameters_stay_and_cost_nothing),
    cmocka_unit_test(frozen_parameters_change_no_other_gradient),
    cmocka_unit_test(freezing_all_or_nothing_is_refused),
    cmocka_unit_test(what_was_frozen_can_learn_again),
    cmocka_unit_test(frozen_bf16_is_saved_as_it_is),
};

MPI_MAIN(tests)
