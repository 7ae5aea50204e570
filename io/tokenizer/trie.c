/* A tree of texts by their bytes. */
#include "io/tokenizer/tokenizer_private.h"

int32_t trie_step(const struct trie *trie, int32_t node, unsigned char byte)
{
    if (node == 0)
        return trie->first[byte];
    int32_t child = trie->nodes[node].child;
    while (child != 0 && trie->nodes[child].byte != byte)
        child = trie->nodes[child].sibling;
    return child;
}

static enum status add_child(struct trie *trie, int32_t node, unsigned char byte, int32_t *child)
{
    int64_t used = trie->count;
    CHECK(array_grow(trie->context, &trie->nodes, used, &trie->room, used + 1, sizeof *trie->nodes));
    *child = (int32_t)trie->count++;
    trie->nodes[*child] = (struct trie_node){.id = -1, .byte = byte, .sibling = node ? trie->nodes[node].child : 0};
    if (node == 0)
        trie->first[byte] = *child;
    else
        trie->nodes[node].child = *child;
    return STATUS_OK;
}

enum status trie_add(struct trie *trie, const char *text, int64_t length, int32_t id)
{
    int32_t node = 0;
    if (trie->count == 0) {
        CHECK(array_grow(trie->context, &trie->nodes, 0, &trie->room, 1, sizeof *trie->nodes));
        trie->nodes[trie->count++] = (struct trie_node){.id = -1};
    }
    for (int64_t i = 0; i < length; i++) {
        int32_t next = trie_step(trie, node, (unsigned char)text[i]);
        if (next == 0)
            CHECK(add_child(trie, node, (unsigned char)text[i], &next));
        node = next;
    }
    trie->nodes[node].id = id;
    return STATUS_OK;
}

void trie_release(struct trie *trie)
{
    memory_free(trie->context, trie->nodes);
    *trie = (struct trie){.context = trie->context};
}
