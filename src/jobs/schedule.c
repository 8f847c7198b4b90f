/* The scheduler: wakes on events, takes a picture of the fleet and the queue inside one write
 * transaction, lets placement/ decide, and commits leases, attempts and states together.
 *
 * What must stay true: a start is sent only after its attempt row is committed; a start that is
 * lost on the way is sent again when the node says hello. */
#include "jobs/jobs_parts.h"

#include "identity/secrets.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "placement/placement.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PASS_JOBS = 1000, PASS_PAGES = 4 };

/* ---- messages to agents ---- */

struct outgoing {
    struct fleet *fleet;
    int64_t node;
    const char *json;
    size_t n;
};

static void outgoing_send(void *ctx)
{
    struct outgoing *o = ctx;
    fleet_send(o->fleet, o->node, o->json, o->n);
}

void send_after_commit(struct tx *tx, struct jobs *jobs, int64_t node, const char *json, size_t n)
{
    struct outgoing *o = arena_alloc(tx_arena(tx), sizeof(*o));
    *o = (struct outgoing){jobs->fleet, node, json, n};
    tx_after_commit(tx, outgoing_send, o);
}

void send_stop(struct tx *tx, struct jobs *jobs, int64_t node, int64_t attempt, const char *reason,
               int64_t grace_us)
{
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "stop");
    json_kint(&j, "id", attempt);
    json_ktext(&j, "reason", reason);
    json_kint(&j, "grace_us", grace_us);
    json_close(&j, '}');
    send_after_commit(tx, jobs, node, arena_strndup(tx_arena(tx), b.data, b.len), b.len);
    buf_fini(&b);
}

static void key_int_or_null(struct json *j, const char *key, int64_t v)
{
    if (v == INT_NULL)
        json_knull(j, key);
    else
        json_kint(j, key, v);
}

/* The environment with the texts of its secrets, which from here on are in this message only. A
 * secret cannot be deleted while a live job names it. */
static struct textmap whole_env(struct tx *tx, const struct job *j, struct arena *a)
{
    struct textmap env = {.keys = arena_alloc(a, (j->env.n + j->secrets.n + 1) * sizeof(char *)),
                          .values = arena_alloc(a, (j->env.n + j->secrets.n + 1) * sizeof(char *))};
    for (; env.n < j->env.n; env.n++) {
        env.keys[env.n] = j->env.keys[env.n];
        env.values[env.n] = j->env.values[env.n];
    }
    for (size_t i = 0; i < j->secrets.n; i++) {
        struct err e = {0};
        char *text;
        if (secret_get(tx, j->owner, j->secrets.values[i], a, &text, &e) != OK) {
            log_error("jobs", "job %lld starts without a secret: %s", (long long)j->id, e.text);
            continue;
        }
        env.keys[env.n] = j->secrets.keys[i];
        env.values[env.n++] = text;
    }
    return env;
}

const char *start_message(struct tx *tx, const struct jobs *jobs, const struct job *j,
                          const struct attempt *at, const int64_t *indexes,
                          const char *const *uuids, size_t n, bool simulated, struct arena *a,
                          size_t *len)
{
    char id[ID_TEXT_SIZE];
    struct buf b = {0};
    struct json w = json_to(&b);
    json_open(&w, '{');
    json_ktext(&w, "type", "start");
    json_key(&w, "attempt");
    json_open(&w, '{');
    json_kint(&w, "id", at->id);
    json_kint(&w, "number", at->number);
    json_ktext(&w, "job", id_text("j", j->id, id));
    json_ktext(&w, "name", j->name);
    json_kint(&w, "owner", j->owner);
    json_key(&w, "argv");
    json_open(&w, '[');
    for (size_t i = 0; i < j->command.n; i++)
        json_text(&w, j->command.items[i]);
    json_close(&w, ']');
    json_key(&w, "env");
    json_open(&w, '{');
    const struct textmap env = whole_env(tx, j, a);
    for (size_t i = 0; i < env.n; i++)
        json_ktext(&w, env.keys[i], env.values[i]);
    json_close(&w, '}');
    json_ktext(&w, "cwd", j->cwd);
    job_files_write(j, &w, a);
    json_ktext(&w, "image", j->image);
    json_key(&w, "gpus");
    json_open(&w, '[');
    for (size_t i = 0; i < n; i++)
        json_int(&w, indexes[i]);
    json_close(&w, ']');
    json_key(&w, "gpu_uuids");
    json_open(&w, '[');
    for (size_t i = 0; i < n; i++)
        json_text(&w, uuids[i] != NULL ? uuids[i] : "");
    json_close(&w, ']');
    json_kbool(&w, "simulated", simulated);
    key_int_or_null(&w, "cpus", j->cpus);
    key_int_or_null(&w, "memory_mib", j->memory_mib);
    json_knull(&w, "pids_max");
    key_int_or_null(&w, "time_limit_us",
                    j->time_limit_s == INT_NULL ? INT_NULL : j->time_limit_s * US_PER_S);
    json_kint(&w, "grace_us", j->grace_s * US_PER_S);
    json_kint(&w, "log_max_bytes", jobs->log_max_bytes);
    json_close(&w, '}');
    json_close(&w, '}');
    *len = b.len;
    const char *text = arena_strndup(a, b.data, b.len);
    buf_fini(&b);
    return text;
}

