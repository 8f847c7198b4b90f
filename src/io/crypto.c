/* libsodium behind crypto.h.
 *
 * What must stay true: a password costs the same time whether its account exists or not; never
 * more than `slots_max` Argon2 runs at once; a key file is complete or absent, also after a
 * crash or when two servers start together (it is written aside and linked into place). */
#include "io/crypto.h"

#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(PASSWORD_HASH_SIZE >= crypto_pwhash_STRBYTES, "a stored hash fits");
_Static_assert(SHA256_SIZE == crypto_hash_sha256_BYTES, "a digest fits");

int crypto_init(struct err *e)
{
    if (sodium_init() < 0)
        return err_set(e, ERR_INTERNAL, "the cryptography library does not start");
    return OK;
}

/* ---- passwords ---- */

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t slots_free = PTHREAD_COND_INITIALIZER;
static int slots_max = 2, slots_waiting_max = 4, slots_running, slots_waiting;
static _Atomic uint64_t hashes;

/* What an account that is not there is compared with: right form, no known password. */
static const char nobody_hash[] = "$argon2id$v=19$m=65536,t=2,p=1$c29tZW9uZXdob2lzbm90aA$"
                                  "bm8gcGFzc3dvcmQgaGFzIHRoaXMgb3V0cHV0IHRleHQ";

void password_slots(int running, int waiting)
{
    pthread_mutex_lock(&slots_lock);
    slots_max = running;
    slots_waiting_max = waiting;
    pthread_cond_broadcast(&slots_free);
    pthread_mutex_unlock(&slots_lock);
}

static int slot_take(struct err *e)
{
    int rc = OK;
    pthread_mutex_lock(&slots_lock);
    if (slots_running >= slots_max && slots_waiting >= slots_waiting_max) {
        rc = err_set(e, ERR_UNAVAILABLE, "too many people sign in at this moment; try again");
        if (e != NULL)
            e->retry_after_s = 1;
    } else {
        slots_waiting++;
        while (slots_running >= slots_max)
            pthread_cond_wait(&slots_free, &slots_lock);
        slots_waiting--;
        slots_running++;
    }
    pthread_mutex_unlock(&slots_lock);
    return rc;
}

static void slot_give(void)
{
    pthread_mutex_lock(&slots_lock);
    slots_running--;
    pthread_cond_signal(&slots_free);
    pthread_mutex_unlock(&slots_lock);
}

int password_hash(const char *password, char to[PASSWORD_HASH_SIZE], struct err *e)
{
    char made[crypto_pwhash_STRBYTES];
    int rc = slot_take(e);
    if (rc != OK)
        return rc;
    rc = crypto_pwhash_str(made, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                           crypto_pwhash_MEMLIMIT_INTERACTIVE);
    hashes++;
    slot_give();
    if (rc != 0)
        return err_set(e, ERR_UNAVAILABLE, "there is no memory to check a password; try again");
    memcpy(to, made, sizeof(made));
    return OK;
}

int password_verify(const char *stored, const char *password, bool *match, struct err *e)
{
    bool real = stored != NULL && stored[0] != '\0';
    int rc = slot_take(e);
    if (rc != OK)
        return rc;
    bool same = crypto_pwhash_str_verify(real ? stored : nobody_hash, password, strlen(password)) ==
                0;
    hashes++;
    slot_give();
    *match = same && real;
    return OK;
}

uint64_t password_hashes(void)
{
    return hashes;
}

/* ---- digests ---- */

void sha256(const void *p, size_t n, uint8_t to[SHA256_SIZE])
{
    crypto_hash_sha256(to, p, n);
}

const char *sha256_hex(const char *s, char to[SHA256_HEX_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    sha256(s, strlen(s), digest);
    return sodium_bin2hex(to, SHA256_HEX_SIZE, digest, sizeof(digest));
}

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(struct hash), "a state fits");

void hash_begin(struct hash *h)
{
    crypto_generichash_init((crypto_generichash_state *)h->space, NULL, 0, HASH_SIZE);
}

void hash_add(struct hash *h, const void *p, size_t n)
{
    crypto_generichash_update((crypto_generichash_state *)h->space, p, n);
}

void hash_end(struct hash *h, uint8_t to[HASH_SIZE])
{
    crypto_generichash_final((crypto_generichash_state *)h->space, to, HASH_SIZE);
}

void hash_of(const void *p, size_t n, uint8_t to[HASH_SIZE])
{
    crypto_generichash(to, HASH_SIZE, p, n, NULL, 0);
}

