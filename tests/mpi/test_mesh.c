#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/mesh/counter.h"
#include "dist/mesh/mesh_private.h"
#include "tests/support/mpi_main.h"

static void coordinates_and_sizes_agree(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    int tensor = fixture->ranks % 2 == 0 ? 2 : 1;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, tensor, 1});
    assert_int_equal(mesh_size(mesh, MESH_TENSOR), tensor);
    assert_int_equal(mesh_size(mesh, MESH_DATA), fixture->ranks / tensor);
    assert_int_equal(mesh_rank(mesh, MESH_TENSOR), fixture->rank % tensor);
    assert_int_equal(mesh_rank(mesh, MESH_DATA), fixture->rank / tensor);
    assert_int_equal(mesh_size(mesh, MESH_REPLICA), fixture->ranks / tensor);
    assert_int_equal(mesh_size(mesh, MESH_ENDS), 1);
    assert_int_equal(mesh_ranks_on_host(mesh), fixture->ranks);
    mesh_destroy(&mesh);
    mesh = mpi_mesh(fixture, (struct mesh_config){1, 0, 1, 1, 1});
    bool end = fixture->rank == 0 || fixture->rank == fixture->ranks - 1;
    assert_int_equal(mesh_size(mesh, MESH_ENDS), !end ? 0 : fixture->ranks > 1 ? 2 : 1);
    mesh_destroy(&mesh);
}

static void a_mesh_that_does_not_fit_is_refused(void **state)
{
    struct context *context = &mpi_fixture_of(state)->context;
    struct mesh_config resolved;
    assert_fails(context, mesh_resolve(context, &(struct mesh_config){2, 2, 1, 2, 1}, 4, &resolved), STATUS_USAGE,
                 "is 8 ranks, but 4 were started; start 8 ranks (mpirun -n 8), or mesh.data=1 would fit");
    assert_fails(context, mesh_resolve(context, &(struct mesh_config){0, 3, 1, 1, 1}, 4, &resolved), STATUS_USAGE,
                 "mpirun -n 3");
    assert_fails(context, mesh_resolve(context, &(struct mesh_config){0, 0, 1, 1, 1}, 4, &resolved), STATUS_USAGE,
                 "only one of the sizes may be auto");
    assert_fails(
        context, mesh_resolve(context, &(struct mesh_config){1, 1, 1, 5, 1}, 4, &resolved), STATUS_USAGE,
        "mesh.tensor: 5 does not fit 4 ranks; start 5 ranks (mpirun -n 5), or choose sizes whose product is 4");
    assert_fails(context, mesh_resolve(context, &(struct mesh_config){4, 1, 1, 1, 2}, 4, &resolved), STATUS_USAGE,
                 "virtual_stages");
    assert_ok(context, mesh_resolve(context, &(struct mesh_config){0, 2, 1, 3, 1}, 12, &resolved));
    assert_int_equal(resolved.data, 2);
}

static void the_lowest_failing_rank_is_heard_by_all(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    assert_ok(context, mesh_agree(mesh, context, STATUS_OK));
    int guilty = fixture->ranks / 2;
    enum status mine = STATUS_OK;
    if (fixture->rank >= guilty)
        mine = context_fail(context, STATUS_FILE, "rank %d lost its file", fixture->rank);
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d lost its file", guilty);
    enum status agreed = mesh_agree(mesh, context, mine);
    assert_int_equal(agreed, STATUS_FILE);
    assert_true(context->agreed);
    assert_string_equal(context->text, expected);
    context_clear(context);
    mesh_destroy(&mesh);
}

