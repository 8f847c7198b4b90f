/* SQLite: one connection that writes, some that read, WAL with an fsync for each commit.
 *
 * What must stay true:
 *  - One server has the file: a lock on FILE.lock, taken before anything is opened, names the
 *    process that holds it. (SQLite's own locks would let two servers take turns, each with its
 *    own idea of what it leads.)
 *  - A transaction of a group that leaves a foreign key open fails alone; the commit that is
 *    shared must not find it.
 *  - The whole transaction can be gone after any failed statement (disk full, I/O error): the
 *    caller asks in_transaction().
 *  - After an unclean stop no query is answered from a file whose pages are damaged.
 *  - The files are for their owner only: they hold hashes of credentials.
 */
#include "io/store_backend.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    GROUP_MAX = 256,       /* transactions under one commit */
    STATEMENTS_MAX = 2000, /* far above what the program has; bounds generated SQL */
    BUSY_MS = 5000,
    LOG_PAGES = 1000, /* 4 MiB: the log is written back when it has grown by this */
};

struct database {
    char *path;
    int lock_fd;
    bool opened;
    bool unclean; /* the process before us did not end in order */
};

enum fixed { BEGIN_WRITE, BEGIN_READ, COMMIT, ROLLBACK, PART_BEGIN, PART_KEEP, PART_UNDO, FIXED };
static const char *const fixed_sql[FIXED] = {
    [BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [BEGIN_READ] = "BEGIN",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [PART_BEGIN] = "SAVEPOINT part",
    [PART_KEEP] = "RELEASE part",
    [PART_UNDO] = "ROLLBACK TO part",
};

struct statement {
    sqlite3_stmt *s;
    bool busy;
    bool once; /* not in the map: made because the one in the map was in use */
};

struct sqlite_conn {
    struct conn base;
    sqlite3 *db;
    sqlite3_stmt *fixed[FIXED];
    struct map statements; /* SQL text → struct statement */
    bool reading;
    int log_pages, log_tidied; /* of the log: now, and at the last try to write it back */
};

struct sqlite_rows {
    struct rows base;
    struct sqlite_conn *conn;
    struct statement *st;
    int64_t total_before;
    int64_t changes;
};

static struct sqlite_conn *of(struct conn *c)
{
    return (struct sqlite_conn *)c;
}

/* ---- errors ---- */

/* The errno behind an I/O error; 0 if unknown. sqlite3_system_errno() is not set by a failing
 * COMMIT, so the files are asked, the log that every write goes to first. */
static int errno_behind(sqlite3 *db)
{
    static const int which[] = {SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER};
    for (size_t i = 0; i < ARRAY_LEN(which); i++) {
        sqlite3_file *file = NULL;
        int number = 0;
        if (sqlite3_file_control(db, "main", which[i], &file) == SQLITE_OK && file != NULL &&
            file->pMethods != NULL &&
            file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &number) == SQLITE_OK &&
            number != 0)
            return number;
    }
    return sqlite3_system_errno(db);
}

static int sqlite_error(sqlite3 *db, struct err *e)
{
    int code = sqlite3_extended_errcode(db);
    const char *text = sqlite3_errmsg(db);
    int number = (code & 0xff) == SQLITE_IOERR ? errno_behind(db) : 0;
    if ((code & 0xff) == SQLITE_FULL || number == ENOSPC || number == EDQUOT)
        return err_set(e, ERR_FULL, "the disk of the database is full");
    switch (code) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return err_code(e, ERR_CONFLICT, STORE_UNIQUE, "exists already (%s)", text);
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return err_code(e, ERR_CONFLICT, STORE_REFERENCE,
                        "something refers to it, or it refers to something that is not there (%s)",
                        text);
    default:
        break;
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(e, ERR_UNAVAILABLE, "another program holds the database (%s)", text);
    case SQLITE_IOERR:
        return err_set(e, ERR_IO, "database: %s (%s)", text,
                       number != 0 ? strerror(number) : "no cause given");
    case SQLITE_CANTOPEN:
        return err_set(e, ERR_IO, "database: %s", text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(e, ERR_CORRUPT, "database: %s", text);
    case SQLITE_READONLY:
        return err_set(e, ERR_INTERNAL, "database: a read may not write (%s)", text);
    default:
        return err_set(e, ERR_INTERNAL, "database: %s", text);
    }
}

/* ---- the file and its lock ---- */

