/* The native routes of the fleet: GPUs and nodes. Lists are answered
 * from the fleet's snapshot without a transaction.
 *
 * What must stay true: every user sees which GPU is held, only who may see the holder learns its
 * name and owner. */
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- views ---- */

LOCAL_VIEW(gpu_process_view, struct gpu_process_shown, "GpuProcessRow", NULL, 0,
           FIELD(struct gpu_process_shown, "pid", pid, T_INT),
           FIELD(struct gpu_process_shown, "name", name, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_process_shown, "memory_mib", memory_mib, T_INT, .flags = F_NULL),
           FIELD(struct gpu_process_shown, "job", job, T_ID, .flags = F_NULL, .prefix = "j",
                 .doc = "null: not one of Drover's"),
           FIELD(struct gpu_process_shown, "sm_percent", sm_percent, T_INT, .flags = F_NULL,
                 .doc = "its share of the multiprocessors"),
           FIELD(struct gpu_process_shown, "user", user, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_process_shown, "kind", kind, T_TEXT,
                 .doc = "compute, graphics, or mps"),
           FIELD(struct gpu_process_shown, "dead", dead, T_BOOL,
                 .doc = "it is gone and its memory was not given back"));
LOCAL_VIEW(gpu_holder_view, struct gpu_holder_shown, "GpuHolder", NULL, 0,
           FIELD(struct gpu_holder_shown, "kind", kind, T_ENUM, .names = holder_kind_names),
           FIELD(struct gpu_holder_shown, "id", id, T_TEXT),
           FIELD(struct gpu_holder_shown, "name", name, T_TEXT, .flags = F_NULL,
                 .doc = "null: not the caller's to see"),
           FIELD(struct gpu_holder_shown, "owner", owner, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_holder_shown, "milli", milli, T_INT, .doc = "thousandths of the GPU"));

#define GPU(wire, m, T, ...)  FIELD(struct gpu_shown, wire, m, T, __VA_ARGS__)
#define GPU_VALUE(wire, doc_) GPU(#wire, wire, T_INT, .flags = F_NULL, .doc = doc_)
#define GPU_FIELDS                                                                                 \
    GPU("id", id, T_TEXT, .doc = "such as gpu-001"), GPU("node", node, T_ID, .prefix = "n"),       \
        GPU("node_name", node_name, T_TEXT), GPU("index", index, T_INT, .doc = "on its node"),     \
        GPU("uuid", uuid, T_TEXT, .flags = F_NULL), GPU("name", name, T_TEXT, .flags = F_NULL),    \
        GPU("type", type, T_TEXT, .flags = F_NULL, .doc = "short name, for gpu_type of a job"),    \
        GPU_VALUE(memory_total_mib, NULL), GPU_VALUE(memory_used_mib, NULL),                       \
        GPU_VALUE(utilization, "percent; null: unknown"),                                          \
        GPU_VALUE(memory_utilization, "percent"), GPU_VALUE(temperature_c, NULL),                  \
        GPU_VALUE(power_w, NULL), GPU_VALUE(power_limit_w, NULL),                                  \
        GPU("state", state, T_ENUM, .names = gpu_holding_names),                                   \
        OBJECT(struct gpu_shown, "holder", holder, &gpu_holder_view, .flags = F_NULL | F_POINTER,  \
               .doc = "who holds it"),                                                             \
        LIST(struct gpu_shown, "processes", processes, &gpu_process_view),                         \
        GPU("simulated", simulated, T_BOOL), GPU("driver", driver, T_TEXT, .flags = F_NULL),       \
        GPU("cuda", cuda, T_TEXT, .flags = F_NULL),                                                \
        GPU("updated_at", updated_at, T_TIME, .flags = F_NULL,                                     \
            .doc = "when these values were read"),                                                 \
        GPU("note", note, T_TEXT, .flags = F_NULL | F_TOLD, .doc = "what is wrong with it"),       \
        GPU("health", health, T_ENUM, .names = gpu_health_names),                                  \
        GPU("health_reason", health_reason, T_TEXT, .flags = F_NULL | F_TOLD),                     \
        GPU("parent", parent, T_INT, .flags = F_NULL,                                              \
            .doc = "index of the GPU that it is a MIG instance of"),                               \
        GPU("profile", profile, T_TEXT, .flags = F_NULL,                                           \
            .doc = "of a MIG instance, such as 1g.10gb"),                                          \
        GPU("age_ms", age_ms, T_INT, .flags = F_NULL,                                              \
            .doc = "how old the values were when they came; grows while a driver hangs"),          \
        GPU("throttle", throttle, T_TEXTS, .doc = "what holds its clocks down"),                   \
        GPU("free_milli", free_milli, T_INT, .doc = "thousandths that are not leased"),            \
        LIST(struct gpu_shown, "holders", holders, &gpu_holder_view,                               \
             .doc = "all who hold a part of it")
