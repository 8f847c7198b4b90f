/* Shell completion, written from the verb table: a script for bash, zsh or fish. Job ids are asked
 * from the server by `drover ps -q`. Options and words hold letters and dashes only, so that
 * nothing needs quoting; help texts are quoted where they are shown.
 */
#include "cli/verb.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

static void add_opts(const struct opt *o, struct buf *to)
{
    for (; o != NULL && o->name != NULL; o++)
        buf_printf(to, " --%s", o->name);
}

/* First words of all verbs, each once. */
static void add_first_words(const struct verb *const *verbs, struct buf *to)
{
    const char *before = "";
    for (; *verbs != NULL; verbs++) {
        size_t n = strcspn((*verbs)->name, " ");
        if (strncmp(before, (*verbs)->name, n) != 0 || strcspn(before, " ") != n)
            buf_printf(to, "%s%.*s", to->len > 0 ? " " : "", (int)n, (*verbs)->name);
        before = (*verbs)->name;
    }
}

static void add_family(const struct verb *const *verbs, const char *family, size_t n,
                       struct buf *to)
{
    for (; *verbs != NULL; verbs++)
        if (strncmp((*verbs)->name, family, n) == 0 && (*verbs)->name[n] == ' ')
            buf_printf(to, "%s%s", to->len > 0 ? " " : "", (*verbs)->name + n + 1);
}

/* The words offered for a verb's argument, in the shell's own words. */
static const char *arg_words(const struct verb *v, const char *first_words)
{
    if (v->arg.name == NULL)
        return "";
    switch (v->arg.what) {
    case ARG_JOB:
        return "$(drover ps -q --all 2>/dev/null)";
    case ARG_VERB:
        return first_words;
    case ARG_CHOICE:
        return v->arg.choices;
    default:
        return "";
    }
}

/* What follows an option that takes a value. */
static void bash_values(const struct opt *o, struct buf *to)
{
    for (; o != NULL && o->name != NULL; o++) {
        if (o->choices != NULL)
            buf_printf(to, "        --%s) words='%s' ;;\n", o->name, o->choices);
        else if (o->metavar != NULL)
            buf_printf(to, "        --%s) return ;;\n", o->name);
    }
}

static void write_bash(const struct verb *const *verbs, struct buf *to)
{
    AUTO(buf) struct buf first = {0};
    add_first_words(verbs, &first);
    buf_adds(to,
             "# bash completion for drover:  source <(drover completion bash)\n"
             "_drover() {\n"
             "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= i\n"
             "    COMPREPLY=()\n"
             "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
             "        if [[ ${COMP_WORDS[i]} == -- ]]; then\n"
             "            COMPREPLY=($(compgen -c -f -- \"$cur\"))\n"
             "            return\n"
             "        fi\n"
             "    done\n"
             "    if ((COMP_CWORD == 1)); then\n");
    buf_printf(to, "        COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n", buf_str(&first));
    buf_adds(to, "        return\n"
                 "    fi\n"
                 "    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        const char *name = (*v)->name;
        bool family = strchr(name, ' ') != NULL;
        buf_printf(to, "    \"%s\"%s)\n        case $prev in\n", name, family ? "" : "\\ *");
        bash_values((*v)->opts, to);
        bash_values(common_opts, to);
        buf_adds(to, "        *) words=\"");
        buf_adds(to, arg_words(*v, buf_str(&first)));
        add_opts((*v)->opts, to);
        add_opts(common_opts, to);
        buf_adds(to, "\" ;;\n        esac\n");
        if ((*v)->arg.what == ARG_FILE)
            buf_adds(to, "        [[ $cur == -* || $prev == --* ]] || COMPREPLY=($(compgen -f -- "
                         "\"$cur\"))\n");
        buf_adds(to, "        ;;\n");
    }
    const char *before = "";
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        size_t n = strcspn((*v)->name, " ");
        if ((*v)->name[n] == ' ' && strncmp(before, (*v)->name, n + 1) != 0) {
            AUTO(buf) struct buf second = {0};
            add_family(verbs, (*v)->name, n, &second);
            buf_printf(to, "    \"%.*s \"*) words='%s' ;;\n", (int)n, (*v)->name, buf_str(&second));
        }
        before = (*v)->name;
    }
    buf_adds(to, "    esac\n"
                 "    COMPREPLY+=($(compgen -W \"$words\" -- \"$cur\"))\n"
                 "}\n"
                 "complete -F _drover drover\n");
}

