/* The native routes of the audit log: pages of JSON, and JSON lines to keep elsewhere. */
#include "surface/native/accounts.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "identity/audit.h"

#include <string.h>

VIEW(audit_view, struct audit_row, "AuditEntry", &audit_record, 0, SAME(struct audit_row, "id", id),
     SAME(struct audit_row, "at", at), SAME(struct audit_row, "principal", principal),
     SAME(struct audit_row, "user_id", user_id), SAME(struct audit_row, "via", via),
     SAME(struct audit_row, "method", method), SAME(struct audit_row, "route", route),
     SAME(struct audit_row, "target", target), SAME(struct audit_row, "outcome", outcome),
     SAME(struct audit_row, "address", address), SAME(struct audit_row, "request_id", request_id));
PAGE_VIEW(audit_list_view, "AuditList", &audit_view);

struct audit_query {
    int64_t limit;
    const char *cursor, *user, *method, *route, *target, *outcome;
    int64_t since, until;
};
enum { EXPORT_MAX = 10000 };
#define AUDIT_FILTER                                                                               \
    FIELD(struct audit_query, "user", user, T_TEXT, .flags = F_NULL, .max = 320,                   \
          .doc = "id or e-mail of the account that asked"),                                        \
        FIELD(struct audit_query, "method", method, T_TEXT, .flags = F_NULL, .max = 10),           \
        FIELD(struct audit_query, "route", route, T_TEXT, .flags = F_NULL, .max = 200,             \
              .doc = "how the path begins, such as /v1/users"),                                    \
        FIELD(struct audit_query, "target", target, T_TEXT, .flags = F_NULL, .max = 256,           \
              .doc = "what was hit, such as j-17"),                                                \
        FIELD(struct audit_query, "outcome", outcome, T_TEXT, .flags = F_NULL, .max = 40,          \
              .doc = "ok, forbidden, conflict, …"),                                                \
        FIELD(struct audit_query, "since", since, T_TIME, .flags = F_NULL),                        \
        FIELD(struct audit_query, "until", until, T_TIME, .flags = F_NULL)
VIEW(audit_query_view, struct audit_query, "AuditQuery", NULL, 0,
     PAGE_QUERY(struct audit_query, 1000), AUDIT_FILTER);
VIEW(audit_export_view, struct audit_query, "AuditExport", NULL, 0,
     FIELD(struct audit_query, "limit", limit, T_INT, .min = 1, .max = EXPORT_MAX, .def = "10000"),
     FIELD(struct audit_query, "cursor", cursor, T_TEXT, .flags = F_NULL, .max = 100,
           .doc = "the header X-Next-Cursor of the part before"),
     AUDIT_FILTER);

static int read_page(struct request *q, struct tx *tx, struct native_page *out, struct err *e)
{
    const struct audit_query *in = q->query;
    struct audit_filter f = {.method = in->method,
                             .route = in->route,
                             .target = in->target,
                             .outcome = in->outcome,
                             .since = in->since,
                             .until = in->until,
                             .limit = in->limit + 1};
    int rc = native_page_after(q, in->cursor, &f.before, e);
    /* an account that is gone still has its entries: its id is enough */
    if (rc == OK && in->user != NULL && !id_parse("u", in->user, &f.user_id)) {
        struct user u;
        if ((rc = user_find(tx, in->user, q->arena, &u, e)) == OK)
            f.user_id = u.id;
    }
    if (rc == OK)
        rc = audit_list(tx, &f, q->arena, &out->items, e);
    if (rc == OK)
        out->next_cursor = native_next_cursor(q, &out->items, in->limit, sizeof(struct audit_row));
    return rc;
}

_Static_assert(offsetof(struct audit_row, id) == 0,
               "native_next_cursor() reads the id at the front");

static int audit_page(struct request *q, struct tx *tx, struct err *e)
{
    struct native_page out = {0};
    int rc = read_page(q, tx, &out, e);
    return rc != OK ? rc : request_answer(q, 200, &audit_list_view, &out);
}

static int audit_export(struct request *q, struct tx *tx, struct err *e)
{
    struct native_page out = {0};
    AUTO(buf) struct buf lines = {0};
    int rc = read_page(q, tx, &out, e);
    if (rc != OK)
        return rc;
    for (size_t i = 0; i < out.items.n; i++) {
        struct json j = json_to(&lines);
        view_write(&j, &audit_view, (const struct audit_row *)out.items.items + i);
        buf_addc(&lines, '\n');
    }
    if (out.next_cursor != NULL)
        request_header(q, "X-Next-Cursor", out.next_cursor);
    return request_answer_raw(q, 200, "application/x-ndjson", buf_str(&lines), lines.len);
}

static const struct route routes[] = {
    {"GET", "/v1/audit", "audit_list", "Who changed what, newest first", ACCESS_ADMIN,
     .query = &audit_query_view, .handle = audit_page, .answers = {{200, &audit_list_view}},
     .errors = "400 404", .tag = "audit"},
    {"GET", "/v1/audit.jsonl", "audit_export",
     "The same as lines of JSON; X-Next-Cursor says where the next part begins", ACCESS_ADMIN,
     .query = &audit_export_view, .handle = audit_export,
     .answers = {{200, .schema = "{\"type\":\"string\"}", .type = "application/x-ndjson"}},
     .errors = "400 404", .tag = "audit"},
};

const struct module native_audit_module = {
    .name = "native-audit",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
};
