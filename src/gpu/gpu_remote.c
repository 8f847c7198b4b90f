/* GPUs behind a helper process: starts it, asks it, and keeps its word of honour for it.
 *
 * One thread per source owns the helper. What must stay true:
 * - gpu_sample() takes a lock that is only ever held to copy memory, never across a system call.
 * - At most one helper exists: a new one starts only after the kernel has told (by pidfd) that the
 *   old one is gone, however long a driver keeps it in an uninterruptible sleep.
 * - A sample is shown only whole; until the next whole one the old values stay, with their age and
 *   the reason (struct trouble).
 * - Every restart waits, longer each time, so that a broken driver costs next to nothing. */
#include "gpu/gpu_source.h"
#include "gpu/gpu_wire.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    DEADLINE_DEFAULT_MS = 2000,
    DEADLINE_MOST_MS = 600000,
    STARTING_FACTOR = 10,     /* a library that opens may take this many deadlines */
    KILL_AFTER_DEADLINES = 3, /* a slow driver gets this long before its helper is ended */
    BACKOFF_FIRST_MS = 250,
    BACKOFF_MOST_MS = 30000,
    CALM_S = 60,         /* a helper that lived this long starts the back-off anew */
    ABSENT_AGAIN_S = 30, /* a driver may be installed while we run */
    UNKILLABLE_S = 5,
    PAST_SHOWN_S = 600,
    CLOSE_WAIT_MS = 1500,
    OTHERS_DEADLINES = 10, /* what a GPU that hangs may delay the others before they are in doubt */
    ASIDE_FIRST = 15, /* one that was put aside is tried again after so many deadlines, then more */
    ASIDE_MOST = 300,
    CRASHES_ASIDE = 3, /* in a row over one GPU */
    XIDS_KEPT = 256,
};

enum trouble_kind {
    TROUBLE_NONE,
    TROUBLE_HUNG,   /* the helper is inside a driver call that does not come back */
    TROUBLE_BROKEN, /* the helper ended or speaks nonsense */
    TROUBLE_ABSENT, /* there is no usable library */
};

struct trouble {
    enum trouble_kind kind;
    int64_t since_us;  /* monotonic */
    int64_t killed_us; /* 0: not yet */
    pid_t pid;
    int gpu;
    char text[GPU_NOTE_SIZE]; /* HUNG: the call; else the reason */
};

/* A GPU whose driver calls hang or crash is left out, so that the others go on. */
struct aside {
    bool out;
    enum gpu_state state; /* that it is shown in: driver_hung or error */
    int tries, crashes;
    int64_t since_us, again_us; /* monotonic */
    char call[GPU_WIRE_CALL_SIZE];
};

/* What the last troubles were, told for a while after they are over. */
struct past {
    int crashes, hangs;
    int64_t last_us;
    char crash[GPU_NOTE_SIZE];
};

/* The helper and what is known about it; the thread's own. */
struct helper {
    pid_t pid; /* 0: none */
    int pidfd, socket;
    int64_t started_us;
    int64_t entered_us; /* the call it is in, or the last word from it */
    bool asked, starting, killed, absent, nonsense;
    int gpu;
    char call[GPU_WIRE_CALL_SIZE];
};

struct remote {
    struct gpu_source base;
    int64_t deadline_us;
    int wake; /* eventfd */
    pthread_t thread;
    atomic_int interval_ms;
    atomic_bool stop;

    pthread_mutex_t lock; /* of what follows, up to the thread's own */
    struct gpu_sample shown;
    int64_t shown_mono_us;
    int64_t read_us[GPU_MAX];    /* monotonic: when the values of shown.gpus[i] were read */
    struct aside aside[GPU_MAX]; /* by index of the GPU; only the thread writes it */
    struct {
        int gpu;
        struct gpu_xid xid;
    } xids[XIDS_KEPT]; /* a ring: n_xids came so far */
    uint64_t n_xids;
    struct trouble trouble;
    struct past past;

    /* the thread's own */
    struct helper helper;
    struct gpu_sample *coming; /* the round being received */
    uint32_t round;
    uint64_t skip; /* GPUs that this round leaves out */
    int failures;
    int64_t next_start_us, next_ask_us;
    struct gpu_wire_message message;
    uint8_t packet[GPU_WIRE_MAX + 1];
};

