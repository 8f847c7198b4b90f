/* Routes: rows from which come routing, access, parsing, answers, OpenAPI and documentation.
 *
 * A request's life: match → credential → access → rate → parse by views → `prepare` (a worker
 * thread, no transaction; slow things such as password hashing) → `handle` inside one
 * transaction (a snapshot for GET, a write transaction otherwise; it does no I/O and may run
 * twice) → the answer is sent after the commit. `memory` handlers instead run at once on the I/O
 * thread without a transaction and must not block.
 *
 * Whatever a handler writes with request_answer() is kept back until the transaction has
 * committed; when it fails, the surface prints the error in its envelope.
 *
 * Threads: handlers run on pool, writer or I/O threads, one at a time for a request. The arena
 * goes with the request.
 */
#ifndef CORE_ROUTE_H
#define CORE_ROUTE_H

#include "core/access.h"
#include "core/house.h"
#include "core/view.h"
#include "io/http.h"

struct request;
/* What a handler returns when it has answered by itself (a stream, an upgrade) or will do so
 * later: from then on another thread may have ended the request, so nobody touches it any more.
 * Not for handlers of write transactions. */
enum { REQUEST_TAKEN = -1 };
typedef int handler_fn(struct request *q, struct tx *tx, struct err *e);
typedef int prepare_fn(struct request *q, struct err *e);

enum {
    ROUTE_FORM = 1,           /* body is application/x-www-form-urlencoded (JSON refused: 415) */
    ROUTE_WRITE_GET = 2,      /* a GET that needs a write transaction */
    ROUTE_ETAG = 4,           /* 200 answers carry an ETag */
    ROUTE_IDEMPOTENT = 8,     /* honours Idempotency-Key */
    ROUTE_STREAM = 16,        /* answers with a stream or an upgrade; no schema */
    ROUTE_NO_TX = 32,         /* handle runs on a worker without a transaction (tx is NULL) */
    ROUTE_NO_LIMIT = 64,      /* not rate limited (GPU queries) */
    ROUTE_STRICT_LIMIT = 128, /* sign-in group: 60 a minute for each address */
    ROUTE_HIDDEN = 256,       /* not in OpenAPI (aliases) */
    ROUTE_NO_AUDIT = 512,     /* a change that is not audited: heartbeats, dry runs */
    ROUTE_BODY_OPTIONAL = 1024,
    ROUTE_LIVE = 2048, /* a bad credential does not end the handshake: see request.refused */
};

struct answer_row {
    int status;
    const struct view *view; /* NULL: see schema, or no body */
    const char *schema;      /* JSON Schema text instead of a view */
    const char *type;        /* content type; NULL: application/json */
    const char *doc;
};
enum { ANSWERS_MAX = 6 };

struct route {
    const char *method;
    const char *path;    /* "/v1/jobs/{id}"; WebSocket routes have method "WS" */
    const char *name;    /* operationId: "job_show" */
    const char *summary; /* from the contract; one line */
    enum access access;
    unsigned permission; /* ACCESS_OPS */
    unsigned flags;
    const struct view *params; /* path parameters */
    const struct view *query;
    const struct view *body;
    int64_t body_max; /* 0: 1 MiB when there is a body view */
    handler_fn *memory;
    prepare_fn *prepare;
    handler_fn *handle;
    struct answer_row answers[ANSWERS_MAX]; /* success rows; error rows come from the surface */
    const char *errors; /* "404 409": further statuses that this route answers */
    const char *tag;
};

enum { REQUEST_HEADERS_MAX = 12 };
struct router;
struct request {
    struct house *house;
    struct router *router;
    const struct route *route;
    const struct surface *surface;
    struct http_request *http;
    struct arena *arena;
    struct principal who;
    void *params, *query, *body; /* parsed structs; NULL without a view */
    const struct jv *json;       /* the body's tree, until the answer */
    struct issues issues;
    char request_id[UUID_TEXT_SIZE];
    void *prepared; /* what prepare() leaves for handle() */
    enum lang lang;
    int64_t began_us; /* monotonic */
    /* the answer so far */
    int status;
    struct buf out;
    const char *type;
    struct http_header_pair headers[REQUEST_HEADERS_MAX];
    size_t n_headers;
    bool etag;
    bool secret;           /* the answer tells a secret: not kept for a repeated Idempotency-Key */
    enum err_kind refused; /* ROUTE_LIVE: ERR_UNAUTHENTICATED: no credential; ERR_FORBIDDEN: bad */
    const char *audit_target; /* "j-17": what the change hit, for the audit log */
    const char *hint;         /* native errors: what to do next; NULL: none */
    int64_t snapshot_us;      /* age of a snapshot that is shown, for its envelope */
};