/* All hear of the first line that differs anywhere, and of the lowest rank in which it does. */
static void texts_that_differ_are_told(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    int last = fixture->ranks - 1;
    char text[256], expected[256];
    assert_ok(context, team_same(fixture->team, context, "a: 1\nb: 2\n"));
    if (fixture->ranks == 1)
        return;
    /* Rank 0 alone has a third line; the last rank has another second one, too. */
    snprintf(text, sizeof text, "a: 1\nb: %d\n%s", fixture->rank == last ? 3 : 2, fixture->rank == 0 ? "c: 4\n" : "");
    enum status status = team_same(fixture->team, context, text);
    assert_int_equal(status, STATUS_USAGE);
    assert_true(context->agreed);
    assert_non_null(strstr(context->text, "the ranks do not have the same run: b: 2 on rank 0 (host "));
    snprintf(expected, sizeof expected, "), 3 on rank %d (host ", last);
    assert_non_null(strstr(context->text, expected));
    snprintf(expected, sizeof expected, "; %d of %d ranks differ from rank 0", last, fixture->ranks);
    assert_non_null(strstr(context->text, expected));
    context_clear(context);
    status = team_same(fixture->team, context, fixture->rank == 0 ? "a: 1\n" : "a: 1\nc: x\n");
    assert_int_equal(status, STATUS_USAGE);
    assert_non_null(strstr(context->text, "c: not given on rank 0 (host "));
    assert_non_null(strstr(context->text, "), x on rank 1 (host "));
    context_clear(context);
    status = team_same(fixture->team, context, fixture->rank == 0 ? "a: 1" : "a: 1\nc: x");
    assert_int_equal(status, STATUS_USAGE);
    assert_non_null(strstr(context->text, "c: not given on rank 0 (host "));
    context_clear(context);
    /* Nothing is read behind the end of a text, where blocks of memory have what they had before. */
    volatile char *blocks[64];
    for (int i = 0; i < 64; i++) {
        blocks[i] = malloc(24);
        for (int j = 0; j < 24; j++)
            blocks[i][j] = "z: y"[(j + 3) % 4];
    }
    for (int i = 0; i < 64; i++)
        free((void *)(uintptr_t)blocks[i]);
    status = team_same(fixture->team, context, fixture->rank == 0 ? "a: 3456789012345" : "a: 3456789012345\nc: x");
    assert_int_equal(status, STATUS_USAGE);
    assert_non_null(strstr(context->text, "c: not given on rank 0 (host "));
    context_clear(context);
}

/* Even and odd ranks, and of more than two the last alone: sums, agreed errors and texts stay in a team. */
static void teams_know_of_nobody_else(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    bool left_out = fixture->ranks > 2 && fixture->rank == fixture->ranks - 1;
    int color = fixture->rank % 2;
    int members = 0;
    int first = color;
    double expected = 0.0;
    for (int rank = color; rank < fixture->ranks - (fixture->ranks > 2); rank += 2) {
        members++;
        expected += rank;
    }
    struct team *team;
    struct mesh *mesh;
    assert_ok(context, team_create(context, fixture->team, left_out ? -1 : color, &team));
    assert_int_equal(team == NULL, left_out);
    if (team) {
        assert_int_equal(team_size(team), members);
        assert_int_equal(team_rank(team), fixture->rank / 2);
        struct mesh_config config = {.data = members, .pipeline = 1, .context = 1, .tensor = 1, .virtual_stages = 1};
        assert_ok(context, mesh_create(context, team, &config, &mesh));
        assert_ptr_equal(mesh_team(mesh), team);
        double sum = fixture->rank;
        mesh_all_reduce(mesh, MESH_TEAM, &sum, 1, DTYPE_F64, MESH_SUM);
        assert_true(sum == expected);
        sum = fixture->rank;
        mesh_all_reduce(mesh, MESH_DATA, &sum, 1, DTYPE_F64, MESH_SUM);
        assert_true(sum == expected);
        /* The odd team fails, the even one hears nothing of it. */
        bool fails = color == 1 && fixture->rank == first;
        enum status status = mesh_agree(mesh, context, fails ? context_fail(context, STATUS_FILE, "odd") : STATUS_OK);
        assert_int_equal(status, color == 1 ? STATUS_FILE : STATUS_OK);
        assert_string_equal(context->text, color == 1 ? "odd" : "");
        context_clear(context);
        assert_ok(context, team_same(team, context, color == 1 ? "a: 1" : "a: 2"));
        mesh_destroy(&mesh);
        team_destroy(&team);
        assert_null(team);
    }
    assert_ok(context, team_agree(fixture->team, context, STATUS_OK));
}

