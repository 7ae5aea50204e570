/* A hang in words. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dist/mesh/members.h"
#include "src/watch/hang.h"

enum { SHOWN = 6, LIST = 160, PLACE = 160 };

struct text {
    char *to;
    size_t size;
    size_t length;
};

static void PRINTF_LIKE(2, 3) add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = text->length < text->size ? text->size - text->length : 0;
    int length = vsnprintf(text->to + text->size - room, room, format, arguments);
    va_end(arguments);
    text->length += length > 0 ? (size_t)length : 0;
}

static void describe_place(const struct location *location, char *to, size_t size)
{
    static const char *const work[] = {
        [LOCATION_START] = "at the start",         [LOCATION_TRAINING] = "in training",
        [LOCATION_OPTIMIZER] = "in the optimiser", [LOCATION_EVALUATION] = "in an evaluation",
        [LOCATION_CHECKPOINT] = "in a checkpoint", [LOCATION_END] = "at the end",
    };
    static const char *const pass[] = {
        [LOCATION_NO_PASS] = "", [LOCATION_FORWARD] = ", forward", [LOCATION_BACKWARD] = ", backward"};
    struct text text = {.to = to, .size = size};
    add(&text, "step %lld, %s", (long long)location->step, work[location->work]);
    if (location->micro_batch >= 0)
        add(&text, ", micro-batch %lld", (long long)location->micro_batch);
    add(&text, "%s", pass[location->pass]);
    if (location->layer >= 0)
        add(&text, ", layer %lld", (long long)location->layer);
}

/* "all-reduce 119 on tensor", "receive from rank 2". */
static void describe_event(const struct hang *hang, int rank, const struct mesh_event *event, char *to, size_t size)
{
    struct text text = {.to = to, .size = size};
    if (mesh_call_is_message(event->call))
        add(&text, "%s %s rank %d", mesh_call_name(event->call), event->call == CALL_SEND ? "to" : "from",
            members_team_rank(hang->mesh, event->axis, rank, event->peer));
    else
        add(&text, "%s number %lld on %s", mesh_call_name(event->call), (long long)event->sequence,
            mesh_axis_name(event->axis));
}

/* The ranks of a set: "rank 3", "ranks 0-2, 5". */
static void describe_ranks(const bool *set, int count, char *to, size_t size)
{
    struct text text = {.to = to, .size = size};
    int members = 0;
    for (int rank = 0; rank < count; rank++)
        members += set[rank];
    add(&text, members == 1 ? "rank" : "ranks");
    const char *before = " ";
    for (int rank = 0; rank < count; rank++) {
        int last = rank;
        if (!set[rank])
            continue;
        while (last + 1 < count && set[last + 1])
            last++;
        add(&text, last > rank ? "%s%d-%d" : "%s%d", before, rank, last);
        before = ", ";
        rank = last;
    }
}

/* The collective in which another rank waits for this one. */
static const struct mesh_event *awaited_in(const struct hang *hang, int rank)
{
    for (int other = 0; other < hang->hosts->ranks; other++) {
        const struct mesh_event *event = &hang->states[other].waits;
        if (other == rank || !event->number || mesh_call_is_message(event->call))
            continue;
        int members = members_count(hang->mesh, event->axis, other);
        for (int i = 0; i < members; i++)
            if (members_team_rank(hang->mesh, event->axis, other, i) == rank &&
                hang->states[rank].begun[event->axis] < event->sequence)
                return event;
    }
    return NULL;
}

static void describe_culprit(const struct hang *hang, int rank, struct text *text)
{
    const struct hang_state *state = &hang->states[rank];
    char place[PLACE];
    char waits[PLACE];
    if (!state->present) {
        add(text, "rank %d on host %s does not answer: stopped, dead or cut off; ", rank, hang->hosts->name[rank]);
        return;
    }
    describe_place(&state->place, place, sizeof place);
    add(text, "rank %d on host %s is behind: ", rank, hang->hosts->name[rank]);
    const struct mesh_event *missed = awaited_in(hang, rank);
    if (missed)
        add(text, "its last collective on %s was number %lld, ", mesh_axis_name(missed->axis),
            (long long)state->begun[missed->axis]);
    if (state->waits.number) {
        describe_event(hang, rank, &state->waits, waits, sizeof waits);
        add(text, "and it waits in %s (%s); ", waits, place);
    } else {
        add(text, "it is outside of MPI (%s); ", place);
    }
}

static bool same_wait(const struct hang *hang, int a, int b)
{
    const struct mesh_event *x = &hang->states[a].waits;
    const struct mesh_event *y = &hang->states[b].waits;
    if (!hang->states[b].present || x->axis != y->axis || x->call != y->call || x->sequence != y->sequence ||
        !x->number || !y->number)
        return false;
    return !mesh_call_is_message(x->call) && members_stage(hang->mesh, a) == members_stage(hang->mesh, b);
}

/* The ranks that are not to blame, those that wait in the same collective together. `told` is changed. */
static void describe_waiting(const struct hang *hang, bool *told, bool *set, struct text *text)
{
    int count = hang->hosts->ranks;
    int shown = 0;
    char list[LIST];
    char place[PLACE];
    char waits[PLACE];
    for (int rank = 0; rank < count && shown < SHOWN; rank++) {
        const struct hang_state *state = &hang->states[rank];
        if (told[rank] || !state->present)
            continue;
        int together = 0;
        for (int other = 0; other < count; other++) {
            set[other] = other == rank || (other > rank && !told[other] && same_wait(hang, rank, other));
            told[other] = told[other] || set[other];
            together += set[other];
        }
        describe_ranks(set, count, list, sizeof list);
        describe_place(&state->place, place, sizeof place);
        describe_event(hang, rank, &state->waits, waits, sizeof waits);
        shown++;
        if (state->waits.number)
            add(text, "%s %s in %s (%s); ", list, together == 1 ? "waits" : "wait", waits, place);
        else
            add(text, "%s is outside of MPI (%s); ", list, place);
    }
}

void hang_describe(const struct hang *hang, const bool *culprits, bool *scratch, char *to, size_t size)
{
    struct text text = {.to = to, .size = size};
    bool *told = scratch;
    bool *set = scratch + hang->hosts->ranks;
    int shown = 0;
    memset(told, 0, (size_t)hang->hosts->ranks * sizeof *told);
    for (int rank = 0; rank < hang->hosts->ranks; rank++) {
        told[rank] = culprits[rank];
        if (!culprits[rank] || shown++ >= SHOWN)
            continue;
        describe_culprit(hang, rank, &text);
    }
    if (shown > SHOWN)
        add(&text, "and %d more; ", shown - SHOWN);
    describe_waiting(hang, told, set, &text);
}
