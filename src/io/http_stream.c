/* Endless answers (server-sent events, following a log) on the server's own loop.
 *
 * The connection is taken from libmicrohttpd: suspended there, each wake-up would walk the list of
 * all suspended connections, and each would keep its 8 KiB pool. HTTP/1.1 peers get chunks, so
 * that they can tell an end from a break; the connection closes after the last one.
 */
#include "io/http_internal.h"

#include "base/mem.h"
#include "base/world.h"

#include <stdio.h>

struct http_stream {
    struct loop_conn *conn;
    const struct http_stream_ops *ops;
    void *ctx;
    struct http_server *server;
    bool chunked, silent; /* silent: HEAD has no body */
};

static const int64_t stream_linger_us = 2 * US_PER_S;

static void stream_input(struct loop_conn *c, void *ctx, const char *p, size_t n)
{
    /* A peer has nothing to say here; what it says is not a next request either. */
}

static void stream_stopping(struct loop_conn *c, void *ctx)
{
    http_stream_end(ctx);
}

static void stream_closed(struct loop_conn *c, void *ctx)
{
    struct http_stream *s = ctx;
    struct http_server *server = s->server;
    if (s->ops != NULL && s->ops->closed != NULL)
        s->ops->closed(s->ctx);
    mem_free(s);
    http_server_unref(server);
}

static const struct loop_ops stream_loop_ops = {
    .input = stream_input,
    .stopping = stream_stopping,
    .closed = stream_closed,
};

struct http_stream *http_respond_stream(struct http_request *q, const struct http_answer *a,
                                        const struct http_stream_ops *ops, void *ctx)
{
    struct http_stream *s = mem_alloc(sizeof(*s));
    atomic_fetch_add(&q->server->refs, 1);
    s->server = q->server;
    s->ops = ops;
    s->ctx = ctx;
    s->chunked = q->http11;
    s->silent = q->is_head;
    s->conn = loop_conn_create(q->server->loop, &stream_loop_ops, s, HTTP_STREAM_BACKLOG_MAX);
    AUTO(buf) struct buf head = {0};
    http_head_write(&head, q, a);
    buf_printf(&head, "%sConnection: close\r\n\r\n",
               s->chunked ? "Transfer-Encoding: chunked\r\n" : "");
    loop_conn_write(s->conn, head.data, head.len, "", 0);
    if (s->silent)
        http_stream_end(s);
    else if (a->n > 0)
        http_stream_write(s, a->body, a->n);
    q->takeover = s->conn;
    http_request_answered(q);
    return s;
}

bool http_stream_write(struct http_stream *s, const void *p, size_t n)
{
    if (n == 0)
        return true; /* an empty chunk would be the end */
    bool taken;
    if (s->chunked) {
        AUTO(buf) struct buf chunk = {.max = n + 32};
        buf_printf(&chunk, "%zx\r\n", n);
        buf_add(&chunk, p, n);
        taken = loop_conn_write(s->conn, chunk.data, chunk.len, "\r\n", 2);
    } else {
        taken = loop_conn_write(s->conn, p, n, "", 0);
    }
    if (!taken)
        loop_conn_kill(s->conn);
    return taken;
}

size_t http_stream_backlog(const struct http_stream *s)
{
    return loop_conn_backlog(s->conn);
}

void http_stream_end(struct http_stream *s)
{
    static const char last[] = "0\r\n\r\n";
    bool chunk = s->chunked && !s->silent;
    loop_conn_finish(s->conn, last, chunk ? sizeof(last) - 1 : 0, stream_linger_us);
}
