/* The native routes about the whole: version, overview, events. */
#include "surface/live.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

/* ---- version ---- */

struct version {
    const char *version, *api;
    int64_t started_at;
    bool demo;
};
LOCAL_VIEW(version_view, struct version, "Version", NULL, 0,
           FIELD(struct version, "version", version, T_TEXT),
           FIELD(struct version, "api", api, T_TEXT),
           FIELD(struct version, "started_at", started_at, T_TIME),
           FIELD(struct version, "demo", demo, T_BOOL,
                 .doc = "example accounts and simulated hardware"));

static int version_show(struct request *q, struct tx *tx, struct err *e)
{
    struct version v = {.version = DROVER_VERSION,
                        .api = "v1",
                        .started_at = house_started_at(q->house),
                        .demo = house_demo(q->house)};
    return request_answer(q, 200, &version_view, &v);
}

/* ---- overview ---- */

struct overview_jobs {
    int64_t queued, starting, running, unknown, completed_24h, failed_24h;
};
#define COUNT(S, m) FIELD(S, #m, m, T_INT)
LOCAL_VIEW(overview_jobs_view, struct overview_jobs, "OverviewJobs", NULL, 0,
           COUNT(struct overview_jobs, queued), COUNT(struct overview_jobs, starting),
           COUNT(struct overview_jobs, running), COUNT(struct overview_jobs, unknown),
           COUNT(struct overview_jobs, completed_24h), COUNT(struct overview_jobs, failed_24h));
struct overview_gpus {
    int64_t total, available, leased, foreign, error;
};
LOCAL_VIEW(overview_gpus_view, struct overview_gpus, "OverviewGpus", NULL, 0,
           COUNT(struct overview_gpus, total), COUNT(struct overview_gpus, available),
           COUNT(struct overview_gpus, leased), COUNT(struct overview_gpus, foreign),
           FIELD(struct overview_gpus, "error", error, T_INT,
                 .doc = "failed, hung or out of reach"));
struct overview_nodes {
    int64_t total, online;
};
LOCAL_VIEW(overview_nodes_view, struct overview_nodes, "OverviewNodes", NULL, 0,
           COUNT(struct overview_nodes, total), COUNT(struct overview_nodes, online));
struct problem {
    const char *text, *link;
};
LOCAL_VIEW(problem_view, struct problem, "OverviewProblem", NULL, 0,
           FIELD(struct problem, "text", text, T_TEXT, .doc = "one sentence"),
           FIELD(struct problem, "link", link, T_TEXT, .flags = F_NULL,
                 .doc = "the page that shows it"));
enum { WAITING_MAX = 5, PROBLEMS_MAX = 20 };
struct overview {
    const char *version;
    bool demo, simulated;
    int64_t uptime_s;
    struct overview_jobs jobs;
    struct overview_gpus gpus;
    struct overview_nodes nodes;
    struct list waiting, problems;
};
LOCAL_VIEW(overview_view, struct overview, "Overview", NULL, 0,
           FIELD(struct overview, "version", version, T_TEXT),
           FIELD(struct overview, "demo", demo, T_BOOL),
           FIELD(struct overview, "simulated", simulated, T_BOOL, .doc = "some GPU is"),
           FIELD(struct overview, "uptime_s", uptime_s, T_INT),
           OBJECT(struct overview, "jobs", jobs, &overview_jobs_view),
           OBJECT(struct overview, "gpus", gpus, &overview_gpus_view),
           OBJECT(struct overview, "nodes", nodes, &overview_nodes_view),
           LIST(struct overview, "waiting", waiting, &job_view),
           LIST(struct overview, "problems", problems, &problem_view));

