/* How a system of tasks changes: parents, mutations, acceptance, scores. */
#include "tests/unit/evolve_support.h"

/* -- The space -- */

static void a_step_is_one_place_and_stays_at_the_ends(void **state)
{
    static const struct space_list three = {3, 0, {1, 2, 3}};
    (void)state;
    assert_int_equal(space_step(&three, 0, -1), 0);
    assert_int_equal(space_step(&three, 0, 1), 1);
    assert_int_equal(space_step(&three, 1, -1), 0);
    assert_int_equal(space_step(&three, 2, 1), 2);
}

static void lists_are_read_or_refused(void **state)
{
    static const struct {
        const char *line, *error;
    } bad[] = {{"lr 0.1", "is not NAME = VALUES"},
               {"rate = 0.1", "there is no \"rate\""},
               {"lr = 0.1 0.2", "one of them in brackets"},
               {"lr = [0.1] [0.2]", "one of them in brackets"},
               {"layers = 1 [2.5]", "from 1 to 30"},
               {"momentum = [1.0]", "from 0 to 0.9999"},
               {"crop = maybe", "from 0 to 1"}};
    struct context context;
    struct space space;
    struct text_list lines = {.count = 2, .item = {"layers = 1 [2] 3", "flip = [false] true"}};
    (void)state;
    context_create(&context);
    space_standard(&space, 4);
    assert_ok(&context, space_read(&context, &lines, &space));
    assert_int_equal(space.list[HYPER_LAYERS].count, 3);
    assert_int_equal(space.list[HYPER_LAYERS].standard, 1);
    assert_int_equal(space.list[HYPER_FLIP].standard, 0);
    assert_close(space.list[HYPER_LR].value[space.list[HYPER_LR].standard], 0.01, 0.0, 0.0);
    assert_close(space.list[HYPER_MU].value[space.list[HYPER_MU].standard], 0.2, 0.0, 0.0);
    assert_close(space.list[HYPER_MOMENTUM].value[space.list[HYPER_MOMENTUM].standard], 0.9, 0.0, 0.0);
    lines.count = 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        strcpy(lines.item[0], bad[i].line);
        assert_fails(&context, space_read(&context, &lines, &space), STATUS_USAGE, bad[i].error);
        context_clear(&context);
    }
}

/* -- Parents -- */

/* Of a population of two, the better one is first and then has a chance of one half. */
static void parents_are_taken_by_score_and_halved(void **state)
{
    enum { TIMES = 2000 };
    struct context context;
    int second = 0;
    (void)state;
    for (int seed = 0; seed < TIMES; seed++) {
        struct system system;
        struct visit visit;
        struct child child;
        struct child pair[2];
        make(&context, &system);
        system.seed = (uint64_t)seed;
        assert_ok(&context, visit_begin(&system, 0, 1, &visit));
        visit_generation(&visit);
        for (int i = 0; i < 2; i++)
            assert_ok(&context, visit_sample(&visit, i + 1, &pair[i]));
        for (int i = 0; i < 2; i++)
            assert_ok(&context, visit_accept(&visit, &pair[i], i == 0 ? 0.9 : 0.5));
        const int64_t ids[2] = {pair[0].path.id, pair[1].path.id};
        visit_generation(&visit);
        assert_ok(&context, visit_sample(&visit, 1, &child));
        assert_int_equal(child.path.parent, ids[0]);
        assert_close(child.bar, 0.9, 0.0, 0.0);
        assert_ok(&context, visit_sample(&visit, 2, &child));
        assert_true(child.path.parent == ids[0] || child.path.parent == ids[1]);
        second += child.path.parent == ids[1];
        /* The failed ones count. */
        assert_int_equal(system_path(&system, ids[0])->clones + system_path(&system, ids[1])->clones, 2);
        visit_destroy(&visit);
        end(&context, &system);
    }
    /* Five deviations. */
    assert_in_range(second, TIMES / 2 - 112, TIMES / 2 + 112);
}

