/* drover cancel and drover wait: several jobs at once; each is tried, the first failure counts. */
#include "cli/context.h"

#include <stdio.h>

static int cancel_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    int code = EXIT_DONE;
    for (size_t i = 0; i < p->n_args; i++) {
        AUTO(reply) struct reply r = {0};
        const char *id = job_id(&c->arena, p->args[i]);
        struct call q = {.method = "POST",
                         .path = job_path(&c->arena, id, "/cancel"),
                         .body = opt_given(p, "force") ? "{\"grace_s\":0}" : "{}"};
        if (job_call(c, client, id, &q, &r, &e) != OK) {
            int failed = client_fail(client, &e);
            code = code == EXIT_DONE ? failed : code;
        } else if (c->json) {
            print_json(&r);
        } else {
            print_job_line(stdout, &c->out, c, r.json);
        }
    }
    return code;
}

static const struct opt cancel_opts[] = {
    {"force", 'f', OPT_FLAG, NULL, "kill at once instead of TERM first and KILL later"},
    {0},
};
static const char *const cancel_examples[] = {"drover cancel j-17 j-18", NULL};
const struct verb verb_cancel = {
    .name = "cancel",
    .summary = "end jobs with all their processes, or take them out of the queue",
    .arg = {"ID", ARG_MANY, ARG_JOB},
    .opts = cancel_opts,
    .examples = cancel_examples,
    .run = cancel_run,
};

static int wait_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    int code = EXIT_DONE;
    for (size_t i = 0; i < p->n_args; i++) {
        AUTO(jv) struct jv *job = NULL;
        enum follow_end end;
        const char *id = job_id(&c->arena, p->args[i]);
        if (wait_job(c, client, id, &end, &job, &e) != OK) {
            int failed = client_fail(client, &e);
            code = code == EXIT_DONE ? failed : code;
            continue;
        }
        if (end == FOLLOW_INTERRUPTED) {
            say(stderr, "\nStopped waiting; the jobs go on.\n");
            return EXIT_INTERRUPTED;
        }
        if (c->json)
            printf("%s\n", jv_dump(job, &c->arena));
        else
            print_job_line(stdout, &c->out, c, job);
        int own = job_exit_code(job);
        if (own != 0 && code == EXIT_DONE)
            code = p->n_args == 1 ? own : EXIT_FAILED_;
    }
    return code;
}

static const char *const wait_examples[] = {"drover wait j-17 && echo done", NULL};
const struct verb verb_wait = {
    .name = "wait",
    .summary = "wait until jobs have ended",
    .about = "With one ID the exit code is the job's own (128 + n for signal n), with several it "
             "is 0 when all have completed, else 1.",
    .arg = {"ID", ARG_MANY, ARG_JOB},
    .examples = wait_examples,
    .run = wait_run,
};
