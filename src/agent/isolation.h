/* How this node isolates its jobs: how much was asked for, what the launcher found to be in force,
 * and what one attempt's spec says about it (agent/shim/cell.h and guard.h do it).
 *
 * As root each job runs as a user of its own: the account that was named, else `drover-job` where
 * the host has it, else a number for each of Drover's users, the same on every node. Otherwise it
 * runs as the agent's user. Threads: one. */
#ifndef AGENT_ISOLATION_H
#define AGENT_ISOLATION_H

#include "agent/attempt.h"
#include "base/json.h"
#include "io/json_in.h"

enum { JOB_NAME_SIZE = 256, JOB_HIDE_MAX = 24 };
/* Above what systemd, containers and directories give out: see docs/isolation.md. */
enum { JOB_UID_FIRST = 1900000000, JOB_UIDS = 100000000 };

struct isolating {
    enum isolation mode;
    bool root; /* the agent is: jobs can have users of their own */
    bool profiling;
    bool local;        /* the server's own agent: owner 0 is who started the server */
    int facts;         /* enum cell_fact bits; 0 until the launcher has told */
    int64_t processes; /* one job's, where nothing else was asked for */
    int64_t tmp_mib;
    char homes[4096];
    const char *account; /* NULL: none was named and there is no drover-job */
    const char *hide[JOB_HIDE_MAX + 1];
    size_t n_hide;
};
/* "off", "basic", "strict"; false: another word. */
bool isolation_parse(const char *word, enum isolation *out);
struct agent_config;
/* data and agent: absolute paths of the data folder and of the agent's own below it. */
int isolation_begin(struct isolating *i, const struct agent_config *config, const char *data,
                    const char *agent, struct err *e);
void isolation_end(struct isolating *i);
/* The words of what is in force: "user", "mount", "pid", … */
void isolation_write(const struct isolating *i, struct json *to);

/* Who runs a job, for its environment and its spec. */
struct job_user {
    int64_t uid, gid; /* 0: who runs the agent */
    char name[JOB_NAME_SIZE], home[1024];
    char groups[1024]; /* "27,44" */
    bool kept_home;    /* home is CELL_HOME */
};
/* start: the message's attempt. otherwise: who runs the agent. */
int isolation_user(const struct isolating *i, const struct jv *start, const char *otherwise_home,
                   const char *otherwise_name, struct job_user *out, struct err *e);
/* Adds the spec items. cwd: NULL when the job did not ask for a folder; made: the node made it for
 * this job. */
void isolation_spec(const struct isolating *i, const struct jv *start, const struct job_user *user,
                    const char *cwd, bool made, const struct attempt *a, struct buf *to);

#endif
