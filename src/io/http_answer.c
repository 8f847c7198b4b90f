/* From the embedder's answer to bytes: compression, ETag, 304, and the head of answers that the
 * loop sends itself.
 *
 * The ETag is strong and names the bytes as sent, so the compressed form has its own. Which
 * form goes out depends on the request and the kind of answer only, never on how well it
 * compresses: so a 304 is decided without compressing anything.
 */
#include "io/http_guard.h"
#include "io/http_gzip.h"
#include "io/http_internal.h"

#include "base/str.h"
#include "base/world.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    GZIP_LEVEL = 1,              /* each answer anew: speed counts */
    GZIP_LEVEL_STATIC = 9,       /* once per server */
    PACKED_BYTES_MAX = 64 << 20, /* all compressed static answers of a server */
};

/* Who came by TLS once comes by TLS for a year (RFC 6797). */
static const char hsts[] = "max-age=31536000";

/* Multiply and fold, eight bytes a step: collisions of honest content are what counts here. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t hash_bytes(const void *p, size_t n)
{
    const unsigned char *s = p;
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ n, word;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&word, s, 8);
        h = fold(h ^ word, UINT64_C(0xd6e8feb86659fd93)) + UINT64_C(0xa0761d6478bd642f);
    }
    word = 0;
    memcpy(&word, s, n);
    h = fold(h ^ word, UINT64_C(0xe7037ed1a0b428db));
    return fold(h, UINT64_C(0x8ebc6af09c88c6e3)) ^ h >> 29;
}

/* ---- what may be compressed ---- */

static bool is_text(const char *type)
{
    static const char *const starts[] = {"text/",
                                         "application/json",
                                         "application/javascript",
                                         "application/xml",
                                         "application/yaml",
                                         "image/svg+xml",
                                         "application/problem+json",
                                         "application/manifest+json"};
    for (size_t i = 0; type != NULL && i < ARRAY_LEN(starts); i++) {
        if (strncasecmp(type, starts[i], strlen(starts[i])) == 0)
            return true;
    }
    return false;
}

static bool has_header(const struct http_answer *a, const char *name)
{
    for (size_t i = 0; i < a->n_headers; i++) {
        if (str_eq_nocase(a->headers[i].name, name))
            return true;
    }
    return false;
}

static bool may_gzip(const struct http_answer *a)
{
    return a->n > HTTP_GZIP_MIN && a->status >= 200 && a->status != 204 && a->status != 206 &&
           a->status != 304 && is_text(a->type) && !has_header(a, "Content-Encoding");
}

/* ---- compressed bodies ---- */

struct packed {
    void *bytes;
    size_t n;
};

static struct MHD_Response *packed_static(struct http_server *s, const struct http_answer *a)
{
    char key[48];
    snprintf(key, sizeof(key), "%p %zu", a->body, a->n);
    pthread_mutex_lock(&s->packed_lock);
    struct packed *have = map_get(&s->packed, key);
    bool room = s->packed_bytes < PACKED_BYTES_MAX;
    pthread_mutex_unlock(&s->packed_lock);
    if (have == NULL && room) {
        struct packed made = {0};
        made.bytes = gzip_bytes(a->body, a->n, GZIP_LEVEL_STATIC, &made.n);
        if (made.bytes == NULL)
            return NULL;
        pthread_mutex_lock(&s->packed_lock);
        have = map_get(&s->packed, key);
        if (have == NULL) {
            have = mem_alloc(sizeof(*have));
            *have = made;
            made.bytes = NULL;
            map_put(&s->packed, key, have);
            s->packed_bytes += have->n;
        }
        pthread_mutex_unlock(&s->packed_lock);
        free(made.bytes);
    }
    if (have == NULL)
        return NULL;
    return MHD_create_response_from_buffer(have->n, have->bytes, MHD_RESPMEM_PERSISTENT);
}

void http_packed_free(struct http_server *s)
{
    size_t at = 0;
    void *value;
    while (map_next(&s->packed, &at, NULL, &value)) {
        free(((struct packed *)value)->bytes);
        mem_free(value);
    }
    map_fini(&s->packed);
}

static struct MHD_Response *packed_once(const struct http_answer *a)
{
    size_t n;
    void *bytes = gzip_bytes(a->body, a->n, GZIP_LEVEL, &n);
    if (bytes == NULL)
        return NULL;
    return MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE);
}

static struct MHD_Response *unpacked(const struct http_answer *a)
{
    return MHD_create_response_from_buffer(
        a->n, (void *)a->body, a->body_static ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_COPY);
}

/* ---- ETag ---- */

