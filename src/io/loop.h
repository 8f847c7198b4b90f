/* One epoll thread that owns many sockets: WebSockets and endless answers live here, so that
 * thousands of slow peers cost a descriptor and a few hundred bytes each, never a thread.
 *
 * A connection is made before it has a socket; what is written meanwhile waits. Everything
 * written is appended whole or not at all, so pieces of two writers never mix.
 *
 * Threads: loop_conn_write, _finish, _kill, _backlog and _attach from any thread. Callbacks on the
 * loop's thread, one at a time, without any lock of the loop held. `closed` is the last call for
 * a connection; the handle is gone when it returns.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct loop_conn;

struct loop_ops {
    void (*attached)(struct loop_conn *c, void *ctx); /* the socket is there; may be NULL */
    void (*input)(struct loop_conn *c, void *ctx, const char *p, size_t n);
    void (*tick)(struct loop_conn *c, void *ctx, int64_t now_us); /* twice a second; or NULL */
    void (*stopping)(struct loop_conn *c, void *ctx); /* loop_stop: say good-bye; or NULL */
    void (*closed)(struct loop_conn *c, void *ctx);
};

int loop_create(const char *name, struct loop **out, struct err *e);
/* Tells every connection, flushes for at most a second, closes all, joins the thread. */
void loop_stop(struct loop *loop);
/* After loop_stop; connections made since then were closed by themselves. NULL is fine. */
void loop_destroy(struct loop *loop);
size_t loop_conns(const struct loop *loop);

struct loop_conn *loop_conn_create(struct loop *loop, const struct loop_ops *ops, void *ctx,
                                   size_t backlog_max);
/* fd is the loop's from now on. -1: there will be none, the connection is closed. */
void loop_conn_attach(struct loop_conn *c, int fd);
/* Two parts, one unit. False: it would pass backlog_max, or no more is taken. */
bool loop_conn_write(struct loop_conn *c, const void *head, size_t n_head, const void *p, size_t n);
/* The same, then takes no more and closes when all is flushed and the peer has closed too, or
 * after linger_us. The backlog's limit does not count here. */
void loop_conn_finish(struct loop_conn *c, const void *p, size_t n, int64_t linger_us);
/* Closes now, without a flush. */
void loop_conn_kill(struct loop_conn *c);
size_t loop_conn_backlog(const struct loop_conn *c);

#endif