static void counts_of_children_begin_anew_with_a_visit(void **state)
{
    struct context context;
    struct system system;
    struct visit visit;
    struct child child;
    (void)state;
    make(&context, &system);
    assert_ok(&context, visit_begin(&system, 0, 1, &visit));
    visit_generation(&visit);
    assert_ok(&context, visit_sample(&visit, 1, &child));
    assert_int_equal(system.paths[0].clones, 1);
    visit_destroy(&visit);
    assert_ok(&context, visit_begin(&system, 1, 1, &visit));
    assert_int_equal(system.paths[0].clones, 0);
    visit_destroy(&visit);
    end(&context, &system);
}

static void seeds_are_neither_the_own_path_nor_private(void **state)
{
    struct context context;
    struct system system;
    struct visit visit;
    (void)state;
    make(&context, &system);
    for (int t = 0; t < 3; t++)
        visit_once(&system, t, 1);
    for (int t = 0; t < 3; t++) {
        assert_ok(&context, visit_begin(&system, t, 2, &visit));
        assert_int_equal(visit.seed_count, t == 2 ? 3 : 2);
        for (int i = 0; i < visit.seed_count; i++) {
            const struct path *seed = system_path(&system, visit.seeds[i]);
            assert_true(seed->task < 0 || (seed->task != t && !system.tasks[seed->task].private));
        }
        visit_destroy(&visit);
    }
    /* What only the private path has, no other path gets. */
    for (int64_t iteration = 2; iteration < 6; iteration++)
        for (int t = 0; t < 3; t++) {
            visit_once(&system, t, iteration);
            for (int i = 0; i < system.component_count; i++)
                if (system.components[i].task == 2)
                    assert_int_equal(component_users(&system, system.components[i].id, 2), 0);
        }
    end(&context, &system);
}

/* -- Mutations -- */

static void children_keep_the_rules(void **state)
{
    struct context context;
    struct system system;
    (void)state;
    make(&context, &system);
    int copied = 0;
    int shared = 0;
    for (int round = 1; round <= 40; round++) {
        struct visit visit;
        struct child child;
        int task = round % 3;
        struct shared_values first;
        assert_ok(&context, visit_begin(&system, task, round, &visit));
        visit_generation(&visit);
        first = visit.shared;
        for (int i = 1; i <= CHILDREN; i++) {
            assert_ok(&context, visit_sample(&visit, i, &child));
            const struct path *parent = system_path(&system, child.path.parent);
            const struct path *path = &child.path;
            assert_non_null(parent);
            for (int h = 0; h < HYPERS; h++) {
                int change = path->value[h] - parent->value[h];
                if (h < HYPERS_OF_CHILD)
                    assert_true(change >= -1 && change <= 1);
                else
                    assert_int_equal(path->value[h], first.value[h]);
                assert_in_range(path->value[h], 0, system.space.list[h].count - 1);
            }
            assert_int_equal(path_layers(&system, path), path_value(&system, path, HYPER_LAYERS));
            for (int c = 0; c < path->count; c++) {
                const struct component *component = system_component(&system, path->component[c]);
                bool locked = component_locked(&system, component->id, task);
                bool ends = component->part == PART_NORM || component->part == PART_HEAD;
                assert_true(!(ends && locked));
                shared += locked;
                copied += !locked && !ends && component->origin >= 0;
                if (component->part == PART_HEAD) {
                    const struct component *from = system_component(&system, component->origin);
                    assert_true(!from || (from->part == PART_HEAD && from->task == task));
                    assert_int_equal(component->elements, 30);
                    if (parent->task == task)
                        assert_non_null(from);
                }
            }
            if (i > 1)
                assert_ok(&context, visit_accept(&visit, &child, 0.5));
        }
        assert_ok(&context, visit_end(&visit));
        visit_destroy(&visit);
    }
    assert_true(shared > 100);
    assert_true(copied > 50);
    end(&context, &system);
}

