/* Rows of the fleet: GPUs and leases (nodes: nodes.c), and the module.
 *
 * What must stay true: the leases of one GPU never add up to more than 1000 thousandths; a GPU
 * keeps its id as long as its uuid (or, without one, its place) is the same. */
#include "fleet/fleet_parts.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"
#include "gpu/gpu_types.h"

#include <stdio.h>
#include <string.h>

const char *const holder_kind_names[] = {"job", "instance", "allocation", "repair", NULL};
const char *const gpu_holding_names[] = {"available",   "leased",  "foreign", "error",
                                         "driver_hung", "offline", NULL};

RECORD(gpu_record, struct gpu, "gpus",
       MEMBER(struct gpu, id, T_TEXT, .doc = "GPU id, such as gpu-001"),
       MEMBER(struct gpu, node_id, T_ID, .prefix = "n"),
       {.column = "idx",
        .type = T_INT,
        .offset = TYPED_OFFSET(struct gpu, index, T_INT),
        .doc = "index on its node"},
       MEMBER(struct gpu, uuid, T_TEXT, .flags = M_NULL), MEMBER(struct gpu, name, T_TEXT),
       MEMBER(struct gpu, type, T_TEXT), MEMBER(struct gpu, memory_mib, T_INT),
       MEMBER(struct gpu, simulated, T_BOOL), MEMBER(struct gpu, present, T_BOOL),
       MEMBER(struct gpu, driver, T_TEXT, .flags = M_NULL),
       MEMBER(struct gpu, cuda, T_TEXT, .flags = M_NULL), MEMBER(struct gpu, created_at, T_TIME),
       MEMBER(struct gpu, updated_at, T_TIME));

static const struct migration fleet_migrations[] = {
    {.id = 5001,
     .name = "nodes, GPUs, leases",
     .script = "CREATE TABLE nodes(id $ID, name $TEXT NOT NULL UNIQUE, state $TEXT NOT NULL,"
               " is_local $INT NOT NULL, agent_version $TEXT, boot_id $TEXT, os $TEXT,"
               " kernel $TEXT, cpus $INT NOT NULL, memory_mib $INT NOT NULL, cgroups $TEXT,"
               " enforces $TEXT, gpu_note $TEXT, last_seen $INT, created_at $INT NOT NULL,"
               " updated_at $INT NOT NULL);"
               "CREATE TABLE gpus(id $TEXT PRIMARY KEY, node_id $INT NOT NULL REFERENCES nodes(id),"
               " idx $INT NOT NULL, uuid $TEXT, name $TEXT NOT NULL, type $TEXT NOT NULL,"
               " memory_mib $INT NOT NULL, simulated $INT NOT NULL, present $INT NOT NULL,"
               " driver $TEXT, cuda $TEXT, created_at $INT NOT NULL, updated_at $INT NOT NULL);"
               "CREATE UNIQUE INDEX gpus_place ON gpus(node_id, idx) WHERE present = 1;"
               "CREATE TABLE gpu_leases(id $ID, gpu_id $TEXT NOT NULL REFERENCES gpus(id),"
               " holder_kind $TEXT NOT NULL, holder_id $INT NOT NULL, milli $INT NOT NULL,"
               " since $INT NOT NULL, CHECK(milli BETWEEN 1 AND 1000));"
               "CREATE INDEX gpu_leases_gpu ON gpu_leases(gpu_id);"
               "CREATE INDEX gpu_leases_holder ON gpu_leases(holder_kind, holder_id);"},
    {.id = 5041,
     .name = "agents of other hosts: join tokens, credentials, states with reasons",
     .script = "ALTER TABLE nodes ADD COLUMN state_since $INT;"
               "ALTER TABLE nodes ADD COLUMN state_reason $TEXT;"
               "ALTER TABLE nodes ADD COLUMN credential $TEXT;"
               "ALTER TABLE nodes ADD COLUMN credential_next $TEXT;"
               "ALTER TABLE nodes ADD COLUMN joined_at $INT;"
               "UPDATE nodes SET state = 'unreachable' WHERE state = 'offline';"
               "UPDATE nodes SET state_since = updated_at;"
               "CREATE UNIQUE INDEX nodes_credential ON nodes(credential);"
               "CREATE TABLE join_tokens(id $ID, name $TEXT, prefix $TEXT NOT NULL,"
               " hash $TEXT NOT NULL UNIQUE, uses $INT NOT NULL, used $INT NOT NULL,"
               " made_by $TEXT NOT NULL, created_at $INT NOT NULL, expires_at $INT NOT NULL);"},
    {0},
};
static const struct record *const fleet_records[] = {&node_record, &gpu_record, &join_token_record,
                                                     NULL};

