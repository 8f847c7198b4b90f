/* The state store: one interface over SQLite (embedded default) and PostgreSQL.
 *
 * store_tx() is the only way to write. The function it is given does no I/O of its own, may run
 * twice, and sees a consistent state; what it wrote is durable when store_tx() returns OK or
 * `done` is called with no error. Nothing is published, cached or answered before that.
 *
 *   SQLite      one writer thread; a batch of waiting transactions runs as savepoints in one
 *               transaction with one fsync (group commit); a failed commit fails the whole batch.
 *               WAL, synchronous=FULL, foreign keys on, busy timeout 5 s.
 *   PostgreSQL  SERIALIZABLE on a small pool, run again on 40001 and 40P01.
 *
 * SQL is written once: placeholders ?1 ?2 …, BIGINT/TEXT/DOUBLE/BYTEA through the tokens that
 * tx_script() expands, RETURNING and ON CONFLICT as both know them, no JSON functions, no
 * booleans (0/1 integers).
 *
 * After a statement failed no other one runs in that transaction and it cannot commit (so a
 * conflict that is expected is asked for with ON CONFLICT, not tried). Do not change rows of a
 * table while iterating over it: collect first.
 *
 * Errors: ERR_CONFLICT with code STORE_UNIQUE or STORE_REFERENCE; ERR_FULL; ERR_UNAVAILABLE
 * (overload, shutting down, engine away, too many conflicts): nothing was written, except with
 * code STORE_OUTCOME_UNKNOWN: PostgreSQL went away during the commit, so it may have been written.
 * Whoever repeats such a call must be able to find that out: give creates an idempotency key with
 * a UNIQUE column and write the rest so that doing it twice is doing it once.
 *
 * Threads: store_* from any thread; a tx and its rows only inside the function it was given to.
 * store_tx() is refused inside a transaction and in done and after-commit calls (they run on the
 * threads that it waits for); store_tx_async() is fine there.
 */
#ifndef IO_STORE_H
#define IO_STORE_H

#include "base/err.h"
#include "base/histogram.h"
#include "base/mem.h"

#include <stdint.h>

/* err.code of some failures */
#define STORE_UNIQUE          "STORE_UNIQUE"
#define STORE_REFERENCE       "STORE_REFERENCE"
#define STORE_IN_USE          "STORE_IN_USE"  /* of store_open(): by another server */
#define STORE_DAMAGED         "STORE_DAMAGED" /* of store_open(): the file, see there */
#define STORE_OUTCOME_UNKNOWN "STORE_OUTCOME_UNKNOWN"

struct store;
struct tx;
struct rows;

enum store_kind { STORE_SQLITE, STORE_POSTGRES };

struct store_config {
    const char *url; /* sqlite:///relative.db, sqlite:////absolute.db (also sqlite+aiosqlite),
                        postgresql://user:password@host:port/name?sslmode=… */
    int readers;     /* connections for reads and, on PostgreSQL, writes; 0: default (4) */
    int queue_max;   /* waiting transactions before ERR_UNAVAILABLE; 0: default (4096) */
    int check_ms;    /* SQLite after an unclean stop, see store_open(); 0: default (10 s) */
};

/* SQLite: FILE.lock or a log that an earlier process left (kill -9, loss of power) tell of an
 * unclean stop; then every page of the file is looked at first, for at most check_ms. A damaged one
 * is ERR_CORRUPT with code STORE_DAMAGED and a text that says what to do; nothing was changed.
 * (PostgreSQL has checksums of its own.) */
int store_open(const struct store_config *config, struct store **out, struct err *e);
/* What store_open() has to tell though it worked: a check that took too long. NULL: nothing. */
const char *store_warning(const struct store *s);
void store_close(struct store *s); /* waits for what was accepted; NULL is fine */
enum store_kind store_kind(const struct store *s);

typedef int tx_fn(struct tx *tx, void *ctx, struct err *e);
/* Blocks until committed (OK) or given up; e then says why and nothing was written. */
int store_tx(struct store *s, tx_fn *fn, void *ctx, struct err *e);
/* Returns at once. done runs on a thread of the store after commit (e->kind OK) or failure; it
 * must not block. When the queue is full, done runs at once with ERR_UNAVAILABLE. */
typedef void tx_done_fn(void *ctx, const struct err *e);
void store_tx_async(struct store *s, tx_fn *fn, void *ctx, tx_done_fn *done, void *done_ctx);
/* A short consistent snapshot on the caller's thread; writing in it is an error. fn runs once. */
int store_read(struct store *s, tx_fn *fn, void *ctx, struct err *e);

