/* Jobs at providers: handed over, polled, ended. The same states and events as on own hosts.
 *
 * A hand-over that fails is told in the job's reason. One that may succeed later is asked for
 * again, each time after a longer pause; after HAND_OVER_ASKS of them, or at once when the provider
 * refuses the job itself, that was a try of the job, and its retries decide.
 *
 * What must stay true: a hand-over leaves its external id in the transaction that makes the job
 * starting; a job that has one is never handed over again. */
#include "jobs/jobs_parts.h"

#include "base/log.h"
#include "base/spool.h"
#include "base/str.h"
#include "base/world.h"
#include "providers/providers.h"

#include <stdio.h>
#include <string.h>

enum { HAND_OVER_ASKS = 6, PAUSE_FIRST_S = 1, PAUSE_MAX_S = 60 };

struct hand_over { /* of a job whose hand-over failed */
    int asks;      /* of this try */
    int64_t pause_us, next_us;
    bool seen; /* its job still waits */
};

struct cloud_job {
    struct jobs *jobs;
    struct job job;
    const struct provider_ops *ops;
    struct provider_job call;
    char external_id[64];
    struct provider_status status;
    int64_t attempt;
    bool taken;        /* the hand-over is written down */
    bool late;         /* over its time limit: the machine must be given back */
    bool over;         /* the failed hand-over was a try of the job */
    const char *fault; /* what the provider said */
};

static int cloud_log(struct jobs *jobs, int64_t attempt, const char *line, struct err *e)
{
    enum { LINE_MAX_ = 500 };
    uint8_t record[SPOOL_HEAD_SIZE + LINE_MAX_];
    size_t len = strnlen(line, LINE_MAX_);
    struct logs_stat st;
    int rc = logs_stat(jobs->logs, attempt, &st, e);
    if (rc != OK)
        return rc;
    spool_encode_head(record, SPOOL_SYSTEM, 0, (uint32_t)len, now_us());
    memcpy(record + SPOOL_HEAD_SIZE, line, len);
    return logs_append(jobs->logs, attempt, st.have, record, SPOOL_HEAD_SIZE + len, NULL, e);
}

static struct attempt attempt_begin(struct cloud_job *c, struct job *j)
{
    j->attempt++;
    j->simulated = c->ops->simulated;
    return (struct attempt){.id = attempt_new_id(c->jobs),
                            .job_id = j->id,
                            .number = j->attempt,
                            .state = ATTEMPT_RUNNING,
                            .pid = INT_NULL,
                            .created_at = now_us(),
                            .log_bytes = INT_NULL,
                            .end_reason = -1,
                            .exit_code = INT_NULL,
                            .signal = INT_NULL,
                            .cpu_us = INT_NULL,
                            .max_rss_kib = INT_NULL};
}

static int hand_over_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct cloud_job *c = ctx;
    struct arena *a = tx_arena(tx);
    struct job j;
    c->taken = false;
    int rc = job_get(tx, c->job.id, a, &j, e);
    if (rc != OK || j.state != JOB_QUEUED)
        return rc;
    c->taken = true;
    j.external_id = c->external_id;
    struct attempt at = attempt_begin(c, &j);
    rc = record_insert(tx, &attempt_record, &at, NULL, e);
    if (rc == OK)
        rc = job_step(
            tx, &j, JOB_EV_PLACED, "scheduler",
            arena_printf(a, "handed to %s%s", j.provider, c->ops->simulated ? " (simulated)" : ""),
            a, e);
    return rc;
}

/* The reason is told; when it was a try, the job fails or waits for the next one. */
static int not_taken_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct cloud_job *c = ctx;
    struct arena *a = tx_arena(tx);
    struct job j;
    int rc = job_get(tx, c->job.id, a, &j, e);
    if (rc != OK || j.state != JOB_QUEUED)
        return rc;
    const char *why = arena_printf(a, "%s did not take it: %s", j.provider, c->fault);
    if (!c->over) {
        if (str_eq(j.reason, why))
            return OK;
        j.reason = why;
        rc = job_update(tx, &j, e);
        return rc != OK ? rc : job_event_emit(tx, &j, "job.waiting", j.state, "scheduler", a, e);
    }
    struct attempt at = attempt_begin(c, &j);
    at.state = ATTEMPT_ENDED;
    at.closed = true;
    at.ended_at = at.created_at;
    at.end_reason = END_PROVIDER;
    at.detail = why;
    rc = record_insert(tx, &attempt_record, &at, NULL, e);
    if (rc == OK)
        rc = job_step(tx, &j, JOB_EV_PLACED, "scheduler",
                      arena_printf(a, "handing over to %s", j.provider), a, e);
    return rc != OK ? rc : job_attempt_ended(tx, c->jobs, &j, &at, "agent", a, e);
}