/* the long form has it among its numbers */
VIEW(gpu_view, struct gpu_shown, "Gpu", NULL, 0, GPU_FIELDS,
     GPU("clock_sm_mhz", clock_sm_mhz, T_INT, .flags = F_NULL));
PAGE_VIEW(gpus_view, "GpuList", &gpu_view);

/* ---- one GPU, with everything that is known ---- */

struct link_shown {
    bool active;
    int64_t version, replays, recoveries, flit_crc, data_crc;
};
LOCAL_VIEW(link_view, struct link_shown, "GpuLink", NULL, 0,
           FIELD(struct link_shown, "active", active, T_BOOL),
           FIELD(struct link_shown, "version", version, T_INT, .flags = F_NULL),
           FIELD(struct link_shown, "replays", replays, T_INT, .flags = F_NULL),
           FIELD(struct link_shown, "recoveries", recoveries, T_INT, .flags = F_NULL),
           FIELD(struct link_shown, "flit_crc", flit_crc, T_INT, .flags = F_NULL),
           FIELD(struct link_shown, "data_crc", data_crc, T_INT, .flags = F_NULL));
struct xid_shown {
    int64_t code, at, count;
    int health;
    const char *meaning, *action;
};
LOCAL_VIEW(xid_view, struct xid_shown, "GpuXid", NULL, 0,
           FIELD(struct xid_shown, "code", code, T_INT),
           FIELD(struct xid_shown, "at", at, T_TIME, .doc = "the last time"),
           FIELD(struct xid_shown, "count", count, T_INT),
           FIELD(struct xid_shown, "says", health, T_ENUM, .names = gpu_health_names,
                 .doc = "what it says of the GPU while it is fresh"),
           FIELD(struct xid_shown, "meaning", meaning, T_TEXT),
           FIELD(struct xid_shown, "action", action, T_TEXT));
struct ledger_shown {
    int kind;
    const char *id, *name, *user;
    int64_t pid, declared_mib, measured_mib;
};
LOCAL_VIEW(ledger_view, struct ledger_shown, "GpuMemoryRow", NULL, 0,
           FIELD(struct ledger_shown, "kind", kind, T_ENUM, .names = ledger_kind_names,
                 .doc = "nobody: in use, and no process says that it is its own"),
           FIELD(struct ledger_shown, "id", id, T_TEXT, .flags = F_NULL, .doc = "of a holder"),
           FIELD(struct ledger_shown, "name", name, T_TEXT, .flags = F_NULL),
           FIELD(struct ledger_shown, "pid", pid, T_INT, .flags = F_NULL),
           FIELD(struct ledger_shown, "user", user, T_TEXT, .flags = F_NULL),
           FIELD(struct ledger_shown, "declared_mib", declared_mib, T_INT, .flags = F_NULL),
           FIELD(struct ledger_shown, "measured_mib", measured_mib, T_INT, .flags = F_NULL));
