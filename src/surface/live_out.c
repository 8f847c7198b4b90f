/* What the live channel tells of events: job updates in the native form, and the documented
 * messages of tasks.
 *
 * What must stay true: the bus thread only notes that something happened; a worker reads and tells
 * it, one at a time and in order. */
#include "surface/live_parts.h"
#include "surface/platform/jobs.h"

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "io/json_in.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void task_head(struct json *j, const struct job *job)
{
    json_open(j, '{');
    json_ktext(j, "task_id", job->uuid);
}

static void progress_member(struct json *j, const struct job *job, int state)
{
    if (job_ended(state))
        json_kreal(j, "progress", 100);
    else if (!isnan(job->progress))
        json_kreal(j, "progress", job->progress);
    else if (state == JOB_RUNNING)
        json_kreal(j, "progress", 25);
}

static void time_or_null(struct json *j, const char *key, int64_t us)
{
    if (us != 0)
        json_ktime(j, key, us);
    else
        json_knull(j, key);
}

static void publish_buf(struct live *l, const struct job *job, const char *type, struct buf *b,
                        bool all)
{
    live_publish_task(l, job, type, b->data + 1, b->len - 2, all);
}

static void tell_ended(struct live *l, const struct job *j, int to)
{
    AUTO(buf) struct buf b = {0};
    struct json w = json_to(&b);
    task_head(&w, j);
    if (to == JOB_CANCELLED) {
        json_ktext(&w, "reason", j->reason != NULL ? j->reason : "cancelled");
        json_close(&w, '}');
        publish_buf(l, j, "task_cancelled", &b, true);
        return;
    }
    if (to != JOB_COMPLETED) {
        json_ktext(&w, "error_message", j->reason != NULL ? j->reason : job_state_names[to]);
        json_ktext(&w, "error_code", j->end_reason >= 0 ? end_reason_names[j->end_reason] : NULL);
        json_key(&w, "error_details");
        json_open(&w, '{');
        json_close(&w, '}');
        json_close(&w, '}');
        publish_buf(l, j, "task_error", &b, true);
        buf_reset(&b);
        w = json_to(&b);
        task_head(&w, j);
    }
    json_kbool(&w, "success", to == JOB_COMPLETED);
    json_key(&w, "result_data");
    json_open(&w, '{');
    if (j->exit_code != INT_NULL)
        json_kint(&w, "exit_code", j->exit_code);
    else
        json_knull(&w, "exit_code");
    json_ktext(&w, "external_job_id", j->external_id);
    json_ktext(&w, "provider", j->provider);
    json_close(&w, '}');
    double ran = j->started_at != 0 && j->ended_at > j->started_at
                     ? (double)(j->ended_at - j->started_at) / 1e6
                     : 0;
    json_kreal(&w, "execution_time", ran);
    json_key(&w, "cost_info");
    json_open(&w, '{');
    json_knull(&w, "total_cost");
    json_knull(&w, "currency");
    json_close(&w, '}');
    json_close(&w, '}');
    publish_buf(l, j, "task_completed", &b, true);
}

static void tell_task(struct live *l, const struct job *j, int to, const char *reason)
{
    AUTO(buf) struct buf b = {0};
    struct json w = json_to(&b);
    task_head(&w, j);
    json_ktext(&w, "status", task_words[to]);
    json_ktext(&w, "message", reason != NULL ? reason : job_state_names[to]);
    progress_member(&w, j, to);
    json_raw((json_key(&w, "data"), &w), "{}");
    json_close(&w, '}');
    publish_buf(l, j, "task_status_update", &b, true);
    buf_reset(&b);
    w = json_to(&b);
    json_open(&w, '{');
    json_key(&w, "data");
    task_head(&w, j);
    json_ktext(&w, "status", task_words[to]);
    progress_member(&w, j, to);
    json_close(&w, '}');
    json_close(&w, '}');
    publish_buf(l, j, "task_update", &b, true);
    if (job_ended(to))
        tell_ended(l, j, to);
}

struct status_read {
    struct socket *s;
    struct arena a;
    struct job j;
};

static int status_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct status_read *r = ctx;
    return job_get(tx, r->s->task, &r->a, &r->j, e);
}

void live_task_status(struct socket *s, const char *type)
{
    struct status_read r = {.s = s};
    struct err e = {0};
    AUTO(buf) struct buf b = {0};
    struct json w = json_to(&b);
    if (store_read(house_store(s->live->house), status_tx, &r, &e) == OK) {
        const struct job *j = &r.j;
        task_head(&w, j);
        json_ktext(&w, "status", task_words[j->state]);
        json_ktext(&w, "message", j->reason != NULL ? j->reason : job_state_names[j->state]);
        if (job_ended(j->state) || j->state == JOB_RUNNING || !isnan(j->progress))
            progress_member(&w, j, j->state);
        else
            json_knull(&w, "progress");
        time_or_null(&w, "created_at", j->created_at);
        time_or_null(&w, "started_at", j->started_at);
        time_or_null(&w, "completed_at", j->ended_at);
        json_ktext(&w, "provider", j->provider);
        json_kint(&w, "priority", j->priority);
        json_close(&w, '}');
        live_say(s, type, b.data + 1, b.len - 2);
    }
    arena_fini(&r.a);
}

