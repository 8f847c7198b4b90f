/* Writes the spool. Records are gathered and written in one go; what the disk, its floor or the
 * limit do not take is counted and told, and the job never waits for it. What must stay true: every
 * byte before `total` on disk belongs to a whole record, and the next record starts there. */
#include "agent/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void spooler_init(struct spooler *s, int dir, uint64_t max, int64_t floor_mib)
{
    s->dir = dir;
    s->fd = -1;
    s->max = max;
    s->floor_mib = floor_mib;
}

static void put(struct spooler *s, uint8_t stream, uint8_t flags, const void *p, uint32_t len)
{
    spool_encode_head(s->out + s->out_n, stream, flags, len, shim_now());
    memcpy(s->out + s->out_n + SPOOL_HEAD_SIZE, p, len);
    s->out_n += SPOOL_HEAD_SIZE + len;
    s->printed |= stream != SPOOL_SYSTEM;
}

/* What stopped begins again a quarter above the floor, or it would flutter around it. */
static bool disk_low(const struct spooler *s)
{
    struct disk_room room;
    return disk_room_of(s->dir, s->floor_mib, &room) &&
           room.free < room.floor + (s->why == SPOOLER_LOW ? room.floor / 4 : 0);
}

static void next_chunk(struct spooler *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->chunk_start = s->total;
    s->chunk_used = 0;
}

static bool chunk_open(struct spooler *s)
{
    char name[SPOOL_NAME_SIZE];
    spool_chunk_name(s->chunk_start, name);
    s->fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    return s->fd >= 0;
}

/* What a record stands for in the job's output: its bytes, and the newline that ended the line. */
static uint64_t output_bytes(uint8_t stream, uint8_t flags, uint32_t len)
{
    return stream == SPOOL_SYSTEM ? 0 : len + (flags & SPOOL_CONTINUES ? 0u : 1u);
}

static void drop(struct spooler *s, uint64_t bytes)
{
    s->dropped += bytes;
    s->untold += bytes;
}

/* The records from `at` on go nowhere. */
static void drop_rest(struct spooler *s, size_t at, int why)
{
    struct spool_record r;
    for (long took; at < s->out_n && (took = spool_decode(s->out + at, s->out_n - at, &r)) > 0;
         at += (size_t)took)
        drop(s, output_bytes(r.stream, r.flags, r.len));
    s->why = why;
    s->retry_at = shim_mono() + SPOOLER_RETRY_US;
}

/* What waits is still written, with the line that says that no more comes. */
static void stop_at_floor(struct spooler *s)
{
    static const char text[SPOOLER_LINE_MAX] =
        "log stopped: disk almost full; the job goes on, the log too once there is room";
    put(s, SPOOL_SYSTEM, 0, text, (uint32_t)strlen(text));
}

void spooler_flush(struct spooler *s)
{
    size_t done = 0;
    int why = 0;
    if (s->out_n == 0)
        return;
    bool low = s->printed && disk_low(s);
    if (low)
        stop_at_floor(s);
    if (s->fd < 0 && !chunk_open(s))
        why = errno;
    while (why == 0 && done < s->out_n) {
        ssize_t n = write(s->fd, s->out + done, s->out_n - done);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            why = errno;
    }
    size_t whole = done < s->out_n ? spool_whole(s->out, done, NULL) : done;
    s->chunk_used += (uint32_t)whole;
    s->total += whole;
    if (why != 0) {
        drop_rest(s, whole, why);
        /* A torn record must not stay in front of the next one. */
        if (whole < done && ftruncate(s->fd, s->chunk_used) != 0)
            next_chunk(s);
    }
    s->out_n = 0;
    s->printed = false;
    if (low && why == 0) {
        s->why = SPOOLER_LOW;
        s->retry_at = shim_mono() + SPOOLER_RETRY_US;
    }
}

static void room_for(struct spooler *s, size_t need)
{
    if (s->chunk_used + s->out_n + need + SPOOL_HEAD_SIZE + SPOOLER_LINE_MAX > SPOOL_CHUNK_MAX) {
        spooler_flush(s);
        next_chunk(s);
    }
    if (s->out_n + need > SPOOLER_OUT_MAX)
        spooler_flush(s);
}

