/* Staying with a job to its end. The connection may break and the server may be restarted: the
 * follower goes on where it stopped (Last-Event-ID). Ctrl-C ends the following, never the job.
 */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_S = 600, NAP_MS = 1000, WAIT_S = 25, SHORT_NAP_MS = 100 };

struct follower {
    struct cli *c;
    const struct follow *f;
    char last_id[64];
    char state[32];
    bool heard; /* anything since the last connection */
    bool ended;
    char *end_json; /* the job at its end */
};

void print_log_line(struct cli *c, const struct jv *line)
{
    const char *stream = jv_get_text(line, "stream");
    size_t n = 0;
    const char *text = jv_text(jv_get(line, "text"), &n);
    bool partial = jv_get_bool(line, "partial", false);
    if (text == NULL)
        return;
    AUTO(arena) struct arena a = {0}; /* a log may have any number of lines */
    if (c->json) {
        printf("%s\n", jv_dump(line, &a));
        return;
    }
    if (str_eq(stream, "system")) {
        fflush(stdout);
        fprintf(stderr, "%sdrover: %s%s\n", hue_on(&c->err, HUE_DIM), text_clean(&a, text),
                hue_off(&c->err, HUE_DIM));
        return;
    }
    FILE *to = str_eq(stream, "err") ? stderr : stdout;
    if (to == stderr)
        fflush(stdout);
    fwrite(text, 1, n, to);
    if (!partial)
        fputc('\n', to);
}

/* A change of state is worth a line while nothing else comes, on a terminal. */
static void tell_state(struct follower *w, const struct jv *job)
{
    const char *state = jv_get_text(job, "state"), *reason = jv_get_text(job, "reason");
    const char *node = jv_get_text(job, "node_name");
    if (w->f->quiet || w->c->json || !w->c->err.tty || state == NULL ||
        strcmp(state, w->state) == 0 || job_has_ended(job))
        return;
    snprintf(w->state, sizeof(w->state), "%s", state);
    fflush(stdout);
    struct arena *a = &w->c->arena;
    fprintf(stderr, "%s%s", hue_on(&w->c->err, HUE_DIM), err_tr(text_clean(a, state)));
    if (str_eq(state, "running") && node != NULL)
        say(stderr, " on %s", text_clean(a, node));
    else if (reason != NULL && *reason != '\0')
        fprintf(stderr, ": %s", text_clean(a, reason));
    fprintf(stderr, "%s\n", hue_off(&w->c->err, HUE_DIM));
}

static bool on_event(void *ctx, const char *event, const char *id, const struct jv *data)
{
    struct follower *w = ctx;
    w->heard = true;
    if (*id != '\0')
        snprintf(w->last_id, sizeof(w->last_id), "%s", id);
    if (strcmp(event, "message") == 0) {
        print_log_line(w->c, data);
        fflush(stdout);
        return true;
    }
    if (strcmp(event, "state") == 0)
        tell_state(w, data);
    if (strcmp(event, "end") != 0)
        return true;
    w->ended = true;
    w->end_json = jv_dump(data, &w->c->arena);
    return false;
}

/* May the same be tried again in a while? */
static bool is_passing(int kind)
{
    return kind == ERR_UNAVAILABLE || kind == ERR_LIMITED || kind == ERR_UPSTREAM ||
           kind == ERR_UPSTREAM_TIMEOUT || kind == ERR_TIMEOUT;
}

int follow_job(struct cli *c, struct client *client, const struct follow *f, enum follow_end *end,
               struct jv **job, struct err *e)
{
    struct follower w = {.c = c, .f = f};
    const char *path = job_path(
        &c->arena, f->id,
        arena_printf(&c->arena, "/log/stream?%s", f->query != NULL ? f->query : ""));
    int64_t lost_us = 0;
    bool known = f->patient;
    client_catch_interrupt(client);
    for (;;) {
        enum stream_end how = STREAM_CUT;
        w.heard = false;
        int k = client_stream(client, path, w.last_id, on_event, &w, &how, e);
        known |= w.heard;
        if (k == ERR_NOT_FOUND)
            suggest_job(c, client, f->id, e);
        if (k != OK && (!known || !is_passing(k)))
            return k;
        if (k == OK && how == STREAM_INTERRUPTED) {
            *end = FOLLOW_INTERRUPTED;
            return OK;
        }
        if (w.ended)
            break;
        if (w.heard)
            lost_us = 0;
        if (lost_us == 0) {
            lost_us = mono_us();
            fflush(stdout);
            say(stderr, "drover: the connection to the server was lost; the job goes on, trying "
                        "again\n");
        } else if (mono_us() - lost_us > PATIENCE_S * US_PER_S) {
            return k != OK ? k : err_set(e, ERR_UNAVAILABLE, "the server went away");
        }
        if (client_nap(client, NAP_MS)) {
            *end = FOLLOW_INTERRUPTED;
            return OK;
        }
    }
    *end = FOLLOW_ENDED;
    return job == NULL ? OK : jv_parse(w.end_json, strlen(w.end_json), job, NULL, e);
}

int wait_job(struct cli *c, struct client *client, const char *id, enum follow_end *end,
             struct jv **job, struct err *e)
{
    const char *path = job_path(&c->arena, id,
                                arena_printf(&c->arena, "/wait?timeout_s=%d", (int)WAIT_S));
    int64_t lost_us = 0;
    bool known = false;
    client_catch_interrupt(client);
    for (;;) {
        AUTO(reply) struct reply r = {0};
        /* First without waiting: once the job is known to be there, a lost server is waited for. */
        struct call q = {.path = known ? path : job_path(&c->arena, id, ""),
                         .timeout_s = WAIT_S + 15};
        int k = known ? client_call(client, &q, &r, e) : job_call(c, client, id, &q, &r, e);
        if (client_nap(client, 0)) {
            *end = FOLLOW_INTERRUPTED;
            return OK;
        }
        if (k == OK) {
            known = true;
            lost_us = 0;
            if (job_has_ended(r.json)) {
                *end = FOLLOW_ENDED;
                *job = TAKE(r.json);
                return OK;
            }
        } else if (!known || !is_passing(k)) {
            return k;
        } else if (lost_us == 0) {
            lost_us = mono_us();
            say(stderr, "drover: the connection to the server was lost; the job goes on, trying "
                        "again\n");
        } else if (mono_us() - lost_us > PATIENCE_S * US_PER_S) {
            return k;
        }
        /* A server that answers at once must not be asked all the time. */
        if (client_nap(client, k != OK ? NAP_MS : SHORT_NAP_MS)) {
            *end = FOLLOW_INTERRUPTED;
            return OK;
        }
    }
}

int stopped_following(const char *id)
{
    fflush(stdout);
    say(stderr,
        "\nStopped following; job %s goes on.\n"
        "  its log  drover logs -f %s\n"
        "  end it   drover cancel %s\n",
        id, id, id);
    return EXIT_INTERRUPTED;
}
