/* The documented submit: the scored choice of a provider, or the own hosts (contract 3.3). */
#include "surface/platform/jobs.h"
#include "surface/surface.h"

#include "base/world.h"
#include "jobs/jobs.h"
#include "providers/providers.h"

#include <stdio.h>
#include <string.h>

static const char *const priority_words[] = {"low", "normal", "high", "urgent", NULL};

struct submit_query {
    int priority, scheduling_strategy;
    const char *preferred_provider;
};
LOCAL_VIEW(submit_query_view, struct submit_query, "SubmitQuery", NULL, 0,
           FIELD(struct submit_query, "priority", priority, T_ENUM, .flags = F_ANYCASE,
                 .names = priority_words, .def = "\"normal\""),
           FIELD(struct submit_query, "preferred_provider", preferred_provider, T_TEXT,
                 .flags = F_NULL, .doc = "a provider's name, or local for the own hosts"),
           FIELD(struct submit_query, "scheduling_strategy", scheduling_strategy, T_ENUM,
                 .flags = F_NULL, .names = strategy_names));

struct job_config {
    const char *name, *image;
    struct texts command;
    struct gpu_spec gpu_spec;
    struct textmap environment, volumes;
    int64_t timeout_minutes, retry_count;
};
LOCAL_VIEW(job_config_view, struct job_config, "JobConfig", NULL, 0,
           FIELD(struct job_config, "name", name, T_TEXT, .flags = F_REQUIRED, .min = 1,
                 .max = 255),
           FIELD(struct job_config, "image", image, T_TEXT, .flags = F_REQUIRED, .min = 0,
                 .max = 1024, .doc = "container image; empty: a plain process, on own hosts only"),
           FIELD(struct job_config, "command", command, T_TEXTS, .flags = F_REQUIRED),
           OBJECT(struct job_config, "gpu_spec", gpu_spec, &gpu_spec_view, .flags = F_REQUIRED),
           FIELD(struct job_config, "environment", environment, T_TEXTMAP, .flags = F_NULL),
           FIELD(struct job_config, "volumes", volumes, T_TEXTMAP, .flags = F_NULL,
                 .doc = "mount path to host path"),
           FIELD(struct job_config, "timeout_minutes", timeout_minutes, T_INT, .flags = F_NULL,
                 .min = 1, .max = 525600),
           FIELD(struct job_config, "retry_count", retry_count, T_INT, .min = 0, .max = 10,
                 .def = "0"));

struct scheduling_spec {
    const char *gpu_type;
    int64_t gpu_count, memory_gb, vcpus, priority;
};
LOCAL_VIEW(scheduling_spec_view, struct scheduling_spec, "SchedulingSpec", NULL, 0,
           FIELD(struct scheduling_spec, "gpu_type", gpu_type, T_TEXT),
           FIELD(struct scheduling_spec, "gpu_count", gpu_count, T_INT),
           FIELD(struct scheduling_spec, "memory_gb", memory_gb, T_INT),
           FIELD(struct scheduling_spec, "vcpus", vcpus, T_INT),
           FIELD(struct scheduling_spec, "priority", priority, T_INT));
struct scheduling_info {
    const char *strategy;
    double provider_score;
    int64_t estimated_duration;
    struct scheduling_spec gpu_spec;
};
LOCAL_VIEW(scheduling_info_view, struct scheduling_info, "SchedulingInfo", NULL, 0,
           FIELD(struct scheduling_info, "strategy", strategy, T_TEXT),
           FIELD(struct scheduling_info, "provider_score", provider_score, T_REAL),
           FIELD(struct scheduling_info, "estimated_duration", estimated_duration, T_INT),
           OBJECT(struct scheduling_info, "gpu_spec", gpu_spec, &scheduling_spec_view));
struct submitted {
    bool simulated;
    const char *task_id, *celery_task_id, *provider, *routing_key, *queue, *status, *message;
    int64_t created_at;
    struct scheduling_info scheduling_info;
};
LOCAL_VIEW(submitted_view, struct submitted, "SubmittedTask", NULL, 0,
           FIELD(struct submitted, "task_id", task_id, T_UUID),
           FIELD(struct submitted, "celery_task_id", celery_task_id, T_UUID),
           FIELD(struct submitted, "provider", provider, T_TEXT),
           FIELD(struct submitted, "routing_key", routing_key, T_TEXT),
           FIELD(struct submitted, "queue", queue, T_TEXT),
           FIELD(struct submitted, "status", status, T_TEXT),
           FIELD(struct submitted, "message", message, T_TEXT),
           FIELD(struct submitted, "created_at", created_at, T_TIME),
           OBJECT(struct submitted, "scheduling_info", scheduling_info, &scheduling_info_view),
           FIELD(struct submitted, "simulated", simulated, T_BOOL, .flags = F_SOMETIMES,
                 .doc = "true: no machine is rented, nothing runs"));

/* What the documented answers must give back later and the job itself has no word for. */
static const char *extra_of(struct request *q, const struct job_config *c, const char *celery_id,
                            const char *queue)
{
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "celery_task_id", celery_id);
    json_ktext(&j, "queue", queue);
    json_key(&j, "gpu_spec");
    view_write(&j, &gpu_spec_view, &c->gpu_spec);
    json_key(&j, "job_config");
    view_write(&j, &job_config_view, c);
    json_close(&j, '}');
    const char *text = arena_strdup(q->arena, buf_str(&b));
    buf_fini(&b);
    return text;
}