/* ---- what is shown ---- */

static int64_t seconds_since(int64_t us, int64_t now)
{
    return (now - us) / US_PER_S;
}

static void trouble_note(const struct trouble *t, int64_t now, char note[GPU_NOTE_SIZE])
{
    if (t->kind != TROUBLE_HUNG) {
        snprintf(note, GPU_NOTE_SIZE, "%s", t->text);
        return;
    }
    char gpu[32] = "", stuck[96] = "";
    if (t->gpu >= 0)
        snprintf(gpu, sizeof(gpu), " for GPU %d", t->gpu);
    if (t->killed_us != 0 && seconds_since(t->killed_us, now) >= UNKILLABLE_S)
        snprintf(stuck, sizeof(stuck), "; it holds process %d, which cannot be ended", (int)t->pid);
    snprintf(note, GPU_NOTE_SIZE, "the NVIDIA driver has not answered %.64s%s for %" PRId64 " s%s",
             t->text, gpu, seconds_since(t->since_us, now), stuck);
}

static void past_note(const struct past *p, int64_t now, char note[GPU_NOTE_SIZE])
{
    if (p->last_us == 0 || seconds_since(p->last_us, now) > PAST_SHOWN_S)
        return;
    int64_t ago = seconds_since(p->last_us, now);
    size_t n = strlen(note);
    const char *sep = n > 0 ? "; " : "";
    if (p->crashes > 0 && p->hangs > 0)
        snprintf(note + n, GPU_NOTE_SIZE - n,
                 "%s%s (%d times) and the driver did not answer (%d times), last %" PRId64 " s ago",
                 sep, p->crash, p->crashes, p->hangs, ago);
    else if (p->crashes > 0)
        snprintf(note + n, GPU_NOTE_SIZE - n,
                 "%s%s and was started again (%d times, last %" PRId64 " s ago)", sep, p->crash,
                 p->crashes, ago);
    else
        snprintf(note + n, GPU_NOTE_SIZE - n,
                 "%sthe NVIDIA driver did not answer in time (%d times, last %" PRId64 " s ago)",
                 sep, p->hangs, ago);
}

/* The GPU of a MIG instance is its parent. */
static int physical(const struct gpu_facts *g)
{
    return g->parent >= 0 ? g->parent : g->index;
}

/* Under the lock: what is this GPU's own to tell. */
static void show_own(const struct remote *r, struct gpu_facts *g, int64_t read_us, int64_t now)
{
    const struct aside *a = &r->aside[physical(g)];
    g->age_ms = (now - read_us) / US_PER_MS;
    g->n_xids = 0;
    uint64_t oldest = r->n_xids > XIDS_KEPT ? r->n_xids - XIDS_KEPT : 0;
    for (uint64_t i = r->n_xids; i > oldest && g->n_xids < GPU_XIDS_MAX; i--)
        if (g->parent < 0 && r->xids[(i - 1) % XIDS_KEPT].gpu == g->index)
            g->xids[g->n_xids++] = r->xids[(i - 1) % XIDS_KEPT].xid;
    if (!a->out)
        return;
    g->state = a->state;
    if (a->state == GPU_DRIVER_HUNG)
        snprintf(g->note, sizeof(g->note),
                 "the NVIDIA driver has not answered %.64s for GPU %d for %" PRId64 " s", a->call,
                 physical(g), seconds_since(a->since_us, now));
    else
        snprintf(
            g->note, sizeof(g->note),
            "the NVIDIA library crashed %d times in %.64s for GPU %d: it is left alone for now",
            a->crashes, a->call, physical(g));
}

