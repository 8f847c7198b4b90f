/* TLS in front of the HTTP server: one thread accepts, shakes hands, and carries bytes between the
 * peer and a socket pair whose other end libmicrohttpd serves as a connection like any other.
 *
 * Why not the library's own TLS: its connections cannot be taken over, and WebSockets and endless
 * answers live on our loop. Here they need not know. (ADR 0013)
 *
 * What must stay true: at most one buffer of 16 KiB waits in each direction, so a slow reader slows
 * its writer and nobody else; an end on one side reaches the other after the bytes before it.
 */
#include "io/http_front.h"

#include "io/thread.h"

#include "base/mem.h"
#include "base/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 16 << 10, /* one TLS record */
    EVENTS_MAX = 64,
    TURNS_MAX = 16, /* buffers of one connection before others have their turn */
    LINGER_S = 5,   /* for the peer to close after we have */
    SWEEP_MS = 1000,
    GIVE_UP_MS = 120000, /* a peer that vanished without a word */
};

struct pipe {
    char bytes[PIPE_BYTES];
    size_t at, n; /* what waits: bytes[at..n) */
};

enum conn_state { CONN_SHAKING, CONN_OPEN, CONN_ENDING };
struct side { /* what epoll tells apart */
    struct conn *conn;
    int fd; /* -1: closed */
    uint32_t wants;
};
struct conn {
    struct side net, inner;
    struct tls_keys *keys;
    gnutls_session_t tls;
    enum conn_state state;
    int64_t since_us;
    struct pipe *up, *down; /* from the peer, to the peer */
    bool up_ended, down_ended, dead, seen_first;
    struct http_front_peer *peer;
    struct sockaddr_storage from;
    socklen_t n_from;
    struct conn *prev, *next;
};

struct http_front {
    const struct http_front_ops *ops;
    void *ctx;
    int listen_fd, epoll_fd, wake_fd;
    int max_conns, n_conns;
    int64_t handshake_us;
    struct conn *conns;
    struct conn *gone; /* freed after the round: an event of it may be behind us */
    pthread_t thread;
    atomic_bool closed, stop;
};

void http_front_peer_unref(struct http_front_peer *p)
{
    if (p != NULL && atomic_fetch_sub(&p->refs, 1) == 1)
        mem_free(p);
}

/* ---- connections ---- */

static void side_want(struct http_front *f, struct side *s, uint32_t wants)
{
    if (s->fd < 0 || s->wants == wants)
        return;
    struct epoll_event ev = {.events = wants, .data.ptr = s};
    epoll_ctl(f->epoll_fd,
              s->wants == 0 ? EPOLL_CTL_ADD
              : wants == 0  ? EPOLL_CTL_DEL
                            : EPOLL_CTL_MOD,
              s->fd, &ev);
    s->wants = wants;
}

static void side_close(struct http_front *f, struct side *s)
{
    side_want(f, s, 0);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void conn_end(struct http_front *f, struct conn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    side_close(f, &c->net);
    side_close(f, &c->inner);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        f->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    f->n_conns--;
    c->next = f->gone;
    f->gone = c;
}

static void conns_free(struct http_front *f)
{
    while (f->gone != NULL) {
        struct conn *c = f->gone;
        f->gone = c->next;
        tls_session_end(c->keys, c->tls);
        tls_keys_unref(c->keys);
        http_front_peer_unref(c->peer);
        mem_free(c->up);
        mem_free(c->down);
        mem_free(c);
    }
}

static void socket_options(int fd)
{
    int one = 1, give_up = GIVE_UP_MS, probe = 60;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe, sizeof(probe));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up, sizeof(give_up));
}

static void conn_begin(struct http_front *f, int fd, const struct sockaddr_storage *from,
                       socklen_t n_from)
{
    struct conn *c = mem_alloc(sizeof(*c));
    c->keys = f->ops->keys(f->ctx);
    if (tls_session_begin(c->keys, fd, &c->tls) != OK) {
        tls_keys_unref(c->keys);
        mem_free(c);
        close(fd);
        return;
    }
    socket_options(fd);
    c->net = (struct side){.conn = c, .fd = fd};
    c->inner = (struct side){.conn = c, .fd = -1};
    c->from = *from;
    c->n_from = n_from;
    c->since_us = mono_us();
    c->peer = mem_alloc(sizeof(*c->peer));
    atomic_store(&c->peer->refs, 1);
    const void *ip = from->ss_family == AF_INET6
                         ? (const void *)&((const struct sockaddr_in6 *)from)->sin6_addr
                         : (const void *)&((const struct sockaddr_in *)from)->sin_addr;
    inet_ntop(from->ss_family, ip, c->peer->text, sizeof(c->peer->text));
    c->next = f->conns;
    if (f->conns != NULL)
        f->conns->prev = c;
    f->conns = c;
    f->n_conns++;
    side_want(f, &c->net, EPOLLIN);
}

