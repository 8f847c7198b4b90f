/* Signing in and out, refreshing, tickets and service tokens.
 *
 * Access token: a JWT (RFC 7519, HS256) with sub, aud, exp, iat, jti and two claims of our own:
 * gen, the account's generation (a password change ends all older tokens), and sid, the family of
 * refresh tokens it came from. Refresh token: drr_ and 48 random characters, of which only a hash
 * is stored. Each use gives a new pair and kills the old one; using a dead one means that two
 * parties have it, so the whole family ends (RFC 9700, section 4.14.2) and an audit row says so.
 *
 * Service token: drv_ and 40 random characters, only a hash is stored. It acts as its account,
 * with the permissions that the account's role has now.
 *
 * Errors: LOGIN_BAD_CREDENTIALS is ERR_UNAUTHENTICATED.
 *
 * Threads: *_prepare and session_rotate on a worker outside transactions; the rest inside a write
 * transaction.
 */
#ifndef IDENTITY_SESSIONS_H
#define IDENTITY_SESSIONS_H

#include "identity/identity.h"

struct session_made {
    const char *access_token;
    const char *refresh_token; /* NULL: not asked for */
    int64_t expires_in;        /* s, of the access token */
    struct user user;
};

/* Compares the password (one Argon2 in any case) and leaves what it found in q->prepared. Unknown
 * address, wrong password and inactive account are one error. After several failures in a row an
 * account answers ERR_LIMITED for a growing while. */
int sign_in_prepare(struct request *q, const char *email, const char *password, struct err *e);
/* Issues the tokens for what sign_in_prepare() left; sets last_login. */
int sign_in(struct tx *tx, struct request *q, bool refreshable, struct session_made *out,
            struct err *e);
/* Exchanges a refresh token, in a transaction of its own. */
int session_rotate(struct request *q, const char *refresh_token, struct session_made *out,
                   struct err *e);
/* Another access token for the session that the request came with; the old one lives on. */
int session_renew(struct tx *tx, struct request *q, struct session_made *out, struct err *e);
/* Ends the request's token and the family it came from. ERR_CONFLICT when it is no session. */
int session_end(struct tx *tx, struct request *q, struct err *e);

enum { TICKET_S = 30 };
/* A one-time credential for a WebSocket or an event stream of a browser. */
int ticket_make(struct tx *tx, const struct principal *who, const char **ticket, struct arena *a,
                struct err *e);

/* A sign-in that can be renewed: one browser, one command line. */
struct session {
    int64_t id;           /* s-4 */
    const char *uuid;     /* sid of its access tokens */
    const char *handle;   /* first half of the refresh token: finds the family */
    const char *hash;     /* of the one that is alive */
    const char *previous; /* of the one before it; NULL: none */
    int64_t user_id;
    const char *address, *agent; /* where it was made, by which program (NULL: not told) */
    int64_t created_at, used_at, expires_at, ended_at;
};
extern const struct record session_record;
/* Those of the account that are alive, oldest first. */
int session_list(struct tx *tx, int64_t user_id, int64_t after, int64_t limit, struct arena *a,
                 struct list *out, struct err *e);
/* Ends one of the caller's own, or anyone's for an administrator; else ERR_NOT_FOUND. */
int sign_in_end(struct tx *tx, const struct principal *who, int64_t id, struct arena *a,
                struct err *e);

/* Service tokens (drv_…) and documented API keys (sk_live_…) are one thing: they differ by how
 * they begin. */
struct service_token {
    int64_t id; /* t-3 */
    const char *name;
    const char *prefix; /* its first characters, to tell it by */
    const char *hash;
    int64_t user_id;     /* 0: the built-in "local" */
    int64_t permissions; /* enum permission; INT_NULL: what the account's role has */
    bool granted;        /* by an administrator: holds beyond what the role has */
    int64_t created_at, last_used_at, expires_at;

    const char *token; /* not stored: told once */
};
extern const struct record service_token_record;
struct service_token_spec {
    const char *name;
    int64_t user_id;     /* whose it will be */
    int64_t permissions; /* INT_NULL: what the account's role has */
    int64_t expires_at;  /* 0: never */
    bool documented;     /* begins with sk_live_ */
};
/* ERR_FORBIDDEN when asked with a token, or for more than the caller's role has; only an
 * administrator makes one for somebody else or with more than that account's role has. */
int service_token_make(struct tx *tx, const struct principal *who,
                       const struct service_token_spec *spec, struct arena *a,
                       struct service_token *out, struct err *e);
/* The words of contract 1.4 by bit; NULL at the end. */
extern const char *const permission_names[];
/* False: *bad is no such word. */
bool permissions_parse(const struct texts *words, int64_t *out, const char **bad);
void permissions_write(struct json *j, int64_t permissions);
int service_token_list(struct tx *tx, int64_t user_id, int64_t after, int64_t limit,
                       struct arena *a, struct list *out, struct err *e);
/* The caller's own, or anyone's for an administrator; else ERR_NOT_FOUND. */
int service_token_delete(struct tx *tx, const struct principal *who, int64_t id, struct arena *a,
                         struct err *e);

#endif
