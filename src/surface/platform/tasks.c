/* The documented tasks, and a job at its provider (contract 3.4, 3.5). A task is a job; every field
 * here comes from it. */
#include "surface/platform/jobs.h"
#include "surface/surface.h"

#include "base/world.h"
#include "jobs/jobs.h"
#include "providers/providers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- words of this surface for a job's state (conflicts.md, section 4) ---- */

const char *const task_words[] = {"queued",    "queued", "running", "cancelled", "running",
                                  "completed", "failed", "timeout", "cancelled", NULL};
static const char *const provider_words[] = {"pending",   "pending",   "running", "cancelled",
                                             "running",   "completed", "failed",  "failed",
                                             "cancelled", NULL};
static const char *const status_filters[] = {"pending", "queued",    "running", "completed",
                                             "failed",  "cancelled", "timeout", NULL};

static uint32_t states_of_word(const char *word)
{
    uint32_t bits = 0;
    for (int s = 0; s < JOB_STATES; s++)
        if (strcmp(task_words[s], word) == 0)
            bits |= 1u << s;
    return bits;
}

/* ---- tasks ---- */

static void get_priority(struct json *j, const void *obj)
{
    json_text(j, priority_word(((const struct job *)obj)->priority));
}

static int64_t ran_us(const struct job *j)
{
    int64_t end = j->ended_at != 0 ? j->ended_at : now_us();
    return j->started_at != 0 && end > j->started_at ? end - j->started_at : 0;
}

static void get_duration(struct json *j, const void *obj)
{
    const struct job *job = obj;
    if (job->started_at == 0 || job->ended_at == 0)
        json_null(j);
    else
        json_int(j, ran_us(job) / US_PER_S);
}

/* Dollars, four decimals; own hosts cost nothing here. */
static double job_cost(const struct job *j)
{
    const struct provider *p = provider_find(j->provider);
    if (p == NULL || j->started_at == 0)
        return 0.0;
    double hours = (double)ran_us(j) / 3.6e9;
    double price = (double)provider_price_micro(p, j->gpu_type.n > 0 ? j->gpu_type.items[0] : "");
    return round(price / 1e6 * (double)j->gpus * hours * 1e4) / 1e4;
}

static void get_cost(struct json *j, const void *obj)
{
    const struct job *job = obj;
    if (job->ended_at == 0)
        json_null(j);
    else
        json_real(j, job_cost(job));
}

static void get_usd(struct json *j, const void *obj)
{
    json_text(j, "USD");
}

static void get_null(struct json *j, const void *obj)
{
    json_null(j);
}

static const char *extra_member(const struct job *j, const char *name, struct arena *a)
{
    struct jv *v = NULL;
    struct err e;
    const char *text = NULL;
    if (j->extra != NULL && jv_parse(j->extra, strlen(j->extra), &v, NULL, &e) == OK) {
        const struct jv *m = jv_get(v, name);
        if (m != NULL)
            text = jv_dump(m, a);
    }
    jv_free(v);
    return text;
}

static void write_extra(struct json *j, const struct job *job, const char *name)
{
    struct arena a = {0};
    const char *text = extra_member(job, name, &a);
    if (text != NULL)
        json_raw(j, text);
    else
        json_null(j);
    arena_fini(&a);
}

static void get_gpu_spec(struct json *j, const void *obj)
{
    const struct job *job = obj;
    struct arena a = {0};
    const char *text = extra_member(job, "gpu_spec", &a);
    if (text != NULL) {
        json_raw(j, text);
    } else {
        struct gpu_spec s = {job->gpu_type.n > 0 ? job->gpu_type.items[0] : "any", job->gpus, 0,
                             job->cpus != INT_NULL ? job->cpus : 1,
                             job->memory_mib != INT_NULL ? job->memory_mib / 1024 : 0};
        view_write(j, &gpu_spec_view, &s);
    }
    arena_fini(&a);
}

