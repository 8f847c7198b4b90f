/* The page's small HTTP server and what it shows.
 *
 * What must stay true: a connection costs bounded memory and is closed at its deadline; nothing a
 * visitor sends changes anything; a foreign page in a browser cannot read this one by pointing a
 * name of its own at loopback (the Host header is checked). */
#include "agent/page.h"

#include "agent/node.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VISITORS_MAX = 16, REQUEST_MAX = 8192, ANSWER_MAX = 4 << 20, LISTENER = 255 };
#define VISIT_US (10 * US_PER_S)

struct visitor {
    int fd; /* -1: free */
    int64_t deadline_us;
    char in[REQUEST_MAX + 1];
    size_t n;
    struct buf out;
    size_t sent;
};
struct page {
    int fd;
    bool loopback;
    const char *token;
    struct visitor *visitors[VISITORS_MAX];
};

static void watch(struct agent *g, int fd, int op, uint32_t events, int64_t id)
{
    struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)ON_PAGE << 56 | (uint64_t)id};
    epoll_ctl(g->epoll, op, fd, &ev);
}

/* ---- opening ---- */

int page_open(struct agent *g, const char *where, const char *token, struct page **out,
              struct err *e)
{
    char host[64];
    int64_t port = 0;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    const char *colon = strrchr(where, ':');
    size_t n = colon != NULL ? (size_t)(colon - where) : 0;
    bool bracket = n > 2 && where[0] == '[' && where[n - 1] == ']';
    snprintf(host, sizeof(host), "%.*s", (int)(bracket ? n - 2 : n), where + bracket);
    bool v4 = inet_pton(AF_INET, host, &a.v4.sin_addr) == 1;
    bool v6 = !v4 && inet_pton(AF_INET6, host, &a.v6.sin6_addr) == 1;
    if (colon == NULL || !str_int(colon + 1, &port) || port < 1 || port > 65535 || !(v4 || v6))
        return err_set(e, ERR_INVALID, "--page takes ADDRESS:PORT or off, not \"%.100s\"", where);
    bool loopback = v4 ? ntohl(a.v4.sin_addr.s_addr) >> 24 == 127
                       : IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
    if (!loopback && token == NULL)
        return err_set(e, ERR_INVALID,
                       "--page %.100s can be reached from elsewhere: demand a token with "
                       "--page-token-file",
                       where);
    if (v4) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons((uint16_t)port);
    } else {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons((uint16_t)port);
    }
    AUTO(fd)
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, &a.any, v4 ? sizeof(a.v4) : sizeof(a.v6)) != 0 || listen(fd, 16) != 0)
        return err_sys(e, "no page on %s", where);
    struct page *p = mem_alloc(sizeof(*p));
    *p = (struct page){.fd = fd, .loopback = loopback, .token = token};
    fd = -1;
    watch(g, p->fd, EPOLL_CTL_ADD, EPOLLIN, LISTENER);
    *out = p;
    return OK;
}

static void leave(struct page *p, int i)
{
    struct visitor *v = p->visitors[i];
    if (v == NULL)
        return;
    close(v->fd);
    buf_fini(&v->out);
    mem_free(v);
    p->visitors[i] = NULL;
}

void page_close(struct page *p)
{
    if (p == NULL)
        return;
    for (int i = 0; i < VISITORS_MAX; i++)
        leave(p, i);
    close(p->fd);
    mem_free(p);
}

/* ---- what is shown ---- */

/* Bytes of logs that the server does not have yet. */
static int64_t backlog(const struct agent *g)
{
    int64_t bytes = 0;
    for (const struct attempt *a = g->first; a != NULL; a = a->next)
        if (a->end > a->acked)
            bytes += (int64_t)(a->end - a->acked);
    return bytes;
}

static size_t live(const struct agent *g)
{
    size_t n = 0;
    for (const struct attempt *a = g->first; a != NULL; a = a->next)
        n += attempt_live(a);
    return n;
}

static const char *state_word(const struct attempt *a)
{
    static const char *const words[] = {"new", "accepted", "running", "ended", "refused"};
    return words[a->state];
}

