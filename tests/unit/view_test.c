/* Views: what is refused and in which words, what is taken, what goes out, and the schema that
 * must tell the same. The words are the documented ones (contract 1.6). */
#include "core/view.h"
#include "base/str.h"

#include "test.h"

#include <math.h>

static const char *const sizes[] = {"small", "large", NULL};
static const char *const states[] = {"queued", "running", "ended", NULL};
static const char *const shown[] = {"active", "active", "done", NULL}; /* two to one word */

struct part {
    const char *name;
    int64_t count;
};
LOCAL_VIEW(part_view, struct part, "Part", NULL, 0,
           FIELD(struct part, "name", name, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 5),
           FIELD(struct part, "count", count, T_INT, .min = 0, .max = 9));

struct row {
    int64_t id;
    const char *title;
    int64_t depth;
    int state;
    const char *hidden;
    int64_t at;
};
RECORD(row_record, struct row, "rows", MEMBER(struct row, id, T_ID, .prefix = "r"),
       MEMBER(struct row, title, T_TEXT, .min = 2, .max = 4, .doc = "what it is called"),
       MEMBER(struct row, depth, T_INT, .flags = M_NULL, .min = 1, .max = 3),
       MEMBER(struct row, state, T_ENUM, .names = states),
       MEMBER(struct row, hidden, T_TEXT, .flags = M_SECRET), MEMBER(struct row, at, T_TIME));

struct thing {
    uint64_t seen;
    const char *text, *mail, *uuid, *data, *free;
    int64_t n, exact, at, id, number;
    double real;
    bool yes;
    int size;
    struct texts list;
    struct textmap map;
    struct part one, *other;
    struct list parts;
    const char *ignored;
};
LOCAL_VIEW(thing_view, struct thing, "Thing", NULL, VIEW_SEEN,
           FIELD(struct thing, "text", text, T_TEXT, .min = 2, .max = 4, .flags = F_NULL),
           FIELD(struct thing, "mail", mail, T_TEXT, .flags = F_EMAIL),
           FIELD(struct thing, "uuid", uuid, T_UUID), FIELD(struct thing, "data", data, T_JSON),
           FIELD(struct thing, "free", free, T_TEXT),
           FIELD(struct thing, "n", n, T_INT, .min = 1, .max = 10, .flags = F_NULL, .def = "7"),
           FIELD(struct thing, "exact", exact, T_INT, .min = 5, .max = 5, .def = "5"),
           FIELD(struct thing, "at", at, T_TIME),
           FIELD(struct thing, "id", id, T_ID, .prefix = "j"),
           FIELD(struct thing, "number", number, T_ID, .prefix = ""),
           FIELD(struct thing, "real", real, T_REAL, .min = -1, .max = 2),
           FIELD(struct thing, "yes", yes, T_BOOL, .def = "true"),
           FIELD(struct thing, "size", size, T_ENUM, .names = sizes, .flags = F_ANYCASE,
                 .def = "\"large\""),
           FIELD(struct thing, "list", list, T_TEXTS, .min = 1, .max = 3),
           FIELD(struct thing, "map", map, T_TEXTMAP), OBJECT(struct thing, "one", one, &part_view),
           OBJECT(struct thing, "other", other, &part_view, .flags = F_POINTER | F_NULL),
           LIST(struct thing, "parts", parts, &part_view, .max = 2),
           FIELD(struct thing, "ignored", ignored, T_TEXT, .flags = F_FORM));

struct must {
    const char *name;
    int64_t n;
    int size;
};
LOCAL_VIEW(must_view, struct must, "Must", NULL, 0,
           FIELD(struct must, "name", name, T_TEXT, .flags = F_REQUIRED),
           FIELD(struct must, "n", n, T_INT, .flags = F_REQUIRED),
           FIELD(struct must, "size", size, T_ENUM, .names = sizes));

