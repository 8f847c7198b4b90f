/* One attempt's log on disk and what is known of it in memory. Not public: logs.c keeps the open
 * ones and locks them, read.c reads them.
 *
 * Threads: the caller holds trail->lock for every call. */
#ifndef LOGS_TRAIL_H
#define LOGS_TRAIL_H

#include "logs/codec.h"
#include "logs/logs.h"
#include "logs/segment.h"

#include <pthread.h>

struct trail_home { /* what all trails of a store share; never changes */
    int dir_fd;
    struct codec *codec;
    struct logs_disk disk;
};

struct trail {
    const struct trail_home *home;
    int64_t attempt;
    pthread_mutex_t lock;
    bool loaded;
    bool gone; /* deleted: whoever waited for the lock must look it up anew */

    int seg_fd, raw_fd; /* -1: no such file (yet) */
    struct frame *frames;
    size_t n_frames, frames_room;
    uint64_t seg_size;         /* file position behind the last frame */
    uint64_t sealed;           /* spool offset behind the last frame */
    struct line_count counted; /* behind the last whole record */
    int64_t first_us, last_us;

    uint8_t *tail; /* spool bytes from `sealed` on, also what is torn */
    size_t tail_len, tail_room;
    size_t whole;        /* bytes of tail that are whole records */
    uint64_t journaled;  /* spool offset up to which the journal goes; at most `sealed`: it may be
                            written again from its beginning */
    uint64_t raw_size;   /* file position behind the journal's last block */
    uint64_t raw_extent; /* the file's length */
    uint32_t generation; /* of its blocks */
    bool raw_suspect;    /* a sync or cut failed: write it anew */

    uint64_t durable;
    bool seg_named, raw_named; /* the file's entry in its folder was synced */
    bool complete;
    uint64_t have_at_end; /* complete: `have`, a torn record included */

    /* logs.c: the table and the list of least recent use, under its lock */
    struct trail *next_in_bucket, *newer, *older;
    int pins;
};

struct trail *trail_create(const struct trail_home *home, int64_t attempt);
void trail_destroy(struct trail *t);
/* Reads what is on disk and cuts off what is torn. */
int trail_load(struct trail *t, struct err *e);
int trail_append(struct trail *t, uint64_t offset, const uint8_t *p, size_t n, struct err *e);
int trail_sync(struct trail *t, struct err *e);
int trail_end(struct trail *t, struct err *e);
int trail_unlink(struct trail *t, struct err *e);
uint64_t trail_have(const struct trail *t);
uint64_t trail_bytes(const struct trail *t);
/* Unpacks a frame; to has room for its raw_len bytes. */
int trail_unpack(struct trail *t, const struct frame *f, uint8_t *to, struct err *e);
/* "log of attempt 17" for the texts of errors */
enum { TRAIL_NAME_SIZE = 48 };
/* "11/17.seg" inside the store's folder */
const char *trail_path(const struct trail *t, const char *ending, char to[TRAIL_NAME_SIZE]);

int trail_read(struct trail *t, const struct logs_query *q, struct arena *a, struct logs_page *out,
               struct err *e);

#endif
