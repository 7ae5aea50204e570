#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/json/json.h"

static void expect(json_t *value, const char *text)
{
    assert_non_null(value);
    char *written = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(written, text);
    free(written);
    json_decref(value);
}

static void test_form(void **state)
{
    (void)state;
    json_t *list = json_array();
    json_array_append_new(list, json_integer(7));
    expect(json_form("{s:s, s:i, s:I, s:{s:f, s:b}, s:o}", "a", "text", "b", -3, "c", (json_int_t)1 << 40, "d", "e",
                     0.5, "f", 2, "g", list),
           "{\"a\":\"text\",\"b\":-3,\"c\":1099511627776,\"d\":{\"e\":0.5,\"f\":true},\"g\":[7]}");
    expect(json_form("{}"), "{}");
    assert_null(json_form("{s:o}", "a", NULL));
}

/* JSON has no number for them: null, and beside it what it was. */
static void test_not_finite(void **state)
{
    (void)state;
    expect(json_form("{s:f, s:{s:f}, s:f}", "loss", (double)NAN, "in", "rate", (double)INFINITY, "low", -INFINITY),
           "{\"loss\":null,\"loss_reason\":\"not a number\",\"in\":{\"rate\":null,\"rate_reason\":\"infinite\"},"
           "\"low\":null,\"low_reason\":\"-infinite\"}");
    expect(json_form("f", (double)NAN), "null");
}

/* Names of files and hosts may be any bytes. */
static void test_bytes(void **state)
{
    (void)state;
    expect(json_text("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
           "\"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    expect(json_text("a\xff"
                     "b\xc3"),
           "\"a\xef\xbf\xbd"
           "b\xef\xbf\xbd\"");
    expect(json_form("{s:s}", "file", "\xe9t\xe9"), "{\"file\":\"\xef\xbf\xbdt\xef\xbf\xbd\"}");
    expect(json_text("\xff\xf0\x9f\x98\x80"), "\"\xef\xbf\xbd\xf0\x9f\x98\x80\"");
    expect(json_text(""), "\"\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
