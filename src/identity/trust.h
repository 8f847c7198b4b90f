/* The trusted-network rule of contract 1.4: who may use open and ops routes without a credential.
 * Pure. Threads: any, once made. */
#ifndef IDENTITY_TRUST_H
#define IDENTITY_TRUST_H

#include "base/err.h"
#include "base/mem.h"
#include "core/record.h"

#include <stdint.h>

enum auth_mode { AUTH_TRUSTED, AUTH_STRICT, AUTH_OPEN };

/* An IPv4 network is kept as its IPv4-mapped IPv6 form (RFC 4291, 2.5.5.2). */
struct network {
    uint8_t address[16];
    int bits; /* 0..128 */
};
struct trust {
    enum auth_mode mode;
    const struct network *networks, *proxies;
    size_t n_networks, n_proxies;
    struct texts origins;   /* listed by name; "*" counts for nothing */
    const char *public_url; /* NULL: none */
};

/* What a request shows of where it came from; NULL: not there. */
struct trust_facts {
    const char *peer;          /* IP literal */
    const char *host;          /* Host header */
    const char *origin;        /* Origin header */
    bool forwarded;            /* carries any header that a proxy adds */
    const char *forwarded_for; /* X-Forwarded-For */
};

/* "10.0.0.0/8", "::1", "fe80::/10". Host bits below the mask must be zero. */
bool network_parse(const char *s, struct network *out);
int networks_read(struct texts list, const char *setting, struct arena *a,
                  const struct network **out, size_t *n, struct err *e);
/* "127.0.0.1", "::1", "[::1]:8080", "localhost": can be reached from this machine only. */
bool host_is_loopback(const char *host);
/* True: the request acts as "local" on routes that the rule opens. */
bool trust_accepts(const struct trust *t, const struct trust_facts *f);

#endif