struct numbers_shown {
    int64_t of[GPU_NUMBERS];
};
#define NUMBER(id, name, most, doc_)                                                               \
    FIELD(struct numbers_shown, #name, of[GPU_##id], T_INT, .flags = F_NULL, .doc = doc_),
LOCAL_VIEW(numbers_view, struct numbers_shown, "GpuFacts", NULL, 0, GPU_NUMBERS_LIST(NUMBER));
struct gpu_detail {
    struct gpu_shown gpu; /* first: its fields stand here too */
    int64_t memory_temperature_c, ecc_uncorrected;
    struct numbers_shown facts;
    double energy_kwh;
    const char *serial, *vbios, *bus, *topology;
    struct list links, xids, memory;
    int64_t memory_ours_mib, memory_foreign_mib, memory_dead_mib, memory_nobody_mib,
        memory_driver_mib, memory_free_mib, memory_unpromised_mib;
};
#define DETAIL(wire, m, T, ...) FIELD(struct gpu_detail, wire, m, T, __VA_ARGS__)
#define DETAIL_MIB(m, doc_)     FIELD(struct gpu_detail, #m, m, T_INT, .flags = F_NULL, .doc = doc_)
LOCAL_VIEW(gpu_detail_view, struct gpu_detail, "GpuWhole", NULL, 0, GPU_FIELDS,
           DETAIL("memory_temperature_c", memory_temperature_c, T_INT, .flags = F_NULL),
           DETAIL("ecc_uncorrected", ecc_uncorrected, T_INT, .flags = F_NULL,
                  .doc = "uncorrected errors since the driver was loaded"),
           DETAIL("energy_kwh", energy_kwh, T_REAL, .flags = F_NULL,
                  .doc = "used since the driver was loaded"),
           DETAIL("serial", serial, T_TEXT, .flags = F_NULL),
           DETAIL("vbios", vbios, T_TEXT, .flags = F_NULL),
           DETAIL("bus", bus, T_TEXT, .flags = F_NULL),
           DETAIL("topology", topology, T_TEXT, .flags = F_NULL,
                  .doc = "how near the GPUs of its host are, by index: B same board, P one switch, "
                         "X several, H same root, N same NUMA node, S across"),
           OBJECT(struct gpu_detail, "facts", facts, &numbers_view),
           LIST(struct gpu_detail, "links", links, &link_view),
           LIST(struct gpu_detail, "xids", xids, &xid_view, .doc = "the newest first"),
           LIST(struct gpu_detail, "memory", memory, &ledger_view,
                .doc = "whose the memory is: declared beside measured"),
           DETAIL_MIB(memory_ours_mib, "of jobs"),
           DETAIL_MIB(memory_foreign_mib, "of processes that Drover did not start"),
           DETAIL_MIB(memory_dead_mib, "of processes that are gone"),
           DETAIL_MIB(memory_nobody_mib, "in use, and no process says that it is its own"),
           DETAIL_MIB(memory_driver_mib, "kept back by the driver"),
           DETAIL_MIB(memory_free_mib, NULL),
           DETAIL_MIB(memory_unpromised_mib, "what a further share could still be promised"));

#define NODE(wire, m, ...) SAME(struct node_shown, wire, node.m, __VA_ARGS__)
VIEW(node_view, struct node_shown, "Node", &node_record, 0, NODE("id", id), NODE("name", name),
     NODE("state", state), NODE("state_reason", state_reason), NODE("state_since", state_since),
     NODE("is_local", is_local, .doc = "the server's own host"), NODE("joined_at", joined_at),
     NODE("agent_version", agent_version), NODE("last_seen", last_seen), NODE("boot_id", boot_id),
     NODE("os", os), NODE("kernel", kernel), NODE("cpus", cpus),
     FIELD(struct node_shown, "memory_mib", memory_mib, T_INT, .flags = F_NULL),
     FIELD(struct node_shown, "memory_used_mib", memory_used_mib, T_INT, .flags = F_NULL),
     FIELD(struct node_shown, "cpu_percent", cpu_percent, T_REAL, .flags = F_NULL),
     FIELD(struct node_shown, "gpus", gpus, T_INT),
     NODE("gpu_note", gpu_note, .flags = F_NULL, .doc = "why it has no GPUs"),
     NODE("cgroups", cgroups), NODE("enforces", enforces, .doc = "limits that it really enforces"),
     NODE("isolation", isolation));
PAGE_VIEW(nodes_view, "NodeList", &node_view);

void gpu_show(const struct snap_gpu *g, const struct principal *who, struct arena *a,
              struct gpu_shown *out)
{
    *out = (struct gpu_shown){.id = g->id,
                              .node_name = g->node_name,
                              .uuid = g->uuid,
                              .name = g->name,
                              .type = g->type,
                              .node = g->node_id,
                              .index = g->index,
                              .memory_total_mib = g->memory_total_mib,
                              .memory_used_mib = g->memory_used_mib,
                              .utilization = g->utilization,
                              .memory_utilization = g->memory_utilization,
                              .temperature_c = g->temperature_c,
                              .power_w = g->power_w,
                              .power_limit_w = g->power_limit_w,
                              .state = g->state,
                              .simulated = g->simulated,
                              .driver = g->driver,
                              .cuda = g->cuda,
                              .note = g->note,
                              .updated_at = g->at_us,
                              .health = g->live != NULL ? g->health : GPU_HEALTH_UNKNOWN,
                              .health_reason = g->health_reason,
                              .parent = g->parent,
                              .age_ms = INT_NULL,
                              .clock_sm_mhz = INT_NULL,
                              .free_milli = 1000};
    if (g->live != NULL) {
        out->age_ms = g->age_ms; /* as it came: an answer must not change by being asked for */
        int64_t clock = g->live->numbers[GPU_CLOCK_SM], bits = g->live->numbers[GPU_THROTTLE];
        out->clock_sm_mhz = clock == GPU_UNKNOWN ? INT_NULL : clock;
        out->profile = g->live->profile;
        out->throttle.items = arena_alloc(a, GPU_THROTTLES * sizeof(char *));
        for (int i = 0; i < GPU_THROTTLES && bits > 0; i++)
            if (bits >> i & 1)
                out->throttle.items[out->throttle.n++] = gpu_throttle_words[i];
    }
    struct gpu_holder_shown *held = arena_alloc(a, (g->n_holders + 1) * sizeof(*held));
    for (size_t i = 0; i < g->n_holders; i++) {
        const struct snap_holder *h = &g->holders[i];
        bool seen = who != NULL && principal_sees(who, h->text.owner_id);
        held[i] = (struct gpu_holder_shown){.kind = h->kind,
                                            .id = h->text.id,
                                            .name = seen ? h->text.name : NULL,
                                            .owner = seen ? h->text.owner : NULL,
                                            .milli = h->milli};
        out->free_milli -= h->milli;
    }
    out->holder = g->n_holders > 0 ? held : NULL;
    out->holders = (struct list){held, g->n_holders};
    struct gpu_process_shown *p = arena_alloc(a, (g->n_processes + 1) * sizeof(*p));
    for (size_t i = 0; i < g->n_processes; i++) {
        const struct snap_process *from = &g->processes[i];
        p[i] = (struct gpu_process_shown){.pid = from->pid,
                                          .memory_mib = from->memory_mib,
                                          .job = from->job,
                                          .sm_percent = from->sm_percent,
                                          .name = from->name,
                                          .user = from->user,
                                          .kind = from->kind == 'G'   ? "graphics"
                                                  : from->kind == 'M' ? "mps"
                                                                      : "compute",
                                          .dead = from->dead};
    }
    out->processes = (struct list){p, g->n_processes};
}

/* XIDs by code, with how often and when last. */
static void fill_xids(const struct gpu_xid *x, size_t n, struct arena *a, struct gpu_detail *d)
{
    struct xid_shown *out = arena_alloc(a, (n + 1) * sizeof(*out));
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < d->xids.n && out[k].code != x[i].code)
            k++;
        if (k < d->xids.n) {
            out[k].count++;
            continue;
        }
        const struct gpu_xid_row *row = gpu_xid_row(x[i].code);
        out[d->xids.n++] = (struct xid_shown){.code = x[i].code,
                                              .at = x[i].at_us,
                                              .count = 1,
                                              .health = row->health,
                                              .meaning = err_tr(row->meaning),
                                              .action = err_tr(row->action)};
    }
    d->xids.items = out;
}

