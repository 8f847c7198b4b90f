/* Links that prove whose an address is: one for a new password, one to verify an e-mail.
 *
 * A link works once and for LINK_LIFE_S; only a hash of its secret is stored, with the address it
 * was made for, so it is worth nothing after the address changed. The secret stands behind the # of
 * the URL, which browsers send to nobody.
 *
 * Asking tells nothing: the answer and the work are the same whether or not somebody has that
 * address (the account is looked for when the mail is written).
 *
 * Errors: LINK_BAD (malformed): unknown, used, too old, or of an account that is not active;
 * ALREADY_VERIFIED (conflict); WEAK_PASSWORD as elsewhere.
 *
 * Threads: recovery_prepare() on a worker outside transactions; the rest in a write transaction.
 */
#ifndef IDENTITY_RECOVERY_H
#define IDENTITY_RECOVERY_H

#include "identity/identity.h"

enum link_kind { LINK_RESET, LINK_VERIFY };
enum { LINK_LIFE_S = 3600, LINKS_MAX = 3 };

struct account_link {
    int64_t id;
    int kind; /* enum link_kind */
    int64_t user_id;
    const char *email, *hash;
    int64_t created_at, expires_at;

    const char *url; /* not stored: told once */
};
/* For an administrator to hand over, and for mails. The newest LINKS_MAX of a kind work. */
int link_make(struct tx *tx, enum link_kind kind, const struct user *u, struct arena *a,
              struct account_link *out, struct err *e);

/* Asks for the mail with a link, in the request's language. */
int recovery_ask(struct tx *tx, const struct request *q, enum link_kind kind, const char *email,
                 struct err *e);
/* Leaves the hash of the new password in q->prepared. */
int recovery_prepare(struct request *q, const char *token, const char *password, struct err *e);
/* Sets the password; ends every session of the account. */
int recovery_reset(struct tx *tx, struct request *q, const char *token, const char *password,
                   struct user *out, struct err *e);
int recovery_verify(struct tx *tx, struct request *q, const char *token, struct user *out,
                    struct err *e);

#endif
