/* Optimisers of whole matrices, against double precision. */
#include "tests/support/support.h"

#include <math.h>
#include <string.h>

#include "src/optim/average.h"
#include "src/optim/optimizer.h"

/* -- Muon -- */

/* x [rows, columns] after five rounds of the iteration, in double, by the formula as it stands: tall ones transposed.
 */
static void newton_schulz(double *x, int rows, int columns)
{
    enum { MOST = 16 };
    double a[MOST][MOST];
    double s[MOST][MOST];
    double next[MOST][MOST];
    bool tall = rows > columns;
    int m = tall ? columns : rows;
    int n = tall ? rows : columns;
    double squares = 0.0;
    for (int i = 0; i < rows * columns; i++)
        squares += x[i] * x[i];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            a[i][j] = x[tall ? j * columns + i : i * columns + j] / fmax(sqrt(squares), 1e-7);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < m; i++)
            for (int j = 0; j < m; j++) {
                s[i][j] = 0.0;
                for (int k = 0; k < n; k++)
                    s[i][j] += a[i][k] * a[j][k];
            }
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                next[i][j] = 3.4445 * a[i][j];
                for (int k = 0; k < m; k++) {
                    double ss = 0.0;
                    for (int l = 0; l < m; l++)
                        ss += s[i][l] * s[l][k];
                    next[i][j] += (-4.7750 * s[i][k] + 2.0315 * ss) * a[k][j];
                }
            }
        memcpy(a, next, sizeof a);
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            x[tall ? j * columns + i : i * columns + j] = a[i][j];
}

enum { MATRICES = 4, ELEMENTS = 132, PARAMETERS = MATRICES + 1 };

/* A wide matrix, a tall one, two in one, one whose gradient is nothing; and a vector, which AdamW steps. */
static const struct parameter_spec muon_specs[PARAMETERS] = {
    {.rank = 2, .shape = {5, 12}, .decay = true, .is_matrix = true},
    {.rank = 2, .shape = {11, 4}, .decay = true, .is_matrix = true},
    {.rank = 3, .shape = {2, 11, 6}, .is_matrix = true},
    {.rank = 2, .shape = {3, 3}, .is_matrix = true},
    {.rank = 2, .shape = {7, 9}, .decay = true},
};

struct muon {
    struct context context;
    struct engine engine;
    struct optimizer_config config;
    struct optimizer optimizer;
    struct parameter parameters[PARAMETERS];
    struct shard shards[PARAMETERS];
    float values[PARAMETERS][ELEMENTS];
    float gradients[PARAMETERS][ELEMENTS];
    bf16 copy[ELEMENTS]; /* of the first */
    double p[PARAMETERS][ELEMENTS], b[PARAMETERS][ELEMENTS], v[PARAMETERS][ELEMENTS];
};

static void muon_create(struct muon *muon, const struct optimizer_config *config)
{
    *muon = (struct muon){.config = *config};
    context_create(&muon->context);
    assert_ok(&muon->context, engine_create(&muon->context, 2, &muon->engine));
    for (int i = 0; i < PARAMETERS; i++) {
        muon->parameters[i] = (struct parameter){.spec = muon_specs[i]};
        int64_t count = parameter_elements(&muon_specs[i]);
        muon->parameters[i].division.slice = (struct range){0, muon_specs[i].shape[0]};
        fill_random(muon->values[i], count, "values");
        fill_random(muon->gradients[i], i == 3 ? 0 : count, i % 2 ? "one" : "two");
        for (int64_t e = 0; e < count; e++)
            muon->p[i][e] = (double)muon->values[i][e];
        muon->shards[i] = (struct shard){.parameter = &muon->parameters[i],
                                         .flat = {0, count},
                                         .master = muon->values[i],
                                         .values = i == 0 ? muon->copy : NULL,
                                         .gradient = muon->gradients[i]};
    }
    assert_ok(&muon->context,
              optimizer_create(&muon->context, NULL, &muon->config, NULL, muon->shards, PARAMETERS, &muon->optimizer));
}

static void muon_destroy(struct muon *muon)
{
    optimizer_destroy(&muon->optimizer);
    engine_destroy(&muon->engine);
    assert_int_equal(muon->context.memory.bytes_total, 0);
}

