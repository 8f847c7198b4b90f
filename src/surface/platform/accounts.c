/* The documented account routes (contract 3.1): views of the accounts of identity/.
 *
 * What must stay true: the answers' codes are the documented words; a public registration or a
 * change of one's own profile never touches role, is_active, is_superuser or is_verified, because
 * the views of those routes do not know them. */
#include "surface/platform/accounts.h"
#include "surface/surface.h"

#include "base/world.h"
#include "identity/accounts.h"
#include "identity/recovery.h"
#include "identity/sessions.h"
#include "notify/notify.h"

#include <stdio.h>
#include <string.h>

/* ---- views ---- */

static void get_superuser(struct json *j, const void *obj)
{
    json_bool(j, ((const struct user *)obj)->role == ROLE_ADMIN);
}

static void decimal(struct json *j, double v)
{
    char text[32];
    json_text(j, json_real_text(v, text));
}

static void get_hours(struct json *j, const void *obj)
{
    decimal(j, (double)((const struct user *)obj)->compute_us / 3600e6);
}

static void get_cost(struct json *j, const void *obj)
{
    decimal(j, (double)((const struct user *)obj)->cost_micro / 1e6);
}

#define DECIMAL_TEXT "{\"type\":\"string\",\"description\":\"a decimal number\"}"

VIEW(user_read, struct user, "UserRead", &user_record, 0,
     SAME(struct user, "id", uuid, .doc = "the account"), SAME(struct user, "email", email),
     SAME(struct user, "is_active", is_active),
     COMPUTED("is_superuser", get_superuser, "{\"type\":\"boolean\"}"),
     SAME(struct user, "is_verified", is_verified), SAME(struct user, "first_name", first_name),
     SAME(struct user, "last_name", last_name), SAME(struct user, "nickname", nickname),
     SAME(struct user, "avatar", avatar), SAME(struct user, "role", role),
     SAME(struct user, "phone", phone), SAME(struct user, "organization", organization),
     COMPUTED("total_compute_hours", get_hours, DECIMAL_TEXT),
     COMPUTED("total_cost", get_cost, DECIMAL_TEXT), SAME(struct user, "created_at", created_at),
     SAME(struct user, "last_login", last_login));

VIEW(user_data, struct user, "UserData", &user_record, 0, SAME(struct user, "email", email),
     SAME(struct user, "first_name", first_name), SAME(struct user, "last_name", last_name),
     SAME(struct user, "organization", organization),
     COMPUTED("total_compute_hours", get_hours, DECIMAL_TEXT),
     COMPUTED("total_cost", get_cost, DECIMAL_TEXT));

#define INPUT(wire, m, T, ...) FIELD(struct user_input, wire, m, T, __VA_ARGS__)
#define PROFILE                                                                                    \
    INPUT("first_name", first_name, T_TEXT, .flags = F_NULL, .max = 50),                           \
        INPUT("last_name", last_name, T_TEXT, .flags = F_NULL, .max = 50),                         \
        INPUT("nickname", nickname, T_TEXT, .flags = F_NULL, .max = 50),                           \
        INPUT("avatar", avatar, T_TEXT, .flags = F_NULL, .max = 500),                              \
        INPUT("phone", phone, T_TEXT, .flags = F_NULL, .max = 20),                                 \
        INPUT("organization", organization, T_TEXT, .flags = F_NULL, .max = 100)

VIEW(user_register, struct user_input, "UserRegister", NULL, VIEW_SEEN,
     INPUT("email", email, T_TEXT, .flags = F_REQUIRED | F_EMAIL, .min = 3, .max = 320),
     INPUT("password", password, T_TEXT, .flags = F_REQUIRED, .doc = "at least 8 characters"),
     PROFILE);
VIEW(user_update_own, struct user_input, "UserUpdateOwn", NULL, VIEW_SEEN,
     INPUT("password", password, T_TEXT),
     INPUT("email", email, T_TEXT, .flags = F_EMAIL, .min = 3, .max = 320), PROFILE);
