/* One attempt from its commit point to its exit record.
 *
 * Order: read spec → allocate what the exit record needs → link `started` (the commit point; the
 * loser of a race leaves without a trace) → groups and limits → fork → output, stop requests and
 * the time limit on one loop → the rest of the tree ends → groups go → `exit`.
 *
 * What must stay true: nothing runs before the commit; after it exactly one exit record comes
 * unless the shim itself is killed; when it is there, no process of the job is left. */
#include "agent/shim/attempt.h"
#include "agent/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_US (INT64_C(10) * 366 * 86400 * 1000000) /* sums of times stay in range */

enum {
    READ_MAX = 64 << 10,
    READS_A_TURN = 16,           /* then signals and the clock get their turn */
    PARTIAL_US = 250 * 1000,     /* a line without its newline is shown after this */
    LEFTOVER_GRACE_US = 2000000, /* for processes that outlive the command */
    REST_US = 20 * 1000,         /* before what looks left is looked for */
    KILL_AGAIN_US = 100 * 1000,
    STUCK_US = 10 * 1000000, /* then the log says that a process cannot be killed */
    SLOT_SIZE = 4096
};

enum source { FROM_SIGNAL, FROM_STATUS, FROM_OUT, FROM_ERR };

/* Static: two line buffers and the spool's are touched only as far as they are used. */
static struct shim shim_state;
static uint8_t read_buffer[READ_MAX];

static int64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
int64_t shim_now(void)
{
    return clock_us(CLOCK_REALTIME);
}
int64_t shim_mono(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

/* ---- commit ---- */

/* A file whose blocks are allocated now, so that a full disk later cannot refuse them. */
static int slot_open(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SLOT_SIZE) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS) {
        int why = errno;
        close(fd);
        unlinkat(dir, name, 0);
        errno = why;
        return -1;
    }
    return fd;
}

bool put_whole(int fd, const char *text, int n)
{
    return pwrite(fd, text, (size_t)n, 0) == n;
}

static bool spec_load(struct shim *s)
{
    struct stat st;
    if (fstatat(s->dir, FOLDER_SPEC, &st, 0) != 0)
        return false;
    size_t size = st.st_size > 0 && st.st_size <= SPEC_MAX ? (size_t)st.st_size : 0;
    s->spec_text = malloc(size + 2);
    errno = EBADMSG;
    return size > 0 && s->spec_text != NULL &&
           folder_read(s->dir, FOLDER_SPEC, s->spec_text, size) == (ssize_t)size &&
           spec_parse(s->spec_text, size, &s->spec);
}

/* 0: this shim has the attempt. Otherwise the exit status. */
static int commit(struct shim *s)
{
    struct proc self;
    char text[STARTED_MAX];
    if (!spec_load(s))
        return SHIM_ERRNO + errno;
    snprintf(s->started_name, sizeof(s->started_name), "s.%d", (int)getpid());
    snprintf(s->exit_name, sizeof(s->exit_name), "e.%d", (int)getpid());
    s->started.shim = getpid();
    s->started.shim_ticks = proc_read(getpid(), &self) ? self.ticks : 0;
    boot_id_read(s->started.boot_id);
    if (s->started.boot_id[0] == '\0')
        memcpy(s->started.boot_id, "-", 2);
    s->started_fd = slot_open(s->dir, s->started_name);
    s->exit_fd = s->started_fd >= 0 ? slot_open(s->dir, s->exit_name) : -1;
    int why = 0, n = started_format(&s->started, text);
    if (s->exit_fd < 0 || !put_whole(s->started_fd, text, n) ||
        linkat(s->dir, s->started_name, s->dir, FOLDER_STARTED, 0) != 0)
        why = errno != 0 ? errno : EIO;
    unlinkat(s->dir, s->started_name, 0);
    if (why == 0)
        return 0;
    unlinkat(s->dir, s->exit_name, 0);
    return why == EEXIST ? SHIM_LOST : SHIM_ERRNO + why;
}

/* ---- ending ---- */

static void signal_tree(struct shim *s, int sig)
{
    if (sig == SIGKILL) {
        s->killed = true;
        if (s->spec.cg_tree != NULL && cg_kill(s->spec.cg_tree))
            return;
    }
    tree_signal(getpid(), 0, NULL, sig);
}

static void end_begin(struct shim *s, enum ending why, int64_t grace_us)
{
    int64_t at = shim_mono() + (grace_us < LONGEST_US ? grace_us : LONGEST_US);
    bool first = s->ending == NOT_ENDING;
    if (first)
        s->ending = why;
    if (s->kill_at == 0 || at < s->kill_at)
        s->kill_at = at;
    if (first && grace_us > 0) {
        s->tree_told = true;
        signal_tree(s, SIGTERM);
    }
}

static bool stop_read(struct shim *s)
{
    char text[STOP_MAX + 1];
    ssize_t n = folder_read(s->dir, FOLDER_STOP, text, STOP_MAX);
    return n > 0 && stop_parse(text, (size_t)n, &s->stop_why, &s->grace_us);
}

