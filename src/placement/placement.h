/* Where work goes: pure decisions from a picture of the fleet. No I/O, no clock, no randomness:
 * the same picture gives the same decisions, so that the server, a dry run and a simulation are
 * one piece of code.
 *
 * Order is the caller's (priority with aging: see placement_order_key). Work is taken in order;
 * what does not fit now and wants GPUs holds the GPUs that it could run on once they are free:
 * later work gets only others, so that small jobs never starve a large one. What no answering
 * node could run holds nothing. Work without GPUs passes.
 *
 * Threads: any; a picture belongs to its caller.
 */
#ifndef PLACEMENT_PLACEMENT_H
#define PLACEMENT_PLACEMENT_H

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum { PLACE_GPUS_MAX = 64 };

struct place_gpu {
    const char *id;   /* "gpu-001" */
    const char *type; /* short type: "RTX4090" */
    int64_t index;
    int64_t free_milli;  /* 0 … 1000 */
    bool usable;         /* healthy and nobody else's process holds it */
    const char *held_by; /* the request ahead that waits for it; set by placement_decide() */
};
struct place_node {
    int64_t id;
    const char *name;
    bool usable; /* its agent answers */
    int64_t cpus_free, memory_free_mib;
    int64_t cpus_total, memory_total_mib;
    struct place_gpu *gpus;
    size_t n_gpus;
};
struct place_request {
    int64_t id;
    const char *text; /* "j-17", for reasons */
    int64_t gpus;
    const char *const *types; /* any of; NULL or n_types 0: any */
    size_t n_types;
    int64_t cpus;       /* threads; 0: none counted */
    int64_t memory_mib; /* 0: none counted */
};
enum place_outcome {
    PLACED,
    WAITS_GPUS, /* fewer free than asked for on every node */
    WAITS_CPUS,
    WAITS_MEMORY,
    WAITS_TURN, /* would fit, but what is ahead waits for the same GPUs */
    WAITS_NODE, /* no node that answers is large enough */
    FITS_NEVER, /* no node is large enough, even when empty */
};
struct place_decision {
    enum place_outcome outcome;
    size_t node; /* index into nodes when PLACED */
    const struct place_gpu *gpus[PLACE_GPUS_MAX];
    char reason[200]; /* one sentence; "" when PLACED */
};

/* Decides for the requests in order and takes what it gives from the picture. May be called again
 * on the same picture with what comes next in the order. */
void placement_decide(struct place_node *nodes, size_t n_nodes, const struct place_request *r,
                      size_t n, struct place_decision *out);
/* Could it run on some node if that were empty (usable or not)? Else the reason names what there
 * is: "no node has 9 GPUs; the largest, n-01, has 8". */
bool placement_possible(const struct place_node *nodes, size_t n_nodes,
                        const struct place_request *r, char reason[200]);

/* Smaller goes first: a point of priority is worth `aging_us` of waiting. */
int64_t placement_order_key(int64_t queued_at_us, int64_t priority, int64_t aging_us);

/* ---- scores of cloud providers (contract 8; bit for bit, so no fused arithmetic) ---- */

enum strategy { STRATEGY_COST, STRATEGY_PERFORMANCE, STRATEGY_AVAILABILITY, STRATEGY_BALANCED };
extern const char *const strategy_names[];
struct provider_inputs {
    double availability, cost_per_hour, queue_minutes, success_rate, load;
};
double provider_score(const struct provider_inputs *in, enum strategy s);

#endif
