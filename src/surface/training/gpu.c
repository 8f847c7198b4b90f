/* The documented GPU monitor and overview of one machine, as views of the fleet's snapshot
 * (contract 4.1 and 4.4). "This machine" is the server's own host, or the one of ?server_id=. */
#include "surface/surface.h"

#include "base/world.h"
#include "fleet/fleet.h"
#include "jobs/jobs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what a GPU looks like here (conflicts.md, section 3) ---- */

enum here { HERE_AVAILABLE, HERE_TRAINING, HERE_PREPROCESSING, HERE_UNKNOWN };
static const char *const here_words[] = {"available", "training", "preprocessing", "unknown", NULL};

static int gpu_here(const struct snap_gpu *g)
{
    if (g->state == GPU_FREE)
        return HERE_AVAILABLE;
    if (g->state != GPU_LEASED || g->n_holders == 0 || g->holders[0].kind != HOLDER_JOB)
        return HERE_UNKNOWN;
    const char *type = g->holders[0].text.task_type;
    return type != NULL && strcmp(type, "preprocessing") == 0 ? HERE_PREPROCESSING : HERE_TRAINING;
}

struct memory {
    int64_t total, used, free, utilization;
    double total_gb, free_gb;
};
LOCAL_VIEW(memory_view, struct memory, "GpuMemory", NULL, 0,
           FIELD(struct memory, "total", total, T_INT, .doc = "MB of 1,048,576 bytes"),
           FIELD(struct memory, "used", used, T_INT), FIELD(struct memory, "free", free, T_INT),
           FIELD(struct memory, "utilization", utilization, T_INT, .doc = "percent"),
           FIELD(struct memory, "total_gb", total_gb, T_REAL),
           FIELD(struct memory, "free_gb", free_gb, T_REAL));
struct temperature {
    int64_t gpu, memory;
};
LOCAL_VIEW(temperature_view, struct temperature, "GpuTemperature", NULL, 0,
           FIELD(struct temperature, "gpu", gpu, T_INT, .flags = F_NULL),
           FIELD(struct temperature, "memory", memory, T_INT, .flags = F_NULL));
struct current_task {
    const char *task_id, *task_type;
    double progress;
    int64_t estimated_remaining_time;
    int64_t start_time;
};
LOCAL_VIEW(current_task_view, struct current_task, "GpuTask", NULL, 0,
           FIELD(struct current_task, "task_id", task_id, T_TEXT, .flags = F_NULL),
           FIELD(struct current_task, "task_type", task_type, T_TEXT),
           FIELD(struct current_task, "progress", progress, T_REAL, .flags = F_NULL),
           FIELD(struct current_task, "estimated_remaining_time", estimated_remaining_time, T_INT,
                 .flags = F_NULL));
LOCAL_VIEW(detail_task_view, struct current_task, "GpuTaskDetail", NULL, 0,
           FIELD(struct current_task, "task_id", task_id, T_TEXT, .flags = F_NULL),
           FIELD(struct current_task, "task_type", task_type, T_TEXT),
           FIELD(struct current_task, "progress", progress, T_REAL, .flags = F_NULL),
           FIELD(struct current_task, "estimated_remaining_time", estimated_remaining_time, T_INT,
                 .flags = F_NULL),
           FIELD(struct current_task, "start_time", start_time, T_TIME, .flags = F_NULL));
struct usage {
    int64_t gpu, memory;
};
LOCAL_VIEW(usage_view, struct usage, "GpuUsage", NULL, 0, FIELD(struct usage, "gpu", gpu, T_INT),
           FIELD(struct usage, "memory", memory, T_INT));
struct power {
    int64_t current, limit;
    double usage_percent;
};
LOCAL_VIEW(power_view, struct power, "GpuPower", NULL, 0,
           FIELD(struct power, "current", current, T_INT, .flags = F_NULL),
           FIELD(struct power, "limit", limit, T_INT, .flags = F_NULL),
           FIELD(struct power, "usage_percent", usage_percent, T_REAL, .flags = F_NULL));
struct process {
    int64_t pid;
    const char *name;
    int64_t memory;
};
LOCAL_VIEW(process_view, struct process, "GpuProcess", NULL, 0,
           FIELD(struct process, "pid", pid, T_INT),
           FIELD(struct process, "name", name, T_TEXT, .flags = F_NULL),
           FIELD(struct process, "memory", memory, T_INT, .flags = F_NULL));

