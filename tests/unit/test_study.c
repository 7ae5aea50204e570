#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/study/launch.h"
#include "src/study/scale.h"

struct fixture {
    struct context context;
    char folder[64];
    char text[1 << 18]; /* of the file that was read last */
};

static void path_of(const struct fixture *fixture, const char *name, char path[256])
{
    snprintf(path, 256, "%s/%s", fixture->folder, name);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    char path[256];
    context_create(&fixture.context);
    fixture.context.quiet = true;
    strcpy(fixture.folder, "/tmp/cairn-study-XXXXXX");
    *state = &fixture;
    if (!mkdtemp(fixture.folder))
        return -1;
    path_of(&fixture, "runs", path);
    return mkdir(path, 0777);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture->folder);
    return system(command) == 0 && fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void write_file(const struct fixture *fixture, const char *name, const char *text)
{
    char path[256];
    path_of(fixture, name, path);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
}

static const char *read_file(struct fixture *fixture, const char *name)
{
    char path[256];
    path_of(fixture, name, path);
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(fixture->text, 1, sizeof fixture->text - 1, file) : 0;
    fixture->text[length] = '\0';
    if (file)
        fclose(file);
    return fixture->text;
}

static void assert_has(struct fixture *fixture, const char *name, const char *words)
{
    if (!strstr(read_file(fixture, name), words))
        fail_msg("%s lacks \"%s\"", name, words);
}

/* -- Rows and what they say -- */

/* A row of so many ranks of one thread, with half, a quarter, an eighth and an eighth of the time in the four parts. */
static void write_row(const struct fixture *fixture, const char *study, const char *layout, int ranks, int repeat,
                      double seconds)
{
    char name[64];
    char text[1024];
    int batch = strcmp(study, "weak") == 0 ? 16 * ranks : 16;
    snprintf(name, sizeof name, "runs/%s-%s-%d-%d.csv", study, layout, ranks, repeat);
    snprintf(
        text, sizeof text,
        "study,layout,repeat,status,nodes,ranks,threads,global_batch,sequence_length,micro_batch,type,"
        "tokens_per_second,step_p50_s,step_p95_s,compute_s,communication_s,bubble_s,io_s,mfu,hosts,column of later\n"
        "%s,%s,%d,ok,1,%d,1,%d,100,4,bf16,%.17g,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,0.5,\"a,b\",x\n",
        study, layout, repeat, ranks, batch, 100.0 * batch / seconds, seconds, 2.0 * seconds, seconds / 2.0,
        seconds / 4.0, seconds / 8.0, seconds / 8.0);
    write_file(fixture, name, text);
}

static void report(struct fixture *fixture, char *printed, size_t size)
{
    FILE *out = fmemopen(printed, size, "w");
    assert_ok(&fixture->context, scale_report(&fixture->context, fixture->folder, out));
    fclose(out);
}

