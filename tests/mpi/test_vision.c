/* Vision Transformers in training: what their parts begin as, on any mesh. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/core/random.h"
#include "src/evaluate/class_scores.h"
#include "src/evaluate/evaluate_images.h"
#include "src/train/trainer.h"
#include "tests/support/mpi_main.h"

static const char plain[] =
    "model: {family: vit, image: {size: 12, channels: 2, patch: 4, classes: 7}, width: 24, layers: 3, heads: 3, "
    "hidden: 20%s}\n"
    "training: {batch: 5, micro_batch: 2, label_smoothing: 0.1}\ncompute: {bucket_bytes: 4096}\n";

struct bench {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct config config;
    struct trainer trainer;
};

/* The classifier, which begins with zeros, gets numbers: so the loss says something. */
static void bench_create_of(struct bench *bench, void **state, struct mesh_config mesh, const char *text,
                            enum compute_type type)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    bench->context = &fixture->context;
    bench->mesh = mpi_mesh(fixture, mesh);
    assert_ok(bench->context, config_parse(bench->context, "plain", text, strlen(text), NULL, 0, &bench->config));
    bench->config.compute.type = type;
    assert_ok(bench->context, engine_create(bench->context, 1, &bench->engine));
    assert_ok(bench->context,
              trainer_create(bench->context, bench->mesh, &bench->engine, &bench->config, &bench->trainer));
    int count;
    const struct shard *shards = replica_shards(bench->trainer.session.replica, &count);
    for (int i = 0; i < count; i++) {
        const struct parameter *parameter = shards[i].parameter;
        if (strcmp(parameter->spec.name, "classifier.weight") != 0)
            continue;
        int64_t first = parameter->division.slice.begin * parameter->spec.shape[1] + shards[i].flat.begin;
        for (int64_t n = 0; n < shards[i].flat.count; n++)
            shards[i].master[n] = (float)random_normal(7, (uint64_t)(first + n));
    }
    replica_gather_all(bench->trainer.session.replica);
    batch_fill_random(&bench->trainer.batch, 3);
}

/* With `more` settings of the model. */
static void bench_create(struct bench *bench, void **state, struct mesh_config mesh, const char *more,
                         enum compute_type type)
{
    char text[1024];
    snprintf(text, sizeof text, plain, more);
    bench_create_of(bench, state, mesh, text, type);
}

static void bench_destroy(struct bench *bench)
{
    trainer_destroy(&bench->trainer);
    engine_destroy(&bench->engine);
    mesh_destroy(&bench->mesh);
    assert_int_equal(bench->context->memory.bytes_total, 0);
}

static double loss_of(void **state, struct mesh_config mesh, const char *more, enum compute_type type)
{
    struct bench bench;
    struct step_result result;
    bench_create(&bench, state, mesh, more, type);
    assert_ok(bench.context, trainer_loss(&bench.trainer, &result));
    bench_destroy(&bench);
    return result.loss;
}

/* Learned residuals of every form begin as the plain network, to the bit. */
static void learned_residuals_begin_as_plain_sums(void **state)
{
    static const char *const forms[] = {"weights: true",
                                        "rank: 4",
                                        "previous: 3",
                                        "weights: true, rank: 4",
                                        "weights: true, previous: 2",
                                        "previous: 2, rank: 3",
                                        "weights: true, rank: 4, previous: 3",
                                        "scope: layer, weights: true, rank: 2, previous: 2"};
    int ranks = mpi_fixture_of(state)->ranks;
    struct mesh_config mesh = {0, 1, 1, ranks % 2 ? ranks : 2, 1};
    if (ranks == 1)
        mesh.tensor = 1;
    for (int type = COMPUTE_FP32; type <= COMPUTE_BF16; type++) {
        double wanted = loss_of(state, mesh, "", (enum compute_type)type);
        assert_true(wanted > 0.5 && fabs(wanted - log(7.0)) > 0.1);
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            char more[160];
            /* The layer's sum of both parts is rounded in another order. */
            bool ordered = strstr(forms[i], "layer") == NULL;
            snprintf(more, sizeof more, ", residual: {kind: laurel, %s}", forms[i]);
            double found = loss_of(state, mesh, more, (enum compute_type)type);
            if (ordered)
                assert_true(found == wanted);
            else
                assert_close(found, wanted, type == COMPUTE_BF16 ? 1e-2 : 1e-6, 0.0);
        }
    }
}

