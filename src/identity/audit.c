/* The audit log: who tried to change what, from where, and how it ended. Rows are only added; no
 * secret ever stands in one, because nothing of a body is written down. */
#include "identity/audit.h"
#include "identity/parts.h"

#include "base/world.h"

#include <string.h>

RECORD(audit_record, struct audit_row, "audit_log",
       MEMBER(struct audit_row, id, T_ID, .prefix = "a", .doc = "the entry"),
       MEMBER(struct audit_row, at, T_TIME, .doc = "when"),
       MEMBER(struct audit_row, principal, T_TEXT, .doc = "who, such as user:li@example.com"),
       MEMBER(struct audit_row, user_id, T_ID, .flags = M_NULL, .prefix = "u",
              .doc = "the account; null: none, or the built-in local"),
       MEMBER(struct audit_row, via, T_TEXT, .doc = "how the caller was recognised"),
       MEMBER(struct audit_row, method, T_TEXT),
       MEMBER(struct audit_row, route, T_TEXT, .doc = "the path with its parameters' names"),
       MEMBER(struct audit_row, target, T_TEXT, .flags = M_NULL, .doc = "what it hit"),
       MEMBER(struct audit_row, outcome, T_TEXT, .doc = "ok, or the kind of the refusal"),
       MEMBER(struct audit_row, address, T_TEXT, .doc = "where it came from"),
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

/* ---- reading ---- */

enum { FILTER_ARGS = 10 };

int audit_list(struct tx *tx, const struct audit_filter *f, struct arena *a, struct list *out,
               struct err *e)
{
    struct value args[FILTER_ARGS];
    AUTO(buf) struct buf sql = {0};
    size_t n = 0;
    const struct {
        bool given;
        const char *before, *after; /* the number of the argument stands between */
        struct value value;
    } rows[] = {
        {f->user_id != 0, " AND user_id = ?", "", v_int(f->user_id)},
        {f->method != NULL, " AND method = ?", "", v_text(f->method)},
        {f->outcome != NULL, " AND outcome = ?", "", v_text(f->outcome)},
        {f->target != NULL, " AND target = ?", "", v_text(f->target)},
        {f->route != NULL, " AND route LIKE replace(replace(replace(?",
         ", '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'", v_text(f->route)},
        {f->since != 0, " AND at >= ?", "", v_int(f->since)},
        {f->until != 0, " AND at < ?", "", v_int(f->until)},
        {f->before != 0, " AND id < ?", "", v_int(f->before)},
    };
    buf_adds(&sql, "WHERE 1=1");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].given) {
            args[n++] = rows[i].value;
            buf_printf(&sql, "%s%zu%s", rows[i].before, n, rows[i].after);
        }
    args[n++] = v_int(f->limit);
    buf_printf(&sql, " ORDER BY id DESC LIMIT ?%zu", n);
    return record_list(tx, &audit_record, sql_intern(buf_str(&sql), "", ""), args, n, a, out, e);
}
