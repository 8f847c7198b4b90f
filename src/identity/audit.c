/* The audit log: who tried to change what, from where, and how it ended. Rows are only added; no
 * secret ever stands in one, because nothing of a body is written down. */
#include "identity/parts.h"

#include "base/world.h"

#include <string.h>

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
RECORD(audit_record, struct audit_row, "audit_log",
       MEMBER(struct audit_row, id, T_ID, .prefix = "a"), MEMBER(struct audit_row, at, T_TIME),
       MEMBER(struct audit_row, principal, T_TEXT),
       MEMBER(struct audit_row, user_id, T_ID, .flags = M_NULL, .prefix = "u"),
       MEMBER(struct audit_row, via, T_TEXT), MEMBER(struct audit_row, method, T_TEXT),
       MEMBER(struct audit_row, route, T_TEXT),
       MEMBER(struct audit_row, target, T_TEXT, .flags = M_NULL),
       MEMBER(struct audit_row, outcome, T_TEXT), MEMBER(struct audit_row, address, T_TEXT),
       MEMBER(struct audit_row, request_id, T_UUID));

enum { TARGET_MAX = 256 };

int audit_write(struct tx *tx, const struct request *q, const char *target, const char *outcome,
                struct err *e)
{
    char who[400];
    if (target == NULL && q->route->params != NULL)
        target = http_path(q->http);
    struct audit_row row = {
        .at = now_us(),
        .principal = principal_text(&q->who, who),
        .user_id = q->who.user_id,
        .via = via_names[q->who.via],
        .method = q->route->method,
        .route = q->route->path,
        .target = target != NULL ? arena_strndup(tx_arena(tx), target, strnlen(target, TARGET_MAX))
                                 : NULL,
        .outcome = outcome,
        .address = http_peer(q->http),
        .request_id = q->request_id,
    };
    return record_insert(tx, &audit_record, &row, NULL, e);
}

int identity_audit(struct tx *tx, const struct request *q, const char *outcome, struct err *e)
{
    return audit_write(tx, q, q->audit_target, outcome, e);
}
