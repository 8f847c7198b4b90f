/* The native routes of what a job printed. Each try of a job has a log of its own; the newest is
 * shown unless another is asked for. A job that has not started has an empty log. */
#include "surface/native/jobs.h"

#include "surface/native/views.h"

#include "base/str.h"

#include <string.h>

/* ---- what is asked ---- */

enum { LIMIT_MAX = 10000 };

struct log_query {
    int64_t tail, offset, limit, attempt, since, until;
    int stream;
};
#define WHICH(S)                                                                                   \
    FIELD(S, "stream", stream, T_ENUM, .flags = F_NULL, .names = stream_words,                     \
          .doc = "this one only"),                                                                 \
        FIELD(S, "attempt", attempt, T_INT, .flags = F_NULL, .min = 1, .max = 1000,                \
              .doc = "which try of the job, from 1; the newest when left out")
#define SINCE(S)                                                                                   \
    FIELD(S, "since", since, T_TIME, .flags = F_NULL,                                              \
          .doc = "what was printed at this time or later")
#define UNTIL(S)                                                                                   \
    FIELD(S, "until", until, T_TIME, .flags = F_NULL,                                              \
          .doc = "what was printed at this time or before")
#define TAIL(S, most)                                                                              \
    FIELD(S, "tail", tail, T_INT, .flags = F_NULL, .min = 0, .max = most,                          \
          .doc = "the last so many lines, by until when it is there")

VIEW(log_query_view, struct log_query, "JobLogQuery", NULL, 0,
     TAIL(struct log_query, LOGS_LINES_MAX),
     FIELD(struct log_query, "offset", offset, T_INT, .flags = F_NULL, .min = 0, .max = INT64_MAX,
           .doc = "from here on: 0, or a next_offset"),
     FIELD(struct log_query, "limit", limit, T_INT, .min = 1, .max = LIMIT_MAX, .def = "1000",
           .doc = "at most so many lines, with offset"),
     SINCE(struct log_query), UNTIL(struct log_query), WHICH(struct log_query));
VIEW(log_text_query_view, struct log_query, "JobLogTextQuery", NULL, 0,
     TAIL(struct log_query, LOGS_LINES_MAX), SINCE(struct log_query), UNTIL(struct log_query),
     WHICH(struct log_query));
VIEW(log_stream_query_view, struct log_query, "JobLogStreamQuery", NULL, 0,
     TAIL(struct log_query, LIMIT_MAX), SINCE(struct log_query),
     FIELD(struct log_query, "stream", stream, T_ENUM, .flags = F_NULL, .names = stream_words,
           .doc = "this one only"),
     FIELD(struct log_query, "attempt", attempt, T_INT, .flags = F_NULL, .min = 1, .max = 1000,
           .doc = "this try of the job only; when left out the newest and those after it"));

struct log_page {
    struct list items;
    int64_t next_offset;
    bool complete;
};
VIEW(log_page_view, struct log_page, "LogPage", NULL, 0,
     LIST(struct log_page, "items", items, &line_view),
     FIELD(struct log_page, "next_offset", next_offset, T_INT, .doc = "read on from here"),
     FIELD(struct log_page, "complete", complete, T_BOOL,
           .doc = "the job prints no more and nothing is left behind next_offset"));

/* ---- finding the log ---- */

struct found {
    struct request *q;
    struct job job;
    int64_t number; /* wanted try; INT_NULL: the newest */
    int64_t attempt;
};

static int find_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct found *f = ctx;
    struct list l;
    char id[ID_TEXT_SIZE];
    int rc = native_job(f->q, tx, job_ref(f->q), &f->job, e);
    if (rc == OK)
        rc = job_attempts(tx, f->job.id, f->q->arena, &l, e);
    if (rc != OK)
        return rc;
    const struct attempt *at = l.items;
    for (size_t i = 0; i < l.n; i++)
        if (f->number == INT_NULL ? i + 1 == l.n : at[i].number == f->number) {
            f->attempt = at[i].id;
            f->number = at[i].number;
            return OK;
        }
    if (f->number != INT_NULL)
        return err_code(e, ERR_NOT_FOUND, "NO_SUCH_TRY",
                        l.n == 1 ? "job %s has no try %lld: it was tried once"
                                 : "job %s has no try %lld: it was tried %lld times",
                        id_text("j", f->job.id, id), (long long)f->number, (long long)l.n);
    f->number = 0;
    return OK;
}

