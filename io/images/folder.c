/* Folders of images: a folder for each class, and its PNG and JPEG files in the order of their names' bytes. */
#include "io/images/images_private.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct listing {
    struct dirent **entry;
    int count;
};

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum status listing_create(struct context *context, const char *path, struct listing *listing)
{
    listing->count = scandir(path, &listing->entry, is_shown, by_bytes);
    if (listing->count >= 0)
        return STATUS_OK;
    *listing = (struct listing){0};
    if (errno == ENOTDIR)
        return context_fail(context, STATUS_FILE,
                            "%s: is no folder; name the folder that holds one for each class, or "
                            "set data.format",
                            path);
    return image_file_refuse(context, path);
}

static void listing_destroy(struct listing *listing)
{
    for (int i = 0; i < listing->count; i++)
        free(listing->entry[i]);
    free(listing->entry);
    *listing = (struct listing){0};
}

static enum status join(struct context *context, const char *folder, const char *name, char *path)
{
    if (snprintf(path, PATH_ROOM, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", name) >= PATH_ROOM)
        return context_fail(context, STATUS_FILE, "%s/%s: the name is too long", folder, name);
    return STATUS_OK;
}

static bool is_folder(const char *path, const struct dirent *entry)
{
    struct stat information;
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK)
        return entry->d_type == DT_DIR;
    return stat(path, &information) == 0 && S_ISDIR(information.st_mode);
}

static bool is_image_name(const char *name)
{
    const char *end = strrchr(name, '.');
    return end && (strcasecmp(end, ".png") == 0 || strcasecmp(end, ".jpg") == 0 || strcasecmp(end, ".jpeg") == 0);
}

static enum status add_class_folder(struct image_set *set, const char *root, const char *folder, int32_t label)
{
    struct listing listing = {0};
    char path[PATH_ROOM];
    int64_t found = 0;
    enum status status = listing_create(set->context, folder, &listing);
    if (status != STATUS_OK)
        return status;
    for (int i = 0; i < listing.count; i++) {
        TRY(join(set->context, folder, listing.entry[i]->d_name, path));
        if (is_image_name(path)) {
            found++;
            TRY(set_add_file(set, path, label));
        } else if (is_folder(path, listing.entry[i])) {
            status = context_fail(set->context, STATUS_FILE,
                                  "%s: is a folder inside the class %s of %s; name the folder that holds the classes "
                                  "themselves, as in %s",
                                  path, image_set_class_name(set, label), root, folder);
            goto done;
        } else
            set->facts.others++;
    }
    if (found == 0)
        status = context_fail(
            set->context, STATUS_FILE,
            "%s: a class without images: no name in it ends in .png, .jpg or .jpeg; remove the folder", folder);
done:
    listing_destroy(&listing);
    return status;
}

static enum status add_root(struct image_set *set, const char *root, const struct listing *listing)
{
    char path[PATH_ROOM];
    for (int i = 0; i < listing->count; i++) {
        CHECK(join(set->context, root, listing->entry[i]->d_name, path));
        if (is_folder(path, listing->entry[i]))
            CHECK(add_class_folder(set, root, path, set_find_class(set, listing->entry[i]->d_name)));
    }
    return STATUS_OK;
}

/* The names of the folders in a folder, of which there must be some. */
static enum status add_names(struct image_set *set, const char *root, const struct listing *listing, const char **names,
                             int64_t *count)
{
    char path[PATH_ROOM];
    int64_t before = *count;
    bool images = false;
    for (int i = 0; i < listing->count; i++) {
        CHECK(join(set->context, root, listing->entry[i]->d_name, path));
        images = images || is_image_name(path);
        if (is_folder(path, listing->entry[i]))
            names[(*count)++] = listing->entry[i]->d_name;
    }
    if (*count == before)
        return context_fail(set->context, STATUS_FILE, "%s: holds no folders, where each is a class%s", root,
                            images ? "; put its images into folders by class, or name a list of images with their "
                                     "classes"
                                   : " and holds its images; name the files themselves if they hold many images");
    return STATUS_OK;
}

enum status folder_add(struct image_set *set, char *const *paths, int64_t count)
{
    struct context *context = set->context;
    enum status status = STATUS_OK;
    int64_t entries = 0;
    int64_t name_count = 0;
    const char **names = NULL;
    struct listing *listings = memory_allocate(context, (size_t)count * sizeof *listings, MEMORY_OTHER);
    if (!listings)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        TRY(listing_create(context, paths[i], &listings[i]));
        entries += listings[i].count;
    }
    names = memory_allocate(context, (size_t)entries * sizeof *names, MEMORY_OTHER);
    if (!names) {
        status = STATUS_MEMORY;
        goto done;
    }
    for (int64_t i = 0; i < count; i++)
        TRY(add_names(set, paths[i], &listings[i], names, &name_count));
    TRY(set_take_classes(set, names, name_count));
    for (int64_t i = 0; i < count; i++)
        TRY(add_root(set, paths[i], &listings[i]));
done:
    for (int64_t i = 0; i < count; i++)
        listing_destroy(&listings[i]);
    memory_free(context, names);
    memory_free(context, listings);
    return status;
}