/* One GPU in every form of this file. */
struct gpu_seen {
    int64_t gpu_id;
    const char *name;
    struct memory memory;
    int64_t utilization_gpu;
    struct temperature temperature;
    int64_t power_usage, power_limit;
    double power_utilization;
    int status;
    struct current_task *current_task;
    const char *driver_version, *cuda_version, *uuid;
    struct usage usage;
    struct power power;
    bool is_available;
    struct list processes;
    int64_t timestamp;
    int64_t memory_total, memory_free, temperature_gpu;
    double memory_total_gb, memory_free_gb;
    struct texts recommended_for;
    bool simulated;
};
LOCAL_VIEW(gpu_view, struct gpu_seen, "LiveGpu", NULL, 0,
           FIELD(struct gpu_seen, "gpu_id", gpu_id, T_INT, .doc = "index on its server"),
           FIELD(struct gpu_seen, "name", name, T_TEXT),
           OBJECT(struct gpu_seen, "memory", memory, &memory_view),
           FIELD(struct gpu_seen, "utilization_gpu", utilization_gpu, T_INT),
           OBJECT(struct gpu_seen, "temperature", temperature, &temperature_view),
           FIELD(struct gpu_seen, "power_usage", power_usage, T_INT, .flags = F_NULL),
           FIELD(struct gpu_seen, "power_limit", power_limit, T_INT, .flags = F_NULL),
           FIELD(struct gpu_seen, "power_utilization", power_utilization, T_REAL, .flags = F_NULL),
           FIELD(struct gpu_seen, "status", status, T_ENUM, .names = here_words),
           OBJECT(struct gpu_seen, "current_task", current_task, &current_task_view,
                  .flags = F_POINTER),
           FIELD(struct gpu_seen, "driver_version", driver_version, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_seen, "cuda_version", cuda_version, T_TEXT, .flags = F_NULL));

struct summary {
    int64_t total_gpus, available_gpus, busy_gpus, total_memory, available_memory;
    double memory_utilization;
    int64_t timestamp, updated_at;
};
#define SUMMARY_FIELDS                                                                             \
    FIELD(struct summary, "total_gpus", total_gpus, T_INT),                                        \
        FIELD(struct summary, "available_gpus", available_gpus, T_INT),                            \
        FIELD(struct summary, "busy_gpus", busy_gpus, T_INT),                                      \
        FIELD(struct summary, "total_memory", total_memory, T_INT),                                \
        FIELD(struct summary, "available_memory", available_memory, T_INT),                        \
        FIELD(struct summary, "memory_utilization", memory_utilization, T_REAL)
LOCAL_VIEW(summary_view, struct summary, "GpuSummary", NULL, 0, SUMMARY_FIELDS);
LOCAL_VIEW(summary_alone_view, struct summary, "GpuSummaryAlone", NULL, 0, SUMMARY_FIELDS,
           FIELD(struct summary, "timestamp", timestamp, T_TIME),
           FIELD(struct summary, "updated_at", updated_at, T_TIME));

struct status {
    struct list gpus;
    struct summary summary;
    int64_t timestamp;
    bool simulated, stale;
};
#define MARKS(S)                                                                                   \
    FIELD(S, "simulated", simulated, T_BOOL, .flags = F_SOMETIMES, .doc = "true: made up"),        \
        FIELD(S, "stale", stale, T_BOOL, .flags = F_SOMETIMES,                                     \
              .doc = "true: the values are older than GPU_STATUS_CHECK_TIMEOUT")
LOCAL_VIEW(status_view, struct status, "GpuStatus", NULL, 0,
           LIST(struct status, "gpus", gpus, &gpu_view),
           OBJECT(struct status, "summary", summary, &summary_view),
           FIELD(struct status, "timestamp", timestamp, T_TIME), MARKS(struct status));

