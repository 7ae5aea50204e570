#include "dist/mesh/counter.h"

#include <stdlib.h>

#include "dist/mesh/team_private.h"

struct counter {
    const struct team *team;
    MPI_Win window; /* MPI_WIN_NULL of a process that is alone */
    int64_t *value; /* of the first rank */
    int64_t own;
};

enum status counter_create(struct context *context, const struct team *team, struct counter **counter)
{
    struct counter *made = *counter = calloc(1, sizeof *made);
    CHECK(team_agree(team, context, made ? STATUS_OK : context_fail(context, STATUS_MEMORY, "out of memory")));
    made->team = team;
    made->window = MPI_WIN_NULL;
    made->value = &made->own;
    if (team->communicator == MPI_COMM_NULL)
        return STATUS_OK;
    MPI_Aint bytes = team->rank == 0 ? (MPI_Aint)sizeof(int64_t) : 0;
    MPI_Win_allocate(bytes, sizeof(int64_t), MPI_INFO_NULL, team->communicator, &made->value, &made->window);
    MPI_Win_lock_all(0, made->window);
    counter_reset(made);
    return STATUS_OK;
}

void counter_destroy(struct counter **counter)
{
    struct counter *c = *counter;
    if (!c)
        return;
    if (c->window != MPI_WIN_NULL) {
        MPI_Win_unlock_all(c->window);
        MPI_Win_free(&c->window);
    }
    free(c);
    *counter = NULL;
}

int64_t counter_add(struct counter *counter, int64_t amount)
{
    int64_t before = counter->own;
    if (counter->window == MPI_WIN_NULL) {
        counter->own += amount;
        return before;
    }
    MPI_Fetch_and_op(&amount, &before, MPI_INT64_T, 0, 0, MPI_SUM, counter->window);
    MPI_Win_flush(0, counter->window);
    return before;
}

void counter_reset(struct counter *counter)
{
    if (counter->window == MPI_WIN_NULL) {
        counter->own = 0;
        return;
    }
    MPI_Barrier(counter->team->communicator);
    if (counter->team->rank == 0) {
        int64_t zero = 0;
        int64_t before;
        MPI_Fetch_and_op(&zero, &before, MPI_INT64_T, 0, 0, MPI_REPLACE, counter->window);
        MPI_Win_flush(0, counter->window);
    }
    MPI_Barrier(counter->team->communicator);
}
