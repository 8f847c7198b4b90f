/* What the verbs about jobs share: ids as people type them, one line about a job, what its end
 * means for an exit code, and which job was perhaps meant.
 */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *job_id(struct arena *a, const char *word)
{
    int64_t number;
    return str_int(word, &number) && number >= 0 ? arena_printf(a, "j-%s", word) : word;
}

const char *job_path(struct arena *a, const char *id, const char *rest)
{
    return arena_printf(a, "/v1/jobs/%s%s", url_part(a, id), rest);
}

enum hue state_hue(const char *state)
{
    static const struct {
        const char *state;
        enum hue hue;
    } rows[] = {
        {"queued", HUE_DIM},        {"starting", HUE_BLUE},  {"running", HUE_BLUE},
        {"completed", HUE_GREEN},   {"failed", HUE_RED},     {"timeout", HUE_RED},
        {"cancelling", HUE_YELLOW}, {"unknown", HUE_YELLOW}, {"cancelled", HUE_DIM},
    };
    for (size_t i = 0; state != NULL && i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].state, state) == 0)
            return rows[i].hue;
    return HUE_NONE;
}

bool job_has_ended(const struct jv *job)
{
    static const char *const ends[] = {"completed", "failed", "timeout", "cancelled"};
    const char *state = jv_get_text(job, "state");
    for (size_t i = 0; state != NULL && i < ARRAY_LEN(ends); i++)
        if (strcmp(ends[i], state) == 0)
            return true;
    return false;
}

const char *job_gpus(struct arena *a, const struct jv *job)
{
    int64_t n = jv_get_int(job, "gpus", 0);
    const struct jv *types = jv_get(job, "gpu_type");
    if (n == 0)
        return NULL;
    const char *first = jv_text(jv_at(types, 0), NULL);
    if (jv_len(types) == 0 || first == NULL)
        return arena_printf(a, "%" PRId64, n);
    return arena_printf(a, "%" PRId64 " x %s%s", n, text_clean(a, first),
                        jv_len(types) > 1 ? "…" : "");
}

void print_job_line(FILE *to, const struct term *t, struct cli *c, const struct jv *job)
{
    struct arena *a = &c->arena;
    const char *state = jv_get_text(job, "state"), *gpus = job_gpus(a, job);
    const char *reason = jv_get_text(job, "reason");
    enum hue hue = state_hue(state);
    say(to, "job %s", text_clean(a, jv_get_text(job, "id")));
    fprintf(to, "  %s  %s%s%s", text_clean(a, jv_get_text(job, "name")), hue_on(t, hue),
            state != NULL ? err_tr(text_clean(a, state)) : "–", hue_off(t, hue));
    if (gpus != NULL)
        fprintf(to, "  %s%s", gpus,
                strchr(gpus, ' ') != NULL ? ""
                : strcmp(gpus, "1") == 0  ? " GPU"
                                          : " GPUs");
    if (reason != NULL && *reason != '\0')
        fprintf(to, "  %s", text_clean(a, reason));
    double ran = jv_get_real(job, "ran_s", -1);
    if (job_has_ended(job) && ran >= 0)
        say(to, "  (ran %s)", text_ago(a, (int64_t)(ran * 1e6)));
    fputc('\n', to);
}

int job_exit_code(const struct jv *job)
{
    const char *state = jv_get_text(job, "state");
    int64_t signal = jv_get_int(job, "signal", 0), code = jv_get_int(job, "exit_code", -1);
    if (str_eq(state, "completed"))
        return 0;
    if (signal > 0 && signal < 128)
        return (int)(128 + signal);
    return code > 0 && code < 256 ? (int)code : 1;
}

/* ---- which one was meant ---- */

/* A beginning of the name counts as near, else letters that differ. */
static int nearness(const char *word, const struct jv *job)
{
    const char *id = jv_get_text(job, "id"), *name = jv_get_text(job, "name");
    if (id == NULL || name == NULL)
        return 99;
    if (strcmp(word, name) == 0)
        return 0;
    int d = word_distance(word, id), n = word_distance(word, name);
    if (strlen(word) >= 2 && (str_starts(name, word) || str_starts(id, word)))
        return 1;
    return d < n ? d : n;
}

void suggest_job(struct cli *c, struct client *client, const char *word, struct err *e)
{
    AUTO(reply) struct reply r = {0};
    struct err unused;
    const struct jv *best = NULL;
    int least = 3;
    if (strcmp(e->code, "NO_SUCH_TRY") == 0)
        return;
    if (client_call(client, &(struct call){.path = "/v1/jobs?limit=200"}, &r, &unused) != OK)
        return;
    const struct jv *items = jv_get(r.json, "items");
    for (size_t i = 0; i < jv_len(items); i++) {
        int d = nearness(word, jv_at(items, i));
        if (d < least) {
            least = d;
            best = jv_at(items, i);
        }
    }
    if (best == NULL) {
        err_set(e, ERR_NOT_FOUND,
                jv_len(items) == 0 ? "no job %s; there are no jobs yet"
                                   : "no job %s; all jobs: drover ps --all",
                text_clean(&c->arena, word));
        return;
    }
    err_set(e, ERR_NOT_FOUND, "no job %s. Did you mean %s (%s, %s)?", text_clean(&c->arena, word),
            text_clean(&c->arena, jv_get_text(best, "id")),
            text_clean(&c->arena, jv_get_text(best, "name")),
            err_tr(text_clean(&c->arena, jv_get_text(best, "state"))));
}

int job_call(struct cli *c, struct client *client, const char *id, const struct call *q,
             struct reply *out, struct err *e)
{
    int k = client_call(client, q, out, e);
    if (k == ERR_NOT_FOUND)
        suggest_job(c, client, id, e);
    return k;
}
