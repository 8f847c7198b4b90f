/* drover logs: what a job printed, and with -f what it goes on to print. */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>

enum { PAGE_LINES = 1000 };

/* "10m" (ago), or a time such as 2026-11-23T14:00 */
static int since_of(const char *text, int64_t *us, struct err *e)
{
    int64_t ago;
    if (duration_parse(text, &ago)) {
        *us = now_us() - ago;
        return OK;
    }
    if (time_parse(text, us))
        return OK;
    return err_set(e, ERR_INVALID,
                   "--since takes a duration such as 10m, or a time such as 2026-11-23T14:00:00Z, "
                   "not \"%s\"",
                   text);
}

static int print_page(struct cli *c, struct client *client, const char *id, const char *query,
                      int64_t since_us, int64_t *next, bool *more, struct err *e)
{
    AUTO(reply) struct reply r = {0};
    struct call q = {.path = job_path(&c->arena, id, query), .timeout_s = 60};
    int k = job_call(c, client, id, &q, &r, e);
    if (k != OK)
        return k;
    const struct jv *items = jv_get(r.json, "items");
    for (size_t i = 0; i < jv_len(items); i++)
        if (since_us == 0 || time_of(jv_at(items, i), "at") >= since_us)
            print_log_line(c, jv_at(items, i));
    /* Pages are bounded in bytes too, so also a tail may go on. */
    int64_t offset = jv_get_int(r.json, "next_offset", 0);
    *more = jv_len(items) > 0 && offset > *next && !jv_get_bool(r.json, "complete", false);
    *next = offset;
    return OK;
}

/* What there is now, from the beginning or the last `tail` lines. */
static int print_now(struct cli *c, struct client *client, const char *id, const struct parsed *p,
                     int64_t since_us, struct err *e)
{
    const char *stream = opt_given(p, "stderr") ? "&stream=err" : "";
    int64_t next = 0, tail = opt_number(p, "tail", -1);
    bool more = true;
    const char *query = tail >= 0 ? arena_printf(&c->arena, "/log?tail=%" PRId64 "%s", tail, stream)
                                  : arena_printf(&c->arena, "/log?offset=0&limit=%d%s",
                                                 (int)PAGE_LINES, stream);
    int k = print_page(c, client, id, query, since_us, &next, &more, e);
    while (k == OK && more) {
        query = arena_printf(&c->arena, "/log?offset=%" PRId64 "&limit=%d%s", next, (int)PAGE_LINES,
                             stream);
        k = print_page(c, client, id, query, since_us, &next, &more, e);
    }
    return k;
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    int64_t since_us = 0;
    const char *since = opt_text(p, "since");
    if (since != NULL && since_of(since, &since_us, &e) != OK)
        return usage_error(c, p->verb, &e);
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    const char *id = job_id(&c->arena, p->args[0]);
    if (!opt_given(p, "follow"))
        return print_now(c, client, id, p, since_us, &e) == OK ? EXIT_DONE
                                                               : client_fail(client, &e);
    struct follow f = {.id = id,
                       .tail = opt_number(p, "tail", -1),
                       .only_err = opt_given(p, "stderr"),
                       .since_us = since_us};
    enum follow_end end;
    AUTO(jv) struct jv *job = NULL;
    if (follow_job(c, client, &f, &end, &job, &e) != OK)
        return client_fail(client, &e);
    if (end == FOLLOW_INTERRUPTED)
        return stopped_following(id);
    if (!c->json && c->err.tty)
        print_job_line(stderr, &c->err, c, job);
    return EXIT_DONE;
}

static const struct opt opts[] = {
    {"follow", 'f', OPT_FLAG, NULL, "go on until the job ends (Ctrl-C: job goes on)"},
    {"tail", 'n', OPT_INT, "N", "begin with the last N lines", 0, 10000},
    {"since", 0, OPT_TEXT, "TIME", "only what is newer: 10m, or 2026-11-23T14:00:00Z"},
    {"stderr", 0, OPT_FLAG, NULL, "only what the job wrote to standard error"},
    {0},
};
static const char *const examples[] = {
    "drover logs -f j-17",
    "drover logs --tail 100 --stderr j-17",
    NULL,
};
const struct verb verb_logs = {
    .name = "logs",
    .summary = "print a job's output",
    .about = "The job's standard output goes to standard output, its standard error to standard "
             "error.",
    .arg = {"ID", ARG_ONE, ARG_JOB},
    .opts = opts,
    .examples = examples,
    .run = run,
};
