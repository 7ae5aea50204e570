#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/cli/command.h"
#include "src/cli/revision.h"
#include "src/study/scale.h"

/* Options of the command line, as they stand. */
struct scale_words {
    const char *repeats, *steps, *warmup, *limit, *peak, *run;
};

static enum status read_numbers(struct command *command, const struct scale_words *words, struct scale_options *options)
{
    const int64_t most = 100000;
    CHECK(command_integer(command, "--repeats", words->repeats, 1, 1000, &options->repeats));
    CHECK(command_integer(command, "--steps", words->steps, 1, most, &options->steps));
    CHECK(command_integer(command, "--warmup", words->warmup, 0, most, &options->warmup));
    CHECK(command_integer(command, "--limit", words->limit, 1, 100 * most, &options->limit));
    return command_real(command, "--peak-gflops", words->peak, 1e-3, 1e15, &options->datasheet);
}

static void say_run(struct command *command, const struct scale_grid *grid, int index, const struct scale_row *row)
{
    const struct scale_run *run = &grid->runs[index];
    char result[ROW_LONG + 64];
    if (strcmp(row->status, "ok") == 0)
        snprintf(result, sizeof result, "%.4g s a step, %.0f tokens/s%s%.*s", row->p50, row->tokens_per_second,
                 row->note[0] ? "; " : "", (int)strcspn(row->note, ";"), row->note);
    else
        snprintf(result, sizeof result, "failed: %s", row->note);
    context_log(&command->context, "run %d of %d: %s, %d rank%s, %s%s%s, repeat %d: %s", index + 1, grid->count,
                row->study, run->ranks, run->ranks == 1 ? "" : "s", run->layout, run->setting[0] ? ", " : "",
                run->setting, run->repeat, result);
}

static enum status measure(struct command *command, const struct scale_options *options, const struct scale_grid *grid,
                           int first, int count)
{
    struct context *context = &command->context;
    struct scale_row *row = memory_allocate(context, sizeof *row, MEMORY_OTHER);
    enum status status = row ? STATUS_OK : STATUS_MEMORY;
    int kept = 0;
    for (int i = first; i < first + count && status == STATUS_OK; i++) {
        if (!options->again && scale_measured(options, grid, i)) {
            kept++;
            continue;
        }
        status = scale_measure(context, options, grid, i, row);
        if (status == STATUS_OK)
            say_run(command, grid, i, row);
    }
    if (kept > 0)
        context_log(context, "%d of %d runs were measured before; --again measures them anew", kept, count);
    memory_free(context, row);
    return status;
}

/* The default: everything. `run` is the number of a single one, from 1; 0 without. */
static enum status run_study(struct command *command, const struct scale_options *options, bool list, int64_t run)
{
    struct context *context = &command->context;
    struct scale_grid grid;
    enum status status;
    TRY(scale_grid_create(context, options, &grid));
    if (list) {
        scale_grid_print(&grid, stdout);
        goto done;
    }
    if (run > grid.count) {
        status = context_fail(context, STATUS_USAGE, "--run: the grid has %d runs; see --list", grid.count);
        goto done;
    }
    TRY(measure(command, options, &grid, run ? (int)run - 1 : 0, run ? 1 : grid.count));
    if (!run)
        TRY(scale_report(context, options->output, stdout));
done:
    scale_grid_destroy(&grid);
    return status;
}

/* A program inside of mpirun cannot start another one. */
static enum status check_alone(struct command *command)
{
    if (getenv("OMPI_COMM_WORLD_SIZE"))
        return context_fail(&command->context, STATUS_USAGE,
                            "scale: start it without mpirun; it starts the ranks of each run itself");
    return STATUS_OK;
}

enum status command_scale(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    char program[REPORT_PATH] = "";
    char version[64];
    bool list = false, report = false;
    int64_t run = 0;
    int others;
    struct scale_words words = {0};
    struct scale_options options = {.repeats = 3,
                                    .steps = 10,
                                    .warmup = 2,
                                    .limit = 3600,
                                    .launcher = "mpirun -n %n",
                                    .output = "runs/scaling",
                                    .program = program,
                                    .version = version};
    const struct option_row rows[] = {
        {"--ranks", &options.ranks, NULL},
        {"--meshes", &options.layouts, NULL},
        {"--vary", &options.vary, NULL},
        {"--strong", NULL, &options.strong},
        {"--weak", NULL, &options.weak},
        {"--repeats", &words.repeats, NULL},
        {"--steps", &words.steps, NULL},
        {"--warmup", &words.warmup, NULL},
        {"--limit", &words.limit, NULL},
        {"--peak-gflops", &words.peak, NULL},
        {"--launcher", &options.launcher, NULL},
        {"--output", &options.output, NULL},
        {"--again", NULL, &options.again},
        {"--quick", NULL, &options.quick},
        {"--list", NULL, &list},
        {"--run", &words.run, NULL},
        {"--report", NULL, &report},
    };
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, &options.config, 1, &others));
    CHECK(read_numbers(command, &words, &options));
    CHECK(command_integer(command, "--run", words.run, 1, 1000000, &run));
    if (list + report + (run > 0) > 1)
        return context_fail(context, STATUS_USAGE, "scale: only one of --list, --run and --report");
    if (report)
        return scale_report(context, options.output, stdout);
    if (others != 1)
        return context_fail(context, STATUS_USAGE, "scale: name a configuration; see `cairn scale --help`");
    options.strong = options.strong || !options.weak;
    options.overrides = command->overrides;
    options.override_count = command->override_count;
    snprintf(version, sizeof version, "%s %s", CAIRN_VERSION, cairn_revision);
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        return context_fail(context, STATUS_FILE, "/proc/self/exe: cannot be read, so the program cannot be started");
    CHECK(check_alone(command));
    return run_study(command, &options, list, run);
}
