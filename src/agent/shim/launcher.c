/* The launcher: forks a shim for each request and reports its pid and its end. It stays as long
 * as it has children, also when the agent is gone, because it adopts what a killed shim leaves
 * and nothing may stay a zombie. */
#include "agent/shim/cell.h"
#include "agent/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS_FD = 3 };

static void reply(int *fd, const struct launch_reply *r)
{
    if (*fd >= 0 && send(*fd, r, sizeof(*r), MSG_NOSIGNAL) < 0 && errno != EINTR) {
        close(*fd);
        *fd = -1;
    }
}

static void launch(int *fd, int jobs, const char *path, int64_t id, char *title, size_t title_size)
{
    struct launch_reply r = {.what = LAUNCHED, .id = id};
    char folder[32];
    snprintf(folder, sizeof(folder), "%lld", (long long)id);
    pid_t pid = fork();
    if (pid == 0) {
        /* The folders by descriptor: in the template their path is covered. */
        dup2(jobs, JOBS_FD);
        closefrom(JOBS_FD + 1);
        memset(title, 0, title_size); /* what ps shows */
        snprintf(title, title_size, "drover-shim %s/%s", path, folder);
        _exit(shim_main(JOBS_FD, folder));
    }
    if (pid < 0) {
        r.what = LAUNCH_FAILED;
        r.status = errno;
    }
    r.pid = pid;
    reply(fd, &r);
}

/* False: no child is left. */
static bool reap(int *fd)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0)
            return errno != ECHILD;
        if (pid == 0)
            return true;
        struct launch_reply r = {.what = LAUNCH_ENDED, .pid = pid, .status = status};
        reply(fd, &r);
    }
}

int launcher_main(int fd, const struct cell_house *house, bool isolate, char *title,
                  size_t title_size)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM); /* meant for the agent when a whole group is signalled */
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "drover-launch");
    int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    int jobs = open(house->jobs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (signals < 0 || jobs < 0)
        return 1;
    struct launch_reply ready = {.what = LAUNCHER_READY,
                                 .status = isolate ? cell_prepare(house) : 0};
    reply(&fd, &ready);
    bool children = false;
    while (fd >= 0 || children) {
        struct pollfd p[2] = {{signals, POLLIN, 0}, {fd, POLLIN, 0}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return 1;
        struct signalfd_siginfo info;
        while (read(signals, &info, sizeof(info)) > 0)
            continue;
        struct launch_request q;
        if (fd >= 0 && p[1].revents != 0) {
            ssize_t n = recv(fd, &q, sizeof(q), MSG_DONTWAIT);
            if (n == (ssize_t)sizeof(q)) {
                launch(&fd, jobs, house->jobs, q.id, title, title_size);
            } else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                close(fd);
                fd = -1;
            }
        }
        children = reap(&fd);
    }
    return 0;
}
