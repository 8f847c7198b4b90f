/* Credentials from outside: token texts, the JSON inside tokens (signed, so that it is reached),
 * and the headers that the trusted-network rule reads. Beyond not crashing: whatever is accepted
 * must have the form that the rest of the program relies on. */
#include "base/world.h"
#include "identity/jwt.h"
#include "identity/trust.h"
#include "io/crypto.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct jwt_key key = {"0123456789abcdef0123456789abcdef", 32};
enum { NOW_S = 1000000 };

static void must(bool true_)
{
    if (!true_)
        abort();
}

static void check_token(const char *token)
{
    struct jwt_claims c;
    struct err e;
    if (jwt_verify(key, token, NOW_S, &c, &e) != OK)
        return;
    must(uuid_is(c.sub) && uuid_is(c.jti) && (c.sid[0] == '\0' || uuid_is(c.sid)));
    must(c.exp_s > NOW_S);
}

static void add_part(struct buf *to, const void *p, size_t n)
{
    AUTO(mem) char *text = mem_alloc(BASE64URL_SIZE(n));
    buf_adds(to, base64url_encode(p, n, text));
}

/* header, NUL, claims: as JSON, with the right signature */
static void check_signed(const char *data, size_t n)
{
    AUTO(buf) struct buf token = {0};
    size_t head = strnlen(data, n), rest = head < n ? n - head - 1 : 0;
    uint8_t mac[SHA256_SIZE];
    add_part(&token, data, head);
    buf_addc(&token, '.');
    add_part(&token, data + n - rest, rest);
    hmac_sha256(key.bytes, key.n, token.data, token.len, mac);
    buf_addc(&token, '.');
    add_part(&token, mac, sizeof(mac));
    check_token(buf_str(&token));
}

static void check_trust(char *text)
{
    struct network local, proxy;
    must(network_parse("127.0.0.0/8", &local) && network_parse("127.0.0.1", &proxy));
    struct trust t = {AUTH_TRUSTED, &local, &proxy, 1, 1, {NULL, 0}, "https://gpu.example.com"};
    char *rest = text;
    struct trust_facts f = {.peer = "127.0.0.1"};
    f.host = strsep(&rest, "\n");
    f.origin = rest != NULL ? strsep(&rest, "\n") : NULL;
    f.forwarded_for = rest;
    f.forwarded = rest != NULL;
    if (!trust_accepts(&t, &f))
        return;
    /* letters in a name: only the two that are ours, or the digits of an IPv6 literal */
    bool named = strncasecmp(f.host, "localhost", 9) == 0 ||
                 strncasecmp(f.host, "gpu.example.com", 15) == 0;
    must(named || f.host[0] == '[' || strspn(f.host, "0123456789.:") == strlen(f.host));
    must(f.forwarded_for == NULL || strstr(f.forwarded_for, "127.") != NULL ||
         strstr(f.forwarded_for, ":7f") != NULL || strstr(f.forwarded_for, ":7F") != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    AUTO(mem) char *text = mem_alloc(n);
    memcpy(text, data + 1, n - 1);
    struct network net;
    switch (data[0] % 4) {
    case 0:
        check_token(text);
        break;
    case 1:
        check_signed(text, n - 1);
        break;
    case 2:
        check_trust(text);
        break;
    default:
        if (network_parse(text, &net))
            must(net.bits >= 0 && net.bits <= 128);
        host_is_loopback(text);
        break;
    }
    return 0;
}