static void a_component_of_nobody_else_is_copied_and_a_locked_one_with_mu(void **state)
{
    enum { TIMES = 1500 };
    struct context context;
    int copied = 0;
    int layers = 0;
    (void)state;
    for (int seed = 0; seed < TIMES; seed++) {
        struct system system;
        struct visit visit;
        struct child child;
        make(&context, &system);
        system.seed = (uint64_t)seed;
        for (int i = 0; i < system.space.list[HYPER_MU].count; i++)
            system.space.list[HYPER_MU].value[i] = 0.3;
        assert_ok(&context, visit_begin(&system, 0, 1, &visit));
        visit_generation(&visit);
        assert_ok(&context, visit_sample(&visit, 1, &child));
        for (int i = 0; i < path_layers(&system, &child.path) + 2; i++, layers++)
            copied += !component_locked(&system, child.path.component[i], 0);
        assert_ok(&context, visit_accept(&visit, &child, 0.5));
        struct path parent = child.path;
        visit_generation(&visit);
        assert_ok(&context, visit_sample(&visit, 1, &child));
        for (int i = 0; i < path_layers(&system, &child.path) + 2 && i < path_layers(&system, &parent) + 2; i++)
            if (!component_locked(&system, parent.component[i], 0)) {
                assert_int_not_equal(child.path.component[i], parent.component[i]);
                assert_int_equal(system_component(&system, child.path.component[i])->origin, parent.component[i]);
            }
        visit_destroy(&visit);
        end(&context, &system);
    }
    double share = (double)copied / layers;
    assert_close(share, 0.3, 0.0, 5.0 * sqrt(0.21 / layers));
}

/* New ones of the path's width in front of layers that have none, copies and shares as wide as they were; gone with
 * their layers, counted in sizes and scores. */
static void adapters_come_with_mu_and_go_with_their_layers(void **state)
{
    enum { TIMES = 600 };
    struct context context;
    int added = 0;
    int asked = 0;
    int copied = 0;
    int dropped = 0;
    (void)state;
    for (int seed = 0; seed < TIMES; seed++) {
        struct system system;
        struct visit visit;
        struct child child;
        make(&context, &system);
        system.seed = (uint64_t)seed;
        system.adapters = true;
        system.scoring = (struct scoring){1.0, 1.0, 0.5, 400.0};
        for (int i = 0; i < system.space.list[HYPER_MU].count; i++)
            system.space.list[HYPER_MU].value[i] = 0.3;
        assert_ok(&context, visit_begin(&system, 0, 1, &visit));
        visit_generation(&visit);
        assert_ok(&context, visit_sample(&visit, 1, &child));
        int64_t width = (int64_t)path_value(&system, &child.path, HYPER_ADAPTER_WIDTH);
        int64_t widths = 0;
        for (int layer = 0; layer < path_layers(&system, &child.path); layer++, asked++) {
            const struct component *adapter = path_component(&system, &child.path, PART_ADAPTER, layer);
            if (!adapter)
                continue;
            assert_int_equal(adapter->width, width);
            assert_int_equal(adapter->elements, 5 * width);
            assert_int_equal(adapter->origin, -1);
            widths += width;
            added++;
        }
        assert_close(path_factor(&system, &child.path),
                     pow(0.5, flops(NULL, path_layers(&system, &child.path), widths, 10) / 400.0), 1e-12, 0.0);
        assert_ok(&context, visit_accept(&visit, &child, 0.5));
        struct path parent = child.path;
        visit_generation(&visit);
        assert_ok(&context, visit_sample(&visit, 1, &child));
        for (int layer = 0; layer < LAYERS; layer++) {
            const struct component *before = path_component(&system, &parent, PART_ADAPTER, layer);
            const struct component *after = path_component(&system, &child.path, PART_ADAPTER, layer);
            bool stays = layer < path_layers(&system, &child.path);
            assert_true(!after || stays);
            dropped += before && !stays;
            if (!before || !after)
                continue;
            assert_int_equal(after->origin, before->id);
            assert_int_equal(after->width, before->width);
            copied++;
        }
        visit_destroy(&visit);
        end(&context, &system);
    }
    assert_close((double)added / asked, 0.3, 0.0, 5.0 * sqrt(0.21 / asked));
    assert_true(copied > 100);
    assert_true(dropped > 10);
}

