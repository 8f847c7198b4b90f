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
                                         "driver_hung", "offline", "split",   NULL};

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
       MEMBER(struct gpu, parent, T_INT, .flags = M_NULL),
       MEMBER(struct gpu, health, T_ENUM, .names = gpu_health_names),
       MEMBER(struct gpu, health_reason, T_TEXT, .flags = M_NULL),
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
    {.id = 5031,
     .name = "what keeps jobs apart",
     .script = "ALTER TABLE nodes ADD COLUMN isolation $TEXT;"},
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
    {.id = 5061,
     .name = "health, instances, declared memory and XIDs of GPUs",
     .script = "ALTER TABLE gpus ADD COLUMN parent $INT;"
               "ALTER TABLE gpus ADD COLUMN health $TEXT NOT NULL DEFAULT 'unknown';"
               "ALTER TABLE gpus ADD COLUMN health_reason $TEXT;"
               "ALTER TABLE gpu_leases ADD COLUMN memory_mib $INT;"
               "CREATE TABLE gpu_xids(id $ID, gpu_id $TEXT NOT NULL REFERENCES gpus(id),"
               " code $INT NOT NULL, at $INT NOT NULL);"
               "CREATE UNIQUE INDEX gpu_xids_once ON gpu_xids(gpu_id, at, code);"},
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
    {"gpu.", fleet_on_event},
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
               int64_t milli, int64_t memory_mib, struct err *e)
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
                   "INSERT INTO gpu_leases(gpu_id, holder_kind, holder_id, milli, since,"
                   " memory_mib) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                   ARGS(v_text(gpu_id), v_text(holder_kind_names[kind]), v_int(holder),
                        v_int(milli), v_int(now_us()),
                        memory_mib != INT_NULL ? v_int(memory_mib) : v_null()),
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

/* "A100"; of a MIG instance "A100-1g.5gb", which no request for an A100 means. */
static const char *type_of(const struct gpu *g, const struct live_gpu *l, struct arena *a)
{
    char type[GPU_TYPE_SIZE], name[GPU_NAME_SIZE];
    snprintf(name, sizeof(name), "%s", g->name);
    char *mig = strstr(name, " MIG ");
    if (g->parent != INT_NULL && mig != NULL)
        *mig = '\0';
    gpu_type_of(name, type);
    return g->parent != INT_NULL && l->profile != NULL
               ? arena_printf(a, "%.60s-%.30s", type, l->profile)
               : arena_strdup(a, type);
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
                        .parent = l->parent,
                        .health = GPU_HEALTH_UNKNOWN,
                        .uuid = l->uuid,
                        .name = l->name != NULL ? l->name : "GPU",
                        .driver = l->driver,
                        .cuda = l->cuda,
                        .present = true,
                        .simulated = live->simulated,
                        .memory_mib = l->memory_total_mib != INT_NULL ? l->memory_total_mib : 0,
                        .created_at = now,
                        .updated_at = now};
        for (size_t k = 0; target[i] != NULL && k < rows.n; k++) {
            if (have[k].id != target[i])
                continue;
            g.id = target[i];
            g.created_at = have[k].created_at;
            g.health = have[k].health;
            g.health_reason = have[k].health_reason;
            if (l->uuid == NULL) { /* its driver does not answer: it is what it was */
                g.uuid = have[k].uuid;
                g.name = have[k].name;
                g.memory_mib = have[k].memory_mib;
                g.driver = g.driver != NULL ? g.driver : have[k].driver;
                g.cuda = g.cuda != NULL ? g.cuda : have[k].cuda;
            }
            g.type = type_of(&g, l, a);
            bool same = have[k].present && have[k].index == g.index &&
                        str_eq(have[k].uuid, g.uuid) && str_eq(have[k].name, g.name) &&
                        have[k].memory_mib == g.memory_mib && str_eq(have[k].driver, g.driver) &&
                        str_eq(have[k].cuda, g.cuda) && have[k].simulated == g.simulated &&
                        have[k].parent == g.parent;
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
        g.type = type_of(&g, l, a);
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

/* ---- XIDs and health ---- */

enum gpu_health live_health(const struct live_gpu *g, const struct gpu_xid *xids, size_t n,
                            char reason[GPU_NOTE_SIZE])
{
    struct gpu_health_in in = {
        .state = (enum gpu_state)g->state,
        .numbers = g->numbers,
        .ecc_uncorrected = g->ecc_uncorrected == INT_NULL ? GPU_UNKNOWN : g->ecc_uncorrected,
        .temperature_c = g->temperature_c == INT_NULL ? GPU_UNKNOWN : (int)g->temperature_c,
        .xids = xids,
        .n_xids = n,
        .now_us = now_us()};
    return gpu_health_of(&in, reason);
}

enum { XIDS_KEPT = 100 };

static int gpu_event(struct tx *tx, const char *gpu, const char *type, enum severity severity,
                     const char *summary, const struct gpu_xid *xid, const char *from,
                     const char *to, struct err *e)
{
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "gpu", gpu);
    if (xid != NULL) {
        json_kint(&j, "xid", xid->code);
        json_kint(&j, "at", xid->at_us);
        json_ktext(&j, "meaning", gpu_xid_row(xid->code)->meaning);
        json_ktext(&j, "action", gpu_xid_row(xid->code)->action);
    } else {
        json_ktext(&j, "from", from);
        json_ktext(&j, "to", to);
    }
    json_close(&j, '}');
    struct event ev = {.type = type,
                       .source_type = "gpu",
                       .source_id = gpu,
                       .severity = severity,
                       .actor = "fleet",
                       .summary = summary,
                       .data = arena_strdup(tx_arena(tx), buf_str(&b))};
    buf_fini(&b);
    return event_emit(tx, &ev, e);
}

