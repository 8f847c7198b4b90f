/* Making the template and the cells. What must stay true: what is covered in the template stays
 * covered in every copy (all binds are recursive); a step that fails ends the job before its
 * command runs, never leaves it with less than the node's facts say. */
#include "agent/shim/cell.h"

#include "agent/shim/guard.h"
#include "agent/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, SPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS };
#define HOMES "/run/drover/homes" /* in the template: all homes of jobs' users */
#define HOME  CELL_HOME

/* What this process and all that it forks live in. */
static struct {
    bool spaces;
    bool root;            /* of the whole machine, not of a user namespace */
    char work[PATH_SIZE]; /* folders that the agent made for single jobs */
} template;

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool make_path(const char *path, mode_t mode)
{
    char part[PATH_SIZE];
    snprintf(part, sizeof(part), "%s", path);
    for (char *at = part + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return false;
    }
    return mkdir(part, mode) == 0 || errno == EEXIST;
}

static int tree_clone(const char *path)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

static bool tree_put(int tree, const char *path)
{
    return syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

/* ---- /dev ---- */

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const struct {
    const char *name, *to;
} links[] = {{"ptmx", "pts/ptmx"},
             {"fd", "/proc/self/fd"},
             {"stdin", "/proc/self/fd/0"},
             {"stdout", "/proc/self/fd/1"},
             {"stderr", "/proc/self/fd/2"}};

/* The same device below another folder: made anew by root, bound by others. A name that is a
 * folder (nvidia-caps, dri, infiniband) is bound whole. */
static bool device_put(const char *dev, const char *name)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    struct stat st;
    snprintf(from, sizeof(from), "/dev/%.1000s", name);
    snprintf(to, sizeof(to), "%.1000s/%.1000s", dev, name);
    if (stat(from, &st) != 0)
        return errno == ENOENT;
    char *slash = strrchr(to, '/');
    *slash = '\0';
    if (!make_path(to, 0755))
        return false;
    *slash = '/';
    if (S_ISDIR(st.st_mode))
        return make_path(to, 0755) && mount(from, to, NULL, MS_BIND | MS_REC, NULL) == 0;
    if (template.root)
        return (mknod(to, (st.st_mode & S_IFMT), st.st_rdev) == 0 || errno == EEXIST) &&
               chown(to, st.st_uid, st.st_gid) == 0 && chmod(to, st.st_mode & 0777) == 0;
    int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0 && mount(from, to, NULL, MS_BIND, NULL) == 0;
}

/* Covers /dev by one with the common devices and those listed ("nvidia0,nvidiactl"). It is built on
 * `stage` first, because what it is built from is what it covers. */
static bool dev_build(const char *stage, const char *more)
{
    char name[PATH_SIZE], path[PATH_SIZE];
    int shm = tree_clone("/dev/shm");
    bool ok = mount("dev", stage, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=256k") == 0;
    for (size_t i = 0; ok && i < sizeof(devices) / sizeof(devices[0]); i++)
        ok = device_put(stage, devices[i]);
    for (size_t i = 0; ok && i < sizeof(links) / sizeof(links[0]); i++) {
        snprintf(path, sizeof(path), "%.1000s/%s", stage, links[i].name);
        ok = symlink(links[i].to, path) == 0;
    }
    for (const char *at = more; ok && at != NULL && *at != '\0';) {
        size_t n = strcspn(at, ",");
        snprintf(name, sizeof(name), "%.*s", (int)(n < 200 ? n : 200), at);
        ok = device_put(stage, name);
        at += n + (at[n] == ',');
    }
    snprintf(path, sizeof(path), "%.1000s/pts", stage);
    ok = ok && mkdir(path, 0755) == 0;
    snprintf(path, sizeof(path), "%.1000s/shm", stage);
    ok = ok && mkdir(path, 01777) == 0 && (shm < 0 || tree_put(shm, path)) &&
         mount(NULL, stage, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) ==
             0 &&
         mount(stage, "/dev", NULL, MS_MOVE, NULL) == 0;
    if (shm >= 0)
        close(shm);
    return ok;
}

/* ---- the template ---- */

static bool enter_user_space(void)
{
    char line[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_text("/proc/self/setgroups", "deny"))
        return false;
    snprintf(line, sizeof(line), "%u %u 1", (unsigned)uid, (unsigned)uid);
    if (!write_text("/proc/self/uid_map", line))
        return false;
    snprintf(line, sizeof(line), "%u %u 1", (unsigned)gid, (unsigned)gid);
    return write_text("/proc/self/gid_map", line);
}

/* A folder becomes an empty one, a file or socket one that cannot be opened for anything. */
static bool cover(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return true;
    if (S_ISDIR(st.st_mode))
        return mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                     "mode=0755,size=16k") == 0;
    return mount("/dev/null", path, NULL, MS_BIND, NULL) == 0;
}

