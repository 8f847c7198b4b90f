/* Cryptography: libsodium behind a small interface; crypto.c is the only file that knows it.
 *
 * Passwords are hashed with Argon2id at libsodium's interactive limits (64 MiB, 2 passes: about
 * a tenth of a second of a core), and only so many at once as password_slots() allows, so that
 * a flood of sign-ins cannot take the machine's memory. Comparisons of secrets elsewhere:
 * mem_equal_secret() of base/str.h.
 *
 * Sources: RFC 9106 (Argon2), RFC 2104 (HMAC), RFC 4648 section 5 (base64url).
 * Threads: any, after crypto_init(), which may be called again.
 */
#ifndef IO_CRYPTO_H
#define IO_CRYPTO_H

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>

int crypto_init(struct err *e);

/* ---- passwords: slow on purpose, never on an I/O thread or in a transaction ---- */

enum { PASSWORD_HASH_SIZE = 128 };
/* running at once and waiting for their turn; beyond that ERR_UNAVAILABLE with a Retry-After. */
void password_slots(int running, int waiting);
int password_hash(const char *password, char to[PASSWORD_HASH_SIZE], struct err *e);
/* stored NULL or "": no match, after just as much work, so that the time tells nothing. */
int password_verify(const char *stored, const char *password, bool *match, struct err *e);
/* How many hashes were computed since the start. */
uint64_t password_hashes(void);

/* ---- digests ---- */

enum { SHA256_SIZE = 32, SHA256_HEX_SIZE = 65 };
void sha256(const void *p, size_t n, uint8_t to[SHA256_SIZE]);
/* Of a text, in lower-case hexadecimal: how random tokens are stored. */
const char *sha256_hex(const char *s, char to[SHA256_HEX_SIZE]);
void hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t to[SHA256_SIZE]);

/* ---- contents: BLAKE2b with 256 bits (RFC 7693), about three times as fast as SHA-256 here ----
 */

enum { HASH_SIZE = 32, HASH_HEX_SIZE = 65 };
struct hash {
    _Alignas(64) uint8_t space[384];
};
void hash_begin(struct hash *h);
void hash_add(struct hash *h, const void *p, size_t n);
void hash_end(struct hash *h, uint8_t to[HASH_SIZE]);
void hash_of(const void *p, size_t n, uint8_t to[HASH_SIZE]);
const char *hash_hex(const uint8_t hash[HASH_SIZE], char to[HASH_HEX_SIZE]);
/* 64 lower-case hexadecimal digits; false: they are not. */
bool hash_parse(const char *s, size_t n, uint8_t to[HASH_SIZE]);

/* ---- texts ---- */

/* chars random letters and digits (5.95 bits each) and a NUL. */
const char *random_text(char *to, size_t chars);
#define BASE64URL_SIZE(n) (((n)*4 + 2) / 3 + 1)
/* Without padding; to has room for BASE64URL_SIZE(n). Returns to. */
const char *base64url_encode(const void *p, size_t n, char *to);
/* Strict: no padding, no blanks, unused bits zero. False also when it needs more than max. */
bool base64url_decode(const char *s, size_t n, void *to, size_t max, size_t *out_n);

/* ---- secrets at rest: XChaCha20-Poly1305 under keys that live outside the database ----
 *
 * A key file has one key a line, 64 hexadecimal digits; the last one seals, the others only open
 * what a rotation has not come to yet. A sealed text names its key: "1a2b3c4d.BASE64URL". `where`
 * (table, column and row) is bound to it, so that it opens in its own place only. */

struct secret_key;
enum { SECRET_KEY_ID_SIZE = 9, SECRET_KEYS_MAX = 8 };
/* Reads the key file; makes it (mode 0600, durable) when it is missing. A file that everyone may
 * read is refused. */
int secret_key_open(const char *path, struct secret_key **out, struct err *e);
void secret_key_close(struct secret_key *k); /* wipes it; NULL is fine */
size_t secret_key_count(const struct secret_key *k);
const char *secret_key_id(const struct secret_key *k); /* of the one that seals */
/* Puts a new key behind those of k in the file, or leaves only the last one there. The file is the
 * old one or the new one, whatever dies. */
int secret_key_add(const struct secret_key *k, const char *path, struct err *e);
int secret_key_drop_old(const struct secret_key *k, const char *path, struct err *e);
/* Text that can be stored anywhere. */
const char *secret_seal(const struct secret_key *k, const char *where, const void *p, size_t n,
                        struct arena *a);
/* ERR_CORRUPT: another key, another place or changed bytes. *out is NUL-terminated. */
int secret_unseal(const struct secret_key *k, const char *where, const char *sealed,
                  struct arena *a, char **out, size_t *n, struct err *e);

#endif