static void sums_and_extremes(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    int n = fixture->ranks;
    double sum = fixture->rank + 1.0;
    float largest = (float)fixture->rank;
    int64_t least = -fixture->rank;
    int64_t odd = INT64_MIN + (INT64_C(5) << fixture->rank); /* the bits of neighbours overlap */
    bf16 narrow[3] = {bf16_from_float(1.0f), bf16_from_float((float)fixture->rank), 0};
    mesh_all_reduce(mesh, MESH_TEAM, &sum, 1, DTYPE_F64, MESH_SUM);
    mesh_all_reduce(mesh, MESH_TEAM, &largest, 1, DTYPE_F32, MESH_MAX);
    mesh_all_reduce(mesh, MESH_TEAM, &least, 1, DTYPE_I64, MESH_MIN);
    mesh_all_reduce(mesh, MESH_TEAM, &odd, 1, DTYPE_I64, MESH_XOR);
    mesh_all_reduce(mesh, MESH_TEAM, narrow, 3, DTYPE_BF16, MESH_SUM);
    assert_true(sum == n * (n + 1) / 2.0);
    assert_true(largest == (float)(n - 1));
    assert_int_equal(least, 1 - n);
    int64_t expected = 0;
    for (int i = 0; i < n; i++)
        expected ^= INT64_MIN + (INT64_C(5) << i);
    assert_true(odd == expected);
    assert_true(bf16_to_float(narrow[0]) == (float)n);
    assert_true(bf16_to_float(narrow[1]) == (float)(n * (n - 1) / 2));
    int32_t word = fixture->rank == n - 1 ? 77 : 0;
    mesh_broadcast(mesh, MESH_TEAM, n - 1, &word, 1, DTYPE_I32);
    assert_int_equal(word, 77);
    mesh_destroy(&mesh);
}

/* Row counts that do not divide, and fewer rows than ranks. */
static void gather_and_scatter_uneven_rows(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 0, 1});
    enum { COLUMNS = 3, MOST = 9 };
    for (int64_t rows = 0; rows <= MOST; rows++) {
        struct range part = range_partition(rows, fixture->ranks, fixture->rank);
        float mine[MOST * COLUMNS] = {0};
        float all[MOST * COLUMNS] = {0};
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            mine[i] = (float)(part.begin * COLUMNS + i);
        mesh_all_gather(mesh, MESH_TENSOR, mine, all, rows, COLUMNS, DTYPE_F32);
        for (int64_t i = 0; i < rows * COLUMNS; i++)
            assert_true(all[i] == (float)i);
        for (int64_t i = 0; i < rows * COLUMNS; i++)
            all[i] *= (float)(fixture->rank + 1);
        mesh_reduce_scatter(mesh, MESH_TENSOR, all, mine, rows, COLUMNS, DTYPE_F32);
        float factor = (float)(fixture->ranks * (fixture->ranks + 1)) / 2.0f;
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            assert_true(mine[i] == factor * (float)(part.begin * COLUMNS + i));
        bf16 narrow[MOST * COLUMNS] = {0};
        bf16 narrow_mine[MOST * COLUMNS] = {0};
        for (int64_t i = 0; i < rows * COLUMNS; i++)
            narrow[i] = bf16_from_float((float)i);
        mesh_reduce_scatter(mesh, MESH_TENSOR, narrow, narrow_mine, rows, COLUMNS, DTYPE_BF16);
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            assert_true(bf16_to_float(narrow_mine[i]) == (float)(fixture->ranks * (part.begin * COLUMNS + i)));
    }
    mesh_destroy(&mesh);
}