static void accept_some(struct http_front *f)
{
    for (int i = 0; i < EVENTS_MAX && !atomic_load(&f->closed); i++) {
        struct sockaddr_storage from = {0};
        socklen_t n = sizeof(from);
        int fd = accept4(f->listen_fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (f->n_conns >= f->max_conns)
            close(fd);
        else
            conn_begin(f, fd, &from, n);
    }
}

/* ---- the handshake ---- */

/* Somebody speaks plain HTTP to this port: told in words that their program shows. */
static bool speaks_plainly(const struct conn *c)
{
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Connection: close\r\nContent-Length: 42\r\n\r\nThis port speaks TLS: use https:// for it.";
    char first;
    if (recv(c->net.fd, &first, 1, MSG_PEEK) != 1 || first == 0x16)
        return false;
    if (first >= 'A' && first <= 'Z')
        (void)!send(c->net.fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(c->net.fd, SHUT_WR);
    return true;
}

static void conn_opened(struct http_front *f, struct conn *c)
{
    int pair[2];
    c->peer->has_cert = tls_session_peer(c->tls, &c->peer->cert);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        conn_end(f, c);
        return;
    }
    c->inner.fd = pair[0];
    c->state = CONN_OPEN;
    atomic_fetch_add(&c->peer->refs, 1);
    if (!f->ops->accept(f->ctx, pair[1], c->peer, (struct sockaddr *)&c->from, c->n_from))
        conn_end(f, c);
}

static void conn_shake(struct http_front *f, struct conn *c)
{
    if (!c->seen_first) {
        c->seen_first = true;
        if (speaks_plainly(c)) {
            conn_end(f, c);
            return;
        }
    }
    int code = gnutls_handshake(c->tls);
    if (code == 0) {
        conn_opened(f, c);
    } else if (code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED) {
        side_want(f, &c->net, gnutls_record_get_direction(c->tls) ? EPOLLOUT : EPOLLIN);
    } else if (gnutls_error_is_fatal(code)) {
        gnutls_alert_send_appropriate(c->tls, code);
        conn_end(f, c);
    }
}

/* ---- carrying ---- */

static bool waits(const struct pipe *p)
{
    return p != NULL && p->at < p->n;
}

/* From the peer to libmicrohttpd. True: something moved. */
static bool carry_up(struct http_front *f, struct conn *c)
{
    if (c->up == NULL)
        c->up = mem_alloc(sizeof(*c->up));
    if (!waits(c->up)) {
        if (c->up_ended)
            return false;
        ssize_t n = gnutls_record_recv(c->tls, c->up->bytes, PIPE_BYTES);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            return false;
        if (n == GNUTLS_E_REHANDSHAKE || n == GNUTLS_E_WARNING_ALERT_RECEIVED)
            return true; /* the one is ignored, the other says nothing */
        if (n <= 0) {
            c->up_ended = true;
            if (n < 0) /* cut off: what the server still has to say reaches nobody */
                conn_end(f, c);
            else if (c->inner.fd >= 0)
                shutdown(c->inner.fd, SHUT_WR);
            return false;
        }
        c->up->at = 0;
        c->up->n = (size_t)n;
        atomic_fetch_add_explicit(&c->peer->bytes, (uint64_t)n, memory_order_relaxed);
    }
    if (c->inner.fd < 0) { /* nobody reads it any more */
        c->up->at = c->up->n = 0;
        return true;
    }
    ssize_t n = send(c->inner.fd, c->up->bytes + c->up->at, c->up->n - c->up->at, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    c->up->at = n < 0 ? c->up->n : c->up->at + (size_t)n; /* the reader has gone: thrown away */
    return true;
}

/* From libmicrohttpd to the peer. */
static bool carry_down(struct http_front *f, struct conn *c)
{
    if (c->down == NULL)
        c->down = mem_alloc(sizeof(*c->down));
    if (!waits(c->down)) {
        if (c->down_ended || c->inner.fd < 0)
            return false;
        ssize_t n = read(c->inner.fd, c->down->bytes, PIPE_BYTES);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return false;
        if (n <= 0) {
            c->down_ended = true;
            side_close(f, &c->inner);
            gnutls_bye(c->tls, GNUTLS_SHUT_WR);
            shutdown(c->net.fd, SHUT_WR);
            c->state = CONN_ENDING;
            c->since_us = mono_us();
            if (c->up_ended)
                conn_end(f, c);
            return false;
        }
        c->down->at = 0;
        c->down->n = (size_t)n;
    }
    ssize_t n = gnutls_record_send(c->tls, c->down->bytes + c->down->at, c->down->n - c->down->at);
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        return false;
    if (n < 0) {
        conn_end(f, c);
        return false;
    }
    c->down->at += (size_t)n;
    return true;
}

static void conn_carry(struct http_front *f, struct conn *c)
{
    bool up = true, down = true;
    for (int turn = 0; turn < TURNS_MAX && !c->dead && (up || down); turn++) {
        up = carry_up(f, c);
        if (!c->dead)
            down = carry_down(f, c);
    }
    if (!c->dead && c->state == CONN_ENDING && c->up_ended)
        conn_end(f, c);
    if (c->dead)
        return;
    /* Nothing lies in GnuTLS unseen unless a turn moved something; then both are looked at again.
     */
    bool again = up || down;
    uint32_t net = 0, inner = 0;
    if (!c->up_ended && !waits(c->up))
        net |= EPOLLIN;
    if (waits(c->down) || again)
        net |= EPOLLOUT;
    if (!c->down_ended && !waits(c->down))
        inner |= EPOLLIN;
    if (waits(c->up))
        inner |= EPOLLOUT;
    side_want(f, &c->net, net);
    side_want(f, &c->inner, inner);
    /* An idle connection keeps no buffers. */
    if (!waits(c->up)) {
        mem_free(c->up);
        c->up = NULL;
    }
    if (!waits(c->down)) {
        mem_free(c->down);
        c->down = NULL;
    }
}

static void on_side(struct http_front *f, struct side *s)
{
    struct conn *c = s->conn;
    if (c->dead)
        return;
    if (c->state == CONN_SHAKING)
        conn_shake(f, c);
    if (!c->dead && c->state != CONN_SHAKING)
        conn_carry(f, c);
}

/* ---- the thread ---- */

static void sweep(struct http_front *f)
{
    int64_t now = mono_us();
    for (struct conn *c = f->conns, *next; c != NULL; c = next) {
        next = c->next;
        if ((c->state == CONN_SHAKING && now - c->since_us > f->handshake_us) ||
            (c->state == CONN_ENDING && now - c->since_us > LINGER_S * US_PER_S))
            conn_end(f, c);
    }
    conns_free(f);
}

static void *front_main(void *ctx)
{
    struct http_front *f = ctx;
    int64_t swept_us = mono_us();
    while (!atomic_load(&f->stop)) {
        struct epoll_event evs[EVENTS_MAX];
        int n = epoll_wait(f->epoll_fd, evs, EVENTS_MAX, SWEEP_MS);
        for (int i = 0; i < n; i++) {
            if (evs[i].data.ptr == f)
                accept_some(f);
            else if (evs[i].data.ptr != NULL)
                on_side(f, evs[i].data.ptr);
        }
        conns_free(f);
        if (mono_us() - swept_us > SWEEP_MS * US_PER_MS) {
            swept_us = mono_us();
            sweep(f);
        }
    }
    while (f->conns != NULL)
        conn_end(f, f->conns);
    conns_free(f);
    return NULL;
}

int http_front_start(int listen_fd, const struct http_front_ops *ops, void *ctx, int max_conns,
                     int handshake_s, struct http_front **out, struct err *e)
{
    struct http_front *f = mem_alloc(sizeof(*f));
    *f = (struct http_front){.ops = ops,
                             .ctx = ctx,
                             .listen_fd = listen_fd,
                             .max_conns = max_conns,
                             .handshake_us = handshake_s * US_PER_S,
                             .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                             .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    struct epoll_event door = {.events = EPOLLIN, .data.ptr = f}, wake = {.events = EPOLLIN};
    int rc = OK;
    if (f->epoll_fd < 0 || f->wake_fd < 0 ||
        epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, listen_fd, &door) != 0 ||
        epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, f->wake_fd, &wake) != 0)
        rc = err_sys(e, "epoll");
    if (rc == OK)
        rc = thread_start(&f->thread, "http-tls", front_main, f, e);
    if (rc != OK) {
        close(f->epoll_fd);
        close(f->wake_fd);
        close(listen_fd);
        mem_free(f);
        return rc;
    }
    *out = f;
    return OK;
}

void http_front_close_door(struct http_front *f)
{
    if (f == NULL)
        return;
    atomic_store(&f->closed, true);
    shutdown(f->listen_fd, SHUT_RD);
    epoll_ctl(f->epoll_fd, EPOLL_CTL_DEL, f->listen_fd, NULL);
}

void http_front_stop(struct http_front *f)
{
    if (f == NULL)
        return;
    http_front_close_door(f);
    atomic_store(&f->stop, true);
    uint64_t one = 1;
    (void)!write(f->wake_fd, &one, sizeof(one));
    pthread_join(f->thread, NULL);
    close(f->listen_fd);
    close(f->epoll_fd);
    close(f->wake_fd);
    mem_free(f);
}