static void efficiencies_follow_the_formulas(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    const double one[3] = {8.0, 8.5, 7.0};
    const double two[3] = {5.0, 4.0, 4.5};
    for (int i = 0; i < 3; i++) {
        write_row(fixture, "strong", "one", 1, i + 1, one[i]);
        write_row(fixture, "strong", "data", 2, i + 1, two[i]);
        write_row(fixture, "weak", "one", 1, i + 1, one[i]);
    }
    write_row(fixture, "strong", "tensor", 4, 1, 4.0);
    write_row(fixture, "weak", "data", 4, 1, 10.0);
    write_row(fixture, "weak", "data", 4, 2, 12.0);
    report(fixture, printed, sizeof printed);
    /* Strong: t0 N0 / (N t): 8 / (2 x 4.5), from 5 to 4 seconds. Weak: t0 / t: 8 / 11, from 12 to 10. */
    assert_string_equal(
        strchr(read_file(fixture, "efficiency.csv"), '\n') + 1,
        "strong,,one,1,1,1,3,8,7,8.5,16,200,1,0.941176471,1.14285714,1,0.941176471,1.14285714,0.5,,0.5,0.25,0.125,0."
        "125,"
        "720000\n"
        "strong,,data,2,1,1,3,4.5,4,5,9,355.555556,1.77777778,1.6,2,0.888888889,0.8,1,0.5,,0.5,0.25,0.125,0.125,"
        "640000\n"
        "strong,,tensor,4,1,1,1,4,4,4,8,400,2,2,2,0.5,0.5,0.5,0.5,,0.5,0.25,0.125,0.125,360000\n"
        "weak,,one,1,1,1,3,8,7,8.5,16,200,1,0.941176471,1.14285714,1,0.941176471,1.14285714,0.5,,0.5,0.25,0.125,0.125,"
        "720000\n"
        "weak,,data,4,1,1,2,11,10,12,22,586.666667,2.90909091,2.66666667,3.2,0.727272727,0.666666667,0.8,0.5,,0.5,0.25,"
        "0.125,0.125,528000\n");
    assert_non_null(strstr(printed, "    2        1  data       3     4.5      4 to 5      9       356      1.78"
                                    "      88.9 %  80.0 to 100.0  50.0 %   50.0 %  25.0 %  12.5 %  12.5 %"));
    assert_has(fixture, "index.html",
               "<td class=\"n\" data-head=\"efficiency\">88.9 %</td><td class=\"n\" data-head=\"min to max\">80.0 to "
               "100.0</td>");
    assert_has(fixture, "index.html",
               "<td class=\"n\" data-head=\"efficiency\">72.7 %</td><td class=\"n\" data-head=\"min to max\">66.7 to "
               "80.0</td>");
    assert_has(fixture, "plots/strong-efficiency.gnuplot",
               "$line0 << END\n1 100 94.1176 114.286\n2 88.8889 80 100\nEND\n"
               "$line1 << END\n1 100 94.1176 114.286\n4 50 50 50\nEND\n"
               "$line2 << END\n1 100 100 100\n2 100 100 100\n4 100 100 100\nEND\n");
    assert_has(fixture, "plots/strong-time.gnuplot", "1 8 8 8\n2 4 4 4\n4 2 2 2\n"); /* the ideal */
    assert_has(fixture, "plots/weak-time.gnuplot", "1 8 8 8\n4 8 8 8\n");
    assert_has(fixture, "plots/strong-split.gnuplot", "\"2: data\" 50 25 12.5 12.5\n");
}

/* Of two ranks with three threads each: 360 tokens a second are 216,000 in an hour of one of their six cores. */
static void cores_are_those_of_all_threads(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    write_file(
        fixture, "runs/one.csv",
        "study,layout,repeat,status,nodes,ranks,threads,global_batch,sequence_length,tokens_per_second,step_p50_s\n"
        "strong,one,1,ok,1,1,3,16,100,200,8\n");
    write_file(
        fixture, "runs/two.csv",
        "study,layout,repeat,status,nodes,ranks,threads,global_batch,sequence_length,tokens_per_second,step_p50_s\n"
        "strong,data,1,ok,1,2,3,16,100,360,5\n");
    report(fixture, printed, sizeof printed);
    const char *text = read_file(fixture, "efficiency.csv");
    assert_non_null(strstr(text, "strong,,one,1,3,1,1,8,8,8,,200,1,1,1,1,1,1,,,,,,,240000\n"));
    assert_non_null(strstr(text, "strong,,data,2,3,1,1,5,5,5,,360,1.6,1.6,1.6,0.8,0.8,0.8,,,,,,,216000\n"));
}

static void the_largest_base_is_the_smallest_number_of_cores(void **state)
{
    struct fixture *fixture = *state;
    char printed[4096] = "";
    write_row(fixture, "strong", "tensor", 2, 1, 6.0); /* what one rank cannot hold */
    write_row(fixture, "strong", "pipeline", 2, 1, 5.0);
    write_row(fixture, "strong", "tensor", 4, 1, 3.0);
    report(fixture, printed, sizeof printed);
    /* 5 x 2 / (4 x 3), beside the faster of those on two ranks. */
    assert_has(fixture, "efficiency.csv",
               "strong,,tensor,4,1,1,1,3,3,3,6,533.333333,1.66666667,1.66666667,1.66666667,"
               "0.833333333,");
}

