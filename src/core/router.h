/* What the files of the router share: router.c (the table and matching), request.c (a request's
 * life), openapi.c. No other room includes this. */
#ifndef CORE_ROUTER_H
#define CORE_ROUTER_H

#include "base/histogram.h"
#include "core/limit.h"
#include "core/route.h"

#include <stdatomic.h>

enum { SEGMENTS_MAX = 12, METHODS = 7 };

struct route_row {
    const struct route *route;
    const struct surface *surface;
    const char *segments[SEGMENTS_MAX]; /* a parameter starts with '{' */
    int n_segments;
    _Atomic uint64_t by_status[6];
    struct histogram durations;
};

struct router {
    struct house *house;
    struct arena arena;
    struct route_row *rows;
    size_t n;
    const struct surface_prefix *prefixes;
    size_t n_prefixes;
    authenticate_fn *authenticate;
    audit_fn *audit;
    bool (*fallback)(void *ctx, struct http_request *q);
    void *fallback_ctx;
    struct limits *limits;
    int64_t limit_default, limit_sign_in;
    bool limit_on, origin_any, agents_certified;
    struct texts origins;
    char *openapi;
    size_t openapi_n;
};

struct route_match {
    struct route_row *row; /* NULL: none */
    struct pair params[SEGMENTS_MAX];
    size_t n_params;
    char allow[96];    /* methods that the path has, when row is NULL */
    bool upgrade_only; /* it is a WebSocket and nothing else; when row is NULL */
};
/* path is decoded; a trailing slash counts for nothing. */
struct route_match router_match(const struct router *r, const char *method, bool upgrade,
                                const char *path, struct arena *a);
const struct surface *router_surface(const struct router *r, const char *path);
/* Whether If-Match counts for a route, and the GET of the same object, whose ETag it names (NULL:
 * none has one). */
bool route_conditional(const struct route *t);
const struct route *route_reader(const struct router *r, const struct route *t);
char *openapi_make(const struct router *r, size_t *n);

int64_t request_head(void *ctx, struct http_request *http);
void request_serve(void *ctx, struct http_request *http);
void request_gone(void *ctx, struct http_request *http);
void request_refuse(void *ctx, struct http_request *http, const char *text, struct http_answer *a);

extern const struct module request_module; /* the table of idempotency keys */

#endif
