/* Streams into running jobs: asking for one, and the doors of its two sides.
 *
 * What must stay true: only who may see a job in full (its owner, an administrator) gets a stream
 * to it; each one leaves an audit row and an event that says what was opened. */
#include "surface/native/jobs.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "fleet/streams.h"

#include <string.h>

enum kind { KIND_EXEC, KIND_SHELL, KIND_TCP, KIND_READ, KIND_WRITE };
static const char *const kind_names[] = {"exec", "shell", "tcp", "read", "write", NULL};
struct stream_in {
    int kind;
    struct texts argv;
    bool tty;
    int64_t rows, cols, port;
    const char *term, *path;
};
#define ASK(wire, m, T, ...) FIELD(struct stream_in, wire, m, T, __VA_ARGS__)
LOCAL_VIEW(stream_in_view, struct stream_in, "StreamAsk", NULL, 0,
           ASK("kind", kind, T_ENUM, .flags = F_REQUIRED, .names = kind_names),
           ASK("argv", argv, T_TEXTS, .max = 1000, .doc = "exec: program and arguments"),
           ASK("tty", tty, T_BOOL, .def = "false", .doc = "exec: with a terminal"),
           ASK("rows", rows, T_INT, .min = 0, .max = 10000, .def = "24", .doc = "of the terminal"),
           ASK("cols", cols, T_INT, .min = 0, .max = 10000, .def = "80"),
           ASK("term", term, T_TEXT, .flags = F_NULL, .max = 64, .doc = "its TERM"),
           ASK("port", port, T_INT, .min = 0, .max = 65535, .def = "0", .doc = "tcp: on 127.0.0.1"),
           ASK("path", path, T_TEXT, .flags = F_NULL, .max = 4096,
               .doc = "read, write: in the job, or from its working directory"));

struct stream_shown {
    const char *id, *job;
    int64_t attempt;
};
LOCAL_VIEW(stream_view, struct stream_shown, "Stream", NULL, 0,
           FIELD(struct stream_shown, "id", id, T_TEXT,
                 .doc = "for /v1/streams/{id}; good for a minute"),
           FIELD(struct stream_shown, "job", job, T_TEXT),
           FIELD(struct stream_shown, "attempt", attempt, T_INT));

struct stream_path {
    const char *id;
};
LOCAL_VIEW(stream_path_view, struct stream_path, "StreamId", NULL, 0,
           FIELD(struct stream_path, "id", id, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 64));

static int check_ask(struct request *q, const struct stream_in *in, struct err *e)
{
    bool has_path = in->path != NULL && in->path[0] != '\0';
    if (in->kind == KIND_EXEC && (in->argv.n == 0 || in->argv.items[0][0] == '\0'))
        return request_invalid(q, e, "argv", "value_error", "The program has no name");
    if (in->kind == KIND_TCP && in->port == 0)
        return request_invalid(q, e, "port", "value_error", "A port is 1 to 65535");
    if ((in->kind == KIND_READ || in->kind == KIND_WRITE) && !has_path)
        return request_invalid(q, e, "path", "value_error", "The path is empty");
    return OK;
}

/* The attempt whose processes are there now. */
static int running_attempt(struct request *q, struct tx *tx, const struct job *j,
                           struct attempt *out, struct err *e)
{
    char id[ID_TEXT_SIZE];
    struct list rows;
    id_text("j", j->id, id);
    if (strcmp(j->provider, "local") != 0)
        return err_set(e, ERR_CONFLICT,
                       j->simulated ? "%s runs at the simulated provider %s, which cannot be "
                                      "connected to: only jobs on own hosts have streams"
                                    : "%s runs at %s: only jobs on own hosts have streams so far",
                       id, j->provider);
    if (j->state != JOB_RUNNING && j->state != JOB_CANCELLING) {
        if (job_ended(j->state))
            native_hint(q, "What it left: drover cp %s: .    What it printed: drover logs %s", id,
                        id);
        else if (j->state != JOB_UNKNOWN)
            native_hint(q, "Wait until it runs: drover show %s", id);
        return err_set(e, ERR_CONFLICT, "%s is %s, not running", id,
                       err_tr(job_state_names[j->state]));
    }
    int rc = job_attempts(tx, j->id, q->arena, &rows, e);
    if (rc != OK)
        return rc;
    for (size_t i = 0; i < rows.n; i++) {
        const struct attempt *at = (const struct attempt *)rows.items + i;
        if (at->state == ATTEMPT_RUNNING) {
            *out = *at;
            return OK;
        }
    }
    return err_set(e, ERR_CONFLICT, "%s has no process yet: try again in a moment", id);
}

static const char *request_json(struct request *q, const struct stream_in *in)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "kind", kind_names[in->kind]);
    json_key(&j, "argv");
    json_open(&j, '[');
    for (size_t i = 0; i < in->argv.n; i++)
        json_text(&j, in->argv.items[i]);
    json_close(&j, ']');
    json_kbool(&j, "tty", in->tty || in->kind == KIND_SHELL);
    json_kint(&j, "rows", in->rows);
    json_kint(&j, "cols", in->cols);
    json_ktext(&j, "term", in->term);
    json_kint(&j, "port", in->port);
    json_ktext(&j, "path", in->path);
    json_close(&j, '}');
    return arena_strndup(q->arena, b.data, b.len);
}

