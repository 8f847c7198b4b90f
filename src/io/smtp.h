/* Sending one mail by SMTP (RFC 5321) through libcurl: blocking, so only on a thread that is made
 * for it. STARTTLS or implicit TLS (RFC 8314) with the certificate checked; credentials stand in
 * the URL and never leave over a line that is not encrypted, except to this machine itself.
 *
 * Errors: ERR_UPSTREAM; code SMTP_REFUSED when the server refuses this recipient or message for
 * good (5xx), so that trying again is useless. Threads: any.
 */
#ifndef IO_SMTP_H
#define IO_SMTP_H

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>

#define SMTP_REFUSED "SMTP_REFUSED"

enum smtp_tls {
    SMTP_TLS_AUTO,     /* required, unless the server is this machine */
    SMTP_TLS_REQUIRED, /* STARTTLS or smtps:// */
    SMTP_TLS_OFF,
};

struct smtp_server {
    const char *url;     /* smtp://[user:password@]host[:port], smtps://… */
    const char *ca_file; /* NULL: the system's */
    enum smtp_tls tls;
    int timeout_s; /* of the whole conversation */
};
struct smtp_mail {
    const char *from;           /* address, or "Name <address>" */
    const char *to;             /* address */
    const char *subject, *text; /* UTF-8 */
    const char *id;             /* left part of Message-ID */
    int64_t at;                 /* UTC µs */
};

/* Whether the URL can be used at all: for the start. */
int smtp_check(const struct smtp_server *s, const char *from, struct err *e);
int smtp_send(const struct smtp_server *s, const struct smtp_mail *m, struct err *e);
/* The message as it goes over the line (RFC 5322, RFC 2045, RFC 2047); for tests. */
void smtp_compose(const struct smtp_mail *m, struct buf *out);
/* The address inside "Name <address>". */
const char *smtp_address(const char *from, struct arena *a);

#endif
