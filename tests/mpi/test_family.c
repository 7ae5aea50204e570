/* Families of models through their public interface: a toy family trains, is saved and goes on on another mesh; two
 * models train side by side; sessions read what was saved. */
#include "tests/mpi/family_support.h"

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

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_toy_trains_and_goes_on_on_another_mesh),
    cmocka_unit_test(check_refuses_what_does_not_fit),
    cmocka_unit_test(two_models_train_side_by_side),
    cmocka_unit_test(a_session_reads_what_was_saved),
};

MPI_MAIN(tests)
