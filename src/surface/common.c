/* What all surfaces share: the front door, health, readiness, metrics, the API's description and
 * its pages, and the files of the web interface. */
#include "surface/assets.h"
#include "surface/surface.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "core/event.h"
#include "jobs/jobs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct common {
    struct assets *assets;
    pthread_mutex_t lock; /* the description is made at its first use */
};

static struct common *common_of(const struct house *h)
{
    return house_state(h, &common_module);
}

/* ---- pages ---- */

static const char no_web[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Drover</title>\n"
    "<h1>Drover is running</h1>\n"
    "<p>Its web interface is not built yet. In the source folder:</p>\n<pre>make build</pre>\n"
    "<p>Everything works without it: <code>drover --help</code>, "
    "<a href=\"/docs\">the API's pages</a>, <a href=\"/openapi.json\">its description</a>.</p>\n"
    "<p lang=\"zh\">Drover 正在运行，网页界面尚未构建。在源码目录中执行 <code>make "
    "web</code>。</p>\n"
    "</html>\n";
static const char no_docs[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Drover API</title>\n"
    "<p>These pages are not built yet. In the source folder:</p>\n<pre>make build</pre>\n"
    "<p>The description itself: <a href=\"/openapi.json\">/openapi.json</a></p>\n</html>\n";

static int answer_page(struct request *q, const char *path, const char *otherwise)
{
    struct http_header_pair headers[HTTP_HEADERS_MAX];
    const struct asset *file = asset_find(common_of(q->house)->assets, path);
    size_t n = asset_page_headers(headers);
    for (size_t i = 0; i < n; i++)
        if (strcmp(headers[i].name, "X-Content-Type-Options") != 0) /* every answer has it */
            request_header(q, headers[i].name, headers[i].value);
    request_header(q, "Cache-Control", "no-cache");
    return request_answer_raw(q, 200, "text/html; charset=utf-8",
                              file != NULL ? file->bytes : otherwise,
                              file != NULL ? file->n : strlen(otherwise));
}

struct root {
    const char *message, *version, *docs, *redoc;
};
LOCAL_VIEW(root_view, struct root, "Root", NULL, 0, FIELD(struct root, "message", message, T_TEXT),
           FIELD(struct root, "version", version, T_TEXT), FIELD(struct root, "docs", docs, T_TEXT),
           FIELD(struct root, "redoc", redoc, T_TEXT));

static int root_show(struct request *q, struct tx *tx, struct err *e)
{
    request_header(q, "Vary", "Accept");
    if (accept_prefers_html(http_header(q->http, "Accept")))
        return answer_page(q, "/index.html", no_web);
    struct root r = {"Welcome to GPU Compute Platform API", DROVER_VERSION, "/docs", "/redoc"};
    return request_answer(q, 200, &root_view, &r);
}

static int docs_show(struct request *q, struct tx *tx, struct err *e)
{
    return answer_page(q, "/docs/index.html", no_docs);
}

static int redoc_show(struct request *q, struct tx *tx, struct err *e)
{
    return answer_page(q, "/docs/redoc.html", no_docs);
}

static int openapi_show(struct request *q, struct tx *tx, struct err *e)
{
    struct common *c = common_of(q->house);
    size_t n;
    pthread_mutex_lock(&c->lock);
    const char *text = router_openapi(q->router, &n);
    pthread_mutex_unlock(&c->lock);
    return request_answer_raw(q, 200, "application/json", text, n);
}

/* ---- health ---- */

struct health_query {
    const char *verbose;
};
LOCAL_VIEW(health_query_view, struct health_query, "HealthQuery", NULL, 0,
           FIELD(struct health_query, "verbose", verbose, T_TEXT, .flags = F_NULL,
                 .doc = "1: tell more"));
struct health {
    const char *status;
    int64_t timestamp;
    const char *version;
    int64_t uptime_seconds;
};
LOCAL_VIEW(health_view, struct health, "Health", NULL, 0,
           FIELD(struct health, "status", status, T_TEXT, .doc = "healthy or unhealthy"),
           FIELD(struct health, "timestamp", timestamp, T_INT, .flags = F_SOMETIMES),
           FIELD(struct health, "version", version, T_TEXT, .flags = F_SOMETIMES),
           FIELD(struct health, "uptime_seconds", uptime_seconds, T_INT, .flags = F_SOMETIMES));

static int health_show(struct request *q, struct tx *tx, struct err *e)
{
    const struct health_query *in = q->query;
    struct health h = {.status = house_stopping(q->house) ? "unhealthy" : "healthy",
                       .timestamp = INT_NULL,
                       .uptime_seconds = INT_NULL};
    if (in->verbose != NULL && *in->verbose != '\0' && strcmp(in->verbose, "0") != 0 &&
        strcmp(in->verbose, "false") != 0) {
        h.timestamp = now_us() / US_PER_S;
        h.version = DROVER_VERSION;
        h.uptime_seconds = (now_us() - house_started_at(q->house)) / US_PER_S;
    }
    return request_answer(q, house_stopping(q->house) ? 503 : 200, &health_view, &h);
}

/* ---- ready ---- */

struct ready_check {
    const char *name, *text;
};
struct ready {
    const char *status;
    struct ready_check checks[32];
    size_t n;
};

static void write_checks(struct json *j, const void *obj)
{
    const struct ready *r = obj;
    json_open(j, '{');
    for (size_t i = 0; i < r->n; i++)
        json_ktext(j, r->checks[i].name, r->checks[i].text);
    json_close(j, '}');
}
LOCAL_VIEW(ready_view, struct ready, "Ready", NULL, 0,
           FIELD(struct ready, "status", status, T_TEXT, .doc = "ready or not_ready"),
           COMPUTED("checks", write_checks,
                    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}"));

static int database_tx(struct tx *tx, void *ctx, struct err *e)
{
    int64_t one;
    return tx_int(tx, "SELECT 1", NO_ARGS, &one, NULL, e);
}

static int bus_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct event_pos end;
    return event_tail(tx, &end, e);
}

static const char *try_read(struct request *q, tx_fn *fn)
{
    struct err e = {0};
    if (store_read(house_store(q->house), fn, NULL, &e) == OK)
        return "ok";
    return arena_strdup(q->arena, e.text);
}

/* Still ready when logs have stopped: that is what the floor is for. */
static const char *disk_text(struct request *q)
{
    struct disk_room room;
    if (!logs_room(jobs_logs(jobs_of(q->house)), &room) || room.free >= room.floor)
        return "ok";
    return arena_printf(q->arena,
                        "degraded: logs have stopped, %llu MiB of the disk are free and %llu MiB "
                        "are kept for the database (DISK_FLOOR_MIB)",
                        (unsigned long long)room.free >> 20, (unsigned long long)room.floor >> 20);
}

static bool check_passes(const char *text)
{
    return strcmp(text, "ok") == 0 || strcmp(text, "simulated") == 0 ||
           strcmp(text, "disabled") == 0 || str_starts(text, "degraded");
}

/* The documented checks come first, in the documented order (contract 2). */
static const char *const first[] = {"scheduler", "gpu_monitor"};

static size_t ready_rank(const char *name)
{
    size_t k = 0;
    while (k < ARRAY_LEN(first) && strcmp(first[k], name) != 0)
        k++;
    return k;
}

static struct ready_check ready_ask(struct request *q, const struct module *m)
{
    const char *text = m->ready(q->house, house_state(q->house, m), q->arena);
    return (struct ready_check){m->ready_name, text != NULL ? text : "ok"};
}

static int ready_show(struct request *q, struct tx *tx, struct err *e)
{
    struct ready r = {.status = "ready"};
    const struct module *const *mods = house_modules(q->house);
    r.checks[r.n++] = (struct ready_check){"database", try_read(q, database_tx)};
    r.checks[r.n++] = (struct ready_check){"event_bus", try_read(q, bus_tx)};
    for (size_t k = 0; k <= ARRAY_LEN(first); k++)
        for (size_t i = 0; mods[i] != NULL && r.n < ARRAY_LEN(r.checks); i++)
            if (mods[i]->ready != NULL && ready_rank(mods[i]->ready_name) == k)
                r.checks[r.n++] = ready_ask(q, mods[i]);
    if (r.n < ARRAY_LEN(r.checks))
        r.checks[r.n++] = (struct ready_check){"disk", disk_text(q)};
    bool good = !house_stopping(q->house);
    for (size_t i = 0; i < r.n; i++)
        good &= check_passes(r.checks[i].text);
    if (!good)
        r.status = "not_ready";
    return request_answer(q, good ? 200 : 503, &ready_view, &r);
}

/* ---- metrics ---- */

/* One number of /proc/self/FILE after a key ("VmRSS:" …); 0 when it is not there. */
static int64_t proc_number(const char *file, const char *key)
{
    FILE *f = fopen(file, "re");
    char line[256];
    int64_t v = 0;
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (str_starts(line, key)) {
            v = strtoll(line + strlen(key), NULL, 10);
            break;
        }
    if (f != NULL)
        fclose(f);
    return v;
}

static void metric(struct buf *out, const char *name, const char *type, const char *help, double v)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, v);
}

