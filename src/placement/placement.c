/* First fit in order, on the fullest node that fits, so that large holes stay whole. */
#include "placement/placement.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool type_fits(const struct place_request *r, const struct place_gpu *g)
{
    if (r->n_types == 0)
        return true;
    for (size_t i = 0; i < r->n_types; i++)
        if (strcasecmp(r->types[i], g->type) == 0)
            return true;
    return false;
}

static int64_t count_gpus(const struct place_node *n, const struct place_request *r, bool free_only)
{
    int64_t count = 0;
    for (size_t i = 0; i < n->n_gpus; i++)
        if (type_fits(r, &n->gpus[i]) &&
            (!free_only || (n->gpus[i].usable && n->gpus[i].free_milli == 1000)))
            count++;
    return count;
}

/* "3 GPUs", "1 RTX4090 or A6000" */
static void wants(const struct place_request *r, char *to, size_t size)
{
    if (r->n_types == 0) {
        snprintf(to, size, "%lld GPU%s", (long long)r->gpus, r->gpus == 1 ? "" : "s");
        return;
    }
    int used = snprintf(to, size, "%lld", (long long)r->gpus);
    for (size_t i = 0; i < r->n_types && used > 0 && (size_t)used < size; i++)
        used += snprintf(to + used, size - (size_t)used, "%s%s", i > 0 ? " or " : " ", r->types[i]);
}

bool placement_possible(const struct place_node *nodes, size_t n_nodes,
                        const struct place_request *r, char reason[200])
{
    const struct place_node *most = NULL;
    int64_t most_gpus = 0, cpus = 0, memory = 0;
    for (size_t i = 0; i < n_nodes; i++) {
        int64_t gpus = count_gpus(&nodes[i], r, false);
        if (gpus >= r->gpus && nodes[i].cpus_total >= r->cpus &&
            nodes[i].memory_total_mib >= r->memory_mib)
            return true;
        if (most == NULL || gpus > most_gpus) {
            most = &nodes[i];
            most_gpus = gpus;
        }
        cpus = nodes[i].cpus_total > cpus ? nodes[i].cpus_total : cpus;
        memory = nodes[i].memory_total_mib > memory ? nodes[i].memory_total_mib : memory;
    }
    char what[100];
    wants(r, what, sizeof(what));
    if (most == NULL)
        snprintf(reason, 200, "there is no node yet");
    else if (most_gpus == 0 && r->gpus > 0)
        snprintf(reason, 200, "no node has %s; %s", what,
                 r->n_types > 0 ? "see the types there are with: drover gpus"
                                : "this fleet has no GPUs");
    else if (most_gpus < r->gpus)
        snprintf(reason, 200, "no node has %s; the largest, %s, has %lld", what, most->name,
                 (long long)most_gpus);
    else if (cpus < r->cpus)
        snprintf(reason, 200, "no node has %lld CPUs; the largest has %lld", (long long)r->cpus,
                 (long long)cpus);
    else if (memory < r->memory_mib)
        snprintf(reason, 200, "no node has %lld MiB of memory; the largest has %lld",
                 (long long)r->memory_mib, (long long)memory);
    else
        snprintf(reason, 200, "no single node has %s with so many CPUs and so much memory", what);
    return false;
}

static void take(struct place_node *n, const struct place_request *r, struct place_decision *d)
{
    size_t got = 0;
    for (size_t i = 0; i < n->n_gpus && got < (size_t)r->gpus; i++) {
        struct place_gpu *g = &n->gpus[i];
        if (!g->usable || g->free_milli != 1000 || !type_fits(r, g))
            continue;
        g->free_milli = 0;
        d->gpus[got++] = g;
    }
    n->cpus_free -= r->cpus;
    n->memory_free_mib -= r->memory_mib;
}

struct shortage {
    const char *ahead; /* who waits for GPUs, NULL: nobody */
    const struct place_request *request;
};

