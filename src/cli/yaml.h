/* A small YAML document as a tree with line numbers: mappings, sequences and scalars as they were
 * written. Anchors, aliases, tags, second documents and repeated keys are refused, each with its
 * line. The only file that knows libyaml is yaml.c. Threads: any. */
#ifndef CLI_YAML_H
#define CLI_YAML_H

#include "base/err.h"
#include "base/mem.h"

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };
struct yaml {
    enum yaml_kind kind;
    int line;                  /* from 1 */
    const char *text;          /* scalar; a NUL inside is refused */
    bool quoted;               /* "5" and '5' are text, 5 is a number */
    const char *key;           /* member of a map */
    struct yaml *first, *next; /* members of a list or map; siblings */
};

enum { YAML_SIZE_MAX = 1 << 20 }; /* a job file: protects memory */
/* The tree lies in the arena. name is used in errors: "job.yaml:3: …". */
int yaml_parse(const char *name, const char *text, size_t n, struct arena *a, struct yaml **out,
               struct err *e);
/* Plain and one of: empty, ~, null. */
bool yaml_is_null(const struct yaml *y);

#endif
