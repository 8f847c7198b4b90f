/* A request's life: from the headers to the sent answer.
 *
 * What must stay true: nothing a handler wrote is sent before its transaction has committed; a
 * request is answered exactly once; a refused request changes nothing. */
#include "core/router.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_DEFAULT = 1 << 20, PAIRS_MAX = 64, RETRY_AFTER_S = 1 };

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

/* ---- answering ---- */

void request_header(struct request *q, const char *name, const char *value)
{
    if (q->n_headers < REQUEST_HEADERS_MAX)
        q->headers[q->n_headers++] = (struct http_header_pair){name, arena_strdup(q->arena, value)};
}

int request_answer(struct request *q, int status, const struct view *v, const void *obj)
{
    buf_reset(&q->out);
    struct json j = json_to(&q->out);
    q->status = status;
    q->type = "application/json";
    if (q->surface->wrap != NULL)
        q->surface->wrap(q, &j, v, obj);
    else
        view_write(&j, v, obj);
    return OK;
}

int request_answer_raw(struct request *q, int status, const char *type, const char *body, size_t n)
{
    buf_reset(&q->out);
    q->status = status;
    q->type = type;
    buf_add(&q->out, body, n);
    return OK;
}

int request_answer_empty(struct request *q, int status)
{
    buf_reset(&q->out);
    q->status = status;
    q->type = NULL;
    return OK;
}

int request_invalid(struct request *q, struct err *e, const char *field, const char *rule,
                    const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct err text;
    err_setv(&text, ERR_INVALID, fmt, ap);
    va_end(ap);
    issues_enter(&q->issues, "body", 0);
    issues_enter(&q->issues, field, 0);
    issue_add(&q->issues, rule, NULL, NULL, "%s", text.text);
    issues_leave(&q->issues);
    issues_leave(&q->issues);
    return err_set(e, ERR_INVALID, "%s: %s", field, text.text);
}

static void add_cors(struct request *q, struct http_answer *a)
{
    const char *origin = http_header(q->http, "Origin");
    if (origin == NULL)
        return;
    bool ok = q->router->origin_any;
    for (size_t i = 0; !ok && i < q->router->origins.n; i++)
        ok = strcmp(q->router->origins.items[i], origin) == 0;
    if (!ok)
        return;
    a->headers[a->n_headers++] = (struct http_header_pair){"Access-Control-Allow-Origin", origin};
    a->headers[a->n_headers++] = (struct http_header_pair){"Access-Control-Allow-Credentials",
                                                           "true"};
    a->headers[a->n_headers++] = (struct http_header_pair){
        "Access-Control-Expose-Headers", "X-Request-ID, X-Total-Count, ETag, Retry-After"};
    a->headers[a->n_headers++] = (struct http_header_pair){"Vary", "Origin"};
}

static void add_headers(struct request *q, struct http_answer *a)
{
    a->headers[a->n_headers++] = (struct http_header_pair){"X-Request-ID", q->request_id};
    a->headers[a->n_headers++] = (struct http_header_pair){"X-Content-Type-Options", "nosniff"};
    for (size_t i = 0; i < q->n_headers; i++)
        a->headers[a->n_headers++] = q->headers[i];
    add_cors(q, a);
}

static void request_count(struct request *q, int status)
{
    if (q->route == NULL)
        return;
    struct route_row *row = NULL;
    for (size_t i = 0; i < q->router->n && row == NULL; i++)
        if (q->router->rows[i].route == q->route)
            row = &q->router->rows[i];
    if (row == NULL)
        return;
    int64_t us = mono_us() - q->began_us;
    int b = 0;
    while (b < DURATION_BUCKETS && (double)us / 1e6 > duration_bucket_s[b])
        b++;
    atomic_fetch_add_explicit(&row->buckets[b], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->sum_us, (uint64_t)us, memory_order_relaxed);
    if (status >= 100 && status < 600)
        atomic_fetch_add_explicit(&row->by_status[status / 100], 1, memory_order_relaxed);
}

