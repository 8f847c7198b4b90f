/* The ends of logs that someone follows by the live channel: read once for each job, told to all.
 *
 * A tail begins where the log stands when its first follower comes; who wants what is before reads
 * it by HTTP. It is pumped on a worker, by one thread at a time.
 *
 * What must stay true: a log is read on while nobody of its followers is far behind, and after a
 * second all the same (who is too slow is then closed); the watch's callback takes the tail's
 * lock (never the hub's), so a watch ends outside of it. */
#include "surface/live_parts.h"

#include "base/json.h"
#include "base/log.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { TAIL_LINES = 500, TAIL_BYTES = 64 << 10, ROUNDS_MAX = 16, FAR_BEHIND = 256 << 10 };
static const int64_t hold_us = US_PER_S, patience_us = 10 * US_PER_S;

static void pump(void *ctx);

static void on_log(void *ctx, int64_t attempt, uint64_t bytes, bool ended);

static void tail_put(struct tail *t)
{
    if (atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    if (t->watched != 0)
        logs_unwatch(t->live->logs, t->watched, on_log, t);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* Under t->lock. */
static void schedule(struct tail *t)
{
    if (t->gone)
        return;
    if (t->scheduled) {
        t->again = true;
        return;
    }
    t->scheduled = true;
    atomic_fetch_add(&t->refs, 1);
    if (!house_run(t->live->house, pump, t)) {
        t->scheduled = false;
        t->stalled = true; /* the tick tries again */
        atomic_fetch_sub(&t->refs, 1);
    }
}

static void on_log(void *ctx, int64_t attempt, uint64_t bytes, bool ended)
{
    struct tail *t = ctx;
    pthread_mutex_lock(&t->lock);
    schedule(t);
    pthread_mutex_unlock(&t->lock);
}

/* ---- under the hub's lock ---- */

static void job_key(int64_t job, char to[24])
{
    snprintf(to, 24, "%lld", (long long)job);
}

void tail_use(struct live *l, int64_t job)
{
    char key[24];
    job_key(job, key);
    struct tail *t = map_get(&l->tails, key);
    if (t != NULL) {
        t->users++;
        return;
    }
    t = mem_alloc(sizeof(*t));
    t->live = l;
    t->job = job;
    t->users = 1;
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->lock, NULL);
    map_put(&l->tails, key, t);
    pthread_mutex_lock(&t->lock);
    schedule(t);
    pthread_mutex_unlock(&t->lock);
}

void tail_leave(struct live *l, int64_t job)
{
    char key[24];
    job_key(job, key);
    struct tail *t = map_get(&l->tails, key);
    if (t == NULL || --t->users > 0)
        return;
    map_del(&l->tails, key);
    pthread_mutex_lock(&t->lock);
    t->gone = true;
    pthread_mutex_unlock(&t->lock);
    tail_put(t);
}

void tail_wake(struct live *l, int64_t job)
{
    char key[24];
    job_key(job, key);
    pthread_mutex_lock(&l->lock);
    struct tail *t = map_get(&l->tails, key);
    if (t != NULL) {
        pthread_mutex_lock(&t->lock);
        schedule(t);
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

void tails_tick(struct live *l)
{
    size_t at = 0;
    void *v;
    pthread_mutex_lock(&l->lock);
    while (map_next(&l->tails, &at, NULL, &v)) {
        struct tail *t = v;
        pthread_mutex_lock(&t->lock);
        if (t->stalled)
            schedule(t);
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---- telling lines ---- */

static bool someone_behind(struct live *l, const char *key)
{
    const struct topic *t = map_get(&l->topics, key);
    for (size_t i = 0; t != NULL && i < t->members.n; i++) {
        const struct socket *s = t->members.items[i];
        if (s->ws != NULL && ws_backlog(s->ws) > FAR_BEHIND)
            return true;
    }
    return false;
}

static bool held(struct tail *t)
{
    char log[40], task[40], sock[40];
    struct live *l = t->live;
    snprintf(log, sizeof(log), "log:%lld", (long long)t->job);
    snprintf(task, sizeof(task), "task:%lld", (long long)t->job);
    snprintf(sock, sizeof(sock), "socket:%lld", (long long)t->job);
    pthread_mutex_lock(&l->lock);
    bool behind = someone_behind(l, log) || someone_behind(l, task) || someone_behind(l, sock);
    pthread_mutex_unlock(&l->lock);
    if (!behind) {
        t->held_us = 0;
        return false;
    }
    if (t->held_us == 0)
        t->held_us = mono_us();
    return mono_us() - t->held_us < hold_us;
}

static void tell_native(struct tail *t, const struct logs_page *page, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    struct json w = json_to(&b);
    char id[ID_TEXT_SIZE], key[40];
    json_open(&w, '{');
    json_key(&w, "data");
    json_open(&w, '{');
    json_ktext(&w, "job", id_text("j", t->job, id));
    json_key(&w, "lines");
    json_open(&w, '[');
    for (size_t i = 0; i < page->n; i++) {
        struct line_shown shown;
        line_show(&page->lines[i], t->number, a, &shown);
        view_write(&w, &line_view, &shown);
    }
    json_close(&w, ']');
    json_close(&w, '}');
    json_close(&w, '}');
    snprintf(key, sizeof(key), "log:%lld", (long long)t->job);
    live_publish(t->live, key, "job_log", b.data + 1, b.len - 2);
}

static const char *source_of(enum spool_stream stream)
{
    return stream == SPOOL_OUT ? "stdout" : stream == SPOOL_ERR ? "stderr" : "system";
}

/* The documented form: runs of lines of one stream. */
static void tell_documented(struct tail *t, const struct job *j, const struct logs_page *page)
{
    for (size_t i = 0; i < page->n;) {
        AUTO(buf) struct buf text = {0}, b = {0};
        enum spool_stream stream = page->lines[i].stream;
        for (; i < page->n && page->lines[i].stream == stream; i++) {
            buf_add(&text, page->lines[i].text, page->lines[i].len);
            if (!page->lines[i].partial)
                buf_addc(&text, '\n');
        }
        if (text.len > 0 && text.data[text.len - 1] == '\n')
            text.len--;
        struct json w = json_to(&b);
        json_open(&w, '{');
        json_ktext(&w, "task_id", j->uuid);
        json_key(&w, "logs");
        json_textn(&w, text.len > 0 ? text.data : "", text.len);
        json_ktext(&w, "level", stream == SPOOL_ERR ? "WARNING" : "INFO");
        json_ktext(&w, "source", source_of(stream));
        json_close(&w, '}');
        live_publish_task(t->live, j, "task_logs", b.data + 1, b.len - 2, false);
    }
}

/* ---- one turn ---- */

struct tail_read {
    struct tail *t;
    struct arena *a;
    struct job job;
    int64_t newest, newest_number;
    int64_t next, next_number;
};

static int tail_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct tail_read *r = ctx;
    struct list l;
    int rc = job_get(tx, r->t->job, r->a, &r->job, e);
    if (rc == OK)
        rc = job_attempts(tx, r->t->job, r->a, &l, e);
    if (rc != OK)
        return rc;
    const struct attempt *at = l.items;
    for (size_t i = 0; i < l.n; i++) {
        r->newest = at[i].id;
        r->newest_number = at[i].number;
        if (r->next == 0 && at[i].number > r->t->number) {
            r->next = at[i].id;
            r->next_number = at[i].number;
        }
    }
    return OK;
}

static void tail_move(struct tail *t, int64_t attempt, int64_t number)
{
    if (t->watched != 0)
        logs_unwatch(t->live->logs, t->watched, on_log, t);
    t->attempt = t->watched = attempt;
    t->number = number;
    t->offset = 0;
    t->waits_us = 0;
    logs_watch(t->live->logs, attempt, on_log, t);
}

static void begin(struct tail *t, const struct tail_read *r)
{
    struct logs_stat st;
    struct err e = {0};
    t->at_end = true;
    if (r->newest == 0)
        return;
    tail_move(t, r->newest, r->newest_number);
    if (logs_stat(t->live->logs, t->attempt, &st, &e) == OK)
        t->offset = st.bytes;
}

static void stall(struct tail *t)
{
    pthread_mutex_lock(&t->lock);
    t->stalled = true;
    pthread_mutex_unlock(&t->lock);
}

/* True: there may be more at once. */
static bool turn(struct tail *t, struct arena *a)
{
    struct tail_read r = {.t = t, .a = a};
    struct logs_page page = {0};
    struct err e = {0};
    if (store_read(house_store(t->live->house), tail_tx, &r, &e) != OK) {
        log_warning("live", "the log of job %lld: %s", (long long)t->job, e.text);
        return false;
    }
    if (!t->at_end)
        begin(t, &r);
    else if (t->attempt == 0 && r.next != 0)
        tail_move(t, r.next, r.next_number);
    if (t->attempt == 0)
        return false;
    if (held(t)) {
        stall(t);
        return false;
    }
    struct logs_query want = {.from = LOGS_FROM_OFFSET,
                              .at = (int64_t)t->offset,
                              .max_lines = TAIL_LINES,
                              .max_bytes = TAIL_BYTES};
    if (logs_read(t->live->logs, t->attempt, &want, a, &page, &e) != OK) {
        log_warning("live", "the log of job %lld: %s", (long long)t->job, e.text);
        return false;
    }
    t->offset = page.next_offset;
    if (page.n > 0) {
        tell_native(t, &page, a);
        tell_documented(t, &r.job, &page);
        return true;
    }
    if (r.next == 0 || r.next == t->attempt)
        return false;
    if (t->waits_us == 0)
        t->waits_us = mono_us();
    if (!page.complete && mono_us() - t->waits_us < patience_us) {
        stall(t);
        return false;
    }
    tail_move(t, r.next, r.next_number);
    return true;
}

static void pump(void *ctx)
{
    struct tail *t = ctx;
    struct arena a = {0};
    bool more = true;
    for (int i = 0; i < ROUNDS_MAX && more; i++) {
        pthread_mutex_lock(&t->lock);
        t->again = t->stalled = false;
        more = !t->gone;
        pthread_mutex_unlock(&t->lock);
        if (more)
            more = turn(t, &a);
        arena_reset(&a);
    }
    arena_fini(&a);
    pthread_mutex_lock(&t->lock);
    t->scheduled = false;
    if (more || t->again)
        schedule(t);
    pthread_mutex_unlock(&t->lock);
    tail_put(t);
}
