/* Connecting, with or without TLS. This file and io/http.c are the ones that know GnuTLS.
 *
 * What must stay true: nothing blocks past its deadline; a TLS connection that dial_open() gives
 * has been verified. */
#include "io/dial.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A peer that acknowledges nothing for so long is gone, also when there is only waiting data. */
enum { PEER_DEAD_MS = 30 * 1000 };

struct dial {
    int fd;
    gnutls_session_t tls; /* NULL: plain */
    gnutls_certificate_credentials_t trust;
};

/* ---- addresses ---- */

static int bad_address(const char *url, struct err *e)
{
    return err_set(
        e, ERR_INVALID,
        "the server must be unix:PATH, http://HOST:PORT or https://HOST:PORT, not %.200s", url);
}

int dial_parse(const char *url, struct dial_to *out, struct err *e)
{
    struct dial_to to = {.ca = out->ca, .cert = out->cert, .key = out->key};
    if (str_starts(url, "unix:")) {
        const char *path = url + strlen("unix:");
        if (*path == '\0' || strlen(path) >= sizeof(to.unix_path))
            return bad_address(url, e);
        memcpy(to.unix_path, path, strlen(path) + 1);
        *out = to;
        return OK;
    }
    to.tls = str_starts(url, "https://");
    if (!to.tls && !str_starts(url, "http://"))
        return bad_address(url, e);
    const char *at = strstr(url, "://") + 3;
    const char *host = at, *end;
    if (*at == '[') {
        host = at + 1;
        end = strchr(host, ']');
        at = end != NULL ? end + 1 : NULL;
    } else {
        end = at + strcspn(at, ":/?#@");
        at = end;
    }
    if (end == NULL || end == host || (size_t)(end - host) >= sizeof(to.host))
        return bad_address(url, e);
    memcpy(to.host, host, (size_t)(end - host));
    int64_t port = to.tls ? 443 : 80;
    if (*at == ':') {
        char digits[8] = "";
        size_t n = strspn(at + 1, "0123456789");
        if (n == 0 || n > 5)
            return bad_address(url, e);
        memcpy(digits, at + 1, n);
        at += 1 + n;
        if (!str_int(digits, &port) || port < 1 || port > 65535)
            return bad_address(url, e);
    }
    if (*at != '\0' && strcmp(at, "/") != 0)
        return bad_address(url, e);
    to.port = (uint16_t)port;
    *out = to;
    return OK;
}

/* ---- connecting ---- */

static int wait_for(int fd, short events, int64_t deadline_us, struct err *e)
{
    for (;;) {
        int64_t left_ms = (deadline_us - mono_us()) / US_PER_MS;
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left_ms > 0 ? (int)left_ms : 0);
        if (n > 0)
            return OK;
        if (n == 0)
            return err_set(e, ERR_UPSTREAM_TIMEOUT, "the server did not answer in time");
        if (errno != EINTR)
            return err_sys(e, "poll");
    }
}

static int connect_to(const struct sockaddr *a, socklen_t n, int64_t deadline_us, int *out,
                      struct err *e)
{
    AUTO(fd) int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, "socket");
    if (connect(fd, a, n) != 0) {
        if (errno != EINPROGRESS)
            return err_set(e, ERR_UNAVAILABLE, "cannot connect to the server: %s", strerror(errno));
        int kind = wait_for(fd, POLLOUT, deadline_us, e);
        if (kind != OK)
            return kind;
        int fault = 0;
        socklen_t n_fault = sizeof(fault);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &n_fault);
        if (fault != 0)
            return err_set(e, ERR_UNAVAILABLE, "cannot connect to the server: %s", strerror(fault));
    }
    *out = fd;
    fd = -1;
    return OK;
}

static int connect_unix(const char *path, int64_t deadline_us, int *out, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, path, strlen(path) + 1);
    return connect_to((struct sockaddr *)&a, sizeof(a), deadline_us, out, e);
}

