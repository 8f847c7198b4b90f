/* Answers that are fed from a job's log: server-sent events until the job has ended, and the
 * plain text of a log.
 *
 * A follow is pumped on a worker, by one thread at a time: when lines came, when something
 * happened to its job, or by the tick. It reads no further while the peer has much left to take,
 * so its memory is bounded by one page and the backlog.
 *
 * What must stay true: the stream's handle is used only under the follow's lock and while it is
 * not closed; a watch lives as long as its follow and ends before it, outside the lock (the
 * watch's callback takes the lock). */
#include "surface/native/jobs.h"

#include "surface/native/views.h"

#include "base/log.h"
#include "base/world.h"
#include "identity/identity.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    BUCKETS = 256,
    ROUNDS_MAX = 16, /* pages of one turn: others want a worker too */
    EVENTS_BACKLOG = 128 << 10,
    EVENTS_BYTES = 64 << 10,
    EVENTS_LINES = 1000,
    PLAIN_BACKLOG = 512 << 10,
    PLAIN_BYTES = 256 << 10,
    PLAIN_LINES = 20000,
};
static const int64_t heartbeat_us = 15 * US_PER_S;
static const int64_t credential_us = 5 * US_PER_S;
static const int64_t patience_us = 10 * US_PER_S; /* for the rest of a log whose try has ended */

struct follow {
    struct follows *all;
    struct follow *next, **at; /* in its bucket, under the lock of all */
    struct follow_start s;
    struct principal who;
    enum lang lang;
    atomic_int refs;

    pthread_mutex_t lock; /* the members up to the next comment */
    struct http_stream *stream;
    bool closed, ended, scheduled, again, stalled; /* ended: nothing more is written */
    bool dirty;                                    /* the job's row must be read */
    int64_t wrote_us;

    /* the pump only */
    int64_t credential_us; /* when the reader's credential was last asked about */
    int64_t watched;       /* attempt; 0: none */
    int state;             /* as told; -1: none yet */
    bool job_ended;
    int64_t next_attempt, next_number; /* the try after this one; 0: none */
    int64_t waits_since_us;            /* for the rest of a log; 0: it does not */
};

struct follows {
    struct house *house;
    struct logs *logs;
    pthread_mutex_t lock;
    struct follow *buckets[BUCKETS];
    int64_t n, most;
};

struct follows *follows_create(struct house *h)
{
    struct follows *f = mem_alloc(sizeof(*f));
    f->house = h;
    f->logs = jobs_logs(jobs_of(h));
    f->most = setting_int(h, "LOG_STREAMS_MAX");
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void follows_destroy(struct follows *f)
{
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

static void pump(void *ctx);
static void on_log(void *ctx, int64_t attempt, uint64_t bytes, bool ended);

static void follow_put(struct follow *f)
{
    if (atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    if (f->watched != 0)
        logs_unwatch(f->all->logs, f->watched, on_log, f);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

/* Under f->lock. */
static void schedule(struct follow *f)
{
    if (f->closed || f->ended)
        return;
    if (f->scheduled) {
        f->again = true;
        return;
    }
    f->scheduled = true;
    atomic_fetch_add(&f->refs, 1);
    if (!house_run(f->all->house, pump, f)) {
        f->scheduled = false;
        f->stalled = true; /* the tick tries again */
        atomic_fetch_sub(&f->refs, 1);
    }
}

static void on_log(void *ctx, int64_t attempt, uint64_t bytes, bool ended)
{
    struct follow *f = ctx;
    pthread_mutex_lock(&f->lock);
    schedule(f);
    pthread_mutex_unlock(&f->lock);
}

static void on_closed(void *ctx)
{
    struct follow *f = ctx;
    struct follows *all = f->all;
    pthread_mutex_lock(&f->lock);
    f->closed = true;
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&all->lock);
    *f->at = f->next;
    if (f->next != NULL)
        f->next->at = f->at;
    all->n--;
    pthread_mutex_unlock(&all->lock);
    follow_put(f);
}
static const struct http_stream_ops stream_ops = {on_closed};

/* ---- writing ---- */

static void send_bytes(struct follow *f, const struct buf *b)
{
    if (b->len == 0)
        return;
    pthread_mutex_lock(&f->lock);
    if (!f->closed && !f->ended) {
        http_stream_write(f->stream, b->data, b->len);
        f->wrote_us = mono_us();
    }
    pthread_mutex_unlock(&f->lock);
}

static void end_stream(struct follow *f)
{
    pthread_mutex_lock(&f->lock);
    if (!f->closed && !f->ended)
        http_stream_end(f->stream);
    f->ended = true;
    pthread_mutex_unlock(&f->lock);
}

static void send_job(struct follow *f, const char *event, const struct job_shown *job)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    buf_printf(&b, "event: %s\ndata: ", event);
    view_write(&j, &job_view, job);
    buf_adds(&b, "\n\n");
    send_bytes(f, &b);
}

static void send_lines(struct follow *f, const struct logs_page *page, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; i < page->n; i++) {
        const struct log_line *l = &page->lines[i];
        if (f->s.plain) {
            buf_add(&b, l->text, l->len);
            if (!l->partial)
                buf_addc(&b, '\n');
            continue;
        }
        struct line_shown shown;
        struct json j = json_to(&b);
        line_show(l, f->s.number, a, &shown);
        buf_printf(&b, "id: %lld:%llu\ndata: ", (long long)f->s.number,
                   (unsigned long long)l->offset);
        view_write(&j, &line_view, &shown);
        buf_adds(&b, "\n\n");
    }
    send_bytes(f, &b);
}

/* ---- one turn ---- */

struct job_read {
    struct follow *f;
    struct arena *a;
    struct job_shown job;
};

static int read_job_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct job_read *r = ctx;
    struct follow *f = r->f;
    struct job j;
    struct list l;
    int rc = job_get(tx, f->s.job, r->a, &j, e);
    if (rc == OK)
        rc = job_attempts(tx, f->s.job, r->a, &l, e);
    if (rc == OK)
        rc = job_show(tx, &j, true, r->a, &r->job, e);
    if (rc != OK)
        return rc;
    const struct attempt *at = l.items;
    f->next_attempt = f->next_number = 0;
    for (size_t i = 0; i < l.n && f->next_attempt == 0; i++)
        if (at[i].number > f->s.number) {
            f->next_attempt = at[i].id;
            f->next_number = at[i].number;
        }
    f->job_ended = job_ended(j.state);
    return OK;
}

