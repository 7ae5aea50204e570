/* The parameters of a list that this rank holds, in its order. */
#ifndef CAIRN_TESTS_HELD_H
#define CAIRN_TESTS_HELD_H

#include "src/tensor/parameter.h"

static inline int held_count(const struct parameter_list *list)
{
    int count = 0;
    for (int i = 0; i < list->count; i++)
        count += list->item[i]->here;
    return count;
}

static inline struct parameter *held(const struct parameter_list *list, int index)
{
    int i = 0;
    while (!list->item[i]->here || index-- > 0)
        i++;
    return list->item[i];
}

#endif
