/* One attempt's log: journal, sealing, index, and getting back to a sound state after any crash.
 *
 * The order of writes is what keeps it whole:
 *   append  whole frames are sealed straight from memory, the rest goes to the journal as a block;
 *           what reached neither is forgotten again and the caller is told
 *   seal    frame to the segment file, fdatasync, then it counts. Until then the journal is not
 *           touched, so a frame that did not make it is sealed again from there, and what lies
 *           in both is skipped in the journal
 *   end     index and trailer, fdatasync, folder synced, then the journal is unlinked
 * What must stay true: sealed + tail_len is what frames and journal together hold on disk, and no
 * byte of the journal above `sealed` is ever overwritten.
 */
#include "logs/trail.h"

#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RAW_KEEP = 1 << 20, /* of a journal's file when it is begun again; over it, it should be */
    RAW_MAX = 4 << 20,  /* over it, it must be */
    TAIL_KEEP = 1 << 19 /* memory of a tail that is kept after a large append */
};

static const char seg_ending[] = "seg", raw_ending[] = "raw", tmp_ending[] = "tmp";

const char *trail_path(const struct trail *t, const char *ending, char to[TRAIL_NAME_SIZE])
{
    snprintf(to, TRAIL_NAME_SIZE, "%02x/%" PRId64 ".%s", (unsigned)(t->attempt & 0xff), t->attempt,
             ending);
    return to;
}

