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

enum counted { ALL, HEALTHY, FREE, MINE };

/* GPUs of the node that fit: all, those that are usable, those of them that are free, and those
 * of them that nobody ahead waits for. */
static int64_t count_gpus(const struct place_node *n, const struct place_request *r,
                          enum counted what)
{
    int64_t count = 0;
    for (size_t i = 0; i < n->n_gpus; i++) {
        const struct place_gpu *g = &n->gpus[i];
        if (type_fits(r, g) && (what < HEALTHY || g->usable) &&
            (what < FREE || g->free_milli == 1000) && (what < MINE || g->held_by == NULL))
            count++;
    }
    return count;
}

/* Could it run there once everything of ours has ended? */
static bool could_hold(const struct place_node *n, const struct place_request *r, enum counted what)
{
    return n->cpus_total >= r->cpus && n->memory_total_mib >= r->memory_mib &&
           count_gpus(n, r, what) >= r->gpus;
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
        int64_t gpus = count_gpus(&nodes[i], r, ALL);
        if (could_hold(&nodes[i], r, ALL))
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
        if (!g->usable || g->free_milli != 1000 || g->held_by != NULL || !type_fits(r, g))
            continue;
        g->free_milli = 0;
        d->gpus[got++] = g;
    }
    n->cpus_free -= r->cpus;
    n->memory_free_mib -= r->memory_mib;
}

/* Keeps for r the GPUs that it could run on. */
static void hold(struct place_node *nodes, size_t n_nodes, const struct place_request *r)
{
    for (size_t i = 0; i < n_nodes; i++) {
        if (!nodes[i].usable || !could_hold(&nodes[i], r, HEALTHY))
            continue;
        for (size_t k = 0; k < nodes[i].n_gpus; k++)
            if (nodes[i].gpus[k].held_by == NULL && type_fits(r, &nodes[i].gpus[k]))
                nodes[i].gpus[k].held_by = r->text;
    }
}

static const char *first_ahead(const struct place_node *n, const struct place_request *r)
{
    for (size_t i = 0; i < n->n_gpus; i++)
        if (n->gpus[i].held_by != NULL && type_fits(r, &n->gpus[i]))
            return n->gpus[i].held_by;
    return NULL;
}

static void decide_one(struct place_node *nodes, size_t n_nodes, const struct place_request *r,
                       struct place_decision *d)
{
    size_t best = n_nodes;
    int64_t best_left = 0, most_free = 0;
    bool answers = false, large = false, gpus_fit = false, cpus_fit = false;
    const char *ahead = NULL;
    for (size_t i = 0; i < n_nodes; i++) {
        struct place_node *n = &nodes[i];
        if (!n->usable)
            continue;
        answers = true;
        large |= could_hold(n, r, ALL);
        int64_t free_gpus = count_gpus(n, r, FREE);
        most_free = free_gpus > most_free ? free_gpus : most_free;
        if (free_gpus < r->gpus)
            continue;
        gpus_fit = true;
        if (r->cpus > 0 && n->cpus_free < r->cpus)
            continue;
        cpus_fit = true;
        if (r->memory_mib > 0 && n->memory_free_mib < r->memory_mib)
            continue;
        int64_t mine = count_gpus(n, r, MINE);
        if (mine < r->gpus) {
            ahead = ahead != NULL ? ahead : first_ahead(n, r);
            continue;
        }
        /* the fewest GPUs left, then the fewest CPUs left: keep the large holes whole */
        int64_t left = (mine - r->gpus) * 100000 + (n->cpus_free - r->cpus);
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
    if (ahead != NULL) {
        d->outcome = WAITS_TURN;
        snprintf(d->reason, sizeof(d->reason), "GPUs: %s is ahead and waits for them", ahead);
    } else if (!answers) {
        d->outcome = WAITS_NODE;
        snprintf(d->reason, sizeof(d->reason), "no node answers");
    } else if (!placement_possible(nodes, n_nodes, r, d->reason)) {
        d->outcome = FITS_NEVER;
    } else if (!large) {
        d->outcome = WAITS_NODE;
        snprintf(d->reason, sizeof(d->reason), "no node that answers is large enough");
    } else if (!gpus_fit) {
        d->outcome = WAITS_GPUS;
        /* "GPUs: 1 of 2 free", "GPUs: 1 of 2 RTX4090 free" */
        if (r->n_types == 0)
            snprintf(what, sizeof(what), "%lld", (long long)r->gpus);
        snprintf(d->reason, sizeof(d->reason), "GPUs: %lld of %s free", (long long)most_free, what);
    } else if (!cpus_fit) {
        d->outcome = WAITS_CPUS;
        snprintf(d->reason, sizeof(d->reason), "CPUs: no node has %lld free%s", (long long)r->cpus,
                 r->gpus > 0 ? " beside the GPUs" : "");
    } else {
        d->outcome = WAITS_MEMORY;
        snprintf(d->reason, sizeof(d->reason), "memory: no node has %lld MiB free%s",
                 (long long)r->memory_mib, r->gpus > 0 ? " beside the GPUs" : "");
    }
}

void placement_decide(struct place_node *nodes, size_t n_nodes, const struct place_request *r,
                      size_t n, struct place_decision *out)
{
    for (size_t i = 0; i < n; i++) {
        struct place_decision *d = &out[i];
        *d = (struct place_decision){0};
        decide_one(nodes, n_nodes, &r[i], d);
        if (r[i].gpus > 0 && d->outcome != PLACED && d->outcome != FITS_NEVER)
            hold(nodes, n_nodes, &r[i]);
    }
}

int64_t placement_order_key(int64_t queued_at_us, int64_t priority, int64_t aging_us)
{
    return queued_at_us - priority * aging_us;
}