/* Pooling, norms and routed depth: every mesh computes what one rank of it would, losses of routers among them. */
static void every_mesh_computes_the_same(void **state)
{
    static const struct {
        const char *more;
        double loss, router_loss, norm; /* of one rank */
    } kinds[] = {
        {"", 6.706970453, 0, 655.3405343},
        {", pooling: mean", 3.140118837, 0, 62.3988594},
        {", pooling: mean, pooling_norm: after", 8.402330756, 0, 158.2398724},
        {", norm: rms, mlp: swiglu, kv_heads: 1, bias: false", 7.507717967, 0, 284.1383966},
        {", parallel_block: true", 6.704837918, 0, 656.0648994},
        {", depth: {kind: mod, capacity: 0.4}", 6.285757661, 0.0068976795, 523.2844349},
        {", depth: {kind: mor, recursions: 3, sharing: cycle, cache: shared}", 6.746993899, 0.0207235111, 281.6335665},
        {", depth: {kind: recursive, recursions: 3, sharing: sequence}", 5.244939685, 0, 912.7829607},
    };
    int ranks = mpi_fixture_of(state)->ranks;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int tensor = 1; tensor <= 3; tensor++)
            for (int pipeline = 1; pipeline <= 2; pipeline++) {
                struct bench bench;
                struct step_result result;
                bool one_stage = strstr(kinds[i].more, "recursi") != NULL; /* of one or few stored layers */
                if (ranks % (tensor * pipeline) != 0 || (pipeline > 1 && one_stage))
                    continue;
                bench_create(&bench, state, (struct mesh_config){ranks / (tensor * pipeline), pipeline, 1, tensor, 1},
                             kinds[i].more, COMPUTE_FP32);
                assert_ok(bench.context, trainer_gradients(&bench.trainer, &result));
                assert_close(result.loss, kinds[i].loss, 1e-6, 0.0);
                assert_close(result.router_loss, kinds[i].router_loss, 1e-6, 1e-9);
                assert_close(result.gradient_norm, kinds[i].norm, 1e-6, 0.0);
                bench_destroy(&bench);
            }
}

/* Labels are smoothed in training only: what is held out is measured by the labels themselves. */
static void evaluation_smooths_no_labels(void **state)
{
    struct bench bench;
    struct step_result result[4];
    bench_create(&bench, state, (struct mesh_config){0, 1, 1, 1, 1}, "", COMPUTE_FP32);
    for (int i = 0; i < 4; i++) {
        bench.config.training.label_smoothing = i % 2 ? 0.1 : 0.0;
        batch_ready_whole(&bench.trainer.batch);
        assert_ok(bench.context,
                  i < 2 ? trainer_gradients(&bench.trainer, &result[i]) : trainer_loss(&bench.trainer, &result[i]));
    }
    assert_true(result[0].loss != result[1].loss);
    assert_true(result[2].loss == result[3].loss);
    assert_close(result[2].loss, result[0].loss, 1e-6, 0.0);
    bench_destroy(&bench);
}