static void messages_and_started_collectives_complete(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 0, 1, 1, 1});
    int n = fixture->ranks;
    struct mesh_request none;
    mesh_request_clear(&none);
    assert_true(mesh_test(&none));
    mesh_wait(&none);
    struct mesh_request send;
    struct mesh_request receive;
    float out = (float)fixture->rank;
    float in = -1.0f;
    mesh_receive(mesh, MESH_PIPELINE, (fixture->rank + n - 1) % n, 5, &in, 1, DTYPE_F32, &receive);
    mesh_send(mesh, MESH_PIPELINE, (fixture->rank + 1) % n, 5, &out, 1, DTYPE_F32, &send);
    while (!mesh_test(&receive))
        ;
    mesh_wait(&send);
    assert_true(in == (float)((fixture->rank + n - 1) % n));
    mesh_destroy(&mesh);

    mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    float all[16];
    float mine[2];
    for (int i = 0; i < 2 * n; i++)
        all[i] = (float)i;
    struct mesh_request request;
    mesh_reduce_scatter_start(mesh, MESH_REPLICA, all, mine, 2, &request);
    mesh_wait(&request);
    assert_true(mine[0] == (float)(n * 2 * fixture->rank) && mine[1] == (float)(n * (2 * fixture->rank + 1)));
    memset(all, 0, sizeof all);
    all[2 * fixture->rank] = (float)fixture->rank;
    all[2 * fixture->rank + 1] = 1.0f;
    mesh_all_gather_start(mesh, MESH_REPLICA, all, 2, DTYPE_F32, &request);
    mesh_wait(&request);
    for (int i = 0; i < n; i++)
        assert_true(all[2 * i] == (float)i && all[2 * i + 1] == 1.0f);
    mesh_destroy(&mesh);
}

static float term(int rank, int64_t i)
{
    return (float)(rank + 1) / (float)(3 + i % 1021);
}

/* The sum of an element of `owner`'s slice as ranks that halve add it up: each rank of the half that keeps it adds what
 * its like in the other half has; the odd one out in the first half adds to the last of the second. */
static float halved_sum(int ranks, int owner, int64_t i)
{
    float value[16];
    assert_true(ranks <= 16);
    for (int r = 0; r < ranks; r++)
        value[r] = term(r, i);
    for (int begin = 0, count = ranks; count > 1;) {
        int first = (count + 1) / 2;
        int second = count - first;
        bool in_first = owner < begin + first;
        for (int k = 0; k < second; k++) {
            float sum = value[begin + k] + value[begin + first + k];
            if (!in_first && k == second - 1 && first > second)
                sum += value[begin + first - 1];
            value[begin + (in_first ? k : first + k)] = sum;
        }
        begin += in_first ? 0 : first;
        count = in_first ? first : second;
    }
    return value[owner];
}

static float ordered_sum(int ranks, int64_t i)
{
    float sum = term(0, i);
    for (int r = 1; r < ranks; r++)
        sum += term(r, i);
    return sum;
}

/* Several at once, of no element and of many chunks; sums to the bit in the order that is promised. */
static void check_reduce_scatters(void **state, bool halving)
{
    enum { COUNT = 4, MOST = 600007 };
    static const int64_t each[COUNT] = {MOST, 0, 1, 1000};
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    int n = fixture->ranks;
    int64_t allocations = 0;
    if (halving)
        mesh->direct_most = 1;
    mesh_reduce_scatter_reserve(mesh, MESH_REPLICA, COUNT, MOST);
    for (int round = 0; round < 2; round++) {
        float *all[COUNT];
        float *mine[COUNT];
        struct mesh_request request[COUNT];
        for (int c = 0; c < COUNT; c++) {
            all[c] = malloc(((size_t)(n * each[c]) + 1) * sizeof(float));
            mine[c] = malloc(((size_t)each[c] + 1) * sizeof(float));
            assert_true(all[c] && mine[c]);
            for (int64_t i = 0; i < n * each[c]; i++)
                all[c][i] = term(fixture->rank, i);
        }
        allocations = fixture->context.memory.allocations;
        for (int c = 0; c < COUNT; c++)
            mesh_reduce_scatter_start(mesh, MESH_REPLICA, all[c], mine[c], each[c], &request[c]);
        if (round == 0)
            mesh_wait(&request[COUNT - 1]);
        while (!mesh_test(&request[0]))
            ;
        for (int c = 0; c < COUNT; c++) {
            mesh_wait(&request[c]);
            assert_true(mesh_test(&request[c]));
            for (int64_t i = 0; i < each[c]; i++) {
                int64_t at = fixture->rank * each[c] + i;
                assert_true(mine[c][i] == (halving ? halved_sum(n, fixture->rank, at) : ordered_sum(n, at)));
            }
            free(all[c]);
            free(mine[c]);
        }
        assert_int_equal(fixture->context.memory.allocations, allocations);
    }
    struct mesh_traffic traffic = mesh_traffic(mesh, MESH_REPLICA);
    assert_int_equal(traffic.calls, n > 1 ? 2 * 3 : 0);
    assert_int_equal(traffic.bytes, 2 * (MOST + 1 + 1000) * (n - 1) * (int64_t)sizeof(float));
    mesh_destroy(&mesh);
    assert_int_equal(fixture->context.memory.bytes_total, 0);
}

