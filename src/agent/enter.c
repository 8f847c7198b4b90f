/* Entering a job from outside. What must stay true: everything is opened by the pid before anything
 * is changed, and the pid is held by a descriptor while that is done, so that it cannot have become
 * another's; a process that could not take one step does not go on. */
#include "agent/enter.h"

#include "agent/shim/guard.h"
#include "agent/tree.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The user namespace first: it gives the right to enter the others. The mounts last: they take
 * /proc away. */
static const struct {
    const char *name;
    int flag;
} spaces[ENTER_SPACES] = {
    {"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC},
    {"uts", CLONE_NEWUTS},   {"net", CLONE_NEWNET},       {"pid", CLONE_NEWPID},
    {"mnt", CLONE_NEWNS},
};
enum { SPACE_USER = 0, SPACE_NET = 4, SPACE_PID = 5 };
enum { ENVIRON_MAX = 4 << 20, STATUS_MAX = 8192, GROUPS_MAX = 256, LAST_CAP = 63 };

void enter_close(struct enter *x)
{
    int *fds[] = {&x->pidfd, &x->root, &x->cwd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (*fds[i] >= 0)
            close(*fds[i]);
    for (int i = 0; i < ENTER_SPACES; i++)
        if (x->space[i] >= 0)
            close(x->space[i]);
    if (x->spec_text != NULL)
        spec_fini(&x->spec);
    mem_free(x->spec_text);
    mem_free(x->environ);
}

static int open_proc(pid_t pid, const char *what, int flags)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    return open(path, flags | O_CLOEXEC);
}

static int gone(struct err *e)
{
    return err_set(e, ERR_CONFLICT, "the job has just ended");
}

static int open_spaces(struct enter *x, struct err *e)
{
    for (int i = 0; i < ENTER_SPACES; i++) {
        char name[32];
        struct stat theirs, ours;
        snprintf(name, sizeof(name), "ns/%s", spaces[i].name);
        int own = open_proc(getpid(), name, O_RDONLY), fd = open_proc(x->pid, name, O_RDONLY);
        bool same = own >= 0 && fd >= 0 && fstat(own, &ours) == 0 && fstat(fd, &theirs) == 0 &&
                    ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
        bool unknown = own < 0; /* a kernel without this kind */
        if (own >= 0)
            close(own);
        if (!same && !unknown && fd < 0)
            return err_sys(e, "cannot look at the job's %s namespace", spaces[i].name);
        if ((same || unknown) && fd >= 0) {
            close(fd);
            fd = -1;
        }
        x->space[i] = fd;
    }
    return OK;
}

static int read_environ(struct enter *x, struct err *e)
{
    AUTO(fd) int fd = open_proc(x->pid, "environ", O_RDONLY);
    AUTO(buf) struct buf b = {.max = ENVIRON_MAX};
    char part[16 << 10];
    ssize_t n = -1;
    while (fd >= 0 && (n = read(fd, part, sizeof(part))) > 0 && buf_add(&b, part, (size_t)n))
        continue;
    if (n < 0)
        return err_sys(e, "cannot read the job's environment");
    x->environ = buf_take(&b, &x->environ_n);
    return OK;
}

static int read_spec(struct enter *x, int dir, struct err *e)
{
    struct stat st;
    if (fstatat(dir, FOLDER_SPEC, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_size <= 0 ||
        st.st_size > SPEC_MAX)
        return gone(e);
    char *text = mem_alloc((size_t)st.st_size + 1);
    ssize_t n = folder_read(dir, FOLDER_SPEC, text, (size_t)st.st_size);
    if (n <= 0 || !spec_parse(text, (size_t)n, &x->spec)) {
        mem_free(text);
        return err_set(e, ERR_CORRUPT, "what the job was started with cannot be read");
    }
    x->spec_text = text;
    return OK;
}

int enter_open(const char *jobs, int64_t attempt, struct enter *out, struct err *e)
{
    char path[4096], text[STARTED_MAX + 1];
    struct started s = {0};
    struct proc p;
    struct enter x = {.pidfd = -1, .root = -1, .cwd = -1};
    for (int i = 0; i < ENTER_SPACES; i++)
        x.space[i] = -1;
    snprintf(path, sizeof(path), "%s/%lld", jobs, (long long)attempt);
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t n = dir >= 0 ? folder_read(dir, FOLDER_STARTED, text, STARTED_MAX) : -1;
    if (n <= 0 || !started_parse(text, (size_t)n, &s) || s.claimed || s.job <= 0)
        return err_set(e, ERR_CONFLICT, "the job has no process on its node now");
    x.pid = s.job;
    x.pidfd = (int)syscall(SYS_pidfd_open, s.job, 0);
    /* The command is its shim's child for as long as the number is its own. */
    if (x.pidfd < 0 || !proc_read(s.job, &p) || p.parent != s.shim || p.state == 'Z') {
        enter_close(&x);
        return gone(e);
    }
    int rc = read_spec(&x, dir, e);
    if (rc == OK)
        rc = open_spaces(&x, e);
    if (rc == OK)
        rc = read_environ(&x, e);
    x.root = open_proc(x.pid, "root", O_PATH | O_DIRECTORY);
    x.cwd = open_proc(x.pid, "cwd", O_PATH | O_DIRECTORY);
    if (rc == OK && (x.root < 0 || x.cwd < 0))
        rc = err_sys(e, "cannot look at the job's folders");
    struct pollfd still = {.fd = x.pidfd, .events = POLLIN};
    if (rc == OK && poll(&still, 1, 0) != 0)
        rc = gone(e);
    if (rc == OK)
        *out = x;
    else
        enter_close(&x);
    return rc;
}

/* ---- in the child ---- */

static void copy_limits(pid_t pid)
{
    struct rlimit r;
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (prlimit(pid, (enum __rlimit_resource)i, NULL, &r) == 0)
            setrlimit((enum __rlimit_resource)i, &r);
    char path[64], score[16];
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    if (cg_read(path, "oom_score_adj", score, sizeof(score)))
        cg_write("/proc/self", "oom_score_adj", score);
}

static const char *join_groups(const struct spec *s)
{
    const char *const groups[] = {s->cg_tree, s->cg_memory, s->cg_pids, s->cg_cpu};
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        if (groups[i] != NULL && !cg_write(groups[i], "cgroup.procs", "0"))
            return "join its control group";
    return NULL;
}

struct identity {
    long uid, gid;
    gid_t groups[GROUPS_MAX];
    size_t n_groups;
    bool no_new_privs;
    unsigned long long bounding;
};

/* As the namespace sees it in which this file was opened. */
static bool read_identity(int fd, struct identity *out)
{
    char text[STATUS_MAX + 1];
    ssize_t n = read(fd, text, STATUS_MAX);
    if (n <= 0)
        return false;
    text[n] = '\0';
    *out = (struct identity){.uid = -1, .gid = -1, .bounding = ~0ULL};
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n'), *value = strchr(line, ':');
        if (end != NULL)
            *end = '\0';
        if (value != NULL && strncmp(line, "Uid:", 4) == 0)
            out->uid = strtol(value + 1, NULL, 10);
        else if (value != NULL && strncmp(line, "Gid:", 4) == 0)
            out->gid = strtol(value + 1, NULL, 10);
        else if (value != NULL && strncmp(line, "NoNewPrivs:", 11) == 0)
            out->no_new_privs = strtol(value + 1, NULL, 10) == 1;
        else if (value != NULL && strncmp(line, "CapBnd:", 7) == 0)
            out->bounding = strtoull(value + 1, NULL, 16);
        else if (value != NULL && strncmp(line, "Groups:", 7) == 0)
            for (char *at = value + 1, *next; out->n_groups < GROUPS_MAX; at = next) {
                long g = strtol(at, &next, 10);
                if (next == at)
                    break;
                out->groups[out->n_groups++] = (gid_t)g;
            }
        line = end != NULL ? end + 1 : NULL;
    }
    return out->uid >= 0 && out->gid >= 0;
}

static const char *become(const struct identity *who)
{
    bool other = (uid_t)who->uid != geteuid() || (gid_t)who->gid != getegid();
    for (int cap = 0; cap <= LAST_CAP; cap++)
        if ((who->bounding >> cap & 1) == 0 && prctl(PR_CAPBSET_READ, cap) == 1 &&
            prctl(PR_CAPBSET_DROP, cap) != 0 && errno != EPERM)
            return "give up the rights that the job does not have";
    if (other && setgroups(who->n_groups, who->groups) != 0 && errno != EPERM)
        return "take its groups";
    if (other && (setresgid((gid_t)who->gid, (gid_t)who->gid, (gid_t)who->gid) != 0 ||
                  setresuid((uid_t)who->uid, (uid_t)who->uid, (uid_t)who->uid) != 0))
        return "become its user";
    if (who->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "take its rights";
    return NULL;
}

const char *enter_job(const struct enter *x, bool *fork_again)
{
    static struct identity who;
    copy_limits(x->pid);
    const char *why = join_groups(&x->spec);
    if (why != NULL)
        return why;
    *fork_again = x->space[SPACE_PID] >= 0;
    if (x->space[SPACE_USER] >= 0 && setns(x->space[SPACE_USER], CLONE_NEWUSER) != 0)
        return "enter its user namespace";
    AUTO(fd) int status = open_proc(x->pid, "status", O_RDONLY);
    if (status < 0 || !read_identity(status, &who))
        return "see who it runs as";
    for (int i = 1; i < ENTER_SPACES; i++)
        if (x->space[i] >= 0 && setns(x->space[i], spaces[i].flag) != 0)
            return "enter its namespaces";
    struct stat here, there;
    if (fstat(x->root, &there) != 0 || stat("/", &here) != 0)
        return "see its root folder";
    if ((here.st_dev != there.st_dev || here.st_ino != there.st_ino) &&
        (fchdir(x->root) != 0 || chroot(".") != 0))
        return "enter its root folder";
    if (fchdir(x->cwd) != 0)
        return "enter its working folder";
    umask(022);
    why = become(&who);
    if (why != NULL || x->spec.isolation == ISOLATION_OFF)
        return why;
    /* What the job gave up itself: a root of a namespace is not root in it, and the calls that are
     * refused to the job are refused to what is started in it. Last: entering needs them. */
    struct guard guard = {.profiling = x->spec.profiling, .no_set_id = x->spec.own};
    why = guard_user(&guard);
    return why != NULL ? why : guard_calls(&guard);
}

const char *enter_network(const struct enter *x)
{
    if (x->space[SPACE_NET] < 0 || setns(x->space[SPACE_NET], CLONE_NEWNET) == 0)
        return NULL;
    if (x->space[SPACE_USER] >= 0 && setns(x->space[SPACE_USER], CLONE_NEWUSER) == 0 &&
        setns(x->space[SPACE_NET], CLONE_NEWNET) == 0)
        return NULL;
    return "enter its network";
}

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

char **enter_environ(const struct enter *x, const char *const *more)
{
    size_t n = 0, own = 0, most = 1;
    for (size_t i = 0; i < x->environ_n; i++)
        most += x->environ[i] == '\0';
    while (more[own] != NULL)
        own++;
    char **env = mem_alloc((most + own + 1) * sizeof(*env));
    for (size_t at = 0; at < x->environ_n; at += strlen(x->environ + at) + 1) {
        bool ours = false;
        for (size_t i = 0; i < own; i++)
            ours |= same_name(more[i], x->environ + at);
        if (!ours)
            env[n++] = x->environ + at;
    }
    for (size_t i = 0; i < own; i++)
        env[n++] = (char *)(uintptr_t)more[i];
    return env;
}
