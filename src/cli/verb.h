/* The verb table: one row says a verb's name, arguments, options, help and examples; parsing,
 * usage errors, help and shell completion are derived from it.
 *
 * Threads: the tables are const; parsing is pure. */
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>

struct cli;

enum opt_type { OPT_FLAG, OPT_TEXT, OPT_INT, OPT_DURATION, OPT_BYTES, OPT_CHOICE };
struct opt {
    const char *name; /* "gpus": --gpus */
    char letter;      /* 'f': -f; 0: none */
    enum opt_type type;
    const char *metavar; /* "N"; NULL for a flag */
    const char *help;    /* one line, no full stop */
    int64_t least, most; /* OPT_INT */
    const char *choices; /* OPT_CHOICE: "low normal high"; OPT_TEXT: only offered */
    bool many;           /* may be given again; else the last one counts */
};

enum arg_count { ARG_NONE, ARG_ONE, ARG_OPTIONAL, ARG_MANY, ARG_ANY };
/* What a shell offers for an argument. */
enum arg_what { ARG_TEXT, ARG_JOB, ARG_FILE, ARG_VERB, ARG_CHOICE };
struct arg {
    const char *name; /* "ID"; NULL: takes none */
    enum arg_count count;
    enum arg_what what;
    const char *choices;
};

struct parsed;
struct verb {
    const char *name;    /* "submit", or "user add" */
    const char *summary; /* one line */
    const char *about;   /* more, may be NULL */
    struct arg arg;
    bool command;                /* takes "-- COMMAND…" */
    const struct opt *opts;      /* ends with a row without name; NULL: none */
    const char *const *examples; /* NULL-terminated; NULL: none */
    int (*run)(struct cli *c, const struct parsed *p);
    int (*raw)(int argc, char **argv); /* instead of run: parses by itself */
};

enum { ARGS_MAX = 1024 };
struct given {
    const struct opt *opt;
    const char *text; /* NULL for a flag */
    int64_t number;   /* OPT_INT; OPT_DURATION: µs; OPT_BYTES */
    struct given *next;
};
struct parsed {
    const struct verb *verb;
    const char **args;
    size_t n_args;
    const char **command; /* what follows "--" */
    size_t n_command;
    bool has_command;    /* "--" was there */
    struct given *given; /* in order */
};

/* Options that every verb takes: --json, --server, --help. */
extern const struct opt common_opts[];

/* Words behind the verb's name. ERR_INVALID: wrong usage. */
int verb_parse(const struct verb *v, int argc, char **argv, struct arena *a, struct parsed *out,
               struct err *e);
bool opt_given(const struct parsed *p, const char *name);
const char *opt_text(const struct parsed *p, const char *name); /* NULL: not */
int64_t opt_number(const struct parsed *p, const char *name, int64_t otherwise);
/* All of an option that may be repeated: start with NULL; NULL at the end. */
const struct given *opt_next(const struct parsed *p, const char *name, const struct given *at);

/* Finds the verb at argv[0] (and argv[1]); *words tells how many it took. NULL: none. */
const struct verb *verb_find(const struct verb *const *verbs, int argc, char **argv, int *words);
/* Calls fn for the words of a list such as "low normal high". */
void words_each(const char *words, void (*fn)(void *ctx, const char *word), void *ctx);
/* How many letters must change; large when they have little in common. */
int word_distance(const char *a, const char *b);

/* help.c */
void help_all(const struct verb *const *verbs);
void help_verb(const struct verb *v);
void help_family(const struct verb *const *verbs, const char *family);
/* "drover submit [OPTIONS] [FILE] [-- COMMAND…]" */
const char *verb_usage(const struct verb *v, struct arena *a);

/* man.c: roff of man(7) */
void man_verb(const struct verb *v, struct buf *to);
void man_all(const struct verb *const *verbs, struct buf *to);

/* completion.c: gives false for an unknown shell */
bool completion_write(const struct verb *const *verbs, const char *shell, struct buf *to);

#endif