static void failures_are_part_of_the_study(void **state)
{
    struct fixture *fixture = *state;
    char printed[4096] = "";
    write_row(fixture, "strong", "one", 1, 1, 2.0);
    write_file(fixture, "runs/a.csv",
               "study,layout,ranks,repeat,status,note\n"
               "strong,data,2,1,failed,\"exit status 1: <out of memory>, \"\"really\"\"\"\n");
    write_file(fixture, "runs/b.csv", "study,ranks\nstrong,\"2\n");
    write_file(fixture, "runs/c.csv", "study,ranks\nstrong,two\n");
    write_file(fixture, "runs/d.csv", "study,ranks\nstrong,1,2\n");
    report(fixture, printed, sizeof printed);
    assert_non_null(
        strstr(printed, "failed: strong, 2 ranks, data, repeat 1: exit status 1: <out of memory>, \"really\"\n"));
    assert_has(fixture, "index.html", "exit status 1: &lt;out of memory&gt;, &quot;really&quot;");
    /* Both rows, and no third. */
    const char *rows = strchr(read_file(fixture, "scaling.csv"), '\n') + 1;
    assert_memory_equal(rows, "strong,one,", 11);
    rows = strchr(rows, '\n') + 1;
    assert_memory_equal(rows, "strong,data,,1,failed,", 22);
    assert_int_equal(strlen(strchr(rows, '\n')), 1);
}

static void broken_rows_are_named(void **state)
{
    struct fixture *fixture = *state;
    static struct scale_row row;
    char path[256];
    int count;
    path_of(fixture, "runs/a.csv", path);
    write_file(fixture, "runs/a.csv", "study,ranks\nstrong,two\n");
    assert_fails(&fixture->context, rows_read(&fixture->context, path, &row, 1, &count), STATUS_FILE,
                 "runs/a.csv: row 2: ranks: expected a number, got \"two\"");
    write_file(fixture, "runs/a.csv", "study,ranks\nstrong,1,2\n");
    assert_fails(&fixture->context, rows_read(&fixture->context, path, &row, 1, &count), STATUS_FILE,
                 "runs/a.csv: row 2 is broken");
    write_file(fixture, "runs/a.csv", "");
    assert_fails(&fixture->context, rows_read(&fixture->context, path, &row, 1, &count), STATUS_FILE, "is no CSV file");
    assert_fails(&fixture->context, scale_report(&fixture->context, "/nowhere", stdout), STATUS_FILE, "/nowhere/runs");
    unlink(path);
    assert_fails(&fixture->context, scale_report(&fixture->context, fixture->folder, stdout), STATUS_FILE,
                 "holds no rows");
}

/* -- The grid -- */

static const char configuration[] = "model: {vocabulary: 64, width: 32, layers: 2, heads: 2, hidden: 48}\n"
                                    "training: {batch: 6, micro_batch: 1, sequence_length: 16}\n";

static enum status make_grid(struct fixture *fixture, struct scale_options *options, char *printed, size_t size)
{
    char path[256];
    struct scale_grid grid;
    path_of(fixture, "tiny.yaml", path);
    write_file(fixture, "tiny.yaml", configuration);
    options->config = path;
    enum status status = scale_grid_create(&fixture->context, options, &grid);
    FILE *out = fmemopen(printed, size, "w");
    if (status == STATUS_OK)
        scale_grid_print(&grid, out);
    fclose(out);
    scale_grid_destroy(&grid);
    return status;
}