static bool read_job(struct follow *f, struct arena *a, struct job_shown *out)
{
    struct job_read r = {.f = f, .a = a};
    struct err e = {0};
    if (store_read(house_store(f->all->house), read_job_tx, &r, &e) != OK) {
        log_warning("logs", "following job %lld: %s", (long long)f->s.job, e.text);
        return false;
    }
    *out = r.job;
    return true;
}

static void next_try(struct follow *f)
{
    if (f->watched != 0)
        logs_unwatch(f->all->logs, f->watched, on_log, f);
    f->s.attempt = f->watched = f->next_attempt;
    f->s.number = f->next_number;
    f->s.offset = 0;
    f->s.end = UINT64_MAX;
    f->next_attempt = f->next_number = 0;
    f->waits_since_us = 0;
    logs_watch(f->all->logs, f->watched, on_log, f);
}

/* Whether the try's log is over: it is whole, or its rest has been waited for. */
static bool log_over(struct follow *f, bool whole)
{
    if (whole)
        return true;
    if (f->waits_since_us == 0)
        f->waits_since_us = mono_us();
    pthread_mutex_lock(&f->lock);
    f->stalled = true; /* the tick looks again */
    pthread_mutex_unlock(&f->lock);
    return mono_us() - f->waits_since_us >= patience_us;
}

/* Sends what there is, one page. True: there may be more at once. */
static bool turn(struct follow *f, struct arena *a)
{
    struct logs_page page = {0};
    struct job_shown job;
    struct err e = {0};
    pthread_mutex_lock(&f->lock);
    bool dirty = f->dirty && !f->s.plain;
    f->dirty = false;
    pthread_mutex_unlock(&f->lock);
    if (mono_us() - f->credential_us >= credential_us) {
        f->credential_us = mono_us();
        if (!identity_still_holds(f->all->house, &f->who)) {
            end_stream(f);
            return false;
        }
    }
    if (dirty) {
        /* before the log is read: what was printed by the end is then read after it */
        if (!read_job(f, a, &job)) {
            end_stream(f); /* the peer comes again with Last-Event-ID */
            return false;
        }
        if (job.j.state != f->state) {
            f->state = job.j.state;
            if (!f->job_ended)
                send_job(f, "state", &job);
        }
    }
    if (f->s.attempt == 0 && f->next_attempt != 0)
        next_try(f);
    if (f->s.attempt != 0) {
        struct logs_query want = {.from = LOGS_FROM_OFFSET,
                                  .at = (int64_t)f->s.offset,
                                  .streams = f->s.streams,
                                  .max_lines = f->s.plain ? PLAIN_LINES : EVENTS_LINES,
                                  .max_bytes = f->s.plain ? PLAIN_BYTES : EVENTS_BYTES};
        if (logs_read(f->all->logs, f->s.attempt, &want, a, &page, &e) != OK) {
            log_warning("logs", "following job %lld: %s", (long long)f->s.job, e.text);
            end_stream(f);
            return false;
        }
        while (page.n > 0 && page.lines[page.n - 1].offset >= f->s.end)
            page.n--;
        send_lines(f, &page, a);
        f->s.offset = page.next_offset;
        if (page.n > 0)
            return true;
    }
    if (f->s.plain) {
        end_stream(f);
        return false;
    }
    if (f->next_attempt != 0 && !f->s.only) {
        if (!log_over(f, page.complete))
            return false;
        next_try(f);
        return true;
    }
    if (!f->job_ended && f->next_attempt == 0)
        return false;
    if (f->s.attempt == 0 || log_over(f, page.complete)) {
        if (!dirty && !read_job(f, a, &job)) {
            end_stream(f);
            return false;
        }
        send_job(f, "end", &job);
        end_stream(f);
    }
    return false;
}

