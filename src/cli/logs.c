/* drover logs: what a job printed, and with -f what it goes on to print. */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>

enum { PAGE_LINES = 1000 };

/* "10m" (ago), or a time such as 2026-11-23T14:00 */
static int time_option(const struct parsed *p, const char *name, int64_t *us, struct err *e)
{
    const char *text = opt_text(p, name);
    int64_t ago;
    if (text == NULL)
        return OK;
    if (duration_parse(text, &ago)) {
        *us = now_us() - ago;
        return OK;
    }
    if (time_parse(text, us))
        return OK;
    return err_set(e, ERR_INVALID,
                   "--%s takes a duration such as 10m, or a time such as 2026-11-23T14:00:00Z, "
                   "not \"%s\"",
                   name, text);
}

/* What the options ask of the server, "&since=…&stream=err"; "" for all. */
static int query_of(struct cli *c, const struct parsed *p, const char **out, struct err *e)
{
    static const char *const times[] = {"since", "until"};
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        char text[TIME_TEXT_SIZE];
        int64_t us = 0;
        int k = time_option(p, times[i], &us, e);
        if (k != OK)
            return k;
        if (us != 0)
            buf_printf(&b, "&%s=%s", times[i], time_format(us, text));
    }
    int64_t attempt = opt_number(p, "attempt", -1);
    if (attempt == 0)
        return err_set(e, ERR_INVALID, "tries are counted from 1; the last one is -1");
    if (attempt > 0)
        buf_printf(&b, "&attempt=%" PRId64, attempt);
    if (opt_given(p, "stderr"))
        buf_adds(&b, "&stream=err");
    *out = arena_strdup(&c->arena, buf_str(&b));
    return OK;
}

static int print_page(struct cli *c, struct client *client, const char *id, const char *query,
                      int64_t *next, bool *more, struct err *e)
{
    AUTO(reply) struct reply r = {0};
    struct call q = {.path = job_path(&c->arena, id, query), .timeout_s = 60};
    int k = job_call(c, client, id, &q, &r, e);
    if (k != OK)
        return k;
    const struct jv *items = jv_get(r.json, "items");
    for (size_t i = 0; i < jv_len(items); i++)
        print_log_line(c, jv_at(items, i));
    /* Pages are bounded in bytes too, so also a tail may go on. */
    int64_t offset = jv_get_int(r.json, "next_offset", 0);
    *more = jv_len(items) > 0 && offset > *next && !jv_get_bool(r.json, "complete", false);
    *next = offset;
    return OK;
}

/* What there is now, from the beginning or the last `tail` lines. */
static int print_now(struct cli *c, struct client *client, const char *id, int64_t tail,
                     const char *query, struct err *e)
{
    struct arena *a = &c->arena;
    int64_t next = 0;
    bool more = true;
    const char *first = tail >= 0
                            ? arena_printf(a, "/log?tail=%" PRId64 "%s", tail, query)
                            : arena_printf(a, "/log?offset=0&limit=%d%s", (int)PAGE_LINES, query);
    int k = print_page(c, client, id, first, &next, &more, e);
    while (k == OK && more)
        k = print_page(
            c, client, id,
            arena_printf(a, "/log?offset=%" PRId64 "&limit=%d%s", next, (int)PAGE_LINES, query),
            &next, &more, e);
    return k;
}

/* The bytes as the job wrote them, both streams in one. */
static int print_raw(struct cli *c, struct client *client, const char *id, const char *query,
                     struct err *e)
{
    const char *path = job_path(&c->arena, id, arena_printf(&c->arena, "/log.txt?%s", query));
    int k = client_download(client, path, stdout, e);
    if (k == ERR_NOT_FOUND)
        suggest_job(c, client, id, e);
    return k;
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    const char *query;
    int64_t tail = opt_number(p, "tail", -1);
    bool follow = opt_given(p, "follow"), raw = opt_given(p, "raw");
    int k = query_of(c, p, &query, &e);
    if (k == OK && follow && (raw || opt_given(p, "until")))
        k = err_set(&e, ERR_INVALID, "--%s and --follow do not go together", raw ? "raw" : "until");
    if (k == OK && raw && c->json)
        k = err_set(&e, ERR_INVALID, "--raw and --json do not go together");
    if (k != OK)
        return usage_error(c, p->verb, &e);
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    const char *id = job_id(&c->arena, p->args[0]);
    if (tail >= 0 && (follow || raw))
        query = arena_printf(&c->arena, "&tail=%" PRId64 "%s", tail, query);
    if (!follow) {
        k = raw ? print_raw(c, client, id, query, &e) : print_now(c, client, id, tail, query, &e);
        return k == OK ? EXIT_DONE : client_fail(client, &e);
    }
    struct follow f = {.id = id, .query = query};
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
    {"until", 0, OPT_TEXT, "TIME", "only what is older: 10m, or 2026-11-23T14:00:00Z"},
    {"attempt", 0, OPT_INT, "N", "this try of the job: 1, 2, …; -1: the last (default)", -1, 1000},
    {"stderr", 0, OPT_FLAG, NULL, "only what the job wrote to standard error"},
    {"raw", 0, OPT_FLAG, NULL, "byte for byte, both streams to standard output"},
    {0},
};
static const char *const examples[] = {
    "drover logs -f j-17",
    "drover logs --tail 100 --stderr j-17",
    "drover logs --attempt 1 --since 2h --until 90m j-17",
    "drover logs --raw j-17 > log.bin",
    NULL,
};
const struct verb verb_logs = {
    .name = "logs",
    .summary = "print a job's output",
    .about = "The job's standard output goes to standard output, its standard error to standard "
             "error. A job that was started again has a log for each try. Bytes that are no UTF-8 "
             "are shown as U+FFFD; --raw gives them as they are.",
    .arg = {"ID", ARG_ONE, ARG_JOB},
    .opts = opts,
    .examples = examples,
    .run = run,
};
