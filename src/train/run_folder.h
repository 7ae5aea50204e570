/* The folder of a run. For the rank that writes it; local. */
#ifndef CAIRN_TRAIN_RUN_FOLDER_H
#define CAIRN_TRAIN_RUN_FOLDER_H

#include "src/core/config.h"
#include "src/core/context.h"

/* Makes it and those above it. FILE error if it cannot be written to. */
enum status run_folder_make(struct context *context, const char *path) MUST_USE;

/* Gives what earlier starts left other names, so that starting anew loses nothing. */
enum status run_folder_move_aside(struct context *context, const char *path) MUST_USE;

/* FOLDER/config.yaml: the settings in full. */
enum status run_folder_write_config(struct context *context, const struct config *config) MUST_USE;

#endif
