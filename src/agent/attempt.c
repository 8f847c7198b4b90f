/* The life of one attempt on the node, by its files. What must stay true: `started` is looked at
 * before anything is concluded from its absence; an attempt of another boot is never launched; a
 * lost tree is empty before its end is told. */
#include "agent/attempt.h"

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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOSE_STEP_US = 50 * 1000, LOSE_TRIES_MAX = 100 };

struct attempt *attempt_create(int64_t id)
{
    struct attempt *a = mem_alloc(sizeof(*a));
    a->id = id;
    a->pidfd = -1;
    a->watch = -1;
    a->exit.code = -1;
    return a;
}

void attempt_destroy(struct attempt *a)
{
    if (a == NULL)
        return;
    if (a->pidfd >= 0)
        close(a->pidfd);
    mem_free(a->chunks);
    mem_free(a);
}

int attempt_open(const struct attempt_home *h, int64_t id)
{
    char name[32];
    snprintf(name, sizeof(name), "%lld", (long long)id);
    return openat(h->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

int attempt_prepare(const struct attempt_home *h, struct attempt *a, const void *spec, size_t n)
{
    char name[32];
    snprintf(name, sizeof(name), "%lld", (long long)a->id);
    if (mkdirat(h->dir, name, 0700) != 0 && errno != EEXIST)
        return errno;
    AUTO(fd) int dir = attempt_open(h, a->id);
    if (dir < 0 || folder_write(dir, FOLDER_SPEC, spec, n) != 0)
        return errno;
    return 0;
}

void attempt_end(const struct attempt_home *h, struct attempt *a, enum end_reason reason,
                 const char *fmt, ...)
{
    struct exit_record x = {.reason = reason, .code = -1, .ended_us = now_us()};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x.detail, sizeof(x.detail), fmt, ap);
    va_end(ap);
    x.started_us = a->started.job_at_us;
    a->exit = x;
    bool never = a->state == ATTEMPT_NEW && reason == END_START_FAILED;
    a->state = never ? ATTEMPT_REFUSED : ATTEMPT_ENDED;
    a->report = true;
    a->losing = false;
    a->launch = LAUNCH_NO;
    char text[EXIT_MAX], name[32];
    snprintf(name, sizeof(name), "%lld", (long long)a->id);
    if (never)
        mkdirat(h->dir, name, 0700);
    AUTO(fd) int dir = attempt_open(h, a->id);
    /* Without the record a later agent comes to the same end by itself. */
    if (dir >= 0 && folder_write(dir, FOLDER_EXIT, text, (size_t)exit_format(&x, text)) != 0)
        log_warning("agent", "attempt %lld: its exit record cannot be written: %s",
                    (long long)a->id, strerror(errno));
    attempt_scan_log(h, a);
}

/* ---- looking ---- */

static bool read_exit(int dir, struct attempt *a)
{
    char text[EXIT_MAX + 1];
    ssize_t n = folder_read(dir, FOLDER_EXIT, text, EXIT_MAX);
    return n > 0 && exit_parse(text, (size_t)n, &a->exit);
}

/* True when `started` is there. *job: the command runs since the last look. */
static bool read_started(int dir, struct attempt *a, bool *job)
{
    char text[STARTED_MAX + 1];
    struct started s;
    ssize_t n = folder_read(dir, FOLDER_STARTED, text, STARTED_MAX);
    if (n < 0 && errno == EFBIG)
        s = (struct started){.claimed = true}; /* only a linked spec is that long */
    else if (n < 0)
        return false;
    else if (!started_parse(text, (size_t)n, &s))
        s = (struct started){.boot_id = "?"}; /* a power cut tore it */
    *job = s.job > 0 && a->started.job == 0;
    a->started = s;
    a->have_started = true;
    return true;
}

/* A pid is trusted once the process has been held and its start time still fits. */
static void hold_shim(struct attempt *a)
{
    struct proc p;
    if (a->pidfd >= 0 || a->shim_gone || a->started.shim <= 0)
        return;
    a->pidfd = (int)syscall(SYS_pidfd_open, a->started.shim, 0);
    if (a->pidfd < 0 && errno != ESRCH && errno != EINVAL)
        return; /* out of descriptors: looked at again later */
    if (a->pidfd < 0 || !proc_read(a->started.shim, &p) || p.ticks != a->started.shim_ticks ||
        p.state == 'Z')
        a->shim_gone = true;
    if (a->shim_gone && a->pidfd >= 0) {
        close(a->pidfd);
        a->pidfd = -1;
    }
}

static bool take_exit(const struct attempt_home *h, struct attempt *a)
{
    a->state = ATTEMPT_ENDED;
    a->launch = LAUNCH_NO;
    a->losing = false;
    a->report = true;
    attempt_scan_log(h, a);
    return true;
}

/* The spec of an attempt, and the text it points into. False: there is none that can be read. */
static bool spec_of(int dir, struct spec *spec, char **text)
{
    struct stat st;
    *text = NULL;
    if (fstatat(dir, FOLDER_SPEC, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_size <= 0 ||
        st.st_size > SPEC_MAX)
        return false;
    *text = mem_alloc((size_t)st.st_size + 1);
    ssize_t n = folder_read(dir, FOLDER_SPEC, *text, (size_t)st.st_size);
    return n > 0 && spec_parse(*text, (size_t)n, spec);
}

static bool remove_groups(const struct spec *spec)
{
    const char *const groups[] = {spec->cg_tree, spec->cg_memory, spec->cg_pids, spec->cg_cpu};
    bool gone = true;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        if (groups[i] != NULL)
            gone = cg_remove(groups[i]) && gone;
    return gone;
}

bool attempt_check(const struct attempt_home *h, struct attempt *a)
{
    bool job = false, other_boot = !str_eq(a->boot_id, h->boot_id);
    if (!attempt_live(a) || a->state == ATTEMPT_NEW)
        return false;
    AUTO(fd) int dir = attempt_open(h, a->id);
    if (dir < 0 && errno != ENOENT)
        return false; /* out of descriptors, say: later */
    /* Dead or alive is seen first and the exit record after it: the other order could miss a
     * record that comes in between and take an ordered end for a loss. */
    bool started = dir >= 0 && read_started(dir, a, &job);
    if (started && !a->started.claimed && !other_boot)
        hold_shim(a);
    if (dir >= 0 && read_exit(dir, a))
        return take_exit(h, a);
    if (other_boot) {
        AUTO(mem) char *text = NULL;
        struct spec spec;
        if (dir >= 0 && spec_of(dir, &spec, &text)) {
            remove_groups(&spec); /* none is left unless /sys survived, as in a container */
            spec_fini(&spec);
        }
        attempt_end(h, a, END_NODE_REBOOTED, "the node was restarted while it ran");
        return true;
    }
    if (dir < 0) {
        attempt_end(h, a, END_SUPERVISOR_LOST, "its folder on the node is gone");
        return true;
    }
    if (!started)
        return false;
    a->launch = LAUNCH_NO;
    if (a->started.claimed) {
        enum stop_why why;
        int64_t grace;
        char text[STOP_MAX + 1];
        ssize_t n = folder_read(dir, FOLDER_STOP, text, STOP_MAX);
        if (n > 0 && stop_parse(text, (size_t)n, &why, &grace))
            attempt_end(h, a, END_CANCELLED, "cancelled before it started");
        else
            attempt_end(h, a, END_START_FAILED, "the node could not start it");
        return true;
    }
    if ((a->shim_gone || a->started.shim <= 0) && !a->losing) {
        a->losing = true;
        a->lose_at = 0;
        return true;
    }
    if (a->started.job > 0 && a->state == ATTEMPT_ACCEPTED) {
        a->state = ATTEMPT_RUNNING;
        a->report = true;
    }
    return job;
}

void attempt_recover(const struct attempt_home *h, struct attempt *a)
{
    AUTO(fd) int dir = attempt_open(h, a->id);
    AUTO(mem) char *text = NULL;
    struct spec spec;
    if (dir >= 0 && spec_of(dir, &spec, &text)) {
        for (const char *at = spec.gpus; at != NULL && *at != '\0' && a->n_gpus < ATTEMPT_GPUS_MAX;
             at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
            a->gpus[a->n_gpus++] = (int)strtol(at, NULL, 10);
        spec_fini(&spec);
    }
    if (a->state == ATTEMPT_REFUSED) {
        if (dir < 0 || !read_exit(dir, a))
            a->exit = (struct exit_record){.reason = END_START_FAILED,
                                           .code = -1,
                                           .ended_us = a->journal_us,
                                           .detail = "refused"};
        return;
    }
    bool changed = attempt_check(h, a);
    if (!changed && a->state == ATTEMPT_ACCEPTED && !a->have_started)
        a->launch = LAUNCH_WANTED; /* if an earlier launch is still on its way, link(2) decides */
    if (a->launch == LAUNCH_WANTED && dir >= 0 && faccessat(dir, FOLDER_STOP, F_OK, 0) == 0 &&
        attempt_claim(h, a))
        attempt_check(h, a);
}

/* ---- ending ---- */

bool attempt_claim(const struct attempt_home *h, struct attempt *a)
{
    AUTO(fd) int dir = attempt_open(h, a->id);
    if (dir < 0)
        return errno == ENOENT;
    if (linkat(dir, FOLDER_SPEC, dir, FOLDER_STARTED, 0) == 0)
        return true;
    char text[STARTED_MAX + 1];
    struct started s;
    ssize_t n = folder_read(dir, FOLDER_STARTED, text, STARTED_MAX);
    return (n < 0 && errno == EFBIG) || (n > 0 && started_parse(text, (size_t)n, &s) && s.claimed);
}

void attempt_stop(const struct attempt_home *h, struct attempt *a, enum stop_why why,
                  int64_t grace_us)
{
    if (!attempt_live(a) || a->losing)
        return;
    AUTO(fd) int dir = attempt_open(h, a->id);
    char text[STOP_MAX];
    if (dir >= 0 &&
        folder_write(dir, FOLDER_STOP, text, (size_t)stop_format(why, grace_us, text)) != 0)
        log_warning("agent", "attempt %lld: the stop request cannot be written: %s",
                    (long long)a->id, strerror(errno));
    if (!a->have_started && attempt_claim(h, a)) {
        attempt_end(h, a, END_CANCELLED, "cancelled before it started");
        return;
    }
    attempt_check(h, a);
    if (attempt_live(a) && a->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, a->pidfd, grace_us > 0 ? SIGTERM : SIGUSR1, NULL, 0);
}

/* Signals everything that may belong to the tree. Returns how much was there. */
static size_t kill_tree(const struct attempt *a, const struct spec *spec)
{
    const char *const groups[] = {spec->cg_tree, spec->cg_memory, spec->cg_pids, spec->cg_cpu};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        if (groups[i] != NULL) {
            size_t here = cg_signal(groups[i], 0);
            if (here > 0 && !cg_kill(groups[i]))
                cg_signal(groups[i], SIGKILL);
            n += here;
        }
    if (n == 0 && a->started.shim > 0) {
        char mark[RUN_MARK_SIZE];
        run_mark(&a->started, mark);
        /* Its session is only asked for when the shim died under our eyes: long after, the number
         * may be another's. */
        n = tree_signal(0, a->pidfd >= 0 ? a->started.job : 0, mark, SIGKILL);
    }
    return n;
}

void attempt_lose(const struct attempt_home *h, struct attempt *a)
{
    AUTO(fd) int dir = attempt_open(h, a->id);
    AUTO(mem) char *text = NULL;
    struct spec spec = {0};
    bool have = dir >= 0 && spec_of(dir, &spec, &text);
    a->lose_at = mono_us() + LOSE_STEP_US;
    if (dir >= 0 && read_exit(dir, a)) {
        take_exit(h, a);
    } else if (kill_tree(a, &spec) == 0 &&
               (remove_groups(&spec) || ++a->lose_tries > LOSE_TRIES_MAX)) {
        /* A killed process is off the group's list a moment before the group can be removed. */
        attempt_end(h, a, END_SUPERVISOR_LOST,
                    "the job's supervisor was killed; its processes were ended");
    }
    if (have)
        spec_fini(&spec);
}

void attempt_remove(const struct attempt_home *h, struct attempt *a)
{
    char name[32];
    int dir = attempt_open(h, a->id);
    if (dir < 0)
        return;
    DIR *d = fdopendir(dir);
    if (d == NULL) {
        close(dir);
        return;
    }
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        if (!str_eq(f->d_name, ".") && !str_eq(f->d_name, ".."))
            unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    snprintf(name, sizeof(name), "%lld", (long long)a->id);
    unlinkat(h->dir, name, AT_REMOVEDIR);
}

void attempt_json(const struct attempt *a, struct json *to)
{
    static const char *const names[] = {[ATTEMPT_NEW] = "accepted",
                                        [ATTEMPT_ACCEPTED] = "accepted",
                                        [ATTEMPT_RUNNING] = "running",
                                        [ATTEMPT_ENDED] = "ended",
                                        [ATTEMPT_REFUSED] = "refused"};
    const struct exit_record *x = &a->exit;
    bool over = !attempt_live(a) && !attempt_keeps(a);
    int64_t started = over && x->started_us > 0 ? x->started_us : a->started.job_at_us;
    json_kint(to, "id", a->id);
    json_ktext(to, "state", attempt_keeps(a) ? "running" : names[a->state]);
    a->started.job > 0 ? json_kint(to, "pid", a->started.job) : json_knull(to, "pid");
    started > 0 ? json_kint(to, "started_at", started) : json_knull(to, "started_at");
    over ? json_kint(to, "ended_at", x->ended_us) : json_knull(to, "ended_at");
    json_key(to, "exit");
    if (over) {
        json_open(to, '{');
        json_ktext(to, "reason", end_reason_name(x->reason));
        x->code >= 0 ? json_kint(to, "code", x->code) : json_knull(to, "code");
        x->signal > 0 ? json_kint(to, "signal", x->signal) : json_knull(to, "signal");
        json_ktext(to, "detail", x->detail);
        json_kint(to, "cpu_us", x->cpu_us);
        json_kint(to, "max_rss_kib", x->max_rss_kib);
        json_close(to, '}');
    } else {
        json_null(to);
    }
    json_kint(to, "log_bytes", (int64_t)a->end);
}