static void reduce_scatters_overlap(void **state)
{
    check_reduce_scatters(state, false);
    check_reduce_scatters(state, true);
}

/* More elements than MPI counts, which for this mesh are few: whole parts, a rest, and no rest. */
static void messages_of_any_size_arrive_whole(void **state)
{
    enum { MOST = 7, ROWS = 11, COLUMNS = 3, LARGE = 4 * MOST };
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 0, 1});
    int n = fixture->ranks;
    int rank = fixture->rank;
    mesh->message_most = MOST;
    for (int count = MOST - 1; count <= LARGE; count++) {
        int32_t sum[LARGE];
        int32_t word[LARGE];
        float out[LARGE];
        float in[LARGE + 1];
        float scanned[LARGE];
        float gathered[16 * LARGE] = {0};
        for (int i = 0; i < count; i++) {
            sum[i] = 100 * rank + i;
            word[i] = rank == n - 1 ? i + 1 : 0;
            out[i] = scanned[i] = (float)(100 * rank + i);
            gathered[rank * count + i] = (float)(rank * count + i);
        }
        in[count] = -5.0f;
        mesh_all_reduce(mesh, MESH_TENSOR, sum, count, DTYPE_I32, MESH_SUM);
        mesh_broadcast(mesh, MESH_TENSOR, n - 1, word, count, DTYPE_I32);
        mesh_exclusive_scan(mesh, MESH_TENSOR, scanned, &(struct mesh_scan){.count = count});
        struct mesh_request requests[3];
        mesh_receive(mesh, MESH_TENSOR, (rank + n - 1) % n, 5, in, count, DTYPE_F32, &requests[0]);
        mesh_send(mesh, MESH_TENSOR, (rank + 1) % n, 5, out, count, DTYPE_F32, &requests[1]);
        mesh_all_gather_start(mesh, MESH_TENSOR, gathered, count, DTYPE_F32, &requests[2]);
        for (int i = 0; i < 3; i++)
            mesh_wait(&requests[i]);
        for (int i = 0; i < count; i++) {
            assert_int_equal(sum[i], 100 * n * (n - 1) / 2 + n * i);
            assert_int_equal(word[i], i + 1);
            assert_true(in[i] == (float)(100 * ((rank + n - 1) % n) + i));
            if (rank > 0)
                assert_true(scanned[i] == (float)(100 * rank * (rank - 1) / 2 + rank * i));
        }
        assert_true(in[count] == -5.0f);
        for (int i = 0; i < n * count; i++)
            assert_true(gathered[i] == (float)i);
    }
    struct range part = range_partition(ROWS, n, rank);
    float all[ROWS * COLUMNS];
    float mine[ROWS * COLUMNS];
    for (int i = 0; i < part.count * COLUMNS; i++)
        mine[i] = (float)(part.begin * COLUMNS + i);
    mesh_all_gather(mesh, MESH_TENSOR, mine, all, ROWS, COLUMNS, DTYPE_F32);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        assert_true(all[i] == (float)i);
    mesh_reduce_scatter(mesh, MESH_TENSOR, all, mine, ROWS, COLUMNS, DTYPE_F32);
    for (int i = 0; i < part.count * COLUMNS; i++)
        assert_true(mine[i] == (float)(n * (part.begin * COLUMNS + i)));
    mesh_destroy(&mesh);
}