/* "rule loc.loc | message | input | ctx", one a line */
static const char *issues_text(const struct issues *is, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    for (int i = 0; i < is->n; i++) {
        const struct issue *one = &is->items[i];
        buf_printf(&b, "%s%s ", i > 0 ? "\n" : "", one->rule);
        for (int k = 0; k < one->depth; k++)
            if (one->loc[k].name != NULL)
                buf_printf(&b, "%s%s", k > 0 ? "." : "", one->loc[k].name);
            else
                buf_printf(&b, "%s%lld", k > 0 ? "." : "", (long long)one->loc[k].index);
        buf_printf(&b, " | %s | %s", one->message, one->input ? one->input : "null");
        if (one->ctx != NULL)
            buf_printf(&b, " | %s", one->ctx);
    }
    return arena_strdup(a, buf_str(&b));
}

static bool parse(const struct view *v, const char *text, unsigned how, void *out, struct arena *a,
                  const char **issues)
{
    struct err e = {0};
    CHECK_OK(view_link(v, &e), &e);
    struct jv *in = NULL;
    CHECK_OK(jv_parse(text, strlen(text), &in, NULL, &e), &e);
    struct issues is = {.arena = a};
    issues_enter(&is, "body", 0);
    bool ok = view_parse(v, in, how, out, a, &is);
    issues_leave(&is);
    CHECK_INT(is.depth, 0);
    CHECK(ok == (is.n == 0));
    *issues = issues_text(&is, a);
    jv_free(in);
    return ok;
}

struct bad {
    unsigned how;
    const char *in, *want;
};

static void refuse(const struct view *v, const struct bad *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        AUTO(arena) struct arena a = {0};
        void *out = arena_alloc(&a, v->size);
        const char *got;
        parse(v, rows[i].in, rows[i].how, out, &a, &got);
        if (strcmp(got, rows[i].want) != 0)
            FAIL_("%s\n# gave %s\n# not  %s", rows[i].in, got, rows[i].want);
    }
}

#define WORDS "{\"expected\":\"'small' or 'large'\"}"

