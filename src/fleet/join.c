/* Join tokens and the credentials of agents.
 *
 * What must stay true: no secret is stored, only hashes; a token is used at most as often as it
 * says, also when many join at once (one row, one write transaction at a time). */
#include "fleet/fleet_parts.h"

#include "base/str.h"
#include "base/world.h"
#include "io/crypto.h"

#include <fnmatch.h>
#include <string.h>

enum { TOKEN_CHARS = 40, TOKEN_SHOWN = 8 };
#define TOKEN_PREFIX "drj_"

RECORD(join_token_record, struct join_token, "join_tokens",
       MEMBER(struct join_token, id, T_ID, .prefix = "jt", .doc = "the token"),
       MEMBER(struct join_token, name, T_TEXT, .flags = M_NULL, .min = 1, .max = JOIN_NAME_MAX,
              .doc = "names of nodes that may join with it, such as gpu-*; null: any"),
       MEMBER(struct join_token, prefix, T_TEXT, .doc = "its first characters"),
       MEMBER(struct join_token, hash, T_TEXT, .flags = M_SECRET),
       MEMBER(struct join_token, uses, T_INT, .min = 1, .max = JOIN_USES_MAX,
              .doc = "how many nodes may join with it"),
       MEMBER(struct join_token, used, T_INT, .doc = "how many have"),
       MEMBER(struct join_token, made_by, T_TEXT), MEMBER(struct join_token, created_at, T_TIME),
       MEMBER(struct join_token, expires_at, T_TIME));

int join_token_make(struct tx *tx, const struct principal *who, const char *name, int64_t uses,
                    int64_t life_us, struct arena *a, struct join_token *out, struct err *e)
{
    char secret[TOKEN_CHARS + 1], hex[SHA256_HEX_SIZE], by[400];
    int64_t now = now_us();
    struct join_token t = {.name = name,
                           .uses = uses,
                           .made_by = arena_strdup(a, principal_text(who, by)),
                           .created_at = now,
                           .expires_at = now + life_us};
    t.token = arena_printf(a, TOKEN_PREFIX "%s", random_text(secret, TOKEN_CHARS));
    t.prefix = arena_strndup(a, t.token, TOKEN_SHOWN);
    t.hash = arena_strdup(a, sha256_hex(t.token, hex));
    /* what is over is no use to anyone; a day, so that a list still shows why a join failed */
    int rc = tx_exec(tx, "DELETE FROM join_tokens WHERE expires_at < ?1",
                     ARGS(v_int(now - 86400 * US_PER_S)), NULL, e);
    if (rc == OK)
        rc = record_insert(tx, &join_token_record, &t, &t.id, e);
    if (rc == OK)
        *out = t;
    return rc;
}

int join_token_list(struct tx *tx, int64_t after, int64_t limit, struct arena *a, struct list *out,
                    struct err *e)
{
    return record_list(tx, &join_token_record, "WHERE id > ?1 ORDER BY id LIMIT ?2",
                       ARGS(v_int(after), v_int(limit)), a, out, e);
}

int join_token_delete(struct tx *tx, int64_t id, struct err *e)
{
    int64_t n = 0;
    int rc = tx_exec(tx, "DELETE FROM join_tokens WHERE id = ?1", ARGS(v_int(id)), &n, e);
    if (rc == OK && n == 0)
        rc = err_set(e, ERR_NOT_FOUND, "no such token");
    return rc;
}

/* ---- joining ---- */

bool node_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > JOIN_NAME_MAX || name[0] == '-' || name[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '.' || c == '_'))
            return false;
    }
    return true;
}

bool name_matches(const char *pattern, const char *name)
{
    return fnmatch(pattern, name, 0) == 0;
}

static int bad_token(struct err *e)
{
    return err_code(e, ERR_UNAUTHENTICATED, "JOIN_TOKEN",
                    "the join token is not valid, has expired or was used up; make another one: "
                    "drover agent token");
}