/* Other gradients for the next step: of one that stays the momentum would have its direction. */
static void turn_gradients(struct muon *muon, int t)
{
    for (int i = 0; i < PARAMETERS; i++)
        for (int64_t e = 0; e < parameter_elements(&muon_specs[i]); e++)
            muon->gradients[i][e] *= (e + t) % 3 ? 1.0f : -0.5f;
}

/* AdamW of the vector in double; b is its m. */
static void reference_rest(struct muon *muon, int t, double rate)
{
    int i = MATRICES;
    const struct optimizer_config *config = &muon->config;
    for (int e = 0; e < 63; e++) {
        double g = 0.5 * (double)muon->gradients[i][e];
        muon->b[i][e] = config->beta1 * muon->b[i][e] + (1.0 - config->beta1) * g;
        muon->v[i][e] = config->beta2 * muon->v[i][e] + (1.0 - config->beta2) * g * g;
        double step = muon->b[i][e] / (1.0 - pow(config->beta1, t)) /
                      (sqrt(muon->v[i][e] / (1.0 - pow(config->beta2, t))) + config->epsilon);
        muon->p[i][e] -= rate * (step + config->weight_decay * muon->p[i][e]);
    }
}

static void reference_matrices(struct muon *muon, double rate, void (*polar)(double *, int, int))
{
    double mu = muon->config.momentum;
    for (int i = 0; i < MATRICES; i++) {
        const struct parameter_spec *spec = &muon_specs[i];
        int rows = (int)spec->shape[spec->rank - 2];
        int columns = (int)spec->shape[spec->rank - 1];
        int count = (int)parameter_elements(spec);
        double u[ELEMENTS];
        for (int e = 0; e < count; e++) {
            double g = 0.5 * (double)muon->gradients[i][e];
            muon->b[i][e] = mu * muon->b[i][e] + (1.0 - mu) * g;
            u[e] = muon->config.nesterov ? (1.0 - mu) * g + mu * muon->b[i][e] : muon->b[i][e];
        }
        for (int begin = 0; begin < count; begin += rows * columns)
            polar(u + begin, rows, columns);
        for (int e = 0; e < count; e++)
            muon->p[i][e] -= rate * (0.2 * sqrt(fmax(rows, columns)) * u[e] +
                                     (spec->decay ? muon->config.weight_decay * muon->p[i][e] : 0.0));
    }
}

static void muon_compare(const struct muon *muon)
{
    for (int i = 0; i < PARAMETERS; i++)
        for (int64_t e = 0; e < parameter_elements(&muon_specs[i]); e++)
            assert_close((double)muon->values[i][e], muon->p[i][e], 2e-5, 2e-6);
    for (int e = 0; e < 60; e++)
        assert_int_equal(muon->copy[e], bf16_from_float(muon->values[0][e]));
}

static void muon_follows_the_formula(void **state)
{
    (void)state;
    for (int nesterov = 0; nesterov <= 1; nesterov++) {
        static struct muon muon;
        muon_create(&muon, &(struct optimizer_config){.kind = OPTIMIZER_MUON,
                                                      .learning_rate = 0.2,
                                                      .adamw_learning_rate = 0.1,
                                                      .momentum = 0.7,
                                                      .nesterov = nesterov,
                                                      .beta1 = 0.9,
                                                      .beta2 = 0.97,
                                                      .epsilon = 1e-6,
                                                      .weight_decay = 0.3});
        int64_t allocations = muon.context.memory.allocations;
        for (int t = 1; t <= 3; t++) {
            /* The schedule stands at half. */
            assert_ok(&muon.context, optimizer_update(&muon.optimizer, &muon.engine, NULL, t, 0.1, 0.5));
            reference_matrices(&muon, 0.1, newton_schulz);
            reference_rest(&muon, t, 0.05);
            turn_gradients(&muon, t);
        }
        /* Products may prepare themselves at their first use. */
        assert_true(muon.context.memory.allocations - allocations <= 1);
        muon_compare(&muon);
        muon_destroy(&muon);
    }
}

/* -- SOAP -- */

enum { SIDE = 12 };

/* The basis of one side of a matrix, and the average that it comes from, in double. */
struct soap_side {
    double average[SIDE][SIDE];
    double basis[SIDE][SIDE];
};

