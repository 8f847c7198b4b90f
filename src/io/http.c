/* The server's life: listeners, connections and their time limits, start and stop.
 *
 * libmicrohttpd has one timeout a connection, refreshed by every byte, which a slow client
 * can play for hours. So a sweeper looks over all connections: it ends those that take too long
 * for their headers or send no body byte. It learns that a head has begun from the kernel's byte
 * counter, as the library tells only whole lines.
 *
 * Order at stop: refuse what is new, answer what waits with 503, end the streams, give answers
 * a moment to leave, then stop the library (which must find nothing suspended).
 */
#include "io/http_internal.h"
#include "io/http_mhd.h"
#include "io/thread.h"
#include "io/ws.h"

#include "base/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    DEFAULT_THREADS = 2,
    DEFAULT_CONNECTIONS = 20000,
    DEFAULT_IDLE_S = 75,
    DEFAULT_HEAD_S = 15,
    DEFAULT_BODY_S = 30,
    LISTEN_BACKLOG = 4096,
    FD_RESERVE = 256, /* descriptors that connections never get */
    SWEEP_STEP = 512, /* connections looked at under one hold of the lock */
    STOP_FLUSH_MS = 2000,
};
static const int64_t sweep_pause_us = US_PER_S;

/* ---- descriptors ---- */

/* As many connections as descriptors allow, with some kept for files and jobs. */
static int connections_allowed(int wanted)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return wanted;
    if (r.rlim_cur < r.rlim_max) {
        struct rlimit up = {.rlim_cur = r.rlim_max, .rlim_max = r.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &up) == 0)
            r.rlim_cur = r.rlim_max;
    }
    rlim_t reserve = r.rlim_cur > 4 * FD_RESERVE ? FD_RESERVE : r.rlim_cur / 4;
    rlim_t room = r.rlim_cur - reserve - HTTP_OVER_MAX;
    if (r.rlim_cur < reserve + HTTP_OVER_MAX + 1)
        room = 1;
    return (rlim_t)wanted < room ? wanted : (int)room;
}

bool http_server_over(const struct http_server *server, int slack)
{
    struct http_server *s = (struct http_server *)server;
    size_t all = (size_t)atomic_load(&s->n_conns) + loop_conns(s->loop) + ws_open_count();
    return all > (size_t)(s->max_connections + slack);
}

/* The host's own command line and agent get in while the network is flooded. */
int http_listening_slack(const struct http_listening *l)
{
    return l->unix_path != NULL ? HTTP_LOCAL_MAX : 0;
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *addr, socklen_t n)
{
    struct http_listening *l = cls;
    struct http_server *s = l->server;
    /* A few over the limit are let in, to be told so. */
    int slack = HTTP_OVER_MAX - 1 + http_listening_slack(l);
    return atomic_load(&s->stopping) || http_server_over(s, slack) ? MHD_NO : MHD_YES;
}

/* ---- connections ---- */

static void peer_read(struct http_conn *conn)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    struct http_peer_id *p = &conn->peer;
    if (conn->front != NULL) {
        memcpy(p->text, conn->front->text, sizeof(p->text));
    } else if (conn->listening->unix_path != NULL) {
        struct ucred cred;
        socklen_t n_cred = sizeof(cred);
        snprintf(p->text, sizeof(p->text), "unix");
        if (getsockopt(conn->fd, SOL_SOCKET, SO_PEERCRED, &cred, &n_cred) == 0) {
            p->is_unix = true;
            p->uid = cred.uid;
            p->pid = cred.pid;
        }
    } else if (getpeername(conn->fd, (struct sockaddr *)&a, &n) == 0) {
        const void *ip = a.ss_family == AF_INET6
                             ? (const void *)&((struct sockaddr_in6 *)&a)->sin6_addr
                             : (const void *)&((struct sockaddr_in *)&a)->sin_addr;
        inet_ntop(a.ss_family, ip, p->text, sizeof(p->text));
    }
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_listening *l = cls;
    struct http_server *s = l->server;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        struct http_conn *conn = mem_alloc(sizeof(*conn));
        conn->listening = l;
        conn->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        conn->front = l->tls ? http_tls_peer_take(s, conn->fd) : NULL;
        atomic_store(&conn->phase, PHASE_IDLE);
        atomic_store(&conn->since_us, mono_us());
        conn->mark_since_us = atomic_load(&conn->since_us);
        peer_read(conn);
        *socket_context = conn;
        atomic_fetch_add(&s->accepted, 1);
        atomic_fetch_add(&s->n_conns, 1);
        pthread_mutex_lock(&s->lock);
        conn->next = s->conns;
        if (s->conns != NULL)
            s->conns->prev = conn;
        s->conns = conn;
        pthread_mutex_unlock(&s->lock);
        return;
    }
    /* Told before the descriptor is closed: nobody may touch it after this. */
    struct http_conn *conn = *socket_context;
    pthread_mutex_lock(&s->lock);
    if (s->sweep_at == conn)
        s->sweep_at = conn->next;
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        s->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_sub(&s->n_conns, 1);
    http_front_peer_unref(conn->front);
    mem_free(conn);
}

