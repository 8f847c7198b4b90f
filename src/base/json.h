/* Writes JSON straight into a buffer, without a tree.
 *
 * Order is the order of calls; commas come by themselves. Text goes out as UTF-8, bad bytes as
 * U+FFFD. A double prints as the shortest decimal that reads back to the same value, and an
 * integral one keeps a fractional digit (0.0); NaN and infinities print as null.
 *
 * Threads: a writer belongs to one thread.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/mem.h"

enum { JSON_DEPTH_MAX = 64 };

struct json {
    struct buf *to;
    uint64_t filled; /* bit d: the container at depth d has a member already */
    int depth;
    bool keyed; /* a key was written, its value is due */
};
static inline struct json json_to(struct buf *to)
{
    return (struct json){.to = to};
}

void json_open(struct json *j, char bracket);  /* '{' or '[' */
void json_close(struct json *j, char bracket); /* '}' or ']' */
void json_key(struct json *j, const char *key);
void json_text(struct json *j, const char *s); /* NULL writes null */
void json_textn(struct json *j, const char *s, size_t n);
void json_int(struct json *j, int64_t v);
void json_real(struct json *j, double v);
void json_bool(struct json *j, bool v);
void json_null(struct json *j);
void json_time(struct json *j, int64_t us);      /* RFC 3339 */
void json_raw(struct json *j, const char *text); /* already JSON */

/* key and value in one call */
void json_ktext(struct json *j, const char *key, const char *s);
void json_kint(struct json *j, const char *key, int64_t v);
void json_kreal(struct json *j, const char *key, double v);
void json_kbool(struct json *j, const char *key, bool v);
void json_ktime(struct json *j, const char *key, int64_t us);
void json_knull(struct json *j, const char *key);

/* The number's text alone; to has room for 32 bytes. */
const char *json_real_text(double v, char to[32]);

#endif
