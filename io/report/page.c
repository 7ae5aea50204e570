#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "io/report/report_private.h"

/* gnuplot draws axes and words in black, by attributes that a rule overrides: so they follow the reader's colors. Where
 * a table is too wide for the window each row becomes a card, whose cells say what they are. */
#define CARDS(width, of)                                                                              \
    "@media(max-width:" width "){" of " table," of " tbody{display:block;font-size:.9rem}" of         \
    " tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));padding:.4rem 0;"      \
    "border-bottom:1px solid var(--line)}" of " tr:first-child{display:none}" of                      \
    " td{border:0;padding:.1rem .5rem .1rem 0;overflow-wrap:anywhere}" of " td.n{text-align:left}" of \
    " td::before{content:attr(data-head);display:block;font-size:.75rem;color:var(--quiet)}}\n"
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
    ".m table{font-size:.8rem}.m th,.m td{padding:.25rem .35rem}.m th.n,.m td.n{white-space:normal}\n"
    "figure{margin:1.5rem 0}figure svg{width:100%;height:auto;max-width:56rem}\n"
    "figure svg [color=black]{color:var(--ink)}figure svg [fill=black]{fill:var(--ink)}"
    "figure svg [stroke=black]{stroke:var(--ink)}\n"
    ".narrow{display:none}@media(max-width:40rem){.narrow{display:block}.broad{display:none}}\n" CARDS("74.9rem", ".m")
        CARDS("60rem", ".s") CARDS("30rem", ".f") "details{margin:1rem 0}summary{cursor:pointer}\n";

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
    FILE *out = page->file.out;
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
    fprintf(page->file.out, "<%s>", element);
    put_escaped(page->file.out, text);
    fprintf(page->file.out, "</%s>\n", element);
}

void report_page_table(struct report_page *page, const struct report_table *table)
{
    FILE *out = page->file.out;
    bool cards = table->columns > 3;
    fprintf(out, "<div class=\"wide%s\"><table>\n",
            table->columns > 12  ? " m"
            : table->columns > 5 ? " s"
            : cards              ? " f"
                                 : "");
    for (int64_t row = -1; row * table->columns < table->cells_used; row++) {
        fputs("<tr>", out);
        for (int i = 0; i < table->columns; i++) {
            const char *kind = row < 0 ? "th" : "td";
            fprintf(out, "<%s%s", kind, table_is_numeric(table, i) ? " class=\"n\"" : "");
            if (row >= 0 && cards) {
                fputs(" data-head=\"", out);
                put_escaped(out, table->heads[i]);
                fputc('"', out);
            }
            fputc('>', out);
            put_escaped(out, row < 0 ? table->heads[i] : table->cells[row * table->columns + i]);
            fprintf(out, "</%s>", kind);
        }
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

void report_page_fold(struct report_page *page, const char *summary)
{
    fputs("<details><summary>", page->file.out);
    put_escaped(page->file.out, summary);
    fputs("</summary>\n", page->file.out);
}

void report_page_fold_end(struct report_page *page)
{
    fputs("</details>\n", page->file.out);
}

/* Nothing when there is no such file. */
static void put_picture(struct report_page *page, const char *path, const char *class)
{
    char line[4096];
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    fprintf(page->file.out, "<div class=\"%s\">\n", class);
    bool inside = false; /* behind the declarations, which have no place in a page */
    while (fgets(line, sizeof line, file)) {
        inside = inside || strncmp(line, "<svg", 4) == 0;
        bool tooltip = strncmp(line, "<title>", 7) == 0 || strncmp(line, "<desc>", 6) == 0; /* of gnuplot, not ours */
        if (inside && !tooltip)
            fputs(line, page->file.out);
    }
    fputs("</div>\n", page->file.out);
    fclose(file);
}

void report_page_figure(struct report_page *page, const char *folder, const char *name)
{
    char broad[REPORT_PATH + 16];
    char narrow[REPORT_PATH + 16];
    snprintf(broad, sizeof broad, "%s/%s.svg", folder, name);
    snprintf(narrow, sizeof narrow, "%s/%s-narrow.svg", folder, name);
    bool both = access(narrow, R_OK) == 0;
    if (access(broad, R_OK) != 0)
        return;
    fputs("<figure>\n", page->file.out);
    put_picture(page, broad, both ? "broad" : "");
    put_picture(page, narrow, "narrow");
    fputs("</figure>\n", page->file.out);
}

enum status report_page_close(struct context *context, struct report_page *page)
{
    if (page->file.out)
        fputs("</body>\n</html>\n", page->file.out);
    return report_file_close(context, &page->file);
}
