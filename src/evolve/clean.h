/* What is left in a system's folder by starts that were interrupted, and by visits that are over. For the rank that
 * writes; local. */
#ifndef CAIRN_EVOLVE_CLEAN_H
#define CAIRN_EVOLVE_CLEAN_H

#include "src/evolve/system.h"

/* Makes the folders, and removes files that were not finished. FILE error. */
enum status clean_prepare(struct context *context, const char *folder) MUST_USE;

/* Removes the results of children and all components that the system does not name. */
void clean_unnamed(const struct system *system, const char *folder);

/* Removes the states of agents, once one state has been made of them. */
void clean_agents(const struct system *system, const char *folder);

#endif