/* Text between single quotes of a shell. */
static void add_quoted(const char *s, struct buf *to)
{
    buf_addc(to, '\'');
    for (; *s != '\0'; s++)
        if (*s == '\'')
            buf_adds(to, "'\\''");
        else
            buf_addc(to, *s);
    buf_addc(to, '\'');
}

/* zsh's 'name:meaning' with its own colons hidden. */
static void add_described(const char *name, const char *help, struct buf *to)
{
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "%s:", name);
    for (; *help != '\0'; help++) {
        if (*help == ':')
            buf_addc(&b, '\\');
        buf_addc(&b, *help);
    }
    add_quoted(buf_str(&b), to);
}

static void zsh_opts(const struct opt *o, struct buf *to)
{
    for (; o != NULL && o->name != NULL; o++) {
        AUTO(buf) struct buf b = {0};
        buf_printf(&b, "%s--%s", o->many ? "*" : "", o->name);
        buf_printf(&b, "%s[", o->metavar != NULL ? "=" : "");
        for (const char *h = err_tr(o->help); *h != '\0'; h++)
            buf_addc(&b, *h == '[' ? '(' : *h == ']' ? ')' : *h);
        buf_addc(&b, ']');
        if (o->choices != NULL)
            buf_printf(&b, ":%s:(%s)", o->metavar, o->choices);
        else if (o->metavar != NULL)
            buf_printf(&b, ":%s:", o->metavar);
        buf_adds(to, " \\\n            ");
        add_quoted(buf_str(&b), to);
    }
}

static void write_zsh(const struct verb *const *verbs, struct buf *to)
{
    AUTO(buf) struct buf first = {0};
    add_first_words(verbs, &first);
    buf_adds(to, "#compdef drover\n"
                 "# zsh completion for drover:  source <(drover completion zsh)\n"
                 "_drover_jobs() { compadd -- $(drover ps -q --all 2>/dev/null) }\n"
                 "_drover() {\n"
                 "    local -a verbs\n"
                 "    verbs=(");
    const char *before = "";
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        size_t n = strcspn((*v)->name, " ");
        char word[64];
        snprintf(word, sizeof(word), "%.*s", (int)n, (*v)->name);
        if (strncmp(before, word, n) != 0 || strcspn(before, " ") != n) {
            buf_adds(to, "\n        ");
            add_described(word, err_tr((*v)->summary), to);
        }
        before = (*v)->name;
    }
    buf_adds(to, ")\n"
                 "    if ((CURRENT == 2)); then\n"
                 "        _describe verb verbs\n"
                 "        return\n"
                 "    fi\n"
                 "    case \"$words[2] $words[3]\" in\n");
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        bool family = strchr((*v)->name, ' ') != NULL;
        buf_printf(to, "    \"%s\"%s)\n        shift %d words\n        ((CURRENT -= %d))\n",
                   (*v)->name, family ? "" : "\\ *", family ? 2 : 1, family ? 2 : 1);
        buf_adds(to, "        _arguments -s");
        zsh_opts((*v)->opts, to);
        zsh_opts(common_opts, to);
        static const char *const what[] = {
            [ARG_TEXT] = " ", [ARG_JOB] = "_drover_jobs", [ARG_FILE] = "_files"};
        if ((*v)->arg.name != NULL) {
            const struct arg *arg = &(*v)->arg;
            const char *words = arg->what == ARG_VERB ? buf_str(&first) : arg->choices;
            bool several = arg->count == ARG_MANY || arg->count == ARG_ANY || (*v)->command;
            buf_printf(to, " \\\n            '%s:%s:", several ? "*" : "1", arg->name);
            if (arg->what == ARG_VERB || arg->what == ARG_CHOICE)
                buf_printf(to, "(%s)'", words);
            else
                buf_printf(to, "%s'", what[arg->what]);
        }
        buf_adds(to, "\n        ;;\n");
    }
    before = "";
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        size_t n = strcspn((*v)->name, " ");
        if ((*v)->name[n] == ' ' && strncmp(before, (*v)->name, n + 1) != 0) {
            AUTO(buf) struct buf second = {0};
            add_family(verbs, (*v)->name, n, &second);
            buf_printf(to, "    \"%.*s \"*) compadd -- %s ;;\n", (int)n, (*v)->name,
                       buf_str(&second));
        }
        before = (*v)->name;
    }
    buf_adds(to, "    esac\n"
                 "}\n"
                 "compdef _drover drover\n");
}

