/* drover secret …: texts that jobs get in their environment and nobody reads back. A text comes
 * from standard input, never from the command line, where other people of the host could see it. */
#include "cli/context.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { SECRETS_MAX = 100000, TEXT_MAX = 64 << 10 };

/* All of standard input, less one newline at the end; on a terminal one line that is not shown. */
static int read_text(struct cli *c, const char *name, char **out, struct err *e)
{
    char *text = arena_alloc(&c->arena, TEXT_MAX + 2);
    struct termios shown, hidden;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &shown) == 0;
    size_t n = 0;
    if (terminal) {
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        say(stderr, "Text of %s (not shown): ", name);
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
        n = fgets(text, TEXT_MAX + 2, stdin) != NULL ? strlen(text) : 0;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fputc('\n', stderr);
    } else {
        n = fread(text, 1, TEXT_MAX + 1, stdin);
    }
    if (n > TEXT_MAX)
        return err_set(e, ERR_INVALID, "a secret has at most 64 KiB");
    text[n] = '\0';
    if (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    if (n == 0 || strlen(text) != n)
        return err_set(e, ERR_INVALID,
                       "give the text on standard input: drover secret set %s < FILE", name);
    *out = text;
    return OK;
}

static int set_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(buf) struct buf body = {0};
    AUTO(reply) struct reply r = {0};
    char *text;
    if (read_text(c, p->args[0], &text, &e) != OK || client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "value", text);
    json_close(&j, '}');
    struct call q = {
        .method = "PUT",
        .path = arena_printf(&c->arena, "/v1/secrets/%s", url_part(&c->arena, p->args[0])),
        .body = buf_str(&body)};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        print_json(&r);
    else
        say(stdout, "Kept. Use it: drover submit --secret %s …\n", p->args[0]);
    return EXIT_DONE;
}

static const char *const set_examples[] = {"drover secret set hf-token < token.txt", NULL};
const struct verb verb_secret_set = {
    .name = "secret set",
    .summary = "keep a text for jobs, sealed; asks for it, or reads standard input",
    .arg = {"NAME", ARG_ONE, ARG_TEXT},
    .examples = set_examples,
    .run = set_run,
};

static const struct column columns[] = {{"NAME", .least = 8}, {"CREATED"}, {"SET"}, {0}};

static int list_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (list_all(client, "/v1/secrets?", SECRETS_MAX, &l, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_listing_json(c, &l);
        return EXIT_DONE;
    }
    if (l.items.n == 0) {
        say(stdout, "No secrets. Make one: drover secret set NAME\n");
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, columns);
    for (size_t i = 0; i < l.items.n; i++) {
        const struct jv *s = l.items.items[i];
        struct cell *cell = table_row(&t);
        cell[0].text = jv_get_text(s, "name");
        cell[1].text = text_clock(&c->arena, time_of(s, "created_at"));
        cell[2].text = text_clock(&c->arena, time_of(s, "updated_at"));
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

const struct verb verb_secret_list = {
    .name = "secret list",
    .summary = "list the names of your secrets",
    .run = list_run,
};

static int rm_run(struct cli *c, const struct parsed *p)
{
    return delete_each(c, p, "/v1/secrets/");
}

const struct verb verb_secret_rm = {
    .name = "secret rm",
    .summary = "delete secrets",
    .arg = {"NAME", ARG_MANY, ARG_TEXT},
    .run = rm_run,
};

static int rotate_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    struct call q = {.method = "POST", .path = "/v1/secrets/rotate", .body = "{}"};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json)
        print_json(&r);
    else
        say(stdout, "%lld secrets are under a new key. Keep the key file with the next backup.\n",
            (long long)jv_get_int(r.json, "resealed", 0));
    return EXIT_DONE;
}

const struct verb verb_secret_rotate = {
    .name = "secret rotate",
    .summary = "seal all secrets of the server under a new key (administrators)",
    .run = rotate_run,
};