static void request_send(struct request *q)
{
    struct http_answer a = {.status = q->status,
                            .type = q->type,
                            .body = q->out.data,
                            .n = q->out.len,
                            .etag = q->etag && q->status == 200};
    if (q->out.overflow) {
        a.status = 500;
        a.n = 0;
        log_error("requests", "%s %s: the answer is larger than %d bytes", http_method(q->http),
                  http_path(q->http), BUF_MAX_DEFAULT);
    }
    add_headers(q, &a);
    request_count(q, a.status);
    http_respond(q->http, &a);
}

struct http_stream *request_stream(struct request *q, const char *type,
                                   const struct http_stream_ops *ops, void *ctx)
{
    struct http_answer a = {.status = 200, .type = type};
    add_headers(q, &a);
    request_count(q, a.status);
    return http_respond_stream(q->http, &a, ops, ctx);
}

static bool hidden_kind(enum err_kind kind)
{
    return kind == ERR_INTERNAL || kind == ERR_IO || kind == ERR_CORRUPT;
}

static void request_fail(struct request *q, const struct err *cause)
{
    struct err e = *cause;
    if (hidden_kind(e.kind)) {
        /* the cause is ours: logged with the id that the caller sees, not told */
        log_error("requests", "%s %s (%s): %s", http_method(q->http), http_path(q->http),
                  q->request_id, e.text);
        err_set(&e, ERR_INTERNAL, "Internal Server Error");
    }
    q->status = q->surface->status_of != NULL ? q->surface->status_of(q, &e)
                                              : err_row(e.kind)->http_status;
    if (e.kind == ERR_INVALID && q->issues.n > 0 && q->issues.items[0].depth > 0 &&
        q->issues.items[0].loc[0].name != NULL &&
        strcmp(q->issues.items[0].loc[0].name, "path") == 0)
        q->status = q->surface->bad_path_status;
    buf_reset(&q->out);
    struct json j = json_to(&q->out);
    q->surface->error(q, &j, &e);
    q->type = q->surface->error_type;
    q->etag = false;
    if (q->status == 401)
        request_header(q, "WWW-Authenticate", "Bearer");
    if (e.kind == ERR_LIMITED || e.kind == ERR_UNAVAILABLE) {
        char after[16];
        snprintf(after, sizeof(after), "%d", e.retry_after_s > 0 ? e.retry_after_s : RETRY_AFTER_S);
        request_header(q, "Retry-After", after);
    }
    request_send(q);
}

/* ---- reading ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* application/x-www-form-urlencoded to pairs; false: a bad escape or too many. */
static bool read_pairs(const char *s, size_t n, struct arena *a, struct pair *out, size_t *count)
{
    *count = 0;
    const char *end = s + n;
    while (s < end) {
        const char *stop = memchr(s, '&', (size_t)(end - s));
        if (stop == NULL)
            stop = end;
        char *text = arena_alloc(a, (size_t)(stop - s) + 2), *to = text;
        char *value = NULL;
        for (const char *c = s; c < stop; c++) {
            if (*c == '=' && value == NULL) {
                *to++ = '\0';
                value = to;
            } else if (*c == '+') {
                *to++ = ' ';
            } else if (*c == '%') {
                if (stop - c < 3 || hex(c[1]) < 0 || hex(c[2]) < 0)
                    return false;
                *to = (char)(hex(c[1]) * 16 + hex(c[2]));
                if (*to++ == '\0')
                    return false;
                c += 2;
            } else {
                *to++ = *c;
            }
        }
        *to = '\0';
        if (*text != '\0' || value != NULL) {
            if (*count == PAIRS_MAX)
                return false;
            out[(*count)++] = (struct pair){text, value != NULL ? value : to};
        }
        s = stop + 1;
    }
    return true;
}

static bool content_is(const char *type, const char *want)
{
    size_t n = strlen(want);
    return type != NULL && strncasecmp(type, want, n) == 0 &&
           (type[n] == '\0' || type[n] == ';' || type[n] == ' ');
}

