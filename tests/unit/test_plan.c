#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/parallel/schedule.h"
#include "src/plan/busy.h"
#include "src/plan/network.h"
#include "src/plan/simulate.h"
#include "tests/support/support.h"

enum { STAGES = 6, CHUNKS = 3 };

/* Passes of all stages alike: a forward takes 1 in all chunks together, a backward 2, a message `message`. */
struct pipe {
    double pass[STAGES * CHUNKS * 2], message[STAGES * CHUNKS * 2];
    struct simulation simulation;
};

static void fill(struct pipe *pipe, int stages, int chunks, int64_t micro_batches, double message)
{
    for (int i = 0; i < stages * chunks * 2; i++) {
        pipe->pass[i] = (1.0 + i % 2) / chunks;
        pipe->message[i] = message;
    }
    pipe->simulation = (struct simulation){.stages = stages,
                                           .chunks = chunks,
                                           .micro_batches = micro_batches,
                                           .pass = pipe->pass,
                                           .message = pipe->message,
                                           .speed_limit = INFINITY};
}

static struct simulated run(const struct pipe *pipe)
{
    struct context context;
    struct simulated result;
    context_create(&context);
    assert_ok(&context, simulate(&context, &pipe->simulation, &result));
    assert_int_equal(context.memory.bytes_total, 0);
    return result;
}

/* (micro-batches + stages - 1) times both passes. */
static void one_forward_one_backward(void **state)
{
    (void)state;
    struct pipe pipe;
    fill(&pipe, 4, 1, 8, 0.0);
    assert_close(run(&pipe).seconds, 33.0, 1e-9, 0.0);
    assert_close(run(&pipe).bubble, 3.0 / 11.0, 1e-9, 0.0);
    fill(&pipe, 1, 1, 5, 0.0);
    assert_close(run(&pipe).seconds, 15.0, 1e-9, 0.0);
    assert_close(run(&pipe).bubble, 0.0, 0.0, 1e-12);
}

/* With the costs that schedules are made with, stages wait as long as the schedule says. */
static void waits_as_the_schedule_says(void **state)
{
    (void)state;
    for (int stages = 1; stages <= STAGES; stages++)
        for (int chunks = 1; chunks <= (stages > 1 ? CHUNKS : 1); chunks++)
            for (int64_t micro_batches = 1; micro_batches < 10; micro_batches++) {
                struct context context;
                struct pipe pipe;
                struct schedule schedule;
                const struct schedule_shape shape = {
                    .stages = stages, .chunks = chunks, .micro_batches = micro_batches};
                context_create(&context);
                assert_ok(&context, schedule_create(&context, &shape, 0, &schedule));
                fill(&pipe, stages, chunks, micro_batches, 0.0);
                assert_close(run(&pipe).bubble, schedule.bubble, 1e-9, 1e-9);
                schedule_destroy(&context, &schedule);
            }
}

static void messages_and_cores_take_time(void **state)
{
    (void)state;
    struct pipe pipe;
    fill(&pipe, 2, 1, 1, 0.5);
    assert_close(run(&pipe).seconds, 7.0, 1e-9, 0.0);
    /* Half a core. */
    fill(&pipe, 1, 1, 2, 0.0);
    pipe.simulation.speed_limit = 0.5;
    assert_close(run(&pipe).seconds, 12.0, 1e-9, 0.0);
    /* One core for two stages: those that wait take half a turn. */
    fill(&pipe, 2, 1, 1, 0.0);
    pipe.simulation.speed_limit = 1.0;
    assert_close(run(&pipe).seconds, 6.0 * 1.5, 1e-9, 0.0);
}

static void networks_are_read(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    struct network network = network_assumed();
    assert_ok(&context, network_parse(&context, "latency=2e-6,bandwidth=1e10,ranks_per_host=4", &network));
    assert_true(network.stated);
    assert_int_equal(network.ranks_per_host, 4);
    assert_close(network.between.latency, 2e-6, 1e-12, 0.0);
    char path[] = "/tmp/cairn-network-XXXXXX";
    int file = mkstemp(path);
    const char text[] = "# two hosts\nlatency = no\n";
    assert_int_equal(write(file, text, sizeof text - 1), (int)sizeof text - 1);
    close(file);
    assert_fails(&context, network_parse(&context, path, &network), STATUS_USAGE, "expected KEY=NUMBER");
    FILE *good = fopen(path, "w");
    fputs("# measured with cairn bench collectives\nhost_latency=3e-7 host_bandwidth=9e9\n\nlatency=1e-5 # far\n",
          good);
    fclose(good);
    assert_ok(&context, network_parse(&context, path, &network));
    assert_close(network.within.bandwidth, 9e9, 1e-12, 0.0);
    assert_close(network.between.latency, 1e-5, 1e-12, 0.0);
    unlink(path);
    assert_fails(&context, network_parse(&context, path, &network), STATUS_USAGE, "no such file");
    assert_fails(&context, network_parse(&context, "speed=1", &network), STATUS_USAGE, "expected latency");
    assert_fails(&context, network_parse(&context, "latency=0", &network), STATUS_USAGE, "above 0");
    assert_fails(&context, network_parse(&context, "ranks_per_host=1.5", &network), STATUS_USAGE, "whole number");
}

