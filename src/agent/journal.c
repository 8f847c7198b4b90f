/* Attempt ids on disk. What must stay true: a record is decoded only if its checksum fits, one
 * bad record does not hide those after it, and what was synced survives a power cut. */
#include "agent/journal.h"

#include "base/mem.h"
#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1024, COMPACT_LEAST = 16384 };
static const char journal_name[] = "journal", journal_new[] = "journal.new";

struct journal {
    int dir, fd;
    char boot_id[BOOT_ID_SIZE];
    struct buf pending;
    uint64_t size;                /* bytes on disk, whole records */
    int64_t kept[FORGOTTEN_KEPT]; /* ring of forgotten ids */
    size_t n_kept, at_kept;
    int64_t floor;
};

/* ---- records: u8 kind | u8 version | u16 0 | u32 crc | i64 id | i64 time | char boot[37] | 0 ---
 */

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

static void put64(uint8_t *to, int64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)((uint64_t)v >> (8 * i));
}

static int64_t get64(const uint8_t *from)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)from[i] << (8 * i);
    return (int64_t)v;
}

static uint32_t record_crc(const uint8_t *r)
{
    uint8_t copy[JOURNAL_RECORD_SIZE];
    memcpy(copy, r, sizeof(copy));
    memset(copy + 4, 0, 4);
    return crc32_of(copy, sizeof(copy));
}

void journal_encode(const struct journal_record *r, uint8_t to[JOURNAL_RECORD_SIZE])
{
    memset(to, 0, JOURNAL_RECORD_SIZE);
    to[0] = (uint8_t)r->kind;
    to[1] = 1;
    put64(to + 8, r->id);
    put64(to + 16, r->time_us);
    memcpy(to + 24, r->boot_id, strnlen(r->boot_id, BOOT_ID_SIZE - 1));
    uint32_t crc = record_crc(to);
    for (int i = 0; i < 4; i++)
        to[4 + i] = (uint8_t)(crc >> (8 * i));
}

bool journal_decode(const uint8_t from[JOURNAL_RECORD_SIZE], struct journal_record *out)
{
    uint32_t crc = 0;
    for (int i = 0; i < 4; i++)
        crc |= (uint32_t)from[4 + i] << (8 * i);
    if (from[0] < JOURNAL_ACCEPTED || from[0] > JOURNAL_FLOOR || from[1] != 1 ||
        crc != record_crc(from) || from[24 + BOOT_ID_SIZE - 1] != 0)
        return false;
    *out = (struct journal_record){(enum journal_kind)from[0], get64(from + 8), get64(from + 16)};
    memcpy(out->boot_id, from + 24, BOOT_ID_SIZE);
    return true;
}

/* ---- forgotten ids ---- */

static void keep_forgotten(struct journal *j, int64_t id)
{
    if (j->n_kept == FORGOTTEN_KEPT && j->kept[j->at_kept] > j->floor)
        j->floor = j->kept[j->at_kept];
    j->kept[j->at_kept] = id;
    j->at_kept = (j->at_kept + 1) % FORGOTTEN_KEPT;
    if (j->n_kept < FORGOTTEN_KEPT)
        j->n_kept++;
}

bool journal_forgotten(const struct journal *j, int64_t id, bool *exactly)
{
    *exactly = false;
    for (size_t i = 0; i < j->n_kept && !*exactly; i++)
        *exactly = j->kept[i] == id;
    return *exactly || id <= j->floor;
}

/* ---- reading ---- */

struct loading {
    struct journal_record *live;
    size_t n, cap;
};

static int by_id(const void *a, const void *b)
{
    int64_t x = ((const struct journal_record *)a)->id, y = ((const struct journal_record *)b)->id;
    return x < y ? -1 : x > y;
}

/* Collected first and sorted once: forgetting by searching would be quadratic. */
static void load_record(struct loading *l, struct journal *j, const struct journal_record *r)
{
    if (r->kind == JOURNAL_FLOOR) {
        if (r->id > j->floor)
            j->floor = r->id;
        return;
    }
    if (r->kind == JOURNAL_FORGOTTEN)
        keep_forgotten(j, r->id);
    if (l->n == l->cap)
        l->live = mem_realloc(l->live, (l->cap = l->cap ? l->cap * 2 : 1024) * sizeof(*l->live));
    l->live[l->n++] = *r;
}

static void tell_live(struct loading *l, void (*tell)(void *, const struct journal_record *),
                      void *ctx)
{
    if (l->n > 0)
        qsort(l->live, l->n, sizeof(*l->live), by_id);
    for (size_t i = 0, next; i < l->n; i = next) {
        bool forgotten = false;
        for (next = i; next < l->n && l->live[next].id == l->live[i].id; next++)
            forgotten |= l->live[next].kind == JOURNAL_FORGOTTEN;
        if (!forgotten)
            tell(ctx, &l->live[i]);
    }
}

