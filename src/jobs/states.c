/* A job's states: the table, the one function that writes them, and what an attempt's end means.
 *
 * What must stay true: job->state is written here only, with its event in the same transaction;
 * leases go back in the transaction that ends the attempt. */
#include "jobs/jobs_parts.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

const char *const job_state_names[] = {"queued",    "starting", "running", "cancelling", "unknown",
                                       "completed", "failed",   "timeout", "cancelled",  NULL};
const char *const job_kind_names[] = {"run", "cloud", "training", "preprocess", "download", NULL};
const char *const end_reason_names[] = {
    "exited",       "signalled",     "out_of_memory", "timed_out", "cancelled", "supervisor_lost",
    "start_failed", "node_rebooted", "node_lost",     "provider",  NULL};
const char *const attempt_state_names[] = {"placed", "accepted", "running", "ended", NULL};
static const char *const job_event_names[] = {
    "placing",    "starting",    "completing", "failing",         "trying again", "timing out",
    "cancelling", "withdrawing", "stopping",   "losing its node", "coming back",  NULL};

bool job_ended(int state)
{
    return state >= JOB_COMPLETED;
}

static const struct transition job_transitions[] = {
    /* from           on                  to */
    {JOB_QUEUED, JOB_EV_PLACED, JOB_STARTING},
    {JOB_QUEUED, JOB_EV_WITHDRAW, JOB_CANCELLED},
    {JOB_STARTING, JOB_EV_STARTED, JOB_RUNNING},
    {JOB_STARTING, JOB_EV_DONE, JOB_COMPLETED},
    {JOB_STARTING, JOB_EV_BROKE, JOB_FAILED},
    {JOB_STARTING, JOB_EV_AGAIN, JOB_QUEUED},
    {JOB_STARTING, JOB_EV_TIMED_OUT, JOB_TIMEOUT},
    {JOB_STARTING, JOB_EV_CANCEL, JOB_CANCELLING},
    {JOB_STARTING, JOB_EV_UNREACHABLE, JOB_UNKNOWN},
    {JOB_RUNNING, JOB_EV_DONE, JOB_COMPLETED},
    {JOB_RUNNING, JOB_EV_BROKE, JOB_FAILED},
    {JOB_RUNNING, JOB_EV_AGAIN, JOB_QUEUED},
    {JOB_RUNNING, JOB_EV_TIMED_OUT, JOB_TIMEOUT},
    {JOB_RUNNING, JOB_EV_CANCEL, JOB_CANCELLING},
    {JOB_RUNNING, JOB_EV_UNREACHABLE, JOB_UNKNOWN},
    {JOB_CANCELLING, JOB_EV_STOPPED, JOB_CANCELLED},
    {JOB_CANCELLING, JOB_EV_DONE, JOB_COMPLETED}, /* it ended by itself before the signal came */
    {JOB_UNKNOWN, JOB_EV_BACK, JOB_STARTING},     /* it had not begun when its node went away */
    {JOB_UNKNOWN, JOB_EV_STARTED, JOB_RUNNING},
    {JOB_UNKNOWN, JOB_EV_DONE, JOB_COMPLETED},
    {JOB_UNKNOWN, JOB_EV_BROKE, JOB_FAILED},
    {JOB_UNKNOWN, JOB_EV_AGAIN, JOB_QUEUED},
    {JOB_UNKNOWN, JOB_EV_TIMED_OUT, JOB_TIMEOUT},
    {JOB_UNKNOWN, JOB_EV_CANCEL, JOB_CANCELLING},
};
const struct machine job_machine = {"job", job_state_names, job_event_names, job_transitions,
                                    ARRAY_LEN(job_transitions)};

int job_update(struct tx *tx, const struct job *j, struct err *e)
{
    return record_update(tx, &job_record, j, e);
}

static const char *status_event_data(const struct job *j, int from, struct arena *a)
{
    char id[ID_TEXT_SIZE];
    struct buf b = {0};
    struct json w = json_to(&b);
    json_open(&w, '{');
    json_ktext(&w, "job", id_text("j", j->id, id));
    json_ktext(&w, "uuid", j->uuid);
    json_ktext(&w, "from", from < 0 ? NULL : job_state_names[from]);
    json_ktext(&w, "to", job_state_names[j->state]);
    json_ktext(&w, "reason", j->reason);
    json_kint(&w, "attempt", j->attempt);
    if (j->node_id != 0)
        json_ktext(&w, "node", id_text("n", j->node_id, id));
    else
        json_knull(&w, "node");
    if (j->exit_code != INT_NULL)
        json_kint(&w, "exit_code", j->exit_code);
    else
        json_knull(&w, "exit_code");
    if (job_ended(j->state) && j->started_at != 0)
        json_kint(&w, "ran_ms", (j->ended_at - j->started_at) / 1000);
    json_close(&w, '}');
    char *text = arena_strdup(a, buf_str(&b));
    buf_fini(&b);
    return text;
}

int job_event_emit(struct tx *tx, const struct job *j, const char *type, int from,
                   const char *actor, struct arena *a, struct err *e)
{
    char id[ID_TEXT_SIZE];
    struct event ev = {
        .type = type,
        .source_type = "job",
        .source_id = id_text("j", j->id, id),
        .owner = j->owner,
        .severity = j->state == JOB_FAILED || j->state == JOB_TIMEOUT ? SEVERITY_ERROR
                    : j->state == JOB_UNKNOWN                         ? SEVERITY_WARNING
                                                                      : SEVERITY_INFO,
        .actor = actor,
        .summary = j->reason != NULL
                       ? arena_printf(a, "%s: %s", job_state_names[j->state], j->reason)
                       : job_state_names[j->state],
        .data = status_event_data(j, from, a)};
    return event_emit(tx, &ev, e);
}

