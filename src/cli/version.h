/* `cairn --version`. */
#ifndef CAIRN_CLI_VERSION_H
#define CAIRN_CLI_VERSION_H

#include "src/core/context.h"

/* Prints what the program is made of and runs on: commit, compiler, libraries, processor. Needs no MPI that has begun.
 * USAGE error if CAIRN_CPU asks for what this machine is not. */
enum status version_print(struct context *context) MUST_USE;

#endif