static void fill_memory(const struct snap_gpu *g, const struct principal *who, struct arena *a,
                        struct gpu_detail *d)
{
    struct gpu_ledger l;
    gpu_ledger(g, a, &l);
    struct ledger_shown *rows = arena_alloc(a, (l.n + 1) * sizeof(*rows));
    for (size_t i = 0; i < l.n; i++) {
        const struct snap_holder *h = l.rows[i].holder;
        const struct snap_process *p = l.rows[i].process;
        rows[i] = (struct ledger_shown){.kind = (int)l.rows[i].kind,
                                        .id = h != NULL ? h->text.id : NULL,
                                        .name = p != NULL ? p->name
                                                : h != NULL && principal_sees(who, h->text.owner_id)
                                                    ? h->text.name
                                                    : NULL,
                                        .user = p != NULL ? p->user : NULL,
                                        .pid = p != NULL ? p->pid : INT_NULL,
                                        .declared_mib = l.rows[i].declared_mib,
                                        .measured_mib = l.rows[i].measured_mib};
    }
    d->memory = (struct list){rows, l.n};
    bool told = l.free_mib != INT_NULL;
    d->memory_ours_mib = told ? l.ours_mib : INT_NULL;
    d->memory_foreign_mib = told ? l.foreign_mib : INT_NULL;
    d->memory_dead_mib = told ? l.dead_mib : INT_NULL;
    d->memory_nobody_mib = told ? l.nobody_mib : INT_NULL;
    d->memory_driver_mib = told ? l.driver_mib : INT_NULL;
    d->memory_free_mib = l.free_mib;
    d->memory_unpromised_mib = l.unpromised_mib;
}