TEST(broken_rules_are_told_to_the_letter)
{
    static const struct bad rows[] = {
        {0, "[1]", "dict_type body | Input should be a valid dictionary | [1]"},
        {0, "null", "dict_type body | Input should be a valid dictionary | null"},
        {0, "{\"text\":5}", "string_type body.text | Input should be a valid string | 5"},
        {0, "{\"text\":\"a\"}",
         "string_too_short body.text | String should have at least 2 characters | \"a\" | "
         "{\"min_length\":2}"},
        {0, "{\"text\":\"abcde\"}",
         "string_too_long body.text | String should have at most 4 characters | \"abcde\" | "
         "{\"max_length\":4}"},
        {0, "{\"text\":\"中文字符\"}", ""}, /* characters, not bytes */
        {0, "{\"text\":\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"}", ""},
        {0, "{\"text\":\"中\"}",
         "string_too_short body.text | String should have at least 2 characters | \"中\" | "
         "{\"min_length\":2}"},
        {0, "{\"n\":\"4\"}", "int_type body.n | Input should be a valid integer | \"4\""},
        {PARSE_LAX, "{\"n\":\"4\"}", ""},
        {PARSE_LAX, "{\"n\":\"4x\"}",
         "int_parsing body.n | Input should be a valid integer, unable to parse string as an "
         "integer | \"4x\""},
        {PARSE_LAX, "{\"n\":\"\"}",
         "int_parsing body.n | Input should be a valid integer, unable to parse string as an "
         "integer | \"\""},
        {PARSE_LAX, "{\"n\":true}", "int_type body.n | Input should be a valid integer | true"},
        {0, "{\"n\":4.0}", ""},
        {0, "{\"n\":4.5}", "int_type body.n | Input should be a valid integer | 4.5"},
        {0, "{\"n\":1e300}", "int_type body.n | Input should be a valid integer | 1e+300"},
        {0, "{\"n\":0}",
         "greater_than_equal body.n | Input should be greater than or equal to 1 | 0 | "
         "{\"ge\":1}"},
        {0, "{\"n\":11}",
         "less_than_equal body.n | Input should be less than or equal to 10 | 11 | {\"le\":10}"},
        {PARSE_LAX, "{\"n\":\"11\"}",
         "less_than_equal body.n | Input should be less than or equal to 10 | \"11\" | "
         "{\"le\":10}"},
        {0, "{\"exact\":6}",
         "less_than_equal body.exact | Input should be less than or equal to 5 | 6 | {\"le\":5}"},
        {0, "{\"exact\":null}", "int_type body.exact | Input should be a valid integer | null"},
        {0, "{\"real\":2.5}",
         "less_than_equal body.real | Input should be less than or equal to 2 | 2.5 | {\"le\":2}"},
        {0, "{\"real\":-2}",
         "greater_than_equal body.real | Input should be greater than or equal to -1 | -2 | "
         "{\"ge\":-1}"},
        {0, "{\"real\":\"1\"}", "float_parsing body.real | Input should be a valid number | \"1\""},
        {PARSE_LAX, "{\"real\":\"1e0\"}", ""},
        {PARSE_LAX, "{\"real\":\"nan\"}",
         "float_parsing body.real | Input should be a valid number, unable to parse string as a "
         "number | \"nan\""},
        {0, "{\"yes\":1}",
         "bool_parsing body.yes | Input should be a valid boolean, unable to interpret input | 1"},
        {PARSE_LAX, "{\"yes\":1}", ""},
        {PARSE_LAX, "{\"yes\":\"oFF\"}", ""},
        {PARSE_LAX, "{\"yes\":2}",
         "bool_parsing body.yes | Input should be a valid boolean, unable to interpret input | 2"},
        {0, "{\"size\":\"LARGE\"}", ""},
        {0, "{\"size\":\"huge\"}",
         "enum body.size | Input should be 'small' or 'large' | \"huge\" | " WORDS},
        {0, "{\"size\":3}", "enum body.size | Input should be 'small' or 'large' | 3 | " WORDS},
        {0, "{\"uuid\":\"nope\"}",
         "uuid_parsing body.uuid | Input should be a valid UUID, it has 32 hexadecimal digits in "
         "groups of 8-4-4-4-12 | \"nope\""},
        {0, "{\"uuid\":\"6F1F64A8-3A0B-4F0E-9B39-0E1C6A1F0A11\"}", ""},
        {0, "{\"at\":\"2025-13-01T00:00:00Z\"}",
         "datetime_parsing body.at | Input should be a valid datetime in RFC 3339 form | "
         "\"2025-13-01T00:00:00Z\""},
        {0, "{\"at\":\"2025-09-06T14:35:41.818341Z\"}", ""},
        {0, "{\"at\":\"2025-09-06T14:35:41\"}", ""}, /* without a zone: UTC */
        {0, "{\"at\":17}", "string_type body.at | Input should be a valid string | 17"},
        {0, "{\"id\":\"j-0\"}",
         "value_error body.id | Value error, an id looks like j-17 | \"j-0\""},
        {0, "{\"id\":\"n-1\"}",
         "value_error body.id | Value error, an id looks like j-17 | \"n-1\""},
        {0, "{\"id\":5}", "string_type body.id | Input should be a valid string | 5"},
        {0, "{\"number\":5}", ""},
        {0, "{\"data\":[]}", "dict_type body.data | Input should be a valid dictionary | []"},
        {0, "{\"list\":{}}", "list_type body.list | Input should be a valid list | {}"},
        {0, "{\"list\":[\"a\",3,null]}",
         "string_type body.list.1 | Input should be a valid string | 3\n"
         "string_type body.list.2 | Input should be a valid string | null"},
        {0, "{\"list\":[]}",
         "value_error body.list | Value error, the list should have at least 1 items | []"},
        {0, "{\"list\":[\"a\",\"b\",\"c\",\"d\"]}",
         "value_error body.list | Value error, the list should have at most 3 items | "
         "[\"a\",\"b\",\"c\",\"d\"]"},
        {0, "{\"map\":{\"a\":\"b\",\"c\":1}}",
         "string_type body.map.c | Input should be a valid string | 1"},
        {0, "{\"map\":[]}", "dict_type body.map | Input should be a valid dictionary | []"},
        {0, "{\"one\":{\"count\":3}}", "missing body.one.name | Field required | {\"count\":3}"},
        {0, "{\"one\":null}", "dict_type body.one | Input should be a valid dictionary | null"},
        {0, "{\"other\":null}", ""},
        {0, "{\"parts\":[{\"name\":\"a\"},{\"name\":\"toolong\",\"count\":-1}]}",
         "string_too_long body.parts.1.name | String should have at most 5 characters | "
         "\"toolong\" | {\"max_length\":5}\n"
         "greater_than_equal body.parts.1.count | Input should be greater than or equal to 0 | -1 "
         "| {\"ge\":0}"},
        {0, "{\"parts\":[5]}", "dict_type body.parts.0 | Input should be a valid dictionary | 5"},
        {0, "{\"parts\":[{\"name\":\"\"}]}",
         "string_too_short body.parts.0.name | String should have at least 1 character | \"\" | "
         "{\"min_length\":1}"},
        {0, "{\"parts\":\"x\"}", "list_type body.parts | Input should be a valid list | \"x\""},
        {0, "{\"what\":1}", ""}, /* ignored unless closed */
        {PARSE_CLOSED, "{\"what\":1,\"ignored\":[]}",
         "extra_forbidden body.what | There is no such field | null"},
        {PARSE_CLOSED, "{\"one\":{\"name\":\"a\",\"x\":1}}",
         "extra_forbidden body.one.x | There is no such field | null"},
        /* all of them, in the order of the table */
        {0, "{\"yes\":\"x\",\"n\":99,\"text\":\"\"}",
         "string_too_short body.text | String should have at least 2 characters | \"\" | "
         "{\"min_length\":2}\n"
         "less_than_equal body.n | Input should be less than or equal to 10 | 99 | {\"le\":10}\n"
         "bool_parsing body.yes | Input should be a valid boolean, unable to interpret input | "
         "\"x\""},
    };
    refuse(&thing_view, rows, ARRAY_LEN(rows));
    static const struct bad must[] = {
        {0, "{}", "missing body.name | Field required | {}\nmissing body.n | Field required | {}"},
        {0, "{\"name\":null,\"n\":null,\"size\":null}",
         "string_type body.name | Input should be a valid string | null\n"
         "int_type body.n | Input should be a valid integer | null\n"
         "enum body.size | Input should be 'small' or 'large' | null | " WORDS},
        {0, "{\"name\":\"x\",\"n\":9223372036854775807}", ""},
        {0, "{\"name\":\"x\",\"n\":\"9223372036854775808\"}",
         "int_type body.n | Input should be a valid integer | \"9223372036854775808\""},
    };
    refuse(&must_view, must, ARRAY_LEN(must));
}