int agent_join(struct tx *tx, const struct join *j, struct arena *a, struct node *out,
               struct err *e)
{
    char hex[SHA256_HEX_SIZE];
    struct node n;
    struct join_token t;
    bool found;
    if (!node_name_ok(j->name))
        return err_set(e, ERR_INVALID,
                       "a node's name has 1 to %d letters, digits, dots, dashes or underscores",
                       JOIN_NAME_MAX);
    int rc = record_get(tx, &join_token_record, "WHERE hash = ?1",
                        ARGS(v_text(sha256_hex(j->token, hex))), a, &t, &found, e);
    if (rc != OK)
        return rc;
    if (!found || t.expires_at <= now_us())
        return bad_token(e);
    /* the same agent again, whose answer was lost: whoever knows the hash of a secret made it */
    rc = record_get(tx, &node_record, "WHERE credential = ?1 AND name = ?2 AND state <> 'removed'",
                    ARGS(v_text(j->credential_hash), v_text(j->name)), a, out, &found, e);
    if (rc != OK || found)
        return rc;
    if (t.used >= t.uses)
        return bad_token(e);
    if (t.name != NULL && !name_matches(t.name, j->name))
        return err_set(e, ERR_FORBIDDEN,
                       "this join token is for nodes named %s, not %s; give the agent another "
                       "name with --name",
                       t.name, j->name);
    int64_t now = now_us();
    rc = record_get(tx, &node_record, "WHERE name = ?1", ARGS(v_text(j->name)), a, &n, &found, e);
    if (rc == OK && found)
        return err_code(e, ERR_CONFLICT, "NODE_NAME_TAKEN",
                        "there is a node named %s already: join with another --name, or remove "
                        "that one first: drover agent remove %s",
                        j->name, j->name);
    n = (struct node){.name = j->name,
                      .state = NODE_UNREACHABLE,
                      .state_reason = "it has joined and its agent has not connected yet",
                      .state_since = now,
                      .created_at = now,
                      .updated_at = now,
                      .joined_at = now};
    if (rc == OK)
        rc = record_insert(tx, &node_record, &n, &n.id, e);
    if (rc == OK)
        rc = tx_exec(tx, "UPDATE nodes SET credential = ?1 WHERE id = ?2",
                     ARGS(v_text(j->credential_hash), v_int(n.id)), NULL, e);
    if (rc == OK)
        rc = tx_exec(tx, "UPDATE join_tokens SET used = used + 1 WHERE id = ?1", ARGS(v_int(t.id)),
                     NULL, e);
    if (rc == OK)
        rc = node_event(tx, n.id, n.name, "node.joined", SEVERITY_INFO,
                        arena_printf(a, "node %s joined with a token of %s", n.name, t.made_by), e);
    if (rc == OK)
        *out = n;
    return rc;
}

/* ---- credentials ---- */

struct lookup {
    const char *hash;
    int64_t node;
    bool removed;
};

static int lookup_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct lookup *l = ctx;
    struct rows *r = tx_query(tx,
                              "SELECT id, state FROM nodes WHERE credential = ?1 OR"
                              " credential_next = ?1",
                              ARGS(v_text(l->hash)));
    if (rows_next(r)) {
        l->node = row_int(r, 0);
        l->removed = strcmp(row_text(r, 1), node_state_names[NODE_REMOVED]) == 0;
    }
    return rows_end(r, e);
}

int agent_of_credential(struct house *h, const char *hash, int64_t *node, struct err *e)
{
    struct lookup l = {.hash = hash};
    int rc = store_read(house_store(h), lookup_tx, &l, e);
    if (rc != OK)
        return rc;
    if (l.removed)
        return err_code(e, ERR_UNAUTHENTICATED, "AGENT_REMOVED",
                        "this node was removed from the fleet; let it join again with a new token");
    if (l.node == 0)
        return err_code(e, ERR_UNAUTHENTICATED, "AGENT_UNKNOWN",
                        "this server does not know the agent's credential; let it join again with "
                        "a new token");
    *node = l.node;
    return OK;
}

/* ---- leaving ---- */

int node_get(struct tx *tx, int64_t id, struct arena *a, struct node *out, struct err *e)
{
    bool found;
    int rc = record_get(tx, &node_record, "WHERE id = ?1 AND state <> 'removed'", ARGS(v_int(id)),
                        a, out, &found, e);
    if (rc == OK && !found)
        rc = err_set(e, ERR_NOT_FOUND, "no node n-%lld", (long long)id);
    return rc;
}

struct cut {
    struct fleet *fleet;
    int64_t node;
};

static void cut_now(void *ctx)
{
    struct cut *c = ctx;
    link_cut(c->fleet, c->node, "this node was removed from the fleet");
}

int node_remove(struct tx *tx, const struct node *n, const char *why, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct cut *cut = arena_alloc(a, sizeof(*cut));
    *cut = (struct cut){fleet_of(tx_house(tx)), n->id};
    int rc = node_set_state(tx, n->id, NODE_REMOVED, why, e);
    /* the name is free again; what ran there still says where */
    if (rc == OK)
        rc = tx_exec(
            tx, "UPDATE nodes SET name = ?1, credential_next = NULL WHERE id = ?2",
            ARGS(v_text(arena_printf(a, "%s (removed, n-%lld)", n->name, (long long)n->id)),
                 v_int(n->id)),
            NULL, e);
    if (rc == OK)
        rc = tx_exec(tx, "UPDATE gpus SET present = 0, updated_at = ?1 WHERE node_id = ?2",
                     ARGS(v_int(now_us()), v_int(n->id)), NULL, e);
    if (rc == OK)
        tx_after_commit(tx, cut_now, cut);
    return rc;
}
