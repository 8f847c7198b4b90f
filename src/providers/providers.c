/* The catalogue of the documented clouds and the choice among them. */
#include "providers/providers.h"

#include <stdio.h>
#include <string.h>

#define USD(cents) ((int64_t)(cents)*10000)

static const struct provider_offer runpod_offers[] = {
    {"A100", 1, 40, 12, 64, USD(289), "NVIDIA A100"},
    {"RTX4090", 1, 24, 8, 32, USD(83), "NVIDIA GeForce RTX 4090"},
    {"A6000", 1, 48, 8, 32, USD(79), "NVIDIA RTX A6000"},
    {"T4", 1, 16, 4, 16, USD(22), "NVIDIA Tesla T4"},
};
static const struct provider_offer tencent_offers[] = {
    {"T4", 1, 16, 4, 16, USD(42), "quarter card"},
    {"V100", 1, 32, 6, 32, USD(250), "half card"},
    {"A100", 1, 40, 12, 64, USD(380), "whole card"},
};
static const struct provider_offer alibaba_offers[] = {
    {"T4", 1, 15, 4, 15, USD(48), "ecs.gn6i-c4g1.xlarge"},
    {"V100", 1, 16, 8, 32, USD(280), "ecs.gn6v-c8g1.2xlarge"},
    {"A100", 1, 40, 12, 46, USD(390), "ecs.gn7-c12g1.3xlarge"},
};
/* prices that RunPod's bill knows beyond what is offered */
static const struct provider_offer runpod_prices[] = {
    {.gpu_type = "A5000", .price_micro = USD(64)},   {.gpu_type = "A4000", .price_micro = USD(46)},
    {.gpu_type = "RTX3090", .price_micro = USD(58)}, {.gpu_type = "H100", .price_micro = USD(489)},
    {.gpu_type = "V100", .price_micro = USD(189)},
};

const struct provider providers[] = {
    {"runpod",
     "RunPod",
     "RunPod GPU cloud computing platform",
     "RUNPOD_API_KEY",
     {.availability = 0.95,
      .cost_per_hour = 2.89,
      .queue_minutes = 2.0,
      .success_rate = 0.98,
      .load = 0.3},
     {"A100", "RTX4090", "A6000", "T4"},
     runpod_offers,
     ARRAY_LEN(runpod_offers)},
    {"tencent",
     "Tencent Cloud",
     "Tencent Cloud TKE GPU computing",
     "TENCENT_SECRET_ID",
     {.availability = 0.92,
      .cost_per_hour = 3.2,
      .queue_minutes = 3.0,
      .success_rate = 0.96,
      .load = 0.4},
     {"T4", "V100", "A100"},
     tencent_offers,
     ARRAY_LEN(tencent_offers)},
    {"alibaba",
     "Alibaba Cloud",
     "Alibaba Cloud ECS GPU instances",
     "ALIBABA_ACCESS_KEY_ID",
     {.availability = 0.90,
      .cost_per_hour = 2.95,
      .queue_minutes = 4.0,
      .success_rate = 0.94,
      .load = 0.5},
     {"T4", "V100", "A100"},
     alibaba_offers,
     ARRAY_LEN(alibaba_offers)},
};
const size_t n_providers = ARRAY_LEN(providers);

