/* Who is asking, and what a route demands. An omitted access column denies.
 *
 * Roles and the trusted-network rule: contract 1.4 with its amendments. */
#ifndef CORE_ACCESS_H
#define CORE_ACCESS_H

#include "base/err.h"
#include "base/world.h"

#include <stdbool.h>
#include <stdint.h>

enum role { ROLE_USER, ROLE_OPERATOR, ROLE_ENGINEER, ROLE_ADMIN };
extern const char *const role_names[];

enum access {
    ACCESS_DENIED, /* what a row has when nobody thought about it */
    ACCESS_ANYONE,
    ACCESS_USER,  /* any active account */
    ACCESS_OWNER, /* an account; the handler shows only what is the caller's */
    ACCESS_ADMIN,
    ACCESS_OPEN,  /* any credential, or the trusted network */
    ACCESS_OPS,   /* admin, engineer, operator, a key with the permission, or trusted network */
    ACCESS_AGENT, /* a node's agent */
};

extern const char *const access_names[]; /* "denied", "anyone", "user" … */

enum via { VIA_NOBODY, VIA_SESSION, VIA_TOKEN, VIA_UNIX, VIA_TRUSTED, VIA_TICKET, VIA_AGENT };
extern const char *const via_names[];

enum permission { /* of service tokens and API keys */
                  MAY_TRAIN = 1,
                  MAY_PREPROCESS = 2,
                  MAY_DOWNLOAD = 4,
                  MAY_FLEET = 8,
                  MAY_INFER = 16,
};

struct principal {
    enum via via;
    enum role role;
    int64_t user_id; /* 0: the built-in "local" */
    char uuid[UUID_TEXT_SIZE];
    char email[324];
    unsigned permissions;     /* VIA_TOKEN; sessions have all that their role has */
    char jti[UUID_TEXT_SIZE]; /* VIA_SESSION: to revoke it */
    int64_t expires_at;
    /* for connections that outlive the request: what would end them (see identity.h) */
    int64_t generation;       /* of the account when it was recognised */
    char sid[UUID_TEXT_SIZE]; /* family of sessions; "": none */
    int64_t token_id;         /* service token; 0: none */
    int64_t node_id;          /* VIA_AGENT: of its credential; 0: by the server's own socket */
};

bool principal_known(const struct principal *p);
/* operator, engineer or admin, and an administrator: people only. A key acts as the user it
 * belongs to, whatever that user's role is (contract 1.4); what it may beyond that is its
 * permissions, in access_check(). */
bool principal_is_operator(const struct principal *p);
bool principal_is_admin(const struct principal *p);
/* The caller's own, or an administrator. */
bool principal_sees(const struct principal *p, int64_t owner);
/* "user:li@example.com", "local", "agent:n-1" for audit and events. */
const char *principal_text(const struct principal *p, char to[400]);
/* OK, ERR_UNAUTHENTICATED or ERR_FORBIDDEN. permission: what ACCESS_OPS asks of a key. */
int access_check(enum access a, const struct principal *p, unsigned permission, struct err *e);

#endif