static const enum severity health_severity[] = {
    [GPU_HEALTH_OK] = SEVERITY_INFO,
    [GPU_HEALTH_DEGRADED] = SEVERITY_WARNING,
    [GPU_HEALTH_FAILED] = SEVERITY_ERROR,
    [GPU_HEALTH_UNKNOWN] = SEVERITY_INFO,
};

/* Each XID once, however often the agent repeats it. */
static int xids_add(struct tx *tx, const char *gpu, const struct live_gpu *l, struct err *e)
{
    int rc = OK;
    for (size_t i = l->n_xids; i > 0 && rc == OK; i--) {
        const struct gpu_xid *x = &l->xids[i - 1];
        const struct gpu_xid_row *row = gpu_xid_row(x->code);
        int64_t there = 0;
        rc = tx_int(tx, "SELECT count(*) FROM gpu_xids WHERE gpu_id = ?1 AND at = ?2 AND code = ?3",
                    ARGS(v_text(gpu), v_int(x->at_us), v_int(x->code)), &there, NULL, e);
        if (rc != OK || there > 0)
            continue;
        rc = tx_exec(tx, "INSERT INTO gpu_xids(gpu_id, code, at) VALUES(?1, ?2, ?3)",
                     ARGS(v_text(gpu), v_int(x->code), v_int(x->at_us)), NULL, e);
        if (rc == OK)
            rc = gpu_event(tx, gpu, "gpu.xid", health_severity[row->health],
                           arena_printf(tx_arena(tx), "%s: XID %d: %s", gpu, x->code, row->meaning),
                           x, NULL, NULL, e);
    }
    if (rc == OK && l->n_xids > 0)
        rc = tx_exec(tx,
                     "DELETE FROM gpu_xids WHERE gpu_id = ?1 AND id NOT IN (SELECT id FROM gpu_xids"
                     " WHERE gpu_id = ?1 ORDER BY at DESC, id DESC LIMIT ?2)",
                     ARGS(v_text(gpu), v_int(XIDS_KEPT)), NULL, e);
    return rc;
}

int gpu_xids(struct tx *tx, const char *gpu, struct arena *a, const struct gpu_xid **out, size_t *n,
             struct err *e)
{
    struct gpu_xid *x = arena_alloc(a, XIDS_KEPT * sizeof(*x));
    size_t found = 0;
    struct rows *r = tx_query(tx,
                              "SELECT code, at FROM gpu_xids WHERE gpu_id = ?1"
                              " ORDER BY at DESC, id DESC LIMIT ?2",
                              ARGS(v_text(gpu), v_int(XIDS_KEPT)));
    while (rows_next(r) && found < XIDS_KEPT)
        x[found++] = (struct gpu_xid){(int)row_int(r, 0), row_int(r, 1)};
    *out = x;
    *n = found;
    return rows_end(r, e);
}

int gpus_settle(struct tx *tx, int64_t node, struct live_node *live, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list rows;
    int rc = record_list(tx, &gpu_record, "WHERE node_id = ?1 AND present = 1", ARGS(v_int(node)),
                         a, &rows, e);
    for (size_t i = 0; rc == OK && i < live->n_gpus; i++) {
        struct live_gpu *l = &live->gpus[i];
        struct gpu *g = NULL;
        for (size_t k = 0; k < rows.n && g == NULL; k++)
            if (((struct gpu *)rows.items)[k].index == l->index)
                g = (struct gpu *)rows.items + k;
        if (g == NULL)
            continue;
        const struct gpu_xid *xids;
        size_t n;
        char reason[GPU_NOTE_SIZE];
        if ((rc = xids_add(tx, g->id, l, e)) != OK ||
            (rc = gpu_xids(tx, g->id, a, &xids, &n, e)) != OK)
            return rc;
        int health = (int)live_health(l, xids, n, reason), before = g->health;
        const char *why = reason[0] != '\0' ? reason : NULL;
        l->health = health;
        if (health == before && str_eq(why, g->health_reason))
            continue;
        g->health = health;
        g->health_reason = why;
        g->updated_at = now_us();
        rc = record_update(tx, &gpu_record, g, e);
        /* that a new GPU is well is no news */
        bool news = health != before && !(before == GPU_HEALTH_UNKNOWN && health == GPU_HEALTH_OK);
        if (rc == OK && news)
            rc = gpu_event(
                tx, g->id, "gpu.status.changed", health_severity[health],
                why != NULL ? arena_printf(a, "%s is %s: %s", g->id, gpu_health_names[health], why)
                            : arena_printf(a, "%s is well again", g->id),
                NULL, gpu_health_names[before], gpu_health_names[health], e);
    }
    return rc;
}