struct available {
    struct list available_gpus;
    int64_t total_available, timestamp;
    bool simulated, stale;
};
LOCAL_VIEW(available_gpu_view, struct gpu_seen, "AvailableGpu", NULL, 0,
           FIELD(struct gpu_seen, "gpu_id", gpu_id, T_INT),
           FIELD(struct gpu_seen, "name", name, T_TEXT),
           FIELD(struct gpu_seen, "memory_total", memory_total, T_INT),
           FIELD(struct gpu_seen, "memory_free", memory_free, T_INT),
           FIELD(struct gpu_seen, "memory_total_gb", memory_total_gb, T_REAL),
           FIELD(struct gpu_seen, "memory_free_gb", memory_free_gb, T_REAL),
           FIELD(struct gpu_seen, "status", status, T_ENUM, .names = here_words),
           FIELD(struct gpu_seen, "utilization_gpu", utilization_gpu, T_INT),
           FIELD(struct gpu_seen, "temperature_gpu", temperature_gpu, T_INT, .flags = F_NULL),
           FIELD(struct gpu_seen, "driver_version", driver_version, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_seen, "recommended_for", recommended_for, T_TEXTS,
                 .doc = "base models whose least memory fits the free memory"));
LOCAL_VIEW(available_view, struct available, "AvailableGpus", NULL, 0,
           LIST(struct available, "available_gpus", available_gpus, &available_gpu_view),
           FIELD(struct available, "total_available", total_available, T_INT),
           FIELD(struct available, "timestamp", timestamp, T_TIME), MARKS(struct available));

LOCAL_VIEW(detail_view, struct gpu_seen, "GpuDetail", NULL, 0,
           FIELD(struct gpu_seen, "gpu_id", gpu_id, T_INT),
           FIELD(struct gpu_seen, "name", name, T_TEXT),
           OBJECT(struct gpu_seen, "memory", memory, &memory_view),
           OBJECT(struct gpu_seen, "utilization", usage, &usage_view),
           OBJECT(struct gpu_seen, "temperature", temperature, &temperature_view),
           OBJECT(struct gpu_seen, "power", power, &power_view),
           FIELD(struct gpu_seen, "status", status, T_ENUM, .names = here_words),
           OBJECT(struct gpu_seen, "current_task", current_task, &detail_task_view,
                  .flags = F_POINTER),
           FIELD(struct gpu_seen, "driver_version", driver_version, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_seen, "cuda_version", cuda_version, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_seen, "is_available", is_available, T_BOOL),
           LIST(struct gpu_seen, "processes", processes, &process_view),
           FIELD(struct gpu_seen, "uuid", uuid, T_TEXT, .flags = F_NULL),
           FIELD(struct gpu_seen, "timestamp", timestamp, T_TIME),
           FIELD(struct gpu_seen, "simulated", simulated, T_BOOL, .flags = F_SOMETIMES));

/* ---- base models that a GPU's free memory is enough for (contract 4.5) ---- */

static const struct {
    const char *id;
    int64_t min_gb;
} base_models[] = {
    {"sdxl", 12},          {"flux", 12},
    {"ltx-video", 24},     {"hunyuan-video", 24},
    {"cosmos", 24},        {"lumina_2", 12},
    {"wan", 24},           {"chroma", 12},
    {"hidream", 12},       {"cosmos_predict2", 24},
    {"omnigen2", 12},      {"qwen_image", 12},
    {"hunyuan_image", 12}, {"auraflow", 12},
    {"z_image", 12},       {"hunyuan_video_15", 24},
    {"sd3", 12},
};
enum { TRAINING_LEAST_MB = 10000 };

/* ---- from the snapshot ---- */

static int64_t or_zero(int64_t v)
{
    return v == INT_NULL ? 0 : v;
}

static double gib(int64_t mib)
{
    return round((double)mib / 1024.0 * 100.0) / 100.0;
}

