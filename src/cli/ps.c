/* drover ps: which jobs there are, and why each is as it is. */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000000, WATCH_MS = 2000 };

static const struct column columns[] = {
    {"ID"},
    {"NAME", .least = 8},
    {"STATE"},
    {"GPUS", .least = 11, .optional = true},
    {"NODE", .least = 5, .optional = true},
    {"RAN", .right = true},
    {"WAITED", .right = true, .optional = true},
    {"WHY", .least = 24},
    {0},
};

static const char *seconds(struct arena *a, const struct jv *job, const char *member)
{
    double s = jv_get_real(job, member, -1);
    return s < 0 ? NULL : text_ago(a, (int64_t)(s * 1e6));
}

static void add_row(struct table *t, const struct jv *job)
{
    struct cell *cell = table_row(t);
    const char *state = jv_get_text(job, "state");
    const char *node = jv_get_text(job, "node_name");
    cell[0].text = jv_get_text(job, "id");
    cell[1].text = jv_get_text(job, "name");
    cell[2] = (struct cell){state != NULL ? err_tr(state) : NULL, state_hue(state)};
    cell[3].text = job_gpus(t->a, job);
    cell[4].text = node != NULL ? node : jv_get_text(job, "node");
    cell[5].text = seconds(t->a, job, "ran_s");
    cell[6].text = seconds(t->a, job, "waited_s");
    cell[7].text = jv_get_text(job, "reason");
}

/* Nothing waits or runs: say what ended last, so that a short job is not lost from sight. */
static int tell_nothing(struct cli *c, struct client *client)
{
    AUTO(reply) struct reply r = {0};
    struct err e = {0};
    if (client_call(client, &(struct call){.path = "/v1/jobs?limit=1"}, &r, &e) != OK)
        return client_fail(client, &e);
    const struct jv *last = jv_at(jv_get(r.json, "items"), 0);
    if (last == NULL) {
        say(stdout, "No jobs yet. Run one: drover submit --follow -- uname -a\n");
        return EXIT_DONE;
    }
    say(stdout, "Nothing waits or runs. Ended jobs: drover ps --all   The last one:\n");
    print_job_line(stdout, &c->out, c, last);
    return EXIT_DONE;
}

static const char *query_of(struct cli *c, const struct parsed *p)
{
    const char *state = opt_text(p, "state");
    if (state == NULL)
        state = opt_given(p, "all") ? NULL : "active";
    return state != NULL ? arena_printf(&c->arena, "/v1/jobs?state=%s", url_part(&c->arena, state))
                         : "/v1/jobs?";
}

static int show_once(struct cli *c, struct client *client, const struct parsed *p, bool watching)
{
    struct err e = {0};
    AUTO(listing) struct listing l = {0};
    AUTO(listing) struct listing queued = {0};
    /* ids are for other commands, which want them all */
    size_t most = (size_t)opt_number(p, "limit", opt_given(p, "quiet") ? LIMIT_MAX : LIMIT_DEFAULT);
    if (watching && c->out.height > 3 && most > (size_t)c->out.height - 3)
        most = (size_t)c->out.height - 3;
    /* what runs comes before what waits, however long the queue is */
    bool two = !c->json && !opt_given(p, "state") && !opt_given(p, "all");
    const char *first = two ? "/v1/jobs?state=running,starting,cancelling,unknown" : query_of(c, p);
    if (list_all(client, first, most, &l, &e) != OK)
        return client_fail(client, &e);
    if (two && l.items.n < most &&
        list_all(client, "/v1/jobs?state=queued", most - l.items.n, &queued, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    if (opt_given(p, "quiet")) {
        for (size_t i = 0; i < l.items.n; i++)
            printf("%s\n", text_clean(&c->arena, jv_get_text(l.items.items[i], "id")));
        for (size_t i = 0; i < queued.items.n; i++)
            printf("%s\n", text_clean(&c->arena, jv_get_text(queued.items.items[i], "id")));
        return EXIT_DONE;
    }
    if (l.items.n + queued.items.n == 0 && !opt_given(p, "state"))
        return tell_nothing(c, client);
    struct table t = table_new(&c->arena, columns);
    for (size_t i = 0; i < l.items.n; i++)
        add_row(&t, l.items.items[i]);
    for (size_t i = 0; i < queued.items.n; i++)
        add_row(&t, queued.items.items[i]);
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    if ((l.more || queued.more) && !watching)
        say(stderr, "There are more than these %zu: --limit N\n", l.items.n + queued.items.n);
    return EXIT_DONE;
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    bool watch = opt_given(p, "watch");
    if (watch && (!c->out.tty || c->json)) {
        err_set(&e, ERR_INVALID, "--watch needs a terminal");
        return usage_error(c, p->verb, &e);
    }
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (!watch)
        return show_once(c, client, p, false);
    client_catch_interrupt(client);
    for (;;) {
        printf("\033[H\033[2J");
        int code = show_once(c, client, p, true);
        if (code == err_row(ERR_UNAUTHENTICATED)->exit_code || code == EXIT_USAGE)
            return code;
        printf("\n%s%s%s\n", hue_on(&c->out, HUE_DIM), err_tr("Ctrl-C ends"),
               hue_off(&c->out, HUE_DIM));
        fflush(stdout);
        if (client_nap(client, WATCH_MS)) {
            fputc('\n', stdout);
            return EXIT_DONE;
        }
        arena_reset(&c->arena);
        c->out = term_of(1);
    }
}

static const struct opt opts[] = {
    {"all", 'a', OPT_FLAG, NULL, "also jobs that have ended"},
    {"state", 's', OPT_TEXT, "STATE[,STATE]", "only these states",
     .choices = "queued starting running cancelling unknown completed failed timeout cancelled"},
    {"limit", 0, OPT_INT, "N", "at most this many (default 50)", 1, 1000000},
    {"quiet", 'q', OPT_FLAG, NULL, "only the ids"},
    {"watch", 'w', OPT_FLAG, NULL, "show it again every two seconds"},
    {0},
};
static const char *const examples[] = {
    "drover ps",
    "drover ps --state failed,timeout",
    "drover cancel $(drover ps -q --state queued)",
    NULL,
};
const struct verb verb_ps = {
    .name = "ps",
    .summary = "list jobs: what runs, what waits and why",
    .opts = opts,
    .examples = examples,
    .run = run,
};
