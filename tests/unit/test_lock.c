/* RUN/lock: who takes it from whom, and when. */
#include "tests/support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/lock/lock.h"
#include "io/lock/owner.h"

static atomic_bool loses_answers; /* a network file system whose answers do not arrive */

int link(const char *from, const char *to)
{
    int failed = linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
    if (failed || !atomic_load(&loses_answers))
        return failed;
    errno = EEXIST;
    return -1;
}

int stat(const char *restrict path, struct stat *restrict entry)
{
    if (!atomic_load(&loses_answers))
        return fstatat(AT_FDCWD, path, entry, 0);
    errno = ESTALE;
    return -1;
}

struct fixture {
    struct context context;
    char folder[64];
    char path[96];
};

static const struct lock_tuning quick = {.beat = 0.05, .silent = 0.6, .patience = 0.2};

static int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    fixture.context.quiet = true;
    strcpy(fixture.folder, "/tmp/cairn-lock-XXXXXX");
    if (!mkdtemp(fixture.folder))
        return -1;
    snprintf(fixture.path, sizeof fixture.path, "%s/lock", fixture.folder);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
    *state = &fixture;
    return 0;
}

/* Nothing but the lock was left in the folder. */
static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unlink(fixture->path);
    if (rmdir(fixture->folder) != 0)
        return -1;
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void pass(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&time, NULL);
}

/* Whether it becomes true within ten seconds. */
#define comes(condition)                               \
    ({                                                 \
        double end_ = clock_seconds() + 10.0;          \
        while (!(condition) && clock_seconds() < end_) \
            pass(0.01);                                \
        (condition);                                   \
    })

static void write_file(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "w");
    fwrite(text, 1, length, file);
    fclose(file);
}

/* The lock of an owner that is like this process but for what the caller has changed. */
static void leave(const struct fixture *fixture, const struct owner *owner)
{
    char text[OWNER_TEXT];
    write_file(fixture->path, text, owner_write(owner, text));
}

static double take(struct fixture *fixture, struct lock **lock)
{
    double began = clock_seconds();
    assert_ok(&fixture->context, lock_take_tuned(&fixture->context, fixture->folder, &quick, lock));
    assert_non_null(*lock);
    return clock_seconds() - began;
}

static void read_owner(const struct fixture *fixture, struct owner *owner)
{
    char text[OWNER_TEXT];
    FILE *file = fopen(fixture->path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    owner_read(text, length, owner);
}

static void the_second_of_two_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct lock *second;
    struct owner owner;
    char text[256];
    setenv("SLURM_JOB_ID", "4711", 1);
    take(fixture, &lock);
    read_owner(fixture, &owner);
    assert_int_equal(owner.pid, getpid());
    assert_string_equal(owner.job, "4711");
    assert_true(owner.born > 0 && owner.boot[0] && owner.processes[0]);
    snprintf(text, sizeof text, "belongs to process %d on host %s (job 4711), since 20", (int)getpid(), owner.host);
    assert_fails(&fixture->context, lock_take_tuned(&fixture->context, fixture->folder, &quick, &second), STATUS_USAGE,
                 text);
    assert_null(second);
    assert_false(lock_lost(lock));
    lock_release(&lock);
    assert_null(lock);
    assert_int_not_equal(access(fixture->path, F_OK), 0);
    assert_true(take(fixture, &lock) < quick.silent);
    lock_release(&lock);
}

/* Both as a zombie, whom only its parent can bury, and when it is gone altogether. */
static void a_dead_process_of_this_machine_is_replaced_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    for (int buried = 0; buried < 2; buried++) {
        pid_t child = fork();
        if (child == 0)
            _exit(lock_take_tuned(&fixture->context, fixture->folder, &quick, &lock) == STATUS_OK ? 0 : 1);
        siginfo_t ended;
        assert_int_equal(waitid(P_PID, (id_t)child, &ended, WEXITED | (buried ? 0 : WNOWAIT)), 0);
        assert_int_equal(ended.si_status, 0);
        read_owner(fixture, &owner);
        assert_int_equal(owner.pid, child);
        take(fixture, &lock);
        read_owner(fixture, &owner);
        assert_int_equal(owner.pid, getpid());
        lock_release(&lock);
        if (!buried)
            assert_int_equal(waitpid(child, NULL, 0), child);
    }
}

/* A process that is killed while it waits leaves the file under its own name. */
static void what_others_left_goes(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {".lock.here.4711", ".lock.elsewhere.1", ".lock.elsewhere.2", ".locked"};
    const struct lock_tuning slow = {.beat = 10.0, .silent = 60.0, .patience = 1.0};
    const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    char path[192];
    char text[OWNER_TEXT];
    struct lock *lock;
    struct owner owner;
    for (int i = 0; i < 4; i++) {
        owner_self(&owner);
        if (i == 1 || i == 2)
            strcpy(owner.boot, "another machine");
        else
            owner.born -= 1; /* dead */
        snprintf(path, sizeof path, "%s/%s", fixture->folder, names[i]);
        write_file(path, text, owner_write(&owner, text));
        if (i == 1)
            assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    }
    assert_ok(&fixture->context, lock_take_tuned(&fixture->context, fixture->folder, &slow, &lock));
    assert_non_null(lock);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", fixture->folder, names[i]);
        /* One may still wait on another machine; the last is no lock's. */
        assert_int_equal(access(path, F_OK), i < 2 ? -1 : 0);
        (void)unlink(path);
    }
    lock_release(&lock);
}

