/* The fleet: nodes, their GPUs, who holds them, and the link to their agents.
 *
 * A lease says who holds how much of a GPU: 1 … 1000 thousandths; the sum on one GPU never passes
 * 1000. Leases are taken and given back in the transaction of their holder's state change. A
 * holder (a job; later an instance, an allocation, a repair) is known here by a vtable only.
 *
 * What the fleet looks like now is a snapshot: immutable, counted, made anew when a sample comes
 * or a lease changes, so that ten thousand readers cost nothing.
 *
 * Threads: fleet_snapshot_get/put and the link calls from any thread; tx functions inside their
 * transaction.
 */
#ifndef FLEET_FLEET_H
#define FLEET_FLEET_H

#include "core/event.h"
#include "core/house.h"
#include "core/record.h"
#include "gpu/gpu.h"
#include "io/json_in.h"

struct fleet;
extern const struct module fleet_module;
struct fleet *fleet_of(const struct house *h);

/* ---- rows ---- */

enum node_state {
    NODE_UNREACHABLE, /* its agent's link is down: its jobs may well go on */
    NODE_ONLINE,
    NODE_DOWN,    /* its host ended, by evidence: a shutdown that was told, or somebody's word */
    NODE_REMOVED, /* not of the fleet any more; the row stays for what ran there */
};
extern const char *const node_state_names[];

struct node {
    int64_t id;
    const char *name; /* unique */
    int state;        /* enum node_state; written by node_set_state() and node_hello() only */
    const char *state_reason; /* one sentence, or NULL */
    int64_t state_since;
    bool is_local; /* the server's own host */
    const char *agent_version, *boot_id, *os, *kernel;
    int64_t cpus, memory_mib;
    const char *cgroups;    /* v2, hybrid, v1, none */
    struct texts enforces;  /* limits that this node really enforces */
    struct texts isolation; /* what keeps its jobs apart */
    const char *gpu_note;   /* why there are no GPUs, or NULL */
    int64_t last_seen, created_at, updated_at;
    int64_t joined_at; /* 0: it never joined with a token: it comes by the server's own socket */
};
extern const struct record node_record;
/* Writes the state and its event when it differs; an unknown or removed node is left alone. */
int node_set_state(struct tx *tx, int64_t id, enum node_state state, const char *why,
                   struct err *e);

struct gpu {
    const char *id; /* "gpu-001" */
    int64_t node_id;
    int64_t index; /* on its node */
    const char *uuid, *name;
    const char *type; /* short name by gpu_type_of(): "RTX4090" */
    int64_t memory_mib;
    bool simulated, present; /* present: the agent names it now */
    int64_t parent;          /* a MIG instance: index of its GPU; INT_NULL: a whole GPU */
    int health;              /* enum gpu_health; written with its event only */
    const char *health_reason;
    const char *driver, *cuda;
    int64_t created_at, updated_at;
};
extern const struct record gpu_record;

enum holder_kind { HOLDER_JOB, HOLDER_INSTANCE, HOLDER_ALLOCATION, HOLDER_REPAIR };
extern const char *const holder_kind_names[];

/* Takes `milli` of a GPU, and says how much memory the holder will use (INT_NULL: its part).
 * ERR_CONFLICT names the holder when there is not so much left. */
int lease_take(struct tx *tx, const char *gpu_id, enum holder_kind kind, int64_t holder,
               int64_t milli, int64_t memory_mib, struct err *e);
int lease_release_all(struct tx *tx, enum holder_kind kind, int64_t holder, struct err *e);

/* The newest first, as many as are kept. */
int gpu_xids(struct tx *tx, const char *gpu, struct arena *a, const struct gpu_xid **out, size_t *n,
             struct err *e);