const char *hash_hex(const uint8_t hash[HASH_SIZE], char to[HASH_HEX_SIZE])
{
    return sodium_bin2hex(to, HASH_HEX_SIZE, hash, HASH_SIZE);
}

bool hash_parse(const char *s, size_t n, uint8_t to[HASH_SIZE])
{
    uint8_t bytes[HASH_SIZE];
    if (n != (size_t)2 * HASH_SIZE)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return false;
        bytes[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : bytes[i / 2] | digit);
    }
    memcpy(to, bytes, HASH_SIZE);
    return true;
}

void hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t to[SHA256_SIZE])
{
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, key, key_n);
    crypto_auth_hmacsha256_update(&st, p, n);
    crypto_auth_hmacsha256_final(&st, to);
    sodium_memzero(&st, sizeof(st));
}

/* ---- texts ---- */

const char *random_text(char *to, size_t chars)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < chars;) {
        uint8_t some[64];
        random_bytes(some, sizeof(some));
        for (size_t k = 0; k < sizeof(some) && i < chars; k++)
            if (some[k] < 62 * 4) /* the rest would favour the first letters */
                to[i++] = alphabet[some[k] % 62];
    }
    to[chars] = '\0';
    return to;
}

const char *base64url_encode(const void *p, size_t n, char *to)
{
    return sodium_bin2base64(to, BASE64URL_SIZE(n), p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool base64url_decode(const char *s, size_t n, void *to, size_t max, size_t *out_n)
{
    const char *end = NULL;

    return sodium_base642bin(to, max, s, n, NULL, out_n, &end,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
           end == s + n;
}

/* ---- secrets at rest ---- */

enum {
    KEY_SIZE = crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    KEY_LINE_SIZE = 2 * KEY_SIZE + 1, /* digits and a newline */
};

struct secret_key {
    size_t n;
    uint8_t keys[SECRET_KEYS_MAX][KEY_SIZE];
    char ids[SECRET_KEYS_MAX][SECRET_KEY_ID_SIZE];
};

/* Writes keys from number `first` on into a file that is whole or not there. */
static int key_file_write(const struct secret_key *k, size_t first, const char *path, bool replace,
                          struct err *e)
{
    char text[SECRET_KEYS_MAX * KEY_LINE_SIZE + 1], id[9];
    size_t len = 0;
    for (size_t i = first; i < k->n; i++, len += KEY_LINE_SIZE) {
        sodium_bin2hex(text + len, KEY_LINE_SIZE, k->keys[i], KEY_SIZE);
        text[len + KEY_LINE_SIZE - 1] = '\n';
    }
    AUTO(mem) char *aside = mem_printf("%s.%s", path, random_text(id, 8));
    AUTO(mem) char *folder = mem_strdup(path);
    int rc = OK;
    AUTO(fd) int fd = open(aside, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        rc = err_sys(e, "cannot make the key file %s", path);
    else if (write(fd, text, len) != (ssize_t)len || fsync(fd) < 0)
        rc = err_sys(e, "cannot write the key file %s", path);
    else if (replace ? rename(aside, path) < 0 : link(aside, path) < 0 && errno != EEXIST)
        rc = err_sys(e, "cannot make the key file %s", path);
    sodium_memzero(text, sizeof(text));
    if (fd < 0)
        return rc;
    if (!replace || rc != OK)
        unlink(aside);
    AUTO(fd) int dir = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rc == OK && (dir < 0 || fsync(dir) < 0))
        rc = err_sys(e, "cannot make the key file %s durable", path);
    return rc;
}

static void key_name(struct secret_key *k, size_t i)
{
    uint8_t digest[SHA256_SIZE];
    sha256(k->keys[i], KEY_SIZE, digest);
    sodium_bin2hex(k->ids[i], SECRET_KEY_ID_SIZE, digest, SECRET_KEY_ID_SIZE / 2);
}

static int key_file_read(int fd, const char *path, struct secret_key *k, struct err *e)
{
    char text[SECRET_KEYS_MAX * (KEY_LINE_SIZE + 1) + 2];
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, "cannot read the key file %s", path);
    if (st.st_mode & S_IRWXO)
        return err_set(e, ERR_FORBIDDEN, "everyone may open the key file %s; chmod 600 it", path);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return err_sys(e, "cannot read the key file %s", path);
    text[n] = '\0';
    bool bad = n == (ssize_t)sizeof(text) - 1;
    for (char *line = text; !bad && *line != '\0';) {
        size_t len = strcspn(line, "\r\n"), got = 0;
        bad = k->n == SECRET_KEYS_MAX || len != 2 * KEY_SIZE ||
              sodium_hex2bin(k->keys[k->n], KEY_SIZE, line, len, NULL, &got, NULL) != 0 ||
              got != KEY_SIZE;
        if (!bad)
            key_name(k, k->n++);
        line += len + strspn(line + len, "\r\n");
    }
    sodium_memzero(text, sizeof(text));
    if (bad || k->n == 0)
        return err_set(e, ERR_CORRUPT, "the key file %s does not hold 64 hexadecimal digits", path);
    return OK;
}

int secret_key_open(const char *path, struct secret_key **out, struct err *e)
{
    struct secret_key *k = mem_alloc(sizeof(*k));
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = OK;
    if (fd < 0 && errno == ENOENT) {
        random_bytes(k->keys[0], KEY_SIZE);
        k->n = 1;
        rc = key_file_write(k, 0, path, false, e);
        k->n = 0;
        fd = open(path, O_RDONLY | O_CLOEXEC); /* another process may have been first */
    }
    if (rc == OK && fd < 0)
        rc = err_sys(e, "cannot open the key file %s", path);
    if (rc == OK)
        rc = key_file_read(fd, path, k, e);
    if (rc != OK)
        secret_key_close(k);
    else
        *out = k;
    return rc;
}

void secret_key_close(struct secret_key *k)
{
    if (k == NULL)
        return;
    sodium_memzero(k, sizeof(*k));
    mem_free(k);
}

size_t secret_key_count(const struct secret_key *k)
{
    return k->n;
}

const char *secret_key_id(const struct secret_key *k)
{
    return k->ids[k->n - 1];
}

int secret_key_add(const struct secret_key *k, const char *path, struct err *e)
{
    if (k->n == SECRET_KEYS_MAX)
        return err_set(e, ERR_CONFLICT, "the key file %s has %d keys already", path,
                       (int)SECRET_KEYS_MAX);
    struct secret_key more = *k;
    random_bytes(more.keys[more.n++], KEY_SIZE);
    int rc = key_file_write(&more, 0, path, true, e);
    sodium_memzero(&more, sizeof(more));
    return rc;
}

int secret_key_drop_old(const struct secret_key *k, const char *path, struct err *e)
{
    return k->n > 1 ? key_file_write(k, k->n - 1, path, true, e) : OK;
}

/* nonce, then the sealed bytes with their tag, in one base64url text */
enum {
    NONCE_SIZE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG_SIZE = crypto_aead_xchacha20poly1305_ietf_ABYTES,
};

const char *secret_seal(const struct secret_key *k, const char *where, const void *p, size_t n,
                        struct arena *a)
{
    size_t total = NONCE_SIZE + TAG_SIZE + n;
    uint8_t *raw = arena_alloc(a, total);
    random_bytes(raw, NONCE_SIZE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(raw + NONCE_SIZE, NULL, p, n, (const uint8_t *)where,
                                               strlen(where), NULL, raw, k->keys[k->n - 1]);
    char *text = arena_alloc(a, BASE64URL_SIZE(total));
    return arena_printf(a, "%s.%s", secret_key_id(k), base64url_encode(raw, total, text));
}

int secret_unseal(const struct secret_key *k, const char *where, const char *sealed,
                  struct arena *a, char **out, size_t *n, struct err *e)
{
    const char *dot = strchr(sealed, '.');
    const char *body = dot != NULL ? dot + 1 : sealed;
    /* Without a name it is from before there were names, and places were not bound. */
    size_t name = dot != NULL ? (size_t)(dot - sealed) : 0;
    size_t len = strlen(body), got = 0, bound = dot != NULL ? strlen(where) : 0;
    uint8_t *raw = arena_alloc(a, len + 1);
    char *plain = arena_alloc(a, len + 1);
    bool whole = base64url_decode(body, len, raw, len, &got) && got >= NONCE_SIZE + TAG_SIZE;
    for (size_t i = 0; whole && i < k->n; i++) {
        if (name > 0 && (strlen(k->ids[i]) != name || memcmp(k->ids[i], sealed, name) != 0))
            continue;
        if (crypto_aead_xchacha20poly1305_ietf_decrypt(
                (uint8_t *)plain, NULL, NULL, raw + NONCE_SIZE, got - NONCE_SIZE,
                (const uint8_t *)where, bound, raw, k->keys[i]) != 0)
            continue;
        *n = got - NONCE_SIZE - TAG_SIZE;
        plain[*n] = '\0';
        *out = plain;
        return OK;
    }
    return err_set(e, ERR_CORRUPT, "a stored secret does not open with this key file");
}