static void probabilities_of_actions_are_kept_with_a_path(void **state)
{
    struct context context;
    struct system system;
    struct visit visit;
    struct child child;
    (void)state;
    make(&context, &system);
    system.mutation = MUTATION_ACTIONS;
    system.adapters = true;
    assert_ok(&context, visit_begin(&system, 0, 1, &visit));
    visit_generation(&visit);
    assert_memory_equal(visit.shared.value, system.paths[0].value, sizeof visit.shared.value);
    assert_ok(&context, visit_sample(&visit, 1, &child));
    int layers = path_layers(&system, &child.path);
    /* Asked about, fired or not. */
    for (int h = 0; h < HYPERS_OF_CHILD; h++)
        assert_in_range(child.path.act[h], 0, system.space.actions.count - 1);
    for (int i = 0; i < integer_min(layers, LAYERS); i++)
        assert_in_range(child.path.act[ACTION_LAYER + i], 0, system.space.actions.count - 1);
    for (int i = 0; i < layers; i++)
        assert_in_range(child.path.act[ACTION_ADD + i], 0, system.space.actions.count - 1);
    assert_int_equal(child.path.act[ACTION_LAYER + LAYERS], -1);
    assert_int_equal(child.path.act[ACTION_ADD + LAYERS], -1);
    assert_ok(&context, visit_accept(&visit, &child, 0.5));
    struct path parent = child.path;
    visit_generation(&visit);
    assert_ok(&context, visit_sample(&visit, 1, &child));
    for (int h = 0; h < HYPERS_OF_CHILD; h++)
        assert_true(child.path.act[h] >= parent.act[h] - 1 && child.path.act[h] <= parent.act[h] + 1);
    visit_destroy(&visit);
    end(&context, &system);
}

/* Random heads of the same shape differ: each child has numbers of its own, in each generation, visit and task. */
static void every_child_has_streams_of_its_own(void **state)
{
    enum { KEYS = 16 };
    struct context context;
    struct system system;
    uint64_t key[KEYS];
    int count = 0;
    (void)state;
    make(&context, &system);
    for (int task = 0; task < 2; task++)
        for (int64_t iteration = 1; iteration <= 2; iteration++) {
            struct visit visit;
            assert_ok(&context, visit_begin(&system, task, iteration, &visit));
            for (int g = 0; g < 2; g++) {
                visit_generation(&visit);
                for (int child = 1; child <= 2; child++)
                    key[count++] = visit_key(&visit, child, "new components");
            }
            visit_destroy(&visit);
        }
    for (int i = 0; i < KEYS; i++)
        for (int k = 0; k < i; k++)
            assert_true(key[i] != key[k]);
    end(&context, &system);
}

/* -- Acceptance, sizes, scores -- */

static void the_best_is_kept_and_of_equal_ones_the_newest(void **state)
{
    static const double quality[CHILDREN] = {0.5, 0.8, 0.8, 0.7};
    struct context context;
    struct system system;
    struct visit visit;
    struct child child[CHILDREN];
    (void)state;
    make(&context, &system);
    assert_ok(&context, visit_begin(&system, 0, 1, &visit));
    visit_generation(&visit);
    for (int i = 0; i < CHILDREN; i++) {
        assert_ok(&context, visit_sample(&visit, i + 1, &child[i]));
        assert_true(child[i].bar == -INFINITY);
    }
    for (int i = 0; i < CHILDREN; i++)
        assert_ok(&context, visit_accept(&visit, &child[i], quality[i]));
    assert_ok(&context, visit_end(&visit));
    assert_int_equal(system.tasks[0].kept, child[2].path.id);
    assert_int_equal(system.path_count, 2);
    assert_int_equal(system.paths[1].parent, 0);
    visit_destroy(&visit);
    end(&context, &system);
}