static const char *node_name(const struct agent *g)
{
    return g->credential.name[0] != '\0' ? g->credential.name
           : g->config.name != NULL      ? g->config.name
                                         : g->host.name;
}

static const char *server_name(const struct agent *g)
{
    return g->config.server != NULL ? g->config.server : g->credential.server;
}

static void job_of(const struct agent *g, struct attempt *a)
{
    static const char key[] = "env=DROVER_JOB_ID=";
    if (a->job[0] != '\0')
        return;
    AUTO(mem) char *spec = mem_alloc(SPEC_MAX + 1);
    AUTO(fd) int dir = attempt_open(&g->home, a->id);
    ssize_t n = dir >= 0 ? folder_read(dir, FOLDER_SPEC, spec, SPEC_MAX) : -1;
    /* the agent's own variables come last, whatever the job's are called */
    for (char *at = spec, *end = spec + (n > 0 ? n : 0); at < end; at += strlen(at) + 1)
        if (str_starts(at, key))
            snprintf(a->job, sizeof(a->job), "%s", at + sizeof(key) - 1);
    if (a->job[0] == '\0')
        snprintf(a->job, sizeof(a->job), "?");
}

static void status_json(struct agent *g, struct buf *to)
{
    struct json j = json_to(to);
    json_open(&j, '{');
    json_ktext(&j, "node", node_name(g));
    json_ktext(&j, "id", g->credential.node[0] != '\0' ? g->credential.node : NULL);
    json_ktext(&j, "version", DROVER_VERSION);
    json_ktext(&j, "boot_id", g->boot_id);
    json_ktime(&j, "at", now_us());
    json_key(&j, "link");
    json_open(&j, '{');
    json_ktext(&j, "server", server_name(g));
    json_kbool(&j, "up", g->welcome);
    if (g->since_us != 0)
        json_ktime(&j, "since", g->since_us);
    else
        json_knull(&j, "since");
    json_ktext(&j, "why", !g->welcome && g->why[0] != '\0' ? g->why : NULL);
    json_kint(&j, "backlog_bytes", backlog(g));
    json_close(&j, '}');
    json_key(&j, "jobs");
    json_open(&j, '[');
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        job_of(g, a);
        json_open(&j, '{');
        json_ktext(&j, "job", a->job);
        attempt_json(a, &j);
        json_key(&j, "gpus");
        json_open(&j, '[');
        for (int i = 0; i < a->n_gpus; i++)
            json_int(&j, a->gpus[i]);
        json_close(&j, ']');
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_key(&j, "sample");
    struct host_meter meter = g->meter; /* the link's own goes from sample to sample */
    sample_write(g->sample, &g->claims, &g->gpu_use, &meter, g->path, &j);
    json_close(&j, '}');
}

static void metrics(struct agent *g, struct buf *to)
{
    buf_printf(to,
               "# TYPE drover_agent_link_up gauge\ndrover_agent_link_up %d\n"
               "# TYPE drover_agent_jobs gauge\ndrover_agent_jobs %zu\n"
               "# TYPE drover_agent_backlog_bytes gauge\ndrover_agent_backlog_bytes %lld\n",
               g->welcome, live(g), (long long)backlog(g));
    static const char *const names[] = {
        "drover_agent_gpu_utilization_percent", "drover_agent_gpu_memory_used_mib",
        "drover_agent_gpu_temperature_celsius", "drover_agent_gpu_power_watts"};
    for (size_t r = 0; r < ARRAY_LEN(names); r++) {
        buf_printf(to, "# TYPE %s gauge\n", names[r]);
        for (int i = 0; i < g->sample->n; i++) {
            const struct gpu_facts *f = &g->sample->gpus[i];
            const int64_t values[] = {f->utilization_percent, f->memory_used_mib, f->temperature_c,
                                      f->power_w};
            if (values[r] != GPU_UNKNOWN)
                buf_printf(to, "%s{gpu=\"%d\"} %lld\n", names[r], f->index, (long long)values[r]);
        }
    }
}

