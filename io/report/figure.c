#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "io/report/report_private.h"

/* Seen well on white and on black, and told apart by most eyes; darker or lighter, not only of another hue. */
static const char *const palette[] = {"#2f7ed8", "#e07b00", "#2a9d5c", "#d1495b",
                                      "#8e5bc0", "#17a2b8", "#a0713c", "#d667b0"};
enum { COLORS = sizeof palette / sizeof *palette };

static const char *color_of(int color)
{
    return palette[color % COLORS];
}

/* A text between single quotes, in which gnuplot takes everything as it stands. */
static void put_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (const char *c = text; *c; c++) {
        if (*c == '\'')
            fputc('\'', out);
        fputc((unsigned char)*c < ' ' ? ' ' : *c, out);
    }
    fputc('\'', out);
}

static void put_set(FILE *out, const char *what, const char *text)
{
    fprintf(out, "set %s ", what);
    put_text(out, text);
    fputc('\n', out);
}

static enum status open_script(struct context *context, const char *folder, const char *name, const char *title,
                               struct report_file *file)
{
    char path[REPORT_PATH];
    snprintf(path, sizeof path, "%s/%s.gnuplot", folder, name);
    CHECK(report_file_open(context, path, file));
    FILE *out = file->out;
    fprintf(out, "# gnuplot %s.gnuplot draws %s.svg and %s.png\n", name, name, name);
    fputs("set encoding utf8\n"
          "set border 3 lw 0.8\n"
          "set tics nomirror out\n"
          "set grid xtics ytics lc rgb '#808080' lw 0.6 dt 3\n"
          "set key below height 1 Left reverse samplen 2.5\n"
          "set format '%g'\n",
          out);
    put_set(out, "title", title);
    return STATUS_OK;
}

/* What draws a figure. */
struct plot {
    void (*put)(FILE *out, const void *self); /* the plot command */
    const void *self;
    const char *folder, *name, *title, *y_label;
};

/* A text in lines of about so many bytes, broken between words, as a string of gnuplot. */
static void put_lines(FILE *out, const char *text)
{
    enum { LINE = 46 };
    char line[LINE + 1];
    for (const char *next = text; *next; next += *next == ' ') {
        size_t length = strlen(next);
        if (length > LINE)
            for (length = LINE; length > 0 && next[length] != ' '; length--)
                ;
        if (length == 0) /* a long word is left whole */
            length = strcspn(next, " ");
        if (next != text)
            fputs(".\"\\n\".", out);
        if (length > LINE) {
            put_text(out, next);
            return;
        }
        memcpy(line, next, length);
        line[length] = '\0';
        put_text(out, line);
        next += length;
    }
}

/* For a phone: words of the size that they have on the page, and those along the y axis above it, where there is room.
 */
static void put_narrow(FILE *out, const struct plot *plot)
{
    fprintf(out,
            "set terminal svg noenhanced size 360,340 fixed font 'sans-serif,12' linewidth 1.2\n"
            "set output '%s-narrow.svg'\n"
            "unset ylabel\n"
            "set title ",
            plot->name);
    put_lines(out, plot->title);
    if (strcasecmp(plot->title, plot->y_label) != 0) {
        fputs(".\"\\n\".", out);
        put_lines(out, plot->y_label);
    }
    fputc('\n', out);
    plot->put(out, plot->self);
}

/* The command comes three times: strings of gnuplot that hold other strings would have to be quoted once more. */
static enum status close_script(struct context *context, struct report_file *file, const struct plot *plot, bool *drawn)
{
    FILE *out = file->out;
    fprintf(out,
            "set terminal svg noenhanced size 900,560 fixed font 'sans-serif,15' linewidth 1.4\n"
            "set output '%s.svg'\n",
            plot->name);
    plot->put(out, plot->self);
    fprintf(out,
            "set output\n"
            "if (strstrt(GPVAL_TERMINALS, 'pngcairo')) {\n"
            "    set terminal pngcairo noenhanced size 1800,1120 font 'sans-serif,24' linewidth 2.8 pointscale 2\n"
            "} else {\n"
            "    set terminal png noenhanced size 1800,1120 giant linewidth 2.8\n"
            "}\n"
            "set output '%s.png'\n",
            plot->name);
    plot->put(out, plot->self);
    put_narrow(out, plot);
    fputs("set output\n", out);
    CHECK(report_file_close(context, file));
    return gnuplot_run(context, plot->folder, plot->name, drawn);
}

/* -- Lines -- */

static void put_points(FILE *out, int index, const struct report_line *line, const struct report_figure *figure)
{
    fprintf(out, "$line%d << END\n", index);
    for (int64_t i = 0; i < line->count; i++) {
        const struct report_point *point = &line->points[i];
        bool shown = isfinite(point->x) && isfinite(point->y) && (!figure->log_y || point->low > 0.0) &&
                     (!figure->log_x || point->x > 0.0);
        if (shown)
            fprintf(out, "%.9g %.6g %.6g %.6g\n", point->x, point->y, point->low, point->high);
    }
    fputs("END\n", out);
}

static bool has_range(const struct report_line *line)
{
    for (int64_t i = 0; i < line->count; i++)
        if (line->points[i].low < line->points[i].high)
            return true;
    return false;
}

