/* From nothing to a running agent, and back: folders, lock, launcher, events, what an earlier agent
 * left. The order matters: the launcher is started while this process is small and has the host's
 * own limits; the lock is held before anything in the folder is looked at. */
#include "agent/files.h"
#include "agent/node.h"

#include "agent/tree.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FRAME_SIZE = LOG_FRAME_HEAD + (128 << 10) };

static int make_folders(struct agent *g, struct err *e)
{
    char *data = realpath(g->config.data, NULL);
    if (data == NULL && mkdir(g->config.data, 0700) == 0)
        data = realpath(g->config.data, NULL);
    if (data == NULL)
        return err_sys(e, "cannot use the folder %s", g->config.data);
    g->data_path = mem_strdup(data);
    g->path = mem_printf("%s/agent", data);
    g->jobs_path = mem_printf("%s/jobs", g->path);
    free(data);
    if ((mkdir(g->path, 0700) != 0 && errno != EEXIST) ||
        (mkdir(g->jobs_path, 0700) != 0 && errno != EEXIST))
        return err_sys(e, "cannot make %s", g->jobs_path);
    g->dir = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g->jobs = open(g->jobs_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g->lock = g->dir >= 0 ? openat(g->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (g->jobs < 0 || g->lock < 0)
        return err_sys(e, "cannot open %s", g->path);
    if (flock(g->lock, LOCK_EX | LOCK_NB) != 0)
        return err_set(e, ERR_CONFLICT, "another agent already runs with %s", g->path);
    return OK;
}

static void on_journal(void *ctx, const struct journal_record *r)
{
    struct agent *g = ctx;
    struct attempt *a = agent_add(g, r->id);
    a->state = r->kind == JOURNAL_REFUSED ? ATTEMPT_REFUSED : ATTEMPT_ACCEPTED;
    a->journal_us = r->time_us;
    snprintf(a->boot_id, sizeof(a->boot_id), "%s", r->boot_id);
}

/* Folders that the journal does not know: one whose acceptance was never durable, or one that was
 * forgotten and not yet removed. None of them was ever launched or will be asked for. */
static void sweep(struct agent *g)
{
    int fd = openat(g->jobs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;) {
        int64_t id;
        if (!str_int(f->d_name, &id) || agent_find(g, id) != NULL)
            continue;
        struct attempt *a = attempt_create(id);
        attempt_remove(&g->home, a);
        attempt_destroy(a);
    }
    if (d != NULL)
        closedir(d);
}

static int recover(struct agent *g, struct err *e)
{
    size_t bad = 0;
    int k = journal_open(g->dir, g->boot_id, &g->journal, on_journal, g, &bad, e);
    if (k != OK)
        return k;
    if (bad > 0)
        log_error("agent", "%zu records of the journal were damaged and are skipped", bad);
    sweep(g);
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        attempt_recover(&g->home, a);
        files_recover(g, a);
        attempt_scan_log(&g->home, a);
        agent_watch(g, a);
        a->dirty = true;
    }
    g->held_changed = true;
    return OK;
}

static int open_events(struct agent *g, struct err *e)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    g->epoll = epoll_create1(EPOLL_CLOEXEC);
    g->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    g->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (g->epoll < 0 || g->signals < 0)
        return err_sys(e, "cannot make the agent's event descriptors");
    if (g->inotify < 0)
        log_warning("agent", "no inotify (%s): changes are seen within a second", strerror(errno));
    else
        agent_watch_fd(g, g->inotify, ON_INOTIFY, 0);
    agent_watch_fd(g, g->signals, ON_SIGNAL, 0);
    return OK;
}

int agent_start_launcher(struct agent *g, struct err *e)
{
    int k = launcher_start(&g->launcher, &g->isolating.facts, e);
    if (k == OK && g->epoll >= 0)
        agent_watch_fd(g, g->launcher.fd, ON_LAUNCHER, 0);
    return k;
}

int agent_begin(struct agent *g, struct err *e)
{
    struct stat st;
    char name[64];
    int k = make_folders(g, e);
    if (k != OK)
        return k;
    boot_id_read(g->boot_id);
    host_facts(&g->host);
    k = credential_use(g->dir, &g->config, g->host.name, &g->credential, e);
    if (k != OK || g->config.join_only)
        return k;
    g->launcher.program = g->config.shim;
    g->launcher.jobs = g->jobs_path;
    if (fstat(g->dir, &st) != 0)
        return err_sys(e, "cannot look at %s", g->path);
    snprintf(name, sizeof(name), "drover-%llx-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    groups_probe(&g->groups, name);   /* may move this process, and all that it starts */
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* for the shims of a launcher that was killed */
    k = isolation_begin(&g->isolating, &g->config, g->data_path, g->path, e);
    if (k != OK)
        return k;
    if (g->isolating.mode != ISOLATION_OFF)
        g->launcher.hide = g->isolating.hide;
    k = agent_start_launcher(g, e); /* while this process is small and its limits are the host's */
    if (k == OK)
        k = open_events(g, e);
    if (k != OK)
        return k;
    agent_watch_fd(g, g->launcher.fd, ON_LAUNCHER, 0);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* one pidfd for each running job */
        setrlimit(RLIMIT_NOFILE, &files);
    }
    node_user_find(&g->user);
    g->home = (struct attempt_home){g->jobs, g->jobs_path, &g->groups, g->boot_id};
    k = recover(g, e);
    if (k != OK)
        return k;
    g->sample = mem_alloc(sizeof(*g->sample));
    g->frame = mem_alloc(FRAME_SIZE);
    claims_init(&g->claims, g->path);
    g->gpus = gpu_source_open(g->config.gpu, e);
    if (g->gpus == NULL)
        return e->kind;
    k = g->config.page != NULL ? page_open(g, g->config.page, g->config.page_token, &g->page, e)
                               : OK;
    if (k == ERR_INVALID)
        return k;
    if (k != OK) /* another agent of this host has it, perhaps: jobs matter more */
        log_warning("agent", "%s", e->text);
    log_info("agent", "drover-agent " DROVER_VERSION " on %s: cgroups %s, %zu attempts found",
             g->host.name, g->groups.version, g->n);
    return OK;
}

void agent_end(struct agent *g)
{
    struct attempt *next;
    page_close(g->page);
    dialer_drop(g->dialer);
    ws_client_close(g->ws);
    gpu_source_close(g->gpus);
    claims_fini(&g->claims);
    launcher_close(&g->launcher);
    if (g->launcher.pid > 0 && agent_idle(g)) /* it ends now; nobody else might wait for it */
        waitpid(g->launcher.pid, NULL, 0);
    for (struct attempt *a = g->first; a != NULL; a = next) {
        next = a->next;
        attempt_destroy(a);
    }
    map_fini(&g->by_id);
    map_fini(&g->by_watch);
    journal_close(g->journal);
    groups_leave(&g->groups);
    int fds[] = {g->epoll, g->inotify, g->signals, g->jobs, g->dir, g->lock};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    mem_free(g->sample);
    mem_free(g->frame);
    mem_free(g->path);
    mem_free(g->jobs_path);
    mem_free(g->data_path);
    isolation_end(&g->isolating);
}
