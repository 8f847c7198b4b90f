/* PostgreSQL through libpq: each transaction alone on its connection, SERIALIZABLE.
 *
 * What must stay true:
 *  - A statement is prepared once per connection for each list of argument types. Arguments are
 *    sent typed and in binary; a null whose type no call has shown yet stands in the SQL as NULL,
 *    since the server cannot guess the type of a parameter in `?1 IS NULL OR x = ?1`.
 *  - A connection that is lost before COMMIT was sent has written nothing: ERR_SERIALIZATION, run
 *    it again. One that is lost after that may have: the text says so and nothing is retried.
 *    (pg_xact_status() cannot tell: a number that was lost in a crash is used again.)
 *  - A server that accepts and then says nothing holds a thread for store->answer_us at most,
 *    except in scripts: a migration may take as long as it takes.
 *  - Texts of errors never hold the address, which may carry a password.
 */
#include "io/store_backend.h"

#include "base/str.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VARIANTS_MAX = 2000,    /* prepared statements of a connection */
    VERSION_LEAST = 130000, /* pg_current_xact_id() */
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_TEXT = 25,
    OID_FLOAT8 = 701,
};

/* A null whose type is not known stands in the SQL; its place is still numbered. */
static const Oid oid_of[] = {
    [V_NULL] = OID_TEXT, [V_INT] = OID_INT8,   [V_REAL] = OID_FLOAT8,
    [V_TEXT] = OID_TEXT, [V_BLOB] = OID_BYTEA,
};

struct variant {
    struct variant *next;
    enum value_type types[STORE_ARGS_MAX];
    char name[24];
};

struct statement {
    enum value_type seen[STORE_ARGS_MAX]; /* the last type of each that was not null */
    struct variant *variants;
};

struct pg_conn {
    struct conn base;
    PGconn *pg;
    bool broken; /* the connection is lost, or its state is unknown */
    bool stale;  /* prepared statements must be made again */
    bool write;
    int64_t xid;           /* of this transaction, once asked for */
    struct map statements; /* SQL text → struct statement */
    int variants;
};

struct pg_rows {
    struct rows base;
    PGresult *result;
    int at, n;
    struct arena blobs; /* decoded, until the next row */
};

static struct pg_conn *of(struct conn *c)
{
    return (struct pg_conn *)c;
}

/* ---- errors ---- */

enum meaning { M_KIND, M_UNIQUE, M_REFERENCE, M_LOST, M_READ_ONLY, M_STALE };
static const struct {
    const char *state; /* a SQLSTATE or its beginning; the first that fits counts */
    enum meaning meaning;
    enum err_kind kind;
} states[] = {
    {"40001", M_KIND, ERR_SERIALIZATION},
    {"40P01", M_KIND, ERR_SERIALIZATION},
    {"23505", M_UNIQUE, ERR_CONFLICT},
    {"23503", M_REFERENCE, ERR_CONFLICT},
    {"0A000", M_STALE, ERR_INTERNAL},
    {"53100", M_KIND, ERR_FULL},
    {"53", M_KIND, ERR_UNAVAILABLE},
    {"55P03", M_KIND, ERR_UNAVAILABLE},
    {"57014", M_KIND, ERR_UNAVAILABLE},
    {"57P", M_LOST, ERR_SERIALIZATION},
    {"25P03", M_LOST, ERR_SERIALIZATION},
    {"08", M_LOST, ERR_SERIALIZATION},
    {"25006", M_READ_ONLY, ERR_INTERNAL},
    {"22021", M_KIND, ERR_INVALID},
    {"58", M_KIND, ERR_IO},
    {"XX001", M_KIND, ERR_CORRUPT},
    {"XX002", M_KIND, ERR_CORRUPT},
    {"", M_KIND, ERR_INTERNAL},
};

static int pg_lost(struct pg_conn *c, struct err *e)
{
    c->broken = true;
    return err_set(e, ERR_SERIALIZATION, "the connection to the database was lost");
}