VIEW(user_update, struct user_input, "UserUpdate", NULL, VIEW_SEEN,
     INPUT("password", password, T_TEXT),
     INPUT("email", email, T_TEXT, .flags = F_EMAIL, .min = 3, .max = 320), PROFILE,
     INPUT("is_active", is_active, T_BOOL), INPUT("is_superuser", is_superuser, T_BOOL),
     INPUT("is_verified", is_verified, T_BOOL), INPUT("role", role, T_ENUM, .names = role_names));

struct login_form {
    const char *username, *password, *grant_type, *scope, *client_id, *client_secret;
};
VIEW(login_form, struct login_form, "LoginForm", NULL, 0,
     FIELD(struct login_form, "username", username, T_TEXT, .flags = F_REQUIRED,
           .doc = "the e-mail"),
     FIELD(struct login_form, "password", password, T_TEXT, .flags = F_REQUIRED),
     FIELD(struct login_form, "grant_type", grant_type, T_TEXT, .flags = F_FORM),
     FIELD(struct login_form, "scope", scope, T_TEXT, .flags = F_FORM),
     FIELD(struct login_form, "client_id", client_id, T_TEXT, .flags = F_FORM),
     FIELD(struct login_form, "client_secret", client_secret, T_TEXT, .flags = F_FORM));

struct bearer {
    const char *access_token, *token_type;
};
VIEW(bearer_view, struct bearer, "BearerToken", NULL, 0,
     FIELD(struct bearer, "access_token", access_token, T_TEXT),
     FIELD(struct bearer, "token_type", token_type, T_TEXT, .doc = "bearer"));

struct user_path {
    const char *id;
};
VIEW(user_path, struct user_path, "UserPath", NULL, 0,
     FIELD(struct user_path, "id", id, T_UUID, .flags = F_REQUIRED));

struct protected_answer {
    const char *message, *user, *user_id;
    struct user user_data;
};
VIEW(protected_view, struct protected_answer, "ProtectedAnswer", NULL, 0,
     FIELD(struct protected_answer, "message", message, T_TEXT),
     FIELD(struct protected_answer, "user", user, T_TEXT, .doc = "the caller's e-mail"),
     FIELD(struct protected_answer, "user_id", user_id, T_TEXT),
     OBJECT(struct protected_answer, "user_data", user_data, &user_data));

struct admin_answer {
    const char *message, *user_id;
};
VIEW(admin_view, struct admin_answer, "AdminAnswer", NULL, 0,
     FIELD(struct admin_answer, "message", message, T_TEXT),
     FIELD(struct admin_answer, "user_id", user_id, T_TEXT));

/* ---- errors in the documented words ---- */

/* From the words of identity/ to those of a group of routes; all of them are 400. */
static int in_words_of(struct err *e, const char *group)
{
    static const struct {
        const char *code, *register_word, *update_word;
    } words[] = {
        {"EMAIL_TAKEN", "REGISTER_USER_ALREADY_EXISTS", "UPDATE_USER_EMAIL_ALREADY_EXISTS"},
        {"WEAK_PASSWORD", "REGISTER_INVALID_PASSWORD", "UPDATE_USER_INVALID_PASSWORD"},
        {"LAST_ADMINISTRATOR", "", ""},
        {"LOGIN_BAD_CREDENTIALS", "LOGIN_BAD_CREDENTIALS", "LOGIN_BAD_CREDENTIALS"},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(e->code, words[i].code) == 0) {
            bool registers = strcmp(group, "register") == 0;
            snprintf(e->code, sizeof(e->code), "%s",
                     registers ? words[i].register_word : words[i].update_word);
            e->kind = ERR_MALFORMED;
        }
    if (e->kind == ERR_NOT_FOUND)
        err_set(e, ERR_NOT_FOUND, "Not Found");
    return (int)e->kind;
}

static const char *actor(const struct request *q, char to[400])
{
    return principal_text(&q->who, to);
}

/* ---- registering and signing in ---- */

