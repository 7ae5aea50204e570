/* The arrays that visits name, one after the other: what a checkpoint is written from and read into. */
#ifndef CAIRN_SESSION_STATE_LIST_H
#define CAIRN_SESSION_STATE_LIST_H

#include "src/tensor/state.h"

struct state_list {
    struct context *context;
    struct state_array *arrays;
    struct state_piece *pieces; /* of all arrays, one behind the other */
    int count, room;
    int piece_count, piece_room;
};

/* A visitor that appends to the list, which is {.context = ...} at first. */
struct state_visitor state_list_visitor(struct state_list *list, bool writes);

/* After the last visit: arrays point to their pieces. */
void state_list_settle(struct state_list *list);

void state_list_destroy(struct state_list *list);

#endif