static void remote_sample(struct gpu_source *src, struct gpu_sample *out)
{
    struct remote *r = (struct remote *)src;
    struct trouble t;
    struct past past;
    bool aside[GPU_MAX];
    pthread_mutex_lock(&r->lock);
    memcpy(out, &r->shown,
           offsetof(struct gpu_sample, gpus) + (size_t)r->shown.n * sizeof(r->shown.gpus[0]));
    int64_t taken_us = r->shown_mono_us, now = mono_us();
    t = r->trouble;
    past = r->past;
    for (int i = 0; i < GPU_MAX; i++)
        aside[i] = r->aside[i].out;
    for (int i = 0; i < out->n; i++)
        show_own(r, &out->gpus[i], r->read_us[i], now);
    pthread_mutex_unlock(&r->lock);

    out->ready = out->at_us != 0 || t.kind != TROUBLE_NONE;
    out->age_ms = out->at_us != 0 ? (now - taken_us) / US_PER_MS : 0;
    char why[GPU_NOTE_SIZE];
    trouble_note(&t, now, why);
    if (t.kind == TROUBLE_NONE)
        past_note(&past, now, out->note);
    else
        snprintf(out->note, sizeof(out->note), "%s", why);
    /* A crash between two samples is no news for the GPUs; one that lasts is. */
    int64_t patience_us = r->deadline_us + 3 * US_PER_MS * atomic_load(&r->interval_ms);
    bool lasting = t.kind == TROUBLE_ABSENT ||
                   (t.kind == TROUBLE_BROKEN && now - taken_us > patience_us);
    /* One GPU that hangs is that one's trouble, until the others have been unseen for too long. */
    bool one = t.kind == TROUBLE_HUNG && t.gpu >= 0 &&
               now - taken_us < OTHERS_DEADLINES * r->deadline_us + patience_us;
    for (int i = 0; i < out->n; i++) {
        struct gpu_facts *g = &out->gpus[i];
        if (aside[physical(g)])
            continue; /* says so itself */
        bool mine = g->index == t.gpu || g->parent == t.gpu;
        if ((t.kind == TROUBLE_HUNG && (mine || !one)) || lasting) {
            g->state = t.kind == TROUBLE_HUNG ? GPU_DRIVER_HUNG : GPU_ERROR;
            snprintf(g->note, sizeof(g->note), "%s", why);
        }
    }
}

/* ---- trouble, as the thread sees it come and go ---- */

static void trouble_set(struct remote *r, const struct trouble *t)
{
    pthread_mutex_lock(&r->lock);
    /* A hang is one hang until a whole sample ends it, also through restarts. */
    bool goes_on = r->trouble.kind == TROUBLE_HUNG && t->kind == TROUBLE_HUNG;
    int64_t since_us = goes_on ? r->trouble.since_us : t->since_us;
    if (!goes_on && t->kind == TROUBLE_HUNG)
        r->past.hangs++;
    r->trouble = *t;
    r->trouble.since_us = since_us;
    pthread_mutex_unlock(&r->lock);
}

static void past_add(struct remote *r, const char *crash)
{
    pthread_mutex_lock(&r->lock);
    r->past.last_us = mono_us();
    r->past.crashes++;
    snprintf(r->past.crash, sizeof(r->past.crash), "%s", crash);
    pthread_mutex_unlock(&r->lock);
}

/* ---- GPUs that are left out ---- */

static void aside_put(struct remote *r, int gpu, enum gpu_state state, const char *call,
                      int64_t since_us)
{
    struct aside *a = &r->aside[gpu];
    int64_t deadlines = ASIDE_FIRST;
    for (int i = 0; i < a->tries && deadlines < ASIDE_MOST; i++)
        deadlines *= 2;
    pthread_mutex_lock(&r->lock);
    if (!a->out)
        a->since_us = since_us;
    a->out = true;
    a->state = state;
    a->tries++;
    a->again_us = mono_us() + (deadlines < ASIDE_MOST ? deadlines : ASIDE_MOST) * r->deadline_us;
    snprintf(a->call, sizeof(a->call), "%s", call);
    pthread_mutex_unlock(&r->lock);
}

/* A GPU that was read is well again. Under the lock. */
static void aside_clear(struct remote *r, int gpu)
{
    r->aside[gpu] = (struct aside){0};
}

/* Which GPUs the next round leaves out; one whose time has come is tried again, one at a time. */
static uint64_t aside_bits(const struct remote *r, int64_t now)
{
    uint64_t bits = 0;
    bool trying = false;
    for (int i = 0; i < GPU_MAX; i++) {
        if (!r->aside[i].out)
            continue;
        if (now >= r->aside[i].again_us && !trying)
            trying = true;
        else
            bits |= UINT64_C(1) << i;
    }
    return bits;
}

/* ---- the helper's life ---- */

