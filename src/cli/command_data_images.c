/* `cairn data images`: what a set of images holds. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/images/images.h"
#include "src/cli/command.h"
#include "src/core/text.h"

/* Of the contact sheet. */
enum { SHEET_CLASSES = 100, SHEET_COLUMNS = 10, SIDE_LEAST = 16, SIDE_MOST = 96 };

static enum status read_format(struct command *command, const char *text, enum image_format *format)
{
    *format = IMAGES_AUTO;
    if (!text)
        return STATUS_OK;
    for (int i = IMAGES_AUTO; i <= IMAGES_LIST; i++)
        if (strcmp(text, image_format_name((enum image_format)i)) == 0) {
            *format = (enum image_format)i;
            return STATUS_OK;
        }
    return context_fail(&command->context, STATUS_USAGE,
                        "--format: expected auto, idx, cifar10, cifar100, folder or list, got \"%s\"", text);
}

static void print_values(const char *what, const double *values, int64_t count)
{
    printf("%-12s[", what);
    for (int64_t i = 0; i < count; i++)
        printf("%s%.4f", i > 0 ? ", " : "", values[i]);
    printf("]\n");
}

static void print_facts(const struct image_set_facts *facts)
{
    char rows[32] = "any";
    char columns[32] = "any";
    if (facts->rows)
        snprintf(rows, sizeof rows, "%" PRId64, facts->rows);
    if (facts->columns)
        snprintf(columns, sizeof columns, "%" PRId64, facts->columns);
    printf("format      %s\n", image_format_name(facts->format));
    printf("images      %" PRId64 "\n", facts->count);
    printf("size        %s rows, %s columns, %" PRId64 " channel%s", rows, columns, facts->channels,
           facts->channels == 1 ? "" : "s");
    if (!facts->rows || !facts->columns)
        printf("; at most %" PRId64 " rows, %" PRId64 " columns", facts->rows_most, facts->columns_most);
    printf("\nclasses     %" PRId64 "\n", facts->classes);
    if (facts->others > 0)
        printf("others      %" PRId64 " files that are neither PNG nor JPEG by their names\n", facts->others);
}

static enum status print_classes(struct context *context, const struct image_set *set)
{
    const struct image_set_facts *facts = image_set_facts(set);
    int64_t *counts = memory_allocate(context, (size_t)facts->classes * sizeof *counts, MEMORY_OTHER);
    if (!counts)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < facts->count; i++)
        counts[image_set_label(set, i)]++;
    printf("\n%8s  %8s  class\n", "label", "images");
    for (int64_t i = 0; i < facts->classes; i++)
        printf("%8" PRId64 "  %8" PRId64 "  %s\n", i, counts[i], image_set_class_name(set, i));
    memory_free(context, counts);
    return STATUS_OK;
}

static int64_t sheet_side(const struct image_set_facts *facts)
{
    int64_t side = facts->rows_most > facts->columns_most ? facts->rows_most : facts->columns_most;
    return side < SIDE_LEAST ? SIDE_LEAST : side > SIDE_MOST ? SIDE_MOST : side;
}

static enum status inspect(struct command *command, const struct image_set *set, const char *sheet)
{
    struct context *context = &command->context;
    const struct image_set_facts *facts = image_set_facts(set);
    struct image_moments moments;
    int64_t bad = 0;
    print_facts(facts);
    for (int64_t i = 1; i < facts->skipped && i < IMAGE_BAD_TEXTS; i++) /* the first was told when the set was opened */
        context_log(context, "%s", image_set_bad(set, i));
    CHECK(image_set_measure(context, set, 0, true, &moments, &bad));
    print_values("mean", moments.mean, facts->channels);
    print_values("deviation", moments.deviation, facts->channels);
    printf("bad         %" PRId64 "\n", facts->skipped + bad);
    CHECK(print_classes(context, set));
    if (facts->skipped + bad > 0)
        command->exit_code = 1;
    if (sheet)
        return image_sheet_write(context, set, sheet, SHEET_CLASSES, SHEET_COLUMNS, sheet_side(facts));
    return STATUS_OK;
}

static enum status open_and_inspect(struct command *command, const char *const *paths, int count,
                                    enum image_format format, const char *sheet)
{
    struct context *context = &command->context;
    struct image_set *set = NULL;
    struct text_list *names = memory_allocate(context, sizeof *names, MEMORY_OTHER);
    enum status status = names ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; status == STATUS_OK && i < count; i++)
        if (!text_copy(names->item[names->count++], TEXT_LENGTH, paths[i]))
            status = context_fail(context, STATUS_USAGE, "%s: the path is too long", paths[i]);
    if (status == STATUS_OK)
        status = image_set_open(context, names, format, true, &set);
    if (status == STATUS_OK)
        status = inspect(command, set, sheet);
    image_set_close(&set);
    memory_free(context, names);
    return status;
}

enum status command_data_images(struct command *command, int argc, char **argv)
{
    const char *words[TEXT_LIST_ITEMS + 1]; /* what, and the paths */
    const char *sheet = NULL;
    const char *format_name = NULL;
    enum image_format format;
    int count;
    const struct option_row rows[] = {{"--sheet", &sheet, NULL}, {"--format", &format_name, NULL}};
    CHECK(command_parse(command, argc, argv, rows, 2, words, TEXT_LIST_ITEMS + 1, &count));
    if (command->override_count > 0)
        return context_fail(&command->context, STATUS_USAGE, "data images: takes no --set; see `cairn data --help`");
    if (count < 2)
        return context_fail(&command->context, STATUS_USAGE,
                            "data images: name a file or folder of images; see `cairn data --help`");
    CHECK(read_format(command, format_name, &format));
    enum status status = STATUS_OK;
    if (command->rank == 0)
        status = open_and_inspect(command, words + 1, count - 1, format, sheet);
    return team_agree(command->team, &command->context, status);
}