static void fill_detail(const struct snap_gpu *g, const struct principal *who, struct arena *a,
                        struct gpu_detail *d)
{
    const struct live_gpu *l = g->live;
    gpu_show(g, who, a, &d->gpu);
    d->memory_temperature_c = g->memory_temperature_c;
    d->ecc_uncorrected = l != NULL ? l->ecc_uncorrected : INT_NULL;
    d->energy_kwh = NAN;
    for (int i = 0; i < GPU_NUMBERS; i++)
        d->facts.of[i] = l == NULL || l->numbers[i] == GPU_UNKNOWN ? INT_NULL : l->numbers[i];
    fill_memory(g, who, a, d);
    if (l == NULL)
        return;
    if (l->numbers[GPU_ENERGY] != GPU_UNKNOWN)
        d->energy_kwh = (double)l->numbers[GPU_ENERGY] / 3.6e9;
    d->serial = l->serial;
    d->vbios = l->vbios;
    d->bus = l->bus;
    d->topology = l->topology;
    struct link_shown *links = arena_alloc(a, (l->n_links + 1) * sizeof(*links));
    for (size_t i = 0; i < l->n_links; i++) {
        const int64_t from[] = {l->links[i].version, l->links[i].replays, l->links[i].recoveries,
                                l->links[i].flit_crc, l->links[i].data_crc};
        int64_t *const to[] = {&links[i].version, &links[i].replays, &links[i].recoveries,
                               &links[i].flit_crc, &links[i].data_crc};
        links[i].active = l->links[i].active;
        for (size_t k = 0; k < ARRAY_LEN(from); k++)
            *to[k] = from[k] == GPU_UNKNOWN ? INT_NULL : from[k];
    }
    d->links = (struct list){links, l->n_links};
}

void node_show(const struct snap_node *n, struct node_shown *out)
{
    *out = (struct node_shown){.node = n->node,
                               .memory_mib = n->memory_total_mib != INT_NULL ? n->memory_total_mib
                                                                             : n->node.memory_mib,
                               .memory_used_mib = n->memory_used_mib,
                               .gpus = (int64_t)n->n_gpus,
                               .cpu_percent = n->cpu_percent};
}

const struct snap_node *snapshot_node(const struct fleet_snapshot *s, int64_t id)
{
    size_t low = 0, high = s->n_nodes; /* by id */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->nodes[mid].node.id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->n_nodes && s->nodes[low].node.id == id ? &s->nodes[low] : NULL;
}

/* ---- what is asked ---- */

struct page_query {
    int64_t limit;
    const char *cursor;
};
LOCAL_VIEW(page_query_view, struct page_query, "FleetPage", NULL, 0,
           PAGE_QUERY(struct page_query, 1000));
struct gpu_path {
    const char *id;
};
LOCAL_VIEW(gpu_path_view, struct gpu_path, "GpuId", NULL, 0,
           FIELD(struct gpu_path, "id", id, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 64));
struct node_path {
    int64_t id;
};
LOCAL_VIEW(node_path_view, struct node_path, "NodeId", NULL, 0,
           FIELD(struct node_path, "id", id, T_ID, .flags = F_REQUIRED, .prefix = "n"));

/* ---- GPUs ---- */

static int gpus_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct page_query *in = q->query;
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    size_t at = 0;
    if (in->cursor != NULL) {
        while (at < s->n_gpus && strcmp(s->gpus[at].id, in->cursor) != 0)
            at++;
        if (at++ == s->n_gpus)
            return native_bad_cursor(e);
    }
    size_t n = s->n_gpus - at < (size_t)in->limit ? s->n_gpus - at : (size_t)in->limit;
    struct gpu_shown *shown = arena_alloc(q->arena, (n + 1) * sizeof(*shown));
    for (size_t i = 0; i < n; i++)
        gpu_show(&s->gpus[at + i], &q->who, q->arena, &shown[i]);
    struct native_page out = {.items = {shown, n}};
    if (at + n < s->n_gpus)
        out.next_cursor = shown[n - 1].id;
    return request_answer(q, 200, &gpus_view, &out);
}

