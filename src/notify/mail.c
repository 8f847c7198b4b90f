/* Mail: asked for in the transaction of its cause, sent by threads of its own.
 *
 * What must stay true: a row is claimed in a transaction before it is sent, so two senders (or two
 * servers on one database) do not send it twice while both live; a claim ends by itself, so a
 * crash between sending and noting it sends twice rather than never; a text that holds a secret
 * exists only in memory between its transaction and the mail server. */
#include "notify/notify.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "io/smtp.h"
#include "io/thread.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum {
    SEND_TIMEOUT_S = 60,
    CLAIM_S = 180, /* longer than any try */
    FIRST_PAUSE_S = 10,
    PAUSE_MAX_S = 1800,
    KEPT_S = 86400, /* what was sent or given up can be looked at this long */
    KINDS_MAX = 8,
};

enum mail_state { MAIL_WAITING, MAIL_SENT, MAIL_FAILED };
static const char *const mail_state_names[] = {"waiting", "sent", "failed", NULL};

struct mail_row {
    int64_t id;
    const char *kind, *address;
    int64_t lang;
    int state;
    int64_t asked_at, next_at, attempts;
    const char *error;
};
RECORD(mail_record, struct mail_row, "mails", MEMBER(struct mail_row, id, T_ID, .prefix = "m"),
       MEMBER(struct mail_row, kind, T_TEXT), MEMBER(struct mail_row, address, T_TEXT),
       MEMBER(struct mail_row, lang, T_INT),
       MEMBER(struct mail_row, state, T_ENUM, .names = mail_state_names),
       MEMBER(struct mail_row, asked_at, T_TIME), MEMBER(struct mail_row, next_at, T_TIME),
       MEMBER(struct mail_row, attempts, T_INT),
       MEMBER(struct mail_row, error, T_TEXT, .flags = M_NULL));

static const struct migration migrations[] = {
    {.id = 3070,
     .name = "mails that wait",
     .script = "CREATE TABLE mails(id $ID, kind $TEXT NOT NULL, address $TEXT NOT NULL,"
               " lang $INT NOT NULL, state $TEXT NOT NULL, asked_at $INT NOT NULL,"
               " next_at $INT NOT NULL, attempts $INT NOT NULL, error $TEXT,"
               " UNIQUE(kind, address));"
               "CREATE INDEX mails_waiting ON mails(next_at) WHERE state = 'waiting'"},
    {0},
};
static const struct record *const records[] = {&mail_record, NULL};

static const struct setting settings[] = {
    {"SMTP_URL", NULL, SET_TEXT, NULL, .secret = true,
     .doc =
         "where mail goes out: smtp://user:password@mail.example.com:587 or smtps://…; unset: no "
         "mail"},
    {"SMTP_TLS", NULL, SET_WORD, "auto", .words = "auto|required|off",
     .doc = "auto: encrypted unless the mail server is this machine"},
    {"SMTP_CA_FILE", NULL, SET_TEXT, NULL,
     .doc = "certificates that a mail server of your own is checked against"},
    {"MAIL_FROM", NULL, SET_TEXT, "Drover <drover@localhost>", .doc = "the sender of mails"},
};

struct notify {
    struct house *house;
    struct smtp_server smtp; /* url NULL: none */
    const char *from;
    bool may_log;
    pthread_t threads[MAIL_THREADS];
    int n_threads;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
    _Atomic uint64_t sent, failed;
};

static const struct mail_kind *kind_tables[KINDS_MAX];
static size_t n_kind_tables;

static struct notify *notify_of(const struct house *h)
{
    return house_state(h, &notify_module);
}

void mail_kinds(const struct mail_kind *rows)
{
    for (size_t i = 0; i < n_kind_tables; i++)
        if (kind_tables[i] == rows)
            return; /* a second house in one process: tests */
    if (n_kind_tables < KINDS_MAX)
        kind_tables[n_kind_tables++] = rows;
}