static void get_job_config(struct json *j, const void *obj)
{
    const struct job *job = obj;
    struct arena a = {0};
    const char *text = extra_member(job, "job_config", &a);
    if (text != NULL) {
        json_raw(j, text);
    } else {
        json_open(j, '{');
        json_ktext(j, "name", job->name);
        json_ktext(j, "image", job->image != NULL ? job->image : "");
        json_key(j, "command");
        json_open(j, '[');
        for (size_t i = 0; i < job->command.n; i++)
            json_text(j, job->command.items[i]);
        json_close(j, ']');
        json_close(j, '}');
    }
    arena_fini(&a);
}

static void get_celery(struct json *j, const void *obj)
{
    write_extra(j, obj, "celery_task_id");
}

static void get_completed(struct json *j, const void *obj)
{
    const struct job *job = obj;
    if (job->ended_at == 0)
        json_null(j);
    else
        json_time(j, job->ended_at);
}

#define NULL_SCHEMA   "{\"type\":\"null\"}"
#define MONEY_SCHEMA  "{\"type\":[\"number\",\"null\"]}"
#define TEXT_N_SCHEMA "{\"type\":[\"string\",\"null\"]}"
#define TIME_N_SCHEMA "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define PRIO_SCHEMA   "{\"enum\":[\"low\",\"normal\",\"high\",\"urgent\"]}"

#define TASK_FIELDS                                                                                \
    SAME(struct job, "task_id", uuid), SAME(struct job, "name", name),                             \
        SAME(struct job, "provider", provider),                                                    \
        FIELD(struct job, "status", state, T_ENUM, .names = task_words),                           \
        COMPUTED("priority", get_priority, PRIO_SCHEMA),                                           \
        SAME(struct job, "created_at", created_at), SAME(struct job, "started_at", started_at),    \
        COMPUTED("completed_at", get_completed, TIME_N_SCHEMA),                                    \
        COMPUTED("duration_seconds", get_duration, "{\"type\":[\"integer\",\"null\"]}"),           \
        COMPUTED("actual_cost", get_cost, MONEY_SCHEMA),                                           \
        COMPUTED("currency", get_usd, "{\"type\":\"string\"}"),                                    \
        COMPUTED("mlflow_run_id", get_null, TEXT_N_SCHEMA),                                        \
        SAME(struct job, "simulated", simulated, .flags = F_SOMETIMES)

LOCAL_VIEW(task_view, struct job, "Task", &job_record, 0, TASK_FIELDS);

struct task_detail {
    struct job job; /* first: the fields of a task are read from here */
    const char *logs;
    const char *error_message;
    int64_t updated_at;
};
LOCAL_VIEW(task_detail_view, struct task_detail, "TaskDetail", &job_record, 0, TASK_FIELDS,
           COMPUTED("description", get_null, TEXT_N_SCHEMA),
           FIELD(struct task_detail, "updated_at", updated_at, T_TIME),
           SAME(struct job, "exit_code", exit_code),
           FIELD(struct task_detail, "error_message", error_message, T_TEXT,
                 .flags = F_NULL | F_TOLD),
           FIELD(struct task_detail, "logs", logs, T_TEXT, .flags = F_NULL),
           COMPUTED("job_config", get_job_config, "{\"type\":\"object\"}"),
           COMPUTED("gpu_spec", get_gpu_spec, "{\"$ref\":\"#/components/schemas/GpuSpec\"}"),
           COMPUTED("estimated_cost", get_null, MONEY_SCHEMA),
           SAME(struct job, "external_job_id", external_id),
           COMPUTED("celery_task_id", get_celery, TEXT_N_SCHEMA),
           COMPUTED("mlflow_experiment_name", get_null, TEXT_N_SCHEMA));

