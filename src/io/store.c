/* The store: accepting transactions, running them on writer threads, and the pool of readers.
 *
 * What must stay true:
 *  - `done` (and a blocked store_tx) hears OK only after the commit that made the writes durable.
 *    An answer that another transaction of the same group made possible (a conflict, say) also
 *    waits for that commit: when it fails, all of the group hear its error.
 *  - After-commit calls run in commit order within a writer, each before its own `done`.
 *  - The queue is bounded; everything accepted is answered, also while closing.
 *  - ERR_SERIALIZATION does not leave this file.
 * Times are the real clock's, whatever base/world says: see store_clock_us().
 */
#include "io/store_backend.h"

#include "base/str.h"

#include <string.h>
#include <time.h>

enum {
    READERS_DEFAULT = 4,
    QUEUE_DEFAULT = 4096,
    CHECK_MS_DEFAULT = 10000,
    GROUP_US = 5000, /* a group takes no more in after this: it bounds the latency */
    TRY_MAX = 25,    /* with store_back_off: about two seconds of conflicts */
    ANSWER_US = 60 * 1000000,
    TRY_LAST_US = 30 * 1000000, /* after acceptance: no new try, whatever the cause */
    GIVE_UP_US = 10 * 1000000,  /* an engine that is away: from acceptance to ERR_UNAVAILABLE */
    POOL_WAIT_S = 10,
    QUIET_NS = 50 * 1000000, /* how long new reads wait for the end of those that run */
};

static _Thread_local bool writer_thread;

int64_t store_clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void store_sleep_us(int64_t us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&t, &t) != 0)
        ;
}

void store_back_off(int attempt)
{
    int64_t cap = attempt < 7 ? INT64_C(1000) << attempt : 100 * 1000;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    /* Enough to part threads that collided; seeded worlds must not be disturbed by it. */
    uint64_t noise = ((uint64_t)t.tv_nsec ^ (uint64_t)(uintptr_t)&t >> 12) * 0x9e3779b97f4a7c15U;
    store_sleep_us(cap / 4 + (int64_t)((noise >> 33) % (uint64_t)cap));
}

/* ---- one transaction ---- */

/* Leaves w->err and the return value agreeing, however fn left them. */
static int work_run(struct work *w, struct conn *conn)
{
    int64_t began_us = store_clock_us();
    err_lang_set(w->lang);
    err_clear(&w->err);
    int kind = tx_run(&w->tx, conn, w->fn, w->ctx, &w->err);
    if (kind == OK)
        err_clear(&w->err);
    else
        w->err.kind = kind;
    int64_t took_us = store_clock_us() - began_us;
    w->tx.store->busy_us += (uint64_t)took_us;
    histogram_add(&w->tx.store->durations, &histogram_call_bounds, took_us);
    return kind;
}

static void work_finish(struct work *w)
{
    struct store *s = w->tx.store;
    if (w->err.kind == OK)
        tx_run_after(&w->tx);
    else
        s->failures++;
    s->transactions++;
    tx_fini(&w->tx);
    /* A blocked store_tx() goes on inside done(), and w with it. */
    bool heap = w->heap;
    w->done(w->done_ctx, &w->err);
    if (heap)
        mem_free(w);
}

static struct work *queue_pop(struct store *s)
{
    struct work *w = s->first;
    if (w == NULL)
        return NULL;
    s->first = w->next;
    if (s->first == NULL)
        s->last = &s->first;
    s->queued--;
    w->next = NULL;
    return w;
}

static bool writer_connect(struct writer *w, struct err *e)
{
    const struct engine *engine = w->store->engine;
    if (w->conn != NULL && !engine->usable(w->conn)) {
        engine->disconnect(w->conn);
        w->conn = NULL;
    }
    return w->conn != NULL || engine->connect(w->store, true, &w->conn, e) == OK;
}

/* ---- a group under one commit ---- */

/* Runs one transaction of a group. False: the engine threw the whole group away. */
static bool group_part(struct writer *wr, struct work *w)
{
    const struct engine *engine = wr->store->engine;
    if (engine->part_begin(wr->conn, &w->err) != OK)
        return engine->in_transaction(wr->conn);
    bool keep = work_run(w, wr->conn) == OK;
    if (!engine->in_transaction(wr->conn))
        return false;
    struct err e = {0};
    if (engine->part_end(wr->conn, keep, &e) != OK)
        w->err = e;
    return engine->in_transaction(wr->conn);
}

