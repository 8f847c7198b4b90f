/* One suite over every store: what callers rely on, whichever engine is configured. Its other parts
 * are store_order.c, store_migrate.c and store_faults.c. */
#include "store_fixture.h"

#include <sys/stat.h>

static const char things[] = "CREATE TABLE thing (id $ID, name $TEXT UNIQUE, n $INT, r $REAL,"
                             " b $BLOB);";

/* ---- values ---- */

struct sample {
    struct value name, n, r, b;
};

static int insert_sample(struct tx *tx, void *ctx, struct err *e)
{
    const struct sample *v = ctx;
    int64_t changes = -1;
    int kind = tx_exec(tx, "INSERT INTO thing (name, n, r, b) VALUES (?1, ?2, ?3, ?4)",
                       (const struct value[]){v->name, v->n, v->r, v->b}, 4, &changes, e);
    if (kind == OK)
        CHECK_INT(changes, 1);
    return kind;
}

static void same_value(const struct rows *r, int col, const struct value *v)
{
    size_t n = 99;
    CHECK_INT(row_null(r, col), v->type == V_NULL);
    switch (v->type) {
    case V_NULL:
        CHECK(row_text(r, col) == NULL && row_blob(r, col, &n) == NULL && n == 0);
        CHECK(row_int(r, col) == 0 && isnan(row_real(r, col)));
        break;
    case V_INT:
        CHECK_INT(row_int(r, col), v->i);
        break;
    case V_REAL:
        CHECK(row_real(r, col) == v->r && signbit(row_real(r, col)) == signbit(v->r));
        break;
    case V_TEXT:
        CHECK_STR(row_text(r, col), v->s);
        break;
    case V_BLOB: {
        const void *p = row_blob(r, col, &n);
        CHECK_INT(n, v->n);
        CHECK(p != NULL && n == v->n && memcmp(p, v->s, n) == 0);
        break;
    }
    }
}

static int read_sample(struct tx *tx, void *ctx, struct err *e)
{
    const struct sample *v = ctx;
    struct rows *r = tx_query(tx, "SELECT name, n, r, b FROM thing ORDER BY id DESC LIMIT 1",
                              NO_ARGS);
    CHECK(rows_next(r));
    same_value(r, 0, &v->name);
    same_value(r, 1, &v->n);
    same_value(r, 2, &v->r);
    same_value(r, 3, &v->b);
    CHECK(!rows_next(r));
    return rows_end(r, e);
}

CONTRACT(values_of_each_type_come_back, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    unsigned char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (unsigned char)i;
    struct sample samples[] = {
        {v_text("a"), v_int(1), v_real(0.1), v_blob(all, sizeof(all))},
        {v_null(), v_null(), v_null(), v_null()},
        {v_text(""), v_int(0), v_real(0), v_blob(NULL, 0)},
        {v_text("任务 ünï \xf0\x9f\x90\x82 'quoted' \\x"), v_int(INT64_MAX), v_real(1e300),
         v_blob("\0x\0", 3)},
        {v_text("d"), v_int(INT64_MIN), v_real(-5e-324), v_blob("\\x00", 4)},
        {v_text("e"), v_int(-1), v_real(INFINITY), v_blob("", 0)},
        {v_text("f"), v_int(1), v_real(NAN), v_blob("x", 1)},
        {v_text(NULL), v_int(INT64_C(1) << 53), v_real(0.30000000000000004), v_null()},
    };
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        CHECK_OK(store_tx(f->store, insert_sample, &samples[i], &e), &e);
        CHECK_OK(store_read(f->store, read_sample, &samples[i], &e), &e);
    }
}

CONTRACT(texts_that_one_engine_could_not_store_are_refused_by_both, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    struct value nul = v_text("abc");
    nul.s = "a\0c";
    struct sample s = {nul, v_int(1), v_null(), v_null()};
    CHECK_INT(store_tx(f->store, insert_sample, &s, &e), ERR_INVALID);
    s.name = v_text("\xff");
    CHECK_INT(store_tx(f->store, insert_sample, &s, &e), ERR_INVALID);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), 0);
}