static const struct mail_kind *kind_find(const char *name)
{
    for (size_t i = 0; i < n_kind_tables; i++)
        for (const struct mail_kind *k = kind_tables[i]; k->name != NULL; k++)
            if (strcmp(k->name, name) == 0)
                return k;
    return NULL;
}

void mail_may_log(struct house *h)
{
    struct notify *n = notify_of(h);
    if (n != NULL)
        n->may_log = true;
}

bool mail_sends(const struct house *h)
{
    const struct notify *n = notify_of(h);
    return n != NULL && n->smtp.url != NULL;
}

bool mail_works(const struct house *h)
{
    const struct notify *n = notify_of(h);
    return n != NULL && (n->smtp.url != NULL || n->may_log);
}

/* ---- the address of this server ---- */

struct listener {
    const char *host, *port;
};

static void find_listener(const struct setting *s, const char *value, void *ctx)
{
    struct listener *l = ctx;
    if (strcmp(s->name, "SERVER_HOST") == 0)
        l->host = value;
    else if (strcmp(s->name, "SERVER_PORT") == 0)
        l->port = value;
}

const char *notify_base_url(const struct house *h, struct arena *a)
{
    const char *given = setting_text(h, "PUBLIC_URL");
    if (given != NULL && *given != '\0') {
        size_t n = strlen(given);
        while (n > 0 && given[n - 1] == '/')
            n--;
        return arena_strndup(a, given, n);
    }
    struct listener l = {NULL, NULL};
    settings_each(h, find_listener, &l);
    const char *host = l.host != NULL && *l.host != '\0' ? l.host : "127.0.0.1";
    host = arena_strndup(a, host, strcspn(host, ", "));
    bool v6 = strchr(host, ':') != NULL && host[0] != '[';
    return arena_printf(a, "http://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "",
                        l.port != NULL ? l.port : "8080");
}

/* ---- asking ---- */

static void wake_now(void *ctx)
{
    struct notify *n = ctx;
    pthread_mutex_lock(&n->lock);
    pthread_cond_signal(&n->wake);
    pthread_mutex_unlock(&n->lock);
}

int mail_ask(struct tx *tx, const struct mail_ask *m, struct err *e)
{
    struct notify *n = notify_of(tx_house(tx));
    int64_t now = now_us(), waiting;
    if (n == NULL || !mail_works(n->house))
        return OK;
    int rc = tx_int(tx, "SELECT count(*) FROM mails WHERE state = 'waiting'", NO_ARGS, &waiting,
                    NULL, e);
    if (rc != OK)
        return rc;
    if (waiting >= MAILS_MAX) {
        log_warning("notify", "a mail was not taken: %d wait already", MAILS_MAX);
        return OK;
    }
    rc = tx_exec(tx,
                 "INSERT INTO mails(kind, address, lang, state, asked_at, next_at, attempts)"
                 " VALUES(?1, ?2, ?3, 'waiting', ?4, ?4, 0)"
                 " ON CONFLICT(kind, address) DO UPDATE SET lang = ?3, state = 'waiting',"
                 " asked_at = ?4, next_at = ?4, attempts = 0, error = NULL"
                 " WHERE mails.state <> 'waiting' AND mails.asked_at <= ?5",
                 ARGS(v_text(m->kind), v_text(m->to), v_int(m->lang), v_int(now),
                      v_int(now - MAIL_GAP_S * US_PER_S)),
                 NULL, e);
    if (rc == OK)
        tx_after_commit(tx, wake_now, n);
    return rc;
}

/* ---- sending ---- */

struct claim {
    struct arena *arena;
    bool found, written;
    struct mail_row row;
    struct mail_text text;
};

