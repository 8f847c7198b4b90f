/* Verifying an e-mail and resetting a password by a link.
 *
 * What must stay true: a link is used in the transaction that deletes it, so it works once also
 * when it is shown twice at once; nothing here tells a stranger whether an account exists. */
#include "identity/recovery.h"

#include "base/str.h"
#include "base/world.h"
#include "identity/parts.h"

#include <ctype.h>
#include <string.h>

enum { LINK_CHARS = 40 };
#define LINK_PREFIX "drl_"

static const char *const link_kind_names[] = {"reset", "verify", NULL};

RECORD(link_record, struct account_link, "account_links",
       MEMBER(struct account_link, id, T_ID, .prefix = "l"),
       MEMBER(struct account_link, kind, T_ENUM, .names = link_kind_names),
       MEMBER(struct account_link, user_id, T_INT), MEMBER(struct account_link, email, T_TEXT),
       MEMBER(struct account_link, hash, T_TEXT, .flags = M_SECRET),
       MEMBER(struct account_link, created_at, T_TIME),
       MEMBER(struct account_link, expires_at, T_TIME, .doc = "when it stops working"));

int link_make(struct tx *tx, enum link_kind kind, const struct user *u, struct arena *a,
              struct account_link *out, struct err *e)
{
    static const char *const pages[] = {"/reset-password", "/verify-email"};
    char secret[LINK_CHARS + 1], hex[SHA256_HEX_SIZE];
    const char *token = arena_printf(a, LINK_PREFIX "%s", random_text(secret, LINK_CHARS));
    struct account_link l = {
        .kind = (int)kind,
        .user_id = u->id,
        .email = u->email,
        .hash = arena_strdup(a, sha256_hex(token, hex)),
        .created_at = now_us(),
        .expires_at = now_us() + LINK_LIFE_S * US_PER_S,
    };
    int rc = record_insert(tx, &link_record, &l, &l.id, e);
    if (rc == OK)
        rc = tx_exec(tx,
                     "DELETE FROM account_links WHERE kind = ?1 AND user_id = ?2 AND id NOT IN"
                     " (SELECT id FROM account_links WHERE kind = ?1 AND user_id = ?2"
                     " ORDER BY id DESC LIMIT ?3)",
                     ARGS(v_text(link_kind_names[kind]), v_int(u->id), v_int(LINKS_MAX)), NULL, e);
    if (rc != OK)
        return rc;
    l.url = arena_printf(a, "%s%s#token=%s", notify_base_url(tx_house(tx), a), pages[kind], token);
    *out = l;
    return OK;
}

int links_delete_all(struct tx *tx, int64_t user_id, struct err *e)
{
    return tx_exec(tx, "DELETE FROM account_links WHERE user_id = ?1", ARGS(v_int(user_id)), NULL,
                   e);
}

/* ---- asking, and the mails ---- */

