/* Settings from YAML: strict, every key in one table with its type, range and meaning. */
#ifndef CAIRN_IO_CONFIG_H
#define CAIRN_IO_CONFIG_H

#include <stdio.h>

#include "src/core/config.h"
#include "src/core/context.h"

/* Reads a file, applies overrides ("key.path=value"), fills defaults, checks every value and every combination.
 * USAGE error with file:line, the key and what was expected. */
enum status config_load(struct context *context, const char *path, const char *const *overrides, int override_count,
                        struct config *config) MUST_USE;

/* The same from a text; `name` stands for the file in messages. */
enum status config_parse(struct context *context, const char *name, const char *text, size_t length,
                         const char *const *overrides, int override_count, struct config *config) MUST_USE;

/* Only the `model:` map, as in conformance cases; the rest keeps its defaults. */
enum status config_parse_model(struct context *context, const char *name, const char *text, size_t length,
                               struct model_config *model) MUST_USE;

/* Everything as YAML that config_parse reads back to the same settings. Returns the length (as snprintf). */
size_t config_format(const struct config *config, char *text, size_t size);

/* The value of a key of the table as YAML, of a list the items with commas between them. Returns the length (as
 * snprintf). */
size_t config_value(const struct config *config, const char *key, char *text, size_t size);

/* USAGE error that names the first key in which two models differ. */
enum status config_same_model(struct context *context, const struct model_config *a, const struct model_config *b,
                              const char *name_a, const char *name_b) MUST_USE;

/* Calls `visit` for each setting in which up to 64 configurations differ, with its value in each of them; long values
 * are cut. */
enum { CONFIG_VALUE = 96 };
typedef void (*config_visitor)(void *self, const char *key, const char (*values)[CONFIG_VALUE], int count);
void config_differences(const struct config *const *configs, int count, config_visitor visit, void *self);

/* Calls `visit` for each setting that the family has with its whole value on one line; texts are quoted. */
void config_visit(const struct config *config, void (*visit)(void *self, const char *key, const char *value),
                  void *self);

/* Keys with type, default and meaning: the one that `words` names by its path or its last part, all of a section, or
 * with "" all there are. USAGE error, and nothing printed, when there is none. */
enum status config_describe(struct context *context, FILE *out, const char *words) MUST_USE;

#endif