static int filter(struct tx *tx, void *ctx, struct err *e)
{
    static const char sql[] = "SELECT count(*) FROM thing WHERE (?1 IS NULL OR n = ?1) AND"
                              " (?2 IS NULL OR name = ?2)";
    int64_t n = -1;
    CHECK_OK(tx_int(tx, sql, ARGS(v_null(), v_null()), &n, NULL, e), e);
    CHECK_INT(n, 3);
    CHECK_OK(tx_int(tx, sql, ARGS(v_int(7), v_null()), &n, NULL, e), e);
    CHECK_INT(n, 2);
    CHECK_OK(tx_int(tx, sql, ARGS(v_null(), v_text("b")), &n, NULL, e), e);
    CHECK_INT(n, 1);
    CHECK_OK(tx_int(tx, sql, ARGS(v_int(7), v_text("b")), &n, NULL, e), e);
    CHECK_INT(n, 1);
    CHECK_OK(tx_int(tx, sql, ARGS(v_null(), v_null()), &n, NULL, e), e);
    CHECK_INT(n, 3);
    bool found = true;
    CHECK_OK(tx_int(tx, "SELECT n FROM thing WHERE name = ?1", ARGS(v_text("?")), &n, &found, e),
             e);
    CHECK(!found);
    CHECK_OK(tx_int(tx, "SELECT 'a?1' = ?1 /* ?2 */", ARGS(v_text("a?1")), &n, NULL, e), e);
    CHECK_INT(n, 1);
    CHECK_OK(tx_int(tx, "SELECT sum(n) FROM thing", NO_ARGS, &n, NULL, e), e);
    CHECK_INT(n, 15);
    CHECK_INT(tx_int(tx, "SELECT n FROM thing WHERE n = 99", NO_ARGS, &n, NULL, e), ERR_NOT_FOUND);
    return OK;
}

CONTRACT(optional_filters_take_nulls_and_values, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    CHECK_OK(
        do_script(f->store, "INSERT INTO thing (name, n) VALUES ('a', 7), ('b', 7), ('c', 1);", &e),
        &e);
    CHECK_OK(store_read(f->store, filter, NULL, &e), &e);
    CHECK_OK(store_tx(f->store, filter, NULL, &e), &e);
}

static int returning(struct tx *tx, void *ctx, struct err *e)
{
    static const char upsert[] = "INSERT INTO thing (name, n) VALUES (?1, ?2) ON CONFLICT (name)"
                                 " DO UPDATE SET n = thing.n + excluded.n RETURNING n";
    int64_t n = 0, changes = -1;
    CHECK_OK(tx_int(tx, upsert, ARGS(v_text("k"), v_int(2)), &n, NULL, e), e);
    CHECK_INT(n, 2);
    CHECK_OK(tx_int(tx, upsert, ARGS(v_text("k"), v_int(3)), &n, NULL, e), e);
    CHECK_INT(n, 5);
    static const char keep[] = "INSERT INTO thing (name) VALUES (?1) ON CONFLICT DO NOTHING";
    CHECK_OK(tx_exec(tx, keep, ARGS(v_text("k")), &changes, e), e);
    CHECK_INT(changes, 0);
    CHECK_OK(tx_exec(tx, "UPDATE thing SET n = 0 WHERE n = 5", NO_ARGS, &changes, e), e);
    CHECK_INT(changes, 1);
    CHECK_OK(tx_exec(tx, "SELECT 1", NO_ARGS, &changes, e), e);
    CHECK_INT(changes, 0);
    return OK;
}

CONTRACT(upserts_and_change_counts_agree, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    CHECK_OK(store_tx(f->store, returning, NULL, &e), &e);
}

CONTRACT(scripts_expand_types_and_pick_lines, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store,
                       "CREATE TABLE t (id $ID, a $TEXT, b $INT DEFAULT 3);\n"
                       "sqlite: INSERT INTO t (a) VALUES ('sqlite');\n"
                       "  postgres: INSERT INTO t (a) VALUES ('postgres');\n"
                       "INSERT INTO t (a) VALUES ('$INTx');\n"
                       "INSERT INTO t (a) VALUES ('B'), ('a'), ('\xc3\xa4');\n",
                       &e),
             &e);
    CHECK_INT(ask(f->store, f->kind == ON_POSTGRES ? "SELECT count(*) FROM t WHERE a = 'postgres'"
                                                   : "SELECT count(*) FROM t WHERE a = 'sqlite'"),
              1);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM t WHERE a = '$INTx' AND b = 3"), 1);
    /* by bytes on both: upper case first, then ASCII, then the rest */
    CHECK_INT(
        ask(f->store, "SELECT id FROM t WHERE a IN ('B', 'a', '\xc3\xa4') ORDER BY a LIMIT 1"), 3);
    /* an id is never used twice, also when the last row has gone */
    CHECK_OK(do_script(f->store, "DELETE FROM t; INSERT INTO t (a) VALUES ('z');", &e), &e);
    CHECK_INT(ask(f->store, "SELECT id FROM t"), 6);
    CHECK(do_script(f->store, "CREATE TABLE broken (;", &e) != OK);
}

