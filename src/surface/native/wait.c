/* Requests that wait for the end of a job.
 *
 * What must stay true: a wait holds no thread; it is answered exactly once, by whoever takes it
 * out of its bucket; a job that ends between the handler's look and the entry in the bucket is
 * not missed, because the entry is followed by a second look. */
#include "surface/native/jobs.h"

#include "base/world.h"

#include <pthread.h>

enum { BUCKETS = 256 };

struct waiter { /* in the arena of its request */
    struct waiter *next;
    struct request *q;
    uint64_t serial;
    int64_t job, until_us; /* monotonic */
};

struct waits {
    struct house *house;
    pthread_mutex_t lock;
    struct waiter *buckets[BUCKETS];
    int64_t n, most;
    uint64_t serial;
};

struct waits *waits_create(struct house *h)
{
    struct waits *w = mem_alloc(sizeof(*w));
    w->house = h;
    w->most = setting_int(h, "JOB_WAITS_MAX");
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

struct look {
    struct request *q; /* NULL: only look */
    int64_t job;
    bool ended;
};

static int look_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct look *l = ctx;
    struct arena own = {0};
    struct job j;
    int rc = job_get(tx, l->job, l->q != NULL ? l->q->arena : &own, &j, e);
    if (rc == OK) {
        l->ended = job_ended(j.state);
        if (l->q != NULL)
            rc = native_answer_job(l->q, tx, 200, &j, true, e);
    }
    arena_fini(&own);
    return rc;
}

/* The waiter is in no bucket any more: it is ours. */
static void answer(void *ctx)
{
    struct waiter *w = ctx;
    struct request *q = w->q;
    struct look l = {.q = q, .job = w->job};
    struct err e = {0};
    err_lang_set(q->lang);
    store_read(house_store(q->house), look_tx, &l, &e);
    request_done(q, &e);
}

static void refuse(struct request *q)
{
    struct err e = {0};
    err_lang_set(q->lang);
    err_set(&e, ERR_UNAVAILABLE, "too many requests wait already: try again in a second");
    request_done(q, &e);
}

static void answer_all(struct waits *w, struct waiter *list)
{
    while (list != NULL) {
        struct waiter *one = list;
        list = one->next; /* it goes with its request */
        if (!house_run(w->house, answer, one))
            refuse(one->q);
    }
}

/* Takes out of a bucket: of this job (0: any), this serial (0: any), due by this time. */
static struct waiter *take(struct waits *w, size_t bucket, int64_t job, uint64_t serial,
                           int64_t until_us)
{
    struct waiter *taken = NULL;
    pthread_mutex_lock(&w->lock);
    for (struct waiter **at = &w->buckets[bucket]; *at != NULL;) {
        struct waiter *one = *at;
        if ((job == 0 || one->job == job) && (serial == 0 || one->serial == serial) &&
            one->until_us <= until_us) {
            *at = one->next;
            one->next = taken;
            taken = one;
            w->n--;
        } else {
            at = &one->next;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return taken;
}

void waits_job_ended(struct waits *w, int64_t job)
{
    answer_all(w, take(w, (size_t)job % BUCKETS, job, 0, INT64_MAX));
}

void waits_tick(struct waits *w)
{
    int64_t now = mono_us();
    for (size_t i = 0; i < BUCKETS; i++)
        answer_all(w, take(w, i, 0, 0, now));
}

void waits_destroy(struct waits *w)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct waiter *list = take(w, i, 0, 0, INT64_MAX);
        while (list != NULL) {
            struct waiter *one = list;
            list = one->next;
            refuse(one->q);
        }
    }
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

static void begin(struct request *q, struct waiter *one)
{
    struct waits *w = native_jobs_of(q->house)->waits;
    int64_t job = one->job;
    pthread_mutex_lock(&w->lock);
    bool room = w->n < w->most;
    uint64_t serial = one->serial = ++w->serial;
    if (room) {
        one->next = w->buckets[(size_t)job % BUCKETS];
        w->buckets[(size_t)job % BUCKETS] = one;
        w->n++;
    }
    pthread_mutex_unlock(&w->lock);
    if (!room) {
        refuse(q);
        return;
    }
    /* from here on the request may be gone: an end may have answered it */
    struct look l = {.job = job};
    struct err e = {0};
    if (store_read(house_store(w->house), look_tx, &l, &e) == OK && l.ended) {
        struct waiter *still = take(w, (size_t)job % BUCKETS, job, serial, INT64_MAX);
        if (still != NULL)
            answer(still);
    }
}

int waits_take(struct request *q, int64_t job, int64_t timeout_us)
{
    struct waiter *w = arena_alloc(q->arena, sizeof(*w));
    *w = (struct waiter){.q = q, .job = job, .until_us = mono_us() + timeout_us};
    begin(q, w);
    return REQUEST_TAKEN;
}