static void process_metrics(struct house *h, struct buf *out)
{
    buf_printf(out,
               "# HELP gpuplat_build_info The running version.\n"
               "# TYPE gpuplat_build_info gauge\n"
               "gpuplat_build_info{version=\"%s\"} 1\n",
               DROVER_VERSION);
    metric(out, "gpuplat_uptime_seconds", "gauge", "Seconds since the start.",
           (double)(now_us() - house_started_at(h)) / 1e6);
    metric(out, "gpuplat_process_resident_memory_bytes", "gauge", "Memory of the server.",
           (double)proc_number("/proc/self/status", "VmRSS:") * 1024);
    metric(out, "gpuplat_process_threads", "gauge", "Threads of the server.",
           (double)proc_number("/proc/self/status", "Threads:"));
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    metric(out, "gpuplat_process_cpu_seconds_total", "counter", "Processor time of the server.",
           (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
}

static void store_metrics(struct house *h, struct buf *out)
{
    struct store_stats s;
    store_stats(house_store(h), &s);
    metric(out, "gpuplat_db_transactions_total", "counter", "Write transactions.",
           (double)s.transactions);
    metric(out, "gpuplat_db_commits_total", "counter", "Commits, each of one or more transactions.",
           (double)s.commits);
    metric(out, "gpuplat_db_reads_total", "counter", "Read snapshots.", (double)s.reads);
    metric(out, "gpuplat_db_retries_total", "counter", "Transactions that ran again.",
           (double)s.retries);
    metric(out, "gpuplat_db_failures_total", "counter", "Transactions that failed.",
           (double)s.failures);
    metric(out, "gpuplat_db_queue_depth", "gauge", "Transactions that wait.",
           (double)s.queue_depth);
    metric(out, "gpuplat_db_busy_seconds_total", "counter", "Time inside transactions.",
           (double)s.busy_us / 1e6);
    buf_adds(out, "# HELP gpuplat_db_query_duration_seconds Time of a transaction or a read.\n"
                  "# TYPE gpuplat_db_query_duration_seconds histogram\n");
    histogram_print(store_durations(house_store(h)), &histogram_call_bounds,
                    "gpuplat_db_query_duration_seconds", "", out);
}

static void disk_metrics(struct house *h, struct buf *out)
{
    struct disk_room room;
    if (!logs_room(jobs_logs(jobs_of(h)), &room))
        return;
    metric(out, "gpuplat_disk_free_bytes", "gauge", "Free space on the disk of the logs.",
           (double)room.free);
    metric(out, "gpuplat_disk_floor_bytes", "gauge",
           "Below this much free space logs stop, for the database.", (double)room.floor);
    metric(out, "gpuplat_logs_stopped", "gauge", "1: logs have stopped, the disk is almost full.",
           room.free < room.floor);
}

static int metrics_show(struct request *q, struct tx *tx, struct err *e)
{
    AUTO(buf) struct buf out = {0};
    const struct module *const *mods = house_modules(q->house);
    process_metrics(q->house, &out);
    store_metrics(q->house, &out);
    disk_metrics(q->house, &out);
    router_metrics(q->router, &out);
    for (size_t i = 0; mods[i] != NULL; i++)
        if (mods[i]->metrics != NULL)
            mods[i]->metrics(q->house, house_state(q->house, mods[i]), &out);
    return request_answer_raw(q, 200, "text/plain; version=0.0.4; charset=utf-8", out.data,
                              out.len);
}

/* ---- the module ---- */

#define TEXT "{\"type\":\"string\"}"
#define HTML                                                                                       \
    {                                                                                              \
        200, .schema = TEXT, .type = "text/html; charset=utf-8"                                    \
    }
static const struct route routes[] = {
    {"GET", "/", "root", "What this is; the web interface for browsers", ACCESS_ANYONE,
     .memory = root_show, .answers = {{200, &root_view}}, .tag = "common"},
    {"GET", "/health", "health", "The process answers", ACCESS_ANYONE, .query = &health_query_view,
     .memory = health_show, .answers = {{200, &health_view}}, .flags = ROUTE_NO_LIMIT,
     .errors = "503", .tag = "common"},
    {"GET", "/ready", "ready", "Whether requests can be served, and what is missing", ACCESS_ANYONE,
     .flags = ROUTE_NO_TX | ROUTE_NO_LIMIT, .handle = ready_show,
     .answers = {{200, &ready_view}, {503, &ready_view}}, .tag = "common"},
    {"GET", "/metrics", "metrics", "Prometheus text", ACCESS_OPEN,
     .flags = ROUTE_NO_TX | ROUTE_NO_LIMIT, .handle = metrics_show,
     .answers = {{200, .schema = TEXT, .type = "text/plain; version=0.0.4; charset=utf-8"}},
     .tag = "common"},
    {"GET", "/openapi.json", "openapi", "This description", ACCESS_ANYONE, .flags = ROUTE_ETAG,
     .memory = openapi_show, .answers = {{200, .schema = "{\"type\":\"object\"}"}},
     .tag = "common"},
    {"GET", "/docs", "docs", "The API's interactive page", ACCESS_ANYONE, .memory = docs_show,
     .answers = {HTML}, .tag = "common"},
    {"GET", "/redoc", "redoc", "The API's reading page", ACCESS_ANYONE, .memory = redoc_show,
     .answers = {HTML}, .tag = "common"},
};

static const struct setting settings[] = {
    {"SHARE_DIR", "DROVER_SHARE", SET_TEXT, NULL,
     .doc = "folder of the web UI and the API pages; default: share beside the program"},
};

static char *share_folder(const struct house *h)
{
    const char *given = setting_text(h, "SHARE_DIR");
    char path[4096];
    if (given != NULL && *given != '\0')
        return mem_strdup(given);
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    char *beside = mem_printf("%s/share", path);
    if (access(beside, R_OK) == 0)
        return beside;
    mem_free(beside);
    return mem_printf("%s/../share/drover", path); /* as it is installed */
}

static int start(struct house *h, void **state, struct err *e)
{
    struct common *c = mem_alloc(sizeof(*c));
    AUTO(mem) char *share = share_folder(h);
    pthread_mutex_init(&c->lock, NULL);
    *state = c;
    return assets_load(share, &c->assets, e);
}

static void stop(struct house *h, void *state)
{
    struct common *c = state;
    if (c == NULL)
        return;
    assets_destroy(c->assets);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static bool serve_file(void *ctx, struct http_request *q)
{
    return assets_serve(((struct common *)ctx)->assets, q);
}

void surface_attach(struct house *h, struct router *r)
{
    router_fallback(r, serve_file, common_of(h));
}

static const struct err_text texts[] = {
    {"cannot read %s", "无法读取 %s"},
    {"%s became shorter while it was read", "%s 在读取时变短了"},
    {"cannot open %s", "无法打开 %s"},
    {"the web files are more than %d MiB or %d files", "网页文件超过 %d MiB 或 %d 个"},
    {"cannot read the folder %s", "无法读取目录 %s"},
    {"cannot look at %s", "无法查看 %s"},
    {0},
};

const struct module common_module = {
    .name = "common",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &platform_surface,
    .settings = settings,
    .n_settings = ARRAY_LEN(settings),
    .texts = texts,
    .start = start,
    .stop = stop,
};
