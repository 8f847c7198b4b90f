/* A trace played through a policy, on a clock of its own. The same trace, policy and seed give the
 * same decisions, and those for a prefix do not depend on what follows.
 *
 * Threads: none shared. No I/O, no clock. */
#ifndef PLACEMENT_SIMULATE_H
#define PLACEMENT_SIMULATE_H

#include "placement/trace.h"

struct simulation {
    const struct policy *policy;
    uint64_t seed;
    /* Tasks come one by one and never leave; one that does not fit is refused for good. Else each
     * comes at its creation time, waits until it fits (in the order of arrival; what does not fit
     * is passed over by what does), and runs for as long as it did in the trace. */
    bool arrive_only;
    const struct trace *mix; /* tasks to learn the mix from beforehand; NULL: from arrivals only */
    /* Told of each decision: spot NULL: refused. May be NULL. */
    void (*decided)(void *ctx, const struct trace_task *task, const struct pack_spot *spot,
                    int64_t at_s);
    void *ctx;
};
struct spread_of { /* of seconds */
    double mean;
    int64_t p50, p90, p99;
};
struct simulated {
    int64_t placed, refused, decisions;
    struct pack_sums sums; /* at the end of arrivals; arrive_only: at the end */
    double fragmentation;  /* 0 … 1, of the free GPUs; arrive_only: at the end, else the mean */
    /* only with times */
    struct spread_of queueing, completion;
    double utilisation; /* of GPU thousandths, 0 … 1, mean over the time */
    int64_t makespan_s;
    size_t longest_queue;
};
int simulate(const struct trace *t, const struct simulation *s, struct simulated *out,
             struct err *e);

#endif
