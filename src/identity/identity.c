/* The module: its tables, settings, start and periodic work.
 *
 * What must stay true: the authentication mode follows from where the server listens (contract
 * README, 13): "trusted" only while every listener is on loopback; "open" elsewhere must be asked
 * for twice. An account may run commands on this host, so strangers make their own only from
 * this machine itself. The first start makes an administrator whose password nobody else knows. */
#include "identity/parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <string.h>

static const struct migration migrations[] = {
    {.id = 2001,
     .name = "accounts, sessions, tokens, audit",
     .script =
         "CREATE TABLE users(id $ID, uuid $TEXT NOT NULL UNIQUE, email $TEXT NOT NULL UNIQUE,"
         " username $TEXT NOT NULL UNIQUE, password_hash $TEXT NOT NULL, role $TEXT NOT NULL,"
         " is_active $INT NOT NULL, is_verified $INT NOT NULL, first_name $TEXT, last_name $TEXT,"
         " nickname $TEXT, avatar $TEXT, phone $TEXT, organization $TEXT,"
         " compute_us $INT NOT NULL, cost_micro $INT NOT NULL, generation $INT NOT NULL,"
         " created_at $INT NOT NULL, updated_at $INT NOT NULL, last_login $INT);"
         "CREATE TABLE sessions(id $ID, uuid $TEXT NOT NULL UNIQUE, handle $TEXT NOT NULL UNIQUE,"
         " hash $TEXT NOT NULL, previous $TEXT, user_id $INT NOT NULL, address $TEXT NOT NULL,"
         " created_at $INT NOT NULL, used_at $INT NOT NULL, expires_at $INT NOT NULL,"
         " ended_at $INT);"
         "CREATE INDEX sessions_user ON sessions(user_id);"
         "CREATE INDEX sessions_expiry ON sessions(expires_at);"
         "CREATE TABLE revoked_tokens(token_id $TEXT PRIMARY KEY, until_s $INT NOT NULL);"
         "CREATE TABLE service_tokens(id $ID, name $TEXT NOT NULL, prefix $TEXT NOT NULL,"
         " hash $TEXT NOT NULL UNIQUE, user_id $INT, created_at $INT NOT NULL,"
         " last_used_at $INT, expires_at $INT);"
         "CREATE INDEX service_tokens_user ON service_tokens(user_id);"
         "CREATE TABLE tickets(hash $TEXT PRIMARY KEY, user_uuid $TEXT, via $INT NOT NULL,"
         " role $INT NOT NULL, permissions $INT NOT NULL, expires_at $INT NOT NULL);"
         "CREATE TABLE audit_log(id $ID, at $INT NOT NULL, principal $TEXT NOT NULL, user_id $INT,"
         " via $TEXT NOT NULL, method $TEXT NOT NULL, route $TEXT NOT NULL, target $TEXT,"
         " outcome $TEXT NOT NULL, address $TEXT NOT NULL, request_id $TEXT NOT NULL);"
         "CREATE INDEX audit_log_at ON audit_log(at);"
         "CREATE TABLE settings(name $TEXT PRIMARY KEY, value $TEXT NOT NULL)"},
    {.id = 2002,
     .name = "what ends the connection of a ticket",
     .script = "ALTER TABLE tickets ADD COLUMN jti $TEXT;"
               "ALTER TABLE tickets ADD COLUMN sid $TEXT;"
               "ALTER TABLE tickets ADD COLUMN token_id $INT",
     .min_compatible = 2001},
    {.id = 2070,
     .name = "links for a new password and to verify an e-mail",
     .script = "CREATE TABLE account_links(id $ID, kind $TEXT NOT NULL, user_id $INT NOT NULL,"
               " email $TEXT NOT NULL, hash $TEXT NOT NULL UNIQUE, created_at $INT NOT NULL,"
               " expires_at $INT NOT NULL);"
               "CREATE INDEX account_links_user ON account_links(user_id)",
     .min_compatible = 2001},
    {.id = 2020,
     .name = "secrets",
     .script = "CREATE TABLE secrets(id $ID, owner $INT NOT NULL, name $TEXT NOT NULL,"
               " sealed $TEXT NOT NULL, key_id $TEXT NOT NULL, created_at $INT NOT NULL,"
               " updated_at $INT NOT NULL, UNIQUE(owner, name));"
               "CREATE INDEX secrets_key ON secrets(key_id)",
     .min_compatible = 2001},
    {.id = 2071,
     .name = "permissions of keys, programs of sessions",
     .script = "ALTER TABLE service_tokens ADD COLUMN permissions $INT;"
               "ALTER TABLE service_tokens ADD COLUMN granted $INT NOT NULL DEFAULT 0;"
               "ALTER TABLE sessions ADD COLUMN agent $TEXT;"
               "CREATE INDEX audit_log_user ON audit_log(user_id, id);"
               "CREATE VIEW api_keys AS SELECT id, name, prefix, user_id, permissions, created_at,"
               " last_used_at, expires_at FROM service_tokens WHERE prefix LIKE 'sk_live_%'",
     .min_compatible = 2001},
    {0},
};
static const struct record *const records[] = {
    &secret_record, &user_record, &session_record, &service_token_record, &audit_record,
    &link_record,   NULL};

