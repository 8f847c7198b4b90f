/* The documented providers and the scheduler's scores (contract 3.2, 3.3). */
#include "surface/platform/jobs.h"
#include "surface/surface.h"

#include "base/world.h"
#include "providers/providers.h"

#include <stdio.h>
#include <string.h>

VIEW(gpu_spec_view, struct gpu_spec, "GpuSpec", NULL, 0,
     FIELD(struct gpu_spec, "gpu_type", gpu_type, T_TEXT, .flags = F_REQUIRED, .min = 1,
           .max = 100),
     FIELD(struct gpu_spec, "gpu_count", gpu_count, T_INT, .flags = F_REQUIRED, .min = 1,
           .max = 1024),
     FIELD(struct gpu_spec, "memory_gb", memory_gb, T_INT, .flags = F_REQUIRED, .min = 0,
           .max = 1 << 20),
     FIELD(struct gpu_spec, "vcpus", vcpus, T_INT, .flags = F_REQUIRED, .min = 1, .max = 1 << 20),
     FIELD(struct gpu_spec, "ram_gb", ram_gb, T_INT, .flags = F_REQUIRED, .min = 0,
           .max = 1 << 20));
/* ---- providers ---- */

struct provider_row {
    const char *name, *display_name, *description;
};
LOCAL_VIEW(provider_view, struct provider_row, "Provider", NULL, 0,
           FIELD(struct provider_row, "name", name, T_TEXT),
           FIELD(struct provider_row, "display_name", display_name, T_TEXT),
           FIELD(struct provider_row, "description", description, T_TEXT));
struct provider_list {
    struct list providers;
};
LOCAL_VIEW(provider_list_view, struct provider_list, "ProviderList", NULL, 0,
           LIST(struct provider_list, "providers", providers, &provider_view));

static const char *const include_words[] = {"local", NULL};
struct include_query {
    int include;
};
LOCAL_VIEW(include_view, struct include_query, "ProviderInclude", NULL, 0,
           FIELD(struct include_query, "include", include, T_ENUM, .names = include_words,
                 .doc = "local: list the own hosts too"));

static int list_providers(struct request *q, struct tx *tx, struct err *e)
{
    struct provider_row rows[8];
    struct provider_list l = {.providers = {rows, 0}};
    for (size_t i = 0; i < n_providers; i++)
        rows[l.providers.n++] = (struct provider_row){providers[i].name, providers[i].display_name,
                                                      providers[i].description};
    if (((struct include_query *)q->query)->include == 0)
        rows[l.providers.n++] = (struct provider_row){"local", "Own hosts",
                                                      "GPUs of your own machines"};
    return request_answer(q, 200, &provider_list_view, &l);
}

struct name_params {
    const char *provider_name;
};
LOCAL_VIEW(name_params_view, struct name_params, "ProviderName", NULL, 0,
           FIELD(struct name_params, "provider_name", provider_name, T_TEXT, .flags = F_REQUIRED,
                 .doc = "runpod, tencent or alibaba"));

static int named_provider(const char *name, const struct provider **out, struct err *e)
{
    *out = provider_find(name);
    if (*out == NULL)
        return err_set(e, ERR_MALFORMED, "Unsupported provider: %s", name);
    return OK;
}

struct gpu_offers {
    const char *provider;
    struct list available_gpus;
};
LOCAL_VIEW(gpu_offers_view, struct gpu_offers, "ProviderGpus", NULL, 0,
           FIELD(struct gpu_offers, "provider", provider, T_TEXT),
           LIST(struct gpu_offers, "available_gpus", available_gpus, &gpu_spec_view));

