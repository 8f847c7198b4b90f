/* What a job's first process gives up before it runs the command: privileges for good, and the
 * system calls that only the system needs. Nothing here can be taken back by the job or by what
 * it starts.
 *
 * Protocol sources: capabilities(7), prctl(2), seccomp(2), the kernel's seccomp_filter and
 * no_new_privs documents. Plain C library only. Threads: the caller alone. */
#ifndef AGENT_SHIM_GUARD_H
#define AGENT_SHIM_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

struct guard {
    uid_t uid; /* 0: stays who it is */
    gid_t gid;
    const char *groups; /* further groups, "27,44"; NULL: none */
    bool profiling;     /* perf, userfaultfd, io_uring and bpf(2) stay allowed */
    bool no_set_id;     /* it may not make files set-user-ID or set-group-ID */
};
/* NULL, or what could not be done (errno says why). */
const char *guard_user(const struct guard *g);  /* user, capabilities, no new privileges */
const char *guard_calls(const struct guard *g); /* after it */

#endif