struct soap_reference {
    struct soap_side left[MATRICES][2], right[MATRICES][2]; /* of both matrices of a 3-D one */
};

/* to = Q_L^T x Q_R, or back. */
static void soap_rotate(const struct soap_side *left, const struct soap_side *right, int rows, int columns,
                        const double *x, bool back, double *to)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            to[i * columns + j] = 0.0;
            for (int k = 0; k < rows; k++)
                for (int l = 0; l < columns; l++)
                    to[i * columns + j] += (back ? left->basis[i][k] : left->basis[k][i]) * x[k * columns + l] *
                                           (back ? right->basis[j][l] : right->basis[l][j]);
        }
}

/* One round; v[place * step + other * stride] follow. */
static void soap_round(struct soap_side *side, int n, double *v, int step, int stride, int others)
{
    double next[SIDE][SIDE];
    double weight[SIDE];
    double trace = 0.0;
    for (int j = 0; j < n; j++) {
        weight[j] = 0.0;
        trace += side->average[j][j];
        for (int k = 0; k < n; k++)
            for (int l = 0; l < n; l++)
                weight[j] += side->basis[k][j] * side->average[k][l] * side->basis[l][j];
    }
    for (int j = 1; j < n; j++)
        for (int at = j; at > 0 && weight[at] > weight[at - 1]; at--) {
            double swap = weight[at];
            weight[at] = weight[at - 1];
            weight[at - 1] = swap;
            for (int k = 0; k < n; k++) {
                swap = side->basis[k][at];
                side->basis[k][at] = side->basis[k][at - 1];
                side->basis[k][at - 1] = swap;
            }
            for (int o = 0; o < others; o++) {
                swap = v[at * step + o * stride];
                v[at * step + o * stride] = v[(at - 1) * step + o * stride];
                v[(at - 1) * step + o * stride] = swap;
            }
        }
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) {
            next[i][j] = 1e-6 * trace / n * side->basis[i][j];
            for (int k = 0; k < n; k++)
                next[i][j] += side->average[i][k] * side->basis[k][j];
        }
        for (int pass = 0; pass < 2; pass++)
            for (int before = 0; before < j; before++) {
                double dot = 0.0;
                for (int i = 0; i < n; i++)
                    dot += next[i][before] * next[i][j];
                for (int i = 0; i < n; i++)
                    next[i][j] -= dot * next[i][before];
            }
        double squares = 0.0;
        for (int i = 0; i < n; i++)
            squares += next[i][j] * next[i][j];
        for (int i = 0; i < n; i++)
            next[i][j] /= sqrt(squares);
    }
    memcpy(side->basis, next, sizeof next);
}

static void soap_matrix(struct muon *run, int i, int begin, struct soap_side *left, struct soap_side *right, int t,
                        double rate)
{
    const struct optimizer_config *config = &run->config;
    const struct parameter_spec *spec = &muon_specs[i];
    int rows = (int)spec->shape[spec->rank - 2];
    int columns = (int)spec->shape[spec->rank - 1];
    double g[ELEMENTS];
    double r[ELEMENTS];
    double *v = run->v[i] + begin;
    double *m = run->b[i] + begin;
    bool first = true;
    for (int e = 0; e < rows * columns; e++) {
        g[e] = 0.5 * (double)run->gradients[i][begin + e];
        m[e] = config->beta1 * m[e] + (1.0 - config->beta1) * g[e];
    }
    soap_rotate(left, right, rows, columns, g, false, r);
    for (int e = 0; e < rows * columns; e++)
        v[e] = config->beta2 * v[e] + (1.0 - config->beta2) * r[e] * r[e];
    double turned[ELEMENTS];
    soap_rotate(left, right, rows, columns, m, false, turned);
    for (int e = 0; e < rows * columns; e++)
        turned[e] =
            turned[e] / (1.0 - pow(config->beta1, t)) / (sqrt(v[e] / (1.0 - pow(config->beta2, t))) + config->epsilon);
    soap_rotate(left, right, rows, columns, turned, true, r);
    for (int e = 0; e < rows * columns; e++)
        run->p[i][begin + e] -= rate * (r[e] + (spec->decay ? config->weight_decay * run->p[i][begin + e] : 0.0));
    double sum = 0.0;
    for (int a = 0; a < rows; a++)
        for (int b = 0; b < rows; b++) {
            first = first && left->average[a][b] == 0.0;
            left->average[a][b] *= config->beta3;
            for (int k = 0; k < columns; k++)
                left->average[a][b] += (1.0 - config->beta3) * g[a * columns + k] * g[b * columns + k];
        }
    for (int a = 0; a < columns; a++)
        for (int b = 0; b < columns; b++) {
            right->average[a][b] *= config->beta3;
            for (int k = 0; k < rows; k++)
                right->average[a][b] += (1.0 - config->beta3) * g[k * columns + a] * g[k * columns + b];
            sum += a == b ? right->average[a][a] : 0.0;
        }
    int rounds = sum == 0.0 ? 0 : first ? 10 : (t - 1) % config->every == 0 ? 1 : 0;
    for (int round = 0; round < rounds; round++)
        soap_round(left, rows, v, columns, 1, columns);
    for (int round = 0; round < rounds && columns <= config->max_side; round++)
        soap_round(right, columns, v, 1, columns, rows);
}