struct trail *trail_create(const struct trail_home *home, int64_t attempt)
{
    struct trail *t = mem_alloc(sizeof(*t));
    t->home = home;
    t->attempt = attempt;
    t->seg_fd = t->raw_fd = -1;
    t->counted.next = 1;
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void trail_destroy(struct trail *t)
{
    if (t == NULL)
        return;
    auto_fd_close(&t->seg_fd);
    auto_fd_close(&t->raw_fd);
    mem_free(t->frames);
    mem_free(t->tail);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

uint64_t trail_have(const struct trail *t)
{
    return t->complete ? t->have_at_end : t->sealed + t->tail_len;
}

uint64_t trail_bytes(const struct trail *t)
{
    return t->sealed + t->whole;
}

static int write_all(const struct trail *t, int fd, const void *p, size_t n, uint64_t at,
                     const char *ending, struct err *e)
{
    const uint8_t *from = p;
    while (n > 0) {
        long put = t->home->disk.pwrite(fd, from, n, (int64_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            char path[TRAIL_NAME_SIZE];
            if (put == 0)
                errno = ENOSPC;
            return err_sys(e, "writing the log %s", trail_path(t, ending, path));
        }
        from += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return OK;
}

static int sync_file(const struct trail *t, int fd, const char *ending, struct err *e)
{
    char path[TRAIL_NAME_SIZE];
    if (t->home->disk.fdatasync(fd) != 0)
        return err_sys(e, "syncing the log %s", trail_path(t, ending, path));
    return OK;
}

static bool read_at(int fd, void *to, size_t n, uint64_t at)
{
    uint8_t *into = to;
    while (n > 0) {
        ssize_t got = pread(fd, into, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        into += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

/* Opens DIR/XX/N.ending; -1 when it is not there and flags do not make it. */
static int open_file(const struct trail *t, const char *ending, int flags, int *fd, struct err *e)
{
    char path[TRAIL_NAME_SIZE];
    trail_path(t, ending, path);
    *fd = openat(t->home->dir_fd, path, flags | O_CLOEXEC, 0600);
    if (*fd < 0 && errno == ENOENT && (flags & O_CREAT) != 0) {
        char folder[3] = {path[0], path[1], '\0'};
        if (mkdirat(t->home->dir_fd, folder, 0700) != 0 && errno != EEXIST)
            return err_sys(e, "making the log folder %s", folder);
        *fd = openat(t->home->dir_fd, path, flags | O_CLOEXEC, 0600);
    }
    if (*fd < 0 && errno != ENOENT)
        return err_sys(e, "opening the log %s", path);
    if (*fd < 0 && (flags & O_CREAT) != 0)
        return err_sys(e, "making the log %s", path);
    return OK;
}

/* The names of both files survive a loss of power from here on. */
static int sync_names(struct trail *t, struct err *e)
{
    char folder[TRAIL_NAME_SIZE];
    trail_path(t, "", folder);
    folder[2] = '\0';
    AUTO(fd) int fd = openat(t->home->dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0 || fsync(t->home->dir_fd) != 0)
        return err_sys(e, "syncing the log folder %s", folder);
    t->seg_named = t->raw_named = true;
    return OK;
}

static void is_durable_to(struct trail *t, uint64_t offset)
{
    if (offset > t->durable)
        t->durable = offset;
}

/* What a frame says about lines and times; frames come in order. */
static void count_frame(struct trail *t, const struct frame *f)
{
    if (f->from == 0)
        t->first_us = t->last_us = f->first_us;
    if (f->last_us > t->last_us)
        t->last_us = f->last_us;
    t->counted = f->after;
}

/* The caller has counted its records (count_tail), or does so with count_frame. */
static void add_frame(struct trail *t, const struct frame *f)
{
    if (t->n_frames == t->frames_room) {
        t->frames_room = t->frames_room > 0 ? 2 * t->frames_room : 8;
        t->frames = mem_realloc(t->frames, t->frames_room * sizeof(*t->frames));
    }
    t->frames[t->n_frames++] = *f;
    t->seg_size = f->file_at + FRAME_HEAD_SIZE + f->packed_len;
    t->sealed = f->from + f->raw_len;
}

/* Counts the records that became whole in the tail; *bad: the rest can never become one. */
static void count_tail(struct trail *t, bool *bad)
{
    struct spool_record r;
    long took = SPOOL_MORE;
    while (t->whole < t->tail_len &&
           (took = spool_decode(t->tail + t->whole, t->tail_len - t->whole, &r)) > 0) {
        if (t->sealed + t->whole == 0)
            t->first_us = t->last_us = r.time_us;
        if (r.time_us > t->last_us)
            t->last_us = r.time_us;
        line_of(&t->counted, &r);
        t->whole += (size_t)took;
    }
    *bad = t->whole < t->tail_len && took == SPOOL_BAD;
}

/* ---- journal ---- */

static void new_generation(struct trail *t)
{
    random_bytes(&t->generation, sizeof(t->generation));
    t->raw_size = 0;
    t->journaled = t->sealed;
}

/* A block with the tail's bytes from spool offset `from` on, at `at` of the file fd. */
static int write_block(struct trail *t, int fd, uint64_t at, uint64_t from, const char *ending,
                       struct err *e)
{
    uint8_t head[BLOCK_HEAD_SIZE];
    const uint8_t *p = t->tail + (from - t->sealed);
    struct block b = {.offset = from,
                      .generation = t->generation,
                      .len = (uint32_t)(t->sealed + t->tail_len - from)};
    block_encode_head(&b, p, head);
    int k = write_all(t, fd, head, sizeof(head), at, ending, e);
    return k == OK ? write_all(t, fd, p, b.len, at + sizeof(head), ending, e) : k;
}

static int put_in_place(struct trail *t, int fd, struct err *e)
{
    char tmp[TRAIL_NAME_SIZE], raw[TRAIL_NAME_SIZE];
    int k = t->tail_len > 0 ? write_block(t, fd, 0, t->sealed, tmp_ending, e) : OK;
    if (k == OK)
        k = sync_file(t, fd, tmp_ending, e);
    trail_path(t, tmp_ending, tmp);
    trail_path(t, raw_ending, raw);
    if (k == OK && renameat(t->home->dir_fd, tmp, t->home->dir_fd, raw) != 0)
        k = err_sys(e, "renaming the log %s", tmp);
    return k;
}

/* Writes the journal anew with nothing but the tail, and puts it in place of the old one. Until it
 * has worked nothing may be added to the old one. */
static int journal_renew(struct trail *t, struct err *e)
{
    char tmp[TRAIL_NAME_SIZE];
    AUTO(fd) int fd = -1;
    t->raw_suspect = true;
    int k = open_file(t, tmp_ending, O_RDWR | O_CREAT | O_TRUNC, &fd, e);
    if (k != OK)
        return k;
    new_generation(t);
    if ((k = put_in_place(t, fd, e)) != OK) {
        unlinkat(t->home->dir_fd, trail_path(t, tmp_ending, tmp), 0);
        return k;
    }
    auto_fd_close(&t->raw_fd);
    t->raw_fd = fd;
    fd = -1;
    t->journaled = t->sealed + t->tail_len;
    t->raw_size = t->raw_extent = t->tail_len > 0 ? BLOCK_HEAD_SIZE + t->tail_len : 0;
    t->raw_suspect = t->raw_named = false;
    return OK;
}

/* Brings the journal up to the tail's end. */
static int journal_add(struct trail *t, struct err *e)
{
    int k = OK;
    if (t->journaled <= t->sealed) {
        new_generation(t);
        if (t->raw_extent > RAW_KEEP && ftruncate(t->raw_fd, 0) == 0)
            t->raw_extent = 0;
    }
    uint64_t n = t->sealed + t->tail_len - t->journaled;
    if (n == 0)
        return OK;
    if (t->raw_fd < 0) {
        k = open_file(t, raw_ending, O_RDWR | O_CREAT, &t->raw_fd, e);
        t->raw_named = false;
    }
    if (k == OK)
        k = write_block(t, t->raw_fd, t->raw_size, t->journaled, raw_ending, e);
    if (k != OK) {
        /* Give the room back; the next block overwrites what is left of this one. */
        if (t->raw_fd >= 0 && ftruncate(t->raw_fd, (off_t)t->raw_size) == 0)
            t->raw_extent = t->raw_size;
        return k;
    }
    t->raw_size += BLOCK_HEAD_SIZE + n;
    t->journaled += n;
    if (t->raw_size > t->raw_extent)
        t->raw_extent = t->raw_size;
    return OK;
}

static void tail_reserve(struct trail *t, size_t room)
{
    if (room <= t->tail_room && (t->tail_room <= TAIL_KEEP || room > TAIL_KEEP))
        return;
    size_t want = t->tail_room > TAIL_KEEP || t->tail_room == 0 ? 4096 : t->tail_room;
    while (want < room)
        want *= 2;
    t->tail = mem_realloc(t->tail, want);
    t->tail_room = want;
}

/* Reads the journal's blocks into the tail, less what is sealed. Cuts off what is torn or left of
 * an earlier round. */
static int journal_load(struct trail *t, struct err *e)
{
    struct stat st;
    char path[TRAIL_NAME_SIZE];
    if (fstat(t->raw_fd, &st) != 0)
        return err_sys(e, "reading the log %s", trail_path(t, raw_ending, path));
    /* One round holds at most what one append adds to an almost full frame, in blocks that may be
     * small; a larger file is not ours. */
    const uint64_t most = RAW_KEEP + 8 * (uint64_t)LOGS_APPEND_MAX;
    uint64_t size = (uint64_t)st.st_size < most ? (uint64_t)st.st_size : most;
    AUTO(mem) uint8_t *all = mem_realloc(NULL, size);
    if (!read_at(t->raw_fd, all, size, 0))
        return err_sys(e, "reading the log %s", trail_path(t, raw_ending, path));
    uint64_t at = 0, next = 0;
    struct block b;
    while (block_decode(&b, all + at, size - at) &&
           (at == 0 ? b.offset <= t->sealed : b.offset == next && b.generation == t->generation)) {
        const uint8_t *from = all + at + BLOCK_HEAD_SIZE;
        uint64_t skip = b.offset < t->sealed ? t->sealed - b.offset : 0;
        t->generation = b.generation;
        next = b.offset + b.len;
        at += BLOCK_HEAD_SIZE + (uint64_t)b.len;
        if (skip >= b.len)
            continue;
        size_t fresh = (size_t)(b.len - skip);
        tail_reserve(t, t->tail_len + fresh);
        memcpy(t->tail + t->tail_len, from + skip, fresh);
        t->tail_len += fresh;
    }
    bool bad;
    count_tail(t, &bad);
    t->raw_size = t->raw_extent = at;
    t->journaled = at > 0 ? next : t->sealed;
    if (bad) {
        t->tail_len = t->whole;
        return journal_renew(t, e); /* it must not offer these bytes again */
    }
    if ((uint64_t)st.st_size > at && ftruncate(t->raw_fd, (off_t)at) != 0)
        return err_sys(e, "cutting the log %s", trail_path(t, raw_ending, path));
    return OK;
}

/* ---- segment file ---- */

static int damaged(const struct trail *t, uint64_t at, struct err *e)
{
    char path[TRAIL_NAME_SIZE];
    return err_set(e, ERR_CORRUPT, "the log file %s is damaged at byte %" PRIu64,
                   trail_path(t, seg_ending, path), at);
}

/* Moves as many whole records as fit from the tail into a frame. */
static int seal_frame(struct trail *t, struct err *e)
{
    size_t n = t->whole;
    if (n > FRAME_RAW_MAX)
        n = spool_whole(t->tail, FRAME_RAW_MAX, NULL);
    struct frame f = {.file_at = t->seg_size, .from = t->sealed};
    struct line_count before = {.next = 1};
    if (t->n_frames > 0)
        before = t->frames[t->n_frames - 1].after;
    if (!frame_count(&f, t->tail, n, &before))
        return err_set(e, ERR_INTERNAL, "the tail of the log of attempt %" PRId64 " is not records",
                       t->attempt);
    size_t room = codec_bound(n);
    AUTO(mem) uint8_t *bytes = mem_realloc(NULL, FRAME_HEAD_SIZE + room);
    size_t packed = codec_pack(t->home->codec, t->tail, n, bytes + FRAME_HEAD_SIZE, room);
    if (packed == 0)
        return err_set(e, ERR_INTERNAL, "compressing the log of attempt %" PRId64 " failed",
                       t->attempt);
    f.packed_len = (uint32_t)packed;
    f.sum = codec_sum(0, bytes + FRAME_HEAD_SIZE, packed);
    frame_encode(&f, bytes);
    int k = OK;
    if (t->seg_fd < 0) {
        k = open_file(t, seg_ending, O_RDWR | O_CREAT, &t->seg_fd, e);
        t->seg_named = false;
    }
    if (k == OK)
        k = write_all(t, t->seg_fd, bytes, FRAME_HEAD_SIZE + packed, t->seg_size, seg_ending, e);
    if (k == OK)
        k = sync_file(t, t->seg_fd, seg_ending, e);
    if (k == OK && !t->seg_named)
        k = sync_names(t, e);
    if (k != OK) {
        /* Give the room back; a torn frame is also told by its checksum and overwritten. */
        if (t->seg_fd >= 0 && ftruncate(t->seg_fd, (off_t)t->seg_size) != 0)
            return k;
        return k;
    }
    is_durable_to(t, t->sealed + n);
    add_frame(t, &f);
    t->tail_len -= n;
    t->whole -= n;
    memmove(t->tail, t->tail + n, t->tail_len);
    return OK;
}

static bool frame_is_sound(struct trail *t, const struct frame *f)
{
    AUTO(mem) uint8_t *raw = mem_realloc(NULL, FRAME_RAW_MAX);
    return trail_unpack(t, f, raw, NULL) == OK;
}

/* The index of an ended log. False: it is not there, or not sound. */
static bool load_index(struct trail *t, uint64_t size)
{
    uint8_t bytes[TRAILER_SIZE];
    struct trailer end;
    if (size < TRAILER_SIZE || !read_at(t->seg_fd, bytes, TRAILER_SIZE, size - TRAILER_SIZE) ||
        !trailer_decode(&end, bytes))
        return false;
    uint64_t before = size - TRAILER_SIZE;
    if (end.packed_len > before || end.frames > (before - end.packed_len) / FRAME_HEAD_SIZE)
        return false;
    size_t raw_len = (size_t)end.frames * FRAME_HEAD_SIZE;
    AUTO(mem) uint8_t *packed = mem_realloc(NULL, end.packed_len);
    AUTO(mem) uint8_t *heads = mem_realloc(NULL, raw_len);
    if (!read_at(t->seg_fd, packed, end.packed_len, before - end.packed_len) ||
        codec_sum(0, packed, end.packed_len) != end.sum ||
        (end.frames > 0 && !codec_unpack(t->home->codec, packed, end.packed_len, heads, raw_len)))
        return false;
    for (uint64_t i = 0; i < end.frames; i++) {
        struct frame f = {.file_at = t->seg_size};
        const struct frame *prev = t->n_frames > 0 ? &t->frames[t->n_frames - 1] : NULL;
        if (!frame_decode(&f, heads + i * FRAME_HEAD_SIZE) || !frame_follows(&f, prev))
            return false;
        add_frame(t, &f);
    }
    if (t->seg_size != before - end.packed_len || t->sealed != end.bytes)
        return false;
    for (size_t i = 0; i < t->n_frames; i++)
        count_frame(t, &t->frames[i]);
    t->complete = true;
    t->have_at_end = end.have;
    t->durable = end.have;
    return true;
}

static void forget_frames(struct trail *t)
{
    t->n_frames = 0;
    t->seg_size = t->sealed = 0;
    t->first_us = t->last_us = 0;
    t->counted = (struct line_count){.next = 1};
}

/* Finds the frames by their heads, as far as they are sound, and cuts off the rest. */
static int scan_frames(struct trail *t, uint64_t size, struct err *e)
{
    uint8_t head[FRAME_HEAD_SIZE];
    while (size - t->seg_size >= FRAME_HEAD_SIZE) {
        struct frame f = {.file_at = t->seg_size};
        const struct frame *prev = t->n_frames > 0 ? &t->frames[t->n_frames - 1] : NULL;
        if (!read_at(t->seg_fd, head, sizeof(head), t->seg_size) || !frame_decode(&f, head) ||
            !frame_follows(&f, prev) || f.packed_len > size - t->seg_size - FRAME_HEAD_SIZE)
            break;
        add_frame(t, &f);
    }
    /* Frames are synced one by one, so only the last can have a head without its bytes. */
    if (t->n_frames > 0 && !frame_is_sound(t, &t->frames[t->n_frames - 1])) {
        size_t keep = t->n_frames - 1;
        forget_frames(t);
        for (size_t i = 0; i < keep; i++)
            add_frame(t, &t->frames[i]);
    }
    for (size_t i = 0; i < t->n_frames; i++)
        count_frame(t, &t->frames[i]);
    t->durable = t->sealed;
    if (t->seg_size < size && ftruncate(t->seg_fd, (off_t)t->seg_size) != 0) {
        char path[TRAIL_NAME_SIZE];
        return err_sys(e, "cutting the log %s", trail_path(t, seg_ending, path));
    }
    return OK;
}

int trail_load(struct trail *t, struct err *e)
{
    char path[TRAIL_NAME_SIZE];
    auto_fd_close(&t->seg_fd);
    auto_fd_close(&t->raw_fd);
    t->seg_fd = t->raw_fd = -1;
    t->tail_len = t->whole = 0;
    forget_frames(t);
    int k = open_file(t, seg_ending, O_RDWR, &t->seg_fd, e);
    if (k == OK && t->seg_fd >= 0) {
        struct stat st;
        if (fstat(t->seg_fd, &st) != 0)
            return err_sys(e, "reading the log %s", trail_path(t, seg_ending, path));
        if (load_index(t, (uint64_t)st.st_size)) {
            /* The end came between the index and the journal's removal, if there still is one. */
            unlinkat(t->home->dir_fd, trail_path(t, raw_ending, path), 0);
            t->loaded = true;
            return OK;
        }
        forget_frames(t);
        k = scan_frames(t, (uint64_t)st.st_size, e);
    }
    if (k == OK)
        k = open_file(t, raw_ending, O_RDWR, &t->raw_fd, e);
    if (k == OK && t->raw_fd >= 0)
        k = journal_load(t, e);
    t->loaded = k == OK;
    return k;
}

int trail_unpack(struct trail *t, const struct frame *f, uint8_t *to, struct err *e)
{
    AUTO(mem) uint8_t *packed = mem_realloc(NULL, f->packed_len);
    if (!read_at(t->seg_fd, packed, f->packed_len, f->file_at + FRAME_HEAD_SIZE) ||
        codec_sum(0, packed, f->packed_len) != f->sum ||
        !codec_unpack(t->home->codec, packed, f->packed_len, to, f->raw_len))
        return damaged(t, f->file_at, e);
    /* A frame that is sound by checksum but not by its own counts is not ours. */
    struct frame seen = {0};
    if (!frame_count(&seen, to, f->raw_len, &f->before) ||
        memcmp(seen.records, f->records, sizeof(seen.records)) != 0 ||
        memcmp(&seen.after, &f->after, sizeof(seen.after)) != 0 || seen.last_us != f->last_us)
        return damaged(t, f->file_at, e);
    return OK;
}

/* ---- what logs.c asks for ---- */

/* Brings the tail, which has grown in memory, to disk: frames first, the journal for the rest. What
 * cannot be written is forgotten again. */
static int settle(struct trail *t, struct err *e)
{
    bool unused;
    count_tail(t, &unused);
    /* A frame that fails is tried again by the next append, if the journal takes its bytes. */
    while (t->whole >= FRAME_RAW_MAX && seal_frame(t, NULL) == OK)
        ;
    int k = journal_add(t, e);
    if (k == OK) {
        /* With records of an unlucky size it always holds the start of the next frame and is never
         * begun again by itself. Failing here is no harm yet. */
        if (t->raw_size > RAW_KEEP)
            journal_renew(t, NULL);
        return OK;
    }
    t->tail_len = t->journaled > t->sealed ? (size_t)(t->journaled - t->sealed) : 0;
    t->whole = 0;
    t->first_us = t->last_us = 0;
    t->counted = (struct line_count){.next = 1};
    for (size_t i = 0; i < t->n_frames; i++)
        count_frame(t, &t->frames[i]);
    count_tail(t, &unused);
    return k;
}

int trail_append(struct trail *t, uint64_t offset, const uint8_t *p, size_t n, struct err *e)
{
    uint64_t have = trail_have(t);
    if (offset > have)
        return err_set(e, ERR_CONFLICT,
                       "the log of attempt %" PRId64 " has %" PRIu64 " bytes, %" PRIu64
                       " would leave a gap",
                       t->attempt, have, offset);
    if (n <= have - offset)
        return OK;
    p += have - offset;
    n -= (size_t)(have - offset);
    if (t->complete)
        return err_set(e, ERR_CONFLICT, "the log of attempt %" PRId64 " has ended", t->attempt);
    /* Memory and journal are bounded by sealing first. */
    int k;
    while (t->whole >= FRAME_RAW_MAX)
        if ((k = seal_frame(t, e)) != OK)
            return k;
    if ((t->raw_suspect || t->raw_size > RAW_MAX) && (k = journal_renew(t, e)) != OK)
        return k;
    tail_reserve(t, t->tail_len + n);
    memcpy(t->tail + t->tail_len, p, n);
    /* Look before taking: what is no record never reaches the disk. */
    bool bad;
    size_t good = t->whole + spool_whole(t->tail + t->whole, t->tail_len + n - t->whole, &bad);
    if (bad && good < t->tail_len) {
        /* The fault lies in bytes that were taken before, as the start of a record. */
        t->tail_len = t->whole;
        if ((k = journal_renew(t, e)) != OK)
            return k;
    } else {
        t->tail_len = bad ? good : t->tail_len + n;
        if ((k = settle(t, e)) != OK)
            return k;
    }
    tail_reserve(t, t->tail_len);
    if (bad)
        return err_set(e, ERR_MALFORMED,
                       "the bytes for the log of attempt %" PRId64 " are no record at %" PRIu64,
                       t->attempt, trail_have(t));
    return OK;
}

int trail_sync(struct trail *t, struct err *e)
{
    uint64_t have = trail_have(t);
    if (t->complete || t->durable >= have)
        return OK;
    int k = t->raw_suspect ? journal_renew(t, e) : sync_file(t, t->raw_fd, raw_ending, e);
    if (k == OK && !t->raw_named)
        k = sync_names(t, e);
    if (k != OK) {
        t->raw_suspect = true;
        return k;
    }
    is_durable_to(t, have);
    return OK;
}

int trail_end(struct trail *t, struct err *e)
{
    int k;
    char path[TRAIL_NAME_SIZE];
    if (t->complete)
        return OK;
    while (t->whole > 0)
        if ((k = seal_frame(t, e)) != OK)
            return k;
    if (t->seg_fd < 0) {
        if ((k = open_file(t, seg_ending, O_RDWR | O_CREAT, &t->seg_fd, e)) != OK)
            return k;
        t->seg_named = false;
    }
    size_t raw_len = t->n_frames * FRAME_HEAD_SIZE, room = codec_bound(raw_len);
    AUTO(mem) uint8_t *heads = mem_realloc(NULL, raw_len);
    AUTO(mem) uint8_t *bytes = mem_realloc(NULL, room + TRAILER_SIZE);
    for (size_t i = 0; i < t->n_frames; i++)
        frame_encode(&t->frames[i], heads + i * FRAME_HEAD_SIZE);
    size_t packed = raw_len > 0 ? codec_pack(t->home->codec, heads, raw_len, bytes, room) : 0;
    if (raw_len > 0 && packed == 0)
        return err_set(e, ERR_INTERNAL, "compressing the log of attempt %" PRId64 " failed",
                       t->attempt);
    uint64_t have = trail_have(t);
    trailer_encode(&(struct trailer){.frames = t->n_frames,
                                     .packed_len = packed,
                                     .bytes = t->sealed,
                                     .have = have,
                                     .sum = codec_sum(0, bytes, packed)},
                   bytes + packed);
    k = write_all(t, t->seg_fd, bytes, packed + TRAILER_SIZE, t->seg_size, seg_ending, e);
    if (k == OK)
        k = sync_file(t, t->seg_fd, seg_ending, e);
    if (k == OK && !t->seg_named)
        k = sync_names(t, e);
    if (k != OK) {
        if (ftruncate(t->seg_fd, (off_t)t->seg_size) != 0)
            return k;
        return k;
    }
    is_durable_to(t, have);
    t->complete = true;
    t->have_at_end = have;
    t->tail_len = 0;
    mem_free(TAKE(t->tail));
    t->tail_room = 0;
    auto_fd_close(&t->raw_fd);
    t->raw_fd = -1;
    unlinkat(t->home->dir_fd, trail_path(t, raw_ending, path), 0);
    return OK;
}

int trail_unlink(struct trail *t, struct err *e)
{
    static const char *const endings[] = {raw_ending, tmp_ending, seg_ending};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        char path[TRAIL_NAME_SIZE];
        trail_path(t, endings[i], path);
        if (unlinkat(t->home->dir_fd, path, 0) != 0 && errno != ENOENT)
            return err_sys(e, "removing the log %s", path);
    }
    return OK;
}
