/* Process trees and the cgroups that hold them, for the shim (its own descendants) and for the
 * agent (a tree whose shim was killed). Plain C library only. Threads: any.
 *
 * Protocol sources: proc(5), cgroups(7), the kernel's cgroup-v1 and cgroup-v2 documents. */
#ifndef AGENT_TREE_H
#define AGENT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc {
    pid_t pid, parent, session;
    uint64_t ticks; /* start time since boot in clock ticks */
    char state;     /* 'Z' zombie, 'D' in the kernel, … */
};
bool proc_read(pid_t pid, struct proc *out); /* false: no such process */

/* The live (not zombie) processes of a tree: those below root (root not included; 0: none), those
 * of session (0: none) and those whose environment has mark (NULL: none), with all below them.
 * The caller frees *out. */
size_t tree_find(pid_t root, pid_t session, const char *mark, struct proc **out);
/* Signals each. Returns how many there were. SIGKILL stops all of them first, so that a process
 * that forks faster than it is killed does not get away. */
size_t tree_signal(pid_t root, pid_t session, const char *mark, int sig);

bool cg_write(const char *group, const char *file, const char *value); /* errno on false */
bool cg_read(const char *group, const char *file, char *to, size_t size);
/* The value of "key N" lines such as those of memory.events; -1: no such line. */
int64_t cg_counter(const char *group, const char *file, const char *key);
/* Kills every process in the group and below it; false where the kernel has no cgroup.kill. */
bool cg_kill(const char *group);
/* Signals each process listed in the group and below it. Returns how many there were. */
size_t cg_signal(const char *group, int sig);
/* Makes the group, and its parent when that is missing. */
bool cg_make(const char *group);
/* Removes the group with the groups a job may have made below it; true when it is gone. */
bool cg_remove(const char *group);

#endif