static int lock_refused(const struct database *d, struct err *e)
{
    char pid[32] = "";
    ssize_t n = pread(d->lock_fd, pid, sizeof(pid) - 1, 0);
    pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
    return err_code(e, ERR_CONFLICT, STORE_IN_USE,
                    "%s is in use by another server (process %s): stop that one first", d->path,
                    pid[0] != '\0' ? pid : "unknown");
}

static int lock_take(struct database *d, struct err *e)
{
    char *path = mem_printf("%s.lock", d->path);
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    mem_free(path);
    if (d->lock_fd < 0)
        return err_sys(e, "cannot open %s.lock", d->path);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? lock_refused(d, e) : err_sys(e, "cannot lock %s", d->path);
    /* Who holds it, emptied in an orderly end: what is left of an earlier one tells that it had
     * none. A full disk here is no reason to stay away. */
    char text[32];
    d->unclean = lseek(d->lock_fd, 0, SEEK_END) > 0;
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(d->lock_fd, 0) == 0 && pwrite(d->lock_fd, text, (size_t)n, 0) != n)
        (void)ftruncate(d->lock_fd, 0);
    return OK;
}

/* ---- the check after an unclean stop ---- */

struct check {
    sqlite3 *db;
    int ms;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
};

static void *check_limit(void *arg)
{
    struct check *c = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += c->ms / 1000;
    until.tv_nsec += c->ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&c->lock);
    while (!c->done)
        if (pthread_cond_timedwait(&c->wake, &c->lock, &until) == ETIMEDOUT) {
            sqlite3_interrupt(c->db);
            break;
        }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Runs SQL under the limit; *text is the first column of the first row, in the arena. */
static int check_query(struct check *c, const char *sql, struct arena *a, const char **text)
{
    pthread_t limit;
    sqlite3_stmt *s = NULL;
    bool limited = pthread_create(&limit, NULL, check_limit, c) == 0;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        *text = arena_strdup(a, (const char *)sqlite3_column_text(s, 0));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    if (limited)
        pthread_join(limit, NULL);
    return rc & 0xff;
}

static int damaged(const struct database *d, const char *what, struct err *e)
{
    const char *line = strrchr(what, '\n'); /* the lines before it name the database only */
    return err_code(
        e, ERR_CORRUPT, STORE_DAMAGED,
        "%s is damaged (%s), so it is not used: put a backup in its place, or save what "
        "can be read with: sqlite3 %s .recover | sqlite3 saved.db",
        d->path, line != NULL ? line + 1 : what, d->path);
}

/* The cheapest look that finds damaged pages: quick_check reads each one, but compares no index
 * with its table. */
static int check_file(struct store *s, const struct database *d, struct err *e)
{
    AUTO(mem) char *log = mem_printf("%s-wal", d->path);
    struct stat st;
    if (!d->unclean && stat(log, &st) != 0)
        return OK; /* SQLite, too, leaves no log in an orderly end */
    struct check c = {.ms = s->check_ms};
    AUTO(arena) struct arena a = {0};
    const char *text = "ok";
    if (sqlite3_open_v2(d->path, &c.db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
        int kind = sqlite_error(c.db, e);
        sqlite3_close(c.db);
        return kind;
    }
    /* Until the server itself ends in order the log stays, as the sign that it did not. */
    sqlite3_db_config(c.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.wake, NULL);
    int rc = check_query(&c, "PRAGMA quick_check(1)", &a, &text);
    int kind = OK;
    if (rc == SQLITE_INTERRUPT)
        s->warning = mem_printf("%s was not checked whole after an unclean stop: %d ms were not "
                                "enough",
                                d->path, c.ms);
    else if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
        kind = damaged(d, sqlite3_errmsg(c.db), e);
    else if (rc != SQLITE_OK)
        kind = sqlite_error(c.db, e);
    else if (strcmp(text, "ok") != 0)
        kind = damaged(d, text, e);
    sqlite3_close(c.db);
    pthread_mutex_destroy(&c.lock);
    pthread_cond_destroy(&c.wake);
    return kind;
}

static void sqlite_once(void)
{
    /* Its memory counters cost a global lock at each allocation. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_initialize();
}

static int sqlite_open(struct store *s, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, sqlite_once);
    struct database *d = mem_alloc(sizeof(*d));
    s->engine_data = d;
    d->lock_fd = -1;
    const char *path = strchr(s->url, ':') + 1;
    if (str_starts(path, "///"))
        path += 3;
    else if (str_starts(path, "//"))
        path += 2;
    if (*path == '\0' || strcmp(path, ":memory:") == 0) {
        s->single = true;
        d->path = mem_strdup(":memory:");
        return OK;
    }
    d->path = mem_strdup(path);
    d->path[strcspn(d->path, "?")] = '\0'; /* options of other programs' drivers */
    int kind = lock_take(d, e);
    if (kind != OK)
        return kind;
    int fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, "cannot open %s", d->path);
    close(fd);
    kind = check_file(s, d, e);
    d->opened = kind == OK;
    return kind;
}

