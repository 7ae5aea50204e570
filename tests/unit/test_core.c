#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/core/arena.h"
#include "src/core/deal.h"
#include "src/core/dtype.h"
#include "src/core/integer.h"
#include "src/core/notice.h"
#include "src/core/random.h"
#include "src/core/sample.h"
#include "src/core/suggest.h"
#include "src/core/text.h"

static void partitions_cover_everything_once(void **state)
{
    (void)state;
    for (int64_t total = 0; total < 40; total++)
        for (int64_t parts = 1; parts < 9; parts++) {
            int64_t next = 0;
            for (int64_t i = 0; i < parts; i++) {
                struct range range = range_partition(total, parts, i);
                assert_int_equal(range.begin, next);
                assert_true(range.count == total / parts || range.count == total / parts + 1);
                next += range.count;
            }
            assert_int_equal(next, total);
        }
}

static void dear_things_are_dealt_first(void **state)
{
    (void)state;
    static const double costs[] = {3, 5, 2, 5, 4, 0, 1};
    int part[7];
    double load[3];
    deal_by_cost(costs, 7, 3, part, load);
    /* 5, 5, 4, then 3 to the third, 2 and 1 to the first two, and what is free to the first that has least. */
    assert_memory_equal(part, ((int[]){2, 0, 0, 1, 2, 1, 1}), sizeof part);
    assert_memory_equal(load, ((double[]){7, 6, 7}), sizeof load);
    int next[3] = {0};
    int now[3];
    assert_true(deal_next(part, 7, 3, next, now));
    assert_memory_equal(now, ((int[]){1, 3, 0}), sizeof now);
    assert_true(deal_next(part, 7, 3, next, now));
    assert_memory_equal(now, ((int[]){2, 5, 4}), sizeof now);
    assert_true(deal_next(part, 7, 3, next, now));
    assert_memory_equal(now, ((int[]){-1, 6, -1}), sizeof now);
    assert_false(deal_next(part, 7, 3, next, now));
    deal_by_cost(costs, 1, 3, part, load);
    assert_int_equal(part[0], 0);
    assert_memory_equal(load, ((double[]){3, 0, 0}), sizeof load);
    deal_by_cost(costs, 0, 1, part, load);
    assert_true(load[0] == 0.0);
}

static void ranges_intersect(void **state)
{
    (void)state;
    struct range a = {.begin = 3, .count = 5};
    struct range middle = range_intersect(a, (struct range){.begin = 5, .count = 10});
    assert_int_equal(middle.begin, 5);
    assert_int_equal(middle.count, 3);
    assert_int_equal(range_intersect(a, (struct range){.begin = 8, .count = 2}).count, 0);
    assert_int_equal(range_intersect(a, (struct range){.begin = 0, .count = 3}).count, 0);
}

static void random_numbers_have_their_distribution(void **state)
{
    (void)state;
    enum { DRAWS = 200000 };
    uint64_t key = random_key(7, "model.norm.weight");
    double sum = 0.0;
    double squares = 0.0;
    double fourth = 0.0;
    double uniform = 0.0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        double x = random_normal(key, i);
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        double u = random_uniform(key, i);
        assert_true(u >= 0.0 && u < 1.0);
        uniform += u;
    }
    assert_close(sum / DRAWS, 0.0, 0.0, 0.01);
    assert_close(squares / DRAWS, 1.0, 0.0, 0.02);
    assert_close(fourth / DRAWS, 3.0, 0.0, 0.15);
    assert_close(uniform / DRAWS, 0.5, 0.0, 0.005);
}

static void random_numbers_depend_on_seed_name_and_index_alone(void **state)
{
    (void)state;
    assert_true(random_key(1, "a") != random_key(2, "a"));
    assert_true(random_key(1, "a") != random_key(1, "b"));
    assert_true(random_key(1, "ab") != random_key(1, "ba"));
    assert_true(random_bits(5, 1) != random_bits(5, 2));
    /* The numbers themselves are part of what a seed means: a change would change every model. */
    assert_true(random_bits(random_key(1, "model.embed_tokens.weight"), 0) == UINT64_C(0x41c9d228e3e51feb));
    assert_true(random_bits(random_key(42, "lm_head.weight"), 123456789) == UINT64_C(0xe6af0659a008132e));
}

