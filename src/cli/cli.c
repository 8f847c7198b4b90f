/* The command line's way in: language, verb, options, run. And what verbs share: usage errors,
 * lists that come in pages, questions on the terminal.
 */
#include "cli/cli.h"

#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

const struct verb *const cli_verbs[] = {
    &verb_submit,
    &verb_ps,
    &verb_show,
    &verb_explain,
    &verb_logs,
    &verb_cancel,
    &verb_wait,
    &verb_exec,
    &verb_shell,
    &verb_cp,
    &verb_port_forward,
    &verb_gpus,
    &verb_nodes,
    &verb_simulate,
    &verb_login,
    &verb_logout,
    &verb_user_add,
    &verb_user_list,
    &verb_user_show,
    &verb_user_passwd,
    &verb_user_reset,
    &verb_user_delete,
    &verb_token_create,
    &verb_token_list,
    &verb_token_delete,
    &verb_secret_set,
    &verb_secret_list,
    &verb_secret_rm,
    &verb_secret_rotate,
    &verb_agent_token,
    &verb_agent_tokens,
    &verb_agent_revoke,
    &verb_agent_list,
    &verb_agent_remove,
    &verb_node_lost,
    &verb_session_list,
    &verb_session_end,
    &verb_audit,
    &verb_doctor,
    &verb_completion,
    &verb_version,
    &verb_help,
    NULL,
};

/* ---- shared by verbs ---- */

int usage_error(struct cli *c, const struct verb *v, const struct err *e)
{
    fflush(stdout);
    fprintf(stderr, "%s%s%s\n", hue_on(&c->err, HUE_RED), e->text, hue_off(&c->err, HUE_RED));
    if (v != NULL)
        say(stderr, "  usage: %s\n  more:  drover help %s\n", verb_usage(v, &c->arena), v->name);
    return EXIT_USAGE;
}

void print_json(const struct reply *r)
{
    fwrite(buf_str(&r->body), 1, r->body.len, stdout);
    if (r->body.len == 0 || r->body.data[r->body.len - 1] != '\n')
        fputc('\n', stdout);
}

int64_t time_of(const struct jv *object, const char *name)
{
    const char *text = jv_get_text(object, name);
    int64_t us;
    return text != NULL && time_parse(text, &us) ? us : 0;
}

int list_all(struct client *client, const char *path, size_t most, struct listing *out,
             struct err *e)
{
    AUTO(arena) struct arena a = {0};
    const char *cursor = NULL;
    for (int page = 0; page < PAGES_MAX && out->items.n < most; page++) {
        size_t left = most - out->items.n;
        struct reply *r = mem_alloc(sizeof(*r));
        const char *url = arena_printf(
            &a, "%s%slimit=%zu%s%s", path, path[strlen(path) - 1] == '?' ? "" : "&",
            left < PAGE_MAX ? left : (size_t)PAGE_MAX, cursor != NULL ? "&cursor=" : "",
            cursor != NULL ? url_part(&a, cursor) : "");
        int k = client_call(client, &(struct call){.path = url}, r, e);
        vec_push(&out->replies, r);
        if (k != OK)
            return k;
        const struct jv *items = jv_get(r->json, "items");
        for (size_t i = 0; i < jv_len(items); i++)
            vec_push(&out->items, (void *)jv_at(items, i));
        cursor = jv_get_text(r->json, "next_cursor");
        out->more = cursor != NULL;
        if (cursor == NULL || jv_len(items) == 0)
            break;
    }
    return OK;
}

void listing_fini(struct listing *l)
{
    for (size_t i = 0; i < l->replies.n; i++) {
        reply_fini(l->replies.items[i]);
        mem_free(l->replies.items[i]);
    }
    vec_fini(&l->replies);
    vec_fini(&l->items);
}

void print_listing_json(struct cli *c, const struct listing *l)
{
    printf("{\"items\":[");
    for (size_t i = 0; i < l->items.n; i++)
        printf("%s%s", i > 0 ? "," : "", jv_dump(l->items.items[i], &c->arena));
    printf("]}\n");
}