static int pg_error(struct pg_conn *c, const PGresult *result, struct err *e)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state == NULL)
        return pg_lost(c, e);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    text = text != NULL ? text : state;
    size_t i = 0;
    while (!str_starts(state, states[i].state))
        i++;
    enum err_kind kind = states[i].kind;
    switch (states[i].meaning) {
    case M_UNIQUE:
        return err_code(e, kind, STORE_UNIQUE, "exists already (%s)", text);
    case M_REFERENCE:
        return err_code(e, kind, STORE_REFERENCE,
                        "something refers to it, or it refers to something that is not there (%s)",
                        text);
    case M_LOST:
        return pg_lost(c, e);
    case M_READ_ONLY:
        if (c->write) /* a standby: after a failover the address may lead to the right one */
            return err_set(e, ERR_UNAVAILABLE, "the database takes no writes (%s)", text);
        return err_set(e, kind, "database: a read may not write (%s)", text);
    case M_STALE:
        /* A table changed under a prepared statement; every other "not supported" is a bug. */
        if (strstr(text, "cached plan") != NULL) {
            c->stale = true;
            kind = ERR_SERIALIZATION;
        }
        break;
    case M_KIND:
        break;
    }
    if (kind == ERR_FULL)
        return err_set(e, kind, "the disk of the database is full");
    return err_set(e, kind, "database: %s", text);
}

/* The last result of what was sent, as PQexec() gives it, or NULL when the connection is lost or
 * the server took longer than limit_us (0: none). */
static PGresult *pg_answer(struct pg_conn *c, int sent, int64_t limit_us)
{
    PGresult *last = NULL;
    int64_t until_us = store_clock_us() + limit_us;
    bool lost = !sent;
    while (!lost) {
        if (!PQisBusy(c->pg)) {
            PGresult *next = PQgetResult(c->pg);
            if (next == NULL)
                return last;
            PQclear(last);
            last = next;
            continue;
        }
        struct pollfd fd = {PQsocket(c->pg), POLLIN, 0};
        int64_t left_ms = limit_us > 0 ? (until_us - store_clock_us()) / 1000 + 1 : -1;
        int n = limit_us > 0 && left_ms <= 0 ? 0 : poll(&fd, 1, (int)left_ms);
        lost = n == 0 || (n < 0 && errno != EINTR) || (n > 0 && !PQconsumeInput(c->pg));
    }
    PQclear(last);
    c->broken = true;
    return NULL;
}

static PGresult *pg_exec(struct pg_conn *c, const char *sql)
{
    return pg_answer(c, PQsendQuery(c->pg, sql), c->base.store->answer_us);
}

/* Takes the result over. */
static int pg_check(struct pg_conn *c, PGresult *result, struct err *e)
{
    ExecStatusType status = PQresultStatus(result);
    int kind = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? OK
                                                                       : pg_error(c, result, e);
    PQclear(result);
    return kind;
}

/* ---- connections ---- */

static int pg_open(struct store *s, struct err *e)
{
    if (str_starts(s->url, "postgresql+")) {
        const char *rest = strstr(s->url, "://");
        char *plain = mem_printf("postgresql%s", rest != NULL ? rest : "://");
        mem_free(s->url);
        s->url = plain;
    }
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(s->url, &why);
    int kind = OK;
    if (options == NULL)
        kind = err_set(e, ERR_INVALID, "the database address cannot be read%s%s",
                       why != NULL && strstr(why, "//") == NULL ? ": " : "",
                       why != NULL && strstr(why, "//") == NULL ? why : "");
    PQconninfoFree(options);
    PQfreemem(why);
    return kind;
}

static void pg_close(struct store *s)
{
}

static void pg_forget_statements(struct pg_conn *c)
{
    size_t at = 0;
    void *value;
    while (map_next(&c->statements, &at, NULL, &value)) {
        struct statement *st = value;
        while (st->variants != NULL) {
            struct variant *next = st->variants->next;
            mem_free(st->variants);
            st->variants = next;
        }
        mem_free(st);
    }
    map_fini(&c->statements);
    c->variants = 0;
    c->stale = false;
}

static void pg_disconnect(struct conn *base)
{
    struct pg_conn *c = of(base);
    pg_forget_statements(c);
    PQfinish(c->pg);
    mem_free(c);
}

static void pg_quiet(void *arg, const char *message)
{
}