static void the_grid_has_what_the_model_permits(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    /* Two heads, two layers, six sequences: four ranks of tensor or pipeline alone do not fit, nor do eight of data. */
    struct scale_options options = {.ranks = "1,2,4", .strong = true, .repeats = 1};
    assert_ok(&fixture->context, make_grid(fixture, &options, printed, sizeof printed));
    assert_string_equal(printed, "1 strong ranks=1 data=1 pipeline=1 context=1 tensor=1 batch=6 repeat=1\n"
                                 "2 strong ranks=2 data=2 pipeline=1 context=1 tensor=1 batch=6 repeat=1\n"
                                 "3 strong ranks=2 data=1 pipeline=1 context=1 tensor=2 batch=6 repeat=1\n"
                                 "4 strong ranks=2 data=1 pipeline=2 context=1 tensor=1 batch=6 repeat=1\n"
                                 "5 strong ranks=2 data=1 pipeline=1 context=2 tensor=1 batch=6 repeat=1\n"
                                 "6 strong ranks=4 data=4 pipeline=1 context=1 tensor=1 batch=6 repeat=1\n"
                                 "7 strong ranks=4 data=1 pipeline=1 context=4 tensor=1 batch=6 repeat=1\n"
                                 "8 strong ranks=4 data=2 pipeline=1 context=1 tensor=2 batch=6 repeat=1\n"
                                 "9 strong ranks=4 data=2 pipeline=2 context=1 tensor=1 batch=6 repeat=1\n"
                                 "10 strong ranks=4 data=2 pipeline=1 context=2 tensor=1 batch=6 repeat=1\n"
                                 "11 strong ranks=4 data=1 pipeline=2 context=1 tensor=2 batch=6 repeat=1\n");
}

/* Sixteen tokens in parts of two and more are for eight ranks; four segments of Infini-attention for four. */
static void context_ranks_have_parts(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    struct scale_options options = {.ranks = "2,4,8,16", .layouts = "context", .strong = true, .repeats = 1};
    assert_ok(&fixture->context, make_grid(fixture, &options, printed, sizeof printed));
    assert_non_null(strstr(printed, "context=8 "));
    assert_null(strstr(printed, "context=16 "));
    static const char *const overrides[] = {"model.attention.kind=infini", "model.attention.segment=4"};
    options.overrides = overrides;
    options.override_count = 2;
    assert_ok(&fixture->context, make_grid(fixture, &options, printed, sizeof printed));
    assert_non_null(strstr(printed, "context=4 "));
    assert_null(strstr(printed, "context=8 "));
}

static void weak_batches_grow(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    struct scale_options options = {.ranks = "2,4,5", .layouts = "data", .weak = true, .repeats = 2};
    assert_ok(&fixture->context, make_grid(fixture, &options, printed, sizeof printed));
    assert_string_equal(printed, "1 weak ranks=2 data=2 pipeline=1 context=1 tensor=1 batch=6 repeat=1\n"
                                 "2 weak ranks=4 data=4 pipeline=1 context=1 tensor=1 batch=12 repeat=1\n"
                                 "3 weak ranks=5 data=5 pipeline=1 context=1 tensor=1 batch=15 repeat=1\n"
                                 "4 weak ranks=2 data=2 pipeline=1 context=1 tensor=1 batch=6 repeat=2\n"
                                 "5 weak ranks=4 data=4 pipeline=1 context=1 tensor=1 batch=12 repeat=2\n"
                                 "6 weak ranks=5 data=5 pipeline=1 context=1 tensor=1 batch=15 repeat=2\n");
}

/* Ranks for which the batch would not be whole, and stages without a pipeline. */
static void what_does_not_grow_is_left_out(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    struct scale_options options = {.ranks = "4,5,6", .layouts = "data", .weak = true, .repeats = 1};
    assert_ok(&fixture->context, make_grid(fixture, &options, printed, sizeof printed));
    assert_string_equal(printed, "1 weak ranks=4 data=4 pipeline=1 context=1 tensor=1 batch=6 repeat=1\n"
                                 "2 weak ranks=6 data=6 pipeline=1 context=1 tensor=1 batch=9 repeat=1\n");
    static const char *const overrides[] = {"model.layers=4", "mesh.pipeline=2", "mesh.virtual_stages=2"};
    struct scale_grid grid;
    char path[256];
    path_of(fixture, "tiny.yaml", path);
    options = (struct scale_options){.config = path,
                                     .overrides = overrides,
                                     .override_count = 3,
                                     .ranks = "2",
                                     .layouts = "data,pipeline",
                                     .strong = true,
                                     .repeats = 1};
    assert_ok(&fixture->context, scale_grid_create(&fixture->context, &options, &grid));
    assert_int_equal(grid.count, 2);
    assert_int_equal(grid.runs[0].mesh.virtual_stages, 1);
    assert_int_equal(grid.runs[1].mesh.virtual_stages, 2);
    scale_grid_destroy(&grid);
}

