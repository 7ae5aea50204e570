#include "src/watch/hang.h"

#include <string.h>
#include <unistd.h>

#include "dist/mesh/members.h"

void hang_observe(const struct context *context, const struct mesh *mesh, struct hang_state *state)
{
    *state = (struct hang_state){.present = true, .pid = (int64_t)getpid()};
    state->place = location_unpack(location_where(&context->location), location_position(&context->location));
    state->files = location_in_files(&context->location);
    state->event_count = mesh_events(mesh, state->events, HANG_EVENTS);
    for (int axis = 0; axis < MESH_AXES; axis++)
        state->begun[axis] = mesh_collectives(mesh, (enum mesh_axis)axis);
    /* What it waits for may be older than the newest events. */
    int64_t waited = mesh_event_waited(mesh);
    if (waited > 0 && !mesh_event_find(mesh, waited, &state->waits))
        state->waits = (struct mesh_event){0};
}

/* -- Who waits for whom -- */

static int rank_count(const struct hang *hang)
{
    return hang->hosts->ranks;
}

/* Whether a rank that waits does so for another, which may be silent. */
static bool waits_for(const struct hang *hang, int waiting, int other)
{
    const struct mesh_event *event = &hang->states[waiting].waits;
    if (waiting == other || !event->number)
        return false;
    if (mesh_call_is_message(event->call))
        return members_team_rank(hang->mesh, event->axis, waiting, event->peer) == other;
    const struct hang_state *state = &hang->states[other];
    return !state->present || state->begun[event->axis] < event->sequence;
}

/* Where a rank is in the program against another of the same stage; of other stages only the steps compare. */
static bool is_later(const struct hang *hang, int rank, int other)
{
    const struct location *a = &hang->states[rank].place;
    const struct location *b = &hang->states[other].place;
    bool alike = members_stage(hang->mesh, rank) == members_stage(hang->mesh, other);
    return a->step > b->step || (alike && a->step == b->step && a->moves > b->moves);
}

static int mark_silent(const struct hang *hang, bool *culprits)
{
    int count = 0;
    for (int rank = 0; rank < rank_count(hang); rank++) {
        culprits[rank] = !hang->states[rank].present;
        count += culprits[rank];
    }
    return count;
}

/* -- A collective that ranks do not agree about -- */

static const struct mesh_event *find_collective(const struct hang_state *state, enum mesh_axis axis, int64_t sequence)
{
    for (int i = 0; i < state->event_count; i++) {
        const struct mesh_event *event = &state->events[i];
        if (event->axis == axis && event->sequence == sequence && !mesh_call_is_message(event->call))
            return event;
    }
    return NULL;
}

static bool alike(const struct mesh_event *a, const struct mesh_event *b)
{
    return a->call == b->call && a->place.step == b->place.step && a->place.moves == b->place.moves;
}

static bool later_event(const struct mesh_event *a, const struct mesh_event *b)
{
    return a->place.step > b->place.step || (a->place.step == b->place.step && a->place.moves > b->place.moves);
}

/* Members of a group whose collective of that number is not what most have; of two equal parties the one that is
 * further on, which has left out one before. */
static int mark_odd(const struct hang *hang, enum mesh_axis axis, int first, int64_t sequence, bool *culprits)
{
    int members = members_count(hang->mesh, axis, first);
    const struct mesh_event *usual = NULL;
    int most = 0;
    for (int i = 0; i < members; i++) {
        int rank = members_team_rank(hang->mesh, axis, first, i);
        const struct mesh_event *event = find_collective(&hang->states[rank], axis, sequence);
        int count = 0;
        for (int j = 0; event && j < members; j++) {
            int other = members_team_rank(hang->mesh, axis, first, j);
            const struct mesh_event *theirs = find_collective(&hang->states[other], axis, sequence);
            count += theirs && alike(event, theirs);
        }
        if (count > most || (count == most && count > 0 && later_event(usual, event))) {
            most = count;
            usual = event;
        }
    }
    int found = 0;
    for (int i = 0; i < members; i++) {
        int rank = members_team_rank(hang->mesh, axis, first, i);
        const struct mesh_event *event = find_collective(&hang->states[rank], axis, sequence);
        bool odd = event && !alike(event, usual);
        culprits[rank] = culprits[rank] || odd;
        found += odd;
    }
    return found;
}

/* On axes whose ranks run the same program. */
static int mark_disagreeing(const struct hang *hang, bool *culprits)
{
    static const enum mesh_axis axes[] = {MESH_TENSOR, MESH_CONTEXT, MESH_REPLICA, MESH_DATA};
    for (size_t a = 0; a < sizeof axes / sizeof *axes; a++)
        for (int rank = 0; rank < rank_count(hang); rank++) {
            const struct hang_state *state = &hang->states[rank];
            if (members_team_rank(hang->mesh, axes[a], rank, 0) != rank)
                continue;
            for (int i = 0; i < state->event_count; i++) {
                const struct mesh_event *event = &state->events[i];
                if (event->axis != axes[a] || mesh_call_is_message(event->call))
                    continue;
                int found = mark_odd(hang, axes[a], rank, event->sequence, culprits);
                if (found)
                    return found;
            }
        }
    return 0;
}

/* -- A collective that was left out -- */

/* Ranks that are further on in the program than one that waits for them have left its collective out. Where they are
 * the most of its group it is the one that waits in a collective that nobody else knows. */
static int mark_skipping(const struct hang *hang, bool *culprits)
{
    for (int rank = 0; rank < rank_count(hang); rank++) {
        const struct mesh_event *event = &hang->states[rank].waits;
        if (!event->number || mesh_call_is_message(event->call))
            continue;
        int members = members_count(hang->mesh, event->axis, rank);
        int gone = 0;
        for (int i = 0; i < members; i++) {
            int other = members_team_rank(hang->mesh, event->axis, rank, i);
            culprits[other] = waits_for(hang, rank, other) && is_later(hang, other, rank);
            gone += culprits[other];
        }
        if (gone == 0)
            continue;
        if (2 * gone <= members)
            return gone;
        for (int i = 0; i < members; i++) {
            int other = members_team_rank(hang->mesh, event->axis, rank, i);
            culprits[other] = !culprits[other];
        }
        return members - gone;
    }
    return 0;
}

/* -- Anything else -- */

/* Those that somebody waits for: that are not in MPI themselves, or else that most wait for. */
static int mark_awaited(const struct hang *hang, bool outside, bool *culprits)
{
    int most = 1;
    int found = 0;
    for (int rank = 0; rank < rank_count(hang); rank++) {
        int waiting = 0;
        culprits[rank] = false;
        if (outside && hang->states[rank].waits.number)
            continue;
        for (int other = 0; other < rank_count(hang); other++)
            waiting += hang->states[other].present && waits_for(hang, other, rank);
        if (waiting < most)
            continue;
        if (!outside && waiting > most) {
            most = waiting;
            found = 0;
            memset(culprits, 0, (size_t)rank * sizeof *culprits);
        }
        culprits[rank] = true;
        found++;
    }
    return found;
}

int hang_culprits(const struct hang *hang, bool *culprits)
{
    int found = mark_silent(hang, culprits);
    if (!found)
        found = mark_disagreeing(hang, culprits);
    if (!found)
        found = mark_skipping(hang, culprits);
    if (!found)
        found = mark_awaited(hang, true, culprits);
    if (!found)
        found = mark_awaited(hang, false, culprits);
    return found;
}