/* ---- iterating ---- */

static int early(struct tx *tx, void *ctx, struct err *e)
{
    static const char all[] = "SELECT name FROM thing ORDER BY name";
    struct rows *outer = tx_query(tx, all, NO_ARGS);
    CHECK(rows_next(outer));
    struct rows *inner = tx_query(tx, all, NO_ARGS); /* the same text while it is in use */
    CHECK(rows_next(inner) && rows_next(inner));
    CHECK_STR(row_text(inner, 0), "b");
    CHECK_STR(row_text(outer, 0), "a");
    CHECK_OK(rows_end(inner, e), e);
    CHECK(rows_next(outer));
    CHECK_STR(row_text(outer, 0), "b");
    CHECK_OK(rows_end(outer, e), e);
    outer = tx_query(tx, all, NO_ARGS);
    CHECK(row_text(outer, 0) == NULL); /* before the first row */
    int n = 0;
    while (rows_next(outer))
        n++;
    CHECK_INT(n, 3);
    CHECK(!rows_next(outer));
    CHECK(row_text(outer, 0) == NULL);
    CHECK_OK(rows_end(outer, e), e);
    tx_query(tx, all, NO_ARGS); /* forgotten: ended with the transaction */
    return OK;
}

CONTRACT(iterations_may_nest_and_end_early, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    CHECK_OK(do_script(f->store, "INSERT INTO thing (name) VALUES ('a'), ('b'), ('c');", &e), &e);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(store_read(f->store, early, NULL, &e), &e);
        CHECK_OK(store_tx(f->store, early, NULL, &e), &e);
    }
    CHECK_OK(do_script(f->store, "DELETE FROM thing;", &e), &e);
}

/* ---- failures ---- */

static int insert_name(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, "INSERT INTO thing (name) VALUES (?1)", ARGS(v_text(ctx)), NULL, e);
}

static int insert_and_ignore(struct tx *tx, void *ctx, struct err *e)
{
    struct err ours = {0};
    int kind = tx_exec(tx, "INSERT INTO thing (name) VALUES (?1)", ARGS(v_text("new")), NULL,
                       &ours);
    CHECK_INT(kind, OK);
    CHECK_INT(insert_name(tx, ctx, &ours), ERR_CONFLICT);
    int64_t n;
    CHECK_INT(tx_int(tx, "SELECT count(*) FROM thing", NO_ARGS, &n, NULL, &ours), ERR_CONFLICT);
    return OK; /* as if nothing had happened */
}

CONTRACT(conflicts_have_their_kind_and_undo_everything, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    CHECK_OK(do_script(f->store,
                       "CREATE TABLE part (id $ID, thing $INT NOT NULL REFERENCES thing(id),"
                       " n $INT CHECK (n > 0));",
                       &e),
             &e);
    CHECK_OK(store_tx(f->store, insert_name, "a", &e), &e);
    CHECK_INT(store_tx(f->store, insert_name, "a", &e), ERR_CONFLICT);
    CHECK_STR(e.code, STORE_UNIQUE);
    CHECK_INT(store_tx(f->store, insert_and_ignore, "a", &e), ERR_CONFLICT);
    CHECK_STR(e.code, STORE_UNIQUE);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), 1);
    CHECK_INT(do_script(f->store, "INSERT INTO part (thing) VALUES (99);", &e), ERR_CONFLICT);
    CHECK_STR(e.code, STORE_REFERENCE);
    CHECK_INT(do_script(f->store, "INSERT INTO part (thing) VALUES (NULL);", &e), ERR_INTERNAL);
    CHECK_INT(do_script(f->store, "INSERT INTO part (thing, n) VALUES (1, 0);", &e), ERR_INTERNAL);
    CHECK_OK(do_script(f->store, "INSERT INTO part (thing, n) VALUES (1, 1);", &e), &e);
    CHECK_INT(do_script(f->store, "DELETE FROM thing;", &e), ERR_CONFLICT);
    CHECK_STR(e.code, STORE_REFERENCE);
    CHECK_INT(do_script(f->store, "INSERT INTO nowhere VALUES (1);", &e), ERR_INTERNAL);
}