static void helper_forget(struct helper *h)
{
    if (h->socket >= 0)
        close(h->socket);
    if (h->pidfd >= 0)
        close(h->pidfd);
    *h = (struct helper){.pidfd = -1, .socket = -1, .gpu = -1};
}

static void start_later(struct remote *r)
{
    int64_t wait_ms = BACKOFF_FIRST_MS;
    for (int i = 0; i < r->failures && wait_ms < BACKOFF_MOST_MS; i++)
        wait_ms *= 2;
    if (wait_ms > BACKOFF_MOST_MS)
        wait_ms = BACKOFF_MOST_MS;
    r->failures++;
    r->next_start_us = mono_us() + wait_ms * US_PER_MS;
}

/* The child gets standard streams and the socket, nothing else of ours, and no signal mask. */
static int helper_spawn(struct helper *h, int theirs)
{
    char parent[16];
    snprintf(parent, sizeof(parent), "%d", (int)getpid());
    char *argv[] = {(char *)"drover-gpu", (char *)GPU_HELPER_ARG, (char *)gpu_driver_nvml.name,
                    parent, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, 2, 1); /* a library that prints goes to our log */
    posix_spawn_file_actions_adddup2(&files, theirs, GPU_WIRE_SOCKET);
    posix_spawn_file_actions_addclosefrom_np(&files, GPU_WIRE_SOCKET + 1);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int code = posix_spawn(&h->pid, "/proc/self/exe", &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    if (code != 0)
        h->pid = 0;
    return code;
}

static void helper_start(struct remote *r)
{
    struct helper *h = &r->helper;
    int pair[2];
    int code = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        code = errno;
    } else {
        h->socket = pair[0];
        code = helper_spawn(h, pair[1]);
        close(pair[1]);
        if (code == 0) {
            h->pidfd = pidfd_open(h->pid, 0);
            if (h->pidfd < 0) {
                /* Without it nobody could tell when it is gone. */
                code = errno;
                kill(h->pid, SIGKILL);
                waitpid(h->pid, NULL, 0);
            }
        }
    }
    if (code != 0) {
        helper_forget(h);
        struct trouble t = {.kind = TROUBLE_BROKEN, .since_us = mono_us()};
        snprintf(t.text, sizeof(t.text), "the GPU helper cannot be started: %s", strerror(code));
        trouble_set(r, &t);
        start_later(r);
        return;
    }
    h->started_us = h->entered_us = mono_us();
    h->starting = true;
    r->next_ask_us = h->started_us;
}

static void helper_kill(struct helper *h)
{
    if (!h->killed)
        kill(h->pid, SIGKILL); /* not yet reaped, so the pid is still its own */
    h->killed = true;
}

/* The kernel says that it is gone. */
static void helper_gone(struct remote *r)
{
    struct helper *h = &r->helper;
    siginfo_t how = {0};
    bool known = waitid(P_PIDFD, (id_t)h->pidfd, &how, WEXITED) == 0;
    int64_t now = mono_us();
    if (now - h->started_us > CALM_S * US_PER_S)
        r->failures = 0;
    bool hung = r->trouble.kind == TROUBLE_HUNG; /* only this thread writes it */
    bool of_gpu = h->gpu >= 0 && h->gpu < GPU_MAX && h->call[0] != '\0';
    if (hung && of_gpu) {
        aside_put(r, h->gpu, GPU_DRIVER_HUNG, h->call, r->trouble.since_us);
        r->failures = 0; /* the next one does not meet it */
    } else if (of_gpu && !h->absent && !h->nonsense) {
        pthread_mutex_lock(&r->lock);
        int crashes = ++r->aside[h->gpu].crashes;
        pthread_mutex_unlock(&r->lock);
        if (crashes >= CRASHES_ASIDE)
            aside_put(r, h->gpu, GPU_ERROR, h->call, now);
    }
    if (h->absent) {
        r->failures = 0;
        r->next_start_us = now + ABSENT_AGAIN_S * US_PER_S;
    } else if (hung) {
        start_later(r);
    } else {
        struct trouble t = {.kind = TROUBLE_BROKEN, .since_us = now};
        const char *where = h->call[0] != '\0' ? h->call : "its start";
        if (h->nonsense)
            snprintf(t.text, sizeof(t.text), "the GPU helper gave an answer that makes no sense");
        else if (known && how.si_code == CLD_EXITED)
            snprintf(t.text, sizeof(t.text), "the GPU helper ended with code %d in %s",
                     how.si_status, where);
        else
            snprintf(t.text, sizeof(t.text), "the NVIDIA library crashed (signal %d) in %s",
                     known ? how.si_status : 0, where);
        past_add(r, t.text);
        trouble_set(r, &t);
        start_later(r);
    }
    helper_forget(h);
}

