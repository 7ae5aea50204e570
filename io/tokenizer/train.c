/* Learns the merges of a BPE of bytes: the commonest pair of neighbours becomes a token, again and again; of pairs that
 * are as common the one of smaller ids. In the order of work of the tokenizers library, whose merges come out: also
 * where two merges make the same token, so that a pair may come up twice.
 *
 * A heap holds pairs with the words in which they arose. Its counts may be out of date, as merges beside a pair take
 * occurrences away; one that is goes back with its true count. */
#include <string.h>

#include "io/tokenizer/heap_private.h"
#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

/* A pair's occurrences in all words, and which of this step's gains is its own. */
struct pair_state {
    uint64_t key; /* PAIR_FREE: none */
    int64_t times;
    int64_t gain; /* -1: none */
};

struct candidate {
    int64_t times;
    uint64_t key;
    int32_t *words; /* owned */
    int64_t count, room;
};

struct training {
    struct context *context;
    const struct counted *pieces;
    int64_t word_count;
    int64_t *begin; /* [word_count] of their symbols */
    int32_t *length;
    int32_t *symbols;
    struct pair_state *pairs;
    int64_t pair_count, pair_room;
    struct candidate *heap, *gains;
    int64_t heap_count, heap_room, gain_count, gain_room;
    struct bytes joined;
    struct vocabulary *vocabulary;
    struct token_list *merges;
};

/* -- Pairs -- */

static int64_t state_of(const struct training *training, uint64_t key)
{
    uint64_t mask = (uint64_t)training->pair_room - 1;
    uint64_t i = pair_hash(key) & mask;
    while (training->pairs[i].key != key && training->pairs[i].key != PAIR_FREE)
        i = (i + 1) & mask;
    return (int64_t)i;
}

static enum status spread(struct training *training)
{
    struct pair_state *old = training->pairs;
    int64_t old_room = training->pair_room;
    int64_t room = old_room > 0 ? 2 * old_room : 1 << 16;
    training->pairs = memory_allocate(training->context, (size_t)room * sizeof *old, MEMORY_OTHER);
    if (!training->pairs) {
        training->pairs = old;
        return STATUS_MEMORY;
    }
    training->pair_room = room;
    for (int64_t i = 0; i < room; i++)
        training->pairs[i].key = PAIR_FREE;
    for (int64_t i = 0; i < old_room; i++)
        if (old[i].key != PAIR_FREE)
            training->pairs[state_of(training, old[i].key)] = old[i];
    memory_free(training->context, old);
    return STATUS_OK;
}

/* Occurrences that come or go in a word. */
static enum status change(struct training *training, int32_t left, int32_t right, int64_t times, int32_t word)
{
    uint64_t key = pair_key(left, right);
    if (2 * (training->pair_count + 1) > training->pair_room)
        CHECK(spread(training));
    struct pair_state *state = &training->pairs[state_of(training, key)];
    if (state->key == PAIR_FREE) {
        *state = (struct pair_state){.key = key, .gain = -1};
        training->pair_count++;
    }
    state->times += times;
    if (times < 0)
        return STATUS_OK;
    if (state->gain < 0) {
        CHECK(array_grow(training->context, &training->gains, training->gain_count, &training->gain_room,
                         training->gain_count + 1, sizeof *training->gains));
        state->gain = training->gain_count++;
        training->gains[state->gain] = (struct candidate){.key = key};
    }
    struct candidate *gain = &training->gains[state->gain];
    if (gain->count > 0 && gain->words[gain->count - 1] == word)
        return STATUS_OK;
    CHECK(array_grow(training->context, &gain->words, gain->count, &gain->room, gain->count + 1, sizeof *gain->words));
    gain->words[gain->count++] = word;
    return STATUS_OK;
}

/* -- The heap -- */

static bool comes_before(const void *first, const void *second)
{
    const struct candidate *a = first;
    const struct candidate *b = second;
    return a->times != b->times ? a->times > b->times : a->key < b->key;
}

static enum status push(struct training *training, const struct candidate *candidate)
{
    int64_t count = training->heap_count;
    CHECK(array_grow(training->context, &training->heap, count, &training->heap_room, count + 1, sizeof *candidate));
    heap_push(training->heap, sizeof *candidate, training->heap_count++, candidate, comes_before);
    return STATUS_OK;
}

/* What this step has brought becomes candidates. */
static enum status take_gains(struct training *training)
{
    for (int64_t i = 0; i < training->gain_count; i++) {
        struct candidate *gain = &training->gains[i];
        struct pair_state *state = &training->pairs[state_of(training, gain->key)];
        state->gain = -1;
        gain->times = state->times;
        if (gain->times > 0)
            CHECK(push(training, gain));
        else
            memory_free(training->context, gain->words);
        *gain = (struct candidate){0};
    }
    training->gain_count = 0;
    return STATUS_OK;
}

/* -- Steps -- */

