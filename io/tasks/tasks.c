#include "io/tasks/tasks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "src/core/text.h"

struct reading {
    struct context *context;
    const char *path;
    yaml_document_t document;
};

static enum status refuse(struct reading *reading, const yaml_node_t *node, const char *what)
{
    return context_fail(reading->context, STATUS_USAGE, "%s:%zu: %s", reading->path, node->start_mark.line + 1, what);
}

static bool read_name(const char *text, char *name)
{
    size_t length = strlen(text);
    bool sound = length > 0 && length < TASKS_NAME;
    for (size_t i = 0; sound && i < length; i++)
        sound = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", text[i]) != NULL;
    if (sound)
        memcpy(name, text, length + 1);
    return sound;
}

static enum status read_pair(struct reading *reading, const yaml_node_t *key, const yaml_node_t *value,
                             struct task_row *row)
{
    char *const paths[] = {row->train, row->validation, row->test};
    static const char *const path_keys[] = {"train", "validation", "test"};
    if (key->type != YAML_SCALAR_NODE || value->type != YAML_SCALAR_NODE)
        return refuse(reading, key, "expected KEY: VALUE");
    const char *name = (const char *)key->data.scalar.value;
    const char *text = (const char *)value->data.scalar.value;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, path_keys[i]) == 0)
            return text_expand_home(paths[i], TEXT_LENGTH, text) && *text
                       ? STATUS_OK
                       : refuse(reading, value, "expected the path of a set of images or texts");
    if (strcmp(name, "name") == 0)
        return read_name(text, row->name)
                   ? STATUS_OK
                   : refuse(reading, value, "expected a name of up to 47 letters, digits, - and _");
    if (strcmp(name, "classes") == 0)
        return text_to_integer(text, &row->classes) && row->classes >= 0
                   ? STATUS_OK
                   : refuse(reading, value, "expected the number of classes, or 0 for as many as the images have");
    if (strcmp(name, "private") == 0 && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        row->private = text[0] == 't';
        return STATUS_OK;
    }
    return refuse(reading, key,
                  "a task has the keys name, train, validation, test, classes, and private, which is true or false");
}

static enum status read_task(struct reading *reading, const yaml_node_t *node, struct task_row *rows, int *count)
{
    struct task_row *row = &rows[*count];
    if (node->type != YAML_MAPPING_NODE)
        return refuse(reading, node, "expected a task: a map with name, train, validation and test");
    if (*count == TASKS_MOST)
        return refuse(reading, node, "more than 256 tasks");
    *row = (struct task_row){0};
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
        CHECK(read_pair(reading, yaml_document_get_node(&reading->document, pair->key),
                        yaml_document_get_node(&reading->document, pair->value), row));
    if (!*row->name || !*row->train || !*row->validation || !*row->test)
        return refuse(reading, node, "a task needs name, train, validation and test");
    for (int i = 0; i < *count; i++)
        if (strcmp(rows[i].name, row->name) == 0)
            return refuse(reading, node, "there is a task of this name already");
    (*count)++;
    return STATUS_OK;
}

static enum status read_document(struct reading *reading, struct task_row *rows, int *count)
{
    const yaml_node_t *root = yaml_document_get_root_node(&reading->document);
    if (!root)
        return context_fail(reading->context, STATUS_USAGE, "%s: no tasks in it", reading->path);
    if (root->type != YAML_SEQUENCE_NODE)
        return read_task(reading, root, rows, count);
    for (yaml_node_item_t *item = root->data.sequence.items.start; item < root->data.sequence.items.top; item++)
        CHECK(read_task(reading, yaml_document_get_node(&reading->document, *item), rows, count));
    return *count > 0 ? STATUS_OK : refuse(reading, root, "no tasks in it");
}

enum status tasks_read(struct context *context, const char *path, struct task_row *rows, int *count)
{
    struct reading reading = {.context = context, .path = path};
    yaml_parser_t parser;
    *count = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: %s", path, strerror(errno));
    if (!yaml_parser_initialize(&parser)) {
        fclose(file);
        return context_fail(context, STATUS_MEMORY, "out of memory");
    }
    yaml_parser_set_input_file(&parser, file);
    enum status status;
    if (yaml_parser_load(&parser, &reading.document)) {
        status = read_document(&reading, rows, count);
        yaml_document_delete(&reading.document);
    } else {
        status = context_fail(context, STATUS_USAGE, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                              parser.problem ? parser.problem : "cannot be read");
    }
    yaml_parser_delete(&parser);
    fclose(file);
    return status;
}
