/* Between fork and exec: what the job finds when its first instruction runs. Any failure is told
 * to the shim in one sentence through the status pipe, and nothing of the job has run then. */
#include "agent/shim/cell.h"
#include "agent/shim/guard.h"
#include "agent/shim/shim.h"
#include "agent/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static _Noreturn void fail(int status, const char *fmt, ...)
{
    char text[DETAIL_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    ssize_t n = write(status, text, strlen(text));
    _exit(n > 0 ? 127 : 126);
}

static void fail_exec(int status, const struct spec *spec)
{
    const char *command = spec->argv[0];
    int why = errno;
    struct stat st;
    if (why == EACCES && spec->uid != 0 && stat(command, &st) != 0)
        fail(status, "the job's user (uid %lld) may not reach %.300s", (long long)spec->uid,
             command);
    if (strchr(command, '/') == NULL && why == ENOENT)
        fail(status, "command not found: %.300s", command);
    if (why == ENOENT && stat(command, &st) == 0)
        fail(status, "the interpreter that %.300s asks for does not exist", command);
    if (why == ENOENT)
        fail(status, "no such file: %.300s", command);
    if (why == EACCES && stat(command, &st) == 0 && S_ISDIR(st.st_mode))
        fail(status, "%.300s is a directory, not a command", command);
    if (why == EACCES)
        fail(status, "not executable: %.300s (chmod +x makes it so)", command);
    if (why == E2BIG)
        fail(status, "the arguments and the environment are too long for this system");
    fail(status, "cannot run %.300s: %s", command, strerror(why));
}

/* Gives up what the job must not have. */
static void isolate(const struct spec *spec, int status)
{
    struct guard guard = {.uid = (uid_t)spec->uid, .gid = (gid_t)spec->gid, .groups = spec->groups};
    struct rlimit processes = {(rlim_t)spec->nproc, (rlim_t)spec->nproc};
    if (spec->isolation == ISOLATION_OFF)
        return;
    if (spec->nproc > 0)
        setrlimit(RLIMIT_NPROC, &processes); /* an agent with a lower one keeps that */
    const char *what = guard_user(&guard);
    if (what != NULL)
        fail(status, "the node cannot isolate the job: cannot %s: %s", what, strerror(errno));
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten when the user changed */
}

_Noreturn void child_exec(const struct spec *spec, const struct child_files *f)
{
    /* The job must not outlive its supervisor: nobody would enforce its limits. Seen from a cell
     * the parent is nobody; there the init's end ends all. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (f->cell->init == 0 && getppid() != f->shim)
        _exit(126);
    setsid();
    signal(SIGPIPE, SIG_DFL); /* those that the shim ignores */
    signal(SIGXFSZ, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);

    int why = 0;
    const char *group = NULL;
    limits_join(spec, f->in_tree, &why, &group);
    if (why != 0)
        fail(f->status, "cannot join the job's control group %.200s: %s", group, strerror(why));
    char score[16];
    snprintf(score, sizeof(score), "%d", f->oom_score);
    if (f->oom_score != NO_OOM_SCORE) /* the shim protects itself, not the job */
        cg_write("/proc/self", "oom_score_adj", score);

    char text[DETAIL_SIZE];
    if (f->cell->init != 0 && !cell_enter(f->cell, text))
        fail(f->status, "%s", text);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(f->out, 1) < 0 || dup2(f->err, 2) < 0)
        fail(f->status, "cannot connect the job's output: %s", strerror(errno));

    isolate(spec, f->status);
    const char *cwd = spec->cwd != NULL ? spec->cwd : "/";
    if (chdir(cwd) != 0) {
        if (errno == ENOENT)
            fail(f->status, "no such directory: %.300s", cwd);
        if (errno == EACCES && spec->uid != 0)
            fail(f->status,
                 "the job's user (uid %lld) may not enter the directory %.300s: give it access, or "
                 "choose another one",
                 (long long)spec->uid, cwd);
        if (errno == ENOTDIR)
            fail(f->status, "not a directory: %.300s", cwd);
        fail(f->status, "cannot enter the directory %.300s: %s", cwd, strerror(errno));
    }
    struct guard guard = {.profiling = spec->profiling, .no_set_id = spec->own};
    const char *what = spec->isolation != ISOLATION_OFF ? guard_calls(&guard) : NULL;
    if (what != NULL)
        fail(f->status, "the node cannot isolate the job: cannot %s: %s", what, strerror(errno));
    environ = spec->env; /* execvp looks for the command in the job's own PATH */
    execvp(spec->argv[0], spec->argv);
    fail_exec(f->status, spec);
    _exit(127);
}