/* Four steps, refreshed at the first and the third; the widest side has no basis in one of two runs. */
static void soap_follows_the_formula(void **state)
{
    (void)state;
    for (int64_t max_side = SIDE - 1; max_side <= SIDE; max_side++) {
        static struct muon run;
        static struct soap_reference reference;
        memset(&reference, 0, sizeof reference);
        for (int i = 0; i < 2 * MATRICES; i++)
            for (int e = 0; e < SIDE; e++)
                reference.left[i / 2][i % 2].basis[e][e] = reference.right[i / 2][i % 2].basis[e][e] = 1.0;
        muon_create(&run, &(struct optimizer_config){.kind = OPTIMIZER_SOAP,
                                                     .learning_rate = 0.1,
                                                     .beta1 = 0.9,
                                                     .beta2 = 0.8,
                                                     .beta3 = 0.7,
                                                     .epsilon = 1e-4,
                                                     .every = 2,
                                                     .max_side = max_side,
                                                     .weight_decay = 0.3});
        int64_t allocations = run.context.memory.allocations;
        for (int t = 1; t <= 4; t++) {
            assert_ok(&run.context, optimizer_update(&run.optimizer, &run.engine, NULL, t, 0.1, 0.5));
            for (int i = 0; i < MATRICES; i++)
                for (int s = 0; s < (i == 2 ? 2 : 1); s++)
                    soap_matrix(&run, i, s * 66, &reference.left[i][s], &reference.right[i][s], t, 0.1);
            reference_rest(&run, t, 0.1);
            turn_gradients(&run, t);
        }
        assert_int_equal(run.context.memory.allocations, allocations);
        muon_compare(&run);
        muon_destroy(&run);
    }
}

/* The exact polar factor of a matrix of two rows, by hand: U (U U^T)^(-1/2). */
static void muon_takes_the_exact_factor(void **state)
{
    (void)state;
    struct context context;
    struct engine engine;
    struct optimizer optimizer;
    struct optimizer_config config = {.kind = OPTIMIZER_MUON, .momentum = 0.5, .polar = POLAR_EXACT};
    struct parameter parameter = {.spec = {.rank = 2, .shape = {2, 3}, .is_matrix = true}, .division.slice = {0, 2}};
    float values[6] = {0};
    const float gradient[6] = {3, 0, 4, 0, 2, 0};
    const double expected[6] = {0.6, 0, 0.8, 0, 1, 0};
    struct shard shard = {.parameter = &parameter, .flat = {0, 6}, .master = values, .gradient = gradient};
    context_create(&context);
    assert_ok(&context, engine_create(&context, 1, &engine));
    assert_ok(&context, optimizer_create(&context, NULL, &config, NULL, &shard, 1, &optimizer));
    assert_ok(&context, optimizer_update(&optimizer, &engine, NULL, 1, 1.0, 1.0));
    for (int e = 0; e < 6; e++)
        assert_close((double)values[e], -0.2 * sqrt(3.0) * expected[e], 1e-6, 1e-7);
    optimizer_destroy(&optimizer);
    engine_destroy(&engine);
    assert_int_equal(context.memory.bytes_total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(muon_follows_the_formula),
        cmocka_unit_test(muon_takes_the_exact_factor),
        cmocka_unit_test(soap_follows_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
