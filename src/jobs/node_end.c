/* What becomes of a node's jobs when the node itself is over: removed, or declared lost.
 *
 * What must stay true: only somebody's word or evidence ends an attempt here, never silence: a node
 * that does not answer may well be running its jobs. */
#include "jobs/jobs_parts.h"

#include "base/world.h"

int jobs_on_node(struct tx *tx, int64_t node, struct arena *a, struct list *out, struct err *e)
{
    return record_list(tx, &job_record,
                       "WHERE id IN (SELECT job_id FROM job_attempts WHERE node_id = ?1 AND"
                       " state <> 'ended') ORDER BY id",
                       ARGS(v_int(node)), a, out, e);
}

int jobs_node_gone(struct tx *tx, int64_t node, const char *actor, const char *detail,
                   int64_t *ended, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct jobs *jobs = jobs_of(tx_house(tx));
    struct list rows;
    int rc = record_list(tx, &attempt_record,
                         "WHERE node_id = ?1 AND closed = 0 AND state <> 'ended' ORDER BY id",
                         ARGS(v_int(node)), a, &rows, e);
    for (size_t i = 0; rc == OK && i < rows.n; i++) {
        struct attempt *at = (struct attempt *)rows.items + i;
        struct job j;
        at->state = ATTEMPT_ENDED;
        at->end_reason = END_NODE_LOST;
        at->ended_at = now_us();
        at->detail = detail;
        at->log_bytes = 0; /* nothing more is waited for */
        rc = record_update(tx, &attempt_record, at, e);
        if (rc == OK)
            rc = job_get(tx, at->job_id, a, &j, e);
        if (rc == OK && !job_ended(j.state))
            rc = job_attempt_ended(tx, jobs, &j, at, actor, a, e);
    }
    if (rc == OK)
        *ended = (int64_t)rows.n;
    return rc;
}
