/* The WebSocket client of the agent and the command line: a blocking handshake with a time
 * limit, then non-blocking reads and bounded writes on the caller's thread.
 *
 * The answer's head is peeked at and taken to its last byte, so that nothing of the first frame
 * is left in a buffer where the caller's poll() would not see it. A write that ran out of
 * time may have left half a frame: the connection is of no use after that and says so.
 */
#include "io/ws.h"

#include "io/ws_frames.h"

#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    DEFAULT_TIMEOUT_MS = 10000,
    DEFAULT_MESSAGE_MAX = 1 << 20,
    HEAD_BYTES_MAX = 8 << 10,
    READ_BYTES = 64 << 10,
    PUMP_BYTES_MAX = 4 << 20, /* one pump call gives the caller's loop a turn after this */
    MASK_BYTES = 16 << 10,
};

struct ws_client {
    int fd;
    int timeout_ms;
    struct ws_reader *reader;
    pthread_mutex_t send_lock;
    bool broken; /* under send_lock */
    /* the pumping thread only */
    void (*fn)(void *ctx, const char *data, size_t n, bool binary);
    void *ctx;
    int peer_code; /* 0: the peer has not closed */
};

/* ---- bytes with a deadline ---- */

static int wait_for(int fd, short events, int64_t deadline_us, struct err *e)
{
    for (;;) {
        int64_t left_ms = (deadline_us - mono_us()) / US_PER_MS;
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left_ms > 0 ? (int)left_ms : 0);
        if (n > 0)
            return OK;
        if (n == 0)
            return err_set(e, ERR_UPSTREAM_TIMEOUT, "the server did not answer in time");
        if (errno != EINTR)
            return err_sys(e, "poll");
    }
}

static int write_all(int fd, const void *p, size_t n, int64_t deadline_us, struct err *e)
{
    const char *s = p;
    while (n > 0) {
        ssize_t put = send(fd, s, n, MSG_NOSIGNAL);
        if (put >= 0) {
            s += put;
            n -= (size_t)put;
        } else if (errno == EAGAIN) {
            int kind = wait_for(fd, POLLOUT, deadline_us, e);
            if (kind != OK)
                return kind;
        } else if (errno != EINTR) {
            return err_set(e, ERR_UNAVAILABLE, "the connection to the server is lost: %s",
                           strerror(errno));
        }
    }
    return OK;
}

/* ---- connecting ---- */

static int connect_to(const struct sockaddr *a, socklen_t n, int64_t deadline_us, int *out,
                      struct err *e)
{
    AUTO(fd) int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, "socket");
    if (connect(fd, a, n) != 0) {
        if (errno != EINPROGRESS)
            return err_set(e, ERR_UNAVAILABLE, "cannot connect to the server: %s", strerror(errno));
        int kind = wait_for(fd, POLLOUT, deadline_us, e);
        if (kind != OK)
            return kind;
        int fault = 0;
        socklen_t n_fault = sizeof(fault);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &n_fault);
        if (fault != 0)
            return err_set(e, ERR_UNAVAILABLE, "cannot connect to the server: %s", strerror(fault));
    }
    *out = fd;
    fd = -1;
    return OK;
}

static int connect_unix(const char *path, int64_t deadline_us, int *out, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return err_set(e, ERR_INVALID, "the socket path %s is too long", path);
    memcpy(a.sun_path, path, strlen(path) + 1);
    return connect_to((struct sockaddr *)&a, sizeof(a), deadline_us, out, e);
}

