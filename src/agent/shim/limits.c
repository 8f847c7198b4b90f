/* The cgroups of one job. The agent chose the paths: with cgroup v2 one group does everything,
 * on hybrid machines v1 groups limit and a v2 group holds the tree for cgroup.kill. Which version
 * a path is shows in the files it has. */
#include "agent/shim/shim.h"
#include "agent/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_v2(const char *group)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/cgroup.controllers", group);
    return access(path, F_OK) == 0;
}

static const char *const *groups_of(const struct spec *s, const char *list[5])
{
    size_t n = 0;
    const char *const all[] = {s->cg_tree, s->cg_memory, s->cg_pids, s->cg_cpu};
    for (size_t i = 0; i < 4; i++) {
        bool seen = all[i] == NULL;
        for (size_t k = 0; k < n && !seen; k++)
            seen = strcmp(list[k], all[i]) == 0;
        if (!seen)
            list[n++] = all[i];
    }
    list[n] = NULL;
    return list;
}

static bool set_memory(const struct spec *s)
{
    char bytes[32];
    snprintf(bytes, sizeof(bytes), "%lld", (long long)s->memory_mib << 20);
    if (is_v2(s->cg_memory)) {
        cg_write(s->cg_memory, "memory.swap.max", "0"); /* not there without swap accounting */
        return cg_write(s->cg_memory, "memory.max", bytes);
    }
    bool ok = cg_write(s->cg_memory, "memory.limit_in_bytes", bytes);
    cg_write(s->cg_memory, "memory.memsw.limit_in_bytes", bytes);
    return ok;
}

static bool set_cpu(const struct spec *s)
{
    enum { PERIOD_US = 100000 };
    char text[64];
    long long quota = (long long)s->cpus * PERIOD_US;
    if (is_v2(s->cg_cpu)) {
        snprintf(text, sizeof(text), "%lld %d", quota, PERIOD_US);
        return cg_write(s->cg_cpu, "cpu.max", text);
    }
    snprintf(text, sizeof(text), "%lld", quota);
    return cg_write(s->cg_cpu, "cpu.cfs_quota_us", text);
}

const char *limits_set(const struct spec *s, char text[DETAIL_SIZE])
{
    const char *list[5], *what = NULL;
    char number[32];
    for (const char *const *g = groups_of(s, list); *g != NULL; g++)
        if (!cg_make(*g))
            what = "make the job's control group";
    snprintf(number, sizeof(number), "%lld", (long long)s->pids_max);
    if (what == NULL && s->memory_mib > 0 && s->cg_memory != NULL && !set_memory(s))
        what = "limit the job's memory";
    if (what == NULL && s->pids_max > 0 && s->cg_pids != NULL &&
        !cg_write(s->cg_pids, "pids.max", number))
        what = "limit the number of the job's processes";
    if (what == NULL && s->cpus > 0 && s->cg_cpu != NULL && !set_cpu(s))
        what = "limit the job's CPU time";
    if (what == NULL)
        return NULL;
    snprintf(text, DETAIL_SIZE, "the node cannot %s: %s", what, strerror(errno));
    return text;
}

pid_t limits_fork(const struct spec *s, uint64_t flags, int *pidfd, bool *in_tree)
{
    bool unused;
    in_tree = in_tree != NULL ? in_tree : &unused;
    /* Being born in the group is much cheaper than moving there: a move waits, alone on the whole
     * machine, until every CPU has passed a quiet point. Only v2 groups can be named (Linux 5.7).
     */
    struct clone_args args = {.flags = flags | (pidfd != NULL ? CLONE_PIDFD : 0),
                              .pidfd = (uint64_t)(uintptr_t)pidfd,
                              .exit_signal = SIGCHLD};
    int group = s->cg_tree != NULL && is_v2(s->cg_tree)
                    ? open(s->cg_tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                    : -1;
    *in_tree = true;
    if (group >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)group;
        pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
        close(group);
        if (pid >= 0)
            return pid;
    }
    *in_tree = false;
    args.flags &= ~(uint64_t)CLONE_INTO_CGROUP;
    args.cgroup = 0;
    return args.flags == 0 ? fork() : (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

void limits_join(const struct spec *s, bool in_tree, int *err_no, const char **group)
{
    const char *list[5];
    for (const char *const *g = groups_of(s, list); *g != NULL; g++)
        if (!(in_tree && *g == s->cg_tree) && !cg_write(*g, "cgroup.procs", "0")) {
            *err_no = errno;
            *group = *g;
            return;
        }
}

int64_t limits_oom_kills(const struct spec *s)
{
    if (s->cg_memory == NULL)
        return 0;
    int64_t n = cg_counter(s->cg_memory, "memory.events", "oom_kill");
    if (n < 0)
        n = cg_counter(s->cg_memory, "memory.oom_control", "oom_kill");
    return n > 0 ? n : 0;
}

bool limits_remove(const struct spec *s)
{
    const char *list[5];
    bool gone = true;
    for (const char *const *g = groups_of(s, list); *g != NULL; g++)
        gone = cg_remove(*g) && gone;
    return gone;
}
