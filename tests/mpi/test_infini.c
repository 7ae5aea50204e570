/* Memories whose segments the ranks of the context axis divide, against one rank that has them all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist/parallel/infini.h"
#include "src/ops/engine.h"
#include "src/ops/infini.h"
#include "tests/mpi/tape_bench.h"

/* -- Scans -- */

static void sums_of_the_ranks_before(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 0, 1, 1});
    int ranks = fixture->ranks, rank = fixture->rank;
    for (int reverse = 0; reverse < 2; reverse++) {
        float buffer[3];
        int place = reverse ? ranks - 1 - rank : rank;
        for (int i = 0; i < 3; i++)
            buffer[i] = (float)((i + 1) * (place + 1));
        mesh_exclusive_scan(mesh, MESH_CONTEXT, buffer, &(struct mesh_scan){.reverse = reverse, .count = 3});
        for (int i = 0; i < 3 && place > 0; i++)
            assert_true(buffer[i] == (float)((i + 1) * place * (place + 1) / 2));
        assert_int_equal(mesh_traffic(mesh, MESH_CONTEXT).bytes, ranks > 1 ? 12 * (reverse + 1) : 0);
    }
    mesh_destroy(&mesh);
}

/* The digits of two numbers, one behind the other: {number, how many digits as a power of ten}. */
static void digits_join(void *self, const float *earlier, float *later)
{
    (*(int *)self)++;
    later[0] += earlier[0] * later[1];
    later[1] *= earlier[1];
}

static void joins_keep_the_order(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 0, 1, 1});
    for (int reverse = 0; reverse < 2; reverse++) {
        float buffer[2] = {(float)(fixture->rank + 1), 10.0f}, spare[2];
        int joins = 0;
        int place = reverse ? fixture->ranks - 1 - fixture->rank : fixture->rank;
        struct mesh_scan scan = {.reverse = reverse, .count = 2, .join = digits_join, .self = &joins, .spare = spare};
        mesh_exclusive_scan(mesh, MESH_CONTEXT, buffer, &scan);
        double expected = 0.0; /* 12.. for the ranks before, 43.. backwards */
        for (int i = 0; i < place; i++)
            expected = 10.0 * expected + (reverse ? fixture->ranks - i : i + 1);
        assert_true(place == 0 || (double)buffer[0] == expected);
        assert_true(place == 0 || (double)buffer[1] == pow(10.0, place));
        assert_true(joins <= 2);
    }
    mesh_destroy(&mesh);
}

/* -- States -- */

enum { ROWS = 2, HEADS = 2, SEGMENTS = 7, WIDTH = 10, STATE = WIDTH * WIDTH + WIDTH, VECTOR = HEADS * WIDTH };

/* All rows have the segments [first, first + count) of SEGMENTS, of `length` tokens each, the last of them shorter. */
struct part {
    int64_t first, count, length;
    int64_t tokens; /* of a row */
    struct attention_span written[ROWS * SEGMENTS];
};

static int64_t part_length(int64_t length, int64_t segments)
{
    return segments == SEGMENTS ? SEGMENTS * length - length / 2 : segments * length;
}

static void part_create(struct part *part, struct range segments, int64_t length)
{
    int64_t begin = part_length(length, segments.begin);
    part->first = segments.begin;
    part->count = segments.count;
    part->length = length;
    part->tokens = part_length(length, segments.begin + segments.count) - begin;
    for (int64_t row = 0; row < ROWS; row++)
        for (int64_t s = 0; s < segments.count; s++) {
            int64_t from = part_length(length, segments.begin + s);
            int64_t to = part_length(length, segments.begin + s + 1);
            part->written[row * segments.count + s] =
                (struct attention_span){.key = row * part->tokens + from - begin, .keys = to - from};
        }
    /* The second row leaves out the tokens of a segment. */
    if (segments.begin <= 2 && segments.begin + segments.count > 2)
        part->written[segments.count + 2 - segments.begin].keys = 0;
}

