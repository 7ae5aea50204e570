/* What the tests of the tape share: a tape with its memory, leaves, and a listener that counts. */
#ifndef CAIRN_TESTS_TAPE_SUPPORT_H
#define CAIRN_TESTS_TAPE_SUPPORT_H

#include "src/tensor/tape.h"
#include "tests/support/support.h"

struct fixture {
    struct context context;
    struct arena work;
    struct pool pool;
    struct tape tape;
};

static inline int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    arena_create(&fixture.work, &fixture.context, MEMORY_ACTIVATIONS);
    pool_create(&fixture.pool, &fixture.context, MEMORY_ACTIVATIONS);
    tape_create(&fixture.tape, &fixture.context, NULL, &fixture.work, &fixture.pool);
    fixture.tape.recording = true;
    *state = &fixture;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    tape_reset(&fixture->tape);
    tape_destroy(&fixture->tape);
    arena_destroy(&fixture->work);
    pool_destroy(&fixture->pool);
    /* Whatever the test did, no gradient is lost. */
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static inline struct tensor *leaf(struct fixture *fixture, float *values)
{
    return tape_leaf(&fixture->tape, DTYPE_F32, 1, (int64_t[]){2}, values, true);
}

static inline void check_gradient(const struct tensor *tensor, float a, float b)
{
    const float *gradient = tape_gradient(tensor);
    assert_true(gradient[0] == a && gradient[1] == b);
}

struct counter {
    int done;
    const struct parameter *last;
};

static inline void count_done(void *self, struct parameter *parameter)
{
    struct counter *counter = self;
    counter->done++;
    counter->last = parameter;
}

#endif