/* Runs `first` and what else waits; gives all that it took, in order. *failed says why all of
 * them failed. */
static struct work *group_run(struct writer *wr, struct work *first, struct err *failed)
{
    struct store *s = wr->store;
    const struct engine *engine = s->engine;
    struct work *all = first, **last = &first->next;
    if (!writer_connect(wr, failed) || engine->begin(wr->conn, true, failed) != OK)
        return all;
    int64_t until_us = store_clock_us() + GROUP_US;
    int n = 0;
    bool kept = false;
    for (struct work *w = first; w != NULL;) {
        if (!group_part(wr, w)) {
            *failed = w->err;
            if (failed->kind == OK)
                err_set(failed, ERR_IO, "the database gave up the transaction");
            break;
        }
        kept |= w->err.kind == OK;
        if (++n >= engine->group_max || store_clock_us() > until_us)
            break;
        pthread_mutex_lock(&s->queue_lock);
        w = queue_pop(s);
        pthread_mutex_unlock(&s->queue_lock);
        if (w != NULL) {
            *last = w;
            last = &w->next;
        }
    }
    if (failed->kind == OK && kept && engine->commit(wr->conn, failed) == OK)
        s->commits++;
    else
        engine->rollback(wr->conn); /* harmless when the engine has done it */
    return all;
}

/* SQLite's log can start from its beginning only at a moment at which nobody reads, and reads that
 * overlap leave no such moment: it would grow for ever. So one is made, by letting new reads wait
 * for those that run. One long read prevents it; then the next time will do. */
static void make_quiet_and_tidy(struct writer *wr)
{
    struct store *s = wr->store;
    s->engine->tidy(wr->conn, false);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += QUIET_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&s->pool_lock);
    s->pool_paused = true;
    int rc = 0;
    while (s->pool_busy > 0 && rc == 0)
        rc = pthread_cond_timedwait(&s->pool_wake, &s->pool_lock, &until);
    bool quiet = s->pool_busy == 0;
    pthread_mutex_unlock(&s->pool_lock);
    if (quiet)
        s->engine->tidy(wr->conn, true);
    pthread_mutex_lock(&s->pool_lock);
    s->pool_paused = false;
    pthread_cond_broadcast(&s->pool_wake);
    pthread_mutex_unlock(&s->pool_lock);
}

static void run_group(struct writer *wr, struct work *first)
{
    struct store *s = wr->store;
    struct err failed = {0};
    if (s->single)
        pthread_mutex_lock(&s->single_lock);
    struct work *w = group_run(wr, first, &failed);
    if (s->single)
        pthread_mutex_unlock(&s->single_lock);
    while (w != NULL) {
        struct work *next = w->next;
        if (failed.kind != OK)
            w->err = failed;
        work_finish(w);
        w = next;
    }
    if (wr->conn != NULL && s->engine->crowded(wr->conn))
        make_quiet_and_tidy(wr);
}

/* ---- one transaction alone, with tries ---- */

static int alone_try(struct writer *wr, struct work *w)
{
    const struct engine *engine = wr->store->engine;
    tx_forget(&w->tx);
    if (engine->begin(wr->conn, true, &w->err) != OK)
        return w->err.kind;
    if (work_run(w, wr->conn) != OK) {
        engine->rollback(wr->conn);
        return w->err.kind;
    }
    if (engine->commit(wr->conn, &w->err) != OK) {
        engine->rollback(wr->conn);
        return w->err.kind;
    }
    wr->store->commits++;
    return OK;
}

static void run_alone(struct writer *wr, struct work *w)
{
    struct store *s = wr->store;
    int64_t give_up_us = w->since_us + GIVE_UP_US;
    for (int tries = 0, connects = 0;;) {
        err_lang_set(w->lang);
        err_clear(&w->err);
        if (!writer_connect(wr, &w->err)) {
            if (w->err.kind != ERR_UNAVAILABLE || store_clock_us() > give_up_us)
                break;
            store_back_off(++connects);
            continue;
        }
        if (alone_try(wr, w) != ERR_SERIALIZATION)
            break;
        if (++tries == TRY_MAX || store_clock_us() > w->since_us + TRY_LAST_US) {
            err_wrap(&w->err, "the database did not take the change in %d tries", tries);
            w->err.kind = ERR_UNAVAILABLE;
            w->err.retry_after_s = 1;
            break;
        }
        s->retries++;
        store_back_off(tries);
    }
    work_finish(w);
}

