/* What a TLS listener shows and demands: certificate, key, and the authority of client
 * certificates, read from files and replaced while connections go on. GnuTLS behind it; TLS 1.2 is
 * the least (RFC 8446, 5246, 9325).
 *
 * Threads: any.
 */
#ifndef IO_TLS_H
#define IO_TLS_H

#include "base/err.h"
#include "io/http.h"

#include <stdint.h>

struct gnutls_session_int;
struct tls_keys; /* one generation of the files; counted */

struct tls_files {
    char *cert, *key, *client_ca; /* PEM; client_ca may be NULL */
};
/* Reads and checks them: the key fits the certificate, which is in its time. */
int tls_keys_load(const struct tls_files *f, struct tls_keys **out, struct err *e);
struct tls_keys *tls_keys_ref(struct tls_keys *k);
void tls_keys_unref(struct tls_keys *k); /* NULL is fine */
int64_t tls_keys_expire_us(const struct tls_keys *k);

/* A server's session on a descriptor; holds its keys until tls_session_end(). */
int tls_session_begin(struct tls_keys *k, int fd, struct gnutls_session_int **out);
void tls_session_end(struct tls_keys *k, struct gnutls_session_int *s);
/* After the handshake: false when the peer showed no certificate. */
bool tls_session_peer(struct gnutls_session_int *s, struct http_peer_cert *out);

#endif
