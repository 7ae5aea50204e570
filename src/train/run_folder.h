/* The folder of a run. For the rank that writes it; local. */
#ifndef CAIRN_TRAIN_RUN_FOLDER_H
#define CAIRN_TRAIN_RUN_FOLDER_H

#include "src/core/config.h"
#include "src/core/context.h"

/* Makes it and those above it. FILE error if it cannot be written to. */
enum status run_folder_make(struct context *context, const char *path) MUST_USE;

/* A file, complete or not at all: under another name first. */
enum status run_folder_write(struct context *context, const char *path, const char *text) MUST_USE;

/* PATH.1, PATH.2, ...: the first that is free. */
void run_folder_free_name(const char *path, char *name, size_t size);

/* Gives what earlier starts left other names, so that starting anew loses nothing. */
enum status run_folder_move_aside(struct context *context, const char *path) MUST_USE;

#endif