/* The envelope of a group of routes. */
struct surface {
    const char *name;       /* platform, training, inference, baremetal, native */
    const char *error_type; /* content type of errors */
    unsigned parse;         /* PARSE_LAX, PARSE_CLOSED */
    int bad_path_status;    /* a path parameter of the wrong type */
    /* Opens and closes what stands around a view's object on success (may be NULL). */
    void (*wrap)(struct request *q, struct json *j, const struct view *v, const void *obj);
    /* JSON Schema of a success body around the view's schema reference (may be NULL). */
    void (*wrap_schema)(struct json *j, const struct view *v, const char *schema);
    void (*error)(struct request *q, struct json *j, const struct err *e);
    const char *(*error_schema)(int status);
    int (*status_of)(const struct request *q, const struct err *e); /* NULL: err_row's */
};

/* ---- for handlers ---- */

/* The object as the route's surface sends it. May be called again: the last answer counts. */
int request_answer(struct request *q, int status, const struct view *v, const void *obj);
/* A body that is not made by a view (text, raw JSON). type must be a literal. */
int request_answer_raw(struct request *q, int status, const char *type, const char *body, size_t n);
int request_answer_empty(struct request *q, int status);
void request_header(struct request *q, const char *name, const char *value);
/* Ends a request that a handler has taken: sends what request_answer() left, or the error when
 * e (may be NULL) is one. Any thread; q is gone afterwards. */
void request_done(struct request *q, const struct err *e);
/* In a handler that then returns REQUEST_TAKEN: answers 200 with an endless body of this type, and
 * the headers of every answer. */
struct http_stream *request_stream(struct request *q, const char *type,
                                   const struct http_stream_ops *ops, void *ctx);
/* Adds a broken rule on a body field after parsing; returns ERR_INVALID. */
int request_invalid(struct request *q, struct err *e, const char *field, const char *rule,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ---- the table of all routes ---- */

struct router;
/* Collects and checks the routes of all modules: access set, views linked, a handler there,
 * parameters match the path, no two rows for one path and method. */
int router_create(struct house *h, struct router **out, struct err *e);
void router_destroy(struct router *r);
struct http_app router_app(struct router *r);
/* Which envelope an unknown path answers in; prefix rows of surfaces, longest first. */
struct surface_prefix {
    const char *prefix;
    const struct surface *surface;
};
void router_prefixes(struct router *r, const struct surface_prefix *rows, size_t n);
/* What serves paths that no route has (static files). Returns false: not found. */
void router_fallback(struct router *r, bool (*fn)(void *ctx, struct http_request *q), void *ctx);
/* Fills *who from the request's credential; ERR_UNAUTHENTICATED when it is bad. Called on a
 * worker thread (may read the store) or, with fast, on an I/O thread where it may answer
 * ERR_UNAVAILABLE to be asked again on a worker. */
typedef int authenticate_fn(struct house *h, struct request *q, bool fast, struct principal *who,
                            struct err *e);
void router_authenticator(struct router *r, authenticate_fn *fn);
/* Agents of other hosts must show a client certificate (http_peer_cert). */
void router_agents_certified(struct router *r, bool demanded);
/* Writes the audit row of a change, in the transaction of the change (outcome "ok") or in one of
 * its own after it was refused (outcome: the kind's name). */
typedef int audit_fn(struct tx *tx, const struct request *q, const char *outcome, struct err *e);
void router_auditor(struct router *r, audit_fn *fn);
void routes_each(const struct house *h,
                 void (*fn)(const struct route *row, const struct surface *s, void *ctx),
                 void *ctx);

/* OpenAPI 3.1 of every route; owned by the router, made once. */
const char *router_openapi(struct router *r, size_t *n);

/* Prometheus lines: requests by route and code, durations, connections. */
void router_metrics(struct router *r, struct buf *out);

#endif
