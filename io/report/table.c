#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "io/report/report.h"
#include "io/report/report_private.h"

enum status report_table_create(struct context *context, const char *const *heads, int columns, int64_t rows,
                                struct report_table *table)
{
    *table = (struct report_table){.context = context, .heads = heads, .columns = columns};
    table->cells_most = rows * columns;
    table->cells = memory_allocate(context, (size_t)table->cells_most * sizeof *table->cells, MEMORY_OTHER);
    return table->cells ? STATUS_OK : STATUS_MEMORY;
}

void report_table_destroy(struct report_table *table)
{
    if (table->context)
        memory_free(table->context, table->cells);
    *table = (struct report_table){0};
}

void report_cell(struct report_table *table, const char *format, ...)
{
    if (table->cells_used == table->cells_most)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(table->cells[table->cells_used++], REPORT_CELL, format, arguments);
    va_end(arguments);
}

/* A number, or nothing. */
static bool is_number(const char *cell)
{
    return cell[0] == '\0' || isdigit((unsigned char)cell[0]) || (strchr("+-.", cell[0]) && cell[1] != '\0');
}

bool table_is_numeric(const struct report_table *table, int column)
{
    for (int64_t i = column; i < table->cells_used; i += table->columns)
        if (!is_number(table->cells[i]))
            return false;
    return true;
}

static void print_padded(FILE *out, const char *text, size_t width, bool right, bool last)
{
    size_t spaces = width - strlen(text);
    fprintf(out, "%*s%s", right ? (int)spaces : 0, "", text);
    if (!last)
        fprintf(out, "%*s", right ? 2 : (int)spaces + 2, "");
}

void report_table_print(const struct report_table *table, FILE *out)
{
    enum { COLUMNS = 32 };
    size_t width[COLUMNS];
    int columns = table->columns < COLUMNS ? table->columns : COLUMNS;
    for (int i = 0; i < columns; i++) {
        width[i] = strlen(table->heads[i]);
        for (int64_t j = i; j < table->cells_used; j += table->columns)
            width[i] = strlen(table->cells[j]) > width[i] ? strlen(table->cells[j]) : width[i];
    }
    for (int64_t row = -1; row * table->columns < table->cells_used; row++) {
        for (int i = 0; i < columns; i++)
            print_padded(out, row < 0 ? table->heads[i] : table->cells[row * table->columns + i], width[i],
                         table_is_numeric(table, i), i == columns - 1);
        fputc('\n', out);
    }
}