static void fish_opts(const struct opt *o, const char *when, struct buf *to)
{
    for (; o != NULL && o->name != NULL; o++) {
        buf_printf(to, "complete -c drover -n '%s' -l %s", when, o->name);
        if (o->letter != 0)
            buf_printf(to, " -s %c", o->letter);
        if (o->choices != NULL)
            buf_printf(to, " -xa '%s'", o->choices);
        else if (o->metavar != NULL)
            buf_adds(to, " -r");
        buf_adds(to, " -d ");
        add_quoted(err_tr(o->help), to);
        buf_addc(to, '\n');
    }
}

static void write_fish(const struct verb *const *verbs, struct buf *to)
{
    AUTO(buf) struct buf first = {0};
    add_first_words(verbs, &first);
    buf_adds(to, "# fish completion for drover:  drover completion fish | source\n"
                 "complete -c drover -f\n");
    fish_opts(common_opts, "true", to);
    const char *before = "";
    for (const struct verb *const *v = verbs; *v != NULL; v++) {
        const char *name = (*v)->name;
        size_t n = strcspn(name, " ");
        if (strncmp(before, name, n) != 0 || strcspn(before, " ") != n) {
            buf_printf(to, "complete -c drover -n __fish_use_subcommand -a %.*s -d ", (int)n, name);
            add_quoted(err_tr((*v)->summary), to);
            buf_addc(to, '\n');
        }
        before = name;
        char when[160];
        if (name[n] == ' ') {
            buf_printf(to,
                       "complete -c drover -n '__fish_seen_subcommand_from %.*s; and test (count "
                       "(commandline -opc)) -eq 2' -a %s -d ",
                       (int)n, name, name + n + 1);
            add_quoted(err_tr((*v)->summary), to);
            buf_addc(to, '\n');
            snprintf(when, sizeof(when),
                     "__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s", (int)n,
                     name, name + n + 1);
        } else {
            snprintf(when, sizeof(when), "__fish_seen_subcommand_from %s", name);
        }
        fish_opts((*v)->opts, when, to);
        if ((*v)->arg.name == NULL)
            continue;
        if ((*v)->arg.what == ARG_JOB)
            buf_printf(to, "complete -c drover -n '%s' -a '(drover ps -q --all 2>/dev/null)'\n",
                       when);
        else if ((*v)->arg.what == ARG_FILE)
            buf_printf(to, "complete -c drover -n '%s' -F\n", when);
        else if ((*v)->arg.what == ARG_VERB || (*v)->arg.what == ARG_CHOICE)
            buf_printf(to, "complete -c drover -n '%s' -a '%s'\n", when,
                       (*v)->arg.what == ARG_VERB ? buf_str(&first) : (*v)->arg.choices);
    }
}

bool completion_write(const struct verb *const *verbs, const char *shell, struct buf *to)
{
    if (strcmp(shell, "bash") == 0)
        write_bash(verbs, to);
    else if (strcmp(shell, "zsh") == 0)
        write_zsh(verbs, to);
    else if (strcmp(shell, "fish") == 0)
        write_fish(verbs, to);
    else
        return false;
    return true;
}
