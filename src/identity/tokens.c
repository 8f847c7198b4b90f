/* Service tokens, and one-time tickets for the WebSockets and event streams of browsers.
 *
 * What must stay true: only hashes are stored; a ticket opens one connection, also when two
 * connections show it at once (it is deleted in the transaction that reads it); a token makes no
 * tokens and no tickets with more than its own rights. */
#include "identity/parts.h"

#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { TOKEN_CHARS = 40, KEY_CHARS = 32, SHOWN = 4, TICKET_CHARS = 40 };

const char *const permission_names[] = {"training", "preprocessing", "model_download",
                                        "fleet",    "inference",     NULL};
_Static_assert(MAY_TRAIN == 1 && MAY_PREPROCESS == 2 && MAY_DOWNLOAD == 4 && MAY_FLEET == 8 &&
                   MAY_INFER == 16,
               "permission_names[] goes by bit");

RECORD(service_token_record, struct service_token, "service_tokens",
       MEMBER(struct service_token, id, T_ID, .prefix = "t", .doc = "the token"),
       MEMBER(struct service_token, name, T_TEXT, .min = 1, .max = 100, .doc = "what it is for"),
       MEMBER(struct service_token, prefix, T_TEXT, .doc = "its first characters"),
       MEMBER(struct service_token, hash, T_TEXT, .flags = M_SECRET),
       MEMBER(struct service_token, user_id, T_ID, .flags = M_NULL, .prefix = "u"),
       MEMBER(struct service_token, permissions, T_INT, .flags = M_NULL),
       MEMBER(struct service_token, granted, T_BOOL),
       MEMBER(struct service_token, created_at, T_TIME, .doc = "when it was made"),
       MEMBER(struct service_token, last_used_at, T_TIME, .flags = M_NULL,
              .doc = "the last use, to within a minute"),
       MEMBER(struct service_token, expires_at, T_TIME, .flags = M_NULL,
              .doc = "when it ends by itself"));

/* ---- permissions ---- */

unsigned permissions_of_role(enum role role)
{
    return role >= ROLE_OPERATOR ? MAY_TRAIN | MAY_PREPROCESS | MAY_DOWNLOAD | MAY_FLEET | MAY_INFER
                                 : 0;
}

bool permissions_parse(const struct texts *words, int64_t *out, const char **bad)
{
    int64_t bits = 0;
    for (size_t i = 0; i < words->n; i++) {
        int at = names_find(permission_names, words->items[i]);
        if (at < 0) {
            *bad = words->items[i];
            return false;
        }
        bits |= INT64_C(1) << at;
    }
    *out = bits;
    return true;
}

void permissions_write(struct json *j, int64_t permissions)
{
    if (permissions == INT_NULL) {
        json_null(j);
        return;
    }
    json_open(j, '[');
    for (size_t i = 0; permission_names[i] != NULL; i++)
        if (permissions >> i & 1)
            json_text(j, permission_names[i]);
    json_close(j, ']');
}

/* ---- service tokens and API keys ---- */

int service_token_make(struct tx *tx, const struct principal *who,
                       const struct service_token_spec *spec, struct arena *a,
                       struct service_token *out, struct err *e)
{
    bool admin = principal_is_admin(who);
    if (who->via == VIA_TOKEN)
        return err_set(e, ERR_FORBIDDEN, "a token cannot make tokens; sign in for that");
    if (spec->user_id != who->user_id && !admin)
        return err_set(e, ERR_FORBIDDEN, "only an administrator may do this");
    if (spec->permissions != INT_NULL && !admin &&
        (spec->permissions & ~(int64_t)permissions_of_role(who->role)) != 0)
        return err_set(e, ERR_FORBIDDEN,
                       "your role does not have this permission; an administrator can give it");
    char secret[TOKEN_CHARS + 1], hex[SHA256_HEX_SIZE];
    const char *begins = spec->documented ? KEY_PREFIX : TOKEN_PREFIX;
    struct service_token t = {
        .name = spec->name,
        .user_id = spec->user_id,
        .permissions = spec->permissions,
        .granted = spec->permissions != INT_NULL && admin,
        .created_at = now_us(),
        .expires_at = spec->expires_at,
    };
    t.token = arena_printf(a, "%s%s", begins,
                           random_text(secret, spec->documented ? KEY_CHARS : TOKEN_CHARS));
    t.prefix = arena_strndup(a, t.token, strlen(begins) + SHOWN);
    t.hash = arena_strdup(a, sha256_hex(t.token, hex));
    int rc = record_insert(tx, &service_token_record, &t, &t.id, e);
    if (rc == OK)
        *out = t;
    return rc;
}