TEST(numbers_beyond_the_type_and_nul_are_not_json)
{
    static const char *const bad[] = {"{\"n\":9223372036854775808}",
                                      "{\"text\":\"a\\u0000b\"}",
                                      "{\"real\":1e999}",
                                      "{\"real\":NaN}",
                                      "{\"n\":1,\"n\":2}",
                                      "{\"n\":01}",
                                      "{\"text\":\"\xff\"}",
                                      "{}x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct jv *v = NULL;
        struct err e = {0};
        CHECK_INT(jv_parse(bad[i], strlen(bad[i]), &v, NULL, &e), ERR_MALFORMED);
    }
}

TEST(addresses_look_like_addresses)
{
    static const struct {
        const char *s;
        bool ok;
    } rows[] = {
        {"a@b.c", true},
        {"li.wei+tag@example.com", true},
        {"admin@localhost", true},
        {"张@例子.cn", true},
        {"a@b", false},
        {"@b.c", false},
        {"a@", false},
        {"", false},
        {"a b@c.d", false},
        {"a@b@c.d", false},
        {".a@b.c", false},
        {"a.@b.c", false},
        {"a..b@c.d", false},
        {"a@.b.c", false},
        {"a@b.c.", false},
        {"a@-b.c", false},
        {"a@b.c-", false},
        {"a@b..c", false},
        {"a\\n@b.c", false},
        {"<a@b.c>", false},
        {"a,b@c.d", false},
        {"1234567890123456789012345678901234567890123456789012345678901234@b.c", true},
        {"12345678901234567890123456789012345678901234567890123456789012345@b.c", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(arena) struct arena a = {0};
        struct thing t;
        const char *got, *in = arena_printf(&a, "{\"mail\":\"%s\"}", rows[i].s);
        if (parse(&thing_view, in, 0, &t, &a, &got) != rows[i].ok)
            FAIL_("%s: %s", rows[i].s, got);
        if (!rows[i].ok)
            CHECK(str_starts(got, "value_error body.mail | value is not a valid email address: "));
    }
}

TEST(absent_is_not_null_and_defaults_come_in)
{
    AUTO(arena) struct arena a = {0};
    struct thing t;
    const char *got;
    CHECK(parse(&thing_view, "{}", 0, &t, &a, &got));
    CHECK_INT(t.seen, 0);
    CHECK_INT(t.n, 7);
    CHECK_INT(t.exact, 5);
    CHECK_INT(t.size, 1);
    CHECK(t.yes && t.text == NULL && t.list.items == NULL && t.map.keys == NULL);
    CHECK(isnan(t.real) && t.at == 0 && t.other == NULL && t.parts.n == 0);
    CHECK(parse(&thing_view, "{\"n\":null,\"text\":null,\"other\":null}", 0, &t, &a, &got));
    CHECK_INT(t.seen, 1u << 0 | 1u << 5 | 1u << 16);
    CHECK_INT(t.n, INT_NULL); /* null, not the default */
    CHECK(parse(&thing_view,
                "{\"list\":[\"a\",\"\"],\"map\":{\"k\":\"v\"},\"one\":{\"name\":\"x\"},"
                "\"other\":{\"name\":\"y\",\"count\":2},\"parts\":[{\"name\":\"z\"}],"
                "\"uuid\":\"6F1F64A8-3A0B-4F0E-9B39-0E1C6A1F0A11\",\"id\":\"j-17\","
                "\"at\":\"2025-09-06T14:35:41.818341\",\"data\":{\"x\":[0.5]},\"yes\":false}",
                0, &t, &a, &got));
    CHECK_INT(t.list.n, 2);
    CHECK_STR(t.list.items[1], "");
    CHECK_STR(t.map.values[0], "v");
    CHECK_STR(t.one.name, "x");
    CHECK_INT(t.one.count, INT_NULL);
    CHECK_INT(t.other->count, 2);
    CHECK_STR(((struct part *)t.parts.items)[0].name, "z");
    CHECK_STR(t.uuid, "6f1f64a8-3a0b-4f0e-9b39-0e1c6a1f0a11");
    CHECK_INT(t.id, 17);
    CHECK_INT(t.at, INT64_C(1757169341818341));
    CHECK_STR(t.data, "{\"x\":[0.5]}");
    CHECK(!t.yes);
}

TEST(many_broken_rules_are_bounded)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf b = {0};
    struct thing t;
    struct err e = {0};
    CHECK_OK(view_link(&thing_view, &e), &e);
    buf_adds(&b, "{");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%s\"x%d\":1", i > 0 ? "," : "", i);
    buf_adds(&b, "}");
    struct jv *in = NULL;
    CHECK_OK(jv_parse(b.data, b.len, &in, NULL, &e), &e);
    struct issues is = {.arena = &a};
    CHECK(!view_parse(&thing_view, in, PARSE_CLOSED, &t, &a, &is));
    CHECK_INT(is.n, ISSUES_MAX);
    jv_free(in);
}

