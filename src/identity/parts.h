/* What the files of this room share; no other room includes it.
 *
 *   identity.c      the module: migrations, settings, start, duties
 *   users.c         accounts            passwords.c  rules and generated passwords
 *   sessions.c      tokens of sessions  sign_in.c    comparing passwords, back-off
 *   tokens.c        service tokens and tickets
 *   recovery.c      links for a new password and to verify an e-mail
 *   secrets.c       sealed texts, their key and its rotation
 *   authenticate.c  from a request to a principal
 *   cache.c         what is kept in memory           audit.c  the audit log
 *   texts.c         error texts in Chinese
 *   jwt.c trust.c words.c               pure
 */
#ifndef IDENTITY_PARTS_H
#define IDENTITY_PARTS_H

#include "identity/accounts.h"
#include "identity/audit.h"
#include "identity/secrets.h"
#include "identity/jwt.h"
#include "identity/sessions.h"
#include "identity/trust.h"
#include "io/crypto.h"
#include "notify/notify.h"

#include <pthread.h>
#include <stdatomic.h>

/* An account as authentication needs it. */
struct known_user {
    int64_t id;
    enum role role;
    bool is_active;
    int64_t generation;
    char uuid[UUID_TEXT_SIZE];
    char email[324];
    int64_t read_at; /* mono_us() */
};
/* A service token, by its hash. */
struct known_token {
    int64_t id, user_id;
    int64_t expires_at;
    int64_t permissions; /* INT_NULL: the role's */
    bool granted;
    char user_uuid[UUID_TEXT_SIZE]; /* "": the built-in "local" */
    int64_t read_at;
    _Atomic int64_t used_at; /* wall clock; written back by a duty */
    int64_t saved_at;        /* last value of used_at in the store; the duty's own */
};

enum { BACKOFF_SETS = 1024, BACKOFF_WAYS = 4 };
struct backoff_entry {
    uint64_t tag;           /* keyed hash of the account's e-mail */
    int64_t until, last_at; /* mono_us() */
    int failures;
};

enum { DELETE_HOOKS_MAX = 8 };

enum registration { REGISTRATION_AUTO, REGISTRATION_OPEN, REGISTRATION_CLOSED };

struct identity {
    struct house *house;
    struct arena arena; /* lives as long as the module; start-up only */
    struct trust trust;
    struct jwt_key signing_key;
    struct secret_key *secret_key; /* under keys_lock */
    const char *key_path;
    pthread_rwlock_t keys_lock;
    pthread_mutex_t rotate_lock; /* one rotation at a time */
    int64_t access_s, refresh_s, recheck_us;
    bool first_is_admin;
    enum registration registration;
    bool loopback; /* no other machine can connect */
    const char *first_password;

    /* cache.c */
    pthread_rwlock_t lock;
    struct map users;   /* uuid → struct known_user */
    struct map tokens;  /* hash → struct known_token */
    struct map revoked; /* jti or sid → its end in Unix seconds */
    uint64_t epoch;     /* rises with every forgetting */

    pthread_mutex_t backoff_lock;
    struct backoff_entry backoff[BACKOFF_SETS][BACKOFF_WAYS];
    uint8_t backoff_key[SHA256_SIZE];

    _Atomic uint64_t signed_in, refused;
};

/* The module's state, from a transaction or a house. */
struct identity *identity_of(const struct house *h);

/* ---- secrets.c ---- */

/* Opens the key file and makes sure that it is the one of this database; finishes a rotation. */
int secrets_start(struct identity *id, struct err *e);
int secrets_delete_all(struct tx *tx, int64_t owner, struct err *e);

/* ---- cache.c: any thread ---- */

void cache_init(struct identity *id);
void cache_fini(struct identity *id);
/* OK, ERR_UNAUTHENTICATED when there is no such account, ERR_UNAVAILABLE when `fast` and the
 * store would have to be asked. */
int cache_user(struct identity *id, const char *uuid, bool fast, struct known_user *out,
               struct err *e);
int cache_token(struct identity *id, const char *hash, bool fast, struct known_token *out,
                struct err *e);
bool cache_revoked(struct identity *id, const char *token_id);
/* Inside a write transaction: take effect after its commit. */
void cache_forget_user(struct tx *tx, const char *uuid);
void cache_forget_token(struct tx *tx, const char *hash);
int cache_revoke(struct tx *tx, const char *token_id, int64_t until_s, struct err *e);
/* Reads the revocations that still matter; also what other replicas revoked. */
int cache_load_revoked(struct identity *id, struct err *e);
void cache_save_use(struct identity *id);
void cache_drop_ended(struct identity *id);

/* ---- users.c ---- */

int user_by_email(struct tx *tx, const char *email, struct arena *a, struct user *out,
                  struct err *e);

/* ---- sessions.c ---- */

/* Ends all families of refresh tokens of an account. */
int sessions_end_all(struct tx *tx, int64_t user_id, struct err *e);

/* ---- audit.c ---- */

int audit_write(struct tx *tx, const struct request *q, const char *target, const char *outcome,
                struct err *e);

/* ---- sign_in.c ---- */

/* Unknown address, wrong password, inactive account: one error, code LOGIN_BAD_CREDENTIALS. */
int bad_login(struct err *e);

/* ---- tokens.c ---- */

#define TOKEN_PREFIX "drv_"
#define KEY_PREFIX   "sk_live_"
/* A token is worth what its account's role is worth now. */
unsigned permissions_of_role(enum role role);

int ticket_redeem(struct identity *id, const char *ticket, struct principal *who, struct err *e);
int service_tokens_delete_all(struct tx *tx, int64_t user_id, struct err *e);

/* ---- recovery.c ---- */

extern const struct record link_record;
extern const struct mail_kind recovery_mails[];
int links_delete_all(struct tx *tx, int64_t user_id, struct err *e);

/* ---- authenticate.c ---- */

/* The text after "Bearer " of the Authorization header; NULL: none, "": another scheme. */
const char *bearer_of(const struct request *q);
/* Sent by someone on this machine, as far as the trusted-network rule can tell, whatever AUTH_MODE
 * says. Never true where other machines can connect. */
bool came_from_here(const struct identity *id, const struct request *q);
/* From an account to what it may do through a session. */
void principal_of_user(const struct known_user *u, enum via via, struct principal *who);

/* A credential that is not, or no longer, good: one error for every reason. */
int bad_credential(struct err *e);

extern const struct err_text identity_texts[];

#endif
