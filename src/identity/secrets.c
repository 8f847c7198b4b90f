/* The table of secrets, the keyring that opens it, and rotation.
 *
 * What must stay true: a sealed text in the store can be opened by a key in the file, at every
 * moment: a key is in the file before anything is sealed under it, and leaves only when a read
 * after the last transaction finds nothing of it. */
#include "identity/secrets.h"

#include "identity/parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <ctype.h>
#include <string.h>

enum { PAGE = 100 };
static const char signing_key_name[] = "signing_key", signing_key_place[] = "settings.signing_key";
enum { SIGNING_KEY_BYTES = 32 };

RECORD(secret_record, struct secret, "secrets", MEMBER(struct secret, id, T_ID),
       MEMBER(struct secret, owner, T_INT),
       MEMBER(struct secret, name, T_TEXT, .min = 1, .max = SECRET_NAME_MAX, .doc = "its name"),
       MEMBER(struct secret, sealed, T_TEXT, .flags = M_SECRET),
       MEMBER(struct secret, key_id, T_TEXT, .doc = "the key that it is sealed under"),
       MEMBER(struct secret, created_at, T_TIME, .doc = "when it was made"),
       MEMBER(struct secret, updated_at, T_TIME, .doc = "when its text was last given"));

static const char *place_of(int64_t owner, const char *name, struct arena *a)
{
    return arena_printf(a, "secrets.sealed:%lld:%s", (long long)owner, name);
}

bool secret_name_good(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > SECRET_NAME_MAX || !isalnum((unsigned char)name[0]))
        return false;
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char)*name) && strchr("._-", *name) == NULL)
            return false;
    return true;
}

static const char *seal(struct identity *id, const char *where, const void *p, size_t n,
                        struct arena *a, const char **key_id)
{
    pthread_rwlock_rdlock(&id->keys_lock);
    const char *sealed = secret_seal(id->secret_key, where, p, n, a);
    *key_id = arena_strdup(a, secret_key_id(id->secret_key));
    pthread_rwlock_unlock(&id->keys_lock);
    return sealed;
}

static int unseal(struct identity *id, const char *where, const char *sealed, struct arena *a,
                  char **out, size_t *n, struct err *e)
{
    pthread_rwlock_rdlock(&id->keys_lock);
    int rc = secret_unseal(id->secret_key, where, sealed, a, out, n, e);
    pthread_rwlock_unlock(&id->keys_lock);
    return rc;
}

static int find(struct tx *tx, int64_t owner, const char *name, struct arena *a, struct secret *out,
                bool *found, struct err *e)
{
    return record_get(tx, &secret_record, "WHERE owner = ?1 AND name = ?2",
                      ARGS(v_int(owner), v_text(name)), a, out, found, e);
}

static int missing(const char *name, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "no secret %s; make it: drover secret set %s", name, name);
}

int secret_put(struct tx *tx, int64_t owner, const char *name, const char *text, struct arena *a,
               struct secret *out, struct err *e)
{
    struct identity *id = identity_of(tx_house(tx));
    struct secret s;
    bool found;
    int rc = find(tx, owner, name, a, &s, &found, e);
    if (rc != OK)
        return rc;
    if (!found)
        s = (struct secret){.owner = owner, .name = name, .created_at = now_us()};
    s.updated_at = now_us();
    s.sealed = seal(id, place_of(owner, name, a), text, strlen(text), a, &s.key_id);
    rc = found ? record_update(tx, &secret_record, &s, e)
               : record_insert(tx, &secret_record, &s, &s.id, e);
    if (rc == OK && out != NULL)
        *out = s;
    return rc;
}

int secret_get(struct tx *tx, int64_t owner, const char *name, struct arena *a, char **text,
               struct err *e)
{
    struct secret s;
    bool found;
    size_t n;
    int rc = find(tx, owner, name, a, &s, &found, e);
    if (rc != OK)
        return rc;
    if (!found)
        return missing(name, e);
    rc = unseal(identity_of(tx_house(tx)), place_of(owner, name, a), s.sealed, a, text, &n, e);
    return rc == OK ? OK : err_wrap(e, "the secret %s", name);
}

