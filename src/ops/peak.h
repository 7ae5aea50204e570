/* The ceilings of this machine, by loops that do nothing else: arithmetic from register to register with the best
 * instruction that the engine's choice of instruction set has, and arrays in memory as operations read and write them.
 */
#ifndef CAIRN_OPS_PEAK_H
#define CAIRN_OPS_PEAK_H

#include "src/ops/engine.h"

/* The best of many looks of about `seconds` each, which a machine that others use needs; on `threads` threads at once.
 * FLOP/s of products with operands of this type and fp32 sums. *instruction says which one did it; BF16 is widened
 * where no instruction takes it. */
double peak_flops(struct engine *engine, enum dtype dtype, int threads, double seconds, const char **instruction);

/* Bytes a second that cross between memory and the cores, by the better of two ways, the best of `looks` at each:
 * y = y / 2 + x in place (two read, one written), and y = x written around the caches (one read, one written). The
 * arrays have `count` elements, a multiple of LINE_ELEMENTS, and should be several times the last cache (peak_cache).
 */
double peak_bandwidth(struct engine *engine, int threads, float *y, const float *x, int64_t count, int looks);

/* Bytes of the largest cache; 32 MiB where the system does not say. */
size_t peak_cache(void);

#endif
