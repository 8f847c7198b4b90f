/* What the files of jobs/ share; no other room includes this. */
#ifndef JOBS_JOBS_PARTS_H
#define JOBS_JOBS_PARTS_H

#include "base/histogram.h"
#include "base/json.h"
#include "fleet/fleet.h"
#include "jobs/jobs.h"

#include <pthread.h>

struct jobs {
    struct house *house;
    struct fleet *fleet;
    struct logs *logs;
    int64_t aging_us;
    int64_t log_max_bytes;
    pthread_t thread; /* the scheduler */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool due, stop, runs;
    int64_t ask[256]; /* nodes whose reports could not be written; under lock */
    size_t n_ask;
    _Atomic int64_t last_attempt; /* see attempt_new_id */
    struct histogram durations;   /* of jobs that ran and ended */
    struct map hand_overs;        /* cloud.c: those that failed; the duty only */
};

enum { GRACE_DEFAULT_S = 10, UNREACHABLE_AFTER_US = 15 * 1000000 };

/* schedule.c */
void *scheduler_main(void *ctx);
/* Places what can be placed now; what scheduler_main() does when it wakes. */
void jobs_schedule(struct jobs *jobs);
/* The message that starts an attempt; lives in the arena. */
const char *start_message(struct tx *tx, const struct jobs *jobs, const struct job *j,
                          const struct attempt *at, const int64_t *indexes,
                          const char *const *uuids, size_t n, bool simulated, struct arena *a,
                          size_t *len);
int start_message_of(struct tx *tx, struct jobs *jobs, const struct attempt *at, struct arena *a,
                     const char **out, size_t *len, struct err *e);
/* Sends after the commit of tx; json lives until then (tx_arena). */
void send_after_commit(struct tx *tx, struct jobs *jobs, int64_t node, const char *json, size_t n);
void send_stop(struct tx *tx, struct jobs *jobs, int64_t node, int64_t attempt, const char *reason,
               int64_t grace_us);

/* node_side.c */
extern const struct link_ops jobs_link_ops;
void jobs_check_nodes(struct house *h, void *state);    /* duty: who has been silent too long */
void jobs_close_attempts(struct house *h, void *state); /* duty: logs that were left open */

/* states.c */
/* from: the state before, -1: it is new. */
int job_event_emit(struct tx *tx, const struct job *j, const char *type, int from,
                   const char *actor, struct arena *a, struct err *e);
/* What becomes of a job whose attempt has ended. *at is the attempt's row as it ended. */
int job_attempt_ended(struct tx *tx, struct jobs *jobs, struct job *j, const struct attempt *at,
                      const char *actor, struct arena *a, struct err *e);
/* A number that no store has ever given to another attempt: agents know attempts by it alone, and
 * one folder of an agent may meet more than one database. The time in µs, made to rise. */
int64_t attempt_new_id(struct jobs *jobs);
int job_update(struct tx *tx, const struct job *j, struct err *e);
int attempt_get(struct tx *tx, int64_t id, struct arena *a, struct attempt *out, bool *found,
                struct err *e);
int attempt_live(struct tx *tx, int64_t job, struct arena *a, struct attempt *out, bool *found,
                 struct err *e);

/* files.c: the members of a start message that say which files travel */
void job_files_write(const struct job *j, struct json *to, struct arena *a);

/* texts.c */
extern const struct err_text jobs_texts[];

/* cloud.c */
void jobs_follow_clouds(struct house *h, void *state); /* duty */
void jobs_clouds_fini(struct jobs *jobs);

#endif
