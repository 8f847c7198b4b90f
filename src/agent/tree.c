/* Finding, signalling and removing process trees and cgroups. A pid found by walking /proc may be
 * gone, or another's, a moment later: every walk is repeated by its caller until nothing is left,
 * and signals go out right after the walk. */
#include "agent/tree.h"

#include "agent/folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GROUP_DEPTH_MAX = 16, ENVIRON_MAX = 256 << 10, PATH_SIZE = 4096 };

bool proc_read(pid_t pid, struct proc *out)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    ssize_t n = folder_read(AT_FDCWD, path, text, sizeof(text) - 1);
    const char *rest = n > 0 ? strrchr(text, ')') : NULL; /* the name may hold anything */
    int parent, group, session;
    char state;
    unsigned long long ticks;
    if (rest == NULL ||
        sscanf(rest + 1,
               " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, &parent, &group, &session, &ticks) != 5)
        return false;
    *out = (struct proc){pid, parent, session, ticks, state};
    return true;
}

static bool has_mark(pid_t pid, const char *mark)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    char *text = malloc(ENVIRON_MAX);
    size_t n = 0, len = strlen(mark);
    ssize_t got;
    while (text != NULL && n < ENVIRON_MAX && (got = read(fd, text + n, ENVIRON_MAX - n)) > 0)
        n += (size_t)got;
    close(fd);
    bool found = false;
    for (size_t at = 0; at < n && !found;) {
        size_t item = strnlen(text + at, n - at);
        found = item == len && memcmp(text + at, mark, len) == 0;
        at += item + 1;
    }
    free(text);
    return found;
}

/* Every process of the machine that we may see. */
static size_t proc_all(struct proc **out)
{
    DIR *d = opendir("/proc");
    struct proc *all = NULL;
    size_t n = 0, cap = 0;
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;) {
        if (!isdigit((unsigned char)f->d_name[0]))
            continue;
        if (n == cap) {
            struct proc *more = realloc(all, (cap = cap ? cap * 2 : 256) * sizeof(*all));
            if (more == NULL)
                break;
            all = more;
        }
        if (proc_read((pid_t)strtol(f->d_name, NULL, 10), &all[n]))
            n++;
    }
    if (d != NULL)
        closedir(d);
    *out = all;
    return n;
}

size_t tree_find(pid_t root, pid_t session, const char *mark, struct proc **out)
{
    struct proc *all;
    size_t n = proc_all(&all), kept = 0;
    bool *in = calloc(n + 1, sizeof(bool));
    pid_t self = getpid();
    for (size_t i = 0; in != NULL && i < n; i++)
        in[i] = (root > 0 && all[i].parent == root) || (session > 0 && all[i].session == session) ||
                (mark != NULL && all[i].state != 'Z' && has_mark(all[i].pid, mark));
    for (bool grew = in != NULL; grew;) {
        grew = false;
        for (size_t i = 0; i < n; i++)
            for (size_t p = 0; !in[i] && p < n; p++)
                if (in[p] && all[i].parent == all[p].pid)
                    in[i] = grew = true;
    }
    for (size_t i = 0; in != NULL && i < n; i++)
        if (in[i] && all[i].state != 'Z' && all[i].state != 'X' && all[i].pid != self &&
            all[i].pid != root)
            all[kept++] = all[i];
    free(in);
    *out = all;
    return kept;
}

size_t tree_signal(pid_t root, pid_t session, const char *mark, int sig)
{
    struct proc *found = NULL;
    size_t n = tree_find(root, session, mark, &found), before = 0;
    if (sig == SIGKILL)
        /* A stopped process forks no more: when a walk finds no new one, all are held. */
        for (int round = 0; round < 64 && n > before; round++) {
            for (size_t i = 0; i < n; i++)
                kill(found[i].pid, SIGSTOP);
            before = n;
            free(found);
            n = tree_find(root, session, mark, &found);
        }
    for (size_t i = 0; i < n; i++)
        kill(found[i].pid, sig);
    free(found);
    return n;
}

/* ---- cgroups ---- */

bool cg_write(const char *group, const char *file, const char *value)
{
    char path[PATH_SIZE];
    if (snprintf(path, sizeof(path), "%s/%s", group, file) >= (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t n = strlen(value);
    ssize_t put = write(fd, value, n);
    int why = errno;
    close(fd);
    errno = why;
    return put == (ssize_t)n;
}

bool cg_read(const char *group, const char *file, char *to, size_t size)
{
    char path[PATH_SIZE];
    return snprintf(path, sizeof(path), "%s/%s", group, file) < (int)sizeof(path) &&
           folder_read(AT_FDCWD, path, to, size - 1) >= 0;
}

int64_t cg_counter(const char *group, const char *file, const char *key)
{
    char text[2048];
    if (!cg_read(group, file, text, sizeof(text)))
        return -1;
    size_t len = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return strtoll(line + len + 1, NULL, 10);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return -1;
}

bool cg_kill(const char *group)
{
    return cg_write(group, "cgroup.kill", "1");
}

/* Calls fn for each group below the path, deepest first, then for the path itself. The path's
 * buffer is extended in place. */
static void cg_each(char path[PATH_SIZE], int depth, void (*fn)(const char *, void *), void *ctx)
{
    DIR *d = depth < GROUP_DEPTH_MAX ? opendir(path) : NULL;
    size_t len = strlen(path);
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;) {
        if (f->d_type != DT_DIR || f->d_name[0] == '.' ||
            len + 1 + strlen(f->d_name) + 1 > PATH_SIZE)
            continue;
        path[len] = '/';
        memcpy(path + len + 1, f->d_name, strlen(f->d_name) + 1);
        cg_each(path, depth + 1, fn, ctx);
        path[len] = '\0';
    }
    if (d != NULL)
        closedir(d);
    fn(path, ctx);
}

static void cg_walk(const char *group, void (*fn)(const char *, void *), void *ctx)
{
    char path[PATH_SIZE];
    if (snprintf(path, sizeof(path), "%s", group) < (int)sizeof(path))
        cg_each(path, 0, fn, ctx);
}

struct signalling {
    int sig;
    size_t n;
};

static void signal_group(const char *path, void *ctx)
{
    struct signalling *s = ctx;
    char file[PATH_SIZE];
    if (snprintf(file, sizeof(file), "%s/cgroup.procs", path) >= (int)sizeof(file))
        return;
    FILE *f = fopen(file, "re");
    for (int pid; f != NULL && fscanf(f, "%d", &pid) == 1;)
        if (pid > 1 && pid != getpid()) {
            if (s->sig != 0)
                kill(pid, s->sig);
            s->n++;
        }
    if (f != NULL)
        fclose(f);
}

size_t cg_signal(const char *group, int sig)
{
    struct signalling s = {sig, 0};
    cg_walk(group, signal_group, &s);
    return s.n;
}

bool cg_make(const char *group)
{
    if (mkdir(group, 0755) == 0 || errno == EEXIST)
        return true;
    char parent[PATH_SIZE];
    snprintf(parent, sizeof(parent), "%s", group);
    char *slash = strrchr(parent, '/');
    if (errno != ENOENT || slash == NULL || slash == parent)
        return false;
    *slash = '\0';
    return (mkdir(parent, 0755) == 0 || errno == EEXIST) &&
           (mkdir(group, 0755) == 0 || errno == EEXIST);
}

static void remove_group(const char *path, void *ctx)
{
    (void)ctx;
    rmdir(path);
}

bool cg_remove(const char *group)
{
    if (rmdir(group) == 0 || errno == ENOENT)
        return true;
    cg_walk(group, remove_group, NULL);
    return access(group, F_OK) != 0;
}
