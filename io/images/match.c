/* Sets that belong together have classes in common. */
#include "io/images/images_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct named {
    const char *name;
    int32_t label;
};

static int compare_named(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static const struct named *find(const struct named *classes, int64_t count, const char *name)
{
    struct named wanted = {.name = name};
    return bsearch(&wanted, classes, (size_t)count, sizeof wanted, compare_named);
}

/* Where each class of the set stands among `classes`, which are sorted. */
static enum status find_labels(const struct image_set *set, const struct named *classes, int64_t count, int32_t *labels)
{
    for (int64_t i = 0; i < set->facts.classes; i++) {
        const char *name = image_set_class_name(set, i);
        const struct named *found = find(classes, count, name);
        labels[i] = found ? found->label : -1;
    }
    for (int64_t i = 0; i < set->facts.count; i++) {
        int32_t label = image_set_label(set, i);
        if (labels[label] >= 0)
            continue;
        char image[512];
        image_set_name(set, i, image, sizeof image);
        return context_fail(set->context, STATUS_FILE,
                            "%s: is of the class \"%s\", which is none of the %" PRId64 " that are trained (\"%s\" to "
                            "\"%s\" by name); data.train and data.validation must have the same classes",
                            image, image_set_class_name(set, label), count, classes[0].name, classes[count - 1].name);
    }
    return STATUS_OK;
}

static enum status set_relabel(struct image_set *set, const int32_t *labels, const char *const *names, int64_t count)
{
    for (int64_t i = 0; i < set->facts.count; i++) {
        int32_t *label = set->files ? &set->files[i].label : &set->labels[i];
        *label = labels[*label];
    }
    set->facts.classes = 0;
    for (int64_t i = 0; i < count; i++)
        CHECK(set_add_class(set, names[i]));
    return STATUS_OK;
}

enum status image_set_match_names(struct image_set *set, const char *const *names, int64_t count)
{
    struct context *context = set->context;
    if (count < 1)
        return context_fail(context, STATUS_FILE, "there are no classes to compare with");
    struct named *classes = memory_allocate(context, (size_t)count * sizeof *classes, MEMORY_OTHER);
    int32_t *labels = memory_allocate(context, (size_t)set->facts.classes * sizeof *labels, MEMORY_OTHER);
    enum status status = classes && labels ? STATUS_OK : STATUS_MEMORY;
    for (int64_t i = 0; status == STATUS_OK && i < count; i++)
        classes[i] = (struct named){.name = names[i], .label = (int32_t)i};
    if (status == STATUS_OK) {
        qsort(classes, (size_t)count, sizeof *classes, compare_named);
        status = find_labels(set, classes, count, labels);
    }
    if (status == STATUS_OK)
        status = set_relabel(set, labels, names, count);
    memory_free(context, labels);
    memory_free(context, classes);
    return status;
}

enum status image_set_match(struct image_set *set, const struct image_set *training)
{
    struct context *context = set->context;
    if (set->facts.channels > training->facts.channels)
        return context_fail(context, STATUS_FILE,
                            "images to evaluate on have %" PRId64 " channels, those to train on %" PRId64
                            "; data.train and data.validation must have the same",
                            set->facts.channels, training->facts.channels);
    int64_t count = training->facts.classes;
    const char **names = memory_allocate(context, (size_t)count * sizeof *names, MEMORY_OTHER);
    if (!names)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < count; i++)
        names[i] = image_set_class_name(training, i);
    enum status status = image_set_match_names(set, names, count);
    memory_free(context, names);
    return status;
}
