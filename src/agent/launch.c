/* Speaks to the launcher in whole messages; a full queue is the caller's to wait for. */
#include "agent/launch.h"

#include "agent/shim/shim.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LAUNCHER_FD = 3, TITLE_ROOM = 200, HIDE_MAX = 64, READY_MS = 10000 };

/* It tries out what it can isolate, which takes some milliseconds. */
static bool wait_ready(int fd, int *facts)
{
    struct pollfd p = {fd, POLLIN, 0};
    struct launch_reply r;
    if (poll(&p, 1, READY_MS) != 1 || recv(fd, &r, sizeof(r), 0) != (ssize_t)sizeof(r) ||
        r.what != LAUNCHER_READY)
        return false;
    *facts = r.status;
    return true;
}

int launcher_start(struct launcher *l, int *facts, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_sys(e, "cannot make the launcher's socket");
    char fd_text[16], room[TITLE_ROOM + 1];
    snprintf(fd_text, sizeof(fd_text), "%d", LAUNCHER_FD);
    memset(room, ' ', TITLE_ROOM); /* shims write their own name over it, for ps */
    room[TITLE_ROOM] = '\0';
    char *argv[HIDE_MAX + 8] = {"drover-launcher", "--launcher", fd_text, (char *)l->jobs,
                                l->hide != NULL ? "on" : "off"};
    size_t n = 5;
    for (size_t i = 0; l->hide != NULL && l->hide[i] != NULL && i < HIDE_MAX; i++)
        argv[n++] = (char *)l->hide[i];
    argv[n] = room;
    char *env[] = {NULL};
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, 0, 1);
    posix_spawn_file_actions_adddup2(&files, 0, 2);
    posix_spawn_file_actions_adddup2(&files, pair[1], LAUNCHER_FD);
    pid_t pid;
    int why = posix_spawn(&pid, l->program, &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    close(pair[1]);
    if (why != 0) {
        close(pair[0]);
        errno = why;
        return err_sys(e, "cannot start %s", l->program);
    }
    if (!wait_ready(pair[0], facts)) {
        close(pair[0]);
        return err_set(e, ERR_INTERNAL, "%s does not begin", l->program);
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    l->fd = pair[0];
    l->pid = pid;
    return OK;
}

int launcher_ask(struct launcher *l, int64_t id)
{
    struct launch_request q = {id};
    if (l->fd < 0)
        return -1;
    if (send(l->fd, &q, sizeof(q), MSG_NOSIGNAL) == (ssize_t)sizeof(q))
        return 1;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
}

int launcher_hear(struct launcher *l, struct launch_news *out)
{
    struct launch_reply r;
    if (l->fd < 0)
        return -1;
    ssize_t n = recv(l->fd, &r, sizeof(r), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n != (ssize_t)sizeof(r))
        return -1;
    *out = (struct launch_news){.what = SHIM_ENDED, .id = r.id, .pid = r.pid};
    if (r.what == LAUNCHED) {
        out->what = SHIM_LAUNCHED;
    } else if (r.what == LAUNCH_FAILED) {
        out->what = SHIM_NOT_LAUNCHED;
        out->why = r.status;
    } else if (WIFEXITED(r.status) && WEXITSTATUS(r.status) > SHIM_ERRNO) {
        out->why = WEXITSTATUS(r.status) - SHIM_ERRNO;
    }
    return 1;
}

void launcher_close(struct launcher *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}
