/* The house and what it is made of: settings, access, limits, records, events and their bus,
 * duties, and that starting and stopping leaves nothing behind. */
#include "base/str.h"
#include "base/world.h"
#include "core/access.h"
#include "core/event.h"
#include "core/limit.h"
#include "core/machine.h"
#include "core/record.h"

#include "test.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- settings ---- */

static const struct setting rows[] = {
    {"T_PORT", "PORT_OF_T,T_OLD_PORT", SET_INT, "8000", 1, 65535},
    {"T_ON", NULL, SET_BOOL, "false"},
    {"T_TIME", NULL, SET_DURATION_S, "30m"},
    {"T_WORD", NULL, SET_WORD, "auto", .words = "on|off|auto"},
    {"T_LIST", NULL, SET_LIST, "[\"a\",\"b\"]"},
    {"T_TEXT", NULL, SET_TEXT, NULL},
};
static const struct module settings_module = {
    .name = "settings", .settings = rows, .n_settings = ARRAY_LEN(rows)};
static const struct module *const settings_only[] = {&event_module, &settings_module, NULL};

static struct house *house_of(const struct module *const *modules)
{
    struct house *h = NULL;
    struct err e = {0};
    CHECK_OK(house_create(modules, &h, &e), &e);
    setting_override(h, "DATA_DIR", "/tmp");
    setting_override(h, "DATABASE_URL", "sqlite:///:memory:");
    setting_override(h, "API_WORKERS", "2");
    return h;
}

static void file_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    if (f != NULL) {
        fputs(text, f);
        fclose(f);
    }
}

TEST(settings_come_from_the_nearest_place)
{
    char dir[] = "/tmp/drover-core-test-XXXXXX", back[4096];
    CHECK(mkdtemp(dir) != NULL && getcwd(back, sizeof(back)) != NULL && chdir(dir) == 0);
    file_write(".env", "# a comment\nT_PORT=1001\nexport t_on = \"yes\"\nT_TIME='90s' # why\n"
                       "T_OLD_PORT=1002\nT_LIST=x, y ,,z\nnonsense\n");
    static const struct {
        const char *over, *env, *alias, *lower;
        int64_t want;
    } ports[] = {
        {NULL, NULL, NULL, NULL, 1001},       {NULL, "2001", NULL, NULL, 2001},
        {NULL, NULL, "3001", NULL, 3001},     {NULL, "2001", "3001", NULL, 2001},
        {"4001", "2001", "3001", NULL, 4001}, {NULL, NULL, NULL, "5001", 5001},
        {NULL, "2001", NULL, "5001", 2001},   {NULL, "", NULL, NULL, 8000},
    };
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        struct house *h = house_of(settings_only);
        struct err e = {0};
        if (ports[i].over)
            setting_override(h, "T_PORT", ports[i].over);
        if (ports[i].env)
            setenv("T_PORT", ports[i].env, 1);
        if (ports[i].alias)
            setenv("PORT_OF_T", ports[i].alias, 1);
        if (ports[i].lower)
            setenv("t_port", ports[i].lower, 1);
        CHECK_OK(house_start(h, &e), &e);
        CHECK_INT(setting_int(h, "T_PORT"), ports[i].want);
        CHECK(setting_bool(h, "T_ON"));
        CHECK_INT(setting_int(h, "T_TIME"), 90);
        struct texts l = setting_list(h, "T_LIST");
        CHECK_INT(l.n, 3);
        CHECK_STR(l.items[1], "y");
        CHECK(setting_given(h, "T_TIME") && !setting_given(h, "T_WORD"));
        CHECK(setting_text(h, "T_TEXT") == NULL);
        house_destroy(h);
        unsetenv("T_PORT");
        unsetenv("PORT_OF_T");
        unsetenv("t_port");
    }
    unlink(".env");
    CHECK(chdir(back) == 0);
    rmdir(dir);
}

