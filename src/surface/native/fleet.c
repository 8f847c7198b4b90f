/* The native routes of the fleet: GPUs and nodes. Lists are answered
 * from the fleet's snapshot without a transaction.
 *
 * What must stay true: every user sees which GPU is held, only who may see the holder learns its
 * name and owner. */
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- views ---- */

LOCAL_VIEW(gpu_process_view, struct gpu_process_shown, "GpuProcess", NULL, 0,
           FIELD(struct gpu_process_shown, "pid", pid, T_INT),
           FIELD(struct gpu_process_shown, "name", name, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_process_shown, "memory_mib", memory_mib, T_INT, .flags = F_NULL),
           FIELD(struct gpu_process_shown, "job", job, T_ID, .flags = F_NULL, .prefix = "j",
                 .doc = "null: not one of Drover's"));
LOCAL_VIEW(gpu_holder_view, struct gpu_holder_shown, "GpuHolder", NULL, 0,
           FIELD(struct gpu_holder_shown, "kind", kind, T_ENUM, .names = holder_kind_names),
           FIELD(struct gpu_holder_shown, "id", id, T_TEXT),
           FIELD(struct gpu_holder_shown, "name", name, T_TEXT, .flags = F_NULL,
                 .doc = "null: not the caller's to see"),
           FIELD(struct gpu_holder_shown, "owner", owner, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_holder_shown, "milli", milli, T_INT, .doc = "thousandths of the GPU"));

#define GPU(wire, m, T, ...)  FIELD(struct gpu_shown, wire, m, T, __VA_ARGS__)
#define GPU_VALUE(wire, doc_) GPU(#wire, wire, T_INT, .flags = F_NULL, .doc = doc_)
VIEW(gpu_view, struct gpu_shown, "Gpu", NULL, 0, GPU("id", id, T_TEXT, .doc = "such as gpu-001"),
     GPU("node", node, T_ID, .prefix = "n"), GPU("node_name", node_name, T_TEXT),
     GPU("index", index, T_INT, .doc = "on its node"), GPU("uuid", uuid, T_TEXT, .flags = F_NULL),
     GPU("name", name, T_TEXT, .flags = F_NULL),
     GPU("type", type, T_TEXT, .flags = F_NULL, .doc = "short name, for gpu_type of a job"),
     GPU_VALUE(memory_total_mib, NULL), GPU_VALUE(memory_used_mib, NULL),
     GPU_VALUE(utilization, "percent; null: unknown"), GPU_VALUE(memory_utilization, "percent"),
     GPU_VALUE(temperature_c, NULL), GPU_VALUE(power_w, NULL), GPU_VALUE(power_limit_w, NULL),
     GPU("state", state, T_ENUM, .names = gpu_holding_names),
     OBJECT(struct gpu_shown, "holder", holder, &gpu_holder_view, .flags = F_NULL | F_POINTER,
            .doc = "who holds it"),
     LIST(struct gpu_shown, "processes", processes, &gpu_process_view),
     GPU("simulated", simulated, T_BOOL), GPU("driver", driver, T_TEXT, .flags = F_NULL),
     GPU("cuda", cuda, T_TEXT, .flags = F_NULL),
     GPU("updated_at", updated_at, T_TIME, .flags = F_NULL, .doc = "when these values were read"),
     GPU("note", note, T_TEXT, .flags = F_NULL | F_TOLD, .doc = "what is wrong with it"));
PAGE_VIEW(gpus_view, "GpuList", &gpu_view);

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
     NODE("cgroups", cgroups), NODE("enforces", enforces, .doc = "limits that it really enforces"));
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
                              .updated_at = g->at_us};
    if (g->n_holders > 0) {
        const struct snap_holder *h = &g->holders[0];
        struct gpu_holder_shown *shown = arena_alloc(a, sizeof(*shown));
        bool seen = who != NULL && principal_sees(who, h->text.owner_id);
        *shown = (struct gpu_holder_shown){.kind = h->kind,
                                           .id = h->text.id,
                                           .name = seen ? h->text.name : NULL,
                                           .owner = seen ? h->text.owner : NULL,
                                           .milli = h->milli};
        out->holder = shown;
    }
    struct gpu_process_shown *p = arena_alloc(a, (g->n_processes + 1) * sizeof(*p));
    for (size_t i = 0; i < g->n_processes; i++)
        p[i] = (struct gpu_process_shown){g->processes[i].pid, g->processes[i].memory_mib,
                                          g->processes[i].job, g->processes[i].name};
    out->processes = (struct list){p, g->n_processes};
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
            struct gpu_shown shown;
            gpu_show(&s->gpus[i], &q->who, q->arena, &shown);
            return request_answer(q, 200, &gpu_view, &shown);
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
    {"GET", "/v1/gpus/{id}", "gpu_show", "One GPU", ACCESS_USER,
     .flags = ROUTE_ETAG | ROUTE_NO_LIMIT, .params = &gpu_path_view, .memory = gpu_show_one,
     .answers = {{200, &gpu_view}}, .errors = "404", .tag = "fleet"},
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