static void put_line(FILE *out, int index, const struct report_line *line)
{
    const char *color = color_of(line->color);
    if (line->style == REPORT_CURVE && has_range(line))
        fprintf(out, "$line%d using 1:3:4 with filledcurves fs transparent solid 0.25 noborder lc rgb '%s' notitle, ",
                index, color);
    if (line->style == REPORT_POINTS && has_range(line))
        fprintf(out, "$line%d using 1:2:3:4 with yerrorbars pt 0 lc rgb '%s' notitle, ", index, color);
    fprintf(out, "$line%d using 1:2 with ", index);
    if (line->style == REPORT_CURVE)
        fprintf(out, "lines lw 1.5 lc rgb '%s'", color);
    else if (line->style == REPORT_IDEAL)
        fputs("lines lw 1.2 dt 2 lc rgb '#808080'", out);
    else
        fprintf(out, "linespoints lw %s pt 7 ps %s lc rgb '%s'", line->style == REPORT_MARKS ? "0.8 dt 3" : "1.5",
                line->style == REPORT_MARKS ? "0.7" : "0.8", color);
    fputs(" title ", out);
    put_text(out, line->name);
}

/* Each place on the x axis where a point stands, once. */
static void put_places(FILE *out, const struct report_figure *figure)
{
    enum { PLACES = 64 };
    double places[PLACES];
    int count = 0;
    fputs("set xtics (", out);
    for (int i = 0; i < figure->line_count; i++)
        for (int64_t j = 0; j < figure->lines[i].count; j++) {
            double x = figure->lines[i].points[j].x;
            bool known = false;
            for (int k = 0; k < count; k++)
                known = known || places[k] == x;
            if (known || count == PLACES)
                continue;
            fprintf(out, "%s%.9g", count ? ", " : "", x);
            places[count++] = x;
        }
    fputs(")\n", out);
}

/* A logarithmic y axis with more marks than powers of ten: most figures span less than two of these. */
static void put_decades(FILE *out, const struct report_figure *figure)
{
    static const double marks[] = {1.0, 2.0, 5.0, 1.5, 3.0, 7.0};
    double low = INFINITY;
    double high = 0.0;
    for (int i = 0; i < figure->line_count; i++)
        for (int64_t j = 0; j < figure->lines[i].count; j++) {
            const struct report_point *point = &figure->lines[i].points[j];
            if (!isfinite(point->y) || !(point->low > 0.0))
                continue;
            low = fmin(low, point->low);
            high = fmax(high, point->high);
        }
    if (!(low <= high))
        return;
    fprintf(out, "set logscale y 10\nset yrange [%.6g:%.6g]\nset ytics (", low / 1.2, high * 1.2);
    bool first = true;
    int used = high < 10.0 * low ? 6 : 3;
    for (int power = (int)floor(log10(low)) - 1; power <= (int)ceil(log10(high)); power++)
        for (int i = 0; i < used; i++) {
            fprintf(out, "%s%g", first ? "" : ", ", marks[i] * pow(10.0, power));
            first = false;
        }
    fputs(")\n", out);
}

static void plot_lines(FILE *out, const void *self)
{
    const struct report_figure *figure = self;
    for (int i = 0; i < figure->line_count; i++) {
        fputs(i == 0 ? "plot " : ", ", out);
        put_line(out, i, &figure->lines[i]);
    }
    fputc('\n', out);
}

enum status report_figure_draw(struct context *context, const char *folder, const struct report_figure *figure,
                               bool *drawn)
{
    struct report_file file;
    *drawn = false;
    CHECK(open_script(context, folder, figure->name, figure->title, &file));
    FILE *out = file.out;
    put_set(out, "xlabel", figure->x_label);
    put_set(out, "ylabel", figure->y_label);
    if (figure->log_x)
        fputs("set logscale x 2\nset offsets graph 0.04, graph 0.04, 0, 0\n", out);
    if (figure->log_y)
        put_decades(out, figure);
    if (figure->from_zero)
        fputs("set yrange [0:*]\n", out);
    if (figure->whole_x)
        put_places(out, figure);
    for (int i = 0; i < figure->line_count; i++)
        put_points(out, i, &figure->lines[i], figure);
    struct plot plot = {.put = plot_lines,
                        .self = figure,
                        .folder = folder,
                        .name = figure->name,
                        .title = figure->title,
                        .y_label = figure->y_label};
    return close_script(context, &file, &plot, drawn);
}

/* -- Stacks -- */

static void plot_stack(FILE *out, const void *self)
{
    const struct report_stack *stack = self;
    for (int j = 0; j < stack->part_count; j++) {
        fprintf(out, "%s$stack using %d%s lc rgb '%s' title ", j == 0 ? "plot " : ", ", j + 2, j == 0 ? ":xtic(1)" : "",
                color_of(j));
        put_text(out, stack->parts[j]);
    }
    fputc('\n', out);
}

enum status report_stack_draw(struct context *context, const char *folder, const struct report_stack *stack,
                              bool *drawn)
{
    struct report_file file;
    *drawn = false;
    CHECK(open_script(context, folder, stack->name, stack->title, &file));
    FILE *out = file.out;
    put_set(out, "ylabel", stack->y_label);
    fprintf(out,
            "set style data histograms\n"
            "set style histogram rowstacked\n"
            "set style fill solid 0.85 noborder\n"
            "set boxwidth 0.7\n"
            "set yrange [0:%s]\n"
            "set xrange [-0.7:%g]\n"
            "set xtics rotate by -35 scale 0\n"
            "unset grid\n"
            "set grid ytics lc rgb '#808080' lw 0.6 dt 3\n"
            "$stack << END\n",
            stack->percent ? "100" : "*", stack->label_count - 0.3);
    for (int i = 0; i < stack->label_count; i++) {
        fprintf(out, "\"%s\"", stack->labels[i]);
        for (int j = 0; j < stack->part_count; j++)
            fprintf(out, " %.6g", stack->values[i * stack->part_count + j]);
        fputc('\n', out);
    }
    fputs("END\n", out);
    struct plot plot = {.put = plot_stack,
                        .self = stack,
                        .folder = folder,
                        .name = stack->name,
                        .title = stack->title,
                        .y_label = stack->y_label};
    return close_script(context, &file, &plot, drawn);
}
