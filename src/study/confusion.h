/* What a classifier takes for what, for the page of a run. */
#ifndef CAIRN_STUDY_CONFUSION_H
#define CAIRN_STUDY_CONFUSION_H

#include "io/report/report.h"

/* Adds what RUN/confusion.csv says: all of it where there are few classes, and the most frequent mistakes. Nothing
 * where there is no such file, or it cannot be read. */
enum status confusion_show(struct context *context, const char *run, const char *name,
                           struct report_page *page) MUST_USE;

#endif