/* ---- what the helper says ---- */

/* A GPU in error may not even tell its name: what it was called before still holds. */
static void keep_identity(struct gpu_facts *g, const struct gpu_sample *before)
{
    for (int i = 0; i < before->n && g->state == GPU_ERROR; i++) {
        const struct gpu_facts *old = &before->gpus[i];
        if (old->index != g->index)
            continue;
        if (g->uuid[0] == '\0')
            snprintf(g->uuid, sizeof(g->uuid), "%s", old->uuid);
        if (g->name[0] == '\0')
            snprintf(g->name, sizeof(g->name), "%s", old->name);
        if (g->memory_total_mib == GPU_UNKNOWN)
            g->memory_total_mib = old->memory_total_mib;
        if (g->power_limit_w == GPU_UNKNOWN)
            g->power_limit_w = old->power_limit_w;
    }
}

/* What was left out this time is shown as it was last seen; one that was never seen by its place.
 * Indexes rise. */
static void merge_skipped(struct remote *r, int64_t now)
{
    struct gpu_sample *s = r->coming;
    int64_t read_us[GPU_MAX];
    for (int i = 0; i < s->n; i++)
        read_us[i] = now;
    for (int gpu = 0; gpu < GPU_MAX; gpu++) {
        bool seen = false;
        for (int k = 0; (r->skip >> gpu & 1) != 0 && k <= r->shown.n; k++) {
            bool place = k == r->shown.n; /* after the last: none was like it */
            if (s->n == GPU_MAX || (place ? seen : physical(&r->shown.gpus[k]) != gpu))
                continue;
            int at = s->n;
            int index = place ? gpu : r->shown.gpus[k].index;
            while (at > 0 && s->gpus[at - 1].index > index)
                at--;
            memmove(&s->gpus[at + 1], &s->gpus[at], (size_t)(s->n - at) * sizeof(s->gpus[0]));
            memmove(&read_us[at + 1], &read_us[at], (size_t)(s->n - at) * sizeof(read_us[0]));
            s->n++;
            if (place)
                gpu_facts_init(&s->gpus[at], gpu);
            else
                s->gpus[at] = r->shown.gpus[k];
            read_us[at] = place ? r->aside[gpu].since_us : r->read_us[k];
            seen = true;
        }
    }
    memcpy(r->read_us, read_us, sizeof(read_us));
}

static void round_complete(struct remote *r, const struct gpu_wire_message *m)
{
    struct gpu_sample *s = r->coming;
    int physicals = 0, left_out = 0;
    for (int i = 0; i < GPU_MAX; i++)
        left_out += (r->skip >> i & 1) != 0;
    for (int i = 0; i < s->n; i++)
        physicals += s->gpus[i].parent < 0;
    s->at_us = now_us();
    s->note[0] = '\0';
    if (m->told > GPU_MAX)
        snprintf(s->note, sizeof(s->note),
                 "the driver names %" PRId64 " GPUs: %d of them are shown", m->told,
                 physicals + left_out);
    else if (physicals + left_out < m->told)
        snprintf(s->note, sizeof(s->note), "the driver names %" PRId64 " GPUs but has only %d",
                 m->told, physicals + left_out);
    else if (m->told == 0)
        snprintf(s->note, sizeof(s->note), "%s", GPU_NOTE_NO_GPU);
    for (int i = 0; i < s->n; i++)
        keep_identity(&s->gpus[i], &r->shown);
    int64_t now = mono_us();
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < s->n; i++)
        aside_clear(r, physical(&s->gpus[i]));
    merge_skipped(r, now);
    memcpy(&r->shown, s, offsetof(struct gpu_sample, gpus) + (size_t)s->n * sizeof(s->gpus[0]));
    r->shown_mono_us = now;
    if (r->trouble.kind == TROUBLE_HUNG)
        r->past.last_us = now;
    r->trouble = (struct trouble){.kind = TROUBLE_NONE};
    pthread_mutex_unlock(&r->lock);
    r->helper.asked = false;
    r->next_ask_us = now + atomic_load(&r->interval_ms) * US_PER_MS;
}