static enum status merge_word(struct training *training, int32_t word, int32_t left, int32_t right, int32_t joined)
{
    int32_t *symbols = training->symbols + training->begin[word];
    int64_t times = training->pieces[word].times;
    int32_t count = training->length[word];
    int32_t kept = 0; /* symbols of the word as it becomes */
    for (int32_t i = 0; i < count; i++) {
        bool here = symbols[i] == left && i + 1 < count && symbols[i + 1] == right;
        if (here && kept > 0) {
            CHECK(change(training, symbols[kept - 1], left, -times, word));
            CHECK(change(training, symbols[kept - 1], joined, times, word));
        }
        if (here && i + 2 < count) {
            CHECK(change(training, right, symbols[i + 2], -times, word));
            CHECK(change(training, joined, symbols[i + 2], times, word));
        }
        symbols[kept++] = here ? joined : symbols[i];
        i += here;
    }
    training->length[word] = kept;
    return STATUS_OK;
}

/* The token that a pair becomes, which another pair may have made before. */
static enum status join(struct training *training, int32_t left, int32_t right, int32_t *joined)
{
    struct vocabulary *vocabulary = training->vocabulary;
    struct bytes *text = &training->joined;
    const int32_t sides[] = {left, right};
    bool added;
    text->count = 0;
    for (int i = 0; i < 2; i++) {
        int64_t length = 0;
        const char *side = vocabulary_text(vocabulary, sides[i], &length);
        CHECK(bytes_add(text, side, length));
    }
    *joined = vocabulary_find(vocabulary, text->data, text->count);
    if (*joined < 0) {
        *joined = (int32_t)vocabulary->size;
        CHECK(vocabulary_add(vocabulary, *joined, text->data, text->count, &added));
    }
    return token_list_add(training->context, training->merges, (const int32_t[]){left, right, *joined}, 3);
}

static enum status learn(struct training *training, int64_t size, int64_t least)
{
    while (training->vocabulary->size < size && training->heap_count > 0) {
        struct candidate top;
        heap_pop(training->heap, sizeof top, training->heap_count--, &top, comes_before);
        int64_t times = training->pairs[state_of(training, top.key)].times;
        int32_t left = (int32_t)(top.key >> 32);
        int32_t right = (int32_t)(top.key & 0xffffffff);
        int32_t joined = -1;
        if (times != top.times) {
            top.times = times;
            enum status status = push(training, &top);
            if (status != STATUS_OK)
                memory_free(training->context, top.words);
            CHECK(status);
            continue;
        }
        bool enough = times >= 1 && times >= least;
        enum status status = enough ? join(training, left, right, &joined) : STATUS_OK;
        for (int64_t i = 0; enough && status == STATUS_OK && i < top.count; i++)
            status = merge_word(training, top.words[i], left, right, joined);
        memory_free(training->context, top.words);
        CHECK(status);
        if (!enough)
            return STATUS_OK;
        CHECK(take_gains(training));
    }
    return STATUS_OK;
}

/* Words of single bytes, and all pairs in them. */
static enum status begin(struct training *training, const struct piece_counts *counts, const int32_t byte_ids[256])
{
    const char *text;
    int64_t symbols = 0;
    training->pieces = piece_counts_list(counts, &text);
    size_t words = (size_t)(training->word_count = piece_counts_size(counts));
    for (size_t i = 0; i < words; i++)
        symbols += training->pieces[i].length;
    training->begin = memory_allocate(training->context, words * sizeof *training->begin, MEMORY_OTHER);
    training->length = memory_allocate(training->context, words * sizeof *training->length, MEMORY_OTHER);
    training->symbols = memory_allocate(training->context, (size_t)symbols * sizeof *training->symbols, MEMORY_OTHER);
    if (!training->begin || !training->length || !training->symbols)
        return STATUS_MEMORY;
    symbols = 0;
    for (int32_t word = 0; word < training->word_count; word++) {
        const struct counted *piece = &training->pieces[word];
        int32_t *own = training->symbols + symbols;
        training->begin[word] = symbols;
        training->length[word] = piece->length;
        for (int32_t i = 0; i < piece->length; i++)
            own[i] = byte_ids[(unsigned char)text[piece->begin + i]];
        for (int32_t i = 0; i + 1 < piece->length; i++)
            CHECK(change(training, own[i], own[i + 1], piece->times, word));
        symbols += piece->length;
    }
    return take_gains(training);
}

enum status merges_learn(struct context *context, const struct piece_counts *counts, int64_t size, int64_t least,
                         const int32_t byte_ids[256], struct vocabulary *vocabulary, struct token_list *merges)
{
    struct training training = {
        .context = context, .joined = {.context = context}, .vocabulary = vocabulary, .merges = merges};
    enum status status = spread(&training);
    if (status == STATUS_OK)
        status = begin(&training, counts, byte_ids);
    if (status == STATUS_OK)
        status = learn(&training, size, least);
    for (int64_t i = 0; i < training.heap_count; i++)
        memory_free(context, training.heap[i].words);
    for (int64_t i = 0; i < training.gain_count; i++)
        memory_free(context, training.gains[i].words);
    void *owned[] = {training.begin, training.length, training.symbols, training.pairs, training.heap, training.gains};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    bytes_release(&training.joined);
    return status;
}