static struct gpu_seen see(struct request *q, const struct snap_gpu *g)
{
    int64_t total = or_zero(g->memory_total_mib), used = or_zero(g->memory_used_mib);
    int64_t left = total > used ? total - used : 0;
    struct gpu_seen s = {
        .gpu_id = g->index,
        .name = g->name,
        .utilization_gpu = or_zero(g->utilization),
        .memory = {total, used, left, total > 0 ? used * 100 / total : 0, gib(total), gib(left)},
        .temperature = {g->temperature_c, g->memory_temperature_c},
        .power_usage = g->power_w,
        .power_limit = g->power_limit_w,
        .power_utilization = NAN,
        .status = gpu_here(g),
        .driver_version = g->driver,
        .cuda_version = g->cuda,
        .uuid = g->uuid,
        .usage = {or_zero(g->utilization), or_zero(g->memory_utilization)},
        .timestamp = g->at_us,
        .memory_total = total,
        .memory_free = left,
        .memory_total_gb = gib(total),
        .memory_free_gb = gib(left),
        .temperature_gpu = g->temperature_c,
        .simulated = g->simulated};
    if (g->power_w != INT_NULL && g->power_limit_w != INT_NULL && g->power_limit_w > 0)
        s.power_utilization = round((double)g->power_w / (double)g->power_limit_w * 1000.0) / 10.0;
    s.power = (struct power){g->power_w, g->power_limit_w, s.power_utilization};
    s.is_available = s.status == HERE_AVAILABLE;
    if (g->n_holders > 0) {
        const struct holder_text *t = &g->holders[0].text;
        s.current_task = arena_alloc(q->arena, sizeof(*s.current_task));
        /* whose it is stays private: the id is told to those who may see the job */
        bool mine = principal_sees(&q->who, t->owner_id) || principal_is_operator(&q->who);
        *s.current_task = (struct current_task){.task_id = mine ? t->uuid : NULL,
                                                .task_type = t->task_type != NULL ? t->task_type
                                                                                  : "training",
                                                .progress = t->progress,
                                                .estimated_remaining_time = INT_NULL,
                                                .start_time = t->started_at};
    }
    struct process *ps = arena_alloc(q->arena, (g->n_processes + 1) * sizeof(*ps));
    for (size_t i = 0; i < g->n_processes; i++)
        ps[i] = (struct process){g->processes[i].pid, g->processes[i].name,
                                 g->processes[i].memory_mib};
    s.processes = (struct list){ps, g->n_processes};
    s.recommended_for.items = arena_alloc(q->arena, (ARRAY_LEN(base_models) + 1) * sizeof(char *));
    for (size_t i = 0; i < ARRAY_LEN(base_models); i++)
        if (left >= base_models[i].min_gb * 1024)
            s.recommended_for.items[s.recommended_for.n++] = base_models[i].id;
    return s;
}

/* The node that a request means by ?server_id=, else the server's own host. */
static int64_t node_meant(const struct fleet_snapshot *s, const char *server_id)
{
    for (size_t i = 0; i < s->n_nodes; i++) {
        const struct node *n = &s->nodes[i].node;
        if (server_id == NULL ? n->is_local : node_is_named(n, server_id))
            return n->id;
    }
    return 0;
}

/* ERR_NOT_FOUND: there is no such server. */
static int server_meant(const struct fleet_snapshot *s, const char *server_id, int64_t *node,
                        struct err *e)
{
    int64_t found = node_meant(s, server_id);
    if (found == 0 && server_id != NULL)
        return err_set(e, ERR_NOT_FOUND, "server %s not found", server_id);
    *node = found;
    return OK;
}

/* Answers from the snapshot, by whether it was fresh. */
static _Atomic uint64_t snapshot_hits, snapshot_stale;

static bool is_stale(struct request *q, const struct fleet_snapshot *s)
{
    int64_t limit = setting_int(q->house, "GPU_STATUS_CHECK_TIMEOUT") * US_PER_S;
    bool stale = s->n_gpus > 0 && now_us() - s->at_us > limit;
    (*(stale ? &snapshot_stale : &snapshot_hits))++;
    return stale;
}

static struct summary summarise(const struct fleet_snapshot *s, int64_t node)
{
    struct summary m = {.timestamp = now_us(), .updated_at = s->at_us};
    for (size_t i = 0; i < s->n_gpus; i++) {
        const struct snap_gpu *g = &s->gpus[i];
        if (g->node_id != node)
            continue;
        int64_t total = or_zero(g->memory_total_mib), used = or_zero(g->memory_used_mib);
        m.total_gpus++;
        m.total_memory += total;
        m.available_memory += total > used ? total - used : 0;
        if (gpu_here(g) == HERE_AVAILABLE)
            m.available_gpus++;
        else
            m.busy_gpus++;
    }
    if (m.total_memory > 0)
        m.memory_utilization = 100.0 - (double)m.available_memory / (double)m.total_memory * 100.0;
    return m;
}

struct server_query {
    const char *server_id;
};
#define SERVER_ID(S)                                                                               \
    FIELD(S, "server_id", server_id, T_TEXT, .flags = F_NULL,                                      \
          .doc = "another host of the fleet, by name or id; server-001: this machine")
LOCAL_VIEW(server_query_view, struct server_query, "ServerQuery", NULL, 0,
           SERVER_ID(struct server_query));