static void on_signal(struct shim *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            continue; /* reap() looks */
        if (!stop_read(s)) {
            s->stop_why = s->stop_why != STOP_NONE ? s->stop_why : STOP_CANCELLED;
            s->grace_us = s->spec.grace_us;
        }
        end_begin(s, BY_STOP, info.ssi_signo == SIGUSR1 ? 0 : s->grace_us);
    }
}

/* True when no child is left, and with it no descendant: orphans come to this process. */
static bool reap(struct shim *s)
{
    int status;
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == s->job && pid > 0) {
            s->job_ended = true;
            s->job_status = status;
            s->job_end_us = shim_now();
            /* The cell's init is a child too: without others it ends at once. */
            cell_leave(&s->cell);
            s->rest_at = shim_mono() + (s->cell.init > 0 ? REST_US : 0);
        } else if (pid < 0 && errno != EINTR) {
            return errno == ECHILD;
        } else if (pid == 0) {
            return false;
        }
    }
}

static void watch_rest(struct shim *s, int64_t now)
{
    if (s->job_ended && now >= s->rest_at && !s->tree_told) {
        s->tree_told = true;
        signal_tree(s, SIGTERM);
        if (s->kill_at == 0 || s->kill_at > now + LEFTOVER_GRACE_US)
            s->kill_at = now + LEFTOVER_GRACE_US;
    }
    if (s->kill_at == 0 || now < s->kill_at)
        return;
    if (s->stuck_at == 0)
        s->stuck_at = now + STUCK_US;
    signal_tree(s, SIGKILL);
    s->kill_at = now + KILL_AGAIN_US;
    if (now >= s->stuck_at && !s->stuck_told) {
        struct proc *left = NULL;
        size_t n = tree_find(getpid(), 0, NULL, &left);
        if (n > 0)
            spooler_system(&s->spool,
                           "%zu processes cannot be killed yet (process %d is in state %c): the "
                           "kernel or a driver holds them",
                           n, (int)left[0].pid, left[0].state);
        free(left);
        s->stuck_told = true;
    }
}

/* ---- output ---- */

