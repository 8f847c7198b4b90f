/* What every verb gets, and what verbs about jobs share. Not public. Threads: one. */
#ifndef CLI_CONTEXT_H
#define CLI_CONTEXT_H

#include "cli/client.h"
#include "cli/out.h"
#include "cli/verb.h"

enum { EXIT_DONE = 0, EXIT_FAILED_ = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

struct cli {
    struct arena arena;   /* for the whole run */
    struct term out, err; /* standard output and standard error */
    bool json;
    const char *server; /* --server; NULL: not given */
    const struct verb *const *verbs;
};

/* Prints a usage error of the running verb; gives 2. */
int usage_error(struct cli *c, const struct verb *v, const struct err *e);
/* The server's JSON as it is, and a newline. */
void print_json(const struct reply *r);
/* Follows cursors until `most` items are there; the replies keep them alive. `path` has a query
 * already ("/v1/jobs?state=active"). */
enum { PAGE_MAX = 1000, PAGES_MAX = 1000 };
struct listing {
    struct vec replies; /* of struct reply * */
    struct vec items;   /* of const struct jv * */
    bool more;          /* the server has further ones */
};
int list_all(struct client *client, const char *path, size_t most, struct listing *out,
             struct err *e);
void listing_fini(struct listing *l);
static inline void auto_listing(struct listing *l)
{
    listing_fini(l);
}
/* {"items":[…],"next_cursor":null} */
void print_listing_json(struct cli *c, const struct listing *l);
/* µs of a member that is RFC 3339 text; 0: null or absent */
int64_t time_of(const struct jv *object, const char *name);
/* Asks on the terminal; secret: without showing it. False: no terminal or end of input. */
bool ask(const char *question, bool secret, char *to, size_t room);

/* ---- jobs (job.c) ---- */

/* "17" and "j-17" are the same. */
const char *job_id(struct arena *a, const char *word);
/* The path of a job's part: "/v1/jobs/j-17" + rest. */
const char *job_path(struct arena *a, const char *id, const char *rest);
/* Like client_call; "no such job" also says which one was perhaps meant. */
int job_call(struct cli *c, struct client *client, const char *id, const struct call *q,
             struct reply *out, struct err *e);
/* Rewrites a "not found": when it is the job that there is not. */
void suggest_job(struct cli *c, struct client *client, const char *word, struct err *e);
enum hue state_hue(const char *state);
enum hue node_hue(const char *state); /* fleet.c */
bool job_has_ended(const struct jv *job);
/* "2 x RTX4090", "1", NULL */
const char *job_gpus(struct arena *a, const struct jv *job);
/* "job j-17  resnet  queued  2 x RTX4090  GPUs: 1 of 2 free" */
void print_job_line(FILE *to, const struct term *t, struct cli *c, const struct jv *job);
/* The job's own exit code: 128 + signal for a signal, 1 for what never had one. */
int job_exit_code(const struct jv *job);

/* ---- following (follow.c) ---- */

struct follow {
    const char *id;
    const char *query; /* what of the log: "&tail=5&stream=err"; NULL: all */
    bool patient;      /* the job is known to exist: wait for a server that is away */
    bool quiet;        /* say nothing about states */
};
enum follow_end { FOLLOW_ENDED, FOLLOW_INTERRUPTED };
/* Prints the log until the job ends. *job (may be NULL): the job at its end; jv_free() it. */
int follow_job(struct cli *c, struct client *client, const struct follow *f, enum follow_end *end,
               struct jv **job, struct err *e);
/* Waits for the job's end without its log. */
int wait_job(struct cli *c, struct client *client, const char *id, enum follow_end *end,
             struct jv **job, struct err *e);
/* One line of a log as the job printed it: its standard output to ours, its standard error to
 * ours, what Drover has to say about it to standard error. */
void print_log_line(struct cli *c, const struct jv *line);
/* Tells that the job goes on; gives 130. */
int stopped_following(const char *id);

/* DELETE path + each argument; tells what is gone (token.c). */
int delete_each(struct cli *c, const struct parsed *p, const char *path);
/* u-1 as it is; an address is looked up (user.c). */
int find_user(struct cli *c, struct client *client, const char *word, const char **id,
              struct err *e);

extern const struct verb verb_login, verb_logout, verb_submit, verb_ps, verb_show, verb_logs,
    verb_cancel, verb_wait, verb_exec, verb_shell, verb_cp, verb_port_forward, verb_gpus,
    verb_nodes, verb_simulate, verb_user_add, verb_user_list, verb_user_show, verb_user_passwd,
    verb_user_reset, verb_user_delete, verb_token_create, verb_token_list, verb_token_delete,
    verb_version, verb_doctor, verb_explain, verb_completion, verb_help;
extern const struct verb verb_agent_token, verb_agent_tokens, verb_agent_revoke, verb_agent_list,
    verb_agent_remove, verb_node_lost;
extern const struct verb verb_secret_set, verb_secret_list, verb_secret_rm, verb_secret_rotate;
extern const struct verb verb_audit, verb_session_list, verb_session_end;

#endif