static int find_log(struct request *q, int64_t number, struct found *out, struct err *e)
{
    *out = (struct found){.q = q, .number = number};
    return store_read(house_store(q->house), find_tx, out, e);
}

static unsigned streams_of(const struct log_query *in)
{
    return in->stream < 0 ? 0 : 1u << (in->stream + SPOOL_OUT);
}

/* ---- which part of it ---- */

struct span {
    uint64_t from, end; /* offsets; end UINT64_MAX: as far as it goes */
};

/* Where the first record stands that such a query gives; where the log ends now when none does. */
static int look(struct logs *logs, int64_t attempt, enum logs_from from, int64_t at,
                unsigned streams, struct arena *a, struct log_line *out, struct err *e)
{
    struct logs_query want = {
        .from = from, .at = at, .streams = streams, .max_lines = 1, .max_bytes = 1};
    struct logs_page page;
    int rc = logs_read(logs, attempt, &want, a, &page, e);
    if (rc == OK)
        *out = page.n > 0 ? page.lines[0]
                          : (struct log_line){.offset = page.next_offset, .at_us = INT64_MAX};
    return rc;
}

/* Where the last `tail` records before *end begin. Lines are numbered over all streams, so that
 * one stream's records may lie further back: it looks again from there. */
static int tail_before(struct logs *logs, int64_t attempt, const struct log_line *end, int64_t tail,
                       unsigned streams, struct arena *a, uint64_t *out, struct err *e)
{
    uint64_t *ring = arena_alloc(a, (size_t)(tail + 1) * sizeof(*ring));
    for (int64_t back = tail;; back *= 8) {
        int64_t line = end->n > back ? end->n - back : 1, n = 0;
        struct logs_query want = {.from = LOGS_FROM_LINE,
                                  .at = line,
                                  .streams = streams,
                                  .max_lines = LIMIT_MAX,
                                  .max_bytes = LOGS_BYTES_MAX};
        for (bool more = tail > 0; more;) {
            AUTO(arena) struct arena of_page = {0};
            struct logs_page page;
            int rc = logs_read(logs, attempt, &want, &of_page, &page, e);
            if (rc != OK)
                return rc;
            more = page.n > 0;
            for (size_t i = 0; i < page.n && more; i++)
                if ((more = page.lines[i].offset < end->offset))
                    ring[n++ % tail] = page.lines[i].offset;
            want.from = LOGS_FROM_OFFSET;
            want.at = (int64_t)page.next_offset;
        }
        if (n < tail && line > 1)
            continue;
        *out = n == 0 ? end->offset : ring[n < tail ? 0 : n % tail];
        return OK;
    }
}

/* The part that a query's times, tail and offset name. */
static int find_span(struct logs *logs, int64_t attempt, const struct log_query *in,
                     unsigned streams, struct arena *a, struct span *out, struct err *e)
{
    struct span s = {in->offset != INT_NULL ? (uint64_t)in->offset : 0, UINT64_MAX};
    struct log_line first, end = {.at_us = INT64_MAX};
    int rc = OK;
    if (in->until != 0 && in->until < INT64_MAX)
        rc = look(logs, attempt, LOGS_FROM_TIME, in->until + 1, 0, a, &end, e);
    if (rc == OK && end.at_us != INT64_MAX)
        s.end = end.offset;
    if (rc == OK && in->tail != INT_NULL && s.end != UINT64_MAX) {
        rc = tail_before(logs, attempt, &end, in->tail, streams, a, &s.from, e);
    } else if (rc == OK && in->tail != INT_NULL) {
        rc = look(logs, attempt, LOGS_FROM_TAIL, in->tail, streams, a, &first, e);
        if (rc == OK)
            s.from = first.offset;
    }
    if (rc == OK && in->since != 0) {
        rc = look(logs, attempt, LOGS_FROM_TIME, in->since, 0, a, &first, e);
        if (rc == OK && first.offset > s.from)
            s.from = first.offset;
    }
    if (rc == OK)
        *out = s;
    return rc;
}

/* ---- the routes ---- */

