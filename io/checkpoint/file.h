/* Plain files and folders, serial. Errors are FILE errors that name the file and the reason. */
#ifndef CAIRN_IO_CHECKPOINT_FILE_H
#define CAIRN_IO_CHECKPOINT_FILE_H

#include <stdint.h>

#include "src/core/notice.h"

/* Opens for reading (or for reading and writing, if `write`) and says how large the file is. */
enum status file_open(struct context *context, const char *path, bool write, int *descriptor, int64_t *size) MUST_USE;

/* All of the bytes or an error: a file that ends before is damaged. */
enum status file_read(struct context *context, int descriptor, const char *path, int64_t offset, void *buffer,
                      int64_t bytes) MUST_USE;
enum status file_write(struct context *context, int descriptor, const char *path, int64_t offset, const void *buffer,
                       int64_t bytes) MUST_USE;

enum status file_sync(struct context *context, int descriptor, const char *path) MUST_USE;

/* Takes disk space for all of the file, so that a full disk shows here; `reserved` is false where the file system
 * cannot do that. */
enum status file_reserve(struct context *context, const char *path, bool *reserved) MUST_USE;

/* True when nothing more can be written beside this file: MPI-IO does not always say why it failed. */
bool file_disk_full(const char *path);

/* Renames within a folder and makes that last. */
enum status file_rename(struct context *context, const char *folder, const char *from, const char *to) MUST_USE;

/* Replaces FOLDER/name by this text, at once or not at all. */
enum status file_replace(struct context *context, const char *folder, const char *name, const char *text) MUST_USE;

/* FILE error unless the folder's file system has this much space. */
enum status folder_has_space(struct context *context, const char *folder, int64_t bytes) MUST_USE;

/* Elements read so far, for whoever waits for a large file; notice_end when all is read. */
struct reading {
    struct notice notice;
    int64_t done, all;
};
void reading_begin(struct reading *reading, const struct context *context, int64_t all);
void reading_add(struct reading *reading, int64_t elements);

#endif
