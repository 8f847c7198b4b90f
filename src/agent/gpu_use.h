/* Whose a process on a GPU is: which attempt of a job, and which user of the host. The driver names
 * processes by the host's numbers, also those inside containers, so this works for them as well.
 *
 * Threads: one. */
#ifndef AGENT_GPU_USE_H
#define AGENT_GPU_USE_H

#include <stdint.h>

enum { GPU_USE_MAX = 256, GPU_USER_SIZE = 33 };
struct gpu_user {
    int64_t pid;
    uint64_t ticks;  /* its start: a number is used again */
    int64_t attempt; /* 0: no job of ours; -1: cannot be told */
    char user[GPU_USER_SIZE];
};
struct gpu_use {
    struct gpu_user seen[GPU_USE_MAX];
    unsigned next;
};
/* NULL: there is no such process. */
const struct gpu_user *gpu_use_of(struct gpu_use *u, int64_t pid);

#endif
