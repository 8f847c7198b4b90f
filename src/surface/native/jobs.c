/* The native routes of jobs: submit, list, show, wait, cancel, events. What they printed is in
 * logs.c.
 *
 * What must stay true: somebody else's job is not found rather than forbidden; a wait holds no
 * thread and ends by the job's end, its time, or the server's stop. */
#include "surface/native/jobs.h"

#include "surface/native/files.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"
#include "io/json_in.h"

#include <string.h>

/* ---- what is asked ---- */

struct spec_in {
    struct job_spec spec;
    const char *code;
    struct texts out;
    const char *priority;
};
#define SPEC(wire, m, T, ...) FIELD(struct spec_in, wire, m, T, __VA_ARGS__)
LOCAL_VIEW(spec_view, struct spec_in, "JobSpec", NULL, 0,
           SPEC("name", spec.name, T_TEXT, .flags = F_NULL, .min = 1, .max = 255,
                .doc = "made from the command when it is left out"),
           SPEC("command", spec.command, T_TEXTS, .flags = F_REQUIRED, .min = 1, .max = 1000,
                .doc = "program and arguments; no shell"),
           SPEC("env", spec.env, T_TEXTMAP, .doc = "added to the job's environment"),
           SPEC("secrets", spec.secrets, T_TEXTMAP,
                .doc = "variable to the name of a secret of yours, which it will hold"),
           SPEC("cwd", spec.cwd, T_TEXT, .flags = F_NULL, .max = 4096, .doc = "working directory"),
           SPEC("code", code, T_TEXT, .flags = F_NULL, .max = 64,
                .doc = "tree that its working folder begins with"),
           SPEC("out", out, T_TEXTS, .max = 100,
                .doc = "what is kept of its working folder at its end: paths or globs"),
           SPEC("image", spec.image, T_TEXT, .flags = F_NULL, .max = 500,
                .doc = "container image, at providers that run images"),
           SPEC("gpus", spec.gpus, T_INT, .min = 0, .max = 1024, .def = "0"),
           SPEC("gpu_type", spec.gpu_type, T_TEXTS, .max = 50, .doc = "any of these will do"),
           SPEC("cpus", spec.cpus, T_INT, .flags = F_NULL, .min = 1, .max = 4096,
                .doc = "threads; left out, 1 is counted for a job without GPUs and none with, and "
                       "nothing limits it"),
           SPEC("memory_mib", spec.memory_mib, T_INT, .flags = F_NULL, .min = 1, .max = 1 << 30,
                .doc = "limit; beyond it the job is ended, where its node enforces that (the "
                       "answer's notes say where not)"),
           SPEC("time_limit_s", spec.time_limit_s, T_INT, .flags = F_NULL, .min = 1,
                .max = 31536000),
           SPEC("priority", priority, T_TEXT, .def = "\"normal\"",
                .doc = "low, normal, high, urgent, or \"1\" to \"10\""),
           SPEC("retries", spec.retries, T_INT, .min = 0, .max = 10, .def = "0",
                .doc = "further tries after a failure"),
           SPEC("labels", spec.labels, T_TEXTMAP));

struct job_path {
    const char *id;
};
VIEW(job_path_view, struct job_path, "JobId", NULL, 0,
     FIELD(struct job_path, "id", id, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 64,
           .doc = "such as j-17, or the uuid"));

const char *job_ref(const struct request *q)
{
    return ((const struct job_path *)q->params)->id;
}

struct jobs_query {
    struct texts state;
    const char *owner, *q, *cursor;
    int64_t limit;
};
LOCAL_VIEW(jobs_query_view, struct jobs_query, "JobsQuery", NULL, 0,
           FIELD(struct jobs_query, "state", state, T_TEXTS,
                 .doc = "states, or active, or ended; several with commas"),
           FIELD(struct jobs_query, "owner", owner, T_TEXT, .def = "\"all\"", .max = 40,
                 .doc = "me, all (that the caller may see), or an id such as u-1"),
           FIELD(struct jobs_query, "q", q, T_TEXT, .flags = F_NULL, .max = 255,
                 .doc = "part of the name, or an id"),
           PAGE_QUERY(struct jobs_query, 1000));
PAGE_VIEW(jobs_view, "JobList", &job_view);

struct wait_query {
    int64_t timeout_s;
};
enum { WAIT_MAX_S = 300 };
LOCAL_VIEW(wait_query_view, struct wait_query, "JobWait", NULL, 0,
           FIELD(struct wait_query, "timeout_s", timeout_s, T_INT, .min = 0, .max = WAIT_MAX_S,
                 .def = "30", .doc = "the job is answered as it is after this time"));

