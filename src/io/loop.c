/* The epoll thread of loop.h.
 *
 * Other threads only touch a connection's outgoing bytes and flags under its lock, and put it
 * on the loop's list of connections that want attention; descriptors are read, written and
 * closed by the loop's thread alone. One read a readiness keeps a loud peer from starving the
 * others.
 */
#include "io/loop.h"

#include "base/mem.h"
#include "base/world.h"
#include "io/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TICK_MS = 500,
    EVENTS_MAX = 256,
    READ_MAX = 64 << 10,
    ATTEND_MAX = 1024,      /* then the sockets have their turn */
    KEEP_OUT_MAX = 4 << 10, /* an idle connection keeps no larger buffer than this */
};
static const int64_t stop_flush_us = US_PER_S;

struct loop_conn {
    struct loop *loop;
    const struct loop_ops *ops;
    void *ctx;
    size_t backlog_max;

    pthread_mutex_t lock; /* the members up to the next comment */
    struct buf out;
    size_t sent;                 /* bytes of out that the kernel has */
    bool finishing, dead, noted; /* noted: on the loop's list */
    bool has_fd;
    int given_fd;
    int64_t linger_us;

    /* the loop's thread only */
    int fd;
    bool attached, wants_out, shut;
    int64_t deadline_us;
    struct loop_conn *prev, *next;

    struct loop_conn *noted_next; /* under the loop's lock */
};

struct loop {
    int epoll_fd, event_fd;
    pthread_t thread;
    pthread_mutex_t lock;                 /* noted, all, ended */
    struct loop_conn *noted, *noted_last; /* first come, first served */
    struct loop_conn *all;
    bool ended;
    atomic_bool stopping;
    atomic_bool woken;
    atomic_size_t n;
    atomic_int refs; /* the owner's and one a connection */
    char *read_buffer;
};

static _Thread_local struct loop *loop_here;

