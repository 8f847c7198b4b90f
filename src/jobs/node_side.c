/* The jobs' side of the link: what nodes report, and the logs they ship.
 *
 * Reports are state and may be repeated in any number: handling one twice changes nothing. An
 * attempt is closed when its log is whole here; only then is the agent told to forget it. */
#include "jobs/jobs_parts.h"

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { CLOSE_PAGE = 200 };
#define GIVE_UP_LOG_US (INT64_C(24) * 3600 * US_PER_S)

static void send_simple(struct jobs *jobs, int64_t node, const char *type, int64_t attempt,
                        const char *key, int64_t value)
{
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", type);
    json_kint(&j, "id", attempt);
    if (key != NULL)
        json_kint(&j, key, value);
    json_close(&j, '}');
    fleet_send(jobs->fleet, node, b.data, b.len);
    buf_fini(&b);
}

/* ---- closing: the log is whole, the agent may forget ---- */

static int close_tx(struct tx *tx, void *ctx, struct err *e)
{
    const struct attempt *at = ctx;
    return tx_exec(tx, "UPDATE job_attempts SET closed = 1 WHERE id = ?1", ARGS(v_int(at->id)),
                   NULL, e);
}

/* True: closed now or before. */
static bool try_close(struct jobs *jobs, const struct attempt *at, bool give_up)
{
    struct err e = {0};
    struct logs_stat st;
    if (logs_stat(jobs->logs, at->id, &st, &e) != OK) {
        log_warning("jobs", "log of attempt %lld: %s", (long long)at->id, e.text);
        return false;
    }
    if (!give_up && at->log_bytes != INT_NULL && (int64_t)st.have < at->log_bytes)
        return false;
    if (logs_end(jobs->logs, at->id, &e) != OK) {
        log_warning("jobs", "closing the log of attempt %lld: %s", (long long)at->id, e.text);
        return false;
    }
    if (store_tx(house_store(jobs->house), close_tx, (void *)(uintptr_t)at, &e) != OK) {
        log_warning("jobs", "closing attempt %lld: %s", (long long)at->id, e.text);
        return false;
    }
    send_simple(jobs, at->node_id, "forget", at->id, NULL, 0);
    return true;
}

struct open_list {
    struct arena arena;
    struct list rows;
    int64_t id; /* one attempt; 0: all that ended and are open */
};

static int open_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct open_list *o = ctx;
    return record_list(tx, &attempt_record,
                       "WHERE closed = 0 AND state = 'ended' AND (?1 = 0 OR id = ?1)"
                       " ORDER BY id LIMIT ?2",
                       ARGS(v_int(o->id), v_int(CLOSE_PAGE)), &o->arena, &o->rows, e);
}

static void close_open(struct jobs *jobs, int64_t id)
{
    struct open_list o = {.id = id};
    struct err e = {0};
    if (store_read(house_store(jobs->house), open_tx, &o, &e) == OK)
        for (size_t i = 0; i < o.rows.n; i++) {
            const struct attempt *at = (const struct attempt *)o.rows.items + i;
            bool old = at->ended_at != 0 && now_us() - at->ended_at > GIVE_UP_LOG_US;
            if (!try_close(jobs, at, old) && id == 0 && fleet_connected(jobs->fleet, at->node_id)) {
                /* the log stalled (a full disk, a lost frame): ask for it from where we are */
                struct logs_stat st;
                if (logs_stat(jobs->logs, at->id, &st, &e) == OK)
                    send_simple(jobs, at->node_id, "log_from", at->id, "offset", (int64_t)st.have);
            }
        }
    else
        log_warning("jobs", "attempts to close: %s", e.text);
    arena_fini(&o.arena);
}

void jobs_close_attempts(struct house *h, void *state)
{
    close_open(state, 0);
}

/* ---- reports ---- */

struct report_batch {
    struct jobs *jobs;
    int64_t node;
    const struct jv *const *items;
    size_t n;
    const struct jv *all; /* hello: the list; else NULL */
    bool more;            /* ended ones that are not in it follow */
};

static int64_t int_or_null(const struct jv *o, const char *name)
{
    return jv_get_int(o, name, INT_NULL);
}