/* Weak comparison (RFC 9110, section 13.1.2): for a cache W/"x" and "x" are the same. */
static bool etag_matches(const char *list, const char *etag)
{
    const char *item;
    size_t n;
    while (list != NULL && http_list_next(&list, &item, &n)) {
        if (n == 1 && *item == '*')
            return true;
        if (n > 2 && item[0] == 'W' && item[1] == '/') {
            item += 2;
            n -= 2;
        }
        if (n == strlen(etag) && memcmp(item, etag, n) == 0)
            return true;
    }
    return false;
}

void http_etag(const void *body, size_t n, char to[HTTP_ETAG_SIZE])
{
    snprintf(to, HTTP_ETAG_SIZE, "\"%016llx\"", (unsigned long long)hash_bytes(body, n));
}

bool http_etag_match(const char *list, const char *etag)
{
    const char *item;
    size_t n, n_etag = strlen(etag);
    while (list != NULL && http_list_next(&list, &item, &n)) {
        bool packed = n == n_etag + 3 && memcmp(item + n_etag - 1, "-gz\"", 4) == 0;
        if ((n == n_etag || packed) && memcmp(item, etag, n_etag - 1) == 0 && item[n - 1] == '"')
            return true;
    }
    return false;
}

struct MHD_Response *http_answer_build(struct http_request *q, const struct http_answer *a,
                                       int *status)
{
    *status = a->status;
    bool varies = may_gzip(a);
    bool gzip = varies && http_gzip_welcome(http_header(q, "Accept-Encoding"));
    char etag[HTTP_ETAG_SIZE] = "";
    if (a->etag && a->status == 200 && strcmp(q->method, "GET") == 0) {
        http_etag(a->body, a->n, etag);
        if (gzip)
            memcpy(etag + strlen(etag) - 1, "-gz\"", 5);
        if (etag_matches(http_header(q, "If-None-Match"), etag))
            *status = 304;
    }
    bool bodiless = *status == 304 || *status == 204 || a->type == NULL;
    struct MHD_Response *r = NULL;
    if (bodiless)
        r = MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
    else if (gzip)
        r = a->body_static ? packed_static(q->server, a) : NULL;
    if (r == NULL && gzip)
        r = packed_once(a);
    if (r == NULL) {
        r = unpacked(a);
        gzip = false;
    }
    if (r == NULL) {
        fprintf(stderr, "drover: out of memory for an answer of %zu bytes\n", a->n);
        abort();
    }
    for (size_t i = 0; i < a->n_headers; i++)
        MHD_add_response_header(r, a->headers[i].name, a->headers[i].value);
    if (a->type != NULL && !bodiless)
        MHD_add_response_header(r, "Content-Type", a->type);
    if (varies)
        MHD_add_response_header(r, "Vary", "Accept-Encoding");
    if (gzip && !bodiless)
        MHD_add_response_header(r, "Content-Encoding", "gzip");
    if (*etag != '\0')
        MHD_add_response_header(r, "ETag", etag);
    if (http_is_tls(q))
        MHD_add_response_header(r, "Strict-Transport-Security", hsts);
    if (a->close)
        MHD_add_response_header(r, "Connection", "close");
    return r;
}

void http_respond(struct http_request *q, const struct http_answer *a)
{
    q->response = http_answer_build(q, a, &q->status);
    http_request_answered(q);
}

/* ---- heads of answers that the loop sends ---- */

static const char *date_text(char to[40])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = (time_t)(now_us() / US_PER_S);
    struct tm tm;
    gmtime_r(&now, &tm);
    snprintf(to, 40, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + tm.tm_wday * 3, tm.tm_mday,
             months + tm.tm_mon * 3, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return to;
}

static bool is_one_line(const char *s)
{
    return strpbrk(s, "\r\n") == NULL;
}

void http_head_write(struct buf *to, const struct http_request *q, const struct http_answer *a)
{
    char date[40];
    buf_printf(to, "HTTP/1.1 %d %s\r\nDate: %s\r\n", a->status,
               MHD_get_reason_phrase_for((unsigned)a->status), date_text(date));
    if (a->type != NULL)
        buf_printf(to, "Content-Type: %s\r\n", a->type);
    if (http_is_tls(q))
        buf_printf(to, "Strict-Transport-Security: %s\r\n", hsts);
    for (size_t i = 0; i < a->n_headers; i++) {
        if (is_one_line(a->headers[i].name) && is_one_line(a->headers[i].value))
            buf_printf(to, "%s: %s\r\n", a->headers[i].name, a->headers[i].value);
    }
}