static const struct setting providers_settings[] = {
    {"PROVIDER_SIMULATE", NULL, SET_WORD, "off", .words = "on|off|auto",
     .doc = "clouds without credentials take simulated jobs; the demo does"},
    {"SIM_JOB_SECONDS", NULL, SET_INT, "5", 0, 86400, .doc = "how long a simulated job runs"},
    {"MAX_CONCURRENT_TASKS", NULL, SET_INT, "100", 1, 1000000,
     .doc = "jobs handed to cloud providers at a time"},
    {"DEFAULT_SCHEDULING_STRATEGY", NULL, SET_WORD, "balanced",
     .words = "cost|performance|availability|balanced",
     .doc = "strategy of documented submits that name none"},
    {"DEFAULT_PROVIDER", NULL, SET_TEXT, NULL,
     .doc = "provider of documented submits that name none: \"local\", or unset for the scored "
            "choice"},
    {"TASK_TIMEOUT_SECONDS", NULL, SET_INT, "3600", 1, 31536000,
     .doc = "time limit of documented submits that name none"},
};
static void providers_metrics(struct house *h, void *state, struct buf *out)
{
    buf_adds(out, "# HELP gpuplat_provider_score Score of a provider for what it supports.\n"
                  "# TYPE gpuplat_provider_score gauge\n");
    for (size_t i = 0; i < n_providers; i++)
        for (int s = 0; strategy_names[s] != NULL; s++)
            buf_printf(
                out, "gpuplat_provider_score{provider=\"%s\",strategy=\"%s\"} %.17g\n",
                providers[i].name, strategy_names[s],
                provider_score_for(&providers[i], providers[i].gpu_types[0], (enum strategy)s));
}

const struct module providers_module = {
    .name = "providers",
    .settings = providers_settings,
    .n_settings = ARRAY_LEN(providers_settings),
    .metrics = providers_metrics,
};

const struct provider *provider_find(const char *name)
{
    for (size_t i = 0; i < n_providers; i++)
        if (strcmp(providers[i].name, name) == 0)
            return &providers[i];
    return NULL;
}

bool provider_supports(const struct provider *p, const char *gpu_type)
{
    for (size_t i = 0; i < ARRAY_LEN(p->gpu_types) && p->gpu_types[i] != NULL; i++)
        if (strcmp(p->gpu_types[i], gpu_type) == 0)
            return true;
    return false;
}

double provider_score_for(const struct provider *p, const char *gpu_type, enum strategy s)
{
    return provider_supports(p, gpu_type) ? provider_score(&p->inputs, s) : 0.0;
}

const struct provider *provider_choose(const char *gpu_type, enum strategy s,
                                       const struct provider *preferred, double *score)
{
    const struct provider *best = NULL;
    double most = 0.0;
    if (preferred != NULL && provider_score_for(preferred, gpu_type, s) > 0.3) {
        *score = provider_score_for(preferred, gpu_type, s);
        return preferred;
    }
    for (size_t i = 0; i < n_providers; i++) {
        double v = provider_score_for(&providers[i], gpu_type, s);
        if (v > most) {
            best = &providers[i];
            most = v;
        }
    }
    *score = most;
    return best;
}

const char *routing_key(const struct provider *p, const char *gpu_type, int64_t gpu_count,
                        int64_t priority, char to[160])
{
    const char *suffix = priority >= 9                    ? "_urgent"
                         : priority >= 8 || gpu_count > 4 ? "_high"
                         : priority <= 2                  ? "_low"
                                                          : "";
    snprintf(to, 160, "%s_%.100s_%lld%s", p->name, gpu_type, (long long)gpu_count, suffix);
    return to;
}

const char *routing_queue(int64_t priority)
{
    return priority >= 8 ? "priority_high" : priority <= 2 ? "priority_low" : "gpu_tasks";
}

int64_t provider_price_micro(const struct provider *p, const char *gpu_type)
{
    for (size_t i = 0; i < p->n_offers; i++)
        if (strcmp(p->offers[i].gpu_type, gpu_type) == 0)
            return p->offers[i].price_micro;
    for (size_t i = 0; strcmp(p->name, "runpod") == 0 && i < ARRAY_LEN(runpod_prices); i++)
        if (strcmp(runpod_prices[i].gpu_type, gpu_type) == 0)
            return runpod_prices[i].price_micro;
    return USD(100);
}

const struct provider_ops *provider_ops_now(const struct house *h, const struct provider *p)
{
    const char *word = setting_text(h, "PROVIDER_SIMULATE");
    bool demo = house_demo(h) &&
                (!setting_given(h, "PROVIDER_SIMULATE") || strcmp(word, "auto") == 0);
    bool on = demo || strcmp(word, "on") == 0;
    return p != NULL && on ? &provider_simulated : NULL;
}
