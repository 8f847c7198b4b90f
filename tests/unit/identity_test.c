/* Credentials: forged tokens, the trusted-network rule, passwords, secrets at rest. */
#include "base/str.h"
#include "base/world.h"
#include "identity/accounts.h"
#include "identity/jwt.h"
#include "identity/trust.h"
#include "identity/words.h"
#include "io/crypto.h"
#include "io/smtp.h"

#include "test.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct jwt_key key = {"0123456789abcdef0123456789abcdef", 32};
static const struct jwt_claims good = {
    .sub = "6f1f64a8-3a0b-4f0e-9b39-0e1c6a1f0a11",
    .jti = "b3b1c2d4-0000-4000-8000-000000000001",
    .sid = "b3b1c2d4-0000-4000-8000-000000000002",
    .gen = 3,
    .iat_s = 1000,
    .exp_s = 2000,
};

/* A token of any header and claims, signed with k. */
static const char *forge(struct jwt_key k, const char *head, const char *claims, struct arena *a)
{
    uint8_t mac[SHA256_SIZE];
    char tail[BASE64URL_SIZE(SHA256_SIZE)];
    const char *h = base64url_encode(head, strlen(head),
                                     arena_alloc(a, BASE64URL_SIZE(strlen(head))));
    const char *c = base64url_encode(claims, strlen(claims),
                                     arena_alloc(a, BASE64URL_SIZE(strlen(claims))));
    char *body = arena_printf(a, "%s.%s", h, c);
    hmac_sha256(k.bytes, k.n, body, strlen(body), mac);
    return arena_printf(a, "%s.%s", body, base64url_encode(mac, sizeof(mac), tail));
}

#define HEAD "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define SUB  "\"sub\":\"6f1f64a8-3a0b-4f0e-9b39-0e1c6a1f0a11\""
#define JTI  "\"jti\":\"b3b1c2d4-0000-4000-8000-000000000001\""
#define AUD  "\"aud\":[\"fastapi-users:auth\"]"
#define FULL "{" SUB "," JTI "," AUD ",\"exp\":2000}"

TEST(a_token_that_we_signed_is_good_until_it_ends)
{
    AUTO(arena) struct arena a = {0};
    struct jwt_claims c;
    struct err e = {0};
    const char *t = jwt_sign(key, &good, &a);
    CHECK_OK(jwt_verify(key, t, 1999, &c, &e), &e);
    CHECK_STR(c.sub, good.sub);
    CHECK_STR(c.jti, good.jti);
    CHECK_STR(c.sid, good.sid);
    CHECK_INT(c.gen, 3);
    CHECK_INT(c.exp_s, 2000);
    CHECK_INT(jwt_verify(key, t, 2000, &c, &e), ERR_UNAUTHENTICATED);
    /* the documented claims, as others read them */
    CHECK(jwt_verify(key, forge(key, HEAD, FULL, &a), 1, &c, &e) == OK);
    CHECK(jwt_verify(key,
                     forge(key, "{\"typ\":\"JWT\",\"alg\":\"HS256\"}",
                           "{" SUB "," JTI ",\"aud\":\"fastapi-users:auth\",\"exp\":2000.5}", &a),
                     1, &c, &e) == OK);
}