static void settings_vary(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192] = "";
    struct scale_options options = {
        .ranks = "4", .layouts = "tensor,data=2+tensor=2", .vary = "model.heads=2,4", .strong = true, .repeats = 1};
    assert_ok(&fixture->context, make_grid(fixture, &options, printed, sizeof printed));
    assert_string_equal(printed,
                        "1 strong ranks=4 data=2 pipeline=1 context=1 tensor=2 batch=6 repeat=1 model.heads=2\n"
                        "2 strong ranks=4 data=1 pipeline=1 context=1 tensor=4 batch=6 repeat=1 model.heads=4\n"
                        "3 strong ranks=4 data=2 pipeline=1 context=1 tensor=2 batch=6 repeat=1 model.heads=4\n");
}

static void wrong_options_are_named(void **state)
{
    struct fixture *fixture = *state;
    char printed[8192];
    static const struct {
        struct scale_options options;
        const char *message;
    } cases[] = {
        {{.ranks = "1,1", .strong = true}, "--ranks: expected"},
        {{.ranks = "0", .strong = true}, "--ranks: expected"},
        {{.ranks = "1,,2", .strong = true}, "--ranks: expected"},
        {{.ranks = "two", .strong = true}, "--ranks: expected"},
        {{.ranks = "2", .layouts = "data+tensor", .strong = true}, "--meshes: expected"},
        {{.ranks = "2", .layouts = "depth", .strong = true}, "--meshes: expected"},
        {{.ranks = "2", .layouts = "data+", .strong = true}, "--meshes: expected"},
        {{.ranks = "2", .layouts = "data=0+tensor", .strong = true}, "--meshes: expected"},
        {{.ranks = "2", .vary = "model.heads", .strong = true}, "--vary: expected"},
        {{.ranks = "2", .vary = "model.heads=3", .strong = true}, "model.heads"},
        {{.ranks = "3", .layouts = "tensor", .strong = true}, "no run of the grid is possible"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scale_options options = cases[i].options;
        options.repeats = 1;
        assert_fails(&fixture->context, make_grid(fixture, &options, printed, sizeof printed), STATUS_USAGE,
                     cases[i].message);
    }
}

/* -- Starting programs -- */

static void templates_are_taken_apart(void **state)
{
    (void)state;
    static struct arguments arguments;
    char text[256];
    arguments = (struct arguments){0};
    arguments_add_template(&arguments, "  srun -n%n  --label=%n-of-%n ", 16);
    arguments_add(&arguments, "two words");
    assert_int_equal(arguments.count, 4);
    assert_string_equal(arguments.word[1], "-n16");
    assert_string_equal(arguments.word[2], "--label=16-of-16");
    assert_null(arguments.word[4]);
    arguments_format(&arguments, text, sizeof text);
    assert_string_equal(text, "srun -n16 --label=16-of-16 'two words'");
    for (int i = 0; i < 2 * ARGUMENTS_MOST; i++)
        arguments_add(&arguments, "x");
    assert_true(arguments.full);
}

static void launch_shell(struct fixture *fixture, const char *script, int64_t limit, char *why, size_t size)
{
    static struct arguments arguments;
    char output[256];
    char messages[256];
    path_of(fixture, "out", output);
    path_of(fixture, "err", messages);
    arguments = (struct arguments){0};
    arguments_add_template(&arguments, "sh -c", 1);
    arguments_add(&arguments, "%s", script);
    launch(&arguments, output, messages, limit, why, size);
}

static void programs_succeed_or_say_why(void **state)
{
    struct fixture *fixture = *state;
    static struct arguments arguments;
    char why[256];
    launch_shell(fixture, "echo result; echo words >&2", 60, why, sizeof why);
    assert_string_equal(why, "");
    assert_string_equal(read_file(fixture, "out"), "result\n");
    launch_shell(fixture,
                 "echo ---- >&2; echo warning: crowded >&2; echo launcher >&2; echo cairn: no memory >&2; exit 3", 60,
                 why, sizeof why);
    assert_string_equal(why, "exit status 3: no memory");
    launch_shell(fixture, "echo ---- >&2; echo there are not enough slots >&2; exit 1", 60, why, sizeof why);
    assert_string_equal(why, "exit status 1: there are not enough slots");
    launch_shell(fixture, "echo mpirun: not found >&2; exit 127", 60, why, sizeof why);
    assert_string_equal(why, "exit status 127: mpirun: not found");
    launch_shell(fixture, "exit 127", 60, why, sizeof why);
    assert_non_null(strstr(why, " cannot be started: No such file or directory"));
    launch_shell(fixture, "kill -9 $$", 60, why, sizeof why);
    assert_string_equal(why, "signal 9");
    launch_shell(fixture, "exec sleep 30", 0, why, sizeof why);
    assert_string_equal(why, "ended after 0 seconds, the limit of a run");
    arguments = (struct arguments){0};
    arguments_add(&arguments, "no-such-program-anywhere");
    launch(&arguments, "/dev/null", "/dev/null", 60, why, sizeof why);
    assert_string_equal(why, "no-such-program-anywhere cannot be started: No such file or directory");
}

/* -- A run -- */

/* What a run prints: no number is there twice. */
static const char result[] =
    "{\"nodes\": 1, \"threads\": 3, \"micro_batch\": 1, \"sequence_length\": 16, \"parameters\": 4711, "
    "\"type\": \"bf16\", \"isa\": \"avx2\", \"hosts\": \"a*2\", \"tokens_per_second\": 12, \"seconds\": 8, "
    "\"seconds_p95\": 9, \"seconds_least\": 7, \"seconds_most\": 10, \"seconds_by_kind\": {\"mean\": {\"products\": "
    "2.5, "
    "\"attention\": 1.25, \"compute\": 0.5, \"optimizer\": 0.25, \"communication\": 3.375, \"other\": 0.125}, "
    "\"waiting_for_stages\": 1.125}, \"schedule_idle\": 0.2, \"flops\": {\"mfu\": 0.4, \"useful\": 96e9, "
    "\"executed\": 128e9}, \"peak\": {\"gflops_before\": 50, \"gflops_after\": 40}, \"memory_bytes\": "
    "{\"resident_peak\": 1000, \"resident_peak_of_any_rank\": 2000}, \"loss\": 4.5}";

/* The cell of a file with one row, under the head. */
static const char *cell(struct fixture *fixture, const char *name, const char *head)
{
    static char text[1 << 16];
    char path[256];
    char *heads[64];
    char *cells[64];
    path_of(fixture, name, path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    int count = csv_read(file, text, sizeof text / 2, heads, 64);
    assert_int_equal(csv_read(file, text + sizeof text / 2, sizeof text / 2, cells, 64), count);
    fclose(file);
    for (int i = 0; i < count; i++)
        if (strcmp(heads[i], head) == 0)
            return cells[i];
    fail_msg("%s has no column %s", name, head);
    return NULL;
}

static void a_row_is_what_its_run_printed(void **state)
{
    static const char *const expected[][2] = {{"study", "strong"},
                                              {"layout", "all"},
                                              {"repeat", "1"},
                                              {"status", "ok"},
                                              {"nodes", "1"},
                                              {"ranks", "24"},
                                              {"threads", "3"},
                                              {"tp", "2"},
                                              {"pp", "1"},
                                              {"cp", "4"},
                                              {"dp", "3"},
                                              {"micro_batch", "1"},
                                              {"global_batch", "6"},
                                              {"sequence_length", "16"},
                                              {"steps", "5"},
                                              {"type", "bf16"},
                                              {"parameters", "4711"},
                                              {"tokens_per_second", "12"},
                                              {"step_p50_s", "8"},
                                              {"step_p95_s", "9"},
                                              {"step_min_s", "7"},
                                              {"step_max_s", "10"},
                                              {"compute_s", "4.5"},
                                              {"communication_s", "2.25"},
                                              {"bubble_s", "1.125"},
                                              {"io_s", "0.125"},
                                              {"products_s", "2.5"},
                                              {"attention_s", "1.25"},
                                              {"other_compute_s", "0.5"},
                                              {"optimizer_s", "0.25"},
                                              {"schedule_idle", "0.2"},
                                              {"mfu", "0.4"},
                                              {"peak_gflops", "50"},
                                              {"mfu_datasheet", "0.25"},
                                              {"datasheet_gflops", "48"},
                                              {"useful_gflop", "96"},
                                              {"executed_gflop", "128"},
                                              {"memory_bytes", "2000"},
                                              {"loss", "4.5"},
                                              {"version", "one"},
                                              {"isa", "avx2"},
                                              {"hosts", "a*2"},
                                              {"note", "warning: busy"}};
    static const char file[] = "runs/strong-n24-d3p1c4t2-v0-r1.csv";
    struct fixture *fixture = *state;
    static struct scale_row row;
    struct scale_grid grid;
    char path[256];
    char program[256];
    char script[2048];
    path_of(fixture, "tiny.yaml", path);
    path_of(fixture, "program", program);
    write_file(fixture, "tiny.yaml", configuration);
    snprintf(script, sizeof script, "#!/bin/sh\necho warning: busy >&2\ncat <<END\n%s\nEND\n", result);
    write_file(fixture, "program", script);
    assert_int_equal(chmod(program, 0700), 0);
    struct scale_options options = {.program = program,
                                    .version = "one",
                                    .config = path,
                                    .ranks = "24",
                                    .layouts = "data=3+context=4+tensor=2",
                                    .launcher = "env RANKS=%n",
                                    .output = fixture->folder,
                                    .strong = true,
                                    .repeats = 1,
                                    .steps = 5,
                                    .warmup = 2,
                                    .limit = 60,
                                    .datasheet = 48.0 / 72.0};
    assert_ok(&fixture->context, scale_grid_create(&fixture->context, &options, &grid));
    strcpy(grid.runs[0].layout, "all");
    assert_false(scale_measured(&options, &grid, 0));
    assert_ok(&fixture->context, scale_measure(&fixture->context, &options, &grid, 0, &row));
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (strcmp(cell(fixture, file, expected[i][0]), expected[i][1]) != 0)
            fail_msg("%s is %s instead of %s", expected[i][0], cell(fixture, file, expected[i][0]), expected[i][1]);
    snprintf(script, sizeof script,
             "env RANKS=24 %s bench step %s --json --steps 5 --warmup 2 --set training.batch=6 --set mesh.data=3 --set "
             "mesh.pipeline=1 --set mesh.context=4 --set mesh.tensor=2 --set mesh.virtual_stages=1",
             program, path);
    assert_string_equal(cell(fixture, file, "command"), script);
    /* It is there, and another program's or another command's is not. */
    assert_true(scale_measured(&options, &grid, 0));
    options.version = "two";
    assert_false(scale_measured(&options, &grid, 0));
    options.version = "one";
    options.steps = 6;
    assert_false(scale_measured(&options, &grid, 0));
    scale_grid_destroy(&grid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(efficiencies_follow_the_formulas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_largest_base_is_the_smallest_number_of_cores, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cores_are_those_of_all_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(context_ranks_have_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_are_part_of_the_study, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_rows_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_grid_has_what_the_model_permits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(weak_batches_grow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_grow_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settings_vary, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_options_are_named, set_up, tear_down),
        cmocka_unit_test(templates_are_taken_apart),
        cmocka_unit_test_setup_teardown(programs_succeed_or_say_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_row_is_what_its_run_printed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
