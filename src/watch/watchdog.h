/* A thread beside the one that trains, which notices when nothing moves any more on any rank.
 *
 * A rank moves when it begins a communication or comes to another place of its program (src/core/location.h). One that
 * has not moved for so many seconds writes what it knows into FOLDER/hang, and so do all others that see the folder, so
 * that those who are missing there are the ones that stopped or died. The lowest rank that wrote reads it all. If any
 * rank still moves, or has waited for its disk for less than ten times as long, somebody is slow: that is said, and the
 * watch begins anew. Otherwise it prints who is behind and
 * where the others wait, and ends the job with status 85, to be started again.
 *
 * The thread makes no call of MPI but the one that ends the job, and writes nothing while all is well. */
#ifndef CAIRN_WATCH_WATCHDOG_H
#define CAIRN_WATCH_WATCHDOG_H

#include "src/watch/hosts.h"

enum { WATCHDOG_STATUS = 85 };

struct watchdog;

/* `folder` is seen by all ranks; what an earlier hang left in it goes. Without a thread if seconds is 0. Collective
 * over the team; agreed status. context is the one that the thread that trains works with; hosts must outlive it. */
enum status watchdog_start(struct context *context, struct mesh *mesh, const struct hosts *hosts, const char *folder,
                           double seconds, struct watchdog **watchdog) MUST_USE;

/* Waits for the thread to end. Local. */
void watchdog_stop(struct watchdog **watchdog);

#endif
