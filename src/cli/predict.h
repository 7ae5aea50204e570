/* What a classifier says of images that are named one by one, to standard output. */
#ifndef CAIRN_CLI_PREDICT_H
#define CAIRN_CLI_PREDICT_H

#include "src/session/session.h"
#include "src/train/image_facts.h"

struct predictions {
    const struct image_facts *facts;
    const char **image; /* [count] paths */
    int count;
    int64_t top; /* classes of each */
    bool json;
};

/* Rows of the batch of a session that is to look at so many images. */
int64_t predict_rows(int count);

/* Collective over the session's mesh; agreed status. */
enum status predict_images(struct session *session, const struct predictions *wanted) MUST_USE;

#endif