static int write_in_read(struct tx *tx, void *ctx, struct err *e)
{
    CHECK(!tx_is_write(tx));
    return insert_name(tx, "x", e);
}

static int nested(struct tx *tx, void *ctx, struct err *e)
{
    struct err ours = {0};
    CHECK_INT(store_tx(tx_store(tx), insert_name, "x", &ours), ERR_INTERNAL);
    CHECK_INT(store_read(tx_store(tx), insert_name, "x", &ours), ERR_INTERNAL);
    return OK;
}

CONTRACT(reads_cannot_write_and_nothing_nests, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    CHECK_INT(store_read(f->store, write_in_read, NULL, &e), ERR_INTERNAL);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), 0);
    CHECK_OK(store_tx(f->store, nested, NULL, &e), &e);
    CHECK_OK(store_read(f->store, nested, NULL, &e), &e);
    CHECK_OK(store_tx(f->store, insert_name, "still works", &e), &e);
}

static int wrong_count(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, "SELECT ?1, ?2", ARGS(v_int(1)), NULL, e);
}

static int in_language(struct tx *tx, void *ctx, struct err *e)
{
    CHECK_INT(err_lang(), *(enum lang *)ctx);
    return err_set(e, ERR_NOT_FOUND, "no");
}

CONTRACT(errors_are_for_their_caller, 0, 0)
{
    struct err e = {0};
    CHECK_INT(store_tx(f->store, wrong_count, NULL, &e), ERR_INTERNAL);
    enum lang lang = LANG_ZH;
    err_lang_set(lang);
    CHECK_INT(store_tx(f->store, in_language, &lang, &e), ERR_NOT_FOUND);
    CHECK_STR(e.text, "no");
    lang = LANG_EN;
    err_lang_set(lang);
    CHECK_INT(store_tx(f->store, in_language, &lang, NULL), ERR_NOT_FOUND);
}

/* ---- many at once ---- */

enum { MANY = 40 };
struct one {
    struct store *store;
    int number;
    bool fail;
    enum err_kind heard;
    atomic_int *clock, after, done;
};

static void one_after(void *ctx)
{
    struct one *o = *(struct one **)ctx;
    o->after = ++*o->clock;
}

static int one_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct one *o = ctx;
    char name[32];
    snprintf(name, sizeof(name), "n%d", o->number);
    int kind = insert_name(tx, name, e);
    tx_after_commit(tx, one_after, arena_memdup(tx_arena(tx), &o, sizeof(o)));
    if (kind == OK && o->fail)
        return err_set(e, ERR_PRECONDITION, "number %d does not want to", o->number);
    return kind;
}

static void one_done(void *ctx, const struct err *e)
{
    struct one *o = ctx;
    o->heard = e->kind;
    CHECK_INT(store_tx(o->store, one_tx, o, NULL), ERR_INTERNAL); /* would wait for itself */
    o->done = ++*o->clock;
}

CONTRACT(one_of_many_fails_alone_and_all_hear_in_order, 1, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    struct store_stats before, after;
    store_stats(f->store, &before);
    struct gate g;
    gate_init(&g);
    atomic_int clock = 0;
    struct one ones[MANY];
    store_tx_async(f->store, gate_tx, &g, ignore_done, NULL);
    sem_wait(&g.entered);
    for (int i = 0; i < MANY; i++) {
        ones[i] = (struct one){.store = f->store, .number = i, .fail = i == 7, .clock = &clock};
        ones[i].heard = ERR_KINDS;
        store_tx_async(f->store, one_tx, &ones[i], one_done, &ones[i]);
    }
    store_stats(f->store, &after);
    CHECK_INT(after.queue_depth, MANY);
    sem_post(&g.leave);
    CHECK_OK(do_script(f->store, "INSERT INTO thing (name) VALUES ('last');", &e), &e);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), MANY); /* one missing, one more */
    CHECK_INT(ask(f->store, "SELECT count(*) FROM thing WHERE name = 'n7'"), 0);
    int last = 0;
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(ones[i].heard, i == 7 ? ERR_PRECONDITION : OK);
        CHECK_INT(ones[i].after > 0, i != 7);
        if (i != 7) {
            CHECK(ones[i].after == last + 1 && ones[i].done == last + 2);
        }
        last = ones[i].done;
    }
    store_stats(f->store, &after);
    CHECK_INT(after.transactions - before.transactions, MANY + 2);
    CHECK_INT(after.failures - before.failures, 1);
    CHECK_INT(after.queue_depth, 0);
    if (f->kind != ON_POSTGRES)
        CHECK(after.commits - before.commits <= 10); /* they shared, also on a slow machine */
    gate_fini(&g);
}

