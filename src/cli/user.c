/* drover user …: accounts, for administrators; everyone may change the own password. */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

enum { USERS_MAX = 100000, PASSWORD_MAX = 1024 };

static const struct column columns[] = {
    {"ID"},     {"EMAIL", .least = 10},           {"ROLE"}, {"NAME", .least = 6, .optional = true},
    {"ACTIVE"}, {"LAST LOGIN", .optional = true}, {0},
};

static const char *full_name(struct arena *a, const struct jv *user)
{
    const char *first = jv_get_text(user, "first_name"), *last = jv_get_text(user, "last_name");
    return text_clean(a, arena_printf(a, "%s%s%s", first != NULL ? first : "",
                                      first != NULL && last != NULL ? " " : "",
                                      last != NULL ? last : ""));
}

static void add_row(struct table *t, const struct jv *user)
{
    struct cell *cell = table_row(t);
    int64_t last = time_of(user, "last_login");
    bool active = jv_get_bool(user, "is_active", true);
    cell[0].text = jv_get_text(user, "id");
    cell[1].text = jv_get_text(user, "email");
    cell[2].text = jv_get_text(user, "role");
    cell[3].text = full_name(t->a, user);
    cell[4] = (struct cell){err_tr(active ? "yes" : "no"), active ? HUE_NONE : HUE_YELLOW};
    cell[5].text = last > 0 ? text_clock(t->a, last) : NULL;
}

static void print_user(struct cli *c, const struct jv *user)
{
    struct table t = table_new(&c->arena, columns);
    add_row(&t, user);
    table_print(stdout, &t, &c->out);
    table_fini(&t);
}

int find_user(struct cli *c, struct client *client, const char *word, const char **id,
              struct err *e)
{
    *id = word;
    if (strchr(word, '@') == NULL)
        return OK;
    AUTO(listing) struct listing l = {0};
    int k = list_all(client, "/v1/users?", USERS_MAX, &l, e);
    if (k != OK)
        return k;
    for (size_t i = 0; i < l.items.n; i++)
        if (str_eq_nocase(jv_get_text(l.items.items[i], "email"), word)) {
            *id = arena_strdup(&c->arena, jv_get_text(l.items.items[i], "id"));
            return *id != NULL ? OK : err_set(e, ERR_UPSTREAM, "a user without an id");
        }
    return err_set(e, ERR_NOT_FOUND, "no user %s; all users: drover user list", word);
}

static const char *user_path(struct arena *a, const char *id)
{
    return arena_printf(a, "/v1/users/%s", url_part(a, id));
}

static int add_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(buf) struct buf body = {0};
    AUTO(reply) struct reply r = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    static const struct {
        const char *option, *member;
    } members[] = {{"role", "role"}, {"first-name", "first_name"}, {"last-name", "last_name"}};
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "email", p->args[0]);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (opt_text(p, members[i].option) != NULL)
            json_ktext(&j, members[i].member, opt_text(p, members[i].option));
    if (opt_given(p, "password-stdin")) {
        char password[PASSWORD_MAX];
        if (fgets(password, sizeof(password), stdin) == NULL)
            password[0] = '\0';
        password[strcspn(password, "\r\n")] = '\0';
        json_ktext(&j, "password", password);
        explicit_bzero(password, sizeof(password));
    }
    json_close(&j, '}');
    struct call q = {.path = "/v1/users", .body = buf_str(&body)};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_json(&r);
        return EXIT_DONE;
    }
    print_user(c, r.json);
    const char *password = jv_get_text(r.json, "password");
    if (password != NULL)
        say(stdout, "password  %s  (shown once)\n", text_clean(&c->arena, password));
    return EXIT_DONE;
}

static const struct opt add_opts[] = {
    {"role", 'r', OPT_TEXT, "ROLE", "user (default), operator or admin",
     .choices = "user operator admin"},
    {"first-name", 0, OPT_TEXT, "NAME", "given name"},
    {"last-name", 0, OPT_TEXT, "NAME", "family name"},
    {"password-stdin", 0, OPT_FLAG, NULL, "read the password; else one is made and shown once"},
    {0},
};
static const char *const add_examples[] = {"drover user add li.na@example.com --role operator",
                                           NULL};
const struct verb verb_user_add = {
    .name = "user add",
    .summary = "add an account",
    .arg = {"EMAIL", ARG_ONE, ARG_TEXT},
    .opts = add_opts,
    .examples = add_examples,
    .run = add_run,
};

