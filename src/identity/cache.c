/* What authentication keeps in memory: accounts and service tokens that were used, and every
 * revocation that still matters.
 *
 * What must stay true: what a committed change of this process made wrong is gone from here before
 * that change's answer is sent (after-commit calls run first). A reader that asked the store
 * before the change must not put the old row back afterwards: it notes the epoch before it reads
 * and keeps its row only when nothing was forgotten meanwhile. A revocation is never taken out
 * before the token it hits has ended by itself.
 *
 * Size: at most CACHE_MAX accounts and tokens; when full it starts anew. Revocations are bounded
 * by how many sessions can be ended within the life of an access token. */
#include "identity/parts.h"

#include "base/log.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

enum { CACHE_MAX = 65536 };

struct identity *identity_of(const struct house *h)
{
    return house_state(h, &identity_module);
}

static void map_clear(struct map *m)
{
    size_t at = 0;
    void *value;
    while (map_next(m, &at, NULL, &value))
        mem_free(value);
    map_fini(m);
    *m = (struct map){0};
}

void cache_init(struct identity *id)
{
    pthread_rwlock_init(&id->lock, NULL);
}

void cache_fini(struct identity *id)
{
    map_clear(&id->users);
    map_clear(&id->tokens);
    map_fini(&id->revoked);
    pthread_rwlock_destroy(&id->lock);
}

static void keep(struct identity *id, struct map *m, const char *key, const void *row, size_t size,
                 uint64_t epoch)
{
    pthread_rwlock_wrlock(&id->lock);
    if (id->epoch == epoch) {
        if (m->n >= CACHE_MAX)
            map_clear(m);
        void *copy = mem_alloc(size);
        memcpy(copy, row, size);
        mem_free(map_put(m, key, copy));
    }
    pthread_rwlock_unlock(&id->lock);
}

static uint64_t epoch_now(struct identity *id)
{
    pthread_rwlock_rdlock(&id->lock);
    uint64_t epoch = id->epoch;
    pthread_rwlock_unlock(&id->lock);
    return epoch;
}

static int ask_again(struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "the credential must be looked up");
}

/* ---- accounts ---- */

struct user_read {
    const char *uuid;
    struct known_user *out;
    bool found;
};

static int user_read_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct user_read *r = ctx;
    struct rows *rows = tx_query(tx,
                                 "SELECT id, role, is_active, generation, uuid, email FROM users"
                                 " WHERE uuid = ?1",
                                 ARGS(v_text(r->uuid)));
    r->found = rows_next(rows);
    if (r->found) {
        int role = names_find(role_names, row_text(rows, 1));
        r->out->id = row_int(rows, 0);
        r->out->role = role < 0 ? ROLE_USER : (enum role)role;
        r->out->is_active = row_int(rows, 2) != 0;
        r->out->generation = row_int(rows, 3);
        snprintf(r->out->uuid, sizeof(r->out->uuid), "%s", row_text(rows, 4));
        snprintf(r->out->email, sizeof(r->out->email), "%s", row_text(rows, 5));
    }
    return rows_end(rows, e);
}

int cache_user(struct identity *id, const char *uuid, bool fast, struct known_user *out,
               struct err *e)
{
    int64_t now = mono_us();
    pthread_rwlock_rdlock(&id->lock);
    const struct known_user *kept = map_get(&id->users, uuid);
    bool fresh = kept != NULL && now - kept->read_at < id->recheck_us;
    if (fresh)
        *out = *kept;
    uint64_t epoch = id->epoch;
    pthread_rwlock_unlock(&id->lock);
    if (fresh)
        return OK;
    if (fast)
        return ask_again(e);
    struct known_user u = {.read_at = now};
    struct user_read r = {uuid, &u, false};
    int rc = store_read(house_store(id->house), user_read_tx, &r, e);
    if (rc != OK)
        return rc;
    if (!r.found)
        return bad_credential(e);
    keep(id, &id->users, uuid, &u, sizeof(u), epoch);
    *out = u;
    return OK;
}

/* ---- service tokens ---- */

struct token_read {
    const char *hash;
    struct known_token *out;
    bool found;
};

