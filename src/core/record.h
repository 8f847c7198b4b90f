/* A record: one C struct that is also a row. Described once by a table; from it come SQL
 * binding, reading, and the check at start-up that the migrated columns are really there.
 *
 * Member types and what stands for null:
 *   T_BOOL bool            –                     T_TEXT  const char *           NULL
 *   T_INT  int64_t         INT_NULL              T_UUID  const char *           NULL
 *   T_REAL double          NAN                   T_JSON  const char * (JSON)    NULL
 *   T_TIME int64_t (µs)    0                     T_TEXTS struct texts           items NULL
 *   T_ID   int64_t         0                     T_TEXTMAP struct textmap       keys NULL
 *   T_ENUM int             -1                    T_OBJECT, T_LIST: views only
 *
 * Threads: any; tables are const.
 */
#ifndef CORE_RECORD_H
#define CORE_RECORD_H

#include "base/err.h"
#include "base/mem.h"
#include "io/store.h"

#include <stddef.h>

enum type {
    T_NONE,
    T_BOOL,
    T_INT,
    T_REAL,
    T_TEXT,
    T_TIME,
    T_ID,
    T_ENUM,
    T_UUID,
    T_JSON,
    T_TEXTS,
    T_TEXTMAP,
    T_OBJECT, /* a struct inside, or a pointer with F_POINTER */
    T_LIST,   /* struct list of structs */
};
#define INT_NULL INT64_MIN

struct texts {
    const char **items;
    size_t n;
};
struct textmap {
    const char **keys, **values;
    size_t n;
};
struct list {
    void *items; /* n structs of the view's or record's size */
    size_t n;
};

/* Each type's C type; MEMBER() and FIELD() refuse to compile when a member is of another. */
#define CTYPE_T_BOOL    bool
#define CTYPE_T_INT     int64_t
#define CTYPE_T_REAL    double
#define CTYPE_T_TEXT    const char *
#define CTYPE_T_TIME    int64_t
#define CTYPE_T_ID      int64_t
#define CTYPE_T_ENUM    int
#define CTYPE_T_UUID    const char *
#define CTYPE_T_JSON    const char *
#define CTYPE_T_TEXTS   struct texts
#define CTYPE_T_TEXTMAP struct textmap
#define CTYPE_T_LIST    struct list
#define TYPED_OFFSET(S, m, T)                                                                      \
    (offsetof(S, m) +                                                                              \
     0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((S *)0)->m), CTYPE_##T) ? 1 : -1]))

enum {
    M_NULL = 1,   /* may be null */
    M_SECRET = 2, /* never in an answer, a log or an event */
    M_TOLD = 4,   /* T_TEXT: made by us in English; views tell it in the reader's language */
};

struct member {
    const char *column;
    enum type type;
    size_t offset;
    unsigned flags;
    int64_t min, max;         /* length in characters, value, or count; 0,0: no bound */
    const char *const *names; /* T_ENUM: by value, NULL at the end */
    const char *prefix;       /* T_ID: "j" prints j-17 */
    const char *doc;          /* one line */
};
#define MEMBER(S, m, T, ...)                                                                       \
    {                                                                                              \
        .column = #m, .type = T, .offset = TYPED_OFFSET(S, m, T), __VA_ARGS__                      \
    }

struct record {
    const char *table;
    size_t size;
    const struct member *members; /* the first is the key: T_ID column "id", or a T_TEXT */
    size_t n;
};
#define RECORD(ident, S, table_, ...)                                                              \
    static const struct member ident##_members[] = {__VA_ARGS__};                                  \
    const struct record ident = {table_, sizeof(S), ident##_members, ARRAY_LEN(ident##_members)}

/* Inserts obj. When its T_ID key is 0 the store numbers it and *id (may be NULL) is the number. */
int record_insert(struct tx *tx, const struct record *r, const void *obj, int64_t *id,
                  struct err *e);
/* Writes every member but the key, where key = the object's. ERR_NOT_FOUND when no row has it. */
int record_update(struct tx *tx, const struct record *r, const void *obj, struct err *e);
/* SELECT all members FROM table `tail`, which must be a literal ("WHERE id = ?1"). */
int record_get(struct tx *tx, const struct record *r, const char *tail, const struct value *args,
               size_t n, struct arena *a, void *out, bool *found, struct err *e);
int record_list(struct tx *tx, const struct record *r, const char *tail, const struct value *args,
                size_t n, struct arena *a, struct list *out, struct err *e);
/* Fills obj from a result row whose columns are the members in order, from column `first`. */
int record_read(const struct record *r, const struct rows *rows, int first, struct arena *a,
                void *out, struct err *e);
/* "id,name,…" with an optional table alias ("j." ) for hand-written joins; lives for ever. */
const char *record_columns(const struct record *r, const char *alias);
/* Start-up: every column exists (a query of all of them over no rows). */
int record_check(struct store *s, const struct record *r, struct err *e);

/* The value of an enum's text, -1 when unknown. */
int names_find(const char *const *names, const char *text);
/* JSON text of lists and maps as they are stored. */
const char *texts_json(const struct texts *t, struct arena *a);
const char *textmap_json(const struct textmap *m, struct arena *a);
int texts_read(const char *json, struct arena *a, struct texts *out, struct err *e);
int textmap_read(const char *json, struct arena *a, struct textmap *out, struct err *e);

/* An id as people type it: "j-17". Refuses another prefix, signs, zero, blanks. */
enum { ID_TEXT_SIZE = 28 };
const char *id_text(const char *prefix, int64_t id, char to[ID_TEXT_SIZE]);
bool id_parse(const char *prefix, const char *text, int64_t *id);
/* SQL text that lives for ever, made once from its parts (the store keeps statements by text). */
const char *sql_intern(const char *a, const char *b, const char *c);

#endif