static int submit(struct request *q, struct tx *tx, struct err *e)
{
    const struct submit_query *how = q->query;
    const struct job_config *c = q->body;
    int64_t priority = priority_parse(priority_words[how->priority]);
    int strategy = how->scheduling_strategy;
    if (strategy < 0)
        strategy = names_find(strategy_names,
                              setting_text(q->house, "DEFAULT_SCHEDULING_STRATEGY"));
    const char *wanted = how->preferred_provider != NULL
                             ? how->preferred_provider
                             : setting_text(q->house, "DEFAULT_PROVIDER");
    bool local = wanted != NULL && strcmp(wanted, "local") == 0;
    const struct provider *preferred = NULL, *p = NULL;
    double score = 1.0;
    if (wanted != NULL && !local) {
        preferred = provider_find(wanted);
        if (preferred == NULL)
            return err_set(e, ERR_MALFORMED, "Unsupported provider: %s", wanted);
    }
    if (!local) {
        p = provider_choose(c->gpu_spec.gpu_type, (enum strategy)strategy, preferred, &score);
        if (p == NULL)
            return err_set(e, ERR_UNAVAILABLE,
                           "No available providers for the requested GPU specification");
        if (provider_ops_now(q->house, p) == NULL)
            return err_set(e, ERR_UNAVAILABLE,
                           "%s takes no jobs: %s is not set (own hosts: preferred_provider=local)",
                           p->display_name, p->variable);
        if (c->image[0] == '\0')
            return request_invalid(q, e, "image", "string_too_short",
                                   "a cloud needs a container image; only own hosts run plain "
                                   "processes");
    }
    if (local && c->image[0] != '\0')
        return request_invalid(q, e, "image", "value_error",
                               "own hosts run plain processes: send an empty image");
    for (size_t i = 0; i < c->environment.n; i++)
        if (c->environment.keys[i][0] == '\0' || strchr(c->environment.keys[i], '=') != NULL)
            return request_invalid(q, e, "environment", "value_error",
                                   "a variable's name is not empty and has no =");
    if (c->image[0] == '\0' && c->command.n == 0)
        return request_invalid(q, e, "command", "value_error", "a plain process needs a command");
    char celery[UUID_TEXT_SIZE], key[160];
    struct provider own = {.name = "local"};
    const char *name = local ? "local" : p->name;
    routing_key(local ? &own : p, c->gpu_spec.gpu_type, c->gpu_spec.gpu_count, priority, key);
    const char *queue = routing_queue(priority);
    uuid_v4(celery);
    struct texts types = {.items = (const char *[]){c->gpu_spec.gpu_type}, .n = 1};
    struct job_spec spec = {.name = c->name,
                            .kind = JOB_CLOUD,
                            .command = c->command,
                            .env = c->environment,
                            .image = c->image[0] != '\0' ? c->image : NULL,
                            .gpus = c->gpu_spec.gpu_count,
                            .gpu_type = types,
                            .cpus = INT_NULL,
                            .memory_mib = INT_NULL,
                            .time_limit_s = c->timeout_minutes != INT_NULL
                                                ? c->timeout_minutes * 60
                                                : setting_int(q->house, "TASK_TIMEOUT_SECONDS"),
                            .priority = priority,
                            .retries = c->retry_count,
                            .provider = name,
                            .extra = extra_of(q, c, celery, queue),
                            .simulated = !local};
    struct job j;
    int rc = job_submit(tx, &spec, &q->who, q->arena, &j, e);
    if (rc != OK)
        return rc;
    q->audit_target = j.uuid;
    struct submitted s = {
        .simulated = !local,
        .task_id = j.uuid,
        .celery_task_id = celery,
        .provider = name,
        .routing_key = key,
        .queue = queue,
        .status = "queued",
        .message = arena_printf(q->arena, "Job intelligently scheduled to %s", name),
        .created_at = j.created_at,
        .scheduling_info = {strategy_names[strategy],
                            score,
                            60, /* the raw requirement, as documented */
                            {c->gpu_spec.gpu_type, c->gpu_spec.gpu_count, c->gpu_spec.memory_gb,
                             c->gpu_spec.vcpus, priority}}};
    return request_answer(q, 200, &submitted_view, &s);
}

/* ---- routes ---- */

static const struct route platform_submit_routes[] = {
    {.method = "POST",
     .path = "/api/gpu/jobs/submit",
     .name = "platform_submit",
     .summary = "Submit a GPU job; the scheduler picks the provider and the queue",
     .access = ACCESS_USER,
     .query = &submit_query_view,
     .body = &job_config_view,
     .handle = submit,
     .answers = {{200, &submitted_view}},
     .errors = "409",
     .tag = JOBS_TAG},
};

const struct module platform_submit_module = {
    .name = "platform submit",
    .surface = &platform_surface,
    .routes = platform_submit_routes,
    .n_routes = ARRAY_LEN(platform_submit_routes),
};