static void sqlite_close(struct store *s)
{
    struct database *d = s->engine_data;
    if (d == NULL)
        return;
    if (d->lock_fd >= 0) {
        if (d->opened) /* should it fail, the next start looks once for nothing */
            (void)ftruncate(d->lock_fd, 0);
        close(d->lock_fd);
    }
    mem_free(d->path);
    mem_free(d);
}

/* ---- connections ---- */

static void sqlite_disconnect(struct conn *base)
{
    struct sqlite_conn *c = of(base);
    for (int i = 0; i < FIXED; i++)
        sqlite3_finalize(c->fixed[i]);
    size_t at = 0;
    void *value;
    while (map_next(&c->statements, &at, NULL, &value)) {
        struct statement *st = value;
        sqlite3_finalize(st->s);
        mem_free(st);
    }
    map_fini(&c->statements);
    sqlite3_close(c->db);
    mem_free(c);
}

static int log_grew(void *arg, sqlite3 *db, const char *name, int pages)
{
    ((struct sqlite_conn *)arg)->log_pages = pages;
    return SQLITE_OK;
}

static const char pragmas[] = "PRAGMA journal_mode=WAL;"
                              "PRAGMA synchronous=FULL;"
                              "PRAGMA foreign_keys=ON;"
                              "PRAGMA temp_store=MEMORY;"
                              "PRAGMA trusted_schema=OFF;"
                              "PRAGMA cache_size=-16000;"
                              "PRAGMA journal_size_limit=67108864;";

