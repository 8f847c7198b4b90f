/* A request's life: from the headers to the sent answer.
 *
 * What must stay true: nothing a handler wrote is sent before its transaction has committed; a
 * request is answered exactly once; a refused request changes nothing. */
#include "core/request_parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    if (rc == OK && !again && changes(q))
        rc = match_check(q, tx, e);
    if (rc == OK && !again) {
        rc = q->route->handle(q, tx, e);
        if (rc == REQUEST_TAKEN)
            return rc;
        if (rc == OK && l->idem_key != NULL)
            rc = idem_keep(q, tx, e);
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

/* Beside its credential: a certificate of the authority, unless it is on this very host. */
static int agent_check(const struct request *q, struct err *e)
{
    if (q->route->access != ACCESS_AGENT || !q->router->agents_certified ||
        http_peer_unix(q->http, NULL, NULL) || http_peer_cert(q->http) != NULL)
        return OK;
    return err_set(e, ERR_FORBIDDEN,
                   "agents must show a client certificate here: its authority is "
                   "TLS_AGENT_CA_FILE of the server");
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
    if (rc == OK)
        rc = agent_check(q, e);
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
    if ((rc = request_parse(q, l->match.params, l->match.n_params, &e)) != OK ||
        (rc = idem_read(q, &e)) != OK)
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

/* "zh-CN,zh;q=0.9,en;q=0.8" → zh when it comes before en. A page cannot set a header of its
 * WebSocket: ?lang= says it there. */
static enum lang accept_language(struct request *q)
{
    const char *s = http_header(q->http, "Accept-Language");
    const char *asked = http_header(q->http, "Upgrade") != NULL
                            ? strstr(http_query(q->http), "lang=")
                            : NULL;
    if (asked != NULL)
        s = asked + strlen("lang=");
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

void request_begin(struct request *q, struct router *r, struct http_request *http)
{
    q->router = r;
    q->house = r->house;
    q->http = http;
    q->arena = http_arena(http);
    q->issues.arena = q->arena;
    q->began_us = mono_us();
    q->lang = accept_language(q);
    q->surface = router_surface(r, http_path(http));
    const char *sent = http_header(http, "X-Request-ID");
    if (sent != NULL && uuid_is(sent))
        memcpy(q->request_id, sent, UUID_TEXT_SIZE);
    else
        uuid_v4(q->request_id);
}

int64_t request_head(void *ctx, struct http_request *http)
{
    struct router *r = ctx;
    struct arena *a = http_arena(http);
    struct life *l = arena_alloc(a, sizeof(*l));
    struct request *q = &l->q;
    http_set_user(http, l);
    request_begin(q, r, http);
    const char *path = http_path(http), *method = http_method(http);
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
        if (l->match.upgrade_only && strcmp(method, "GET") == 0) {
            request_header(q, "Upgrade", "websocket");
            request_header(q, "Connection", "Upgrade");
            err_set(&e, ERR_UPGRADE, "Upgrade Required");
        } else if (l->match.allow[0] != '\0') {
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
                rc = request_parse(q, l->match.params, l->match.n_params, &e);
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
