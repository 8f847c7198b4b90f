/* What belongs to no system: /, /health, /ready, /metrics and the API documents (contract 2). */
#include "surface/surface.h"

#include "surface/static_files.h"

#include "base/str.h"
#include "base/world.h"
#include "io/ws.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct common {
    struct static_files *files;
};

static struct common *common_of(const struct house *h)
{
    return house_state(h, &common_module);
}

/* ---- / ---- */

struct about {
    const char *message, *version, *docs, *redoc;
};
LOCAL_VIEW(about_view, struct about, "About", NULL, 0,
           FIELD(struct about, "message", message, T_TEXT),
           FIELD(struct about, "version", version, T_TEXT),
           FIELD(struct about, "docs", docs, T_TEXT), FIELD(struct about, "redoc", redoc, T_TEXT));

/* text/html before JSON in Accept: a browser's address bar. */
static bool prefers_html(const struct http_request *http)
{
    const char *accept = http_header(http, "Accept");
    if (accept == NULL)
        return false;
    const char *html = strstr(accept, "text/html"), *json = strstr(accept, "application/json");
    return html != NULL && (json == NULL || html < json);
}

static int about(struct request *q, struct tx *tx, struct err *e)
{
    request_header(q, "Vary", "Accept");
    if (prefers_html(q->http)) {
        static_files_page(common_of(q->house)->files, q->http, "/index.html");
        return REQUEST_TAKEN;
    }
    static const struct about a = {"Welcome to GPU Compute Platform API", DROVER_VERSION, "/docs",
                                   "/redoc"};
    return request_answer(q, 200, &about_view, &a);
}

/* ---- /health ---- */

struct health_query {
    bool verbose;
};
LOCAL_VIEW(health_query_view, struct health_query, "HealthQuery", NULL, 0,
           FIELD(struct health_query, "verbose", verbose, T_BOOL, .def = "false"));
struct health {
    const char *status, *version;
    int64_t timestamp, uptime_seconds;
};
LOCAL_VIEW(health_view, struct health, "Health", NULL, 0,
           FIELD(struct health, "status", status, T_TEXT),
           FIELD(struct health, "timestamp", timestamp, T_INT, .flags = F_SOMETIMES),
           FIELD(struct health, "version", version, T_TEXT, .flags = F_SOMETIMES),
           FIELD(struct health, "uptime_seconds", uptime_seconds, T_INT, .flags = F_SOMETIMES));

static int health(struct request *q, struct tx *tx, struct err *e)
{
    bool stopping = house_stopping(q->house);
    struct health h = {.status = stopping ? "unhealthy" : "healthy",
                       .timestamp = INT_NULL,
                       .uptime_seconds = INT_NULL};
    if (((struct health_query *)q->query)->verbose) {
        h.timestamp = now_us() / US_PER_S;
        h.version = DROVER_VERSION;
        h.uptime_seconds = (now_us() - house_started_at(q->house)) / US_PER_S;
    }
    return request_answer(q, stopping ? 503 : 200, &health_view, &h);
}

/* ---- /ready ---- */

static int touch_tx(struct tx *tx, void *ctx, struct err *e)
{
    int64_t one;
    return tx_int(tx, "SELECT 1", NO_ARGS, &one, NULL, e);
}

struct ready {
    const char *status;
    struct textmap checks;
};
LOCAL_VIEW(ready_view, struct ready, "Ready", NULL, 0,
           FIELD(struct ready, "status", status, T_TEXT),
           FIELD(struct ready, "checks", checks, T_TEXTMAP));

static bool good_check(const char *text)
{
    return strcmp(text, "ok") == 0 || strcmp(text, "disabled") == 0 ||
           strcmp(text, "simulated") == 0 || str_starts(text, "degraded: ");
}