/* ---- name=value ---- */

static const char *pairs(const struct pair *p, size_t n, unsigned how, struct thing *t,
                         struct arena *a)
{
    struct err e = {0};
    CHECK_OK(view_link(&thing_view, &e), &e);
    struct issues is = {.arena = a};
    issues_enter(&is, "query", 0);
    bool ok = view_parse_pairs(&thing_view, p, n, how, t, a, &is);
    CHECK(ok == (is.n == 0));
    return issues_text(&is, a);
}
#define PAIRS(how, ...)                                                                            \
    pairs((struct pair[]){__VA_ARGS__},                                                            \
          sizeof((struct pair[]){__VA_ARGS__}) / sizeof(struct pair), how, &t, &a)

TEST(queries_are_read_by_the_same_rules)
{
    AUTO(arena) struct arena a = {0};
    struct thing t;
    CHECK_STR(PAIRS(0, {"n", "3"}, {"n", "4"}, {"list", "a,b"}, {"list", "c,,"}, {"yes", "No"},
                    {"real", "1.5"}, {"size", "Small"}, {"id", "j-3"}, {"other_thing", "1"}),
              "");
    CHECK_INT(t.n, 4); /* the last counts */
    CHECK_INT(t.list.n, 3);
    CHECK_STR(t.list.items[2], "c");
    CHECK(!t.yes && t.real == 1.5 && t.size == 0 && t.id == 3);
    CHECK_INT(t.seen, 1u << 5 | 1u << 13 | 1u << 11 | 1u << 10 | 1u << 12 | 1u << 8);
    CHECK_STR(PAIRS(0, {"n", "x"}),
              "int_parsing query.n | Input should be a valid integer, unable to parse string as an "
              "integer | \"x\"");
    CHECK_STR(PAIRS(0, {"n", "11"}),
              "less_than_equal query.n | Input should be less than or equal to 10 | \"11\" | "
              "{\"le\":10}");
    CHECK_STR(PAIRS(0, {"real", "2.5"}),
              "less_than_equal query.real | Input should be less than or equal to 2 | \"2.5\" | "
              "{\"le\":2}");
    CHECK_STR(PAIRS(0, {"real", "inf"}),
              "float_parsing query.real | Input should be a valid number, unable to parse string "
              "as a number | \"inf\"");
    CHECK_STR(PAIRS(0, {"yes", "maybe"}),
              "bool_parsing query.yes | Input should be a valid boolean, unable to interpret input "
              "| \"maybe\"");
    CHECK_STR(
        PAIRS(0, {"text", "\xff\xfe"}),
        "value_error query.text | Value error, not printable text | \"\xef\xbf\xbd\xef\xbf\xbd"
        "\"");
    CHECK_STR(PAIRS(0, {"list", "a,\xff"}),
              "value_error query.list | Value error, not printable text | \"a,\xef\xbf\xbd\"");
    CHECK_STR(PAIRS(PARSE_CLOSED, {"wrong", "1"}),
              "extra_forbidden query.wrong | There is no such field | null");
    CHECK_STR(pairs(NULL, 0, 0, &t, &a), "");
    CHECK_INT(t.n, 7);
    struct must m;
    struct issues is = {.arena = &a};
    CHECK(!view_parse_pairs(&must_view, NULL, 0, 0, &m, &a, &is));
    CHECK_STR(issues_text(&is, &a),
              "missing name | Field required | null\nmissing n | Field required | null");
}