int start_message_of(struct tx *tx, struct jobs *jobs, const struct attempt *at, struct arena *a,
                     const char **out, size_t *len, struct err *e)
{
    struct job j;
    int rc = job_get(tx, at->job_id, a, &j, e);
    if (rc != OK)
        return rc;
    int64_t indexes[PLACE_GPUS_MAX];
    const char *uuids[PLACE_GPUS_MAX];
    size_t n = 0;
    bool simulated = false;
    for (size_t i = 0; i < j.gpu_ids.n && n < PLACE_GPUS_MAX; i++) {
        struct gpu g;
        bool found;
        rc = record_get(tx, &gpu_record, "WHERE id = ?1", ARGS(v_text(j.gpu_ids.items[i])), a, &g,
                        &found, e);
        if (rc != OK)
            return rc;
        if (!found)
            continue;
        indexes[n] = g.index;
        uuids[n++] = g.uuid;
        simulated |= g.simulated;
    }
    *out = start_message(tx, jobs, &j, at, indexes, uuids, n, simulated, a, len);
    return OK;
}

/* ---- the picture ---- */

struct picture {
    struct place_node *nodes;
    size_t n_nodes;
    struct gpu **rows; /* beside the place_gpus of each node, by place */
};

static void mark_unusable(const struct fleet_snapshot *s, struct place_gpu *g)
{
    for (size_t i = 0; i < s->n_gpus; i++)
        if (strcmp(s->gpus[i].id, g->id) == 0) {
            int st = s->gpus[i].state;
            g->usable = st == GPU_FREE || st == GPU_LEASED;
            return;
        }
}

static int take_picture(struct tx *tx, struct jobs *jobs, struct picture *p, struct arena *a,
                        struct err *e)
{
    struct list nodes, gpus;
    int rc = record_list(tx, &node_record, "WHERE state <> 'removed' ORDER BY id", NO_ARGS, a,
                         &nodes, e);
    if (rc == OK)
        rc = record_list(tx, &gpu_record, "WHERE present = 1 ORDER BY node_id, idx", NO_ARGS, a,
                         &gpus, e);
    if (rc != OK)
        return rc;
    AUTO(fleet_snapshot) const struct fleet_snapshot *snap = fleet_snapshot_get(jobs->fleet);
    struct place_gpu *pg = arena_alloc(a, (gpus.n + 1) * sizeof(*pg));
    p->nodes = arena_alloc(a, (nodes.n + 1) * sizeof(*p->nodes));
    p->n_nodes = nodes.n;
    p->rows = arena_alloc(a, (gpus.n + 1) * sizeof(*p->rows));
    struct map by_id = {0};
    size_t at = 0;
    for (size_t i = 0; i < nodes.n; i++) {
        const struct node *n = (const struct node *)nodes.items + i;
        struct place_node *pn = &p->nodes[i];
        *pn = (struct place_node){.id = n->id,
                                  .name = n->name,
                                  .usable = n->state == NODE_ONLINE,
                                  .cpus_free = n->cpus,
                                  .memory_free_mib = n->memory_mib,
                                  .cpus_total = n->cpus,
                                  .memory_total_mib = n->memory_mib,
                                  .gpus = pg + at};
        for (; at < gpus.n && ((struct gpu *)gpus.items)[at].node_id <= n->id; at++) {
            struct gpu *g = (struct gpu *)gpus.items + at;
            if (g->node_id != n->id)
                continue;
            p->rows[&pn->gpus[pn->n_gpus] - pg] = g;
            struct place_gpu *one = &pn->gpus[pn->n_gpus++];
            *one = (struct place_gpu){.id = g->id,
                                      .type = g->type,
                                      .index = g->index,
                                      .free_milli = 1000,
                                      .usable = true};
            mark_unusable(snap, one);
            map_put(&by_id, g->id, one);
        }
    }
    struct rows *r = tx_query(tx, "SELECT gpu_id, milli FROM gpu_leases", NO_ARGS);
    while (rows_next(r)) {
        struct place_gpu *g = map_get(&by_id, row_text(r, 0));
        if (g != NULL)
            g->free_milli -= row_int(r, 1);
    }
    map_fini(&by_id);
    if ((rc = rows_end(r, e)) != OK)
        return rc;
    r = tx_query(tx,
                 "SELECT t.node_id, j.cpus, j.gpus, j.memory_mib FROM job_attempts t"
                 " JOIN jobs j ON j.id = t.job_id WHERE t.closed = 0 AND t.state <> 'ended'",
                 NO_ARGS);
    while (rows_next(r)) {
        struct job j = {.cpus = row_null(r, 1) ? INT_NULL : row_int(r, 1), .gpus = row_int(r, 2)};
        for (size_t i = 0; i < p->n_nodes; i++) {
            if (p->nodes[i].id != row_int(r, 0))
                continue;
            p->nodes[i].cpus_free -= job_counted_cpus(&j);
            p->nodes[i].memory_free_mib -= row_int(r, 3);
        }
    }
    return rows_end(r, e);
}

