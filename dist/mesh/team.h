/* Teams: groups of ranks that work on something together and know of nobody else. The outermost one is all ranks that
 * were started; others are parts of a team. A mesh spans a team, and an error that a team agrees on is its own: only
 * what the outermost team returns ends the program.
 *
 * Functions marked collective are called by all ranks of the team. A failure inside MPI ends the job. */
#ifndef CAIRN_DIST_MESH_TEAM_H
#define CAIRN_DIST_MESH_TEAM_H

#include "src/core/context.h"

struct team;

/* The MPI library that runs, in its own words. Needs no MPI that has begun. */
void team_library_version(char *text, size_t size);

/* Starts MPI (once a process): the outermost team. Collective over all ranks of the job. */
enum status team_start(struct context *context, int *argc, char ***argv, struct team **team) MUST_USE;

/* A team of this process alone, which may do without MPI. */
enum status team_alone(struct context *context, struct team **team) MUST_USE;

/* Divides a team: ranks of the same color make a new one, in their order. A rank whose color is negative belongs to
 * none and gets NULL. The parent must outlive it. Collective over the parent; agreed. */
enum status team_create(struct context *context, struct team *parent, int color, struct team **team) MUST_USE;

/* Collective; with the outermost team MPI ends, after all ranks have arrived here. */
void team_destroy(struct team **team);

/* Ends the whole job at once from a single rank, whatever its team, with this exit status. */
void team_abort(int code);

int team_size(const struct team *team);
int team_rank(const struct team *team);

/* Collective. Every rank brings its status; if any failed, all return the status of the lowest rank that did, with its
 * text in their context, marked as agreed. */
enum status team_agree(const struct team *team, struct context *context, enum status status) MUST_USE;

/* Whether all ranks have the same text, which is lines of "NAME: VALUE". If not, a USAGE error on all of them that
 * names the first line in which they differ, and where. Collective; agreed. */
enum status team_same(const struct team *team, struct context *context, const char *text) MUST_USE;

/* The same for the size and a sample of a file that all ranks read, as `what`. */
enum status team_same_file(const struct team *team, struct context *context, const char *what,
                           const char *path) MUST_USE;

#endif
