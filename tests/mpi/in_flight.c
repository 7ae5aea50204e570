/* Between a test and MPI (its profiling interface): what was handed over to be sent must stay as it is until its
 * request is complete, and every request has to be completed. MPI itself mostly forgives, since small messages are
 * copied at once and large ones have often left. A test that links this ends all ranks with what it found. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 1 << 14 };

static struct flight {
    MPI_Request request;
    const unsigned char *data;
    int64_t bytes;
    uint64_t hash;
    int to, tag;
} flights[MOST];
static int count;

static uint64_t hash_of(const struct flight *flight)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int64_t i = 0; i < flight->bytes; i++)
        hash = (hash ^ flight->data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void fail(const struct flight *flight, const char *what)
{
    fprintf(stderr, "a message of %lld bytes to rank %d of its communicator, tag %d, %s\n", (long long)flight->bytes,
            flight->to, flight->tag, what);
    abort();
}

static void landed(MPI_Request request)
{
    for (int i = 0; i < count; i++)
        if (flights[i].request == request) {
            if (hash_of(&flights[i]) != flights[i].hash)
                fail(&flights[i], "was changed before it was complete");
            flights[i] = flights[--count];
            return;
        }
}

int MPI_Isend(const void *data, int number, MPI_Datatype type, int to, int tag, MPI_Comm communicator,
              MPI_Request *request)
{
    int size;
    MPI_Type_size(type, &size);
    struct flight flight = {.data = data, .bytes = (int64_t)number * size, .to = to, .tag = tag};
    flight.hash = hash_of(&flight);
    int error = PMPI_Issend(data, number, type, to, tag, communicator, request);
    flight.request = *request;
    if (count == MOST)
        fail(&flight, "is one too many to watch");
    flights[count++] = flight;
    return error;
}

int MPI_Wait(MPI_Request *request, MPI_Status *status)
{
    MPI_Request waited = *request;
    int error = PMPI_Wait(request, status);
    landed(waited);
    return error;
}

int MPI_Test(MPI_Request *request, int *done, MPI_Status *status)
{
    MPI_Request tested = *request;
    int error = PMPI_Test(request, done, status);
    if (*done)
        landed(tested);
    return error;
}

/* One by one: requests that are complete stay so. */
int MPI_Testall(int number, MPI_Request *requests, int *done, MPI_Status *statuses)
{
    (void)statuses;
    *done = 1;
    for (int i = 0; i < number && *done; i++)
        if (requests[i] != MPI_REQUEST_NULL)
            MPI_Test(&requests[i], done, MPI_STATUS_IGNORE);
    return MPI_SUCCESS;
}

int MPI_Finalize(void)
{
    if (count > 0)
        fail(&flights[0], "was never waited for");
    return PMPI_Finalize();
}