static void *writer_main(void *arg)
{
    struct writer *wr = arg;
    struct store *s = wr->store;
    writer_thread = true;
    for (;;) {
        pthread_mutex_lock(&s->queue_lock);
        while (s->first == NULL && !s->closing)
            pthread_cond_wait(&s->queue_wake, &s->queue_lock);
        struct work *w = queue_pop(s);
        pthread_mutex_unlock(&s->queue_lock);
        if (w == NULL)
            return NULL;
        if (s->engine->group_max > 1)
            run_group(wr, w);
        else
            run_alone(wr, w);
    }
}

/* ---- accepting ---- */

static bool queue_add(struct store *s, struct work *w, struct err *e)
{
    pthread_mutex_lock(&s->queue_lock);
    bool closing = s->closing, full = s->queued >= s->queue_max;
    if (!closing && !full) {
        w->since_us = store_clock_us();
        *s->last = w;
        s->last = &w->next;
        s->queued++;
        pthread_cond_signal(&s->queue_wake);
    }
    pthread_mutex_unlock(&s->queue_lock);
    if (closing)
        err_set(e, ERR_UNAVAILABLE, "shutting down");
    else if (full)
        err_set(e, ERR_UNAVAILABLE, "overloaded: %d changes wait for the database", s->queue_max);
    if (!closing && !full)
        return true;
    e->retry_after_s = 1;
    return false;
}

void store_tx_async(struct store *s, tx_fn *fn, void *ctx, tx_done_fn *done, void *done_ctx)
{
    struct work *w = mem_alloc(sizeof(*w));
    *w = (struct work){
        .fn = fn, .ctx = ctx, .done = done, .done_ctx = done_ctx, .lang = err_lang(), .heap = true};
    tx_init(&w->tx, s, true);
    if (queue_add(s, w, &w->err))
        return;
    done(done_ctx, &w->err);
    tx_fini(&w->tx);
    mem_free(w);
}

struct waiter {
    struct store *store;
    struct err err;
    bool finished;
    pthread_cond_t wake;
};

static void waiter_done(void *ctx, const struct err *e)
{
    struct waiter *w = ctx;
    /* The lock is the store's: the waiter and all in it are gone as soon as it can see the flag. */
    struct store *s = w->store;
    pthread_mutex_lock(&s->done_lock);
    w->err = *e;
    w->finished = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&s->done_lock);
}

int store_tx(struct store *s, tx_fn *fn, void *ctx, struct err *e)
{
    if (tx_here() || writer_thread)
        return err_set(e, ERR_INTERNAL,
                       "store_tx inside a transaction or on a thread of the store");
    struct waiter waiter = {.store = s, .wake = PTHREAD_COND_INITIALIZER};
    struct work w = {
        .fn = fn, .ctx = ctx, .done = waiter_done, .done_ctx = &waiter, .lang = err_lang()};
    tx_init(&w.tx, s, true);
    if (queue_add(s, &w, &waiter.err)) {
        pthread_mutex_lock(&s->done_lock);
        while (!waiter.finished)
            pthread_cond_wait(&waiter.wake, &s->done_lock);
        pthread_mutex_unlock(&s->done_lock);
    }
    pthread_cond_destroy(&waiter.wake);
    if (waiter.err.kind != OK && e != NULL)
        *e = waiter.err;
    return waiter.err.kind;
}

/* ---- readers ---- */

static int pool_take(struct store *s, struct conn **out, struct err *e)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += POOL_WAIT_S;
    pthread_mutex_lock(&s->pool_lock);
    int rc = 0;
    while ((s->pool_paused || (s->pool == NULL && s->pool_open >= s->readers_max)) && rc == 0)
        rc = pthread_cond_timedwait(&s->pool_wake, &s->pool_lock, &until);
    struct conn *c = s->pool_paused ? NULL : s->pool;
    bool make = c == NULL && !s->pool_paused && s->pool_open < s->readers_max;
    if (c != NULL)
        s->pool = c->next;
    else if (make)
        s->pool_open++;
    s->pool_busy += c != NULL || make;
    pthread_mutex_unlock(&s->pool_lock);
    if (c == NULL && !make) {
        err_set(e, ERR_UNAVAILABLE, "overloaded: no connection for a read became free in %d s",
                POOL_WAIT_S);
        if (e != NULL)
            e->retry_after_s = 1;
        return ERR_UNAVAILABLE;
    }
    *out = c; /* NULL: the caller connects in this place */
    return OK;
}

