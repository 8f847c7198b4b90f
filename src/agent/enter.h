/* Becoming a process of a running job: its control groups, namespaces, root and working folder,
 * user, limits and environment, all read from the job's own process, so that it does not matter how
 * that one was isolated. By the pid of the job's process as this host numbers it.
 *
 * Sources: setns(2), namespaces(7), proc(5), user_namespaces(7), capabilities(7), prctl(2).
 * Threads: single-threaded programs only (a user namespace cannot be entered otherwise). */
#ifndef AGENT_ENTER_H
#define AGENT_ENTER_H

#include "agent/folder.h"
#include "base/err.h"

#include <stdbool.h>

enum { ENTER_SPACES = 7 };
struct enter {
    pid_t pid;
    int pidfd;
    int space[ENTER_SPACES]; /* namespaces that differ from ours; -1: the same */
    int root, cwd;           /* O_PATH */
    char *spec_text;
    struct spec spec; /* its groups */
    char *environ;    /* NUL-separated, as the job began with */
    size_t environ_n;
};
/* jobs: path of the attempts' folders. ERR_CONFLICT: the job has no process any more. */
int enter_open(const char *jobs, int64_t attempt, struct enter *out, struct err *e);
void enter_close(struct enter *x);
/* In a child. NULL, or the step that failed with errno. The pid namespace counts from the next fork
 * on: *fork_again. */
const char *enter_job(const struct enter *x, bool *fork_again);
/* Only the network: what is connected from here on is connected there. */
const char *enter_network(const struct enter *x);
/* The job's environment as execvp wants it, with name=value texts of `more` on top. */
char **enter_environ(const struct enter *x, const char *const *more);

#endif
