/* A page of a log: find the frame where it begins by the index, then walk records until the page
 * is full. Frames without a record of the wanted streams are stepped over unread, so the work is
 * bounded by the page and not by the log.
 */
#include "logs/trail.h"

#include <string.h>

struct walk {
    const struct logs_query *q;
    unsigned streams;
    size_t max_lines, max_bytes;
    int64_t skip; /* TAIL: wanted records before the page begins */
    bool began;   /* the place where the page begins was passed */
    bool full;
    struct arena *a;
    struct logs_page page;
    size_t room, bytes;
};

static bool wanted(const struct walk *w, unsigned stream)
{
    return (w->streams & (1u << stream)) != 0;
}

static int64_t wanted_in_frame(const struct walk *w, const struct frame *f)
{
    int64_t n = 0;
    for (unsigned i = 0; i < STREAMS; i++)
        if (wanted(w, i + 1))
            n += f->records[i];
    return n;
}

static bool begins_here(struct walk *w, const struct spool_record *r, uint64_t offset, int64_t n)
{
    switch (w->q->from) {
    case LOGS_FROM_START:
        return true;
    case LOGS_FROM_OFFSET:
        return offset >= (uint64_t)w->q->at;
    case LOGS_FROM_LINE:
        return n >= w->q->at;
    case LOGS_FROM_TIME:
        return r->time_us >= w->q->at;
    case LOGS_FROM_TAIL:
        return wanted(w, r->stream) && w->skip-- <= 0;
    }
    return true;
}

static void add_line(struct walk *w, const struct spool_record *r, uint64_t offset, int64_t n)
{
    if (w->page.n == w->room) {
        size_t room = w->room > 0 ? 2 * w->room : 64;
        struct log_line *lines = arena_alloc(w->a, room * sizeof(*lines));
        if (w->page.n > 0)
            memcpy(lines, w->page.lines, w->page.n * sizeof(*lines));
        w->page.lines = lines;
        w->room = room;
    }
    w->page.lines[w->page.n++] = (struct log_line){
        .n = n,
        .offset = offset,
        .at_us = r->time_us,
        .stream = (enum spool_stream)r->stream,
        .partial = (r->flags & SPOOL_CONTINUES) != 0,
        .text = arena_strndup(w->a, (const char *)r->data, r->len),
        .len = r->len};
    w->bytes += r->len;
}

/* The n bytes at raw are whole records from spool offset `from` on. */
static void walk_records(struct walk *w, const uint8_t *raw, size_t n, uint64_t from,
                         struct line_count count)
{
    struct spool_record r;
    for (size_t at = 0; at < n && !w->full;) {
        long took = spool_decode(raw + at, n - at, &r);
        if (took <= 0)
            return; /* frames are checked before, so this is the tail's torn record */
        uint64_t offset = from + at;
        int64_t line = line_of(&count, &r);
        if (!w->began)
            w->began = begins_here(w, &r, offset, line);
        if (w->began && wanted(w, r.stream)) {
            if (w->page.n >= w->max_lines || (w->page.n > 0 && w->bytes + r.len > w->max_bytes)) {
                w->full = true;
                w->page.next_offset = offset;
                return;
            }
            add_line(w, &r, offset, line);
        }
        at += (size_t)took;
        w->page.next_offset = from + at;
    }
}

/* The first frame that can hold the beginning of the page; n_frames: it lies in the tail. */
static size_t first_frame(const struct trail *t, const struct walk *w)
{
    size_t low = 0, high = t->n_frames;
    switch (w->q->from) {
    case LOGS_FROM_OFFSET:
    case LOGS_FROM_LINE:
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            const struct frame *f = &t->frames[mid];
            bool before = w->q->from == LOGS_FROM_LINE ? f->after.next <= w->q->at
                                                       : f->from + f->raw_len <= (uint64_t)w->q->at;
            if (before)
                low = mid + 1;
            else
                high = mid;
        }
        return low;
    case LOGS_FROM_TIME: /* clocks are set back: times need not rise */
        while (low < high && t->frames[low].last_us < w->q->at)
            low++;
        return low;
    default:
        return 0;
    }
}

/* TAIL: goes back from the end until enough wanted records lie ahead. */
static size_t tail_frame(const struct trail *t, struct walk *w)
{
    int64_t ahead = 0;
    struct spool_record r;
    for (size_t at = 0; at < t->whole;) {
        at += (size_t)spool_decode(t->tail + at, t->whole - at, &r);
        ahead += wanted(w, r.stream);
    }
    size_t i = t->n_frames;
    while (i > 0 && ahead < w->q->at)
        ahead += wanted_in_frame(w, &t->frames[--i]);
    w->skip = ahead > w->q->at ? ahead - w->q->at : 0;
    return i;
}

int trail_read(struct trail *t, const struct logs_query *q, struct arena *a, struct logs_page *out,
               struct err *e)
{
    static const struct logs_query from_start;
    struct walk w = {.q = q != NULL ? q : &from_start, .a = a};
    unsigned all = LOGS_OUT | LOGS_ERR | LOGS_SYSTEM;
    w.streams = w.q->streams != 0 ? w.q->streams & all : all;
    w.max_lines = w.q->max_lines > 0 ? w.q->max_lines : LOGS_LINES_DEFAULT;
    if (w.max_lines > LOGS_LINES_MAX)
        w.max_lines = LOGS_LINES_MAX;
    w.max_bytes = w.q->max_bytes > 0 ? w.q->max_bytes : LOGS_BYTES_DEFAULT;
    if (w.max_bytes > LOGS_BYTES_MAX)
        w.max_bytes = LOGS_BYTES_MAX;
    if (w.q->at < 0 || w.q->from > LOGS_FROM_TAIL || w.streams == 0)
        return err_set(e, ERR_INVALID, "a log cannot be read from there");

    size_t i = w.q->from == LOGS_FROM_TAIL ? tail_frame(t, &w) : first_frame(t, &w);
    w.page.next_offset = i < t->n_frames ? t->frames[i].from : t->sealed;
    AUTO(mem) uint8_t *raw = NULL;
    for (; i < t->n_frames && !w.full; i++) {
        const struct frame *f = &t->frames[i];
        if (wanted_in_frame(&w, f) == 0) {
            w.page.next_offset = f->from + f->raw_len;
            continue;
        }
        if (raw == NULL)
            raw = mem_realloc(NULL, FRAME_RAW_MAX);
        int k = trail_unpack(t, f, raw, e);
        if (k != OK)
            return k;
        walk_records(&w, raw, f->raw_len, f->from, f->before);
    }
    if (!w.full) {
        struct line_count count = {.next = 1};
        if (t->n_frames > 0)
            count = t->frames[t->n_frames - 1].after;
        walk_records(&w, t->tail, t->whole, t->sealed, count);
    }
    w.page.complete = t->complete && w.page.next_offset == trail_bytes(t);
    *out = w.page;
    return OK;
}