static int pg_connect(struct store *s, bool write, struct conn **out, struct err *e)
{
    /* What stands before dbname is a default that the address may override. */
    static const char *const keys[] = {"connect_timeout",
                                       "tcp_user_timeout",
                                       "keepalives_idle",
                                       "fallback_application_name",
                                       "dbname",
                                       "client_encoding",
                                       NULL};
    const char *const values[] = {"5", "30000", "30", "drover", s->url, "UTF8", NULL};
    struct pg_conn *c = mem_alloc(sizeof(*c));
    c->base.store = s;
    c->pg = PQconnectdbParams(keys, values, 1);
    if (PQstatus(c->pg) != CONNECTION_OK) {
        err_set(e, ERR_UNAVAILABLE, "cannot reach the database: %s", PQerrorMessage(c->pg));
        if (e != NULL) {
            e->text[strcspn(e->text, "\n")] = '\0';
            e->retry_after_s = 1;
        }
        pg_disconnect(&c->base);
        return ERR_UNAVAILABLE;
    }
    PQsetNoticeProcessor(c->pg, pg_quiet, NULL);
    int kind = OK;
    if (PQserverVersion(c->pg) < VERSION_LEAST)
        kind = err_set(e, ERR_INVALID, "PostgreSQL %d is too old: 13 is needed",
                       PQserverVersion(c->pg) / 10000);
    /* A frozen process of ours must not keep locks for ever. */
    if (kind == OK)
        kind = pg_check(c,
                        pg_exec(c, "SET client_min_messages = error; SET TIME ZONE 'UTC';"
                                   "SET standard_conforming_strings = on;"
                                   "SET bytea_output = 'hex'; SET extra_float_digits = 1;"
                                   "SET idle_in_transaction_session_timeout = '60s'"),
                        e);
    if (kind != OK) {
        pg_disconnect(&c->base);
        if (kind == ERR_SERIALIZATION)
            kind = err_set(e, ERR_UNAVAILABLE, "the connection to the database was lost");
        return kind;
    }
    *out = &c->base;
    return OK;
}

static bool pg_usable(struct conn *base)
{
    struct pg_conn *c = of(base);
    return !c->broken && PQstatus(c->pg) == CONNECTION_OK &&
           PQtransactionStatus(c->pg) == PQTRANS_IDLE;
}

/* ---- transactions ---- */

