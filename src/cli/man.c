/* Manual pages, from the verb table: `drover help --man [VERB]` writes roff of man(7). A line of
 * the table never becomes a request: what roff would read as one is escaped. */
#include "cli/verb.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

static void roff(struct buf *to, const char *s)
{
    if (*s == '.' || *s == '\'')
        buf_adds(to, "\\&");
    for (; *s != '\0'; s++) {
        if (*s == '\\')
            buf_adds(to, "\\e");
        else if (*s == '-')
            buf_adds(to, "\\-");
        else if (*s == '\n')
            buf_addc(to, ' ');
        else
            buf_addc(to, *s);
    }
    buf_addc(to, '\n');
}

static void opts(struct buf *to, const struct opt *o)
{
    for (; o != NULL && o->name != NULL; o++) {
        buf_adds(to, ".TP\n");
        if (o->letter != 0)
            buf_printf(to, "\\fB\\-%c\\fR, ", o->letter);
        buf_adds(to, "\\fB\\-\\-");
        for (const char *c = o->name; *c != '\0'; c++)
            buf_printf(to, "%s%c", *c == '-' ? "\\" : "", *c);
        buf_printf(to, "\\fR%s%s%s%s\n", o->metavar != NULL ? " \\fI" : "",
                   o->metavar != NULL ? o->metavar : "", o->metavar != NULL ? "\\fR" : "",
                   o->many ? " ..." : "");
        roff(to, err_tr(o->help));
    }
}

void man_verb(const struct verb *v, struct buf *to)
{
    AUTO(arena) struct arena a = {0};
    char name[64];
    snprintf(name, sizeof(name), "drover-%s", v->name);
    for (char *c = name; *c != '\0'; c++)
        *c = *c == ' ' ? '-' : *c;
    buf_printf(to, ".TH \"%s\" 1 \"\" \"drover %s\" \"Drover\"\n.SH NAME\n%s \\- ", name,
               DROVER_VERSION, name);
    roff(to, err_tr(v->summary));
    buf_adds(to, ".SH SYNOPSIS\n");
    roff(to, verb_usage(v, &a));
    if (v->about != NULL) {
        buf_adds(to, ".SH DESCRIPTION\n");
        roff(to, err_tr(v->about));
    }
    buf_adds(to, ".SH OPTIONS\n");
    opts(to, v->opts);
    opts(to, common_opts);
    for (const char *const *x = v->examples; x != NULL && *x != NULL; x++) {
        buf_adds(to, x == v->examples ? ".SH EXAMPLES\n.nf\n" : "");
        roff(to, *x);
    }
    buf_adds(to, v->examples != NULL ? ".fi\n" : "");
}

void man_all(const struct verb *const *verbs, struct buf *to)
{
    buf_printf(to, ".TH \"drover\" 1 \"\" \"drover %s\" \"Drover\"\n.SH NAME\ndrover \\- ",
               DROVER_VERSION);
    roff(to, err_tr("one program that runs a fleet of GPUs"));
    buf_adds(to, ".SH SYNOPSIS\ndrover VERB [OPTIONS] ...\n.SH VERBS\n");
    for (; *verbs != NULL; verbs++) {
        buf_printf(to, ".TP\n\\fBdrover %s\\fR\n", (*verbs)->name);
        roff(to, err_tr((*verbs)->summary));
    }
}
