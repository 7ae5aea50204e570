#include "src/study/confusion.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 100, FEW = 12, SHOWN = 12, ROW = 1 << 16 };

struct table {
    int classes;
    char name[MOST][64];
    double count[MOST][MOST]; /* by label, then by the class it was taken for */
};

static bool read_table(FILE *in, char *text, struct table *table)
{
    char *cells[MOST + 2];
    table->classes = csv_read(in, text, ROW, cells, MOST + 2) - 1;
    if (table->classes < 1 || table->classes > MOST)
        return false;
    for (int label = 0; label < table->classes; label++) {
        if (csv_read(in, text, ROW, cells, MOST + 2) != table->classes + 1)
            return false;
        snprintf(table->name[label], sizeof table->name[label], "%s", cells[0]);
        for (int c = 0; c < table->classes; c++)
            table->count[label][c] = strtod(cells[c + 1], NULL);
    }
    return true;
}

static double row_sum(const struct table *table, int label)
{
    double sum = 0.0;
    for (int c = 0; c < table->classes; c++)
        sum += table->count[label][c];
    return sum;
}

/* Percent of each label's images. */
static enum status show_all(struct context *context, const struct table *table, struct report_page *page)
{
    const char *heads[FEW + 2] = {"label"};
    struct report_table shown;
    for (int c = 0; c < table->classes; c++)
        heads[c + 1] = table->name[c];
    heads[table->classes + 1] = "images";
    CHECK(report_table_create(context, heads, table->classes + 2, table->classes, &shown));
    for (int label = 0; label < table->classes; label++) {
        double sum = row_sum(table, label);
        report_cell(&shown, "%s", table->name[label]);
        for (int c = 0; c < table->classes; c++)
            report_cell(&shown, table->count[label][c] > 0.0 ? "%.1f" : "", 100.0 * table->count[label][c] / sum);
        report_cell(&shown, "%.0f", sum);
    }
    report_page_text(page, "p", "Of the images with a label, percent that were taken for a class.");
    report_page_table(page, &shown);
    report_table_destroy(&shown);
    return STATUS_OK;
}

/* Finds the most frequent mistake that comes behind one of `before` images at (label, c). */
static double next_mistake(const struct table *table, double before, int *label, int *class)
{
    int last = *label * table->classes + *class;
    double most = 0.0;
    for (int i = 0; i < table->classes * table->classes; i++) {
        double count = table->count[i / table->classes][i % table->classes];
        bool behind = count < before || (count == before && i > last);
        if (i / table->classes == i % table->classes || !behind || count <= most)
            continue;
        most = count;
        *label = i / table->classes;
        *class = i % table->classes;
    }
    return most;
}

static enum status show_mistakes(struct context *context, const struct table *table, struct report_page *page)
{
    static const char *const heads[] = {"label", "taken for", "images", "% of the label"};
    struct report_table shown;
    double count = 1e300;
    int label = -1;
    int class = 0;
    CHECK(report_table_create(context, heads, 4, SHOWN, &shown));
    for (int i = 0; i < SHOWN; i++) {
        count = next_mistake(table, count, &label, &class);
        if (count == 0.0)
            break;
        report_cell(&shown, "%s", table->name[label]);
        report_cell(&shown, "%s", table->name[class]);
        report_cell(&shown, "%.0f", count);
        report_cell(&shown, "%.1f", 100.0 * count / row_sum(table, label));
    }
    report_page_text(page, "p", "The most frequent mistakes:");
    report_page_table(page, &shown);
    report_table_destroy(&shown);
    return STATUS_OK;
}

enum status confusion_show(struct context *context, const char *run, const char *name, struct report_page *page)
{
    char path[REPORT_PATH];
    snprintf(path, sizeof path, "%.1000s/confusion.csv", run);
    FILE *in = fopen(path, "r");
    if (!in)
        return STATUS_OK;
    struct table *table = memory_allocate(context, sizeof *table, MEMORY_OTHER);
    char *text = memory_allocate(context, ROW, MEMORY_OTHER);
    enum status status = table && text ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK && read_table(in, text, table)) {
        report_page_text(page, "h2", "What %s takes for what", name);
        if (table->classes <= FEW)
            status = show_all(context, table, page);
        if (status == STATUS_OK)
            status = show_mistakes(context, table, page);
    }
    memory_free(context, text);
    memory_free(context, table);
    fclose(in);
    return status;
}
