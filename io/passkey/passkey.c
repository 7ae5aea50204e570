#include "io/passkey/passkey.h"

#include <string.h>

#include "src/core/integer.h"
#include "src/core/random.h"

static const char description[] = "A pass key is hidden in this text. Find it and remember it; at the end you will be "
                                  "asked for it. ";
static const char *const filler[] = {
    "The grass is green. ", "The sky is blue. ", "The sun is yellow. ", "Here we go. ", "There and back again. ",
};
static const char key_parts[3][32] = {"The pass key is ", ". Remember it. ", " is the pass key. "};
static const char question[] = "What is the pass key? The pass key is ";

enum { FILLERS = sizeof filler / sizeof *filler };

static const char *const position_names[PASSKEY_POSITIONS] = {"start", "middle", "end", "any"};

const char *passkey_position_name(enum passkey_position position)
{
    return position_names[position];
}

enum passkey_position passkey_position_named(const char *name)
{
    int position = 0;
    while (position < PASSKEY_POSITIONS && strcmp(name, position_names[position]) != 0)
        position++;
    return position;
}

static int64_t key_length(int64_t digits)
{
    return (int64_t)(strlen(key_parts[0]) + strlen(key_parts[1]) + strlen(key_parts[2])) + 2 * digits;
}

int64_t passkey_smallest(int64_t digits)
{
    return (int64_t)(strlen(description) + strlen(question)) + key_length(digits) + digits;
}

static unsigned char *put(unsigned char *text, const char *bytes, int64_t count)
{
    memcpy(text, bytes, (size_t)count);
    return text + count;
}

static unsigned char *put_all(unsigned char *text, const char *bytes)
{
    return put(text, bytes, (int64_t)strlen(bytes));
}

/* `most` bytes of filler, or up to the last whole sentence in them. */
static unsigned char *put_filler(unsigned char *text, int64_t most, bool whole)
{
    for (int64_t i = 0; most > 0; i++) {
        const char *sentence = filler[i % FILLERS];
        int64_t count = (int64_t)strlen(sentence);
        if (count > most && whole)
            break;
        text = put(text, sentence, integer_min(count, most));
        most -= integer_min(count, most);
    }
    return text;
}

/* Bytes in front of the key, of `room`. */
static int64_t place_key(const struct passkey_task *task, int64_t index, int64_t room)
{
    switch (task->position) {
    case PASSKEY_START:
        return 0;
    case PASSKEY_MIDDLE:
        return room / 2;
    case PASSKEY_END:
        return room;
    default:
        return (int64_t)(random_uniform(random_key(task->seed, "passkey.place"), (uint64_t)index) * (double)(room + 1));
    }
}

void passkey_sample(const struct passkey_task *task, int64_t index, unsigned char *text)
{
    char key[PASSKEY_DIGITS_MAXIMUM];
    uint64_t bits = random_bits(random_key(task->seed, "passkey.key"), (uint64_t)index);
    for (int64_t i = 0; i < task->digits; i++, bits /= 10)
        key[i] = (char)('0' + bits % 10);
    unsigned char *end = text + task->length;
    int64_t room = task->length - passkey_smallest(task->digits);
    text = put_all(text, description);
    text = put_filler(text, place_key(task, index, room), true);
    text = put_all(text, key_parts[0]);
    text = put(text, key, task->digits);
    text = put_all(text, key_parts[1]);
    text = put(text, key, task->digits);
    text = put_all(text, key_parts[2]);
    text = put_filler(text, end - text - (int64_t)strlen(question) - task->digits, false);
    text = put_all(text, question);
    put(text, key, task->digits);
}
