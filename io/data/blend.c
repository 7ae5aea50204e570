/* Several corpora in fixed shares: each sequence comes from the one that is furthest behind its share, the first among
 * equals (build_blending_indices in Megatron-LM's megatron/core/datasets/helpers.cpp). */
#include "io/data/corpus_files.h"

#include <string.h>

enum status blend_create(struct context *context, const double *weights, int count, struct blend *blend)
{
    double sum = 0.0;
    *blend = (struct blend){.context = context, .count = count};
    blend->weights = memory_allocate(context, (size_t)count * sizeof *blend->weights, MEMORY_OTHER);
    blend->taken = memory_allocate(context, (size_t)count * sizeof *blend->taken, MEMORY_OTHER);
    if (!blend->weights || !blend->taken)
        return STATUS_MEMORY;
    for (int i = 0; i < count; i++)
        sum += weights[i];
    for (int i = 0; i < count; i++)
        blend->weights[i] = weights[i] / sum;
    return STATUS_OK;
}

void blend_destroy(struct blend *blend)
{
    if (!blend->context)
        return;
    memory_free(blend->context, blend->weights);
    memory_free(blend->context, blend->taken);
    *blend = (struct blend){0};
}

static int next_of(const struct blend *blend)
{
    double so_far = blend->next > 1 ? (double)blend->next : 1.0;
    int chosen = 0;
    double most = blend->weights[0] * so_far - (double)blend->taken[0];
    for (int i = 1; i < blend->count; i++) {
        double behind = blend->weights[i] * so_far - (double)blend->taken[i];
        if (behind > most) {
            most = behind;
            chosen = i;
        }
    }
    return chosen;
}

int blend_at(struct blend *blend, int64_t index, int64_t *place)
{
    int chosen = 0;
    if (index < blend->next) {
        memset(blend->taken, 0, (size_t)blend->count * sizeof *blend->taken);
        blend->next = 0;
    }
    do {
        chosen = next_of(blend);
        *place = blend->taken[chosen]++;
    } while (blend->next++ < index);
    return chosen;
}