struct cancel_in {
    int64_t grace_s;
};
LOCAL_VIEW(cancel_view, struct cancel_in, "JobCancel", NULL, 0,
           FIELD(struct cancel_in, "grace_s", grace_s, T_INT, .flags = F_NULL, .min = 0,
                 .max = 3600,
                 .doc = "seconds between SIGTERM and SIGKILL; the job's own when left out"));

struct events_page {
    int64_t limit;
    const char *cursor;
};
LOCAL_VIEW(events_page_view, struct events_page, "JobEventsQuery", NULL, 0,
           PAGE_QUERY(struct events_page, 1000));

/* ---- submit ---- */

/* What would fit, when what was asked for never can. */
static void capacity_hint(struct request *q, const struct job_spec *spec)
{
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *s = fleet_snapshot_get(fleet_of(q->house));
    size_t most = 0, at = 0;
    AUTO(buf) struct buf types = {0};
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->nodes[i].n_gpus > most) {
            most = s->nodes[i].n_gpus;
            at = i;
        }
    for (size_t i = 0; i < s->n_gpus && types.len < 200; i++)
        if (s->gpus[i].type != NULL && strstr(buf_str(&types), s->gpus[i].type) == NULL)
            buf_printf(&types, "%s%s", types.len > 0 ? ", " : "", s->gpus[i].type);
    if (most > 0)
        native_hint(q, "The largest node, %s, has %zu GPUs; GPU types here: %s.",
                    s->nodes[at].node.name, most, buf_str(&types));
    else if (spec->gpus > 0)
        native_hint(q, "No node has a GPU: submit with gpus 0, or add a node.");
}

int native_answer_job(struct request *q, struct tx *tx, int status, const struct job *j, bool lines,
                      struct err *e)
{
    struct job_shown shown;
    int rc = job_show(tx, j, lines, q->arena, &shown, e);
    return rc != OK ? rc : request_answer(q, status, &job_view, &shown);
}

static int check_spec(struct request *q, struct spec_in *in, struct err *e)
{
    in->spec.kind = JOB_RUN;
    in->spec.priority = priority_parse(in->priority);
    if (in->spec.priority == 0)
        return request_invalid(q, e, "priority", "value_error",
                               "Priority is low, normal, high, urgent, or 1 to 10");
    if (in->spec.command.items[0][0] == '\0')
        return request_invalid(q, e, "command", "value_error", "The program has no name");
    for (size_t i = 0; i < in->spec.secrets.n; i++)
        if (in->spec.secrets.keys[i][0] == '\0' || strchr(in->spec.secrets.keys[i], '=') != NULL)
            return request_invalid(q, e, "secrets", "value_error",
                                   "A variable's name is not empty and holds no =");
    for (size_t i = 0; i < in->spec.env.n; i++) {
        const char *key = in->spec.env.keys[i];
        if (*key == '\0' || strchr(key, '=') != NULL)
            return request_invalid(q, e, "env", "value_error",
                                   "A variable's name is not empty and holds no =");
    }
    if (in->spec.gpu_type.n > 0 && in->spec.gpus == 0)
        return request_invalid(q, e, "gpu_type", "value_error",
                               "A GPU type without GPUs: say how many (gpus)");
    if (in->spec.cwd != NULL && in->spec.cwd[0] != '/')
        return request_invalid(q, e, "cwd", "value_error", "A working directory begins with /");
    if (in->spec.image != NULL && in->spec.image[0] != '\0')
        return request_invalid(q, e, "image", "value_error",
                               "Own hosts run plain processes; leave the image out");
    return OK;
}

static int check_files(struct request *q, struct spec_in *in, struct err *e)
{
    struct job_files f = {.code = in->code, .out = in->out};
    if (f.code == NULL && f.out.n == 0)
        return OK;
    if (in->spec.cwd != NULL)
        return request_invalid(q, e, "cwd", "value_error",
                               "With code or out the job has a folder of its own: leave cwd out");
    /* A look at the store's names, no more: it may stand inside the transaction. */
    if (f.code != NULL && !files_tree_there(q->house, q->who.user_id, f.code))
        return request_invalid(q, e, "code", "value_error", "There is no such tree: send it again");
    for (size_t i = 0; i < f.out.n; i++) {
        const char *s = f.out.items[i];
        if (*s == '\0' || *s == '/' || strcmp(s, "..") == 0 || strstr(s, "../") != NULL)
            return request_invalid(q, e, "out", "value_error",
                                   "A result lies below the job's folder: out/*.csv");
    }
    in->spec.extra = job_files_extra(&f, q->arena);
    return OK;
}

