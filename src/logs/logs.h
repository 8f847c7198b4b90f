/* What jobs printed, kept for ever and found quickly: one log an attempt, on the server's disk.
 *
 * A log is the attempt's spool byte stream (base/spool.h) and nothing else: whoever appends names
 * the offset of the first byte, so a repeat is ignored, a gap is refused, and after any crash both
 * sides go on from the same number.
 *
 * On disk, in DIR/XX/ (XX: low byte of the attempt in hex, so that 100,000 logs do not lie in one
 * folder):
 *   N.seg   frames: a head of 120 bytes (offset, first line, counts, times, checksums) and up to
 *           256 KiB of whole records, compressed by zstd. When the attempt has ended an index of
 *           all frames follows, so that a seek by offset, line or time reads one frame.
 *   N.raw   a journal of what is not in a frame yet: a row of checked blocks, begun again when all
 *           of it lies in frames; gone once the attempt has ended.
 * A torn tail of either (kill -9, power loss) is found by checksum and cut off when the log is
 * opened next; what a reader sees is always a prefix of what was appended, in whole records.
 *
 * Lines are counted from 1 over all streams in the order in which their first piece came. A line
 * longer than 64 KiB is several pieces: they share n, and all but the last are `partial`.
 *
 * Memory: at most settings.open_max logs are open at a time (least recently used goes first), each
 * with two descriptors, up to 256 KiB of journal and 152 bytes for each of its frames. A page of a
 * read is bounded by its query.
 *
 * Threads: every call from any thread. Calls for one attempt wait for each other; calls for
 * different attempts do not. Nothing here may be called from inside a watch except logs_stat and
 * logs_read.
 *
 * Errors: ERR_FULL (disk full: nothing half-written is visible, *have tells what was taken, the
 * rest works once there is room), ERR_CORRUPT (stored bytes are not what we wrote; the text names
 * the file), ERR_IO, and those named below.
 */
#ifndef LOGS_LOGS_H
#define LOGS_LOGS_H

#include "base/disk.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/spool.h"

#include <stdint.h>

struct logs;

/* For err_translate_with(). */
extern const struct err_text logs_texts_zh[];

/* The disk below, replaceable so that a test can make it full or failing. */
struct logs_disk {
    long (*pwrite)(int fd, const void *p, size_t n, int64_t at); /* as pwrite(2) */
    int (*fdatasync)(int fd);
};

struct logs_settings {
    int open_max;                 /* logs open at a time; 0: default (128) */
    int level;                    /* of zstd; 0: default (3) */
    int64_t floor_mib;            /* see logs_append(); 0: none, DISK_FLOOR_AUTO */
    const struct logs_disk *disk; /* NULL: the real one */
};

/* Makes dir if need be. settings may be NULL. One process at a time may have dir open (ERR_CONFLICT
 * otherwise). */
int logs_open(const char *dir, const struct logs_settings *settings, struct logs **out,
              struct err *e);
/* No call may be in progress, no watch registered. Loses nothing; syncs nothing. NULL is fine. */
void logs_close(struct logs *l);

/* ---- writing ---- */

enum { LOGS_APPEND_MAX = 4 << 20 }; /* bytes of one call: protects the journal's memory */

/* Adds n bytes of the spool that start at offset; they may begin and end inside a record. Bytes
 * that are there already are skipped without being compared. *have = where the next append must
 * start; it is written on failure too, unless the log could not be opened at all. have may be NULL.
 *   ERR_CONFLICT   offset is beyond *have (a gap), or the log has ended and this would add to it
 *   ERR_MALFORMED  the bytes are not records: the whole records before the fault are kept and
 *                  *have stands behind them; the rest can never be taken
 *   ERR_TOO_LARGE  n is over LOGS_APPEND_MAX
 *   ERR_FULL       also while less than half of the disk's floor (base/disk.h) is free: the rest is
 *                  for the database */
int logs_append(struct logs *l, int64_t attempt, uint64_t offset, const void *bytes, size_t n,
                uint64_t *have, struct err *e);
/* Bytes below *offset survive a loss of power. Grows with each sealed frame, by logs_sync and by
 * logs_end; after a restart it may stand lower than was told before, the bytes are still there. An
 * unknown attempt has 0. */
