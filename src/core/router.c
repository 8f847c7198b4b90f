/* The table of all routes: collected from the modules, checked at start-up, matched. */
#include "core/router.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const methods[METHODS] = {"GET", "POST", "PUT", "PATCH", "DELETE", "WS", NULL};

/* Splits at slashes; empty segments at either end are dropped. Returns the count or -1. */
static int split_path(const char *path, const char **out, struct arena *a)
{
    int n = 0;
    for (const char *c = path; *c != '\0';) {
        c += *c == '/';
        size_t len = strcspn(c, "/");
        if (len == 0 && c[len] == '\0')
            break;
        if (n == SEGMENTS_MAX)
            return -1;
        out[n++] = arena_strndup(a, c, len);
        c += len;
    }
    return n;
}

static int row_error(struct err *e, const struct route *row, const char *what)
{
    return err_set(e, ERR_INTERNAL, "route %s %s: %s", row->method, row->path, what);
}

static int check_row(struct router *r, struct route_row *row, struct err *e)
{
    const struct route *t = row->route;
    if (names_find(methods, t->method) < 0)
        return row_error(e, t, "unknown method");
    if (t->access == ACCESS_DENIED)
        return row_error(e, t, "says nobody may call it: its access column is missing");
    if (t->access == ACCESS_OPS && t->permission == 0)
        return row_error(e, t, "ops without a permission");
    if ((t->handle != NULL) == (t->memory != NULL))
        return row_error(e, t, "needs one of handle and memory");
    if (t->name == NULL || t->summary == NULL)
        return row_error(e, t, "needs a name and a summary");
    if (row->surface == NULL)
        return row_error(e, t, "has no surface");
    row->n_segments = split_path(t->path, row->segments, &r->arena);
    if (row->n_segments < 0)
        return row_error(e, t, "is too deep");
    const struct view *views[] = {t->params, t->query, t->body};
    for (size_t i = 0; i < ARRAY_LEN(views); i++)
        if (view_link(views[i], e) != OK)
            return err_wrap(e, "route %s %s", t->method, t->path);
    for (int i = 0; i < ANSWERS_MAX && t->answers[i].status != 0; i++)
        if (view_link(t->answers[i].view, e) != OK)
            return err_wrap(e, "route %s %s", t->method, t->path);
    size_t params = 0;
    for (int i = 0; i < row->n_segments; i++) {
        if (row->segments[i][0] != '{')
            continue;
        params++;
        size_t len = strlen(row->segments[i]) - 2;
        bool there = false;
        for (size_t k = 0; t->params != NULL && k < t->params->n; k++)
            there |= strlen(t->params->fields[k].name) == len &&
                     strncmp(t->params->fields[k].name, row->segments[i] + 1, len) == 0;
        if (!there)
            return row_error(e, t, "a parameter of the path is missing in its view");
    }
    if (t->params != NULL && t->params->n != params)
        return row_error(e, t, "its params view has fields that the path lacks");
    return OK;
}

static bool same_place(const struct route_row *a, const struct route_row *b)
{
    if (a->n_segments != b->n_segments || strcmp(a->route->method, b->route->method) != 0)
        return false;
    for (int i = 0; i < a->n_segments; i++) {
        bool pa = a->segments[i][0] == '{', pb = b->segments[i][0] == '{';
        if (pa != pb || (!pa && strcmp(a->segments[i], b->segments[i]) != 0))
            return false;
    }
    return true;
}

