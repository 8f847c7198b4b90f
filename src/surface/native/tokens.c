/* The native routes of service tokens and API keys: /v1/tokens.
 *
 * What must stay true: the secret is told once, in the answer that makes it; nobody gives a token
 * more than he has himself, but for an administrator. */
#include "surface/native/accounts.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"
#include "identity/sessions.h"

static void get_permissions(struct json *j, const void *obj)
{
    permissions_write(j, ((const struct service_token *)obj)->permissions);
}

#define PERMISSIONS_SCHEMA                                                                         \
    "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"},\"description\":\"what it "    \
    "may "                                                                                         \
    "do on routes for operators; null: what its account's role may\"}"
#define TOKEN_FIELDS                                                                               \
    SAME(struct service_token, "id", id), SAME(struct service_token, "name", name),                \
        SAME(struct service_token, "prefix", prefix),                                              \
        COMPUTED("permissions", get_permissions, PERMISSIONS_SCHEMA),                              \
        SAME(struct service_token, "created_at", created_at),                                      \
        SAME(struct service_token, "last_used_at", last_used_at),                                  \
        SAME(struct service_token, "expires_at", expires_at)
VIEW(token_view, struct service_token, "Token", &service_token_record, 0, TOKEN_FIELDS);
VIEW(token_made_view, struct service_token, "TokenMade", &service_token_record, 0, TOKEN_FIELDS,
     FIELD(struct service_token, "token", token, T_TEXT, .doc = "shown once"));
PAGE_VIEW(tokens_view, "TokenList", &token_view);

struct token_make {
    const char *name;
    int64_t expires_in_days;
    struct texts permissions;
};
VIEW(token_make_view, struct token_make, "TokenMake", NULL, 0,
     FIELD(struct token_make, "name", name, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 100),
     FIELD(struct token_make, "expires_in_days", expires_in_days, T_INT, .flags = F_NULL, .min = 1,
           .max = 3650, .doc = "never when it is left out"),
     FIELD(struct token_make, "permissions", permissions, T_TEXTS, .flags = F_NULL, .max = 20,
           .doc = "of training, preprocessing, model_download, fleet, inference; what the role "
                  "has when it is left out"));

VIEW(token_path_view, struct native_id, "TokenId", NULL, 0,
     FIELD(struct native_id, "id", id, T_ID, .flags = F_REQUIRED, .prefix = "t"));

_Static_assert(offsetof(struct service_token, id) == 0,
               "native_next_cursor() reads the id at the front");

static int tokens_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct native_page_query *p = q->query;
    struct native_page out = {0};
    int64_t after;
    int rc = native_page_after(q, p->cursor, &after, e);
    if (rc == OK)
        rc = service_token_list(tx, q->who.user_id, after, p->limit + 1, q->arena, &out.items, e);
    if (rc != OK)
        return rc;
    out.next_cursor = native_next_cursor(q, &out.items, p->limit, sizeof(struct service_token));
    return request_answer(q, 200, &tokens_view, &out);
}

static int token_make(struct request *q, struct tx *tx, struct err *e)
{
    const struct token_make *in = q->body;
    struct service_token made;
    struct service_token_spec spec = {
        .name = in->name, .user_id = q->who.user_id, .permissions = INT_NULL};
    const char *bad;
    if (in->permissions.items != NULL &&
        !permissions_parse(&in->permissions, &spec.permissions, &bad))
        return request_invalid(q, e, "permissions", "value_error", "there is no permission %s",
                               bad);
    if (in->expires_in_days != INT_NULL)
        spec.expires_at = now_us() + in->expires_in_days * 86400 * US_PER_S;
    int rc = service_token_make(tx, &q->who, &spec, q->arena, &made, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_printf(q->arena, "t-%lld", (long long)made.id);
    return native_answer_secret(q, 201, &token_made_view, &made);
}

static int token_delete(struct request *q, struct tx *tx, struct err *e)
{
    const struct native_id *path = q->params;
    int rc = service_token_delete(tx, &q->who, path->id, q->arena, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

static const struct route routes[] = {
    {"GET", "/v1/tokens", "tokens_list", "The caller's service tokens, oldest first", ACCESS_USER,
     .query = &native_page_query_view, .handle = tokens_list, .answers = {{200, &tokens_view}},
     .errors = "400", .tag = "tokens"},
    {"POST", "/v1/tokens", "token_create", "Make a service token; its text is shown once",
     ACCESS_USER, .flags = ROUTE_IDEMPOTENT, .body = &token_make_view, .handle = token_make,
     .answers = {{201, &token_made_view}}, .errors = "403", .tag = "tokens"},
    {"DELETE", "/v1/tokens/{id}", "token_delete", "Delete a service token; it ends at once",
     ACCESS_OWNER, .params = &token_path_view, .handle = token_delete, .answers = {{204}},
     .errors = "404", .tag = "tokens"},
};

static const struct err_text texts[] = {
    {"there is no permission %s", "没有权限 %s"},
    {0},
};

const struct module native_tokens_module = {
    .name = "native-tokens",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .texts = texts,
};