int logs_durable(struct logs *l, int64_t attempt, uint64_t *offset, struct err *e);
/* Makes all that was appended durable and tells how much that is. offset may be NULL. */
int logs_sync(struct logs *l, int64_t attempt, uint64_t *offset, struct err *e);
/* The attempt will print no more: seals, writes the index, syncs. A record that is still torn is
 * dropped. Also for an attempt that never printed. Repeating it is harmless. */
int logs_end(struct logs *l, int64_t attempt, struct err *e);
/* Removes the files. Unknown attempts are fine. A watch of it stays registered and silent. */
int logs_delete(struct logs *l, int64_t attempt, struct err *e);

/* The disk of the logs. False: it cannot be told, or no floor is set. */
bool logs_room(struct logs *l, struct disk_room *out);

/* ---- reading ---- */

struct logs_stat {
    uint64_t have;    /* bytes appended: where the next append must start */
    uint64_t bytes;   /* of whole records, which is what readers see */
    uint64_t durable; /* see logs_durable */
    uint64_t stored;  /* bytes on disk */
    int64_t lines;    /* begun so far, all streams */
    int64_t first_us; /* time of the first record; 0 when there is none */
    int64_t last_us;  /* the latest time of any record */
    bool complete;    /* logs_end was called */
};
/* An unknown attempt has a log of no bytes. */
int logs_stat(struct logs *l, int64_t attempt, struct logs_stat *out, struct err *e);

enum { LOGS_OUT = 1 << SPOOL_OUT, LOGS_ERR = 1 << SPOOL_ERR, LOGS_SYSTEM = 1 << SPOOL_SYSTEM };
enum logs_from {
    LOGS_FROM_START,
    LOGS_FROM_OFFSET, /* at: spool offset; inside a record: the next one */
    LOGS_FROM_LINE,   /* at: line number */
    LOGS_FROM_TIME,   /* at: UTC µs; the first record that is not older */
    LOGS_FROM_TAIL,   /* at: how many records before the end (of the wanted streams) */
};
enum {
    LOGS_LINES_DEFAULT = 1000,
    LOGS_LINES_MAX = 100000, /* protects the arena of a read */
    LOGS_BYTES_DEFAULT = 1 << 20,
    LOGS_BYTES_MAX = 16 << 20,
};
struct logs_query {
    enum logs_from from;
    int64_t at;
    unsigned streams; /* LOGS_OUT | …; 0: all */
    size_t max_lines; /* 0: default */
    size_t max_bytes; /* of text; 0: default. At least one record is given if there is one */
};
struct log_line {
    int64_t n;       /* line number from 1 */
    uint64_t offset; /* of its record in the spool */
    int64_t at_us;
    enum spool_stream stream;
    bool partial;     /* the line goes on in a later record of this stream */
    const char *text; /* the bytes as printed, and a NUL; not cleaned: may hold anything */
    size_t len;
};
struct logs_page {
    struct log_line *lines; /* in the arena */
    size_t n;
    uint64_t next_offset; /* read on from here; equals stat.bytes when all was seen */
    bool complete;        /* the log has ended and nothing is left behind next_offset */
};
/* An unknown attempt gives an empty page. query may be NULL: the first lines. */
int logs_read(struct logs *l, int64_t attempt, const struct logs_query *query, struct arena *a,
              struct logs_page *out, struct err *e);

/* ---- waking up who follows ---- */

/* Called on the appending thread after bytes became readable (bytes as in logs_stat) and once more
 * when the log has ended. Must not block. */
typedef void logs_watch_fn(void *ctx, int64_t attempt, uint64_t bytes, bool ended);
/* The same fn and ctx may watch several attempts. Bytes from before are not told: read first what
 * is there, after logs_watch() has returned. */
void logs_watch(struct logs *l, int64_t attempt, logs_watch_fn *fn, void *ctx);
/* When it returns fn is not running for this attempt and ctx and will not run again. Unknown
 * triples are fine. */
void logs_unwatch(struct logs *l, int64_t attempt, logs_watch_fn *fn, void *ctx);

#endif
