/* What a transaction function may call.
 *
 * Must stay true: after a statement failed, no other runs in that transaction and it cannot
 * commit, on both engines alike (PostgreSQL would refuse; SQLite would let a half-done function
 * go on). Rows that a function forgot to end are ended here, so a statement never outlives its
 * transaction.
 */
#include "io/store_backend.h"

#include "base/str.h"

#include <math.h>
#include <string.h>

static _Thread_local bool inside;

bool tx_here(void)
{
    return inside;
}

/* ---- values ---- */

struct value v_null(void)
{
    return (struct value){.type = V_NULL};
}

struct value v_int(int64_t i)
{
    return (struct value){.type = V_INT, .i = i};
}

struct value v_real(double r)
{
    /* SQLite has no NaN; null reads back as NAN from both. */
    return isnan(r) ? v_null() : (struct value){.type = V_REAL, .r = r};
}

struct value v_text(const char *s)
{
    return s == NULL ? v_null() : (struct value){.type = V_TEXT, .s = s, .n = strlen(s)};
}

struct value v_blob(const void *p, size_t n)
{
    return (struct value){.type = V_BLOB, .s = p != NULL ? p : "", .n = p != NULL ? n : 0};
}

static int values_check(const struct value *args, size_t n, struct err *e)
{
    if (n > STORE_ARGS_MAX)
        return err_set(e, ERR_INTERNAL, "a statement has %zu arguments, more than %d", n,
                       STORE_ARGS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (args[i].type != V_TEXT)
            continue;
        if (memchr(args[i].s, '\0', args[i].n) != NULL)
            return err_set(e, ERR_INVALID, "a text must not contain a NUL byte");
        if (utf8_len(args[i].s, args[i].n) == (size_t)-1)
            return err_set(e, ERR_INVALID, "a text is not valid UTF-8");
    }
    return OK;
}

/* ---- the life of a transaction ---- */

void tx_init(struct tx *tx, struct store *s, bool write)
{
    *tx = (struct tx){.store = s, .write = write};
    tx->after_last = &tx->after;
}

static void rows_close(struct rows *r)
{
    if (r->started)
        r->tx->store->engine->finish(r);
    *r->at = r->next;
    if (r->next != NULL)
        r->next->at = r->at;
    mem_free(r);
}

void tx_forget(struct tx *tx)
{
    while (tx->open != NULL)
        rows_close(tx->open);
    err_clear(&tx->failed);
    tx->after = NULL;
    tx->after_last = &tx->after;
    arena_reset(&tx->arena);
}

void tx_fini(struct tx *tx)
{
    tx_forget(tx);
    arena_fini(&tx->arena);
}

int tx_run(struct tx *tx, struct conn *conn, tx_fn *fn, void *ctx, struct err *e)
{
    tx->conn = conn;
    inside = true;
    int kind = fn(tx, ctx, e);
    inside = false;
    while (tx->open != NULL)
        rows_close(tx->open);
    /* Also when fn made another error of it: what must be run again is decided by the first. */
    if (tx->failed.kind != OK && (kind == OK || tx->failed.kind == ERR_SERIALIZATION)) {
        *e = tx->failed;
        kind = e->kind;
    }
    return kind;
}

void tx_run_after(struct tx *tx)
{
    for (struct after_call *a = tx->after; a != NULL; a = a->next)
        a->fn(a->ctx);
}

struct store *tx_store(const struct tx *tx)
{
    return tx->store;
}

struct arena *tx_arena(struct tx *tx)
{
    return &tx->arena;
}

bool tx_is_write(const struct tx *tx)
{
    return tx->write;
}

void tx_after_commit(struct tx *tx, void (*fn)(void *ctx), void *ctx)
{
    struct after_call *a = arena_alloc(&tx->arena, sizeof(*a));
    a->fn = fn;
    a->ctx = ctx;
    *tx->after_last = a;
    tx->after_last = &a->next;
}

/* ---- rows ---- */