int job_step(struct tx *tx, struct job *j, enum job_event on, const char *actor, const char *reason,
             struct arena *a, struct err *e)
{
    int to, from = j->state;
    int rc = machine_next(&job_machine, from, on, &to, e);
    if (rc != OK)
        return rc;
    int64_t now = now_us();
    j->state = to;
    j->reason = reason;
    if (to == JOB_RUNNING && j->started_at == 0)
        j->started_at = now;
    if (to == JOB_QUEUED)
        j->queued_at = now;
    if (job_ended(to) && j->ended_at == 0)
        j->ended_at = now;
    if ((rc = job_update(tx, j, e)) != OK)
        return rc;
    return job_event_emit(tx, j, "job.status.changed", from, actor, a, e);
}

/* ---- attempts ---- */

int64_t attempt_new_id(struct jobs *jobs)
{
    int64_t last = atomic_load(&jobs->last_attempt), id;
    do {
        id = now_us();
        if (id <= last)
            id = last + 1;
    } while (!atomic_compare_exchange_weak(&jobs->last_attempt, &last, id));
    return id;
}

int attempt_get(struct tx *tx, int64_t id, struct arena *a, struct attempt *out, bool *found,
                struct err *e)
{
    return record_get(tx, &attempt_record, "WHERE id = ?1", ARGS(v_int(id)), a, out, found, e);
}

int attempt_live(struct tx *tx, int64_t job, struct arena *a, struct attempt *out, bool *found,
                 struct err *e)
{
    return record_get(tx, &attempt_record, "WHERE job_id = ?1 AND state <> 'ended'",
                      ARGS(v_int(job)), a, out, found, e);
}

/* SIGKILL → "killed (signal 9)"; the plain words of an end. */
static const char *end_words(const struct job *j, const struct attempt *at, struct arena *a)
{
    char took[DURATION_TEXT_SIZE];
    switch ((enum end_reason)at->end_reason) {
    case END_EXITED:
        return arena_printf(a, "exit code %lld", (long long)at->exit_code);
    case END_SIGNALLED:
        if (at->signal == 9)
            return "killed by signal 9 (SIGKILL) from outside Drover";
        return arena_printf(a, "ended by signal %lld (%s)", (long long)at->signal,
                            strsignal((int)at->signal));
    case END_OUT_OF_MEMORY:
        if (j->memory_mib != INT_NULL)
            return arena_printf(a, "killed: out of memory (its limit is %lld MiB)",
                                (long long)j->memory_mib);
        return "killed: out of memory (the node had none left)";
    case END_TIMED_OUT:
        return arena_printf(a, "time limit of %s reached",
                            duration_format(j->time_limit_s * US_PER_S, took));
    case END_CANCELLED:
        return "cancelled";
    case END_SUPERVISOR_LOST:
        return "supervisor lost: its processes were ended and it is not run again";
    case END_NODE_REBOOTED:
        return "its node was restarted while it ran";
    case END_NODE_LOST:
        return at->detail;
    case END_START_FAILED:
        return at->detail != NULL && *at->detail != '\0'
                   ? arena_printf(a, "could not start: %s", at->detail)
                   : "could not start";
    case END_PROVIDER:
    case END_REASONS:
        break;
    }
    return at->detail;
}

int job_attempt_ended(struct tx *tx, struct jobs *jobs, struct job *j, const struct attempt *at,
                      const char *actor, struct arena *a, struct err *e)
{
    int rc = lease_release_all(tx, HOLDER_JOB, j->id, e);
    if (rc != OK)
        return rc;
    j->end_reason = at->end_reason;
    j->exit_code = at->exit_code;
    j->signal = at->signal;
    if (at->started_at != 0)
        j->started_at = at->started_at;
    const char *words = end_words(j, at, a);
    bool good = at->end_reason == END_EXITED && at->exit_code == 0;
    bool may_retry = at->end_reason == END_EXITED || at->end_reason == END_SIGNALLED ||
                     at->end_reason == END_OUT_OF_MEMORY || at->end_reason == END_NODE_REBOOTED ||
                     at->end_reason == END_NODE_LOST || at->end_reason == END_PROVIDER;
    enum job_event on;
    if (good) {
        on = JOB_EV_DONE;
        words = NULL;
    } else if (j->cancel_requested) {
        on = JOB_EV_STOPPED;
        if (at->end_reason != END_CANCELLED)
            words = arena_printf(a, "cancelled (%s)", words);
    } else if (at->end_reason == END_TIMED_OUT) {
        on = JOB_EV_TIMED_OUT;
    } else if (may_retry && j->attempt <= j->retries) {
        on = JOB_EV_AGAIN;
        words = arena_printf(a, "try %lld of %lld ended: %s", (long long)j->attempt,
                             (long long)j->retries + 1, words);
    } else {
        on = JOB_EV_BROKE;
    }
    if (on == JOB_EV_AGAIN) {
        j->started_at = 0;
        j->end_reason = -1;
        j->exit_code = j->signal = INT_NULL;
        j->gpu_ids = (struct texts){0};
    } else {
        j->ended_at = at->ended_at != 0 ? at->ended_at : now_us();
    }
    rc = job_step(tx, j, on, actor, words, a, e);
    return rc;
}
