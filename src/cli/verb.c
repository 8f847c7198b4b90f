/* Parsing of words by a verb's row. What comes in is the user's own typing: an error says what
 * would have been right.
 */
#include "cli/verb.h"

#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const struct opt common_opts[] = {
    {"json", 0, OPT_FLAG, NULL, "print JSON instead of text"},
    {"server", 0, OPT_TEXT, "URL", "http://host:port or unix:/path, instead of DROVER_URL"},
    {"help", 'h', OPT_FLAG, NULL, "show this help"},
    {0},
};

int word_distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    int row[LONGEST + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int keep = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int less = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = keep < less ? keep : less;
        }
    }
    return row[m];
}

void words_each(const char *words, void (*fn)(void *ctx, const char *word), void *ctx)
{
    char word[64];
    while (words != NULL && *words != '\0') {
        size_t n = strcspn(words, " ");
        if (n > 0 && n < sizeof(word)) {
            memcpy(word, words, n);
            word[n] = '\0';
            fn(ctx, word);
        }
        words += n + (words[n] == ' ');
    }
}

struct choice {
    const char *wanted;
    bool found;
};

static void is_choice(void *ctx, const char *word)
{
    struct choice *c = ctx;
    c->found |= strcmp(word, c->wanted) == 0;
}

/* ---- finding ---- */

const struct verb *verb_find(const struct verb *const *verbs, int argc, char **argv, int *words)
{
    if (argc < 1)
        return NULL;
    char two[64] = "";
    if (argc > 1)
        snprintf(two, sizeof(two), "%s %s", argv[0], argv[1]);
    for (; *verbs != NULL; verbs++) {
        *words = strcmp((*verbs)->name, argv[0]) == 0 ? 1
                 : strcmp((*verbs)->name, two) == 0   ? 2
                                                      : 0;
        if (*words > 0)
            return *verbs;
    }
    return NULL;
}

static const struct opt *find_opt(const struct verb *v, const char *name, size_t n, char letter)
{
    const struct opt *tables[] = {v->opts, common_opts};
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct opt *o = tables[t]; o != NULL && o->name != NULL; o++)
            if (letter != 0 ? o->letter == letter
                            : strlen(o->name) == n && memcmp(o->name, name, n) == 0)
                return o;
    return NULL;
}

static int unknown_option(const struct verb *v, const char *word, struct err *e)
{
    const struct opt *tables[] = {v->opts, common_opts}, *best = NULL;
    int least = 3;
    char name[64];
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
    const char *bare = name + strspn(name, "-");
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct opt *o = tables[t]; o != NULL && o->name != NULL; o++) {
            int d = *bare != '\0' && str_starts(o->name, bare) ? 1 : word_distance(bare, o->name);
            if (d < least) {
                least = d;
                best = o;
            }
        }
    if (best != NULL)
        return err_set(e, ERR_INVALID, "drover %s has no option %s. Did you mean --%s?", v->name,
                       name, best->name);
    return err_set(e, ERR_INVALID, "drover %s has no option %s", v->name, name);
}

/* ---- parsing ---- */

static int parse_value(struct given *g, struct err *e)
{
    const struct opt *o = g->opt;
    struct choice c = {.wanted = g->text};
    switch (o->type) {
    case OPT_INT:
        if (!str_int(g->text, &g->number) || g->number < o->least || g->number > o->most)
            return err_set(e, ERR_INVALID,
                           "--%s takes a whole number from %" PRId64 " to %" PRId64 ", not \"%s\"",
                           o->name, o->least, o->most, g->text);
        return OK;
    case OPT_DURATION:
        if (!duration_parse(g->text, &g->number) || g->number <= 0)
            return err_set(e, ERR_INVALID,
                           "--%s takes a duration such as 90s, 15m, 2h or 1d12h, not \"%s\"",
                           o->name, g->text);
        return OK;
    case OPT_BYTES:
        if (!bytes_parse(g->text, &g->number) || g->number <= 0)
            return err_set(e, ERR_INVALID, "--%s takes an amount such as 512M or 4G, not \"%s\"",
                           o->name, g->text);
        return OK;
    case OPT_CHOICE:
        words_each(o->choices, is_choice, &c);
        if (!c.found)
            return err_set(e, ERR_INVALID, "--%s takes one of: %s; not \"%s\"", o->name, o->choices,
                           g->text);
        return OK;
    case OPT_FLAG:
    case OPT_TEXT:
        return OK;
    }
    return OK;
}