static const struct setting settings[] = {
    {"SECRET_KEY", "API_SECRET_KEY", SET_TEXT, NULL, .secret = true,
     .doc = "signs access tokens; made and kept when unset"},
    {"ALGORITHM", NULL, SET_WORD, "HS256", .words = "HS256",
     .doc = "how access tokens are signed; there is one way"},
    {"ACCESS_TOKEN_EXPIRE_MINUTES", NULL, SET_INT, "30", 1, 43200,
     .doc = "life of an access token"},
    {"REFRESH_TOKEN_EXPIRE_DAYS", NULL, SET_INT, "30", 1, 3650,
     .doc = "how long a sign-in lasts without use"},
    {"AUTH_MODE", NULL, SET_WORD, "trusted", .words = "trusted|strict|open",
     .doc = "who may use open routes without a credential; trusted is strict unless every "
            "listener is on loopback"},
    {"TRUSTED_NETWORKS", NULL, SET_LIST, "127.0.0.0/8,::1/128",
     .doc = "where AUTH_MODE=trusted asks for no credential"},
    {"TRUSTED_PROXIES", NULL, SET_LIST, NULL, .doc = "whose X-Forwarded-For is believed"},
    {"ALLOW_OPEN", NULL, SET_TEXT, NULL,
     .doc = "yes-i-mean-it: AUTH_MODE=open also where other machines can connect"},
    {"REGISTRATION", NULL, SET_WORD, "auto", .words = "auto|open|closed",
     .doc = "whether people make their own accounts, which may run commands here; auto: only from "
            "this machine itself, while every listener is on loopback"},
    {"FIRST_USER_IS_ADMIN", NULL, SET_BOOL, "false",
     .doc = "the first account that registers becomes administrator, and none is made at start"},
    {"DROVER_KEY_FILE", "SECRETS_KEY_FILE", SET_TEXT, NULL,
     .doc = "the key for secrets at rest; default: secret.key in DATA_DIR"},
    {"API_KEY_EXPIRE_DAYS", NULL, SET_INT, "30", 1, 3650,
     .doc = "life of an API key whose request does not say"},
    {"PASSWORD_HASHES_AT_ONCE", NULL, SET_INT, "2", 1, 64,
     .doc = "passwords checked at the same time; each takes 64 MiB"},
    {"ACCOUNT_RECHECK", NULL, SET_DURATION_S, "5s",
     .doc = "how long a change by another replica may go unseen"},
};

/* ---- where the server listens decides whom it trusts ---- */

static void find_listen_host(const struct setting *s, const char *value, void *ctx)
{
    bool *loopback = ctx;
    if (strcmp(s->name, "SERVER_HOST") != 0 || value == NULL)
        return;
    AUTO(mem) char *list = mem_strdup(value);
    char *rest = list, *host;
    while ((host = strsep(&rest, ", ")) != NULL)
        if (*host != '\0' && !host_is_loopback(host))
            *loopback = false;
}

