/* WebSocket (RFC 6455) with libwslay for the frames: the server's side on one epoll loop for
 * all sockets, and a client for the agent and the command line.
 *
 * Server: ping every 30 s; a peer that sends nothing (no pong either) for silent_s is closed with
 * 1001; a backlog over backlog_max is closed with 1013; a message over message_max with 1009.
 * Frames of clients must be masked, text must be UTF-8, control frames at most 125 bytes (sections
 * 5 and 8).
 *
 * Threads: ws_send* and ws_close from any thread; callbacks on the loop's thread, one at a time,
 * and they must not block. `closed` is the last call for a socket; its handle is gone when it
 * returns, so whoever keeps handles keeps them under a lock that `closed` takes too.
 */
#ifndef IO_WS_H
#define IO_WS_H

#include "base/err.h"
#include "io/dial.h"
#include "io/http.h"

struct ws;
struct ws_ops {
    void (*message)(struct ws *ws, void *ctx, const char *data, size_t n, bool binary);
    void (*closed)(struct ws *ws, void *ctx, int code);
};
struct ws_limits {
    size_t message_max; /* 0: default (1 MiB) */
    size_t backlog_max; /* 0: default (1 MiB) */
    int ping_s;         /* 0: default (30) */
    int silent_s;       /* 0: default (1800) */
};

/* True when the request asks for an upgrade to WebSocket version 13. */
bool ws_wanted(const struct http_request *q);
/* Answers 101 (or the right error, then NULL) and gives the connection to the loop. opened is
 * called on the loop's thread before any message. protocol may be NULL. */
struct ws *ws_accept(struct http_request *q, const char *protocol, const struct ws_ops *ops,
                     const struct ws_limits *limits, void *ctx,
                     void (*opened)(struct ws *ws, void *ctx));
bool ws_send_text(struct ws *ws, const char *data, size_t n); /* false: closing */
bool ws_send_binary(struct ws *ws, const void *data, size_t n);
void ws_close(struct ws *ws, int code, const char *reason);
size_t ws_backlog(const struct ws *ws);
size_t ws_open_count(void);
/* Ends every socket with 1001 and joins the loop. */
void ws_loop_stop(void);

/* ---- client: blocking connect, then one thread of the caller's pumps it ---- */

struct ws_client;
struct ws_client_config {
    const struct dial_to *to;
    const char *path;   /* "/v1/agent/link" */
    const char *bearer; /* NULL: none */
    const char *protocol;
    int timeout_ms; /* of connecting and of each blocked write */
    size_t message_max;
};
int ws_client_connect(const struct ws_client_config *config, struct ws_client **out, struct err *e);
int ws_client_fd(const struct ws_client *c); /* for the caller's poll() */
/* There is something for ws_client_pump() that poll() does not show. */
bool ws_client_pending(const struct ws_client *c);
int ws_client_send(struct ws_client *c, const void *data, size_t n, bool binary, struct err *e);
/* Reads what is there and calls fn for every whole message. ERR_UNAVAILABLE: closed by peer. */
int ws_client_pump(struct ws_client *c,
                   void (*fn)(void *ctx, const char *data, size_t n, bool binary), void *ctx,
                   struct err *e);
int ws_client_ping(struct ws_client *c, struct err *e);
void ws_client_close(struct ws_client *c); /* NULL is fine */

#endif
