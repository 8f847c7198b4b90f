/* Reading a request: path, query and body by the views of its route. */
#include "core/request_parts.h"

#include "base/str.h"
#include "io/http_guard.h"

#include <string.h>

enum { PAIRS_MAX = 64 };

/* application/x-www-form-urlencoded to pairs; false: a bad escape or too many. */
static bool read_pairs(const char *s, struct arena *a, struct pair *out, size_t *count)
{
    char *room = arena_alloc(a, strlen(s) + 2 * (PAIRS_MAX + 1));
    for (*count = 0;; ++*count) {
        struct pair p;
        enum http_pair got = http_query_next(&s, room, &p.name, &p.value);
        if (got == HTTP_PAIR_END)
            return true;
        if (got == HTTP_PAIR_BAD || *count == PAIRS_MAX)
            return false;
        out[*count] = p;
        room = (char *)(uintptr_t)p.value + strlen(p.value) + 1;
    }
}

static bool content_is(const char *type, const char *want)
{
    size_t n = strlen(want);
    return type != NULL && strncasecmp(type, want, n) == 0 &&
           (type[n] == '\0' || type[n] == ';' || type[n] == ' ');
}

int request_parse_query(struct request *q, const char *raw, struct err *e)
{
    struct pair pairs[PAIRS_MAX];
    size_t n = 0;
    if (!read_pairs(raw, q->arena, pairs, &n))
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
        else if (strlen(body) != n || !read_pairs(body, q->arena, pairs, &count))
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

int request_parse_path(struct request *q, const struct pair *params, size_t n_params)
{
    if (q->route->params == NULL)
        return OK;
    q->params = arena_alloc(q->arena, q->route->params->size);
    issues_enter(&q->issues, "path", 0);
    view_parse_pairs(q->route->params, params, n_params, 0, q->params, q->arena, &q->issues);
    issues_leave(&q->issues);
    return q->issues.n > 0 ? ERR_INVALID : OK;
}

int request_parse(struct request *q, const struct pair *params, size_t n_params, struct err *e)
{
    int rc;
    request_parse_path(q, params, n_params); /* what is broken is told with the rest */
    if ((rc = request_parse_query(q, http_query(q->http), e)) != OK ||
        (rc = parse_body(q, e)) != OK)
        return rc;
    if (q->issues.n > 0)
        return err_set(e, ERR_INVALID, "%s: %s", issue_field(&q->issues.items[0], q->arena),
                       q->issues.items[0].message);
    return OK;
}
