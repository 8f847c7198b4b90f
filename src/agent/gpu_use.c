/* A job's processes are found by the control group that holds them, else by the variable that all
 * of them inherit. What must stay true: nothing here waits for anything but the kernel's own files
 * (user names come from /etc/passwd alone, never over a network), and a process is looked at once.
 */
#include "agent/gpu_use.h"

#include "agent/folder.h"
#include "agent/tree.h"
#include "base/mem.h"
#include "base/str.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_MAX = 64 << 10 };

/* A group of ours ends in /aID. */
static int64_t attempt_in_groups(const char *groups)
{
    for (const char *at = groups; (at = strstr(at, "/a")) != NULL; at += 2) {
        char *end;
        long long id = strtoll(at + 2, &end, 10);
        if (id > 1000000 && (*end == '\n' || *end == '/' || *end == '\0'))
            return id;
    }
    return 0;
}

static int64_t attempt_in_environment(const char *text, size_t n)
{
    static const char name[] = "DROVER_ATTEMPT_ID=";
    for (size_t at = 0; at < n;) {
        size_t len = strnlen(text + at, n - at);
        int64_t id;
        char number[32];
        if (len > sizeof(name) - 1 && memcmp(text + at, name, sizeof(name) - 1) == 0) {
            snprintf(number, sizeof(number), "%.*s", (int)(len - (sizeof(name) - 1)),
                     text + at + sizeof(name) - 1);
            if (str_int(number, &id) && id > 0)
                return id;
        }
        at += len + 1;
    }
    return 0;
}

static ssize_t read_text(const char *path, char *to)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = fd >= 0 ? 0 : -1;
    while (fd >= 0 && n < TEXT_MAX && (got = read(fd, to + n, TEXT_MAX - n)) > 0)
        n += (size_t)got;
    to[n] = '\0';
    return got < 0 ? -1 : (ssize_t)n;
}

static void user_name(uid_t uid, char to[GPU_USER_SIZE])
{
    struct passwd p, *found;
    char space[4096];
    FILE *f = fopen("/etc/passwd", "re");
    snprintf(to, GPU_USER_SIZE, "%u", (unsigned)uid);
    while (f != NULL && fgetpwent_r(f, &p, space, sizeof(space), &found) == 0)
        if (found->pw_uid == uid) {
            snprintf(to, GPU_USER_SIZE, "%.32s", found->pw_name);
            break;
        }
    if (f != NULL)
        fclose(f);
}

const struct gpu_user *gpu_use_of(struct gpu_use *u, int64_t pid)
{
    struct proc p;
    struct stat st;
    char path[64];
    if (pid <= 0 || !proc_read((pid_t)pid, &p))
        return NULL;
    for (size_t i = 0; i < GPU_USE_MAX; i++)
        if (u->seen[i].pid == pid && u->seen[i].ticks == p.ticks)
            return &u->seen[i];
    struct gpu_user *out = &u->seen[u->next++ % GPU_USE_MAX];
    *out = (struct gpu_user){.pid = pid, .ticks = p.ticks, .attempt = -1};
    AUTO(mem) char *text = mem_alloc(TEXT_MAX + 1);
    snprintf(path, sizeof(path), "/proc/%lld", (long long)pid);
    if (stat(path, &st) == 0)
        user_name(st.st_uid, out->user);
    snprintf(path, sizeof(path), "/proc/%lld/cgroup", (long long)pid);
    if (read_text(path, text) > 0)
        out->attempt = attempt_in_groups(text);
    snprintf(path, sizeof(path), "/proc/%lld/environ", (long long)pid);
    ssize_t n = out->attempt > 0 ? 0 : read_text(path, text);
    if (n >= 0 && out->attempt <= 0)
        out->attempt = attempt_in_environment(text, (size_t)n);
    else if (n < 0 && out->attempt == 0 && geteuid() != 0)
        out->attempt = st.st_uid == geteuid() ? -1 : 0; /* our jobs are our own user's */
    return out;
}
