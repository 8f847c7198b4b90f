/* The trusted-network rule.
 *
 * What must stay true: whatever cannot be read is not trusted. A request that came through a
 * proxy is judged by the address that a listed proxy vouches for, never by the proxy's own: else
 * a proxy on this machine would make the whole world local. A page of another site cannot use the
 * rule through someone's browser, neither by a request with a foreign Origin nor by a name that
 * it points at this server (DNS rebinding). */
#include "identity/trust.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* ---- addresses ---- */

static bool address_parse(const char *s, size_t n, uint8_t to[16], bool *is_v4)
{
    char text[INET6_ADDRSTRLEN];
    if (n == 0 || n >= sizeof(text))
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t v4[4];
    if (inet_pton(AF_INET, text, v4) == 1) {
        memcpy(to, mapped, sizeof(mapped));
        memcpy(to + 12, v4, 4);
        *is_v4 = true;
        return true;
    }
    *is_v4 = false;
    return inet_pton(AF_INET6, text, to) == 1;
}

static bool bits_equal(const uint8_t a[16], const uint8_t b[16], int bits)
{
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool network_parse(const char *s, struct network *out)
{
    const char *slash = strchr(s, '/');
    size_t n = slash != NULL ? (size_t)(slash - s) : strlen(s);
    struct network net;
    bool v4;
    int64_t bits;
    if (!address_parse(s, n, net.address, &v4))
        return false;
    bits = v4 ? 32 : 128;
    if (slash != NULL && (!str_int(slash + 1, &bits) || bits < 0 || bits > (v4 ? 32 : 128)))
        return false;
    net.bits = (int)bits + (v4 ? 96 : 0);
    /* 10.0.0.1/8 is more likely a slip than a wish */
    uint8_t zero[16] = {0};
    memcpy(zero, net.address, (size_t)(net.bits / 8));
    if (net.bits % 8 != 0)
        zero[net.bits / 8] = net.address[net.bits / 8] & (uint8_t)(0xff00 >> (net.bits % 8));
    if (memcmp(zero, net.address, 16) != 0)
        return false;
    *out = net;
    return true;
}

int networks_read(struct texts list, const char *setting, struct arena *a,
                  const struct network **out, size_t *n, struct err *e)
{
    struct network *nets = arena_alloc(a, (list.n + 1) * sizeof(*nets));
    for (size_t i = 0; i < list.n; i++)
        if (!network_parse(list.items[i], &nets[i]))
            return err_set(e, ERR_INVALID, "%s: \"%s\" is not a network such as 10.0.0.0/8",
                           setting, list.items[i]);
    *out = nets;
    *n = list.n;
    return OK;
}

static bool in_networks(const struct network *nets, size_t n, const uint8_t address[16])
{
    for (size_t i = 0; i < n; i++)
        if (bits_equal(nets[i].address, address, nets[i].bits))
            return true;
    return false;
}

/* ---- names ---- */

struct span {
    const char *s;
    size_t n;
};

static bool span_is(struct span a, const char *s)
{
    return strlen(s) == a.n && strncasecmp(a.s, s, a.n) == 0;
}

static bool span_same(struct span a, struct span b)
{
    return a.n == b.n && strncasecmp(a.s, b.s, a.n) == 0;
}

/* "host", "host:8080", "[::1]:8080": the host alone (without brackets), false when malformed. */
static bool host_split(const char *s, size_t n, struct span *host, struct span *port)
{
    const char *end = s + n, *colon;
    *port = (struct span){end, 0};
    if (n > 0 && s[0] == '[') {
        const char *close = memchr(s, ']', n);
        if (close == NULL || (close + 1 < end && close[1] != ':'))
            return false;
        *host = (struct span){s + 1, (size_t)(close - s - 1)};
        colon = close + 1 < end ? close + 1 : NULL;
    } else {
        colon = memchr(s, ':', n);
        *host = (struct span){s, colon != NULL ? (size_t)(colon - s) : n};
    }
    if (colon != NULL) {
        *port = (struct span){colon + 1, (size_t)(end - colon - 1)};
        if (port->n == 0 || port->n > 5 || strspn(port->s, "0123456789") < port->n)
            return false;
    }
    return host->n > 0;
}

/* "https://name:8443/path" in its parts; port is the scheme's when none is written. */
static bool url_split(const char *url, struct span *scheme, struct span *host, struct span *port)
{
    const char *sep = strstr(url, "://");
    if (sep == NULL)
        return false;
    *scheme = (struct span){url, (size_t)(sep - url)};
    const char *at = sep + 3;
    if (!host_split(at, strcspn(at, "/?#"), host, port))
        return false;
    if (port->n == 0)
        *port = span_is(*scheme, "https") ? (struct span){"443", 3} : (struct span){"80", 2};
    return true;
}

bool host_is_loopback(const char *host)
{
    struct span name, port;
    uint8_t address[16];
    bool v4;
    size_t n = strlen(host);
    /* an IPv6 literal may stand without brackets in a setting */
    if (address_parse(host, n, address, &v4))
        name = (struct span){host, n};
    else if (!host_split(host, n, &name, &port))
        return false;
    if (span_is(name, "localhost"))
        return true;
    static const struct network loopback[] = {
        {{[10] = 0xff, [11] = 0xff, [12] = 127}, 104},
        {{[15] = 1}, 128},
    };
    return address_parse(name.s, name.n, address, &v4) &&
           in_networks(loopback, ARRAY_LEN(loopback), address);
}

/* A name that only this server's people can have chosen. */
static bool host_ok(const struct trust *t, const char *host)
{
    struct span name, port, scheme, own, own_port;
    uint8_t address[16];
    bool v4;
    if (host == NULL || !host_split(host, strlen(host), &name, &port))
        return false;
    if (address_parse(name.s, name.n, address, &v4))
        return v4 == (host[0] != '['); /* an IPv6 literal has brackets, an IPv4 one has none */
    if (host[0] == '[')
        return false;
    return span_is(name, "localhost") ||
           (t->public_url != NULL && url_split(t->public_url, &scheme, &own, &own_port) &&
            span_same(own, name));
}

static bool origin_ok(const struct trust *t, const char *origin, const char *host)
{
    struct span scheme, name, port, own, own_port, public_scheme;
    for (size_t i = 0; i < t->origins.n; i++)
        if (str_eq_nocase(t->origins.items[i], origin) && strcmp(origin, "*") != 0)
            return true;
    if (!url_split(origin, &scheme, &name, &port) || origin[strlen(origin) - 1] == '/')
        return false;
    if (host_split(host, strlen(host), &own, &own_port)) {
        if (own_port.n == 0)
            own_port = span_is(scheme, "https") ? (struct span){"443", 3} : (struct span){"80", 2};
        if (span_same(name, own) && span_same(port, own_port))
            return true;
    }
    return t->public_url != NULL && url_split(t->public_url, &public_scheme, &own, &own_port) &&
           span_same(name, own) && span_same(port, own_port) && span_same(scheme, public_scheme);
}

/* The address that the proxies vouch for: the last of the list that is not a proxy itself.
 * Everything before it was written by someone whom nobody vouches for. */
static bool forwarded_address(const struct trust *t, const char *list, uint8_t to[16])
{
    const char *end = list + strlen(list);
    bool v4;
    while (end > list) {
        const char *comma = memrchr(list, ',', (size_t)(end - list));
        const char *from = comma != NULL ? comma + 1 : list;
        const char *last = end;
        while (from < last && (*from == ' ' || *from == '\t'))
            from++;
        while (last > from && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        if (!address_parse(from, (size_t)(last - from), to, &v4))
            return false;
        if (!in_networks(t->proxies, t->n_proxies, to))
            return true;
        if (comma == NULL)
            return true; /* the first of them all: a proxy that asks for itself */
        end = comma;
    }
    return false;
}

bool trust_accepts(const struct trust *t, const struct trust_facts *f)
{
    uint8_t address[16];
    bool v4;
    if (t->mode == AUTH_OPEN)
        return true;
    if (t->mode != AUTH_TRUSTED || f->peer == NULL ||
        !address_parse(f->peer, strlen(f->peer), address, &v4))
        return false;
    if (f->forwarded) {
        if (!in_networks(t->proxies, t->n_proxies, address) || f->forwarded_for == NULL ||
            !forwarded_address(t, f->forwarded_for, address))
            return false;
    }
    return in_networks(t->networks, t->n_networks, address) && host_ok(t, f->host) &&
           (f->origin == NULL || origin_ok(t, f->origin, f->host));
}