static void absent(struct remote *r, const char *note)
{
    struct trouble t = {.kind = TROUBLE_ABSENT, .since_us = mono_us()};
    snprintf(t.text, sizeof(t.text), "%s", note);
    trouble_set(r, &t);
}

/* False: no sane helper says this. */
static bool heard(struct remote *r, const struct gpu_wire_message *m)
{
    struct helper *h = &r->helper;
    struct gpu_sample *s = r->coming;
    h->entered_us = mono_us();
    switch (m->type) {
    case GPU_WIRE_CALL:
        h->starting = m->starting;
        h->gpu = m->gpu;
        snprintf(h->call, sizeof(h->call), "%s", m->call);
        return true;
    case GPU_WIRE_GPU:
        if (!h->asked || m->round != r->round || s->n == GPU_MAX ||
            (s->n > 0 && s->gpus[s->n - 1].index >= m->facts.index))
            return false;
        s->gpus[s->n++] = m->facts;
        return true;
    case GPU_WIRE_XID:
        pthread_mutex_lock(&r->lock);
        r->xids[r->n_xids % XIDS_KEPT].gpu = m->gpu;
        r->xids[r->n_xids++ % XIDS_KEPT].xid = (struct gpu_xid){m->xid, now_us()};
        pthread_mutex_unlock(&r->lock);
        return true;
    case GPU_WIRE_END:
        if (!h->asked || m->round != r->round)
            return false;
        if (m->told < 0) {
            absent(r, m->note);
            h->asked = false;
            r->next_ask_us = h->entered_us + ABSENT_AGAIN_S * US_PER_S;
        } else {
            round_complete(r, m);
        }
        return true;
    case GPU_WIRE_ABSENT:
        h->absent = true;
        absent(r, m->note);
        return true;
    }
    return false;
}

/* Everything that lies in the socket. */
static void helper_listen(struct remote *r)
{
    struct helper *h = &r->helper;
    for (;;) {
        ssize_t n = recv(h->socket, r->packet, sizeof(r->packet), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) { /* it closed its end: it is ending, the pidfd will tell */
            close(h->socket);
            h->socket = -1;
            return;
        }
        if (h->killed)
            continue; /* too late */
        if (!gpu_wire_decode(r->packet, (size_t)n, &r->message) || !heard(r, &r->message)) {
            h->nonsense = true;
            helper_kill(h);
        }
    }
}

