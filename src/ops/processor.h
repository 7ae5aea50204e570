/* What the processor of this machine can do. */
#ifndef CAIRN_OPS_PROCESSOR_H
#define CAIRN_OPS_PROCESSOR_H

#include <stddef.h>

/* Its instruction sets that matter to numbers, as compilers call them, with spaces between; what the system withholds,
 * as it may the registers of AMX, is among them. "unknown" for a processor that this program cannot ask. */
void processor_instructions(char *text, size_t size);

#endif
