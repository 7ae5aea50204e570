/* Pairs of tokens that merge: by both ids. */
#include "io/tokenizer/tokenizer_private.h"

enum status pair_table_create(struct context *context, int64_t count, struct pair_table *table)
{
    int64_t room = 16;
    while (room < 2 * count)
        room *= 2;
    *table = (struct pair_table){.context = context, .room = room};
    table->pairs = memory_allocate(context, (size_t)room * sizeof *table->pairs, MEMORY_OTHER);
    if (!table->pairs)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < room; i++)
        table->pairs[i].key = PAIR_FREE;
    return STATUS_OK;
}

void pair_table_set(struct pair_table *table, int32_t left, int32_t right, int32_t rank, int32_t joined)
{
    uint64_t key = pair_key(left, right);
    uint64_t mask = (uint64_t)table->room - 1;
    uint64_t i = pair_hash(key) & mask;
    while (table->pairs[i].key != key && table->pairs[i].key != PAIR_FREE)
        i = (i + 1) & mask;
    table->count += table->pairs[i].key == PAIR_FREE;
    table->pairs[i] = (struct pair){.key = key, .rank = rank, .joined = joined};
}

void pair_table_release(struct pair_table *table)
{
    if (table->pairs)
        memory_free(table->context, table->pairs);
    *table = (struct pair_table){0};
}
