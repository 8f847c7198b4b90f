/* What the files of the native job routes share: jobs.c (the routes), wait.c (requests that wait
 * for an end), logs.c (pages of a log), follow.c (logs that are followed). */
#ifndef SURFACE_NATIVE_JOBS_H
#define SURFACE_NATIVE_JOBS_H

#include "core/route.h"
#include "jobs/jobs.h"

struct native_jobs {
    struct waits *waits;
    struct follows *follows;
};
struct native_jobs *native_jobs_of(const struct house *h);

/* jobs.c */
extern const struct view job_path_view;
const char *job_ref(const struct request *q); /* {id} of the path */
int native_answer_job(struct request *q, struct tx *tx, int status, const struct job *j, bool lines,
                      struct err *e);

/* wait.c. The house's pool and bus have ended when waits_destroy is called. */
struct waits;
struct waits *waits_create(struct house *h);
void waits_destroy(struct waits *w); /* answers what is left */
/* For a handler without a transaction to return: the request is answered later, at the job's end
 * or after this time. */
int waits_take(struct request *q, int64_t job, int64_t timeout_us);
void waits_job_ended(struct waits *w, int64_t job); /* any thread */
void waits_tick(struct waits *w);

/* logs.c */
extern const struct view log_query_view, log_text_query_view, log_stream_query_view, log_page_view;
handler_fn job_log_page, job_log_text, job_log_stream;

/* follow.c: an endless answer that is fed from a job's log, with bounded memory. */
struct follows;
struct follows *follows_create(struct house *h);
void follows_destroy(struct follows *f);
void follows_wake(struct follows *f, int64_t job); /* something happened to it; any thread */
void follows_tick(struct follows *f);
struct follow_start {
    int64_t job;
    int64_t attempt, number; /* where to begin; 0: none yet */
    uint64_t offset, end;    /* of the first try; end UINT64_MAX: as far as it goes */
    unsigned streams;        /* LOGS_OUT | …; 0: all */
    bool only;               /* no later tries */
    bool plain; /* the bytes of one try, no events, no later tries; ends at the present end */
};
/* For a handler without a transaction to return: the request becomes a stream. */
int follows_take(struct request *q, const struct follow_start *s);

#endif