int service_token_list(struct tx *tx, int64_t user_id, int64_t after, int64_t limit,
                       struct arena *a, struct list *out, struct err *e)
{
    return record_list(tx, &service_token_record,
                       "WHERE coalesce(user_id, 0) = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                       ARGS(v_int(user_id), v_int(after), v_int(limit)), a, out, e);
}

int service_token_delete(struct tx *tx, const struct principal *who, int64_t id, struct arena *a,
                         struct err *e)
{
    struct service_token t;
    bool found;
    int rc = record_get(tx, &service_token_record, "WHERE id = ?1", ARGS(v_int(id)), a, &t, &found,
                        e);
    if (rc != OK)
        return rc;
    if (!found || !principal_sees(who, t.user_id))
        return err_set(e, ERR_NOT_FOUND, "no such token");
    rc = tx_exec(tx, "DELETE FROM service_tokens WHERE id = ?1", ARGS(v_int(id)), NULL, e);
    if (rc == OK)
        cache_forget_token(tx, t.hash);
    return rc;
}

int service_tokens_delete_all(struct tx *tx, int64_t user_id, struct err *e)
{
    struct rows *rows = tx_query(tx, "DELETE FROM service_tokens WHERE user_id = ?1 RETURNING hash",
                                 ARGS(v_int(user_id)));
    while (rows_next(rows))
        cache_forget_token(tx, row_text(rows, 0));
    return rows_end(rows, e);
}

/* ---- tickets ---- */

int ticket_make(struct tx *tx, const struct principal *who, const char **ticket, struct arena *a,
                struct err *e)
{
    char *text = arena_alloc(a, TICKET_CHARS + 1), hex[SHA256_HEX_SIZE];
    random_text(text, TICKET_CHARS);
    int rc = tx_exec(tx,
                     "INSERT INTO tickets(hash, user_uuid, via, role, permissions, expires_at, jti,"
                     " sid, token_id) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                     ARGS(v_text(sha256_hex(text, hex)),
                          who->user_id != 0 ? v_text(who->uuid) : v_null(),
                          v_int(who->via == VIA_TOKEN ? VIA_TOKEN : VIA_TICKET), v_int(who->role),
                          v_int(who->permissions), v_int(now_us() + TICKET_S * US_PER_S),
                          v_text(who->jti), v_text(who->sid), v_int(who->token_id)),
                     NULL, e);
    if (rc == OK)
        *ticket = text;
    return rc;
}

struct redeem {
    const char *hash;
    struct principal who;
    bool found;
};

static int redeem_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct redeem *r = ctx;
    struct rows *rows = tx_query(tx,
                                 "DELETE FROM tickets WHERE hash = ?1 RETURNING"
                                 " user_uuid, via, role, permissions, expires_at,"
                                 " coalesce(jti, ''), coalesce(sid, ''), token_id",
                                 ARGS(v_text(r->hash)));
    r->found = rows_next(rows) && row_int(rows, 4) > now_us();
    if (r->found) {
        r->who = (struct principal){
            .via = (enum via)row_int(rows, 1),
            .role = (enum role)row_int(rows, 2),
            .permissions = (unsigned)row_int(rows, 3),
            .token_id = row_int(rows, 7),
        };
        snprintf(r->who.jti, sizeof(r->who.jti), "%s", row_text(rows, 5));
        snprintf(r->who.sid, sizeof(r->who.sid), "%s", row_text(rows, 6));
        if (!row_null(rows, 0))
            snprintf(r->who.uuid, sizeof(r->who.uuid), "%s", row_text(rows, 0));
    }
    return rows_end(rows, e);
}

int ticket_redeem(struct identity *id, const char *ticket, struct principal *who, struct err *e)
{
    char hex[SHA256_HEX_SIZE];
    struct redeem r = {.hash = sha256_hex(ticket, hex)};
    int rc = store_tx(house_store(id->house), redeem_tx, &r, e);
    if (rc != OK)
        return rc;
    if (!r.found)
        return bad_credential(e);
    if (r.who.uuid[0] == '\0') {
        *who = r.who;
        return OK;
    }
    /* the account as it is now: it may have been changed since */
    struct known_user u;
    if ((rc = cache_user(id, r.who.uuid, false, &u, e)) != OK)
        return rc;
    principal_of_user(&u, r.who.via, who);
    who->permissions = r.who.via == VIA_TOKEN ? r.who.permissions
                                              : who->permissions & r.who.permissions;
    memcpy(who->jti, r.who.jti, sizeof(who->jti));
    memcpy(who->sid, r.who.sid, sizeof(who->sid));
    who->token_id = r.who.token_id;
    return identity_still_holds(id->house, who) ? OK : bad_credential(e);
}