int secret_list(struct tx *tx, int64_t owner, int64_t after, int64_t limit, struct arena *a,
                struct list *out, struct err *e)
{
    return record_list(tx, &secret_record, "WHERE owner = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                       ARGS(v_int(owner), v_int(after), v_int(limit)), a, out, e);
}

int secret_delete(struct tx *tx, int64_t owner, const char *name, struct err *e)
{
    int64_t gone;
    int rc = tx_exec(tx, "DELETE FROM secrets WHERE owner = ?1 AND name = ?2",
                     ARGS(v_int(owner), v_text(name)), &gone, e);
    return rc == OK && gone == 0 ? missing(name, e) : rc;
}

int secrets_delete_all(struct tx *tx, int64_t owner, struct err *e)
{
    return tx_exec(tx, "DELETE FROM secrets WHERE owner = ?1", ARGS(v_int(owner)), NULL, e);
}

/* ---- the signing key of access tokens ---- */

struct signing_tx {
    struct identity *id;
    bool write;
    const char *kept; /* what the store has afterwards; NULL: nothing */
};

/* Several servers may start at once on one database: the first one's key stays. */
static int signing_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct signing_tx *k = ctx;
    int rc = OK;
    if (k->write) {
        uint8_t fresh[SIGNING_KEY_BYTES];
        const char *key_id;
        random_bytes(fresh, sizeof(fresh));
        const char *sealed = seal(k->id, signing_key_place, fresh, sizeof(fresh), tx_arena(tx),
                                  &key_id);
        rc = tx_exec(tx,
                     "INSERT INTO settings(name, value) VALUES(?1, ?2)"
                     " ON CONFLICT(name) DO NOTHING",
                     ARGS(v_text(signing_key_name), v_text(sealed)), NULL, e);
    }
    if (rc != OK)
        return rc;
    struct rows *rows = tx_query(tx, "SELECT value FROM settings WHERE name = ?1",
                                 ARGS(v_text(signing_key_name)));
    k->kept = rows_next(rows) ? arena_strdup(&k->id->arena, row_text(rows, 0)) : NULL;
    return rows_end(rows, e);
}

static int open_signing_key(struct identity *id, struct err *e)
{
    const char *given = setting_text(id->house, "SECRET_KEY");
    if (given != NULL && *given != '\0') {
        if (strlen(given) < SIGNING_KEY_BYTES)
            log_warning("identity", "SECRET_KEY is short: use at least %d random characters",
                        SIGNING_KEY_BYTES);
        id->signing_key = (struct jwt_key){given, strlen(given)};
        return OK;
    }
    struct signing_tx k = {.id = id};
    struct store *store = house_store(id->house);
    int rc = store_read(store, signing_tx, &k, e);
    if (rc == OK && k.kept == NULL) {
        k.write = true;
        rc = store_tx(store, signing_tx, &k, e);
    }
    char *bytes;
    if (rc == OK)
        rc = unseal(id, signing_key_place, k.kept, &id->arena, &bytes, &id->signing_key.n, e);
    if (rc == OK)
        id->signing_key.bytes = bytes;
    return rc;
}

/* ---- rotation ---- */

struct reseal {
    struct identity *id;
    const char *key_id;
    int64_t page, total;
};

static int reseal_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct reseal *r = ctx;
    struct arena *a = tx_arena(tx);
    struct list rows;
    size_t n;
    char *text;
    int rc = record_list(tx, &secret_record, "WHERE key_id <> ?1 ORDER BY id LIMIT ?2",
                         ARGS(v_text(r->key_id), v_int(PAGE)), a, &rows, e);
    for (size_t i = 0; rc == OK && i < rows.n; i++) {
        struct secret *s = (struct secret *)rows.items + i;
        const char *where = place_of(s->owner, s->name, a);
        if ((rc = unseal(r->id, where, s->sealed, a, &text, &n, e)) != OK)
            return err_wrap(e, "the secret %s", s->name);
        s->sealed = seal(r->id, where, text, n, a, &s->key_id);
        rc = record_update(tx, &secret_record, s, e);
    }
    r->page = (int64_t)rows.n;
    return rc;
}

