#include "tests/support/support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/events/events.h"

/* Event files, byte by byte: the framing by its definition, the messages as TensorBoard's own classes write them. */

struct fixture {
    struct context context;
    char folder[64];
    char path[512];
    unsigned char bytes[65536];
    size_t size;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    context_create(&fixture.context);
    fixture.context.quiet = true;
    strcpy(fixture.folder, "/tmp/cairn-events-XXXXXX");
    *state = &fixture;
    return mkdtemp(fixture.folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->path[0])
        unlink(fixture->path);
    rmdir(fixture->folder);
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void read_file(struct fixture *fixture)
{
    DIR *folder = opendir(fixture->folder);
    struct dirent *entry;
    int files = 0;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.') {
            assert_true(strncmp(entry->d_name, "events.out.tfevents.", 20) == 0);
            snprintf(fixture->path, sizeof fixture->path, "%s/%s", fixture->folder, entry->d_name);
            files++;
        }
    closedir(folder);
    assert_int_equal(files, 1);
    FILE *file = fopen(fixture->path, "rb");
    fixture->size = fread(fixture->bytes, 1, sizeof fixture->bytes, file);
    fclose(file);
}

/* Bit by bit. */
static uint32_t sum_of(const unsigned char *bytes, size_t size)
{
    uint32_t sum = 0xffffffffU;
    for (size_t i = 0; i < size; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (0x82f63b78U & (0U - (sum & 1U)));
    }
    return ~sum;
}