static int parse_query(struct request *q, struct err *e)
{
    struct pair pairs[PAIRS_MAX];
    size_t n = 0;
    const char *raw = http_query(q->http);
    if (!read_pairs(raw, strlen(raw), q->arena, pairs, &n))
        return err_set(e, ERR_MALFORMED,
                       "the query cannot be read: a bad %% escape, or more than "
                       "%d members",
                       PAIRS_MAX);
    if (q->route->query == NULL)
        return OK;
    q->query = arena_alloc(q->arena, q->route->query->size);
    issues_enter(&q->issues, "query", 0);
    unsigned how = q->surface->parse;
    if (how & PARSE_CLOSED) {
        /* one-time credentials travel in the query of WebSockets and streams */
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (strcmp(pairs[i].name, "ticket") != 0 && strcmp(pairs[i].name, "token") != 0)
                pairs[kept++] = pairs[i];
        n = kept;
    }
    view_parse_pairs(q->route->query, pairs, n, how, q->query, q->arena, &q->issues);
    issues_leave(&q->issues);
    return OK;
}

static int parse_body(struct request *q, struct err *e)
{
    const struct route *t = q->route;
    if (t->body == NULL)
        return OK;
    size_t n = 0;
    const char *body = http_body(q->http, &n);
    const char *type = http_header(q->http, "Content-Type");
    q->body = arena_alloc(q->arena, t->body->size);
    if (n == 0 && (t->flags & ROUTE_BODY_OPTIONAL)) {
        body = "{}";
        n = 2;
        type = NULL;
    }
    issues_enter(&q->issues, "body", 0);
    int rc = OK;
    if (t->flags & ROUTE_FORM) {
        struct pair pairs[PAIRS_MAX];
        size_t count = 0;
        if (type != NULL && !content_is(type, "application/x-www-form-urlencoded"))
            rc = err_set(e, ERR_MEDIA_TYPE,
                         "send the body as application/x-www-form-urlencoded, not %.100s", type);
        else if (!read_pairs(body, n, q->arena, pairs, &count))
            rc = err_set(e, ERR_MALFORMED, "the form cannot be read");
        else
            view_parse_pairs(t->body, pairs, count, q->surface->parse, q->body, q->arena,
                             &q->issues);
    } else if (type != NULL && !content_is(type, "application/json") &&
               strstr(type, "+json") == NULL) {
        rc = err_set(e, ERR_MEDIA_TYPE, "send the body as application/json, not %.100s", type);
    } else {
        struct jv *root = NULL;
        size_t at = 0;
        struct err fault;
        if (n == 0) {
            issue_add(&q->issues, "missing", NULL, NULL, "Field required");
        } else if (jv_parse(body, n, &root, &at, &fault) != OK) {
            issues_enter(&q->issues, NULL, (int64_t)at);
            struct buf b = {0};
            struct json j = json_to(&b);
            json_open(&j, '{');
            json_ktext(&j, "error", fault.text);
            json_close(&j, '}');
            issue_add(&q->issues, "json_invalid", "{}", arena_strdup(q->arena, buf_str(&b)),
                      "JSON decode error");
            buf_fini(&b);
            issues_leave(&q->issues);
        } else {
            q->json = root;
            view_parse(t->body, root, q->surface->parse, q->body, q->arena, &q->issues);
        }
    }
    issues_leave(&q->issues);
    return rc;
}

static int parse_all(struct request *q, struct pair *params, size_t n_params, struct err *e)
{
    int rc;
    if (q->route->params != NULL) {
        q->params = arena_alloc(q->arena, q->route->params->size);
        issues_enter(&q->issues, "path", 0);
        view_parse_pairs(q->route->params, params, n_params, 0, q->params, q->arena, &q->issues);
        issues_leave(&q->issues);
    }
    if ((rc = parse_query(q, e)) != OK || (rc = parse_body(q, e)) != OK)
        return rc;
    if (q->issues.n > 0)
        return err_set(e, ERR_INVALID, "%s: %s", issue_field(&q->issues.items[0], q->arena),
                       q->issues.items[0].message);
    return OK;
}

/* ---- the life ---- */

struct life { /* what the stages hand on; http_user() of the request */
    struct request q;
    struct route_match match;
    struct err e;
    size_t headers; /* of the answer before the handler added its own */
    int64_t idem_hash;
    const char *idem_key;
};

static struct life *life_of(struct request *q)
{
    return (struct life *)q;
}

