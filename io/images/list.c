/* Lists of images in text: a line holds a path, from the list's folder on unless it begins with "/", then a tab or
 * blank, then the class. Empty lines are passed over. */
#include "io/images/images_private.h"

#include "src/core/text.h"

#include <inttypes.h>
#include <string.h>

struct list_text {
    const char *path;
    void *text; /* with zero bytes where lines end */
    size_t room;
    int64_t bytes;
};

struct list_line {
    const char *image, *class;
    int64_t number; /* from 1 */
};

static enum status read_text(struct context *context, struct list_text *list)
{
    struct unzip unzip;
    int64_t got = 0;
    enum status status = unzip_open(context, list->path, &unzip);
    if (status != STATUS_OK)
        return status;
    do {
        size_t bytes = (size_t)list->bytes;
        TRY(room_grow(context, &list->text, &list->room, bytes, bytes + LOOK_HEADER));
        TRY(unzip_read(&unzip, (char *)list->text + bytes, (int64_t)list->room - list->bytes - 1, &got));
        list->bytes += got;
    } while (got > 0);
    ((char *)list->text)[list->bytes] = '\0';
    if (memchr(list->text, '\0', (size_t)list->bytes))
        status = context_fail(context, STATUS_FILE, "%s: is no list of images: it holds zero bytes, which text has not",
                              list->path);
done:
    unzip_close(&unzip);
    return status;
}

/* Cuts a line in two where its last tab stands, or else its last blank. */
static enum status cut_line(struct context *context, const struct list_text *list, char *text, struct list_line *line)
{
    char *end = text + strlen(text);
    while (end > text && strchr(" \t\r", end[-1]))
        *--end = '\0';
    char *cut = strrchr(text, '\t');
    if (!cut)
        cut = strrchr(text, ' ');
    line->image = text;
    line->class = cut ? cut + 1 : "";
    while (cut && cut > text && strchr(" \t", cut[-1]))
        cut--;
    if (!cut || cut == text || !line->class[0])
        return context_fail(context, STATUS_FILE,
                            "%s: line %" PRId64 ": expected a path, a tab or blank, and a class, got \"%.100s\"",
                            list->path, line->number, text);
    *cut = '\0';
    if (strlen(line->class) > IMAGE_CLASS_NAME)
        return context_fail(context, STATUS_FILE, "%s: line %" PRId64 ": the name of the class is longer than %d bytes",
                            list->path, line->number, IMAGE_CLASS_NAME);
    return STATUS_OK;
}

/* Adds the lines of a text, which is cut up for it. */
static enum status cut_lines(struct context *context, struct list_text *list, void **lines, size_t *room,
                             int64_t *count)
{
    char *at = list->text;
    struct list_line line = {0};
    if (strncmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    while (at) {
        char *end = strchr(at, '\n');
        if (end)
            *end = '\0';
        line.number++;
        if (at[strspn(at, " \t\r")]) {
            CHECK(cut_line(context, list, at, &line));
            size_t used = (size_t)*count * sizeof line;
            CHECK(room_grow(context, lines, room, used, used + sizeof line));
            ((struct list_line *)*lines)[(*count)++] = line;
        }
        at = end ? end + 1 : NULL;
    }
    return STATUS_OK;
}

static bool line_label(const struct list_line *line, int64_t *label)
{
    return line->class[strspn(line->class, "0123456789")] == '\0' && text_to_integer(line->class, label) &&
           *label < IMAGE_CLASSES;
}

/* Numbers if all of them are; names otherwise. */
static enum status find_classes(struct image_set *set, const struct list_line *lines, int64_t count, bool *numbers)
{
    int64_t most = -1;
    *numbers = true;
    for (int64_t i = 0; i < count && *numbers; i++) {
        int64_t label = 0;
        *numbers = line_label(&lines[i], &label);
        most = label > most ? label : most;
    }
    if (*numbers)
        return set_number_classes(set, most + 1);
    const char **names = memory_allocate(set->context, (size_t)count * sizeof *names, MEMORY_OTHER);
    if (!names)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < count; i++)
        names[i] = lines[i].class;
    enum status status = set_take_classes(set, names, count);
    memory_free(set->context, names);
    return status;
}

static enum status add_line(struct image_set *set, const struct list_text *list, const struct list_line *line,
                            bool numbers)
{
    char path[PATH_ROOM];
    const char *slash = strrchr(list->path, '/');
    int folder = line->image[0] != '/' && slash ? (int)(slash - list->path) + 1 : 0;
    int64_t label = 0;
    if (snprintf(path, sizeof path, "%.*s%s", folder, list->path, line->image) >= (int)sizeof path)
        return context_fail(set->context, STATUS_FILE, "%s: line %" PRId64 ": the path is too long", list->path,
                            line->number);
    if (numbers)
        (void)line_label(line, &label);
    else
        label = set_find_class(set, line->class);
    enum status status = set_add_file(set, path, (int32_t)label);
    if (status == STATUS_FILE) {
        char reason[1024];
        (void)text_copy(reason, sizeof reason, set->context->text);
        context_clear(set->context);
        return context_fail(set->context, STATUS_FILE, "%s: line %" PRId64 ": %s", list->path, line->number, reason);
    }
    return status;
}

enum status list_add(struct image_set *set, char *const *paths, int64_t count)
{
    struct context *context = set->context;
    enum status status = STATUS_OK;
    void *lines = NULL;
    size_t room = 0;
    int64_t line_count = 0;
    int64_t done_lines = 0;
    bool numbers = false;
    struct list_text *lists = memory_allocate(context, (size_t)count * sizeof *lists, MEMORY_OTHER);
    int64_t *line_end = memory_allocate(context, (size_t)count * sizeof *line_end, MEMORY_OTHER);
    if (!lists || !line_end) {
        status = STATUS_MEMORY;
        goto done;
    }
    for (int64_t i = 0; i < count; i++) {
        lists[i].path = paths[i];
        TRY(read_text(context, &lists[i]));
        TRY(cut_lines(context, &lists[i], &lines, &room, &line_count));
        line_end[i] = line_count;
    }
    TRY(find_classes(set, lines, line_count, &numbers));
    for (int64_t i = 0; i < count; i++)
        for (; done_lines < line_end[i]; done_lines++)
            TRY(add_line(set, &lists[i], (const struct list_line *)lines + done_lines, numbers));
done:
    for (int64_t i = 0; lists && i < count; i++)
        memory_free(context, lists[i].text);
    memory_free(context, lines);
    memory_free(context, line_end);
    memory_free(context, lists);
    return status;
}