/* ---- output ---- */

static void twice(struct json *j, const void *obj)
{
    json_int(j, ((const struct row *)obj)->id * 2);
}
LOCAL_VIEW(row_view, struct row, "Row", &row_record, 0, SAME(struct row, "id", id),
           SAME(struct row, "title", title), SAME(struct row, "depth", depth),
           SAME(struct row, "shallow", depth, .flags = F_SOMETIMES),
           SAME(struct row, "state", state, .names = shown, .flags = F_NULL),
           SAME(struct row, "at", at, .flags = F_SOMETIMES),
           COMPUTED("twice", twice, "{\"type\":\"integer\"}"));

static const char *written(const struct view *v, const void *obj, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    view_write(&j, v, obj);
    return arena_strdup(a, buf_str(&b));
}

TEST(what_goes_out)
{
    AUTO(arena) struct arena a = {0};
    struct err e = {0};
    CHECK_OK(view_link(&row_view, &e), &e);
    CHECK_OK(view_link(&row_view, &e), &e);
    struct row r = {.id = 7, .title = "a\"中", .depth = INT_NULL, .state = 1};
    CHECK_STR(written(&row_view, &r, &a),
              "{\"id\":\"r-7\",\"title\":\"a\\\"中\",\"depth\":null,\"state\":\"active\","
              "\"twice\":14}");
    r.depth = 2;
    r.state = -1;
    r.at = INT64_C(1757169341818341);
    CHECK_STR(written(&row_view, &r, &a),
              "{\"id\":\"r-7\",\"title\":\"a\\\"中\",\"depth\":2,\"shallow\":2,\"state\":null,"
              "\"at\":\"2025-09-06T14:35:41.818341Z\",\"twice\":14}");
}

