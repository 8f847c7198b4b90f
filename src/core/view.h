/* A view: how a struct looks on the wire. One table gives parsing with precise errors,
 * serialising, and the OpenAPI schema.
 *
 * A field without a type of its own takes type, bounds, names and meaning from the record's
 * member at the same offset, so that nothing is said twice. view_link() does that once at
 * start-up and fails there, not at the first request.
 *
 * Absent is not null: a view with VIEW_SEEN parses into a struct whose first member is
 * `uint64_t seen`; bit i is set when field i was sent, null included.
 *
 * Threads: linked once before threads start; const afterwards.
 */
#ifndef CORE_VIEW_H
#define CORE_VIEW_H

#include "base/json.h"
#include "core/record.h"
#include "io/json_in.h"

enum {
    F_REQUIRED = 1,  /* must be sent */
    F_NULL = 2,      /* null is welcome; on output: may be null */
    F_SOMETIMES = 4, /* output: left out when null, or false */
    F_POINTER = 8,   /* T_OBJECT: the member is a pointer to the struct; NULL is null */
    F_EMAIL = 16,    /* T_TEXT: must look like an address (RFC 5321 sizes) */
    F_ANYCASE = 32,  /* T_ENUM: text in any case */
    F_FORM = 64,     /* accepted and ignored */
    F_TOLD = 128,    /* T_TEXT: made by us in English; told in the reader's language (err_retell) */
};
enum {
    VIEW_SEEN = 1, /* parses presence into the leading `uint64_t seen` */
    VIEW_OPEN = 2, /* output may carry members that the table does not list (free objects) */
};

struct field {
    const char *name; /* on the wire */
    size_t offset;
    unsigned flags;
    enum type type;           /* T_NONE: from the record, or any JSON when `get` writes it */
    int64_t min, max;         /* 0,0: from the record, else no bound */
    const char *const *names; /* T_ENUM: words on the wire by value (a state mapping) */
    const char *prefix;       /* T_ID */
    const char *doc;
    const char *def;       /* JSON text used when absent; NULL: null (or required) */
    const struct view *of; /* T_OBJECT, T_LIST; for T_NONE with get: its schema */
    void (*get)(struct json *j, const void *obj); /* writes the value instead */
    const char *schema; /* OpenAPI schema text for `get` or T_JSON fields */
};

struct view {
    const char *name; /* component name in OpenAPI */
    size_t size;
    const struct record *record; /* NULL: every field says its own type */
    const struct field *raw;
    struct field *fields; /* linked copy */
    size_t n;
    unsigned flags;
    const char *doc;
};

#define FIELD(S, wire, m, T, ...)                                                                  \
    {                                                                                              \
        .name = wire, .offset = TYPED_OFFSET(S, m, T), .type = T, __VA_ARGS__                      \
    }
/* a member of the view's record: type and bounds from there */
#define SAME(S, wire, m, ...)                                                                      \
    {                                                                                              \
        .name = wire, .offset = offsetof(S, m), __VA_ARGS__                                        \
    }
#define OBJECT(S, wire, m, view_, ...)                                                             \
    {                                                                                              \
        .name = wire, .offset = offsetof(S, m), .type = T_OBJECT, .of = view_, __VA_ARGS__         \
    }
#define LIST(S, wire, m, view_, ...)                                                               \
    {                                                                                              \
        .name = wire, .offset = TYPED_OFFSET(S, m, T_LIST), .type = T_LIST, .of = view_,           \
        __VA_ARGS__                                                                                \
    }
#define COMPUTED(wire, get_, schema_, ...)                                                         \
    {                                                                                              \
        .name = wire, .get = get_, .schema = schema_, __VA_ARGS__                                  \
    }
/* A view that other files use (declare it in a header), and one of this file alone. */
#define VIEW(ident, S, name_, record_, flags_, ...)                                                \
    VIEW_PARTS_(ident, __VA_ARGS__);                                                               \
    const struct view ident = VIEW_VALUE_(ident, S, name_, record_, flags_)
#define LOCAL_VIEW(ident, S, name_, record_, flags_, ...)                                          \
    VIEW_PARTS_(ident, __VA_ARGS__);                                                               \
    static const struct view ident = VIEW_VALUE_(ident, S, name_, record_, flags_)
#define VIEW_PARTS_(ident, ...)                                                                    \
    static const struct field ident##_raw[] = {__VA_ARGS__};                                       \
    static struct field ident##_linked[ARRAY_LEN(ident##_raw)]
#define VIEW_VALUE_(ident, S, name_, record_, flags_)                                              \
    {                                                                                              \
        name_, sizeof(S), record_, ident##_raw, ident##_linked, ARRAY_LEN(ident##_raw), flags_,    \
            NULL                                                                                   \
    }

/* Resolves the fields against the record; harmless when called again. */
int view_link(const struct view *v, struct err *e);

/* ---- output ---- */

void view_write(struct json *j, const struct view *v, const void *obj);
void view_write_list(struct json *j, const struct view *v, const struct list *l);

/* ---- input ---- */

/* One broken rule. rule is pydantic's word for it (missing, int_type, …), so that documented
 * surfaces can answer to the letter; loc is "body", "jobs", 0, "name" … */
enum { ISSUE_LOC_MAX = 8, ISSUES_MAX = 32 };
struct issue_loc {
    const char *name; /* NULL: an index */
    int64_t index;
};
struct issue {
    const char *rule;
    struct issue_loc loc[ISSUE_LOC_MAX];
    int depth;
    const char *message;
    const char *input; /* JSON text of what was sent */
    const char *ctx;   /* JSON text of an object, or NULL */
};
struct issues {
    struct issue items[ISSUES_MAX];
    int n;
    struct arena *arena;
    struct issue_loc at[ISSUE_LOC_MAX];
    int depth;
};
void issues_enter(struct issues *is, const char *name, int64_t index);
void issues_leave(struct issues *is);
/* Adds a broken rule at the present place. input and ctx are JSON text, may be NULL (null). */
void issue_add(struct issues *is, const char *rule, const char *input, const char *ctx,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* "jobs.0.name" without the leading body/query. */
const char *issue_field(const struct issue *i, struct arena *a);

enum {
    PARSE_LAX = 1,    /* "4" is an int, as pydantic reads it; else types are strict */
    PARSE_CLOSED = 2, /* unknown members are refused */
};
/* Parses an object into out (size bytes, zeroed and defaulted first). All broken rules are
 * collected in table order; returns false when there was one. */
bool view_parse(const struct view *v, const struct jv *in, unsigned how, void *out, struct arena *a,
                struct issues *is);
/* The same from name=value texts (query, path parameters, forms). Repeated names: the last
 * counts, except T_TEXTS which collects and splits at commas. */
struct pair {
    const char *name, *value;
};
bool view_parse_pairs(const struct view *v, const struct pair *pairs, size_t n, unsigned how,
                      void *out, struct arena *a, struct issues *is);

/* Adds the JSON Schema of a view (an object schema with additionalProperties false). input:
 * as a request body (required = F_REQUIRED), else as an answer (all but F_SOMETIMES). */
void view_schema(struct json *j, const struct view *v, bool input);

#endif