static int ready(struct request *q, struct tx *tx, struct err *e)
{
    const struct module *const *mods = house_modules(q->house);
    const char *keys[64], *values[64];
    struct ready r = {"ready", {keys, values, 0}};
    struct err fault = {0};
    keys[0] = "database";
    values[0] = store_read(house_store(q->house), touch_tx, NULL, &fault) == OK
                    ? "ok"
                    : arena_strdup(q->arena, fault.text);
    keys[1] = "event_bus";
    values[1] = house_stopping(q->house) ? "stopping" : "ok";
    r.checks.n = 2;
    for (size_t i = 0; mods[i] != NULL && r.checks.n < ARRAY_LEN(keys); i++) {
        if (mods[i]->ready == NULL)
            continue;
        const char *text = mods[i]->ready(q->house, house_state(q->house, mods[i]), q->arena);
        keys[r.checks.n] = mods[i]->ready_name;
        values[r.checks.n++] = text != NULL ? text : "ok";
    }
    for (size_t i = 0; i < r.checks.n; i++)
        if (!good_check(values[i]))
            r.status = "not_ready";
    return request_answer(q, strcmp(r.status, "ready") == 0 ? 200 : 503, &ready_view, &r);
}

/* ---- /metrics ---- */

static void process_metrics(struct house *h, struct buf *out)
{
    struct store_stats st;
    store_stats(house_store(h), &st);
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    buf_printf(out,
               "# HELP gpuplat_build_info The running version.\n# TYPE gpuplat_build_info gauge\n"
               "gpuplat_build_info{version=\"%s\"} 1\n"
               "# HELP gpuplat_uptime_seconds Time since the start.\n"
               "# TYPE gpuplat_uptime_seconds gauge\ngpuplat_uptime_seconds %lld\n"
               "# HELP gpuplat_websocket_connections Open WebSockets.\n"
               "# TYPE gpuplat_websocket_connections gauge\ngpuplat_websocket_connections %zu\n",
               DROVER_VERSION, (long long)((now_us() - house_started_at(h)) / US_PER_S),
               ws_open_count());
    buf_printf(out,
               "# HELP gpuplat_db_commits_total Commits of the store.\n"
               "# TYPE gpuplat_db_commits_total counter\ngpuplat_db_commits_total %llu\n"
               "# HELP gpuplat_db_transactions_total Transactions that committed in them.\n"
               "# TYPE gpuplat_db_transactions_total counter\n"
               "gpuplat_db_transactions_total %llu\n"
               "# HELP gpuplat_db_queue_depth Transactions that wait.\n"
               "# TYPE gpuplat_db_queue_depth gauge\ngpuplat_db_queue_depth %llu\n"
               "# HELP process_cpu_seconds_total CPU time of the server.\n"
               "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.3f\n"
               "# HELP process_max_resident_memory_bytes Most memory ever resident.\n"
               "# TYPE process_max_resident_memory_bytes gauge\n"
               "process_max_resident_memory_bytes %lld\n",
               (unsigned long long)st.commits, (unsigned long long)st.transactions,
               (unsigned long long)st.queue_depth,
               (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
                   (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6,
               (long long)ru.ru_maxrss * 1024);
}

static int metrics(struct request *q, struct tx *tx, struct err *e)
{
    const struct module *const *mods = house_modules(q->house);
    AUTO(buf) struct buf out = {0};
    process_metrics(q->house, &out);
    router_metrics(q->router, &out);
    for (size_t i = 0; mods[i] != NULL; i++)
        if (mods[i]->metrics != NULL)
            mods[i]->metrics(q->house, house_state(q->house, mods[i]), &out);
    return request_answer_raw(q, 200, "text/plain; version=0.0.4", buf_str(&out), out.len);
}

/* ---- documents ---- */

static int openapi(struct request *q, struct tx *tx, struct err *e)
{
    size_t n;
    const char *text = router_openapi(q->router, &n);
    return request_answer_raw(q, 200, "application/json", text, n);
}

static int docs_page(struct request *q, struct tx *tx, struct err *e)
{
    bool redoc = strcmp(q->route->path, "/redoc") == 0;
    static_files_page(common_of(q->house)->files, q->http,
                      redoc ? "/docs/redoc.html" : "/docs/index.html");
    return REQUEST_TAKEN;
}

#define TEXT_SCHEMA "{\"type\":\"string\"}"
#define COMMON_TAG  "common"
static const struct route common_routes[] = {
    {.method = "GET",
     .path = "/",
     .name = "about",
     .summary = "API information object; the web UI when the client prefers text/html",
     .access = ACCESS_ANYONE,
     .memory = about,
     .answers = {{200, &about_view}},
     .tag = COMMON_TAG},
    {.method = "GET",
     .path = "/health",
     .name = "health",
     .summary = "Liveness",
     .access = ACCESS_ANYONE,
     .flags = ROUTE_NO_LIMIT,
     .query = &health_query_view,
     .memory = health,
     .answers = {{200, &health_view}, {503, &health_view}},
     .tag = COMMON_TAG},
    {.method = "GET",
     .path = "/ready",
     .name = "ready",
     .summary = "Readiness: database, event bus and background loops",
     .access = ACCESS_ANYONE,
     .flags = ROUTE_NO_TX | ROUTE_NO_LIMIT,
     .handle = ready,
     .answers = {{200, &ready_view}, {503, &ready_view}},
     .tag = COMMON_TAG},
    {.method = "GET",
     .path = "/metrics",
     .name = "metrics",
     .summary = "Prometheus text exposition of server, job, GPU and queue metrics",
     .access = ACCESS_OPEN,
     .flags = ROUTE_NO_TX | ROUTE_NO_LIMIT,
     .handle = metrics,
     .answers = {{200, .schema = TEXT_SCHEMA, .type = "text/plain; version=0.0.4"}},
     .tag = COMMON_TAG},
    {.method = "GET",
     .path = "/openapi.json",
     .name = "openapi",
     .summary = "OpenAPI 3.1 document covering every route of the server",
     .access = ACCESS_ANYONE,
     .flags = ROUTE_ETAG,
     .memory = openapi,
     .answers = {{200, .schema = "{\"type\":\"object\"}"}},
     .tag = COMMON_TAG},
    {.method = "GET",
     .path = "/docs",
     .name = "docs",
     .summary = "Interactive API documentation page",
     .access = ACCESS_ANYONE,
     .memory = docs_page,
     .answers = {{200, .schema = TEXT_SCHEMA, .type = "text/html"}},
     .tag = COMMON_TAG},
    {.method = "GET",
     .path = "/redoc",
     .name = "redoc",
     .summary = "Reference-style API documentation page",
     .access = ACCESS_ANYONE,
     .memory = docs_page,
     .answers = {{200, .schema = TEXT_SCHEMA, .type = "text/html"}},
     .tag = COMMON_TAG},
};

static int common_start(struct house *h, void **state, struct err *e)
{
    struct common *c = mem_alloc(sizeof(*c));
    *state = c;
    c->files = static_files_load(setting_text(h, "SHARE_DIR"));
    return OK;
}

static void common_stop(struct house *h, void *state)
{
    struct common *c = state;
    if (c == NULL)
        return;
    static_files_destroy(c->files);
    mem_free(c);
}

static bool serve_file(void *ctx, struct http_request *http)
{
    struct static_files *files = ctx;
    if (static_files_serve(files, http))
        return true;
    /* an address of the UI's own, such as /jobs/j-1: the page finds its way by itself */
    if (!prefers_html(http) || str_starts(http_path(http), "/api/") ||
        str_starts(http_path(http), "/v1/") || str_starts(http_path(http), "/auth/"))
        return false;
    static_files_page(files, http, "/index.html");
    return true;
}

void surface_attach(struct house *h, struct router *r)
{
    router_fallback(r, serve_file, common_of(h)->files);
}

static const struct setting common_settings[] = {
    {"SHARE_DIR", "DROVER_SHARE", SET_TEXT, NULL,
     .doc = "folder of the web UI and the API pages; default: share beside the program"},
};
const struct module common_module = {
    .name = "common",
    .surface = &platform_surface,
    .routes = common_routes,
    .n_routes = ARRAY_LEN(common_routes),
    .settings = common_settings,
    .n_settings = ARRAY_LEN(common_settings),
    .start = common_start,
    .stop = common_stop,
};