static int claim_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct claim *c = ctx;
    int64_t now = now_us();
    c->written = false;
    int rc = record_get(tx, &mail_record,
                        "WHERE state = 'waiting' AND next_at <= ?1 ORDER BY next_at LIMIT 1",
                        ARGS(v_int(now)), c->arena, &c->row, &c->found, e);
    if (rc != OK || !c->found)
        return rc;
    c->row.next_at = now + CLAIM_S * US_PER_S;
    c->row.attempts++;
    rc = record_update(tx, &mail_record, &c->row, e);
    const struct mail_kind *kind = kind_find(c->row.kind);
    if (rc != OK)
        return rc;
    if (kind == NULL) /* of a newer server on the same database */
        return err_set(e, ERR_NOT_FOUND, "no mail of kind %s", c->row.kind);
    struct mail_ask ask = {c->row.kind, c->row.address, (int)c->row.lang};
    c->text = (struct mail_text){0};
    err_lang_set((enum lang)c->row.lang);
    rc = kind->write(tx, &ask, c->arena, &c->text, e);
    err_lang_set(LANG_EN);
    c->written = rc == OK && c->text.subject != NULL;
    return rc;
}

static int note_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct claim *c = ctx;
    /* asked for again meanwhile: the new asking stands */
    return tx_exec(tx,
                   "UPDATE mails SET state = ?1, next_at = ?2, error = ?3"
                   " WHERE id = ?4 AND asked_at = ?5",
                   ARGS(v_text(mail_state_names[c->row.state]), v_int(c->row.next_at),
                        v_text(c->row.error), v_int(c->row.id), v_int(c->row.asked_at)),
                   NULL, e);
}

static void send_one(struct notify *n, struct claim *c)
{
    struct err e = {0};
    char uuid[UUID_TEXT_SIZE];
    int rc = OK;
    if (!c->written) {
        c->row.state = MAIL_SENT; /* nobody has this address, or there is nothing to say any more */
        return;
    }
    if (n->smtp.url == NULL) {
        log_info("notify", "no mail server (SMTP_URL): mail to %s: %s", c->row.address,
                 c->text.text);
    } else {
        struct smtp_mail m = {.from = n->from,
                              .to = c->row.address,
                              .subject = c->text.subject,
                              .text = c->text.text,
                              .id = uuid_v4(uuid),
                              .at = now_us()};
        rc = smtp_send(&n->smtp, &m, &e);
    }
    c->row.state = MAIL_SENT;
    if (rc == OK) {
        n->sent++;
        return;
    }
    n->failed++;
    bool old = now_us() - c->row.asked_at > MAIL_KEEP_S * US_PER_S;
    int64_t pause = c->row.attempts < 10 ? FIRST_PAUSE_S << (c->row.attempts - 1) : PAUSE_MAX_S;
    pause = pause < PAUSE_MAX_S ? pause : PAUSE_MAX_S;
    c->row.state = old || strcmp(e.code, SMTP_REFUSED) == 0 ? MAIL_FAILED : MAIL_WAITING;
    c->row.next_at = now_us() + pause * US_PER_S;
    c->row.error = arena_strdup(c->arena, e.text);
    log_warning("notify", "mail m-%lld (%s) was not sent, %s: %s", (long long)c->row.id,
                c->row.kind, c->row.state == MAIL_FAILED ? "given up" : "will be tried again",
                e.text);
}

/* False: nothing is due. */
static bool one_mail(struct notify *n)
{
    AUTO(arena) struct arena a = {0};
    struct claim c = {.arena = &a};
    struct err e = {0};
    struct store *store = house_store(n->house);
    if (store_tx(store, claim_tx, &c, &e) != OK) {
        log_warning("notify", "mails that wait were not read: %s", e.text);
        return false;
    }
    if (!c.found)
        return false;
    send_one(n, &c);
    if (store_tx(store, note_tx, &c, &e) != OK)
        log_warning("notify", "what became of mail m-%lld was not noted: %s", (long long)c.row.id,
                    e.text);
    return true;
}

