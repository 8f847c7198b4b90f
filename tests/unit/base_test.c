/* What the rest of the house relies on in base/. */
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include "test.h"

#include <errno.h>
#include <math.h>

TEST(numbers_print_as_the_shortest_that_reads_back)
{
    char t[32];
    CHECK_STR(json_real_text(0.8112821308507887, t), "0.8112821308507887");
    CHECK_STR(json_real_text(0.6859999999999999, t), "0.6859999999999999");
    CHECK_STR(json_real_text(676.1, t), "676.1");
    CHECK_STR(json_real_text(0, t), "0.0");
    CHECK_STR(json_real_text(-3, t), "-3.0");
    CHECK_STR(json_real_text(1e300, t), "1e+300");
}

TEST(json_writer_nests_and_escapes)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "a\"b", "x\n\x01\\ 中 \xff");
    json_key(&j, "list");
    json_open(&j, '[');
    json_int(&j, 1);
    json_real(&j, NAN);
    json_open(&j, '{');
    json_close(&j, '}');
    json_open(&j, '[');
    json_close(&j, ']');
    json_close(&j, ']');
    json_kbool(&j, "t", true);
    json_close(&j, '}');
    CHECK_STR(
        buf_str(&b),
        "{\"a\\\"b\":\"x\\n\\u0001\\\\ 中 \xef\xbf\xbd\",\"list\":[1,null,{},[]],\"t\":true}");
}

TEST(times_read_back)
{
    int64_t us;
    char t[TIME_TEXT_SIZE];
    CHECK(time_parse("2025-09-06T14:35:41.818341Z", &us));
    CHECK_STR(time_format(us, t), "2025-09-06T14:35:41.818341Z");
    CHECK(time_parse("2025-09-06T16:35:41.818341+02:00", &us));
    CHECK_STR(time_format(us, t), "2025-09-06T14:35:41.818341Z");
    CHECK(time_parse("2025-09-06T14:35:41", &us));
    CHECK(time_parse("2024-02-29", &us));
    CHECK(!time_parse("2025-02-29", &us));
    CHECK(!time_parse("2025-09-06T24:00:00Z", &us));
    CHECK(!time_parse("2025-09-06T14:35:41Zx", &us));
    CHECK(!time_parse("", &us));
    CHECK_STR(time_format(-1, t), "1969-12-31T23:59:59.999999Z");
}

TEST(uuids_have_their_version)
{
    char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];
    CHECK(uuid_is(uuid_v4(a)));
    CHECK_INT(a[14], '4');
    CHECK(uuid_is(uuid_v7(b)));
    CHECK_INT(b[14], '7');
    CHECK(!uuid_is("nope"));
    CHECK(!uuid_is("00000000-0000-0000-0000-00000000000g"));
}

TEST(text_is_strict)
{
    int64_t i;
    double r;
    CHECK(str_int("-12", &i) && i == -12);
    CHECK(!str_int("", &i) && !str_int("-", &i) && !str_int("1x", &i) && !str_int(" 1", &i));
    CHECK(!str_int("99999999999999999999", &i));
    CHECK(str_real("1e3", &r) && r == 1000);
    CHECK(!str_real("nan", &r) && !str_real("1e999", &r) && !str_real(".5", &r));
    CHECK_INT(utf8_len("中文", 6), 2);
    CHECK(utf8_len("\xc0\x80", 2) == (size_t)-1);
    CHECK(utf8_len("\xed\xa0\x80", 3) == (size_t)-1);
    CHECK_INT(utf8_width("中a"), 3);
    CHECK(duration_parse("1h30m", &i) && i == 5400 * US_PER_S);
    CHECK(duration_parse("90", &i) && i == 90 * US_PER_S);
    CHECK(!duration_parse("", &i) && !duration_parse("2x", &i) && !duration_parse("h", &i));
    char t[DURATION_TEXT_SIZE];
    CHECK_STR(duration_format(1084 * US_PER_S, t), "18:04");
    CHECK(bytes_parse("24G", &i) && i == INT64_C(24) << 30);
    CHECK(!bytes_parse("24X", &i));
}

TEST(buffers_have_a_maximum)
{
    AUTO(buf) struct buf b = {.max = 10};
    CHECK(buf_adds(&b, "0123456789"));
    CHECK(!buf_addc(&b, 'x'));
    CHECK(b.overflow);
    CHECK_STR(buf_str(&b), "0123456789");
    buf_drop_front(&b, 8);
    CHECK_STR(buf_str(&b), "89");
}

TEST(maps_survive_churn)
{
    struct map m = {0};
    char key[32];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 100; i++) {
            snprintf(key, sizeof(key), "k%d", i + round * 7);
            map_put(&m, key, (void *)(intptr_t)(i + 1));
        }
        for (int i = 0; i < 100; i += 2) {
            snprintf(key, sizeof(key), "k%d", i + round * 7);
            CHECK(map_del(&m, key) == (void *)(intptr_t)(i + 1));
            CHECK(map_get(&m, key) == NULL);
        }
    }
    size_t at = 0, n = 0;
    while (map_next(&m, &at, NULL, NULL))
        n++;
    CHECK_INT(n, m.n);
    map_fini(&m);
}

TEST(errors_carry_kind_text_and_code)
{
    struct err e = {0};
    CHECK_INT(err_code(&e, ERR_CONFLICT, "TAKEN", "job %s is %s", "j-1", "done"), ERR_CONFLICT);
    CHECK_STR(e.text, "job j-1 is done");
    CHECK_STR(e.code, "TAKEN");
    err_wrap(&e, "cancel");
    CHECK_STR(e.text, "cancel: job j-1 is done");
    errno = ENOSPC;
    CHECK_INT(err_sys(&e, "writing %s", "x"), ERR_FULL);
    CHECK_INT(err_row(ERR_FULL)->http_status, 507);
    static const struct err_text zh[] = {{"job %s is %s", "任务 %s 已经 %s"}, {0}};
    err_translate_with(zh);
    err_lang_set(LANG_ZH);
    err_set(&e, ERR_CONFLICT, "job %s is %s", "j-1", "done");
    CHECK_STR(e.text, "任务 j-1 已经 done");
    err_lang_set(LANG_EN);
}

TEST(arenas_give_back_everything)
{
    struct arena a = {0};
    for (int i = 0; i < 1000; i++) {
        char *s = arena_printf(&a, "%0*d", i + 1, 0);
        CHECK_INT(strlen(s), i + 1);
    }
    arena_reset(&a);
    CHECK_STR(arena_strdup(&a, "x"), "x");
    arena_fini(&a);
}

TEST_MAIN