static void kind_done(void *ctx, const struct err *e)
{
    *(enum err_kind *)ctx = e->kind;
}

CONTRACT(a_full_queue_refuses_at_once, 1, 4)
{
    struct gate g;
    gate_init(&g);
    store_tx_async(f->store, gate_tx, &g, ignore_done, NULL);
    sem_wait(&g.entered);
    struct err e = {0};
    for (int i = 0; i < 4; i++)
        store_tx_async(f->store, gate_tx, &g, ignore_done, NULL);
    CHECK_INT(store_tx(f->store, gate_tx, &g, &e), ERR_UNAVAILABLE);
    CHECK(e.retry_after_s > 0);
    enum err_kind heard = OK;
    store_tx_async(f->store, gate_tx, &g, kind_done, &heard);
    CHECK_INT(heard, ERR_UNAVAILABLE);
    for (int i = 0; i < 5; i++)
        sem_post(&g.leave);
    for (int i = 0; i < 4; i++)
        sem_wait(&g.entered);
    store_close(f->store); /* everything that was accepted is over now */
    f->store = NULL;
    gate_fini(&g);
}

static void count_done(void *ctx, const struct err *e)
{
    if (e->kind == OK)
        ++*(atomic_int *)ctx;
}

static int insert_null(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, "INSERT INTO thing (n) VALUES (1)", NO_ARGS, NULL, e);
}

CONTRACT(closing_finishes_what_was_accepted, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    atomic_int done = 0;
    for (int i = 0; i < 300; i++)
        store_tx_async(f->store, insert_null, NULL, count_done, &done);
    if (f->kind == ON_MEMORY) {
        store_close(f->store);
        f->store = NULL;
    } else {
        fixture_reopen(f);
        CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), 300);
    }
    CHECK_INT(done, 300);
}

static int open_key(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, "INSERT INTO child (parent) VALUES (?1)", ARGS(v_int(*(int64_t *)ctx)), NULL,
                   e);
}

CONTRACT(a_deferred_reference_fails_its_own_transaction_only, 1, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store,
                       "CREATE TABLE parent (id $ID);"
                       "CREATE TABLE child (id $ID, parent $INT REFERENCES parent(id)"
                       " DEFERRABLE INITIALLY DEFERRED);"
                       "INSERT INTO parent (id) VALUES (1);",
                       &e),
             &e);
    struct gate g;
    gate_init(&g);
    store_tx_async(f->store, gate_tx, &g, ignore_done, NULL);
    sem_wait(&g.entered);
    int64_t good = 1, bad = 2;
    atomic_int done = 0;
    store_tx_async(f->store, open_key, &good, count_done, &done);
    store_tx_async(f->store, open_key, &bad, count_done, &done);
    store_tx_async(f->store, open_key, &good, count_done, &done);
    sem_post(&g.leave);
    CHECK_INT(store_tx(f->store, open_key, &bad, &e), ERR_CONFLICT);
    CHECK_STR(e.code, STORE_REFERENCE);
    CHECK_INT(done, 2);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM child"), 2);
    gate_fini(&g);
}

/* ---- isolation ---- */

enum { SKEW_THREADS = 8, SKEW_ROUNDS = 40, SKEW_START = 100 };

/* Takes from one account only if both together have enough: two that each see the old state of
 * the other's account would overdraw. */
static int withdraw(struct tx *tx, void *ctx, struct err *e)
{
    int64_t sum = 0;
    int kind = tx_int(tx, "SELECT sum(n) FROM thing", NO_ARGS, &sum, NULL, e);
    if (kind != OK)
        return kind;
    if (sum < 3)
        return err_set(e, ERR_NO_CAPACITY, "not enough");
    return tx_exec(tx, "UPDATE thing SET n = n - 3 WHERE name = ?1", ARGS(v_text(ctx)), NULL, e);
}

