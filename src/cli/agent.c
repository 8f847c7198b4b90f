/* drover agent … and drover node …: hosts join, leave, and are declared lost. What ends jobs says
 * which, and asks. */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ITEMS_MAX = 100000 };

/* ---- tokens ---- */

static int token_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(buf) struct buf body = {0};
    AUTO(reply) struct reply r = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    struct json j = json_to(&body);
    json_open(&j, '{');
    if (opt_given(p, "name"))
        json_ktext(&j, "name", opt_text(p, "name"));
    json_kint(&j, "uses", opt_number(p, "uses", 1));
    json_kint(&j, "expires_s", opt_number(p, "expires", 86400 * US_PER_S) / US_PER_S);
    json_close(&j, '}');
    struct call q = {.path = "/v1/agents/tokens", .body = buf_str(&body)};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    const char *token = jv_get_text(r.json, "token");
    if (c->json) {
        print_json(&r);
        return EXIT_DONE;
    }
    if (token == NULL)
        return EXIT_FAILED_;
    const struct server *s = client_server(client);
    printf("%s\n", text_clean(&c->arena, token));
    fflush(stdout);
    say(stderr, "Shown once. On the host: drover-agent --server %s --join %s\n",
        s->unix_path[0] == '\0' ? s->url : "http://HOST:PORT", text_clean(&c->arena, token));
    return EXIT_DONE;
}

static const struct opt token_opts[] = {
    {"name", 0, OPT_TEXT, "PATTERN", "only nodes of these names, such as gpu-*"},
    {"uses", 0, OPT_INT, "N", "how many nodes may join with it (1)", 1, 100000},
    {"expires", 0, OPT_DURATION, "TIME", "how long it is good (1d)"},
    {0},
};
static const char *const token_examples[] = {
    "drover agent token", "drover agent token --name 'gpu-*' --uses 20 --expires 2h", NULL};
const struct verb verb_agent_token = {
    .name = "agent token",
    .summary = "make a token that lets another host join; it is shown once",
    .opts = token_opts,
    .examples = token_examples,
    .run = token_run,
};

static const struct column token_columns[] = {
    {"ID"},
    {"BEGINS"},
    {"NODES", .least = 6},
    {"USED", .right = true},
    {"EXPIRES"},
    {"MADE BY", .least = 6, .optional = true},
    {0},
};