static int register_prepare(struct request *q, struct err *e)
{
    const struct user_input *in = q->body;
    const char *hash;
    enum role role;
    int rc = user_register_role(q, NULL, &role, e);
    if (rc == OK)
        rc = password_prepare(in->password, in->email, q->arena, &hash, e);
    if (rc != OK)
        return in_words_of(e, "register");
    q->prepared = (void *)(uintptr_t)hash;
    return OK;
}

static int register_handle(struct request *q, struct tx *tx, struct err *e)
{
    char who[400];
    enum role role;
    struct user made;
    int rc = user_register_role(q, tx, &role, e);
    if (rc == OK)
        rc = user_create(tx, q->body, q->prepared, role, actor(q, who), q->arena, &made, e);
    if (rc == OK && mail_sends(q->house))
        rc = recovery_ask(tx, q, LINK_VERIFY, made.email, e);
    if (rc != OK)
        return in_words_of(e, "register");
    q->audit_target = arena_printf(q->arena, "u-%lld", (long long)made.id);
    return request_answer(q, 201, &user_read, &made);
}

static int login_prepare(struct request *q, struct err *e)
{
    const struct login_form *f = q->body;
    int rc = sign_in_prepare(q, f->username, f->password, e);
    return rc != OK ? in_words_of(e, "login") : OK;
}

static int answer_bearer(struct request *q, const struct session_made *made)
{
    struct bearer b = {made->access_token, "bearer"};
    request_header(q, "Cache-Control", "no-store");
    return request_answer(q, 200, &bearer_view, &b);
}

static int login_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct session_made made;
    int rc = sign_in(tx, q, false, &made, e);
    return rc != OK ? in_words_of(e, "login") : answer_bearer(q, &made);
}

static int logout_handle(struct request *q, struct tx *tx, struct err *e)
{
    int rc = session_end(tx, q, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

static int refresh_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct session_made made;
    int rc = session_renew(tx, q, &made, e);
    return rc != OK ? rc : answer_bearer(q, &made);
}

/* ---- accounts ---- */

/* The account that the path names, else the caller's own. */
static int target_user(struct request *q, struct tx *tx, struct user *out, struct err *e)
{
    const struct user_path *path = q->params;
    int rc = path != NULL ? user_by_uuid(tx, path->id, q->arena, out, e)
                          : user_get(tx, q->who.user_id, q->arena, out, e);
    if (rc == OK)
        q->audit_target = arena_printf(q->arena, "u-%lld", (long long)out->id);
    return rc;
}

static int user_show(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    if (target_user(q, tx, &u, e) != OK)
        return in_words_of(e, "update");
    return request_answer(q, 200, &user_read, &u);
}

static int update_prepare(struct request *q, struct err *e)
{
    const struct user_input *in = q->body;
    const char *hash = NULL;
    if (in->password != NULL && password_prepare(in->password, in->email, q->arena, &hash, e) != OK)
        return in_words_of(e, "update");
    q->prepared = (void *)(uintptr_t)hash;
    return OK;
}

static int user_update_handle(struct request *q, struct tx *tx, struct err *e)
{
    char who[400];
    struct user u;
    unsigned given = user_input_given(q->route->body, q->body);
    int rc = target_user(q, tx, &u, e);
    if (rc == OK)
        rc = user_change_check(&q->who, &u, given, e);
    if (rc == OK)
        rc = user_change(tx, &u, q->body, given, q->prepared, actor(q, who), q->arena, e);
    if (rc != OK)
        return in_words_of(e, "update");
    return request_answer(q, 200, &user_read, &u);
}

static int user_delete_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    int rc = target_user(q, tx, &u, e);
    if (rc == OK)
        rc = user_delete(tx, &u, &q->who, q->arena, e);
    return rc != OK ? in_words_of(e, "update") : request_answer_empty(q, 204);
}

/* ---- the two sample routes ---- */

