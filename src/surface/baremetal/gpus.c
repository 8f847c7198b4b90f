/* The documented fleet list of GPUs, as a view of the snapshot (contract 6.1, the reading part:
 * what changes GPU records comes with the metal room). */
#include "surface/surface.h"

#include "base/world.h"
#include "fleet/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const fleet_words[] = {"available", "allocated", "in_use", "error", NULL};
enum { FLEET_AVAILABLE, FLEET_ALLOCATED, FLEET_IN_USE, FLEET_ERROR };

static int word_of(const struct snap_gpu *g)
{
    switch ((enum gpu_holding)g->state) {
    case GPU_FREE:
        return FLEET_AVAILABLE;
    case GPU_LEASED:
    case GPU_FOREIGN:
        return FLEET_IN_USE;
    case GPU_FAILED:
    case GPU_HUNG:
    case GPU_OFFLINE:
        break;
    case GPU_SPLIT:
        return FLEET_ALLOCATED;
    }
    return FLEET_ERROR;
}

struct params {
    const char *id;
};
LOCAL_VIEW(params_view, struct params, "FleetGpuId", NULL, 0,
           FIELD(struct params, "id", id, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 64));

struct usage {
    double gpu_usage_percent, memory_usage_percent, compute_usage_percent, temperature,
        power_consumption;
};
#define PERCENT(S, m) FIELD(S, #m, m, T_REAL, .flags = F_NULL)
LOCAL_VIEW(usage_view, struct usage, "FleetGpuUsage", NULL, 0,
           PERCENT(struct usage, gpu_usage_percent), PERCENT(struct usage, memory_usage_percent),
           PERCENT(struct usage, compute_usage_percent), PERCENT(struct usage, temperature),
           PERCENT(struct usage, power_consumption));
struct holder {
    const char *kind, *id;
};
LOCAL_VIEW(holder_view, struct holder, "FleetGpuHolder", NULL, 0,
           FIELD(struct holder, "kind", kind, T_TEXT),
           FIELD(struct holder, "id", id, T_TEXT, .flags = F_NULL));
struct status {
    const char *gpu_id;
    int status;
    struct usage utilization;
    int64_t timestamp;
    struct holder *holder;
};
LOCAL_VIEW(status_view, struct status, "FleetGpuStatus", NULL, 0,
           FIELD(struct status, "gpu_id", gpu_id, T_TEXT),
           FIELD(struct status, "status", status, T_ENUM, .names = fleet_words),
           OBJECT(struct status, "utilization", utilization, &usage_view),
           FIELD(struct status, "timestamp", timestamp, T_TIME),
           OBJECT(struct status, "holder", holder, &holder_view, .flags = F_POINTER));

static double real_of(int64_t v)
{
    return v == INT_NULL ? __builtin_nan("") : (double)v;
}

static double memory_percent(const struct snap_gpu *g)
{
    if (g->memory_used_mib == INT_NULL || g->memory_total_mib <= 0)
        return __builtin_nan("");
    return (double)g->memory_used_mib * 100.0 / (double)g->memory_total_mib;
}

static const struct snap_gpu *gpu_by_id(const struct fleet_snapshot *s, const char *id)
{
    for (size_t i = 0; i < s->n_gpus; i++)
        if (strcmp(s->gpus[i].id, id) == 0)
            return &s->gpus[i];
    return NULL;
}

static int gpu_status(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    const struct snap_gpu *g = gpu_by_id(s, ((struct params *)q->params)->id);
    if (g == NULL)
        return err_set(e, ERR_NOT_FOUND, "GPU not found");
    struct holder h;
    struct status st = {.gpu_id = g->id,
                        .status = word_of(g),
                        .timestamp = g->at_us,
                        .utilization = {real_of(g->utilization), memory_percent(g),
                                        real_of(g->utilization), real_of(g->temperature_c),
                                        real_of(g->power_w)}};
    if (g->n_holders > 0) {
        bool may = principal_is_operator(&q->who) ||
                   principal_sees(&q->who, g->holders[0].text.owner_id);
        h = (struct holder){holder_kind_names[g->holders[0].kind],
                            may ? g->holders[0].text.id : NULL};
        st.holder = &h;
    }
    return request_answer(q, 200, &status_view, &st);
}