static int job_create(struct request *q, struct tx *tx, struct err *e)
{
    struct spec_in *in = q->body;
    struct job j;
    char id[ID_TEXT_SIZE];
    int rc = check_spec(q, in, e);
    if (rc == OK)
        rc = check_files(q, in, e);
    if (rc != OK)
        return rc;
    if ((rc = job_submit(tx, &in->spec, &q->who, q->arena, &j, e)) != OK) {
        if (rc == ERR_NO_CAPACITY)
            capacity_hint(q, &in->spec);
        if (rc == ERR_NOT_FOUND) /* of what is named, only a secret can be missing by now */
            rc = request_invalid(q, e, "secrets", "value_error", "%s",
                                 arena_strdup(q->arena, e->text));
        return rc;
    }
    q->audit_target = arena_strdup(q->arena, id_text("j", j.id, id));
    request_header(q, "Location", arena_printf(q->arena, "/v1/jobs/%s", id));
    return native_answer_job(q, tx, 201, &j, false, e);
}

/* ---- list, show ---- */

static int read_states(const struct texts *words, uint32_t *out, struct err *e)
{
    const uint32_t all = (1u << JOB_STATES) - 1, ended = all & ~((1u << JOB_COMPLETED) - 1);
    for (size_t i = 0; i < words->n; i++) {
        const char *w = words->items[i];
        int s = names_find(job_state_names, w);
        if (strcmp(w, "active") == 0)
            *out |= all & ~ended;
        else if (strcmp(w, "ended") == 0)
            *out |= ended;
        else if (s >= 0)
            *out |= 1u << s;
        else
            return err_set(e, ERR_INVALID, "there is no job state %s", w);
    }
    return OK;
}

static int read_owner(const struct request *q, const char *word, struct job_filter *f,
                      struct err *e)
{
    int64_t id;
    f->everyone = principal_is_admin(&q->who);
    if (strcmp(word, "all") == 0)
        return OK;
    if (strcmp(word, "me") == 0) {
        f->everyone = false;
        return OK;
    }
    if (!id_parse("u", word, &id))
        return err_set(e, ERR_INVALID, "owner is me, all, or an id such as u-1");
    if (!principal_sees(&q->who, id))
        return err_set(e, ERR_FORBIDDEN, "only administrators see the jobs of others");
    f->owner = id;
    return OK;
}

static int jobs_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct jobs_query *in = q->query;
    struct job_filter f = {.who = &q->who, .text = in->q, .limit = in->limit + 1};
    struct native_page out = {0};
    struct list rows;
    int rc = read_states(&in->state, &f.states, e);
    if (rc == OK)
        rc = read_owner(q, in->owner, &f, e);
    if (rc == OK && in->cursor != NULL && (!str_int(in->cursor, &f.before) || f.before <= 0))
        rc = native_bad_cursor(e);
    if (rc == OK)
        rc = job_list(tx, &f, q->arena, &rows, e);
    if (rc != OK)
        return rc;
    if ((int64_t)rows.n > in->limit) {
        rows.n = (size_t)in->limit;
        const struct job *last = (const struct job *)rows.items + rows.n - 1;
        out.next_cursor = arena_printf(q->arena, "%lld", (long long)last->id);
    }
    if ((rc = jobs_show(tx, &rows, q->arena, &out.items, e)) != OK)
        return rc;
    return request_answer(q, 200, &jobs_view, &out);
}

static int job_show_one(struct request *q, struct tx *tx, struct err *e)
{
    struct job j;
    int rc = native_job(q, tx, job_ref(q), &j, e);
    return rc != OK ? rc : native_answer_job(q, tx, 200, &j, true, e);
}

/* ---- cancel, events ---- */

static int job_cancel_one(struct request *q, struct tx *tx, struct err *e)
{
    const struct cancel_in *in = q->body;
    struct job j;
    char id[ID_TEXT_SIZE];
    bool changed;
    int rc = native_job(q, tx, job_ref(q), &j, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_strdup(q->arena, id_text("j", j.id, id));
    rc = job_cancel(tx, j.id, &q->who, in->grace_s == INT_NULL ? -1 : in->grace_s, q->arena, &j,
                    &changed, e);
    return rc != OK ? rc : native_answer_job(q, tx, 200, &j, false, e);
}

static int job_events_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct events_page *in = q->query;
    struct job j;
    char id[ID_TEXT_SIZE];
    int rc = native_job(q, tx, job_ref(q), &j, e);
    if (rc != OK)
        return rc;
    struct event_filter f = {.source_type = "job",
                             .source_id = arena_strdup(q->arena, id_text("j", j.id, id)),
                             .owner = -1,
                             .limit = in->limit};
    return native_events(q, tx, &f, in->cursor, e);
}