static void escaped(struct buf *to, const char *s)
{
    for (; *s != '\0'; s++)
        switch (*s) {
        case '<':
            buf_adds(to, "&lt;");
            break;
        case '>':
            buf_adds(to, "&gt;");
            break;
        case '&':
            buf_adds(to, "&amp;");
            break;
        case '"':
            buf_adds(to, "&quot;");
            break;
        default:
            buf_addc(to, (unsigned char)*s < 0x20 ? ' ' : *s);
        }
}

static void cell(struct buf *to, const char *s)
{
    buf_adds(to, "<td>");
    escaped(to, s);
    buf_adds(to, "</td>");
}

static void number_cell(struct buf *to, int64_t v, const char *unit)
{
    if (v == GPU_UNKNOWN)
        buf_adds(to, "<td>–</td>");
    else
        buf_printf(to, "<td class=n>%lld%s</td>", (long long)v, unit);
}

enum word {
    W_UP,
    W_DOWN,
    W_SINCE,
    W_BACKLOG,
    W_JOBS,
    W_NO_JOBS,
    W_JOB,
    W_STATE,
    W_RAN,
    W_GPUS,
    W_NO_GPUS,
    W_BUSY,
    W_MEMORY,
    W_TEMP,
    W_POWER,
    W_PROCESSES,
    W_NOTE,
    W_READ_ONLY
};
static const char *const words[][2] = {
    [W_UP] = {"connected to", "已连接"},
    [W_DOWN] = {"no link to", "与服务器断开："},
    [W_SINCE] = {"for", "已持续"},
    [W_BACKLOG] = {"of logs wait to be sent", "日志待发送"},
    [W_JOBS] = {"Jobs", "任务"},
    [W_NO_JOBS] = {"No jobs.", "没有任务。"},
    [W_JOB] = {"Job", "任务"},
    [W_STATE] = {"State", "状态"},
    [W_RAN] = {"Began", "开始"},
    [W_GPUS] = {"GPUs", "GPU"},
    [W_NO_GPUS] = {"No GPUs.", "没有 GPU。"},
    [W_BUSY] = {"Busy", "利用率"},
    [W_MEMORY] = {"Memory", "显存"},
    [W_TEMP] = {"Temp", "温度"},
    [W_POWER] = {"Power", "功率"},
    [W_PROCESSES] = {"Processes", "进程"},
    [W_NOTE] = {"Note", "说明"},
    [W_READ_ONLY] =
        {"This page only shows. It works without the server; jobs go on and what they "
         "print is kept here until the server has it.",
         "此页面只供查看，服务器不在时也可用；任务继续运行，输出保留在本机直到服务器收到。"},
};

static void jobs_html(struct agent *g, int l, struct buf *to)
{
    buf_printf(to, "<h2>%s</h2>", words[W_JOBS][l]);
    if (g->first == NULL) {
        buf_printf(to, "<p>%s</p>", words[W_NO_JOBS][l]);
        return;
    }
    buf_printf(to, "<table><tr><th>%s</th><th>%s</th><th>%s</th><th>GPU</th><th>PID</th></tr>",
               words[W_JOB][l], words[W_STATE][l], words[W_RAN][l]);
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        char text[TIME_TEXT_SIZE + 32] = "";
        job_of(g, a);
        buf_adds(to, "<tr>");
        cell(to, a->job);
        cell(to, state_word(a));
        int64_t began = a->have_started ? a->started.job_at_us : 0;
        cell(to, began > 0 ? time_format(began, text) : "–");
        buf_adds(to, "<td>");
        for (int i = 0; i < a->n_gpus; i++)
            buf_printf(to, "%s%d", i > 0 ? " " : "", a->gpus[i]);
        buf_printf(to, "</td><td class=n>%d</td></tr>", a->have_started ? (int)a->started.job : 0);
    }
    buf_adds(to, "</table>");
}