/* What a room that holds GPUs tells about one of its holders. */
struct holder_text {
    const char *id;           /* "j-17" */
    const char *uuid;         /* as documented routes name it, or NULL */
    const char *name, *owner; /* owner: an e-mail or "local" */
    int64_t owner_id;
    const char *task_type; /* training, preprocessing, evaluation, job */
    double progress;       /* percent, NAN unknown */
    int64_t started_at;
    int64_t attempt; /* agents know its processes by this; 0: none runs */
};
struct holder_ops {
    int (*describe)(struct tx *tx, int64_t holder, struct arena *a, struct holder_text *out,
                    struct err *e);
};
void fleet_holder_register(struct fleet *f, enum holder_kind kind, const struct holder_ops *ops);

/* Whether a documented server_id means this node: n-1, its name, or "server-001" for the server's
 * own host (contract 4). */
bool node_is_named(const struct node *n, const char *server_id);

/* ---- the snapshot ---- */

enum gpu_holding {
    GPU_FREE,
    GPU_LEASED,
    GPU_FOREIGN,
    GPU_FAILED,
    GPU_HUNG,
    GPU_OFFLINE,
    GPU_SPLIT, /* into MIG instances, which are leased instead */
};
extern const char
    *const gpu_holding_names[]; /* available leased foreign error driver_hung offline split */
enum { FOREIGN_MIB = 1000 };    /* a process of nobody's above this holds the GPU */

struct snap_process {
    int64_t pid, memory_mib; /* memory: INT_NULL when unknown */
    const char *name;        /* or NULL */
    int64_t job;             /* 0: not one of ours */
    int64_t sm_percent;      /* INT_NULL */
    char kind;               /* 'C' computes, 'G' draws, 'M' computes through MPS */
    bool dead;               /* it is gone, its memory is not */
    const char *user;        /* or NULL */
};
struct snap_holder {
    enum holder_kind kind;
    int64_t holder, milli;
    int64_t declared_mib; /* memory that it said it would use, else its part of the GPU; INT_NULL */
    struct holder_text text;
};

/* What an agent said last of a GPU; numbers as in gpu.h (GPU_UNKNOWN), others INT_NULL. */
struct live_process {
    int64_t pid, memory_mib, sm_percent, attempt; /* attempt: INT_NULL cannot be told */
    const char *name, *user;
    char kind;
    bool dead;
};
struct live_gpu {
    int64_t index, parent, age_ms;
    int state; /* enum gpu_state */
    int64_t memory_total_mib, memory_used_mib, utilization, memory_utilization, temperature_c,
        memory_temperature_c, power_w, power_limit_w, ecc_uncorrected;
    int64_t numbers[GPU_NUMBERS];
    bool held; /* by another agent of its host; the note says which */
    const char *uuid, *name, *driver, *cuda, *note, *serial, *vbios, *bus, *profile, *topology;
    const struct gpu_link *links;
    const struct gpu_xid *xids; /* the newest first */
    const struct live_process *processes;
    size_t n_links, n_xids, n_processes;
    int health; /* enum gpu_health, as the store has it */
};
struct snap_gpu {
    const char *id;
    int64_t node_id, index;
    const char *node_name, *uuid, *name, *type;
    /* INT_NULL: unknown */
    int64_t memory_total_mib, memory_used_mib, utilization, memory_utilization, temperature_c,
        memory_temperature_c, power_w, power_limit_w;
    const char *driver, *cuda, *note; /* or NULL */
    int state;                        /* enum gpu_holding */
    const struct snap_holder *holders;
    size_t n_holders;
    const struct snap_process *processes;
    size_t n_processes;
    bool simulated;
    int64_t created_at;
    int64_t at_us;               /* when these values were read */
    int64_t age_ms;              /* how old they were when they came: grows while a driver hangs */
    int64_t parent;              /* index of the GPU that it is an instance of; INT_NULL */
    int health;                  /* enum gpu_health */
    const char *health_reason;   /* or NULL */
    const struct live_gpu *live; /* everything else; NULL: nothing is known */
};

/* ---- whose memory it is ---- */