void request_done(struct request *q, const struct err *e)
{
    err_lang_set(q->lang);
    if (e == NULL || e->kind == OK)
        request_send(q);
    else
        request_fail(q, e);
    err_lang_set(LANG_EN);
}

static int check_rate(struct request *q, struct err *e)
{
    const struct route *t = q->route;
    bool strict = t->flags & ROUTE_STRICT_LIMIT;
    if (!q->router->limit_on || (t->flags & ROUTE_NO_LIMIT))
        return OK;
    if (!strict && (q->who.via == VIA_TRUSTED || q->who.via == VIA_UNIX ||
                    q->who.via == VIA_TOKEN || q->who.via == VIA_AGENT))
        return OK;
    char key[128];
    if (strict || q->who.via == VIA_NOBODY)
        snprintf(key, sizeof(key), "%s:%s", strict ? "sign-in" : "address", http_peer(q->http));
    else
        snprintf(key, sizeof(key), "user:%lld", (long long)q->who.user_id);
    if (strict && strcmp(http_peer(q->http), "unix") == 0)
        return OK;
    struct limit_state s;
    bool ok = limit_take(q->router->limits, key,
                         strict ? q->router->limit_sign_in : q->router->limit_default, &s);
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)s.limit);
    request_header(q, "X-RateLimit-Limit", text);
    snprintf(text, sizeof(text), "%lld", (long long)s.remaining);
    request_header(q, "X-RateLimit-Remaining", text);
    snprintf(text, sizeof(text), "%lld", (long long)s.reset_at_s);
    request_header(q, "X-RateLimit-Reset", text);
    if (ok)
        return OK;
    err_set(e, ERR_LIMITED, "too many requests: %lld a minute are welcome", (long long)s.limit);
    e->retry_after_s = s.retry_after_s;
    return ERR_LIMITED;
}

/* Gives a kept answer for a repeated Idempotency-Key; *again tells that it did. */
static int idem_replay(struct request *q, struct tx *tx, bool *again, struct err *e)
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
    else if (*again)
        rc = request_answer_raw(q, (int)row_int(r, 1), "application/json", row_text(r, 2),
                                strlen(row_text(r, 2)));
    int end = rows_end(r, rc == OK ? e : NULL);
    return rc != OK ? rc : end;
}

static bool changes(const struct request *q)
{
    return strcmp(q->route->method, "GET") != 0 && strcmp(q->route->method, "WS") != 0;
}

static int run_in_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct request *q = ctx;
    struct life *l = life_of(q);
    err_lang_set(q->lang);
    q->n_headers = l->headers; /* it may run again after a commit that failed */
    buf_reset(&q->out);
    q->issues.n = 0;
    q->status = 0;
    bool again = false;
    int rc = OK;
    if (l->idem_key != NULL)
        rc = idem_replay(q, tx, &again, e);
    if (rc == OK && !again) {
        rc = q->route->handle(q, tx, e);
        if (rc == REQUEST_TAKEN)
            return rc;
        if (rc == OK && l->idem_key != NULL)
            rc = tx_exec(tx,
                         "INSERT INTO idempotency(owner, route, key, body_hash, status, answer, at)"
                         " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                         ARGS(v_int(q->who.user_id), v_text(q->route->name), v_text(l->idem_key),
                              v_int(l->idem_hash), v_int(q->status), v_text(buf_str(&q->out)),
                              v_int(now_us())),
                         NULL, e);
        if (rc == OK && changes(q) && !(q->route->flags & ROUTE_NO_AUDIT) &&
            q->router->audit != NULL)
            rc = q->router->audit(tx, q, "ok", e);
    }
    err_lang_set(LANG_EN);
    return rc;
}

/* A refused change is written down too, in a transaction of its own that nobody waits for. */
struct refusal {
    struct life *life;
    const char *outcome;
};

static int refusal_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct refusal *r = ctx;
    return r->life->q.router->audit(tx, &r->life->q, r->outcome, e);
}

static void refusal_done(void *ctx, const struct err *e)
{
    struct refusal *r = ctx;
    if (e->kind != OK)
        log_warning("audit", "a refused change was not written down: %s", e->text);
    err_lang_set(r->life->q.lang);
    request_fail(&r->life->q, &r->life->e);
    err_lang_set(LANG_EN);
}

