/* Sessions: access tokens and the families of refresh tokens behind them.
 *
 * What must stay true: of a family exactly one refresh token is alive; whoever shows another one
 * ends the family, and that is committed although the request is refused; an access token works
 * only while its account is active, its generation is the account's, and neither it nor its
 * family was revoked. */
#include "identity/parts.h"

#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { HANDLE_CHARS = 16, SECRET_CHARS = 32, REPEAT_S = 10, AGENT_MAX = 200 };
#define REFRESH_PREFIX "drr_"

RECORD(session_record, struct session, "sessions",
       MEMBER(struct session, id, T_ID, .prefix = "s", .doc = "the sign-in"),
       MEMBER(struct session, uuid, T_UUID),
       MEMBER(struct session, handle, T_TEXT, .flags = M_SECRET),
       MEMBER(struct session, hash, T_TEXT, .flags = M_SECRET),
       MEMBER(struct session, previous, T_TEXT, .flags = M_SECRET | M_NULL),
       MEMBER(struct session, user_id, T_ID, .prefix = "u"),
       MEMBER(struct session, address, T_TEXT, .doc = "where it was made from"),
       MEMBER(struct session, agent, T_TEXT, .flags = M_NULL,
              .doc = "the program it was made with, as that names itself"),
       MEMBER(struct session, created_at, T_TIME),
       MEMBER(struct session, used_at, T_TIME, .doc = "when it was renewed last"),
       MEMBER(struct session, expires_at, T_TIME, .doc = "when it ends without use"),
       MEMBER(struct session, ended_at, T_TIME, .flags = M_NULL));

static const char *access_token(const struct identity *id, const struct user *u, const char *sid,
                                struct arena *a)
{
    struct jwt_claims c = {.gen = u->generation, .iat_s = now_us() / US_PER_S};
    c.exp_s = c.iat_s + id->access_s;
    uuid_v4(c.jti);
    snprintf(c.sub, sizeof(c.sub), "%s", u->uuid);
    snprintf(c.sid, sizeof(c.sid), "%s", sid);
    return jwt_sign(id->signing_key, &c, a);
}

static const char *refresh_token(const char *handle, struct arena *a, const char **hash)
{
    char secret[SECRET_CHARS + 1], hex[SHA256_HEX_SIZE];
    const char *token = arena_printf(a, REFRESH_PREFIX "%s%s", handle,
                                     random_text(secret, SECRET_CHARS));
    *hash = arena_strdup(a, sha256_hex(token, hex));
    return token;
}

/* The token that follows `token`: always the same one, so that an answer that was lost on its way
 * (a page that was reloaded meanwhile) can be given again. Only who has the key can make it. */
static const char *refresh_after(const struct identity *id, const char *token, const char *handle,
                                 struct arena *a, const char **hash)
{
    uint8_t mac[SHA256_SIZE];
    char text[2 * SHA256_SIZE], hex[SHA256_HEX_SIZE];
    hmac_sha256(id->signing_key.bytes, id->signing_key.n, token, strlen(token), mac);
    base64url_encode(mac, sizeof(mac), text);
    const char *next = arena_printf(a, REFRESH_PREFIX "%s%.*s", handle, SECRET_CHARS, text);
    *hash = arena_strdup(a, sha256_hex(next, hex));
    return next;
}

/* The claims of the request's own session; ERR_CONFLICT when it came by something else. */
static int own_claims(const struct identity *id, const struct request *q, struct jwt_claims *out,
                      struct err *e)
{
    const char *bearer = bearer_of(q);
    if (q->who.via != VIA_SESSION || bearer == NULL)
        return err_set(e, ERR_CONFLICT, "this credential is not a session");
    return jwt_verify(id->signing_key, bearer, now_us() / US_PER_S, out, e);
}

/* ---- beginning ---- */

/* The program's own name, cut; NULL when it told none that can be shown. */
static const char *agent_of(const struct request *q)
{
    const char *s = http_header(q->http, "User-Agent");
    if (s == NULL || utf8_len(s, strlen(s)) == (size_t)-1)
        return NULL;
    return arena_strndup(q->arena, s, utf8_fit(s, AGENT_MAX));
}