TEST(forged_tokens_are_refused)
{
    AUTO(arena) struct arena a = {0};
    static const struct {
        const char *what, *head, *claims;
    } rows[] = {
        {"alg none", "{\"alg\":\"none\"}", FULL},
        {"alg RS256", "{\"alg\":\"RS256\",\"typ\":\"JWT\"}", FULL},
        {"alg in lower case", "{\"alg\":\"hs256\"}", FULL},
        {"alg HS512", "{\"alg\":\"HS512\"}", FULL},
        {"no alg", "{\"typ\":\"JWT\"}", FULL},
        {"alg twice", "{\"alg\":\"HS256\",\"alg\":\"none\"}", FULL},
        {"alg is a list", "{\"alg\":[\"HS256\"]}", FULL},
        {"unknown critical extension", "{\"alg\":\"HS256\",\"crit\":[\"x\"],\"x\":1}", FULL},
        {"another type", "{\"alg\":\"HS256\",\"typ\":\"JWE\"}", FULL},
        {"header is a list", "[]", FULL},
        {"wrong audience", HEAD,
         "{" SUB "," JTI ",\"aud\":[\"fastapi-users:verify\"],\"exp\":2000}"},
        {"no audience", HEAD, "{" SUB "," JTI ",\"exp\":2000}"},
        {"expired", HEAD, "{" SUB "," JTI "," AUD ",\"exp\":999}"},
        {"no exp", HEAD, "{" SUB "," JTI "," AUD "}"},
        {"exp as text", HEAD, "{" SUB "," JTI "," AUD ",\"exp\":\"2000\"}"},
        {"exp beyond reason", HEAD, "{" SUB "," JTI "," AUD ",\"exp\":1e300}"},
        {"not yet valid", HEAD, "{" SUB "," JTI "," AUD ",\"exp\":2000,\"nbf\":1500}"},
        {"no subject", HEAD, "{" JTI "," AUD ",\"exp\":2000}"},
        {"subject is no uuid", HEAD, "{\"sub\":\"1\"," JTI "," AUD ",\"exp\":2000}"},
        {"no jti: it could not be revoked", HEAD, "{" SUB "," AUD ",\"exp\":2000}"},
        {"jti is no uuid", HEAD, "{" SUB ",\"jti\":\"x\"," AUD ",\"exp\":2000}"},
        {"sid is no uuid", HEAD, "{" SUB "," JTI "," AUD ",\"exp\":2000,\"sid\":\"' OR 1=1\"}"},
        {"claims are no object", HEAD, "\"x\""},
        {"claims are no JSON", HEAD, "{"},
        {"exp twice", HEAD, "{" SUB "," JTI "," AUD ",\"exp\":1,\"exp\":2000}"},
    };
    struct jwt_claims c;
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (jwt_verify(key, forge(key, rows[i].head, rows[i].claims, &a), 1000, &c, &e) !=
            ERR_UNAUTHENTICATED)
            FAIL_("accepted: %s", rows[i].what);
}

TEST(damaged_tokens_are_refused)
{
    AUTO(arena) struct arena a = {0};
    struct jwt_claims c;
    struct err e = {0};
    const char *t = jwt_sign(key, &good, &a);
    size_t n = strlen(t);
    /* every single changed character */
    for (size_t i = 0; i < n; i++) {
        char *bad = arena_strdup(&a, t);
        bad[i] = bad[i] == 'A' ? 'B' : 'A';
        if (jwt_verify(key, bad, 1500, &c, &e) == OK)
            FAIL_("accepted with character %zu changed", i);
    }
    /* every truncation */
    for (size_t i = 0; i < n; i++)
        if (jwt_verify(key, arena_strndup(&a, t, i), 1500, &c, &e) == OK)
            FAIL_("accepted cut to %zu", i);
    static const char *const odd[] = {"",    ".",       "..",       "...",
                                      "a.b", "a.b.c.d", "Bearer x", "===.==.="};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++)
        CHECK_INT(jwt_verify(key, odd[i], 1500, &c, &e), ERR_UNAUTHENTICATED);
    CHECK_INT(jwt_verify(key, arena_printf(&a, "%s=", t), 1500, &c, &e), ERR_UNAUTHENTICATED);
    CHECK_INT(jwt_verify(key, arena_printf(&a, "%s.x", t), 1500, &c, &e), ERR_UNAUTHENTICATED);
    /* the signature of another key, and no signature at all */
    struct jwt_key other = {"0123456789abcdef0123456789abcdeF", 32};
    CHECK_INT(jwt_verify(other, t, 1500, &c, &e), ERR_UNAUTHENTICATED);
    CHECK_INT(
        jwt_verify(key, arena_strndup(&a, t, (size_t)(strrchr(t, '.') - t) + 1), 1500, &c, &e),
        ERR_UNAUTHENTICATED);
    /* huge: refused unread */
    char *huge = arena_alloc(&a, 1 << 20);
    memset(huge, 'a', (1 << 20) - 1);
    huge[100] = huge[200] = '.';
    CHECK_INT(jwt_verify(key, huge, 1500, &c, &e), ERR_UNAUTHENTICATED);
    const char *padded = arena_printf(&a, "{" SUB "," JTI "," AUD ",\"exp\":2000,\"x\":\"%0*d\"}",
                                      3000, 0);
    CHECK_INT(jwt_verify(key, forge(key, HEAD, padded, &a), 1500, &c, &e), ERR_UNAUTHENTICATED);
}