/* ---- events of jobs ---- */

static bool key_wanted(struct live *l, const char *start, int64_t id)
{
    char key[64];
    snprintf(key, sizeof(key), "%s%lld", start, (long long)id);
    return live_topic_wanted(l, key);
}

/* Under the lock. */
static bool job_wanted(struct live *l, const struct event *ev, int64_t job)
{
    return live_topic_wanted(l, "jobs") || key_wanted(l, "jobs@", ev->owner) ||
           key_wanted(l, "tasks@", ev->owner) || key_wanted(l, "job:", job) ||
           key_wanted(l, "task:", job) || key_wanted(l, "socket:", job);
}

struct note_read {
    const struct note *note;
    struct arena a;
    struct job_shown job;
};

static int note_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct note_read *r = ctx;
    struct job j;
    int rc = job_get(tx, r->note->job, &r->a, &j, e);
    return rc != OK ? rc : job_show(tx, &j, true, &r->a, &r->job, e);
}

static void write_job(struct json *j, void *ctx)
{
    const struct note_read *r = ctx;
    json_open(j, '{');
    json_key(j, "data");
    view_write(j, &job_view, &r->job);
    json_close(j, '}');
}

static void tell_note(struct live *l, const struct note *n)
{
    struct note_read r = {.note = n};
    struct err e = {0};
    char key[64];
    if (store_read(house_store(l->house), note_tx, &r, &e) != OK) {
        log_warning("live", "job %lld: %s", (long long)n->job, e.text);
        arena_fini(&r.a);
        return;
    }
    char one[LIVE_KEY_SIZE];
    snprintf(key, sizeof(key), "jobs@%lld", (long long)r.job.j.owner);
    snprintf(one, sizeof(one), "job:%lld", (long long)n->job);
    const char *const keys[] = {"jobs", key, one};
    live_publish_told(l, keys, ARRAY_LEN(keys), "job_update", write_job, &r);
    if (n->changed && n->to >= 0)
        tell_task(l, &r.job.j, n->to, n->reason);
    arena_fini(&r.a);
}

static void tell_notes(void *ctx)
{
    struct live *l = ctx;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        struct note *n = l->first_note;
        if (n == NULL) {
            l->telling = false;
            pthread_mutex_unlock(&l->lock);
            return;
        }
        l->first_note = n->next;
        if (l->first_note == NULL)
            l->last_note = &l->first_note;
        l->n_notes--;
        pthread_mutex_unlock(&l->lock);
        tell_note(l, n);
        mem_free(n->reason);
        mem_free(n);
    }
}

void live_on_job(struct house *h, void *state, const struct event *ev)
{
    struct live *l = state;
    int64_t job;
    if (l == NULL || !id_parse("j", ev->source_id, &job))
        return;
    tail_wake(l, job);
    pthread_mutex_lock(&l->lock);
    bool wanted = l->n_notes < NOTES_MAX && job_wanted(l, ev, job);
    pthread_mutex_unlock(&l->lock);
    if (!wanted)
        return;
    struct note *n = mem_alloc(sizeof(*n));
    AUTO(jv) struct jv *data = NULL;
    n->job = job;
    n->to = -1;
    n->changed = strcmp(ev->type, "job.status.changed") == 0;
    if (jv_parse(ev->data, strlen(ev->data), &data, NULL, NULL) == OK) {
        const char *to = jv_get_text(data, "to");
        n->to = to != NULL ? names_find(job_state_names, to) : -1;
        n->reason = mem_strdup(jv_get_text(data, "reason"));
    }
    pthread_mutex_lock(&l->lock);
    *l->last_note = n;
    l->last_note = &n->next;
    l->n_notes++;
    bool start = !l->telling;
    l->telling = true;
    pthread_mutex_unlock(&l->lock);
    if (start && !house_run(l->house, tell_notes, l)) {
        pthread_mutex_lock(&l->lock);
        l->telling = false; /* the next event, or the tick, tries again */
        pthread_mutex_unlock(&l->lock);
    }
}

static void write_event(struct json *j, void *ctx)
{
    json_open(j, '{');
    json_key(j, "data");
    view_write(j, &event_view, ctx);
    json_close(j, '}');
}

void live_on_any(struct house *h, void *state, const struct event *ev)
{
    struct live *l = state;
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    bool personal = strcmp(ev->source_type, "job") == 0 || strcmp(ev->source_type, "user") == 0;
    bool wanted = live_topic_wanted(l, "events:all") ||
                  (!personal && live_topic_wanted(l, "events"));
    pthread_mutex_unlock(&l->lock);
    if (!wanted)
        return;
    static const char *const keys[] = {"events:all", "events"};
    live_publish_told(l, keys, personal ? 1 : 2, "event", write_event, (void *)ev);
}

/* Notes that no worker was free for. */
void live_notes_retry(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    bool start = l->first_note != NULL && !l->telling;
    if (start)
        l->telling = true;
    pthread_mutex_unlock(&l->lock);
    if (start)
        tell_notes(l); /* the tick runs on a worker */
}