int router_create(struct house *h, struct router **out, struct err *e)
{
    struct router *r = mem_alloc(sizeof(*r));
    r->house = h;
    const struct module *const *mods = house_modules(h);
    for (size_t i = 0; mods[i] != NULL; i++)
        r->n += mods[i]->n_routes;
    r->rows = mem_alloc((r->n + 1) * sizeof(*r->rows));
    size_t n = 0;
    for (size_t i = 0; mods[i] != NULL; i++)
        for (size_t k = 0; k < mods[i]->n_routes; k++) {
            struct route_row *row = &r->rows[n];
            row->route = &mods[i]->routes[k];
            row->surface = mods[i]->surface;
            int rc = check_row(r, row, e);
            for (size_t m = 0; rc == OK && m < n; m++)
                if (same_place(row, &r->rows[m]))
                    rc = row_error(e, row->route, "stands in two tables");
            if (rc != OK) {
                router_destroy(r);
                return rc;
            }
            n++;
        }
    r->limits = limits_create();
    r->limit_on = setting_bool(h, "RATE_LIMIT");
    r->limit_default = setting_int(h, "RATE_LIMIT_DEFAULT");
    r->limit_sign_in = setting_int(h, "RATE_LIMIT_SIGN_IN");
    struct texts lists[] = {setting_list(h, "ALLOWED_ORIGINS"), setting_list(h, "CORS_ORIGINS")};
    r->origins.items = arena_alloc(&r->arena, (lists[0].n + lists[1].n + 1) * sizeof(char *));
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < lists[i].n; k++) {
            if (strcmp(lists[i].items[k], "*") == 0)
                r->origin_any = true;
            r->origins.items[r->origins.n++] = arena_strdup(&r->arena, lists[i].items[k]);
        }
    *out = r;
    return OK;
}

void router_destroy(struct router *r)
{
    if (r == NULL)
        return;
    limits_destroy(r->limits);
    mem_free(r->openapi);
    mem_free(r->rows);
    arena_fini(&r->arena);
    mem_free(r);
}

void router_prefixes(struct router *r, const struct surface_prefix *rows, size_t n)
{
    r->prefixes = rows;
    r->n_prefixes = n;
}

void router_fallback(struct router *r, bool (*fn)(void *ctx, struct http_request *q), void *ctx)
{
    r->fallback = fn;
    r->fallback_ctx = ctx;
}

void router_authenticator(struct router *r, authenticate_fn *fn)
{
    r->authenticate = fn;
}

void router_agents_certified(struct router *r, bool demanded)
{
    r->agents_certified = demanded;
}

void router_auditor(struct router *r, audit_fn *fn)
{
    r->audit = fn;
}

struct http_app router_app(struct router *r)
{
    return (struct http_app){r, request_head, request_serve, request_gone, request_refuse};
}

const char *router_openapi(struct router *r, size_t *n)
{
    if (r->openapi == NULL)
        r->openapi = openapi_make(r, &r->openapi_n);
    if (n != NULL)
        *n = r->openapi_n;
    return r->openapi;
}

/* Literals win over parameters, segment by segment from the left. */
static bool row_fits(const struct route_row *row, const char *const *segments, int n,
                     uint32_t *literals)
{
    if (row->n_segments != n)
        return false;
    uint32_t bits = 0;
    for (int i = 0; i < n; i++) {
        bool literal = row->segments[i][0] != '{';
        if (literal && strcmp(row->segments[i], segments[i]) != 0)
            return false;
        bits = bits << 1 | (literal ? 1 : 0);
    }
    *literals = bits;
    return true;
}