/* Texts with labels, of different lengths: the same in micro-batches of any size, on any mesh. */
static void texts_are_told_apart_in_any_micro_batches(void **state)
{
    int ranks = mpi_fixture_of(state)->ranks;
    for (int micro = 1; micro <= 5; micro += 2)
        for (int tensor = 1; tensor <= 2 && ranks % tensor == 0; tensor++) {
            char text[512];
            struct bench bench;
            struct step_result result;
            snprintf(text, sizeof text,
                     "model: {vocabulary: 40, classes: 3, width: 24, layers: 2, heads: 2, hidden: 20}\n"
                     "training: {batch: 5, micro_batch: %d, sequence_length: 10}\n",
                     micro);
            bench_create_of(&bench, state, (struct mesh_config){ranks / tensor, 1, 1, tensor, 1}, text, COMPUTE_FP32);
            struct batch *batch = &bench.trainer.batch;
            int64_t *valid = batch_field(batch, "valid");
            for (int64_t row = 0; row < batch->mine.count; row++)
                valid[row] = 2 + (batch->mine.begin + row) * 3 % 8;
            assert_ok(bench.context, trainer_gradients(&bench.trainer, &result));
            assert_close(result.loss, 2.6437084, 1e-6, 0.0);
            assert_close(result.gradient_norm, 100.740873, 1e-6, 0.0);
            bench_destroy(&bench);
        }
}

/* -- A set that is evaluated -- */

enum { HELD = 18, SIDE = 12, HELD_CLASSES = 7 };

/* Of the classes by their scores: class 2 comes first, class 1 last. */
static const int held_places[HELD_CLASSES] = {3, 6, 0, 5, 1, 4, 2};
static const uint8_t held_labels[HELD] = {2, 2, 0, 1, 3, 5, 6, 2, 4, 1, 1, 3, 0, 0, 0, 4, 6, 5};

static struct image_set *open_held_out(struct bench *bench)
{
    static const uint8_t images[] = {0, 0, 8, 4, 0, 0, 0, HELD, 0, 0, 0, SIDE, 0, 0, 0, SIDE, 0, 0, 0, 2};
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, HELD};
    char folder[] = "/tmp/cairn-vision-XXXXXX";
    char path[64];
    struct image_set *set = NULL;
    struct text_list names = {.count = 1};
    assert_non_null(mkdtemp(folder));
    snprintf(names.item[0], sizeof names.item[0], "%s/images", folder);
    FILE *file = fopen(names.item[0], "w");
    fwrite(images, 1, sizeof images, file);
    for (int i = 0; i < HELD * SIDE * SIDE * 2; i++)
        fputc(i * 37 % 251, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/labels", folder);
    file = fopen(path, "w");
    fwrite(labels, 1, sizeof labels, file);
    fwrite(held_labels, 1, sizeof held_labels, file);
    fclose(file);
    assert_ok(bench->context, image_set_open(bench->context, &names, IMAGES_AUTO, false, &set));
    unlink(path);
    unlink(names.item[0]);
    rmdir(folder);
    return set;
}

/* The classifier's biases are the scores, whatever the image. */
static void score_by_bias(struct bench *bench, float factor)
{
    int count;
    const struct shard *shards = replica_shards(bench->trainer.session.replica, &count);
    for (int i = 0; i < count; i++) {
        const struct parameter *parameter = shards[i].parameter;
        bool is_bias = strcmp(parameter->spec.name, "classifier.bias") == 0;
        int64_t first = parameter->division.slice.begin + shards[i].flat.begin;
        for (int64_t n = 0; n < shards[i].flat.count; n++)
            if (is_bias)
                shards[i].master[n] = -factor * (float)held_places[first + n];
            else if (strcmp(parameter->spec.name, "classifier.weight") == 0)
                shards[i].master[n] = 0.0f;
    }
    replica_gather_all(bench->trainer.session.replica);
}

