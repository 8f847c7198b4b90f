/* Probing the cgroup mounts. A group is used only if a probe in it did what a job needs: a mount
 * that is there but read-only, or delegated without controllers, is as good as none. */
#include "agent/groups.h"

#include "agent/folder.h"
#include "agent/tree.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOUNTS_MAX = 256 << 10, LINE_PARTS = 12 };

/* A whole /proc text; "" when it cannot be read. The caller frees it. */
static char *proc_text(const char *path)
{
    char *text = mem_alloc(MOUNTS_MAX + 1);
    file_head(path, text, MOUNTS_MAX);
    return text;
}

static bool in_list(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += len)
        if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* Where the hierarchy with this v1 controller (NULL: the v2 tree) is mounted, with the group this
 * process is in: mountinfo gives the root of the mount, /proc/self/cgroup the group below it.
 * mount_to may be NULL. */
static bool own_group(const char *controller, char to[GROUP_PATH_SIZE],
                      char mount_to[GROUP_PATH_SIZE])
{
    AUTO(mem) char *mounts = proc_text("/proc/self/mountinfo");
    AUTO(mem) char *groups = proc_text("/proc/self/cgroup");
    char mount[GROUP_PATH_SIZE] = "", root[GROUP_PATH_SIZE] = "", *save = NULL;
    for (char *line = strtok_r(mounts, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char fs_root[GROUP_PATH_SIZE], point[GROUP_PATH_SIZE], type[32], options[256];
        const char *tail = strstr(line, " - ");
        if (tail == NULL || sscanf(line, "%*s %*s %*s %1023s %1023s", fs_root, point) != 2 ||
            sscanf(tail, " - %31s %*s %255s", type, options) != 2)
            continue;
        if (controller == NULL ? str_eq(type, "cgroup2")
                               : str_eq(type, "cgroup") && in_list(options, controller)) {
            snprintf(mount, sizeof(mount), "%s", point);
            snprintf(root, sizeof(root), "%s", fs_root);
            break;
        }
    }
    if (mount[0] == '\0')
        return false;
    for (char *line = strtok_r(groups, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':'), *path = list != NULL ? strchr(list + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        if (controller == NULL ? list[1] != '\0' : !in_list(list + 1, controller))
            continue;
        /* in a container the mount may show only a part of the hierarchy */
        size_t skip = strlen(root) > 1 && str_starts(path, root) ? strlen(root) : 0;
        snprintf(to, GROUP_PATH_SIZE, "%.700s%.300s", mount, path + skip);
        size_t len = strlen(to);
        if (to[len - 1] == '/')
            to[len - 1] = '\0';
        if (mount_to != NULL)
            snprintf(mount_to, GROUP_PATH_SIZE, "%s", mount);
        return true;
    }
    return false;
}

/* ---- v1: one hierarchy a controller ---- */

static bool probe_v1(const char *controller, const char *file, const char *value, const char *name,
                     char to[GROUP_PATH_SIZE])
{
    char own[GROUP_PATH_SIZE], probe[GROUP_PATH_SIZE + 64];
    if (!own_group(controller, own, NULL))
        return false;
    snprintf(to, GROUP_PATH_SIZE, "%.900s/%.100s", own, name);
    snprintf(probe, sizeof(probe), "%s/probe", to);
    bool ok = cg_make(probe) && cg_write(probe, file, value);
    cg_remove(probe);
    if (!ok) {
        rmdir(to);
        to[0] = '\0';
    }
    return ok;
}

/* ---- v2 ---- */

/* True if a process in the group dies by cgroup.kill. */
static bool probe_kill(const char *group)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (!cg_write(group, "cgroup.procs", "0"))
            _exit(1);
        pause();
        _exit(1);
    }
    bool killed = false;
    for (int ms = 0; pid > 0 && ms < 1000 && !killed; ms++) {
        siginfo_t info = {0};
        cg_kill(group);
        usleep(1000); /* allowed: at most a second, at start-up */
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == pid) {
            if (info.si_code != CLD_KILLED)
                return false;
            killed = true;
        }
    }
    if (pid > 0 && !killed) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return killed;
}

static const char *const v2_controllers[] = {"+memory", "+pids", "+cpu"};
static const char v2_leaf[] = "/drover-agent";

