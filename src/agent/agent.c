/* The agent's loop. One epoll set: the link, the launcher, one inotify descriptor over the folders
 * of live attempts, one pidfd per shim, signals. Files are looked at when something points to
 * them, and all of them every second in case a hint was lost.
 *
 * What must stay true: an attempt is launched and reported only after the journal is durable; one
 * sync covers all starts that came together; nothing here waits for a job. */
#include "agent/node.h"

#include "agent/files.h"
#include "agent/stream.h"
#include "agent/tree.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LOOK_US = 1000000,
    SYNC_AGAIN_US = 1000000,
    LAUNCHER_AGAIN_US = 200 * 1000,
    LAUNCH_AGAIN_US = 500 * 1000,
    EVENTS = 64
};

/* ---- the table ---- */

static const char *key_of(int64_t v, char to[32])
{
    snprintf(to, 32, "%lld", (long long)v);
    return to;
}

struct attempt *agent_find(struct agent *g, int64_t id)
{
    char key[32];
    return map_get(&g->by_id, key_of(id, key));
}

struct attempt *agent_add(struct agent *g, int64_t id)
{
    char key[32];
    struct attempt *a = attempt_create(id);
    a->next = g->first;
    g->first = a;
    map_put(&g->by_id, key_of(id, key), a);
    g->n++;
    g->had_any = true;
    return a;
}

static void unwatch(struct agent *g, struct attempt *a)
{
    char key[32];
    if (a->watch < 0)
        return;
    inotify_rm_watch(g->inotify, a->watch);
    map_del(&g->by_watch, key_of(a->watch, key));
    a->watch = -1;
}

static void drop(struct agent *g, struct attempt *a)
{
    char key[32];
    struct attempt **at = &g->first;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    if (g->ship_next == a)
        g->ship_next = a->next;
    unwatch(g, a);
    map_del(&g->by_id, key_of(a->id, key));
    attempt_destroy(a);
    g->n--;
}

void agent_watch_fd(struct agent *g, int fd, int what, int64_t id)
{
    /* Ids, not pointers: an attempt may be gone before its last event is read. */
    struct epoll_event ev = {.events = EPOLLIN | (what == ON_SHIM ? EPOLLONESHOT : 0),
                             .data.u64 = (uint64_t)what << 56 | (uint64_t)id};
    epoll_ctl(g->epoll, EPOLL_CTL_ADD, fd, &ev);
}

void agent_watch(struct agent *g, struct attempt *a)
{
    char path[4096], key[32];
    if (a->watch >= 0 || !attempt_live(a))
        return;
    snprintf(path, sizeof(path), "%s/%lld", g->jobs_path, (long long)a->id);
    a->watch = inotify_add_watch(g->inotify, path, IN_MODIFY | IN_MOVED_TO | IN_ONLYDIR);
    if (a->watch >= 0) /* otherwise the look once a second finds its changes */
        map_put(&g->by_watch, key_of(a->watch, key), a);
}

/* ---- events ---- */

static void launcher_lost(struct agent *g, int64_t now)
{
    launcher_close(&g->launcher);
    g->launcher_at = now + LAUNCHER_AGAIN_US;
    g->launcher_full = false;
    /* What it was asked for last may or may not have begun: asking again is safe. */
    for (struct attempt *a = g->first; a != NULL; a = a->next)
        if (a->launch == LAUNCH_ASKED)
            a->launch = LAUNCH_WANTED;
}

static void shim_failed(struct agent *g, struct attempt *a, int why)
{
    a->dirty = true;
    a->told = false;
    a->shim_pid = 0;
    if (a->launch != LAUNCH_ASKED)
        return;
    a->launch = LAUNCH_WANTED;
    a->launch_at = mono_us() + LAUNCH_AGAIN_US * ++a->tries;
    a->launch_errno = why;
}

static void on_launcher(struct agent *g)
{
    struct launch_news news;
    int got;
    while ((got = launcher_hear(&g->launcher, &news)) > 0) {
        struct attempt *a = NULL;
        switch (news.what) {
        case SHIM_LAUNCHED:
            a = agent_find(g, news.id);
            if (a != NULL) {
                a->shim_pid = news.pid;
                a->told = true;
            }
            break;
        case SHIM_NOT_LAUNCHED:
            a = agent_find(g, news.id);
            if (a != NULL)
                shim_failed(g, a, news.why);
            break;
        case SHIM_ENDED:
            /* Only those that never came to their commit point matter: the others have a pidfd. */
            for (a = g->first; a != NULL && !(a->told && a->shim_pid == news.pid); a = a->next)
                continue;
            if (a != NULL)
                shim_failed(g, a, news.why);
            break;
        }
    }
    if (got < 0) {
        log_warning("agent", "the launcher is gone: starting another one");
        launcher_lost(g, mono_us());
    }
}

