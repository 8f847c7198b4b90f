/* POST /api/v1/auth/generate-key (contract 4.4): an API key for a user, made by an administrator.
 * It is a service token that begins with sk_live_. */
#include "surface/surface.h"

#include "base/world.h"
#include "identity/identity.h"
#include "identity/sessions.h"

struct key_in {
    uint64_t seen;
    const char *user_id;
    struct texts permissions;
    int64_t expires_in_days;
};
enum { SEEN_EXPIRES = 1 << 2 };
VIEW(key_in_view, struct key_in, "ApiKeyMake", NULL, VIEW_SEEN,
     FIELD(struct key_in, "user_id", user_id, T_TEXT, .flags = F_REQUIRED, .min = 1, .max = 320,
           .doc = "id, user name or e-mail"),
     FIELD(struct key_in, "permissions", permissions, T_TEXTS, .flags = F_REQUIRED, .max = 20,
           .doc = "of training, preprocessing, model_download, fleet, inference"),
     FIELD(struct key_in, "expires_in_days", expires_in_days, T_INT, .flags = F_NULL, .min = 1,
           .max = 3650, .doc = "null: never; API_KEY_EXPIRE_DAYS when it is left out"));

struct key_made {
    struct service_token token;
    const char *user_id;
};
static void get_permissions(struct json *j, const void *obj)
{
    permissions_write(j, ((const struct key_made *)obj)->token.permissions);
}
VIEW(key_made_view, struct key_made, "ApiKeyMade", NULL, 0,
     FIELD(struct key_made, "api_key", token.token, T_TEXT, .doc = "shown once"),
     FIELD(struct key_made, "user_id", user_id, T_TEXT),
     COMPUTED("permissions", get_permissions,
              "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"),
     FIELD(struct key_made, "created_at", token.created_at, T_TIME),
     FIELD(struct key_made, "expires_at", token.expires_at, T_TIME, .flags = F_NULL));

static int key_make(struct request *q, struct tx *tx, struct err *e)
{
    const struct key_in *in = q->body;
    struct user u;
    struct key_made out;
    struct service_token_spec spec = {.name = "API key", .documented = true};
    const char *bad;
    if (!permissions_parse(&in->permissions, &spec.permissions, &bad))
        return request_invalid(q, e, "permissions", "value_error", "there is no permission %s",
                               bad);
    int rc = user_find(tx, in->user_id, q->arena, &u, e);
    if (rc != OK)
        return rc;
    int64_t days = in->seen & SEEN_EXPIRES ? in->expires_in_days
                                           : setting_int(q->house, "API_KEY_EXPIRE_DAYS");
    if (days != INT_NULL)
        spec.expires_at = now_us() + days * 86400 * US_PER_S;
    spec.user_id = u.id;
    if ((rc = service_token_make(tx, &q->who, &spec, q->arena, &out.token, e)) != OK)
        return rc;
    out.user_id = u.uuid;
    q->audit_target = arena_printf(q->arena, "t-%lld", (long long)out.token.id);
    request_header(q, "Cache-Control", "no-store");
    return request_answer(q, 201, &key_made_view, &out);
}

static const struct route routes[] = {
    {"POST", "/api/v1/auth/generate-key", "api_key_generate", "Create an API key", ACCESS_ADMIN,
     .flags = ROUTE_STRICT_LIMIT, .body = &key_in_view, .handle = key_make,
     .answers = {{201, &key_made_view}}, .errors = "403 404", .tag = "training"},
};

const struct module training_keys_module = {
    .name = "training-keys",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &training_surface,
};