static int gpu_status(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    int64_t node;
    int rc = server_meant(s, ((struct server_query *)q->query)->server_id, &node, e);
    if (rc != OK)
        return rc;
    struct status st = {
        .summary = summarise(s, node), .timestamp = s->at_us, .stale = is_stale(q, s)};
    struct gpu_seen *rows = arena_alloc(q->arena, (s->n_gpus + 1) * sizeof(*rows));
    st.gpus.items = rows;
    for (size_t i = 0; i < s->n_gpus; i++) {
        if (s->gpus[i].node_id != node)
            continue;
        rows[st.gpus.n++] = see(q, &s->gpus[i]);
        st.simulated |= s->gpus[i].simulated;
    }
    q->snapshot_us = s->at_us;
    q->status = 200;
    return request_answer(q, 200, &status_view, &st);
}

static const char *const task_types[] = {"training", "preprocessing", NULL};
struct available_query {
    int64_t min_memory;
    int task_type;
    const char *server_id;
};
LOCAL_VIEW(available_query_view, struct available_query, "AvailableQuery", NULL, 0,
           FIELD(struct available_query, "min_memory", min_memory, T_INT, .min = 0, .max = 1 << 30,
                 .def = "0", .doc = "MB that must be free"),
           FIELD(struct available_query, "task_type", task_type, T_ENUM, .flags = F_NULL,
                 .names = task_types),
           SERVER_ID(struct available_query));

static int gpu_available(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    const struct available_query *in = q->query;
    int64_t node, least = in->min_memory;
    int rc = server_meant(s, in->server_id, &node, e);
    if (rc != OK)
        return rc;
    if (in->task_type == 0 && least < TRAINING_LEAST_MB)
        least = TRAINING_LEAST_MB;
    struct gpu_seen *rows = arena_alloc(q->arena, (s->n_gpus + 1) * sizeof(*rows));
    struct available a = {
        .available_gpus = {rows, 0}, .timestamp = s->at_us, .stale = is_stale(q, s)};
    for (size_t i = 0; i < s->n_gpus; i++) {
        if (s->gpus[i].node_id != node)
            continue;
        a.simulated |= s->gpus[i].simulated;
        struct gpu_seen one = see(q, &s->gpus[i]);
        if (one.is_available && one.memory_free >= least)
            rows[a.available_gpus.n++] = one;
    }
    a.total_available = (int64_t)a.available_gpus.n;
    q->snapshot_us = s->at_us;
    return request_answer(q, 200, &available_view, &a);
}

struct gpu_params {
    int64_t gpu_id;
};
LOCAL_VIEW(gpu_params_view, struct gpu_params, "GpuIndex", NULL, 0,
           FIELD(struct gpu_params, "gpu_id", gpu_id, T_INT, .flags = F_REQUIRED, .min = 0,
                 .max = 1 << 20, .doc = "index on this machine"));

static int gpu_detail(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    int64_t node, index = ((struct gpu_params *)q->params)->gpu_id;
    int rc = server_meant(s, ((struct server_query *)q->query)->server_id, &node, e);
    if (rc != OK)
        return rc;
    for (size_t i = 0; i < s->n_gpus; i++) {
        if (s->gpus[i].node_id != node || s->gpus[i].index != index)
            continue;
        struct gpu_seen one = see(q, &s->gpus[i]);
        q->snapshot_us = s->at_us;
        return request_answer(q, 200, &detail_view, &one);
    }
    return err_set(e, ERR_NOT_FOUND, "GPU %lld not found on this machine", (long long)index);
}

static int gpu_summary(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    int64_t node;
    int rc = server_meant(s, ((struct server_query *)q->query)->server_id, &node, e);
    if (rc != OK)
        return rc;
    struct summary m = summarise(s, node);
    m.timestamp = s->at_us;
    q->snapshot_us = s->at_us;
    return request_answer(q, 200, &summary_alone_view, &m);
}

/* ---- the machine as a whole ---- */