static void a_number_of_a_process_that_was_used_again_is_not_its_owner(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    owner_self(&owner);
    owner.born -= 1;
    assert_int_equal(owner_ask(&owner, &owner), OWNER_DEAD);
    leave(fixture, &owner);
    assert_true(take(fixture, &lock) < quick.silent);
    lock_release(&lock);
}

static void an_owner_elsewhere_is_dead_when_it_is_silent(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner self;
    struct owner owners[3];
    owner_self(&self);
    for (int i = 0; i < 3; i++)
        owners[i] = self;
    strcpy(owners[0].boot, "another machine");
    strcpy(owners[1].processes, "another container");
    owners[2] = (struct owner){.born = -1}; /* of whom nothing is known */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(owner_ask(&owners[i], &self), OWNER_UNKNOWN);
        leave(fixture, &owners[i]);
        assert_true(take(fixture, &lock) >= quick.silent);
        lock_release(&lock);
    }
    write_file(fixture->path, "", 0); /* written to a full disk */
    assert_true(take(fixture, &lock) >= quick.silent);
    lock_release(&lock);
    write_file(fixture->path, "\0\0\0{\"host", 9);
    assert_true(take(fixture, &lock) >= quick.silent);
    lock_release(&lock);
}

static void an_owner_elsewhere_that_gives_signs_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    owner_self(&owner);
    strcpy(owner.boot, "another machine");
    strcpy(owner.host, "elsewhere");
    leave(fixture, &owner);
    pid_t child = fork();
    if (child == 0)
        for (;;) {
            pass(0.05);
            utimensat(AT_FDCWD, fixture->path, NULL, 0);
        }
    assert_fails(&fixture->context, lock_take_tuned(&fixture->context, fixture->folder, &quick, &lock), STATUS_USAGE,
                 "on host elsewhere");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    /* Where times are whole seconds, too. */
    child = fork();
    if (child == 0) {
        for (time_t second = 1000; second < 1400; second++) {
            pass(0.05);
            utimensat(AT_FDCWD, fixture->path, (struct timespec[]){{.tv_sec = second}, {.tv_sec = second}}, 0);
        }
        _exit(0);
    }
    assert_fails(&fixture->context, lock_take_tuned(&fixture->context, fixture->folder, &quick, &lock), STATUS_USAGE,
                 "on host elsewhere");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    /* Its last sign may have been given just before it died. */
    assert_true(take(fixture, &lock) >= quick.silent);
    lock_release(&lock);
}

/* A job that is being ended may give one more. */
static void one_sign_may_be_the_last(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    owner_self(&owner);
    strcpy(owner.boot, "another machine");
    leave(fixture, &owner);
    pid_t child = fork();
    if (child == 0) {
        pass(0.3);
        utimensat(AT_FDCWD, fixture->path, NULL, 0);
        _exit(0);
    }
    take(fixture, &lock);
    waitpid(child, NULL, 0);
    lock_release(&lock);
}

/* Each of two owners, of whom the second writes into the file of the first. */
static void signs_of_several_owners_do_not_add_up(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    owner_self(&owner);
    strcpy(owner.boot, "another machine");
    leave(fixture, &owner);
    pid_t child = fork();
    if (child == 0) {
        pass(0.25);
        utimensat(AT_FDCWD, fixture->path, NULL, 0);
        pass(0.25);
        owner.pid++;
        leave(fixture, &owner);
        pass(0.25);
        utimensat(AT_FDCWD, fixture->path, NULL, 0);
        _exit(0);
    }
    take(fixture, &lock);
    waitpid(child, NULL, 0);
    lock_release(&lock);
}

static void owners_differ_in_each_word(void **state)
{
    (void)state;
    struct owner owner;
    owner_self(&owner);
    struct owner others[5] = {owner, owner, owner, owner, owner};
    assert_true(owner_same(&owner, &others[0]));
    others[0].pid++;
    others[1].born++;
    others[2].boot[0] ^= 1;
    others[3].processes[0] ^= 1;
    others[4].host[0] ^= 1;
    for (int i = 0; i < 5; i++)
        assert_false(owner_same(&owner, &others[i]));
}

static void answers_that_are_lost_do_no_harm(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    atomic_store(&loses_answers, true);
    enum status status = lock_take_tuned(&fixture->context, fixture->folder, &quick, &lock);
    pass(5.0 * quick.beat);
    bool lost = lock_lost(lock);
    atomic_store(&loses_answers, false);
    assert_ok(&fixture->context, status);
    assert_non_null(lock);
    assert_false(lost);
    lock_release(&lock);
    assert_int_not_equal(access(fixture->path, F_OK), 0);
}