static int add_given(struct parsed *p, struct given ***last, const struct opt *o, const char *text,
                     struct arena *a, struct err *e)
{
    struct given *g = arena_alloc(a, sizeof(*g));
    g->opt = o;
    g->text = text;
    **last = g;
    *last = &g->next;
    return text != NULL ? parse_value(g, e) : OK;
}

static int too_many(const struct verb *v, const char *word, struct err *e)
{
    if (v->command)
        return err_set(e, ERR_INVALID, "\"%s\" is too much here: put -- before the command", word);
    return err_set(e, ERR_INVALID, "drover %s does not take \"%s\"", v->name, word);
}

static int check_count(const struct verb *v, const struct parsed *p, struct err *e)
{
    enum arg_count count = v->arg.name != NULL ? v->arg.count : ARG_NONE;
    if (p->n_args == 0 && (count == ARG_ONE || count == ARG_MANY) && !opt_given(p, "help"))
        return err_set(e, ERR_INVALID, "drover %s needs %s", v->name, v->arg.name);
    if (p->n_args > 0 && count == ARG_NONE)
        return too_many(v, p->args[0], e);
    if (p->n_args > 1 && (count == ARG_ONE || count == ARG_OPTIONAL))
        return too_many(v, p->args[1], e);
    return OK;
}

int verb_parse(const struct verb *v, int argc, char **argv, struct arena *a, struct parsed *out,
               struct err *e)
{
    struct parsed p = {.verb = v};
    struct given **last = &p.given;
    if (argc > ARGS_MAX)
        return err_set(e, ERR_INVALID, "more than %d words are too many", (int)ARGS_MAX);
    p.args = arena_alloc(a, sizeof(*p.args) * ((size_t)argc + 1));
    p.command = arena_alloc(a, sizeof(*p.command) * ((size_t)argc + 1));
    int k = OK;
    for (int i = 0; i < argc && k == OK; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--") == 0 && v->command) {
            p.has_command = true;
            for (i++; i < argc; i++)
                p.command[p.n_command++] = argv[i];
            break;
        }
        if (word[0] != '-' || word[1] == '\0') {
            p.args[p.n_args++] = word;
            continue;
        }
        if (word[1] == '-') {
            size_t n = strcspn(word + 2, "=");
            const struct opt *o = find_opt(v, word + 2, n, 0);
            const char *value = word[2 + n] == '=' ? word + 3 + n : NULL;
            if (o == NULL)
                return unknown_option(v, word, e);
            if (o->type == OPT_FLAG && value != NULL)
                return err_set(e, ERR_INVALID, "--%s takes no value", o->name);
            if (o->type != OPT_FLAG && value == NULL) {
                if (i + 1 >= argc)
                    return err_set(e, ERR_INVALID, "--%s needs a value: --%s %s", o->name, o->name,
                                   o->metavar);
                value = argv[++i];
            }
            k = add_given(&p, &last, o, value, a, e);
            continue;
        }
        for (const char *l = word + 1; *l != '\0' && k == OK; l++) {
            const struct opt *o = find_opt(v, NULL, 0, *l);
            if (o == NULL)
                return unknown_option(v, word, e);
            const char *value = NULL;
            if (o->type != OPT_FLAG) {
                if (l[1] == '\0' && i + 1 >= argc)
                    return err_set(e, ERR_INVALID, "-%c needs a value: -%c %s", *l, *l, o->metavar);
                value = l[1] != '\0' ? l + 1 : argv[++i];
                l = "-"; /* the word is used up */
            }
            k = add_given(&p, &last, o, value, a, e);
        }
    }
    if (k == OK)
        k = check_count(v, &p, e);
    if (k == OK)
        *out = p;
    return k;
}

const struct given *opt_next(const struct parsed *p, const char *name, const struct given *at)
{
    for (at = at != NULL ? at->next : p->given; at != NULL; at = at->next)
        if (strcmp(at->opt->name, name) == 0)
            return at;
    return NULL;
}

static const struct given *opt_last(const struct parsed *p, const char *name)
{
    const struct given *found = NULL, *at = NULL;
    while ((at = opt_next(p, name, at)) != NULL)
        found = at;
    return found;
}

bool opt_given(const struct parsed *p, const char *name)
{
    return opt_last(p, name) != NULL;
}

const char *opt_text(const struct parsed *p, const char *name)
{
    const struct given *g = opt_last(p, name);
    return g != NULL ? g->text : NULL;
}

int64_t opt_number(const struct parsed *p, const char *name, int64_t otherwise)
{
    const struct given *g = opt_last(p, name);
    return g != NULL ? g->number : otherwise;
}
