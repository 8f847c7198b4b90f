/* The native routes of links: a new password, a verified e-mail.
 *
 * What must stay true: asking answers the same for every address; what a link does needs no other
 * credential, and only an administrator gets one to hand over. */
#include "surface/native/accounts.h"
#include "surface/surface.h"

#include "base/world.h"
#include "identity/accounts.h"
#include "identity/recovery.h"
#include "notify/notify.h"

struct ask {
    const char *email;
};
VIEW(mail_ask_view, struct ask, "MailAsk", NULL, 0,
     FIELD(struct ask, "email", email, T_TEXT, .flags = F_REQUIRED | F_EMAIL, .min = 3,
           .max = 320));
struct asked {
    bool mail;
};
VIEW(mail_asked_view, struct asked, "MailAsked", NULL, 0,
     FIELD(struct asked, "mail", mail, T_BOOL,
           .doc = "this server sends mail; else an administrator makes the link"));

struct new_password {
    const char *token, *password;
};
VIEW(password_reset_view, struct new_password, "PasswordReset", NULL, 0,
     FIELD(struct new_password, "token", token, T_TEXT, .flags = F_REQUIRED, .max = 200),
     FIELD(struct new_password, "password", password, T_TEXT, .flags = F_REQUIRED));
struct proof {
    const char *token;
};
VIEW(email_verify_view, struct proof, "EmailVerify", NULL, 0,
     FIELD(struct proof, "token", token, T_TEXT, .flags = F_REQUIRED, .max = 200));
VIEW(link_view, struct account_link, "ResetLink", NULL, 0,
     FIELD(struct account_link, "url", url, T_TEXT, .doc = "works once; shown once"),
     FIELD(struct account_link, "expires_at", expires_at, T_TIME));

static int ask_for(struct request *q, struct tx *tx, enum link_kind kind, struct err *e)
{
    struct asked out = {mail_sends(q->house)};
    int rc = recovery_ask(tx, q, kind, ((const struct ask *)q->body)->email, e);
    return rc != OK ? rc : request_answer(q, 202, &mail_asked_view, &out);
}

static int forgot_handle(struct request *q, struct tx *tx, struct err *e)
{
    return ask_for(q, tx, LINK_RESET, e);
}

static int verify_ask_handle(struct request *q, struct tx *tx, struct err *e)
{
    return ask_for(q, tx, LINK_VERIFY, e);
}

static int reset_prepare(struct request *q, struct err *e)
{
    const struct new_password *in = q->body;
    int rc = recovery_prepare(q, in->token, in->password, e);
    return rc != OK ? native_password_field(q, e) : OK;
}

static int reset_handle(struct request *q, struct tx *tx, struct err *e)
{
    const struct new_password *in = q->body;
    struct user u;
    int rc = recovery_reset(tx, q, in->token, in->password, &u, e);
    return rc != OK ? native_password_field(q, e) : request_answer_empty(q, 204);
}

static int verify_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    int rc = recovery_verify(tx, q, ((const struct proof *)q->body)->token, &u, e);
    return rc != OK ? rc : request_answer(q, 200, &user_view, &u);
}

static int reset_link_handle(struct request *q, struct tx *tx, struct err *e)
{
    const struct native_id *path = q->params;
    struct user u;
    struct account_link l;
    int rc = user_get(tx, path->id, q->arena, &u, e);
    if (rc == OK && !u.is_active)
        rc = err_set(e, ERR_CONFLICT, "the account is not active: activate it first");
    if (rc == OK)
        rc = link_make(tx, LINK_RESET, &u, q->arena, &l, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_printf(q->arena, "u-%lld", (long long)u.id);
    return native_answer_secret(q, 201, &link_view, &l);
}

static const struct route routes[] = {
    {"POST", "/v1/password/forgot", "password_forgot",
     "Ask for a mail with a link for a new password; the answer is the same for every address",
     ACCESS_ANYONE, .flags = ROUTE_STRICT_LIMIT, .body = &mail_ask_view, .handle = forgot_handle,
     .answers = {{202, &mail_asked_view}}, .tag = "session"},
    {"POST", "/v1/password/reset", "password_reset",
     "Set a new password with a link; ends every session of the account", ACCESS_ANYONE,
     .flags = ROUTE_STRICT_LIMIT, .body = &password_reset_view, .prepare = reset_prepare,
     .handle = reset_handle, .answers = {{204}}, .errors = "400", .tag = "session"},
    {"POST", "/v1/email/ask", "email_ask",
     "Ask for a mail with a link that verifies the address; the same answer for every address",
     ACCESS_ANYONE, .flags = ROUTE_STRICT_LIMIT, .body = &mail_ask_view,
     .handle = verify_ask_handle, .answers = {{202, &mail_asked_view}}, .tag = "session"},
    {"POST", "/v1/email/verify", "email_verify", "Verify an address with a link", ACCESS_ANYONE,
     .flags = ROUTE_STRICT_LIMIT, .body = &email_verify_view, .handle = verify_handle,
     .answers = {{200, &user_view}}, .errors = "400 409", .tag = "session"},
    {"POST", "/v1/users/{id}/reset-link", "user_reset_link",
     "Make a link for a new password, to hand over where no mail goes", ACCESS_ADMIN,
     .params = &user_path_view, .handle = reset_link_handle, .answers = {{201, &link_view}},
     .errors = "404 409", .tag = "users"},
};

static const struct err_text texts[] = {
    {"the account is not active: activate it first", "此账户未启用，请先启用"},
    {0},
};

const struct module native_recovery_module = {
    .name = "native-recovery",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .texts = texts,
};
