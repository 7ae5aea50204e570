#include "io/checkpoint/staging.h"

#include <string.h>

/* Copies of pieces follow one another; returns the elements of all of them. */
static int64_t place_copies(struct staging *staging)
{
    int64_t used = 0;
    for (int i = 0; i < staging->count; i++)
        for (int p = 0; p < staging->arrays[i].piece_count; p++) {
            struct state_piece *piece = &staging->arrays[i].pieces[p];
            if (!piece->values)
                continue;
            if (staging->values)
                piece->data = staging->values + used;
            used += box_count(&piece->box, staging->arrays[i].rank);
        }
    return used;
}

enum status staging_create(struct context *context, const struct state_array *arrays, int count, const bool *left_out,
                           struct staging *staging)
{
    size_t pieces = 0;
    *staging = (struct staging){0};
    for (int i = 0; i < count; i++)
        pieces += (size_t)arrays[i].piece_count;
    staging->arrays = memory_allocate(context, (size_t)count * sizeof *staging->arrays, MEMORY_OTHER);
    staging->pieces = memory_allocate(context, pieces * sizeof *staging->pieces, MEMORY_OTHER);
    if (!staging->arrays || !staging->pieces)
        return STATUS_MEMORY;
    struct state_piece *next = staging->pieces;
    for (int i = 0; i < count; i++) {
        if (left_out && left_out[i])
            continue;
        struct state_array *array = &staging->arrays[staging->count++];
        *array = arrays[i];
        array->pieces = next;
        for (int p = 0; p < array->piece_count; p++)
            *next++ = arrays[i].pieces[p];
    }
    int64_t elements = place_copies(staging);
    if (elements == 0)
        return STATUS_OK;
    staging->values = memory_allocate(context, (size_t)elements * sizeof *staging->values, MEMORY_BUFFERS);
    if (!staging->values)
        return STATUS_MEMORY;
    (void)place_copies(staging);
    return STATUS_OK;
}

void staging_destroy(struct context *context, struct staging *staging)
{
    memory_free(context, staging->arrays);
    memory_free(context, staging->pieces);
    memory_free(context, staging->values);
    *staging = (struct staging){0};
}

static void copy(const struct staging *staging, bool fill)
{
    for (int i = 0; i < staging->count; i++)
        for (int p = 0; p < staging->arrays[i].piece_count; p++) {
            const struct state_piece *piece = &staging->arrays[i].pieces[p];
            int64_t count = piece->values ? box_count(&piece->box, staging->arrays[i].rank) : 0;
            for (int64_t e = 0; e < count; e++)
                if (fill)
                    piece->data[e] = bf16_to_float(piece->values[e]);
                else
                    piece->values[e] = bf16_from_float(piece->data[e]);
        }
}

void staging_fill(const struct staging *staging)
{
    copy(staging, true);
}

void staging_take(const struct staging *staging)
{
    copy(staging, false);
}