static const struct setting fleet_settings[] = {
    {"GPU_MONITOR_INTERVAL", NULL, SET_INT, "5", 1, 3600,
     .doc = "seconds between two samples of the GPUs"},
    {"AGENT_SILENT", NULL, SET_DURATION_S, "20s", 3, 600,
     .doc = "how long a node gives no sign of life until its link counts as lost, on both ends"},
    {"STREAMS_PER_USER", NULL, SET_INT, "64", 1, 4096,
     .doc = "shells, forwarded connections and copies that one user may have open"},
    {"STREAMS_MAX", NULL, SET_INT, "512", 1, 16384,
     .doc = "the same for all users together; each may hold up to 2 MiB of memory"},
    {"STREAM_IDLE_TIMEOUT", NULL, SET_DURATION_S, "8h", 60, 30 * 86400,
     .doc = "a stream in which nothing moves for this long is closed"},
};
static const struct duty fleet_duties[] = {
    {.name = "sweep streams", .every_ms = 5000, .fn = streams_sweep},
};

static const struct subscription fleet_subscriptions[] = {
    {"job.status.changed", fleet_on_event},
    {"node.", fleet_on_event},
};

const struct module fleet_module = {
    .name = "fleet",
    .migrations = fleet_migrations,
    .records = fleet_records,
    .settings = fleet_settings,
    .n_settings = ARRAY_LEN(fleet_settings),
    .duties = fleet_duties,
    .n_duties = ARRAY_LEN(fleet_duties),
    .subscriptions = fleet_subscriptions,
    .n_subscriptions = ARRAY_LEN(fleet_subscriptions),
    .texts = fleet_texts,
    .metrics = fleet_metrics,
    .ready = fleet_ready,
    .ready_name = "gpu_monitor",
    .start = fleet_start,
    .stop = fleet_stop,
};

bool node_is_named(const struct node *n, const char *server_id)
{
    char id[ID_TEXT_SIZE];
    return strcmp(n->name, server_id) == 0 || strcmp(id_text("n", n->id, id), server_id) == 0 ||
           (n->is_local && strcmp(server_id, "server-001") == 0);
}

/* ---- leases ---- */

int lease_take(struct tx *tx, const char *gpu_id, enum holder_kind kind, int64_t holder,
               int64_t milli, struct err *e)
{
    struct rows *r = tx_query(tx,
                              "SELECT holder_kind, holder_id, milli FROM gpu_leases"
                              " WHERE gpu_id = ?1 ORDER BY id",
                              ARGS(v_text(gpu_id)));
    int64_t used = 0, first = 0;
    char first_kind[16] = "";
    while (rows_next(r)) {
        used += row_int(r, 2);
        if (first == 0) {
            first = row_int(r, 1);
            snprintf(first_kind, sizeof(first_kind), "%s", row_text(r, 0));
        }
    }
    int rc = rows_end(r, e);
    if (rc != OK)
        return rc;
    if (used + milli > 1000)
        return err_set(e, ERR_CONFLICT, "%s is held by %s %lld", gpu_id, first_kind,
                       (long long)first);
    return tx_exec(tx,
                   "INSERT INTO gpu_leases(gpu_id, holder_kind, holder_id, milli, since)"
                   " VALUES(?1, ?2, ?3, ?4, ?5)",
                   ARGS(v_text(gpu_id), v_text(holder_kind_names[kind]), v_int(holder),
                        v_int(milli), v_int(now_us())),
                   NULL, e);
}

int lease_release_all(struct tx *tx, enum holder_kind kind, int64_t holder, struct err *e)
{
    return tx_exec(tx, "DELETE FROM gpu_leases WHERE holder_kind = ?1 AND holder_id = ?2",
                   ARGS(v_text(holder_kind_names[kind]), v_int(holder)), NULL, e);
}