static void an_owner_gives_signs(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct stat before;
    struct stat now;
    take(fixture, &lock);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stat(fixture->path, &before), 0);
        assert_true(comes(stat(fixture->path, &now) == 0 && (now.st_mtim.tv_sec != before.st_mtim.tv_sec ||
                                                             now.st_mtim.tv_nsec != before.st_mtim.tv_nsec)));
    }
    lock_release(&lock);
}

static void an_earlier_start_of_the_same_job_is_over(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    setenv("SLURM_JOB_ID", "12", 1);
    setenv("SLURM_CLUSTER_NAME", "c", 1);
    owner_self(&owner);
    strcpy(owner.boot, "another machine");
    leave(fixture, &owner);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    assert_true(take(fixture, &lock) < quick.silent);
    lock_release(&lock);
    /* The same start has two steps, one of them too many; a job of another cluster may have the same number. */
    struct owner self;
    owner_self(&self);
    strcpy(owner.restarts, "1");
    assert_int_equal(owner_ask(&owner, &self), OWNER_UNKNOWN);
    strcpy(owner.restarts, "0");
    strcpy(owner.job, "12@d");
    assert_int_equal(owner_ask(&owner, &self), OWNER_UNKNOWN);
    unsetenv("SLURM_CLUSTER_NAME");
}

static void who_was_taken_for_dead_finds_out(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    char other[128];
    char text[OWNER_TEXT];
    take(fixture, &lock);
    assert_ok(&fixture->context, lock_check(&fixture->context, lock));
    owner_self(&owner);
    strcpy(owner.host, "elsewhere");
    snprintf(other, sizeof other, "%s/other", fixture->folder);
    write_file(other, text, owner_write(&owner, text));
    assert_int_equal(rename(other, fixture->path), 0);
    assert_true(comes(lock_lost(lock)));
    assert_fails(&fixture->context, lock_check(&fixture->context, lock), STATUS_FILE, "on host elsewhere");
    lock_release(&lock);
    read_owner(fixture, &owner); /* it is not removed */
    assert_string_equal(owner.host, "elsewhere");
}

static void a_lock_that_was_removed_is_made_again(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    struct owner owner;
    char gone[80];
    take(fixture, &lock);
    unlink(fixture->path);
    assert_true(comes(access(fixture->path, F_OK) == 0));
    snprintf(gone, sizeof gone, "%s.gone", fixture->folder);
    assert_int_equal(rename(fixture->folder, gone), 0);
    pass(3.0 * quick.beat);
    assert_int_equal(rename(gone, fixture->folder), 0);
    pass(3.0 * quick.beat);
    assert_false(lock_lost(lock));
    read_owner(fixture, &owner);
    assert_int_equal(owner.pid, getpid());
    lock_release(&lock);
    assert_int_not_equal(access(fixture->path, F_OK), 0);
}

/* A child that has the lock keeps it until the pipe is closed. */
static int contend(struct fixture *fixture, const int *pipe_ends)
{
    struct lock *lock;
    char end;
    close(pipe_ends[1]);
    enum status status = lock_take_tuned(&fixture->context, fixture->folder, &quick, &lock);
    if (status == STATUS_OK && read(pipe_ends[0], &end, 1) != 0)
        return 2;
    return status == STATUS_OK && !lock_lost(lock) ? 0 : status == STATUS_USAGE ? 1 : 2;
}

/* Many find no owner, or a dead one, at the same time. */
static void one_of_many_takes_it(void **state)
{
    enum { MANY = 8 };
    struct fixture *fixture = *state;
    struct owner owner;
    owner_self(&owner);
    owner.born -= 1;
    for (int round = 0; round < 2; round++) {
        int ends[3] = {0};
        int pipe_ends[2];
        assert_int_equal(pipe(pipe_ends), 0);
        if (round > 0)
            leave(fixture, &owner);
        for (int i = 0; i < MANY; i++)
            if (fork() == 0)
                _exit(contend(fixture, pipe_ends));
        for (int i = 0; i < MANY; i++) {
            int code = 0;
            if (i == MANY - 1)
                close(pipe_ends[1]);
            wait(&code);
            ends[WIFEXITED(code) ? WEXITSTATUS(code) : 2]++;
        }
        close(pipe_ends[0]);
        assert_int_equal(ends[0], 1);
        assert_int_equal(ends[1], MANY - 1);
        unlink(fixture->path);
    }
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct lock *lock;
    assert_fails(&fixture->context, lock_take_tuned(&fixture->context, "/nowhere/at/all", &quick, &lock), STATUS_FILE,
                 "/nowhere/at/all/.lock.");
    assert_false(lock_lost(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_second_of_two_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_process_of_this_machine_is_replaced_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_others_left_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_number_of_a_process_that_was_used_again_is_not_its_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_owner_elsewhere_is_dead_when_it_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_owner_elsewhere_that_gives_signs_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_sign_may_be_the_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(signs_of_several_owners_do_not_add_up, set_up, tear_down),
        cmocka_unit_test(owners_differ_in_each_word),
        cmocka_unit_test_setup_teardown(answers_that_are_lost_do_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_owner_gives_signs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_earlier_start_of_the_same_job_is_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_was_taken_for_dead_finds_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lock_that_was_removed_is_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_of_many_takes_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