static void not_taken(struct cloud_job *c, struct err *e)
{
    char key[ID_TEXT_SIZE];
    struct hand_over *h = map_get(&c->jobs->hand_overs, id_text("j", c->job.id, key));
    if (h == NULL) {
        h = mem_alloc(sizeof(*h));
        h->pause_us = PAUSE_FIRST_S * US_PER_S;
        h->seen = true;
        map_put(&c->jobs->hand_overs, key, h);
    }
    h->next_us = now_us() + h->pause_us;
    h->pause_us = h->pause_us * 2 < PAUSE_MAX_S * US_PER_S ? h->pause_us * 2
                                                           : PAUSE_MAX_S * US_PER_S;
    c->over = ++h->asks >= HAND_OVER_ASKS || !err_row(e->kind)->retry;
    if (c->over)
        h->asks = 0;
    struct err told = *e;
    c->fault = told.text;
    if (store_tx(house_store(c->jobs->house), not_taken_tx, c, e) == OK)
        *e = told;
}

static bool hand_over_due(struct jobs *jobs, int64_t job)
{
    char key[ID_TEXT_SIZE];
    struct hand_over *h = map_get(&jobs->hand_overs, id_text("j", job, key));
    if (h != NULL)
        h->seen = true;
    /* a clock that was put back does not make it wait longer */
    return h == NULL || now_us() >= h->next_us || h->next_us - now_us() > PAUSE_MAX_S * US_PER_S;
}

/* Those whose jobs have ended or were taken meanwhile. */
static void hand_overs_prune(struct jobs *jobs)
{
    size_t at = 0;
    const char *key, *gone = NULL;
    void *v;
    while (gone == NULL && map_next(&jobs->hand_overs, &at, &key, &v)) {
        struct hand_over *h = v;
        if (!h->seen)
            gone = key;
        h->seen = false;
    }
    if (gone != NULL) /* one a pass is enough: there is another in half a second */
        mem_free(map_del(&jobs->hand_overs, gone));
}

static void hand_over_forget(struct jobs *jobs, int64_t job)
{
    char key[ID_TEXT_SIZE];
    mem_free(map_del(&jobs->hand_overs, id_text("j", job, key)));
}

void jobs_clouds_fini(struct jobs *jobs)
{
    size_t at = 0;
    void *v;
    while (map_next(&jobs->hand_overs, &at, NULL, &v))
        mem_free(v);
    map_fini(&jobs->hand_overs);
}

static int follow_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct cloud_job *c = ctx;
    struct arena *a = tx_arena(tx);
    const struct provider_status *s = &c->status;
    struct job j;
    int rc = job_get(tx, c->job.id, a, &j, e);
    if (rc != OK || job_ended(j.state))
        return rc;
    bool over = s->state == PROVIDER_COMPLETED || s->state == PROVIDER_FAILED;
    if (j.state == JOB_STARTING && s->state == PROVIDER_RUNNING) {
        j.started_at = s->started_at;
        return job_step(tx, &j, JOB_EV_STARTED, j.provider, NULL, a, e);
    }
    bool late = !over && j.time_limit_s != INT_NULL && j.started_at != 0 &&
                now_us() - j.started_at > j.time_limit_s * US_PER_S;
    c->late = late;
    if (!over && !late && j.state != JOB_CANCELLING)
        return OK;
    struct attempt at;
    bool found = false;
    if ((rc = attempt_live(tx, j.id, a, &at, &found, e)) != OK || !found)
        return rc;
    at.state = ATTEMPT_ENDED;
    at.closed = true;
    at.ended_at = over ? s->ended_at : now_us();
    at.started_at = s->started_at;
    at.exit_code = over ? s->exit_code : INT_NULL;
    at.end_reason = j.state == JOB_CANCELLING                ? END_CANCELLED
                    : late                                   ? END_TIMED_OUT
                    : s->exit_code == 0 || s->detail == NULL ? END_EXITED
                                                             : END_PROVIDER;
    at.detail = s->detail;
    if ((rc = record_update(tx, &attempt_record, &at, e)) != OK)
        return rc;
    rc = job_attempt_ended(tx, c->jobs, &j, &at, "agent", a, e);
    if (rc == OK && !job_ended(j.state)) { /* it is queued again: a new hand-over */
        rc = tx_exec(tx, "UPDATE jobs SET external_id = NULL WHERE id = ?1", ARGS(v_int(j.id)),
                     NULL, e);
    }
    return rc;
}

