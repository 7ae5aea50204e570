/* The passkey task's text. */
#include "tests/support/support.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "io/passkey/passkey.h"

enum { MOST = 4096 };

/* A sample as text that ends with a zero. */
static const char *sample(const struct passkey_task *task, int64_t index, char text[MOST + 1])
{
    memset(text, '#', MOST);
    passkey_sample(task, index, (unsigned char *)text);
    text[task->length] = '\0';
    return text;
}

static void test_every_length(void **state)
{
    (void)state;
    char text[MOST + 1];
    for (int64_t digits = 1; digits <= PASSKEY_DIGITS_MAXIMUM; digits += 4)
        for (int64_t more = 0; more < 200; more++) {
            struct passkey_task task = {
                .length = passkey_smallest(digits) + more, .digits = digits, .position = PASSKEY_ANY, .seed = 5};
            const char *answer = sample(&task, more, text) + task.length - digits;
            char mention[64];
            snprintf(mention, sizeof mention, ". The pass key is %s. Remember it. %s is the pass key. ", answer,
                     answer);
            assert_null(strchr(text, '#'));
            for (int64_t i = 0; i < digits; i++)
                assert_true(isdigit((unsigned char)answer[i]));
            assert_non_null(strstr(text, mention));
            snprintf(mention, sizeof mention, "What is the pass key? The pass key is %s", answer);
            assert_string_equal(text + task.length - strlen(mention), mention);
        }
}

/* How many bytes stand before the key. */
static int64_t place_of(enum passkey_position position, int64_t index)
{
    char text[MOST + 1];
    struct passkey_task task = {.length = 2000, .digits = 5, .position = position, .seed = 1};
    return strstr(sample(&task, index, text), "The pass key is ") - text;
}

static void test_places(void **state)
{
    (void)state;
    assert_in_range(place_of(PASSKEY_START, 0), 90, 100);
    assert_in_range(place_of(PASSKEY_MIDDLE, 0), 950, 1050);
    assert_in_range(place_of(PASSKEY_END, 0), 2000 - 59 - 43 - 20, 2000 - 59 - 43);
    int64_t early = 0;
    for (int64_t i = 0; i < 400; i++)
        early += place_of(PASSKEY_ANY, i) < 1000;
    assert_in_range(early, 150, 250);
    for (int position = 0; position < PASSKEY_POSITIONS; position++)
        assert_int_equal(passkey_position_named(passkey_position_name((enum passkey_position)position)), position);
    assert_int_equal(passkey_position_named("begin"), PASSKEY_POSITIONS);
}

static void test_seeds(void **state)
{
    (void)state;
    char one[MOST + 1];
    char other[MOST + 1];
    struct passkey_task task = {.length = 400, .digits = 12, .position = PASSKEY_START, .seed = 1};
    assert_string_equal(sample(&task, 7, one), sample(&task, 7, other));
    assert_string_not_equal(one, sample(&task, 8, other));
    task.seed = 2;
    assert_string_not_equal(one, sample(&task, 7, other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