static int sqlite_connect(struct store *s, bool write, struct conn **out, struct err *e)
{
    struct database *d = s->engine_data;
    struct sqlite_conn *c = mem_alloc(sizeof(*c));
    c->base.store = s;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(d->path, &c->db, flags, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(c->db, 1);
        sqlite3_busy_timeout(c->db, BUSY_MS);
        rc = sqlite3_exec(c->db, pragmas, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK && !write)
        rc = sqlite3_exec(c->db, "PRAGMA query_only=ON", NULL, NULL, NULL);
    if (write) /* in place of the checkpoint that SQLite would do inside a commit */
        sqlite3_wal_hook(c->db, log_grew, c);
    for (int i = 0; i < FIXED && rc == SQLITE_OK; i++)
        rc = sqlite3_prepare_v3(c->db, fixed_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &c->fixed[i],
                                NULL);
    if (rc != SQLITE_OK) {
        int kind = sqlite_error(c->db, e);
        err_wrap(e, "%s", d->path);
        sqlite_disconnect(&c->base);
        return kind;
    }
    *out = &c->base;
    return OK;
}

static bool sqlite_usable(struct conn *c)
{
    return c->store->single || sqlite3_get_autocommit(of(c)->db) != 0;
}

/* ---- the log ---- */

static bool sqlite_crowded(struct conn *base)
{
    struct sqlite_conn *c = of(base);
    if (c->log_pages < c->log_tidied)
        c->log_tidied = 0; /* it has started from its beginning */
    return c->log_pages >= c->log_tidied + LOG_PAGES;
}

/* A failure (a full disk) costs nothing but a longer log: everything in it is durable. */
static void sqlite_tidy(struct conn *base, bool alone)
{
    struct sqlite_conn *c = of(base);
    int mode = alone ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;
    sqlite3_busy_timeout(c->db, 0); /* not for a reader that is another program */
    sqlite3_wal_checkpoint_v2(c->db, "main", mode, NULL, NULL);
    sqlite3_busy_timeout(c->db, BUSY_MS);
    c->log_tidied = c->log_pages;
}

/* ---- transactions ---- */

static int sqlite_fixed(struct sqlite_conn *c, enum fixed which, struct err *e)
{
    int rc = sqlite3_step(c->fixed[which]);
    int kind = rc == SQLITE_DONE ? OK : sqlite_error(c->db, e);
    sqlite3_reset(c->fixed[which]);
    return kind;
}

static void query_only(struct sqlite_conn *c, bool on)
{
    if (c->base.store->single)
        sqlite3_exec(c->db, on ? "PRAGMA query_only=ON" : "PRAGMA query_only=OFF", NULL, NULL,
                     NULL);
}

static int sqlite_begin(struct conn *base, bool write, struct err *e)
{
    struct sqlite_conn *c = of(base);
    c->reading = !write;
    query_only(c, !write);
    return sqlite_fixed(c, write ? BEGIN_WRITE : BEGIN_READ, e);
}

static bool sqlite_in_transaction(struct conn *c)
{
    return sqlite3_get_autocommit(of(c)->db) == 0;
}

static int sqlite_commit(struct conn *base, struct err *e)
{
    return sqlite_fixed(of(base), COMMIT, e);
}

static void sqlite_rollback(struct conn *base)
{
    struct sqlite_conn *c = of(base);
    if (sqlite_in_transaction(base))
        sqlite_fixed(c, ROLLBACK, NULL);
    if (c->reading)
        query_only(c, false);
}

static int sqlite_part_begin(struct conn *c, struct err *e)
{
    return sqlite_fixed(of(c), PART_BEGIN, e);
}

static int sqlite_part_end(struct conn *base, bool keep, struct err *e)
{
    struct sqlite_conn *c = of(base);
    int kind = OK;
    if (keep) {
        int open_keys = 0, high = 0;
        sqlite3_db_status(c->db, SQLITE_DBSTATUS_DEFERRED_FKS, &open_keys, &high, 0);
        if (open_keys != 0)
            kind = err_code(e, ERR_CONFLICT, STORE_REFERENCE,
                            "it refers to something that is not there");
    }
    if (!keep || kind != OK) {
        struct err undo = {0};
        if (sqlite_fixed(c, PART_UNDO, &undo) != OK) {
            /* Nothing of the group may be kept when one of its parts cannot be undone. */
            sqlite_rollback(base);
            *e = undo;
            return undo.kind;
        }
    }
    int released = sqlite_fixed(c, PART_KEEP, kind == OK ? e : NULL);
    return kind != OK ? kind : released;
}

/* ---- statements ---- */

static int statement_new(struct sqlite_conn *c, const char *sql, struct statement **out,
                         struct err *e)
{
    sqlite3_stmt *s = NULL;
    const char *tail = NULL;
    if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, &tail) != SQLITE_OK)
        return sqlite_error(c->db, e);
    if (s == NULL || tail[strspn(tail, " \t\r\n;")] != '\0') {
        sqlite3_finalize(s);
        return err_set(e, ERR_INTERNAL, "not one statement: %.200s", sql);
    }
    *out = mem_alloc(sizeof(**out));
    (*out)->s = s;
    return OK;
}

static void statements_drop_idle(struct sqlite_conn *c)
{
    struct map kept = {0};
    size_t at = 0;
    const char *sql;
    void *value;
    while (map_next(&c->statements, &at, &sql, &value)) {
        struct statement *st = value;
        if (st->busy) {
            map_put(&kept, sql, st);
        } else {
            sqlite3_finalize(st->s);
            mem_free(st);
        }
    }
    map_fini(&c->statements);
    c->statements = kept;
}

static int statement_get(struct sqlite_conn *c, const char *sql, struct statement **out,
                         struct err *e)
{
    struct statement *st = map_get(&c->statements, sql);
    if (st == NULL || st->busy) {
        bool once = st != NULL;
        int kind = statement_new(c, sql, &st, e);
        if (kind != OK)
            return kind;
        st->once = once;
        if (!once) {
            if (c->statements.n >= STATEMENTS_MAX)
                statements_drop_idle(c);
            map_put(&c->statements, sql, st);
        }
    }
    st->busy = true;
    *out = st;
    return OK;
}

static int statement_bind(sqlite3_stmt *s, int at, const struct value *v)
{
    switch (v->type) {
    case V_INT:
        return sqlite3_bind_int64(s, at, v->i);
    case V_REAL:
        return sqlite3_bind_double(s, at, v->r);
    case V_TEXT:
        return sqlite3_bind_text64(s, at, v->s, v->n, SQLITE_TRANSIENT, SQLITE_UTF8);
    case V_BLOB:
        /* a NULL pointer would become a null */
        return sqlite3_bind_blob64(s, at, v->s != NULL ? v->s : "", v->n, SQLITE_TRANSIENT);
    case V_NULL:
        break;
    }
    return sqlite3_bind_null(s, at);
}