struct row {
    const char *id, *server_id, *model;
    int status;
    int64_t memory_gb;
    const char *serial_number, *driver_version, *cuda_version, *gnmi_device_id;
    int64_t created_at, updated_at, index;
    const char *uuid;
    bool simulated;
};
LOCAL_VIEW(row_view, struct row, "FleetGpu", NULL, 0, FIELD(struct row, "id", id, T_TEXT),
           FIELD(struct row, "server_id", server_id, T_TEXT),
           FIELD(struct row, "model", model, T_TEXT),
           FIELD(struct row, "status", status, T_ENUM, .names = fleet_words),
           FIELD(struct row, "memory_gb", memory_gb, T_INT),
           FIELD(struct row, "serial_number", serial_number, T_TEXT),
           FIELD(struct row, "driver_version", driver_version, T_TEXT),
           FIELD(struct row, "cuda_version", cuda_version, T_TEXT),
           FIELD(struct row, "gnmi_device_id", gnmi_device_id, T_TEXT),
           FIELD(struct row, "created_at", created_at, T_TIME),
           FIELD(struct row, "updated_at", updated_at, T_TIME),
           FIELD(struct row, "index", index, T_INT),
           FIELD(struct row, "uuid", uuid, T_TEXT, .flags = F_NULL),
           FIELD(struct row, "simulated", simulated, T_BOOL));
struct rows_answer {
    struct list data;
    int64_t total;
};
LOCAL_VIEW(rows_view, struct rows_answer, "FleetGpuList", NULL, 0,
           LIST(struct rows_answer, "data", data, &row_view),
           FIELD(struct rows_answer, "total", total, T_INT));

static struct row row_of(const struct snap_gpu *g)
{
    return (struct row){
        .id = g->id,
        .server_id = g->node_name,
        .model = g->name,
        .status = word_of(g),
        .memory_gb = g->memory_total_mib > 0 ? (g->memory_total_mib + 512) / 1024 : 0,
        .serial_number = g->live != NULL && g->live->serial != NULL ? g->live->serial : "",
        .driver_version = g->driver != NULL ? g->driver : "",
        .cuda_version = g->cuda != NULL ? g->cuda : "",
        .gnmi_device_id = "",
        .created_at = g->created_at,
        .updated_at = g->at_us,
        .index = g->index,
        .uuid = g->uuid,
        .simulated = g->simulated};
}

static int gpu_show(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    const struct snap_gpu *g = gpu_by_id(s, ((struct params *)q->params)->id);
    if (g == NULL)
        return err_set(e, ERR_NOT_FOUND, "GPU not found");
    struct row r = row_of(g);
    return request_answer(q, 200, &row_view, &r);
}

/* What a list may be sorted by; "-" before it turns the order round. */
static int by_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "");
}
static int by_number(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}
#define SORT_TEXT(name, m)                                                                         \
    static int sort_##name(const struct snap_gpu *a, const struct snap_gpu *b)                     \
    {                                                                                              \
        return by_text(a->m, b->m);                                                                \
    }
#define SORT_NUMBER(name, value)                                                                   \
    static int sort_##name(const struct snap_gpu *a, const struct snap_gpu *b)                     \
    {                                                                                              \
        return by_number(value(a), value(b));                                                      \
    }
static int64_t memory_of(const struct snap_gpu *g)
{
    return g->memory_total_mib;
}
static int64_t made_of(const struct snap_gpu *g)
{
    return g->created_at;
}
static int64_t read_of(const struct snap_gpu *g)
{
    return g->at_us;
}
SORT_TEXT(id, id)
SORT_TEXT(server_id, node_name)
SORT_TEXT(model, name)
SORT_NUMBER(status, word_of)
SORT_NUMBER(memory_gb, memory_of)
SORT_NUMBER(created_at, made_of)
SORT_NUMBER(updated_at, read_of)
static const char *const sort_words[] = {"id",         "-id",         "server_id",  "-server_id",
                                         "model",      "-model",      "status",     "-status",
                                         "memory_gb",  "-memory_gb",  "created_at", "-created_at",
                                         "updated_at", "-updated_at", NULL};
typedef int sort_fn(const struct snap_gpu *a, const struct snap_gpu *b);
static sort_fn *const sort_fns[] = {sort_id,        sort_server_id,  sort_model,     sort_status,
                                    sort_memory_gb, sort_created_at, sort_updated_at};
_Static_assert(ARRAY_LEN(sort_words) == 2 * ARRAY_LEN(sort_fns) + 1, "each word has a function");

