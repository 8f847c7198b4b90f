/* Outgoing connections: to a unix socket, over TCP, or over TLS (GnuTLS), with a deadline on
 * everything that may block. For the agent and for tests; the server's own doors are io/http.h.
 *
 * TLS: version 1.2 or newer; the server's certificate must lead to a trusted authority (the
 * system's, or those of `ca`) and name the host that was asked for. There is no way to turn that
 * off. A client certificate is shown when `cert` and `key` are given.
 *
 * Errors: ERR_UNAVAILABLE nobody there or the connection is lost, ERR_UPSTREAM_TIMEOUT the deadline
 * passed, ERR_FORBIDDEN the server's certificate is not good, ERR_INVALID what was configured.
 *
 * Threads: one reader and one writer at a time.
 */
#ifndef IO_DIAL_H
#define IO_DIAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dial_to {
    char unix_path[108]; /* "": TCP */
    char host[256];
    uint16_t port;
    bool tls;
    const char *ca;         /* PEM file of authorities instead of the system's; or NULL */
    const char *cert, *key; /* PEM files of a client certificate; or NULL */
};
/* "unix:PATH", "http://HOST[:PORT]", "https://HOST[:PORT]"; [..] around an IPv6 address. Sets the
 * address only, and leaves ca, cert and key as they are. */
int dial_parse(const char *url, struct dial_to *out, struct err *e);

struct dial;
/* deadline_us: of mono_us(). */
int dial_open(const struct dial_to *to, int64_t deadline_us, struct dial **out, struct err *e);
void dial_close(struct dial *d); /* NULL is fine */
static inline void auto_dial(struct dial **d)
{
    dial_close(*d);
}
int dial_fd(const struct dial *d); /* for poll(): see dial_pending() */
/* Bytes that have been taken from the socket already: poll() does not show them. */
bool dial_pending(const struct dial *d);
/* What is there, at most n. *got 0: nothing now. A closed connection is ERR_UNAVAILABLE. */
int dial_read(struct dial *d, void *to, size_t n, size_t *got, struct err *e);
/* The same, and waits for the first byte. */
int dial_wait(struct dial *d, void *to, size_t n, int64_t deadline_us, size_t *got, struct err *e);
/* All of it. After a failure part of it may be on its way: the connection is of no more use. */
int dial_write(struct dial *d, const void *p, size_t n, int64_t deadline_us, struct err *e);

#endif