struct skewer {
    pthread_t thread;
    struct store *store;
    const char *account;
    int taken;
};

static void *skew_main(void *arg)
{
    struct skewer *k = arg;
    struct err e = {0};
    for (int i = 0; i < SKEW_ROUNDS; i++) {
        int kind = store_tx(k->store, withdraw, (void *)(uintptr_t)k->account, &e);
        if (kind == OK)
            k->taken++;
        else if (kind != ERR_NO_CAPACITY)
            FAIL_("withdraw: %d %s", kind, e.text);
    }
    return NULL;
}

CONTRACT(concurrent_decisions_are_as_if_one_after_the_other, 8, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    CHECK_OK(do_script(f->store, "INSERT INTO thing (name, n) VALUES ('a', 50), ('b', 50);", &e),
             &e);
    struct skewer k[SKEW_THREADS];
    for (int i = 0; i < SKEW_THREADS; i++) {
        k[i] = (struct skewer){.store = f->store, .account = i % 2 ? "a" : "b"};
        pthread_create(&k[i].thread, NULL, skew_main, &k[i]);
    }
    int taken = 0;
    for (int i = 0; i < SKEW_THREADS; i++) {
        pthread_join(k[i].thread, NULL);
        taken += k[i].taken;
    }
    int64_t left = ask(f->store, "SELECT sum(n) FROM thing");
    CHECK_INT(left, 1); /* 33 withdrawals of 3 */
    CHECK_INT(left, SKEW_START - 3 * taken);
    struct store_stats st;
    store_stats(f->store, &st);
    if (f->kind == ON_POSTGRES)
        CHECK(st.retries > 0); /* or the test shows nothing */
}

struct snapshot {
    struct store *store;
    bool memory;
    atomic_int done;
};

static int look_twice(struct tx *tx, void *ctx, struct err *e)
{
    struct snapshot *s = ctx;
    int64_t first = -1, second = -2;
    CHECK_OK(tx_int(tx, "SELECT count(*) FROM thing", NO_ARGS, &first, NULL, e), e);
    store_tx_async(s->store, insert_null, NULL, count_done, &s->done);
    /* In memory there is one connection, so that write waits for this read. */
    while (!s->memory && s->done == 0)
        usleep(1000);
    CHECK_OK(tx_int(tx, "SELECT count(*) FROM thing", NO_ARGS, &second, NULL, e), e);
    CHECK_INT(first, second);
    return OK;
}

CONTRACT(a_read_sees_one_moment, 0, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    for (int i = 1; i <= 3; i++) {
        struct snapshot s = {.store = f->store, .memory = f->kind == ON_MEMORY};
        CHECK_OK(store_read(f->store, look_twice, &s, &e), &e);
        CHECK_OK(do_script(f->store, "UPDATE thing SET n = 2 WHERE n = 0;", &e), &e);
        CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), i);
    }
    CHECK_INT(ask(f->store, "SELECT count(*) FROM thing"), 3);
}

/* ---- more reads than connections ---- */

static void *read_main(void *arg)
{
    for (int i = 0; i < 50; i++)
        CHECK_INT(ask(arg, "SELECT count(*) FROM thing"), 0);
    return NULL;
}

CONTRACT(readers_share_connections, 2, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, things, &e), &e);
    pthread_t threads[8];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, read_main, f->store);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    struct store_stats st;
    store_stats(f->store, &st);
    CHECK_INT(st.reads, 8 * 50);
}

struct overlap {
    pthread_t thread;
    struct store *store;
    atomic_bool stop;
};

static int read_slowly(struct tx *tx, void *ctx, struct err *e)
{
    int64_t n;
    int kind = tx_int(tx, "SELECT count(*) FROM thing", NO_ARGS, &n, NULL, e);
    usleep(2000);
    return kind;
}

static void *overlap_main(void *arg)
{
    struct overlap *o = arg;
    struct err e = {0};
    while (!o->stop)
        CHECK_OK(store_read(o->store, read_slowly, NULL, &e), &e);
    return NULL;
}

