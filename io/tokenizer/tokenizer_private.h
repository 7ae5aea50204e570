/* Inside io/tokenizer: the tables of a tokenizer, and the steps of encoding. */
#ifndef CAIRN_IO_TOKENIZER_PRIVATE_H
#define CAIRN_IO_TOKENIZER_PRIVATE_H

#include "io/json/json.h"
#include "io/tokenizer/tokenizer.h"

/* -- Texts by number (vocabulary.c) -- */

struct text_span {
    int64_t begin;
    int32_t length; /* -1: there is none */
};

struct vocabulary {
    struct context *context;
    struct bytes text;
    struct text_span *spans; /* [room], by id */
    int64_t size, room;
    int32_t *slots; /* ids by hash; -1 is free */
    int64_t slot_count, used;
};

void vocabulary_create(struct context *context, struct vocabulary *vocabulary);
void vocabulary_release(struct vocabulary *vocabulary);

/* *added is false where the id or the text is taken. The id must be in 0 .. TOKENIZER_LARGEST_ID. */
enum status vocabulary_add(struct vocabulary *vocabulary, int64_t id, const char *text, int64_t length,
                           bool *added) MUST_USE;
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, int64_t length);
const char *vocabulary_text(const struct vocabulary *vocabulary, int64_t id, int64_t *length);

/* -- Pairs that merge (pairs.c) -- */

struct pair {
    uint64_t key; /* left << 32 | right; PAIR_FREE: none */
    int32_t rank, joined;
};

#define PAIR_FREE UINT64_MAX

struct pair_table {
    struct context *context;
    struct pair *pairs;
    int64_t room, count;
};

static inline uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline uint64_t pair_hash(uint64_t key)
{
    key *= UINT64_C(0x9e3779b97f4a7c15);
    return key ^ key >> 29;
}

enum status pair_table_create(struct context *context, int64_t count, struct pair_table *table) MUST_USE;
void pair_table_set(struct pair_table *table, int32_t left, int32_t right, int32_t rank, int32_t joined);
void pair_table_release(struct pair_table *table);

static inline const struct pair *pair_find(const struct pair_table *table, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right);
    uint64_t mask = (uint64_t)table->room - 1;
    for (uint64_t i = pair_hash(key) & mask;; i = (i + 1) & mask) {
        if (table->pairs[i].key == key)
            return &table->pairs[i];
        if (table->pairs[i].key == PAIR_FREE)
            return NULL;
    }
}

/* -- Texts that a text begins with (trie.c) -- */

struct trie_node {
    int32_t child, sibling, id; /* 0: none; -1: no text ends here */
    unsigned char byte;
};

struct trie {
    struct context *context;
    struct trie_node *nodes; /* 0 is the root */
    int64_t count, room;
    int32_t first[256]; /* children of the root */
};

enum status trie_add(struct trie *trie, const char *text, int64_t length, int32_t id) MUST_USE;
void trie_release(struct trie *trie);

/* The node behind another by a byte; 0: none. */
int32_t trie_step(const struct trie *trie, int32_t node, unsigned char byte);

/* -- Regular expressions (pattern.c) -- */

struct pattern;

/* An expression as Oniguruma reads it, or a plain text. */
enum status pattern_create(struct context *context, const char *name, const char *text, int64_t length, bool plain,
                           struct pattern **pattern) MUST_USE;
/* As it was written. */
const char *pattern_text(const struct pattern *pattern);
void pattern_destroy(struct context *context, struct pattern **pattern);

/* The pattern's state of one user. */
struct pattern_state;
enum status pattern_state_create(struct context *context, const struct pattern *pattern,
                                 struct pattern_state **state) MUST_USE;
void pattern_state_destroy(struct context *context, struct pattern_state **state);

struct match {
    int64_t begin, end;
    int64_t next;     /* where the search for the next one begins */
    int64_t last_end; /* of the one before; -1: none */
};

#define MATCH_START ((struct match){.last_end = -1})

/* The next match of a text, as the find_iter of the onig crate gives them; *found is false when there is none. */
enum status pattern_next(struct pattern_state *state, const char *text, int64_t length, struct match *match,
                         bool *found) MUST_USE;

/* -- Texts to other texts (normalize.c, charsmap.c) -- */

enum normalize_kind {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_NFKC,
    NORMALIZE_NFKD,
    NORMALIZE_LOWERCASE,
    NORMALIZE_PREPEND,
    NORMALIZE_REPLACE,
    NORMALIZE_STRIP,
    NORMALIZE_CHARSMAP,
};

struct normalize_step {
    enum normalize_kind kind;
    struct pattern *pattern; /* REPLACE */
    struct bytes text;       /* PREPEND, REPLACE: what comes in; CHARSMAP: the map */
    bool left, right;        /* STRIP */
};

