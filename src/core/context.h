/* What every part of the program is handed: the error of this process, its log, its accounts of memory and time and the
 * choices made for this machine. There are no mutable globals.
 *
 * Errors are values. A function that can fail returns a status, and the text for the person who has to act stands
 * in the context. A failure is either local to this rank or agreed, which means that every rank has it. */
#ifndef CAIRN_CORE_CONTEXT_H
#define CAIRN_CORE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/core/clock.h"
#include "src/core/location.h"

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(string, first) __attribute__((format(printf, string, first)))

enum status {
    STATUS_OK,
    STATUS_USAGE,    /* wrong command line or configuration */
    STATUS_FILE,     /* a file that is missing, damaged or cannot be written */
    STATUS_MEMORY,   /* not enough memory */
    STATUS_NUMERIC,  /* the run no longer makes sense: not-a-number losses and the like */
    STATUS_INTERNAL, /* a mistake in the program or in the libraries below it */
    STATUS_AGAIN,    /* to be started again: the run goes on from what was saved */
};

/* What memory is held for; the account is kept for each of them. */
enum memory_kind {
    MEMORY_PARAMETERS,
    MEMORY_GRADIENTS,
    MEMORY_OPTIMIZER,
    MEMORY_ACTIVATIONS,
    MEMORY_BUFFERS,
    MEMORY_OTHER,
    MEMORY_KINDS,
};

struct memory_account {
    int64_t allocations; /* how often memory was asked for; constant once a run is in its stride */
    int64_t bytes[MEMORY_KINDS];
    int64_t bytes_total;
    int64_t bytes_peak;
};

struct context {
    enum status status; /* of the error in text; STATUS_OK when there is none */
    bool agreed;        /* every rank holds this error */
    char text[2048];
    bool quiet; /* no log lines from this rank: set on all but the first */
    bool dry;   /* for plans: memory is counted and hardly touched, operations are counted and compute nothing */
    struct memory_account memory;
    struct time_account time;
    struct location_mark location;
};

void context_create(struct context *context);

/* Records an error and returns its status. The first error wins: what follows is mostly its consequence. */
enum status context_fail(struct context *context, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* For functions that return no status: the error of a call stands in the context, for whoever looks next. */
void context_keep(struct context *context, enum status status);

/* Forgets the error, for a caller that has dealt with it. */
void context_clear(struct context *context);

/* One line on standard error for the person who watches the run; printed by the first rank only. */
void context_log(const struct context *context, const char *format, ...) PRINTF_LIKE(2, 3);

/* A word for a kind of memory: "parameters", "gradients", ... */
const char *memory_kind_name(enum memory_kind kind);

/* The resident memory of this process in bytes as the system counts it; 0 where it cannot be read. */
int64_t memory_resident(void);

/* The most it has ever been. */
int64_t memory_resident_peak(void);

/* Zeroed memory, aligned to 64 bytes, counted in the account; NULL with the context's error set on failure.
 * A size of 0 gives a valid pointer. Free it with memory_free. In a dry context it takes room only where it is written
 * to. */
void *memory_allocate(struct context *context, size_t bytes, enum memory_kind kind);
void memory_free(struct context *context, void *pointer);

/* Leaves the function with the status of a call that failed. */
#define CHECK(call)                  \
    do {                             \
        enum status check_ = (call); \
        if (check_ != STATUS_OK)     \
            return check_;           \
    } while (0)

/* The same for functions that own something: goes to the label `done` with `status` set. */
#define TRY(call)                \
    do {                         \
        status = (call);         \
        if (status != STATUS_OK) \
            goto done;           \
    } while (0)

#endif
