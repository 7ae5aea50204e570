/* The passkey task (io/passkey/passkey.h): how often a model gives back a number that it read long ago. */
#ifndef CAIRN_GENERATE_PASSKEY_H
#define CAIRN_GENERATE_PASSKEY_H

#include "io/passkey/passkey.h"
#include "src/session/session.h"

struct passkey_score {
    int64_t samples;
    int64_t right;        /* samples with every digit right */
    int64_t right_digits; /* of samples * digits */
    int64_t tokens;       /* read and drawn */
    double seconds;
};

/* The task's first `samples` samples: their prompts go through the model, and the answers are drawn greedily. At most
 * `rows` side by side, fewer when they are long. The model must be one of bytes. Collective. */
enum status passkey_evaluate(struct session *session, const struct passkey_task *task, int64_t samples, int64_t rows,
                             bool memory_off, struct passkey_score *score) MUST_USE;

#endif
