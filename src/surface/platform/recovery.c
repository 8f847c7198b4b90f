/* The documented routes of links (contract 3.1): forgot-password, reset-password,
 * request-verify-token, verify. The answers' codes are the documented words. */
#include "surface/surface.h"

#include "identity/accounts.h"
#include "identity/recovery.h"
#include "surface/platform/accounts.h"

#include <stdio.h>
#include <string.h>

struct ask {
    const char *email;
};
VIEW(forgot_view, struct ask, "ForgotPassword", NULL, 0,
     FIELD(struct ask, "email", email, T_TEXT, .flags = F_REQUIRED | F_EMAIL, .min = 3,
           .max = 320));
struct reset {
    const char *token, *password;
};
VIEW(reset_view, struct reset, "ResetPassword", NULL, 0,
     FIELD(struct reset, "token", token, T_TEXT, .flags = F_REQUIRED),
     FIELD(struct reset, "password", password, T_TEXT, .flags = F_REQUIRED));
struct proof {
    const char *token;
};
VIEW(verify_view, struct proof, "VerifyToken", NULL, 0,
     FIELD(struct proof, "token", token, T_TEXT, .flags = F_REQUIRED));

#define NULL_BODY "{\"type\":\"null\"}"

static int in_words(struct err *e)
{
    static const struct {
        const char *code, *word;
    } words[] = {
        {"LINK_BAD", "RESET_PASSWORD_BAD_TOKEN"},
        {"WEAK_PASSWORD", "RESET_PASSWORD_INVALID_PASSWORD"},
        {"ALREADY_VERIFIED", "VERIFY_USER_ALREADY_VERIFIED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(e->code, words[i].code) == 0) {
            snprintf(e->code, sizeof(e->code), "%s", words[i].word);
            e->kind = ERR_MALFORMED;
            break;
        }
    return (int)e->kind;
}

static int ask_for(struct request *q, struct tx *tx, enum link_kind kind, struct err *e)
{
    int rc = recovery_ask(tx, q, kind, ((const struct ask *)q->body)->email, e);
    return rc != OK ? rc : request_answer_raw(q, 202, "application/json", "null", 4);
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
    const struct reset *in = q->body;
    return recovery_prepare(q, in->token, in->password, e) != OK ? in_words(e) : OK;
}

static int reset_handle(struct request *q, struct tx *tx, struct err *e)
{
    const struct reset *in = q->body;
    struct user u;
    if (recovery_reset(tx, q, in->token, in->password, &u, e) != OK)
        return in_words(e);
    return request_answer_raw(q, 200, "application/json", "null", 4);
}

static int verify_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    if (recovery_verify(tx, q, ((const struct proof *)q->body)->token, &u, e) != OK) {
        if (strcmp(e->code, "LINK_BAD") == 0)
            snprintf(e->code, sizeof(e->code), "VERIFY_USER_BAD_TOKEN");
        return in_words(e);
    }
    return request_answer(q, 200, &user_read, &u);
}

static const struct route routes[] = {
    {"POST", "/auth/forgot-password", "auth_forgot_password", "Start a password reset; always 202",
     ACCESS_ANYONE, .flags = ROUTE_STRICT_LIMIT, .body = &forgot_view, .handle = forgot_handle,
     .answers = {{202, .schema = NULL_BODY}}, .tag = "accounts"},
    {"POST", "/auth/reset-password", "auth_reset_password",
     "Finish a password reset with the mailed token", ACCESS_ANYONE, .flags = ROUTE_STRICT_LIMIT,
     .body = &reset_view, .prepare = reset_prepare, .handle = reset_handle,
     .answers = {{200, .schema = NULL_BODY}}, .errors = "400", .tag = "accounts"},
    {"POST", "/auth/request-verify-token", "auth_request_verify",
     "Ask for an e-mail verification token; always 202", ACCESS_ANYONE, .flags = ROUTE_STRICT_LIMIT,
     .body = &forgot_view, .handle = verify_ask_handle, .answers = {{202, .schema = NULL_BODY}},
     .tag = "accounts"},
    {"POST", "/auth/verify", "auth_verify", "Confirm an e-mail address with the mailed token",
     ACCESS_ANYONE, .flags = ROUTE_STRICT_LIMIT, .body = &verify_view, .handle = verify_handle,
     .answers = {{200, &user_read}}, .errors = "400", .tag = "accounts"},
};

const struct module platform_recovery_module = {
    .name = "platform-recovery",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &platform_surface,
};