static int tokens_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (list_all(client, "/v1/agents/tokens?", ITEMS_MAX, &l, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    if (l.items.n == 0) {
        say(stdout, "No tokens. Make one: drover agent token\n");
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, token_columns);
    for (size_t i = 0; i < l.items.n; i++) {
        const struct jv *token = l.items.items[i];
        struct cell *cell = table_row(&t);
        int64_t uses = jv_get_int(token, "uses", 0), used = jv_get_int(token, "used", 0);
        int64_t ends = time_of(token, "expires_at");
        const char *name = jv_get_text(token, "name");
        cell[0].text = jv_get_text(token, "id");
        cell[1].text = jv_get_text(token, "prefix");
        cell[2].text = name != NULL ? name : "*";
        cell[3] = (struct cell){arena_printf(&c->arena, "%" PRId64 "/%" PRId64, used, uses),
                                used >= uses ? HUE_DIM : HUE_NONE};
        cell[4] = (struct cell){text_clock(&c->arena, ends), ends < now_us() ? HUE_RED : HUE_NONE};
        cell[5].text = jv_get_text(token, "made_by");
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

const struct verb verb_agent_tokens = {
    .name = "agent tokens",
    .summary = "list the tokens that hosts may join with",
    .run = tokens_run,
};

static int revoke_run(struct cli *c, const struct parsed *p)
{
    return delete_each(c, p, "/v1/agents/tokens/");
}

const struct verb verb_agent_revoke = {
    .name = "agent revoke",
    .summary = "end tokens to join with; nodes that joined with them stay",
    .arg = {"ID", ARG_MANY, ARG_TEXT},
    .run = revoke_run,
};

/* ---- nodes ---- */

/* n-3, or the id of the node of that name. */
static int find_node(struct cli *c, struct client *client, const char *word, const char **id,
                     struct err *e)
{
    AUTO(listing) struct listing l = {0};
    int k = list_all(client, "/v1/nodes?", ITEMS_MAX, &l, e);
    if (k != OK)
        return k;
    for (size_t i = 0; i < l.items.n; i++) {
        const char *one = jv_get_text(l.items.items[i], "id");
        if (one != NULL &&
            (str_eq(one, word) || str_eq(jv_get_text(l.items.items[i], "name"), word))) {
            *id = arena_strdup(&c->arena, one);
            return OK;
        }
    }
    return err_set(e, ERR_NOT_FOUND, "no node %s; all nodes: drover nodes", word);
}

/* Asks with what the server said it would end. True: go on. */
static bool confirmed(struct cli *c, const struct parsed *p, const char *question, const char *what,
                      int *code)
{
    char answer[16];
    struct err e;
    if (opt_given(p, "yes"))
        return true;
    if (what != NULL)
        fprintf(stderr, "%s\n", what);
    if (!ask(question, false, answer, sizeof(answer))) {
        err_set(&e, ERR_INVALID, "there is no terminal to ask on: add --yes");
        *code = usage_error(c, p->verb, &e);
        return false;
    }
    *code = EXIT_FAILED_;
    if (answer[0] == 'y' || answer[0] == 'Y')
        return true;
    say(stderr, "Nothing was changed.\n");
    return false;
}

static int remove_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    const char *id;
    int code;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (find_node(c, client, p->args[0], &id, &e) != OK)
        return client_fail(client, &e);
    const char *question = text_of(&c->arena, "Take %s out of the fleet? Its agent ends. [y/N] ",
                                   p->args[0]);
    if (!confirmed(c, p, question, NULL, &code))
        return code;
    struct call q = {.method = "DELETE",
                     .path = arena_printf(&c->arena, "/v1/nodes/%s%s", id,
                                          opt_given(p, "force") ? "?force=true" : "")};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        printf("{\"id\":\"%s\"}\n", id);
    else
        say(stdout, "%s is not of the fleet any more.\n", p->args[0]);
    return EXIT_DONE;
}

static const struct opt remove_opts[] = {
    {"force", 0, OPT_FLAG, NULL, "also when jobs run there: they end as lost"},
    {"yes", 'y', OPT_FLAG, NULL, "do not ask"},
    {0},
};
const struct verb verb_agent_remove = {
    .name = "agent remove",
    .summary = "take a node out of the fleet; its agent ends and cannot come back",
    .arg = {"NODE", ARG_ONE, ARG_TEXT},
    .opts = remove_opts,
    .run = remove_run,
};

static int lost_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply looked = {0}, r = {0};
    const char *id;
    int code;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (find_node(c, client, p->args[0], &id, &e) != OK)
        return client_fail(client, &e);
    const char *path = arena_printf(&c->arena, "/v1/nodes/%s/lost", id);
    if (!opt_given(p, "yes")) {
        /* without a confirmation the server only says what it would end */
        struct call look = {.path = path, .body = "{}"};
        int k = client_call(client, &look, &looked, &e);
        if (k != ERR_CONFLICT)
            return k == OK ? EXIT_FAILED_ : client_fail(client, &e);
    }
    const char *question = text_of(&c->arena,
                                   "Is the host of %s really off? Jobs that still run there would "
                                   "run twice. [y/N] ",
                                   p->args[0]);
    if (!confirmed(c, p, question, e.text, &code))
        return code;
    struct call q = {.path = path, .body = "{\"confirm\":true}"};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        print_json(&r);
    else
        say(stdout, "%s is declared lost; %" PRId64 " jobs ended.\n", p->args[0],
            jv_get_int(r.json, "ended_jobs", 0));
    return EXIT_DONE;
}

static const struct opt lost_opts[] = {{"yes", 'y', OPT_FLAG, NULL, "do not ask"}, {0}};
const struct verb verb_node_lost = {
    .name = "node lost",
    .summary = "declare that a node's host is gone: its jobs end and may run elsewhere",
    .about = "For a host that will not come back, or that was switched off. A node that only does "
             "not answer keeps its jobs: they may well be running, and what runs twice does harm.",
    .arg = {"NODE", ARG_ONE, ARG_TEXT},
    .opts = lost_opts,
    .run = lost_run,
};

/* ---- list ---- */

static const struct column agent_columns[] = {
    {"ID"},    {"NAME", .least = 6}, {"STATE"}, {"SINCE", .right = true},
    {"AGENT"}, {"WHY", .least = 12}, {0},
};

static int list_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (list_all(client, "/v1/nodes?", ITEMS_MAX, &l, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, agent_columns);
    for (size_t i = 0; i < l.items.n; i++) {
        const struct jv *node = l.items.items[i];
        struct cell *cell = table_row(&t);
        const char *state = jv_get_text(node, "state");
        int64_t since = time_of(node, "state_since");
        cell[0].text = jv_get_text(node, "id");
        cell[1].text = jv_get_text(node, "name");
        cell[2] = (struct cell){state != NULL ? err_tr(state) : NULL, node_hue(state)};
        cell[3].text = since > 0 ? text_ago(&c->arena, now_us() > since ? now_us() - since : 0)
                                 : NULL;
        cell[4].text = jv_get_text(node, "agent_version");
        cell[5].text = jv_get_text(node, "state_reason");
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

const struct verb verb_agent_list = {
    .name = "agent list",
    .summary = "list the agents: since when each answers or does not, and why",
    .run = list_run,
};
