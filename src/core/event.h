/* Events: what happened, written in the transaction of the change. One log feeds the live
 * channel, webhooks, audit, alerts and every "why".
 *
 * Order is commit order. On SQLite ids are given by the one writer. On PostgreSQL serial ids are
 * not in commit order, so a row also carries its transaction number and readers take only rows
 * below the oldest transaction that still runs, in the order (transaction, id): nothing ever
 * appears before a row that was already read.
 *
 * Threads: event_emit inside a write transaction; the rest from any thread.
 */
#ifndef CORE_EVENT_H
#define CORE_EVENT_H

#include "core/house.h"

enum severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_ERROR };
extern const char *const severity_names[];

struct event {
    int64_t id;
    int64_t tx;       /* transaction number; 0 on SQLite */
    const char *uuid; /* documented surfaces show this as id */
    int64_t at;
    const char *type;        /* "job.status.changed" */
    const char *source_type; /* job, node, gpu, user, system, … */
    const char *source_id;   /* "j-17" */
    int64_t owner;           /* user that may see it besides administrators; 0: nobody's */
    int severity;            /* enum severity */
    const char *actor;       /* "user:li@example.com", "scheduler", "agent:n-1" */
    const char *summary;     /* one sentence */
    const char *data;        /* JSON object */
};
extern const struct record event_record;

/* Fills id, tx, uuid and at; the rest is the caller's (data NULL: {}). Wakes the bus after
 * commit. */
int event_emit(struct tx *tx, const struct event *ev, struct err *e);

/* Where a reader stands: "tx:id" as people see it ("0:17" on SQLite). */
struct event_pos {
    int64_t tx, id;
};
enum { EVENT_POS_TEXT = 44 };
const char *event_pos_text(struct event_pos p, char to[EVENT_POS_TEXT]);
bool event_pos_parse(const char *s, struct event_pos *out);
/* Up to limit events after pos, in order, visible by the rule above. */
int event_read(struct tx *tx, struct event_pos after, int64_t limit, struct arena *a,
               struct list *out, struct err *e);
/* A part of the log for readers: what is set narrows it. In order; visible by the rule above. */
struct event_filter {
    struct event_pos after;
    bool newest;                         /* the last `limit` of them instead of the first */
    const char *source_type, *source_id; /* NULL: any */
    int64_t owner;                       /* of their events only; negative: everyone's */
    bool fleet_too;                      /* besides, what concerns no person: nodes, GPUs, … */
    int64_t limit;
};
int event_list(struct tx *tx, const struct event_filter *f, struct arena *a, struct list *out,
               struct err *e);
/* The position after the newest visible event. */
int event_tail(struct tx *tx, struct event_pos *out, struct err *e);

/* The bus thread: reads what was committed and calls the subscriptions of every module. What is
 * emitted after bus_create() is delivered once bus_start() has been called. */
struct bus;
struct bus *bus_create(struct house *h);
void bus_start(struct bus *b);
void bus_stop(struct bus *b);    /* joins the thread; waking it stays harmless */
void bus_destroy(struct bus *b); /* after the store is closed; NULL is fine */
void bus_wake(struct bus *b);

extern const struct module event_module;

#endif
