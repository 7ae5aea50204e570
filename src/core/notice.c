#include "src/core/notice.h"

#include <stdio.h>
#include <unistd.h>

#include "src/core/text.h"

void notice_begin(struct notice *notice, const struct context *context, const char *what, const char *unit)
{
    double now = clock_seconds();
    *notice = (struct notice){.context = context,
                              .what = what,
                              .unit = unit,
                              .terminal = isatty(STDERR_FILENO) == 1,
                              .began = now,
                              .told = now};
}

void notice_show(struct notice *notice, double done, double all)
{
    double now = clock_seconds();
    char left[48] = "";
    char time[32];
    if (notice->context->quiet || now - notice->told < (notice->terminal ? 1.0 : 10.0))
        return;
    notice->told = now;
    if (done > 0.0 && all > 0.0) {
        text_from_duration((now - notice->began) / done * (all - done), time, sizeof time);
        snprintf(left, sizeof left, ", %s left", time);
    }
    fputs(notice->terminal ? "\r\x1b[K" : "", stderr);
    if (all > 0.0)
        fprintf(stderr, "%s: %.0f of %.0f %s%s", notice->what, done, all, notice->unit, left);
    else
        fprintf(stderr, "%s: %.0f %s so far", notice->what, done, notice->unit);
    fputs(notice->terminal ? "" : "\n", stderr);
    fflush(stderr);
    notice->open = notice->terminal;
}

void notice_end(struct notice *notice)
{
    if (notice->open)
        fputs("\r\x1b[K", stderr);
    notice->open = false;
}
