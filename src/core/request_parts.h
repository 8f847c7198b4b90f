/* What the files of a request's life share: request.c (the stages), request_in.c (reading),
 * request_out.c (answering), request_once.c (Idempotency-Key, If-Match). No other file includes
 * this. */
#ifndef CORE_REQUEST_PARTS_H
#define CORE_REQUEST_PARTS_H

#include "core/router.h"

enum { BODY_DEFAULT = 1 << 20 };

struct life { /* what the stages hand on; http_user() of the request */
    struct request q;
    struct route_match match;
    struct err e;
    size_t headers; /* of the answer before the handler added its own */
    int64_t idem_hash;
    const char *idem_key;
};
static inline struct life *life_of(struct request *q)
{
    return (struct life *)q;
}
/* All but the match: who asks, in which language, on which surface. */
void request_begin(struct request *q, struct router *r, struct http_request *http);

/* ---- request_in.c ---- */

/* Path, query and body by their views; ERR_INVALID leaves the broken rules in q->issues. */
int request_parse(struct request *q, const struct pair *params, size_t n_params, struct err *e);
/* The view's defaults, for a route that is run without a query of its own. */
int request_parse_path(struct request *q, const struct pair *params, size_t n_params);
int request_parse_query(struct request *q, const char *raw, struct err *e);

/* ---- request_out.c ---- */

void request_send(struct request *q);
/* The error in the surface's envelope as the answer so far; status 0: what the kind means. */
void request_error(struct request *q, const struct err *cause, int status);
void request_fail(struct request *q, const struct err *cause);

/* ---- request_once.c ---- */

int idem_read(struct request *q, struct err *e);
/* Gives a kept answer for a repeated Idempotency-Key; *again tells that it did. */
int idem_replay(struct request *q, struct tx *tx, bool *again, struct err *e);
int idem_keep(struct request *q, struct tx *tx, struct err *e);
/* ERR_PRECONDITION when If-Match names another state of the object than the one in tx. */
int match_check(struct request *q, struct tx *tx, struct err *e);

#endif