static void fail(struct request *q, const struct err *e)
{
    struct life *l = life_of(q);
    bool worth = q->route != NULL && changes(q) && !(q->route->flags & ROUTE_NO_AUDIT) &&
                 q->router->audit != NULL &&
                 (e->kind == ERR_FORBIDDEN || e->kind == ERR_UNAUTHENTICATED ||
                  (q->route->flags & ROUTE_STRICT_LIMIT && e->kind == ERR_MALFORMED));
    if (!worth) {
        request_fail(q, e);
        return;
    }
    l->e = *e;
    struct refusal *r = arena_alloc(q->arena, sizeof(*r));
    *r = (struct refusal){l, err_row(e->kind)->name};
    store_tx_async(house_store(q->house), refusal_tx, r, refusal_done, r);
}

static void tx_done(void *ctx, const struct err *e)
{
    struct request *q = ctx;
    err_lang_set(q->lang);
    if (e->kind == OK) {
        request_send(q);
    } else {
        q->n_headers = life_of(q)->headers;
        fail(q, e);
    }
    err_lang_set(LANG_EN);
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

static int read_idempotency(struct request *q, struct err *e)
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

static int admit(struct request *q, bool fast, struct err *e)
{
    int rc = OK;
    bool live = q->route->flags & ROUTE_LIVE;
    if (q->router->authenticate != NULL)
        rc = q->router->authenticate(q->house, q, fast, &q->who, e);
    if (live && rc == ERR_UNAUTHENTICATED) {
        q->refused = ERR_FORBIDDEN;
        return OK;
    }
    if (rc == OK)
        rc = access_check(q->route->access, &q->who, q->route->permission, e);
    if (live && (rc == ERR_UNAUTHENTICATED || rc == ERR_FORBIDDEN)) {
        q->refused = (enum err_kind)rc;
        rc = OK;
    }
    return rc;
}

/* On a worker: everything up to the transaction. */
static void request_work(void *ctx)
{
    struct request *q = ctx;
    struct life *l = life_of(q);
    struct err e = {0};
    err_lang_set(q->lang);
    int rc;
    if ((q->route->flags & ROUTE_STRICT_LIMIT) && (rc = check_rate(q, &e)) != OK)
        goto out; /* before the password is looked at */
    if ((rc = admit(q, false, &e)) != OK)
        goto out;
    if (!(q->route->flags & ROUTE_STRICT_LIMIT) && (rc = check_rate(q, &e)) != OK)
        goto out;
    if (http_too_large(q->http)) {
        rc = err_set(&e, ERR_TOO_LARGE, "the body is larger than %lld bytes",
                     (long long)(q->route->body_max > 0 ? q->route->body_max : BODY_DEFAULT));
        goto out;
    }
    if ((rc = parse_all(q, l->match.params, l->match.n_params, &e)) != OK ||
        (rc = read_idempotency(q, &e)) != OK)
        goto out;
    if (q->route->prepare != NULL && (rc = q->route->prepare(q, &e)) != OK)
        goto out;
    if (q->route->flags & ROUTE_NO_TX || q->route->memory != NULL) {
        handler_fn *fn = q->route->memory != NULL ? q->route->memory : q->route->handle;
        rc = fn(q, NULL, &e);
    } else if (changes(q) || (q->route->flags & ROUTE_WRITE_GET)) {
        l->headers = q->n_headers;
        store_tx_async(house_store(q->house), run_in_tx, q, tx_done, q);
        err_lang_set(LANG_EN);
        return;
    } else {
        l->headers = q->n_headers;
        rc = store_read(house_store(q->house), run_in_tx, q, &e);
        if (rc != OK && rc != REQUEST_TAKEN)
            q->n_headers = l->headers;
    }
    if (rc == REQUEST_TAKEN) {
        err_lang_set(LANG_EN);
        return;
    }
out:
    err_lang_set(q->lang);
    if (rc == OK)
        request_send(q);
    else
        fail(q, &e);
    err_lang_set(LANG_EN);
}

/* "zh-CN,zh;q=0.9,en;q=0.8" → zh when it comes before en. */
static enum lang accept_language(struct request *q)
{
    const char *s = http_header(q->http, "Accept-Language");
    if (s == NULL)
        return strcmp(setting_text(q->house, "DEFAULT_LANG"), "zh") == 0 ? LANG_ZH : LANG_EN;
    const char *zh = strcasestr(s, "zh"), *en = strcasestr(s, "en");
    return zh != NULL && (en == NULL || zh < en) ? LANG_ZH : LANG_EN;
}

static void preflight(struct request *q)
{
    const char *asked = http_header(q->http, "Access-Control-Request-Headers");
    const char *origin = http_header(q->http, "Origin");
    if (origin != NULL) {
        request_header(q, "Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS");
        if (asked != NULL && strlen(asked) < 1024)
            request_header(q, "Access-Control-Allow-Headers", asked);
        request_header(q, "Access-Control-Max-Age", "600");
    }
    request_answer_empty(q, 204);
    request_send(q);
}

int64_t request_head(void *ctx, struct http_request *http)
{
    struct router *r = ctx;
    struct arena *a = http_arena(http);
    struct life *l = arena_alloc(a, sizeof(*l));
    struct request *q = &l->q;
    http_set_user(http, l);
    q->router = r;
    q->house = r->house;
    q->http = http;
    q->arena = a;
    q->issues.arena = a;
    q->began_us = mono_us();
    q->lang = accept_language(q);
    const char *sent = http_header(http, "X-Request-ID");
    if (sent != NULL && uuid_is(sent))
        memcpy(q->request_id, sent, UUID_TEXT_SIZE);
    else
        uuid_v4(q->request_id);
    const char *path = http_path(http), *method = http_method(http);
    q->surface = router_surface(r, path);
    const char *upgrade = http_header(http, "Upgrade");
    bool ws = upgrade != NULL && strcasecmp(upgrade, "websocket") == 0;
    if (strcmp(method, "OPTIONS") == 0) {
        preflight(q);
        return -1;
    }
    l->match = router_match(r, method, ws, path, a);
    struct err e = {0};
    err_lang_set(q->lang);
    if (l->match.row == NULL) {
        if (l->match.allow[0] == '\0' && r->fallback != NULL && strcmp(method, "GET") == 0 &&
            r->fallback(r->fallback_ctx, http)) {
            err_lang_set(LANG_EN);
            return -1;
        }
        if (l->match.allow[0] != '\0') {
            request_header(q, "Allow", l->match.allow);
            err_set(&e, ERR_METHOD, "Method Not Allowed");
        } else {
            err_set(&e, ERR_NOT_FOUND, "Not Found");
        }
        request_fail(q, &e);
        err_lang_set(LANG_EN);
        return -1;
    }
    err_lang_set(LANG_EN);
    q->route = l->match.row->route;
    q->surface = l->match.row->surface;
    q->etag = q->route->flags & ROUTE_ETAG;
    return q->route->body_max > 0 ? q->route->body_max : BODY_DEFAULT;
}

void request_serve(void *ctx, struct http_request *http)
{
    struct router *r = ctx;
    struct request *q = http_user(http);
    struct life *l = life_of(q);
    struct err e = {0};
    if (q->route->memory != NULL) {
        err_lang_set(q->lang);
        int rc = admit(q, true, &e);
        if (rc != ERR_UNAVAILABLE) {
            if (rc == OK)
                rc = check_rate(q, &e);
            if (rc == OK)
                rc = parse_all(q, l->match.params, l->match.n_params, &e);
            if (rc == OK)
                rc = q->route->memory(q, NULL, &e);
            if (rc == OK)
                request_send(q);
            else if (rc != REQUEST_TAKEN)
                request_fail(q, &e);
            err_lang_set(LANG_EN);
            return;
        }
        err_lang_set(LANG_EN);
    }
    if (!house_run(r->house, request_work, q)) {
        err_set(&e, ERR_UNAVAILABLE, "the server is busy: try again in a second");
        request_fail(q, &e);
    }
}

void request_gone(void *ctx, struct http_request *http)
{
    struct request *q = http_user(http);
    if (q == NULL)
        return;
    buf_fini(&q->out);
    jv_free((struct jv *)(uintptr_t)q->json);
}
