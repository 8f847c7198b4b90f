/* Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256 (RFC 7515, HS256 only).
 * Pure: no clock, no store. Threads: any. */
#ifndef IDENTITY_JWT_H
#define IDENTITY_JWT_H

#include "base/err.h"
#include "base/mem.h"
#include "base/world.h"

enum { JWT_MAX = 2048 }; /* a longer one is refused unread */
#define JWT_AUDIENCE "fastapi-users:auth"

struct jwt_claims {
    char sub[UUID_TEXT_SIZE];
    char jti[UUID_TEXT_SIZE];
    char sid[UUID_TEXT_SIZE]; /* "": none */
    int64_t gen;
    int64_t iat_s, exp_s; /* Unix seconds */
};

struct jwt_key {
    const void *bytes;
    size_t n;
};

const char *jwt_sign(struct jwt_key key, const struct jwt_claims *c, struct arena *a);
/* The signature is checked before anything is parsed. One text for every fault, so that a forger
 * learns nothing. */
int jwt_verify(struct jwt_key key, const char *token, int64_t now_s, struct jwt_claims *out,
               struct err *e);

#endif
