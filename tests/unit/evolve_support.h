/* A small system of tasks, and what it takes to compare two. */
#ifndef CAIRN_TESTS_EVOLVE_SUPPORT_H
#define CAIRN_TESTS_EVOLVE_SUPPORT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/core/integer.h"
#include "src/evolve/record.h"
#include "src/evolve/visit.h"
#include "tests/support/support.h"

enum { LAYERS = 3, CHILDREN = 4 };

static inline int system_call(const char *command)
{
    return system(command);
}

static inline int64_t elements(void *self, enum part part, int64_t extent)
{
    static const int64_t sizes[] = {[PART_PATCHES] = 10, [PART_POSITIONS] = 20, [PART_LAYER] = 100, [PART_NORM] = 2};
    (void)self;
    return part == PART_HEAD ? 3 * extent : part == PART_ADAPTER ? 5 * extent : sizes[part];
}

static inline double flops(void *self, int64_t layers, int64_t adapters, int64_t classes)
{
    (void)self;
    return (double)(100 * layers + 2 * adapters + classes);
}

/* Knows its space, and has nothing. */
static inline void make_empty(struct context *context, struct system *system)
{
    context_create(context);
    system_create(context, system);
    system->seed = 3;
    system->sizes = (struct sizes){NULL, elements, flops};
    space_standard(&system->space, LAYERS);
    system->space.list[HYPER_LAYERS] = (struct space_list){3, 2, {1, 2, 3}};
}

static inline void make(struct context *context, struct system *system)
{
    static const char *const names[] = {"a", "b", "c"};
    make_empty(context, system);
    assert_ok(context, system_add_root(system));
    for (int t = 0; t < 3; t++) {
        struct task task = {.classes = 10, .kept = -1, .accuracy = NAN, .private = t == 2};
        strcpy(task.name, names[t]);
        assert_non_null(system_add_task(system, &task));
    }
}

static inline void end(struct context *context, struct system *system)
{
    system_destroy(system);
    assert_int_equal(context->memory.bytes_total, 0);
}

/* A visit of two generations; a child's quality follows from its id, and some children fail. */
static inline void visit_once(struct system *system, int task, int64_t iteration)
{
    struct visit visit;
    struct child child[CHILDREN];
    assert_ok(system->context, visit_begin(system, task, iteration, &visit));
    for (int g = 0; g < 2; g++) {
        visit_generation(&visit);
        for (int i = 0; i < CHILDREN; i++)
            assert_ok(system->context, visit_sample(&visit, i + 1, &child[i]));
        for (int i = 0; i < CHILDREN; i++) {
            double quality = (double)(child[i].path.id * 7 % 10) / 10.0;
            if (quality * path_factor(system, &child[i].path) >= child[i].bar)
                assert_ok(system->context, visit_accept(&visit, &child[i], quality));
        }
    }
    assert_ok(system->context, visit_end(&visit));
    visit_destroy(&visit);
}

/* Member by member: what lies between members is nobody's. */
static inline bool equal_paths(const struct path *a, const struct path *b)
{
    return a->id == b->id && a->parent == b->parent && a->task == b->task && a->count == b->count &&
           memcmp(a->value, b->value, sizeof a->value) == 0 && memcmp(a->act, b->act, sizeof a->act) == 0 &&
           memcmp(a->component, b->component, (size_t)a->count * sizeof *a->component) == 0 &&
           memcmp(&a->quality, &b->quality, sizeof a->quality) == 0 &&
           memcmp(&a->score, &b->score, sizeof a->score) == 0 && a->clones == b->clones;
}

static inline bool equal_components(const struct component *a, const struct component *b)
{
    return a->id == b->id && a->origin == b->origin && a->part == b->part && a->layer == b->layer &&
           a->task == b->task && a->elements == b->elements;
}

static inline bool equal_systems(const struct system *a, const struct system *b)
{
    bool equal = a->path_count == b->path_count && a->component_count == b->component_count;
    for (int i = 0; equal && i < a->path_count; i++)
        equal = equal_paths(&a->paths[i], &b->paths[i]);
    for (int i = 0; equal && i < a->component_count; i++)
        equal = equal_components(&a->components[i], &b->components[i]);
    return equal;
}

#endif
