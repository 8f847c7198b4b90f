/* From a request to who is asking.
 *
 * What must stay true: a credential that was sent and is not good is refused, never ignored; a
 * request without one is somebody only by the unix socket's peer or by the trusted-network rule;
 * with warm caches nothing here asks the store, and without a credential nothing here allocates
 * or takes a lock, because GPU status is answered from here a hundred thousand times a second. */
#include "identity/parts.h"

#include "base/str.h"
#include "base/world.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

int bad_credential(struct err *e)
{
    return err_set(e, ERR_UNAUTHENTICATED,
                   "the credential is not valid, has ended or was revoked; sign in again");
}

const char *bearer_of(const struct request *q)
{
    const char *s = http_header(q->http, "Authorization");
    if (s == NULL)
        return NULL;
    if (strncasecmp(s, "Bearer", 6) != 0 || s[6] != ' ')
        return "";
    s += 6;
    return s + strspn(s, " ");
}

/* ---- from what was sent ---- */

void principal_of_user(const struct known_user *u, enum via via, struct principal *who)
{
    *who = (struct principal){
        .via = via, .role = u->role, .user_id = u->id, .generation = u->generation};
    memcpy(who->uuid, u->uuid, sizeof(who->uuid));
    memcpy(who->email, u->email, sizeof(who->email));
    who->permissions = permissions_of_role(u->role);
}

static int by_session(struct identity *id, const char *token, bool fast, struct principal *who,
                      struct err *e)
{
    struct jwt_claims c;
    struct known_user u;
    int rc = jwt_verify(id->signing_key, token, now_us() / US_PER_S, &c, e);
    if (rc != OK)
        return rc;
    if (cache_revoked(id, c.jti) || (c.sid[0] != '\0' && cache_revoked(id, c.sid)))
        return bad_credential(e);
    if ((rc = cache_user(id, c.sub, fast, &u, e)) != OK)
        return rc;
    if (!u.is_active || u.generation != c.gen)
        return bad_credential(e);
    principal_of_user(&u, VIA_SESSION, who);
    memcpy(who->jti, c.jti, sizeof(who->jti));
    memcpy(who->sid, c.sid, sizeof(who->sid));
    who->expires_at = c.exp_s * US_PER_S;
    return OK;
}

static int by_token(struct identity *id, const char *token, bool fast, struct principal *who,
                    struct err *e)
{
    char hex[SHA256_HEX_SIZE];
    struct known_token t;
    struct known_user u = {.role = ROLE_ADMIN, .is_active = true, .email = "local"};
    int rc = cache_token(id, sha256_hex(token, hex), fast, &t, e);
    if (rc != OK)
        return rc;
    if (t.expires_at != 0 && t.expires_at <= now_us())
        return bad_credential(e);
    if (t.user_uuid[0] != '\0' && (rc = cache_user(id, t.user_uuid, fast, &u, e)) != OK)
        return rc;
    if (!u.is_active)
        return bad_credential(e);
    principal_of_user(&u, VIA_TOKEN, who);
    if (t.permissions != INT_NULL)
        who->permissions = (unsigned)t.permissions & (t.granted ? ~0U : who->permissions);
    who->expires_at = t.expires_at;
    who->token_id = t.id;
    return OK;
}

static agent_fn *agent_hook;

void identity_on_agent(agent_fn *fn)
{
    agent_hook = fn;
}

static int by_agent(struct identity *id, const char *credential, bool fast, struct principal *who,
                    struct err *e)
{
    char hex[SHA256_HEX_SIZE];
    if (fast)
        return err_set(e, ERR_UNAVAILABLE, "the credential must be looked up");
    if (agent_hook == NULL)
        return bad_credential(e);
    int64_t node;
    int rc = agent_hook(id->house, sha256_hex(credential, hex), &node, e);
    if (rc == OK)
        *who = (struct principal){.via = VIA_AGENT, .node_id = node};
    return rc;
}

static int token_there(struct tx *tx, void *ctx, struct err *e)
{
    int64_t *id = ctx;
    bool there;
    int rc = tx_int(tx, "SELECT id FROM service_tokens WHERE id = ?1", ARGS(v_int(*id)), id, &there,
                    e);
    if (rc == OK && !there)
        *id = 0;
    return rc;
}

bool identity_still_holds(struct house *h, const struct principal *who)
{
    struct identity *id = identity_of(h);
    struct known_user u;
    if ((who->expires_at != 0 && who->expires_at <= now_us()) ||
        (who->jti[0] != '\0' && cache_revoked(id, who->jti)) ||
        (who->sid[0] != '\0' && cache_revoked(id, who->sid)))
        return false;
    int64_t token = who->token_id;
    if (token != 0 && store_read(house_store(h), token_there, &token, NULL) == OK && token == 0)
        return false;
    if (who->user_id == 0)
        return true;
    int rc = cache_user(id, who->uuid, false, &u, NULL);
    if (rc != OK)
        return rc != ERR_UNAUTHENTICATED;
    return u.is_active && u.generation == who->generation && u.role == who->role;
}

