/* The smallest family of models: y = W2 gelu(W1 x + b), mean squared error; over data ranks, and two pipeline stages.
 * It counts its rows in a buffer. */
#ifndef CAIRN_TESTS_TOY_H
#define CAIRN_TESTS_TOY_H

#include "src/model/model.h"

enum { TOY_IN = 3, TOY_OUT = 2 };

/* model.hidden is the inner width. A batch has the fields x [TOY_IN] and y [TOY_OUT]. */
extern const struct model_ops toy_ops;

#endif