/* ---- the trusted network ---- */

static struct network net(const char *s)
{
    struct network n = {{0}, 0};
    if (!network_parse(s, &n))
        FAIL_("not a network: %s", s);
    return n;
}

TEST(networks_are_read_strictly)
{
    struct network n;
    static const char *const wrong[] = {"",           "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/",
                                        "10.0.0.1/8", "::1/129",     "::1/64",      "localhost",
                                        "10.0.0",     "10.0.0.0/8 ", "[::1]",       "0x7f.1"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (network_parse(wrong[i], &n))
            FAIL_("accepted: %s", wrong[i]);
    CHECK(network_parse("0.0.0.0/0", &n) && n.bits == 96);
    CHECK(network_parse("fe80::/10", &n) && n.bits == 10);
    CHECK(host_is_loopback("127.0.0.1") && host_is_loopback("127.9.9.9") &&
          host_is_loopback("::1") && host_is_loopback("[::1]:80") && host_is_loopback("LocalHost"));
    CHECK(!host_is_loopback("0.0.0.0") && !host_is_loopback("::") &&
          !host_is_loopback("10.0.0.1") && !host_is_loopback("localhost.example.com") &&
          !host_is_loopback(""));
}

TEST(only_the_trusted_network_needs_no_credential)
{
    struct network networks[] = {net("127.0.0.0/8"), net("::1/128"), net("10.1.0.0/16")};
    struct network proxies[] = {net("127.0.0.1"), net("10.1.0.9")};
    const char *origins[] = {"*", "http://localhost:3000"};
    struct trust t = {
        .mode = AUTH_TRUSTED,
        .networks = networks,
        .n_networks = ARRAY_LEN(networks),
        .origins = {origins, ARRAY_LEN(origins)},
        .public_url = "https://gpu.example.com/drover",
    };
    static const struct {
        bool yes, proxied;
        const char *what;
        struct trust_facts f;
    } rows[] = {
        {true, false, "plain curl", {"127.0.0.1", "127.0.0.1:8080"}},
        {true, false, "by name", {"127.0.0.1", "localhost:8080"}},
        {true, false, "IPv6", {"::1", "[::1]:8080"}},
        {true, false, "IPv4 told as IPv6", {"::ffff:127.0.0.1", "127.0.0.1"}},
        {true, false, "listed network", {"10.1.2.3", "10.1.0.1:8080"}},
        {true, false, "public name", {"10.1.2.3", "GPU.example.com"}},
        {false, false, "another network", {"10.2.2.3", "10.1.0.1:8080"}},
        {false, false, "the internet", {"203.0.113.9", "127.0.0.1"}},
        {false, false, "IPv6 of a neighbour", {"::2", "[::1]"}},
        {false, false, "unix peer", {"unix", "localhost"}},
        {false, false, "no peer", {NULL, "localhost"}},
        /* DNS rebinding: a foreign name that resolves to us */
        {false, false, "foreign name", {"127.0.0.1", "evil.example:8080"}},
        {false, false, "name that starts like us", {"127.0.0.1", "localhost.evil.example"}},
        {false, false, "address inside a name", {"127.0.0.1", "127.0.0.1.evil.example"}},
        {false, false, "number forms of addresses", {"127.0.0.1", "2130706433"}},
        {false, false, "hexadecimal address", {"127.0.0.1", "0x7f000001"}},
        {false, false, "name in brackets", {"127.0.0.1", "[localhost]"}},
        {false, false, "no host", {"127.0.0.1", NULL}},
        {false, false, "empty host", {"127.0.0.1", ""}},
        {false, false, "host with user", {"127.0.0.1", "evil@127.0.0.1"}},
        {false, false, "bare IPv6 host", {"::1", "::1"}},
        {false, false, "port that is none", {"127.0.0.1", "127.0.0.1:80a"}},
        /* pages */
        {true, false, "own page", {"127.0.0.1", "127.0.0.1:8080", "http://127.0.0.1:8080"}},
        {true, false, "own page, default port", {"127.0.0.1", "localhost:80", "http://localhost"}},
        {true, false, "listed page", {"127.0.0.1", "127.0.0.1:8080", "http://localhost:3000"}},
        {true, false, "public page", {"127.0.0.1", "127.0.0.1:8080", "https://gpu.example.com"}},
        {false, false, "another port", {"127.0.0.1", "127.0.0.1:8080", "http://127.0.0.1:9090"}},
        {false, false, "foreign page", {"127.0.0.1", "127.0.0.1:8080", "https://evil.example"}},
        {false, false, "star is no name", {"127.0.0.1", "127.0.0.1:8080", "*"}},
        {false, false, "opaque page", {"127.0.0.1", "127.0.0.1:8080", "null"}},
        {false, false, "empty origin", {"127.0.0.1", "127.0.0.1:8080", ""}},
        {false,
         false,
         "public page on another scheme",
         {"127.0.0.1", "127.0.0.1:8080", "http://gpu.example.com:443"}},
        /* proxies */
        {false,
         false,
         "through an unknown proxy",
         {"127.0.0.1", "localhost", NULL, true, "127.0.0.1"}},
        {false, false, "any header of a proxy", {"127.0.0.1", "localhost", NULL, true, NULL}},
        {true, true, "a known proxy for itself", {"127.0.0.1", "localhost"}},
        {true,
         true,
         "a known proxy for a neighbour",
         {"127.0.0.1", "localhost", NULL, true, "10.1.7.7"}},
        {false,
         true,
         "a known proxy for the internet",
         {"127.0.0.1", "localhost", NULL, true, "203.0.113.9"}},
        {false,
         true,
         "a lie before the proxy's word",
         {"127.0.0.1", "localhost", NULL, true, "127.0.0.1, 203.0.113.9"}},
        {true,
         true,
         "two known proxies",
         {"127.0.0.1", "localhost", NULL, true, "10.1.7.7, 10.1.0.9"}},
        {false,
         true,
         "two known proxies for the internet",
         {"127.0.0.1", "localhost", NULL, true, "10.1.7.7,203.0.113.9 , 10.1.0.9"}},
        {false,
         true,
         "a proxy that does not say for whom",
         {"127.0.0.1", "localhost", NULL, true, NULL}},
        {false, true, "nonsense", {"127.0.0.1", "localhost", NULL, true, "unknown"}},
        {false, true, "empty", {"127.0.0.1", "localhost", NULL, true, ""}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        t.proxies = proxies;
        t.n_proxies = rows[i].proxied ? ARRAY_LEN(proxies) : 0;
        if (trust_accepts(&t, &rows[i].f) != rows[i].yes)
            FAIL_("%s: %s", rows[i].yes ? "refused" : "accepted", rows[i].what);
    }
    t.mode = AUTH_STRICT;
    CHECK(!trust_accepts(&t, &rows[0].f));
    t.mode = AUTH_OPEN;
    CHECK(trust_accepts(&t, &(struct trust_facts){"203.0.113.9", "any"}));
}

/* ---- passwords ---- */

TEST(passwords_follow_the_rules)
{
    struct err e = {0};
    char long_one[1100];
    memset(long_one, 'x', sizeof(long_one));
    long_one[1024] = '\0';
    CHECK_OK(password_rules(long_one, "li@example.com", &e), &e);
    long_one[1024] = 'x';
    long_one[1025] = '\0';
    CHECK_INT(password_rules(long_one, NULL, &e), ERR_INVALID);
    CHECK_STR(e.code, "WEAK_PASSWORD");
    CHECK_INT(password_rules("1234567", NULL, &e), ERR_INVALID);
    CHECK_OK(password_rules("12345678", NULL, &e), &e);
    /* characters count, not bytes */
    CHECK_INT(password_rules("密码密码密码密", NULL, &e), ERR_INVALID);
    CHECK_OK(password_rules("密码密码密码密码", NULL, &e), &e);
    CHECK_INT(password_rules("\xff\xff\xff\xff\xff\xff\xff\xff", NULL, &e), ERR_INVALID);
    CHECK_INT(password_rules("my-LI@Example.com-1", "li@example.com", &e), ERR_INVALID);
    CHECK(strstr(e.text, "e-mail") != NULL);
}

TEST(generated_passwords_are_words_and_a_number)
{
    AUTO(arena) struct arena a = {0};
    for (int i = 1; i < PASSWORD_WORDS; i++)
        if (strcmp(password_words[i - 1], password_words[i]) >= 0)
            FAIL_("not in order, or twice: %s", password_words[i]);
    for (int i = 0; i < 100; i++) {
        const char *p = password_generate(&a);
        struct err e = {0};
        CHECK_OK(password_rules(p, "admin@localhost", &e), &e);
        char w[4][16];
        CHECK_INT(sscanf(p, "%15[a-z]-%15[a-z]-%15[a-z]-%15[0-9]", w[0], w[1], w[2], w[3]), 4);
        CHECK_INT(strlen(w[3]), 4);
    }
    CHECK(strcmp(password_generate(&a), password_generate(&a)) != 0);
}

TEST(a_password_is_compared_slowly_whoever_it_is)
{
    struct err e = {0};
    char hash[PASSWORD_HASH_SIZE], again[PASSWORD_HASH_SIZE];
    bool match = false;
    CHECK_OK(crypto_init(&e), &e);
    CHECK_OK(password_hash("kite-lamp-orbit-7341", hash, &e), &e);
    CHECK_OK(password_hash("kite-lamp-orbit-7341", again, &e), &e);
    CHECK(str_starts(hash, "$argon2id$v=19$m=65536,t=2,p=1$"));
    CHECK(strcmp(hash, again) != 0);
    int64_t t0 = mono_us();
    CHECK_OK(password_verify(hash, "kite-lamp-orbit-7341", &match, &e), &e);
    int64_t known_us = mono_us() - t0;
    CHECK(match);
    CHECK_OK(password_verify(hash, "kite-lamp-orbit-7342", &match, &e), &e);
    CHECK(!match);
    uint64_t runs = password_hashes();
    t0 = mono_us();
    CHECK_OK(password_verify(NULL, "kite-lamp-orbit-7341", &match, &e), &e);
    int64_t unknown_us = mono_us() - t0;
    CHECK(!match);
    CHECK_INT(password_hashes(), runs + 1);
    /* a real run of Argon2, not an early way out: those take microseconds */
    CHECK(unknown_us > known_us / 10);
    CHECK_OK(password_verify("", "", &match, &e), &e);
    CHECK(!match);
}

static void *hash_once(void *ctx)
{
    struct err e = {0};
    char hash[PASSWORD_HASH_SIZE];
    *(int *)ctx = password_hash("12345678", hash, &e);
    if (*(int *)ctx != OK && e.retry_after_s <= 0)
        *(int *)ctx = ERR_INTERNAL;
    return NULL;
}

TEST(too_many_passwords_at_once_are_sent_away)
{
    struct err e = {0};
    CHECK_OK(crypto_init(&e), &e);
    password_slots(1, 1);
    pthread_t threads[6];
    int rc[6], done = 0, sent_away = 0;
    for (int i = 0; i < 6; i++)
        pthread_create(&threads[i], NULL, hash_once, &rc[i]);
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        done += rc[i] == OK;
        sent_away += rc[i] == ERR_UNAVAILABLE;
    }
    CHECK_INT(done + sent_away, 6);
    CHECK(done >= 1);
    password_slots(2, 4);
}

/* ---- the cryptography below ---- */

TEST(digests_match_published_vectors)
{
    char hex[SHA256_HEX_SIZE];
    CHECK_STR(sha256_hex("abc", hex),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-2 */
    uint8_t mac[SHA256_SIZE];
    static const uint8_t want[4] = {0x5b, 0xdc, 0xc1, 0x46}; /* RFC 4231, case 2 */
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
    CHECK(memcmp(mac, want, sizeof(want)) == 0);
}

TEST(base64url_is_strict)
{
    char text[16];
    uint8_t bytes[16];
    size_t n;
    CHECK_STR(base64url_encode("\xfb\xff", 2, text), "-_8");
    CHECK(base64url_decode("-_8", 3, bytes, sizeof(bytes), &n) && n == 2);
    static const char *const wrong[] = {"-_9", "+/8", "-_8=", "A", " -_8", "-_8\n"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (base64url_decode(wrong[i], strlen(wrong[i]), bytes, sizeof(bytes), &n))
            FAIL_("accepted: %s", wrong[i]);
    CHECK(!base64url_decode("AAAAAAAAAAAAAAAAAAAAAAAA", 24, bytes, sizeof(bytes), &n));
    char random[65];
    CHECK_INT(strlen(random_text(random, 64)), 64);
    CHECK_INT(strspn(random, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"), 64);
}

TEST(secrets_open_only_with_their_key_file)
{
    AUTO(arena) struct arena a = {0};
    struct err e = {0};
    char dir[] = "/tmp/identity-test-XXXXXX", path[64], other[64];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/secret.key", dir);
    snprintf(other, sizeof(other), "%s/other.key", dir);
    struct secret_key *k = NULL, *again = NULL, *wrong = NULL;
    CHECK_OK(crypto_init(&e), &e);
    CHECK_OK(secret_key_open(path, &k, &e), &e);
    struct stat st;
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK_OK(secret_key_open(path, &again, &e), &e);
    CHECK_OK(secret_key_open(other, &wrong, &e), &e);
    const char *sealed = secret_seal(k, "there", "hunter2\0x", 9, &a);
    CHECK(strstr(sealed, "hunter2") == NULL);
    CHECK(strcmp(sealed, secret_seal(k, "there", "hunter2\0x", 9, &a)) != 0);
    char *plain = NULL;
    size_t n = 0;
    CHECK_OK(secret_unseal(again, "there", sealed, &a, &plain, &n, &e), &e);
    CHECK(n == 9 && memcmp(plain, "hunter2\0x", 9) == 0);
    CHECK_INT(secret_unseal(k, "elsewhere", sealed, &a, &plain, &n, &e), ERR_CORRUPT);
    CHECK_INT(secret_unseal(wrong, "there", sealed, &a, &plain, &n, &e), ERR_CORRUPT);
    char *bent = arena_strdup(&a, sealed);
    bent[strlen(bent) / 2] ^= 1;
    CHECK_INT(secret_unseal(k, "there", bent, &a, &plain, &n, &e), ERR_CORRUPT);
    CHECK_INT(secret_unseal(k, "there", "", &a, &plain, &n, &e), ERR_CORRUPT);
    CHECK_INT(secret_unseal(k, "there", "AAAA", &a, &plain, &n, &e), ERR_CORRUPT);
    secret_key_close(again);
    again = NULL;
    chmod(path, 0604);
    CHECK_INT(secret_key_open(path, &again, &e), ERR_FORBIDDEN);
    chmod(path, 0600);
    CHECK(truncate(path, 10) == 0);
    CHECK_INT(secret_key_open(path, &again, &e), ERR_CORRUPT);
    secret_key_close(k);
    secret_key_close(wrong);
    unlink(path);
    unlink(other);
    CHECK(rmdir(dir) == 0); /* nothing else was left there */
}

TEST(nothing_in_a_mail_becomes_a_header)
{
    AUTO(buf) struct buf out = {0};
    struct smtp_mail m = {.from = "Dr\xc3\xb6ver <d@example.com>",
                          .to = "a@example.com",
                          .subject = "hello\r\nBcc: thief@example.com",
                          .text = "one\r\n.\r\nQUIT\r\n",
                          .id = "x",
                          .at = INT64_C(1757169341000000)};
    smtp_compose(&m, &out);
    const char *text = buf_str(&out), *end = strstr(text, "\r\n\r\n");
    CHECK(end != NULL && strstr(text, "Bcc") == NULL && strstr(text, "QUIT") == NULL);
    CHECK(strstr(text, "From: =?UTF-8?B?RHLDtnZlcg==?= <d@example.com>\r\n") == text);
    CHECK(strstr(text, "\r\nDate: Sat, 06 Sep 2025 14:35:41 +0000\r\n") != NULL);
    struct smtp_server server = {.url = "smtp://127.0.0.1:9", .timeout_s = 1};
    struct err e = {0};
    static const char *const bad[] = {"a@b.c\r\nDATA", "a@b.c> <d@e.f", "no address", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        m.to = bad[i];
        CHECK_INT(smtp_send(&server, &m, &e), ERR_UPSTREAM);
        CHECK_STR(e.code, SMTP_REFUSED);
    }
    server.url = "http://example.com";
    CHECK_INT(smtp_check(&server, "d@example.com", &e), ERR_INVALID);
    server.url = "smtps://u:p@mail.example.com:465";
    CHECK_OK(smtp_check(&server, "D <d@example.com>", &e), &e);
    CHECK_INT(smtp_check(&server, "D", &e), ERR_INVALID);
}

TEST_MAIN