struct task_query {
    int64_t skip, limit;
    int status_filter;
    const char *provider_filter, *user_id;
};
LOCAL_VIEW(task_query_view, struct task_query, "TaskQuery", NULL, 0,
           FIELD(struct task_query, "skip", skip, T_INT, .min = 0, .max = 1 << 30, .def = "0"),
           FIELD(struct task_query, "limit", limit, T_INT, .min = 1, .max = 1000, .def = "100"),
           FIELD(struct task_query, "status_filter", status_filter, T_ENUM, .flags = F_NULL,
                 .names = status_filters),
           FIELD(struct task_query, "provider_filter", provider_filter, T_TEXT, .flags = F_NULL),
           FIELD(struct task_query, "user_id", user_id, T_UUID, .flags = F_NULL,
                 .doc = "administrators: the tasks of this user"));
struct task_list {
    struct list tasks;
    int64_t total;
};
LOCAL_VIEW(task_list_view, struct task_list, "TaskList", NULL, 0,
           LIST(struct task_list, "tasks", tasks, &task_view),
           FIELD(struct task_list, "total", total, T_INT));

static int list_tasks(struct request *q, struct tx *tx, struct err *e)
{
    const struct task_query *in = q->query;
    struct job_filter f = {
        .who = &q->who, .provider = in->provider_filter, .skip = in->skip, .limit = in->limit};
    if (in->status_filter >= 0) {
        f.states = states_of_word(status_filters[in->status_filter]);
        if (f.states == 0) /* "pending" is never stored: a job is queued at once */
            return request_answer(q, 200, &task_list_view, &(struct task_list){0});
    }
    int rc = OK;
    if (in->user_id != NULL) {
        int64_t owner = 0;
        bool found = false;
        if (!principal_is_admin(&q->who) && strcmp(in->user_id, q->who.uuid) != 0)
            return err_set(e, ERR_FORBIDDEN, "only an administrator may do this");
        rc = tx_int(tx, "SELECT id FROM users WHERE uuid = ?1", ARGS(v_text(in->user_id)), &owner,
                    &found, e);
        if (rc == OK && !found)
            return request_answer(q, 200, &task_list_view, &(struct task_list){0});
        f.owner = owner;
    }
    struct task_list l;
    if (rc == OK)
        rc = job_list(tx, &f, q->arena, &l.tasks, e);
    if (rc == OK)
        rc = job_count(tx, &f, &l.total, e);
    if (rc != OK)
        return rc;
    request_header(q, "X-Total-Count", arena_printf(q->arena, "%lld", (long long)l.total));
    return request_answer(q, 200, &task_list_view, &l);
}

struct task_params {
    const char *task_id;
};
LOCAL_VIEW(task_params_view, struct task_params, "TaskId", NULL, 0,
           FIELD(struct task_params, "task_id", task_id, T_UUID, .flags = F_REQUIRED));

static int own_task(struct request *q, struct tx *tx, struct job *out, struct err *e)
{
    int rc = job_find(tx, ((struct task_params *)q->params)->task_id, &q->who, q->arena, out, e);
    return rc == ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND, "Task not found") : rc;
}

/* At most n bytes of the newest attempt's text; tail: the last `lines` of it. */
static int log_text(struct request *q, struct tx *tx, int64_t job, int64_t lines, size_t max,
                    const char **out, struct err *e)
{
    struct logs *logs = jobs_logs(jobs_of(q->house));
    int64_t attempt;
    int rc = job_last_attempt(tx, job, &attempt, e);
    *out = NULL;
    if (rc != OK || attempt == 0)
        return rc;
    struct logs_query lq = {.from = lines > 0 ? LOGS_FROM_TAIL : LOGS_FROM_START,
                            .at = lines,
                            .max_lines = LOGS_LINES_MAX,
                            .max_bytes = max};
    struct logs_page page;
    if ((rc = logs_read(logs, attempt, &lq, q->arena, &page, e)) != OK)
        return rc;
    struct buf b = {.max = max};
    for (size_t i = 0; i < page.n && !b.overflow; i++) {
        buf_add(&b, page.lines[i].text, page.lines[i].len);
        if (!page.lines[i].partial)
            buf_addc(&b, '\n');
    }
    *out = arena_strndup(q->arena, buf_str(&b), b.len);
    for (char *c = (char *)(uintptr_t)*out, *end = c + b.len; c < end; c++)
        if (*c == '\0')
            *c = ' '; /* a JSON text ends at its quote, not at a NUL that a job printed */
    buf_fini(&b);
    return OK;
}