static uint64_t little(const unsigned char *bytes, int size)
{
    uint64_t value = 0;
    for (int i = size - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static void expect_sum(const unsigned char *bytes, size_t size)
{
    uint32_t sum = sum_of(bytes, size);
    assert_int_equal(little(bytes + size, 4), (uint32_t)(((sum >> 15) | (sum << 17)) + 0xa282ead8U));
}

/* Record `number` of the file; its bytes. */
static const unsigned char *record(const struct fixture *fixture, int number, size_t *size)
{
    size_t at = 0;
    for (int i = 0;; i++) {
        assert_true(at + 16 <= fixture->size);
        *size = (size_t)little(fixture->bytes + at, 8);
        assert_true(at + 16 + *size <= fixture->size);
        expect_sum(fixture->bytes + at, 8);
        expect_sum(fixture->bytes + at + 12, *size);
        if (i == number)
            return fixture->bytes + at + 12;
        at += 16 + *size;
    }
}

static void write_line(struct events *events, const char *text)
{
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    events_line(events, object);
    json_decref(object);
}

static bool holds(const unsigned char *bytes, size_t size, const char *part, size_t length)
{
    for (size_t i = 0; i + length <= size; i++)
        if (memcmp(bytes + i, part, length) == 0)
            return true;
    return false;
}

static void lines_become_events(void **state)
{
    struct fixture *fixture = *state;
    struct events *events;
    size_t size;
    assert_int_equal(sum_of((const unsigned char *)"123456789", 9), 0xe3069283);
    assert_ok(&fixture->context, events_create(&fixture->context, fixture->folder, 300, &events));
    write_line(events, "{\"step\": 300, \"loss\": 2.5, \"time\": \"2026-01-31T12:00:00.500Z\"}");
    write_line(events, "{\"loss\": 1.0, \"time\": \"2026-01-31T12:00:00.500Z\"}");
    write_line(events, "{\"step\": 301, \"note\": \"hi\", \"time\": \"2026-01-31T12:00:00.500Z\"}");
    events_restart(events, 128);
    events_destroy(&events);
    assert_null(events);
    read_file(fixture);

    /* wall_time, then file_version */
    const unsigned char *bytes = record(fixture, 0, &size);
    assert_int_equal(size, 9 + 15);
    assert_memory_equal(bytes + 9,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);
    /* step 300 and a session's START */
    bytes = record(fixture, 1, &size);
    assert_int_equal(size, 9 + 3 + 4);
    assert_memory_equal(bytes + 9, "\x10\xac\x02\x3a\x02\x08\x01", 7);
    static const char scalar[] =
        "\x09\x00\x00\x20\xb0\x7b\x5f\xda\x41\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x20\x40";
    bytes = record(fixture, 2, &size);
    assert_int_equal(size, sizeof scalar - 1);
    assert_memory_equal(bytes, scalar, size);
    static const char text[] =
        "\x09\x00\x00\x20\xb0\x7b\x5f\xda\x41\x10\xad\x02\x2a\x1e\x0a\x1c\x0a\x04note\x42\x08\x08\x07\x12\x00\x42\x02hi"
        "\x4a\x0a\x0a\x06\x0a\x04text\x20\x02";
    bytes = record(fixture, 3, &size);
    assert_int_equal(size, sizeof text - 1);
    assert_memory_equal(bytes, text, size);
    bytes = record(fixture, 4, &size);
    assert_memory_equal(bytes + 9, "\x10\x80\x01\x3a\x02\x08\x01", 7);
}

/* Of 0, 2, 2, 4: least and most, how many, their sum and squares, thirty ends of buckets, and 1, 2 and 1 in them. */
static void lists_become_histograms(void **state)
{
    struct fixture *fixture = *state;
    struct events *events;
    size_t size;
    assert_ok(&fixture->context, events_create(&fixture->context, fixture->folder, 1, &events));
    write_line(events,
               "{\"step\": 1, \"gates\": [0, 2, 4, 2, null], \"empty\": [], \"time\": \"2026-01-31T12:00:00Z\"}");
    events_destroy(&events);
    read_file(fixture);
    const unsigned char *bytes = record(fixture, 2, &size);
    const unsigned char *at = bytes + 9 + 2; /* wall_time, step */
    assert_int_equal(at[0], 0x2a);           /* the summary, its length in two bytes */
    at += 3;
    assert_int_equal(at[0], 0x0a);
    at += 3;
    assert_memory_equal(at, "\x0a\x05gates\x2a", 8);
    at += 8 + 2;
    const double numbers[] = {0.0, 4.0, 4.0, 8.0, 24.0};
    for (int i = 0; i < 5; i++, at += 9) {
        assert_int_equal(at[0], (i + 1) << 3 | 1);
        assert_memory_equal(at + 1, &numbers[i], 8);
    }
    assert_memory_equal(at, "\x32\xf0\x01", 3); /* 240 bytes */
    double ends[30];
    double counts[30];
    memcpy(ends, at + 3, sizeof ends);
    at += 3 + 240;
    assert_memory_equal(at, "\x3a\xf0\x01", 3);
    memcpy(counts, at + 3, sizeof counts);
    assert_ptr_equal(at + 3 + 240, bytes + size);
    for (int i = 0; i < 30; i++) {
        assert_close(ends[i], 4.0 * (i + 1) / 30, 1e-12, 0.0);
        assert_true(counts[i] == (i == 0 || i == 29 ? 1.0 : i == 14 ? 2.0 : 0.0));
    }
    assert_false(holds(bytes, size, "empty", 5));
}

static void settings_become_parameters(void **state)
{
    struct fixture *fixture = *state;
    struct events *events;
    size_t size;
    assert_ok(&fixture->context, events_create(&fixture->context, fixture->folder, 1, &events));
    events_setting(events, "a.rate", "0.5");
    events_setting(events, "b", "true");
    events_setting(events, "c", "swiglu");
    events_setting(events, "d", "\"x y\"");
    events_settings_end(events);
    events_destroy(&events);
    read_file(fixture);
    const unsigned char *bytes = record(fixture, 2, &size);
    assert_true(holds(bytes, size, "\x0a\x1c_hparams_/session_start_info\x42\x06\x08\x01\x12\x02\x12\x00", 38));
    assert_true(holds(bytes, size,
                      "\x0a\x13\x0a\x06"
                      "a.rate\x12\x09\x11\x00\x00\x00\x00\x00\x00\xe0\x3f",
                      21));
    assert_true(holds(bytes, size,
                      "\x0a\x07\x0a\x01"
                      "b\x12\x02\x20\x01",
                      9));
    assert_true(holds(bytes, size,
                      "\x0a\x0d\x0a\x01"
                      "c\x12\x08\x1a\x06swiglu",
                      15));
    assert_true(holds(bytes, size,
                      "\x0a\x0a\x0a\x01"
                      "d\x12\x05\x1a\x03x y",
                      12));
    assert_true(holds(bytes, size, "\x0a\x07hparams\x12", 10));
}

/* Lines like those before ask for no memory. */
static void lines_allocate_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct events *events;
    int64_t allocations = 0;
    assert_ok(&fixture->context, events_create(&fixture->context, fixture->folder, 1, &events));
    for (int i = 0; i < 8; i++) {
        write_line(events, "{\"step\": 1, \"gates\": [0, 2], \"loss\": 1, \"norm\": 2, \"note\": \"a text that is "
                           "longer than others\", \"time\": \"2026-01-31T12:00:00Z\"}");
        if (i == 4)
            allocations = fixture->context.memory.allocations;
    }
    assert_true(allocations > 0);
    assert_int_equal(fixture->context.memory.allocations, allocations);
    events_destroy(&events);
    read_file(fixture);
}

static void failures_end_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct events *events;
    assert_fails(&fixture->context, events_create(&fixture->context, "/nowhere/at/all", 1, &events), STATUS_FILE,
                 "/nowhere/at/all/events.out.tfevents.");
    events_destroy(&events);
    context_clear(&fixture->context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_become_events, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_become_histograms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settings_become_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_allocate_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_end_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