/* Of the images from each of the first ones on, five each (fewer at the end). */
static void check_held_out(const struct evaluation *found, const double *confusion, const int *firsts, int batches)
{
    double exponentials = 0.0;
    double places = 0.0;
    double wanted[HELD_CLASSES] = {0};
    int right = 0, right5 = 0, targets = 0;
    for (int c = 0; c < HELD_CLASSES; c++)
        exponentials += exp(-0.5 * c);
    for (int b = 0; b < batches; b++)
        for (int i = firsts[b]; i < firsts[b] + 5 && i < HELD; i++) {
            int place = held_places[held_labels[i]];
            places += place;
            right += place == 0;
            right5 += place <= 4;
            wanted[held_labels[i]] += 1.0;
            targets++;
        }
    assert_int_equal(found->targets, targets);
    assert_close(found->accuracy, (double)right / targets, 1e-12, 0.0);
    assert_close(found->accuracy5, (double)right5 / targets, 1e-12, 0.0);
    assert_close(found->loss, log(exponentials) + 0.5 * places / targets, 1e-6, 0.0);
    for (int label = 0; label < HELD_CLASSES; label++)
        for (int c = 0; c < HELD_CLASSES; c++)
            assert_true(confusion[label * HELD_CLASSES + c] == (c == 2 ? wanted[label] : 0.0));
}

/* All of them, the last batch not full; two of four batches, spread; and scores that are no numbers, by which nothing
 * is right. */
static void images_held_out_are_counted(void **state)
{
    struct bench bench;
    struct evaluation found;
    double confusion[HELD_CLASSES * HELD_CLASSES];
    struct image_augmentation augmentation = {.size = SIDE, .channels = 2, .deviation = {1.0, 1.0, 1.0, 1.0}};
    bench_create(&bench, state, (struct mesh_config){0, 1, 1, mpi_fixture_of(state)->ranks == 3 ? 3 : 1, 1}, "",
                 COMPUTE_FP32);
    struct image_set *set = open_held_out(&bench);
    const struct image_evaluation images = {.set = set, .augmentation = &augmentation};
    struct evaluation_plan plan = {.confusion = confusion};
    score_by_bias(&bench, 0.5f);
    assert_ok(bench.context, evaluate_images(&bench.trainer.evaluator, &images, &plan, &found));
    check_held_out(&found, confusion, (const int[]){0, 5, 10, 15}, 4);
    plan.batches = 2;
    assert_ok(bench.context, evaluate_images(&bench.trainer.evaluator, &images, &plan, &found));
    check_held_out(&found, confusion, (const int[]){0, 10}, 2);
    score_by_bias(&bench, NAN);
    assert_ok(bench.context, evaluate_images(&bench.trainer.evaluator, &images, &plan, &found));
    assert_int_equal(found.targets, 10);
    assert_true(isnan(found.loss) && found.accuracy == 0.0 && found.accuracy5 == 0.0);
    for (int i = 0; i < HELD_CLASSES * HELD_CLASSES; i++)
        assert_true(confusion[i] == 0.0);
    image_set_close(&set);
    bench_destroy(&bench);
}

/* The larger score comes first, of equal ones the class in front. */
static void places_go_by_score(void **state)
{
    (void)state;
    float row[4 * 5] = {
        0.5f, 2.0f, 2.0f, -1.0f, 0.0f, /* and the label */ 1.0f, 1.0f, 1.0f, 1.0f, 0.0f, NAN, 1.0f, NAN, 2.0f, 0.0f,
        NAN,  NAN,  NAN,  NAN,   0.0f};
    const struct class_scores scores = {.classes = 4, .row = row};
    static const int64_t places[4][4] = {{2, 0, 1, 3}, {0, 1, 2, 3}, {2, 1, 3, 0}, {0, 1, 2, 3}};
    for (int64_t r = 0; r < 4; r++)
        for (int64_t class = 0; class < 4; class ++)
            assert_int_equal(class_scores_place(&scores, r, class), places[r][class]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(evaluation_smooths_no_labels), cmocka_unit_test(places_go_by_score),
    cmocka_unit_test(images_held_out_are_counted),  cmocka_unit_test(learned_residuals_begin_as_plain_sums),
    cmocka_unit_test(every_mesh_computes_the_same), cmocka_unit_test(texts_are_told_apart_in_any_micro_batches),
};

MPI_MAIN(tests)