static int provider_gpus(struct request *q, struct tx *tx, struct err *e)
{
    const struct provider *p;
    int rc = named_provider(((struct name_params *)q->params)->provider_name, &p, e);
    if (rc != OK)
        return rc;
    struct gpu_spec rows[16];
    struct gpu_offers o = {p->name, {rows, 0}};
    for (size_t i = 0; i < p->n_offers && i < ARRAY_LEN(rows); i++)
        rows[o.available_gpus.n++] = (struct gpu_spec){
            p->offers[i].gpu_type, p->offers[i].gpu_count, p->offers[i].memory_gb,
            p->offers[i].vcpus, p->offers[i].ram_gb};
    return request_answer(q, 200, &gpu_offers_view, &o);
}

struct health {
    const char *provider; /* runpod, tencent, … */
    const char *missing;  /* the variable that is not set */
    bool simulated;
};

/* Members differ by provider (contract 3.2); none of them is reached today: their adapters come
 * with the clouds, and until a credential can be used each is unhealthy and says why. */
static void write_health(struct json *j, const void *obj)
{
    const struct health *h = obj;
    char text[200];
    snprintf(text, sizeof(text), "%s is not set", h->missing);
    json_open(j, '{');
    json_ktext(j, "status", "unhealthy");
    json_ktime(j, "timestamp", now_us());
    if (strcmp(h->provider, "runpod") == 0) {
        json_ktext(j, "message", text);
        json_knull(j, "response_time_ms");
    } else {
        bool tencent = strcmp(h->provider, "tencent") == 0;
        json_ktext(j, "provider", tencent ? "tencent_cloud" : "alibaba_cloud");
        json_knull(j, "region");
        if (tencent) {
            json_knull(j, "cluster_id");
            json_kbool(j, "tke_api_accessible", false);
            json_kbool(j, "kubernetes_api_accessible", false);
        } else {
            json_kbool(j, "api_accessible", false);
        }
        json_ktext(j, "error", text);
    }
    if (h->simulated)
        json_kbool(j, "simulated", true);
    json_close(j, '}');
}
static const char health_schema[] =
    "{\"type\":\"object\",\"required\":[\"status\",\"timestamp\"],\"additionalProperties\":false,"
    "\"properties\":{\"status\":{\"enum\":[\"healthy\",\"unhealthy\"]},\"timestamp\":{\"type\":"
    "\"string\",\"format\":\"date-time\"},\"message\":{\"type\":\"string\"},\"response_time_ms\":{"
    "\"type\":[\"number\",\"null\"]},\"user_id\":{\"type\":\"string\"},\"user_email\":{\"type\":"
    "\"string\"},\"provider\":{\"type\":\"string\"},\"region\":{\"type\":[\"string\",\"null\"]},"
    "\"cluster_id\":{\"type\":[\"string\",\"null\"]},\"tke_api_accessible\":{\"type\":\"boolean\"},"
    "\"kubernetes_api_accessible\":{\"type\":\"boolean\"},\"api_accessible\":{\"type\":"
    "\"boolean\"},\"error\":{\"type\":\"string\"},\"simulated\":{\"type\":\"boolean\"}}}";
LOCAL_VIEW(health_view, struct health, "ProviderHealth", NULL, 0,
           FIELD(struct health, "provider", provider, T_TEXT),
           COMPUTED("health", write_health, health_schema));

static int provider_health(struct request *q, struct tx *tx, struct err *e)
{
    const struct provider *p;
    int rc = named_provider(((struct name_params *)q->params)->provider_name, &p, e);
    if (rc != OK)
        return rc;
    struct health h = {p->name, p->variable, provider_ops_now(q->house, p) != NULL};
    return request_answer(q, 200, &health_view, &h);
}

/* ---- scheduling ---- */