static int connect_tcp(const char *host, uint16_t port, int64_t deadline_us, int *out,
                       struct err *e)
{
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0)
        return err_set(e, ERR_UNAVAILABLE, "cannot resolve %s: %s", host, gai_strerror(rc));
    int kind = ERR_UNAVAILABLE;
    for (struct addrinfo *a = list; a != NULL && kind != OK; a = a->ai_next)
        kind = connect_to(a->ai_addr, a->ai_addrlen, deadline_us, out, e);
    freeaddrinfo(list);
    if (kind == OK) {
        int one = 1;
        setsockopt(*out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(*out, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    return kind;
}

/* ---- the handshake ---- */

/* Nothing of the configuration may add a line of its own. */
static bool is_field_text(const char *s)
{
    for (; s != NULL && *s != '\0'; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    }
    return true;
}

static int ask(const struct ws_client *c, const struct ws_client_config *config, const char *key,
               int64_t deadline_us, struct err *e)
{
    if (!is_field_text(config->path) || strchr(config->path, ' ') != NULL ||
        !is_field_text(config->host) || !is_field_text(config->bearer) ||
        !is_field_text(config->protocol))
        return err_set(e, ERR_INVALID, "the address of the server is not valid");
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "GET %s HTTP/1.1\r\n", config->path);
    if (config->unix_path != NULL)
        buf_adds(&b, "Host: localhost\r\n");
    else
        buf_printf(&b, strchr(config->host, ':') != NULL ? "Host: [%s]:%u\r\n" : "Host: %s:%u\r\n",
                   config->host, config->port);
    buf_printf(&b,
               "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: %s\r\n",
               key);
    if (config->protocol != NULL)
        buf_printf(&b, "Sec-WebSocket-Protocol: %s\r\n", config->protocol);
    if (config->bearer != NULL)
        buf_printf(&b, "Authorization: Bearer %s\r\n", config->bearer);
    buf_adds(&b, "\r\n");
    return write_all(c->fd, b.data, b.len, deadline_us, e);
}

/* Takes the head of the answer, and not a byte more. */
static int take_head(const struct ws_client *c, char head[HEAD_BYTES_MAX + 1], int64_t deadline_us,
                     struct err *e)
{
    size_t len = 0;
    for (;;) {
        int kind = wait_for(c->fd, POLLIN, deadline_us, e);
        if (kind != OK)
            return kind;
        ssize_t n = recv(c->fd, head + len, HEAD_BYTES_MAX - len, MSG_PEEK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return err_set(e, ERR_UNAVAILABLE, "the server closed the connection");
        head[len + (size_t)n] = '\0';
        /* The end may lie across what was taken before. */
        size_t from = len >= 3 ? len - 3 : 0;
        char *end = memmem(head + from, len + (size_t)n - from, "\r\n\r\n", 4);
        size_t take = end != NULL ? (size_t)(end + 4 - head) - len : (size_t)n;
        if (recv(c->fd, head + len, take, 0) != (ssize_t)take)
            return err_set(e, ERR_UNAVAILABLE, "the server closed the connection");
        len += take;
        head[len] = '\0';
        if (end != NULL)
            return OK;
        if (len == HEAD_BYTES_MAX)
            return err_set(e, ERR_UPSTREAM, "the server's answer is not a WebSocket's");
    }
}

/* The value of a header in a head, copied and trimmed; "" when it is not there. */
static const char *head_value(const char *head, const char *name, char to[256])
{
    size_t n = strlen(name);
    to[0] = '\0';
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *value = line + n + 1;
        value += strspn(value, " \t");
        size_t len = strcspn(value, "\r\n");
        while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
            len--;
        snprintf(to, 256, "%.*s", (int)len, value);
        return to;
    }
    return to;
}

static int status_error(int status, struct err *e)
{
    static const struct {
        int status;
        enum err_kind kind;
    } rows[] = {{401, ERR_UNAUTHENTICATED},
                {403, ERR_FORBIDDEN},
                {404, ERR_NOT_FOUND},
                {429, ERR_UNAVAILABLE},
                {503, ERR_UNAVAILABLE}};
    enum err_kind kind = ERR_UPSTREAM;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].status == status)
            kind = rows[i].kind;
    }
    return err_set(e, kind, "the server answered %d instead of opening a WebSocket", status);
}

static int shake_hands(const struct ws_client *c, const struct ws_client_config *config,
                       int64_t deadline_us, struct err *e)
{
    char key[WS_KEY_SIZE], accept[WS_ACCEPT_SIZE], value[256];
    AUTO(mem) char *head = mem_alloc(HEAD_BYTES_MAX + 1);
    int kind = ask(c, config, ws_key_make(key), deadline_us, e);
    if (kind == OK)
        kind = take_head(c, head, deadline_us, e);
    if (kind != OK)
        return kind;
    int status = 0;
    if (sscanf(head, "HTTP/1.1 %3d", &status) != 1)
        return err_set(e, ERR_UPSTREAM, "the server's answer is not HTTP");
    if (status != 101)
        return status_error(status, e);
    if (!str_eq(head_value(head, "Sec-WebSocket-Accept", value), ws_key_accept(key, accept)))
        return err_set(e, ERR_UPSTREAM, "the server's answer is not a WebSocket's");
    const char *protocol = head_value(head, "Sec-WebSocket-Protocol", value);
    if (config->protocol != NULL && !str_eq(protocol, config->protocol))
        return err_set(e, ERR_UPSTREAM, "the server does not speak %s", config->protocol);
    return OK;
}

/* ---- frames ---- */

/* send_lock is held. */
static int send_frame(struct ws_client *c, int opcode, const void *p, size_t n, struct err *e)
{
    if (c->broken)
        return err_set(e, ERR_UNAVAILABLE, "the connection to the server is lost");
    int64_t deadline_us = mono_us() + c->timeout_ms * US_PER_MS;
    uint8_t mask[4], head[WS_HEAD_MAX];
    random_bytes(mask, sizeof(mask));
    size_t n_head = ws_frame_head(head, opcode, n, mask);
    AUTO(mem) char *part = mem_alloc(WS_HEAD_MAX + (n < MASK_BYTES ? n : MASK_BYTES));
    memcpy(part, head, n_head);
    size_t done = 0, len = n_head;
    int kind = OK;
    do {
        size_t step = n - done < MASK_BYTES ? n - done : MASK_BYTES;
        for (size_t i = 0; i < step; i++)
            part[len + i] = (char)(((const uint8_t *)p)[done + i] ^ mask[(done + i) % 4]);
        kind = write_all(c->fd, part, len + step, deadline_us, e);
        done += step;
        len = 0;
    } while (kind == OK && done < n);
    c->broken = kind != OK;
    return kind;
}

