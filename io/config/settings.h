/* The one table of settings. A row says where a key stands in YAML and in struct config, what it accepts and what it
 * is for; reading, defaults, overrides, range checks, writing and the help text all follow from the rows. */
#ifndef CAIRN_IO_CONFIG_SETTINGS_H
#define CAIRN_IO_CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/core/config.h"
#include "src/core/context.h"

enum {
    SETTING_LIMIT = 192, /* more than there are rows */
    WORD_LIMIT = 12,     /* more than any setting has words */
    KEY_LENGTH = 128,    /* holds every key path */
    MESSAGE_LENGTH = 1024
};

/* How the values of a setting are written. */
enum setting_type {
    SETTING_INTEGER,
    SETTING_REAL,
    SETTING_BOOLEAN,
    SETTING_WORD,
    SETTING_TEXT,
    SETTING_LIST,
    SETTING_SEED
};

/* Where a default comes from. */
enum setting_default {
    DEFAULT_GIVEN,    /* `standard` is the value */
    DEFAULT_REQUIRED, /* there is none: the key has to be given */
    DEFAULT_DERIVED,  /* computed from other settings; `standard` says how */
};

struct setting {
    const char *key; /* the path, "model.attention.segment"; the same as the member of struct config */
    size_t offset;   /* of the field in struct config */
    enum setting_type type;
    enum setting_default default_kind;
    const char *standard;
    double minimum; /* of a number, of the bytes of a text, of the items of a list */
    double maximum;
    bool above;  /* the value must be greater than the minimum, not equal to it */
    bool below;  /* and less than the maximum */
    bool single; /* used in single precision: the value, rounded to it, must keep to the limits, and is 0 or normal */
    bool path;   /* ~ stands for the home directory */
    bool automatic;                    /* `auto` is accepted and stored as minimum - 1 */
    unsigned families;                 /* of models, a bit each: the setting has a meaning for them only; 0: for all */
    const char *standard_of[FAMILIES]; /* where a family has a default of its own */
    const char *words[WORD_LIMIT];
    const char *help;
};

/* The rows in the order in which they are written; keys of a section stand together. */
extern const struct setting setting_table[];
extern const int setting_count;

/* Whether a setting has a meaning for the family of a configuration's model. */
bool setting_belongs(const struct setting *setting, enum model_family family);

/* The row of a key path, or of the field at an offset into struct config; NULL when there is none. */
const struct setting *setting_find(const char *key);
const struct setting *setting_at(size_t offset);

/* The first row of the section `path` ("model.attention"; "" is the whole table), -1 when there is no such section. */
int setting_section(const char *path);

/* Stores a value from its text; for a list, adds one item. False, and nothing stored, when the text is no such value.
 */
bool setting_read(const struct setting *setting, const char *text, size_t length, struct config *config);

/* The same for a whole value on one line: the items of a list are separated by commas and replace those before. */
bool setting_assign(const struct setting *setting, const char *text, struct config *config);

/* Whether the text is a number within the limits of a SETTING_REAL as it is written, but not in single precision. */
bool setting_is_lost(const struct setting *setting, const char *text);

/* Empties a list. */
void setting_clear(const struct setting *setting, struct config *config);

/* Text that grows in a buffer of fixed size; `length` counts what did not fit as well, as snprintf does. */
struct config_writer {
    char *text;
    size_t size;
    size_t length;
};

void config_print(struct config_writer *writer, const char *format, ...) PRINTF_LIKE(2, 3);

/* Writes a value as YAML that setting_read understands: item `item` of a list, otherwise the only one. */
void setting_write(const struct setting *setting, const struct config *config, int item, struct config_writer *writer);

/* "an integer of at least 1", "one of rms, layer", ...; `exact` adds limits that few will ever meet. */
void setting_expectation(const struct setting *setting, bool exact, char *text, size_t size);

/* A text as it may stand in a message: in quotes, cut when long, without control characters. */
void config_quote(const char *from, size_t length, char *to, size_t size);

/* Where each value came from, for messages. */
struct setting_source {
    struct context *context;
    const char *name;                    /* of the file */
    bool model_only;                     /* the text has a `model:` map and nothing else */
    size_t line[SETTING_LIMIT];          /* 0 when the key is not in the file */
    const char *override[SETTING_LIMIT]; /* the override that set it, or NULL */
};

/* USAGE error about a setting, led by the override or the file, line and key it came from. */
enum status setting_fail(const struct setting_source *source, const struct setting *setting, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_USE;

/* USAGE error about a value that setting_read or setting_assign refused. */
enum status setting_refuse(const struct setting_source *source, const struct setting *setting, const char *text,
                           size_t length) MUST_USE;

/* USAGE error about the key path `key` that no row has; `place` leads the message. */
enum status setting_refuse_key(struct context *context, const char *place, const char *key) MUST_USE;

/* Computes derived defaults and refuses settings that are missing or do not go together. */
enum status config_check(const struct setting_source *source, struct config *config) MUST_USE;

#endif