/* ---- one pass ---- */

struct pass {
    struct jobs *jobs;
    bool again; /* more may be waiting behind this page */
};

static int commit_placed(struct tx *tx, struct jobs *jobs, struct job *j, const struct picture *p,
                         const struct place_decision *d, struct arena *a, struct err *e)
{
    const struct place_node *n = &p->nodes[d->node];
    int64_t indexes[PLACE_GPUS_MAX];
    const char *uuids[PLACE_GPUS_MAX];
    bool simulated = false;
    int rc = OK;
    j->gpu_ids = (struct texts){.items = arena_alloc(a, ((size_t)j->gpus + 1) * sizeof(char *)),
                                .n = (size_t)j->gpus};
    for (size_t i = 0; i < (size_t)j->gpus; i++) {
        const struct place_gpu *g = d->gpus[i];
        const struct gpu *row = p->rows[g - p->nodes[0].gpus];
        rc = lease_take(tx, g->id, HOLDER_JOB, j->id, 1000, INT_NULL, e);
        if (rc != OK)
            return rc;
        j->gpu_ids.items[i] = g->id;
        indexes[i] = g->index;
        uuids[i] = row->uuid;
        simulated |= row->simulated;
    }
    j->node_id = n->id;
    j->attempt++;
    j->simulated = simulated;
    struct attempt at = {.id = attempt_new_id(jobs),
                         .job_id = j->id,
                         .number = j->attempt,
                         .node_id = n->id,
                         .state = ATTEMPT_PLACED,
                         .pid = INT_NULL,
                         .created_at = now_us(),
                         .log_bytes = INT_NULL,
                         .end_reason = -1,
                         .exit_code = INT_NULL,
                         .signal = INT_NULL,
                         .cpu_us = INT_NULL,
                         .max_rss_kib = INT_NULL};
    if ((rc = record_insert(tx, &attempt_record, &at, NULL, e)) != OK)
        return rc;
    rc = job_step(tx, j, JOB_EV_PLACED, "scheduler", arena_printf(a, "placed on %s", n->name), a,
                  e);
    if (rc != OK)
        return rc;
    size_t len;
    const char *json = start_message(tx, jobs, j, &at, indexes, uuids, (size_t)j->gpus, simulated,
                                     tx_arena(tx), &len);
    send_after_commit(tx, jobs, n->id, json, len);
    return OK;
}

/* A part of the queue, in its order. */
struct page {
    int64_t after_key, after_id;
    int64_t gpus_max; /* who wants more is left out: it waits whatever comes */
    size_t n, placed;
};