static int read_trust(struct identity *id, struct err *e)
{
    struct house *h = id->house;
    struct trust *t = &id->trust;
    const char *mode = setting_text(h, "AUTH_MODE"), *allow = setting_text(h, "ALLOW_OPEN");
    bool loopback = true;
    settings_each(h, find_listen_host, &loopback);
    id->loopback = loopback;
    const char *registration = setting_text(h, "REGISTRATION");
    id->registration = str_eq_nocase(registration, "open")     ? REGISTRATION_OPEN
                       : str_eq_nocase(registration, "closed") ? REGISTRATION_CLOSED
                                                               : REGISTRATION_AUTO;
    t->mode = AUTH_TRUSTED;
    if (str_eq_nocase(mode, "open")) {
        if (!loopback && !str_eq(allow, "yes-i-mean-it"))
            return err_set(e, ERR_FORBIDDEN,
                           "AUTH_MODE=open lets everyone who can connect run commands here; listen "
                           "on 127.0.0.1, or set ALLOW_OPEN=yes-i-mean-it");
        log_warning("identity", "AUTH_MODE=open: nobody is asked for a credential");
        t->mode = AUTH_OPEN;
    } else if (str_eq_nocase(mode, "strict") || !loopback) {
        if (setting_given(h, "AUTH_MODE") && !str_eq_nocase(mode, "strict"))
            log_warning("identity", "AUTH_MODE is strict, not trusted: other machines can connect");
        t->mode = AUTH_STRICT;
    }
    t->public_url = setting_text(h, "PUBLIC_URL");
    struct texts a = setting_list(h, "ALLOWED_ORIGINS"), b = setting_list(h, "CORS_ORIGINS");
    t->origins.items = arena_alloc(&id->arena, (a.n + b.n + 1) * sizeof(char *));
    for (size_t i = 0; i < a.n + b.n; i++)
        t->origins.items[t->origins.n++] = i < a.n ? a.items[i] : b.items[i - a.n];
    int rc = networks_read(setting_list(h, "TRUSTED_NETWORKS"), "TRUSTED_NETWORKS", &id->arena,
                           &t->networks, &t->n_networks, e);
    if (rc == OK)
        rc = networks_read(setting_list(h, "TRUSTED_PROXIES"), "TRUSTED_PROXIES", &id->arena,
                           &t->proxies, &t->n_proxies, e);
    return rc;
}

/* ---- the first accounts ---- */

struct first_accounts {
    struct identity *id;
    bool empty, demo_there;
    const char *admin_hash, *demo_hash; /* NULL: not to be made */
};

static const char demo_email[] = "user123@example.com", demo_name[] = "user123";
/* In the documentation, so it is no secret: see first_accounts(). */
static const char demo_password[] = "drover-demo";

static int look_at_accounts(struct tx *tx, void *ctx, struct err *e)
{
    struct first_accounts *f = ctx;
    int64_t n;
    int rc = tx_int(tx, "SELECT count(*) FROM users", NO_ARGS, &n, NULL, e);
    f->empty = n == 0;
    if (rc == OK)
        rc = tx_int(tx, "SELECT count(*) FROM users WHERE email = ?1", ARGS(v_text(demo_email)), &n,
                    NULL, e);
    f->demo_there = n != 0;
    return rc;
}

static int make_accounts(struct tx *tx, void *ctx, struct err *e)
{
    struct first_accounts *f = ctx;
    struct user made;
    int rc = look_at_accounts(tx, f, e);
    if (rc == OK && f->empty && f->admin_hash != NULL) {
        struct user_input in = {.email = "admin@localhost", .first_name = "Administrator"};
        rc = user_create(tx, &in, f->admin_hash, ROLE_ADMIN, "system", tx_arena(tx), &made, e);
    }
    if (rc == OK && !f->demo_there && f->demo_hash != NULL) {
        struct user_input in = {.email = demo_email, .nickname = demo_name};
        rc = user_create(tx, &in, f->demo_hash, ROLE_USER, "system", tx_arena(tx), &made, e);
    }
    return rc;
}

/* The demo's password stands in its documentation, so it opens an account only where no other
 * machine can connect; elsewhere that account is there, but nobody can sign in to it. */
static int first_accounts(struct identity *id, struct err *e)
{
    struct store *store = house_store(id->house);
    struct first_accounts f = {.id = id};
    int rc = store_read(store, look_at_accounts, &f, e);
    if (rc != OK)
        return rc;
    bool admin = f.empty && !id->first_is_admin, demo = !f.demo_there && house_demo(id->house);
    if (!admin && !demo)
        return OK;
    const char *password = password_generate(&id->arena);
    if (admin && (rc = password_prepare(password, NULL, &id->arena, &f.admin_hash, e)) != OK)
        return rc;
    if (demo && id->loopback)
        rc = password_prepare(demo_password, demo_email, &id->arena, &f.demo_hash, e);
    else if (demo)
        f.demo_hash = "";
    if (rc == OK)
        rc = store_tx(store, make_accounts, &f, e);
    /* f.empty as the transaction saw it: another server may have been first */
    if (rc == OK && admin && f.empty)
        id->first_password = password;
    return rc;
}

