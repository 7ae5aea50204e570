/* Who owns a lock: what its file says, and whether that process still runs. */
#ifndef CAIRN_IO_LOCK_OWNER_H
#define CAIRN_IO_LOCK_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OWNER_WORD = 80, OWNER_TEXT = 1024 };

struct owner {
    int64_t pid;  /* 0: the file does not tell */
    int64_t born; /* of the process, in ticks since the machine was started: a number that was used before
                     belongs to another process; -1: not known */
    double since; /* Unix seconds */
    char host[OWNER_WORD];
    char boot[OWNER_WORD];      /* of the machine since it was started */
    char processes[OWNER_WORD]; /* the name space in which the number of the process counts */
    char job[OWNER_WORD];       /* of Slurm, with its cluster; empty: none */
    char restarts[OWNER_WORD];  /* of the job */
};

/* This process. */
void owner_self(struct owner *owner);

/* One line; empty if memory is out. Returns its length. */
size_t owner_write(const struct owner *owner, char text[OWNER_TEXT]);

/* What cannot be read leaves an owner without a process. */
void owner_read(const char *text, size_t length, struct owner *owner);

/* "process 12 on host a (job 7), since 2025-01-31 12:00:00" */
void owner_describe(const struct owner *owner, char *text, size_t size);

bool owner_same(const struct owner *a, const struct owner *b);

enum owner_state { OWNER_LIVES, OWNER_DEAD, OWNER_UNKNOWN };

/* What `self` can say for certain. */
enum owner_state owner_ask(const struct owner *owner, const struct owner *self);

#endif