static void on_inotify(struct agent *g)
{
    char space[16 << 10] __attribute__((aligned(8))), key[32];
    for (ssize_t n; (n = read(g->inotify, space, sizeof(space))) > 0;)
        for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
            struct inotify_event ev;
            memcpy(&ev, space + at, sizeof(ev));
            at += (ssize_t)(sizeof(ev) + ev.len);
            struct attempt *a = map_get(&g->by_watch, key_of(ev.wd, key));
            const char *name = ev.len > 0 ? space + at - ev.len : "";
            if (ev.mask & IN_Q_OVERFLOW)
                g->look_at = 0;
            if (a != NULL && str_starts(name, "log."))
                a->more = true;
            else if (a != NULL && !str_starts(name, "e.")) /* the exit record before its rename */
                a->dirty = true;
        }
}

/* The launcher, and orphans that came to us because a launcher was killed: jobs' processes live in
 * sessions of their own, a helper of the GPU source in ours, and its owner waits for that one. */
static void reap(struct agent *g)
{
    siginfo_t info = {0};
    struct proc p;
    if (g->launcher.pid > 0 && waitpid(g->launcher.pid, NULL, WNOHANG) == g->launcher.pid)
        g->launcher.pid = 0;
    for (int i = 0; i < 1000; i++) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0 ||
            !proc_read(info.si_pid, &p) || p.session == getsid(0))
            return;
        int status = 0;
        waitpid(info.si_pid, &status, WNOHANG);
        if (stream_ended(g, info.si_pid)) {
            struct attempt *a = g->first;
            while (a != NULL && a->files_pid != info.si_pid)
                a = a->next;
            if (a != NULL)
                files_ended(g, a, status);
            continue;
        }
        if (g->launcher.pid == info.si_pid)
            g->launcher.pid = 0;
    }
}

static void on_signal(struct agent *g)
{
    struct signalfd_siginfo info;
    while (read(g->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo == SIGCHLD)
            reap(g);
        else
            g->ending = true; /* jobs go on; the next agent finds them */
}

/* ---- duties of each turn ---- */

/* Starts that came together become durable together. */
static void accept_new(struct agent *g, int64_t now)
{
    struct err e;
    bool any = false;
    for (struct attempt *a = g->first; a != NULL && !any; a = a->next)
        any = a->journal_us == 0;
    if (!any || now < g->sync_at) {
        if (!any && journal_write(g->journal, &e) != OK) /* what was forgotten */
            log_error("agent", "%s", e.text);
        return;
    }
    if (journal_sync(g->journal, &e) != OK) {
        log_error("agent", "%s: nothing is accepted until it works", e.text);
        g->sync_at = now + SYNC_AGAIN_US;
        return;
    }
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        if (a->journal_us != 0)
            continue;
        a->journal_us = now_us();
        a->report = true;
        if (a->state == ATTEMPT_NEW) {
            a->state = ATTEMPT_ACCEPTED;
            a->launch = LAUNCH_WANTED;
            agent_watch(g, a);
        }
    }
}

static void give_up(struct agent *g, struct attempt *a)
{
    if (!attempt_claim(&g->home, a)) {
        a->dirty = true; /* one did begin */
        return;
    }
    attempt_end(&g->home, a, END_START_FAILED, "the node could not start it: %s",
                a->launch_errno != 0 ? strerror(a->launch_errno) : "its supervisor ends at once");
}

static void launch(struct agent *g, int64_t now)
{
    struct err e;
    if (g->launcher.fd < 0 && now >= g->launcher_at && agent_start_launcher(g, &e) != OK) {
        log_error("agent", "%s", e.text);
        g->launcher_at = now + LOOK_US;
    }
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        if (a->launch != LAUNCH_WANTED || a->files == FILES_FETCH || now < a->launch_at ||
            a->losing || !attempt_live(a))
            continue;
        if (a->tries >= LAUNCH_TRIES_MAX) {
            give_up(g, a);
            continue;
        }
        int asked = launcher_ask(&g->launcher, a->id);
        if (asked < 0 && g->launcher.fd >= 0)
            launcher_lost(g, now);
        if (asked <= 0) {
            g->launcher_full = asked == 0;
            return;
        }
        a->launch = LAUNCH_ASKED;
    }
    g->launcher_full = false;
}

static void look(struct agent *g, int64_t now)
{
    bool all = now >= g->look_at;
    if (all)
        g->look_at = now + LOOK_US;
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        if (!attempt_live(a) || a->state == ATTEMPT_NEW)
            continue;
        if (a->losing) {
            if (now >= a->lose_at)
                attempt_lose(&g->home, a);
        } else if (all || a->dirty) {
            int had = a->pidfd;
            a->more |= all;
            attempt_check(&g->home, a);
            if (had < 0 && a->pidfd >= 0)
                agent_watch_fd(g, a->pidfd, ON_SHIM, a->id);
        }
        a->dirty = false;
        if (!attempt_live(a)) {
            unwatch(g, a);
            if (a->pidfd >= 0)
                close(a->pidfd);
            a->pidfd = -1;
            g->held_changed = true;
        }
    }
}

