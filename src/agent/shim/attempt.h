/* The one attempt that a shim supervises: shared by run.c (its life) and end.c (its exit record).
 */
#ifndef AGENT_SHIM_ATTEMPT_H
#define AGENT_SHIM_ATTEMPT_H

#include "agent/shim/cell.h"
#include "agent/shim/shim.h"

/* Why the shim ends a job by itself. */
enum ending { NOT_ENDING, BY_STOP, BY_TIME };

struct shim {
    int dir;
    char *spec_text;
    struct spec spec;
    struct started started;
    char started_name[32], exit_name[32]; /* own files before they get their real names */
    int started_fd, exit_fd;
    int epoll, signals, status, out[2]; /* out: read ends of both streams */
    struct spooler spool;
    struct line lines[2];
    char failure[DETAIL_SIZE]; /* why the command did not start */
    size_t failure_n;
    int oom_score;
    struct cell cell;
    pid_t job;
    bool job_ended;
    int job_status;
    int64_t job_end_us;                       /* UTC */
    int64_t time_limit_at, kill_at, stuck_at; /* mono; 0: none */
    int64_t rest_at;                          /* when what the command left behind is told to end */
    enum ending ending;
    enum stop_why stop_why;
    int64_t grace_us; /* of the stop request */
    bool killed;      /* KILL was needed */
    bool tree_told;   /* TERM went out to what is left */
    bool stuck_told;
};

/* Fills the record from how the job ended. */
void end_judge(struct shim *s, struct exit_record *x);
/* Closes the spool and puts the record in its place. */
void end_write(struct shim *s, struct exit_record *x);
bool put_whole(int fd, const char *text, int n);

#endif
