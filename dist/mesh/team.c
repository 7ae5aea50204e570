#include "dist/mesh/team_private.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/text.h"

void team_library_version(char *text, size_t size)
{
    char words[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (MPI_Get_library_version(words, &length) != MPI_SUCCESS)
        length = 0;
    words[length] = '\0';
    (void)text_copy(text, size, words);
}

/* Teams outlive the account of memory of any one context. */
static enum status make(struct context *context, struct team **team)
{
    *team = calloc(1, sizeof **team);
    if (!*team)
        return context_fail(context, STATUS_MEMORY, "out of memory");
    (*team)->communicator = MPI_COMM_NULL;
    (*team)->size = 1;
    return STATUS_OK;
}

static void measure(struct team *team)
{
    MPI_Comm_size(team->communicator, &team->size);
    MPI_Comm_rank(team->communicator, &team->rank);
}

enum status team_start(struct context *context, int *argc, char ***argv, struct team **team)
{
    int provided = 0;
    *team = NULL;
    /* Open MPI's own MPI-IO is slow at slices of columns where ROMIO is not. A choice of the user's stands. */
    setenv("OMPI_MCA_io", "^ompio", 0);
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return context_fail(context, STATUS_INTERNAL, "MPI did not start; try `mpirun -n 1 cairn --version`");
    if (provided < MPI_THREAD_FUNNELED)
        return context_fail(context, STATUS_INTERNAL, "this MPI does not support threads beside it");
    CHECK(make(context, team));
    (*team)->outermost = true;
    /* The library's own copy of the world, so that no message meets another library's. */
    MPI_Comm_dup(MPI_COMM_WORLD, &(*team)->communicator);
    measure(*team);
    return STATUS_OK;
}

enum status team_alone(struct context *context, struct team **team)
{
    return make(context, team);
}

enum status team_create(struct context *context, struct team *parent, int color, struct team **team)
{
    CHECK(team_agree(parent, context, make(context, team)));
    if (parent->communicator != MPI_COMM_NULL)
        MPI_Comm_split(parent->communicator, color < 0 ? MPI_UNDEFINED : color, parent->rank, &(*team)->communicator);
    if (color < 0)
        team_destroy(team);
    else if (parent->communicator != MPI_COMM_NULL)
        measure(*team);
    return STATUS_OK;
}

void team_destroy(struct team **team)
{
    struct team *t = *team;
    if (!t)
        return;
    bool outermost = t->outermost;
    if (t->communicator != MPI_COMM_NULL)
        MPI_Comm_free(&t->communicator);
    free(t);
    *team = NULL;
    if (outermost)
        MPI_Finalize();
}

void team_abort(int code)
{
    MPI_Abort(MPI_COMM_WORLD, code);
}

int team_size(const struct team *team)
{
    return team->size;
}

int team_rank(const struct team *team)
{
    return team->rank;
}

enum status team_agree(const struct team *team, struct context *context, enum status status)
{
    if (team->communicator == MPI_COMM_NULL)
        return status;
    int mine = status == STATUS_OK ? INT_MAX : team->rank;
    int first = INT_MAX;
    MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, team->communicator);
    if (first == INT_MAX)
        return STATUS_OK;
    struct {
        int status;
        char text[sizeof context->text];
    } message = {.status = (int)status};
    memcpy(message.text, context->text, sizeof message.text);
    MPI_Bcast(&message, (int)sizeof message, MPI_BYTE, first, team->communicator);
    context->status = (enum status)message.status;
    context->agreed = true;
    memcpy(context->text, message.text, sizeof message.text);
    return context->status;
}