struct machine_facts {
    int64_t cpu_count;
    double cpu_usage;
    int64_t memory_total, memory_used, memory_available, disk_total, disk_used, disk_free;
};
LOCAL_VIEW(machine_view, struct machine_facts, "Machine", NULL, 0,
           FIELD(struct machine_facts, "cpu_count", cpu_count, T_INT),
           FIELD(struct machine_facts, "cpu_usage", cpu_usage, T_REAL, .flags = F_NULL),
           FIELD(struct machine_facts, "memory_total", memory_total, T_INT, .doc = "MB"),
           FIELD(struct machine_facts, "memory_used", memory_used, T_INT, .flags = F_NULL),
           FIELD(struct machine_facts, "memory_available", memory_available, T_INT,
                 .flags = F_NULL),
           FIELD(struct machine_facts, "disk_total", disk_total, T_INT, .flags = F_NULL),
           FIELD(struct machine_facts, "disk_used", disk_used, T_INT, .flags = F_NULL),
           FIELD(struct machine_facts, "disk_free", disk_free, T_INT, .flags = F_NULL));
struct gpu_totals {
    int64_t total, available, busy;
};
LOCAL_VIEW(gpu_totals_view, struct gpu_totals, "GpuTotals", NULL, 0,
           FIELD(struct gpu_totals, "total", total, T_INT),
           FIELD(struct gpu_totals, "available", available, T_INT),
           FIELD(struct gpu_totals, "busy", busy, T_INT));
struct task_totals {
    int64_t total, queued, running, completed, failed;
};
LOCAL_VIEW(task_totals_view, struct task_totals, "TaskTotals", NULL, 0,
           FIELD(struct task_totals, "total", total, T_INT),
           FIELD(struct task_totals, "queued", queued, T_INT),
           FIELD(struct task_totals, "running", running, T_INT),
           FIELD(struct task_totals, "completed", completed, T_INT),
           FIELD(struct task_totals, "failed", failed, T_INT));
struct overview {
    struct machine_facts system;
    struct gpu_totals gpus;
    struct task_totals tasks;
    int64_t uptime;
    const char *version;
};
LOCAL_VIEW(overview_view, struct overview, "SystemOverview", NULL, 0,
           OBJECT(struct overview, "system", system, &machine_view),
           OBJECT(struct overview, "gpus", gpus, &gpu_totals_view),
           OBJECT(struct overview, "tasks", tasks, &task_totals_view),
           FIELD(struct overview, "uptime", uptime, T_INT, .doc = "seconds"),
           FIELD(struct overview, "version", version, T_TEXT));

static int count_tasks(struct tx *tx, struct task_totals *t, struct err *e)
{
    struct rows *r = tx_query(tx,
                              "SELECT state, count(*) FROM jobs WHERE kind IN ('training',"
                              " 'preprocess') GROUP BY state",
                              NO_ARGS);
    while (rows_next(r)) {
        int s = names_find(job_state_names, row_text(r, 0));
        int64_t n = row_int(r, 1);
        t->total += n;
        t->queued += s == JOB_QUEUED || s == JOB_STARTING ? n : 0;
        t->running += s == JOB_RUNNING || s == JOB_UNKNOWN ? n : 0;
        t->completed += s == JOB_COMPLETED ? n : 0;
        t->failed += s == JOB_FAILED || s == JOB_TIMEOUT ? n : 0;
    }
    return rows_end(r, e);
}

static int64_t less(int64_t a, int64_t b)
{
    return a == INT_NULL || b == INT_NULL ? INT_NULL : a > b ? a - b : 0;
}

static int system_overview(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    int64_t node = node_meant(s, NULL);
    struct overview o = {.uptime = (now_us() - house_started_at(q->house)) / US_PER_S,
                         .version = DROVER_VERSION};
    struct summary m = summarise(s, node);
    o.gpus = (struct gpu_totals){m.total_gpus, m.available_gpus, m.busy_gpus};
    o.system = (struct machine_facts){.cpu_count = sysconf(_SC_NPROCESSORS_ONLN),
                                      .cpu_usage = NAN,
                                      .memory_used = INT_NULL,
                                      .memory_available = INT_NULL,
                                      .disk_total = INT_NULL,
                                      .disk_used = INT_NULL,
                                      .disk_free = INT_NULL,
                                      .memory_total = sysconf(_SC_PHYS_PAGES) / 256};
    for (size_t i = 0; i < s->n_nodes; i++) {
        const struct snap_node *n = &s->nodes[i];
        if (n->node.id != node)
            continue;
        o.system.cpu_usage = n->cpu_percent;
        o.system.memory_used = n->memory_used_mib;
        o.system.memory_available = less(o.system.memory_total, n->memory_used_mib);
        o.system.disk_total = n->disk_total_mib;
        o.system.disk_used = n->disk_used_mib;
        o.system.disk_free = less(n->disk_total_mib, n->disk_used_mib);
    }
    int rc = count_tasks(tx, &o.tasks, e);
    return rc == OK ? request_answer(q, 200, &overview_view, &o) : rc;
}