static int show_task(struct request *q, struct tx *tx, struct err *e)
{
    struct task_detail d;
    int rc = own_task(q, tx, &d.job, e);
    if (rc == OK)
        rc = log_text(q, tx, d.job.id, 0, 10000, &d.logs, e);
    if (rc != OK)
        return rc;
    bool bad = d.job.state == JOB_FAILED || d.job.state == JOB_TIMEOUT;
    d.error_message = bad ? d.job.reason : NULL;
    d.updated_at = d.job.ended_at     ? d.job.ended_at
                   : d.job.started_at ? d.job.started_at
                                      : d.job.queued_at;
    return request_answer(q, 200, &task_detail_view, &d);
}

struct cancelled {
    const char *task_id, *status, *message;
};
LOCAL_VIEW(cancelled_view, struct cancelled, "CancelledTask", NULL, 0,
           FIELD(struct cancelled, "task_id", task_id, T_UUID),
           FIELD(struct cancelled, "status", status, T_TEXT),
           FIELD(struct cancelled, "message", message, T_TEXT));

static int cancel_task(struct request *q, struct tx *tx, struct err *e)
{
    struct job j, after;
    bool changed;
    int rc = own_task(q, tx, &j, e);
    if (rc == OK)
        rc = job_cancel(tx, j.id, &q->who, -1, q->arena, &after, &changed, e);
    if (rc != OK)
        return rc;
    q->audit_target = j.uuid;
    struct cancelled c = {j.uuid, "cancelled", "Task cancellation request sent"};
    /* "cancelling" is an end here: this surface has no word for processes that are being ended */
    if (job_ended(j.state) || j.state == JOB_CANCELLING) {
        c.status = task_words[j.state];
        c.message = arena_printf(q->arena, "Task is already in terminal state: %s", c.status);
    }
    return request_answer(q, 200, &cancelled_view, &c);
}

/* ---- a job at its provider ---- */

struct provider_job_params {
    const char *provider_name, *job_id;
};
LOCAL_VIEW(provider_job_view, struct provider_job_params, "ProviderJob", NULL, 0,
           FIELD(struct provider_job_params, "provider_name", provider_name, T_TEXT,
                 .flags = F_REQUIRED),
           FIELD(struct provider_job_params, "job_id", job_id, T_TEXT, .flags = F_REQUIRED,
                 .min = 1, .max = 200, .doc = "the task's id, or the provider's own"));

static int provider_job(struct request *q, struct tx *tx, struct job *out, struct err *e)
{
    const struct provider_job_params *p = q->params;
    if (strcmp(p->provider_name, "local") != 0 && provider_find(p->provider_name) == NULL)
        return err_set(e, ERR_MALFORMED, "Unsupported provider: %s", p->provider_name);
    bool found = false;
    struct job j;
    int rc = record_get(tx, &job_record, "WHERE provider = ?1 AND (uuid = ?2 OR external_id = ?2)",
                        ARGS(v_text(p->provider_name), v_text(p->job_id)), q->arena, &j, &found, e);
    if (rc == OK && (!found || !principal_sees(&q->who, j.owner)))
        return err_set(e, ERR_NOT_FOUND, "Job %s not found", p->job_id);
    if (rc == OK)
        *out = j;
    return rc;
}