static void source_close(struct shim *s, int *fd)
{
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

static void on_output(struct shim *s, int which)
{
    for (int turn = 0; turn < READS_A_TURN && s->out[which] >= 0; turn++) {
        ssize_t n = read(s->out[which], read_buffer, sizeof(read_buffer));
        if (n > 0) {
            line_feed(&s->lines[which], &s->spool, read_buffer, (size_t)n);
            if (n < (ssize_t)sizeof(read_buffer) / 2)
                return;
        } else if (n == 0) {
            source_close(s, &s->out[which]);
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void on_status(struct shim *s)
{
    ssize_t n = read(s->status, s->failure + s->failure_n, sizeof(s->failure) - 1 - s->failure_n);
    if (n > 0) {
        s->failure_n += (size_t)n;
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    source_close(s, &s->status);
    if (s->failure_n > 0)
        return;
    s->started.job = s->job; /* the command has been executed */
    s->started.job_at_us = shim_now();
    if (s->spec.time_limit_us > 0)
        s->time_limit_at = shim_mono() + (s->spec.time_limit_us < LONGEST_US ? s->spec.time_limit_us
                                                                             : LONGEST_US);
    char text[STARTED_MAX];
    put_whole(s->started_fd, text, started_format(&s->started, text));
}

/* ---- start ---- */

static void watch(struct shim *s, int fd, enum source source)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = source};
    epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev);
}

static bool start(struct shim *s)
{
    int out[2], err[2], status[2];
    if (limits_set(&s->spec, s->failure) != NULL)
        return false;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 ||
        pipe2(status, O_CLOEXEC) != 0) {
        snprintf(s->failure, sizeof(s->failure), "cannot make the job's pipes: %s",
                 strerror(errno));
        return false;
    }
    char mark[RUN_MARK_SIZE];
    run_mark(&s->started, mark);
    s->spec.env[s->spec.envc] = mark;
    struct child_files files = {&s->cell, out[1], err[1], status[1], getpid(), s->oom_score, false};
    if (s->spec.uid != 0) { /* so that it can open /dev/stdout */
        int owned[] = {out[1], err[1]};
        for (int i = 0; i < 2; i++)
            if (fchown(owned[i], (uid_t)s->spec.uid, (gid_t)s->spec.gid) != 0)
                break;
    }
    if (!cell_open(&s->cell, &s->spec)) {
        snprintf(s->failure, sizeof(s->failure), "the node cannot isolate the job: %s",
                 strerror(errno));
        return false;
    }
    s->job = limits_fork(&s->spec, 0, NULL, &files.in_tree);
    if (s->job == 0)
        child_exec(&s->spec, &files);
    if (s->job < 0 && s->cell.init > 0) {
        int why = errno;
        kill(s->cell.init, SIGKILL);
        waitpid(s->cell.init, NULL, 0);
        errno = why;
    }
    close(out[1]);
    close(err[1]);
    close(status[1]);
    s->out[0] = out[0];
    s->out[1] = err[0];
    s->status = status[0];
    if (s->job < 0) {
        snprintf(s->failure, sizeof(s->failure), "cannot make a process: %s", strerror(errno));
        return false;
    }
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    fcntl(status[0], F_SETFL, O_NONBLOCK);
    watch(s, s->signals, FROM_SIGNAL);
    watch(s, s->status, FROM_STATUS);
    watch(s, s->out[0], FROM_OUT);
    watch(s, s->out[1], FROM_ERR);
    return true;
}

/* ---- loop ---- */

static int wait_ms(struct shim *s, int64_t now)
{
    int64_t next = INT64_MAX;
    int64_t times[] = {s->ending == NOT_ENDING && !s->job_ended ? s->time_limit_at : 0,
                       s->kill_at,
                       s->job_ended && !s->tree_told ? s->rest_at : 0,
                       s->lines[0].n > 0 ? s->lines[0].since + PARTIAL_US : 0,
                       s->lines[1].n > 0 ? s->lines[1].since + PARTIAL_US : 0,
                       s->spool.why != 0 && !s->spool.limit_hit ? s->spool.retry_at : 0};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        if (times[i] > 0 && times[i] < next)
            next = times[i];
    if (next == INT64_MAX)
        return -1;
    int64_t ms = (next - now + 999) / 1000;
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static void loop(struct shim *s)
{
    struct epoll_event ev[8];
    while (!reap(s)) {
        int64_t now = shim_mono();
        if (s->time_limit_at > 0 && now >= s->time_limit_at && !s->job_ended &&
            s->ending == NOT_ENDING)
            end_begin(s, BY_TIME, s->spec.grace_us);
        if (s->job_ended || s->kill_at > 0)
            watch_rest(s, now);
        for (int i = 0; i < 2; i++)
            if (s->lines[i].n > 0 && now >= s->lines[i].since + PARTIAL_US)
                line_flush(&s->lines[i], &s->spool, false);
        spooler_retry(&s->spool);
        spooler_flush(&s->spool);
        int n = epoll_wait(s->epoll, ev, 8, wait_ms(s, shim_mono()));
        for (int i = 0; i < n; i++)
            switch ((enum source)ev[i].data.u32) {
            case FROM_SIGNAL:
                on_signal(s);
                break;
            case FROM_STATUS:
                on_status(s);
                break;
            case FROM_OUT:
                on_output(s, 0);
                break;
            case FROM_ERR:
                on_output(s, 1);
                break;
            }
    }
    if (s->status >= 0)
        on_status(s);
    if (s->status >= 0)
        on_status(s); /* the end of file after a text */
    /* The tree is gone: what its pipes still hold is all there is. A descriptor that was handed
     * to a stranger could keep them open for ever, so the end of file is not waited for. */
    for (int i = 0; i < 2; i++) {
        for (ssize_t n; s->out[i] >= 0 && (n = read(s->out[i], read_buffer, READ_MAX)) > 0;)
            line_feed(&s->lines[i], &s->spool, read_buffer, (size_t)n);
        line_flush(&s->lines[i], &s->spool, true);
    }
}

int shim_main(int jobs, const char *folder)
{
    struct shim *s = &shim_state;
    struct exit_record x = {.code = -1};
    char score[32] = "0";
    sigset_t mask;

    s->epoll = s->status = s->out[0] = s->out[1] = -1;
    s->lines[0].stream = SPOOL_OUT;
    s->lines[1].stream = SPOOL_ERR;
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "drover-shim");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_SETMASK, &mask, NULL);

    s->dir = openat(jobs, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (jobs >= 0)
        close(jobs);
    if (s->dir < 0)
        return SHIM_ERRNO + errno;
    s->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signals < 0)
        return SHIM_ERRNO + errno;
    int lost = commit(s);
    if (lost != 0)
        return lost;
    spooler_init(&s->spool, s->dir, (uint64_t)s->spec.log_max_bytes, disk_floor_of_environment());
    /* Where the machine runs out of memory the job goes, not the one who can tell why. */
    cg_read("/proc/self", "oom_score_adj", score, sizeof(score));
    s->oom_score = cg_write("/proc/self", "oom_score_adj", "-900") ? (int)strtol(score, NULL, 10)
                                                                   : NO_OOM_SCORE;

    if (stop_read(s))
        s->ending = BY_STOP; /* the request came first: it never runs */
    else if (start(s))
        loop(s);
    end_judge(s, &x);
    for (int ms = 1; !limits_remove(&s->spec) && ms < 1000; ms *= 2)
        usleep((useconds_t)ms * 1000); /* allowed: its processes leave the group a moment later */
    end_write(s, &x);
    return 0;
}