static int report_ended(struct tx *tx, struct jobs *jobs, struct attempt *at, const struct jv *r,
                        struct arena *a, struct err *e)
{
    const struct jv *exit = jv_get(r, "exit");
    const char *word = jv_get_text(exit, "reason");
    int reason = word != NULL ? names_find(end_reason_names, word) : -1;
    bool refused = str_eq(jv_get_text(r, "state"), "refused");
    at->state = ATTEMPT_ENDED;
    at->end_reason = reason >= 0 ? reason : refused ? END_START_FAILED : END_SUPERVISOR_LOST;
    at->exit_code = int_or_null(exit, "code");
    at->signal = int_or_null(exit, "signal");
    const char *detail = jv_get_text(exit, "detail");
    at->detail = detail != NULL && *detail != '\0' ? arena_strndup(a, detail, utf8_fit(detail, 500))
                                                   : NULL;
    at->cpu_us = int_or_null(exit, "cpu_us");
    at->max_rss_kib = int_or_null(exit, "max_rss_kib");
    int64_t started = jv_get_int(r, "started_at", 0), ended = jv_get_int(r, "ended_at", 0);
    at->started_at = started > 0 ? started : at->started_at;
    at->ended_at = ended > 0 ? ended : now_us();
    at->log_bytes = jv_get_int(r, "log_bytes", 0);
    struct job j;
    int rc = record_update(tx, &attempt_record, at, e);
    if (rc == OK)
        rc = job_get(tx, at->job_id, a, &j, e);
    if (rc != OK || job_ended(j.state))
        return rc;
    return job_attempt_ended(tx, jobs, &j, at, "agent", a, e);
}

static void send_forget(struct tx *tx, struct jobs *jobs, int64_t node, int64_t id)
{
    char *json = arena_printf(tx_arena(tx), "{\"type\":\"forget\",\"id\":%lld}", (long long)id);
    send_after_commit(tx, jobs, node, json, strlen(json));
}

static int report_one(struct tx *tx, struct jobs *jobs, int64_t node, const struct jv *r,
                      struct err *e)
{
    struct arena *a = tx_arena(tx);
    int64_t id = jv_get_int(r, "id", 0);
    const char *state = jv_get_text(r, "state");
    struct attempt at;
    bool found = false;
    if (id <= 0 || state == NULL)
        return OK; /* nothing that could be ours */
    int rc = attempt_get(tx, id, a, &at, &found, e);
    if (rc != OK)
        return rc;
    bool ended = strcmp(state, "ended") == 0 || strcmp(state, "refused") == 0;
    if (!found || at.node_id != node) {
        /* of a store that is gone: it must not go on, and nobody asks for its log */
        if (!ended) {
            send_stop(tx, jobs, node, id, "cancelled", 0);
        } else {
            send_forget(tx, jobs, node, id);
        }
        return OK;
    }
    if (at.state == ATTEMPT_ENDED) {
        /* said again because our answer was lost on the way, or by a process that we gave up */
        if (!ended)
            send_stop(tx, jobs, node, id, "cancelled", 0);
        else if (at.closed)
            send_forget(tx, jobs, node, id);
        return OK;
    }
    if (ended)
        return report_ended(tx, jobs, &at, r, a, e);
    bool running = strcmp(state, "running") == 0;
    enum attempt_state now = running ? ATTEMPT_RUNNING : ATTEMPT_ACCEPTED;
    if (now > (enum attempt_state)at.state) {
        at.state = now;
        at.pid = int_or_null(r, "pid");
        int64_t started = jv_get_int(r, "started_at", 0);
        at.started_at = started > 0 ? started : at.started_at;
        if ((rc = record_update(tx, &attempt_record, &at, e)) != OK)
            return rc;
    }
    struct job j;
    if ((rc = job_get(tx, at.job_id, a, &j, e)) != OK)
        return rc;
    running = at.state == ATTEMPT_RUNNING; /* also when an older word of it comes late */
    if (running && (j.state == JOB_STARTING || j.state == JOB_UNKNOWN)) {
        if (at.started_at != 0)
            j.started_at = at.started_at;
        rc = job_step(tx, &j, JOB_EV_STARTED, "agent", NULL, a, e);
    } else if (j.state == JOB_UNKNOWN) {
        rc = job_step(tx, &j, JOB_EV_BACK, "agent", "its node answers again", a, e);
    }
    if (rc == OK && j.state == JOB_CANCELLING)
        send_stop(tx, jobs, node, at.id, "cancelled", j.grace_s * US_PER_S);
    return rc;
}