/* The value of a query parameter; false when it is absent, malformed or too long. */
static bool query_value(const char *query, const char *name, char *to, size_t size)
{
    size_t n = strlen(name);
    for (const char *s = query; *s != '\0';) {
        size_t len = strcspn(s, "&"), out = 0;
        if (len > n && s[n] == '=' && strncmp(s, name, n) == 0) {
            for (size_t i = n + 1; i < len; i++) {
                if (out + 1 >= size || s[i] == '%') /* tokens need no escapes */
                    return false;
                to[out++] = s[i];
            }
            to[out] = '\0';
            return true;
        }
        s += len + (s[len] == '&');
    }
    return false;
}

static bool is_socket(const struct request *q)
{
    return strcmp(q->route->method, "WS") == 0;
}

/* Who stays VIA_NOBODY when no credential was sent. */
static int by_credential(struct identity *id, struct request *q, bool fast, struct principal *who,
                         struct err *e)
{
    char text[JWT_MAX + 1];
    const char *bearer = bearer_of(q), *query = http_query(q->http);
    if (bearer == NULL && query[0] != '\0') {
        if ((is_socket(q) || q->route->flags & ROUTE_STREAM) &&
            query_value(query, "ticket", text, sizeof(text))) {
            if (fast)
                return err_set(e, ERR_UNAVAILABLE, "the ticket must be looked up");
            return ticket_redeem(id, text, who, e);
        }
        /* the documented sockets only; ours want tickets, which may stand in a log */
        if (is_socket(q) && !str_starts(q->route->path, "/v1/") &&
            query_value(query, "token", text, sizeof(text)))
            bearer = text;
    }
    if (bearer == NULL)
        return OK;
    if (str_starts(bearer, TOKEN_PREFIX) || str_starts(bearer, KEY_PREFIX))
        return by_token(id, bearer, fast, who, e);
    if (str_starts(bearer, "dra_"))
        return by_agent(id, bearer, fast, who, e);
    return by_session(id, bearer, fast, who, e);
}

/* ---- from where it came ---- */

static void local(enum via via, enum role role, struct principal *who)
{
    who->via = via;
    who->role = role;
    memcpy(who->email, "local", sizeof("local"));
}

static bool was_forwarded(const struct http_request *http)
{
    static const char *const names[] = {
        "X-Forwarded-For",     "Forwarded", "X-Real-IP",   "X-Forwarded-Host", "X-Forwarded-Proto",
        "X-Forwarded-Port",    "Via",       "X-Client-IP", "True-Client-IP",   "CF-Connecting-IP",
        "X-Cluster-Client-IP",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (http_header(http, names[i]) != NULL)
            return true;
    return false;
}

static struct trust_facts facts_of(const struct request *q)
{
    return (struct trust_facts){
        .peer = http_peer(q->http),
        .host = http_header(q->http, "Host"),
        .origin = http_header(q->http, "Origin"),
        .forwarded = was_forwarded(q->http),
        /* a line above the last one may be the client's own invention */
        .forwarded_for = http_header_last(q->http, "X-Forwarded-For"),
    };
}

bool came_from_here(const struct identity *id, const struct request *q)
{
    struct trust t = id->trust;
    struct trust_facts f = facts_of(q);
    t.mode = AUTH_TRUSTED;
    return id->loopback && trust_accepts(&t, &f);
}

static void by_place(const struct identity *id, const struct request *q, struct principal *who)
{
    uid_t uid;
    pid_t pid;
    enum access access = q->route->access;
    if (http_peer_unix(q->http, &uid, &pid)) {
        if (uid == 0 || uid == geteuid())
            local(access == ACCESS_AGENT ? VIA_AGENT : VIA_UNIX, ROLE_ADMIN, who);
        return;
    }
    if ((access != ACCESS_OPEN && access != ACCESS_OPS) || id->trust.mode == AUTH_STRICT)
        return;
    struct trust_facts f = facts_of(q);
    if (trust_accepts(&id->trust, &f))
        local(VIA_TRUSTED, ROLE_OPERATOR, who);
}

int identity_authenticate(struct house *h, struct request *q, bool fast, struct principal *who,
                          struct err *e)
{
    struct identity *id = identity_of(h);
    *who = (struct principal){.via = VIA_NOBODY};
    if (q->route->access == ACCESS_ANYONE)
        return OK; /* an old token in a browser must not keep anyone from signing in */
    int rc = by_credential(id, q, fast, who, e);
    if (rc == OK && who->via == VIA_NOBODY)
        by_place(id, q, who);
    return rc;
}
