/* drover token …: credentials for programs. The secret is shown once and goes to standard output
 * alone, so that it can be caught: T=$(drover token create ci). */
#include "cli/context.h"

#include "base/json.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>

enum { TOKENS_MAX = 100000 };

static int create_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(buf) struct buf body = {0};
    AUTO(reply) struct reply r = {0};
    int64_t expires = opt_number(p, "expires", 0);
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "name", p->args[0]);
    if (expires > 0)
        json_kint(&j, "expires_in_days", (expires + 86400 * US_PER_S - 1) / (86400 * US_PER_S));
    const struct given *may = opt_next(p, "may", NULL);
    if (may != NULL) {
        json_key(&j, "permissions");
        json_open(&j, '[');
        for (; may != NULL; may = opt_next(p, "may", may))
            json_text(&j, may->text);
        json_close(&j, ']');
    }
    json_close(&j, '}');
    struct call q = {.path = "/v1/tokens", .body = buf_str(&body)};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    const char *token = jv_get_text(r.json, "token");
    if (c->json) {
        print_json(&r);
    } else if (token != NULL) {
        printf("%s\n", text_clean(&c->arena, token));
        fflush(stdout);
        say(stderr, "Shown once. Use it: export DROVER_TOKEN=…   End it: drover token delete %s\n",
            text_clean(&c->arena, jv_get_text(r.json, "id")));
    }
    return EXIT_DONE;
}

static const struct opt create_opts[] = {
    {"expires", 0, OPT_DURATION, "TIME", "ends after this time, such as 90d (whole days)"},
    {"may", 0, OPT_TEXT, "PERMISSION", "only this of what your role may; may be given again",
     .choices = "training preprocessing model_download fleet inference", .many = true},
    {0},
};
static const char *const create_examples[] = {
    "drover token create ci --expires 90d",
    "drover token create trainer --may training --may preprocessing",
    NULL,
};
const struct verb verb_token_create = {
    .name = "token create",
    .summary = "make a token for a program; it is shown once",
    .arg = {"NAME", ARG_ONE, ARG_TEXT},
    .opts = create_opts,
    .examples = create_examples,
    .run = create_run,
};

/* "training, fleet"; a dash for what follows the role */
static const char *permissions_text(struct arena *a, const struct jv *words)
{
    const char *text = NULL;
    for (size_t i = 0; i < jv_len(words); i++)
        text = text == NULL ? jv_text(jv_at(words, i), NULL)
                            : arena_printf(a, "%s, %s", text, jv_text(jv_at(words, i), NULL));
    return text;
}

static const struct column columns[] = {
    {"ID"},      {"NAME", .least = 8}, {"BEGINS"},  {"MAY", .least = 8, .optional = true},
    {"CREATED"}, {"LAST USED"},        {"EXPIRES"}, {0},
};

static int list_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (list_all(client, "/v1/tokens?", TOKENS_MAX, &l, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    if (l.items.n == 0) {
        say(stdout, "No tokens. Make one: drover token create NAME\n");
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, columns);
    static const char *const times[] = {"created_at", "last_used_at", "expires_at"};
    for (size_t i = 0; i < l.items.n; i++) {
        const struct jv *token = l.items.items[i];
        struct cell *cell = table_row(&t);
        cell[0].text = jv_get_text(token, "id");
        cell[1].text = jv_get_text(token, "name");
        cell[2].text = jv_get_text(token, "prefix");
        cell[3].text = permissions_text(&c->arena, jv_get(token, "permissions"));
        for (size_t k = 0; k < ARRAY_LEN(times); k++) {
            int64_t at = time_of(token, times[k]);
            cell[4 + k].text = at > 0 ? text_clock(&c->arena, at) : NULL;
        }
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

const struct verb verb_token_list = {
    .name = "token list",
    .summary = "list your tokens",
    .run = list_run,
};

int delete_each(struct cli *c, const struct parsed *p, const char *path)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    int code = EXIT_DONE;
    for (size_t i = 0; i < p->n_args; i++) {
        AUTO(reply) struct reply r = {0};
        struct call q = {
            .method = "DELETE",
            .path = arena_printf(&c->arena, "%s%s", path, url_part(&c->arena, p->args[i]))};
        if (client_call(client, &q, &r, &e) != OK) {
            int failed = client_fail(client, &e);
            code = code == EXIT_DONE ? failed : code;
        } else if (c->json) {
            printf("{\"id\":\"%s\"}\n", text_clean(&c->arena, p->args[i]));
        } else {
            say(stdout, "Deleted %s.\n", p->args[i]);
        }
    }
    return code;
}

static int delete_run(struct cli *c, const struct parsed *p)
{
    return delete_each(c, p, "/v1/tokens/");
}

const struct verb verb_token_delete = {
    .name = "token delete",
    .summary = "end tokens; who uses them is refused from then on",
    .arg = {"ID", ARG_MANY, ARG_TEXT},
    .run = delete_run,
};