/* Rows of the whole [ROWS, whole, columns], the part from `first` on of each. */
static float *part_copy(const float *whole, int64_t whole_rows, int64_t first, int64_t rows, int64_t columns)
{
    float *copy = malloc((size_t)(ROWS * rows * columns + 1) * sizeof *copy);
    assert_non_null(copy);
    for (int64_t row = 0; row < ROWS; row++)
        memcpy(copy + row * rows * columns, whole + (row * whole_rows + first) * columns,
               (size_t)(rows * columns) * sizeof *copy);
    return copy;
}

struct whole {
    int64_t tokens; /* of a row */
    float *k, *v, *strength, *derivatives;
    float *states, *dk, *dv, *dstrength;
    float before[ROWS * HEADS * STATE], after[ROWS * HEADS * STATE];
};

struct run {
    enum memory_update update;
    bool before, after;
    struct mesh_traffic forward, backward;
};

/* States and gradients of a part of the whole, into memory of the caller's. */
static void part_run(struct bench *bench, struct mesh *mesh, const struct part *part, const struct whole *whole,
                     struct run *run, float *after, struct whole *found)
{
    struct tape *tape = &bench->tape;
    int64_t begin = part_length(part->length, part->first);
    float *k = part_copy(whole->k, whole->tokens, begin, part->tokens, VECTOR);
    float *v = part_copy(whole->v, whole->tokens, begin, part->tokens, VECTOR);
    float *strength = part_copy(whole->strength, whole->tokens, begin, part->tokens, HEADS);
    int64_t state = HEADS * infini_elements(run->update, WIDTH);
    float *derivatives = part_copy(whole->derivatives, SEGMENTS, part->first, part->count, state);
    int64_t shape[2] = {ROWS * part->tokens, VECTOR};
    bool gated = run->update == MEMORY_UPDATE_GATED_DELTA;
    struct tensor *keys = tape_leaf(tape, DTYPE_F32, 2, shape, k, true);
    struct tensor *values = tape_leaf(tape, DTYPE_F32, 2, shape, v, true);
    struct tensor *strengths = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){ROWS * part->tokens, HEADS}, strength, gated);
    struct infini_shape memory = {.rows = ROWS,
                                  .segments = part->count,
                                  .written = part->written,
                                  .kv_heads = HEADS,
                                  .width = WIDTH,
                                  .update = run->update,
                                  .before = run->before ? whole->before : NULL,
                                  .after = after};
    struct mesh_traffic none = {0, 0};
    struct mesh_traffic start = mesh ? mesh_traffic(mesh, MESH_CONTEXT) : none;
    struct tensor *output = infini_states(tape, mesh, keys, values, gated ? strengths : NULL, &memory);
    if (!output)
        fail_msg("%s", bench->context->text);
    struct mesh_traffic middle = mesh ? mesh_traffic(mesh, MESH_CONTEXT) : none;
    found->states = part_copy(output->data, part->count, 0, part->count, state);
    tape_seed(tape, output, derivatives);
    tape_backward(tape);
    assert_ok(bench->context, bench->context->status);
    struct mesh_traffic end = mesh ? mesh_traffic(mesh, MESH_CONTEXT) : none;
    found->dk = part_copy(tape_gradient(keys), part->tokens, 0, part->tokens, VECTOR);
    found->dv = part_copy(tape_gradient(values), part->tokens, 0, part->tokens, VECTOR);
    found->dstrength = part_copy(gated ? tape_gradient(strengths) : strength, part->tokens, 0, part->tokens, HEADS);
    run->forward = (struct mesh_traffic){middle.calls - start.calls, middle.bytes - start.bytes};
    run->backward = (struct mesh_traffic){end.calls - middle.calls, end.bytes - middle.bytes};
    tape_reset(tape);
    free(k);
    free(v);
    free(strength);
    free(derivatives);
}

