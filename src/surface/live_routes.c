/* The routes and the module of the live channel: the documented sockets, who is connected, and
 * how many. */
#include "surface/live_parts.h"
#include "surface/surface.h"

#include "base/json.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

struct live *live_of(const struct house *h)
{
    return house_state(h, &platform_live_module);
}

/* ---- one task's socket ---- */

struct task_path {
    const char *task_id;
};
LOCAL_VIEW(task_path_view, struct task_path, "LiveTaskId", NULL, 0,
           FIELD(struct task_path, "task_id", task_id, T_TEXT, .flags = F_REQUIRED, .max = 64,
                 .doc = "uuid of a task"));

/* The same in plain HTTP, where a word that is no uuid is a broken rule. */
LOCAL_VIEW(task_uuid_view, struct task_path, "LiveTaskUuid", NULL, 0,
           FIELD(struct task_path, "task_id", task_id, T_UUID, .flags = F_REQUIRED));

struct task_find {
    struct request *q;
    struct job job;
};

static int task_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct task_find *f = ctx;
    const struct task_path *in = f->q->params;
    if (job_find(tx, in->task_id, &f->q->who, f->q->arena, &f->job, e) == OK)
        return OK;
    return e->kind == ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND, "Task not found") : (int)e->kind;
}

int live_task_socket(struct request *q, struct tx *tx, struct err *e)
{
    struct task_find f = {.q = q};
    struct err none;
    if (q->refused != OK)
        return live_accept(q, false, 0, NULL);
    if (store_read(house_store(q->house), task_tx, &f, &none) != OK)
        return live_accept(q, false, CLOSE_NO_TASK, NULL);
    return live_accept(q, false, 0, &f.job);
}

/* ---- who is connected ---- */

struct connection {
    const char *task_id, *user_id;
    int64_t connected_at, last_ping;
};
LOCAL_VIEW(connection_view, struct connection, "TaskConnection", NULL, 0,
           FIELD(struct connection, "task_id", task_id, T_TEXT),
           FIELD(struct connection, "user_id", user_id, T_TEXT),
           FIELD(struct connection, "connected_at", connected_at, T_TIME),
           FIELD(struct connection, "last_ping", last_ping, T_TIME, .flags = F_NULL));
struct connections {
    const char *task_id;
    int64_t connection_count;
    bool has_active_connections;
    struct list connections;
    int64_t timestamp;
};
LOCAL_VIEW(connections_view, struct connections, "TaskConnections", NULL, 0,
           FIELD(struct connections, "task_id", task_id, T_TEXT),
           FIELD(struct connections, "connection_count", connection_count, T_INT),
           FIELD(struct connections, "has_active_connections", has_active_connections, T_BOOL),
           LIST(struct connections, "connections", connections, &connection_view),
           FIELD(struct connections, "timestamp", timestamp, T_TIME));

enum { CONNECTIONS_SHOWN = 1000 };

static int connections_show(struct request *q, struct tx *tx, struct err *e)
{
    struct task_find f = {.q = q};
    struct live *l = live_of(q->house);
    char key[40];
    int rc = task_tx(tx, &f, e);
    if (rc != OK)
        return rc;
    struct connection *rows = arena_alloc(q->arena, CONNECTIONS_SHOWN * sizeof(*rows));
    struct connections out = {.task_id = f.job.uuid, .timestamp = now_us()};
    snprintf(key, sizeof(key), "socket:%lld", (long long)f.job.id);
    size_t n = 0;
    pthread_mutex_lock(&l->lock);
    const struct topic *t = map_get(&l->topics, key);
    for (; t != NULL && n < t->members.n && n < CONNECTIONS_SHOWN; n++) {
        const struct socket *s = t->members.items[n];
        rows[n] = (struct connection){
            .task_id = f.job.uuid,
            .user_id = arena_strdup(q->arena, s->who.uuid[0] != '\0' ? s->who.uuid : "local"),
            .connected_at = s->connected_at,
            .last_ping = s->last_ping};
    }
    out.connection_count = t != NULL ? (int64_t)t->members.n : 0;
    pthread_mutex_unlock(&l->lock);
    out.has_active_connections = out.connection_count > 0;
    out.connections = (struct list){rows, n};
    return request_answer(q, 200, &connections_view, &out);
}

struct stats {
    int64_t total_connections, active_tasks;
    struct textmap tasks; /* task → how many, as text */
    int64_t timestamp;
};
struct stats_out {
    struct stats websocket_statistics;
    int64_t timestamp;
};

static void write_counts(struct json *j, const void *obj)
{
    const struct stats *s = obj;
    json_open(j, '{');
    for (size_t i = 0; i < s->tasks.n; i++) {
        json_key(j, s->tasks.keys[i]);
        json_raw(j, s->tasks.values[i]);
    }
    json_close(j, '}');
}
LOCAL_VIEW(stats_view, struct stats, "WebsocketStatistics", NULL, 0,
           FIELD(struct stats, "total_connections", total_connections, T_INT),
           FIELD(struct stats, "active_tasks", active_tasks, T_INT),
           COMPUTED("task_connection_counts", write_counts,
                    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}"),
           FIELD(struct stats, "timestamp", timestamp, T_TIME));
LOCAL_VIEW(stats_out_view, struct stats_out, "WebsocketStats", NULL, 0,
           OBJECT(struct stats_out, "websocket_statistics", websocket_statistics, &stats_view),
           FIELD(struct stats_out, "timestamp", timestamp, T_TIME));

