/* What a job has to do with files: the tree that its folder begins with, the paths that are kept at
 * its end, and the tree of what was kept. They stand in the job's `extra`. */
#include "jobs/jobs_parts.h"

#include "base/str.h"
#include "io/json_in.h"

#include <string.h>

int job_files_of(const struct job *j, struct arena *a, struct job_files *out, struct err *e)
{
    AUTO(jv) struct jv *v = NULL;
    *out = (struct job_files){0};
    if (j->extra == NULL || jv_parse(j->extra, strlen(j->extra), &v, NULL, NULL) != OK)
        return OK;
    const struct jv *f = jv_get(v, "files"), *list = jv_get(f, "out");
    out->code = arena_strdup(a, jv_get_text(f, "code"));
    out->result = arena_strdup(a, jv_get_text(f, "result"));
    out->note = arena_strdup(a, jv_get_text(f, "note"));
    size_t n = jv_kind(list) == JV_LIST ? jv_len(list) : 0;
    out->out.items = arena_alloc(a, (n + 1) * sizeof(*out->out.items));
    for (size_t i = 0; i < n; i++) {
        const char *s = jv_text(jv_at(list, i), NULL);
        if (s != NULL)
            out->out.items[out->out.n++] = arena_strdup(a, s);
    }
    return OK;
}

const char *job_files_extra(const struct job_files *f, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_key(&j, "files");
    json_open(&j, '{');
    json_ktext(&j, "code", f->code);
    json_key(&j, "out");
    json_open(&j, '[');
    for (size_t i = 0; i < f->out.n; i++)
        json_text(&j, f->out.items[i]);
    json_close(&j, ']');
    json_ktext(&j, "result", f->result);
    json_ktext(&j, "note", f->note);
    json_close(&j, '}');
    json_close(&j, '}');
    return arena_strndup(a, b.data, b.len);
}

int job_set_result(struct tx *tx, int64_t job, const char *tree, const char *note, struct err *e)
{
    struct job j;
    struct job_files f;
    struct arena *a = tx_arena(tx);
    int rc = job_get(tx, job, a, &j, e);
    if (rc == OK)
        rc = job_files_of(&j, a, &f, e);
    if (rc != OK)
        return rc;
    f.result = tree != NULL ? tree : f.result;
    f.note = note;
    j.extra = job_files_extra(&f, a);
    return job_update(tx, &j, e);
}

int job_of_attempt(struct tx *tx, int64_t attempt, int64_t node, struct arena *a, struct job *out,
                   struct err *e)
{
    struct attempt at;
    bool found = false;
    int rc = attempt_get(tx, attempt, a, &at, &found, e);
    if (rc == OK && (!found || at.closed || (node != 0 && at.node_id != node)))
        rc = err_set(e, ERR_NOT_FOUND, "there is no such attempt");
    return rc == OK ? job_get(tx, at.job_id, a, out, e) : rc;
}

void job_files_write(const struct job *j, struct json *to, struct arena *a)
{
    struct job_files f;
    if (job_files_of(j, a, &f, NULL) != OK || (f.code == NULL && f.out.n == 0))
        return;
    json_ktext(to, "code", f.code);
    json_key(to, "out");
    json_open(to, '[');
    for (size_t i = 0; i < f.out.n; i++)
        json_text(to, f.out.items[i]);
    json_close(to, ']');
}