/* ---- inside a transaction ---- */

enum value_type { V_NULL, V_INT, V_REAL, V_TEXT, V_BLOB };
struct value {
    enum value_type type;
    size_t n; /* bytes of a text or blob */
    union {
        int64_t i;
        double r;
        const char *s;
    };
};
struct value v_null(void);
struct value v_int(int64_t i);
struct value v_real(double r);                /* NAN gives V_NULL */
struct value v_text(const char *s);           /* NULL gives V_NULL; must be UTF-8 */
struct value v_blob(const void *p, size_t n); /* NULL gives an empty one */
/* ARGS(v_int(1), v_text("x")): the last two arguments of the calls below. */
#define ARGS(...)                                                                                  \
    (const struct value[]){__VA_ARGS__},                                                           \
        sizeof((const struct value[]){__VA_ARGS__}) / sizeof(struct value)
#define NO_ARGS NULL, 0

/* sql must be a literal or live as long as the store: statements are prepared once and found by
 * their text. Never returns NULL; a failure shows in rows_end(). */
struct rows *tx_query(struct tx *tx, const char *sql, const struct value *args, size_t n);
bool rows_next(struct rows *r);
/* Ends the iteration (early too) and says whether it failed. Always call it. */
int rows_end(struct rows *r, struct err *e);
bool row_null(const struct rows *r, int col);
int64_t row_int(const struct rows *r, int col);      /* 0 for null */
double row_real(const struct rows *r, int col);      /* NAN for null */
const char *row_text(const struct rows *r, int col); /* NULL for null; until rows_next */
const void *row_blob(const struct rows *r, int col, size_t *n);

/* Runs a statement without result rows. changes may be NULL. */
int tx_exec(struct tx *tx, const char *sql, const struct value *args, size_t n, int64_t *changes,
            struct err *e);
/* The first column of the first row; *found false when there is none (found may be NULL: then
 * no row is ERR_NOT_FOUND). */
int tx_int(struct tx *tx, const char *sql, const struct value *args, size_t n, int64_t *out,
           bool *found, struct err *e);
/* Several statements of DDL separated by ';'. Expands $ID (integer primary key that numbers
 * itself), $INT, $REAL, $TEXT, $BLOB, and lines that start with "sqlite:" or "postgres:" are
 * kept only for that engine. */
int tx_script(struct tx *tx, const char *script, struct err *e);

/* The order of commits, for a log whose readers keep a cursor. PostgreSQL hands out serial
 * numbers before the commit, so a row with a lower number can appear after a higher one was read.
 * Instead: store tx_commit_order() (in a write) in a column, and read only the rows whose order is
 * below tx_visible_below() (in the same snapshot as the rows), sorted by (order, id), from the
 * cursor (order, id) on. A row never appears before one that was already read so. On SQLite the
 * order is always 0 and everything is visible: one writer, so ids grow in commit order.
 * A transaction that stays open anywhere on the PostgreSQL server after it wrote holds the
 * boundary back. Orders are of one server: when a dump is restored into another one, set the
 * column to 0 (all of it is older than whatever comes). */
int tx_commit_order(struct tx *tx, int64_t *out, struct err *e);
int tx_visible_below(struct tx *tx, int64_t *out, struct err *e);

struct store *tx_store(const struct tx *tx);
struct arena *tx_arena(struct tx *tx); /* lives until the after-commit calls have run */
bool tx_is_write(const struct tx *tx);
/* fn runs once on a thread of the store after the commit, never when it failed; must not block.
 * ctx must live until then: take it from tx_arena(). */
void tx_after_commit(struct tx *tx, void (*fn)(void *ctx), void *ctx);

/* The program's own pointer, so that a room reached by tx only can find its house. */
void store_set_user(struct store *s, void *user);
void *store_user(const struct store *s);

/* Counters for /metrics; consistent enough, not a snapshot. */
struct store_stats {
    uint64_t commits, transactions, retries, failures, reads;
    uint64_t queue_depth;
    uint64_t busy_us; /* time spent inside transactions */
};
void store_stats(struct store *s, struct store_stats *out);
/* How long transactions took, reads and writes; lives as long as the store. */
const struct histogram *store_durations(const struct store *s);

/* Chinese for the texts of the store and of migrations: err_translate_with(store_texts). */
extern const struct err_text store_texts[];

#endif