static int last_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct cloud_job *c = ctx;
    return job_last_attempt(tx, c->job.id, &c->attempt, e);
}

/* The simulated provider has no log of its own: what happened is told instead. */
static void simulated_log(struct cloud_job *c, const char *line, bool end)
{
    struct err e = {0};
    if (!c->ops->simulated || store_read(house_store(c->jobs->house), last_tx, c, &e) != OK ||
        c->attempt == 0)
        return;
    if (cloud_log(c->jobs, c->attempt, line, &e) == OK && end)
        logs_end(c->jobs->logs, c->attempt, &e);
}

static void cloud_one(struct cloud_job *c)
{
    struct house *h = c->jobs->house;
    struct err e = {0};
    int rc;
    c->ops = provider_ops_now(h, provider_find(c->job.provider));
    if (c->ops == NULL)
        return; /* its credentials are gone: it waits for them */
    c->call = (struct provider_job){.external_id = c->job.external_id,
                                    .submitted_at = c->job.queued_at,
                                    .image = c->job.image,
                                    .command = c->job.command.items,
                                    .n_command = c->job.command.n,
                                    .seconds = setting_int(h, "SIM_JOB_SECONDS")};
    if (c->job.state == JOB_QUEUED) {
        if (!hand_over_due(c->jobs, c->job.id))
            return;
        rc = c->ops->submit(&c->call, c->external_id, &e);
        if (rc != OK)
            not_taken(c, &e);
        else
            hand_over_forget(c->jobs, c->job.id);
        if (rc == OK)
            rc = store_tx(house_store(h), hand_over_tx, c, &e);
        if (rc == OK && c->taken) {
            simulated_log(c, "simulated: no machine was rented, the command does not run", false);
        } else if (c->external_id[0] != '\0') {
            /* cancelled meanwhile, or not written down: nobody would end the machine later */
            struct err again = {0};
            c->call.external_id = c->external_id;
            if (c->ops->cancel(&c->call, &again) != OK)
                log_error("jobs", "job j-%lld: %s may still run at %s: %s", (long long)c->job.id,
                          c->external_id, c->job.provider, again.text);
        }
    } else {
        rc = c->job.state == JOB_CANCELLING ? c->ops->cancel(&c->call, &e) : OK;
        if (rc == OK)
            rc = c->ops->poll(&c->call, &c->status, &e);
        if (rc == OK)
            rc = store_tx(house_store(h), follow_tx, c, &e);
        if (rc == OK && c->late)
            rc = c->ops->cancel(&c->call, &e);
        if (rc == OK && c->status.state >= PROVIDER_COMPLETED)
            simulated_log(c,
                          c->status.state == PROVIDER_COMPLETED ? "simulated: completed"
                                                                : "simulated: failed",
                          true);
    }
    if (rc != OK)
        log_warning("jobs", "job j-%lld at %s: %s", (long long)c->job.id, c->job.provider, e.text);
}

struct cloud_list {
    struct arena arena;
    struct list rows;
    int64_t limit;
};

static int list_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct cloud_list *l = ctx;
    return record_list(tx, &job_record,
                       "WHERE provider <> 'local' AND state IN ('queued', 'starting', 'running',"
                       " 'cancelling') ORDER BY CASE state WHEN 'queued' THEN 1 ELSE 0 END,"
                       " order_key, id LIMIT ?1",
                       ARGS(v_int(l->limit)), &l->arena, &l->rows, e);
}

void jobs_follow_clouds(struct house *h, void *state)
{
    struct cloud_list l = {.limit = setting_int(h, "MAX_CONCURRENT_TASKS")};
    struct err e = {0};
    if (store_read(house_store(h), list_tx, &l, &e) != OK)
        log_warning("jobs", "jobs at providers: %s", e.text);
    for (size_t i = 0; i < l.rows.n && !house_stopping(h); i++) {
        struct cloud_job c = {.jobs = state, .job = ((struct job *)l.rows.items)[i]};
        cloud_one(&c);
    }
    hand_overs_prune(state);
    arena_fini(&l.arena);
}
