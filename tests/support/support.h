/* What the tests share: cmocka with its prerequisites, and comparisons that say by how much they fail. */
#ifndef CAIRN_TESTS_SUPPORT_H
#define CAIRN_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include "src/core/context.h"

/* Fails unless max |a - b| <= tolerance * max |b|, saying where the largest difference is. */
void assert_near(const float *a, const float *b, int64_t count, double tolerance, const char *what);
void assert_close(double a, double b, double relative, double absolute);

/* Fails with the context's message unless the call returned STATUS_OK. */
#define assert_ok(context, call)                                                 \
    do {                                                                         \
        enum status status_ = (call);                                            \
        if (status_ != STATUS_OK)                                                \
            fail_msg("%s: status %d: %s", #call, (int)status_, (context)->text); \
    } while (0)

/* Fails unless the call failed with this status and a message that contains the text; clears the context. */
#define assert_fails(context, call, expected, part)                                                                  \
    do {                                                                                                             \
        enum status status_ = (call);                                                                                \
        if (status_ != (expected) || !strstr((context)->text, (part)))                                               \
            fail_msg("%s: status %d, message \"%s\"; expected %d with \"%s\"", #call, (int)status_, (context)->text, \
                     (int)(expected), (part));                                                                       \
        context_clear(context);                                                                                      \
    } while (0)

/* Values in (-1, 1) that depend on the name and the index only. */
void fill_random(float *values, int64_t count, const char *name);

#endif
