#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/parallel/schedule.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_forward_one_backward),     cmocka_unit_test(waits_as_the_schedule_says),
        cmocka_unit_test(messages_and_cores_take_time), cmocka_unit_test(networks_are_read),
        cmocka_unit_test(distance_and_bytes_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