static bool show_homes(const char *jobs)
{
    char homes[PATH_SIZE];
    snprintf(homes, sizeof(homes), "%.1000s/../homes", jobs);
    if (!template.root || access(homes, F_OK) != 0)
        return true;
    return make_path(HOMES, 0711) && make_path(HOME, 0755) && chmod("/run/drover", 0755) == 0 &&
           chmod(HOME, 0755) == 0 && mount(homes, HOMES, NULL, MS_BIND, NULL) == 0;
}

static bool cover_all(const struct cell_house *h)
{
    struct stat st;
    char agent[PATH_SIZE];
    snprintf(agent, sizeof(agent), "%.1000s", h->jobs);
    *strrchr(agent, '/') = '\0';
    snprintf(template.work, sizeof(template.work), "%.1000s/work", agent);
    int work = tree_clone(template.work);
    bool ok = true;
    for (size_t i = 0; ok && h->hide[i] != NULL; i++)
        ok = cover(h->hide[i]);
    ok = ok && (work < 0 || (make_path(template.work, 0755) && tree_put(work, template.work)));
    for (size_t i = 0; ok && h->hide[i] != NULL; i++)
        ok = stat(h->hide[i], &st) != 0 || !S_ISDIR(st.st_mode) ||
             mount(NULL, h->hide[i], NULL,
                   MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
    if (work < 0)
        template.work[0] = '\0';
    else
        close(work);
    return ok;
}

static bool template_make(const struct cell_house *h)
{
    template.root = geteuid() == 0;
    umask(022); /* what is made here is for jobs to see */
    if (template.root ? unshare(CLONE_NEWNS) != 0 : !enter_user_space())
        return false;
    /* Slave: what the host mounts later is seen, what a job does is not. */
    return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 && show_homes(h->jobs) &&
           dev_build("/tmp", NULL) && cover_all(h);
}

/* ---- the folder that a job works in ---- */

static bool may_search(const struct stat *st, const struct spec *s)
{
    if (s->uid == 0)
        return true; /* it is who made the folders, or the folders are its own affair */
    if ((int64_t)st->st_uid == s->uid)
        return st->st_mode & S_IXUSR;
    if ((int64_t)st->st_gid == s->gid)
        return st->st_mode & S_IXGRP;
    return st->st_mode & S_IXOTH;
}

/* A user namespace that shows what belongs to st as the job's own. -1: errno. */
static int mapping_open(const struct stat *st, const struct spec *s)
{
    char path[64], line[64];
    int hold[2], fd = -1;
    if (pipe2(hold, O_CLOEXEC) != 0)
        return -1;
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        char end;
        close(hold[1]);
        _exit(read(hold[0], &end, 1) < 0);
    }
    snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
    snprintf(line, sizeof(line), "%u %lld 1", (unsigned)st->st_uid, (long long)s->uid);
    bool ok = pid > 0 && write_text(path, line);
    snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
    snprintf(line, sizeof(line), "%u %lld 1", (unsigned)st->st_gid, (long long)s->gid);
    ok = ok && write_text(path, line);
    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    if (ok)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    int why = errno;
    close(hold[0]);
    close(hold[1]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    errno = why;
    return fd;
}

/* Before the temporary folders are covered: the folder as it is. -1: it is not needed. */
static int show_open(const struct spec *s, struct stat *st)
{
    if (s->show == NULL || stat(s->show, st) != 0 || !S_ISDIR(st->st_mode))
        return -1;
    int tree = tree_clone(s->show);
    /* Files of root, shown to a job of root's as its own; only where the file system can. */
    if (tree >= 0 && s->own && s->uid != 0 && (int64_t)st->st_uid != s->uid) {
        int user = mapping_open(st, s);
        struct mount_attr map = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID,
                                 .userns_fd = (uint64_t)user};
        if (user >= 0) {
            syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &map, sizeof(map));
            close(user);
        }
    }
    return tree;
}