static int load(struct journal *j, struct loading *l, size_t *bad, struct err *e)
{
    uint64_t at = 0, good_end = 0;
    size_t bad_here = 0;
    AUTO(mem) uint8_t *block = mem_alloc(READ_AT_ONCE * JOURNAL_RECORD_SIZE);
    for (;;) {
        ssize_t n = pread(j->fd, block, READ_AT_ONCE * JOURNAL_RECORD_SIZE, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, "cannot read the agent's journal");
        size_t whole = (size_t)n / JOURNAL_RECORD_SIZE;
        if (whole == 0)
            break;
        for (size_t i = 0; i < whole; i++) {
            struct journal_record r;
            if (!journal_decode(block + i * JOURNAL_RECORD_SIZE, &r)) {
                bad_here++;
                continue;
            }
            load_record(l, j, &r);
            good_end = at + (i + 1) * JOURNAL_RECORD_SIZE;
        }
        at += whole * JOURNAL_RECORD_SIZE;
    }
    /* What follows the last good record was being written when the power went. */
    bad_here -= (size_t)((at - good_end) / JOURNAL_RECORD_SIZE);
    if (ftruncate(j->fd, (off_t)good_end) != 0)
        return err_sys(e, "cannot cut the torn end of the agent's journal");
    j->size = good_end;
    *bad = bad_here;
    return OK;
}

int journal_open(int dir, const char *boot_id, struct journal **out,
                 void (*tell)(void *ctx, const struct journal_record *r), void *ctx, size_t *bad,
                 struct err *e)
{
    AUTO(journal) struct journal *j = mem_alloc(sizeof(*j));
    j->dir = dir;
    j->fd = openat(dir, journal_name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->fd < 0)
        return err_sys(e, "cannot open the agent's journal");
    memcpy(j->boot_id, boot_id, strnlen(boot_id, BOOT_ID_SIZE - 1));
    j->floor = INT64_MIN;
    j->pending.max = 64 << 20;
    struct loading l = {0};
    int k = load(j, &l, bad, e);
    if (k == OK && fsync(dir) != 0) /* the journal's own name */
        k = err_sys(e, "cannot make the agent's folder durable");
    if (k == OK) {
        tell_live(&l, tell, ctx);
        *out = TAKE(j);
    }
    mem_free(l.live);
    return k;
}

void journal_close(struct journal *j)
{
    if (j == NULL)
        return;
    if (j->fd >= 0)
        close(j->fd);
    buf_fini(&j->pending);
    mem_free(j);
}

/* ---- writing ---- */

void journal_add(struct journal *j, enum journal_kind kind, int64_t id)
{
    uint8_t bytes[JOURNAL_RECORD_SIZE];
    struct journal_record r = {kind, id, now_us()};
    memcpy(r.boot_id, j->boot_id, sizeof(r.boot_id));
    journal_encode(&r, bytes);
    buf_add(&j->pending, bytes, sizeof(bytes));
    if (kind == JOURNAL_FORGOTTEN)
        keep_forgotten(j, id);
}

static int put_all(int fd, const char *p, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t put = pwrite(fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

/* At a fixed place, not at the end of the file: half a record that a full disk left behind is
 * written over by the next one. */
static int put_pending(struct journal *j, struct err *e)
{
    if (put_all(j->fd, j->pending.data, j->pending.len, j->size) != 0)
        return err_sys(e, "cannot write the agent's journal");
    return OK;
}

static int written(struct journal *j)
{
    j->size += j->pending.len;
    buf_reset(&j->pending);
    return OK;
}

int journal_write(struct journal *j, struct err *e)
{
    int k = j->pending.len > 0 ? put_pending(j, e) : OK;
    return k == OK ? written(j) : k;
}

int journal_sync(struct journal *j, struct err *e)
{
    /* After a failed fdatasync the kernel may count the pages as clean: they are kept here and
     * written again by the next call. */
    int k = j->pending.len > 0 ? put_pending(j, e) : OK;
    if (k == OK && fdatasync(j->fd) != 0)
        k = err_sys(e, "cannot make the agent's journal durable");
    return k == OK ? written(j) : k;
}

bool journal_wants_compact(const struct journal *j, size_t live)
{
    uint64_t least = (live + j->n_kept + 1) * JOURNAL_RECORD_SIZE;
    return j->size > (uint64_t)COMPACT_LEAST * JOURNAL_RECORD_SIZE && j->size > 2 * least;
}

int journal_compact(struct journal *j, const struct journal_record *live, size_t n, struct err *e)
{
    AUTO(buf) struct buf all = {0};
    uint8_t bytes[JOURNAL_RECORD_SIZE];
    struct journal_record r = {JOURNAL_FLOOR, j->floor, now_us()};
    journal_encode(&r, bytes);
    buf_add(&all, bytes, sizeof(bytes));
    for (size_t i = 0; i < j->n_kept; i++) { /* oldest first */
        size_t from = j->n_kept == FORGOTTEN_KEPT ? j->at_kept : 0;
        r = (struct journal_record){JOURNAL_FORGOTTEN, j->kept[(from + i) % FORGOTTEN_KEPT],
                                    now_us()};
        journal_encode(&r, bytes);
        buf_add(&all, bytes, sizeof(bytes));
    }
    for (size_t i = 0; i < n; i++) {
        journal_encode(&live[i], bytes);
        buf_add(&all, bytes, sizeof(bytes));
    }
    AUTO(fd) int fd = openat(j->dir, journal_new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || put_all(fd, all.data, all.len, 0) != 0 || fdatasync(fd) != 0 ||
        renameat(j->dir, journal_new, j->dir, journal_name) != 0 || fsync(j->dir) != 0)
        return err_sys(e, "cannot rewrite the agent's journal");
    int old = j->fd;
    j->fd = fd;
    fd = old; /* closed on the way out */
    j->size = all.len;
    return OK;
}