struct route_match router_match(const struct router *r, const char *method, bool upgrade,
                                const char *path, struct arena *a)
{
    struct route_match m = {0};
    const char *segments[SEGMENTS_MAX];
    int n = split_path(path, segments, a);
    uint32_t best = 0, literals, best_path = 0;
    bool any = false;
    for (size_t i = 0; i < r->n && n >= 0; i++) {
        struct route_row *row = &r->rows[i];
        if (!row_fits(row, segments, n, &literals) || (any && literals < best_path))
            continue;
        if (!any || literals > best_path) {
            /* a more literal path hides a less literal one with every method */
            best_path = literals;
            m.row = NULL;
            m.allow[0] = '\0';
            m.upgrade_only = true;
        }
        any = true;
        bool ws = strcmp(row->route->method, "WS") == 0;
        m.upgrade_only &= ws;
        const char *shown = ws ? "GET" : row->route->method;
        if (strstr(m.allow, shown) == NULL) {
            size_t used = strlen(m.allow);
            snprintf(m.allow + used, sizeof(m.allow) - used, "%s%s%s", used > 0 ? ", " : "", shown,
                     strcmp(shown, "GET") == 0 ? ", HEAD" : "");
        }
        bool fits = ws ? upgrade && strcmp(method, "GET") == 0
                       : strcmp(row->route->method, method) == 0 && !(upgrade && m.row != NULL);
        if (fits && (m.row == NULL || literals > best || ws)) {
            m.row = row;
            best = literals;
        }
    }
    for (int i = 0; m.row != NULL && i < n; i++) {
        const char *s = m.row->segments[i];
        if (s[0] == '{')
            m.params[m.n_params++] = (struct pair){arena_strndup(a, s + 1, strlen(s) - 2),
                                                   segments[i]};
    }
    return m;
}

const struct surface *router_surface(const struct router *r, const char *path)
{
    for (size_t i = 0; i < r->n_prefixes; i++) {
        size_t n = strlen(r->prefixes[i].prefix);
        bool whole = n > 0 && r->prefixes[i].prefix[n - 1] == '/';
        if (strncmp(path, r->prefixes[i].prefix, n) == 0 &&
            (whole || n == 0 || path[n] == '\0' || path[n] == '/'))
            return r->prefixes[i].surface;
    }
    return r->prefixes[r->n_prefixes - 1].surface;
}

bool route_conditional(const struct route *t)
{
    return strcmp(t->method, "PUT") == 0 || strcmp(t->method, "PATCH") == 0 ||
           strcmp(t->method, "DELETE") == 0;
}

const struct route *route_reader(const struct router *r, const struct route *t)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct route *g = r->rows[i].route;
        if (strcmp(g->method, "GET") == 0 && (g->flags & ROUTE_ETAG) &&
            strcmp(g->path, t->path) == 0)
            return g;
    }
    return NULL;
}

void routes_each(const struct house *h,
                 void (*fn)(const struct route *row, const struct surface *s, void *ctx), void *ctx)
{
    const struct module *const *mods = house_modules(h);
    for (size_t i = 0; mods[i] != NULL; i++)
        for (size_t k = 0; k < mods[i]->n_routes; k++)
            fn(&mods[i]->routes[k], mods[i]->surface, ctx);
}

void router_metrics(struct router *r, struct buf *out)
{
    buf_adds(out, "# HELP gpuplat_http_requests_total Answered requests.\n"
                  "# TYPE gpuplat_http_requests_total counter\n");
    for (size_t i = 0; i < r->n; i++)
        for (int c = 1; c < 6; c++) {
            uint64_t v = atomic_load(&r->rows[i].by_status[c]);
            if (v > 0)
                buf_printf(out,
                           "gpuplat_http_requests_total{system=\"%s\",method=\"%s\",route=\"%s\","
                           "code=\"%dxx\"} %llu\n",
                           r->rows[i].surface->name, r->rows[i].route->method,
                           r->rows[i].route->path, c, (unsigned long long)v);
        }
    buf_adds(out, "# HELP gpuplat_http_request_duration_seconds Time to answer.\n"
                  "# TYPE gpuplat_http_request_duration_seconds histogram\n");
    for (size_t i = 0; i < r->n; i++) {
        const struct route_row *row = &r->rows[i];
        char labels[256];
        if (histogram_count(&row->durations) == 0)
            continue;
        snprintf(labels, sizeof(labels), "system=\"%s\",route=\"%s %s\"", row->surface->name,
                 row->route->method, row->route->path);
        histogram_print(&row->durations, &histogram_call_bounds,
                        "gpuplat_http_request_duration_seconds", labels, out);
    }
}