static int list_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (list_all(client, "/v1/users?", USERS_MAX, &l, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, columns);
    for (size_t i = 0; i < l.items.n; i++)
        add_row(&t, l.items.items[i]);
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

const struct verb verb_user_list = {
    .name = "user list",
    .summary = "list accounts",
    .run = list_run,
};

static int show_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    const char *id;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (find_user(c, client, p->args[0], &id, &e) != OK ||
        client_call(client, &(struct call){.path = user_path(&c->arena, id)}, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        print_json(&r);
    else
        print_user(c, r.json);
    return EXIT_DONE;
}

const struct verb verb_user_show = {
    .name = "user show",
    .summary = "show one account",
    .arg = {"USER", ARG_ONE, ARG_TEXT},
    .run = show_run,
};

/* Twice on a terminal, once from standard input. */
static bool new_password(const struct parsed *p, char to[PASSWORD_MAX], struct err *e)
{
    char again[PASSWORD_MAX];
    if (opt_given(p, "password-stdin")) {
        if (fgets(to, PASSWORD_MAX, stdin) == NULL)
            return err_set(e, ERR_INVALID, "standard input holds no password") == OK;
        to[strcspn(to, "\r\n")] = '\0';
        return true;
    }
    if (!ask(err_tr("new password: "), true, to, PASSWORD_MAX) ||
        !ask(err_tr("once more: "), true, again, sizeof(again)))
        return err_set(e, ERR_INVALID, "there is no terminal to ask on: --password-stdin < FILE") ==
               OK;
    bool same = strcmp(to, again) == 0;
    explicit_bzero(again, sizeof(again));
    return same || err_set(e, ERR_INVALID, "the two passwords differ; nothing was changed") == OK;
}

static int passwd_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    AUTO(buf) struct buf body = {0};
    char password[PASSWORD_MAX];
    const char *id;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (find_user(c, client, p->args[0], &id, &e) != OK)
        return client_fail(client, &e);
    if (!new_password(p, password, &e))
        return usage_error(c, p->verb, &e);
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "password", password);
    json_close(&j, '}');
    explicit_bzero(password, sizeof(password));
    struct call q = {.method = "PATCH", .path = user_path(&c->arena, id), .body = buf_str(&body)};
    int k = client_call(client, &q, &r, &e);
    explicit_bzero(body.data, body.len);
    if (k != OK)
        return client_fail(client, &e);
    if (c->json)
        print_json(&r);
    else
        say(stdout, "The password of %s is changed.\n", p->args[0]);
    return EXIT_DONE;
}

static const struct opt passwd_opts[] = {
    {"password-stdin", 0, OPT_FLAG, NULL, "read the password from standard input"},
    {0},
};
const struct verb verb_user_passwd = {
    .name = "user passwd",
    .summary = "set an account's password",
    .arg = {"USER", ARG_ONE, ARG_TEXT},
    .opts = passwd_opts,
    .run = passwd_run,
};

static int delete_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    const char *id;
    char answer[16];
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (find_user(c, client, p->args[0], &id, &e) != OK)
        return client_fail(client, &e);
    if (!opt_given(p, "yes")) {
        const char *question = text_of(&c->arena, "Delete the account %s? [y/N] ", p->args[0]);
        if (!ask(question, false, answer, sizeof(answer))) {
            err_set(&e, ERR_INVALID, "there is no terminal to ask on: add --yes");
            return usage_error(c, p->verb, &e);
        }
        if (answer[0] != 'y' && answer[0] != 'Y') {
            say(stderr, "Nothing was deleted.\n");
            return EXIT_FAILED_;
        }
    }
    struct call q = {.method = "DELETE", .path = user_path(&c->arena, id)};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        printf("{\"id\":\"%s\"}\n", text_clean(&c->arena, id));
    else
        say(stdout, "Deleted %s.\n", p->args[0]);
    return EXIT_DONE;
}

static const struct opt delete_opts[] = {
    {"yes", 'y', OPT_FLAG, NULL, "do not ask"},
    {0},
};
const struct verb verb_user_delete = {
    .name = "user delete",
    .summary = "delete an account",
    .arg = {"USER", ARG_ONE, ARG_TEXT},
    .opts = delete_opts,
    .run = delete_run,
};

static int reset_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    const char *id;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (find_user(c, client, p->args[0], &id, &e) != OK)
        return client_fail(client, &e);
    struct call q = {.method = "POST",
                     .path = arena_printf(&c->arena, "%s/reset-link", user_path(&c->arena, id))};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_json(&r);
        return EXIT_DONE;
    }
    printf("%s\n", text_clean(&c->arena, jv_get_text(r.json, "url")));
    fflush(stdout);
    say(stderr, "Give this link to %s: it sets a new password once, until %s.\n", p->args[0],
        text_clock(&c->arena, time_of(r.json, "expires_at")));
    return EXIT_DONE;
}

static const char *const reset_examples[] = {"drover user reset li.na@example.com", NULL};
const struct verb verb_user_reset = {
    .name = "user reset",
    .summary = "make a link with which someone sets a new password",
    .arg = {"USER", ARG_ONE, ARG_TEXT},
    .examples = reset_examples,
    .run = reset_run,
};
