/* How the native API shows jobs, log lines, events, GPUs and nodes: shared by its routes and by
 * the live channel, so that both say the same.
 *
 * Threads: any; what is made lives in the arena that was given. */
#ifndef SURFACE_NATIVE_VIEWS_H
#define SURFACE_NATIVE_VIEWS_H

#include "core/event.h"
#include "core/route.h"
#include "fleet/fleet.h"
#include "jobs/jobs.h"
#include "logs/logs.h"

/* ---- lists ---- */

struct native_page {
    struct list items;
    const char *next_cursor; /* NULL: that was all */
};
#define PAGE_QUERY(S, most)                                                                        \
    FIELD(S, "limit", limit, T_INT, .min = 1, .max = most, .def = "50", .doc = "items of a page"), \
        FIELD(S, "cursor", cursor, T_TEXT, .flags = F_NULL, .max = 100,                            \
              .doc = "next_cursor of the page before")
#define PAGE_VIEW(ident, name, item)                                                               \
    VIEW(ident, struct native_page, name, NULL, 0, LIST(struct native_page, "items", items, item), \
         FIELD(struct native_page, "next_cursor", next_cursor, T_TEXT, .flags = F_NULL,            \
               .doc = "for the query's cursor; null: that was all"))
int native_bad_cursor(struct err *e);
/* What to do next, beside an error; translated like one. */
void native_hint(struct request *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- jobs ---- */

struct job_shown {
    struct job j;
    const char *priority_word, *node_name;
    int64_t waited_s, ran_s;
    int64_t position;  /* from 1; INT_NULL when it is not queued */
    int64_t log_lines; /* INT_NULL: not looked up */
    double cost;
    const char *currency;
    int64_t cpus_counted;
    struct texts notes;
};
extern const struct view job_view;
/* lines: look up how many lines it has printed, which may read a file: not in a write. */
int job_show(struct tx *tx, const struct job *j, bool lines, struct arena *a, struct job_shown *out,
             struct err *e);
/* All rows of *rows (struct job) as *out (struct job_shown). */
int jobs_show(struct tx *tx, const struct list *rows, struct arena *a, struct list *out,
              struct err *e);
/* Finds a job for a native route; the hint names near ones when there is none. */
int native_job(struct request *q, struct tx *tx, const char *ref, struct job *out, struct err *e);

/* ---- what a job printed ---- */

struct line_shown {
    int64_t n, offset, at;
    int stream; /* 0 out, 1 err, 2 system */
    const char *text;
    int64_t attempt;
    bool partial;
};
extern const struct view line_view;
extern const char *const stream_words[];
void line_show(const struct log_line *l, int64_t attempt, struct arena *a, struct line_shown *out);

/* ---- events ---- */

extern const struct view event_view, events_view;
/* What the query of a list of events says. */
struct events_query {
    const char *source_type, *source_id, *after;
    int64_t limit;
};
int native_events(struct request *q, struct tx *tx, struct event_filter *f, const char *after,
                  struct err *e);

/* ---- the fleet ---- */

struct gpu_process_shown {
    int64_t pid, memory_mib, job, sm_percent;
    const char *name, *user, *kind;
    bool dead;
};
struct gpu_holder_shown {
    int kind;
    const char *id, *name, *owner;
    int64_t milli;
};
struct gpu_shown {
    const char *id, *node_name, *uuid, *name, *type;
    int64_t node, index;
    int64_t memory_total_mib, memory_used_mib, utilization, memory_utilization, temperature_c,
        power_w, power_limit_w;
    int state;
    const struct gpu_holder_shown *holder;
    struct list processes;
    bool simulated;
    const char *driver, *cuda, *note;
    int64_t updated_at;
    int health; /* enum gpu_health */
    const char *health_reason, *profile;
    int64_t parent, age_ms, clock_sm_mhz, free_milli;
    struct texts throttle;
    struct list holders; /* struct gpu_holder_shown */
};
extern const struct view gpu_view;
/* who NULL: nobody's holders have a name. */
void gpu_show(const struct snap_gpu *g, const struct principal *who, struct arena *a,
              struct gpu_shown *out);

struct node_shown {
    struct node node;
    int64_t memory_mib, memory_used_mib, gpus;
    double cpu_percent;
};
extern const struct view node_view;
void node_show(const struct snap_node *n, struct node_shown *out);
/* NULL when the snapshot does not have it. */
const struct snap_node *snapshot_node(const struct fleet_snapshot *s, int64_t id);

#endif
