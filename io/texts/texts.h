/* Texts with labels: a file of lines, each a label (0, 1, 2, ...), a tab, and the text, whose bytes are the tokens. */
#ifndef CAIRN_IO_TEXTS_H
#define CAIRN_IO_TEXTS_H

#include "src/core/context.h"

struct texts;

/* The whole file is kept in memory. FILE error that names the line. To be closed whatever comes back. Local. */
enum status texts_open(struct context *context, const char *path, struct texts **texts) MUST_USE;
void texts_close(struct texts **texts);

int64_t texts_count(const struct texts *texts);
int64_t texts_classes(const struct texts *texts); /* one more than the largest label */
int64_t texts_bytes(const struct texts *texts);   /* of all texts */

/* Text number `index`, not terminated: its bytes, how many, and its label. */
const unsigned char *texts_at(const struct texts *texts, int64_t index, int64_t *length, int32_t *label);

#endif
