/* What the tests of settings share. */
#ifndef CAIRN_TESTS_CONFIG_SUPPORT_H
#define CAIRN_TESTS_CONFIG_SUPPORT_H

#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/core/random.h"

enum { FORMAT_SIZE = 1 << 18, LARGE_TEXT = 1 << 20 };

#define MODEL "model:\n  vocabulary: 256\n  width: 64\n  layers: 8\n  heads: 4\n  hidden: 176\n"

struct fixture {
    struct context context;
    struct config config;
    struct config other;
    char text[FORMAT_SIZE];
    char again[FORMAT_SIZE];
};

static inline int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    context_create(&fixture->context);
    *state = fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;
    int64_t held = fixture->context.memory.bytes_total;
    free(fixture);
    return held == 0 ? 0 : -1;
}

static inline enum status parse(struct fixture *fixture, const char *text, const char *override)
{
    return config_parse(&fixture->context, "a.yaml", text, strlen(text), &override, override ? 1 : 0, &fixture->config);
}

static inline void expect_message(struct fixture *fixture, enum status status, const char *text, const char *message)
{
    if (status != STATUS_USAGE || strcmp(fixture->context.text, message) != 0)
        fail_msg("status %d for\n%.400s\nmessage:  %s\nexpected: %s", (int)status, text, fixture->context.text,
                 message);
    context_clear(&fixture->context);
}

struct wrong {
    const char *text;
    const char *message;
};

static inline void expect_wrong(struct fixture *fixture, const struct wrong *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_message(fixture, parse(fixture, cases[i].text, NULL), cases[i].text, cases[i].message);
}

#define EXPECT_WRONG(fixture, cases) expect_wrong(fixture, cases, sizeof(cases) / sizeof((cases)[0]))

/* The settings of `text` after MODEL, one of which is wrong. */
static inline void expect_wrong_value(struct fixture *fixture, const char *text, const char *message)
{
    char whole[4096];
    snprintf(whole, sizeof whole, "%s%s", MODEL, text);
    expect_message(fixture, parse(fixture, whole, NULL), whole, message);
}

static inline void expect_wrong_override(struct fixture *fixture, const char *override, const char *message)
{
    expect_message(fixture, parse(fixture, MODEL, override), override, message);
}

#endif