struct job_result {
    struct job job;
    const char *logs;
};
static void get_job_id(struct json *j, const void *obj)
{
    const struct job *job = obj;
    json_text(j, job->external_id != NULL ? job->external_id : job->uuid);
}
static void get_error(struct json *j, const void *obj)
{
    const struct job *job = obj;
    AUTO(buf) struct buf told = {0};
    bool bad = (job->state == JOB_FAILED || job->state == JOB_TIMEOUT) && job->reason != NULL;
    if (bad)
        err_retell(&told, job->reason);
    json_text(j, bad ? buf_str(&told) : NULL);
}
LOCAL_VIEW(job_result_view, struct job_result, "JobResult", &job_record, 0,
           COMPUTED("job_id", get_job_id, "{\"type\":\"string\"}"),
           FIELD(struct job, "status", state, T_ENUM, .names = provider_words),
           SAME(struct job, "created_at", created_at), SAME(struct job, "started_at", started_at),
           SAME(struct job, "completed_at", ended_at),
           FIELD(struct job_result, "logs", logs, T_TEXT, .flags = F_NULL),
           SAME(struct job, "exit_code", exit_code),
           COMPUTED("error_message", get_error, TEXT_N_SCHEMA));
struct job_status {
    const char *provider;
    struct job_result result;
};
LOCAL_VIEW(job_status_view, struct job_status, "JobStatus", NULL, 0,
           FIELD(struct job_status, "provider", provider, T_TEXT),
           OBJECT(struct job_status, "result", result, &job_result_view));

static int provider_job_status(struct request *q, struct tx *tx, struct err *e)
{
    struct job_status s;
    int rc = provider_job(q, tx, &s.result.job, e);
    if (rc == OK)
        rc = log_text(q, tx, s.result.job.id, 0, 10000, &s.result.logs, e);
    if (rc != OK)
        return rc;
    s.provider = s.result.job.provider;
    return request_answer(q, 200, &job_status_view, &s);
}

struct lines_query {
    int64_t lines;
};
LOCAL_VIEW(lines_query_view, struct lines_query, "LinesQuery", NULL, 0,
           FIELD(struct lines_query, "lines", lines, T_INT, .flags = F_NULL, .min = 1,
                 .max = 100000, .doc = "the last lines only"));
struct job_logs {
    const char *provider, *job_id, *logs;
};
LOCAL_VIEW(job_logs_view, struct job_logs, "JobLogs", NULL, 0,
           FIELD(struct job_logs, "provider", provider, T_TEXT),
           FIELD(struct job_logs, "job_id", job_id, T_TEXT),
           FIELD(struct job_logs, "logs", logs, T_TEXT));

static int provider_job_logs(struct request *q, struct tx *tx, struct err *e)
{
    struct job j;
    struct job_logs l = {.job_id = ((struct provider_job_params *)q->params)->job_id};
    int64_t lines = ((struct lines_query *)q->query)->lines;
    int rc = provider_job(q, tx, &j, e);
    if (rc == OK)
        rc = log_text(q, tx, j.id, lines != INT_NULL ? lines : 0, 8 << 20, &l.logs, e);
    if (rc != OK)
        return rc;
    l.provider = j.provider;
    if (l.logs == NULL)
        l.logs = "";
    return request_answer(q, 200, &job_logs_view, &l);
}