static void whole_create(struct whole *whole, int64_t length)
{
    whole->tokens = part_length(length, SEGMENTS);
    int64_t count = ROWS * whole->tokens * VECTOR;
    int64_t states = ROWS * SEGMENTS * HEADS * STATE;
    whole->k = malloc((size_t)count * sizeof(float));
    whole->v = malloc((size_t)count * sizeof(float));
    whole->strength = malloc((size_t)(count / WIDTH) * sizeof(float));
    whole->derivatives = malloc((size_t)states * sizeof(float));
    assert_true(whole->k && whole->v && whole->strength && whole->derivatives);
    fill_random(whole->k, count, "k");
    fill_random(whole->v, count, "v");
    fill_random(whole->strength, count / WIDTH, "strength");
    for (int64_t i = 0; i < count; i++) /* about unit length, as the gated rule wants them */
        whole->k[i] *= 0.5f;
    fill_random(whole->derivatives, states, "derivatives");
    fill_random(whole->before, ROWS * HEADS * STATE, "before");
    for (int64_t i = 0; i < ROWS * HEADS * STATE; i++)
        if (i % STATE >= WIDTH * WIDTH)
            whole->before[i] += 4.0f;
    memset(whole->before + STATE, 0, STATE * sizeof(float)); /* one head of one row starts empty */
}

static void whole_run(struct bench *bench, struct whole *whole, int64_t length, struct run *run)
{
    struct part all;
    part_create(&all, (struct range){0, SEGMENTS}, length);
    part_run(bench, NULL, &all, whole, run, whole->after, whole);
}

static void whole_forget(struct whole *whole)
{
    free(whole->states);
    free(whole->dk);
    free(whole->dv);
    free(whole->dstrength);
}

static void whole_destroy(struct whole *whole)
{
    free(whole->k);
    free(whole->v);
    free(whole->strength);
    free(whole->derivatives);
}

static void check_rows(const float *found, const float *whole, int64_t whole_rows, int64_t first, int64_t rows,
                       int64_t columns, const char *what)
{
    float *expected = part_copy(whole, whole_rows, first, rows, columns);
    assert_near(found, expected, ROWS * rows * columns, 1e-5, what);
    free(expected);
}

/* How ranks may divide the segments: evenly, all on one rank, or none on the ends. */
static struct range segments_of(int way, int ranks, int rank)
{
    if (way <= ranks) {
        int owner = way - 1;
        return way == 0        ? range_partition(SEGMENTS, ranks, rank)
               : rank == owner ? (struct range){0, SEGMENTS}
                               : (struct range){rank < owner ? 0 : SEGMENTS, 0};
    }
    struct range inner = range_partition(SEGMENTS, ranks - 2, integer_min(integer_max(rank - 1, 0), ranks - 3));
    if (rank == 0)
        return (struct range){0, 0};
    return rank == ranks - 1 ? (struct range){SEGMENTS, 0} : inner;
}

static void check_division(struct bench *bench, const struct whole *whole, int64_t length, struct range segments,
                           struct run *run)
{
    struct part part;
    float after[ROWS * HEADS * STATE];
    struct whole found;
    part_create(&part, segments, length);
    part_run(bench, bench->mesh, &part, whole, run, run->after ? after : NULL, &found);
    int64_t begin = part_length(length, segments.begin);
    int64_t state = HEADS * infini_elements(run->update, WIDTH);
    check_rows(found.states, whole->states, SEGMENTS, part.first, part.count, state, "states");
    check_rows(found.dk, whole->dk, whole->tokens, begin, part.tokens, VECTOR, "gradient of k");
    check_rows(found.dv, whole->dv, whole->tokens, begin, part.tokens, VECTOR, "gradient of v");
    check_rows(found.dstrength, whole->dstrength, whole->tokens, begin, part.tokens, HEADS, "gradient of strength");
    if (run->after)
        assert_near(after, whole->after, ROWS * state, 1e-5, "after");
    whole_forget(&found);
}

