/* TLS in front of libmicrohttpd: between http.c and http_front.c only. */
#ifndef IO_HTTP_FRONT_H
#define IO_HTTP_FRONT_H

#include "io/http.h"
#include "io/tls.h"

#include <netinet/in.h>
#include <stdatomic.h>

/* Who is on the other side of a connection that the front hands in; counted. */
struct http_front_peer {
    atomic_int refs;
    char text[INET6_ADDRSTRLEN];
    bool has_cert;
    struct http_peer_cert cert;
    _Atomic uint64_t bytes; /* received, after TLS */
};
void http_front_peer_unref(struct http_front_peer *p); /* NULL is fine */

struct http_front;
struct http_front_ops {
    /* The inner descriptor is handed over, also when it answers false and closes it. */
    bool (*accept)(void *ctx, int fd, struct http_front_peer *peer, const struct sockaddr *from,
                   socklen_t n);
    /* The present keys, with a reference. */
    struct tls_keys *(*keys)(void *ctx);
};
/* Takes the listening descriptor. At most max_conns at a time; handshake_s for each handshake. */
int http_front_start(int listen_fd, const struct http_front_ops *ops, void *ctx, int max_conns,
                     int handshake_s, struct http_front **out, struct err *e);
/* First step of stopping: nothing new is accepted. */
void http_front_close_door(struct http_front *f);
/* Ends what is open and joins the thread; NULL is fine. */
void http_front_stop(struct http_front *f);

#endif
