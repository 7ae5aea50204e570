/* A file of tasks for `cairn evolve`: a YAML sequence of maps, or one map, with the keys name, train, validation, test,
 * classes (0: as the images have) and private (false). Strict: errors name the file and the line. */
#ifndef CAIRN_IO_TASKS_H
#define CAIRN_IO_TASKS_H

#include "src/core/config.h"
#include "src/core/context.h"

enum { TASKS_MOST = 256, TASKS_NAME = 48 };

struct task_row {
    char name[TASKS_NAME]; /* letters, digits, - and _ */
    char train[TEXT_LENGTH], validation[TEXT_LENGTH], test[TEXT_LENGTH];
    int64_t classes;
    bool private;
};

/* USAGE or FILE error. `rows` has room for TASKS_MOST. Local. */
enum status tasks_read(struct context *context, const char *path, struct task_row *rows, int *count) MUST_USE;

#endif