static int pass_page(struct tx *tx, struct jobs *jobs, struct picture *p, struct page *page,
                     struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list queue;
    int rc = record_list(tx, &job_record,
                         "WHERE state = 'queued' AND provider = 'local' AND gpus <= ?1 AND"
                         " (order_key > ?2 OR (order_key = ?2 AND id > ?3))"
                         " ORDER BY order_key, id LIMIT ?4",
                         ARGS(v_int(page->gpus_max), v_int(page->after_key), v_int(page->after_id),
                              v_int(PASS_JOBS)),
                         a, &queue, e);
    page->n = queue.n;
    if (rc == OK && queue.n > 0 && p->nodes == NULL)
        rc = take_picture(tx, jobs, p, a, e);
    if (rc != OK || queue.n == 0)
        return rc;
    struct job *j = queue.items;
    struct place_request *r = arena_alloc(a, queue.n * sizeof(*r));
    struct place_decision *d = arena_alloc(a, queue.n * sizeof(*d));
    for (size_t i = 0; i < queue.n; i++) {
        char id[ID_TEXT_SIZE];
        r[i] = (struct place_request){.id = j[i].id,
                                      .text = arena_strdup(a, id_text("j", j[i].id, id)),
                                      .gpus = j[i].gpus,
                                      .types = j[i].gpu_type.items,
                                      .n_types = j[i].gpu_type.n,
                                      .cpus = job_counted_cpus(&j[i]),
                                      .memory_mib = j[i].memory_mib != INT_NULL ? j[i].memory_mib
                                                                                : 0};
    }
    placement_decide(p->nodes, p->n_nodes, r, queue.n, d);
    page->after_key = j[queue.n - 1].order_key;
    page->after_id = j[queue.n - 1].id;
    for (size_t i = 0; i < queue.n && rc == OK; i++) {
        if (d[i].outcome == PLACED) {
            page->placed++;
            rc = commit_placed(tx, jobs, &j[i], p, &d[i], a, e);
        } else if (!str_eq(j[i].reason, d[i].reason)) {
            /* no event: a reason is what a page shows now, not something that happened */
            rc = tx_exec(tx, "UPDATE jobs SET reason = ?1 WHERE id = ?2 AND state = 'queued'",
                         ARGS(v_text(d[i].reason), v_int(j[i].id)), NULL, e);
        }
    }
    return rc;
}

/* The most GPUs that one node still has for those further back. */
static int64_t most_left(const struct picture *p)
{
    int64_t most = 0;
    for (size_t i = 0; i < p->n_nodes; i++) {
        int64_t left = 0;
        for (size_t k = 0; p->nodes[i].usable && k < p->nodes[i].n_gpus; k++) {
            const struct place_gpu *g = &p->nodes[i].gpus[k];
            left += g->usable && g->free_milli == 1000 && g->held_by == NULL;
        }
        most = left > most ? left : most;
    }
    return most;
}

/* A thousand that wait in front must not hide who could run behind them, so the queue is read on
 * for those that what is left could do for; for the rest the front alone is looked at. */
static int pass_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct pass *pass = ctx;
    struct picture p = {0};
    struct page page = {.after_key = INT64_MIN, .gpus_max = INT64_MAX};
    int rc = OK;
    for (int i = 0; i < PASS_PAGES && rc == OK && (i == 0 || page.n == PASS_JOBS); i++) {
        if (i > 0)
            page.gpus_max = most_left(&p);
        rc = pass_page(tx, pass->jobs, &p, &page, e);
    }
    pass->again = page.placed > 0 && page.n == PASS_JOBS;
    return rc;
}

void jobs_schedule(struct jobs *jobs)
{
    struct pass pass = {jobs, false};
    do {
        struct err e = {0};
        if (store_tx(house_store(jobs->house), pass_tx, &pass, &e) != OK) {
            log_warning("jobs", "a scheduling pass failed and will be made again: %s", e.text);
            break;
        }
    } while (pass.again && !house_stopping(jobs->house));
}

void *scheduler_main(void *ctx)
{
    struct jobs *jobs = ctx;
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stop) {
        if (!jobs->due) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += 5; /* another replica's work and changed health show up here */
            pthread_cond_timedwait(&jobs->wake, &jobs->lock, &until);
        }
        jobs->due = false;
        bool stop = jobs->stop;
        pthread_mutex_unlock(&jobs->lock);
        if (!stop)
            jobs_schedule(jobs);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}
