/* Inside the store: what an engine gives (struct engine) and what the common code gives it.
 * Only store*.c and migrate.c include this.
 *
 *   store.c           queue, writer threads, group commit, retries, pool of readers
 *   store_tx.c        what a transaction function may call
 *   store_sql.c       SQL and DDL text of both dialects
 *   store_sqlite.c    the only file that knows sqlite3.h
 *   store_postgres.c  the only file that knows libpq-fe.h
 *
 * Threads: a connection and everything reached from it belong to one thread at a time; the
 * engine's functions take no locks.
 */
#ifndef IO_STORE_BACKEND_H
#define IO_STORE_BACKEND_H

#include "base/err.h"
#include "base/mem.h"
#include "io/store.h"

#include <pthread.h>
#include <stdatomic.h>

enum { STORE_ARGS_MAX = 64 }; /* arguments of one statement: the width of a record */

/* Engines put these first in their own structs. */
struct conn {
    struct store *store;
    struct conn *next; /* in the pool of readers */
};
struct rows {
    struct tx *tx;
    struct rows *next, **at; /* among the tx's rows that have not been ended */
    bool failed;             /* the text is in tx->failed */
    bool started;            /* the engine has something to finish */
    bool done;
};

struct after_call {
    void (*fn)(void *ctx);
    void *ctx;
    struct after_call *next;
};

struct tx {
    struct store *store;
    struct conn *conn;
    bool write;
    struct err failed; /* the first statement that failed; none runs after it */
    struct rows *open;
    struct arena arena;
    struct after_call *after, **after_last;
};

struct engine {
    enum store_kind kind;
    int writers;   /* threads that write; 0: as many as config.readers */
    int group_max; /* transactions that may share a commit */
    size_t rows_size;

    /* Reads s->url, sets s->engine_data and s->single. */
    int (*open)(struct store *s, struct err *e);
    void (*close)(struct store *s);
    int (*connect)(struct store *s, bool write, struct conn **out, struct err *e);
    void (*disconnect)(struct conn *c);
    /* Outside a transaction: may this connection be used again? */
    bool (*usable)(struct conn *c);

    int (*begin)(struct conn *c, bool write, struct err *e);
    /* ERR_SERIALIZATION: surely not committed, run it again. */
    int (*commit)(struct conn *c, struct err *e);
    void (*rollback)(struct conn *c);
    /* One transaction of a group; NULL where group_max is 1. keep says whether its function was
     * content; an error of keep itself is the transaction's error and has undone it. */
    int (*part_begin)(struct conn *c, struct err *e);
    int (*part_end)(struct conn *c, bool keep, struct err *e);
    /* False: the engine has given up the whole transaction by itself. */
    bool (*in_transaction)(struct conn *c);

    int (*query)(struct conn *c, struct rows *r, const char *sql, const struct value *args,
                 size_t n, struct err *e);
    int (*next)(struct rows *r, bool *row, struct err *e);
    void (*finish)(struct rows *r);
    int64_t (*changes)(struct rows *r); /* after the last row */
    bool (*is_null)(const struct rows *r, int col);
    int64_t (*get_int)(const struct rows *r, int col); /* not null from here on */
    double (*get_real)(const struct rows *r, int col);
    const char *(*get_text)(const struct rows *r, int col);
    const void *(*get_blob)(const struct rows *r, int col, size_t *n);
    int (*script)(struct conn *c, const char *sql, struct err *e);

    /* NULL where there is nothing to do. crowded: the log is long enough for tidy(), which runs
     * outside a transaction, first beside readers, then alone: no read runs. */
    bool (*crowded)(struct conn *c);
    void (*tidy)(struct conn *c, bool alone);

    int (*commit_order)(struct conn *c, int64_t *out, struct err *e);
    int (*visible_below)(struct conn *c, int64_t *out, struct err *e);
    /* Waits until no other process holds key; lasts until disconnect. NULL: open() has already
     * made sure that there is no other process. */
    int (*hold)(struct conn *c, int64_t key, struct err *e);
};
extern const struct engine engine_sqlite, engine_postgres;

/* One accepted transaction. */
struct work {
    struct work *next;
    tx_fn *fn;
    void *ctx;
    tx_done_fn *done;
    void *done_ctx;
    enum lang lang;   /* of the thread that asked: error texts are for its caller */
    int64_t since_us; /* when accepted */
    bool heap;
    struct tx tx;
    struct err err;
};

struct writer {
    struct store *store;
    pthread_t thread;
    struct conn *conn;
};

struct store {
    const struct engine *engine;
    void *engine_data;
    char *url;
    char *warning; /* see store_warning() */
    int check_ms;
    int readers_max, queue_max;
    int64_t answer_us; /* how long a server may take for one statement */
    bool single;       /* one connection for everything, under single_lock */
    pthread_mutex_t single_lock;
    _Atomic(void *) user;

    pthread_mutex_t queue_lock;
    pthread_cond_t queue_wake;
    struct work *first, **last;
    int queued;
    bool closing;
    struct writer *writers;
    int writers_n;

    pthread_mutex_t done_lock; /* the finished flags of blocked store_tx() calls */

    pthread_mutex_t pool_lock;
    pthread_cond_t pool_wake;
    struct conn *pool;
    int pool_open;    /* connections of the pool, in use or not */
    int pool_busy;    /* in use */
    bool pool_paused; /* no new read begins */

    _Atomic uint64_t commits, transactions, retries, failures, reads, busy_us;
    struct histogram durations;
};

/* store_tx.c */
void tx_init(struct tx *tx, struct store *s, bool write);
void tx_forget(struct tx *tx); /* for the next try: ends rows, drops after-commit calls */
void tx_fini(struct tx *tx);
/* Runs fn and ends what it left open. A failed statement fails the transaction whatever fn
 * says. */
int tx_run(struct tx *tx, struct conn *conn, tx_fn *fn, void *ctx, struct err *e);
void tx_run_after(struct tx *tx);
/* This thread is inside a transaction function. */
bool tx_here(void);

/* store_sql.c */
/* ?N becomes $N; where null_at[N - 1] it becomes NULL (null_at has STORE_ARGS_MAX places). Texts in
 * quotes and comments stay. *max_arg is the highest N. */
void sql_numbered(const char *sql, const bool *null_at, struct buf *to, int *max_arg);
void sql_expand(const char *script, enum store_kind kind, struct buf *to);

/* store.c */
/* The real clock: a wait for a disk or a server must end also under a test's clock. */
int64_t store_clock_us(void);
void store_sleep_us(int64_t us);
/* Sleeps before try number `attempt` (from 1): doubling from 1 ms to 100 ms, jittered. */
void store_back_off(int attempt);
/* Only one process at a time gets past this, until store_let_go(). */
int store_hold(struct store *s, int64_t key, struct conn **out, struct err *e);
void store_let_go(struct store *s, struct conn *held);

#endif