static void pool_give(struct store *s, struct conn *c)
{
    pthread_mutex_lock(&s->pool_lock);
    if (c != NULL) {
        c->next = s->pool;
        s->pool = c;
    } else {
        s->pool_open--;
    }
    s->pool_busy--;
    pthread_cond_broadcast(&s->pool_wake); /* readers, or the writer that waits for quiet */
    pthread_mutex_unlock(&s->pool_lock);
}

/* A connection that has begun to read. A server that is away is tried again for a while: it may
 * be restarting. */
static int read_begin(struct store *s, struct conn **conn, struct err *e)
{
    const struct engine *engine = s->engine;
    int64_t give_up_us = store_clock_us() + GIVE_UP_US;
    for (int attempt = 1;; attempt++) {
        if (*conn != NULL && !engine->usable(*conn)) {
            engine->disconnect(*conn);
            *conn = NULL;
        }
        int kind = *conn != NULL ? OK : engine->connect(s, false, conn, e);
        bool connected = kind == OK;
        if (connected)
            kind = engine->begin(*conn, false, e);
        if (kind == OK)
            return OK;
        /* begin gives ERR_SERIALIZATION when the connection turns out to be dead */
        bool again = connected ? kind == ERR_SERIALIZATION : kind == ERR_UNAVAILABLE;
        if (!again || store_clock_us() > give_up_us)
            return kind;
        store_back_off(attempt);
    }
}

static int read_run(struct store *s, struct conn *c, tx_fn *fn, void *ctx, struct err *e)
{
    struct tx tx;
    struct err why = {0};
    tx_init(&tx, s, false);
    int kind = tx_run(&tx, c, fn, ctx, &why);
    tx_forget(&tx);
    s->engine->rollback(c);
    tx_fini(&tx);
    if (kind == ERR_SERIALIZATION) {
        err_set(&why, ERR_UNAVAILABLE, "the connection to the database was lost: try again");
        kind = ERR_UNAVAILABLE;
        why.retry_after_s = 1;
    }
    if (kind != OK && e != NULL) {
        *e = why;
        e->kind = kind;
    }
    return kind;
}

static int read_one(struct store *s, tx_fn *fn, void *ctx, struct err *e)
{
    struct conn *c = NULL;
    int kind;
    if (s->single) {
        pthread_mutex_lock(&s->single_lock);
        c = s->writers[0].conn;
        kind = s->engine->begin(c, false, e);
        if (kind == OK)
            kind = read_run(s, c, fn, ctx, e);
        pthread_mutex_unlock(&s->single_lock);
        return kind;
    }
    kind = pool_take(s, &c, e);
    if (kind != OK)
        return kind;
    kind = read_begin(s, &c, e);
    if (kind == ERR_SERIALIZATION)
        kind = err_set(e, ERR_UNAVAILABLE, "the database does not answer: try again");
    else if (kind == OK)
        kind = read_run(s, c, fn, ctx, e);
    pool_give(s, c);
    return kind;
}

int store_read(struct store *s, tx_fn *fn, void *ctx, struct err *e)
{
    if (tx_here())
        return err_set(e, ERR_INTERNAL, "store_read inside a transaction");
    int64_t began_us = store_clock_us();
    s->reads++;
    int kind = read_one(s, fn, ctx, e);
    histogram_add(&s->durations, &histogram_call_bounds, store_clock_us() - began_us);
    return kind;
}

int store_hold(struct store *s, int64_t key, struct conn **out, struct err *e)
{
    *out = NULL;
    if (s->engine->hold == NULL)
        return OK;
    struct conn *c = NULL;
    int kind = s->engine->connect(s, true, &c, e);
    if (kind == OK)
        kind = s->engine->hold(c, key, e);
    if (kind == OK)
        *out = c;
    else if (c != NULL)
        s->engine->disconnect(c);
    return kind;
}

void store_let_go(struct store *s, struct conn *held)
{
    if (held != NULL)
        s->engine->disconnect(held);
}

/* ---- opening and closing ---- */

static const struct {
    const char *prefix;
    const struct engine *engine;
} schemes[] = {
    {"sqlite:", &engine_sqlite},       {"sqlite+aiosqlite:", &engine_sqlite},
    {"postgresql:", &engine_postgres}, {"postgres:", &engine_postgres},
    {"postgresql+", &engine_postgres}, /* +asyncpg, +psycopg2: other programs' drivers */
};