/* Puts it back at its place, and above it empty folders where the job's user could not pass. */
static bool show_put(const struct spec *s, int tree, const struct stat *st)
{
    char part[PATH_SIZE];
    struct stat now;
    snprintf(part, sizeof(part), "%s", s->show);
    for (char *at = part; (at = strchr(at + 1, '/')) != NULL; *at = '/') {
        *at = '\0';
        if (stat(part, &now) == 0 && !may_search(&now, s) &&
            mount("none", part, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=256k") != 0)
            return false;
    }
    bool there = stat(s->show, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
    if (there && !s->own)
        return true;
    return make_path(s->show, 0755) && tree_put(tree, s->show);
}

/* ---- one cell ---- */

/* The folders of other jobs go; its own comes back by show_put(). */
static bool leave_work(const struct spec *s)
{
    size_t n = strlen(template.work);
    if (n == 0)
        return true;
    return umount2(template.work, MNT_DETACH) == 0 &&
           (s->show == NULL || strncmp(s->show, template.work, n) != 0 ||
            mount("none", template.work, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=256k") ==
                0);
}

/* One small file system holds the three temporary folders. */
static bool make_temporary(const struct spec *s)
{
    static const char *const parts[][2] = {{"/tmp/v", "/var/tmp"}, {"/tmp/s", "/dev/shm"}};
    char options[64];
    snprintf(options, sizeof(options), "mode=0755,size=%lldm", (long long)s->tmp_mib);
    if (mount("tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) != 0 ||
        mkdir("/tmp/t", 01777) != 0 || chmod("/tmp/t", 01777) != 0)
        return false;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (mkdir(parts[i][0], 01777) != 0 || chmod(parts[i][0], 01777) != 0 ||
            mount(parts[i][0], parts[i][1], NULL, MS_BIND, NULL) != 0)
            return false;
    return mount("/tmp/t", "/tmp", NULL, MS_BIND, NULL) == 0;
}

/* NULL, or what could not be done. */
static const char *cell_build(const struct spec *s)
{
    struct stat st;
    struct mount_attr fixed = {.attr_set = MOUNT_ATTR_RDONLY};
    char home[PATH_SIZE];
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return "mount its /proc";
    int show = show_open(s, &st);
    if (!leave_work(s))
        return "leave the folders of other jobs";
    if (s->devices != NULL && (umount2("/dev", MNT_DETACH) != 0 || !dev_build("/tmp", s->devices)))
        return "make its /dev";
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620") != 0)
        return "make its terminals";
    if (s->isolation >= ISOLATION_STRICT && !make_temporary(s))
        return "make its temporary folders";
    /* Its control group must not be its to change. */
    if (syscall(SYS_mount_setattr, AT_FDCWD, "/sys", AT_RECURSIVE, &fixed, sizeof(fixed)) != 0)
        return "protect /sys";
    if (s->home != NULL) {
        snprintf(home, sizeof(home), HOMES "/%s", s->home);
        if (mount(home, HOME, NULL, MS_BIND, NULL) != 0)
            return "show its home";
    }
    if (show >= 0 && !show_put(s, show, &st))
        return "show its working directory";
    return NULL;
}

/* Process 1 of the cell. */
static _Noreturn void init_main(const struct spec *s, int ready)
{
    char text[DETAIL_SIZE];
    sigset_t mask;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* and with it everything in the cell */
    prctl(PR_SET_NAME, "drover-init");
    const char *what = cell_build(s);
    if (what != NULL) {
        snprintf(text, sizeof(text), "the node cannot isolate the job: cannot %s: %s", what,
                 strerror(errno));
        _exit(write(ready, text, strlen(text)) < 0);
    }
    text[0] = CELL_READY;
    if (write(ready, text, 1) != 1)
        _exit(1);
    close_range(0, ~0u, 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    for (bool over = false;;) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (over && pid < 0 && errno == ECHILD)
            _exit(0);
        if (sigwaitinfo(&mask, NULL) == SIGUSR1)
            over = true;
    }
}

bool cell_open(struct cell *c, const struct spec *s)
{
    int ready[2];
    *c = (struct cell){.pidfd = -1, .ready = -1};
    if (!template.spaces || s->isolation == ISOLATION_OFF)
        return true;
    if (pipe2(ready, O_CLOEXEC) != 0)
        return false;
    pid_t pid = limits_fork(s, SPACES, &c->pidfd, NULL);
    if (pid == 0)
        init_main(s, ready[1]);
    int why = errno;
    close(ready[1]);
    if (pid < 0 || setns(c->pidfd, CLONE_NEWPID) != 0) {
        why = pid < 0 ? why : errno;
        close(ready[0]);
        if (pid > 0)
            kill(pid, SIGKILL);
        errno = why;
        return false;
    }
    c->init = pid;
    c->ready = ready[0];
    return true;
}

bool cell_enter(const struct cell *c, char text[DETAIL_SIZE])
{
    ssize_t n = read(c->ready, text, DETAIL_SIZE - 1);
    text[n > 0 ? n : 0] = '\0';
    if (n == 1 && text[0] == CELL_READY) {
        if (setns(c->pidfd, SPACES & ~CLONE_NEWPID) == 0)
            return true;
        snprintf(text, DETAIL_SIZE, "the node cannot isolate the job: cannot enter its cell: %s",
                 strerror(errno));
    } else if (n <= 0) {
        snprintf(text, DETAIL_SIZE, "the node cannot isolate the job: its init was killed");
    }
    return false;
}

void cell_leave(const struct cell *c)
{
    if (c->init > 0)
        kill(c->init, SIGUSR1);
}

/* ---- trying it out ---- */

static bool status_has(const char *key, const char *value)
{
    char text[4096];
    size_t n = file_head("/proc/self/status", text, sizeof(text) - 1);
    const char *at = n > 0 ? strstr(text, key) : NULL;
    if (at == NULL)
        return false;
    at += strlen(key);
    at += strspn(at, ":\t ");
    return strncmp(at, value, strlen(value)) == 0;
}

/* What a job sees of itself, as an exit status of cell_fact bits. */
static _Noreturn void probe_main(const struct cell *c, const struct spec *s, const char *hidden,
                                 bool root)
{
    char text[DETAIL_SIZE];
    struct guard g = {.uid = root ? (uid_t)s->uid : 0, .gid = (gid_t)s->gid};
    int facts = 0;
    if (c->init > 0 && cell_enter(c, text) && getpid() < 10 && access(hidden, F_OK) != 0)
        facts |= CELL_SPACES;
    if (guard_user(&g) == NULL && status_has("NoNewPrivs", "1") &&
        status_has("CapEff", "0000000000000000") && status_has("CapPrm", "0000000000000000"))
        facts |= CELL_PRIVILEGES;
    if (root && getuid() == g.uid)
        facts |= CELL_USER;
    if (guard_calls(&g) == NULL && status_has("Seccomp", "2"))
        facts |= CELL_CALLS;
    _exit(facts);
}

static int probe(const struct cell_house *h, bool spaces)
{
    static char *const none[] = {NULL};
    struct spec s = {.isolation = ISOLATION_STRICT,
                     .tmp_mib = 1,
                     .uid = geteuid() == 0 ? 65534 : 0,
                     .gid = 65534,
                     .argv = (char **)none,
                     .env = (char **)none};
    struct cell c = {.pidfd = -1};
    bool root = geteuid() == 0;
    int status = 0;
    template.spaces = spaces &&template_make(h);
    if (spaces && !template.spaces)
        return 0;
    if (!cell_open(&c, &s))
        return 0;
    pid_t pid = fork();
    if (pid == 0)
        probe_main(&c, &s, h->jobs, root);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        status = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* In a process of its own, because what is entered cannot be left. */
static int probe_apart(const struct cell_house *h, bool spaces)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        _exit(probe(h, spaces));
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : 0;
}

int cell_prepare(const struct cell_house *h)
{
    int facts = probe_apart(h, true);
    if (!(facts & CELL_SPACES))
        return probe_apart(h, false) & ~CELL_SPACES;
    template.spaces = template_make(h);
    return template.spaces ? facts : facts & ~CELL_SPACES;
}
