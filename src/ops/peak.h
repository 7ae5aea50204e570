/* The ceilings of this machine, by loops that do nothing else: arithmetic from register to register with the best
 * instruction that the engine's choice of instruction set has, and y = a y + x over memory. */
#ifndef CAIRN_OPS_PEAK_H
#define CAIRN_OPS_PEAK_H

#include "src/ops/engine.h"

/* The best of many looks of about `seconds` each, which a machine that others use needs; on `threads` threads at once.
 * FLOP/s of products with operands of this type and fp32 sums. *instruction says which one did it; BF16 is widened
 * where no instruction takes it. */
double peak_flops(struct engine *engine, enum dtype dtype, int threads, double seconds, const char **instruction);

/* Bytes a second, three for each byte of an array (two read, one written). The two arrays take `bytes` each, which
 * should be several times the last cache (peak_cache). 0, with the context's error set, when memory is out. */
double peak_bandwidth(struct engine *engine, int threads, size_t bytes);

/* Bytes of the largest cache; 32 MiB where the system does not say. */
size_t peak_cache(void);

#endif