static int token_read_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct token_read *r = ctx;
    struct rows *rows = tx_query(
        tx,
        "SELECT t.id, t.user_id, t.expires_at, t.last_used_at, u.uuid, t.permissions, t.granted"
        " FROM service_tokens t LEFT JOIN users u ON u.id = t.user_id WHERE t.hash = ?1",
        ARGS(v_text(r->hash)));
    /* a token whose account is gone is nobody's; one without an account is "local" */
    r->found = rows_next(rows) && (row_null(rows, 1) || !row_null(rows, 4));
    if (r->found) {
        r->out->id = row_int(rows, 0);
        r->out->user_id = row_int(rows, 1);
        r->out->expires_at = row_int(rows, 2);
        r->out->saved_at = row_int(rows, 3);
        r->out->used_at = row_int(rows, 3);
        r->out->permissions = row_null(rows, 5) ? INT_NULL : row_int(rows, 5);
        r->out->granted = row_int(rows, 6) != 0;
        if (!row_null(rows, 4))
            snprintf(r->out->user_uuid, sizeof(r->out->user_uuid), "%s", row_text(rows, 4));
    }
    return rows_end(rows, e);
}

/* All but the times of use, which other threads write meanwhile. */
static void token_copy(const struct known_token *from, struct known_token *to)
{
    to->id = from->id;
    to->user_id = from->user_id;
    to->expires_at = from->expires_at;
    to->permissions = from->permissions;
    to->granted = from->granted;
    memcpy(to->user_uuid, from->user_uuid, sizeof(to->user_uuid));
}

int cache_token(struct identity *id, const char *hash, bool fast, struct known_token *out,
                struct err *e)
{
    int64_t now = mono_us(), wall = now_us();
    pthread_rwlock_rdlock(&id->lock);
    struct known_token *kept = map_get(&id->tokens, hash);
    bool fresh = kept != NULL && now - kept->read_at < id->recheck_us;
    if (fresh) {
        kept->used_at = wall;
        token_copy(kept, out);
    }
    pthread_rwlock_unlock(&id->lock);
    if (fresh)
        return OK;
    if (fast)
        return ask_again(e);
    struct known_token t = {.read_at = now};
    struct token_read r = {hash, &t, false};
    uint64_t epoch = epoch_now(id);
    int rc = store_read(house_store(id->house), token_read_tx, &r, e);
    if (rc != OK)
        return rc;
    if (!r.found)
        return bad_credential(e);
    t.used_at = wall;
    keep(id, &id->tokens, hash, &t, sizeof(t), epoch);
    token_copy(&t, out);
    return OK;
}

struct use_row {
    int64_t id, at;
};
struct use_rows {
    struct use_row *rows;
    size_t n;
};

static int save_use_tx(struct tx *tx, void *ctx, struct err *e)
{
    const struct use_rows *u = ctx;
    int rc = OK;
    for (size_t i = 0; i < u->n && rc == OK; i++)
        rc = tx_exec(tx, "UPDATE service_tokens SET last_used_at = ?1 WHERE id = ?2",
                     ARGS(v_int(u->rows[i].at), v_int(u->rows[i].id)), NULL, e);
    return rc;
}

void cache_save_use(struct identity *id)
{
    AUTO(arena) struct arena a = {0};
    struct use_rows u = {0};
    size_t at = 0;
    void *value;
    pthread_rwlock_wrlock(&id->lock);
    u.rows = arena_alloc(&a, (id->tokens.n + 1) * sizeof(*u.rows));
    while (map_next(&id->tokens, &at, NULL, &value)) {
        struct known_token *t = value;
        if (t->used_at == t->saved_at)
            continue;
        t->saved_at = t->used_at;
        u.rows[u.n++] = (struct use_row){t->id, t->saved_at};
    }
    pthread_rwlock_unlock(&id->lock);
    struct err e = {0};
    if (u.n > 0 && store_tx(house_store(id->house), save_use_tx, &u, &e) != OK)
        log_warning("identity", "the last use of tokens was not written down: %s", e.text);
}

/* ---- forgetting ---- */

struct forget {
    struct identity *id;
    struct map *from;
    char key[];
};

static void forget_now(void *ctx)
{
    struct forget *f = ctx;
    pthread_rwlock_wrlock(&f->id->lock);
    f->id->epoch++;
    mem_free(map_del(f->from, f->key));
    pthread_rwlock_unlock(&f->id->lock);
}

static void forget_after(struct tx *tx, struct identity *id, struct map *from, const char *key)
{
    struct forget *f = arena_alloc(tx_arena(tx), sizeof(*f) + strlen(key) + 1);
    f->id = id;
    f->from = from;
    memcpy(f->key, key, strlen(key) + 1);
    tx_after_commit(tx, forget_now, f);
}