int recovery_ask(struct tx *tx, const struct request *q, enum link_kind kind, const char *email,
                 struct err *e)
{
    char *low = arena_strdup(tx_arena(tx), email);
    for (char *c = low; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    struct mail_ask ask = {link_kind_names[kind], low, (int)q->lang};
    return mail_ask(tx, &ask, e);
}

static const char *text_of(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the translation of a checked format */
static const char *text_of(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = arena_vprintf(a, err_tr(fmt), ap);
    va_end(ap);
    return text;
}
#pragma GCC diagnostic pop

static int write_link(struct tx *tx, enum link_kind kind, const char *to, struct arena *a,
                      struct account_link *out, struct err *e)
{
    struct user u;
    int rc = user_by_email(tx, to, a, &u, e);
    if (rc == ERR_NOT_FOUND || (rc == OK && !u.is_active) ||
        (rc == OK && kind == LINK_VERIFY && u.is_verified)) {
        err_clear(e);
        return OK; /* out->url stays NULL: nothing to say */
    }
    return rc != OK ? rc : link_make(tx, kind, &u, a, out, e);
}

static int write_reset(struct tx *tx, const struct mail_ask *m, struct arena *a,
                       struct mail_text *out, struct err *e)
{
    struct account_link l = {0};
    int rc = write_link(tx, LINK_RESET, m->to, a, &l, e);
    if (rc != OK || l.url == NULL)
        return rc;
    out->subject = err_tr("A new password for Drover");
    out->text = text_of(a,
                        "Somebody asked for a new password for the Drover account %s.\n"
                        "Choose it here within an hour:\n\n%s\n\n"
                        "Was it not you? Do nothing: the old password goes on.\n",
                        m->to, l.url);
    return OK;
}

static int write_verify(struct tx *tx, const struct mail_ask *m, struct arena *a,
                        struct mail_text *out, struct err *e)
{
    struct account_link l = {0};
    int rc = write_link(tx, LINK_VERIFY, m->to, a, &l, e);
    if (rc != OK || l.url == NULL)
        return rc;
    out->subject = err_tr("Is this your address?");
    out->text = text_of(a,
                        "The Drover account %s uses this address.\n"
                        "Confirm within an hour that it is yours:\n\n%s\n\n"
                        "Do you know nothing of it? Do nothing.\n",
                        m->to, l.url);
    return OK;
}

const struct mail_kind recovery_mails[] = {
    {"reset", write_reset},
    {"verify", write_verify},
    {NULL},
};

/* ---- using ---- */

static int bad_link(struct err *e)
{
    return err_code(e, ERR_MALFORMED, "LINK_BAD",
                    "this link was used already, is too old, or was never one; ask for another");
}

struct found_link {
    struct request *q;
    const char *token;
    enum link_kind kind;
    struct account_link link;
    struct user user;
};

/* The link and its account, when both are good. */
static int find_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct found_link *f = ctx;
    char hex[SHA256_HEX_SIZE];
    bool found;
    if (!str_starts(f->token, LINK_PREFIX) || strlen(f->token) != strlen(LINK_PREFIX) + LINK_CHARS)
        return bad_link(e);
    int rc = record_get(tx, &link_record, "WHERE hash = ?1 AND kind = ?2",
                        ARGS(v_text(sha256_hex(f->token, hex)), v_text(link_kind_names[f->kind])),
                        f->q->arena, &f->link, &found, e);
    if (rc == OK && (!found || f->link.expires_at <= now_us()))
        return bad_link(e);
    if (rc == OK)
        rc = user_get(tx, f->link.user_id, f->q->arena, &f->user, e);
    if (rc == ERR_NOT_FOUND ||
        (rc == OK && (!f->user.is_active || strcmp(f->user.email, f->link.email) != 0)))
        return bad_link(e);
    return rc;
}

int recovery_prepare(struct request *q, const char *token, const char *password, struct err *e)
{
    struct found_link f = {.q = q, .token = token, .kind = LINK_RESET};
    const char *hash;
    /* first, so that guessing at links costs no Argon2 */
    int rc = store_read(house_store(q->house), find_tx, &f, e);
    if (rc == OK)
        rc = password_prepare(password, f.user.email, q->arena, &hash, e);
    if (rc == OK)
        q->prepared = (void *)(uintptr_t)hash;
    return rc;
}

int recovery_reset(struct tx *tx, struct request *q, const char *token, const char *password,
                   struct user *out, struct err *e)
{
    struct found_link f = {.q = q, .token = token, .kind = LINK_RESET};
    struct user_input in = {.password = password};
    int rc = find_tx(tx, &f, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_printf(q->arena, "u-%lld", (long long)f.user.id);
    /* every link of the account goes with the old password */
    rc = user_change(tx, &f.user, &in, GIVEN_PASSWORD, q->prepared,
                     arena_printf(q->arena, "user:%s", f.user.email), q->arena, e);
    if (rc == OK)
        *out = f.user;
    return rc;
}

int recovery_verify(struct tx *tx, struct request *q, const char *token, struct user *out,
                    struct err *e)
{
    struct found_link f = {.q = q, .token = token, .kind = LINK_VERIFY};
    struct user_input in = {.is_verified = true};
    int rc = find_tx(tx, &f, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_printf(q->arena, "u-%lld", (long long)f.user.id);
    if (f.user.is_verified)
        return err_code(e, ERR_CONFLICT, "ALREADY_VERIFIED", "this address is verified already");
    rc = user_change(tx, &f.user, &in, GIVEN_VERIFIED, NULL,
                     arena_printf(q->arena, "user:%s", f.user.email), q->arena, e);
    if (rc == OK)
        rc = tx_exec(tx, "DELETE FROM account_links WHERE user_id = ?1 AND kind = 'verify'",
                     ARGS(v_int(f.user.id)), NULL, e);
    if (rc == OK)
        *out = f.user;
    return rc;
}
