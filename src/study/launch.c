#include "src/study/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/core/text.h"

extern char **environ;

/* -- Words -- */

void arguments_add(struct arguments *arguments, const char *format, ...)
{
    size_t left = sizeof arguments->text - arguments->used;
    char *word = arguments->text + arguments->used;
    va_list list;
    va_start(list, format);
    int length = vsnprintf(word, left, format, list);
    va_end(list);
    if (length < 0 || (size_t)length >= left || arguments->count == ARGUMENTS_MOST) {
        arguments->full = true;
        return;
    }
    arguments->used += (size_t)length + 1;
    arguments->word[arguments->count++] = word;
    arguments->word[arguments->count] = NULL;
}

void arguments_add_template(struct arguments *arguments, const char *words, int ranks)
{
    for (const char *c = words + strspn(words, " "); *c; c += strspn(c, " ")) {
        char word[1024];
        size_t used = 0;
        for (; *c && *c != ' ' && used + 16 < sizeof word; c++) {
            if (c[0] == '%' && c[1] == 'n') {
                used += (size_t)snprintf(word + used, sizeof word - used, "%d", ranks);
                c++;
            } else {
                word[used++] = *c;
            }
        }
        word[used] = '\0';
        arguments_add(arguments, "%s", word);
    }
}

void arguments_format(const struct arguments *arguments, char *text, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./,:+%@";
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < arguments->count && used < size; i++) {
        const char *word = arguments->word[i];
        const char *quote = word[0] && word[strspn(word, plain)] == '\0' ? "" : "'";
        used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", i ? " " : "", quote, word, quote);
    }
}

/* -- The process -- */

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

/* Waits until the process ends or `seconds` are over; true and its status when it ended. */
static bool wait_for(pid_t process, double seconds, int *status)
{
    double end = clock_seconds() + seconds;
    for (;;) {
        pid_t found = waitpid(process, status, WNOHANG);
        if (found == process)
            return true;
        if (found < 0 && errno != EINTR) {
            *status = -1;
            return true;
        }
        if (clock_seconds() > end)
            return false;
        pause_briefly();
    }
}

/* The words of this program if there are any, of the launcher otherwise: the first that are more than a rule. */
static void find_words(const char *path, char *words, size_t size)
{
    char line[1024];
    bool found = false;
    FILE *file = fopen(path, "r");
    words[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        bool own = strncmp(line, "cairn: ", 7) == 0;
        if (own || (!found && line[strspn(line, " -")] && strncmp(line, "warning: ", 9) != 0)) {
            text_copy(words, size, own ? line + 7 : line);
            found = true;
        }
        if (own)
            break;
    }
    if (file)
        fclose(file);
}

static int spawn(char **words, const char *output, const char *messages, pid_t *process)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, messages, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int code = posix_spawnp(process, words[0], &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

void launch(struct arguments *arguments, const char *output, const char *messages, int64_t limit, char *why,
            size_t size)
{
    const double patience = 10.0;
    char words[512];
    pid_t process;
    int status = 0;
    why[0] = '\0';
    int code = arguments->full || arguments->count == 0 ? E2BIG : spawn(arguments->word, output, messages, &process);
    if (code != 0) {
        snprintf(why, size, "%s cannot be started: %s", arguments->count ? arguments->word[0] : "nothing",
                 strerror(code));
        return;
    }
    bool ended = wait_for(process, (double)limit, &status);
    if (!ended) {
        kill(process, SIGTERM);
        if (!wait_for(process, patience, &status)) {
            kill(process, SIGKILL);
            (void)waitpid(process, &status, 0);
        }
        snprintf(why, size, "ended after %lld seconds, the limit of a run", (long long)limit);
        return;
    }
    if (status == 0)
        return;
    find_words(messages, words, sizeof words);
    /* How POSIX lets a system say it that starts the child first; emulated ones do. A shell would add words. */
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !words[0]) {
        snprintf(why, size, "%s cannot be started: %s", arguments->word[0], strerror(ENOENT));
        return;
    }
    snprintf(why, size, "%s %d%s%s", WIFSIGNALED(status) ? "signal" : "exit status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), words[0] ? ": " : "", words);
}