/* ---- the schema tells the same ---- */

/* What is wrong with v by s, NULL: nothing. As much of JSON Schema as the tables use; a reference
 * is followed to the part's schema. */
static const char *against(const struct jv *s, const struct jv *v, const struct jv *part)
{
    if (jv_get(s, "$ref") != NULL)
        return against(part, v, part);
    const struct jv *any = jv_get(s, "anyOf");
    if (any != NULL) {
        for (size_t i = 0; i < jv_len(any); i++)
            if (against(jv_at(any, i), v, part) == NULL)
                return NULL;
        return "anyOf";
    }
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    const struct jv *type = jv_get(s, "type");
    const char *is = names[jv_kind(v)];
    bool ok = type == NULL;
    for (size_t i = 0; i < (jv_kind(type) == JV_LIST ? jv_len(type) : 1) && !ok; i++) {
        const char *want = jv_text(jv_kind(type) == JV_LIST ? jv_at(type, i) : type, NULL);
        ok = strcmp(want, is) == 0 || (strcmp(want, "number") == 0 && jv_kind(v) == JV_INT);
    }
    if (!ok)
        return "type";
    const struct jv *words = jv_get(s, "enum");
    ok = words == NULL;
    for (size_t i = 0; words != NULL && i < jv_len(words); i++)
        ok |= jv_kind(v) == JV_NULL ? jv_kind(jv_at(words, i)) == JV_NULL
                                    : str_eq(jv_text(jv_at(words, i), NULL), jv_text(v, NULL));
    if (!ok)
        return "enum";
    size_t bytes = 0;
    const char *text = jv_text(v, &bytes);
    if (text != NULL && ((int64_t)utf8_len(text, bytes) < jv_get_int(s, "minLength", 0) ||
                         (int64_t)utf8_len(text, bytes) > jv_get_int(s, "maxLength", 1 << 30)))
        return "length";
    if ((jv_kind(v) == JV_INT || jv_kind(v) == JV_REAL) &&
        (jv_real(v) < jv_get_real(s, "minimum", -1e300) ||
         jv_real(v) > jv_get_real(s, "maximum", 1e300)))
        return "bounds";
    if (jv_kind(v) == JV_LIST) {
        if ((int64_t)jv_len(v) < jv_get_int(s, "minItems", 0) ||
            (int64_t)jv_len(v) > jv_get_int(s, "maxItems", 1 << 30))
            return "items";
        for (size_t i = 0; i < jv_len(v); i++)
            if (against(jv_get(s, "items"), jv_at(v, i), part) != NULL)
                return "item";
    }
    if (jv_kind(v) != JV_OBJECT || jv_get(s, "properties") == NULL)
        return NULL;
    const struct jv *required = jv_get(s, "required");
    for (size_t i = 0; i < jv_len(required); i++)
        if (jv_get(v, jv_text(jv_at(required, i), NULL)) == NULL)
            return "required";
    const char *name, *why;
    const struct jv *value;
    for (const void *it = NULL; (it = jv_next(v, it, &name, &value)) != NULL;) {
        const struct jv *p = jv_get(jv_get(s, "properties"), name);
        if (p == NULL)
            return "additionalProperties";
        if ((why = against(p, value, part)) != NULL)
            return why;
    }
    return NULL;
}

static struct jv *schema_of(const struct view *v, bool input)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    struct jv *out = NULL;
    struct err e = {0};
    CHECK_OK(view_link(v, &e), &e);
    view_schema(&j, v, input);
    CHECK_OK(jv_parse(b.data, b.len, &out, NULL, &e), &e);
    return out;
}

