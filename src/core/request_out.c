/* The answer of a request: what a handler made, or an error in its surface's envelope, with the
 * headers that every answer has. */
#include "core/request_parts.h"

#include "base/log.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_AFTER_S = 1 };

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
    const struct jv *sent = q->json != NULL ? jv_get(q->json, field) : NULL;
    issue_add(&q->issues, rule, sent != NULL ? jv_dump(sent, q->arena) : NULL, NULL, "%s",
              text.text);
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
    histogram_add(&row->durations, &histogram_call_bounds, mono_us() - q->began_us);
    if (status >= 100 && status < 600)
        atomic_fetch_add_explicit(&row->by_status[status / 100], 1, memory_order_relaxed);
}

void request_send(struct request *q)
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

void request_error(struct request *q, const struct err *cause, int status)
{
    struct err e = *cause;
    if (hidden_kind(e.kind)) {
        /* the cause is ours: logged with the id that the caller sees, not told */
        log_error("requests", "%s %s (%s): %s", http_method(q->http), http_path(q->http),
                  q->request_id, e.text);
        err_set(&e, ERR_INTERNAL, "Internal Server Error");
    }
    if (status == 0)
        status = q->surface->status_of != NULL ? q->surface->status_of(q, &e)
                                               : err_row(e.kind)->http_status;
    q->status = status;
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
}

void request_fail(struct request *q, const struct err *cause)
{
    request_error(q, cause, 0);
    request_send(q);
}

/* What the HTTP server refuses by itself, before a route is known: in the envelope of the path as
 * far as the path could be read. */
void request_refuse(void *ctx, struct http_request *http, const char *text, struct http_answer *a)
{
    enum err_kind kind = a->status == 503                       ? ERR_UNAVAILABLE
                         : a->status == 413 || a->status == 431 ? ERR_TOO_LARGE
                                                                : ERR_MALFORMED;
    struct arena *arena = http_arena(http);
    struct request *q = arena_alloc(arena, sizeof(*q));
    struct err e;
    request_begin(q, ctx, http);
    err_lang_set(q->lang);
    err_set(&e, kind, "%s", err_tr(text));
    request_error(q, &e, a->status);
    err_lang_set(LANG_EN);
    a->type = q->type;
    a->n = q->out.len;
    a->body = arena_strndup(arena, buf_str(&q->out), q->out.len);
    buf_fini(&q->out);
    add_headers(q, a);
}
