/* Help, from the verb table: `drover help`, `drover help VERB`, `drover VERB --help`. */
#include "cli/out.h"
#include "cli/verb.h"

#include "base/str.h"

#include <string.h>
#include <unistd.h>

enum { HELP_WIDTH_MAX = 80, OPTION_COLUMN = 27, VERB_COLUMN = 16 };

static size_t help_width(void)
{
    struct term t = term_of(STDOUT_FILENO);
    return t.width == 0 || t.width > HELP_WIDTH_MAX ? HELP_WIDTH_MAX : (size_t)t.width;
}

const char *verb_usage(const struct verb *v, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "drover %s [%s]", v->name, err_tr("OPTIONS"));
    static const char *const forms[] = {[ARG_NONE] = "",
                                        [ARG_ONE] = " %s",
                                        [ARG_OPTIONAL] = " [%s]",
                                        [ARG_MANY] = " %s…",
                                        [ARG_ANY] = " [%s…]"};
    if (v->arg.name != NULL)
        for (const char *f = forms[v->arg.count]; *f != '\0'; f++) {
            if (*f == '%') {
                buf_adds(&b, v->arg.name);
                f++;
            } else {
                buf_addc(&b, *f);
            }
        }
    if (v->command)
        buf_adds(&b, v->arg.name != NULL ? " [-- COMMAND…]" : " -- COMMAND…");
    return arena_strdup(a, buf_str(&b));
}

static void print_row(const char *left, const char *text, size_t column)
{
    size_t used = utf8_width(left) + 2;
    fputs("  ", stdout);
    fputs(left, stdout);
    if (used + 2 > column) {
        fputc('\n', stdout);
        used = 0;
    }
    pad(stdout, column - used);
    text_wrap(stdout, text, column, help_width());
}

static void print_opts(const struct opt *o)
{
    for (; o != NULL && o->name != NULL; o++) {
        char left[96], letter[8] = "    ";
        if (o->letter != 0)
            snprintf(letter, sizeof(letter), "-%c, ", o->letter);
        snprintf(left, sizeof(left), "%s--%s%s%s%s", letter, o->name, o->metavar != NULL ? " " : "",
                 o->metavar != NULL ? o->metavar : "", o->many ? " …" : "");
        print_row(left, err_tr(o->help), OPTION_COLUMN);
    }
}

void help_verb(const struct verb *v)
{
    AUTO(arena) struct arena a = {0};
    printf("%s\n\n", verb_usage(v, &a));
    text_wrap(stdout, err_tr(v->summary), 0, help_width());
    if (v->about != NULL) {
        fputc('\n', stdout);
        text_wrap(stdout, err_tr(v->about), 0, help_width());
    }
    say(stdout, "\noptions\n");
    print_opts(v->opts);
    print_opts(common_opts);
    if (v->examples != NULL) {
        say(stdout, "\nexamples\n");
        for (const char *const *x = v->examples; *x != NULL; x++)
            printf("  %s\n", *x);
    }
}

void help_family(const struct verb *const *verbs, const char *family)
{
    AUTO(arena) struct arena a = {0};
    for (; *verbs != NULL; verbs++)
        if (str_starts((*verbs)->name, family) && (*verbs)->name[strlen(family)] == ' ')
            print_row(arena_strdup(&a, (*verbs)->name), err_tr((*verbs)->summary), VERB_COLUMN + 2);
}

/* A family is one row: "user add|list|show". Only its first verb is asked. */
static void print_family(const struct verb *const *v)
{
    size_t n = strcspn((*v)->name, " ");
    AUTO(buf) struct buf words = {0};
    AUTO(buf) struct buf name = {0};
    buf_printf(&name, "%.*s", (int)n, (*v)->name);
    for (; *v != NULL && strncmp((*v)->name, name.data, n) == 0 && (*v)->name[n] == ' '; v++)
        buf_printf(&words, "%s%s", words.len > 0 ? ", " : "", (*v)->name + n + 1);
    print_row(name.data, buf_str(&words), VERB_COLUMN);
}

void help_all(const struct verb *const *verbs)
{
    say(stdout, "drover: one program that runs a fleet of GPUs\n");
    say(stdout, "usage: drover VERB [OPTIONS] …      more about one: drover help VERB\n\n");
    const char *before = "";
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        size_t n = strcspn((*v)->name, " ");
        if ((*v)->name[n] == '\0')
            print_row((*v)->name, err_tr((*v)->summary), VERB_COLUMN);
        else if (strncmp(before, (*v)->name, n + 1) != 0)
            print_family(v);
        before = (*v)->name;
    }
    say(stdout, "\nDROVER_URL names the server and DROVER_TOKEN the credential; without them the\n"
                "local server is used. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server\n"
                "cannot be reached, 4 not allowed.\n");
}
