/* The state of a system as a file. */
#include "tests/unit/evolve_support.h"

/* -- The state as a file -- */

static void read_newest(struct context *context, const char *folder, struct system *system, char **text)
{
    make_empty(context, system);
    assert_ok(context, record_find(context, folder, text));
    assert_non_null(*text);
    assert_ok(context, record_read(system, *text));
}

static void a_state_is_read_as_it_was_written_and_goes_on_alike(void **state)
{
    char folder[] = "/tmp/cairn-evolve-XXXXXX";
    char command[64];
    struct context context;
    struct context other;
    struct system system;
    struct system again;
    char *text;
    char *settings;
    json_t *history = json_array();
    (void)state;
    assert_non_null(mkdtemp(folder));
    make(&context, &system);
    system.mutation = MUTATION_ACTIONS;
    assert_ok(&context, record_find(&context, folder, &text));
    assert_null(text);
    for (int t = 0; t < 3; t++)
        visit_once(&system, t, 1);
    assert_ok(&context, record_write(&system, folder, "a: 1\n", history, 2));
    read_newest(&other, folder, &again, &text);
    again.mutation = MUTATION_ACTIONS;
    assert_true(equal_systems(&system, &again));
    assert_true(again.tasks[2].private && !again.tasks[1].private);
    assert_int_equal(again.next_component, system.next_component);
    assert_ok(&other, record_settings(&other, text, &settings, NULL));
    assert_string_equal(settings, "a: 1\n");
    memory_free(&other, settings);
    for (int t = 0; t < 3; t++) {
        visit_once(&system, t, 2);
        visit_once(&again, t, 2);
    }
    assert_true(equal_systems(&system, &again));
    /* A newer file that `latest` does not name yet is as if it were not there. */
    snprintf(command, sizeof command, "%s/state-000009.json", folder);
    FILE *file = fopen(command, "w");
    assert_non_null(file);
    fputs("{", file);
    fclose(file);
    memory_free(&other, text);
    assert_ok(&other, record_find(&other, folder, &text));
    assert_non_null(strstr(text, "\"visits\": 3"));
    /* Damage is named. */
    struct system damaged;
    system_create(&context, &damaged);
    space_standard(&damaged.space, LAYERS);
    assert_fails(&context, record_read(&damaged, "{}"), STATUS_FILE, "it has no root");
    assert_fails(&context, record_read(&damaged, "{"), STATUS_FILE, "it is no JSON");
    assert_fails(&context, record_read(&damaged, "{\"paths\": [{\"task\": 5}]}"), STATUS_FILE, "a path of no task");
    system_destroy(&damaged);
    memory_free(&other, text);
    json_decref(history);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system_call(command), 0);
    end(&other, &again);
    end(&context, &system);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_read_as_it_was_written_and_goes_on_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
