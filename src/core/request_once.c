/* Changes that are made once (Idempotency-Key) and only to what the caller has seen (If-Match).
 *
 * What must stay true: both are decided inside the transaction of the change, so that nothing
 * comes between the look and the deed. */
#include "core/request_parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <string.h>

/* ---- idempotency keys: the answer of a create, kept to be given again ---- */

static const struct migration request_migrations[] = {
    {.id = 1002,
     .name = "idempotency keys",
     .script = "CREATE TABLE idempotency(owner $INT NOT NULL, route $TEXT NOT NULL,"
               " key $TEXT NOT NULL, body_hash $INT NOT NULL, status $INT NOT NULL,"
               " answer $TEXT NOT NULL, at $INT NOT NULL, PRIMARY KEY(owner, route, key));"
               "CREATE INDEX idempotency_at ON idempotency(at);"},
    {0},
};

static int forget_old_tx(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, "DELETE FROM idempotency WHERE at < ?1",
                   ARGS(v_int(now_us() - 24 * 3600 * US_PER_S)), NULL, e);
}

static void forget_old(struct house *h, void *state)
{
    struct err e = {0};
    if (store_tx(house_store(h), forget_old_tx, NULL, &e) != OK)
        log_warning("requests", "forgetting old idempotency keys: %s", e.text);
}

static const struct duty request_duties[] = {
    {.name = "forget old idempotency keys", .every_ms = 600 * 1000, .fn = forget_old},
};
const struct module request_module = {
    .name = "requests",
    .migrations = request_migrations,
    .duties = request_duties,
    .n_duties = ARRAY_LEN(request_duties),
};

int idem_replay(struct request *q, struct tx *tx, bool *again, struct err *e)
{
    struct life *l = life_of(q);
    struct rows *r = tx_query(
        tx,
        "SELECT body_hash, status, answer FROM idempotency"
        " WHERE owner = ?1 AND route = ?2 AND key = ?3",
        ARGS(v_int(q->who.user_id), v_text(q->route->name), v_text(l->idem_key)));
    int rc = OK;
    *again = rows_next(r);
    if (*again && row_int(r, 0) != l->idem_hash)
        rc = err_set(e, ERR_CONFLICT, "this Idempotency-Key was used for another request");
    else if (*again && row_int(r, 1) == 0)
        rc = err_set(e, ERR_CONFLICT,
                     "this Idempotency-Key was used already; the answer carried a secret, which is "
                     "shown once");
    else if (*again)
        rc = request_answer_raw(q, (int)row_int(r, 1), "application/json", row_text(r, 2),
                                strlen(row_text(r, 2)));
    int end = rows_end(r, rc == OK ? e : NULL);
    return rc != OK ? rc : end;
}

int idem_keep(struct request *q, struct tx *tx, struct err *e)
{
    struct life *l = life_of(q);
    /* a secret is told once and not kept: its row only says that the key was used */
    return tx_exec(tx,
                   "INSERT INTO idempotency(owner, route, key, body_hash, status, answer, at)"
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                   ARGS(v_int(q->who.user_id), v_text(q->route->name), v_text(l->idem_key),
                        v_int(l->idem_hash), v_int(q->secret ? 0 : q->status),
                        v_text(q->secret ? "" : buf_str(&q->out)), v_int(now_us())),
                   NULL, e);
}

/* What a repeated key must repeat: the target too, for the path of a change names what it hits. */
static int64_t request_hash(const char *target, const char *body, size_t n)
{
    uint64_t h = 1469598103934665603ULL;
    for (const char *c = target; *c != '\0'; c++)
        h = (h ^ (unsigned char)*c) * 1099511628211ULL;
    h *= 1099511628211ULL;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)body[i]) * 1099511628211ULL;
    return (int64_t)(h >> 1);
}

int idem_read(struct request *q, struct err *e)
{
    struct life *l = life_of(q);
    if (!(q->route->flags & ROUTE_IDEMPOTENT))
        return OK;
    const char *key = http_header(q->http, "Idempotency-Key");
    if (key == NULL)
        return OK;
    size_t n = strlen(key);
    if (n == 0 || n > 255 || utf8_len(key, n) == (size_t)-1)
        return err_set(e, ERR_MALFORMED, "Idempotency-Key must have 1 to 255 characters");
    l->idem_key = key;
    size_t m;
    const char *body = http_body(q->http, &m);
    l->idem_hash = request_hash(http_target(q->http), body, m);
    return OK;
}

/* ---- If-Match: a change of the state that the caller has seen, or none ---- */

/* The object as its GET answers it in this transaction. Its refusal (not found) is none of ours:
 * the change says so itself. */
static int read_now(struct request *q, struct tx *tx, const struct route *g, char etag[],
                    bool *there, struct err *e)
{
    struct life *l = life_of(q);
    struct request *get = arena_alloc(q->arena, sizeof(*get));
    *get = *q;
    get->route = g;
    get->out = (struct buf){0};
    get->issues = (struct issues){.arena = q->arena};
    get->params = get->query = get->body = NULL;
    get->json = NULL;
    int rc = request_parse_path(get, l->match.params, l->match.n_params);
    if (rc == OK)
        rc = request_parse_query(get, "", e);
    if (rc == OK)
        rc = g->memory != NULL ? g->memory(get, NULL, e) : g->handle(get, tx, e);
    *there = rc == OK && get->status == 200;
    if (*there)
        http_etag(get->out.data, get->out.len, etag);
    buf_fini(&get->out);
    return rc == OK || rc == ERR_NOT_FOUND || rc == ERR_INVALID || rc == ERR_FORBIDDEN ? OK : rc;
}

int match_check(struct request *q, struct tx *tx, struct err *e)
{
    const char *list = http_header(q->http, "If-Match");
    if (list == NULL || !route_conditional(q->route) || strcmp(list, "*") == 0)
        return OK; /* "*": what is not there is not found anyway */
    const struct route *g = route_reader(q->router, q->route);
    if (g == NULL)
        return err_set(e, ERR_PRECONDITION, "If-Match: this object has no ETag");
    char etag[HTTP_ETAG_SIZE];
    bool there = false;
    int rc = read_now(q, tx, g, etag, &there, e);
    if (rc != OK || !there || http_etag_match(list, etag))
        return rc;
    return err_set(e, ERR_PRECONDITION,
                   "it has changed since it was read: read it again, then send its new ETag as "
                   "If-Match");
}
