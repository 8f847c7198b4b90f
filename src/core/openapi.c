/* OpenAPI 3.1, made from the table that the router uses, so that it cannot drift. */
#include "core/router.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct maker {
    const struct router *router;
    struct json j;
    struct map seen;   /* component name → view, to write each once */
    struct vec views;  /* in order of first use */
    struct vec inputs; /* bool as pointer, beside views */
};

static void need(struct maker *m, const struct view *v, bool input)
{
    char name[200];
    if (v == NULL)
        return;
    snprintf(name, sizeof(name), "%s%s", v->name, input ? "Input" : "");
    const struct view *known = map_put(&m->seen, name, (void *)(uintptr_t)v);
    if (known != NULL && known != v) { /* one of them would go without its schema */
        fprintf(stderr, "two views are called %s\n", name);
        abort();
    }
    if (known != NULL)
        return;
    vec_push(&m->views, (void *)(uintptr_t)v);
    vec_push(&m->inputs, input ? m : NULL);
    for (size_t i = 0; i < v->n; i++)
        if (v->fields[i].of != NULL)
            need(m, v->fields[i].of, input);
}

static void parameters(struct maker *m, const struct view *v, const char *in)
{
    struct json *j = &m->j;
    for (size_t i = 0; v != NULL && i < v->n; i++) {
        const struct field *f = &v->fields[i];
        json_open(j, '{');
        json_ktext(j, "name", f->name);
        json_ktext(j, "in", in);
        json_kbool(j, "required", in[0] == 'p' || (f->flags & F_REQUIRED) != 0);
        if (f->doc != NULL)
            json_ktext(j, "description", f->doc);
        if (f->type == T_TEXTS) {
            json_ktext(j, "style", "form");
            json_kbool(j, "explode", false);
        }
        /* one property of the view's schema */
        AUTO(buf) struct buf b = {0};
        struct json one = json_to(&b);
        struct field plain = *f;
        plain.flags &= ~(unsigned)F_NULL;
        struct view single = *v;
        single.fields = &plain;
        single.n = 1;
        view_schema(&one, &single, true);
        AUTO(jv) struct jv *tree = NULL;
        struct err e;
        struct arena a = {0};
        if (jv_parse(b.data, b.len, &tree, NULL, &e) == OK) {
            json_key(j, "schema");
            json_raw(j, jv_dump(jv_get(jv_get(tree, "properties"), f->name), &a));
        }
        arena_fini(&a);
        json_close(j, '}');
    }
}

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {{101, "Switching protocols"},
                {200, "Done"},
                {201, "Created"},
                {202, "Accepted"},
                {204, "Done, nothing to say"},
                {304, "Not modified"},
                {400, "Cannot be read"},
                {401, "No valid credential"},
                {403, "Not allowed"},
                {404, "Not found"},
                {405, "Method not allowed"},
                {408, "Time limit passed"},
                {409, "Conflict with the present state"},
                {412, "It has changed since the ETag in If-Match"},
                {413, "Body too large"},
                {415, "Unsupported media type"},
                {422, "A field breaks a rule"},
                {429, "Too many requests"},
                {500, "A fault of the server"},
                {502, "Upstream failed"},
                {503, "Busy or stopping: try again"},
                {504, "Upstream timed out"},
                {507, "No room"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].status == status)
            return rows[i].text;
    return "Answer";
}

