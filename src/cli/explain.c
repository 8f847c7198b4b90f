/* drover explain: why a job waits and behind whom, where it runs and since when, or how it ended
 * and what led there. The reason is the scheduler's own; nothing is guessed. */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { QUEUE_MAX = 20000, AHEAD_SHOWN = 5, EVENTS_SHOWN = 6 };

static void fact(struct cli *c, const char *label, const char *text)
{
    const char *name = err_tr(label);
    size_t width = utf8_width(name);
    printf("  %s%s%s", hue_on(&c->out, HUE_DIM), name, hue_off(&c->out, HUE_DIM));
    pad(stdout, width < 12 ? 14 - width : 2);
    text_wrap(stdout, text_clean(&c->arena, text), 16, (size_t)c->out.width);
}

static const char *one_ahead(struct cli *c, const struct jv *job)
{
    const char *gpus = job_gpus(&c->arena, job), *owner = jv_get_text(job, "owner");
    return arena_printf(&c->arena, "%s  %s  %s%s%s%s  %s", jv_get_text(job, "id"),
                        jv_get_text(job, "name"), owner != NULL ? owner : "–",
                        gpus != NULL ? "  " : "", gpus != NULL ? gpus : "",
                        gpus != NULL && strchr(gpus, ' ') == NULL ? " GPU" : "",
                        text_of(&c->arena, "priority %s", jv_get_text(job, "priority")));
}

/* Who stands before it, as far as the caller may see them. */
static int tell_waiting(struct cli *c, struct client *client, const struct jv *job, struct err *e)
{
    AUTO(listing) struct listing l = {0};
    const char *reason = jv_get_text(job, "reason");
    int64_t position = jv_get_int(job, "position", 0), seen = 0;
    fact(c, "why", reason != NULL ? reason : err_tr("the scheduler has not looked at it yet"));
    if (position > 0)
        fact(c, "position",
             text_of(&c->arena, "%" PRId64 ", waiting for %s", position,
                     text_ago(&c->arena, jv_get_int(job, "waited_s", 0) * US_PER_S)));
    if (position <= 1)
        return OK;
    int k = list_all(client, "/v1/jobs?state=queued", QUEUE_MAX, &l, e);
    if (k != OK)
        return k;
    for (int64_t at = 1; at < position && seen < AHEAD_SHOWN; at++)
        for (size_t i = 0; i < l.items.n; i++)
            if (jv_get_int(l.items.items[i], "position", 0) == at) {
                fact(c, seen == 0 ? "ahead" : "", one_ahead(c, l.items.items[i]));
                seen++;
                break;
            }
    if (position - 1 > seen)
        fact(c, seen == 0 ? "ahead" : "",
             text_of(&c->arena, "%" PRId64 " more", position - 1 - seen));
    return OK;
}

static int tell_events(struct cli *c, struct client *client, const char *id, struct err *e)
{
    AUTO(listing) struct listing l = {0};
    int k = list_all(client, job_path(&c->arena, id, "/events?"), QUEUE_MAX, &l, e);
    if (k != OK)
        return k;
    for (size_t i = l.items.n > EVENTS_SHOWN ? l.items.n - EVENTS_SHOWN : 0; i < l.items.n; i++) {
        const struct jv *event = l.items.items[i];
        fact(c, text_clock(&c->arena, time_of(event, "at")), jv_get_text(event, "summary"));
    }
    return OK;
}

static void tell_place(struct cli *c, const struct jv *job)
{
    const char *node = jv_get_text(job, "node_name"), *gpus = job_gpus(&c->arena, job);
    int64_t ran = jv_get_int(job, "ran_s", -1), waited = jv_get_int(job, "waited_s", -1);
    if (node != NULL)
        fact(c, "runs on",
             gpus != NULL ? arena_printf(&c->arena, "%s  (%s GPU)", node, gpus) : node);
    if (waited >= 0)
        fact(c, "waited", text_ago(&c->arena, waited * US_PER_S));
    if (ran >= 0)
        fact(c, "ran", text_ago(&c->arena, ran * US_PER_S));
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    const char *id = job_id(&c->arena, p->args[0]);
    struct call q = {.path = job_path(&c->arena, id, "")};
    if (job_call(c, client, id, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        print_json(&r);
        return EXIT_DONE;
    }
    print_job_line(stdout, &c->out, c, r.json);
    const char *state = jv_get_text(r.json, "state");
    int k = OK;
    if (str_eq(state, "queued")) {
        k = tell_waiting(c, client, r.json, &e);
    } else {
        tell_place(c, r.json);
        k = tell_events(c, client, id, &e);
    }
    return k == OK ? EXIT_DONE : client_fail(client, &e);
}

static const char *const examples[] = {"drover explain j-17", NULL};
const struct verb verb_explain = {
    .name = "explain",
    .summary = "why a job waits and behind whom, where it runs, or how it ended",
    .arg = {"ID", ARG_ONE, ARG_JOB},
    .examples = examples,
    .run = run,
};
