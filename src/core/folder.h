/* Folders of the file system. */
#ifndef CAIRN_CORE_FOLDER_H
#define CAIRN_CORE_FOLDER_H

#include "src/core/context.h"

enum { FOLDER_PATH = 1024 };

/* Makes a folder and those above it, where they are missing. FILE error, which begins with `label` ("" or the setting
 * that names the folder and ": "). Local. */
enum status folder_make(struct context *context, const char *label, const char *path) MUST_USE;

#endif
