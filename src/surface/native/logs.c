/* The native routes of what a job printed. Each try of a job has a log of its own; the newest is
 * shown unless another is asked for. A job that has not started has an empty log. */
#include "surface/native/jobs.h"

#include "surface/native/views.h"

#include "base/str.h"

#include <string.h>

/* ---- what is asked ---- */

enum { LIMIT_MAX = 10000 };

struct log_query {
    int64_t tail, offset, limit, attempt;
    int stream;
};
#define WHICH(S)                                                                                   \
    FIELD(S, "stream", stream, T_ENUM, .flags = F_NULL, .names = stream_words,                     \
          .doc = "this one only"),                                                                 \
        FIELD(S, "attempt", attempt, T_INT, .flags = F_NULL, .min = 1, .max = 1000,                \
              .doc = "which try of the job; the newest when left out")

VIEW(log_query_view, struct log_query, "JobLogQuery", NULL, 0,
     FIELD(struct log_query, "tail", tail, T_INT, .flags = F_NULL, .min = 0, .max = LOGS_LINES_MAX,
           .doc = "the last so many lines"),
     FIELD(struct log_query, "offset", offset, T_INT, .flags = F_NULL, .min = 0, .max = INT64_MAX,
           .doc = "from here on: 0, or a next_offset"),
     FIELD(struct log_query, "limit", limit, T_INT, .min = 1, .max = LIMIT_MAX, .def = "1000",
           .doc = "at most so many lines, with offset"),
     WHICH(struct log_query));
VIEW(log_text_query_view, struct log_query, "JobLogTextQuery", NULL, 0, WHICH(struct log_query));
VIEW(log_stream_query_view, struct log_query, "JobLogStreamQuery", NULL, 0,
     FIELD(struct log_query, "tail", tail, T_INT, .flags = F_NULL, .min = 0, .max = LIMIT_MAX,
           .doc = "begin with the last so many lines instead of the first"),
     WHICH(struct log_query));

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
        return err_set(e, ERR_NOT_FOUND, "no try %lld of job %s", (long long)f->number,
                       id_text("j", f->job.id, id));
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
    struct logs_query want = {.from = in->tail != INT_NULL ? LOGS_FROM_TAIL : LOGS_FROM_OFFSET,
                              .at = in->tail != INT_NULL     ? in->tail
                                    : in->offset != INT_NULL ? in->offset
                                                             : 0,
                              .streams = streams_of(in),
                              .max_lines = (size_t)(in->tail > in->limit ? in->tail : in->limit),
                              .max_bytes = LOGS_BYTES_MAX};
    if (f.attempt != 0) {
        rc = logs_read(jobs_logs(jobs_of(q->house)), f.attempt, &want, q->arena, &page, e);
        if (rc != OK)
            return rc;
        out.next_offset = (int64_t)page.next_offset;
        out.complete = page.complete;
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
    int rc = find_log(q, in->attempt, &f, e);
    if (rc != OK)
        return rc;
    unsigned streams = streams_of(in);
    struct follow_start s = {.job = f.job.id,
                             .attempt = f.attempt,
                             .number = f.number,
                             .tail = -1,
                             .streams = streams != 0 ? streams : LOGS_OUT | LOGS_ERR,
                             .plain = true};
    if (f.attempt == 0)
        return request_answer_raw(q, 200, "text/plain; charset=utf-8", "", 0);
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
    struct follow_start s = {.tail = in->tail == INT_NULL ? -1 : in->tail,
                             .streams = streams_of(in)};
    int64_t number = in->attempt;
    if (last != NULL && *last != '\0') {
        if (!read_last_id(last, &number, &s.offset))
            return err_set(e, ERR_MALFORMED, "Last-Event-ID is not one that this stream sent");
        s.tail = -1;
    }
    int rc = find_log(q, number, &f, e);
    if (rc != OK)
        return rc;
    s.job = f.job.id;
    s.attempt = f.attempt;
    s.number = f.number;
    request_header(q, "Cache-Control", "no-store");
    request_header(q, "X-Accel-Buffering", "no"); /* a proxy must not hold lines back */
    return follows_take(q, &s);
}
