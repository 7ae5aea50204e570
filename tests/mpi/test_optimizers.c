/* Optimisers of either layout: meshes against one rank, and going on on another mesh. */
#include "tests/mpi/family_support.h"

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
    cmocka_unit_test(parameters_may_be_dealt_whole),         cmocka_unit_test(descent_is_the_same_on_every_mesh),
    cmocka_unit_test(muon_is_the_same_on_every_mesh),        cmocka_unit_test(soap_is_the_same_on_every_mesh),
    cmocka_unit_test(matrices_over_grids_are_stepped_alike), cmocka_unit_test(auto_spreads_what_would_be_waited_for),
    cmocka_unit_test(groups_keep_their_own_arrays),
};

MPI_MAIN(tests)
