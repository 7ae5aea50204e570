#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/report/report_private.h"

extern char **environ;

const char report_without_gnuplot[] =
    "gnuplot is not installed, so there are no plots; everything else was written. On "
    "Debian `apt install gnuplot-nox` brings it; elsewhere ask for the module gnuplot";

/* `text` as a string of gnuplot. */
static void quote(const char *text, char *to, size_t size)
{
    size_t used = 0;
    to[used++] = '\'';
    for (const char *c = text; *c && used + 4 < size; c++) {
        if (*c == '\'')
            to[used++] = '\'';
        to[used++] = *c;
    }
    to[used++] = '\'';
    to[used] = '\0';
}

/* The first line that gnuplot complained with. */
static void read_words(const char *path, char *words, size_t size)
{
    FILE *file = fopen(path, "r");
    words[0] = '\0';
    while (file && fgets(words, (int)size, file)) {
        words[strcspn(words, "\n")] = '\0';
        if (words[strspn(words, " \t^")])
            break;
    }
    if (file)
        fclose(file);
}

/* The status that the program ends with; -1 with errno when it cannot be started. */
static int run(char *const *arguments, const char *errors)
{
    posix_spawn_file_actions_t actions;
    pid_t process;
    int status = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int code = posix_spawnp(&process, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    while (code == 0 && waitpid(process, &status, 0) < 0)
        if (errno != EINTR)
            code = errno;
    /* How POSIX lets a system say it that starts the child first; emulated ones do. */
    if (code == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 127)
        code = ENOENT;
    errno = code;
    return code ? -1 : status;
}

enum status gnuplot_run(struct context *context, const char *folder, const char *name, bool *drawn)
{
    char quoted[2 * REPORT_PATH];
    char enter[2 * REPORT_PATH + 8];
    char script[REPORT_PATH];
    char errors[REPORT_PATH + 64];
    char words[200];
    quote(folder, quoted, sizeof quoted);
    snprintf(enter, sizeof enter, "cd %s", quoted);
    snprintf(script, sizeof script, "%s.gnuplot", name);
    snprintf(errors, sizeof errors, "%s/%s.errors", folder, name);
    char program[] = "gnuplot";
    char option[] = "-e";
    char *const arguments[] = {program, option, enter, script, NULL};
    int status = run(arguments, errors);
    *drawn = status == 0;
    int code = errno;
    read_words(errors, words, sizeof words);
    unlink(errors);
    if (status == 0 || (status == -1 && code == ENOENT))
        return STATUS_OK;
    if (status == -1)
        return context_fail(context, STATUS_FILE, "gnuplot cannot be started: %s", strerror(code));
    return context_fail(context, STATUS_FILE, "%s/%s: gnuplot refuses it: %s", folder, script, words);
}