static void pump(void *ctx)
{
    struct follow *f = ctx;
    struct arena a = {0};
    bool more = true;
    size_t most = f->s.plain ? PLAIN_BACKLOG : EVENTS_BACKLOG;
    if (f->watched == 0 && f->s.attempt != 0 && !f->s.plain) {
        f->watched = f->s.attempt;
        logs_watch(f->all->logs, f->watched, on_log, f);
    }
    err_lang_set(f->lang);
    for (int i = 0; i < ROUNDS_MAX && more; i++) {
        pthread_mutex_lock(&f->lock);
        f->stalled = !f->closed && http_stream_backlog(f->stream) > most;
        f->again = false;
        more = !f->closed && !f->ended && !f->stalled;
        pthread_mutex_unlock(&f->lock);
        if (more)
            more = turn(f, &a);
        arena_reset(&a);
    }
    err_lang_set(LANG_EN);
    arena_fini(&a);
    pthread_mutex_lock(&f->lock);
    f->scheduled = false;
    if (more || f->again)
        schedule(f);
    pthread_mutex_unlock(&f->lock);
    follow_put(f);
}

/* ---- from outside ---- */

void follows_wake(struct follows *all, int64_t job)
{
    pthread_mutex_lock(&all->lock);
    for (struct follow *f = all->buckets[(size_t)job % BUCKETS]; f != NULL; f = f->next)
        if (f->s.job == job) {
            pthread_mutex_lock(&f->lock);
            f->dirty = true;
            schedule(f);
            pthread_mutex_unlock(&f->lock);
        }
    pthread_mutex_unlock(&all->lock);
}

void follows_tick(struct follows *all)
{
    static const char comment[] = ":\n\n";
    int64_t now = mono_us();
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct follow *f = all->buckets[i]; f != NULL; f = f->next) {
            pthread_mutex_lock(&f->lock);
            if (f->stalled)
                schedule(f);
            if (!f->closed && !f->ended && !f->s.plain && now - f->wrote_us >= heartbeat_us) {
                f->wrote_us = now;
                http_stream_write(f->stream, comment, sizeof(comment) - 1);
            }
            pthread_mutex_unlock(&f->lock);
        }
    pthread_mutex_unlock(&all->lock);
}

int follows_take(struct request *q, const struct follow_start *s)
{
    struct follows *all = native_jobs_of(q->house)->follows;
    struct follow *f = mem_alloc(sizeof(*f));
    f->all = all;
    f->s = *s;
    f->who = q->who;
    f->lang = q->lang;
    f->credential_us = mono_us();
    f->state = -1;
    f->dirty = true;
    f->wrote_us = mono_us();
    atomic_init(&f->refs, 2); /* of the stream, and ours */
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_lock(&all->lock);
    bool room = all->n < all->most;
    if (room) {
        struct follow **at = &all->buckets[(size_t)s->job % BUCKETS];
        f->next = *at;
        f->at = at;
        if (*at != NULL)
            (*at)->at = &f->next;
        *at = f;
        all->n++;
    }
    /* The tick may find it at once: it waits for the stream's handle. */
    pthread_mutex_lock(&f->lock);
    pthread_mutex_unlock(&all->lock);
    if (!room) {
        pthread_mutex_unlock(&f->lock);
        pthread_mutex_destroy(&f->lock);
        mem_free(f);
        struct err e = {0};
        err_lang_set(q->lang);
        err_set(&e, ERR_UNAVAILABLE, "too many logs are followed already: try again in a second");
        request_done(q, &e);
        return REQUEST_TAKEN;
    }
    f->stream = request_stream(
        q, s->plain ? "text/plain; charset=utf-8" : "text/event-stream; charset=utf-8", &stream_ops,
        f);
    schedule(f);
    pthread_mutex_unlock(&f->lock);
    follow_put(f);
    return REQUEST_TAKEN;
}
