/* What the files of fleet/ share; no other room includes this. */
#ifndef FLEET_FLEET_PARTS_H
#define FLEET_FLEET_PARTS_H

#include "fleet/fleet.h"
#include "fleet/join.h"
#include "io/ws.h"

#include <pthread.h>
#include <stdatomic.h>

enum { LINK_REVISION = 2 }; /* of the agent link's protocol; see link_speaks() */

/* The newest sample of a node, until the next one comes; snapshots count on it. */
struct live_node {
    int64_t id;
    int64_t at_us;
    bool simulated;
    double cpu_percent, load1;
    int64_t memory_total_mib, memory_used_mib, disk_total_mib, disk_used_mib, net_rx_bytes,
        net_tx_bytes;
    struct arena arena; /* of everything in it */
    atomic_int refs;
    struct live_gpu *gpus;
    size_t n_gpus;
    bool known; /* the gpus table has been brought up to date with it */
};

struct snapshot_box {
    struct fleet_snapshot s;
    struct arena arena;
    struct vec lives; /* struct live_node: what its GPUs point into */
    atomic_int refs;
};

struct link;
struct fleet {
    struct house *house;
    pthread_mutex_t lock; /* snapshot pointer, live nodes, links */
    struct snapshot_box *now;
    struct vec live;  /* struct live_node */
    struct vec links; /* struct link: connected agents */
    uint64_t version;
    pthread_mutex_t make_lock; /* one snapshot is made at a time */
    const struct holder_ops *holders[HOLDER_REPAIR + 1];
    const struct link_ops *ops;
    void *ops_ctx;
    void (*on_snapshot)(void *ctx, const struct fleet_snapshot *s);
    void *on_snapshot_ctx;
    struct pool *pool; /* link workers */
    int64_t sample_ms;
    struct streams *streams;
    int64_t silent_s;
    int64_t accept_at; /* mono: links are counted since; under lock */
    int accepted;
    atomic_bool stopping;
};

/* Makes and publishes a new snapshot from the store and the live samples. Any thread that may
 * read the store. */
void fleet_refresh(struct fleet *f);
/* Takes a sample message in; the caller refreshes. */
void live_take(struct fleet *f, int64_t node, const struct jv *sample);
void live_forget(struct fleet *f, int64_t node);
void live_put(struct live_node *n);
/* Rows of the gpus table follow what the agent names. */
int gpus_reconcile(struct tx *tx, int64_t node, const struct live_node *live, bool *changed,
                   struct err *e);
/* XIDs and health of the node's GPUs go into the store with their events; sets health of each. */
int gpus_settle(struct tx *tx, int64_t node, struct live_node *live, struct err *e);
enum gpu_health live_health(const struct live_gpu *g, const struct gpu_xid *xids, size_t n,
                            char reason[GPU_NOTE_SIZE]);
/* Finds or makes the row of an agent that said hello; *id is its node. joined: the node that its
 * credential names; 0: it came by the server's own socket. */
int node_hello(struct tx *tx, const struct jv *hello, int64_t joined, int64_t *id, struct err *e);
int nodes_none_online(struct tx *tx, struct err *e); /* at the start of a server */
int node_event(struct tx *tx, int64_t id, const char *name, const char *type,
               enum severity severity, const char *summary, struct err *e);
/* Closes the link of a node whose credential is not good any more. */
void link_cut(struct fleet *f, int64_t node, const char *why);

/* ---- streams.c ---- */

struct streams *streams_create(struct fleet *f);
void streams_destroy(struct streams *s);
void streams_sweep(struct house *h, void *state);

/* ---- hooks of the module (fleet.c) ---- */

int fleet_start(struct house *h, void **state, struct err *e);
void fleet_stop(struct house *h, void *state);
void fleet_metrics(struct house *h, void *state, struct buf *out);
const char *fleet_ready(struct house *h, void *state, struct arena *a);
extern const struct err_text fleet_texts[]; /* texts.c */
void fleet_on_event(struct house *h, void *state, const struct event *ev);

#endif
