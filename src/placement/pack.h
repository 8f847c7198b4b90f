/* Packing: one task at a time onto hosts, in thousandths of a GPU, by a policy.
 *
 * CPU and memory of a host are never over-committed, a share stays on one GPU, whole GPUs are
 * whole, and a task that fits on some host is placed: a policy only chooses where.
 *
 * Hosts in the same state (model, CPU, memory and GPUs left) are one state: what a policy thinks
 * of it is computed once. That makes a decision on thousands of hosts a matter of microseconds.
 *
 * Deterministic: the same hosts, seed and sequence of calls give the same decisions, and what was
 * decided never depends on what comes later.
 *
 * Threads: one at a time. No I/O, no clock. */
#ifndef PLACEMENT_PACK_H
#define PLACEMENT_PACK_H

#include "base/err.h"
#include "placement/mix.h"

enum { PACK_GPUS_MAX = 64, PACK_MODELS_MAX = 64, PACK_HOSTS_MAX = 1000000 };

/* What is left of a host. GPUs with nothing left are not in the list. */
struct pack_state {
    int64_t cpu_milli, memory_mib;
    int32_t model, gpu_milli; /* gpu_milli: sum of free */
    int32_t n;
    int16_t free[PACK_GPUS_MAX]; /* rising */
};

/* ---- policies ---- */

struct pack;
struct policy {
    const char *name, *about; /* about: one line for people */
    /* What a state is worth: less is better. NULL: `score` needs none. */
    int64_t (*worth)(struct pack *p, const struct pack_state *s);
    /* How good it is to go from one to the other; the highest is taken, of equals the first. */
    int64_t (*score)(struct pack *p, const struct pack_state *from, const struct pack_state *to,
                     int64_t worth_from, int64_t worth_to);
    /* The mix has a new epoch; NULL: does not care. */
    void (*learned)(struct pack *p);
    bool each_gpu;  /* tries a share on every GPU that fits, not only on the fullest */
    bool each_host; /* asks for every host, also for those in the same state */
    bool any_gpu;   /* a share goes to any GPU of the host that fits, each as likely */
};
/* Ends with a row without name; the first is the default. */
extern const struct policy policies[];
const struct policy *policy_named(const char *name); /* NULL: none */

/* ---- packing ---- */

/* Lives until pack_free; policy must outlive it. */
struct pack *pack_new(const struct policy *policy, uint64_t seed);
void pack_free(struct pack *p);
static inline void auto_pack(struct pack **p)
{
    pack_free(*p);
}
/* Hosts are numbered from 0 in the order of the calls. */
int pack_host_add(struct pack *p, int64_t cpu_milli, int64_t memory_mib, int32_t model,
                  int32_t gpus, struct err *e);
size_t pack_hosts(const struct pack *p);
/* The mix: call for every arrival, placed or not, before it is placed. */
void pack_learn(struct pack *p, const struct shape *s);

struct pack_spot {
    size_t host;
    uint64_t gpus; /* bit g: GPU g of the host */
};
/* Chooses and takes. False: it fits nowhere now. */
bool pack_place(struct pack *p, const struct shape *s, struct pack_spot *out);
/* Gives back what pack_place() took for the same shape. */
void pack_release(struct pack *p, const struct shape *s, const struct pack_spot *spot);
/* Would it fit on some host if that were empty? */
bool pack_possible(const struct pack *p, const struct shape *s);

struct pack_sums {
    int64_t gpu_milli_total, gpu_milli_taken, cpu_milli_total, cpu_milli_taken;
};
struct pack_sums pack_sums(const struct pack *p);
/* The share of the free GPU thousandths that the next task of the mix could not use, 0 … 1
 * (the fragmentation rate of FGD, USENIX ATC 2023, section 3). */
double pack_fragmentation(struct pack *p);

/* ---- for policies ---- */

const struct mix *pack_mix(const struct pack *p);
uint64_t pack_random(struct pack *p);
/* What a policy keeps for itself: one block, freed with the pack. */
void *pack_own(struct pack *p, size_t size);
static inline bool state_fits(const struct pack_state *s, const struct shape *t)
{
    if (s->cpu_milli < t->cpu_milli || s->memory_mib < t->memory_mib)
        return false;
    if (t->gpus == 0)
        return true;
    return s->n >= t->gpus && s->free[s->n - t->gpus] >= t->milli &&
           (t->models == 0 || (t->models >> s->model & 1));
}
/* Takes GPUs number first … first + t->gpus - 1 of the list, and CPU and memory. */
void state_take(struct pack_state *s, const struct shape *t, int first);
/* The fullest GPUs that fit: where t's begin in the list. */
static inline int state_first(const struct pack_state *s, const struct shape *t)
{
    int first = 0;
    while (s->free[first] < t->milli)
        first++;
    return first;
}
/* GPU thousandths of s that a task of the mix could not use, times the arrivals of that task,
 * summed over the mix (F of FGD, section 3.2, not yet divided by the arrivals). */
int64_t state_stranded(const struct mix *m, const struct pack_state *s);

#endif