const char *store_warning(const struct store *s)
{
    return s->warning;
}

static const struct engine *engine_of(const char *url)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (str_starts(url, schemes[i].prefix))
            return schemes[i].engine;
    return NULL;
}

static void store_free(struct store *s)
{
    for (int i = 0; i < s->writers_n; i++)
        if (s->writers[i].conn != NULL)
            s->engine->disconnect(s->writers[i].conn);
    while (s->pool != NULL) {
        struct conn *next = s->pool->next;
        s->engine->disconnect(s->pool);
        s->pool = next;
    }
    s->engine->close(s);
    pthread_mutex_destroy(&s->single_lock);
    pthread_mutex_destroy(&s->queue_lock);
    pthread_mutex_destroy(&s->done_lock);
    pthread_mutex_destroy(&s->pool_lock);
    pthread_cond_destroy(&s->queue_wake);
    pthread_cond_destroy(&s->pool_wake);
    mem_free(s->writers);
    mem_free(s->url);
    mem_free(s->warning);
    mem_free(s);
}

static void store_stop(struct store *s, int threads)
{
    pthread_mutex_lock(&s->queue_lock);
    s->closing = true;
    pthread_cond_broadcast(&s->queue_wake);
    pthread_mutex_unlock(&s->queue_lock);
    for (int i = 0; i < threads; i++)
        pthread_join(s->writers[i].thread, NULL);
}

int store_open(const struct store_config *config, struct store **out, struct err *e)
{
    const char *url = config->url != NULL ? config->url : "";
    const struct engine *engine = engine_of(url);
    if (engine == NULL) /* the text must not hold the URL: it may carry a password */
        return err_set(e, ERR_INVALID,
                       "the database address must start with sqlite:/// or postgresql://");
    struct store *s = mem_alloc(sizeof(*s));
    s->engine = engine;
    s->url = mem_strdup(url);
    s->check_ms = config->check_ms > 0 ? config->check_ms : CHECK_MS_DEFAULT;
    s->readers_max = config->readers > 0 ? config->readers : READERS_DEFAULT;
    s->queue_max = config->queue_max > 0 ? config->queue_max : QUEUE_DEFAULT;
    s->answer_us = ANSWER_US;
    s->last = &s->first;
    pthread_mutex_init(&s->single_lock, NULL);
    pthread_mutex_init(&s->queue_lock, NULL);
    pthread_mutex_init(&s->done_lock, NULL);
    pthread_mutex_init(&s->pool_lock, NULL);
    pthread_cond_init(&s->queue_wake, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->pool_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->writers_n = engine->writers > 0 ? engine->writers : s->readers_max;
    s->writers = mem_alloc((size_t)s->writers_n * sizeof(*s->writers));

    int kind = engine->open(s, e);
    /* The first connection now: a wrong address fails at start-up, not at the first request. */
    if (kind == OK)
        kind = engine->connect(s, true, &s->writers[0].conn, e);
    int threads = 0;
    for (; kind == OK && threads < s->writers_n; threads++) {
        s->writers[threads].store = s;
        if (pthread_create(&s->writers[threads].thread, NULL, writer_main, &s->writers[threads]))
            kind = err_set(e, ERR_UNAVAILABLE, "cannot start a thread of the store");
        if (kind != OK)
            break;
    }
    if (kind != OK) {
        store_stop(s, threads);
        store_free(s);
        return kind;
    }
    *out = s;
    return OK;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    store_stop(s, s->writers_n);
    store_free(s);
}

/* ---- small things ---- */

enum store_kind store_kind(const struct store *s)
{
    return s->engine->kind;
}

void store_set_user(struct store *s, void *user)
{
    s->user = user;
}

void *store_user(const struct store *s)
{
    return s->user;
}

const struct histogram *store_durations(const struct store *s)
{
    return &s->durations;
}

void store_stats(struct store *s, struct store_stats *out)
{
    *out = (struct store_stats){.commits = s->commits,
                                .transactions = s->transactions,
                                .retries = s->retries,
                                .failures = s->failures,
                                .reads = s->reads,
                                .busy_us = s->busy_us};
    pthread_mutex_lock(&s->queue_lock);
    out->queue_depth = (uint64_t)s->queued;
    pthread_mutex_unlock(&s->queue_lock);
}