static void permutations_hit_every_place_once(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        bool seen[1000] = {false};
        int64_t fixed = 0;
        for (int64_t i = 0; i < counts[c]; i++) {
            int64_t place = random_permute(99, i, counts[c]);
            assert_in_range(place, 0, counts[c] - 1);
            assert_false(seen[place]);
            seen[place] = true;
            fixed += place == i;
        }
        assert_true(counts[c] < 100 || fixed < 20);
    }
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(bf16_from_float(1.0f), 0x3f80);
    assert_true(bf16_to_float(bf16_from_float(1.0f + 0x1p-9f)) == 1.0f);          /* below the middle */
    assert_true(bf16_to_float(bf16_from_float(1.0f + 0x1p-8f)) == 1.0f);          /* a tie: to even */
    assert_true(bf16_to_float(bf16_from_float(1.0f + 3 * 0x1p-8f)) == 1.015625f); /* a tie: to even, upwards */
    assert_true(bf16_to_float(bf16_from_float(-3.0f)) == -3.0f);
    assert_true(isinf(bf16_to_float(bf16_from_float(3.4e38f))));
    assert_true(isnan(bf16_to_float(bf16_from_float(NAN))));
    for (uint32_t bits = 0; bits < 0x10000; bits++)
        if (!isnan(bf16_to_float((bf16)bits)))
            assert_int_equal(bf16_from_float(bf16_to_float((bf16)bits)), bits);
}

static void the_memory_account_balances(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    char *a = memory_allocate(&context, 1000, MEMORY_PARAMETERS);
    char *b = memory_allocate(&context, 0, MEMORY_BUFFERS);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)a % 64, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(a[i], 0);
    assert_int_equal(context.memory.bytes[MEMORY_PARAMETERS], 1000);
    assert_int_equal(context.memory.allocations, 2);
    memory_free(&context, a);
    memory_free(&context, b);
    assert_int_equal(context.memory.bytes_total, 0);
    assert_int_equal(context.memory.bytes_peak, 1000);
    assert_null(memory_allocate(&context, SIZE_MAX - 5, MEMORY_OTHER));
    assert_int_equal(context.status, STATUS_MEMORY);
    context_clear(&context);
    assert_null(memory_allocate(&context, (size_t)1 << 60, MEMORY_OTHER));
    assert_non_null(strstr(context.text, "out of memory"));
}

static void the_first_error_wins(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    assert_int_equal(context_fail(&context, STATUS_FILE, "first %d", 1), STATUS_FILE);
    assert_int_equal(context_fail(&context, STATUS_USAGE, "second"), STATUS_USAGE);
    assert_string_equal(context.text, "first 1");
    assert_int_equal(context.status, STATUS_FILE);
    context_clear(&context);
    assert_int_equal(context.status, STATUS_OK);
}

static void arenas_are_used_again(void **state)
{
    (void)state;
    struct context context;
    struct arena arena;
    context_create(&context);
    arena_create(&arena, &context, MEMORY_ACTIVATIONS);
    for (int round = 0; round < 3; round++) {
        char *first = arena_allocate(&arena, 100);
        struct arena_mark mark = arena_mark(&arena);
        char *big = arena_allocate(&arena, 3 << 20); /* more than a block */
        char *after = arena_allocate(&arena, 10);
        assert_int_equal((uintptr_t)first % 64 + (uintptr_t)big % 64 + (uintptr_t)after % 64, 0);
        memset(big, round, 3 << 20);
        arena_rewind(&arena, mark);
        char *again = arena_allocate(&arena, 3 << 20);
        assert_ptr_equal(again, big);
        arena_reset(&arena);
    }
    int64_t allocations = context.memory.allocations;
    arena_allocate(&arena, 100);
    arena_allocate(&arena, 3 << 20);
    assert_int_equal(context.memory.allocations, allocations);
    arena_destroy(&arena);
    assert_int_equal(context.memory.bytes_total, 0);
}

