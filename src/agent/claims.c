/* One lock a GPU. What must stay true: a lock that is held stays held until the process ends, so a
 * job can never find its GPU given to another server; a file is never removed, or two agents could
 * hold the locks of two files of one name. */
#include "agent/claims.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void claims_init(struct claims *c, const char *data)
{
    c->owner = mem_printf("process %ld, data in %s", (long)getpid(), data);
}

void claims_fini(struct claims *c)
{
    for (size_t i = 0; i < c->n; i++)
        close(c->list[i].fd);
    c->n = 0;
    mem_free(TAKE(c->owner));
}

/* The folder is shared by users: O_CREAT is refused there for a file of somebody else, even to
 * root, and a lock needs no more than to read. */
static int open_lock(const char *path)
{
    const int flags = O_CLOEXEC | O_NOFOLLOW;
    int fd = open(path, O_RDWR | flags);
    if (fd < 0 && errno == ENOENT) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | flags, 0644);
        if (fd >= 0)
            (void)fchmod(fd, 0644);
        else if (errno == EEXIST)
            fd = open(path, O_RDWR | flags);
    }
    if (fd < 0 && errno == EACCES)
        fd = open(path, O_RDONLY | flags);
    return fd;
}

static int open_somewhere(const char *uuid)
{
    const char *folders[] = {getenv("DROVER_LOCK_DIR"), "/run/lock", "/tmp"};
    char name[GPU_UUID_SIZE], path[4096];
    snprintf(name, sizeof(name), "%s", uuid);
    for (char *p = name; *p != '\0'; p++)
        if (*p == '/' || *p == '.')
            *p = '_';
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (folders[i] == NULL || folders[i][0] == '\0')
            continue;
        snprintf(path, sizeof(path), "%s/drover-gpu-%s.lock", folders[i], name);
        int fd = open_lock(path);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

static void read_owner(int fd, char by[GPU_NOTE_SIZE])
{
    char text[GPU_NOTE_SIZE - 48];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    text[utf8_fit(text, sizeof(text) - 1)] = '\0';
    snprintf(by, GPU_NOTE_SIZE, "another agent on this host has it%s%s",
             text[0] != '\0' ? ": " : "", text);
}

bool claims_take(struct claims *c, const char *uuid, char by[GPU_NOTE_SIZE])
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->list[i].uuid, uuid) == 0)
            return true;
    if (*uuid == '\0' || c->n == GPU_MAX)
        return true;
    AUTO(fd) int fd = open_somewhere(uuid);
    if (fd < 0) {
        if (!c->told)
            log_warning("agent", "no lock for GPU %s (%s): another agent could offer it too", uuid,
                        strerror(errno));
        c->told = true;
        return true;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        read_owner(fd, by);
        return false;
    }
    size_t len = strlen(c->owner);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, c->owner, len, 0) != (ssize_t)len)
        (void)ftruncate(fd, 0); /* another user's file: its readers see no name */
    snprintf(c->list[c->n].uuid, GPU_UUID_SIZE, "%s", uuid);
    c->list[c->n++].fd = fd;
    fd = -1;
    return true;
}