/* Rank r sends the rank s behind it (r + 2 s) mod 4 elements, some of them none: by one call of MPI, and in parts. */
static void parts_go_to_every_rank(void **state)
{
    enum { MOST = 3, RANKS = 16 };
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 0, 1});
    int n = fixture->ranks;
    int rank = fixture->rank;
    for (int times = 1; times <= 2; times++) {
        double parts[8 * RANKS];
        double arrived[8 * RANKS];
        int64_t counts[RANKS];
        int64_t arriving[RANKS];
        int64_t used = 0;
        int64_t sent = 0;
        struct mesh_traffic before = mesh_traffic(mesh, MESH_TENSOR);
        if (times == 2)
            mesh->message_most = MOST;
        for (int r = 0; r < n; r++) {
            counts[r] = times * ((rank + 2 * r) % 4);
            arriving[r] = times * ((r + 2 * rank) % 4);
            sent += r == rank ? 0 : counts[r];
            for (int64_t i = 0; i < counts[r]; i++)
                parts[used++] = 1000.0 * rank + 10.0 * r + (double)i;
        }
        mesh_all_to_all(mesh, MESH_TENSOR, parts, counts, arrived, arriving, 8 * n, DTYPE_F64);
        used = 0;
        for (int r = 0; r < n; r++)
            for (int64_t i = 0; i < arriving[r]; i++)
                assert_true(arrived[used++] == 1000.0 * r + 10.0 * rank + (double)i);
        struct mesh_traffic after = mesh_traffic(mesh, MESH_TENSOR);
        assert_int_equal(after.calls - before.calls, n > 1);
        assert_int_equal(after.bytes - before.bytes, 8 * sent);
    }
    mesh_destroy(&mesh);
}

/* What no memory here could hold. */
static void more_than_an_int_counts_is_planned(void **state)
{
    const int64_t large = INT64_C(5) << 31;
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh;
    assert_ok(&fixture->context, mesh_create_dry(&fixture->context, &(struct mesh_config){1, 1, 1, 3, 1}, 1, &mesh));
    struct mesh_request request;
    mesh_all_reduce(mesh, MESH_TENSOR, NULL, large, DTYPE_F32, MESH_SUM);
    mesh_all_gather_start(mesh, MESH_TENSOR, NULL, large, DTYPE_BF16, &request);
    mesh_send(mesh, MESH_TENSOR, 0, 1, NULL, large, DTYPE_F32, &request);
    mesh_reduce_scatter_start(mesh, MESH_TENSOR, NULL, NULL, large, &request);
    assert_ok(&fixture->context, fixture->context.status);
    assert_int_equal(mesh_traffic(mesh, MESH_TENSOR).calls, 4);
    assert_int_equal(mesh_traffic(mesh, MESH_TENSOR).bytes, large * (4 + 2 + 4 + 2 * 4));
    mesh_destroy(&mesh);
}

/* What each call hands to MPI, in bytes: the plan's numbers come from the same account, so only literal ones hold it.
 */