/* ---- GPUs ---- */

static int next_gpu_id(struct tx *tx, char to[16], struct err *e)
{
    int64_t n = 0;
    int rc = tx_int(tx, "SELECT count(*) FROM gpus", NO_ARGS, &n, NULL, e);
    for (int64_t i = n + 1; rc == OK; i++) {
        int64_t there = 0;
        snprintf(to, 16, "gpu-%03lld", (long long)(i % 100000000));
        rc = tx_int(tx, "SELECT count(*) FROM gpus WHERE id = ?1", ARGS(v_text(to)), &there, NULL,
                    e);
        if (rc == OK && there == 0)
            break;
    }
    return rc;
}

int gpus_reconcile(struct tx *tx, int64_t node, const struct live_node *live, bool *changed,
                   struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list rows;
    int rc = record_list(tx, &gpu_record, "WHERE node_id = ?1 ORDER BY idx", ARGS(v_int(node)), a,
                         &rows, e);
    if (rc != OK)
        return rc;
    int64_t now = now_us();
    struct gpu *have = rows.items;
    bool kept[4096] = {false};
    const char *target[GPU_MAX] = {NULL};
    *changed = false;
    /* first: which row is which card; places are freed before they are taken again */
    for (size_t i = 0; i < live->n_gpus; i++)
        for (size_t k = 0; k < rows.n && k < ARRAY_LEN(kept) && target[i] == NULL; k++) {
            const char *uuid = live->gpus[i].uuid;
            bool same = uuid != NULL && have[k].uuid != NULL ? strcmp(uuid, have[k].uuid) == 0
                                                             : have[k].index == live->gpus[i].index;
            if (!same || kept[k])
                continue;
            kept[k] = true;
            target[i] = have[k].id;
        }
    for (size_t k = 0; rc == OK && k < rows.n && k < ARRAY_LEN(kept); k++) {
        bool moves = false;
        for (size_t i = 0; i < live->n_gpus; i++)
            moves |= target[i] == have[k].id && have[k].index != live->gpus[i].index;
        if (!have[k].present || (kept[k] && !moves))
            continue;
        have[k].present = false;
        have[k].updated_at = now;
        *changed = true;
        rc = record_update(tx, &gpu_record, &have[k], e);
    }
    for (size_t i = 0; rc == OK && i < live->n_gpus; i++) {
        const struct live_gpu *l = &live->gpus[i];
        struct gpu g = {.node_id = node,
                        .index = l->index,
                        .uuid = l->uuid,
                        .name = l->name != NULL ? l->name : "GPU",
                        .driver = l->driver,
                        .cuda = l->cuda,
                        .present = true,
                        .simulated = live->simulated,
                        .memory_mib = l->memory_total_mib != INT_NULL ? l->memory_total_mib : 0,
                        .created_at = now,
                        .updated_at = now};
        char type[GPU_TYPE_SIZE];
        g.type = gpu_type_of(g.name, type);
        for (size_t k = 0; target[i] != NULL && k < rows.n; k++) {
            if (have[k].id != target[i])
                continue;
            g.id = target[i];
            g.created_at = have[k].created_at;
            bool same = have[k].present && have[k].index == g.index &&
                        str_eq(have[k].uuid, g.uuid) && str_eq(have[k].name, g.name) &&
                        have[k].memory_mib == g.memory_mib && str_eq(have[k].driver, g.driver) &&
                        str_eq(have[k].cuda, g.cuda) && have[k].simulated == g.simulated;
            if (same)
                break;
            *changed = true;
            rc = record_update(tx, &gpu_record, &g, e);
        }
        if (target[i] != NULL)
            continue;
        char id[16];
        rc = next_gpu_id(tx, id, e);
        g.id = id;
        if (rc == OK)
            rc = record_insert(tx, &gpu_record, &g, NULL, e);
        struct event ev = {.type = "hardware.discovered",
                           .source_type = "gpu",
                           .source_id = id,
                           .actor = "fleet",
                           .summary = arena_printf(a, "%s found: %s", id, g.name)};
        if (rc == OK)
            rc = event_emit(tx, &ev, e);
        *changed = true;
    }
    return rc;
}
