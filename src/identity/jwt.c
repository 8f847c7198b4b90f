/* Signing and checking access tokens.
 *
 * What must stay true: the algorithm is ours, never the token's choice; nothing of a token is
 * believed, or even parsed as JSON, before its signature was found right in constant time; a
 * token without sub, aud, exp or jti is no token. */
#include "identity/jwt.h"

#include "base/json.h"
#include "base/str.h"
#include "io/crypto.h"
#include "io/json_in.h"

#include <stdio.h>
#include <string.h>

static void add_part(struct buf *to, const void *p, size_t n)
{
    char text[BASE64URL_SIZE(JWT_MAX)];
    buf_adds(to, base64url_encode(p, n, text));
}

const char *jwt_sign(struct jwt_key key, const struct jwt_claims *c, struct arena *a)
{
    static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    AUTO(buf) struct buf claims = {.max = JWT_MAX};
    struct json j = json_to(&claims);
    json_open(&j, '{');
    json_ktext(&j, "sub", c->sub);
    json_key(&j, "aud");
    json_open(&j, '[');
    json_text(&j, JWT_AUDIENCE);
    json_close(&j, ']');
    json_kint(&j, "exp", c->exp_s);
    json_kint(&j, "iat", c->iat_s);
    json_ktext(&j, "jti", c->jti);
    if (c->sid[0] != '\0')
        json_ktext(&j, "sid", c->sid);
    json_kint(&j, "gen", c->gen);
    json_close(&j, '}');

    AUTO(buf) struct buf token = {.max = 2 * JWT_MAX};
    add_part(&token, head, sizeof(head) - 1);
    buf_addc(&token, '.');
    add_part(&token, claims.data, claims.len);
    uint8_t mac[SHA256_SIZE];
    hmac_sha256(key.bytes, key.n, token.data, token.len, mac);
    buf_addc(&token, '.');
    add_part(&token, mac, sizeof(mac));
    return arena_strndup(a, token.data, token.len);
}

static bool decode_json(const char *s, size_t n, struct jv **out)
{
    char text[JWT_MAX];
    size_t len;
    return base64url_decode(s, n, text, sizeof(text), &len) &&
           jv_parse(text, len, out, NULL, NULL) == OK && jv_kind(*out) == JV_OBJECT;
}

static bool head_ok(const char *s, size_t n)
{
    AUTO(jv) struct jv *head = NULL;
    if (!decode_json(s, n, &head) || !str_eq(jv_get_text(head, "alg"), "HS256") ||
        jv_get(head, "crit") != NULL) /* extensions that must be understood: we know none */
        return false;
    return jv_get(head, "typ") == NULL || str_eq_nocase(jv_get_text(head, "typ"), "JWT");
}

static bool audience_ok(const struct jv *aud)
{
    if (jv_kind(aud) == JV_TEXT)
        return str_eq(jv_text(aud, NULL), JWT_AUDIENCE);
    for (size_t i = 0; jv_kind(aud) == JV_LIST && i < jv_len(aud); i++)
        if (str_eq(jv_text(jv_at(aud, i), NULL), JWT_AUDIENCE))
            return true;
    return false;
}

/* NumericDate: seconds, with or without a fraction. */
static bool read_seconds(const struct jv *claims, const char *name, int64_t *out)
{
    const struct jv *v = jv_get(claims, name);
    enum jv_kind kind = jv_kind(v);
    if (kind != JV_INT && kind != JV_REAL)
        return false;
    double s = jv_real(v);
    if (!(s >= 0 && s < 1e12))
        return false;
    *out = (int64_t)s;
    return true;
}

static bool read_uuid(const struct jv *claims, const char *name, char to[UUID_TEXT_SIZE])
{
    const char *s = jv_get_text(claims, name);
    if (s == NULL || !uuid_is(s))
        return false;
    memcpy(to, s, UUID_TEXT_SIZE);
    return true;
}

static bool claims_ok(const char *s, size_t n, int64_t now_s, struct jwt_claims *out)
{
    AUTO(jv) struct jv *claims = NULL;
    struct jwt_claims c = {0};
    int64_t not_before_s;
    if (!decode_json(s, n, &claims) || !audience_ok(jv_get(claims, "aud")) ||
        !read_uuid(claims, "sub", c.sub) || !read_uuid(claims, "jti", c.jti) ||
        !read_seconds(claims, "exp", &c.exp_s) || c.exp_s <= now_s)
        return false;
    if (jv_get(claims, "nbf") != NULL &&
        (!read_seconds(claims, "nbf", &not_before_s) || not_before_s > now_s))
        return false;
    if (jv_get(claims, "sid") != NULL && !read_uuid(claims, "sid", c.sid))
        return false;
    if (jv_get(claims, "iat") != NULL && !read_seconds(claims, "iat", &c.iat_s))
        return false;
    c.gen = jv_get_int(claims, "gen", 0);
    *out = c;
    return true;
}

int jwt_verify(struct jwt_key key, const char *token, int64_t now_s, struct jwt_claims *out,
               struct err *e)
{
    size_t n = strnlen(token, JWT_MAX + 1);
    const char *dot = n <= JWT_MAX ? memchr(token, '.', n) : NULL;
    const char *last = dot != NULL ? memrchr(token, '.', n) : NULL;
    uint8_t mac[SHA256_SIZE], given[SHA256_SIZE];
    size_t given_n;
    if (last != NULL && last != dot && memchr(dot + 1, '.', (size_t)(last - dot - 1)) == NULL &&
        base64url_decode(last + 1, n - (size_t)(last + 1 - token), given, sizeof(given),
                         &given_n) &&
        given_n == sizeof(given)) {
        hmac_sha256(key.bytes, key.n, token, (size_t)(last - token), mac);
        if (mem_equal_secret(mac, given, sizeof(mac)) && head_ok(token, (size_t)(dot - token)) &&
            claims_ok(dot + 1, (size_t)(last - dot - 1), now_s, out))
            return OK;
    }
    return err_set(e, ERR_UNAUTHENTICATED,
                   "the credential is not valid, has ended or was revoked; sign in again");
}
