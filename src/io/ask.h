/* One HTTP/1.1 request over an outgoing connection, and what the answer's head says. Small on
 * purpose: for the agent, which joins, fetches its own new programs, and opens its link by this.
 * Bodies have a Content-Length or end with the connection (RFC 9112, section 6.3); a chunked one is
 * refused, because we ask in a way that none of our servers answers so.
 *
 * Threads: any; a connection belongs to one.
 */
#ifndef IO_ASK_H
#define IO_ASK_H

#include "base/mem.h"
#include "io/dial.h"

struct ask {
    const char *method; /* NULL: GET */
    const char *path;
    const char *bearer; /* or NULL */
    const char *body;   /* JSON, or NULL */
    const char *more;   /* further header lines, each with its CRLF; or NULL */
};
enum { ASK_HEAD_MAX = 8 << 10 };
struct ask_head {
    int status;
    char text[ASK_HEAD_MAX + 1]; /* the whole head, with its last empty line */
};
/* Sends it and takes the head of the answer, and not a byte more. */
int ask_send(struct dial *d, const struct dial_to *to, const struct ask *a, int64_t deadline_us,
             struct ask_head *out, struct err *e);
/* The value of a header, trimmed; "" when it is not there. */
const char *ask_value(const struct ask_head *h, const char *name, char to[256]);
/* Reads the body in pieces. ERR_TOO_LARGE over `most`. */
typedef int ask_sink(void *ctx, const void *p, size_t n, struct err *e);
int ask_body(struct dial *d, const struct ask_head *h, size_t most, int64_t deadline_us,
             ask_sink *sink, void *ctx, struct err *e);
/* What an answer that is no success says: kind by status, the server's own text and code, and
 * Retry-After. Returns the kind. */
int ask_problem(struct dial *d, const struct ask_head *h, int64_t deadline_us, struct err *e);
/* All of it on a connection of its own: *body is the answer's when it is a success. */
int ask_once(const struct dial_to *to, const struct ask *a, size_t most, int timeout_ms,
             struct buf *body, struct err *e);

#endif