void cache_forget_user(struct tx *tx, const char *uuid)
{
    struct identity *id = identity_of(tx_house(tx));
    if (id != NULL) /* not while the module starts: nothing is kept yet */
        forget_after(tx, id, &id->users, uuid);
}

void cache_forget_token(struct tx *tx, const char *hash)
{
    struct identity *id = identity_of(tx_house(tx));
    forget_after(tx, id, &id->tokens, hash);
}

/* ---- revocations ---- */

bool cache_revoked(struct identity *id, const char *token_id)
{
    pthread_rwlock_rdlock(&id->lock);
    bool yes = map_get(&id->revoked, token_id) != NULL;
    pthread_rwlock_unlock(&id->lock);
    return yes;
}

struct revoke {
    struct identity *id;
    int64_t until_s;
    char token_id[UUID_TEXT_SIZE];
};

static void revoke_now(void *ctx)
{
    struct revoke *r = ctx;
    pthread_rwlock_wrlock(&r->id->lock);
    map_put(&r->id->revoked, r->token_id, (void *)(intptr_t)r->until_s);
    pthread_rwlock_unlock(&r->id->lock);
}

int cache_revoke(struct tx *tx, const char *token_id, int64_t until_s, struct err *e)
{
    int rc = tx_exec(tx,
                     "INSERT INTO revoked_tokens(token_id, until_s) VALUES(?1, ?2)"
                     " ON CONFLICT(token_id) DO NOTHING",
                     ARGS(v_text(token_id), v_int(until_s)), NULL, e);
    if (rc != OK)
        return rc;
    struct revoke *r = arena_alloc(tx_arena(tx), sizeof(*r));
    *r = (struct revoke){.id = identity_of(tx_house(tx)), .until_s = until_s};
    snprintf(r->token_id, sizeof(r->token_id), "%s", token_id);
    tx_after_commit(tx, revoke_now, r);
    return OK;
}

struct revoked_read {
    struct identity *id;
    int64_t now_s;
};

static int revoked_read_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct revoked_read *r = ctx;
    struct rows *rows = tx_query(tx,
                                 "SELECT token_id, until_s FROM revoked_tokens WHERE until_s >= ?1",
                                 ARGS(v_int(r->now_s)));
    pthread_rwlock_wrlock(&r->id->lock);
    while (rows_next(rows))
        map_put(&r->id->revoked, row_text(rows, 0), (void *)(intptr_t)row_int(rows, 1));
    pthread_rwlock_unlock(&r->id->lock);
    return rows_end(rows, e);
}

int cache_load_revoked(struct identity *id, struct err *e)
{
    struct revoked_read r = {id, now_us() / US_PER_S};
    return store_read(house_store(id->house), revoked_read_tx, &r, e);
}

static int drop_ended_tx(struct tx *tx, void *ctx, struct err *e)
{
    int64_t now = now_us();
    static const char *const ended[] = {
        "DELETE FROM tickets WHERE expires_at < ?1",
        "DELETE FROM sessions WHERE expires_at < ?1",
        "DELETE FROM account_links WHERE expires_at < ?1",
        "DELETE FROM service_tokens WHERE expires_at IS NOT NULL AND expires_at < ?1",
    };
    int rc = tx_exec(tx, "DELETE FROM revoked_tokens WHERE until_s < ?1",
                     ARGS(v_int(now / US_PER_S)), NULL, e);
    for (size_t i = 0; i < ARRAY_LEN(ended) && rc == OK; i++)
        rc = tx_exec(tx, ended[i], ARGS(v_int(now)), NULL, e);
    return rc;
}

void cache_drop_ended(struct identity *id)
{
    struct err e = {0};
    if (store_tx(house_store(id->house), drop_ended_tx, NULL, &e) != OK)
        log_warning("identity", "ended sessions were not cleared away: %s", e.text);
    int64_t now_s = now_us() / US_PER_S;
    struct map left = {0};
    size_t at = 0;
    const char *key;
    void *value;
    pthread_rwlock_wrlock(&id->lock);
    while (map_next(&id->revoked, &at, &key, &value))
        if ((intptr_t)value >= now_s)
            map_put(&left, key, value);
    map_fini(&id->revoked);
    id->revoked = left;
    pthread_rwlock_unlock(&id->lock);
}