static const char *sentence(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static const char *sentence(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    struct err e;
    va_start(ap, fmt);
    err_setv(&e, ERR_INTERNAL, fmt, ap);
    va_end(ap);
    return arena_strdup(a, e.text);
}

static void count_fleet(const struct fleet_snapshot *s, struct arena *a, struct overview *o)
{
    struct problem *p = o->problems.items;
    o->simulated = s->simulated;
    for (size_t i = 0; i < s->n_nodes; i++) {
        const struct node *n = &s->nodes[i].node;
        o->nodes.total++;
        o->nodes.online += n->state == NODE_ONLINE;
        if (n->state != NODE_ONLINE && o->problems.n < PROBLEMS_MAX)
            p[o->problems.n++] = (struct problem){sentence(a, "Node %s does not answer.", n->name),
                                                  "/gpus?state=offline"};
    }
    for (size_t i = 0; i < s->n_gpus; i++) {
        const struct snap_gpu *g = &s->gpus[i];
        bool failed = g->state == GPU_FAILED || g->state == GPU_HUNG;
        o->gpus.total++;
        o->gpus.available += g->state == GPU_FREE;
        o->gpus.leased += g->state == GPU_LEASED;
        o->gpus.foreign += g->state == GPU_FOREIGN;
        o->gpus.error += failed || g->state == GPU_OFFLINE;
        if (o->problems.n == PROBLEMS_MAX)
            continue;
        if (failed)
            p[o->problems.n++] = (struct problem){
                sentence(a, "%s on %s is in state %s: %s", g->id, g->node_name,
                         gpu_holding_names[g->state], g->note != NULL ? g->note : "-"),
                arena_printf(a, "/gpus?state=%s", gpu_holding_names[g->state])};
        else if (g->state == GPU_FOREIGN && g->note != NULL)
            p[o->problems.n++] = (struct problem){
                sentence(a, "%s on %s is used by others: %s", g->id, g->node_name, g->note),
                "/gpus?state=foreign"};
        else if (g->state == GPU_FOREIGN)
            p[o->problems.n++] = (struct problem){
                sentence(a, "%s on %s is used by a process that Drover did not start.", g->id,
                         g->node_name),
                "/gpus?state=foreign"};
    }
}

static int overview_show(struct request *q, struct tx *tx, struct err *e)
{
    struct job_counts c;
    struct list rows;
    struct problem problems[PROBLEMS_MAX + 1];
    struct overview o = {.version = DROVER_VERSION,
                         .demo = house_demo(q->house),
                         .uptime_s = (now_us() - house_started_at(q->house)) / US_PER_S,
                         .problems = {problems, 0}};
    int rc = job_counts(tx, &c, e);
    if (rc != OK)
        return rc;
    o.jobs = (struct overview_jobs){.queued = c.by_state[JOB_QUEUED],
                                    .starting = c.by_state[JOB_STARTING],
                                    .running = c.by_state[JOB_RUNNING],
                                    .unknown = c.by_state[JOB_UNKNOWN],
                                    .completed_24h = c.completed_24h,
                                    .failed_24h = c.failed_24h};
    struct job_filter f = {.who = &q->who,
                           .everyone = principal_is_admin(&q->who),
                           .states = 1u << JOB_QUEUED,
                           .limit = WAITING_MAX};
    if ((rc = job_list(tx, &f, q->arena, &rows, e)) != OK ||
        (rc = jobs_show(tx, &rows, q->arena, &o.waiting, e)) != OK)
        return rc;
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    count_fleet(s, q->arena, &o);
    struct disk_room room;
    if (logs_room(jobs_logs(jobs_of(q->house)), &room) && room.free < room.floor &&
        o.problems.n < PROBLEMS_MAX)
        problems[o.problems.n++] = (struct problem){
            sentence(q->arena,
                     "The disk is almost full (%lld MiB free): what jobs print is dropped.",
                     (long long)(room.free >> 20)),
            NULL};
    if (c.by_state[JOB_UNKNOWN] > 0 && o.problems.n < PROBLEMS_MAX)
        problems[o.problems.n++] = (struct problem){
            sentence(q->arena, "%lld jobs are on nodes that do not answer.",
                     (long long)c.by_state[JOB_UNKNOWN]),
            "/jobs?state=unknown"};
    return request_answer(q, 200, &overview_view, &o);
}

/* ---- events ---- */

LOCAL_VIEW(events_query_view, struct events_query, "EventsQuery", NULL, 0,
           FIELD(struct events_query, "source_type", source_type, T_TEXT, .flags = F_NULL,
                 .max = 40, .doc = "job, node, gpu, user, …"),
           FIELD(struct events_query, "source_id", source_id, T_TEXT, .flags = F_NULL, .max = 64,
                 .doc = "such as j-17"),
           FIELD(struct events_query, "after", after, T_TEXT, .flags = F_NULL, .max = 43,
                 .doc = "id of an event: those that followed it; else the newest"),
           FIELD(struct events_query, "limit", limit, T_INT, .min = 1, .max = 1000, .def = "50"));

static int events_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct events_query *in = q->query;
    struct event_filter f = {.newest = in->after == NULL,
                             .source_type = in->source_type,
                             .source_id = in->source_id,
                             .owner = principal_is_admin(&q->who) ? -1 : q->who.user_id,
                             .fleet_too = principal_is_operator(&q->who),
                             .limit = in->limit};
    return native_events(q, tx, &f, in->after, e);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"GET", "/v1/version", "version_show", "Which program answers", ACCESS_ANYONE,
     .memory = version_show, .answers = {{200, &version_view}}, .tag = "system"},
    {"GET", "/v1/overview", "overview_show", "What is wrong, what is idle, what is waiting",
     ACCESS_USER, .handle = overview_show, .answers = {{200, &overview_view}}, .tag = "system"},
    {"GET", "/v1/events", "events_list",
     "What happened, oldest first: one's own; for operators the fleet's too; for "
     "administrators all",
     ACCESS_USER, .query = &events_query_view, .handle = events_list,
     .answers = {{200, &events_view}}, .errors = "400", .tag = "system"},
    {"WS", "/v1/ws", "live", "Live channel: jobs, job:j-17, log:j-17, gpu, nodes, events",
     ACCESS_USER, .flags = ROUTE_LIVE | ROUTE_NO_TX | ROUTE_STREAM, .handle = live_native_socket,
     .tag = "system"},
};

static const struct err_text texts[] = {
    {"Node %s does not answer.", "节点 %s 没有响应。"},
    {"%s on %s is in state %s: %s", "%s（节点 %s）处于 %s 状态：%s"},
    {"%s on %s is used by others: %s", "%s（节点 %s）被其他程序占用：%s"},
    {"%s on %s is used by a process that Drover did not start.",
     "%s（节点 %s）被并非由 Drover 启动的进程占用。"},
    {"The disk is almost full (%lld MiB free): what jobs print is dropped.",
     "磁盘快满了（剩余 %lld MiB）：任务的输出会被丢弃。"},
    {"%lld jobs are on nodes that do not answer.", "有 %lld 个任务所在的节点没有响应。"},
    {0},
};

const struct module native_system_module = {
    .name = "native-system",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .texts = texts,
};
