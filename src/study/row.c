#include "src/study/row.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "src/core/text.h"

enum cell { CELL_TEXT, CELL_COUNT, CELL_REAL };

struct column {
    const char *name;
    enum cell cell;
    size_t offset;
    size_t size; /* of a text */
};

#define COLUMN_TEXT(name, field)                                                                 \
    {                                                                                            \
        name, CELL_TEXT, offsetof(struct scale_row, field), sizeof((struct scale_row *)0)->field \
    }
#define COLUMN_COUNT(name, field)                              \
    {                                                          \
        name, CELL_COUNT, offsetof(struct scale_row, field), 0 \
    }
#define COLUMN_REAL(name, field)                              \
    {                                                         \
        name, CELL_REAL, offsetof(struct scale_row, field), 0 \
    }

static const struct column columns[] = {
    COLUMN_TEXT("study", study),
    COLUMN_TEXT("layout", layout),
    COLUMN_TEXT("variant", variant),
    COLUMN_COUNT("repeat", repeat),
    COLUMN_TEXT("status", status),
    COLUMN_TEXT("job_id", job),
    COLUMN_TEXT("started", started),
    COLUMN_COUNT("nodes", nodes),
    COLUMN_COUNT("ranks", ranks),
    COLUMN_COUNT("threads", threads),
    COLUMN_COUNT("tp", tensor),
    COLUMN_COUNT("pp", pipeline),
    COLUMN_COUNT("cp", context),
    COLUMN_COUNT("dp", data),
    COLUMN_COUNT("micro_batch", micro_batch),
    COLUMN_COUNT("global_batch", batch),
    COLUMN_COUNT("sequence_length", length),
    COLUMN_COUNT("steps", steps),
    COLUMN_TEXT("type", type),
    COLUMN_COUNT("parameters", parameters),
    COLUMN_REAL("tokens_per_second", tokens_per_second),
    COLUMN_REAL("step_p50_s", p50),
    COLUMN_REAL("step_p95_s", p95),
    COLUMN_REAL("step_min_s", least),
    COLUMN_REAL("step_max_s", most),
    COLUMN_REAL("compute_s", compute),
    COLUMN_REAL("communication_s", communication),
    COLUMN_REAL("bubble_s", bubble),
    COLUMN_REAL("io_s", input),
    COLUMN_REAL("products_s", products),
    COLUMN_REAL("attention_s", attention),
    COLUMN_REAL("other_compute_s", other),
    COLUMN_REAL("optimizer_s", optimizer),
    COLUMN_REAL("schedule_idle", schedule_idle),
    COLUMN_REAL("mfu", mfu),
    COLUMN_REAL("peak_gflops", peak),
    COLUMN_REAL("mfu_datasheet", mfu_datasheet),
    COLUMN_REAL("datasheet_gflops", datasheet),
    COLUMN_REAL("useful_gflop", useful),
    COLUMN_REAL("executed_gflop", executed),
    COLUMN_REAL("memory_bytes", memory),
    COLUMN_REAL("loss", loss),
    COLUMN_TEXT("version", version),
    COLUMN_TEXT("isa", isa),
    COLUMN_TEXT("hosts", hosts),
    COLUMN_TEXT("command", command),
    COLUMN_TEXT("note", note),
};

enum { COLUMNS = sizeof columns / sizeof *columns, ROW_BYTES = 16384, CELLS = 256 };

static void *field_of(const struct column *column, struct scale_row *row)
{
    return (char *)row + column->offset;
}

void row_clear(struct scale_row *row)
{
    memset(row, 0, sizeof *row);
    for (int i = 0; i < COLUMNS; i++) {
        if (columns[i].cell == CELL_COUNT)
            *(int64_t *)field_of(&columns[i], row) = -1;
        else if (columns[i].cell == CELL_REAL)
            *(double *)field_of(&columns[i], row) = NAN;
    }
}

static void write_row(FILE *out, const struct scale_row *row)
{
    for (int i = 0; i < COLUMNS; i++) {
        const char *field = (const char *)row + columns[i].offset;
        char text[32] = "";
        if (columns[i].cell == CELL_COUNT && *(const int64_t *)field >= 0)
            snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)field);
        if (columns[i].cell == CELL_REAL && isfinite(*(const double *)field))
            snprintf(text, sizeof text, "%.9g", *(const double *)field);
        csv_write(out, columns[i].cell == CELL_TEXT ? field : text, i == COLUMNS - 1);
    }
}

enum status rows_write(struct context *context, const char *path, const struct scale_row *rows, int count)
{
    struct report_file file;
    CHECK(report_file_open(context, path, &file));
    for (int i = 0; i < COLUMNS; i++)
        csv_write(file.out, columns[i].name, i == COLUMNS - 1);
    for (int i = 0; i < count; i++)
        write_row(file.out, &rows[i]);
    return report_file_close(context, &file);
}

enum status row_write(struct context *context, const char *path, const struct scale_row *row)
{
    return rows_write(context, path, row, 1);
}

static const struct column *find_column(const char *name)
{
    for (int i = 0; i < COLUMNS; i++)
        if (strcmp(columns[i].name, name) == 0)
            return &columns[i];
    return NULL;
}

static bool read_cell(const struct column *column, const char *text, struct scale_row *row)
{
    if (!column || !text[0])
        return true;
    void *field = field_of(column, row);
    if (column->cell == CELL_COUNT)
        return text_to_integer(text, field);
    if (column->cell == CELL_REAL)
        return text_to_real(text, field);
    text_copy(field, column->size, text);
    return true;
}

static enum status read_rows(struct context *context, const char *path, FILE *in, char *text, struct scale_row *rows,
                             int most, int *count)
{
    char *cells[CELLS];
    const struct column *heads[CELLS];
    int head_count = csv_read(in, text, ROW_BYTES, cells, CELLS);
    for (int i = 0; i < head_count; i++)
        heads[i] = find_column(cells[i]);
    for (int line = 2; head_count > 0; line++) {
        int cell_count = csv_read(in, text, ROW_BYTES, cells, CELLS);
        if (cell_count == 0 || *count == most)
            return STATUS_OK;
        if (cell_count != head_count)
            return context_fail(context, STATUS_FILE, "%s: row %d is broken: %d cells under %d heads", path, line,
                                cell_count, head_count);
        struct scale_row *row = &rows[*count];
        row_clear(row);
        for (int i = 0; i < cell_count; i++)
            if (!read_cell(heads[i], cells[i], row))
                return context_fail(context, STATUS_FILE, "%s: row %d: %s: expected a number, got \"%.40s\"", path,
                                    line, heads[i]->name, cells[i]);
        (*count)++;
    }
    return context_fail(context, STATUS_FILE, "%s: is no CSV file", path);
}

enum status rows_read(struct context *context, const char *path, struct scale_row *rows, int most, int *count)
{
    FILE *in = fopen(path, "r");
    if (!in)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    char *text = memory_allocate(context, ROW_BYTES, MEMORY_OTHER);
    *count = 0;
    enum status status = text ? read_rows(context, path, in, text, rows, most, count) : STATUS_MEMORY;
    memory_free(context, text);
    fclose(in);
    return status;
}