static void rewinding_to_an_empty_arena_works(void **state)
{
    (void)state;
    struct context context;
    struct arena arena;
    context_create(&context);
    arena_create(&arena, &context, MEMORY_ACTIVATIONS);
    struct arena_mark start = arena_mark(&arena);
    char *first = arena_allocate(&arena, 64);
    arena_rewind(&arena, start);
    assert_ptr_equal(arena_allocate(&arena, 64), first);
    arena_destroy(&arena);
}

static void pools_return_blocks_of_the_same_size(void **state)
{
    (void)state;
    struct context context;
    struct pool pool;
    context_create(&context);
    pool_create(&pool, &context, MEMORY_ACTIVATIONS);
    void *a = pool_allocate(&pool, 1000);
    void *b = pool_allocate(&pool, 2000);
    pool_release(&pool, a);
    void *c = pool_allocate(&pool, 2000);
    assert_ptr_not_equal(c, a);
    assert_ptr_equal(pool_allocate(&pool, 1000), a);
    assert_int_equal(context.memory.allocations, 3);
    pool_release(&pool, a);
    pool_release(&pool, b);
    pool_release(&pool, c);
    pool_destroy(&pool);
    assert_int_equal(context.memory.bytes_total, 0);
}

/* Sizes that are never twice the same must neither pile up blocks nor come to an end. */
static void pools_serve_any_number_of_sizes(void **state)
{
    (void)state;
    enum { SIZES = 5000, MOST = 300000, OUT = 3 };
    struct context context;
    struct pool pool;
    char *out[OUT];
    context_create(&context);
    pool_create(&pool, &context, MEMORY_ACTIVATIONS);
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t n = 0; n < OUT; n++) {
            size_t bytes = 1 + (i * 7919 + n * 104729) % MOST;
            out[n] = pool_allocate(&pool, bytes);
            assert_non_null(out[n]);
            assert_int_equal((uintptr_t)out[n] % 64, 0);
            memset(out[n], (int)n, bytes);
        }
        for (int n = 0; n < OUT; n++)
            assert_int_equal(out[n][0], n);
        for (int n = 0; n < OUT; n++)
            pool_release(&pool, out[n]);
    }
    assert_true(context.memory.bytes_total < 6 * OUT * MOST);
    pool_destroy(&pool);
    assert_int_equal(context.memory.bytes_total, 0);
}

static void numbers_are_read_strictly(void **state)
{
    (void)state;
    int64_t integer = 5;
    double real = 5.0;
    assert_true(text_to_integer("-12", &integer));
    assert_int_equal(integer, -12);
    static const char *const bad[] = {"", " 1", "1 ", "1x", "x", "9223372036854775808", "0x10", "1.5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(text_to_integer(bad[i], &integer));
    assert_int_equal(integer, -12);
    assert_true(text_to_real("2.5e-3", &real));
    assert_true(real == 2.5e-3);
    assert_false(text_to_real("1e999", &real));
    assert_false(text_to_real("1,5", &real));
    assert_false(text_to_real("0x1p3", &real));
    assert_false(text_to_real("nan", &real));
    assert_false(text_to_real("-inf", &real));
    assert_true(text_to_real("+1E2", &real) && real == 100.0);
    char cut[4];
    assert_true(text_copy(cut, sizeof cut, "abc"));
    assert_false(text_copy(cut, sizeof cut, "abcd"));
    assert_string_equal(cut, "abc");
}

/* The forms that sbatch --time takes. */
static void time_limits_are_read_as_slurm_reads_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } good[] = {{"90", 5400},           {"90:30", 5430}, {"0:05", 5},      {"12:00:00", 43200},
                {"100:00:01", 360001},  {"1-0", 86400},  {"2-12", 216000}, {"1-2:30", 95400},
                {"7-23:59:59", 691199}, {"0-0:0:1", 1},  {"00:00:01", 1}};
    static const char *const bad[] = {
        "",   "0",  "0:00", "1:60", "1:60:00", "1:00:60", "1-24", "1-",         "-1", "1:2:3:4", "1-1-1", "1-2:3:4:5",
        " 5", "5 ", "5s",   "1:",   ":1",      "1::2",    "1.5",  "9999999999", "x",  "1-2:60",  "+5",    "INFINITE"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double seconds = -1.0;
        if (!text_to_time_limit(good[i].text, &seconds) || seconds != good[i].seconds)
            fail_msg("\"%s\" is read as %g seconds", good[i].text, seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double seconds = -1.0;
        if (text_to_time_limit(bad[i], &seconds) || seconds != -1.0)
            fail_msg("\"%s\" is read as %g seconds", bad[i], seconds);
    }
}

