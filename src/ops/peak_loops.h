/* Loops that only the ceilings use. Each works on one thread and returns what keeps the compiler from dropping it. */
#ifndef CAIRN_OPS_PEAK_LOOPS_H
#define CAIRN_OPS_PEAK_LOOPS_H

#include <stdbool.h>
#include <stdint.h>

struct peak_loop {
    const char *instruction;
    float (*run)(int64_t rounds);
    double flops;          /* of one round */
    bool (*prepare)(void); /* on each thread before it runs; NULL when nothing is needed */
    void (*release)(void);
};

/* The loops for an instruction set as engine.c names it, or NULL for the portable ones. */
const struct peak_loop *peak_loop_x86(const char *isa, bool half);

/* y = y / 2 + x, and y = x around the caches, with vectors of that instruction set; false when it has no own. */
bool peak_update_x86(const char *isa, float *y, const float *x, int64_t count);
bool peak_copy_x86(const char *isa, float *y, const float *x, int64_t count);

#endif
