/* How the job ended, in one record. What ended it comes before what its last status says: a job
 * that was told to stop is cancelled whatever code it left with. */
#include "agent/shim/attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *signal_words(int sig)
{
    switch (sig) {
    case SIGSEGV:
        return " (invalid memory access)";
    case SIGABRT:
        return " (the program aborted)";
    case SIGBUS:
        return " (bus error)";
    case SIGFPE:
        return " (arithmetic error)";
    case SIGILL:
        return " (illegal instruction)";
    case SIGKILL:
        return " (killed)";
    case SIGTERM:
        return " (terminated)";
    case SIGPIPE:
        return " (broken pipe)";
    default:
        return "";
    }
}

void end_judge(struct shim *s, struct exit_record *x)
{
    int status = s->job_status;
    int64_t oom = limits_oom_kills(&s->spec);
    x->code = s->job > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    x->signal = s->job > 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    x->started_us = s->started.job_at_us;
    x->ended_us = s->job_end_us > 0 ? s->job_end_us : shim_now();
    size_t size = sizeof(x->detail);
    if (s->ending == BY_STOP) {
        x->reason = END_CANCELLED;
        snprintf(x->detail, size, "%s%s",
                 s->stop_why == STOP_PREEMPTED ? "stopped to make room for other work"
                                               : "cancelled",
                 s->killed && s->grace_us > 0 ? "; it did not end by itself and was killed" : "");
    } else if (s->ending == BY_TIME) {
        long long t = (s->spec.time_limit_us + 999999) / 1000000;
        x->reason = END_TIMED_OUT;
        snprintf(x->detail, size, "time limit of %lld:%02lld:%02lld reached%s", t / 3600,
                 t / 60 % 60, t % 60, s->killed ? "; it did not end by itself and was killed" : "");
    } else if (s->failure[0] != '\0') {
        x->reason = END_START_FAILED;
        x->code = -1;
        x->signal = 0;
        snprintf(x->detail, size, "%s", s->failure);
    } else if (oom > 0 && (x->signal != 0 || x->code != 0)) {
        x->reason = END_OUT_OF_MEMORY;
        if (s->spec.memory_mib > 0)
            snprintf(x->detail, size, "killed: out of memory (limit %lld MiB)",
                     (long long)s->spec.memory_mib);
        else
            snprintf(x->detail, size, "killed: the node ran out of memory");
    } else if (x->signal != 0) {
        x->reason = END_SIGNALLED;
        snprintf(x->detail, size, "ended by signal %d%s", x->signal, signal_words(x->signal));
    } else {
        x->reason = END_EXITED;
        snprintf(x->detail, size, "exit code %d", x->code);
        if (oom > 0)
            spooler_system(&s->spool, "%lld processes of the job were killed: out of memory",
                           (long long)oom);
    }
}

void end_write(struct shim *s, struct exit_record *x)
{
    char text[EXIT_MAX];
    struct rusage used;
    if (getrusage(RUSAGE_CHILDREN, &used) == 0) {
        x->cpu_us = (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
                    used.ru_utime.tv_usec + used.ru_stime.tv_usec;
        x->max_rss_kib = used.ru_maxrss;
    }
    spooler_finish(&s->spool);
    x->dropped = (int64_t)s->spool.dropped;
    if (s->spool.untold > 0) {
        size_t n = strlen(x->detail);
        snprintf(x->detail + n, sizeof(x->detail) - n, "; %llu bytes of output were dropped: %s",
                 (unsigned long long)s->spool.untold, strerror(s->spool.why));
    }
    int n = exit_format(x, text);
    /* The blocks are there already, so this fails only if the disk itself does. */
    for (int tries = 0; tries < 100; tries++) {
        if (put_whole(s->exit_fd, text, n) &&
            renameat(s->dir, s->exit_name, s->dir, FOLDER_EXIT) == 0)
            return;
        if (errno == ENOENT)
            return;         /* the folder was removed: nobody waits for it */
        usleep(100 * 1000); /* allowed: a disk that is full; nobody wakes us when it is not */
    }
}
