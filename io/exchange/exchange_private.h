/* What the files of this room share. */
#ifndef CAIRN_IO_EXCHANGE_PRIVATE_H
#define CAIRN_IO_EXCHANGE_PRIVATE_H

#include <jansson.h>

#include "io/exchange/exchange.h"

/* modeling_cairn.py (io/exchange/python), as the build found it. */
extern const char exchange_modeling[];

/* Bytes of an element. */
static inline int64_t exchange_size(enum exchange_type type)
{
    return type == EXCHANGE_F32 ? 4 : 2;
}

/* "[2, 3]" */
const char *exchange_shape_text(const int64_t *shape, int rank, char text[EXCHANGE_NAME]);

/* A part of a tensor, seen as lines of contiguous elements in the file and as a matrix in memory. */
struct exchange_plane {
    int64_t begin;      /* first element in the tensor */
    int64_t lines;      /* in the file */
    int64_t length;     /* elements of a line */
    int64_t pitch;      /* from line to line in the file, elements */
    int64_t memory;     /* first element in memory */
    int64_t line_step;  /* from line to line in memory */
    int64_t value_step; /* within a line in memory */
};

typedef enum status (*exchange_visit_plane)(void *self, const struct exchange_plane *plane) MUST_USE;

/* Cuts a box of an array into planes of the tensor of its place. Visits until one fails. */
enum status exchange_planes(const struct exchange_place *place, const struct state_array *array, const struct box *box,
                            exchange_visit_plane visit, void *self) MUST_USE;

/* A whole read at a place of a file; false with errno, which is 0 where the file ends. */
bool exchange_read_at(int descriptor, void *data, int64_t bytes, int64_t at);

#endif
