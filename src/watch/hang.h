/* What is known of the ranks when nothing moves any more, and what follows from it: which rank the others wait for.
 *
 * Ranks of a communicator call its collectives in the same order, so each counts them. A rank whose count is lower
 * than the number in which others wait has not come there yet, or has left one out. */
#ifndef CAIRN_WATCH_HANG_H
#define CAIRN_WATCH_HANG_H

#include "dist/mesh/events.h"
#include "src/watch/hosts.h"

enum { HANG_EVENTS = 64 };

/* A rank as it sees itself. */
struct hang_state {
    bool present; /* it has told of itself; without that nothing else is known */
    int64_t pid;
    bool files;   /* it waits for a file system */
    double still; /* seconds since it last did anything that another thread can see */
    struct location place;
    int64_t begun[MESH_AXES]; /* number of the last collective that it began on each axis; 0: none */
    struct mesh_event waits;  /* where it waits inside of MPI; number 0: nowhere */
    struct mesh_event events[HANG_EVENTS];
    int event_count;
};

/* Of this rank, apart from `still`. To be called by any thread. */
void hang_observe(const struct context *context, const struct mesh *mesh, struct hang_state *state);

/* FOLDER/rank-NNNNN.json, in `path`. */
const char *hang_path(const char *folder, int rank, char *path, size_t size);

/* The state as a JSON file, written under another name first, and back. False if that fails. */
bool hang_write(const char *folder, int rank, const char *host, const struct hang_state *state);
bool hang_read(const char *folder, int rank, struct hang_state *state);

/* All ranks; states [ranks]. */
struct hang {
    const struct mesh_config *mesh;
    const struct hosts *hosts;
    const struct hang_state *states;
};

/* Marks the ranks that hold the others up; culprits [ranks]. Returns their number, 0 if nothing can be said. */
int hang_culprits(const struct hang *hang, bool *culprits);

/* Who is behind and where, and where the others wait, in parts that end with "; ". scratch [2 ranks]. */
void hang_describe(const struct hang *hang, const bool *culprits, bool *scratch, char *to, size_t size);

#endif