static void helper_ask(struct remote *r)
{
    uint8_t packet[GPU_WIRE_ASK_SIZE];
    struct helper *h = &r->helper;
    r->skip = aside_bits(r, mono_us());
    size_t n = gpu_wire_ask(packet, ++r->round, r->skip);
    if (send(h->socket, packet, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
        return; /* it is ending */
    h->asked = true;
    h->entered_us = mono_us();
    r->coming->n = 0;
}

/* ---- the thread ---- */

/* Does what is due and gives the time of the next duty. */
static int64_t duties(struct remote *r, int64_t now)
{
    struct helper *h = &r->helper;
    if (h->pid == 0) {
        if (now < r->next_start_us)
            return r->next_start_us;
        helper_start(r);
        return now;
    }
    if (h->killed || h->socket < 0) {
        if (!h->killed && !h->absent)
            helper_kill(h); /* a closed socket and still there */
        return now + US_PER_S;
    }
    if (!h->asked) {
        if (now < r->next_ask_us)
            return r->next_ask_us;
        helper_ask(r);
        return h->asked ? now : now + US_PER_S;
    }
    int64_t late_us = h->entered_us + r->deadline_us * (h->starting ? STARTING_FACTOR : 1);
    if (now < late_us)
        return late_us;
    int64_t kill_us = late_us + KILL_AFTER_DEADLINES * r->deadline_us;
    struct trouble t = {.kind = TROUBLE_HUNG, .since_us = h->entered_us, .gpu = h->gpu};
    t.pid = h->pid;
    snprintf(t.text, sizeof(t.text), "%s", h->call[0] != '\0' ? h->call : "at all");
    if (now >= kill_us) {
        helper_kill(h);
        t.killed_us = now;
    }
    trouble_set(r, &t);
    return now < kill_us ? kill_us : now + US_PER_S;
}

static void *remote_thread(void *arg)
{
    struct remote *r = arg;
    while (!atomic_load(&r->stop)) {
        int64_t now = mono_us();
        int64_t next = duties(r, now);
        struct pollfd fds[] = {
            {.fd = r->wake, .events = POLLIN},
            {.fd = r->helper.pid != 0 ? r->helper.pidfd : -1, .events = POLLIN},
            {.fd = r->helper.pid != 0 ? r->helper.socket : -1, .events = POLLIN},
        };
        int64_t wait_ms = next <= now ? 0 : (next - now + US_PER_MS - 1) / US_PER_MS;
        if (poll(fds, ARRAY_LEN(fds), (int)(wait_ms > 60000 ? 60000 : wait_ms)) < 0)
            continue;
        uint64_t woken;
        if (fds[0].revents != 0 && read(r->wake, &woken, sizeof(woken)) > 0)
            r->next_ask_us = 0;
        if (fds[2].revents != 0)
            helper_listen(r);
        if (fds[1].revents != 0) {
            if (r->helper.socket >= 0)
                helper_listen(r); /* its last words */
            helper_gone(r);
        }
    }
    struct helper *h = &r->helper;
    if (h->pid != 0) {
        helper_kill(h);
        /* One that a driver holds in the kernel dies when that lets go; init reaps it then. */
        struct pollfd gone = {.fd = h->pidfd, .events = POLLIN};
        int64_t until = mono_us() + CLOSE_WAIT_MS * US_PER_MS;
        int n;
        do
            n = poll(&gone, 1, (int)((until - mono_us()) / US_PER_MS));
        while (n < 0 && errno == EINTR);
        if (n > 0)
            waitid(P_PIDFD, (id_t)h->pidfd, &(siginfo_t){0}, WEXITED);
        helper_forget(h);
    }
    return NULL;
}

static void remote_wake(struct remote *r)
{
    uint64_t one = 1;
    if (write(r->wake, &one, sizeof(one)) < 0)
        return; /* the counter is full: it is awake */
}

static void remote_interval(struct gpu_source *src, int ms)
{
    struct remote *r = (struct remote *)src;
    atomic_store(&r->interval_ms, ms);
    remote_wake(r);
}

static void remote_free(struct remote *r)
{
    if (r->wake >= 0)
        close(r->wake);
    pthread_mutex_destroy(&r->lock);
    mem_free(r->coming);
    mem_free(r);
}

static void remote_close(struct gpu_source *src)
{
    struct remote *r = (struct remote *)src;
    atomic_store(&r->stop, true);
    remote_wake(r);
    pthread_join(r->thread, NULL);
    remote_free(r);
}

static struct gpu_source *nvml_source_open(const char *options, struct err *e)
{
    if (options != NULL) {
        err_set(e, ERR_INVALID, "GPU source %s takes no options", gpu_driver_nvml.name);
        return NULL;
    }
    struct remote *r = mem_alloc(sizeof(*r));
    r->base.driver = &gpu_driver_nvml;
    r->coming = mem_alloc(sizeof(*r->coming));
    pthread_mutex_init(&r->lock, NULL);
    atomic_store(&r->interval_ms, 1000);
    r->helper = (struct helper){.pidfd = -1, .socket = -1, .gpu = -1};
    int64_t deadline_ms = 0;
    const char *told = getenv("DROVER_NVML_DEADLINE_MS");
    if (told == NULL || !str_int(told, &deadline_ms) || deadline_ms < 1 ||
        deadline_ms > DEADLINE_MOST_MS)
        deadline_ms = DEADLINE_DEFAULT_MS;
    r->deadline_us = deadline_ms * US_PER_MS;
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = r->wake < 0 ? errno : pthread_create(&r->thread, NULL, remote_thread, r);
    if (code != 0) {
        errno = code;
        err_sys(e, "cannot watch the GPUs");
        remote_free(r);
        return NULL;
    }
    return &r->base;
}

const struct gpu_driver gpu_driver_nvml = {
    .name = "nvml",
    .open = nvml_source_open,
    .sample = remote_sample,
    .interval = remote_interval,
    .close = remote_close,
};