static void loop_wake(struct loop *loop)
{
    /* The loop's own thread always attends before it waits. */
    if (loop_here == loop || atomic_exchange(&loop->woken, true))
        return;
    uint64_t one = 1;
    while (write(loop->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void loop_unref(struct loop *loop)
{
    if (atomic_fetch_sub(&loop->refs, 1) > 1)
        return;
    close(loop->epoll_fd);
    close(loop->event_fd);
    pthread_mutex_destroy(&loop->lock);
    mem_free(loop->read_buffer);
    mem_free(loop);
}

static void conn_free(struct loop_conn *c)
{
    struct loop *loop = c->loop;
    buf_fini(&c->out);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
    loop_unref(loop);
}

/* A connection that was made after the loop had ended still gets its one `closed`, and not on
 * the caller's stack: the caller may hold the lock that `closed` takes. */
static void *close_late(void *ctx)
{
    struct loop_conn *c = ctx;
    if (c->has_fd && c->given_fd >= 0)
        close(c->given_fd);
    c->ops->closed(c, c->ctx);
    conn_free(c);
    return NULL;
}

/* Called with c->lock held; true: the caller must pass it on with conn_note() after unlocking. */
static bool conn_mark(struct loop_conn *c)
{
    bool mark = !c->noted && c->has_fd;
    if (mark)
        c->noted = true;
    return mark;
}

/* Both with the loop's lock held. */
static void noted_push(struct loop *loop, struct loop_conn *c)
{
    c->noted_next = NULL;
    if (loop->noted_last != NULL)
        loop->noted_last->noted_next = c;
    else
        loop->noted = c;
    loop->noted_last = c;
}

static void noted_remove(struct loop *loop, const struct loop_conn *c)
{
    struct loop_conn *before = NULL;
    for (struct loop_conn **at = &loop->noted; *at != NULL; at = &(*at)->noted_next) {
        if (*at == c) {
            if (loop->noted_last == c)
                loop->noted_last = before;
            *at = c->noted_next;
            return;
        }
        before = *at;
    }
}

static void conn_note(struct loop_conn *c)
{
    struct loop *loop = c->loop;
    pthread_mutex_lock(&loop->lock);
    bool ended = loop->ended;
    if (!ended) {
        noted_push(loop, c);
    }
    pthread_mutex_unlock(&loop->lock);
    if (!ended)
        loop_wake(loop);
}

struct loop_conn *loop_conn_create(struct loop *loop, const struct loop_ops *ops, void *ctx,
                                   size_t backlog_max)
{
    struct loop_conn *c = mem_alloc(sizeof(*c));
    atomic_fetch_add(&loop->refs, 1);
    c->loop = loop;
    c->ops = ops;
    c->ctx = ctx;
    c->backlog_max = backlog_max;
    c->fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void loop_conn_attach(struct loop_conn *c, int fd)
{
    struct loop *loop = c->loop;
    pthread_mutex_lock(&c->lock);
    c->has_fd = true;
    c->given_fd = fd;
    c->noted = true;
    pthread_mutex_unlock(&c->lock);

    pthread_mutex_lock(&loop->lock);
    bool ended = loop->ended;
    if (!ended) {
        c->next = loop->all;
        if (loop->all != NULL)
            loop->all->prev = c;
        loop->all = c;
        atomic_fetch_add(&loop->n, 1);
        noted_push(loop, c);
    }
    pthread_mutex_unlock(&loop->lock);
    if (!ended) {
        loop_wake(loop);
        return;
    }
    pthread_t t;
    if (thread_start(&t, "loop-late", close_late, c, NULL) == OK)
        pthread_detach(t);
    else
        close_late(c);
}

bool loop_conn_write(struct loop_conn *c, const void *head, size_t n_head, const void *p, size_t n)
{
    pthread_mutex_lock(&c->lock);
    size_t waiting = c->out.len - c->sent;
    /* One unit may be larger than the limit when nothing else waits: the limit is about peers
     * that do not keep up. */
    bool taken = !c->finishing && !c->dead &&
                 (waiting == 0 || waiting + n_head + n <= c->backlog_max);
    bool mark = false;
    if (taken) {
        if (c->sent > c->out.len / 2) {
            buf_drop_front(&c->out, c->sent);
            c->sent = 0;
        }
        c->out.max = c->out.len + n_head + n;
        buf_add(&c->out, head, n_head);
        buf_add(&c->out, p, n);
        mark = conn_mark(c);
    }
    pthread_mutex_unlock(&c->lock);
    if (mark)
        conn_note(c);
    return taken;
}

void loop_conn_finish(struct loop_conn *c, const void *p, size_t n, int64_t linger_us)
{
    pthread_mutex_lock(&c->lock);
    bool mark = false;
    if (!c->finishing && !c->dead) {
        if (c->sent > 0) {
            buf_drop_front(&c->out, c->sent);
            c->sent = 0;
        }
        c->out.max = c->out.len + n;
        buf_add(&c->out, p, n);
        c->finishing = true;
        c->linger_us = linger_us;
        mark = conn_mark(c);
    }
    pthread_mutex_unlock(&c->lock);
    if (mark)
        conn_note(c);
}

void loop_conn_kill(struct loop_conn *c)
{
    pthread_mutex_lock(&c->lock);
    c->dead = true;
    bool mark = conn_mark(c);
    pthread_mutex_unlock(&c->lock);
    if (mark)
        conn_note(c);
}

size_t loop_conn_backlog(const struct loop_conn *conn)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    pthread_mutex_lock(&c->lock);
    size_t n = c->out.len - c->sent;
    pthread_mutex_unlock(&c->lock);
    return n;
}

/* ---- the loop's thread ---- */

static void conn_close(struct loop_conn *c)
{
    struct loop *loop = c->loop;
    pthread_mutex_lock(&c->lock);
    c->dead = true;
    pthread_mutex_unlock(&c->lock);
    /* Taken out by name: closing is not enough while another descriptor of the same socket (the one
     * it was duplicated from) is still open. */
    if (c->attached)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->fd >= 0)
        close(c->fd);
    c->ops->closed(c, c->ctx);
    /* From here nobody else has the handle. */
    pthread_mutex_lock(&loop->lock);
    if (c->noted)
        noted_remove(loop, c);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        loop->all = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&loop->lock);
    atomic_fetch_sub(&loop->n, 1);
    conn_free(c);
}

static bool conn_watch(struct loop_conn *c, bool out)
{
    if (c->attached && out == c->wants_out)
        return true;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.ptr = c};
    int op = c->attached ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    c->wants_out = out;
    if (epoll_ctl(c->loop->epoll_fd, op, c->fd, &ev) != 0)
        return false;
    c->attached = true;
    return true;
}

enum flush { FLUSHED, BLOCKED, BROKEN };

