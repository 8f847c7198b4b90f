/* Certificates of a TLS listener; see tls.h.
 *
 * What must stay true: what is loaded was checked whole before anybody uses it, so a broken file
 * never takes the place of a good one; a session keeps the generation that it began with. */
#include "io/tls.h"

#include "base/mem.h"
#include "base/world.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* RFC 9325: TLS 1.2 and up, forward secrecy, at least 128 bits. */
static const char priorities[] =
    "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:%SERVER_PRECEDENCE";

struct tls_keys {
    atomic_int refs;
    gnutls_certificate_credentials_t cred;
    gnutls_priority_t priority;
    bool asks; /* for a client's certificate */
    int64_t expire_us;
};

struct tls_keys *tls_keys_ref(struct tls_keys *k)
{
    atomic_fetch_add(&k->refs, 1);
    return k;
}

void tls_keys_unref(struct tls_keys *k)
{
    if (k == NULL || atomic_fetch_sub(&k->refs, 1) > 1)
        return;
    if (k->cred != NULL)
        gnutls_certificate_free_credentials(k->cred);
    if (k->priority != NULL)
        gnutls_priority_deinit(k->priority);
    mem_free(k);
}

int64_t tls_keys_expire_us(const struct tls_keys *k)
{
    return k->expire_us;
}

static int failed(struct err *e, const char *what, int code)
{
    return err_set(e, ERR_INVALID, "%s: %s", what, gnutls_strerror(code));
}

/* A shown certificate must come from the authority, for the purpose of a client. */
static int check_client(gnutls_session_t s)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned status = 0, n = 0;
    if (gnutls_certificate_get_peers(s, &n) == NULL || n == 0)
        return 0; /* none was shown: routes that want one say so */
    if (gnutls_certificate_verify_peers(s, &purpose, 1, &status) != 0 || status != 0)
        return GNUTLS_E_CERTIFICATE_ERROR;
    return 0;
}

static int read_expiry(struct tls_keys *k, const char *file, struct err *e)
{
    gnutls_x509_crt_t *certs = NULL;
    unsigned n = 0;
    int code = gnutls_certificate_get_x509_crt(k->cred, 0, &certs, &n);
    if (code != 0 || n == 0)
        return failed(e, file, code);
    time_t end = gnutls_x509_crt_get_expiration_time(certs[0]);
    k->expire_us = (int64_t)end * US_PER_S;
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(certs[i]);
    gnutls_free(certs);
    if (k->expire_us <= now_us())
        return err_set(e, ERR_INVALID, "%s: the certificate has expired", file);
    return OK;
}

int tls_keys_load(const struct tls_files *f, struct tls_keys **out, struct err *e)
{
    struct tls_keys *k = mem_alloc(sizeof(*k));
    atomic_store(&k->refs, 1);
    int rc = OK, code = gnutls_certificate_allocate_credentials(&k->cred);
    if (code == 0)
        code = gnutls_priority_init(&k->priority, priorities, NULL);
    if (code != 0)
        rc = failed(e, "TLS", code);
    if (rc == OK && (code = gnutls_certificate_set_x509_key_file2(
                         k->cred, f->cert, f->key, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0)
        rc = err_set(e, ERR_INVALID, "%s and %s: %s", f->cert, f->key, gnutls_strerror(code));
    if (rc == OK)
        rc = read_expiry(k, f->cert, e);
    if (rc == OK && f->client_ca != NULL) {
        code = gnutls_certificate_set_x509_trust_file(k->cred, f->client_ca, GNUTLS_X509_FMT_PEM);
        if (code <= 0)
            rc = err_set(e, ERR_INVALID, "%s: %s", f->client_ca,
                         code < 0 ? gnutls_strerror(code) : "there is no certificate in it");
        gnutls_certificate_set_verify_function(k->cred, check_client);
        k->asks = true;
    }
    if (rc != OK) {
        tls_keys_unref(k);
        return rc;
    }
    *out = k;
    return OK;
}

/* ---- sessions ---- */

int tls_session_begin(struct tls_keys *k, int fd, gnutls_session_t *out)
{
    static const gnutls_datum_t http = {(unsigned char *)(uintptr_t) "http/1.1", 8};
    gnutls_session_t s;
    if (gnutls_init(&s, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0)
        return ERR_INTERNAL;
    if (gnutls_priority_set(s, k->priority) != 0 ||
        gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, k->cred) != 0) {
        gnutls_deinit(s);
        return ERR_INTERNAL;
    }
    gnutls_certificate_server_set_request(s, k->asks ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
    gnutls_alpn_set_protocols(s, &http, 1, 0);
    gnutls_transport_set_int(s, fd);
    tls_keys_ref(k);
    *out = s;
    return OK;
}

void tls_session_end(struct tls_keys *k, gnutls_session_t s)
{
    gnutls_deinit(s);
    tls_keys_unref(k);
}

bool tls_session_peer(gnutls_session_t s, struct http_peer_cert *out)
{
    unsigned n = 0;
    const gnutls_datum_t *der = gnutls_certificate_get_peers(s, &n);
    gnutls_x509_crt_t cert;
    unsigned char digest[32];
    size_t size = sizeof(digest);
    if (der == NULL || n == 0 || gnutls_x509_crt_init(&cert) != 0)
        return false;
    bool good = gnutls_x509_crt_import(cert, &der[0], GNUTLS_X509_FMT_DER) == 0 &&
                gnutls_fingerprint(GNUTLS_DIG_SHA256, &der[0], digest, &size) == 0;
    *out = (struct http_peer_cert){0};
    size_t room = sizeof(out->subject);
    good = good && gnutls_x509_crt_get_dn(cert, out->subject, &room) == 0;
    room = sizeof(out->name);
    if (good && gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0, out->name,
                                              &room) != 0)
        out->name[0] = '\0';
    for (size_t i = 0; good && i < size; i++)
        snprintf(out->sha256 + 2 * i, 3, "%02x", digest[i]);
    gnutls_x509_crt_deinit(cert);
    return good;
}