static int protected_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct protected_answer out = {
        .message = err_tr("This route is protected, and you may see it")};
    if (target_user(q, tx, &out.user_data, e) != OK)
        return in_words_of(e, "update");
    out.user = out.user_data.email;
    out.user_id = out.user_data.uuid;
    return request_answer(q, 200, &protected_view, &out);
}

static int admin_only_handle(struct request *q, struct tx *tx, struct err *e)
{
    (void)tx;
    (void)e;
    struct admin_answer out = {
        .message = err_tr("This route is for administrators, and you are one"),
        .user_id = q->who.uuid[0] != '\0' ? q->who.uuid : "local",
    };
    return request_answer(q, 200, &admin_view, &out);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"POST", "/auth/register", "auth_register", "Create a user account", ACCESS_ANYONE,
     .flags = ROUTE_STRICT_LIMIT, .body = &user_register, .prepare = register_prepare,
     .handle = register_handle, .answers = {{201, &user_read}}, .errors = "400 403",
     .tag = "accounts"},
    {"POST", "/auth/jwt/login", "auth_login",
     "Exchange e-mail and password (form) for a bearer token", ACCESS_ANYONE,
     .flags = ROUTE_FORM | ROUTE_STRICT_LIMIT, .body = &login_form, .prepare = login_prepare,
     .handle = login_handle, .answers = {{200, &bearer_view}}, .errors = "400", .tag = "accounts"},
    {"POST", "/auth/jwt/logout", "auth_logout", "Revoke the presented token", ACCESS_USER,
     .handle = logout_handle, .answers = {{204}}, .errors = "409", .tag = "accounts"},
    {"POST", "/auth/refresh", "auth_refresh", "Exchange a still-valid token for a fresh one",
     ACCESS_USER, .flags = ROUTE_STRICT_LIMIT, .handle = refresh_handle,
     .answers = {{200, &bearer_view}}, .errors = "409", .tag = "accounts"},
    {"GET", "/auth/users/me", "auth_me", "Profile of the caller", ACCESS_USER, .handle = user_show,
     .answers = {{200, &user_read}}, .errors = "404", .tag = "accounts"},
    {"PATCH", "/auth/users/me", "auth_me_update", "Change the caller's profile, e-mail or password",
     ACCESS_USER, .body = &user_update_own, .prepare = update_prepare, .handle = user_update_handle,
     .answers = {{200, &user_read}}, .errors = "400 404", .tag = "accounts"},
    {"GET", "/auth/users/{id}", "auth_user_show", "Read any user", ACCESS_ADMIN,
     .params = &user_path, .handle = user_show, .answers = {{200, &user_read}}, .errors = "404",
     .tag = "accounts"},
    {"PATCH", "/auth/users/{id}", "auth_user_update",
     "Change any user, including active, verified and administrator flags", ACCESS_ADMIN,
     .params = &user_path, .body = &user_update, .prepare = update_prepare,
     .handle = user_update_handle, .answers = {{200, &user_read}}, .errors = "400 404",
     .tag = "accounts"},
    {"DELETE", "/auth/users/{id}", "auth_user_delete", "Delete a user", ACCESS_ADMIN,
     .params = &user_path, .handle = user_delete_handle, .answers = {{204}}, .errors = "400 404",
     .tag = "accounts"},
    {"GET", "/api/protected-route", "protected_route", "Sample route that needs a valid token",
     ACCESS_USER, .handle = protected_handle, .answers = {{200, &protected_view}}, .errors = "404",
     .tag = "accounts"},
    {"GET", "/api/admin-only", "admin_only", "Sample route that needs an administrator",
     ACCESS_ADMIN, .handle = admin_only_handle, .answers = {{200, &admin_view}}, .tag = "accounts"},
};

static const struct err_text texts[] = {
    {"This route is protected, and you may see it", "这是一个受保护的路由，您已通过认证"},
    {"This route is for administrators, and you are one", "这是管理员专用路由，您是管理员"},
    {0},
};

const struct module platform_accounts_module = {
    .name = "platform-accounts",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &platform_surface,
    .texts = texts,
};
