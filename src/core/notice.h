/* Says on standard error that long work goes on: what was done of it, and how long the rest will take. */
#ifndef CAIRN_CORE_NOTICE_H
#define CAIRN_CORE_NOTICE_H

#include "src/core/context.h"

/* On a terminal a line a second, over the one before; elsewhere one every ten. Work that ends sooner says nothing. */
struct notice {
    const struct context *context; /* one that is quiet says nothing */
    const char *what;              /* "planning" */
    const char *unit;              /* "meshes" */
    bool terminal;
    bool open; /* a line on the terminal waits to be overwritten */
    double began, told;
};

/* `what` and `unit` outlive the notice. */
void notice_begin(struct notice *notice, const struct context *context, const char *what, const char *unit);

/* `done` of `all`; 0 for all: nobody knows how many there will be. */
void notice_show(struct notice *notice, double done, double all);

/* Removes what stands on the terminal, before something else is printed. */
void notice_end(struct notice *notice);

#endif
