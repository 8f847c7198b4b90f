/* Places that run jobs for money: the catalogue, the scheduler's inputs, and one vtable.
 *
 * Today one implementation stands behind the three documented clouds: the simulated one, which is
 * on only in the demo or with PROVIDER_SIMULATE=on; without it a cloud that is not configured
 * takes no jobs and says which variable is missing.
 *
 * Threads: tables are const; the vtable's calls may block and run on a worker.
 */
#ifndef PROVIDERS_PROVIDERS_H
#define PROVIDERS_PROVIDERS_H

#include "core/house.h"
#include "placement/placement.h"

extern const struct module providers_module;

/* What a provider offers (contract 3.2); price in micro-units of USD an hour for each GPU. */
struct provider_offer {
    const char *gpu_type;
    int64_t gpu_count, memory_gb, vcpus, ram_gb, price_micro;
    const char *mapped_to; /* the provider's own word */
};

enum provider_state { PROVIDER_PENDING, PROVIDER_RUNNING, PROVIDER_COMPLETED, PROVIDER_FAILED };
struct provider_job {
    const char *external_id; /* NULL before submit */
    int64_t submitted_at;    /* µs */
    const char *image;       /* or NULL */
    const char *const *command;
    size_t n_command;
    int64_t seconds; /* simulated: how long it runs */
};
struct provider_status {
    enum provider_state state;
    int64_t exit_code; /* of an ended one */
    int64_t started_at, ended_at;
    const char *detail; /* NULL or one sentence */
};
struct provider_ops {
    bool simulated;
    int (*submit)(const struct provider_job *job, char external_id[64], struct err *e);
    int (*poll)(const struct provider_job *job, struct provider_status *out, struct err *e);
    int (*cancel)(const struct provider_job *job, struct err *e);
};
extern const struct provider_ops provider_simulated;

struct provider {
    const char *name, *display_name, *description;
    const char *variable; /* the credential whose absence makes it unhealthy */
    struct provider_inputs inputs;
    const char *gpu_types[8]; /* what the scheduler may choose it for; NULL at the end */
    const struct provider_offer *offers;
    size_t n_offers;
};
extern const struct provider providers[]; /* runpod, tencent, alibaba: the documented order */
extern const size_t n_providers;

const struct provider *provider_find(const char *name);
/* Exact, case-sensitive (contract 8.2). */
bool provider_supports(const struct provider *p, const char *gpu_type);
/* 0.0 when it does not support the type. */
double provider_score_for(const struct provider *p, const char *gpu_type, enum strategy s);
/* Contract 8.3: NULL when none. preferred may be NULL. */
const struct provider *provider_choose(const char *gpu_type, enum strategy s,
                                       const struct provider *preferred, double *score);
/* "runpod_RTX4090_1", "priority_high" …; to has room for 160. */
const char *routing_key(const struct provider *p, const char *gpu_type, int64_t gpu_count,
                        int64_t priority, char to[160]);
const char *routing_queue(int64_t priority);
/* Price of one GPU for an hour; types that only cost is known for included; 1.00 otherwise. */
int64_t provider_price_micro(const struct provider *p, const char *gpu_type);
/* The implementation that takes its jobs now; NULL: not configured and not simulated. */
const struct provider_ops *provider_ops_now(const struct house *h, const struct provider *p);

#endif