static int pg_begin(struct conn *base, bool write, struct err *e)
{
    struct pg_conn *c = of(base);
    c->write = write;
    c->xid = 0;
    if (c->stale || c->variants > VARIANTS_MAX) {
        pg_forget_statements(c);
        int kind = pg_check(c, pg_exec(c, "DEALLOCATE ALL"), e);
        if (kind != OK)
            return kind;
    }
    return pg_check(c,
                    pg_exec(c, write ? "BEGIN ISOLATION LEVEL SERIALIZABLE"
                                     : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
                    e);
}

static int pg_commit(struct conn *base, struct err *e)
{
    struct pg_conn *c = of(base);
    PGresult *result = pg_exec(c, "COMMIT");
    if (PQresultStatus(result) == PGRES_COMMAND_OK) {
        /* COMMIT of a failed transaction "succeeds" as ROLLBACK. */
        bool done = strcmp(PQcmdStatus(result), "COMMIT") == 0;
        PQclear(result);
        return done ? OK : err_set(e, ERR_INTERNAL, "database: the transaction was rolled back");
    }
    int kind = pg_check(c, result, e);
    if (c->broken)
        kind = err_code(e, ERR_UNAVAILABLE, STORE_OUTCOME_UNKNOWN,
                        "the connection to the database was lost during the commit: it is "
                        "unknown whether the change was made");
    return kind;
}

static void pg_rollback(struct conn *base)
{
    struct pg_conn *c = of(base);
    if (!c->broken && pg_check(c, pg_exec(c, "ROLLBACK"), NULL) != OK)
        c->broken = true;
}

static bool pg_in_transaction(struct conn *base)
{
    return !of(base)->broken;
}

/* ---- statements ---- */

static int variant_make(struct pg_conn *c, const char *sql, const enum value_type *types, size_t n,
                        struct variant **out, struct err *e)
{
    AUTO(buf) struct buf text = {0};
    bool null_at[STORE_ARGS_MAX] = {0};
    Oid oids[STORE_ARGS_MAX];
    for (size_t i = 0; i < n; i++) {
        null_at[i] = types[i] == V_NULL;
        oids[i] = oid_of[types[i]];
    }
    int takes;
    sql_numbered(sql, null_at, &text, &takes);
    if (takes != (int)n)
        return err_set(e, ERR_INTERNAL, "%zu arguments for a statement that takes %d: %.200s", n,
                       takes, sql);
    struct variant *v = mem_alloc(sizeof(*v));
    snprintf(v->name, sizeof(v->name), "s%d", ++c->variants);
    int sent = PQsendPrepare(c->pg, v->name, buf_str(&text), (int)n, oids);
    int kind = pg_check(c, pg_answer(c, sent, c->base.store->answer_us), e);
    if (kind != OK) {
        mem_free(v);
        return kind;
    }
    if (n > 0)
        memcpy(v->types, types, n * sizeof(*types));
    *out = v;
    return OK;
}

static int variant_get(struct pg_conn *c, const char *sql, const struct value *args, size_t n,
                       struct variant **out, struct err *e)
{
    struct statement *st = map_get(&c->statements, sql);
    if (st == NULL) {
        st = mem_alloc(sizeof(*st));
        map_put(&c->statements, sql, st);
    }
    for (size_t i = 0; i < n; i++)
        if (args[i].type != V_NULL)
            st->seen[i] = args[i].type;
    for (struct variant *v = st->variants; v != NULL; v = v->next) {
        if (n == 0 || memcmp(v->types, st->seen, n * sizeof(*v->types)) == 0) {
            *out = v;
            return OK;
        }
    }
    struct variant *v = NULL;
    int kind = variant_make(c, sql, st->seen, n, &v, e);
    if (kind != OK)
        return kind;
    v->next = st->variants;
    st->variants = v;
    *out = v;
    return OK;
}

static int pg_run(struct pg_conn *c, const char *sql, const struct value *args, size_t n,
                  PGresult **out, struct err *e)
{
    struct variant *v = NULL;
    int kind = variant_get(c, sql, args, n, &v, e);
    if (kind != OK)
        return kind;
    uint64_t words[STORE_ARGS_MAX];
    const char *values[STORE_ARGS_MAX];
    int lengths[STORE_ARGS_MAX], formats[STORE_ARGS_MAX];
    for (size_t i = 0; i < n; i++) {
        formats[i] = 1;
        values[i] = (const char *)&words[i];
        lengths[i] = (int)sizeof(words[i]);
        switch (args[i].type) {
        case V_INT:
            words[i] = htobe64((uint64_t)args[i].i);
            break;
        case V_REAL:
            memcpy(&words[i], &args[i].r, sizeof(words[i]));
            words[i] = htobe64(words[i]);
            break;
        case V_TEXT:
        case V_BLOB:
            if (args[i].n > INT32_MAX)
                return err_set(e, ERR_TOO_LARGE, "a value of %zu bytes is too long", args[i].n);
            values[i] = args[i].s != NULL ? args[i].s : "";
            lengths[i] = (int)args[i].n;
            break;
        case V_NULL:
            values[i] = NULL;
            lengths[i] = 0;
            break;
        }
    }
    int sent = PQsendQueryPrepared(c->pg, v->name, (int)n, values, lengths, formats, 0);
    PGresult *result = pg_answer(c, sent, c->base.store->answer_us);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return pg_check(c, result, e);
    *out = result;
    return OK;
}

static int pg_query(struct conn *base, struct rows *rows, const char *sql, const struct value *args,
                    size_t n, struct err *e)
{
    struct pg_rows *r = (struct pg_rows *)rows;
    int kind = pg_run(of(base), sql, args, n, &r->result, e);
    if (kind != OK)
        return kind;
    rows->started = true;
    r->at = -1;
    r->n = PQntuples(r->result);
    return OK;
}

static int pg_next(struct rows *rows, bool *row, struct err *e)
{
    struct pg_rows *r = (struct pg_rows *)rows;
    arena_reset(&r->blobs);
    *row = ++r->at < r->n;
    return OK;
}

static void pg_finish(struct rows *rows)
{
    struct pg_rows *r = (struct pg_rows *)rows;
    arena_fini(&r->blobs);
    PQclear(r->result);
}

static int64_t pg_changes(struct rows *rows)
{
    int64_t n = 0;
    PGresult *result = ((struct pg_rows *)rows)->result;
    /* A SELECT counts its rows here; on SQLite it changes nothing. */
    if (!str_starts(PQcmdStatus(result), "SELECT"))
        str_int(PQcmdTuples(result), &n);
    return n;
}

static const char *cell(const struct rows *rows, int col)
{
    const struct pg_rows *r = (const struct pg_rows *)rows;
    return PQgetvalue(r->result, r->at, col);
}

static bool pg_is_null(const struct rows *rows, int col)
{
    const struct pg_rows *r = (const struct pg_rows *)rows;
    return r->at < 0 || col < 0 || col >= PQnfields(r->result) ||
           PQgetisnull(r->result, r->at, col);
}

static double pg_get_real(const struct rows *r, int col)
{
    const char *s = cell(r, col);
    return s[0] == 't' ? 1 : strtod(s, NULL);
}

static int64_t pg_get_int(const struct rows *r, int col)
{
    int64_t i;
    if (str_int(cell(r, col), &i))
        return i;
    /* a comparison is 't' or 'f' here and 1 or 0 on SQLite; fractions are cut off there too */
    double real = pg_get_real(r, col);
    if (!(real > -0x1p63))
        return isnan(real) ? 0 : INT64_MIN;
    return real < 0x1p63 ? (int64_t)real : INT64_MAX;
}

static const char *pg_get_text(const struct rows *r, int col)
{
    return cell(r, col);
}

static int hex_digit(char c)
{
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

static const void *pg_get_blob(const struct rows *rows, int col, size_t *n)
{
    struct pg_rows *r = (struct pg_rows *)(uintptr_t)rows;
    const char *s = cell(rows, col);
    size_t length = (size_t)PQgetlength(r->result, r->at, col);
    *n = length;
    if (PQftype(r->result, col) != OID_BYTEA || length < 2)
        return s;
    *n = (length - 2) / 2; /* \x, then two digits a byte */
    unsigned char *bytes = arena_alloc(&r->blobs, *n + 1);
    for (size_t i = 0; i < *n; i++)
        bytes[i] = (unsigned char)(hex_digit(s[2 + 2 * i]) << 4 | hex_digit(s[3 + 2 * i]));
    return bytes;
}

static int pg_script(struct conn *base, const char *sql, struct err *e)
{
    struct pg_conn *c = of(base);
    c->stale = true; /* what was prepared may speak of other tables now */
    return pg_check(c, pg_answer(c, PQsendQuery(c->pg, sql), 0), e);
}

/* ---- order of commits ---- */

static int pg_number(struct pg_conn *c, const char *sql, int64_t *out, struct err *e)
{
    PGresult *result;
    int kind = pg_run(c, sql, NO_ARGS, &result, e);
    if (kind != OK)
        return kind;
    if (!str_int(PQgetvalue(result, 0, 0), out))
        kind = err_set(e, ERR_INTERNAL, "database: not a number: %s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return kind;
}

static int pg_commit_order(struct conn *base, int64_t *out, struct err *e)
{
    struct pg_conn *c = of(base);
    int kind = c->xid != 0 ? OK : pg_number(c, "SELECT pg_current_xact_id()", &c->xid, e);
    if (kind == OK)
        *out = c->xid;
    return kind;
}

static int pg_visible_below(struct conn *base, int64_t *out, struct err *e)
{
    return pg_number(of(base), "SELECT pg_snapshot_xmin(pg_current_snapshot())", out, e);
}

static int pg_hold(struct conn *base, int64_t key, struct err *e)
{
    struct pg_conn *c = of(base);
    char sql[128];
    snprintf(sql, sizeof(sql), "SET lock_timeout = '120s'; SELECT pg_advisory_lock(%lld)",
             (long long)key);
    return pg_check(c, pg_answer(c, PQsendQuery(c->pg, sql), 0), e);
}

const struct engine engine_postgres = {
    .kind = STORE_POSTGRES,
    .writers = 0,
    .group_max = 1,
    .rows_size = sizeof(struct pg_rows),
    .open = pg_open,
    .close = pg_close,
    .connect = pg_connect,
    .disconnect = pg_disconnect,
    .usable = pg_usable,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .in_transaction = pg_in_transaction,
    .query = pg_query,
    .next = pg_next,
    .finish = pg_finish,
    .changes = pg_changes,
    .is_null = pg_is_null,
    .get_int = pg_get_int,
    .get_real = pg_get_real,
    .get_text = pg_get_text,
    .get_blob = pg_get_blob,
    .script = pg_script,
    .commit_order = pg_commit_order,
    .visible_below = pg_visible_below,
    .hold = pg_hold,
};