/* `from` may not lie in `to`, which is emptied. `state` is that of the step's pattern. *first becomes false where the
 * beginning of the text is left out. */
enum status normalize(const struct normalize_step *step, struct pattern_state *state, const char *from, int64_t length,
                      struct bytes *to, bool *first) MUST_USE;

/* The map of SentencePiece's normaliser: 4 bytes of size, a trie, texts that end in 0. */
bool charsmap_is_sound(const struct bytes *map);
enum status charsmap_apply(const struct bytes *map, const char *from, int64_t length, struct bytes *to) MUST_USE;

/* -- Texts to pieces (split.c) -- */

enum split_kind { SPLIT_PATTERN, SPLIT_PREFIX, SPLIT_REPLACE, SPLIT_TO_ALPHABET };
enum split_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT, SPLIT_CONTIGUOUS };

struct split_step {
    enum split_kind kind;
    struct pattern *pattern; /* PATTERN, REPLACE */
    enum split_behavior behavior;
    bool invert;
    struct bytes text; /* PREFIX, REPLACE */
    bool only_first;   /* PREFIX: in front of what begins the whole text alone */
};

/* -- Tokens that stand in a text as they are written (added.c) -- */

struct added_token {
    int32_t id;
    bool special, single_word, left, right, normalized;
};

/* -- The tokenizer -- */

enum tokenizer_model { TOKENIZER_BPE, TOKENIZER_UNIGRAM };

enum { TOKENIZER_STEPS = 16 };

struct tokenizer {
    struct context *context;
    char hash[TOKENIZER_HASH];
    struct vocabulary vocabulary, added_texts; /* of the model, and of added tokens, some of which may be in both */
    struct bytes decoded;                      /* what each token stands for */
    struct text_span *decoded_spans;

    struct added_token *added; /* by id */
    int64_t added_count;
    struct trie raw, normalized; /* their texts, to be looked for before and after normalisation */

    struct normalize_step normalize[TOKENIZER_STEPS];
    int normalize_count;
    struct split_step split[TOKENIZER_STEPS];
    int split_count;

    enum tokenizer_model model;
    bool of_bytes;   /* names of tokens are bytes in the alphabet of GPT-2 */
    bool in_letters; /* pieces come in that alphabet, as a step behind ByteLevel saw them */
    bool whole_pieces, byte_fallback, fuse_unknown;
    int32_t unknown;       /* -1: none */
    int32_t byte_ids[256]; /* of the bytes alone, or of <0x00> ..; -1 */
    struct pair_table pairs;
    int64_t merge_count;
    uint64_t merges_hash;
    double *scores; /* UNIGRAM: by id */
    double unknown_score;
    struct trie pieces; /* UNIGRAM */

    struct {
        bool of_bytes;          /* names are bytes in the alphabet */
        bool fallback;          /* runs of <0x00> .. are bytes */
        bool join_by_space;     /* there is no decoder */
        struct bytes find, put; /* of every token */
        struct bytes strip;     /* a character to leave out at the start, at most strip_count times */
        int64_t strip_count;
        bool strip_all_of_first; /* the found text is left out of the first token, whatever its count */
    } decoder;

    struct token_list before, after; /* the frame */
};

bool tokenizer_is_special(const struct tokenizer *tokenizer, int64_t id);

/* The description of the token of this id among the added ones; NULL: it is none. */
const struct added_token *added_of(const struct tokenizer *tokenizer, int64_t id);

struct tokenizer *tokenizer_create(struct context *context);

/* Reads the parts of a file (read_model.c, read_steps.c, read_frame.c). */
struct reading {
    struct context *context;
    const char *name; /* of the file */
    struct tokenizer *tokenizer;
};

/* `where` is a key such as "model.merges"; both texts of it may be empty. */
PRINTF_LIKE(3, 4) enum status reading_refuse(const struct reading *reading, const char *key, const char *format, ...);
enum status read_model(const struct reading *reading, json_t *root) MUST_USE;
enum status read_added(const struct reading *reading, json_t *root) MUST_USE;
enum status read_normalizer(const struct reading *reading, json_t *value) MUST_USE;
enum status read_split(const struct reading *reading, json_t *value) MUST_USE;
enum status read_frame(const struct reading *reading, json_t *value) MUST_USE;
enum status read_decoder(const struct reading *reading, json_t *value) MUST_USE;

/* What each token stands for; all that follows from the parts. */
enum status decode_tokens(struct tokenizer *tokenizer) MUST_USE;
enum status tokenizer_finish(const struct reading *reading, json_t *root) MUST_USE;

