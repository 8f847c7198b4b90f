/* The certificate of the TCP listeners: settings, and the look for new files.
 *
 * What must stay true: a bad new file never takes the place of a good one; /ready and the log say
 * what is wrong until it is mended. */
#include "app/parts.h"

#include "base/log.h"
#include "base/world.h"

#include <pthread.h>
#include <string.h>

static const struct setting tls_settings[] = {
    {"TLS_CERT_FILE", NULL, SET_TEXT, NULL,
     .doc = "PEM file of the certificate and its chain: the TCP ports then speak TLS only; a new "
            "file is taken within seconds, or at SIGHUP"},
    {"TLS_KEY_FILE", NULL, SET_TEXT, NULL, .doc = "PEM file of the certificate's key"},
    {"TLS_AGENT_CA_FILE", NULL, SET_TEXT, NULL,
     .doc = "PEM file of an authority: agents on other hosts must then show a client certificate "
            "that it signed"},
};

/* NULL: no TLS, or it is being stopped; used under the lock. */
static struct http_server *serving;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { WARN_DAYS = 14 };

int app_tls_files(struct house *h, struct http_tls *out, struct err *e)
{
    *out = (struct http_tls){.cert = setting_text(h, "TLS_CERT_FILE"),
                             .key = setting_text(h, "TLS_KEY_FILE"),
                             .client_ca = setting_text(h, "TLS_AGENT_CA_FILE")};
    if ((out->cert == NULL) != (out->key == NULL))
        return err_set(e, ERR_INVALID, "TLS_CERT_FILE and TLS_KEY_FILE belong together");
    if (out->client_ca != NULL && out->cert == NULL)
        return err_set(e, ERR_INVALID, "TLS_AGENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE");
    return OK;
}

void app_tls_serving(struct http_server *s)
{
    pthread_mutex_lock(&lock);
    serving = s;
    pthread_mutex_unlock(&lock);
}

static void reload(struct http_server *s, bool in_any_case)
{
    struct err e = {0};
    int64_t before = 0, after = 0;
    char fault[ERR_TEXT_MAX], now[ERR_TEXT_MAX];
    http_tls_fault(s, fault, &before);
    if (http_tls_reload(s, in_any_case, &e) != OK) {
        log_error("tls", "the new certificate is not used, the old one still is: %s", e.text);
        return;
    }
    http_tls_fault(s, now, &after);
    if (before != after || in_any_case || (fault[0] != '\0' && now[0] == '\0'))
        log_info("tls", "the certificate was read again; open connections keep the old one");
}

void app_tls_reload(bool in_any_case)
{
    pthread_mutex_lock(&lock);
    if (serving != NULL)
        reload(serving, in_any_case);
    pthread_mutex_unlock(&lock);
}

static void look(struct house *h, void *state)
{
    app_tls_reload(false);
}

static const char *tls_ready(struct house *h, void *state, struct arena *a)
{
    char fault[ERR_TEXT_MAX];
    int64_t ends_us = 0;
    pthread_mutex_lock(&lock);
    if (serving != NULL)
        http_tls_fault(serving, fault, &ends_us);
    pthread_mutex_unlock(&lock);
    if (ends_us == 0)
        return "disabled";
    if (fault[0] != '\0')
        return arena_printf(a, "degraded: the new certificate is not used: %s", fault);
    int64_t days = (ends_us - now_us()) / (86400 * US_PER_S);
    if (ends_us <= now_us())
        return "degraded: the certificate has expired";
    return days < WARN_DAYS
               ? arena_printf(a, "degraded: the certificate ends in %lld days", (long long)days)
               : "ok";
}

static const struct duty tls_duties[] = {
    {.name = "new certificates", .every_ms = 3000, .fn = look},
};
static const struct err_text tls_texts[] = {
    {"TLS_CERT_FILE and TLS_KEY_FILE belong together", "TLS_CERT_FILE 与 TLS_KEY_FILE 须同时给出"},
    {"TLS_AGENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE",
     "TLS_AGENT_CA_FILE 需要 TLS_CERT_FILE 和 TLS_KEY_FILE"},
    {"%s: the certificate has expired", "%s：证书已过期"},
    {0},
};
const struct module app_tls_module = {
    .name = "tls",
    .settings = tls_settings,
    .n_settings = ARRAY_LEN(tls_settings),
    .duties = tls_duties,
    .n_duties = ARRAY_LEN(tls_duties),
    .texts = tls_texts,
    .ready = tls_ready,
    .ready_name = "tls",
};