static void distance_and_bytes_cost(void **state)
{
    (void)state;
    const struct mesh_config mesh = {.data = 2, .pipeline = 1, .context = 1, .tensor = 4, .virtual_stages = 1};
    struct network network = {.ranks_per_host = 4,
                              .within = {.latency = 1e-6, .bandwidth = 1e9},
                              .between = {.latency = 1e-5, .bandwidth = 1e10}};
    assert_false(network_crosses(&network, &mesh, MESH_TENSOR));
    assert_true(network_crosses(&network, &mesh, MESH_REPLICA));
    /* A gather of parts of 1000 bytes and a reduction of 4000: each rank passes on 3000 for either. */
    assert_close(network_seconds(&network, &mesh, MESH_TENSOR, 2.0, 5000.0), 2 * 2e-6 + 6000.0 / 1e9, 1e-9, 0.0);
    /* Four ranks share a host's way out. */
    assert_close(network_seconds(&network, &mesh, MESH_REPLICA, 1.0, 1000.0), 1e-5 + 1000.0 / 2.5e9, 1e-9, 0.0);
    assert_true(network_seconds(&network, &mesh, MESH_CONTEXT, 5.0, 5000.0) == 0.0);
    network.measured[MESH_TENSOR] = true;
    network.call[MESH_TENSOR] = 1.0;
    network.byte[MESH_TENSOR] = 0.5;
    assert_close(network_seconds(&network, &mesh, MESH_TENSOR, 3.0, 8.0), 7.0, 1e-12, 0.0);
}

/* An axis fits a host that has room for the ranks from its first to its last, tensor ranks being the nearest. */
static void axes_reach_as_far_as_their_ranks(void **state)
{
    (void)state;
    const struct mesh_config mesh = {.data = 2, .pipeline = 3, .context = 2, .tensor = 2, .virtual_stages = 1};
    static const struct {
        enum mesh_axis axis;
        int64_t reach;
    } axes[] = {{MESH_TENSOR, 2}, {MESH_CONTEXT, 3},  {MESH_PIPELINE, 5}, {MESH_ENDS, 9},
                {MESH_DATA, 13},  {MESH_REPLICA, 15}, {MESH_TEAM, 24}};
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++) {
        struct network network = {.ranks_per_host = axes[i].reach};
        assert_false(network_crosses(&network, &mesh, axes[i].axis));
        network.ranks_per_host--;
        assert_true(network_crosses(&network, &mesh, axes[i].axis));
    }
}

/* -- A machine that is busy -- */

static struct busy_look look_of(const char *text)
{
    char path[] = "/tmp/cairn-busy-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, text, strlen(text)), strlen(text));
    close(descriptor);
    struct busy_look look = busy_look(path);
    unlink(path);
    return look;
}

/* User, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen. */
static void others_work_is_seen(void **state)
{
    (void)state;
    const double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    struct busy_look before = look_of("cpu  100 10 50 1000 20 3 4 5 0 0\ncpu0 1 1 1 1 1 1 1 1\n");
    struct busy_look after = look_of("cpu  400 20 150 1300 60 13 24 25 0 0\n");
    struct busy busy = {.load = 1.5};
    assert_true(before.known && after.known);
    assert_close(before.all, 1192.0 * tick, 1e-12, 0.0);
    assert_close(before.used, 167.0 * tick, 1e-12, 0.0);
    assert_close(before.stolen, 5.0 * tick, 1e-12, 0.0);
    before.own = 2.0;
    after.own = 2.0 + 240.0 * tick;
    busy_add(&busy, &before, &after);
    /* Of 800 ticks 440 were used, 240 of them by this process; 20 were stolen. */
    assert_close(busy_others_share(&busy), 0.25, 1e-9, 0.0);
    assert_close(busy_stolen_share(&busy), 0.025, 1e-9, 0.0);
    char text[256];
    busy.spread = 0.3;
    busy_describe(&busy, text, sizeof text);
    assert_string_equal(text,
                        "the load average was 1.5, other processes took 25 % of its cores, other guests of its host "
                        "2 %, and repeated steps differed by up to 30 %");
    /* Clocks that do not agree to the tick make no negative work, and a second look adds to the first. */
    after.own += 1e6;
    busy_add(&busy, &before, &after);
    assert_close(busy_others_share(&busy), 0.125, 1e-9, 0.0);
}

static void what_disturbs(void **state)
{
    (void)state;
    assert_false(look_of("cpu  1 2 3\n").known);
    assert_false(busy_look("/nowhere/stat").known);
    struct busy busy = {.load = 9.0};
    assert_false(busy_disturbs(&busy)); /* a load of before is no work at the same time */
    const struct busy_look unknown = {0}, known = {.known = true, .all = 1.0, .used = 1.0};
    busy_add(&busy, &unknown, &known);
    assert_false(busy_disturbs(&busy));
    const struct {
        struct busy busy;
        bool disturbs;
    } cases[] = {{{.all = 100.0, .others = 4.9}, false},
                 {{.all = 100.0, .others = 5.1}, true},
                 {{.all = 100.0, .stolen = 1.9}, false},
                 {{.all = 100.0, .stolen = 2.1}, true},
                 {{.spread = 0.14}, false},
                 {{.spread = 0.16}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(busy_disturbs(&cases[i].busy), cases[i].disturbs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_forward_one_backward),     cmocka_unit_test(waits_as_the_schedule_says),
        cmocka_unit_test(messages_and_cores_take_time), cmocka_unit_test(networks_are_read),
        cmocka_unit_test(distance_and_bytes_cost),      cmocka_unit_test(axes_reach_as_far_as_their_ranks),
        cmocka_unit_test(others_work_is_seen),          cmocka_unit_test(what_disturbs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