/* A value that may be missing or null, which leaves *flag; a text that may not, and has no 0 inside. */
enum status reading_flag(const struct reading *reading, const char *where, const json_t *object, const char *key,
                         bool *flag) MUST_USE;
enum status reading_text(const struct reading *reading, const char *where, const json_t *object, const char *key,
                         const char **text) MUST_USE;

/* A step's pattern {"String": ..} or {"Regex": ..}. */
enum status reading_pattern(const struct reading *reading, const char *where, const json_t *object,
                            struct pattern **pattern) MUST_USE;

/* -- The alphabet of bytes (alphabet.c) -- */

/* A byte as a character of the alphabet, and back; -1 for a character that is none of it. */
uint32_t alphabet_character(unsigned char byte);
int alphabet_byte(uint32_t code);

/* Appends bytes as characters, or what characters stand for; *known is false, and nothing appended, where one is none
 * of the alphabet. */
enum status alphabet_write(const char *bytes, int64_t length, struct bytes *to) MUST_USE;
enum status alphabet_read(const char *text, int64_t length, struct bytes *to, bool *known) MUST_USE;

/* The value of "<0xHH>"; -1 for all else. */
int fallback_byte(const char *text, int64_t length);

/* -- Learning (counts.c, train.c) -- */

struct counted {
    int64_t begin; /* in the text of all */
    int32_t length;
    int64_t times;
};

const struct counted *piece_counts_list(const struct piece_counts *counts, const char **text);

/* Adds tokens to a vocabulary of bytes until it has `size`; merges gets the two sides and the token of each. */
enum status merges_learn(struct context *context, const struct piece_counts *counts, int64_t size, int64_t least,
                         const int32_t byte_ids[256], struct vocabulary *vocabulary,
                         struct token_list *merges) MUST_USE;

/* -- The encoder -- */

struct symbol {
    int32_t id;
    int32_t previous, next; /* -1: none */
};

struct merge_entry {
    int32_t rank, at, joined;
};

struct merge_work {
    struct symbol *symbols;
    int64_t count, room;
    struct merge_entry *heap;
    int64_t heap_count, heap_room;
};

struct word {
    uint64_t hash; /* 0: free */
    uint32_t text, ids;
    uint16_t length, count;
};

struct word_cache {
    struct word *words;
    int64_t used;
    struct bytes text;
    struct token_list ids;
};

struct path_node {
    double score;
    int64_t begin; /* -1: nothing ends here */
    int32_t id;
};

struct encoder {
    struct context *context;
    const struct tokenizer *tokenizer;
    struct pattern_state *normalize_states[TOKENIZER_STEPS];
    struct pattern_state *split_states[TOKENIZER_STEPS];
    struct bytes split_text[TOKENIZER_STEPS];
    struct bytes normal[2]; /* normalised text, and that of the step before */
    struct bytes clean;     /* UTF-8 where the text was none */
    struct bytes letters;   /* a piece in another form */
    int64_t replaced;
    bool specials;
    struct merge_work work;
    struct word_cache cache;
    struct path_node *path;
    int64_t path_room;
    struct token_list pieces;    /* ids of a piece of UNIGRAM, from the end */
    struct token_list *tokens;   /* that come out */
    struct piece_counts *counts; /* pieces are counted instead; NULL: they become tokens */
};

/* A text as it is looked for in pieces and added tokens; *text and *length are replaced. *first becomes false if it
 * does not begin with what the text began with. */
enum status encoder_normalize(struct encoder *encoder, const char **text, int64_t *length, bool *first) MUST_USE;

/* Cuts a text at added tokens (added.c): calls `rest` with what lies between them, and appends their ids. */
enum status added_split(struct encoder *encoder, const struct trie *trie, const char *text, int64_t length, bool first,
                        enum status (*rest)(struct encoder *encoder, const char *text, int64_t length,
                                            bool first)) MUST_USE;

/* A text without added tokens through the split steps from `step` on (split.c). */
enum status split_text(struct encoder *encoder, int step, const char *text, int64_t length, bool first) MUST_USE;

/* A piece to ids (piece.c, bpe.c, unigram.c). */
enum status piece_encode(struct encoder *encoder, const char *text, int64_t length) MUST_USE;
enum status bpe_encode(struct encoder *encoder, const char *text, int64_t length) MUST_USE;
enum status unigram_encode(struct encoder *encoder, const char *text, int64_t length) MUST_USE;

enum status word_cache_create(struct context *context, struct word_cache *cache) MUST_USE;
void word_cache_destroy(struct context *context, struct word_cache *cache);

enum status token_list_add(struct context *context, struct token_list *tokens, const int32_t *ids,
                           int64_t count) MUST_USE;

#endif
