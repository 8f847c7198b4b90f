/* Encoding of frames, trailer and journal. Every head carries a checksum over itself, so that a
 * torn or foreign one is told from a real one; decoding trusts nothing that it did not check.
 */
#include "logs/segment.h"

#include "logs/codec.h"

#include <string.h>

static const uint32_t frame_magic = 0x31474c44;   /* "DLG1" */
static const uint32_t trailer_magic = 0x58474c44; /* "DLGX" */
static const uint32_t journal_magic = 0x4a474c44; /* "DLGJ" */
enum { VERSION = 1 };

static uint8_t *put(uint8_t *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(v >> (8 * i));
    return to + bytes;
}

static uint64_t get(const uint8_t **from, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)(*from)[i] << (8 * i);
    *from += bytes;
    return v;
}

/* The last four bytes of a head are the checksum of those before. */
static void seal_head(uint8_t *head, size_t size)
{
    put(head + size - 4, codec_sum(0, head, size - 4), 4);
}

static bool head_is_whole(const uint8_t *head, size_t size, uint32_t magic)
{
    const uint8_t *at = head, *tail = head + size - 4;
    if (get(&at, 4) != magic || get(&at, 4) != VERSION)
        return false;
    return get(&tail, 4) == codec_sum(0, head, size - 4);
}

/* ---- frames ---- */

void frame_encode(const struct frame *f, uint8_t to[FRAME_HEAD_SIZE])
{
    memset(to, 0, FRAME_HEAD_SIZE);
    uint8_t *at = put(to, frame_magic, 4);
    at = put(at, VERSION, 4);
    at = put(at, f->raw_len, 4);
    at = put(at, f->packed_len, 4);
    at = put(at, f->from, 8);
    at = put(at, (uint64_t)f->before.next, 8);
    at = put(at, (uint64_t)(f->after.next - f->before.next), 4);
    for (int i = 0; i < STREAMS; i++)
        at = put(at, f->records[i], 4);
    at = put(at, (uint64_t)f->first_us, 8);
    at = put(at, (uint64_t)f->last_us, 8);
    for (int i = 0; i < STREAMS; i++)
        at = put(at, (uint64_t)f->before.open[i], 8);
    for (int i = 0; i < STREAMS; i++)
        at = put(at, (uint64_t)f->after.open[i], 8);
    put(at, f->sum, 4);
    seal_head(to, FRAME_HEAD_SIZE);
}

bool frame_decode(struct frame *f, const uint8_t from[FRAME_HEAD_SIZE])
{
    if (!head_is_whole(from, FRAME_HEAD_SIZE, frame_magic))
        return false;
    const uint8_t *at = from + 8;
    f->raw_len = (uint32_t)get(&at, 4);
    f->packed_len = (uint32_t)get(&at, 4);
    f->from = get(&at, 8);
    f->before.next = (int64_t)get(&at, 8);
    uint64_t lines = get(&at, 4);
    for (int i = 0; i < STREAMS; i++)
        f->records[i] = (uint32_t)get(&at, 4);
    f->first_us = (int64_t)get(&at, 8);
    f->last_us = (int64_t)get(&at, 8);
    for (int i = 0; i < STREAMS; i++)
        f->before.open[i] = (int64_t)get(&at, 8);
    for (int i = 0; i < STREAMS; i++)
        f->after.open[i] = (int64_t)get(&at, 8);
    f->sum = (uint32_t)get(&at, 4);
    if (f->raw_len == 0 || f->raw_len > FRAME_RAW_MAX ||
        f->packed_len > codec_bound(FRAME_RAW_MAX) || f->from > INT64_MAX / 2 ||
        f->before.next < 1 || f->before.next > INT64_MAX / 2)
        return false;
    f->after.next = f->before.next + (int64_t)lines;
    return true;
}

bool frame_count(struct frame *f, const uint8_t *raw, size_t n, const struct line_count *before)
{
    f->raw_len = (uint32_t)n;
    f->before = f->after = *before;
    memset(f->records, 0, sizeof(f->records));
    struct spool_record r;
    for (size_t at = 0; at < n;) {
        long took = spool_decode(raw + at, n - at, &r);
        if (took <= 0)
            return false;
        if (at == 0)
            f->first_us = f->last_us = r.time_us;
        if (r.time_us > f->last_us)
            f->last_us = r.time_us;
        f->records[r.stream - 1]++;
        line_of(&f->after, &r);
        at += (size_t)took;
    }
    return n > 0;
}

bool frame_follows(const struct frame *f, const struct frame *prev)
{
    if (prev == NULL)
        return f->from == 0 && f->before.next == 1 && f->before.open[0] == 0 &&
               f->before.open[1] == 0 && f->before.open[2] == 0;
    return f->from == prev->from + prev->raw_len && f->before.next == prev->after.next &&
           memcmp(f->before.open, prev->after.open, sizeof(f->before.open)) == 0;
}

/* ---- trailer ---- */

void trailer_encode(const struct trailer *t, uint8_t to[TRAILER_SIZE])
{
    memset(to, 0, TRAILER_SIZE);
    uint8_t *at = put(to, trailer_magic, 4);
    at = put(at, VERSION, 4);
    at = put(at, t->frames, 8);
    at = put(at, t->packed_len, 8);
    at = put(at, t->bytes, 8);
    at = put(at, t->have, 8);
    put(at, t->sum, 4);
    seal_head(to, TRAILER_SIZE);
}

bool trailer_decode(struct trailer *t, const uint8_t from[TRAILER_SIZE])
{
    if (!head_is_whole(from, TRAILER_SIZE, trailer_magic))
        return false;
    const uint8_t *at = from + 8;
    t->frames = get(&at, 8);
    t->packed_len = get(&at, 8);
    t->bytes = get(&at, 8);
    t->have = get(&at, 8);
    t->sum = (uint32_t)get(&at, 4);
    return t->bytes <= t->have && t->have <= INT64_MAX / 2;
}

/* ---- journal ---- */

enum { BLOCK_SUMMED = 16 }; /* generation, length, offset: all behind magic and checksum */

void block_encode_head(const struct block *b, const void *p, uint8_t to[BLOCK_HEAD_SIZE])
{
    put(put(put(to + 8, b->generation, 4), b->len, 4), b->offset, 8);
    uint32_t sum = codec_sum(codec_sum(0, to + 8, BLOCK_SUMMED), p, b->len);
    put(put(to, journal_magic, 4), sum, 4);
}

bool block_decode(struct block *b, const uint8_t *at, size_t n)
{
    if (n < BLOCK_HEAD_SIZE)
        return false;
    const uint8_t *head = at;
    if (get(&at, 4) != journal_magic)
        return false;
    uint32_t sum = (uint32_t)get(&at, 4);
    struct block out = {.generation = (uint32_t)get(&at, 4)};
    out.len = (uint32_t)get(&at, 4);
    out.offset = get(&at, 8);
    if (out.len > n - BLOCK_HEAD_SIZE || out.offset > INT64_MAX / 2 ||
        sum != codec_sum(codec_sum(0, head + 8, BLOCK_SUMMED), at, out.len))
        return false;
    *b = out;
    return true;
}
