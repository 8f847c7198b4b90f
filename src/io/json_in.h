/* Reads JSON that comes from outside: jansson behind a small read-only interface.
 *
 * Strict by RFC 8259: duplicate names, leading zeros, bad UTF-8, NaN and trailing bytes are
 * refused; depth is bounded by jansson (2048) and size by the caller's body cap. Integers are
 * int64; larger ones are refused.
 *
 * Ownership: jv_parse gives a root that jv_free returns; every other struct jv * is a borrowed
 * part of it. Threads: a tree belongs to one thread.
 */
#ifndef IO_JSON_IN_H
#define IO_JSON_IN_H

#include "base/err.h"
#include "base/mem.h"

struct jv;
enum jv_kind { JV_NULL, JV_BOOL, JV_INT, JV_REAL, JV_TEXT, JV_LIST, JV_OBJECT };

/* *at (may be NULL): position of the fault in bytes, when it fails with ERR_MALFORMED. */
int jv_parse(const char *text, size_t n, struct jv **out, size_t *at, struct err *e);
void jv_free(struct jv *root);
static inline void auto_jv(struct jv **p)
{
    jv_free(*p);
}

enum jv_kind jv_kind(const struct jv *v); /* NULL is JV_NULL */
bool jv_bool(const struct jv *v);
int64_t jv_int(const struct jv *v);                 /* of JV_INT; a whole JV_REAL is converted */
double jv_real(const struct jv *v);                 /* of JV_INT or JV_REAL */
const char *jv_text(const struct jv *v, size_t *n); /* n may be NULL; NULL if not a text */
size_t jv_len(const struct jv *v);                  /* of a list or object */
const struct jv *jv_at(const struct jv *list, size_t i);
const struct jv *jv_get(const struct jv *object, const char *name); /* NULL: absent */
/* Members in the order they were sent: start with it = NULL; returns NULL at the end. */
const void *jv_next(const struct jv *object, const void *it, const char **name,
                    const struct jv **value);
/* Compact JSON text of a part. Never NULL. */
char *jv_dump(const struct jv *v, struct arena *a);
/* Shortcuts for members of an object that may be absent, null or of another type. */
const char *jv_get_text(const struct jv *object, const char *name); /* NULL then */
int64_t jv_get_int(const struct jv *object, const char *name, int64_t otherwise);
double jv_get_real(const struct jv *object, const char *name, double otherwise);
bool jv_get_bool(const struct jv *object, const char *name, bool otherwise);

#endif