int sign_in(struct tx *tx, struct request *q, bool refreshable, struct session_made *out,
            struct err *e)
{
    struct identity *id = identity_of(q->house);
    const struct user *found = q->prepared;
    struct arena *a = q->arena;
    struct session_made made = {.expires_in = id->access_s};
    int rc = user_get(tx, found->id, a, &made.user, e);
    /* changed between the comparison and now: the comparison counts for nothing */
    if (rc == ERR_NOT_FOUND ||
        (rc == OK &&
         (!made.user.is_active || !str_eq(made.user.password_hash, found->password_hash))))
        return bad_login(e);
    if (rc != OK)
        return rc;
    made.user.last_login = now_us();
    rc = tx_exec(tx, "UPDATE users SET last_login = ?1 WHERE id = ?2",
                 ARGS(v_int(made.user.last_login), v_int(made.user.id)), NULL, e);
    char sid[UUID_TEXT_SIZE] = "", handle[HANDLE_CHARS + 1];
    if (rc == OK && refreshable) {
        struct session s = {
            .uuid = uuid_v4(sid),
            .handle = random_text(handle, HANDLE_CHARS),
            .user_id = made.user.id,
            .address = http_peer(q->http),
            .agent = agent_of(q),
            .created_at = made.user.last_login,
            .used_at = made.user.last_login,
            .expires_at = made.user.last_login + id->refresh_s * US_PER_S,
        };
        made.refresh_token = refresh_token(handle, a, &s.hash);
        rc = record_insert(tx, &session_record, &s, NULL, e);
    }
    if (rc != OK)
        return rc;
    made.access_token = access_token(id, &made.user, sid, a);
    q->audit_target = arena_printf(a, "u-%lld", (long long)made.user.id);
    *out = made;
    return OK;
}

int session_renew(struct tx *tx, struct request *q, struct session_made *out, struct err *e)
{
    struct identity *id = identity_of(q->house);
    struct jwt_claims c;
    struct session_made made = {.expires_in = id->access_s};
    int rc = own_claims(id, q, &c, e);
    if (rc == OK)
        rc = user_get(tx, q->who.user_id, q->arena, &made.user, e);
    if (rc != OK)
        return rc == ERR_NOT_FOUND ? bad_credential(e) : rc;
    made.access_token = access_token(id, &made.user, c.sid, q->arena);
    *out = made;
    return OK;
}

/* ---- rotating ---- */

struct rotation {
    struct identity *id;
    struct request *q;
    const char *token;
    struct session_made made;
    bool done;
};

static int end_family(struct tx *tx, const struct identity *id, const char *sid, struct err *e)
{
    int rc = tx_exec(tx, "UPDATE sessions SET ended_at = ?1 WHERE uuid = ?2 AND ended_at IS NULL",
                     ARGS(v_int(now_us()), v_text(sid)), NULL, e);
    /* the access tokens it gave live this long at most */
    return rc != OK ? rc : cache_revoke(tx, sid, now_us() / US_PER_S + id->access_s + 1, e);
}

