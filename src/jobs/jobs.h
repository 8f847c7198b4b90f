/* Jobs: units of work, their queue, their attempts, and what becomes of them.
 *
 * job_step() is the only function that writes a job's state; it writes the event in the same
 * transaction. A job reaches exactly one terminal state; an attempt is started at most once.
 *
 * Threads: tx functions inside their transaction; the others say so.
 */
#ifndef JOBS_JOBS_H
#define JOBS_JOBS_H

#include "core/access.h"
#include "core/event.h"
#include "core/house.h"
#include "core/machine.h"
#include "core/record.h"
#include "logs/logs.h"

struct jobs;
extern const struct module jobs_module;
struct jobs *jobs_of(const struct house *h);

enum job_state {
    JOB_QUEUED,
    JOB_STARTING, /* placed: GPUs are leased, the node has been told */
    JOB_RUNNING,
    JOB_CANCELLING, /* its processes are being ended; GPUs are still held */
    JOB_UNKNOWN,    /* its node does not answer: it may well be running */
    JOB_COMPLETED,
    JOB_FAILED,
    JOB_TIMEOUT,
    JOB_CANCELLED,
    JOB_STATES
};
extern const char *const job_state_names[];
bool job_ended(int state);

enum job_kind { JOB_RUN, JOB_CLOUD, JOB_TRAINING, JOB_PREPROCESS, JOB_DOWNLOAD };
extern const char *const job_kind_names[];

enum end_reason {
    END_EXITED,
    END_SIGNALLED,
    END_OUT_OF_MEMORY,
    END_TIMED_OUT,
    END_CANCELLED,
    END_SUPERVISOR_LOST,
    END_START_FAILED,
    END_NODE_REBOOTED,
    END_NODE_LOST, /* an administrator said that its node is gone */
    END_PROVIDER,  /* a cloud provider reported the end */
    END_REASONS
};
extern const char *const end_reason_names[];

enum { PRIORITY_LOW = 2, PRIORITY_NORMAL = 5, PRIORITY_HIGH = 8, PRIORITY_URGENT = 10 };
/* "low" … "urgent" for a number: the nearest word that is not above it. */
const char *priority_word(int64_t priority);
/* A word in any case, or "1" … "10"; 0: neither. */
int64_t priority_parse(const char *s);

struct job {
    int64_t id;
    const char *uuid;
    const char *name;
    int kind;                /* enum job_kind */
    int state;               /* enum job_state; written by job_step() only */
    const char *reason;      /* one sentence: why it is in this state; or NULL */
    int64_t owner;           /* user; 0: the built-in local */
    const char *owner_email; /* as at submit: "local" for the built-in one */
    int64_t priority;        /* 1 … 10 */
    int64_t order_key;       /* smaller goes first: queued_at - priority * aging */
    struct texts command;
    struct textmap env;
    struct textmap secrets; /* variable → name of a secret of the owner */
    const char *cwd, *image;
    int64_t gpus;
    struct texts gpu_type;                  /* any of; empty: any */
    int64_t cpus, memory_mib, time_limit_s; /* INT_NULL: not asked for */
    int64_t grace_s;
    int64_t retries, attempt; /* attempt: tries begun so far */
    struct textmap labels;
    const char *provider; /* "local", "runpod", … */
    int64_t node_id;      /* where it runs or ran last; 0 */
    struct texts gpu_ids;
    int64_t exit_code, signal; /* INT_NULL */
    int end_reason;            /* -1 until it ended */
    int64_t created_at, queued_at, started_at, ended_at;
    bool cancel_requested, simulated;
    double progress;         /* percent; NAN */
    const char *external_id; /* the provider's own id */
    const char *extra;       /* JSON object: what a documented surface must give back */
};
extern const struct record job_record;

enum attempt_state { ATTEMPT_PLACED, ATTEMPT_ACCEPTED, ATTEMPT_RUNNING, ATTEMPT_ENDED };
extern const char *const attempt_state_names[];
struct attempt {
    int64_t id;             /* never reused: the agent's word for it */
    int64_t job_id, number; /* number from 1 */
    int64_t node_id;
    int state;   /* enum attempt_state */
    int64_t pid; /* INT_NULL */
    int64_t created_at, started_at, ended_at;
    int64_t log_bytes;         /* INT_NULL until it ended */
    bool closed;               /* its log is whole here and the agent was told to forget it */
    int end_reason;            /* -1 */
    int64_t exit_code, signal; /* INT_NULL */
    const char *detail;
    int64_t cpu_us, max_rss_kib; /* INT_NULL */
};
extern const struct record attempt_record;

/* What someone asks for. Checked by the surface's view; job_submit checks what only the fleet
 * knows. Zero or NULL: not asked for. */
struct job_spec {
    const char *name; /* NULL: made from the command */
    int kind;
    struct texts command;
    struct textmap env, labels, secrets;
    const char *cwd, *image;
    int64_t gpus;
    struct texts gpu_type;
    int64_t cpus, memory_mib, time_limit_s; /* 0 or INT_NULL: not asked for */
    int64_t grace_s;                        /* 0: default (10) */
    int64_t priority;                       /* 0: normal */
    int64_t retries;
    const char *provider; /* NULL: local */
    const char *extra;    /* JSON object or NULL */
    bool simulated;       /* a simulated provider takes it */
};
/* A live job of the owner that names the secret; 0: none. */
int job_using_secret(struct tx *tx, int64_t owner, const char *name, int64_t *job, struct err *e);
/* Writes the job as queued with its event; the scheduler wakes after commit. *out is filled.
 * Errors: ERR_NO_CAPACITY with what would fit ("no node has 9 GPUs; the largest, n-01, has 8") —
 * only when no present node could ever run it. */