int job_log_page(struct request *q, struct tx *tx, struct err *e)
{
    const struct log_query *in = q->query;
    struct found f;
    struct log_page out = {0};
    struct logs_page page = {0};
    int rc = OK;
    if (in->tail != INT_NULL && in->offset != INT_NULL)
        return err_set(e, ERR_MALFORMED, "send tail or offset, not both");
    if ((rc = find_log(q, in->attempt, &f, e)) != OK)
        return rc;
    out.complete = f.attempt == 0 && job_ended(f.job.state);
    if (f.attempt != 0) {
        struct logs *logs = jobs_logs(jobs_of(q->house));
        struct span span;
        rc = find_span(logs, f.attempt, in, streams_of(in), q->arena, &span, e);
        struct logs_query want = {
            .from = LOGS_FROM_OFFSET,
            .at = (int64_t)span.from,
            .streams = streams_of(in),
            .max_lines = (size_t)(in->tail > in->limit ? in->tail : in->limit),
            .max_bytes = LOGS_BYTES_MAX};
        if (rc == OK)
            rc = logs_read(logs, f.attempt, &want, q->arena, &page, e);
        if (rc != OK)
            return rc;
        while (page.n > 0 && page.lines[page.n - 1].offset >= span.end)
            page.n--;
        bool at_end = page.next_offset >= span.end;
        out.next_offset = (int64_t)(at_end ? span.end : page.next_offset);
        out.complete = page.complete || at_end;
    }
    struct line_shown *lines = arena_alloc(q->arena, (page.n + 1) * sizeof(*lines));
    for (size_t i = 0; i < page.n; i++)
        line_show(&page.lines[i], f.number, q->arena, &lines[i]);
    out.items = (struct list){lines, page.n};
    return request_answer(q, 200, &log_page_view, &out);
}

int job_log_text(struct request *q, struct tx *tx, struct err *e)
{
    const struct log_query *in = q->query;
    struct found f;
    struct span span;
    int rc = find_log(q, in->attempt, &f, e);
    if (rc != OK)
        return rc;
    if (f.attempt == 0)
        return request_answer_raw(q, 200, "text/plain; charset=utf-8", "", 0);
    unsigned streams = streams_of(in);
    if (streams == 0)
        streams = LOGS_OUT | LOGS_ERR;
    rc = find_span(jobs_logs(jobs_of(q->house)), f.attempt, in, streams, q->arena, &span, e);
    if (rc != OK)
        return rc;
    struct follow_start s = {.job = f.job.id,
                             .attempt = f.attempt,
                             .number = f.number,
                             .offset = span.from,
                             .end = span.end,
                             .streams = streams,
                             .plain = true};
    return follows_take(q, &s);
}

/* "2:4096": the line at 4096 of the second try was the last that arrived. */
static bool read_last_id(const char *s, int64_t *number, uint64_t *offset)
{
    char copy[48];
    int64_t at;
    size_t n = strcspn(s, ":");
    if (s[n] != ':' || n >= sizeof(copy))
        return false;
    memcpy(copy, s, n);
    copy[n] = '\0';
    if (!str_int(copy, number) || *number < 1 || !str_int(s + n + 1, &at) || at < 0)
        return false;
    *offset = (uint64_t)at + 1; /* inside the record: the next one */
    return true;
}

int job_log_stream(struct request *q, struct tx *tx, struct err *e)
{
    const struct log_query *in = q->query;
    const char *last = http_header(q->http, "Last-Event-ID");
    struct found f;
    struct follow_start s = {
        .streams = streams_of(in), .end = UINT64_MAX, .only = in->attempt != INT_NULL};
    int64_t number = in->attempt;
    bool goes_on = last != NULL && *last != '\0';
    if (goes_on && !read_last_id(last, &number, &s.offset))
        return err_set(e, ERR_MALFORMED, "Last-Event-ID is not one that this stream sent");
    int rc = find_log(q, number, &f, e);
    if (rc == OK && !goes_on && f.attempt != 0) {
        struct span span;
        rc = find_span(jobs_logs(jobs_of(q->house)), f.attempt, in, s.streams, q->arena, &span, e);
        if (rc == OK)
            s.offset = span.from;
    }
    if (rc != OK)
        return rc;
    s.job = f.job.id;
    s.attempt = f.attempt;
    s.number = f.number;
    request_header(q, "Cache-Control", "no-store");
    request_header(q, "X-Accel-Buffering", "no"); /* a proxy must not hold lines back */
    return follows_take(q, &s);
}
