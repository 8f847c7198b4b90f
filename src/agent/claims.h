/* Which GPUs of this host are ours to offer. Two servers on one host, each with an agent that knows
 * nothing of the other, would give out the same GPU twice; so an agent holds a lock for each GPU
 * that it offers, on the file drover-gpu-UUID.lock in DROVER_LOCK_DIR, /run/lock or /tmp. A GPU
 * whose lock another agent holds is told to the server as held, with that agent's process and data
 * folder, and it is tried again with each sample.
 *
 * The lock ends with the agent's process. It does not reach into containers that see another
 * folder, and simulated GPUs have none. Where no folder can be used GPUs are offered without.
 *
 * Threads: one. */
#ifndef AGENT_CLAIMS_H
#define AGENT_CLAIMS_H

#include "gpu/gpu.h"

#include <stdbool.h>
#include <stddef.h>

struct claim {
    char uuid[GPU_UUID_SIZE];
    int fd;
};
struct claims {
    char *owner; /* "process 17, data in /var/lib/drover" */
    struct claim list[GPU_MAX];
    size_t n;
    bool told; /* that there is no folder for locks */
};

void claims_init(struct claims *c, const char *data);
void claims_fini(struct claims *c);
/* True: the GPU is ours, as far as can be told. Else by says who has it. */
bool claims_take(struct claims *c, const char *uuid, char by[GPU_NOTE_SIZE]);

#endif