static void gpus_html(struct agent *g, int l, struct buf *to)
{
    const struct gpu_sample *s = g->sample;
    buf_printf(to, "<h2>%s</h2>", words[W_GPUS][l]);
    if (s->note[0] != '\0' || s->n == 0) {
        buf_adds(to, "<p>");
        escaped(to, s->note[0] != '\0' ? s->note : words[W_NO_GPUS][l]);
        buf_adds(to, "</p>");
    }
    if (s->n == 0)
        return;
    buf_printf(to,
               "<table><tr><th>#</th><th>GPU</th><th>%s</th><th>%s</th><th>%s</th><th>%s</th>"
               "<th>%s</th><th>%s</th><th>%s</th></tr>",
               words[W_STATE][l], words[W_BUSY][l], words[W_MEMORY][l], words[W_TEMP][l],
               words[W_POWER][l], words[W_PROCESSES][l], words[W_NOTE][l]);
    for (int i = 0; i < s->n; i++) {
        const struct gpu_facts *f = &s->gpus[i];
        buf_printf(to, "<tr><td class=n>%d</td>", f->index);
        cell(to, f->name);
        cell(to, gpu_state_name(f->state));
        number_cell(to, f->utilization_percent, " %");
        number_cell(to, f->memory_used_mib, " MiB");
        number_cell(to, f->temperature_c, " °C");
        number_cell(to, f->power_w, " W");
        number_cell(to, f->n_processes, "");
        cell(to, f->note);
        buf_adds(to, "</tr>");
    }
    buf_adds(to, "</table>");
}

static void page_html(struct agent *g, bool chinese, struct buf *to)
{
    int l = chinese;
    char took[DURATION_TEXT_SIZE];
    buf_printf(to, "<!doctype html><html lang=%s><meta charset=utf-8>", chinese ? "zh" : "en");
    buf_adds(to, "<meta name=viewport content=\"width=device-width\"><meta http-equiv=refresh "
                 "content=5><title>");
    escaped(to, node_name(g));
    buf_adds(to,
             " · Drover</title><style>:root{color-scheme:light dark}body{font:15px/1.5 "
             "system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}h1{font-size:"
             "1.4rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}table{border-collapse:"
             "collapse;width:100%;display:block;overflow-x:auto}th,td{text-align:left;padding:"
             ".25rem .8rem .25rem 0;border-bottom:1px solid #8884;white-space:nowrap}.n{text-align:"
             "right;font-variant-numeric:tabular-nums}.up::before{content:'●';color:#1a7f37}"
             ".down::before{content:'▲';color:#b35900}.dim{opacity:.7;font-size:.9em}</style><h1>");
    escaped(to, node_name(g));
    buf_printf(to, "</h1><p class=%s> %s ", g->welcome ? "up" : "down",
               words[g->welcome ? W_UP : W_DOWN][l]);
    escaped(to, server_name(g));
    if (g->since_us != 0)
        buf_printf(to, " · %s %s", words[W_SINCE][l],
                   duration_format(now_us() > g->since_us ? now_us() - g->since_us : 0, took));
    if (!g->welcome && g->why[0] != '\0') {
        buf_adds(to, "<br>");
        escaped(to, g->why);
    }
    if (backlog(g) > 0)
        buf_printf(to, "<br>%lld KiB %s", (long long)(backlog(g) + 1023) / 1024,
                   words[W_BACKLOG][l]);
    buf_adds(to, "</p>");
    jobs_html(g, l, to);
    gpus_html(g, l, to);
    buf_printf(to, "<p class=dim>%s</p><p class=dim>drover-agent " DROVER_VERSION " · ",
               words[W_READ_ONLY][l]);
    escaped(to, g->host.os);
    buf_adds(to, " · ");
    escaped(to, g->host.kernel);
    buf_adds(to, " · <a href=/status.json>status.json</a> · <a href=/metrics>metrics</a></p>");
}

/* ---- a visit ---- */

static bool header(const char *request, const char *name, char *to, size_t size)
{
    size_t n = strlen(name);
    for (const char *line = strstr(request, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        line += n + 1;
        line += strspn(line, " \t");
        snprintf(to, size, "%.*s", (int)strcspn(line, "\r\n"), line);
        return true;
    }
    return false;
}

static bool host_is_here(const char *request)
{
    char host[128];
    if (!header(request, "Host", host, sizeof(host)))
        return true; /* no browser */
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    host[n < sizeof(host) ? n : 0] = '\0';
    return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "[::1]") == 0;
}