/* Do the two compete for a GPU? */
static bool overlap(const struct place_request *a, const struct place_request *b)
{
    if (a->n_types == 0 || b->n_types == 0)
        return true;
    for (size_t i = 0; i < a->n_types; i++)
        for (size_t k = 0; k < b->n_types; k++)
            if (strcasecmp(a->types[i], b->types[k]) == 0)
                return true;
    return false;
}

static void decide_one(struct place_node *nodes, size_t n_nodes, const struct place_request *r,
                       const struct shortage *short_of, size_t n_short, struct place_decision *d)
{
    for (size_t i = 0; i < n_short && r->gpus > 0; i++)
        if (overlap(r, short_of[i].request)) {
            d->outcome = WAITS_TURN;
            snprintf(d->reason, sizeof(d->reason), "GPUs: %s is ahead and waits for them",
                     short_of[i].ahead);
            return;
        }
    size_t best = n_nodes;
    int64_t best_left = 0, most_free = 0;
    bool any_node = false, gpus_fit = false, cpus_fit = false;
    for (size_t i = 0; i < n_nodes; i++) {
        struct place_node *n = &nodes[i];
        if (!n->usable)
            continue;
        any_node = true;
        int64_t free_gpus = count_gpus(n, r, true);
        most_free = free_gpus > most_free ? free_gpus : most_free;
        if (free_gpus < r->gpus)
            continue;
        gpus_fit = true;
        if (n->cpus_free < r->cpus)
            continue;
        cpus_fit = true;
        if (n->memory_free_mib < r->memory_mib)
            continue;
        /* the fewest GPUs left, then the fewest CPUs left: keep the large holes whole */
        int64_t left = (free_gpus - r->gpus) * 100000 + (n->cpus_free - r->cpus);
        if (best == n_nodes || left < best_left) {
            best = i;
            best_left = left;
        }
    }
    if (best < n_nodes) {
        d->outcome = PLACED;
        d->node = best;
        take(&nodes[best], r, d);
        return;
    }
    char what[100];
    wants(r, what, sizeof(what));
    if (!any_node) {
        d->outcome = WAITS_NODE;
        snprintf(d->reason, sizeof(d->reason), "no node answers");
    } else if (!placement_possible(nodes, n_nodes, r, d->reason)) {
        d->outcome = FITS_NEVER;
    } else if (!gpus_fit) {
        d->outcome = WAITS_GPUS;
        /* "GPUs: 1 of 2 free", "GPUs: 1 of 2 RTX4090 free" */
        if (r->n_types == 0)
            snprintf(what, sizeof(what), "%lld", (long long)r->gpus);
        snprintf(d->reason, sizeof(d->reason), "GPUs: %lld of %s free", (long long)most_free, what);
    } else if (!cpus_fit) {
        d->outcome = WAITS_CPUS;
        snprintf(d->reason, sizeof(d->reason), "CPUs: no node has %lld free", (long long)r->cpus);
    } else {
        d->outcome = WAITS_MEMORY;
        snprintf(d->reason, sizeof(d->reason), "memory: no node has %lld MiB free",
                 (long long)r->memory_mib);
    }
}

void placement_decide(struct place_node *nodes, size_t n_nodes, const struct place_request *r,
                      size_t n, struct place_decision *out)
{
    enum { SHORT_MAX = 16 };
    struct shortage short_of[SHORT_MAX];
    size_t n_short = 0;
    for (size_t i = 0; i < n; i++) {
        struct place_decision *d = &out[i];
        *d = (struct place_decision){0};
        decide_one(nodes, n_nodes, &r[i], short_of, n_short, d);
        if (d->outcome == WAITS_GPUS && n_short < SHORT_MAX)
            short_of[n_short++] = (struct shortage){r[i].text, &r[i]};
    }
}

int64_t placement_order_key(int64_t queued_at_us, int64_t priority, int64_t aging_us)
{
    return queued_at_us - priority * aging_us;
}