static int connect_tcp(const char *host, uint16_t port, int64_t deadline_us, int *out,
                       struct err *e)
{
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0)
        return err_set(e, ERR_UNAVAILABLE, "cannot resolve %s: %s", host, gai_strerror(rc));
    int kind = ERR_UNAVAILABLE;
    for (struct addrinfo *a = list; a != NULL && kind != OK; a = a->ai_next)
        kind = connect_to(a->ai_addr, a->ai_addrlen, deadline_us, out, e);
    freeaddrinfo(list);
    if (kind == OK) {
        int one = 1, dead_ms = PEER_DEAD_MS;
        setsockopt(*out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(*out, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        setsockopt(*out, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
    }
    return kind;
}

/* ---- TLS ---- */

static int tls_wait(struct dial *d, int64_t deadline_us, struct err *e)
{
    return wait_for(d->fd, gnutls_record_get_direction(d->tls) == 1 ? POLLOUT : POLLIN, deadline_us,
                    e);
}

static bool is_address(const char *host)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *list = NULL;
    bool yes = getaddrinfo(host, NULL, &hints, &list) == 0;
    if (yes)
        freeaddrinfo(list);
    return yes;
}

static int tls_fault(const struct dial_to *to, struct dial *d, int rc, struct err *e)
{
    if (rc != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        return err_set(e, ERR_UNAVAILABLE, "no TLS connection to %s: %s", to->host,
                       gnutls_strerror(rc));
    gnutls_datum_t text = {0};
    unsigned status = gnutls_session_get_verify_cert_status(d->tls);
    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    err_set(e, ERR_FORBIDDEN, "the certificate of %s is not good: %.300s%s", to->host,
            text.data != NULL ? (const char *)text.data : "?",
            to->ca == NULL ? " (name its authority with --ca)" : "");
    gnutls_free(text.data);
    return ERR_FORBIDDEN;
}

static int tls_trust(const struct dial_to *to, struct dial *d, struct err *e)
{
    int rc = gnutls_certificate_allocate_credentials(&d->trust);
    if (rc < 0)
        return err_set(e, ERR_INTERNAL, "TLS: %s", gnutls_strerror(rc));
    rc = to->ca != NULL
             ? gnutls_certificate_set_x509_trust_file(d->trust, to->ca, GNUTLS_X509_FMT_PEM)
             : gnutls_certificate_set_x509_system_trust(d->trust);
    if (rc <= 0)
        return err_set(e, ERR_INVALID, "no certificate authority in %s: %s",
                       to->ca != NULL ? to->ca : "the system's store",
                       rc < 0 ? gnutls_strerror(rc) : "it is empty");
    if (to->cert != NULL && to->key != NULL) {
        rc = gnutls_certificate_set_x509_key_file(d->trust, to->cert, to->key, GNUTLS_X509_FMT_PEM);
        if (rc < 0)
            return err_set(e, ERR_INVALID, "the client certificate %s cannot be used: %s", to->cert,
                           gnutls_strerror(rc));
    }
    return OK;
}

static int tls_open(const struct dial_to *to, struct dial *d, int64_t deadline_us, struct err *e)
{
    int kind = tls_trust(to, d, e);
    if (kind != OK)
        return kind;
    int rc = gnutls_init(&d->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (rc == 0)
        rc = gnutls_set_default_priority_append(d->tls, "-VERS-TLS1.0:-VERS-TLS1.1", NULL, 0);
    if (rc == 0)
        rc = gnutls_credentials_set(d->tls, GNUTLS_CRD_CERTIFICATE, d->trust);
    if (rc == 0 && !is_address(to->host))
        rc = gnutls_server_name_set(d->tls, GNUTLS_NAME_DNS, to->host, strlen(to->host));
    if (rc < 0)
        return err_set(e, ERR_INTERNAL, "TLS: %s", gnutls_strerror(rc));
    gnutls_session_set_verify_cert(d->tls, to->host, 0);
    gnutls_transport_set_int(d->tls, d->fd);
    while ((rc = gnutls_handshake(d->tls)) < 0) {
        if (gnutls_error_is_fatal(rc))
            return tls_fault(to, d, rc, e);
        if (rc == GNUTLS_E_AGAIN && (kind = tls_wait(d, deadline_us, e)) != OK)
            return kind;
    }
    gnutls_certificate_free_cas(d->trust); /* megabytes that were for the handshake only */
    return OK;
}

/* ---- the connection ---- */

int dial_open(const struct dial_to *to, int64_t deadline_us, struct dial **out, struct err *e)
{
    struct dial *d = mem_alloc(sizeof(*d));
    d->fd = -1;
    int kind = to->unix_path[0] != '\0' ? connect_unix(to->unix_path, deadline_us, &d->fd, e)
                                        : connect_tcp(to->host, to->port, deadline_us, &d->fd, e);
    if (kind == OK && to->tls)
        kind = tls_open(to, d, deadline_us, e);
    if (kind != OK) {
        dial_close(d);
        return kind;
    }
    *out = d;
    return OK;
}

void dial_close(struct dial *d)
{
    if (d == NULL)
        return;
    if (d->tls != NULL) {
        gnutls_bye(d->tls, GNUTLS_SHUT_WR);
        gnutls_deinit(d->tls);
    }
    if (d->trust != NULL)
        gnutls_certificate_free_credentials(d->trust);
    if (d->fd >= 0)
        close(d->fd);
    mem_free(d);
}

int dial_fd(const struct dial *d)
{
    return d->fd;
}

bool dial_pending(const struct dial *d)
{
    return d->tls != NULL && gnutls_record_check_pending(d->tls) > 0;
}

static int lost(const char *why, struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "the connection to the server is lost: %s", why);
}

static int closed(struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "the server closed the connection");
}

static int tls_read(struct dial *d, void *to, size_t n, size_t *got, struct err *e)
{
    for (;;) {
        ssize_t rc = gnutls_record_recv(d->tls, to, n);
        if (rc > 0) {
            *got = (size_t)rc;
            return OK;
        }
        if (rc == GNUTLS_E_AGAIN) {
            *got = 0;
            return OK;
        }
        if (rc == 0 || rc == GNUTLS_E_PREMATURE_TERMINATION)
            return closed(e);
        if (gnutls_error_is_fatal((int)rc))
            return lost(gnutls_strerror((int)rc), e);
    }
}

int dial_read(struct dial *d, void *to, size_t n, size_t *got, struct err *e)
{
    if (d->tls != NULL)
        return tls_read(d, to, n, got, e);
    for (;;) {
        ssize_t rc = recv(d->fd, to, n, 0);
        if (rc > 0) {
            *got = (size_t)rc;
            return OK;
        }
        if (rc == 0)
            return closed(e);
        if (errno == EAGAIN) {
            *got = 0;
            return OK;
        }
        if (errno != EINTR)
            return lost(strerror(errno), e);
    }
}

int dial_wait(struct dial *d, void *to, size_t n, int64_t deadline_us, size_t *got, struct err *e)
{
    for (;;) {
        int kind = dial_read(d, to, n, got, e);
        if (kind != OK || *got > 0)
            return kind;
        kind = wait_for(d->fd, POLLIN, deadline_us, e);
        if (kind != OK)
            return kind;
    }
}

/* Bytes that were taken, 0: wait, -1: *e says why not. */
static ssize_t write_some(struct dial *d, const void *p, size_t n, struct err *e)
{
    if (d->tls != NULL) {
        ssize_t rc = gnutls_record_send(d->tls, p, n);
        if (rc >= 0)
            return rc;
        if (!gnutls_error_is_fatal((int)rc))
            return 0;
        lost(gnutls_strerror((int)rc), e);
        return -1;
    }
    ssize_t put = send(d->fd, p, n, MSG_NOSIGNAL);
    if (put >= 0)
        return put;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    lost(strerror(errno), e);
    return -1;
}

int dial_write(struct dial *d, const void *p, size_t n, int64_t deadline_us, struct err *e)
{
    const char *s = p;
    while (n > 0) {
        ssize_t put = write_some(d, s, n, e);
        if (put < 0)
            return ERR_UNAVAILABLE;
        s += put;
        n -= (size_t)put;
        int kind = put == 0 ? wait_for(d->fd, POLLOUT, deadline_us, e) : OK;
        if (kind != OK)
            return kind;
    }
    return OK;
}