static int send_locked(struct ws_client *c, int opcode, const void *p, size_t n, struct err *e)
{
    pthread_mutex_lock(&c->send_lock);
    int kind = send_frame(c, opcode, p, n, e);
    pthread_mutex_unlock(&c->send_lock);
    return kind;
}

int ws_client_send(struct ws_client *c, const void *data, size_t n, bool binary, struct err *e)
{
    return send_locked(c, binary ? WS_BINARY : WS_TEXT, data, n, e);
}

int ws_client_ping(struct ws_client *c, struct err *e)
{
    return send_locked(c, WS_PING, "", 0, e);
}

static void on_message(void *ctx, const char *data, size_t n, bool binary)
{
    struct ws_client *c = ctx;
    if (c->peer_code == 0)
        c->fn(c->ctx, data, n, binary);
}

static void on_ping(void *ctx, const char *data, size_t n)
{
    /* A pong that cannot be sent shows at the next read. */
    send_locked(ctx, WS_PONG, data, n, NULL);
}

static void on_closing(void *ctx, int code)
{
    struct ws_client *c = ctx;
    c->peer_code = code;
}

static const struct ws_reader_ops reader_ops = {
    .message = on_message,
    .ping = on_ping,
    .closing = on_closing,
};

static void send_close(struct ws_client *c, int code)
{
    char payload[WS_CONTROL_MAX];
    size_t n = ws_close_payload(payload, code, NULL);
    send_locked(c, WS_CLOSE, payload, n, NULL);
}

int ws_client_pump(struct ws_client *c,
                   void (*fn)(void *ctx, const char *data, size_t n, bool binary), void *ctx,
                   struct err *e)
{
    AUTO(mem) char *part = mem_alloc(READ_BYTES);
    c->fn = fn;
    c->ctx = ctx;
    for (size_t total = 0; total < PUMP_BYTES_MAX;) {
        ssize_t n = recv(c->fd, part, READ_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return OK;
        if (n < 0)
            return err_set(e, ERR_UNAVAILABLE, "the connection to the server is lost: %s",
                           strerror(errno));
        if (n == 0)
            return err_set(e, ERR_UNAVAILABLE, "the server closed the connection");
        total += (size_t)n;
        int fault = ws_reader_feed(c->reader, part, (size_t)n);
        if (fault != 0) {
            send_close(c, fault);
            return err_set(e, ERR_UPSTREAM, "the server sent what is not WebSocket (%d)", fault);
        }
        if (c->peer_code != 0) {
            send_close(c, c->peer_code);
            return err_set(e, ERR_UNAVAILABLE, "the server closed the connection (%d)",
                           c->peer_code);
        }
        if (n < READ_BYTES)
            return OK;
    }
    return OK;
}

int ws_client_fd(const struct ws_client *c)
{
    return c->fd;
}

static void client_free(struct ws_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    ws_reader_destroy(c->reader);
    pthread_mutex_destroy(&c->send_lock);
    mem_free(c);
}

int ws_client_connect(const struct ws_client_config *config, struct ws_client **out, struct err *e)
{
    struct ws_client *c = mem_alloc(sizeof(*c));
    c->fd = -1;
    c->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : DEFAULT_TIMEOUT_MS;
    pthread_mutex_init(&c->send_lock, NULL);
    size_t message_max = config->message_max > 0 ? config->message_max : DEFAULT_MESSAGE_MAX;
    c->reader = ws_reader_create(false, message_max, &reader_ops, c);
    int64_t deadline_us = mono_us() + c->timeout_ms * US_PER_MS;
    int kind = c->reader != NULL ? OK : err_set(e, ERR_INTERNAL, "no WebSocket can be opened now");
    if (kind == OK)
        kind = config->unix_path != NULL
                   ? connect_unix(config->unix_path, deadline_us, &c->fd, e)
                   : connect_tcp(config->host, config->port, deadline_us, &c->fd, e);
    if (kind == OK)
        kind = shake_hands(c, config, deadline_us, e);
    if (kind != OK) {
        client_free(c);
        return kind;
    }
    *out = c;
    return OK;
}

void ws_client_close(struct ws_client *c)
{
    if (c == NULL)
        return;
    if (c->peer_code == 0) {
        c->timeout_ms = 1000; /* a peer that does not read must not hold us up */
        send_close(c, WS_NORMAL);
    }
    shutdown(c->fd, SHUT_WR);
    client_free(c);
}
