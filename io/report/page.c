#include <stdarg.h>
#include <string.h>

#include "io/report/report_private.h"

/* gnuplot draws axes and words in black, by attributes that a rule overrides: so they follow the reader's colors. */
static const char style[] =
    ":root{color-scheme:light dark;--ink:#1d2127;--paper:#fff;--line:#d5d9df;--soft:#f4f6f8;--quiet:#5b6470}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--paper:#15181c;--line:#3a4048;--soft:#1e2228;"
    "--quiet:#9aa4b1}}\n"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:70rem;"
    "margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.7rem;line-height:1.25}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}\n"
    "p.note,figcaption,caption{color:var(--quiet)}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}\n"
    "th{background:var(--soft)}td.n,th.n{text-align:right;white-space:nowrap}\n"
    "figure{margin:1.5rem 0}figure svg{width:100%;height:auto;max-width:56rem}\n"
    "figure svg g[color=black]{color:var(--ink)}figure svg g[fill=black]{fill:var(--ink)}"
    "figure svg g[stroke=black]{stroke:var(--ink)}\n"
    "details{margin:1rem 0}summary{cursor:pointer}\n";

static void put_escaped(FILE *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        const char *entity = *c == '<'   ? "&lt;"
                             : *c == '>' ? "&gt;"
                             : *c == '&' ? "&amp;"
                             : *c == '"' ? "&quot;"
                                         : NULL;
        if (entity)
            fputs(entity, out);
        else
            fputc(*c, out);
    }
}

enum status report_page_open(struct context *context, const char *path, const char *title, struct report_page *page)
{
    CHECK(report_file_open(context, path, &page->file));
    FILE *out = page->file.stream;
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
          out);
    put_escaped(out, title);
    fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
    report_page_text(page, "h1", "%s", title);
    return STATUS_OK;
}

void report_page_text(struct report_page *page, const char *element, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(page->file.stream, "<%s>", element);
    put_escaped(page->file.stream, text);
    fprintf(page->file.stream, "</%s>\n", element);
}

void report_page_table(struct report_page *page, const struct report_table *table)
{
    FILE *out = page->file.stream;
    fputs("<div class=\"wide\"><table>\n", out);
    for (int64_t row = -1; row * table->columns < table->cells_used; row++) {
        fputs("<tr>", out);
        for (int i = 0; i < table->columns; i++) {
            const char *kind = row < 0 ? "th" : "td";
            fprintf(out, "<%s%s>", kind, table_is_numeric(table, i) ? " class=\"n\"" : "");
            put_escaped(out, row < 0 ? table->heads[i] : table->cells[row * table->columns + i]);
            fprintf(out, "</%s>", kind);
        }
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

void report_page_fold(struct report_page *page, const char *summary)
{
    fputs("<details><summary>", page->file.stream);
    put_escaped(page->file.stream, summary);
    fputs("</summary>\n", page->file.stream);
}

void report_page_fold_end(struct report_page *page)
{
    fputs("</details>\n", page->file.stream);
}

void report_page_figure(struct report_page *page, const char *folder, const char *name)
{
    char path[REPORT_PATH];
    char line[4096];
    snprintf(path, sizeof path, "%s/%s.svg", folder, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    fputs("<figure>\n", page->file.stream);
    bool inside = false; /* behind the declarations, which have no place in a page */
    while (fgets(line, sizeof line, file)) {
        inside = inside || strncmp(line, "<svg", 4) == 0;
        bool tooltip = strncmp(line, "<title>", 7) == 0 || strncmp(line, "<desc>", 6) == 0; /* of gnuplot, not ours */
        if (inside && !tooltip)
            fputs(line, page->file.stream);
    }
    fputs("</figure>\n", page->file.stream);
    fclose(file);
}

enum status report_page_close(struct context *context, struct report_page *page)
{
    if (page->file.stream)
        fputs("</body>\n</html>\n", page->file.stream);
    return report_file_close(context, &page->file);
}