static int rotate_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct rotation *r = ctx;
    struct arena *a = r->q->arena;
    struct session s;
    char handle[HANDLE_CHARS + 1], hex[SHA256_HEX_SIZE];
    bool found;
    r->done = false;
    snprintf(handle, sizeof(handle), "%s", r->token + strlen(REFRESH_PREFIX));
    int rc = record_get(tx, &session_record, "WHERE handle = ?1", ARGS(v_text(handle)), a, &s,
                        &found, e);
    if (rc != OK || !found || s.ended_at != 0 || s.expires_at <= now_us())
        return rc;
    sha256_hex(r->token, hex);
    const char *target = arena_printf(a, "u-%lld", (long long)s.user_id);
    bool newest = strlen(s.hash) == sizeof(hex) - 1 &&
                  mem_equal_secret(s.hash, hex, sizeof(hex) - 1);
    /* its holder never saw the answer: the same answer again, for a moment */
    bool repeated = !newest && s.previous != NULL && strlen(s.previous) == sizeof(hex) - 1 &&
                    mem_equal_secret(s.previous, hex, sizeof(hex) - 1) &&
                    now_us() - s.used_at < REPEAT_S * US_PER_S;
    if (!newest && !repeated) {
        rc = end_family(tx, r->id, s.uuid, e);
        return rc != OK ? rc : audit_write(tx, r->q, target, "refresh token used twice", e);
    }
    rc = user_get(tx, s.user_id, a, &r->made.user, e);
    if (rc == ERR_NOT_FOUND || (rc == OK && !r->made.user.is_active))
        return OK;
    const char *next_hash;
    r->made.refresh_token = refresh_after(r->id, r->token, handle, a, &next_hash);
    if (newest) {
        s.used_at = now_us();
        s.expires_at = s.used_at + r->id->refresh_s * US_PER_S;
        s.previous = arena_strdup(a, hex);
        s.hash = next_hash;
    }
    if (rc == OK && newest)
        rc = record_update(tx, &session_record, &s, e);
    if (rc == OK)
        rc = audit_write(tx, r->q, target, "ok", e);
    if (rc != OK)
        return rc;
    r->made.access_token = access_token(r->id, &r->made.user, s.uuid, a);
    r->made.expires_in = r->id->access_s;
    r->done = true;
    return OK;
}

int session_rotate(struct request *q, const char *token, struct session_made *out, struct err *e)
{
    struct rotation r = {.id = identity_of(q->house), .q = q, .token = token};
    if (!str_starts(token, REFRESH_PREFIX) ||
        strlen(token) != strlen(REFRESH_PREFIX) + HANDLE_CHARS + SECRET_CHARS)
        return bad_credential(e);
    int rc = store_tx(house_store(q->house), rotate_tx, &r, e);
    if (rc != OK)
        return rc;
    if (!r.done)
        return bad_credential(e);
    *out = r.made;
    return OK;
}

/* ---- ending ---- */

int session_end(struct tx *tx, struct request *q, struct err *e)
{
    struct identity *id = identity_of(q->house);
    struct jwt_claims c;
    int rc = own_claims(id, q, &c, e);
    if (rc == OK)
        rc = cache_revoke(tx, c.jti, c.exp_s, e);
    if (rc == OK && c.sid[0] != '\0')
        rc = end_family(tx, id, c.sid, e);
    return rc;
}

int session_list(struct tx *tx, int64_t user_id, int64_t after, int64_t limit, struct arena *a,
                 struct list *out, struct err *e)
{
    return record_list(tx, &session_record,
                       "WHERE user_id = ?1 AND ended_at IS NULL AND expires_at > ?2 AND id > ?3"
                       " ORDER BY id LIMIT ?4",
                       ARGS(v_int(user_id), v_int(now_us()), v_int(after), v_int(limit)), a, out,
                       e);
}

int sign_in_end(struct tx *tx, const struct principal *who, int64_t id, struct arena *a,
                struct err *e)
{
    struct session s;
    bool found;
    int rc = record_get(tx, &session_record, "WHERE id = ?1 AND ended_at IS NULL", ARGS(v_int(id)),
                        a, &s, &found, e);
    if (rc != OK)
        return rc;
    if (!found || !principal_sees(who, s.user_id))
        return err_set(e, ERR_NOT_FOUND, "no such session");
    return end_family(tx, identity_of(tx_house(tx)), s.uuid, e);
}

int sessions_end_all(struct tx *tx, int64_t user_id, struct err *e)
{
    int rc = tx_exec(tx,
                     "DELETE FROM tickets WHERE user_uuid = (SELECT uuid FROM users WHERE id = ?1)",
                     ARGS(v_int(user_id)), NULL, e);
    if (rc == OK)
        rc = tx_exec(tx,
                     "UPDATE sessions SET ended_at = ?1 WHERE user_id = ?2 AND ended_at IS NULL",
                     ARGS(v_int(now_us()), v_int(user_id)), NULL, e);
    return rc;
}
