/* Who people are: accounts, and the module that keeps them.
 *
 *   identity.h   the module, the account record, finding accounts, hooks
 *   accounts.h   creating, changing and deleting accounts
 *   sessions.h   signing in and out, refreshing, tickets, service tokens
 *
 * A credential is one of: a session (JWT, HS256, thirty minutes, see sessions.h), a service token
 * (drv_…), the unix socket (the server's own uid or root: administrator "local"), a one-time
 * ticket for browsers, or none at all under the trusted-network rule (contract 1.4).
 *
 * Freshness: accounts, service tokens and revocations are cached. A change made by this process
 * counts at once after its commit; one made by another replica counts after at most
 * ACCOUNT_RECHECK seconds (5).
 *
 * Threads: user_* inside a transaction; the rest as said.
 */
#ifndef IDENTITY_IDENTITY_H
#define IDENTITY_IDENTITY_H

#include "core/route.h"

struct user {
    int64_t id;                /* u-1 */
    const char *uuid;          /* id of the documented surfaces */
    const char *email;         /* lower case */
    const char *username;      /* unique: the nickname or the e-mail's local part */
    const char *password_hash; /* Argon2id; "": nobody can sign in with a password */
    int role;                  /* enum role */
    bool is_active, is_verified;
    const char *first_name, *last_name, *nickname, *avatar, *phone, *organization;
    int64_t compute_us; /* GPU time used, all jobs */
    int64_t cost_micro; /* millionths of a dollar, all jobs */
    int64_t generation; /* rises when every session must end */
    int64_t created_at, updated_at, last_login;

    const char *new_password; /* not stored: told once after it was generated */
};
extern const struct record user_record;

extern const struct module identity_module;

/* *out lives in the arena. ERR_NOT_FOUND "no such user". */
int user_get(struct tx *tx, int64_t id, struct arena *a, struct user *out, struct err *e);
int user_by_uuid(struct tx *tx, const char *uuid, struct arena *a, struct user *out, struct err *e);
/* By what people write: u-17, the uuid, the user name or the e-mail. */
int user_find(struct tx *tx, const char *text, struct arena *a, struct user *out, struct err *e);

/* Who has the credential (dra_…) whose SHA-256 is `hash`: a room above that knows nodes says. On a
 * worker outside a transaction. Set from a module's start. */
typedef int agent_fn(struct house *h, const char *hash, int64_t *node, struct err *e);
void identity_on_agent(agent_fn *fn);

/* For router_authenticator() and router_auditor(). */
authenticate_fn identity_authenticate;
audit_fn identity_audit;

/* Whether what a long-lived connection was opened with still holds: not signed out, password not
 * changed, account active and in the same role, service token there, not expired. May read the
 * store: not on I/O threads, not under a lock. True when the store cannot be asked. */
bool identity_still_holds(struct house *h, const struct principal *who);

/* The password of admin@localhost when this start made that account, else NULL. Four parts such
 * as kite-lamp-orbit-7341: three words of 1,024 (10 bits each) and a number of 9,000 (13.1 bits),
 * 43 bits, against a hash that costs a tenth of a second. Lives as long as the house. */
const char *identity_first_password(const struct house *h);

/* Asked inside the transaction in which `who` deletes an account, before its row goes; an error
 * keeps the account. Call from a module's start (at most eight hooks). */
typedef int user_delete_fn(struct tx *tx, int64_t user_id, const struct principal *who,
                           struct err *e);
void identity_on_delete(user_delete_fn *fn);

#endif