static void sqlite_finish(struct rows *base)
{
    struct sqlite_rows *r = (struct sqlite_rows *)base;
    sqlite3_reset(r->st->s);
    sqlite3_clear_bindings(r->st->s);
    r->st->busy = false;
    if (r->st->once) {
        sqlite3_finalize(r->st->s);
        mem_free(r->st);
    }
}

static int sqlite_query(struct conn *base, struct rows *rows, const char *sql,
                        const struct value *args, size_t n, struct err *e)
{
    struct sqlite_conn *c = of(base);
    struct sqlite_rows *r = (struct sqlite_rows *)rows;
    int kind = statement_get(c, sql, &r->st, e);
    if (kind != OK)
        return kind;
    r->conn = c;
    rows->started = true;
    r->total_before = sqlite3_total_changes64(c->db);
    if (sqlite3_bind_parameter_count(r->st->s) != (int)n)
        return err_set(e, ERR_INTERNAL, "%zu arguments for a statement that takes %d: %.200s", n,
                       sqlite3_bind_parameter_count(r->st->s), sql);
    for (size_t i = 0; i < n; i++)
        if (statement_bind(r->st->s, (int)i + 1, &args[i]) != SQLITE_OK)
            return sqlite_error(c->db, e);
    return OK;
}

static int sqlite_next(struct rows *rows, bool *row, struct err *e)
{
    struct sqlite_rows *r = (struct sqlite_rows *)rows;
    int rc = sqlite3_step(r->st->s);
    *row = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_error(r->conn->db, e);
    /* Not the plain counter: after a statement that changes nothing it has the old value. */
    if (rc == SQLITE_DONE)
        r->changes = sqlite3_total_changes64(r->conn->db) != r->total_before
                         ? sqlite3_changes64(r->conn->db)
                         : 0;
    return OK;
}

static int64_t sqlite_changes(struct rows *rows)
{
    return ((struct sqlite_rows *)rows)->changes;
}

static sqlite3_stmt *cursor(const struct rows *rows)
{
    return ((const struct sqlite_rows *)rows)->st->s;
}

static bool sqlite_is_null(const struct rows *r, int col)
{
    return sqlite3_column_type(cursor(r), col) == SQLITE_NULL;
}

static int64_t sqlite_get_int(const struct rows *r, int col)
{
    return sqlite3_column_int64(cursor(r), col);
}

static double sqlite_get_real(const struct rows *r, int col)
{
    return sqlite3_column_double(cursor(r), col);
}

static const char *sqlite_get_text(const struct rows *r, int col)
{
    return (const char *)sqlite3_column_text(cursor(r), col);
}

static const void *sqlite_get_blob(const struct rows *r, int col, size_t *n)
{
    const void *p = sqlite3_column_blob(cursor(r), col);
    *n = (size_t)sqlite3_column_bytes(cursor(r), col);
    return p != NULL ? p : "";
}

static int sqlite_script(struct conn *c, const char *sql, struct err *e)
{
    return sqlite3_exec(of(c)->db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK
                                                                       : sqlite_error(of(c)->db, e);
}

/* ---- order of commits: one writer, so what a snapshot shows is a prefix of all commits ---- */

static int sqlite_commit_order(struct conn *c, int64_t *out, struct err *e)
{
    *out = 0;
    return OK;
}

static int sqlite_visible_below(struct conn *c, int64_t *out, struct err *e)
{
    *out = INT64_MAX;
    return OK;
}

const struct engine engine_sqlite = {
    .kind = STORE_SQLITE,
    .writers = 1,
    .group_max = GROUP_MAX,
    .rows_size = sizeof(struct sqlite_rows),
    .open = sqlite_open,
    .close = sqlite_close,
    .connect = sqlite_connect,
    .disconnect = sqlite_disconnect,
    .usable = sqlite_usable,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .part_begin = sqlite_part_begin,
    .part_end = sqlite_part_end,
    .in_transaction = sqlite_in_transaction,
    .query = sqlite_query,
    .next = sqlite_next,
    .finish = sqlite_finish,
    .changes = sqlite_changes,
    .is_null = sqlite_is_null,
    .get_int = sqlite_get_int,
    .get_real = sqlite_get_real,
    .get_text = sqlite_get_text,
    .get_blob = sqlite_get_blob,
    .script = sqlite_script,
    .crowded = sqlite_crowded,
    .tidy = sqlite_tidy,
    .commit_order = sqlite_commit_order,
    .visible_below = sqlite_visible_below,
};