static void success(struct maker *m, const struct route_row *row, const struct answer_row *a)
{
    struct json *j = &m->j;
    char key[8], ref[240];
    snprintf(key, sizeof(key), "%d", a->status);
    json_key(j, key);
    json_open(j, '{');
    json_ktext(j, "description", a->doc != NULL ? a->doc : status_text(a->status));
    if (a->view != NULL || a->schema != NULL) {
        json_key(j, "content");
        json_open(j, '{');
        json_key(j, a->type != NULL ? a->type : "application/json");
        json_open(j, '{');
        json_key(j, "schema");
        if (a->view != NULL)
            snprintf(ref, sizeof(ref), "{\"$ref\":\"#/components/schemas/%s\"}", a->view->name);
        const char *schema = a->view != NULL ? ref : a->schema;
        if (a->view != NULL && row->surface->wrap_schema != NULL)
            row->surface->wrap_schema(j, a->view, schema);
        else
            json_raw(j, schema);
        json_close(j, '}');
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void failure(struct maker *m, const struct route_row *row, int status)
{
    struct json *j = &m->j;
    char key[8];
    snprintf(key, sizeof(key), "%d", status);
    json_key(j, key);
    json_open(j, '{');
    json_ktext(j, "description", status_text(status));
    json_key(j, "content");
    json_open(j, '{');
    json_key(j, row->surface->error_type);
    json_open(j, '{');
    json_raw((json_key(j, "schema"), j), row->surface->error_schema(status));
    json_close(j, '}');
    json_close(j, '}');
    json_close(j, '}');
}

static void responses(struct maker *m, const struct route_row *row)
{
    const struct route *t = row->route;
    bool done[600] = {false};
    json_key(&m->j, "responses");
    json_open(&m->j, '{');
    for (int i = 0; i < ANSWERS_MAX && t->answers[i].status != 0; i++) {
        success(m, row, &t->answers[i]);
        done[t->answers[i].status] = true;
    }
    int statuses[24];
    size_t n = 0;
    if (t->access != ACCESS_ANYONE)
        statuses[n++] = 401;
    if (t->access == ACCESS_ADMIN || t->access == ACCESS_OPS || t->access == ACCESS_AGENT ||
        t->access == ACCESS_OPEN || t->access == ACCESS_USER || t->access == ACCESS_OWNER)
        statuses[n++] = 403; /* an agent's credential is refused everywhere else */
    statuses[n++] = 400;
    if (t->params != NULL)
        statuses[n++] = row->surface->bad_path_status;
    if (t->query != NULL || t->body != NULL)
        statuses[n++] = 422;
    if (t->body != NULL) {
        statuses[n++] = 413;
        statuses[n++] = 415;
    }
    statuses[n++] = 429;
    statuses[n++] = 503;
    if (t->flags & ROUTE_IDEMPOTENT)
        statuses[n++] = 409;
    if (route_conditional(t))
        statuses[n++] = 412;
    for (const char *c = t->errors; c != NULL && *c != '\0' && n < ARRAY_LEN(statuses);) {
        statuses[n++] = (int)strtol(c, NULL, 10);
        c += strcspn(c, " ");
        c += strspn(c, " ");
    }
    for (size_t i = 0; i < n; i++)
        if (!done[statuses[i]]) {
            done[statuses[i]] = true;
            failure(m, row, statuses[i]);
        }
    json_close(&m->j, '}');
}

static void operation(struct maker *m, const struct route_row *row)
{
    struct json *j = &m->j;
    const struct route *t = row->route;
    char method[8];
    size_t i = 0;
    for (; t->method[i] != '\0'; i++)
        method[i] = (char)(t->method[i] | 32);
    method[i] = '\0';
    json_key(j, method);
    json_open(j, '{');
    json_ktext(j, "operationId", t->name);
    json_ktext(j, "summary", t->summary);
    json_key(j, "tags");
    json_open(j, '[');
    json_text(j, t->tag != NULL ? t->tag : row->surface->name);
    json_close(j, ']');
    json_key(j, "security");
    json_raw(j, t->access == ACCESS_ANYONE                            ? "[]"
                : t->access == ACCESS_OPEN || t->access == ACCESS_OPS ? "[{},{\"bearer\":[]}]"
                                                                      : "[{\"bearer\":[]}]");
    json_key(j, "parameters");
    json_open(j, '[');
    parameters(m, t->params, "path");
    parameters(m, t->query, "query");
    if (t->flags & ROUTE_IDEMPOTENT)
        json_raw(j, "{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"required\":false,"
                    "\"schema\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":255}}");
    if (route_conditional(t) && route_reader(m->router, t) != NULL)
        json_raw(j, "{\"name\":\"If-Match\",\"in\":\"header\",\"required\":false,"
                    "\"schema\":{\"type\":\"string\"}}");
    json_close(j, ']');
    if (t->body != NULL) {
        char ref[240];
        json_key(j, "requestBody");
        json_open(j, '{');
        json_kbool(j, "required", !(t->flags & ROUTE_BODY_OPTIONAL));
        json_key(j, "content");
        json_open(j, '{');
        json_key(j,
                 t->flags & ROUTE_FORM ? "application/x-www-form-urlencoded" : "application/json");
        json_open(j, '{');
        snprintf(ref, sizeof(ref), "{\"$ref\":\"#/components/schemas/%sInput\"}", t->body->name);
        json_raw((json_key(j, "schema"), j), ref);
        json_close(j, '}');
        json_close(j, '}');
        json_close(j, '}');
    }
    responses(m, row);
    json_close(j, '}');
}

static bool shown(const struct route_row *row)
{
    return strcmp(row->route->method, "WS") != 0 && !(row->route->flags & ROUTE_HIDDEN);
}

static void paths(struct maker *m)
{
    struct json *j = &m->j;
    const struct router *r = m->router;
    json_key(j, "paths");
    json_open(j, '{');
    for (size_t i = 0; i < r->n; i++) {
        if (!shown(&r->rows[i]))
            continue;
        const char *path = r->rows[i].route->path;
        bool before = false;
        for (size_t k = 0; k < i && !before; k++)
            before = shown(&r->rows[k]) && strcmp(r->rows[k].route->path, path) == 0;
        if (before)
            continue;
        json_key(j, path);
        json_open(j, '{');
        for (size_t k = i; k < r->n; k++)
            if (shown(&r->rows[k]) && strcmp(r->rows[k].route->path, path) == 0)
                operation(m, &r->rows[k]);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void websockets(struct maker *m)
{
    struct json *j = &m->j;
    json_key(j, "x-websockets");
    json_open(j, '[');
    for (size_t i = 0; i < m->router->n; i++) {
        const struct route *t = m->router->rows[i].route;
        if (strcmp(t->method, "WS") != 0)
            continue;
        json_open(j, '{');
        json_ktext(j, "path", t->path);
        json_ktext(j, "operationId", t->name);
        json_ktext(j, "summary", t->summary);
        json_close(j, '}');
    }
    json_close(j, ']');
}

char *openapi_make(const struct router *r, size_t *n)
{
    struct buf out = {0};
    struct maker m = {.router = r, .j = json_to(&out)};
    struct json *j = &m.j;
    for (size_t i = 0; i < r->n; i++) {
        const struct route *t = r->rows[i].route;
        if (!shown(&r->rows[i]))
            continue;
        need(&m, t->body, true);
        for (int k = 0; k < ANSWERS_MAX && t->answers[k].status != 0; k++)
            need(&m, t->answers[k].view, false);
    }
    json_open(j, '{');
    json_ktext(j, "openapi", "3.1.0");
    json_key(j, "info");
    json_open(j, '{');
    json_ktext(j, "title", "GPU Compute Platform");
    json_ktext(j, "version", DROVER_VERSION);
    json_ktext(j, "description",
               "Drover runs a fleet of GPUs. /v1 is its own surface; the others "
               "are kept for the systems that it stands in for.");
    json_raw((json_key(j, "license"), j),
             "{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}");
    json_close(j, '}');
    json_raw((json_key(j, "servers"), j), "[{\"url\":\"/\"}]");
    paths(&m);
    websockets(&m);
    json_key(j, "components");
    json_open(j, '{');
    json_raw((json_key(j, "securitySchemes"), j),
             "{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}");
    json_key(j, "schemas");
    json_open(j, '{');
    for (size_t i = 0; i < m.views.n; i++) {
        const struct view *v = m.views.items[i];
        char name[200];
        bool input = m.inputs.items[i] != NULL;
        snprintf(name, sizeof(name), "%s%s", v->name, input ? "Input" : "");
        json_key(j, name);
        view_schema(j, v, input);
    }
    json_close(j, '}');
    json_close(j, '}');
    json_close(j, '}');
    map_fini(&m.seen);
    vec_fini(&m.views);
    vec_fini(&m.inputs);
    return buf_take(&out, n);
}