static void forget(struct agent *g)
{
    struct err e;
    struct attempt *next;
    for (struct attempt *a = g->first; a != NULL; a = next) {
        next = a->next;
        if (!a->forget || attempt_live(a))
            continue;
        /* Written before the folder goes: what has no folder must not look like a loss. */
        journal_add(g->journal, JOURNAL_FORGOTTEN, a->id);
        if (journal_write(g->journal, &e) != OK)
            log_error("agent", "%s", e.text);
        attempt_remove(&g->home, a);
        files_remove(g, a->id);
        g->held_changed = true;
        drop(g, a);
    }
    if (!journal_wants_compact(g->journal, g->n))
        return;
    AUTO(mem) struct journal_record *live = mem_alloc((g->n + 1) * sizeof(*live));
    size_t n = 0;
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        live[n] = (struct journal_record){.kind = a->state == ATTEMPT_REFUSED ? JOURNAL_REFUSED
                                                                              : JOURNAL_ACCEPTED,
                                          .id = a->id,
                                          .time_us = a->journal_us};
        if (a->journal_us == 0)
            continue; /* still waits for its own record */
        memcpy(live[n++].boot_id, a->boot_id, BOOT_ID_SIZE);
    }
    if (journal_compact(g->journal, live, n, &e) != OK)
        log_error("agent", "%s", e.text);
}

static void tell_gpus(struct agent *g)
{
    int held[GPU_MAX], n = 0;
    if (!g->held_changed)
        return;
    g->held_changed = false;
    for (struct attempt *a = g->first; a != NULL; a = a->next)
        for (int i = 0; attempt_live(a) && i < a->n_gpus && n < GPU_MAX; i++)
            held[n++] = a->gpus[i];
    gpu_source_held(g->gpus, held, n);
}

bool agent_idle(const struct agent *g)
{
    for (const struct attempt *a = g->first; a != NULL; a = a->next)
        if (attempt_live(a))
            return false;
    return true;
}

static int wait_ms(struct agent *g, bool more)
{
    int64_t next = g->look_at, now = mono_us();
    int64_t other = link_next(g);
    if (more)
        return 0;
    if (other < next)
        next = other;
    if (g->launcher.fd < 0 && g->launcher_at < next)
        next = g->launcher_at;
    for (const struct attempt *a = g->first; a != NULL; a = a->next) {
        if (a->losing && a->lose_at < next)
            next = a->lose_at;
        if (a->launch == LAUNCH_WANTED && a->files == FILES_READY && g->launcher.fd >= 0 &&
            a->launch_at < next)
            next = g->launcher_full ? now + 1000 : a->launch_at;
        if (a->journal_us == 0 && g->sync_at < next)
            next = g->sync_at;
    }
    int64_t ms = (next - now + 999) / 1000;
    return ms < 0 ? 0 : ms > 1000 ? 1000 : (int)ms;
}

static void handle(struct agent *g, const struct epoll_event *ev)
{
    struct attempt *a;
    switch ((int)(ev->data.u64 >> 56)) {
    case ON_LINK:
        link_read(g);
        break;
    case ON_PAGE:
        page_event(g, (int64_t)(ev->data.u64 & 255));
        break;
    case ON_DIALED:
        link_dialed(g);
        break;
    case ON_LAUNCHER:
        on_launcher(g);
        break;
    case ON_INOTIFY:
        on_inotify(g);
        break;
    case ON_SIGNAL:
        on_signal(g);
        break;
    case ON_SHIM:
        a = agent_find(g, (int64_t)(ev->data.u64 & ((UINT64_C(1) << 56) - 1)));
        if (a != NULL) {
            a->shim_gone = true;
            a->dirty = true;
        }
        break;
    }
}

static void run(struct agent *g)
{
    struct epoll_event ev[EVENTS];
    bool more = false;
    g->sync_at = g->look_at = g->begun_at = mono_us();
    while (!g->ending) {
        int n = epoll_wait(g->epoll, ev, EVENTS, wait_ms(g, more));
        for (int i = 0; i < n; i++)
            handle(g, &ev[i]);
        if (link_pending(g))
            link_read(g);
        int64_t now = mono_us();
        link_step(g, now);
        accept_new(g, now);
        files_step(g, now);
        launch(g, now);
        look(g, now);
        tell_gpus(g);
        link_reports(g);
        more = link_ship(g) || link_pending(g);
        link_sample(g, now);
        forget(g);
        if (g->removed && agent_idle(g))
            g->ending = true;
        if ((g->bye && g->config.local && agent_idle(g)) ||
            (g->config.once_idle_exit && g->had_any && g->n == 0))
            g->ending = true;
    }
}

int agent_run(const struct agent_config *config, struct err *e)
{
    struct agent g = {.config = *config,
                      .dir = -1,
                      .jobs = -1,
                      .lock = -1,
                      .epoll = -1,
                      .inotify = -1,
                      .signals = -1,
                      .launcher = {.fd = -1},
                      .backoff_ms = 200,
                      .sample_us = US_PER_S,
                      .silent_us = SILENT_MS * US_PER_MS};
    int k = agent_begin(&g, e);
    if (k == OK && !config->join_only)
        run(&g);
    if (k == OK && g.removed)
        k = err_set(e, ERR_UNAUTHENTICATED, "this node was removed from the fleet");
    agent_end(&g);
    return k;
}