static int reseal_signing_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct reseal *r = ctx;
    struct arena *a = tx_arena(tx);
    struct signing_tx k = {.id = r->id};
    const char *key_id;
    char *bytes;
    size_t n;
    int rc = signing_tx(tx, &k, e);
    if (rc != OK || k.kept == NULL)
        return rc;
    if ((rc = unseal(r->id, signing_key_place, k.kept, a, &bytes, &n, e)) != OK)
        return rc;
    return tx_exec(tx, "UPDATE settings SET value = ?1 WHERE name = ?2",
                   ARGS(v_text(seal(r->id, signing_key_place, bytes, n, a, &key_id)),
                        v_text(signing_key_name)),
                   NULL, e);
}

static int reload(struct identity *id, struct err *e)
{
    struct secret_key *fresh;
    int rc = secret_key_open(id->key_path, &fresh, e);
    if (rc != OK)
        return rc;
    pthread_rwlock_wrlock(&id->keys_lock);
    struct secret_key *old = id->secret_key;
    id->secret_key = fresh;
    pthread_rwlock_unlock(&id->keys_lock);
    secret_key_close(old);
    return OK;
}

/* From a file with several keys to one with the last only. */
static int finish(struct identity *id, int64_t *resealed, struct err *e)
{
    struct store *store = house_store(id->house);
    struct reseal r = {.id = id, .key_id = secret_key_id(id->secret_key)};
    int rc = store_tx(store, reseal_signing_tx, &r, e);
    do {
        if (rc == OK)
            rc = store_tx(store, reseal_tx, &r, e);
        r.total += rc == OK ? r.page : 0;
    } while (rc == OK && r.page == PAGE);
    if (rc == OK)
        rc = secret_key_drop_old(id->secret_key, id->key_path, e);
    if (rc == OK)
        rc = reload(id, e);
    if (rc == OK)
        *resealed = r.total;
    return rc;
}

int secrets_rotate(struct house *h, int64_t *resealed, struct err *e)
{
    struct identity *id = identity_of(h);
    pthread_mutex_lock(&id->rotate_lock);
    int rc = secret_key_add(id->secret_key, id->key_path, e);
    if (rc == OK)
        rc = reload(id, e);
    if (rc == OK)
        rc = finish(id, resealed, e);
    pthread_mutex_unlock(&id->rotate_lock);
    return rc;
}

/* ---- start ---- */

static int check_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct identity *id = ctx;
    struct list rows;
    size_t n;
    char *text;
    int rc = record_list(tx, &secret_record,
                         "WHERE id IN (SELECT min(id) FROM secrets GROUP BY key_id)", NO_ARGS,
                         &id->arena, &rows, e);
    for (size_t i = 0; rc == OK && i < rows.n; i++) {
        const struct secret *s = (const struct secret *)rows.items + i;
        rc = unseal(id, place_of(s->owner, s->name, &id->arena), s->sealed, &id->arena, &text, &n,
                    e);
    }
    return rc;
}

int secrets_start(struct identity *id, struct err *e)
{
    const char *path = setting_text(id->house, "DROVER_KEY_FILE");
    if (path == NULL || *path == '\0')
        path = arena_printf(&id->arena, "%s/secret.key", house_data_dir(id->house));
    id->key_path = path;
    int rc = secret_key_open(path, &id->secret_key, e);
    if (rc != OK)
        return rc;
    if ((rc = open_signing_key(id, e)) == OK)
        rc = store_read(house_store(id->house), check_tx, id, e);
    if (rc != OK)
        return err_wrap(e, "%s is not the key file of this database; put the right one there",
                        path);
    int64_t resealed;
    if (secret_key_count(id->secret_key) > 1) { /* a rotation was cut short */
        if ((rc = finish(id, &resealed, e)) != OK)
            return rc;
        log_info("identity", "finished a rotation of the key of secrets: %lld sealed anew",
                 (long long)resealed);
    }
    return OK;
}