/* What the event tells, cut to a readable length. */
static const char *told(struct request *q, const struct stream_in *in)
{
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; in->kind == KIND_EXEC && i < in->argv.n && b.len < 200; i++)
        buf_printf(&b, "%s%.200s", i > 0 ? " " : "", in->argv.items[i]);
    if (in->kind == KIND_TCP)
        buf_printf(&b, "%d", (int)in->port);
    if (in->kind == KIND_READ || in->kind == KIND_WRITE)
        buf_printf(&b, "%.200s", in->path);
    const char *what = arena_strndup(q->arena, buf_str(&b), utf8_fit(buf_str(&b), 200));
    switch ((enum kind)in->kind) {
    case KIND_EXEC:
        return arena_printf(q->arena, "runs %s in it", what);
    case KIND_SHELL:
        return "opens a shell in it";
    case KIND_TCP:
        return arena_printf(q->arena, "connects to its port %s", what);
    case KIND_READ:
        return arena_printf(q->arena, "copies %s out of it", what);
    case KIND_WRITE:
        return arena_printf(q->arena, "copies to %s in it", what);
    }
    return what;
}

static int emit(struct request *q, struct tx *tx, const struct job *j, const struct stream_in *in,
                const char *request, struct err *e)
{
    char who[400], id[ID_TEXT_SIZE];
    const char *actor = arena_strdup(q->arena, principal_text(&q->who, who));
    struct event ev = {.type = "job.stream.opened",
                       .source_type = "job",
                       .source_id = arena_strdup(q->arena, id_text("j", j->id, id)),
                       .owner = j->owner,
                       .actor = actor,
                       .summary = arena_printf(q->arena, "%s %s", actor, told(q, in)),
                       .data = request};
    return event_emit(tx, &ev, e);
}

static int stream_create(struct request *q, struct tx *tx, struct err *e)
{
    const struct stream_in *in = q->body;
    struct job j;
    struct attempt at;
    char id[ID_TEXT_SIZE], stream[STREAM_ID_SIZE];
    int rc = check_ask(q, in, e);
    if (rc == OK)
        rc = native_job(q, tx, job_ref(q), &j, e);
    if (rc == OK)
        rc = running_attempt(q, tx, &j, &at, e);
    if (rc != OK)
        return rc;
    const char *request = request_json(q, in);
    q->audit_target = arena_printf(q->arena, "%s %s", id_text("j", j.id, id), told(q, in));
    rc = emit(q, tx, &j, in, request, e);
    /* If the transaction runs a second time, the first grant is of no use to anybody and expires.
     */
    struct stream_ask ask = {.user = q->who.user_id,
                             .node = at.node_id,
                             .attempt = at.id,
                             .many = in->kind == KIND_TCP,
                             .request = request};
    if (rc == OK)
        rc = fleet_stream_grant(fleet_of(q->house), &ask, stream, e);
    if (rc != OK)
        return rc;
    struct stream_shown shown = {stream, id, at.id};
    return request_answer(q, 201, &stream_view, &shown);
}

static int stream_socket(struct request *q, struct tx *tx, struct err *e)
{
    const struct stream_path *p = q->params;
    return fleet_stream_user(fleet_of(q->house), q, p->id, e);
}

static int agent_stream(struct request *q, struct tx *tx, struct err *e)
{
    const struct stream_path *p = q->params;
    return fleet_stream_agent(fleet_of(q->house), q, p->id, e);
}

static const struct route routes[] = {
    {"POST", "/v1/jobs/{id}/streams", "stream_create",
     "Ask for a stream into a running job: a command, a shell, a port, a copy", ACCESS_OWNER,
     .params = &job_path_view, .body = &stream_in_view, .handle = stream_create,
     .answers = {{201, &stream_view}}, .errors = "400 404 409 429", .tag = "streams"},
    {"WS", "/v1/streams/{id}", "stream_socket", "The person's side of a stream", ACCESS_OWNER,
     .flags = ROUTE_STREAM | ROUTE_NO_TX, .params = &stream_path_view, .handle = stream_socket,
     .tag = "streams"},
    {"WS", "/v1/agent/streams/{id}", "agent_stream", "The agent's side of a stream", ACCESS_AGENT,
     .flags = ROUTE_STREAM | ROUTE_NO_TX, .params = &stream_path_view, .handle = agent_stream,
     .tag = "streams"},
};

static const struct err_text texts[] = {
    {"you have %lld streams open: close one first", "你已打开 %lld 个连接：请先关闭一个"},
    {"the server has %lld streams open: try again later", "服务器已打开 %lld 个连接：请稍后再试"},
    {"there is no such stream, or it was not used in time", "没有这个连接，或未及时使用"},
    {"nobody waits for this stream", "没有人在等待这个连接"},
    {"A port is 1 to 65535", "端口为 1 到 65535"},
    {"The path is empty", "路径为空"},
    {"%s runs at the simulated provider %s, which cannot be connected to: only jobs on own hosts "
     "have streams",
     "%s 运行在模拟供应商 %s，无法连接：只有自有主机上的作业支持"},
    {"%s runs at %s: only jobs on own hosts have streams so far",
     "%s 运行在 %s：目前只有自有主机上的作业支持"},
    {"%s is %s, not running", "%s %s，未在运行"},
    {"%s has no process yet: try again in a moment", "%s 还没有进程：请稍后再试"},
    {"What it left: drover cp %s: .    What it printed: drover logs %s",
     "它留下的文件：drover cp %s: .    它的输出：drover logs %s"},
    {"Wait until it runs: drover show %s", "等待它运行：drover show %s"},
    {0},
};
const struct module native_streams_module = {
    .name = "streams",
    .surface = &native_surface,
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .texts = texts,
};
