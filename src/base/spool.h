/* The spool: what a job printed, as the shim writes it on the node and as it travels to the
 * server unchanged. One record is one line without its newline, or a piece of a longer line.
 *
 *   u8 stream | u8 flags | u16 0 | u32 len | i64 time_us | len bytes      (little-endian)
 *
 * The spool is one stream of bytes and a position in it (an offset) never changes its meaning.
 * On disk it is cut into chunk files, each named by the offset of its first byte, so that old
 * chunks can go without losing count; a record never crosses from one file into the next.
 * A record is only what spool_decode() says is whole: a torn tail is not part of the spool.
 *
 * Pure and inline, because the shim links nothing else. Threads: any.
 */
#ifndef BASE_SPOOL_H
#define BASE_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum spool_stream { SPOOL_OUT = 1, SPOOL_ERR = 2, SPOOL_SYSTEM = 3 };

enum {
    SPOOL_HEAD_SIZE = 16,
    SPOOL_TEXT_MAX = 64 << 10, /* bytes of one record after the head */
    SPOOL_RECORD_MAX = SPOOL_HEAD_SIZE + SPOOL_TEXT_MAX,
    SPOOL_CHUNK_MAX = 4 << 20, /* bytes of one chunk file */
    SPOOL_CONTINUES = 1,       /* flag: the line goes on in the next record of this stream */
    SPOOL_NAME_SIZE = 24       /* of a chunk file's name and its NUL */
};

struct spool_record {
    uint8_t stream;      /* enum spool_stream */
    uint8_t flags;       /* SPOOL_CONTINUES */
    uint32_t len;        /* at most SPOOL_TEXT_MAX */
    int64_t time_us;     /* UTC; when the end of the piece was read from the job */
    const uint8_t *data; /* any bytes, also NUL and bad UTF-8; points into the decoded buffer */
};

/* Writes the head of a record; its len bytes follow. */
static inline void spool_encode_head(uint8_t to[SPOOL_HEAD_SIZE], uint8_t stream, uint8_t flags,
                                     uint32_t len, int64_t time_us)
{
    uint64_t t = (uint64_t)time_us;
    to[0] = stream;
    to[1] = flags;
    to[2] = to[3] = 0;
    for (int i = 0; i < 4; i++)
        to[4 + i] = (uint8_t)(len >> (8 * i));
    for (int i = 0; i < 8; i++)
        to[8 + i] = (uint8_t)(t >> (8 * i));
}

enum { SPOOL_MORE = 0, SPOOL_BAD = -1 };
/* Decodes the record at p, of which n bytes are there. Returns the bytes that it takes, head
 * included; SPOOL_MORE when it is not whole yet; SPOOL_BAD when this is no record (and nothing
 * after it can be trusted). out is written only when the return value is positive. */
static inline long spool_decode(const void *p, size_t n, struct spool_record *out)
{
    const uint8_t *b = p;
    if (n >= 1 && (b[0] < SPOOL_OUT || b[0] > SPOOL_SYSTEM))
        return SPOOL_BAD;
    if (n < SPOOL_HEAD_SIZE)
        return SPOOL_MORE;
    uint32_t len = 0;
    uint64_t t = 0;
    for (int i = 0; i < 4; i++)
        len |= (uint32_t)b[4 + i] << (8 * i);
    for (int i = 0; i < 8; i++)
        t |= (uint64_t)b[8 + i] << (8 * i);
    if ((b[1] & ~SPOOL_CONTINUES) != 0 || b[2] != 0 || b[3] != 0 || len > SPOOL_TEXT_MAX)
        return SPOOL_BAD;
    if (n - SPOOL_HEAD_SIZE < len)
        return SPOOL_MORE;
    *out = (struct spool_record){b[0], b[1], len, (int64_t)t, b + SPOOL_HEAD_SIZE};
    return (long)(SPOOL_HEAD_SIZE + len);
}

/* How many of the n bytes at p are whole records. *bad (may be NULL) tells whether what follows
 * them can never become one. */
static inline size_t spool_whole(const void *p, size_t n, bool *bad)
{
    const uint8_t *b = p;
    size_t at = 0;
    long took = SPOOL_MORE;
    struct spool_record r;
    while (at < n && (took = spool_decode(b + at, n - at, &r)) > 0)
        at += (size_t)took;
    if (bad != NULL)
        *bad = at < n && took == SPOOL_BAD;
    return at;
}

/* "log." and the offset of the chunk's first byte in 16 hexadecimal digits. */
static inline void spool_chunk_name(uint64_t offset, char to[SPOOL_NAME_SIZE])
{
    snprintf(to, SPOOL_NAME_SIZE, "log.%016llx", (unsigned long long)offset);
}

static inline bool spool_chunk_parse(const char *name, uint64_t *offset)
{
    uint64_t v = 0;
    if (strncmp(name, "log.", 4) != 0 || strlen(name) != 20)
        return false;
    for (const char *c = name + 4; *c != '\0'; c++) {
        int digit = *c >= '0' && *c <= '9' ? *c - '0' : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10 : -1;
        if (digit < 0)
            return false;
        v = v << 4 | (uint64_t)digit;
    }
    *offset = v;
    return true;
}

#endif