static int sort_two(const void *a, const void *b, void *how)
{
    const struct snap_gpu *const *x = a, *const *y = b;
    int word = *(const int *)how;
    int order = sort_fns[word / 2](*x, *y);
    if (word % 2 != 0)
        order = -order;
    return order != 0 ? order : by_text((*x)->id, (*y)->id);
}

struct query {
    int status, sort;
    const char *server_id, *model;
    int64_t page, page_size;
};
LOCAL_VIEW(query_view, struct query, "FleetGpuQuery", NULL, 0,
           FIELD(struct query, "status", status, T_ENUM, .flags = F_NULL, .names = fleet_words),
           FIELD(struct query, "server_id", server_id, T_TEXT, .flags = F_NULL),
           FIELD(struct query, "model", model, T_TEXT, .flags = F_NULL),
           FIELD(struct query, "sort", sort, T_ENUM, .flags = F_NULL, .names = sort_words,
                 .doc = "a member to sort by; - before it: falling"),
           FIELD(struct query, "page", page, T_INT, .min = 1, .max = 1 << 30, .def = "1"),
           FIELD(struct query, "page_size", page_size, T_INT, .min = 1, .max = 1000, .def = "100"));

static bool on_server(const struct fleet_snapshot *s, const struct snap_gpu *g,
                      const char *server_id)
{
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->nodes[i].node.id == g->node_id)
            return node_is_named(&s->nodes[i].node, server_id);
    return false;
}

static int gpu_list(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    const struct query *in = q->query;
    struct row *rows = arena_alloc(q->arena, (size_t)in->page_size * sizeof(*rows));
    struct rows_answer a = {{rows, 0}, 0};
    int64_t skip = (in->page - 1) * in->page_size;
    const struct snap_gpu **all = arena_alloc(q->arena, (s->n_gpus + 1) * sizeof(*all));
    for (size_t i = 0; i < s->n_gpus; i++)
        all[i] = &s->gpus[i];
    int how = in->sort;
    if (how >= 0)
        qsort_r(all, s->n_gpus, sizeof(*all), sort_two, &how);
    for (size_t i = 0; i < s->n_gpus; i++) {
        const struct snap_gpu *g = all[i];
        if ((in->status >= 0 && word_of(g) != in->status) ||
            (in->server_id != NULL && !on_server(s, g, in->server_id)) ||
            (in->model != NULL && strcmp(in->model, g->name) != 0))
            continue;
        if (a.total >= skip && (int64_t)a.data.n < in->page_size)
            rows[a.data.n++] = row_of(g);
        a.total++;
    }
    char total[24];
    snprintf(total, sizeof(total), "%lld", (long long)a.total);
    request_header(q, "X-Total-Count", total);
    return request_answer(q, 200, &rows_view, &a);
}

#define FLEET_TAG "baremetal: GPUs"
static const struct route baremetal_gpu_routes[] = {
    {.method = "GET",
     .path = "/api/v1/gpus",
     .name = "baremetal_gpus",
     .summary = "List the GPUs of the fleet",
     .access = ACCESS_OPEN,
     .query = &query_view,
     .memory = gpu_list,
     .answers = {{200, &rows_view}},
     .tag = FLEET_TAG},
    {.method = "GET",
     .path = "/api/v1/gpus/{id}",
     .name = "baremetal_gpu",
     .summary = "Read a GPU record",
     .access = ACCESS_OPEN,
     .params = &params_view,
     .memory = gpu_show,
     .answers = {{200, &row_view}},
     .errors = "404",
     .tag = FLEET_TAG},
    {.method = "GET",
     .path = "/api/v1/gpus/{id}/status",
     .name = "baremetal_gpu_status",
     .summary = "Current state and utilisation of a GPU",
     .access = ACCESS_OPEN,
     .params = &params_view,
     .memory = gpu_status,
     .answers = {{200, &status_view}},
     .errors = "404",
     .tag = FLEET_TAG},
};
static const struct err_text baremetal_gpu_texts[] = {
    {"GPU not found", "没有该 GPU"},
    {0},
};
const struct module baremetal_gpu_module = {
    .name = "baremetal GPUs",
    .surface = &baremetal_surface,
    .routes = baremetal_gpu_routes,
    .n_routes = ARRAY_LEN(baremetal_gpu_routes),
    .texts = baremetal_gpu_texts,
};