/* ---- wait ---- */

struct wait_look {
    struct request *q;
    struct job job;
};

static int wait_look_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct wait_look *l = ctx;
    int rc = native_job(l->q, tx, job_ref(l->q), &l->job, e);
    return rc != OK ? rc : native_answer_job(l->q, tx, 200, &l->job, true, e);
}

static int job_wait(struct request *q, struct tx *tx, struct err *e)
{
    const struct wait_query *in = q->query;
    struct wait_look l = {.q = q};
    int rc = store_read(house_store(q->house), wait_look_tx, &l, e);
    if (rc != OK || job_ended(l.job.state) || in->timeout_s == 0)
        return rc;
    return waits_take(q, l.job.id, in->timeout_s * US_PER_S);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"GET", "/v1/jobs", "jobs_list", "Jobs, newest first", ACCESS_OWNER, .query = &jobs_query_view,
     .handle = jobs_list, .answers = {{200, &jobs_view}}, .errors = "400 403", .tag = "jobs"},
    {"POST", "/v1/jobs", "job_create", "Submit a job", ACCESS_USER, .flags = ROUTE_IDEMPOTENT,
     .body = &spec_view, .handle = job_create, .answers = {{201, &job_view}}, .errors = "400 409",
     .tag = "jobs"},
    {"GET", "/v1/jobs/{id}", "job_show", "One job", ACCESS_OWNER, .flags = ROUTE_ETAG,
     .params = &job_path_view, .handle = job_show_one, .answers = {{200, &job_view}},
     .errors = "404", .tag = "jobs"},
    {"GET", "/v1/jobs/{id}/wait", "job_wait", "The job as soon as it has ended, or after a while",
     ACCESS_OWNER, .flags = ROUTE_NO_TX, .params = &job_path_view, .query = &wait_query_view,
     .handle = job_wait, .answers = {{200, &job_view}}, .errors = "404 503", .tag = "jobs"},
    {"POST", "/v1/jobs/{id}/cancel", "job_cancel", "End a job; one that has ended is left as it is",
     ACCESS_OWNER, .flags = ROUTE_BODY_OPTIONAL, .params = &job_path_view, .body = &cancel_view,
     .handle = job_cancel_one, .answers = {{200, &job_view}}, .errors = "400 404", .tag = "jobs"},
    {"GET", "/v1/jobs/{id}/events", "job_events", "What happened to a job, oldest first",
     ACCESS_OWNER, .params = &job_path_view, .query = &events_page_view, .handle = job_events_list,
     .answers = {{200, &events_view}}, .errors = "400 404", .tag = "jobs"},
    {"GET", "/v1/jobs/{id}/log", "job_log", "Lines that a job printed", ACCESS_OWNER,
     .flags = ROUTE_NO_TX, .params = &job_path_view, .query = &log_query_view,
     .handle = job_log_page, .answers = {{200, &log_page_view}}, .errors = "404", .tag = "jobs"},
    {"GET", "/v1/jobs/{id}/log.txt", "job_log_text", "What a job printed, byte for byte",
     ACCESS_OWNER, .flags = ROUTE_NO_TX | ROUTE_STREAM, .params = &job_path_view,
     .query = &log_text_query_view, .handle = job_log_text,
     .answers = {{200, .schema = "{\"type\":\"string\"}", .type = "text/plain; charset=utf-8",
                  .doc = "output and error output"}},
     .errors = "404 503", .tag = "jobs"},
    {"GET", "/v1/jobs/{id}/log/stream", "job_log_stream",
     "Server-sent events: lines (id: try:offset), state (the job), and end", ACCESS_OWNER,
     .flags = ROUTE_NO_TX | ROUTE_STREAM, .params = &job_path_view, .query = &log_stream_query_view,
     .handle = job_log_stream,
     .answers = {{200, .schema = "{\"type\":\"string\"}", .type = "text/event-stream",
                  .doc = "goes on until the job has ended"}},
     .errors = "404 503", .tag = "jobs"},
};

/* ---- the module ---- */