/* ---- the sweeper ---- */

static uint64_t bytes_received(const struct http_conn *conn)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof(info);
    if (conn->front != NULL)
        return atomic_load_explicit(&conn->front->bytes, memory_order_relaxed);
    if (conn->peer.is_unix || getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
        return 0;
    return info.tcpi_bytes_received;
}

/* Whether the connection has used up its time. */
static bool conn_is_late(const struct http_server *s, struct http_conn *conn, int64_t now)
{
    int64_t since = atomic_load(&conn->since_us);
    switch (atomic_load(&conn->phase)) {
    case PHASE_HEAD:
        return now - since > s->head_timeout_us;
    case PHASE_BODY:
        return now - since > s->body_timeout_us;
    case PHASE_IDLE:
        break;
    default:
        return false;
    }
    uint64_t bytes = bytes_received(conn);
    if (conn->mark_since_us != since) { /* idle anew: any byte from now on is a new head */
        conn->mark_since_us = since;
        conn->mark_bytes = bytes;
        conn->head_since_us = 0;
    }
    if (conn->head_since_us == 0 && bytes > conn->mark_bytes)
        conn->head_since_us = now;
    return conn->head_since_us != 0 && now - conn->head_since_us > s->head_timeout_us;
}

static void sweep(struct http_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->sweep_at = s->conns;
    while (s->sweep_at != NULL) {
        int64_t now = mono_us();
        for (int i = 0; i < SWEEP_STEP && s->sweep_at != NULL; i++) {
            struct http_conn *conn = s->sweep_at;
            s->sweep_at = conn->next;
            if (conn_is_late(s, conn, now))
                shutdown(conn->fd, SHUT_RDWR); /* the library sees the end and cleans up */
        }
        pthread_mutex_unlock(&s->lock);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

static void *sweeper_thread(void *ctx)
{
    struct http_server *s = ctx;
    pthread_mutex_lock(&s->sweep_lock);
    while (!s->sweep_ending) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += sweep_pause_us / US_PER_S;
        pthread_cond_timedwait(&s->sweep_end, &s->sweep_lock, &until);
        if (s->sweep_ending)
            break;
        pthread_mutex_unlock(&s->sweep_lock);
        sweep(s);
        pthread_mutex_lock(&s->sweep_lock);
    }
    pthread_mutex_unlock(&s->sweep_lock);
    return NULL;
}

/* ---- listening ---- */

/* A socket file that nobody answers is left over from a process that died. */
static int unix_path_free(const struct sockaddr_un *a, struct err *e)
{
    struct stat st;
    if (lstat(a->sun_path, &st) != 0)
        return OK;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_CONFLICT, "%s exists and is not a socket", a->sun_path);
    AUTO(fd) int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return err_sys(e, "socket");
    if (connect(probe, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN)
        return err_set(e, ERR_CONFLICT, "another process serves %s", a->sun_path);
    if (unlink(a->sun_path) != 0 && errno != ENOENT)
        return err_sys(e, "removing %s", a->sun_path);
    return OK;
}

static int listen_unix(const struct http_listener *want, int *out, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(want->unix_path) >= sizeof(a.sun_path))
        return err_set(e, ERR_INVALID, "the socket path %s is longer than %zu bytes",
                       want->unix_path, sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, want->unix_path, strlen(want->unix_path) + 1);
    int kind = unix_path_free(&a, e);
    if (kind != OK)
        return kind;
    unsigned mode = want->unix_mode != 0 ? want->unix_mode : 0600;
    AUTO(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the descriptor becomes that of the file: it never exists with a wider one. */
    if (fd < 0 || fchmod(fd, mode) != 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        chmod(a.sun_path, mode) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
        return err_sys(e, "listening on %s", want->unix_path);
    *out = fd;
    fd = -1;
    return OK;
}

static int listen_tcp(const struct http_listener *want, int *out, uint16_t *port, struct err *e)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(want->port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(want->port)};
    bool is6 = want->host != NULL && strchr(want->host, ':') != NULL;
    if (want->host == NULL || inet_pton(is6 ? AF_INET6 : AF_INET, want->host,
                                        is6 ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr) != 1)
        return err_set(e, ERR_INVALID, "%s is not an IP address",
                       want->host != NULL ? want->host : "(none)");
    const struct sockaddr *a = is6 ? (const struct sockaddr *)&a6 : (const struct sockaddr *)&a4;
    socklen_t n = is6 ? sizeof(a6) : sizeof(a4);
    AUTO(fd)
    int fd = socket(is6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (is6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    if (fd < 0 || bind(fd, a, n) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
        return err_sys(e, "listening on %s port %u", want->host, want->port);
    struct sockaddr_storage got = {0};
    socklen_t n_got = sizeof(got);
    if (getsockname(fd, (struct sockaddr *)&got, &n_got) != 0)
        return err_sys(e, "getsockname");
    *port = ntohs(is6 ? ((struct sockaddr_in6 *)&got)->sin6_port
                      : ((struct sockaddr_in *)&got)->sin_port);
    *out = fd;
    fd = -1;
    return OK;
}

static int listener_start(struct http_server *s, const struct http_config *c, size_t index,
                          struct err *e)
{
    const struct http_listener *want = &c->listeners[index];
    struct http_listening *l = &s->listening[index];
    l->server = s;
    l->index = index;
    l->tls = want->tls;
    int fd = -1;
    int kind = want->unix_path != NULL ? listen_unix(want, &fd, e)
                                       : listen_tcp(want, &fd, &l->port, e);
    if (kind != OK)
        return kind;
    l->unix_path = mem_strdup(want->unix_path);

    int threads = c->threads > 0 ? c->threads : DEFAULT_THREADS;
    if (l->unix_path != NULL)
        threads = 1;
    /* The library divides its limit among its threads, and a thread may get all: the real
     * limit is ours, over all listeners. */
    unsigned limit = (unsigned)(s->max_connections + HTTP_OVER_MAX + HTTP_LOCAL_MAX) *
                     (unsigned)threads;
    unsigned idle_s = (unsigned)(c->idle_timeout_s > 0 ? c->idle_timeout_s : DEFAULT_IDLE_S);
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ITC |
                     MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
    struct MHD_OptionItem more[3] = {{MHD_OPTION_END, 0, NULL}};
    size_t n_more = 0;
    if (want->tls) /* the front accepts, and hands connections in */
        flags |= MHD_USE_NO_LISTEN_SOCKET;
    else
        more[n_more++] = (struct MHD_OptionItem){MHD_OPTION_LISTEN_SOCKET, fd, NULL};
    if (threads > 1)
        more[n_more++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    more[n_more] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    sigset_t old;
    thread_signals_block(&old);
    l->daemon = MHD_start_daemon(
        flags, 0, on_accept, l, http_mhd_handle, l, MHD_OPTION_CONNECTION_LIMIT, limit,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_POOL_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_connection, l,
        MHD_OPTION_NOTIFY_COMPLETED, http_mhd_completed, l, MHD_OPTION_URI_LOG_CALLBACK,
        http_mhd_uri, l, MHD_OPTION_UNESCAPE_CALLBACK, http_mhd_unescape, NULL, MHD_OPTION_ARRAY,
        more, MHD_OPTION_END);
    thread_signals_restore(&old);
    if (l->daemon == NULL) {
        if (fcntl(fd, F_GETFD) >= 0)
            close(fd);
        return err_set(e, ERR_INTERNAL, "the HTTP library did not start a listener");
    }
    int head_s = c->head_timeout_s > 0 ? c->head_timeout_s : DEFAULT_HEAD_S;
    return want->tls ? http_tls_listen(l, fd, head_s, e) : OK;
}

/* ---- start and stop ---- */

void http_server_unref(struct http_server *s)
{
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    http_packed_free(s);
    loop_destroy(s->loop);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->packed_lock);
    pthread_mutex_destroy(&s->sweep_lock);
    pthread_cond_destroy(&s->sweep_end);
    for (size_t i = 0; i < s->n_listening; i++)
        mem_free(s->listening[i].unix_path);
    http_tls_close(s);
    mem_free(s);
}

int http_server_start(const struct http_config *c, struct http_server **out, struct err *e)
{
    struct http_server *s = mem_alloc(sizeof(*s));
    atomic_store(&s->refs, 1);
    s->app = c->app;
    s->max_connections = connections_allowed(c->max_connections > 0 ? c->max_connections
                                                                    : DEFAULT_CONNECTIONS);
    if (c->tls.cert != NULL && s->max_connections > 3)
        s->max_connections /= 3; /* each takes a socket and a pair of inner ones */
    s->head_timeout_us = (c->head_timeout_s > 0 ? c->head_timeout_s : DEFAULT_HEAD_S) * US_PER_S;
    s->body_timeout_us = (c->body_timeout_s > 0 ? c->body_timeout_s : DEFAULT_BODY_S) * US_PER_S;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->tls_lock, NULL);
    pthread_mutex_init(&s->packed_lock, NULL);
    pthread_mutex_init(&s->sweep_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->sweep_end, &attr);
    pthread_condattr_destroy(&attr);

    int kind = http_tls_open(s, &c->tls, e);
    if (kind == OK)
        kind = loop_create("http-streams", &s->loop, e);
    if (kind == OK)
        kind = thread_start(&s->sweeper, "http-sweep", sweeper_thread, s, e);
    if (kind != OK) {
        if (s->loop != NULL)
            loop_stop(s->loop);
        http_server_unref(s);
        return kind;
    }
    for (size_t i = 0; kind == OK && i < c->n_listeners; i++) {
        s->n_listening = i + 1;
        kind = listener_start(s, c, i, e);
    }
    if (kind != OK) {
        http_server_stop(s);
        return kind;
    }
    *out = s;
    return OK;
}

uint16_t http_server_port(const struct http_server *s, size_t listener)
{
    return listener < s->n_listening ? s->listening[listener].port : 0;
}

void http_server_stop(struct http_server *s)
{
    if (s == NULL)
        return;
    atomic_store(&s->stopping, true);
    for (size_t i = 0; i < s->n_listening; i++)
        http_front_close_door(s->listening[i].front);
    http_requests_stop(s);
    loop_stop(s->loop);
    for (int ms = 0; ms < STOP_FLUSH_MS && atomic_load(&s->n_active) > 0; ms += 5)
        usleep(5000); /* allowed: at most STOP_FLUSH_MS, while nothing else is left to do */
    /* A request that began before `stopping` and had not suspended yet answers for itself, so
     * nothing is suspended here. */
    for (size_t i = 0; i < s->n_listening; i++)
        http_front_stop(s->listening[i].front);
    for (size_t i = 0; i < s->n_listening; i++) {
        if (s->listening[i].daemon != NULL)
            MHD_stop_daemon(s->listening[i].daemon);
        if (s->listening[i].unix_path != NULL)
            unlink(s->listening[i].unix_path);
    }
    pthread_mutex_lock(&s->sweep_lock);
    s->sweep_ending = true;
    pthread_cond_signal(&s->sweep_end);
    pthread_mutex_unlock(&s->sweep_lock);
    pthread_join(s->sweeper, NULL);
    http_server_unref(s);
}

void http_server_stats(const struct http_server *server, struct http_server_stats *out)
{
    struct http_server *s = (struct http_server *)server;
    *out = (struct http_server_stats){
        .connections = (uint64_t)atomic_load(&s->n_conns) + loop_conns(s->loop),
        .accepted = atomic_load(&s->accepted),
        .requests = atomic_load(&s->requests),
        .refused = atomic_load(&s->refused),
    };
}
