/* The audit log: who tried to change what, from where, and how it ended.
 * Threads: inside a transaction. */
#ifndef IDENTITY_AUDIT_H
#define IDENTITY_AUDIT_H

#include "identity/identity.h"

struct audit_row {
    int64_t id, at;
    const char *principal; /* "user:li@example.com", "local", "anonymous" */
    int64_t user_id;
    const char *via;
    const char *method, *route; /* the route's path with its parameters' names */
    const char *target;         /* "j-17"; what the path names when the handler said nothing */
    const char *outcome;        /* "ok" or the kind of the refusal */
    const char *address, *request_id;
};
extern const struct record audit_record;

struct audit_filter {
    int64_t user_id;    /* 0: everyone */
    const char *method; /* NULL: any; so are the others */
    const char *route;  /* how the path begins */
    const char *target, *outcome;
    int64_t since, until; /* UTC µs; 0: open */
    int64_t before;       /* id below this (cursor); 0: from the newest */
    int64_t limit;
};
/* Newest first. */
int audit_list(struct tx *tx, const struct audit_filter *f, struct arena *a, struct list *out,
               struct err *e);

#endif