const char *identity_first_password(const struct house *h)
{
    return identity_of(h)->first_password;
}

/* ---- the module ---- */

static void identity_stop(struct house *h, void *state)
{
    struct identity *id = state;
    (void)h;
    cache_save_use(id);
    cache_fini(id);
    pthread_mutex_destroy(&id->backoff_lock);
    secret_key_close(id->secret_key);
    pthread_rwlock_destroy(&id->keys_lock);
    pthread_mutex_destroy(&id->rotate_lock);
    arena_fini(&id->arena);
    mem_free(id);
}

static int identity_start(struct house *h, void **state, struct err *e)
{
    int rc = crypto_init(e);
    if (rc != OK)
        return rc;
    struct identity *id = mem_alloc(sizeof(*id));
    *state = id; /* transactions below reach it through the house */
    id->house = h;
    cache_init(id);
    pthread_mutex_init(&id->backoff_lock, NULL);
    pthread_rwlock_init(&id->keys_lock, NULL);
    pthread_mutex_init(&id->rotate_lock, NULL);
    random_bytes(id->backoff_key, sizeof(id->backoff_key));
    id->access_s = setting_int(h, "ACCESS_TOKEN_EXPIRE_MINUTES") * 60;
    id->refresh_s = setting_int(h, "REFRESH_TOKEN_EXPIRE_DAYS") * 86400;
    id->recheck_us = setting_int(h, "ACCOUNT_RECHECK") * US_PER_S;
    id->first_is_admin = setting_bool(h, "FIRST_USER_IS_ADMIN");
    int at_once = (int)setting_int(h, "PASSWORD_HASHES_AT_ONCE");
    password_slots(at_once, 2 * at_once);
    if ((rc = read_trust(id, e)) == OK && (rc = secrets_start(id, e)) == OK &&
        (rc = cache_load_revoked(id, e)) == OK)
        rc = first_accounts(id, e);
    mail_kinds(recovery_mails);
    if (id->loopback)
        mail_may_log(h);
    if (rc != OK) {
        *state = NULL;
        identity_stop(h, id);
    }
    return rc;
}

static void duty_revoked(struct house *h, void *state)
{
    struct err e = {0};
    /* on SQLite there is no other writer: what is revoked is known already */
    if (store_kind(house_store(h)) == STORE_POSTGRES && cache_load_revoked(state, &e) != OK)
        log_warning("identity", "revocations were not read: %s", e.text);
}

static void duty_save_use(struct house *h, void *state)
{
    (void)h;
    cache_save_use(state);
}

static void duty_drop_ended(struct house *h, void *state)
{
    (void)h;
    cache_drop_ended(state);
}

static const struct duty duties[] = {
    {"revocations", 0, "ACCOUNT_RECHECK", duty_revoked},
    {"token-use", 30000, NULL, duty_save_use},
    {"ended-sessions", 600000, NULL, duty_drop_ended},
};

static void identity_metrics(struct house *h, void *state, struct buf *out)
{
    struct identity *id = state;
    (void)h;
    buf_printf(out,
               "# HELP drover_sign_ins_total Sign-ins with a password, by result.\n"
               "# TYPE drover_sign_ins_total counter\n"
               "drover_sign_ins_total{result=\"ok\"} %llu\n"
               "drover_sign_ins_total{result=\"refused\"} %llu\n"
               "# HELP drover_password_hashes_total Argon2 runs.\n"
               "# TYPE drover_password_hashes_total counter\n"
               "drover_password_hashes_total %llu\n",
               (unsigned long long)id->signed_in, (unsigned long long)id->refused,
               (unsigned long long)password_hashes());
}

const struct module identity_module = {
    .name = "identity",
    .migrations = migrations,
    .records = records,
    .settings = settings,
    .n_settings = ARRAY_LEN(settings),
    .duties = duties,
    .n_duties = ARRAY_LEN(duties),
    .texts = identity_texts,
    .metrics = identity_metrics,
    .start = identity_start,
    .stop = identity_stop,
};