static bool listed(const struct jv *list, int64_t id)
{
    size_t n = jv_kind(list) == JV_LIST ? jv_len(list) : 0;
    for (size_t i = 0; i < n; i++)
        if (jv_get_int(jv_at(list, i), "id", 0) == id)
            return true;
    return false;
}

/* After hello: what we believe runs there and the agent does not know. */
static int missing_ones(struct tx *tx, const struct report_batch *b, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list rows;
    int rc = record_list(tx, &attempt_record, "WHERE node_id = ?1 AND closed = 0 ORDER BY id",
                         ARGS(v_int(b->node)), a, &rows, e);
    for (size_t i = 0; rc == OK && i < rows.n; i++) {
        struct attempt *at = (struct attempt *)rows.items + i;
        if (listed(b->all, at->id))
            continue;
        if (at->state == ATTEMPT_PLACED) {
            struct job j;
            if ((rc = job_get(tx, at->job_id, a, &j, e)) != OK)
                break;
            if (j.cancel_requested) {
                /* it never got there and must not any more */
                at->end_reason = END_CANCELLED;
            } else {
                const char *json;
                size_t len;
                rc = start_message_of(tx, b->jobs, at, a, &json, &len, e);
                if (rc == OK)
                    send_after_commit(tx, b->jobs, b->node, json, len);
                if (rc == OK && j.state == JOB_UNKNOWN)
                    rc = job_step(tx, &j, JOB_EV_BACK, "agent", "its node answers again", a, e);
                continue;
            }
        } else if (at->state == ATTEMPT_ENDED || b->more) {
            continue; /* its log cannot grow any more: the duty closes it; or its report follows */
        } else {
            at->end_reason = END_SUPERVISOR_LOST;
        }
        at->state = ATTEMPT_ENDED;
        at->ended_at = now_us();
        at->detail = "the node does not know it any more";
        at->log_bytes = 0;
        struct job j;
        rc = record_update(tx, &attempt_record, at, e);
        if (rc == OK)
            rc = job_get(tx, at->job_id, a, &j, e);
        if (rc == OK && !job_ended(j.state))
            rc = job_attempt_ended(tx, b->jobs, &j, at, "agent", a, e);
    }
    return rc;
}

static int reports_tx(struct tx *tx, void *ctx, struct err *e)
{
    const struct report_batch *b = ctx;
    int rc = OK;
    if (b->all != NULL) /* the end of an older link may have been told after this hello */
        rc = node_set_state(tx, b->node, NODE_ONLINE, "its agent answers", e);
    for (size_t i = 0; i < b->n && rc == OK; i++)
        rc = report_one(tx, b->jobs, b->node, b->items[i], e);
    if (rc == OK && b->all != NULL)
        rc = missing_ones(tx, b, e);
    return rc;
}

/* What could not be written (a full disk) is asked for again: the duty cuts the link, and the
 * agent repeats all it knows with its next hello. */
static void ask_again(struct jobs *jobs, int64_t node)
{
    pthread_mutex_lock(&jobs->lock);
    for (size_t i = 0; i < jobs->n_ask; i++)
        if (jobs->ask[i] == node)
            node = 0;
    if (node != 0 && jobs->n_ask < ARRAY_LEN(jobs->ask))
        jobs->ask[jobs->n_ask++] = node;
    pthread_mutex_unlock(&jobs->lock);
}

static void on_attempts(void *ctx, int64_t node, const struct jv *const *reports, size_t n)
{
    struct jobs *jobs = ctx;
    struct report_batch b = {jobs, node, reports, n, NULL, false};
    struct err e = {0};
    if (store_tx(house_store(jobs->house), reports_tx, &b, &e) != OK) {
        /* the agent repeats its state at the next hello; one bad report must not hide others */
        log_warning("jobs", "reports of node %lld: %s", (long long)node, e.text);
        for (size_t i = 0; n > 1 && i < n; i++)
            on_attempts(ctx, node, reports + i, 1);
        if (n == 1)
            ask_again(jobs, node);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *state = jv_get_text(reports[i], "state");
        if (state != NULL && (strcmp(state, "ended") == 0 || strcmp(state, "refused") == 0))
            close_open(jobs, jv_get_int(reports[i], "id", -1));
    }
}

