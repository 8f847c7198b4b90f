/* Secrets: small texts that are kept sealed and opened only where they are used.
 *
 * All of them lie in one table, so that there is one place to rotate: whoever has a credential to
 * keep (a provider's key, a registry's password, a BMC's) keeps its *name* in its own row and the
 * text here. A secret is of an account, or of the server itself (owner 0), and its place (owner and
 * name) is bound to it by the cipher (io/crypto.h).
 *
 * To use one inside a transaction:
 *     char *text;
 *     rc = secret_get(tx, owner, "registry-ghcr.io", tx_arena(tx), &text, e);
 * and hand it on; never log it, put it in an answer, an event or a row. ERR_NOT_FOUND: there is
 * none of that name.
 *
 * The key file is DROVER_KEY_FILE (DATA_DIR/secret.key). A backup of the database opens only with
 * the key file of its time. Threads: any. */
#ifndef IDENTITY_SECRETS_H
#define IDENTITY_SECRETS_H

#include "core/house.h"

enum { SECRET_NAME_MAX = 100, SECRET_TEXT_MAX = 64 << 10 };

struct secret {
    int64_t id, owner; /* owner 0: the server's own, and the built-in "local" */
    const char *name;
    const char *sealed, *key_id;
    int64_t created_at, updated_at;
};
extern const struct record secret_record;

/* Letters, digits, and . _ - behind the first. */
bool secret_name_good(const char *name);
/* Makes or replaces it. *out, without its text, may be NULL. */
int secret_put(struct tx *tx, int64_t owner, const char *name, const char *text, struct arena *a,
               struct secret *out, struct err *e);
int secret_get(struct tx *tx, int64_t owner, const char *name, struct arena *a, char **text,
               struct err *e);
int secret_list(struct tx *tx, int64_t owner, int64_t after, int64_t limit, struct arena *a,
                struct list *out, struct err *e);
int secret_delete(struct tx *tx, int64_t owner, const char *name, struct err *e);

/* Makes a new key, seals everything anew under it in transactions of bounded size, and drops the
 * old key when nothing needs it any more. A server that dies on the way finishes it at its next
 * start. Not inside a transaction. *resealed: how many. */
int secrets_rotate(struct house *h, int64_t *resealed, struct err *e);

#endif