bool ask(const char *question, bool secret, char *to, size_t room)
{
    AUTO(fd) int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (tty < 0)
        return false;
    struct termios before, quiet;
    bool hidden = secret && tcgetattr(tty, &before) == 0;
    if (hidden) {
        /* Before the question, so that an answer typed at once is not thrown away; and Ctrl-C comes
         * as a character, else it would leave the terminal without echo. */
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
        tcsetattr(tty, TCSAFLUSH, &quiet);
    }
    enum { CTRL_C = 3 };
    size_t n = 0;
    char ch = 0;
    bool asked = write(tty, question, strlen(question)) >= 0;
    while (asked && read(tty, &ch, 1) == 1 && ch != '\n' && !(hidden && ch == CTRL_C))
        if (n + 1 < room)
            to[n++] = ch;
    to[n] = '\0';
    if (hidden) {
        tcsetattr(tty, TCSAFLUSH, &before);
        asked = write(tty, "\n", 1) == 1;
    }
    return asked && ch == '\n';
}

/* ---- the way in ---- */

static enum lang language(void)
{
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value != NULL && *value != '\0')
            return str_starts(value, "zh") ? LANG_ZH : LANG_EN;
    }
    return LANG_EN;
}

/* Part of a family: "user" of "user add". */
static bool is_family(const struct verb *const *verbs, const char *word)
{
    size_t n = strlen(word);
    for (; *verbs != NULL; verbs++)
        if (strncmp((*verbs)->name, word, n) == 0 && (*verbs)->name[n] == ' ')
            return true;
    return false;
}

static int unknown_verb(struct cli *c, const char *word)
{
    const char *best = NULL;
    int least = 3;
    for (const struct verb *const *v = c->verbs; *v != NULL; v++) {
        int d = str_starts((*v)->name, word) ? 1 : word_distance(word, (*v)->name);
        if (d < least) {
            least = d;
            best = (*v)->name;
        }
    }
    struct err e = {0};
    if (best != NULL)
        err_set(&e, ERR_INVALID, "there is no verb \"%s\". Did you mean drover %s?", word, best);
    else
        err_set(&e, ERR_INVALID, "there is no verb \"%s\"; all verbs: drover help", word);
    return usage_error(c, NULL, &e);
}

static int run_verb(struct cli *c, const struct verb *v, int argc, char **argv)
{
    struct parsed p;
    struct err e = {0};
    if (verb_parse(v, argc, argv, &c->arena, &p, &e) != OK)
        return usage_error(c, v, &e);
    if (opt_given(&p, "help")) {
        help_verb(v);
        return EXIT_DONE;
    }
    c->json = opt_given(&p, "json");
    c->server = opt_text(&p, "server");
    if (c->json)
        c->out.tty = c->out.colour = false;
    return v->run(c, &p);
}

static int dispatch(struct cli *c, int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help_all(c->verbs);
        return argc < 2 ? EXIT_USAGE : EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0)
        argv[1] = "version";
    int words;
    const struct verb *v = verb_find(c->verbs, argc - 1, argv + 1, &words);
    if (v == NULL && is_family(c->verbs, argv[1])) {
        help_family(c->verbs, argv[1]);
        bool asked = argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
        return asked ? EXIT_DONE : EXIT_USAGE;
    }
    if (v == NULL)
        return unknown_verb(c, argv[1]);
    if (v->raw == NULL)
        return run_verb(c, v, argc - 1 - words, argv + 1 + words);
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help_verb(v);
            return EXIT_DONE;
        }
    return v->raw(argc - words, argv + words);
}

int cli_main(int argc, char **argv, const struct verb *const *hooks)
{
    struct cli c = {.out = term_of(STDOUT_FILENO), .err = term_of(STDERR_FILENO)};
    struct vec verbs = {0};
    setlocale(LC_CTYPE, "");
    err_translate_with(cli_texts_zh);
    err_lang_set(language());
    for (; hooks != NULL && *hooks != NULL; hooks++)
        vec_push(&verbs, (void *)*hooks);
    for (size_t i = 0; i < ARRAY_LEN(cli_verbs); i++)
        vec_push(&verbs, (void *)cli_verbs[i]);
    c.verbs = (const struct verb *const *)verbs.items;
    int code = dispatch(&c, argc, argv);
    /* A full disk or a closed pipe behind standard output must not look like success. */
    if (fflush(stdout) != 0 && code == EXIT_DONE)
        code = EXIT_FAILED_;
    vec_fini(&verbs);
    arena_fini(&c.arena);
    return code;
}
