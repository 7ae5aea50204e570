#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/json/json.h"
#include "src/watch/hang.h"

enum { PATH_LENGTH = 800 };

static const char *const work_names[] = {
    [LOCATION_START] = "start",           [LOCATION_TRAINING] = "training",     [LOCATION_OPTIMIZER] = "optimizer",
    [LOCATION_EVALUATION] = "evaluation", [LOCATION_CHECKPOINT] = "checkpoint", [LOCATION_END] = "end",
};
static const char *const pass_names[] = {
    [LOCATION_NO_PASS] = "", [LOCATION_FORWARD] = "forward", [LOCATION_BACKWARD] = "backward"};

/* -- Writing -- */

static void put_integer(json_t *object, const char *name, int64_t value)
{
    json_object_set_new(object, name, json_integer(value));
}

static void put_place(json_t *object, const struct location *location)
{
    put_integer(object, "step", location->step);
    put_integer(object, "moves", location->moves);
    json_object_set_new(object, "work", json_text(work_names[location->work]));
    json_object_set_new(object, "pass", json_text(pass_names[location->pass]));
    put_integer(object, "micro_batch", location->micro_batch);
    put_integer(object, "layer", location->layer);
}

static json_t *event_object(const struct mesh_event *event, double now)
{
    json_t *object = json_object();
    put_integer(object, "number", event->number);
    json_object_set_new(object, "axis", json_text(mesh_axis_name(event->axis)));
    json_object_set_new(object, "call", json_text(mesh_call_name(event->call)));
    put_integer(object, "sequence", event->sequence);
    put_integer(object, "bytes", event->bytes);
    put_integer(object, "peer", event->peer);
    put_integer(object, "tag", event->tag);
    json_set_number(object, "seconds_ago", now - event->begun);
    json_object_set_new(object, "done", json_boolean(event->done));
    put_place(object, &event->place);
    return object;
}

static json_t *state_object(int rank, const char *host, const struct hang_state *state)
{
    double now = clock_seconds();
    json_t *object = json_object();
    json_t *begun = json_object();
    json_t *events = json_array();
    put_integer(object, "rank", rank);
    json_object_set_new(object, "host", json_text(host));
    put_integer(object, "pid", state->pid);
    json_set_number(object, "still_seconds", state->still);
    json_object_set_new(object, "in_files", json_boolean(state->files));
    put_place(object, &state->place);
    for (int axis = 0; axis < MESH_AXES; axis++)
        put_integer(begun, mesh_axis_name((enum mesh_axis)axis), state->begun[axis]);
    json_object_set_new(object, "collectives", begun);
    json_object_set_new(object, "waits", state->waits.number ? event_object(&state->waits, now) : json_null());
    for (int i = 0; i < state->event_count; i++)
        json_array_append_new(events, event_object(&state->events[i], now));
    json_object_set_new(object, "events", events);
    return object;
}

const char *hang_path(const char *folder, int rank, char *path, size_t size)
{
    snprintf(path, size, "%s/rank-%05d.json", folder, rank);
    return path;
}

bool hang_write(const char *folder, int rank, const char *host, const struct hang_state *state)
{
    char path[PATH_LENGTH];
    char partial[PATH_LENGTH + 16];
    hang_path(folder, rank, path, sizeof path);
    snprintf(partial, sizeof partial, "%s.partial", path);
    json_t *object = state_object(rank, host, state);
    FILE *file = fopen(partial, "w");
    bool written = file && json_dumpf(object, file, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) == 0;
    json_decref(object);
    if (file && fclose(file) != 0)
        written = false;
    return written && rename(partial, path) == 0;
}

/* -- Reading -- */

static int64_t take_integer(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static int take_name(const json_t *object, const char *name, const char *(*name_of)(int), int count)
{
    const char *text = json_string_value(json_object_get(object, name));
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, name_of(i)) == 0)
            return i;
    return 0;
}

static const char *axis_name(int axis)
{
    return mesh_axis_name((enum mesh_axis)axis);
}

static const char *call_name(int call)
{
    return mesh_call_name((enum mesh_call)call);
}

static const char *work_name(int work)
{
    return work_names[work];
}

static const char *pass_name(int pass)
{
    return pass_names[pass];
}

static struct location take_place(const json_t *object)
{
    return (struct location){
        .step = take_integer(object, "step"),
        .moves = take_integer(object, "moves"),
        .work = (enum location_work)take_name(object, "work", work_name, LOCATION_END + 1),
        .pass = (enum location_pass)take_name(object, "pass", pass_name, LOCATION_BACKWARD + 1),
        .micro_batch = take_integer(object, "micro_batch"),
        .layer = take_integer(object, "layer"),
    };
}

static struct mesh_event take_event(const json_t *object)
{
    return (struct mesh_event){
        .number = take_integer(object, "number"),
        .axis = (enum mesh_axis)take_name(object, "axis", axis_name, MESH_AXES),
        .call = (enum mesh_call)take_name(object, "call", call_name, MESH_CALLS),
        .sequence = take_integer(object, "sequence"),
        .bytes = take_integer(object, "bytes"),
        .peer = (int)take_integer(object, "peer"),
        .tag = (int)take_integer(object, "tag"),
        .place = take_place(object),
        .begun = clock_seconds() - json_number_value(json_object_get(object, "seconds_ago")),
        .done = json_is_true(json_object_get(object, "done")),
    };
}

bool hang_read(const char *folder, int rank, struct hang_state *state)
{
    char path[PATH_LENGTH];
    *state = (struct hang_state){0};
    json_t *object = json_load_file(hang_path(folder, rank, path, sizeof path), 0, NULL);
    if (!object)
        return false;
    const json_t *waits = json_object_get(object, "waits");
    const json_t *begun = json_object_get(object, "collectives");
    const json_t *events = json_object_get(object, "events");
    state->present = true;
    state->pid = take_integer(object, "pid");
    state->files = json_is_true(json_object_get(object, "in_files"));
    state->still = json_number_value(json_object_get(object, "still_seconds"));
    state->place = take_place(object);
    for (int axis = 0; axis < MESH_AXES; axis++)
        state->begun[axis] = take_integer(begun, mesh_axis_name((enum mesh_axis)axis));
    if (json_is_object(waits))
        state->waits = take_event(waits);
    while (state->event_count < HANG_EVENTS && state->event_count < (int)json_array_size(events)) {
        state->events[state->event_count] = take_event(json_array_get(events, (size_t)state->event_count));
        state->event_count++;
    }
    json_decref(object);
    return true;
}
