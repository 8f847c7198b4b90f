/* The server's side of WebSocket: handshake, keep-alive, limits, closing; one loop for all
 * sockets of the process.
 *
 * Any thread may send; the frames are appended whole to the connection's outgoing bytes.
 * A socket closes once: the first reason wins and is what `closed` is told.
 */
#include "io/ws.h"

#include "io/http_guard.h"
#include "io/http_internal.h"
#include "io/ws_frames.h"

#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_MESSAGE_MAX = 1 << 20,
    DEFAULT_BACKLOG_MAX = 1 << 20,
    DEFAULT_PING_S = 30,
    DEFAULT_SILENT_S = 1800,
};
static const int64_t close_linger_us = 5 * US_PER_S;

struct ws {
    struct loop_conn *conn;
    struct ws_reader *reader;
    const struct ws_ops *ops;
    void *ctx;
    void (*opened)(struct ws *ws, void *ctx);
    int64_t ping_us, silent_us;
    atomic_int code; /* 0 while open, then why it closes */
    /* the loop's thread only */
    int64_t heard_us, pinged_us;
};

static pthread_mutex_t loop_lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *ws_loop;
static atomic_size_t open_count;

static bool ws_send(struct ws *ws, int opcode, const void *p, size_t n)
{
    if (atomic_load(&ws->code) != 0)
        return false;
    uint8_t head[WS_HEAD_MAX];
    size_t n_head = ws_frame_head(head, opcode, n, NULL);
    if (loop_conn_write(ws->conn, head, n_head, p, n))
        return true;
    ws_close(ws, WS_TRY_LATER, "too slow");
    return false;
}

bool ws_send_text(struct ws *ws, const char *data, size_t n)
{
    return ws_send(ws, WS_TEXT, data, n);
}

bool ws_send_binary(struct ws *ws, const void *data, size_t n)
{
    return ws_send(ws, WS_BINARY, data, n);
}

void ws_close(struct ws *ws, int code, const char *reason)
{
    int open = 0;
    if (!atomic_compare_exchange_strong(&ws->code, &open, code))
        return;
    char frame[WS_HEAD_MAX + WS_CONTROL_MAX], payload[WS_CONTROL_MAX];
    size_t n = ws_close_payload(payload, code, reason);
    size_t n_head = ws_frame_head((uint8_t *)frame, WS_CLOSE, n, NULL);
    memcpy(frame + n_head, payload, n);
    loop_conn_finish(ws->conn, frame, n_head + n, close_linger_us);
}

size_t ws_backlog(const struct ws *ws)
{
    return loop_conn_backlog(ws->conn);
}

size_t ws_open_count(void)
{
    return atomic_load(&open_count);
}

/* ---- on the loop's thread ---- */

static void on_message(void *ctx, const char *data, size_t n, bool binary)
{
    struct ws *ws = ctx;
    if (atomic_load(&ws->code) == 0)
        ws->ops->message(ws, ws->ctx, data, n, binary);
}

/* A peer with a full backlog gets no pong or ping; only messages make it too slow. */
static void send_control(struct ws *ws, int opcode, const char *data, size_t n)
{
    uint8_t head[WS_HEAD_MAX];
    loop_conn_write(ws->conn, head, ws_frame_head(head, opcode, n, NULL), data, n);
}

static void on_ping(void *ctx, const char *data, size_t n)
{
    send_control(ctx, WS_PONG, data, n);
}

static void on_closing(void *ctx, int code)
{
    /* Told back as it came; when we closed first this is the answer and changes nothing. */
    ws_close(ctx, code, NULL);
}

static const struct ws_reader_ops reader_ops = {
    .message = on_message,
    .ping = on_ping,
    .closing = on_closing,
};

static void on_attached(struct loop_conn *c, void *ctx)
{
    struct ws *ws = ctx;
    ws->heard_us = ws->pinged_us = mono_us();
    if (ws->opened != NULL)
        ws->opened(ws, ws->ctx);
}

static void on_input(struct loop_conn *c, void *ctx, const char *p, size_t n)
{
    struct ws *ws = ctx;
    ws->heard_us = mono_us();
    int fault = ws_reader_feed(ws->reader, p, n);
    if (fault != 0)
        ws_close(ws, fault, NULL);
}

static void on_tick(struct loop_conn *c, void *ctx, int64_t now)
{
    struct ws *ws = ctx;
    if (atomic_load(&ws->code) != 0)
        return;
    if (now - ws->heard_us > ws->silent_us) {
        ws_close(ws, WS_GOING_AWAY, "silent");
    } else if (now - ws->pinged_us >= ws->ping_us) {
        ws->pinged_us = now;
        send_control(ws, WS_PING, "", 0);
    }
}

static void on_stopping(struct loop_conn *c, void *ctx)
{
    ws_close(ctx, WS_GOING_AWAY, "stopping");
}