struct rows *tx_query(struct tx *tx, const char *sql, const struct value *args, size_t n)
{
    struct rows *r = mem_alloc(tx->store->engine->rows_size);
    r->tx = tx;
    r->next = tx->open;
    r->at = &tx->open;
    if (r->next != NULL)
        r->next->at = &r->next;
    tx->open = r;
    r->failed = tx->failed.kind != OK || values_check(args, n, &tx->failed) != OK ||
                tx->store->engine->query(tx->conn, r, sql, args, n, &tx->failed) != OK;
    return r;
}

bool rows_next(struct rows *r)
{
    if (r->failed || r->done)
        return false;
    bool row = false;
    if (r->tx->store->engine->next(r, &row, &r->tx->failed) != OK)
        r->failed = true;
    r->done = !row;
    return row;
}

int rows_end(struct rows *r, struct err *e)
{
    int kind = OK;
    if (r->failed) {
        kind = r->tx->failed.kind;
        if (e != NULL)
            *e = r->tx->failed;
    }
    rows_close(r);
    return kind;
}

static bool row_there(const struct rows *r, int col)
{
    return r->started && !r->done && !r->tx->store->engine->is_null(r, col);
}

bool row_null(const struct rows *r, int col)
{
    return !row_there(r, col);
}

int64_t row_int(const struct rows *r, int col)
{
    return row_there(r, col) ? r->tx->store->engine->get_int(r, col) : 0;
}

double row_real(const struct rows *r, int col)
{
    return row_there(r, col) ? r->tx->store->engine->get_real(r, col) : NAN;
}

const char *row_text(const struct rows *r, int col)
{
    return row_there(r, col) ? r->tx->store->engine->get_text(r, col) : NULL;
}

const void *row_blob(const struct rows *r, int col, size_t *n)
{
    *n = 0;
    return row_there(r, col) ? r->tx->store->engine->get_blob(r, col, n) : NULL;
}

/* ---- statements ---- */

int tx_exec(struct tx *tx, const char *sql, const struct value *args, size_t n, int64_t *changes,
            struct err *e)
{
    struct rows *r = tx_query(tx, sql, args, n);
    while (rows_next(r))
        ;
    if (!r->failed && changes != NULL)
        *changes = tx->store->engine->changes(r);
    return rows_end(r, e);
}

int tx_int(struct tx *tx, const char *sql, const struct value *args, size_t n, int64_t *out,
           bool *found, struct err *e)
{
    struct rows *r = tx_query(tx, sql, args, n);
    bool there = rows_next(r);
    int64_t value = there ? row_int(r, 0) : 0;
    int kind = rows_end(r, e);
    if (kind != OK)
        return kind;
    if (!there && found == NULL)
        return err_set(e, ERR_NOT_FOUND, "there is no such row");
    if (found != NULL)
        *found = there;
    if (there)
        *out = value;
    return OK;
}

int tx_script(struct tx *tx, const char *script, struct err *e)
{
    if (tx->failed.kind == OK) {
        AUTO(buf) struct buf sql = {0};
        sql_expand(script, tx->store->engine->kind, &sql);
        tx->store->engine->script(tx->conn, buf_str(&sql), &tx->failed);
    }
    if (tx->failed.kind != OK && e != NULL)
        *e = tx->failed;
    return tx->failed.kind;
}

/* ---- order of commits ---- */

static int tx_ask(struct tx *tx, int (*ask)(struct conn *, int64_t *, struct err *), int64_t *out,
                  struct err *e)
{
    int64_t value = 0;
    if (tx->failed.kind == OK && ask(tx->conn, &value, &tx->failed) == OK) {
        *out = value;
        return OK;
    }
    if (e != NULL)
        *e = tx->failed;
    return tx->failed.kind;
}

int tx_commit_order(struct tx *tx, int64_t *out, struct err *e)
{
    if (!tx->write)
        return err_set(e, ERR_INTERNAL, "a read has no place in the order of commits");
    return tx_ask(tx, tx->store->engine->commit_order, out, e);
}

int tx_visible_below(struct tx *tx, int64_t *out, struct err *e)
{
    return tx_ask(tx, tx->store->engine->visible_below, out, e);
}