static void write_cost(struct json *j, const void *obj)
{
    const struct job *job = obj;
    char from[TIME_TEXT_SIZE], to[TIME_TEXT_SIZE], period[2 * TIME_TEXT_SIZE + 8];
    const struct provider *p = provider_find(job->provider);
    const char *type = job->gpu_type.n > 0 ? job->gpu_type.items[0] : "";
    double total = job_cost(job);
    json_open(j, '{');
    json_ktext(j, "job_id", job->external_id != NULL ? job->external_id : job->uuid);
    json_kreal(j, "total_cost", total);
    json_ktext(j, "currency", "USD");
    json_key(j, "cost_breakdown");
    json_open(j, '{');
    if (p != NULL && strcmp(p->name, "runpod") == 0) {
        json_kreal(j, "hourly_rate",
                   (double)provider_price_micro(p, type) / 1e6 * (double)job->gpus);
        json_kreal(j, "runtime_hours", (double)ran_us(job) / 3.6e9);
        json_kreal(j, "compute_cost", total);
        json_kreal(j, "gpu_count", (double)job->gpus);
    } else {
        json_kreal(j, "compute", total);
        json_kreal(j, "storage", 0.0);
        json_kreal(j, "network", 0.0);
    }
    json_close(j, '}');
    int64_t begin = job->started_at != 0 ? job->started_at : job->created_at;
    snprintf(period, sizeof(period), "%s to %s", time_format(begin, from),
             job->ended_at != 0 ? time_format(job->ended_at, to) : "now");
    json_ktext(j, "billing_period",
               p != NULL && strcmp(p->name, "runpod") != 0 ? "hourly" : period);
    json_close(j, '}');
}
LOCAL_VIEW(job_cost_view, struct job, "JobCost", &job_record, 0,
           SAME(struct job, "provider", provider),
           COMPUTED("cost_info", write_cost,
                    "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"job_id\","
                    "\"total_cost\",\"currency\",\"cost_breakdown\",\"billing_period\"],"
                    "\"properties\":{\"job_id\":{\"type\":\"string\"},\"total_cost\":{\"type\":"
                    "\"number\"},\"currency\":{\"type\":\"string\"},\"cost_breakdown\":{\"type\":"
                    "\"object\",\"additionalProperties\":{\"type\":\"number\"}},"
                    "\"billing_period\":{\"type\":\"string\"}}}"));

static int provider_job_cost(struct request *q, struct tx *tx, struct err *e)
{
    struct job j;
    int rc = provider_job(q, tx, &j, e);
    return rc == OK ? request_answer(q, 200, &job_cost_view, &j) : rc;
}

/* ---- routes ---- */

static const struct route platform_tasks_routes[] = {
    {.method = "GET",
     .path = "/api/gpu/jobs/{provider_name}/{job_id}/status",
     .name = "platform_job_status",
     .summary = "Status of a job as its provider reports it",
     .access = ACCESS_OWNER,
     .params = &provider_job_view,
     .handle = provider_job_status,
     .answers = {{200, &job_status_view}},
     .errors = "404",
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/jobs/{provider_name}/{job_id}/logs",
     .name = "platform_job_logs",
     .summary = "Log text of a job from its provider",
     .access = ACCESS_OWNER,
     .params = &provider_job_view,
     .query = &lines_query_view,
     .handle = provider_job_logs,
     .answers = {{200, &job_logs_view}},
     .errors = "404",
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/jobs/{provider_name}/{job_id}/cost",
     .name = "platform_job_cost",
     .summary = "Cost so far of a job from its provider",
     .access = ACCESS_OWNER,
     .params = &provider_job_view,
     .handle = provider_job_cost,
     .answers = {{200, &job_cost_view}},
     .errors = "404",
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/tasks",
     .name = "platform_tasks",
     .summary = "List the caller's tasks, newest first",
     .access = ACCESS_OWNER,
     .query = &task_query_view,
     .handle = list_tasks,
     .answers = {{200, &task_list_view}},
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/tasks/{task_id}",
     .name = "platform_task",
     .summary = "Full detail of one task",
     .access = ACCESS_OWNER,
     .params = &task_params_view,
     .handle = show_task,
     .answers = {{200, &task_detail_view}},
     .errors = "404",
     .tag = JOBS_TAG},
    {.method = "POST",
     .path = "/api/gpu/tasks/{task_id}/cancel",
     .name = "platform_task_cancel",
     .summary = "Cancel a task",
     .access = ACCESS_OWNER,
     .params = &task_params_view,
     .handle = cancel_task,
     .answers = {{200, &cancelled_view}},
     .errors = "404",
     .tag = JOBS_TAG},
};

static const struct err_text platform_tasks_texts[] = {
    {"Task not found", "任务不存在"},
    {"Job %s not found", "任务 %s 不存在"},
    {0},
};

const struct module platform_tasks_module = {
    .name = "platform tasks",
    .surface = &platform_surface,
    .routes = platform_tasks_routes,
    .n_routes = ARRAY_LEN(platform_tasks_routes),
    .texts = platform_tasks_texts,
};