static void on_closed(struct loop_conn *c, void *ctx)
{
    struct ws *ws = ctx;
    int code = atomic_load(&ws->code);
    /* Whoever still sends must find it closed. */
    if (code == 0)
        atomic_compare_exchange_strong(&ws->code, &code, WS_LOST);
    ws->ops->closed(ws, ws->ctx, code != 0 ? code : WS_LOST);
    atomic_fetch_sub(&open_count, 1);
    ws_reader_destroy(ws->reader);
    mem_free(ws);
}

static const struct loop_ops ws_loop_ops = {
    .attached = on_attached,
    .input = on_input,
    .tick = on_tick,
    .stopping = on_stopping,
    .closed = on_closed,
};

/* ---- the handshake ---- */

static bool upgrade_asked(const struct http_request *q)
{
    return q->http11 && !q->is_head && str_eq(http_method(q), "GET") &&
           http_list_has(http_header(q, "Upgrade"), "websocket") &&
           http_list_has(http_header(q, "Connection"), "upgrade");
}

bool ws_wanted(const struct http_request *q)
{
    return upgrade_asked(q) && str_eq(http_header(q, "Sec-WebSocket-Version"), "13");
}

static struct ws *refuse(struct http_request *q, int status, const char *text)
{
    struct http_answer a = {.status = status,
                            .type = "text/plain; charset=utf-8",
                            .body = text,
                            .n = strlen(text),
                            .close = true};
    if (status == 426) {
        a.headers[a.n_headers++] = (struct http_header_pair){"Upgrade", "websocket"};
        a.headers[a.n_headers++] = (struct http_header_pair){"Sec-WebSocket-Version", "13"};
    }
    http_respond(q, &a);
    return NULL;
}

static struct loop_conn *conn_make(struct ws *ws, size_t backlog_max)
{
    struct err e = {0};
    pthread_mutex_lock(&loop_lock);
    struct loop_conn *c = NULL;
    if (ws_loop != NULL || loop_create("ws", &ws_loop, &e) == OK)
        c = loop_conn_create(ws_loop, &ws_loop_ops, ws, backlog_max);
    pthread_mutex_unlock(&loop_lock);
    return c;
}

struct ws *ws_accept(struct http_request *q, const char *protocol, const struct ws_ops *ops,
                     const struct ws_limits *limits, void *ctx,
                     void (*opened)(struct ws *ws, void *ctx))
{
    const char *key = http_header(q, "Sec-WebSocket-Key");
    if (!upgrade_asked(q))
        return refuse(q, 426, "This address speaks WebSocket only.\n");
    if (!ws_wanted(q))
        return refuse(q, 426, "The WebSocket version must be 13.\n");
    if (!ws_key_valid(key))
        return refuse(q, 400, "The Sec-WebSocket-Key is not 16 bytes of base64.\n");

    struct ws_limits none = {0};
    if (limits == NULL)
        limits = &none;
    struct ws *ws = mem_alloc(sizeof(*ws));
    ws->ops = ops;
    ws->ctx = ctx;
    ws->opened = opened;
    ws->ping_us = (limits->ping_s > 0 ? limits->ping_s : DEFAULT_PING_S) * US_PER_S;
    ws->silent_us = (limits->silent_s > 0 ? limits->silent_s : DEFAULT_SILENT_S) * US_PER_S;
    ws->reader = ws_reader_create(
        true, limits->message_max > 0 ? limits->message_max : DEFAULT_MESSAGE_MAX, &reader_ops, ws);
    if (ws->reader != NULL)
        ws->conn = conn_make(ws,
                             limits->backlog_max > 0 ? limits->backlog_max : DEFAULT_BACKLOG_MAX);
    if (ws->conn == NULL) {
        ws_reader_destroy(ws->reader);
        mem_free(ws);
        return refuse(q, 503, "No WebSocket can be opened now.\n");
    }

    char accept[WS_ACCEPT_SIZE];
    struct http_answer a = {.status = 101};
    a.headers[a.n_headers++] = (struct http_header_pair){"Upgrade", "websocket"};
    a.headers[a.n_headers++] = (struct http_header_pair){"Connection", "Upgrade"};
    a.headers[a.n_headers++] = (struct http_header_pair){"Sec-WebSocket-Accept",
                                                         ws_key_accept(key, accept)};
    /* A protocol that was not offered would make the peer give up. */
    if (protocol != NULL && http_list_has(http_header(q, "Sec-WebSocket-Protocol"), protocol))
        a.headers[a.n_headers++] = (struct http_header_pair){"Sec-WebSocket-Protocol", protocol};
    AUTO(buf) struct buf head = {0};
    http_head_write(&head, q, &a);
    buf_adds(&head, "\r\n");
    loop_conn_write(ws->conn, head.data, head.len, "", 0);
    atomic_fetch_add(&open_count, 1);
    q->takeover = ws->conn;
    http_request_answered(q);
    return ws;
}

void ws_loop_stop(void)
{
    pthread_mutex_lock(&loop_lock);
    struct loop *loop = TAKE(ws_loop);
    pthread_mutex_unlock(&loop_lock);
    if (loop == NULL)
        return;
    loop_stop(loop);
    loop_destroy(loop);
}
