/* The program: wiring of the subcommands, and the only place that exits. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/share.h"
#include "src/cli/subcommands.h"
#include "src/cli/usage.h"
#include "src/cli/version.h"
#include "src/core/suggest.h"
#include "src/core/text.h"
#include "src/doctor/doctor.h"
#include "src/train/requests.h"
#include "src/train/train.h"

/* These run without MPI, in the first process only; a plan only if it is not to be measured. */
static const char *const alone[] = {"config", "scale", "report", "plan", "tokenizer"};

static void print_help(FILE *out)
{
    fprintf(out, "usage: cairn COMMAND [ARGUMENT]...\n\n"
                 "Trains transformers on clusters of CPUs: mpirun -n RANKS cairn train CONFIG\n\n");
    for (int i = 0; i < subcommand_count; i++)
        fprintf(out, "  %-12s %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(
        out,
        "\n`cairn COMMAND --help` and `cairn help COMMAND` say more; `cairn help config KEY` explains a setting.\n");
}

static const struct subcommand *find_subcommand(const char *name)
{
    for (int i = 0; i < subcommand_count; i++)
        if (strcmp(subcommands[i].name, name) == 0)
            return &subcommands[i];
    return NULL;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static enum status refuse_command(struct context *context, const char *name)
{
    enum { MOST = 64 };
    const char *names[MOST];
    int count = 0;
    for (; count < subcommand_count && count < MOST; count++)
        names[count] = subcommands[count].name;
    const char *meant = suggest_name(name, names, count);
    if (meant)
        return context_fail(context, STATUS_USAGE, "%s: unknown command; did you mean %s?", name, meant);
    return context_fail(context, STATUS_USAGE, "%s: unknown command; see `cairn --help`", name);
}

/* `cairn help WORD...`: a command, a tool of one, or a setting behind `config`. */
static enum status help(struct context *context, int count, char **words)
{
    if (count == 0) {
        print_help(stdout);
        return STATUS_OK;
    }
    const struct subcommand *subcommand = find_subcommand(words[0]);
    if (!subcommand)
        return refuse_command(context, words[0]);
    if (subcommand->run == command_config && count > 1)
        return config_describe(context, stdout, words[1]);
    fputs(subcommand->help, stdout);
    return STATUS_OK;
}

static bool runs_alone(const struct subcommand *subcommand, int argc, char **argv)
{
    if (subcommand->run == command_tokenizer && argc > 2 && strcmp(argv[2], "train") == 0)
        return false;
    if (subcommand->run == command_plan && usage_has_option(subcommand->help, argc, argv, "--measure"))
        return false;
    if (subcommand->run == command_doctor && doctor_is_stranded()) /* MPI would end it before it can say why */
        return true;
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        if (strcmp(subcommand->name, alone[i]) == 0)
            return true;
    return false;
}

static bool asks_for_help(const struct subcommand *subcommand, int argc, char **argv)
{
    return usage_has_option(subcommand->help, argc, argv, "--help") ||
           usage_has_option(subcommand->help, argc, argv, "-h");
}

static enum status dispatch(struct command *command, const struct subcommand *subcommand, int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    /* Only the first process comes here without MPI: what needs none is said once. */
    if (is_help(name) || strcmp(name, "help") == 0)
        return help(&command->context, argc - 2, argv + 2);
    if (strcmp(name, "--version") == 0)
        return version_print(&command->context);
    if (!subcommand) {
        if (argc > 1)
            return refuse_command(&command->context, name);
        print_help(stderr);
        return context_fail(&command->context, STATUS_USAGE, "name a command");
    }
    if (asks_for_help(subcommand, argc, argv)) {
        fputs(subcommand->help, stdout);
        return STATUS_OK;
    }
    if (command->ranks > 1)
        CHECK(share_command(command, subcommand->help, argc, argv));
    return subcommand->run(command, argc - 2, argv + 2);
}

static int exit_code_of(enum status status)
{
    return status == STATUS_OK ? 0 : status == STATUS_USAGE ? 2 : status == STATUS_AGAIN ? TRAIN_AGAIN : 1;
}

/* Which of the processes that mpirun or srun started this is, for a program that does not ask MPI. */
static int rank_of_environment(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        int64_t rank;
        if (value && text_to_integer(value, &rank))
            return (int)rank;
    }
    return 0;
}

/* What was printed is not done before it has been taken: a full disk shows itself no earlier than here. */
static bool close_output(void)
{
    bool failed = ferror(stdout) != 0;
    int code = failed ? errno : 0;
    if (fflush(stdout) != 0) {
        failed = true;
        code = errno;
    }
    /* An output that was closed before the program began takes nothing, and nobody waits for it. */
    if (failed && code != EBADF)
        fprintf(stderr, "cairn: standard output cannot be written: %s\n", code ? strerror(code) : "an error before");
    return !failed || code == EBADF;
}

int main(int argc, char **argv)
{
    const struct subcommand *subcommand = find_subcommand(argc > 1 ? argv[1] : "");
    bool with_mpi = subcommand && !runs_alone(subcommand, argc, argv) && !asks_for_help(subcommand, argc, argv);
    /* Not even a failure: mpirun would end the process that is to say why. */
    if (!with_mpi && rank_of_environment() > 0)
        return 0;
    struct command *command = calloc(1, sizeof *command);
    if (!command)
        return 1;
    context_create(&command->context);
    /* A run takes signals as wishes; MPI's threads must not, so they are held back before there are any. */
    if (subcommand && subcommand->run == command_train)
        requests_hold_signals();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of its write */
    enum status status = STATUS_OK;
    if (with_mpi) /* a process that has started it must not start mpirun */
        status = team_start(&command->context, &argc, &argv, &command->team);
    else
        status = team_alone(&command->context, &command->team);
    if (status != STATUS_OK) {
        fprintf(stderr, "cairn: %s\n", command->context.text);
        return exit_code_of(status);
    }
    command->rank = team_rank(command->team);
    command->ranks = team_size(command->team);
    command->context.quiet = command->rank != 0;
    status = dispatch(command, subcommand, argc, argv);
    if (status != STATUS_OK && !command->context.agreed && command->ranks > 1 && status != STATUS_USAGE) {
        fprintf(stderr, "cairn: rank %d: %s\n", command->rank, command->context.text);
        team_abort(exit_code_of(status));
    }
    if (status != STATUS_OK && command->rank == 0)
        fprintf(stderr, "cairn: %s\n", command->context.text);
    if (command->engine_ready)
        engine_destroy(&command->engine);
    mesh_destroy(&command->mesh);
    command_forget_paths(command);
    int code = status == STATUS_OK ? command->exit_code : exit_code_of(status);
    if (!close_output() && code == 0)
        code = 1;
    team_destroy(&command->team);
    free(command);
    return code;
}
