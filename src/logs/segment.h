/* The bytes of a segment file and of a journal; no files here, only their encoding.
 * Little-endian throughout. Threads: pure, any. */
#ifndef LOGS_SEGMENT_H
#define LOGS_SEGMENT_H

#include "base/spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STREAMS = 3,
    FRAME_RAW_MAX = 256 << 10, /* spool bytes in a frame */
    FRAME_HEAD_SIZE = 120,
    TRAILER_SIZE = 80,
    BLOCK_HEAD_SIZE = 24,
};

/* Which line a record belongs to: carried from record to record. */
struct line_count {
    int64_t next;          /* number that the next new line gets, from 1 */
    int64_t open[STREAMS]; /* the line whose further pieces are due, by stream - 1; 0: none */
};
static inline int64_t line_of(struct line_count *c, const struct spool_record *r)
{
    int64_t *open = &c->open[r->stream - 1];
    int64_t n = *open != 0 ? *open : c->next++;
    *open = (r->flags & SPOOL_CONTINUES) != 0 ? n : 0;
    return n;
}

struct frame {
    uint64_t file_at; /* of its head in the segment file; not stored */
    uint64_t from;    /* spool offset of its first byte */
    uint32_t raw_len, packed_len;
    uint32_t records[STREAMS];
    uint32_t sum; /* of the packed bytes */
    struct line_count before, after;
    int64_t first_us, last_us; /* of the first record; the latest of all records */
};

void frame_encode(const struct frame *f, uint8_t to[FRAME_HEAD_SIZE]);
/* False: not a head, or damaged. file_at is left alone. */
bool frame_decode(struct frame *f, const uint8_t from[FRAME_HEAD_SIZE]);
/* Fills counts, times, before/after for the whole records in the n bytes at raw. False: they are
 * not whole records. */
bool frame_count(struct frame *f, const uint8_t *raw, size_t n, const struct line_count *before);
/* May f stand behind prev (NULL: first)? */
bool frame_follows(const struct frame *f, const struct frame *prev);

/* The last bytes of an ended segment file: before them lies the packed index, all frame heads. */
struct trailer {
    uint64_t frames;
    uint64_t packed_len;  /* of the index */
    uint64_t bytes, have; /* as in struct logs_stat */
    uint32_t sum;         /* of the packed index */
};
void trailer_encode(const struct trailer *t, uint8_t to[TRAILER_SIZE]);
bool trailer_decode(struct trailer *t, const uint8_t from[TRAILER_SIZE]);

/* A journal is a row of blocks, each with a head: spool offset, length, checksum over all of it.
 * It is written again from its beginning once all that is in it lies in frames; what is left of
 * the round before is told by its generation, a random number that blocks of one round share. */
struct block {
    uint64_t offset;
    uint32_t generation, len;
};
void block_encode_head(const struct block *b, const void *p, uint8_t to[BLOCK_HEAD_SIZE]);
/* Is there a whole block at the n bytes? Its bytes follow the head. */
bool block_decode(struct block *b, const uint8_t *at, size_t n);

#endif