static int stats_show(struct request *q, struct tx *tx, struct err *e)
{
    struct live *l = live_of(q->house);
    struct stats_out out = {.timestamp = now_us()};
    struct stats *s = &out.websocket_statistics;
    size_t at = 0;
    const char *key;
    void *v;
    s->timestamp = out.timestamp;
    pthread_mutex_lock(&l->lock);
    s->total_connections = (int64_t)l->n_sockets;
    s->tasks.keys = arena_alloc(q->arena, (l->topics.n + 1) * sizeof(char *));
    s->tasks.values = arena_alloc(q->arena, (l->topics.n + 1) * sizeof(char *));
    while (map_next(&l->topics, &at, &key, &v)) {
        const struct topic *t = v;
        if (strncmp(key, "socket:", 7) != 0)
            continue;
        const struct socket *first = t->members.items[0];
        s->active_tasks++;
        if (!principal_sees(&q->who, first->task_owner))
            continue;
        s->tasks.keys[s->tasks.n] = arena_strdup(q->arena, first->task_id);
        s->tasks.values[s->tasks.n++] = arena_printf(q->arena, "%zu", t->members.n);
    }
    pthread_mutex_unlock(&l->lock);
    return request_answer(q, 200, &stats_out_view, &out);
}

/* ---- the module ---- */

#define SOCKET_FLAGS (ROUTE_LIVE | ROUTE_NO_TX | ROUTE_STREAM)
static const struct route routes[] = {
    {"WS", "/api/gpu/tasks/{task_id}/ws", "task_socket",
     "Live status, progress and log of one task", ACCESS_OWNER, .flags = SOCKET_FLAGS,
     .params = &task_path_view, .handle = live_task_socket, .tag = "live"},
    {"WS", "/api/gpu/ws", "live_socket", "Live channel; topics are chosen by subscribe messages",
     ACCESS_USER, .flags = SOCKET_FLAGS, .handle = live_documented_socket, .tag = "live"},
    {"WS", "/ws", "live_socket_short", "The same live channel", ACCESS_USER, .flags = SOCKET_FLAGS,
     .handle = live_documented_socket, .tag = "live"},
    {"WS", "/api/v1/ws", "live_socket_v1", "The same live channel", ACCESS_USER,
     .flags = SOCKET_FLAGS, .handle = live_documented_socket, .tag = "live"},
    {"GET", "/api/gpu/tasks/{task_id}/connections", "task_connections",
     "Live subscribers of a task", ACCESS_OWNER, .params = &task_uuid_view,
     .handle = connections_show, .answers = {{200, &connections_view}}, .errors = "404",
     .tag = "live"},
    {"GET", "/api/gpu/websocket/stats", "websocket_stats", "How many are connected", ACCESS_USER,
     .memory = stats_show, .answers = {{200, &stats_out_view}}, .tag = "live"},
};

static void tick(struct house *h, void *state)
{
    struct live *l = state;
    live_notes_retry(l);
    tails_tick(l);
    live_fleet_tick(l);
}

static int start(struct house *h, void **state, struct err *e)
{
    struct live *l = mem_alloc(sizeof(*l));
    l->house = h;
    l->fleet = fleet_of(h);
    l->logs = jobs_logs(jobs_of(h));
    l->per_user_max = setting_int(h, "LIVE_CONNECTIONS_PER_USER");
    l->last_note = &l->first_note;
    pthread_mutex_init(&l->lock, NULL);
    *state = l;
    return OK;
}

/* The loop of sockets has ended: no socket, topic or tail is left. */
static void stop(struct house *h, void *state)
{
    struct live *l = state;
    if (l == NULL)
        return;
    while (l->first_note != NULL) {
        struct note *n = l->first_note;
        l->first_note = n->next;
        mem_free(n->reason);
        mem_free(n);
    }
    live_fleet_fini(l);
    map_fini(&l->topics);
    map_fini(&l->tails);
    map_fini(&l->users);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

static void metrics(struct house *h, void *state, struct buf *out)
{
    struct live *l = state;
    pthread_mutex_lock(&l->lock);
    size_t n = l->n_sockets, topics = l->topics.n;
    pthread_mutex_unlock(&l->lock);
    buf_printf(out,
               "# HELP gpuplat_websocket_connections Open sockets of the live channel.\n"
               "# TYPE gpuplat_websocket_connections gauge\n"
               "gpuplat_websocket_connections %zu\n"
               "# HELP gpuplat_websocket_topics Topics that someone follows.\n"
               "# TYPE gpuplat_websocket_topics gauge\ngpuplat_websocket_topics %zu\n"
               "# HELP gpuplat_websocket_messages_total Topic messages that were sent.\n"
               "# TYPE gpuplat_websocket_messages_total counter\n"
               "gpuplat_websocket_messages_total %llu\n",
               n, topics, (unsigned long long)atomic_load(&l->sent));
}

static const struct setting settings[] = {
    {"LIVE_CONNECTIONS_PER_USER", NULL, SET_INT, "200", 1, 1000000,
     .doc = "open WebSockets of one user"},
};
static const struct subscription subscriptions[] = {
    {"job.", live_on_job},
    {"", live_on_any},
};
static const struct duty duties[] = {
    {.name = "the live channel", .every_ms = 500, .fn = tick},
};
static const struct err_text texts[] = {
    {"Task not found", "没有此任务"},
    {0},
};

const struct module platform_live_module = {
    .name = "live",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &platform_surface,
    .settings = settings,
    .n_settings = ARRAY_LEN(settings),
    .subscriptions = subscriptions,
    .n_subscriptions = ARRAY_LEN(subscriptions),
    .duties = duties,
    .n_duties = ARRAY_LEN(duties),
    .texts = texts,
    .metrics = metrics,
    .start = start,
    .stop = stop,
};