/* Moves this process one level down, and with it the server that started it from the same group. */
static void move_down(const char *own)
{
    enum { GROUPS_MAX = 4096 };
    char leaf[GROUP_PATH_SIZE + 64], path[64], text[32];
    AUTO(mem) char *ours = mem_alloc(GROUPS_MAX);
    AUTO(mem) char *theirs = mem_alloc(GROUPS_MAX);
    snprintf(leaf, sizeof(leaf), "%s%s", own, v2_leaf);
    if (!cg_make(leaf))
        return;
    file_head("/proc/self/cgroup", ours, GROUPS_MAX - 1);
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)getppid());
    file_head(path, theirs, GROUPS_MAX - 1);
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)getppid());
    file_head(path, text, sizeof(text) - 1);
    bool server = str_eq(text, "drover\n") && str_eq(ours, theirs);
    pid_t pids[] = {getpid(), server ? getppid() : 0};
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        if (pids[i] > 0) {
            snprintf(text, sizeof(text), "%d", (int)pids[i]);
            cg_write(leaf, "cgroup.procs", text);
        }
}

/* Job groups below `own`. True if memory can be limited there. A group with processes in it cannot
 * give controllers to its children, so ours go one level down first: that is what systemd's
 * Delegate=yes expects. */
static bool probe_v2_in(struct groups *g, const char *own, const char *name, bool mine)
{
    char probe[GROUP_PATH_SIZE + 64];
    struct groups found = {0};
    snprintf(found.tree, sizeof(found.tree), "%.900s/%.100s", own, name);
    snprintf(probe, sizeof(probe), "%s/probe", found.tree);
    for (size_t i = 0; i < ARRAY_LEN(v2_controllers); i++)
        if (!cg_write(own, "cgroup.subtree_control", v2_controllers[i]) && errno == EBUSY && mine) {
            move_down(own);
            cg_write(own, "cgroup.subtree_control", v2_controllers[i]);
        }
    if (!cg_make(probe))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(v2_controllers); i++)
        cg_write(found.tree, "cgroup.subtree_control", v2_controllers[i]);
    found.kill = probe_kill(probe);
    if (cg_write(probe, "memory.max", "1073741824"))
        memcpy(found.memory, found.tree, sizeof(found.memory));
    if (cg_write(probe, "pids.max", "1000"))
        memcpy(found.pids, found.tree, sizeof(found.pids));
    if (cg_write(probe, "cpu.max", "100000 100000"))
        memcpy(found.cpu, found.tree, sizeof(found.cpu));
    cg_remove(probe);
    bool memory = found.memory[0] != '\0';
    if ((memory || found.kill) && (g->tree[0] == '\0' || memory)) {
        if (g->tree[0] != '\0')
            rmdir(g->tree); /* a better place was found */
        *g = found;
    } else {
        rmdir(found.tree);
    }
    return memory;
}

static void probe_v2(struct groups *g, const char *name)
{
    char own[GROUP_PATH_SIZE], mount[GROUP_PATH_SIZE];
    if (!own_group(NULL, own, mount))
        return;
    if (str_ends(own, v2_leaf)) /* an earlier agent moved the server there */
        own[strlen(own) - strlen(v2_leaf)] = '\0';
    /* Not given a group of our own: as root beside all others, as container engines do it. */
    if (!probe_v2_in(g, own, name, true) && !str_eq(own, mount))
        probe_v2_in(g, mount, name, false);
}

void groups_probe(struct groups *g, const char *name)
{
    *g = (struct groups){.version = "none"};
    probe_v2(g, name);
    bool v2 = g->tree[0] != '\0', v1 = false;
    if (g->memory[0] == '\0')
        v1 |= probe_v1("memory", "memory.limit_in_bytes", "1073741824", name, g->memory);
    if (g->pids[0] == '\0')
        v1 |= probe_v1("pids", "pids.max", "1000", name, g->pids);
    if (g->cpu[0] == '\0')
        v1 |= probe_v1("cpu", "cpu.cfs_quota_us", "100000", name, g->cpu);
    g->version = v2 && v1 ? "hybrid" : v2 ? "v2" : v1 ? "v1" : "none";
}

void groups_leave(const struct groups *g)
{
    const char *const all[] = {g->tree, g->memory, g->pids, g->cpu};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i][0] != '\0')
            rmdir(all[i]);
}

static void item(struct buf *to, const char *key, const char *folder, int64_t attempt)
{
    if (folder[0] == '\0')
        return;
    buf_printf(to, "%s=%s/a%lld", key, folder, (long long)attempt);
    buf_addc(to, '\0');
}

void groups_spec(const struct groups *g, int64_t attempt, bool memory, bool pids, bool cpu,
                 struct buf *to)
{
    /* A v1 group is made only for a limit that was asked for: moving a process into one stops
     * every other move on the machine for about a millisecond. */
    item(to, "cg_tree", g->tree, attempt);
    if (memory || str_eq(g->memory, g->tree))
        item(to, "cg_memory", g->memory, attempt);
    if (pids || str_eq(g->pids, g->tree) || g->tree[0] == '\0')
        item(to, "cg_pids", g->pids, attempt);
    if (cpu || str_eq(g->cpu, g->tree))
        item(to, "cg_cpu", g->cpu, attempt);
}