static void traffic_is_counted(void **state)
{
    enum { ROWS = 7, COLUMNS = 3 };
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 0, 1});
    int n = fixture->ranks;
    int64_t own = range_partition(ROWS, n, fixture->rank).count;
    float all[16 * 10] = {0};
    float mine[16 * 10] = {0};
    struct mesh_request request;
    int64_t calls = 0;
    int64_t bytes = 0;
    for (int call = 0; call < 8; call++) {
        int64_t expected = 0;
        switch (call) {
        case 0:
            mesh_all_reduce(mesh, MESH_TENSOR, all, 10, DTYPE_F32, MESH_SUM);
            expected = 40;
            break;
        case 1:
            mesh_all_reduce(mesh, MESH_TENSOR, all, 10, DTYPE_BF16, MESH_SUM);
            expected = 20;
            break;
        case 2:
            mesh_broadcast(mesh, MESH_TENSOR, 0, all, 10, DTYPE_F64);
            expected = 80;
            break;
        case 3:
            mesh_all_gather(mesh, MESH_TENSOR, mine, all, ROWS, COLUMNS, DTYPE_F32);
            expected = own * COLUMNS * 4;
            break;
        case 4:
            mesh_reduce_scatter(mesh, MESH_TENSOR, all, mine, ROWS, COLUMNS, DTYPE_F32);
            expected = ROWS * COLUMNS * 4;
            break;
        case 5:
            mesh_exclusive_scan(mesh, MESH_TENSOR, all, &(struct mesh_scan){.count = 10});
            expected = 40;
            break;
        case 6:
            mesh_reduce_scatter_start(mesh, MESH_TENSOR, all, mine, 5, &request);
            mesh_wait(&request);
            expected = (n - 1) * 5 * 4;
            break;
        case 7:
            mesh_barrier(mesh, MESH_TENSOR);
            break;
        }
        calls += n > 1 && call < 7;
        bytes += n > 1 ? expected : 0;
        assert_int_equal(mesh_traffic(mesh, MESH_TENSOR).calls, calls);
        assert_int_equal(mesh_traffic(mesh, MESH_TENSOR).bytes, bytes);
    }
    if (n > 1) {
        struct mesh_request sent;
        mesh_receive(mesh, MESH_TENSOR, (fixture->rank + n - 1) % n, 5, mine, 10, DTYPE_F32, &request);
        mesh_send(mesh, MESH_TENSOR, (fixture->rank + 1) % n, 5, all, 10, DTYPE_F32, &sent);
        mesh_wait(&request);
        mesh_wait(&sent);
        mesh_all_gather_start(mesh, MESH_TENSOR, all, 5, DTYPE_BF16, &request);
        mesh_wait(&request);
        assert_int_equal(mesh_traffic(mesh, MESH_TENSOR).calls, calls + 2);
        assert_int_equal(mesh_traffic(mesh, MESH_TENSOR).bytes, bytes + 40 + 10);
    }
    assert_int_equal(mesh_traffic(mesh, MESH_DATA).calls, 0);
    mesh_destroy(&mesh);
}

/* Every rank takes numbers that nobody else gets, and again from 0 on after a reset. */
static void a_counter_gives_each_number_once(void **state)
{
    enum { EACH = 5, MOST = 8 * EACH };
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    struct counter *counter;
    assert_ok(&fixture->context, counter_create(&fixture->context, fixture->team, &counter));
    for (int round = 0; round < 2; round++) {
        int32_t taken[MOST] = {0};
        for (int i = 0; i < EACH; i++) {
            int64_t number = counter_add(counter, 1);
            assert_in_range(number, 0, EACH * fixture->ranks - 1);
            taken[number]++;
        }
        mesh_all_reduce(mesh, MESH_TEAM, taken, EACH * fixture->ranks, DTYPE_I32, MESH_SUM);
        for (int i = 0; i < EACH * fixture->ranks; i++)
            assert_int_equal(taken[i], 1);
        counter_reset(counter);
    }
    assert_true(counter_add(counter, 3) % 3 == 0);
    counter_destroy(&counter);
    mesh_destroy(&mesh);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_counter_gives_each_number_once),
    cmocka_unit_test(coordinates_and_sizes_agree),
    cmocka_unit_test(a_mesh_that_does_not_fit_is_refused),
    cmocka_unit_test(the_lowest_failing_rank_is_heard_by_all),
    cmocka_unit_test(texts_that_differ_are_told),
    cmocka_unit_test(teams_know_of_nobody_else),
    cmocka_unit_test(sums_and_extremes),
    cmocka_unit_test(gather_and_scatter_uneven_rows),
    cmocka_unit_test(messages_and_started_collectives_complete),
    cmocka_unit_test(reduce_scatters_overlap),
    cmocka_unit_test(messages_of_any_size_arrive_whole),
    cmocka_unit_test(parts_go_to_every_rank),
    cmocka_unit_test(more_than_an_int_counts_is_planned),
    cmocka_unit_test(traffic_is_counted),
};

MPI_MAIN(tests)
