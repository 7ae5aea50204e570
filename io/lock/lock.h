/* RUN/lock: one job at a time writes into the folder of a run. Taken by one rank, for all.
 *
 * The file names its owner: host, process, job. It is made under another name and linked to its own, which is atomic on
 * shared file systems too, and needs no locks of the file system. While the owner lives it touches the file. Somebody
 * else takes it over when the owner is dead for certain (its process is gone from the same machine, or it was an
 * earlier start of the same Slurm job), or has given no sign of life for `silent` seconds by the clock of who watches;
 * an owner that was only cut off finds out by its next sign of life. */
#ifndef CAIRN_IO_LOCK_H
#define CAIRN_IO_LOCK_H

#include "src/core/context.h"

struct lock;

/* In seconds. */
struct lock_tuning {
    double beat;     /* between two signs of life */
    double silent;   /* without one an owner elsewhere is dead; several beats */
    double patience; /* for the end of an owner on the same machine, which may be about to end */
};

/* Takes FOLDER/lock, which may take `silent` seconds. USAGE error that names the owner and what to do if it lives. On a
 * disk with no room for the file it is done without one, *lock is NULL, and the log says so. Local. */
enum status lock_take(struct context *context, const char *folder, struct lock **lock) MUST_USE;
enum status lock_take_tuned(struct context *context, const char *folder, const struct lock_tuning *tuning,
                            struct lock **lock) MUST_USE;

/* Whether somebody else has taken it over: no more may be written. Does not wait; false for NULL. */
bool lock_lost(const struct lock *lock);

/* FILE error that names the new owner if it is lost. */
enum status lock_check(struct context *context, const struct lock *lock) MUST_USE;

/* Removes the file unless it belongs to somebody else. */
void lock_release(struct lock **lock);

#endif