TEST(wrong_settings_stop_the_start_and_say_why)
{
    static const struct {
        const char *name, *value, *want;
    } bad[] = {
        {"T_PORT", "x", "T_PORT must be a whole number, not \"x\""},
        {"T_PORT", "0", "T_PORT must be 1 to 65535, not 0"},
        {"T_PORT", "65536", "T_PORT must be 1 to 65535, not 65536"},
        {"T_PORT", "99999999999999999999",
         "T_PORT must be a whole number, not \"99999999999999999999\""},
        {"T_ON", "maybe", "T_ON must be on or off, not \"maybe\""},
        {"T_TIME", "soon", "T_TIME must be a time such as 30s or 5m, not \"soon\""},
        {"T_TIME", "-5s", "T_TIME must be a time such as 30s or 5m, not \"-5s\""},
        {"T_WORD", "of", "T_WORD must be one of on|off|auto, not \"of\""},
        {"T_LIST", "[\"a\"", "T_LIST must be a JSON list of texts, or a,b,c, not \"[\"a\"\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct house *h = house_of(settings_only);
        struct err e = {0};
        setting_override(h, bad[i].name, bad[i].value);
        CHECK_INT(house_start(h, &e), ERR_INVALID);
        CHECK_STR(e.text, bad[i].want);
        house_destroy(h);
    }
    struct house *h = house_of(settings_only);
    struct err e = {0};
    setting_override(h, "T_WORD", "OFF");
    CHECK_OK(house_start(h, &e), &e);
    CHECK_STR(setting_text(h, "T_WORD"), "off"); /* as rooms compare it */
    house_destroy(h);
}

/* ---- machine, ids, texts ---- */

TEST(a_machine_knows_only_its_rows)
{
    static const char *const states[] = {"open", "shut"}, *const events[] = {"opening", "shutting"};
    static const struct transition steps[] = {{0, 1, 1}};
    static const struct machine door = {"door", states, events, steps, 1};
    int to = 7;
    struct err e = {0};
    CHECK_OK(machine_next(&door, 0, 1, &to, &e), &e);
    CHECK_INT(to, 1);
    to = 7;
    CHECK_INT(machine_next(&door, 1, 1, &to, &e), ERR_CONFLICT);
    CHECK_STR(e.text, "the door is shut: shutting is not possible");
    CHECK_INT(to, 7);
}

TEST(ids_are_read_strictly)
{
    static const char *const bad[] = {"",     "j",     "j-",   "j-0",  "j-01",
                                      "j--1", "j-+1",  "j- 1", "j-1 ", "J-1",
                                      "n-1",  "j-1.0", "j1",   "1",    "j-9223372036854775808"};
    int64_t id = 0;
    char text[ID_TEXT_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (id_parse("j", bad[i], &id))
            FAIL_("taken: \"%s\"", bad[i]);
    CHECK(id_parse("j", "j-9223372036854775807", &id) && id == INT64_MAX);
    CHECK_STR(id_text("j", id, text), "j-9223372036854775807");
    CHECK(sql_intern("a", "b", "c") == sql_intern("ab", "", "c"));
    CHECK_STR(sql_intern("a", "b", "c"), "abc");
}

/* ---- access: who may what ---- */

TEST(access_is_denied_unless_the_table_says_so)
{
    /* a column for each access: denied anyone user owner admin open ops agent.
     * y: may; 1: sign in first (401); 3: not allowed (403) */
    static const struct {
        enum via via;
        enum role role;
        unsigned may;
        const char *want;
    } table[] = {
        {VIA_NOBODY, ROLE_USER, 0, "3y111111"},
        {VIA_NOBODY, ROLE_ADMIN, ~0u, "3y111111"},
        {VIA_SESSION, ROLE_USER, 0, "3yyy3y33"},
        {VIA_SESSION, ROLE_OPERATOR, 0, "3yyy3yy3"},
        {VIA_SESSION, ROLE_ENGINEER, 0, "3yyy3yy3"},
        {VIA_SESSION, ROLE_ADMIN, 0, "3yyyyyy3"},
        {VIA_UNIX, ROLE_ADMIN, 0, "3yyyyyy3"},
        {VIA_TICKET, ROLE_USER, 0, "3yyy3y33"},
        {VIA_TRUSTED, ROLE_OPERATOR, 0, "3y111yy3"},
        {VIA_TOKEN, ROLE_USER, 0, "3yyy3y33"},
        {VIA_TOKEN, ROLE_USER, MAY_TRAIN, "3yyy3yy3"},
        {VIA_TOKEN, ROLE_USER, MAY_FLEET, "3yyy3y33"},
        {VIA_TOKEN, ROLE_ADMIN, 0, "3yyy3y33"},
        {VIA_TOKEN, ROLE_ADMIN, MAY_TRAIN, "3yyy3yy3"},
        {VIA_TOKEN, ROLE_ADMIN, MAY_FLEET, "3yyyyy33"},
        {VIA_AGENT, ROLE_USER, 0, "3y33333y"},
        {VIA_AGENT, ROLE_ADMIN, ~0u, "3y33333y"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        for (int a = ACCESS_DENIED; a <= ACCESS_AGENT; a++) {
            struct principal p = {
                .via = table[i].via, .role = table[i].role, .permissions = table[i].may};
            struct err e = {0};
            int rc = access_check((enum access)a, &p, MAY_TRAIN, &e);
            char got = rc == OK ? 'y' : rc == ERR_UNAUTHENTICATED ? '1' : '3';
            if (got != table[i].want[a])
                FAIL_("row %zu access %d: %c, not %c", i, a, got, table[i].want[a]);
        }
}

TEST(who_sees_what)
{
    static const struct {
        struct principal p;
        int64_t owner;
        bool sees;
    } table[] = {
        {{.via = VIA_NOBODY, .role = ROLE_ADMIN, .user_id = 5}, 5, false},
        {{.via = VIA_AGENT, .role = ROLE_ADMIN}, 0, false},
        {{.via = VIA_SESSION, .user_id = 5}, 5, true},
        {{.via = VIA_SESSION, .user_id = 5}, 6, false},
        {{.via = VIA_SESSION, .user_id = 5}, 0, false},
        {{.via = VIA_SESSION, .role = ROLE_ENGINEER, .user_id = 5}, 6, false},
        {{.via = VIA_SESSION, .role = ROLE_ADMIN, .user_id = 5}, 6, true},
        {{.via = VIA_TRUSTED, .role = ROLE_OPERATOR}, 0, true},
        {{.via = VIA_TRUSTED, .role = ROLE_OPERATOR}, 6, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (principal_sees(&table[i].p, table[i].owner) != table[i].sees)
            FAIL_("row %zu", i);
}

/* ---- limits on a clock of ours ---- */

static _Atomic int64_t clock_us;
static int64_t clock_now(void)
{
    return clock_us;
}
static void no_random(void *to, size_t n)
{
    memset(to, 7, n);
}

TEST(limits_slide)
{
    static const struct world w = {clock_now, clock_now, no_random};
    world_set(&w);
    clock_us = INT64_C(1000) * 60 * US_PER_S;
    struct limits *l = limits_create();
    struct limit_state s;
    for (int i = 0; i < 60; i++)
        CHECK(limit_take(l, "a", 60, &s));
    CHECK_INT(s.remaining, 0);
    CHECK_INT(s.limit, 60);
    CHECK(!limit_take(l, "a", 60, &s));
    CHECK(limit_take(l, "b", 60, &s)); /* another key */
    /* who waits as long as told is let in */
    CHECK(!limit_take(l, "a", 60, &s));
    clock_us += s.retry_after_s * US_PER_S;
    CHECK(limit_take(l, "a", 60, &s));
    CHECK(!limit_take(l, "a", 60, &s));
    CHECK_INT(s.retry_after_s, 1);
    clock_us += 30 * US_PER_S; /* half of the minute before weighs */
    int n = 0;
    while (limit_take(l, "a", 60, &s))
        n++;
    CHECK(n >= 29 && n <= 31);
    clock_us += 120 * US_PER_S;
    CHECK(limit_take(l, "a", 60, &s));
    CHECK_INT(s.remaining, 59);
    limits_destroy(l);
    world_set(NULL);
}

/* ---- records ---- */

static const char *const colours[] = {"red", "blue", NULL};
struct row {
    int64_t id;
    const char *name;
    bool flag;
    int64_t n, at;
    double real;
    int colour;
    struct texts list;
    struct textmap map;
};
RECORD(row_record, struct row, "rows_of_test", MEMBER(struct row, id, T_ID, .prefix = "t"),
       MEMBER(struct row, name, T_TEXT, .flags = M_NULL), MEMBER(struct row, flag, T_BOOL),
       MEMBER(struct row, n, T_INT, .flags = M_NULL), MEMBER(struct row, at, T_TIME),
       MEMBER(struct row, real, T_REAL, .flags = M_NULL),
       MEMBER(struct row, colour, T_ENUM, .names = colours), MEMBER(struct row, list, T_TEXTS),
       MEMBER(struct row, map, T_TEXTMAP));
static const struct migration row_migrations[] = {
    {.id = 90001,
     .name = "rows",
     .script = "CREATE TABLE rows_of_test(id $ID, name $TEXT, flag $INT, n $INT, at $INT,"
               " real $REAL, colour $TEXT, list $TEXT, map $TEXT);"},
    {0},
};
static const struct module row_module = {.name = "rows", .migrations = row_migrations};
static const struct module *const row_modules[] = {&event_module, &row_module, NULL};

static int record_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct arena *a = ctx;
    const char *items[] = {"a", "", "\"中"}, *keys[] = {"k"}, *values[] = {"v"};
    struct row full = {.name = "x",
                       .flag = true,
                       .n = -5,
                       .at = 17,
                       .real = 0.1,
                       .colour = 1,
                       .list = {items, 3},
                       .map = {keys, values, 1}},
               none = {.n = INT_NULL, .real = NAN, .colour = -1}, got = {0};
    CHECK_OK(record_insert(tx, &row_record, &full, &full.id, e), e);
    CHECK_OK(record_insert(tx, &row_record, &none, &none.id, e), e);
    CHECK_OK(record_get(tx, &row_record, "WHERE id = ?1", ARGS(v_int(full.id)), a, &got, NULL, e),
             e);
    CHECK_STR(got.name, "x");
    CHECK(got.flag && got.n == -5 && got.at == 17 && got.real == 0.1 && got.colour == 1);
    CHECK_INT(got.list.n, 3);
    CHECK_STR(got.list.items[2], "\"中");
    CHECK_STR(got.map.values[0], "v");
    CHECK_OK(record_get(tx, &row_record, "WHERE id = ?1", ARGS(v_int(none.id)), a, &got, NULL, e),
             e);
    CHECK(got.name == NULL && !got.flag && got.n == INT_NULL && got.at == 0 && isnan(got.real));
    CHECK(got.colour == -1 && got.list.items == NULL && got.map.keys == NULL);
    none.name = "now";
    CHECK_OK(record_update(tx, &row_record, &none, e), e);
    struct list l;
    CHECK_OK(record_list(tx, &row_record, "ORDER BY id DESC", NO_ARGS, a, &l, e), e);
    CHECK_INT(l.n, 2);
    CHECK_STR(((struct row *)l.items)[0].name, "now");
    bool found = true;
    CHECK_OK(record_get(tx, &row_record, "WHERE id = 99", NO_ARGS, a, &got, &found, e), e);
    CHECK(!found);
    struct err own = {0};
    CHECK_INT(record_get(tx, &row_record, "WHERE id = 99", NO_ARGS, a, &got, NULL, &own),
              ERR_NOT_FOUND);
    none.id = 99;
    CHECK_INT(record_update(tx, &row_record, &none, &own), ERR_NOT_FOUND);
    CHECK_OK(tx_exec(tx, "UPDATE rows_of_test SET colour = 'green'", NO_ARGS, NULL, e), e);
    CHECK_INT(record_list(tx, &row_record, "ORDER BY id", NO_ARGS, a, &l, &own), ERR_CORRUPT);
    return OK;
}

TEST(records_are_written_and_read_back)
{
    struct house *h = house_of(row_modules);
    AUTO(arena) struct arena a = {0};
    struct err e = {0};
    CHECK_OK(house_start(h, &e), &e);
    CHECK_OK(store_tx(house_store(h), record_tx, &a, &e), &e);
    CHECK_OK(record_check(house_store(h), &row_record, &e), &e);
    static const struct member wrong[] = {MEMBER(struct row, id, T_ID),
                                          {.column = "colour_of_old", .type = T_TEXT}};
    struct record r = {"rows_of_test", sizeof(struct row), wrong, 2};
    CHECK(record_check(house_store(h), &r, &e) != OK);
    CHECK(str_starts(e.text, "table rows_of_test does not match its record: "));
    house_destroy(h);
}

/* ---- events and the bus ---- */

enum { WRITERS = 8, EACH = 40 };
static _Atomic int64_t delivered, last_id, disorder, ghosts;

static void on_event(struct house *h, void *state, const struct event *ev)
{
    if (ev->id <= atomic_exchange(&last_id, ev->id))
        atomic_fetch_add(&disorder, 1);
    if (strcmp(ev->summary, "never") == 0)
        atomic_fetch_add(&ghosts, 1);
    atomic_fetch_add(&delivered, 1);
}
static atomic_int others;
static void on_other(struct house *h, void *state, const struct event *ev)
{
    atomic_fetch_add(&others, 1);
}
static const struct subscription subscriptions[] = {{"thing.", on_event}, {"other.", on_other}};

static atomic_int inside, most, runs;
static void slow_duty(struct house *h, void *state)
{
    int n = atomic_fetch_add(&inside, 1) + 1;
    if (n > atomic_load(&most))
        atomic_store(&most, n);
    usleep(30000);
    atomic_fetch_sub(&inside, 1);
    atomic_fetch_add(&runs, 1);
}
static const struct duty duties[] = {{.name = "slow", .every_ms = 5, .fn = slow_duty}};

static atomic_int started, stopped;
static int part_start(struct house *h, void **state, struct err *e)
{
    *state = mem_alloc(16);
    atomic_fetch_add(&started, 1);
    return setting_bool(h, "T_ON") ? err_set(e, ERR_IO, "no luck") : OK;
}
static void part_stop(struct house *h, void *state)
{
    mem_free(state);
    atomic_fetch_add(&stopped, 1);
}
static const struct module busy_module = {.name = "busy",
                                          .settings = rows,
                                          .n_settings = ARRAY_LEN(rows),
                                          .subscriptions = subscriptions,
                                          .n_subscriptions = 2,
                                          .duties = duties,
                                          .n_duties = 1,
                                          .start = part_start,
                                          .stop = part_stop};
static const struct module *const busy_modules[] = {&event_module, &busy_module, NULL};

struct writer {
    struct house *house;
    bool fails;
};

static int emit_tx(struct tx *tx, void *ctx, struct err *e)
{
    const struct writer *w = ctx;
    int rc = event_emit(tx,
                        &(struct event){.type = "thing.changed",
                                        .source_type = "thing",
                                        .source_id = "t-1",
                                        .summary = w->fails ? "never" : "done"},
                        e);
    return rc == OK && w->fails ? err_set(e, ERR_CONFLICT, "no") : rc;
}

static void *writer_main(void *ctx)
{
    for (int i = 0; i < EACH; i++) {
        struct writer w = {ctx, i % 4 == 3};
        struct err e = {0};
        int rc = store_tx(house_store(ctx), emit_tx, &w, &e);
        if (rc != (w.fails ? ERR_CONFLICT : OK))
            FAIL_("emit: %s", e.text);
    }
    return NULL;
}

static int tail_tx(struct tx *tx, void *ctx, struct err *e)
{
    return event_tail(tx, ctx, e);
}
static int list_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct list l;
    struct event_pos after = {0, 0};
    int64_t n = 0;
    for (;;) { /* in pages, each after the last */
        int rc = event_read(tx, after, 7, ctx, &l, e);
        if (rc != OK)
            return rc;
        const struct event *ev = l.items;
        for (size_t i = 0; i < l.n; i++, n++) {
            CHECK(ev[i].id > after.id);
            CHECK(uuid_is(ev[i].uuid));
            CHECK_STR(ev[i].data, "{}");
            after = (struct event_pos){ev[i].tx, ev[i].id};
        }
        if (l.n < 7)
            break;
    }
    CHECK_INT(n, WRITERS * EACH * 3 / 4);
    struct event_filter f = {.newest = true, .owner = -1, .limit = 3};
    int rc = event_list(tx, &f, ctx, &l, e);
    CHECK_INT(l.n, 3);
    CHECK_INT(((struct event *)l.items)[2].id, after.id);
    CHECK(((struct event *)l.items)[0].id < ((struct event *)l.items)[1].id);
    f = (struct event_filter){.source_type = "thing", .source_id = "t-2", .owner = -1, .limit = 3};
    if (rc == OK)
        rc = event_list(tx, &f, ctx, &l, e);
    CHECK_INT(l.n, 0);
    return rc;
}

TEST(the_bus_tells_each_event_once_and_in_order)
{
    struct house *h = house_of(busy_modules);
    AUTO(arena) struct arena a = {0};
    struct err e = {0};
    CHECK_OK(house_start(h, &e), &e);
    pthread_t threads[WRITERS];
    for (size_t i = 0; i < WRITERS; i++)
        CHECK(pthread_create(&threads[i], NULL, writer_main, h) == 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 1000 && atomic_load(&delivered) < WRITERS * EACH * 3 / 4; i++)
        usleep(10000);
    usleep(20000);
    CHECK_INT(atomic_load(&delivered), WRITERS * EACH * 3 / 4);
    CHECK_INT(atomic_load(&disorder), 0);
    CHECK_INT(atomic_load(&ghosts), 0);
    CHECK_INT(atomic_load(&others), 0);
    CHECK_OK(store_read(house_store(h), list_tx, &a, &e), &e);
    struct event_pos p;
    char text[EVENT_POS_TEXT];
    CHECK_OK(store_read(house_store(h), tail_tx, &p, &e), &e);
    CHECK_INT(p.id, atomic_load(&last_id));
    struct event_pos q = {9, 9};
    CHECK(event_pos_parse(event_pos_text(p, text), &q) && q.tx == p.tx && q.id == p.id);
    static const char *const bad[] = {"",
                                      ":",
                                      "1",
                                      "1:",
                                      ":1",
                                      "-1:2",
                                      "1:-2",
                                      "1:2:3",
                                      "a:b",
                                      "1: 2",
                                      "99999999999999999999:1",
                                      "0000000000000000000000000000000000000000000000000:1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (event_pos_parse(bad[i], &q))
            FAIL_("taken: %s", bad[i]);
    house_stop(h);
    house_destroy(h);
}

TEST(a_duty_never_runs_twice_at_a_time)
{
    struct house *h = house_of(busy_modules);
    struct err e = {0};
    atomic_store(&runs, 0);
    CHECK_OK(house_start(h, &e), &e);
    for (int i = 0; i < 500 && atomic_load(&runs) < 4; i++)
        usleep(10000);
    house_stop(h);
    CHECK(atomic_load(&runs) >= 4);
    CHECK_INT(atomic_load(&most), 1);
    CHECK_INT(atomic_load(&inside), 0); /* the stop waited for it */
    house_destroy(h);
}

TEST(starting_and_stopping_leaves_nothing)
{
    for (int i = 0; i < 20; i++) {
        struct house *h = house_of(busy_modules);
        struct err e = {0};
        CHECK_OK(house_start(h, &e), &e);
        CHECK(house_state(h, &busy_module) != NULL);
        struct writer w = {h, false};
        CHECK_OK(store_tx(house_store(h), emit_tx, &w, &e), &e);
        if (i % 2 == 0)
            house_stop(h);
        house_destroy(h);
    }
    /* a part that fails half way is stopped as well */
    struct house *h = house_of(busy_modules);
    struct err e = {0};
    setting_override(h, "T_ON", "on");
    CHECK_INT(house_start(h, &e), ERR_IO);
    CHECK_STR(e.text, "starting busy: no luck");
    house_destroy(h);
    CHECK_INT(atomic_load(&started), atomic_load(&stopped));
}

TEST_MAIN