static void write_metrics(struct json *j)
{
    json_open(j, '{');
    for (size_t i = 0; i < n_providers; i++) {
        const struct provider *p = &providers[i];
        json_key(j, p->name);
        json_open(j, '{');
        json_ktext(j, "provider_name", p->name);
        json_kreal(j, "availability_score", p->inputs.availability);
        json_kreal(j, "avg_cost_per_hour", p->inputs.cost_per_hour);
        json_kreal(j, "avg_queue_time_minutes", p->inputs.queue_minutes);
        json_kreal(j, "success_rate", p->inputs.success_rate);
        json_kreal(j, "current_load", p->inputs.load);
        json_key(j, "supported_gpu_types");
        json_open(j, '[');
        for (size_t k = 0; k < ARRAY_LEN(p->gpu_types) && p->gpu_types[k] != NULL; k++)
            json_text(j, p->gpu_types[k]);
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, '}');
}
#define METRICS_SCHEMA                                                                             \
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"object\",\"additionalProperties\":" \
    "false,\"required\":[\"provider_name\",\"availability_score\",\"avg_cost_per_hour\","          \
    "\"avg_queue_time_minutes\",\"success_rate\",\"current_load\",\"supported_gpu_types\"],"       \
    "\"properties\":{\"provider_name\":{\"type\":\"string\"},\"availability_score\":{\"type\":"    \
    "\"number\"},\"avg_cost_per_hour\":{\"type\":\"number\"},\"avg_queue_time_minutes\":{"         \
    "\"type\":"                                                                                    \
    "\"number\"},\"success_rate\":{\"type\":\"number\"},\"current_load\":{\"type\":\"number\"},"   \
    "\"supported_gpu_types\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}}}}"

static void metrics_member(struct json *j, const void *obj)
{
    write_metrics(j);
}

struct metrics {
    int64_t total_providers, healthy_providers;
    int64_t timestamp;
};
LOCAL_VIEW(metrics_view, struct metrics, "SchedulingMetrics", NULL, 0,
           COMPUTED("provider_metrics", metrics_member, METRICS_SCHEMA),
           FIELD(struct metrics, "total_providers", total_providers, T_INT),
           FIELD(struct metrics, "healthy_providers", healthy_providers, T_INT),
           FIELD(struct metrics, "timestamp", timestamp, T_TIME));

static int scheduling_metrics(struct request *q, struct tx *tx, struct err *e)
{
    struct metrics m = {(int64_t)n_providers, 0, now_us()};
    for (size_t i = 0; i < n_providers; i++)
        m.healthy_providers += providers[i].inputs.availability > 0.7;
    return request_answer(q, 200, &metrics_view, &m);
}

struct requirement {
    const char *gpu_type;
    int64_t gpu_count, memory_gb, vcpus, estimated_duration_minutes, priority;
};
LOCAL_VIEW(requirement_query_view, struct requirement, "RecommendationQuery", NULL, 0,
           FIELD(struct requirement, "gpu_type", gpu_type, T_TEXT, .flags = F_REQUIRED),
           FIELD(struct requirement, "gpu_count", gpu_count, T_INT, .min = 1, .max = 1 << 20,
                 .def = "1"),
           FIELD(struct requirement, "memory_gb", memory_gb, T_INT, .flags = F_NULL, .min = 0,
                 .max = 1 << 20, .def = "0"),
           FIELD(struct requirement, "vcpus", vcpus, T_INT, .min = 1, .max = 1 << 20, .def = "4"),
           FIELD(struct requirement, "estimated_duration_minutes", estimated_duration_minutes,
                 T_INT, .min = 1, .max = 1 << 30, .def = "60"),
           FIELD(struct requirement, "priority", priority, T_INT, .min = 1, .max = 10, .def = "5"));
LOCAL_VIEW(requirement_view, struct requirement, "TaskRequirement", NULL, 0,
           FIELD(struct requirement, "gpu_type", gpu_type, T_TEXT),
           FIELD(struct requirement, "gpu_count", gpu_count, T_INT),
           FIELD(struct requirement, "memory_gb", memory_gb, T_INT),
           FIELD(struct requirement, "vcpus", vcpus, T_INT),
           FIELD(struct requirement, "estimated_duration_minutes", estimated_duration_minutes,
                 T_INT),
           FIELD(struct requirement, "priority", priority, T_INT));