static bool may_see(const struct page *p, const char *request)
{
    char given[512];
    if (p->token == NULL)
        return true;
    if (!header(request, "Authorization", given, sizeof(given)) || !str_starts(given, "Bearer "))
        return false;
    const char *token = given + strlen("Bearer ");
    return strlen(token) == strlen(p->token) && mem_equal_secret(token, p->token, strlen(token));
}

static void answer(struct agent *g, struct page *p, struct visitor *v)
{
    AUTO(buf) struct buf body = {.max = ANSWER_MAX};
    char languages[128] = "", path[128] = "";
    const char *status = "200 OK", *type = "text/plain; charset=utf-8";
    bool get = sscanf(v->in, "GET %127[^ ?\r\n]", path) == 1;
    header(v->in, "Accept-Language", languages, sizeof(languages));
    if (!get) {
        status = "405 Method Not Allowed";
        buf_adds(&body, "this page only shows\n");
    } else if (p->loopback && !host_is_here(v->in)) {
        status = "403 Forbidden";
        buf_adds(&body, "ask for it as localhost\n");
    } else if (!may_see(p, v->in)) {
        status = "401 Unauthorized";
        buf_adds(&body, "Authorization: Bearer TOKEN is needed\n");
    } else {
        gpu_sample(g->gpus, g->sample);
        if (str_eq(path, "/status.json")) {
            type = "application/json";
            status_json(g, &body);
        } else if (str_eq(path, "/metrics")) {
            metrics(g, &body);
        } else if (str_eq(path, "/")) {
            type = "text/html; charset=utf-8";
            page_html(g, strncasecmp(languages, "zh", 2) == 0, &body);
        } else {
            status = "404 Not Found";
            buf_adds(&body, "there are /, /status.json and /metrics\n");
        }
    }
    buf_printf(&v->out,
               "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n"
               "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
               "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
               "frame-ancestors 'none'\r\n\r\n",
               status, type, body.len);
    buf_add(&v->out, body.data, body.len);
}

static void come_in(struct agent *g, struct page *p)
{
    int64_t now = mono_us();
    for (int fd; (fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
        int i = 0;
        for (int k = 0; k < VISITORS_MAX; k++)
            if (p->visitors[k] != NULL && p->visitors[k]->deadline_us < now)
                leave(p, k);
        while (i < VISITORS_MAX && p->visitors[i] != NULL)
            i++;
        if (i == VISITORS_MAX) {
            close(fd);
            continue;
        }
        struct visitor *v = p->visitors[i] = mem_alloc(sizeof(*v));
        v->fd = fd;
        v->deadline_us = now + VISIT_US;
        watch(g, fd, EPOLL_CTL_ADD, EPOLLIN, i);
    }
}

/* False: the visit is over. */
static bool serve(struct agent *g, struct page *p, struct visitor *v, int i)
{
    if (v->out.len == 0) {
        ssize_t n = recv(v->fd, v->in + v->n, REQUEST_MAX - v->n, 0);
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR);
        v->n += (size_t)n;
        v->in[v->n] = '\0';
        if (strstr(v->in, "\r\n\r\n") == NULL)
            return v->n < REQUEST_MAX;
        answer(g, p, v);
    }
    while (v->sent < v->out.len) {
        ssize_t n = send(v->fd, v->out.data + v->sent, v->out.len - v->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(g, v->fd, EPOLL_CTL_MOD, EPOLLOUT, i);
            return true;
        }
        if (n < 0 && errno != EINTR)
            return false;
        v->sent += n > 0 ? (size_t)n : 0;
    }
    return false;
}

void page_event(struct agent *g, int64_t id)
{
    struct page *p = g->page;
    if (id == LISTENER)
        come_in(g, p);
    else if (id < VISITORS_MAX && p->visitors[id] != NULL && !serve(g, p, p->visitors[id], (int)id))
        leave(p, (int)id);
}