static void any_division_of_the_segments_gives_the_same(void **state)
{
    enum { LENGTH = 5 };
    struct bench bench;
    struct whole whole;
    bench_create(&bench, state, (struct mesh_config){1, 1, 0, 1, 1});
    int ranks = bench.fixture->ranks;
    whole_create(&whole, LENGTH);
    for (int which = 0; which < 12; which++) {
        struct run run = {.update = (enum memory_update)(which % 3), .before = which / 3 % 2, .after = which / 6};
        whole_run(&bench, &whole, LENGTH, &run);
        for (int way = 0; way <= ranks + (ranks > 2); way++)
            check_division(&bench, &whole, LENGTH, segments_of(way, ranks, bench.fixture->rank), &run);
        whole_forget(&whole);
    }
    whole_destroy(&whole);
    bench_destroy(&bench);
}

/* Other axes do not take part: each pair of context ranks has its own sequences. */
static void each_context_group_has_its_own_sequences(void **state)
{
    enum { LENGTH = 3 };
    struct bench bench;
    struct whole whole;
    bench_create(&bench, state, (struct mesh_config){0, 1, mpi_fixture_of(state)->ranks % 2 ? 1 : 2, 1, 1});
    whole_create(&whole, LENGTH);
    for (int64_t i = 0; i < ROWS * whole.tokens * VECTOR; i++)
        whole.k[i] += (float)mesh_rank(bench.mesh, MESH_DATA);
    for (int update = 0; update < 3; update++) {
        struct run run = {.update = (enum memory_update)update, .after = true};
        whole_run(&bench, &whole, LENGTH, &run);
        struct range mine =
            range_partition(SEGMENTS, mesh_size(bench.mesh, MESH_CONTEXT), mesh_rank(bench.mesh, MESH_CONTEXT));
        check_division(&bench, &whole, LENGTH, mine, &run);
        whole_forget(&whole);
    }
    whole_destroy(&whole);
    bench_destroy(&bench);
}

/* What a rank sends is the state (linear), or z and the maps (delta), or maps alone (gated delta), for any number of
 * tokens. */
static void traffic_does_not_grow_with_tokens(void **state)
{
    struct bench bench;
    bench_create(&bench, state, (struct mesh_config){1, 1, 0, 1, 1});
    int ranks = bench.fixture->ranks;
    struct range mine = range_partition(SEGMENTS, ranks, bench.fixture->rank);
    int64_t one = ROWS * HEADS * (int64_t)sizeof(float);
    int64_t sent[2] = {-1, -1};
    for (int64_t length = 2; length <= 40; length += 19)
        for (int which = 0; which < 6; which++) {
            struct run run = {.update = (enum memory_update)(which % 3), .after = which / 3};
            int64_t sums = infini_sums_elements(run.update, WIDTH);
            struct whole whole;
            whole_create(&whole, length);
            whole_run(&bench, &whole, length, &run);
            check_division(&bench, &whole, length, mine, &run);
            int64_t forward =
                run.forward.bytes - (run.after && ranks > 1 ? one * (WIDTH * WIDTH + sums) : 0); /* after is on top */
            if (run.update == MEMORY_UPDATE_LINEAR) {
                assert_int_equal(forward, ranks > 1 ? one * STATE : 0);
                assert_int_equal(run.backward.bytes, forward);
            } else {
                int64_t maps = (forward - (ranks > 1 ? one * sums : 0)) / (one * 2 * WIDTH * WIDTH);
                int64_t *before = &sent[run.update == MEMORY_UPDATE_DELTA];
                assert_true(maps >= 0 && maps <= 3); /* 1 + log2 of up to 4 ranks */
                assert_true(*before < 0 || *before == forward);
                *before = forward;
            }
            whole_forget(&whole);
            whole_destroy(&whole);
        }
    bench_destroy(&bench);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sums_of_the_ranks_before),
    cmocka_unit_test(joins_keep_the_order),
    cmocka_unit_test(any_division_of_the_segments_gives_the_same),
    cmocka_unit_test(each_context_group_has_its_own_sequences),
    cmocka_unit_test(traffic_does_not_grow_with_tokens),
};

MPI_MAIN(tests)