static int gpu_show_one(struct request *q, struct tx *tx, struct err *e)
{
    const struct gpu_path *in = q->params;
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    for (size_t i = 0; i < s->n_gpus; i++)
        if (strcmp(s->gpus[i].id, in->id) == 0) {
            struct gpu_detail d = {0};
            const struct gpu_xid *xids;
            size_t n;
            fill_detail(&s->gpus[i], &q->who, q->arena, &d);
            int rc = gpu_xids(tx, in->id, q->arena, &xids, &n, e);
            if (rc != OK)
                return rc;
            fill_xids(xids, n, q->arena, &d);
            return request_answer(q, 200, &gpu_detail_view, &d);
        }
    if (s->n_gpus > 0)
        native_hint(q, "There are %zu GPUs, from %s to %s.", s->n_gpus, s->gpus[0].id,
                    s->gpus[s->n_gpus - 1].id);
    return err_set(e, ERR_NOT_FOUND, "no GPU %s", in->id);
}

/* ---- nodes ---- */

static int nodes_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct page_query *in = q->query;
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    int64_t after = 0;
    if (in->cursor != NULL && !id_parse("n", in->cursor, &after))
        return native_bad_cursor(e);
    struct node_shown *shown = arena_alloc(q->arena, ((size_t)in->limit + 1) * sizeof(*shown));
    struct native_page out = {.items = {shown, 0}};
    char id[ID_TEXT_SIZE];
    for (size_t i = 0; i < s->n_nodes; i++) {
        if (s->nodes[i].node.id <= after)
            continue;
        if ((int64_t)out.items.n == in->limit) {
            out.next_cursor = arena_strdup(q->arena,
                                           id_text("n", shown[out.items.n - 1].node.id, id));
            break;
        }
        node_show(&s->nodes[i], &shown[out.items.n++]);
    }
    return request_answer(q, 200, &nodes_view, &out);
}

static int node_show_one(struct request *q, struct tx *tx, struct err *e)
{
    const struct node_path *in = q->params;
    char id[ID_TEXT_SIZE];
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    const struct snap_node *n = snapshot_node(s, in->id);
    if (n == NULL)
        return err_set(e, ERR_NOT_FOUND, "no node %s", id_text("n", in->id, id));
    struct node_shown shown;
    node_show(n, &shown);
    return request_answer(q, 200, &node_view, &shown);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"GET", "/v1/gpus", "gpus_list", "All GPUs with who holds them, by node", ACCESS_USER,
     .flags = ROUTE_ETAG | ROUTE_NO_LIMIT, .query = &page_query_view, .memory = gpus_list,
     .answers = {{200, &gpus_view}}, .errors = "400", .tag = "fleet"},
    {"GET", "/v1/gpus/{id}", "gpu_show", "One GPU with all that is known", ACCESS_USER,
     .flags = ROUTE_NO_LIMIT, .params = &gpu_path_view, .handle = gpu_show_one,
     .answers = {{200, &gpu_detail_view}}, .errors = "404", .tag = "fleet"},
    {"GET", "/v1/nodes", "nodes_list", "All nodes", ACCESS_USER,
     .flags = ROUTE_ETAG | ROUTE_NO_LIMIT, .query = &page_query_view, .memory = nodes_list,
     .answers = {{200, &nodes_view}}, .errors = "400", .tag = "fleet"},
    {"GET", "/v1/nodes/{id}", "node_show", "One node", ACCESS_USER,
     .flags = ROUTE_ETAG | ROUTE_NO_LIMIT, .params = &node_path_view, .memory = node_show_one,
     .answers = {{200, &node_view}}, .errors = "404", .tag = "fleet"},
};

static const struct err_text texts[] = {
    {"no GPU %s", "没有 GPU %s"},
    {"no node %s", "没有节点 %s"},
    {"There are %zu GPUs, from %s to %s.", "共有 %zu 张 GPU，从 %s 到 %s。"},
    {0},
};

const struct module native_fleet_module = {
    .name = "native-fleet",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .texts = texts,
};
