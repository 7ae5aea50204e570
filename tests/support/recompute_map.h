/* Recomputation of a function of one tensor. */
#ifndef CAIRN_TESTS_RECOMPUTE_MAP_H
#define CAIRN_TESTS_RECOMPUTE_MAP_H

#include <string.h>

#include "src/tensor/tape.h"

typedef struct tensor *(*tape_map)(struct tape *tape, void *argument, struct tensor *input);

struct map_call {
    tape_map map;
    void *argument;
};

static inline bool run_map(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    const struct map_call *call = argument;
    outputs[0] = call->map(tape, call->argument, inputs[0]);
    return outputs[0] != NULL;
}

static inline struct tensor *tape_recompute_map(struct tape *tape, tape_map map, const void *argument, size_t bytes,
                                                struct tensor *input)
{
    struct tensor *output = NULL;
    void *copy = input ? tape_save(tape, bytes) : NULL;
    if (!copy)
        return NULL;
    if (bytes)
        memcpy(copy, argument, bytes);
    struct map_call call = {.map = map, .argument = copy};
    (void)tape_recompute(tape, run_map, &call, sizeof call, &input, 1, &output, 1);
    return output;
}

#endif