static void on_job(struct house *h, void *state, const struct event *ev)
{
    const struct native_jobs *n = state;
    int64_t id;
    if (n == NULL || !id_parse("j", ev->source_id, &id))
        return;
    follows_wake(n->follows, id);
    AUTO(jv) struct jv *data = NULL;
    if (strcmp(ev->type, "job.status.changed") == 0 &&
        jv_parse(ev->data, strlen(ev->data), &data, NULL, NULL) == OK) {
        const char *to = jv_get_text(data, "to");
        int s = to != NULL ? names_find(job_state_names, to) : -1;
        if (s >= 0 && job_ended(s))
            waits_job_ended(n->waits, id);
    }
}

static void tick(struct house *h, void *state)
{
    const struct native_jobs *n = state;
    waits_tick(n->waits);
    follows_tick(n->follows);
}

static int start(struct house *h, void **state, struct err *e)
{
    struct native_jobs *n = mem_alloc(sizeof(*n));
    n->waits = waits_create(h);
    n->follows = follows_create(h);
    *state = n;
    return OK;
}

static void stop(struct house *h, void *state)
{
    struct native_jobs *n = state;
    if (n == NULL)
        return;
    waits_destroy(n->waits);
    follows_destroy(n->follows);
    mem_free(n);
}

struct native_jobs *native_jobs_of(const struct house *h)
{
    return house_state(h, &native_jobs_module);
}

static const struct subscription subscriptions[] = {{"job.", on_job}};
static const struct duty duties[] = {
    {.name = "requests that wait, logs that are followed", .every_ms = 250, .fn = tick},
};
static const struct setting settings[] = {
    {"JOB_WAITS_MAX", NULL, SET_INT, "10000", 1, 1000000,
     .doc = "requests that wait for the end of a job at one time"},
    {"LOG_STREAMS_MAX", NULL, SET_INT, "5000", 1, 1000000,
     .doc = "logs that are followed at one time"},
};
static const struct err_text texts[] = {
    {"there is no job state %s", "没有名为 %s 的任务状态"},
    {"owner is me, all, or an id such as u-1", "owner 应为 me、all 或形如 u-1 的编号"},
    {"only administrators see the jobs of others", "只有管理员能查看他人的任务"},
    {"Priority is low, normal, high, urgent, or 1 to 10",
     "优先级应为 low、normal、high、urgent 或 1 到 10"},
    {"The program has no name", "程序名为空"},
    {"A variable's name is not empty and holds no =", "变量名不能为空，也不能含有 ="},
    {"A GPU type without GPUs: say how many (gpus)", "指定了 GPU 型号却没有 GPU 数量 (gpus)"},
    {"A working directory begins with /", "工作目录须以 / 开头"},
    {"Own hosts run plain processes; leave the image out",
     "自有主机只运行普通进程，请不要填写 image"},
    {"The largest node, %s, has %zu GPUs; GPU types here: %s.",
     "最大的节点 %s 有 %zu 张 GPU；现有类型：%s。"},
    {"No node has a GPU: submit with gpus 0, or add a node.",
     "没有带 GPU 的节点：请以 gpus 0 提交，或添加节点。"},
    {"Did you mean %s (%s, %s, %s)?", "您是指 %s（%s，%s，%s）吗？"},
    {"yours", "您的"},
    {"job %s has no try %lld: it was tried once", "任务 %s 没有第 %lld 次尝试：只尝试过一次"},
    {"job %s has no try %lld: it was tried %lld times",
     "任务 %s 没有第 %lld 次尝试：共尝试过 %lld 次"},
    {"the memory limit is not enforced on %s: the job may use more there",
     "节点 %s 不强制内存上限：任务可能用得更多"},
    {"the CPU limit is not enforced on %s: the job may use more threads there",
     "节点 %s 不强制 CPU 上限：任务可能占用更多线程"},
    {"Last-Event-ID is not one that this stream sent", "Last-Event-ID 不是此流发送过的值"},
    {"too many requests wait already: try again in a second", "等待的请求过多，请一秒后重试"},
    {"too many logs are followed already: try again in a second",
     "正在跟踪的日志过多，请一秒后重试"},
    {"send tail or offset, not both", "tail 与 offset 只能填写一个"},
    {0},
};

const struct module native_jobs_module = {
    .name = "native-jobs",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .subscriptions = subscriptions,
    .n_subscriptions = ARRAY_LEN(subscriptions),
    .duties = duties,
    .n_duties = ARRAY_LEN(duties),
    .settings = settings,
    .n_settings = ARRAY_LEN(settings),
    .texts = texts,
    .start = start,
    .stop = stop,
};
