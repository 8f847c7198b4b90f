/* The mix of tasks that a fleet is asked for, learned from arrivals: which shapes, how often.
 * Policies weigh what a placement would leave by it. Bounded: of more than MIX_SHAPES_MAX shapes
 * the rarest gives way and its count is inherited (space saving, Metwally et al., ICDT 2005).
 *
 * What was learned so far is published in epochs (each time the count has grown by a tenth), so
 * that worths computed from it stay valid for a while; a prefix of the arrivals alone decides.
 *
 * Threads: one at a time. No I/O, no clock. */
#ifndef PLACEMENT_MIX_H
#define PLACEMENT_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a task asks for of one host. */
struct shape {
    int64_t cpu_milli, memory_mib;
    int32_t gpus;    /* 0: none */
    int32_t milli;   /* of each GPU: 1 … 1000; 0 without GPUs */
    uint64_t models; /* bit m: may run on GPUs of model m; 0: any */
};
bool shape_same(const struct shape *a, const struct shape *b);

enum { MIX_SHAPES_MAX = 1024 };
struct mix_row {
    struct shape shape;
    int64_t count;
};
struct mix {
    struct mix_row rows[MIX_SHAPES_MAX];
    size_t n;
    int64_t total, published; /* arrivals so far, and at the last epoch */
};
/* True: an epoch began, what was computed from the mix is out of date. */
bool mix_learn(struct mix *m, const struct shape *s);

#endif
