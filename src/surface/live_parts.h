/* What the files of the live channel share: live.c (sockets and topics), live_in.c (what clients
 * say), live_out.c, live_tail.c, live_fleet.c (where messages come from), live_routes.c. No other
 * file includes this. */
#ifndef SURFACE_LIVE_PARTS_H
#define SURFACE_LIVE_PARTS_H

#include "surface/live.h"
#include "surface/native/views.h"

#include "io/ws.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    CLOSE_GENERAL = 4000,
    CLOSE_NO_TOKEN = 4001,
    CLOSE_BAD_TOKEN = 4003,
    CLOSE_NO_TASK = 4004,
    CLOSE_POLICY = 1008,
    CLOSE_LATER = 1013,
    TOPICS_MAX = 256,            /* of one socket */
    INBOX_MAX = 64,              /* messages of one client that wait for a worker */
    LIVE_MESSAGE_MAX = 64 << 10, /* bytes of one message of a client */
    NOTES_MAX = 10000,           /* job events that wait to be told */
    CONNECTION_ID_SIZE = 64,
};

struct topic {
    char *key;  /* "jobs@7 zh": the topic as one group of people gets it, in their language */
    char *name; /* "jobs": as they call it */
    enum topic_kind kind;
    bool native;
    int64_t job;          /* TOPIC_JOB, _LOG, _TASK */
    struct principal who; /* TOPIC_GPU in native form: whose holders have names */
    enum lang lang;
    struct vec members; /* struct socket */
};

struct inbox_item {
    struct inbox_item *next;
    size_t n;
    char text[];
};

struct socket {
    struct live *live;
    atomic_int refs;
    struct principal who;
    enum lang lang;
    bool native;
    int close_code; /* 0, or: close at once with this code */
    char task_id[UUID_TEXT_SIZE];
    int64_t task, task_owner; /* the job of a task socket; 0: a socket with topics */
    char id[CONNECTION_ID_SIZE];
    int64_t connected_at, last_ping; /* µs; last_ping 0: never */

    /* under the hub's lock */
    struct ws *ws; /* NULL before it opened and after it closed */
    struct socket *next, **at;
    struct vec topics; /* struct topic */
    int64_t seq;
    struct inbox_item *first, **last;
    size_t waiting;
    bool working, counted, greeted;
};

/* The end of a job's log, for all who follow it. */
struct tail {
    struct live *live;
    int64_t job;
    int users; /* topics and task sockets; under the hub's lock */
    atomic_int refs;
    pthread_mutex_t lock;
    bool scheduled, again, gone, stalled;
    /* the pump only */
    int64_t attempt, number, watched, held_us, waits_us;
    uint64_t offset;
    bool at_end; /* begun: where to read is known */
};

struct note {
    struct note *next;
    int64_t job;
    int from, to; /* enum job_state; -1: unknown */
    bool changed; /* job.status.changed */
    char *reason;
};

struct live {
    struct house *house;
    struct fleet *fleet;
    struct logs *logs;
    int64_t per_user_max;
    pthread_mutex_t lock;
    struct map topics; /* key → struct topic */
    struct map tails;  /* job id → struct tail */
    struct map users;  /* user id → count */
    struct socket *sockets;
    size_t n_sockets;
    uint64_t serial;
    struct note *first_note, **last_note;
    size_t n_notes;
    bool telling;
    /* the tick only */
    uint64_t gpu_version;
    size_t gpu_at; /* where the next slice of a large fleet begins */
    int64_t gpu_us, gpu_documented_us, beat_us, credentials_us, nodes_us;
    struct map node_states; /* node id → what was told of it */
    _Atomic uint64_t sent;
};
struct live *live_of(const struct house *h);

/* ---- live.c ---- */

/* members: JSON members without braces. To everyone of a topic. */
void live_publish(struct live *l, const char *key, const char *type, const char *members, size_t n);
/* To the task sockets of a job and to its task: and tasks topics. */
void live_publish_task(struct live *l, const struct job *j, const char *type, const char *members,
                       size_t n, bool all);
/* To one socket, outside topics. */
void live_say(struct socket *s, const char *type, const char *members, size_t n);
/* In any language. Under the hub's lock. */
bool live_topic_wanted(struct live *l, const char *key);
/* The group of a topic that reads this language. */
enum { LIVE_KEY_SIZE = 64 };
const char *live_key(char to[LIVE_KEY_SIZE], const char *key, enum lang lang);
/* To the groups of these keys in each language that is spoken there: write makes {"data":…} in the
 * thread's language. */
typedef void live_write_fn(struct json *j, void *ctx);
void live_publish_told(struct live *l, const char *const *keys, size_t n, const char *type,
                       live_write_fn *write, void *ctx);
/* Under the hub's lock. */
void socket_join(struct socket *s, const char *key, const char *name, enum topic_kind kind,
                 int64_t job);
void socket_leave(struct socket *s, struct topic *t);
void socket_put(struct socket *s);
int live_accept(struct request *q, bool native, int close_code, const struct job *task);

/* ---- live_in.c ---- */

void socket_message(struct ws *ws, void *ctx, const char *data, size_t n, bool binary);
void socket_work(void *ctx);

/* ---- live_out.c: events ---- */

void live_on_job(struct house *h, void *state, const struct event *ev);
void live_on_any(struct house *h, void *state, const struct event *ev);
void live_notes_retry(struct live *l); /* on a worker */
/* current_status of a task socket, or its answer to get_status. */
void live_task_status(struct socket *s, const char *type);

/* ---- live_tail.c: the ends of logs ---- */

void tail_use(struct live *l, int64_t job);   /* under the hub's lock */
void tail_leave(struct live *l, int64_t job); /* under the hub's lock */
void tail_wake(struct live *l, int64_t job);
void tails_tick(struct live *l);

/* ---- live_fleet.c: what is measured ---- */

void live_fleet_tick(struct live *l);
void live_fleet_fini(struct live *l);

#endif