enum ledger_kind {
    LEDGER_HOLDER,  /* a lease: declared beside measured */
    LEDGER_FOREIGN, /* a process that Drover did not start */
    LEDGER_DEAD,    /* a process that is gone */
    LEDGER_NOBODY,  /* in use, and no process says it is its own */
    LEDGER_DRIVER,  /* kept back by the driver */
    LEDGER_FREE
};
extern const char *const ledger_kind_names[];
struct ledger_row {
    enum ledger_kind kind;
    const struct snap_holder *holder;   /* LEDGER_HOLDER */
    const struct snap_process *process; /* LEDGER_FOREIGN, LEDGER_DEAD */
    int64_t declared_mib, measured_mib; /* INT_NULL */
};
struct gpu_ledger {
    const struct ledger_row *rows;
    size_t n;
    int64_t ours_mib, foreign_mib, dead_mib, nobody_mib, driver_mib;
    int64_t free_mib; /* INT_NULL when the GPU does not tell its memory */
    /* What could still be promised: of each holder the larger of declared and measured counts. */
    int64_t unpromised_mib;
};
/* Pure. a NULL: the sums only. */
void gpu_ledger(const struct snap_gpu *g, struct arena *a, struct gpu_ledger *out);
/* Memory that the processes of a holder have on it; INT_NULL: it cannot be told. */
int64_t gpu_holder_memory(const struct snap_gpu *g, const struct snap_holder *h);

struct snap_node {
    struct node node;
    double cpu_percent, load1;                                                /* NAN unknown */
    int64_t memory_used_mib, memory_total_mib, disk_total_mib, disk_used_mib; /* INT_NULL */
    int64_t net_rx_bytes, net_tx_bytes;
    size_t n_gpus;
};
struct fleet_snapshot {
    const struct snap_gpu *gpus; /* by node, then index */
    size_t n_gpus;
    const struct snap_node *nodes; /* by id */
    size_t n_nodes;
    int64_t at_us;    /* the newest sample in it, else when made */
    bool simulated;   /* some GPU is */
    uint64_t version; /* rises with each new one */
};
const struct fleet_snapshot *fleet_snapshot_get(struct fleet *f); /* never NULL */
void fleet_snapshot_put(const struct fleet_snapshot *s);
static inline void auto_fleet_snapshot(const struct fleet_snapshot **s)
{
    if (*s != NULL)
        fleet_snapshot_put(*s);
}
/* fn runs after each new snapshot, on the thread that made it; must not block. One, for the live
 * channel. */
void fleet_on_snapshot(struct fleet *f, void (*fn)(void *ctx, const struct fleet_snapshot *s),
                       void *ctx);

/* ---- the link to agents ---- */

/* What the room above does with the job side of the link. Calls come from the link's worker, one
 * at a time for each node, and may write to the store. */
struct link_ops {
    /* After hello, whose `attempts` lists what the node has; `more`: ended ones follow as reports.
     */
    void (*online)(void *ctx, int64_t node, const struct jv *hello);
    void (*offline)(void *ctx, int64_t node);
    void (*attempts)(void *ctx, int64_t node, const struct jv *const *reports, size_t n);
    void (*log)(void *ctx, int64_t node, int64_t attempt, uint64_t offset, const void *bytes,
                size_t n);
};
void fleet_link_ops(struct fleet *f, const struct link_ops *ops, void *ctx);
/* Sends one JSON message to the node's agent; false when it is not connected. */
bool fleet_send(struct fleet *f, int64_t node, const char *json, size_t n);
bool fleet_connected(struct fleet *f, int64_t node);
/* Cuts the node's link: its agent comes back at once and says hello with all that it knows. */
void fleet_link_again(struct fleet *f, int64_t node);
/* Takes over the connection of a request that asks for the link (access was checked). */
struct request;
int fleet_link_accept(struct fleet *f, struct request *q, struct err *e);
/* Tells every agent that the server stops in order. */
void fleet_bye(struct fleet *f);
/* Waits for the link's workers: call when the sockets are closed (ws_loop_stop) and before the
 * rooms that they call are stopped. */
void fleet_links_end(struct fleet *f);

#endif