static void *mail_main(void *ctx)
{
    struct notify *n = ctx;
    pthread_mutex_lock(&n->lock);
    while (!n->stop) {
        pthread_mutex_unlock(&n->lock);
        bool more = one_mail(n);
        pthread_mutex_lock(&n->lock);
        if (!more && !n->stop) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += 5; /* pauses that end, and what another server asked for */
            pthread_cond_timedwait(&n->wake, &n->lock, &until);
        }
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

/* ---- the module ---- */

static void notify_stop(struct house *h, void *state)
{
    struct notify *n = state;
    (void)h;
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_cond_broadcast(&n->wake);
    pthread_mutex_unlock(&n->lock);
    for (int i = 0; i < n->n_threads; i++)
        pthread_join(n->threads[i], NULL);
    pthread_mutex_destroy(&n->lock);
    pthread_cond_destroy(&n->wake);
    mem_free(n);
}

static int notify_start(struct house *h, void **state, struct err *e)
{
    static const char *const tls_words[] = {"auto", "required", "off", NULL};
    const char *url = setting_text(h, "SMTP_URL");
    struct notify *n = mem_alloc(sizeof(*n));
    *state = n;
    n->house = h;
    n->from = setting_text(h, "MAIL_FROM");
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->wake, NULL);
    if (url != NULL && *url != '\0') {
        n->smtp = (struct smtp_server){
            .url = url,
            .ca_file = setting_text(h, "SMTP_CA_FILE"),
            .tls = (enum smtp_tls)names_find(tls_words, setting_text(h, "SMTP_TLS")),
            .timeout_s = SEND_TIMEOUT_S,
        };
        int rc = smtp_check(&n->smtp, n->from, e);
        if (rc != OK)
            return rc;
    }
    return OK;
}

/* Not at the module's start: the rooms above have not brought their kinds by then. */
static void duty_senders(struct house *h, void *state)
{
    struct notify *n = state;
    struct err e = {0};
    for (; mail_works(h) && n->n_threads < MAIL_THREADS; n->n_threads++)
        if (thread_start(&n->threads[n->n_threads], "mail", mail_main, n, &e) != OK) {
            log_warning("notify", "mails wait: %s", e.text);
            return;
        }
}

static int drop_old_tx(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, "DELETE FROM mails WHERE state <> 'waiting' AND asked_at < ?1",
                   ARGS(v_int(now_us() - KEPT_S * US_PER_S)), NULL, e);
}

static void duty_drop_old(struct house *h, void *state)
{
    struct err e = {0};
    if (store_tx(house_store(h), drop_old_tx, NULL, &e) != OK)
        log_warning("notify", "old mails were not cleared away: %s", e.text);
}

static const struct duty duties[] = {
    {"mail-senders", 1000, NULL, duty_senders},
    {"old-mails", 3600000, NULL, duty_drop_old},
};

static void notify_metrics(struct house *h, void *state, struct buf *out)
{
    const struct notify *n = state;
    buf_printf(out,
               "# HELP drover_mails_total Mails, by result of each try.\n"
               "# TYPE drover_mails_total counter\n"
               "drover_mails_total{result=\"sent\"} %llu\n"
               "drover_mails_total{result=\"failed\"} %llu\n",
               (unsigned long long)n->sent, (unsigned long long)n->failed);
}

static const struct err_text texts[] = {
    {"SMTP_URL looks like smtp://user:password@mail.example.com:587",
     "SMTP_URL 的格式为 smtp://user:password@mail.example.com:587"},
    {"MAIL_FROM looks like Drover <drover@example.com>",
     "MAIL_FROM 的格式为 Drover <drover@example.com>"},
    {"not an address that mail can go to", "不是可以投递邮件的地址"},
    {"the mail server refuses: %s", "邮件服务器拒绝：%s"},
    {"the mail server: %s", "邮件服务器：%s"},
    {0},
};

const struct module notify_module = {
    .name = "notify",
    .migrations = migrations,
    .records = records,
    .settings = settings,
    .n_settings = ARRAY_LEN(settings),
    .duties = duties,
    .n_duties = ARRAY_LEN(duties),
    .texts = texts,
    .metrics = notify_metrics,
    .start = notify_start,
    .stop = notify_stop,
};