/* ---- routes ---- */

#define GPU_TAG "training: GPUs"
static const struct route training_gpu_routes[] = {
    {.method = "GET",
     .path = "/api/v1/gpu/status",
     .name = "training_gpu_status",
     .summary = "Live state of every GPU of this machine, with a summary",
     .access = ACCESS_OPEN,
     .flags = ROUTE_NO_LIMIT | ROUTE_ETAG,
     .query = &server_query_view,
     .memory = gpu_status,
     .answers = {{200, &status_view}},
     .errors = "404",
     .tag = GPU_TAG},
    {.method = "GET",
     .path = "/api/v1/gpu/available",
     .name = "training_gpu_available",
     .summary = "GPUs that are free, filtered by memory and task type",
     .access = ACCESS_OPEN,
     .flags = ROUTE_NO_LIMIT | ROUTE_ETAG,
     .query = &available_query_view,
     .memory = gpu_available,
     .answers = {{200, &available_view}},
     .errors = "404",
     .tag = GPU_TAG},
    {.method = "GET",
     .path = "/api/v1/gpu/{gpu_id}/details",
     .name = "training_gpu_details",
     .summary = "Everything known of one GPU",
     .access = ACCESS_OPEN,
     .flags = ROUTE_NO_LIMIT | ROUTE_ETAG,
     .params = &gpu_params_view,
     .query = &server_query_view,
     .memory = gpu_detail,
     .answers = {{200, &detail_view}},
     .errors = "404",
     .tag = GPU_TAG},
    {.method = "GET",
     .path = "/api/v1/gpu/{gpu_id}",
     .name = "training_gpu_show",
     .summary = "Same answer as /details",
     .access = ACCESS_OPEN,
     .flags = ROUTE_NO_LIMIT | ROUTE_ETAG,
     .params = &gpu_params_view,
     .query = &server_query_view,
     .memory = gpu_detail,
     .answers = {{200, &detail_view}},
     .errors = "404",
     .tag = GPU_TAG},
    {.method = "GET",
     .path = "/api/v1/gpu/summary",
     .name = "training_gpu_summary",
     .summary = "Totals over the GPUs of this machine",
     .access = ACCESS_OPEN,
     .flags = ROUTE_NO_LIMIT | ROUTE_ETAG,
     .query = &server_query_view,
     .memory = gpu_summary,
     .answers = {{200, &summary_alone_view}},
     .errors = "404",
     .tag = GPU_TAG},
    {.method = "GET",
     .path = "/api/v1/system/overview",
     .name = "training_system_overview",
     .summary = "CPU, memory, disk, GPU and task totals of this machine",
     .access = ACCESS_OPEN,
     .handle = system_overview,
     .answers = {{200, &overview_view}},
     .tag = GPU_TAG},
};

static void metrics(struct house *h, void *state, struct buf *out)
{
    buf_printf(out,
               "# HELP gpuplat_snapshot_requests_total Answers from the snapshot of GPUs.\n"
               "# TYPE gpuplat_snapshot_requests_total counter\n"
               "gpuplat_snapshot_requests_total{result=\"hit\"} %llu\n"
               "gpuplat_snapshot_requests_total{result=\"stale\"} %llu\n",
               (unsigned long long)snapshot_hits, (unsigned long long)snapshot_stale);
}

static const struct setting training_gpu_settings[] = {
    {"GPU_STATUS_CHECK_TIMEOUT", NULL, SET_INT, "10", 1, 3600,
     .doc = "seconds after which GPU values are marked stale"},
};
static const struct err_text training_gpu_texts[] = {
    {"GPU %lld not found on this machine", "本机没有 GPU %lld"},
    {"server %s not found", "没有服务器 %s"},
    {0},
};
const struct module training_gpu_module = {
    .name = "training GPUs",
    .surface = &training_surface,
    .routes = training_gpu_routes,
    .n_routes = ARRAY_LEN(training_gpu_routes),
    .settings = training_gpu_settings,
    .n_settings = ARRAY_LEN(training_gpu_settings),
    .texts = training_gpu_texts,
    .metrics = metrics,
};
