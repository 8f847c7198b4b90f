/* The native routes of secrets: names are listed, texts never come back. */
#include "surface/native/accounts.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "identity/secrets.h"
#include "jobs/jobs.h"

#include <string.h>

VIEW(secret_view, struct secret, "Secret", &secret_record, 0, SAME(struct secret, "name", name),
     SAME(struct secret, "created_at", created_at), SAME(struct secret, "updated_at", updated_at));
PAGE_VIEW(secrets_view, "SecretList", &secret_view);

struct secret_in {
    const char *value;
};
LOCAL_VIEW(secret_in_view, struct secret_in, "SecretValue", NULL, 0,
           FIELD(struct secret_in, "value", value, T_TEXT, .flags = F_REQUIRED, .min = 1,
                 .max = SECRET_TEXT_MAX, .doc = "kept sealed; no route tells it again"));
struct secret_path {
    const char *name;
};
LOCAL_VIEW(secret_path_view, struct secret_path, "SecretName", NULL, 0,
           FIELD(struct secret_path, "name", name, T_TEXT, .flags = F_REQUIRED, .min = 1,
                 .max = SECRET_NAME_MAX, .doc = "letters, digits, and . _ - behind the first"));
struct rotated {
    int64_t resealed;
};
LOCAL_VIEW(rotated_view, struct rotated, "SecretsRotated", NULL, 0,
           FIELD(struct rotated, "resealed", resealed, T_INT, .doc = "secrets under the new key"));

static int secrets_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct native_page_query *p = q->query;
    struct native_page out = {0};
    int64_t after;
    int rc = native_page_after(q, p->cursor, &after, e);
    if (rc == OK)
        rc = secret_list(tx, q->who.user_id, after, p->limit + 1, q->arena, &out.items, e);
    if (rc != OK)
        return rc;
    out.next_cursor = native_next_cursor(q, &out.items, p->limit, sizeof(struct secret));
    return request_answer(q, 200, &secrets_view, &out);
}

static int secret_set(struct request *q, struct tx *tx, struct err *e)
{
    const struct secret_path *path = q->params;
    const struct secret_in *in = q->body;
    struct secret s;
    if (!secret_name_good(path->name))
        return err_set(e, ERR_INVALID,
                       "a secret's name has letters, digits, and . _ - behind the first");
    int rc = secret_put(tx, q->who.user_id, path->name, in->value, q->arena, &s, e);
    q->audit_target = path->name;
    return rc != OK ? rc : request_answer(q, 200, &secret_view, &s);
}

static int secret_remove(struct request *q, struct tx *tx, struct err *e)
{
    const struct secret_path *path = q->params;
    int64_t job = 0;
    int rc = job_using_secret(tx, q->who.user_id, path->name, &job, e);
    if (rc == OK && job != 0)
        return err_set(e, ERR_CONFLICT, "j-%lld still needs the secret %s", (long long)job,
                       path->name);
    if (rc == OK)
        rc = secret_delete(tx, q->who.user_id, path->name, e);
    q->audit_target = path->name;
    return rc != OK ? rc : request_answer_empty(q, 204);
}

static int secrets_turn(struct request *q, struct tx *tx, struct err *e)
{
    struct rotated r;
    int rc = secrets_rotate(q->house, &r.resealed, e);
    return rc != OK ? rc : request_answer(q, 200, &rotated_view, &r);
}

static const struct route routes[] = {
    {"GET", "/v1/secrets", "secrets_list", "Names of the caller's secrets, oldest first",
     ACCESS_USER, .query = &native_page_query_view, .handle = secrets_list,
     .answers = {{200, &secrets_view}}, .errors = "400", .tag = "secrets"},
    {"PUT", "/v1/secrets/{name}", "secret_set", "Make or replace a secret", ACCESS_USER,
     .params = &secret_path_view, .body = &secret_in_view, .handle = secret_set,
     .answers = {{200, &secret_view}}, .tag = "secrets"},
    {"DELETE", "/v1/secrets/{name}", "secret_delete", "Delete a secret", ACCESS_USER,
     .params = &secret_path_view, .handle = secret_remove, .answers = {{204}}, .errors = "404 409",
     .tag = "secrets"},
    {"POST", "/v1/secrets/rotate", "secrets_rotate",
     "Make a new key for secrets and seal everything anew under it", ACCESS_ADMIN,
     .flags = ROUTE_NO_TX, .handle = secrets_turn, .answers = {{200, &rotated_view}},
     .errors = "409", .tag = "secrets"},
};

static const struct err_text texts[] = {
    {"no secret %s; make it: drover secret set %s", "没有密文 %s；创建它：drover secret set %s"},
    {"a secret's name has letters, digits, and . _ - behind the first",
     "密文名称由字母和数字组成，首字符之后还可用 . _ -"},
    {"the key file %s has %d keys already", "密钥文件 %s 已有 %d 个密钥"},
    {"the secret %s", "密文 %s"},
    {"j-%lld still needs the secret %s", "j-%lld 仍需要密文 %s"},
    {0},
};

const struct module native_secrets_module = {
    .name = "native-secrets",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .texts = texts,
};