static void durations_are_rounded_to_what_is_shown(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0.0, "0m 00s"},     {7.4, "0m 07s"},      {7.6, "0m 08s"},        {59.7, "1m 00s"},
                 {3599.0, "59m 59s"}, {3600.0, "1h 00m"},   {12000.0, "3h 20m"},    {86399.0, "23h 59m"},
                 {86400.0, "1d 00h"}, {187200.0, "2d 04h"}, {8640000.0, "100d 00h"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        text_from_duration(cases[i].seconds, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

static void reals_near_zero_are_numbers(void **state)
{
    (void)state;
    double real = 5.0;
    assert_true(text_to_real("1e-320", &real));
    assert_true(real == 1e-320);
    assert_true(text_to_real("1e-400", &real));
    assert_true(real == 0.0);
    assert_false(text_to_real("-1e999", &real));
    assert_false(text_to_real("1.0 ", &real));
    assert_false(text_to_real(" 1.0", &real));
    assert_false(text_to_real("", &real));
}

static void homes_stand_for_a_tilde(void **state)
{
    (void)state;
    char text[12];
    char *kept = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    setenv("HOME", "/home/a", 1);
    assert_true(text_expand_home(text, sizeof text, "~"));
    assert_string_equal(text, "/home/a");
    assert_true(text_expand_home(text, sizeof text, "~/bcd"));
    assert_string_equal(text, "/home/a/bcd"); /* 11 bytes and the end */
    assert_false(text_expand_home(text, sizeof text, "~/bcde"));
    assert_false(text_expand_home(text, sizeof text, "~b"));
    assert_true(text_expand_home(text, sizeof text, "b/~/c"));
    assert_string_equal(text, "b/~/c");
    setenv("HOME", "", 1);
    assert_false(text_expand_home(text, sizeof text, "~/b"));
    if (kept)
        setenv("HOME", kept, 1);
    free(kept);
}

static void slips_of_names_are_recognised(void **state)
{
    (void)state;
    static const char *const names[] = {"train", "data", "eval", "generate", "plan", "planet"};
    assert_int_equal(suggest_distance("kitten", "sitting"), 3);
    assert_int_equal(suggest_distance("", "abc"), 3);
    assert_int_equal(suggest_distance("abc", ""), 3);
    assert_int_equal(suggest_distance("ab", "ba"), 2);
    assert_int_equal(suggest_limit(1), 0);
    assert_int_equal(suggest_limit(5), 2);
    assert_int_equal(suggest_limit(20), 3);
    assert_string_equal(suggest_name("trane", names, 6), "train");
    assert_string_equal(suggest_name("planes", names, 6), "planet");
    assert_string_equal(suggest_name("plane", names, 6), "plan"); /* as near as planet, and before it */
    assert_null(suggest_name("x", names, 6));
    assert_null(suggest_name("dxyz", names, 6));
    assert_null(suggest_name("generators.", names, 1));
    char longest[200];
    memset(longest, 'a', sizeof longest);
    longest[199] = '\0';
    assert_null(suggest_name(longest, names, 6));
}

/* The description of a file of `size` bytes of which the one at `changed` is another; -1 for none. */
static void describe_file(int64_t size, int64_t changed, char *text)
{
    char path[] = "/tmp/cairn-sample-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    char *bytes = malloc((size_t)size + 1);
    for (int64_t i = 0; i < size; i++)
        bytes[i] = (char)(random_bits(3, (uint64_t)i) + (i == changed));
    assert_int_equal(write(file, bytes, (size_t)size), size);
    close(file);
    free(bytes);
    sample_describe(path, text, 96);
    unlink(path);
}

/* Files of up to 16 blocks of 16 KiB are read whole; of longer ones the ends and blocks between them. */
static void samples_tell_files_apart(void **state)
{
    (void)state;
    enum { BLOCK = 16384, WHOLE = 16 * BLOCK, LARGE = 20 * WHOLE };
    static const struct {
        int64_t size, changed;
    } cases[] = {{1, 0},
                 {BLOCK, BLOCK - 1},
                 {WHOLE, 0},
                 {WHOLE, WHOLE - 1},
                 {WHOLE, 100000},
                 {LARGE, 0},
                 {LARGE, LARGE - 1},
                 {LARGE, BLOCK - 1},
                 {LARGE, LARGE - BLOCK},
                 {LARGE, (LARGE - BLOCK) / 15 * 7 + 100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char plain[96], again[96], other[96], begin[32];
        describe_file(cases[i].size, -1, plain);
        describe_file(cases[i].size, -1, again);
        describe_file(cases[i].size, cases[i].changed, other);
        assert_string_equal(plain, again);
        if (strcmp(plain, other) == 0)
            fail_msg("byte %lld of %lld is not in the sample", (long long)cases[i].changed, (long long)cases[i].size);
        snprintf(begin, sizeof begin, "%lld bytes, sample ", (long long)cases[i].size);
        assert_ptr_equal(strstr(plain, begin), plain);
        assert_int_equal(strlen(plain), strlen(begin) + 16);
    }
    char text[96];
    describe_file(0, -1, text);
    assert_string_equal(text, "0 bytes, sample cbf29ce484222325");
    assert_true(sample_hash(SAMPLE_HASH_BEGIN, "foobar", 6) == UINT64_C(0x85944171f73967e8)); /* of FNV-1a's authors */
    sample_describe("/nowhere/at/all", text, sizeof text);
    assert_string_equal(text, "No such file or directory");
}

/* What a notice says on a standard error that is no terminal, `late` seconds after it spoke last. */
static const char *said(struct notice *notice, double late, double done, double all)
{
    static char text[256];
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_true(file && before >= 0);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    notice->terminal = false;
    notice->began -= late;
    notice->told -= late;
    notice_show(notice, done, all);
    notice_end(notice);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void long_work_speaks_every_ten_seconds(void **state)
{
    (void)state;
    struct context context;
    struct notice notice;
    context_create(&context);
    notice_begin(&notice, &context, "planning", "meshes");
    assert_string_equal(said(&notice, 9.5, 1.0, 4.0), "");
    assert_string_equal(said(&notice, 0.6, 1.0, 4.0), "planning: 1 of 4 meshes, 0m 30s left\n");
    assert_string_equal(said(&notice, 5.0, 2.0, 4.0), "");
    assert_string_equal(said(&notice, 5.0, 3.0, 0.0), "planning: 3 meshes so far\n");
    assert_string_equal(said(&notice, 10.0, 0.0, 4.0), "planning: 0 of 4 meshes\n");
    context.quiet = true;
    assert_string_equal(said(&notice, 100.0, 2.0, 4.0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partitions_cover_everything_once),
        cmocka_unit_test(ranges_intersect),
        cmocka_unit_test(dear_things_are_dealt_first),
        cmocka_unit_test(random_numbers_have_their_distribution),
        cmocka_unit_test(random_numbers_depend_on_seed_name_and_index_alone),
        cmocka_unit_test(permutations_hit_every_place_once),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(the_memory_account_balances),
        cmocka_unit_test(the_first_error_wins),
        cmocka_unit_test(arenas_are_used_again),
        cmocka_unit_test(rewinding_to_an_empty_arena_works),
        cmocka_unit_test(pools_return_blocks_of_the_same_size),
        cmocka_unit_test(pools_serve_any_number_of_sizes),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(long_work_speaks_every_ten_seconds),
        cmocka_unit_test(time_limits_are_read_as_slurm_reads_them),
        cmocka_unit_test(durations_are_rounded_to_what_is_shown),
        cmocka_unit_test(reals_near_zero_are_numbers),
        cmocka_unit_test(homes_stand_for_a_tilde),
        cmocka_unit_test(slips_of_names_are_recognised),
        cmocka_unit_test(samples_tell_files_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
