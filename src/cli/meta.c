/* The verbs about the program itself: version, completion, help. None needs a server. */
#include "cli/context.h"

#include <stdio.h>
#include <string.h>

static int version_run(struct cli *c, const struct parsed *p)
{
    if (c->json)
        printf("{\"version\":\"%s\",\"api\":\"v1\"}\n", DROVER_VERSION);
    else
        printf("drover %s\n", DROVER_VERSION);
    return EXIT_DONE;
}

const struct verb verb_version = {
    .name = "version",
    .summary = "print this program's version",
    .run = version_run,
};

static int completion_run(struct cli *c, const struct parsed *p)
{
    AUTO(buf) struct buf b = {0};
    if (!completion_write(c->verbs, p->args[0], &b)) {
        struct err e = {0};
        err_set(&e, ERR_INVALID, "there is completion for bash, zsh and fish, not for \"%s\"",
                p->args[0]);
        return usage_error(c, p->verb, &e);
    }
    fwrite(b.data, 1, b.len, stdout);
    return EXIT_DONE;
}

static const char *const completion_examples[] = {
    "source <(drover completion bash)",
    "drover completion fish > ~/.config/fish/completions/drover.fish",
    NULL,
};
const struct verb verb_completion = {
    .name = "completion",
    .summary = "print a completion script for a shell",
    .arg = {"SHELL", ARG_ONE, ARG_CHOICE, "bash zsh fish"},
    .examples = completion_examples,
    .run = completion_run,
};

static int help_run(struct cli *c, const struct parsed *p)
{
    char *words[2] = {p->n_args > 0 ? (char *)p->args[0] : NULL,
                      p->n_args > 1 ? (char *)p->args[1] : NULL};
    int took;
    bool man = opt_given(p, "man");
    AUTO(buf) struct buf page = {0};
    if (p->n_args == 0 && man) {
        man_all(c->verbs, &page);
        fputs(buf_str(&page), stdout);
        return EXIT_DONE;
    }
    if (p->n_args == 0) {
        help_all(c->verbs);
        return EXIT_DONE;
    }
    const struct verb *v = verb_find(c->verbs, (int)(p->n_args > 1 ? 2 : 1), words, &took);
    if (v != NULL && man) {
        man_verb(v, &page);
        fputs(buf_str(&page), stdout);
        return EXIT_DONE;
    }
    if (v != NULL) {
        help_verb(v);
        return EXIT_DONE;
    }
    size_t n = strlen(words[0]);
    for (const struct verb *const *f = c->verbs; *f != NULL; f++)
        if (strncmp((*f)->name, words[0], n) == 0 && (*f)->name[n] == ' ') {
            help_family(c->verbs, words[0]);
            return EXIT_DONE;
        }
    struct err e = {0};
    err_set(&e, ERR_INVALID, "there is no verb \"%s\"; all verbs: drover help", words[0]);
    return usage_error(c, NULL, &e);
}

static const struct opt help_opts[] = {
    {"man", 0, OPT_FLAG, NULL, "as a manual page: drover help --man VERB | man -l -"},
    {0},
};
const struct verb verb_help = {
    .name = "help",
    .summary = "explain a verb",
    .arg = {"VERB", ARG_ANY, ARG_VERB},
    .opts = help_opts,
    .run = help_run,
};