/* Tells what was dropped, as the next record. False: the disk still takes nothing. */
static bool tell_dropped(struct spooler *s)
{
    uint64_t told = s->untold;
    char text[200];
    int why = s->limit_hit ? 0 : s->why;
    const char *cause = why == 0             ? "the log has reached its size limit"
                        : why == SPOOLER_LOW ? "the disk was almost full"
                                             : strerror(why);
    s->why = 0;
    if (told == 0)
        return true;
    int n = snprintf(text, sizeof(text), "%llu bytes of output were dropped: %s",
                     (unsigned long long)told, cause);
    room_for(s, SPOOL_HEAD_SIZE + (size_t)n);
    put(s, SPOOL_SYSTEM, 0, text, (uint32_t)n);
    spooler_flush(s);
    if (s->why != 0)
        return false;
    s->untold -= told;
    return true;
}

void spooler_retry(struct spooler *s)
{
    if (s->why == 0 || s->limit_hit || shim_mono() < s->retry_at)
        return;
    s->retry_at = shim_mono() + SPOOLER_RETRY_US;
    if (s->why != SPOOLER_LOW || !disk_low(s))
        tell_dropped(s);
}

void spooler_add(struct spooler *s, uint8_t stream, uint8_t flags, const void *p, uint32_t len)
{
    bool output = stream != SPOOL_SYSTEM;
    if (output && !s->limit_hit && s->total + s->out_n + SPOOL_HEAD_SIZE + len > s->max) {
        s->limit_hit = true;
        spooler_system(s,
                       "the log has reached its size limit of %llu bytes: further output is "
                       "dropped, the job goes on",
                       (unsigned long long)s->max);
    }
    bool take = !(output && s->limit_hit);
    if (take)
        spooler_retry(s);
    /* What we say ourselves is little and goes through below the floor. */
    if (!take || (s->why != 0 && (output || s->why != SPOOLER_LOW))) {
        drop(s, output_bytes(stream, flags, len));
        return;
    }
    room_for(s, SPOOL_HEAD_SIZE + len);
    put(s, stream, flags, p, len);
}

void spooler_system(struct spooler *s, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    spooler_add(s, SPOOL_SYSTEM, 0, text,
                (uint32_t)(n < (int)sizeof(text) ? n : (int)sizeof(text) - 1));
}

void spooler_finish(struct spooler *s)
{
    spooler_flush(s);
    if (s->untold > 0)
        tell_dropped(s);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* ---- lines ---- */

static void line_put(struct line *l, struct spooler *s, const uint8_t *p, size_t n, bool goes_on)
{
    spooler_add(s, l->stream, goes_on ? SPOOL_CONTINUES : 0, p, (uint32_t)n);
    l->open = goes_on;
}

void line_feed(struct line *l, struct spooler *s, const uint8_t *p, size_t n)
{
    while (n > 0) {
        if (s->limit_hit) { /* only counted: no need to look for lines */
            drop(s, n);
            return;
        }
        const uint8_t *end = memchr(p, '\n', n);
        size_t take = end != NULL ? (size_t)(end - p) : n;
        if (l->n == 0 && end != NULL && take <= SPOOL_TEXT_MAX) {
            line_put(l, s, p, take, false);
        } else {
            size_t space = SPOOL_TEXT_MAX - l->n;
            if (take > space) { /* a piece is full and the line goes on */
                memcpy(l->data + l->n, p, space);
                line_put(l, s, l->data, SPOOL_TEXT_MAX, true);
                l->n = 0;
                p += space;
                n -= space;
                continue;
            }
            if (l->n == 0)
                l->since = shim_mono();
            memcpy(l->data + l->n, p, take);
            l->n += (uint32_t)take;
            if (end != NULL) {
                line_put(l, s, l->data, l->n, false);
                l->n = 0;
            }
        }
        p += take + (end != NULL);
        n -= take + (end != NULL);
    }
}

void line_flush(struct line *l, struct spooler *s, bool final)
{
    if (l->n > 0 || (final && l->open))
        line_put(l, s, l->data, l->n, !final);
    l->n = 0;
}
