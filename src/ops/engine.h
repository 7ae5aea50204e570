/* What operations run on: the kernels chosen for this machine, matrix products, and scratch memory for threads. */
#ifndef CAIRN_OPS_ENGINE_H
#define CAIRN_OPS_ENGINE_H

#include "src/core/arena.h"
#include "src/core/dtype.h"

struct kernels; /* src/ops/kernels/kernels.h */
struct matmul_plans;

struct engine {
    struct context *context;
    const struct kernels *kernels;
    const char *isa;            /* the name of the kernels' instruction set */
    int threads;                /* that every parallel region gets */
    int threads_wanted;         /* more, where the system or OMP_THREAD_LIMIT grants fewer */
    size_t cache;               /* bytes of the largest */
    struct matmul_plans *plans; /* matrix products prepared so far */
    size_t scratch_size;        /* of each thread */
    void *scratch;
    float *padded; /* rows of a product that are padded, in and out */
    int64_t padded_count;
};

/* threads: that this rank should have; engine->threads says how many it got (src/ops/threads.h). The environment
 * variable CAIRN_CPU forces an instruction set; one that the machine lacks is a USAGE error that lists those it has. */
enum status engine_create(struct context *context, int threads, struct engine *engine) MUST_USE;
/* The same with a set by its name; NULL: the best that the machine has, whatever the environment says. */
enum status engine_create_as(struct context *context, int threads, const char *name, struct engine *engine) MUST_USE;

/* The place of the instruction set that engine_create would choose among all, the best of which is 0, and the name of
 * a place. A machine has also those behind its own, but for the first that other processors have. */
enum status engine_rank(struct context *context, int *rank) MUST_USE;
const char *engine_name(int rank);

/* The version of the oneDNN library that runs. */
void engine_library_version(char *text, size_t size);

void engine_destroy(struct engine *engine);

/* Scratch of at least `bytes` for every thread (thread t's begins at t * stride); its content does not survive the
 * operation. Grows only when a larger one is asked for. NULL with the context's error when memory is out. */
void *engine_scratch(struct engine *engine, size_t bytes, size_t *stride);

/* Parameters have new values (or are no more): their kept forms are made anew at the next use. */
void engine_forget(struct engine *engine);

/* C = A B + beta C for row-major matrices, C [m, n], A [m, k], B [k, n]; a transposed operand is stored as its
 * transpose. Leading dimensions count elements. A and B have one type (F32 or BF16); C has that type or F32; sums are
 * fp32. Any of m, n, k may be 0. Runs on all threads, or on one when called inside a parallel region. */
struct matmul {
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc;
    enum dtype type; /* of A and B */
    enum dtype c_type;
    bool a_transposed, b_transposed;
    bool b_lasts; /* B is a parameter: a form of it that suits the machine may be kept until engine_forget */
    float beta;   /* 0 or 1 */
};

enum status matmul_run(struct engine *engine, const struct matmul *product) MUST_USE;

#endif