struct recommendations {
    struct requirement task_requirement;
};
static void write_recommendations(struct json *j, const void *obj)
{
    const struct requirement *r = &((const struct recommendations *)obj)->task_requirement;
    json_open(j, '{');
    for (int s = 0; strategy_names[s] != NULL; s++) {
        double score;
        char key[160];
        const struct provider *p = provider_choose(r->gpu_type, (enum strategy)s, NULL, &score);
        if (p == NULL)
            continue;
        json_key(j, strategy_names[s]);
        json_open(j, '{');
        json_ktext(j, "provider", p->name);
        json_ktext(j, "routing_key", routing_key(p, r->gpu_type, r->gpu_count, r->priority, key));
        json_kreal(j, "score", score);
        json_close(j, '}');
    }
    json_close(j, '}');
}
#define R_SCHEMA                                                                                   \
    "{\"type\":\"object\",\"required\":[\"provider\",\"routing_key\",\"score\"],"                  \
    "\"additionalProperties\":false,\"properties\":{\"provider\":{\"type\":\"string\"},"           \
    "\"routing_key\":{\"type\":\"string\"},\"score\":{\"type\":\"number\"}}}"
LOCAL_VIEW(recommendations_view, struct recommendations, "Recommendations", NULL, 0,
           OBJECT(struct recommendations, "task_requirement", task_requirement, &requirement_view),
           COMPUTED("recommendations", write_recommendations,
                    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
                    "\"cost\":" R_SCHEMA ",\"performance\":" R_SCHEMA ",\"availability\":" R_SCHEMA
                    ",\"balanced\":" R_SCHEMA "}}"),
           COMPUTED("provider_metrics", metrics_member, METRICS_SCHEMA));

static int recommend(struct request *q, struct tx *tx, struct err *e)
{
    struct recommendations r = {*(struct requirement *)q->query};
    if (r.task_requirement.memory_gb == INT_NULL)
        r.task_requirement.memory_gb = 0;
    return request_answer(q, 200, &recommendations_view, &r);
}

/* ---- routes ---- */

static const struct route platform_providers_routes[] = {
    {.method = "GET",
     .path = "/api/gpu/providers",
     .name = "platform_providers",
     .summary = "List the three GPU providers",
     .access = ACCESS_USER,
     .query = &include_view,
     .memory = list_providers,
     .answers = {{200, &provider_list_view}},
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/providers/{provider_name}/gpus",
     .name = "platform_provider_gpus",
     .summary = "GPU specifications a provider offers",
     .access = ACCESS_USER,
     .params = &name_params_view,
     .memory = provider_gpus,
     .answers = {{200, &gpu_offers_view}},
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/providers/{provider_name}/health",
     .name = "platform_provider_health",
     .summary = "Connectivity check of one provider",
     .access = ACCESS_USER,
     .params = &name_params_view,
     .memory = provider_health,
     .answers = {{200, &health_view}},
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/scheduling/metrics",
     .name = "platform_scheduling_metrics",
     .summary = "Scheduler inputs of every provider and how many are healthy",
     .access = ACCESS_USER,
     .memory = scheduling_metrics,
     .answers = {{200, &metrics_view}},
     .tag = JOBS_TAG},
    {.method = "GET",
     .path = "/api/gpu/scheduling/recommendations",
     .name = "platform_recommendations",
     .summary = "Best provider, routing key and score under each of the four strategies",
     .access = ACCESS_USER,
     .query = &requirement_query_view,
     .memory = recommend,
     .answers = {{200, &recommendations_view}},
     .tag = JOBS_TAG},
};

static const struct err_text platform_providers_texts[] = {
    {"Unsupported provider: %s", "不支持的提供商：%s"},
    {"No available providers for the requested GPU specification",
     "没有提供商能提供所需的 GPU 规格"},
    {0},
};

const struct module platform_providers_module = {
    .name = "platform providers",
    .surface = &platform_surface,
    .routes = platform_providers_routes,
    .n_routes = ARRAY_LEN(platform_providers_routes),
    .texts = platform_providers_texts,
};
