/* drover login and logout: a refreshable sign-in that is kept for one server. */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One line of standard input, without its newline. */
static bool read_line(char *to, size_t room)
{
    if (fgets(to, (int)room, stdin) == NULL)
        return false;
    to[strcspn(to, "\r\n")] = '\0';
    return true;
}

static bool get_secrets(struct cli *c, const struct parsed *p, char *email, size_t email_room,
                        char *password, size_t password_room)
{
    if (p->n_args > 0)
        snprintf(email, email_room, "%s", p->args[0]);
    else if (!ask(err_tr("email: "), false, email, email_room))
        return false;
    if (opt_given(p, "password-stdin"))
        return read_line(password, password_room);
    return ask(err_tr("password: "), true, password, password_room);
}

static int login_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    char email[320], password[1024];
    AUTO(client) struct client *client = NULL;
    AUTO(buf) struct buf body = {0};
    AUTO(reply) struct reply r = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (!get_secrets(c, p, email, sizeof(email), password, sizeof(password))) {
        err_set(&e, ERR_INVALID,
                "there is no terminal to ask on: drover login EMAIL --password-stdin < FILE");
        return usage_error(c, p->verb, &e);
    }
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "email", email);
    json_ktext(&j, "password", password);
    json_close(&j, '}');
    explicit_bzero(password, sizeof(password));
    struct call q = {
        .method = "POST", .path = "/v1/session", .body = buf_str(&body), .anonymous = true};
    int k = client_call(client, &q, &r, &e);
    explicit_bzero(body.data, body.len);
    if (k != OK) {
        fprintf(stderr, "%s\n", e.text);
        if (k != ERR_UNAUTHENTICATED)
            client_explain(client, &e);
        return err_row(e.kind)->exit_code;
    }
    struct credential who = {0};
    snprintf(who.email, sizeof(who.email), "%s", email);
    const char *url = client_server(client)->url;
    if (!credential_of_answer(r.json, &who)) {
        err_set(&e, ERR_UPSTREAM, "the server's answer to the sign-in cannot be read");
        return client_fail(client, &e);
    }
    AUTO(fd) int lock = -1;
    if (credential_lock(&lock, &e) != OK || credential_save(url, &who, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        printf("{\"server\":\"%s\",\"email\":\"%s\"}\n", url, text_clean(&c->arena, who.email));
    else
        say(stdout, "Signed in at %s as %s.\n", url, text_clean(&c->arena, who.email));
    struct server usual;
    if (!c->json && c->server != NULL && server_find(NULL, &usual, NULL) == OK &&
        strcmp(usual.url, url) != 0)
        say(stdout, "Other verbs use %s; for this one: export DROVER_URL=%s\n", usual.url, url);
    return EXIT_DONE;
}

static const struct opt login_opts[] = {
    {"password-stdin", 0, OPT_FLAG, NULL, "read the password from standard input"},
    {0},
};
static const char *const login_examples[] = {
    "drover login admin@localhost",
    "DROVER_URL=https://gpu.example.com drover login li.na@example.com",
    NULL,
};
const struct verb verb_login = {
    .name = "login",
    .summary = "sign in at a server and stay signed in",
    .about = "The sign-in is kept in ~/.config/drover/credentials.json, readable by you only, and "
             "renewed by itself. On the server's own machine the socket is enough and no sign-in "
             "is needed.",
    .arg = {"EMAIL", ARG_OPTIONAL, ARG_TEXT},
    .opts = login_opts,
    .examples = login_examples,
    .run = login_run,
};

static int logout_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    struct credential who;
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    const char *url = client_server(client)->url;
    if (credential_load(url, &who, &e) != OK)
        return client_fail(client, &e);
    if (who.access[0] == '\0') {
        say(stderr, "Not signed in at %s.\n", url);
        return EXIT_DONE;
    }
    /* The server forgets it if it can be reached; this side forgets it in any case. */
    struct call q = {.method = "DELETE", .path = "/v1/session", .bearer = who.access};
    int k = client_call(client, &q, &r, &e);
    if (k != OK && k != ERR_UNAUTHENTICATED)
        say(stderr, "The server was not told (%s); the sign-in is forgotten here.\n", e.text);
    AUTO(fd) int lock = -1;
    if (credential_lock(&lock, &e) != OK || credential_delete(url, &e) != OK)
        return client_fail(client, &e);
    if (!c->json)
        say(stdout, "Signed out at %s.\n", url);
    else
        printf("{\"server\":\"%s\"}\n", url);
    return EXIT_DONE;
}

const struct verb verb_logout = {
    .name = "logout",
    .summary = "end the sign-in at a server",
    .run = logout_run,
};
