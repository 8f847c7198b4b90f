/* What the native files of accounts share: accounts.c (sessions, users), tokens.c, recovery.c,
 * organisations.c, quotas.c, audit.c. Threads: those of handlers. */
#ifndef SURFACE_NATIVE_ACCOUNTS_H
#define SURFACE_NATIVE_ACCOUNTS_H

#include "core/route.h"

struct native_id {
    int64_t id;
};
extern const struct view user_view, user_path_view; /* u-17 */

/* A reason about the password belongs to that field of the body. */
int native_password_field(struct request *q, struct err *e);
/* An answer that holds a secret: nobody on the way keeps it. */
int native_answer_secret(struct request *q, int status, const struct view *v, const void *obj);

struct native_page_query {
    int64_t limit;
    const char *cursor;
};
extern const struct view native_page_query_view;
/* The cursor of these lists is the last id that was shown; the id stands at the front of a row. */
int native_page_after(const struct request *q, const char *cursor, int64_t *after, struct err *e);
/* Cuts the one more that was read; NULL: that was all. */
const char *native_next_cursor(struct request *q, struct list *l, int64_t limit, size_t size);

#endif