static void sizes_add_up_and_fall_when_shared(void **state)
{
    struct context context;
    struct system system;
    (void)state;
    make(&context, &system);
    system.scoring = (struct scoring){0.5, 300.0, 0.9, 400.0};
    visit_once(&system, 0, 1);
    struct path *path = system_path(&system, system.tasks[0].kept);
    double accounted = path_accounted(&system, path);
    assert_close(accounted, (double)path_elements(&system, path), 0.0, 0.0);
    assert_close(path->score,
                 path->quality * pow(0.5, accounted / 300.0) *
                     pow(0.9, flops(NULL, path_layers(&system, path), 0, 10) / 400.0),
                 1e-12, 0.0);
    double score = path->score;
    for (int64_t iteration = 1; iteration < 8; iteration++)
        for (int t = 1; t < 3; t++)
            visit_once(&system, t, iteration);
    /* Somebody has come to share something of it by now, and its score knows. */
    path = system_path(&system, system.tasks[0].kept);
    assert_true(path_accounted(&system, path) < accounted);
    assert_true(path->score > score);
    assert_ok(&context, system_check(&system));
    end(&context, &system);
}

static void what_is_kept_never_changes_and_ids_are_never_used_again(void **state)
{
    struct context context;
    struct system system;
    int64_t before = 0;
    (void)state;
    make(&context, &system);
    for (int64_t iteration = 1; iteration < 12; iteration++)
        for (int t = 0; t < 3; t++) {
            struct path kept[3];
            for (int o = 0; o < 3; o++)
                kept[o] = system.tasks[o].kept >= 0 ? *system_path(&system, system.tasks[o].kept) : (struct path){0};
            visit_once(&system, t, iteration);
            for (int o = 0; o < 3; o++)
                if (o != t && system.tasks[o].kept >= 0)
                    assert_memory_equal(kept[o].component, system_path(&system, system.tasks[o].kept)->component,
                                        (size_t)kept[o].count * sizeof *kept[o].component);
            for (int i = 1; i < system.path_count; i++)
                assert_non_null(system_path(&system, system.paths[i].parent));
            assert_true(system.next_component > before);
            before = system.next_component;
        }
    end(&context, &system);
}

static void the_same_seed_gives_the_same_system(void **state)
{
    struct context context;
    struct context other;
    struct system a;
    struct system b;
    (void)state;
    make(&context, &a);
    make(&other, &b);
    for (int64_t iteration = 1; iteration < 4; iteration++)
        for (int t = 0; t < 3; t++) {
            visit_once(&a, t, iteration);
            visit_once(&b, t, iteration);
        }
    assert_true(equal_systems(&a, &b));
    visit_once(&a, 0, 4);
    b.seed++;
    visit_once(&b, 0, 4);
    assert_false(equal_systems(&a, &b));
    end(&context, &a);
    end(&other, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_one_place_and_stays_at_the_ends),
        cmocka_unit_test(lists_are_read_or_refused),
        cmocka_unit_test(parents_are_taken_by_score_and_halved),
        cmocka_unit_test(counts_of_children_begin_anew_with_a_visit),
        cmocka_unit_test(seeds_are_neither_the_own_path_nor_private),
        cmocka_unit_test(children_keep_the_rules),
        cmocka_unit_test(a_component_of_nobody_else_is_copied_and_a_locked_one_with_mu),
        cmocka_unit_test(adapters_come_with_mu_and_go_with_their_layers),
        cmocka_unit_test(probabilities_of_actions_are_kept_with_a_path),
        cmocka_unit_test(every_child_has_streams_of_its_own),
        cmocka_unit_test(the_best_is_kept_and_of_equal_ones_the_newest),
        cmocka_unit_test(sizes_add_up_and_fall_when_shared),
        cmocka_unit_test(what_is_kept_never_changes_and_ids_are_never_used_again),
        cmocka_unit_test(the_same_seed_gives_the_same_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