static int write_much(struct tx *tx, void *ctx, struct err *e)
{
    static const char bytes[100 * 1000];
    return tx_exec(tx, "INSERT INTO thing (b) VALUES (?1)", ARGS(v_blob(bytes, sizeof(bytes))),
                   NULL, e);
}

/* SQLite starts its log anew only when nobody reads: reads that overlap must not keep it from
 * that. */
TEST(sqlite_the_log_stays_small_under_constant_reads)
{
    struct fixture f;
    struct err e = {0};
    fixture_open(&f, ON_SQLITE, 0, 0);
    CHECK_OK(do_script(f.store, things, &e), &e);
    struct overlap o[4];
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        o[i] = (struct overlap){.store = f.store};
        pthread_create(&o[i].thread, NULL, overlap_main, &o[i]);
        usleep(500);
    }
    for (int i = 0; i < 250; i++)
        CHECK_OK(store_tx(f.store, write_much, NULL, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(o); i++)
        o[i].stop = true;
    for (size_t i = 0; i < ARRAY_LEN(o); i++)
        pthread_join(o[i].thread, NULL);
    char path[600];
    struct stat st = {0};
    snprintf(path, sizeof(path), "%s-wal", strstr(f.url, "///") + 3);
    CHECK_INT(stat(path, &st), 0);
    CHECK(st.st_size > 0 && st.st_size < 10 << 20); /* 25 MB were written */
    fixture_close(&f);
}

/* ---- addresses ---- */

TEST(addresses_that_do_not_work_are_told_without_their_password)
{
    static const char *const bad[] = {
        "mysql://u:hunter2@h/d",
        "",
        "/tmp/file.db",
        "postgresql://u:hunter2@127.0.0.1:port/d",
        "postgresql://u:hunter2@127.0.0.1:1/d",
        "postgresql+asyncpg://u:hunter2@127.0.0.1:1/d",
        "sqlite:////nonexistent-folder/x.db",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        struct store *s = NULL;
        CHECK(store_open(&(struct store_config){.url = bad[i]}, &s, &e) != OK);
        CHECK(s == NULL && e.kind != OK && e.text[0] != '\0');
        CHECK(strstr(e.text, "hunter2") == NULL);
    }
}

TEST(sqlite_is_refused_to_a_second_server)
{
    struct fixture f;
    fixture_open(&f, ON_SQLITE, 0, 0);
    struct err e = {0};
    struct store *second = NULL;
    CHECK_INT(store_open(&(struct store_config){.url = f.url}, &second, &e), ERR_CONFLICT);
    CHECK_STR(e.code, STORE_IN_USE);
    char pid[32];
    snprintf(pid, sizeof(pid), "process %d)", (int)getpid());
    CHECK(strstr(e.text, pid) != NULL);
    err_translate_with(store_texts);
    err_lang_set(LANG_ZH);
    CHECK_INT(store_open(&(struct store_config){.url = f.url}, &second, &e), ERR_CONFLICT);
    CHECK(strstr(e.text, "正被另一个服务器使用") != NULL);
    err_lang_set(LANG_EN);
    fixture_reopen(&f);
    fixture_close(&f);
}

/* A text that was reworded in one place only would fall back to English unnoticed. */
TEST(every_translated_text_is_one_that_the_code_sets)
{
    static const char *const files[] = {"store.c", "store_sqlite.c", "store_postgres.c",
                                        "store_tx.c", "migrate.c"};
    AUTO(buf) struct buf code = {0};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", TEST_IO_DIR, files[i]);
        FILE *f = fopen(path, "r");
        CHECK(f != NULL);
        for (int c; f != NULL && (c = getc(f)) != EOF;)
            buf_addc(&code, (char)c);
        if (f != NULL)
            fclose(f);
    }
    /* literals that are split over lines become whole */
    AUTO(buf) struct buf whole = {0};
    for (const char *at = buf_str(&code); *at != '\0';) {
        size_t gap = *at == '"' ? 1 + strspn(at + 1, " \n") : 0;
        if (gap > 1 && at[gap] == '"')
            at += gap + 1;
        else
            buf_addc(&whole, *at++);
    }
    for (const struct err_text *t = store_texts; t->en != NULL; t++) {
        char literal[512];
        snprintf(literal, sizeof(literal), "\"%s\"", t->en);
        if (strstr(buf_str(&whole), literal) == NULL)
            FAIL_("no code sets: %s", t->en);
    }
}

TEST_MAIN