int job_submit(struct tx *tx, const struct job_spec *spec, const struct principal *who,
               struct arena *a, struct job *out, struct err *e);
/* By "j-17" or uuid. ERR_NOT_FOUND also for somebody else's job. */
int job_find(struct tx *tx, const char *ref, const struct principal *who, struct arena *a,
             struct job *out, struct err *e);
/* Threads of a host that the scheduler counts for it: as many as it asked for; when it did not
 * say, one without GPUs and none with. */
int64_t job_counted_cpus(const struct job *j);
int job_get(struct tx *tx, int64_t id, struct arena *a, struct job *out, struct err *e);
/* Asks for the end. Idempotent: a job that has ended is left as it is (*changed false). grace_s
 * < 0: the job's own. */
int job_cancel(struct tx *tx, int64_t id, const struct principal *who, int64_t grace_s,
               struct arena *a, struct job *out, bool *changed, struct err *e);
/* How many queued jobs go before it; -1 when it is not queued. */
int job_position(struct tx *tx, const struct job *j, int64_t *out, struct err *e);
/* The same for many jobs at once, by one walk over the front of the queue: -1 also for one that
 * stands further back than JOB_POSITIONS_MAX. out has jobs->n places. */
enum { JOB_POSITIONS_MAX = 20000 };
int job_positions(struct tx *tx, const struct list *jobs, int64_t *out, struct err *e);
int job_attempts(struct tx *tx, int64_t job, struct arena *a, struct list *out, struct err *e);

struct job_filter {
    const struct principal *who;
    bool everyone;        /* administrators: all owners */
    int64_t owner;        /* > 0: this one */
    uint32_t states;      /* bit set by enum job_state; 0: all */
    const char *text;     /* part of the name or "j-17"; NULL */
    const char *provider; /* NULL */
    int64_t before;       /* id below this (cursor); 0: from the newest */
    int64_t skip, limit;
};
int job_list(struct tx *tx, const struct job_filter *f, struct arena *a, struct list *out,
             struct err *e);
int job_count(struct tx *tx, const struct job_filter *f, int64_t *out, struct err *e);

/* ---- code and results (files.c) ---- */

struct job_files {
    const char *code; /* tree that its folder begins with, of the owner's store; NULL: none */
    struct texts out; /* globs below its folder that are kept at its end */
    const char *result, *note; /* tree of what was kept; why there is none */
};
int job_files_of(const struct job *j, struct arena *a, struct job_files *out, struct err *e);
/* For job_spec.extra. */
const char *job_files_extra(const struct job_files *f, struct arena *a);
int job_set_result(struct tx *tx, int64_t job, const char *tree, const char *note, struct err *e);
/* ERR_NOT_FOUND: unknown, closed, or not of this node (0: of any). */
int job_of_attempt(struct tx *tx, int64_t attempt, int64_t node, struct arena *a, struct job *out,
                   struct err *e);

/* ---- for executors: the scheduler, the link, providers ---- */

enum job_event {
    JOB_EV_PLACED,
    JOB_EV_STARTED,
    JOB_EV_DONE,  /* exit code 0 */
    JOB_EV_BROKE, /* ended otherwise, no try left */
    JOB_EV_AGAIN, /* ended otherwise, goes back to the queue */
    JOB_EV_TIMED_OUT,
    JOB_EV_CANCEL,   /* asked for while something runs */
    JOB_EV_WITHDRAW, /* asked for while nothing runs */
    JOB_EV_STOPPED,  /* its processes are gone after a cancel */
    JOB_EV_UNREACHABLE,
    JOB_EV_BACK, /* its node answers again, and it has not begun there yet */
    JOB_EVENTS
};
extern const struct machine job_machine;
/* The only writer of job->state: checks the table, sets state and reason, writes the row and the
 * event. The other members of *j are written as they stand. */
int job_step(struct tx *tx, struct job *j, enum job_event on, const char *actor, const char *reason,
             struct arena *a, struct err *e);

/* The log of a job is that of its newest attempt first; each attempt has its own. */
struct logs *jobs_logs(struct jobs *jobs);
/* The attempt whose log is shown: the newest; 0: none yet. */
int job_last_attempt(struct tx *tx, int64_t job, int64_t *attempt, struct err *e);
/* Wakes the scheduler; any thread. */
void jobs_wake(struct jobs *jobs);

/* ---- when a node is over (see fleet/join.h) ---- */

/* The jobs (struct job) that run or may run on it. */
int jobs_on_node(struct tx *tx, int64_t node, struct arena *a, struct list *out, struct err *e);
/* Ends every attempt on it as lost; `retries` let a job run again elsewhere. detail: the reason
 * that people read. */
int jobs_node_gone(struct tx *tx, int64_t node, const char *actor, const char *detail,
                   int64_t *ended, struct err *e);

/* Counts for /metrics and the overview; any thread, reads the store. */
struct job_counts {
    int64_t by_state[JOB_STATES];
    int64_t completed_24h, failed_24h;
};
int job_counts(struct tx *tx, struct job_counts *out, struct err *e);

#endif
