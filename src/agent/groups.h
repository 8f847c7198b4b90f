/* Which control groups this node gives to jobs, and which limits really work: found out at start
 * by making a group, setting each limit and removing it again. Paths of one attempt's groups come
 * from here and are written into its spec, so that a later agent finds them whatever it probes.
 *
 * Protocol sources: cgroups(7), the kernel's cgroup-v1 and cgroup-v2 documents. Threads: one. */
#ifndef AGENT_GROUPS_H
#define AGENT_GROUPS_H

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum { GROUP_PATH_SIZE = 1024 };
struct groups {
    const char *version;        /* "v2", "hybrid", "v1", "none" */
    char tree[GROUP_PATH_SIZE]; /* folders in which a job's group is made; "": none */
    char memory[GROUP_PATH_SIZE];
    char pids[GROUP_PATH_SIZE];
    char cpu[GROUP_PATH_SIZE];
    bool kill; /* cgroup.kill works in tree */
};
/* name: of the folder that holds this agent's groups, unique on the machine. */
void groups_probe(struct groups *g, const char *name);
/* Removes the folders if nothing is in them. */
void groups_leave(const struct groups *g);
/* Adds the spec items (each with its NUL) for one attempt with these limits. */
void groups_spec(const struct groups *g, int64_t attempt, bool memory, bool pids, bool cpu,
                 struct buf *to);

#endif