static enum flush conn_flush(struct loop_conn *c)
{
    enum flush result = FLUSHED;
    pthread_mutex_lock(&c->lock);
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            result = errno == EAGAIN || errno == EWOULDBLOCK ? BLOCKED : BROKEN;
            break;
        }
        c->sent += (size_t)n;
    }
    if (result == FLUSHED) {
        c->sent = 0;
        if (c->out.cap > KEEP_OUT_MAX) {
            buf_fini(&c->out);
        } else {
            buf_reset(&c->out);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return result;
}

/* Brings one connection to the state its flags ask for. */
static void conn_attend(struct loop_conn *c)
{
    pthread_mutex_lock(&c->lock);
    c->noted = false;
    bool dead = c->dead, finishing = c->finishing;
    int fd = c->given_fd;
    int64_t linger_us = c->linger_us;
    pthread_mutex_unlock(&c->lock);
    if (c->fd < 0)
        c->fd = fd;
    if (dead || c->fd < 0) {
        conn_close(c);
        return;
    }
    bool first = !c->attached;
    enum flush state = conn_flush(c);
    if (state == BROKEN || !conn_watch(c, state == BLOCKED)) {
        conn_close(c);
        return;
    }
    if (first && c->ops->attached != NULL)
        c->ops->attached(c, c->ctx);
    if (finishing && c->deadline_us == 0)
        c->deadline_us = mono_us() + linger_us;
    if (finishing && state == FLUSHED && !c->shut) {
        /* Our FIN goes first and the peer's is waited for: closing with unread bytes would
         * send a reset, and that may overtake the good-bye. */
        c->shut = true;
        shutdown(c->fd, SHUT_WR);
        if (linger_us == 0)
            conn_close(c);
    }
}

/* False: there is more. */
static bool loop_attend(struct loop *loop)
{
    for (int i = 0; i < ATTEND_MAX; i++) {
        pthread_mutex_lock(&loop->lock);
        struct loop_conn *c = loop->noted;
        if (c != NULL)
            noted_remove(loop, c);
        pthread_mutex_unlock(&loop->lock);
        if (c == NULL)
            return true;
        conn_attend(c);
    }
    return false;
}

static void conn_ready(struct loop_conn *c, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(c->fd, c->loop->read_buffer, READ_MAX, 0);
        if (n > 0) {
            c->ops->input(c, c->ctx, c->loop->read_buffer, (size_t)n);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            conn_close(c);
            return;
        }
    }
    if (events & EPOLLOUT) {
        pthread_mutex_lock(&c->lock);
        bool mark = conn_mark(c);
        pthread_mutex_unlock(&c->lock);
        if (mark)
            conn_note(c);
    }
}

static struct loop_conn *loop_first(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    struct loop_conn *c = loop->all;
    pthread_mutex_unlock(&loop->lock);
    return c;
}

/* New connections come in front and only this thread unlinks, so a walk needs no lock. */
static void loop_tick(struct loop *loop, int64_t now)
{
    struct loop_conn *next;
    for (struct loop_conn *c = loop_first(loop); c != NULL; c = next) {
        next = c->next;
        if (!c->attached)
            continue;
        if (c->deadline_us != 0 && now >= c->deadline_us)
            conn_close(c);
        else if (c->ops->tick != NULL)
            c->ops->tick(c, c->ctx, now);
    }
}

static void loop_say_goodbye(struct loop *loop)
{
    for (struct loop_conn *c = loop_first(loop); c != NULL; c = c->next) {
        if (c->attached && c->ops->stopping != NULL)
            c->ops->stopping(c, c->ctx);
    }
}

static void loop_wait(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr != NULL) {
            conn_ready(events[i].data.ptr, events[i].events);
            continue;
        }
        uint64_t count;
        while (read(loop->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
    }
}

static void *loop_thread(void *ctx)
{
    struct loop *loop = ctx;
    loop_here = loop;
    int64_t tick_at = mono_us() + TICK_MS * US_PER_MS;
    int64_t stop_at = 0;
    for (;;) {
        atomic_store(&loop->woken, false);
        bool all = loop_attend(loop);
        int64_t now = mono_us();
        if (atomic_load(&loop->stopping)) {
            if (stop_at == 0) {
                stop_at = now + stop_flush_us;
                loop_say_goodbye(loop);
                continue;
            }
            if (now >= stop_at || atomic_load(&loop->n) == 0)
                break;
        }
        if (now >= tick_at) {
            tick_at = now + TICK_MS * US_PER_MS;
            loop_tick(loop, now);
            continue;
        }
        int pause_ms = stop_at != 0 ? 20 : (int)((tick_at - now) / US_PER_MS) + 1;
        loop_wait(loop, all ? pause_ms : 0);
    }
    pthread_mutex_lock(&loop->lock);
    loop->ended = true;
    pthread_mutex_unlock(&loop->lock);
    while (!loop_attend(loop))
        ;
    for (struct loop_conn *c; (c = loop_first(loop)) != NULL;)
        conn_close(c);
    return NULL;
}

int loop_create(const char *name, struct loop **out, struct err *e)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return err_sys(e, "epoll_create1");
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (event_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &ev) != 0) {
        int kind = err_sys(e, "eventfd");
        close(epoll_fd);
        if (event_fd >= 0)
            close(event_fd);
        return kind;
    }
    struct loop *loop = mem_alloc(sizeof(*loop));
    loop->epoll_fd = epoll_fd;
    loop->event_fd = event_fd;
    atomic_store(&loop->refs, 1);
    pthread_mutex_init(&loop->lock, NULL);
    loop->read_buffer = mem_alloc(READ_MAX);
    int kind = thread_start(&loop->thread, name, loop_thread, loop, e);
    if (kind != OK) {
        loop_unref(loop);
        return kind;
    }
    *out = loop;
    return OK;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    loop_wake(loop);
    pthread_join(loop->thread, NULL);
}

void loop_destroy(struct loop *loop)
{
    if (loop != NULL)
        loop_unref(loop);
}

size_t loop_conns(const struct loop *loop)
{
    return atomic_load(&((struct loop *)loop)->n);
}
