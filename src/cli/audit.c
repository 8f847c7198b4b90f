/* drover audit: who changed what; drover session …: where an account is signed in. */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ENTRIES_SHOWN = 50, ENTRIES_MAX = 1000000, SESSIONS_MAX = 10000 };

/* The query of a list of entries from the options that were given. */
static const char *audit_query(struct cli *c, const struct parsed *p)
{
    static const struct {
        const char *option, *member;
    } members[] = {
        {"user", "user"}, {"route", "route"}, {"target", "target"}, {"outcome", "outcome"}};
    char at[TIME_TEXT_SIZE];
    const char *query = "";
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (opt_text(p, members[i].option) != NULL)
            query = arena_printf(&c->arena, "%s&%s=%s", query, members[i].member,
                                 url_part(&c->arena, opt_text(p, members[i].option)));
    if (opt_given(p, "since"))
        query = arena_printf(
            &c->arena, "%s&since=%s", query,
            url_part(&c->arena, time_format(now_us() - opt_number(p, "since", 0), at)));
    return query;
}

static const struct column audit_columns[] = {
    {"AT"},
    {"WHO", .least = 10},
    {"METHOD"},
    {"ROUTE", .least = 12},
    {"TARGET"},
    {"OUTCOME", .least = 6},
    {"FROM", .optional = true},
    {0},
};

static int audit_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    bool all = c->json || opt_given(p, "lines");
    int64_t most = opt_number(p, "limit", all ? ENTRIES_MAX : ENTRIES_SHOWN);
    const char *path = arena_printf(&c->arena, "/v1/audit?%s", audit_query(c, p));
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (list_all(client, path, (size_t)most, &l, &e) != OK)
        return client_fail(client, &e);
    for (size_t i = 0; opt_given(p, "lines") && i < l.items.n; i++)
        printf("%s\n", jv_dump(l.items.items[i], &c->arena));
    if (c->json && !opt_given(p, "lines"))
        print_listing_json(c, &l);
    if (c->json || opt_given(p, "lines"))
        return EXIT_DONE;
    struct table t = table_new(&c->arena, audit_columns);
    static const char *const members[] = {"principal", "method",  "route",
                                          "target",    "outcome", "address"};
    for (size_t i = 0; i < l.items.n; i++) {
        const struct jv *entry = l.items.items[i];
        struct cell *cell = table_row(&t);
        cell[0].text = text_clock(&c->arena, time_of(entry, "at"));
        for (size_t k = 0; k < ARRAY_LEN(members); k++)
            cell[1 + k].text = jv_get_text(entry, members[k]);
        if (!str_eq(cell[5].text, "ok"))
            cell[5].hue = HUE_YELLOW;
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

static const struct opt audit_opts[] = {
    {"user", 0, OPT_TEXT, "USER", "what this account did (id or e-mail)"},
    {"route", 0, OPT_TEXT, "PATH", "how the route begins, such as /v1/users"},
    {"target", 0, OPT_TEXT, "ID", "what was hit, such as j-17"},
    {"outcome", 0, OPT_TEXT, "WORD", "ok, forbidden, conflict, …"},
    {"since", 0, OPT_DURATION, "TIME", "of the last time, such as 2h or 7d"},
    {"limit", 0, OPT_INT, "N", "at most so many entries (50; all with --json and --lines)", 1,
     ENTRIES_MAX},
    {"lines", 0, OPT_FLAG, NULL, "one line of JSON for each entry"},
    {0},
};
static const char *const audit_examples[] = {"drover audit --user li.na@example.com --since 7d",
                                             "drover audit --lines > audit.jsonl", NULL};
const struct verb verb_audit = {
    .name = "audit",
    .summary = "show who changed what, newest first",
    .opts = audit_opts,
    .examples = audit_examples,
    .run = audit_run,
};

/* ---- sessions ---- */

static const struct column session_columns[] = {
    {"ID"},    {"FROM"},      {"PROGRAM", .least = 10},
    {"SINCE"}, {"LAST USED"}, {"ENDS", .optional = true},
    {""},      {0},
};

static int list_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    const char *user = opt_text(p, "user"), *id = NULL, *path = "/v1/sessions?";
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (user != NULL && find_user(c, client, user, &id, &e) != OK)
        return client_fail(client, &e);
    if (id != NULL)
        path = arena_printf(&c->arena, "/v1/sessions?user=%s", url_part(&c->arena, id));
    if (list_all(client, path, SESSIONS_MAX, &l, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    if (l.items.n == 0) {
        say(stdout, "Nobody is signed in to this account.\n");
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, session_columns);
    static const char *const times[] = {"created_at", "used_at", "expires_at"};
    for (size_t i = 0; i < l.items.n; i++) {
        const struct jv *s = l.items.items[i];
        struct cell *cell = table_row(&t);
        cell[0].text = jv_get_text(s, "id");
        cell[1].text = jv_get_text(s, "address");
        cell[2].text = jv_get_text(s, "agent");
        for (size_t k = 0; k < ARRAY_LEN(times); k++)
            cell[3 + k].text = text_clock(&c->arena, time_of(s, times[k]));
        cell[6].text = jv_get_bool(s, "current", false) ? err_tr("this one") : "";
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

static const struct opt list_opts[] = {
    {"user", 0, OPT_TEXT, "USER", "of this account (administrators)"},
    {0},
};
const struct verb verb_session_list = {
    .name = "session list",
    .summary = "list where your account is signed in",
    .opts = list_opts,
    .run = list_run,
};

static int end_run(struct cli *c, const struct parsed *p)
{
    return delete_each(c, p, "/v1/sessions/");
}

static const char *const end_examples[] = {"drover session end s-4", NULL};
const struct verb verb_session_end = {
    .name = "session end",
    .summary = "sign out somewhere else; who uses that sign-in is refused from then on",
    .arg = {"ID", ARG_MANY, ARG_TEXT},
    .examples = end_examples,
    .run = end_run,
};
