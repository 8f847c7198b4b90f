/* Starting helpers. What must stay true: their number is bounded; an order that cannot be carried
 * out is still answered, by a helper that only says why. */
#include "agent/stream.h"

#include "base/log.h"
#include "base/str.h"
#include "io/json_in.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void write_order(const struct agent *g, const char *why, const struct message *m,
                        struct json *to)
{
    AUTO(arena) struct arena a = {0};
    json_open(to, '{');
    json_ktext(to, "stream", m->stream);
    json_ktext(to, "jobs", g->jobs_path);
    json_kint(to, "attempt", m->id);
    json_ktext(to, "why", why);
    json_key(to, "request");
    json_raw(to, m->request != NULL ? jv_dump(m->request, &a) : "{}");
    json_close(to, '}');
}

/* The order in a file of its own memory, so that writing it never waits for its reader. */
static int order_file(const struct buf *text)
{
    int fd = memfd_create("drover-stream", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (write(fd, text->data, text->len) != (ssize_t)text->len || lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static pid_t spawn(const struct agent *g, int order)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, all;
    pid_t pid = -1;
    size_t n = 0;
    while (g->config.argv[n] != NULL)
        n++;
    AUTO(mem) char **argv = mem_alloc((n + 2) * sizeof(*argv));
    memcpy(argv, g->config.argv, n * sizeof(*argv));
    argv[n] = (char *)(uintptr_t) "--stream";
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, order, STDIN_FILENO);
    posix_spawnattr_init(&how);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &all);
    posix_spawnattr_setflags(&how,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int why = posix_spawn(&pid, "/proc/self/exe", &files, &how, argv, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    if (why != 0)
        log_warning("agent", "a stream cannot be opened: %s", strerror(why));
    return why == 0 ? pid : -1;
}

pid_t stream_spawn(struct agent *g, const struct buf *order)
{
    size_t at = 0;
    while (at < ARRAY_LEN(g->streams) && g->streams[at] != 0)
        at++;
    if (at == ARRAY_LEN(g->streams)) {
        log_warning("agent", "more than %d helpers at once are refused", STREAMS_MAX);
        return -1;
    }
    AUTO(fd) int fd = order_file(order);
    pid_t pid = fd >= 0 ? spawn(g, fd) : -1;
    if (pid > 0)
        g->streams[at] = pid;
    return pid;
}

void stream_start(struct agent *g, const struct attempt *a, const struct message *m)
{
    AUTO(buf) struct buf text = {0};
    struct json j = json_to(&text);
    const char *why = NULL;
    if (a == NULL)
        why = "the job is not on its node any more";
    else if (a->state != ATTEMPT_RUNNING)
        why = attempt_live(a) ? "the job has no process on its node now" : "the job has just ended";
    write_order(g, why, m, &j);
    stream_spawn(g, &text); /* when there is none, the server tells the person that nobody comes */
}

bool stream_ended(struct agent *g, pid_t pid)
{
    for (size_t i = 0; i < ARRAY_LEN(g->streams); i++)
        if (g->streams[i] == pid) {
            g->streams[i] = 0;
            return true;
        }
    return false;
}
