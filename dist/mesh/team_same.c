#include "dist/mesh/team_private.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/core/sample.h"
#include "src/core/text.h"

enum { HOST = 64, VALUE = 200 };

/* What one rank tells of the first line in which it differs. */
struct witness {
    char host[HOST];
    char name[VALUE];
    char value[VALUE];
};

/* One message of fixed size, on every rank. */
static bool are_same(const struct team *team, const char *text)
{
    uint64_t hash = sample_hash(SAMPLE_HASH_BEGIN, text, strlen(text));
    uint64_t most[2] = {hash, ~hash};
    MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_UINT64_T, MPI_MAX, team->communicator);
    return most[0] == ~most[1];
}

/* The text of the first rank; NULL where memory is out, on all ranks alike. */
static char *text_of_first(const struct team *team, const char *text)
{
    int length = (int)strlen(text);
    MPI_Bcast(&length, 1, MPI_INT, 0, team->communicator);
    char *first = malloc((size_t)length + 1);
    int missing = first == NULL;
    MPI_Allreduce(MPI_IN_PLACE, &missing, 1, MPI_INT, MPI_MAX, team->communicator);
    if (missing) {
        free(first);
        return NULL;
    }
    if (team->rank == 0)
        memcpy(first, text, (size_t)length + 1);
    MPI_Bcast(first, length + 1, MPI_CHAR, 0, team->communicator);
    return first;
}

/* The number of the first line in which two texts differ, and where it begins in both; INT_MAX if there is none. */
static int first_difference(const char **a, const char **b)
{
    for (int line = 0;; line++) {
        size_t length_a = strcspn(*a, "\n");
        size_t length_b = strcspn(*b, "\n");
        if (length_a != length_b || memcmp(*a, *b, length_a) != 0)
            return line;
        if (**a == '\0' && **b == '\0')
            return INT_MAX;
        *a += length_a + ((*a)[length_a] == '\n');
        *b += length_b + ((*b)[length_b] == '\n');
    }
}

/* Takes a line apart at its first ": ". */
static void witness_fill(struct witness *witness, const char *line)
{
    int length = (int)strcspn(line, "\n");
    const char *colon = strstr(line, ": ");
    memset(witness, 0, sizeof *witness);
    if (gethostname(witness->host, sizeof witness->host - 1) != 0)
        (void)text_copy(witness->host, sizeof witness->host, "unknown");
    if (!colon || colon > line + length)
        return;
    snprintf(witness->name, sizeof witness->name, "%.*s", (int)(colon - line), line);
    snprintf(witness->value, sizeof witness->value, "%.*s", (int)(length - (colon + 2 - line)), colon + 2);
}

static const char *value_of(const struct witness *witness, const char *name)
{
    return strcmp(witness->name, name) == 0 ? witness->value : "not given";
}

enum status team_same(const struct team *team, struct context *context, const char *text)
{
    if (team->size == 1 || are_same(team, text))
        return STATUS_OK;
    char *first = text_of_first(team, text);
    if (!first)
        return context_fail(context, STATUS_MEMORY, "out of memory, and the ranks do not have the same run");
    const char *theirs = first;
    const char *mine = text;
    struct {
        int line, rank;
    } earliest = {first_difference(&theirs, &mine), team->rank};
    int different = earliest.line < INT_MAX;
    int line = earliest.line;
    MPI_Allreduce(MPI_IN_PLACE, &earliest, 1, MPI_2INT, MPI_MINLOC, team->communicator);
    MPI_Allreduce(MPI_IN_PLACE, &different, 1, MPI_INT, MPI_SUM, team->communicator);
    /* The first rank's line of that number, which is where its own text differs from the other's. */
    struct witness pair[2];
    const char *place = first;
    for (int i = 0; i < earliest.line; i++)
        place += strcspn(place, "\n") + (strchr(place, '\n') != NULL);
    witness_fill(&pair[0], place);
    witness_fill(&pair[1], line == earliest.line ? mine : "");
    MPI_Bcast(&pair[0], sizeof pair[0], MPI_BYTE, 0, team->communicator);
    MPI_Bcast(&pair[1], sizeof pair[1], MPI_BYTE, earliest.rank, team->communicator);
    free(first);
    const char *name = pair[0].name[0] ? pair[0].name : pair[1].name;
    context_fail(context, STATUS_USAGE,
                 "the ranks do not have the same run: %s: %s on rank 0 (host %s), %s on rank %d (host %s); %d of %d "
                 "ranks differ from rank 0. Start all with the same program, command, settings and files",
                 name, value_of(&pair[0], name), pair[0].host, value_of(&pair[1], name), earliest.rank, pair[1].host,
                 different, team->size);
    context->agreed = true;
    return STATUS_USAGE;
}

enum status team_same_file(const struct team *team, struct context *context, const char *what, const char *path)
{
    enum { LINE = 1200 };
    char words[96];
    char line[LINE];
    sample_describe(path, words, sizeof words);
    snprintf(line, sizeof line, "%s %s: %s", what, path, words);
    return team_same(team, context, line);
}
