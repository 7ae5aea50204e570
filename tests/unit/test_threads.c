/* An engine has the threads that parallel regions really get, and its products are whole with any of them. */
#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/ops/engine.h"
#include "src/ops/threads.h"
#include "tests/support/support.h"

enum { M = 33, N = 517, K = 64 };

/* How many threads an engine that wants `threads` has; 0 if a product of it is not whole. */
static int engine_threads(int threads)
{
    static float a[M * K], b[K * N], c[M * N];
    struct context context;
    struct engine engine;
    context_create(&context);
    assert_ok(&context, engine_create(&context, threads, &engine));
    for (int i = 0; i < M * K; i++)
        a[i] = (float)(i % 7);
    for (int i = 0; i < K * N; i++)
        b[i] = (float)(i % 5);
    memset(c, 0xff, sizeof c);
    const struct matmul product = {.m = M, .n = N, .k = K, .a = a, .b = b, .c = c, .lda = K, .ldb = N, .ldc = N};
    assert_ok(&context, matmul_run(&engine, &product));
    bool whole = true;
    for (int row = 0; row < M; row++)
        for (int column = 0; column < N; column++) {
            float sum = 0.0f; /* small integers: exact in any order */
            for (int k = 0; k < K; k++)
                sum += a[row * K + k] * b[k * N + column];
            whole = whole && c[row * N + column] == sum;
        }
    int team = 0;
#pragma omp parallel num_threads(engine.threads)
#pragma omp single
    team = omp_get_num_threads();
    assert_int_equal(team, engine.threads);
    assert_int_equal(engine.threads_wanted, threads);
    int granted = engine.threads;
    engine_destroy(&engine);
    return whole ? granted : 0;
}

/* In a process of its own, whose first OpenMP region it is; `prepare` may end it with 77 where it cannot be tried. */
static int threads_in_child(int threads, void (*prepare)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prepare();
        _exit(engine_threads(threads));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void prepare_nothing(void)
{
}

static void prepare_dynamic(void)
{
    omp_set_dynamic(1);
}

static void prepare_levels(void)
{
    omp_set_max_active_levels(0);
}

/* As a user who may have so many processes; the super-user is not held to this limit. */
static void limit_processes(rlim_t most, uid_t user)
{
    const struct rlimit limit = {most, most};
    if (getuid() != 0 || setgid(user) != 0 || setrlimit(RLIMIT_NPROC, &limit) != 0 || setuid(user) != 0)
        _exit(77);
}

static void prepare_limit(void)
{
    limit_processes(1, 65534);
}

/* Threads are processes to the limit. */
static void prepare_enough(void)
{
    limit_processes(3, 64738);
}

static void test_granted(void **state)
{
    (void)state;
    assert_int_equal(threads_in_child(3, prepare_nothing), 3);
    assert_int_equal(threads_in_child(3, prepare_dynamic), 3);
    assert_int_equal(threads_in_child(3, prepare_levels), 3);
}

static void test_limited(void **state)
{
    (void)state;
    int threads = threads_in_child(3, prepare_limit);
    if (threads == 77)
        skip();
    assert_int_equal(threads, 1);
    assert_int_equal(threads_in_child(3, prepare_enough), 3);
}

/* OMP_THREAD_LIMIT is read when a program starts. */
static void test_thread_limit(void **state)
{
    (void)state;
    char self[] = "/proc/self/exe";
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("OMP_THREAD_LIMIT", "2", 1);
        execl(self, self, "3", (char *)NULL);
        _exit(errno == ENOEXEC ? 77 : 99); /* a program for another machine, run by an emulator */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 2);
}

/* A plan may be for a machine with more threads than this one. */
static void test_dry(void **state)
{
    (void)state;
    struct context context;
    struct engine engine;
    context_create(&context);
    context.dry = true;
    assert_ok(&context, engine_create(&context, 5000, &engine));
    assert_int_equal(engine.threads, 5000);
    engine_destroy(&engine);
}

/* Plans of bf16 products are not made by several threads at once: an error that says so, and not only a status. */
static void test_nested(void **state)
{
    (void)state;
    static uint16_t a[4 * 4], b[4 * 4];
    static float c[4 * 4];
    struct context context;
    struct engine engine;
    context_create(&context);
    assert_ok(&context, engine_create(&context, 2, &engine));
    const struct matmul product = {.m = 4,
                                   .n = 4,
                                   .k = 4,
                                   .a = a,
                                   .b = b,
                                   .c = c,
                                   .lda = 4,
                                   .ldb = 4,
                                   .ldc = 4,
                                   .type = DTYPE_BF16,
                                   .c_type = DTYPE_F32};
    enum status status = STATUS_OK;
#pragma omp parallel num_threads(2)
#pragma omp single
    status = matmul_run(&engine, &product);
    assert_fails(&context, status, STATUS_INTERNAL, "4 x 4 x 4 in bf16");
    engine_destroy(&engine);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return engine_threads(atoi(argv[1]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_granted), cmocka_unit_test(test_limited), cmocka_unit_test(test_thread_limit),
        cmocka_unit_test(test_dry),     cmocka_unit_test(test_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