TEST(output_agrees_with_its_schema)
{
    AUTO(arena) struct arena a = {0};
    AUTO(jv) struct jv *s = schema_of(&row_view, false);
    static const struct row rows[] = {
        {.id = 7, .title = "abc", .depth = INT_NULL, .state = 1},
        {.id = 1, .title = "ab", .depth = 3, .state = -1, .at = 5},
        {.id = 1, .title = "中文字符", .depth = 1, .state = 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *text = written(&row_view, &rows[i], &a);
        AUTO(jv) struct jv *v = NULL;
        struct err e = {0};
        CHECK_OK(jv_parse(text, strlen(text), &v, NULL, &e), &e);
        CHECK_STR(against(s, v, NULL), NULL);
    }
    CHECK_INT(jv_len(jv_get(s, "required")), 5); /* all but the two that are there sometimes */
    CHECK_STR(jv_get_text(jv_get(jv_get(s, "properties"), "title"), "description"),
              "what it is called");
    CHECK_STR(jv_get_text(jv_get(jv_get(s, "properties"), "id"), "pattern"), "^r-[1-9][0-9]*$");
    CHECK_INT(jv_len(jv_get(jv_get(jv_get(s, "properties"), "state"), "enum")), 3);
}

TEST(input_that_the_schema_takes_is_taken)
{
    AUTO(jv) struct jv *s = schema_of(&thing_view, true), *part = schema_of(&part_view, true);
    static const char *const rows[] = {
        "{}",
        "{\"text\":null}",
        "{\"text\":\"ab\",\"n\":10,\"exact\":5}",
        "{\"text\":\"a\"}",
        "{\"n\":0}",
        "{\"n\":null}",
        "{\"exact\":6}",
        "{\"exact\":4}",
        "{\"exact\":null}",
        "{\"real\":2}",
        "{\"real\":2.1}",
        "{\"yes\":null}",
        "{\"size\":\"large\"}",
        "{\"size\":\"x\"}",
        "{\"list\":[]}",
        "{\"list\":[\"x\"]}",
        "{\"list\":null}",
        "{\"map\":{\"a\":\"b\"}}",
        "{\"one\":{\"name\":\"a\"}}",
        "{\"one\":{}}",
        "{\"one\":null}",
        "{\"other\":null}",
        "{\"other\":{\"name\":\"a\",\"count\":9}}",
        "{\"parts\":[]}",
        "{\"parts\":null}",
        "{\"parts\":[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}]}",
        "{\"nothing\":1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(arena) struct arena a = {0};
        struct thing t;
        const char *got;
        bool taken = parse(&thing_view, rows[i], PARSE_CLOSED, &t, &a, &got);
        AUTO(jv) struct jv *v = NULL;
        struct err e = {0};
        CHECK_OK(jv_parse(rows[i], strlen(rows[i]), &v, NULL, &e), &e);
        const char *why = against(s, v, part);
        if (taken != (why == NULL))
            FAIL_("%s: %s, by the schema %s", rows[i], taken ? "taken" : got, why ? why : "good");
    }
    CHECK_INT(jv_get_int(jv_get(jv_get(s, "properties"), "n"), "default", 0), 7);
    AUTO(jv) struct jv *must = schema_of(&must_view, true);
    CHECK_INT(jv_len(jv_get(must, "required")), 2);
}

/* ---- tables that are wrong are found at the start ---- */

LOCAL_VIEW(no_member, struct row, "NoMember", NULL, 0, SAME(struct row, "id", id));
LOCAL_VIEW(secret, struct row, "Secret", &row_record, 0, SAME(struct row, "hidden", hidden));
LOCAL_VIEW(inner, struct row, "Inner", NULL, 0, OBJECT(struct row, "id", id, &secret),
           SAME(struct row, "x", title));

TEST(wrong_tables_are_refused)
{
    struct err e = {0};
    for (int again = 0; again < 2; again++) {
        CHECK_INT(view_link(&no_member, &e), ERR_INTERNAL);
        CHECK_STR(e.text, "view NoMember: field id has no type and no member");
        CHECK_INT(view_link(&secret, &e), ERR_INTERNAL);
        CHECK_STR(e.text, "view Secret shows the secret hidden");
        CHECK_INT(view_link(&inner, NULL), ERR_INTERNAL);
    }
    CHECK_OK(view_link(NULL, &e), &e);
}

TEST_MAIN
