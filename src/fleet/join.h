/* How an agent on another host becomes a node: a token that an administrator made lets it join
 * once, from then on it has a credential of its own.
 *
 * Join token: drj_ and 40 random characters, shown once; a hash is stored. It is good for a number
 * of joins until it expires. Credential: dra_ and 43 random characters, made by the agent, which
 * sends the hash with the join; the text never leaves its host except as a bearer credential on
 * its own connections. So a join whose answer was lost can simply be repeated.
 *
 * Threads: inside a transaction, except agent_of_credential(), which is for workers outside one.
 */
#ifndef FLEET_JOIN_H
#define FLEET_JOIN_H

#include "core/access.h"
#include "fleet/fleet.h"

struct join_token {
    int64_t id;         /* jt-1 */
    const char *name;   /* node names that may join: "gpu-*"; NULL: any */
    const char *prefix; /* the token's first characters, to tell it by */
    const char *hash;
    int64_t uses, used;
    const char *made_by;
    int64_t created_at, expires_at;

    const char *token; /* not stored: told once */
};
extern const struct record join_token_record;

enum { JOIN_NAME_MAX = 63, JOIN_USES_MAX = 100000 };
int join_token_make(struct tx *tx, const struct principal *who, const char *name, int64_t uses,
                    int64_t life_us, struct arena *a, struct join_token *out, struct err *e);
int join_token_list(struct tx *tx, int64_t after, int64_t limit, struct arena *a, struct list *out,
                    struct err *e);
int join_token_delete(struct tx *tx, int64_t id, struct err *e);

/* Makes the node of an agent that has a token. credential_hash: 64 hexadecimal digits. The same
 * join again gives the same node. ERR_UNAUTHENTICATED: no such token, used up or expired.
 * ERR_CONFLICT: the name is taken. */
struct join {
    const char *token, *name, *credential_hash;
};
int agent_join(struct tx *tx, const struct join *j, struct arena *a, struct node *out,
               struct err *e);

/* The node of a credential; for identity_on_agent(). */
int agent_of_credential(struct house *h, const char *hash, int64_t *node, struct err *e);

/* A name that a node may have: letters, digits, dots, dashes and underscores. */
bool node_name_ok(const char *name);
/* "gpu-*" and "gpu-??" as in a shell; case counts. */
bool name_matches(const char *pattern, const char *name);

/* ---- what administrators do with a node ---- */

/* ERR_NOT_FOUND for a removed one. */
int node_get(struct tx *tx, int64_t id, struct arena *a, struct node *out, struct err *e);
/* Takes it out of the fleet: its credential is dead and its link is cut after the commit. Who
 * calls has ended what ran there. */
int node_remove(struct tx *tx, const struct node *n, const char *why, struct err *e);

#endif