static void on_online(void *ctx, int64_t node, const struct jv *hello)
{
    const struct jv *attempts = jv_get(hello, "attempts");
    struct jobs *jobs = ctx;
    size_t n = jv_kind(attempts) == JV_LIST ? jv_len(attempts) : 0;
    const struct jv **items = mem_alloc((n + 1) * sizeof(*items));
    for (size_t i = 0; i < n; i++)
        items[i] = jv_at(attempts, i);
    struct report_batch b = {jobs, node, items, n, attempts, jv_get_bool(hello, "more", false)};
    struct err e = {0};
    if (store_tx(house_store(jobs->house), reports_tx, &b, &e) != OK) {
        log_error("jobs", "what node %lld runs: %s", (long long)node, e.text);
        ask_again(jobs, node);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t id = jv_get_int(items[i], "id", 0);
        struct logs_stat st;
        if (id > 0 && logs_stat(jobs->logs, id, &st, &e) == OK)
            send_simple(jobs, node, "log_from", id, "offset", (int64_t)st.have);
    }
    mem_free(items);
    close_open(jobs, 0);
    jobs_wake(jobs);
}

struct offline_call {
    struct jobs *jobs;
    int64_t node;
};

static int offline_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct offline_call *c = ctx;
    if (fleet_connected(c->jobs->fleet, c->node))
        return OK; /* it is back already; asked here, because a hello is written in order with us */
    return node_set_state(tx, c->node, NODE_UNREACHABLE, "the link to its agent is down", e);
}

static void on_offline(void *ctx, int64_t node)
{
    struct jobs *jobs = ctx;
    struct offline_call c = {jobs, node};
    struct err e = {0};
    if (store_tx(house_store(jobs->house), offline_tx, &c, &e) != OK)
        log_warning("jobs", "node %lld went away: %s", (long long)node, e.text);
}

static void on_log(void *ctx, int64_t node, int64_t attempt, uint64_t offset, const void *bytes,
                   size_t n)
{
    struct jobs *jobs = ctx;
    uint64_t have = 0, before = 0, durable = 0;
    struct err e = {0};
    logs_durable(jobs->logs, attempt, &before, &e);
    int rc = logs_append(jobs->logs, attempt, offset, bytes, n, &have, &e);
    if (rc == ERR_CONFLICT) {
        send_simple(jobs, node, "log_from", attempt, "offset", (int64_t)have);
        return;
    }
    if (rc != OK) {
        log_warning("jobs", "log of attempt %lld at %llu: %s", (long long)attempt,
                    (unsigned long long)offset, e.text);
        return; /* asked for again by the duty */
    }
    if (logs_durable(jobs->logs, attempt, &durable, &e) == OK && durable > before)
        send_simple(jobs, node, "log_ack", attempt, "offset", (int64_t)durable);
    close_open(jobs, attempt);
}

const struct link_ops jobs_link_ops = {on_online, on_offline, on_attempts, on_log};

/* ---- nodes that are silent ---- */

static int silent_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list rows;
    int rc = record_list(tx, &job_record,
                         "WHERE state IN ('starting', 'running') AND provider = 'local' AND"
                         " node_id IN (SELECT id FROM nodes WHERE state <> 'online' AND"
                         " state_since < ?1) ORDER BY id LIMIT 500",
                         ARGS(v_int(now_us() - UNREACHABLE_AFTER_US)), a, &rows, e);
    for (size_t i = 0; rc == OK && i < rows.n; i++)
        rc = job_step(tx, (struct job *)rows.items + i, JOB_EV_UNREACHABLE, "fleet",
                      "its node does not answer; it may well be running", a, e);
    return rc;
}

void jobs_check_nodes(struct house *h, void *state)
{
    struct jobs *jobs = state;
    struct err e = {0};
    int64_t ask[ARRAY_LEN(jobs->ask)];
    pthread_mutex_lock(&jobs->lock);
    size_t n = jobs->n_ask;
    memcpy(ask, jobs->ask, n * sizeof(ask[0]));
    jobs->n_ask = 0;
    pthread_mutex_unlock(&jobs->lock);
    for (size_t i = 0; i < n; i++)
        fleet_link_again(jobs->fleet, ask[i]);
    if (store_tx(house_store(h), silent_tx, NULL, &e) != OK)
        log_warning("jobs", "looking for silent nodes: %s", e.text);
}
