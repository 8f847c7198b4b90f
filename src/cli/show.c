/* drover show: one job, its facts and the timeline of its events. */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LABEL_WIDTH = 13, EVENTS_MAX = 200 };

static void fact(struct cli *c, const char *label, const char *value)
{
    if (value == NULL || *value == '\0')
        return;
    const char *name = err_tr(label);
    size_t used = utf8_width(name);
    printf("  %s%s%s", hue_on(&c->out, HUE_DIM), name, hue_off(&c->out, HUE_DIM));
    pad(stdout, used < LABEL_WIDTH ? LABEL_WIDTH - used : 1);
    text_wrap(stdout, text_clean(&c->arena, value), LABEL_WIDTH + 2, (size_t)c->out.width);
}

/* The words of a command as a shell would take them. */
static const char *command_text(struct arena *a, const struct jv *words)
{
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; i < jv_len(words); i++) {
        const char *word = jv_text(jv_at(words, i), NULL);
        if (word == NULL)
            continue;
        bool plain = *word != '\0' &&
                     word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
                                       "RSTUVWXYZ0123456789-_./=:,@%+")] == '\0';
        if (i > 0)
            buf_addc(&b, ' ');
        if (!plain)
            buf_addc(&b, '\'');
        for (const char *s = word; *s != '\0'; s++)
            if (!plain && *s == '\'')
                buf_adds(&b, "'\\''");
            else
                buf_addc(&b, *s);
        if (!plain)
            buf_addc(&b, '\'');
    }
    return arena_strdup(a, buf_str(&b));
}

static const char *pairs_text(struct arena *a, const struct jv *object)
{
    AUTO(buf) struct buf b = {0};
    const char *name;
    const struct jv *value;
    const void *it = NULL;
    while (jv_kind(object) == JV_OBJECT && (it = jv_next(object, it, &name, &value)) != NULL) {
        const char *text = jv_text(value, NULL);
        buf_printf(&b, "%s%s=%s", b.len > 0 ? "  " : "", name, text != NULL ? text : "");
    }
    return arena_strdup(a, buf_str(&b));
}

static const char *list_text(struct arena *a, const struct jv *list)
{
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; i < jv_len(list); i++) {
        const char *text = jv_text(jv_at(list, i), NULL);
        buf_printf(&b, "%s%s", b.len > 0 ? ", " : "", text != NULL ? text : "");
    }
    return arena_strdup(a, buf_str(&b));
}

/* "2 x RTX4090, A6000, 4 CPUs, 8G, at most 2:00:00" */
static const char *wishes(struct arena *a, const struct jv *job)
{
    AUTO(buf) struct buf b = {0};
    int64_t gpus = jv_get_int(job, "gpus", 0), cpus = jv_get_int(job, "cpus", 0);
    int64_t memory = jv_get_int(job, "memory_mib", 0), limit = jv_get_int(job, "time_limit_s", 0);
    int64_t counted = jv_get_int(job, "cpus_counted", 0);
    const struct jv *types = jv_get(job, "gpu_type");
    if (gpus > 0)
        buf_printf(&b, "%" PRId64 "%s%s", gpus,
                   jv_len(types) > 0 ? " x "
                   : gpus == 1       ? " GPU"
                                     : " GPUs",
                   list_text(a, types));
    if (cpus > 0)
        buf_printf(&b, "%s%s", b.len > 0 ? ", " : "", text_of(a, "%" PRId64 " CPUs", cpus));
    else if (counted > 0)
        buf_printf(&b, "%s%s", b.len > 0 ? ", " : "",
                   text_of(a, "no CPUs (%" PRId64 " is counted)", counted));
    if (memory > 0)
        buf_printf(&b, "%s%s", b.len > 0 ? ", " : "", text_mib(a, memory));
    if (limit > 0)
        buf_printf(&b, "%s%s", b.len > 0 ? ", " : "",
                   text_of(a, "at most %s", text_ago(a, limit * US_PER_S)));
    return arena_strdup(a, buf_str(&b));
}

static const char *place(struct arena *a, const struct jv *job)
{
    const char *node = jv_get_text(job, "node_name");
    const char *gpus = list_text(a, jv_get(job, "gpu_ids"));
    if (node == NULL)
        return NULL;
    return *gpus != '\0' ? arena_printf(a, "%s  %s", node, gpus) : node;
}

static const char *ending(struct arena *a, const struct jv *job)
{
    const char *reason = jv_get_text(job, "end_reason");
    int64_t signal = jv_get_int(job, "signal", 0), code = jv_get_int(job, "exit_code", -1);
    if (signal > 0)
        return text_of(a, "signal %" PRId64 " (%s)", signal, reason != NULL ? reason : "–");
    if (code >= 0)
        return text_of(a, "exit code %" PRId64, code);
    return reason;
}

static void print_times(struct cli *c, const struct jv *job)
{
    struct arena *a = &c->arena;
    static const struct {
        const char *label, *member, *span;
    } rows[] = {
        {"submitted", "created_at", NULL},
        {"started", "started_at", "waited_s"},
        {"ended", "ended_at", "ran_s"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t at = time_of(job, rows[i].member);
        if (at == 0)
            continue;
        const char *clock = text_clock(a, at);
        double span = rows[i].span != NULL ? jv_get_real(job, rows[i].span, -1) : -1;
        if (span < 0)
            fact(c, rows[i].label, clock);
        else
            fact(c, rows[i].label,
                 text_of(a, i == 1 ? "%s, after waiting %s" : "%s, after running %s", clock,
                         text_ago(a, (int64_t)(span * 1e6))));
    }
}

static void print_facts(struct cli *c, const struct jv *job)
{
    struct arena *a = &c->arena;
    const char *state = jv_get_text(job, "state");
    enum hue hue = state_hue(state);
    printf("%s%s%s  %s  %s%s%s", hue_on(&c->out, HUE_BOLD), text_clean(a, jv_get_text(job, "id")),
           hue_off(&c->out, HUE_BOLD), text_clean(a, jv_get_text(job, "name")),
           hue_on(&c->out, hue), state != NULL ? err_tr(text_clean(a, state)) : "–",
           hue_off(&c->out, hue));
    double ran = jv_get_real(job, "ran_s", -1);
    if (ran >= 0 && !job_has_ended(job))
        say(stdout, " for %s", text_ago(a, (int64_t)(ran * 1e6)));
    if (jv_get_bool(job, "simulated", false))
        printf("  %s", err_tr("(simulated)"));
    fputc('\n', stdout);
    fact(c, "why", jv_get_text(job, "reason"));
    fact(c, "command", command_text(a, jv_get(job, "command")));
    fact(c, "owner", jv_get_text(job, "owner"));
    fact(c, "asked for", wishes(a, job));
    for (size_t i = 0; i < jv_len(jv_get(job, "notes")); i++)
        fact(c, "note", jv_text(jv_at(jv_get(job, "notes"), i), NULL));
    fact(c, "priority", jv_get_text(job, "priority"));
    fact(c, "image", jv_get_text(job, "image"));
    fact(c, "directory", jv_get_text(job, "cwd"));
    fact(c, "environment", pairs_text(a, jv_get(job, "env")));
    fact(c, "labels", pairs_text(a, jv_get(job, "labels")));
    fact(c, "runs on", place(a, job));
    print_times(c, job);
    int64_t attempt = jv_get_int(job, "attempt", 0), retries = jv_get_int(job, "retries", 0);
    if (attempt > 1 || retries > 0)
        fact(c, "attempt", text_of(a, "%" PRId64 " of %" PRId64, attempt, retries + 1));
    fact(c, "end", ending(a, job));
    int64_t lines = jv_get_int(job, "log_lines", 0);
    if (lines > 0)
        fact(c, "log",
             text_of(a, "%" PRId64 " lines: drover logs %s", lines,
                     text_clean(a, jv_get_text(job, "id"))));
}

static void print_events(struct cli *c, const struct listing *l)
{
    struct arena *a = &c->arena;
    if (l->items.n == 0)
        return;
    say(stdout, "events\n");
    for (size_t i = 0; i < l->items.n; i++) {
        const struct jv *ev = l->items.items[i];
        const char *clock = text_clock(a, time_of(ev, "at")), *actor = jv_get_text(ev, "actor");
        const char *summary = jv_get_text(ev, "summary");
        if (summary == NULL)
            summary = jv_get_text(ev, "type");
        bool bad = str_eq(jv_get_text(ev, "severity"), "error") ||
                   str_eq(jv_get_text(ev, "severity"), "critical");
        enum hue hue = bad ? HUE_RED : HUE_NONE;
        printf("  %s%s%s  %s", hue_on(&c->out, HUE_DIM), clock, hue_off(&c->out, HUE_DIM),
               hue_on(&c->out, hue));
        const char *text = text_clean(a, summary);
        if (actor != NULL && *actor != '\0')
            text = arena_printf(a, "%s  (%s)", text, text_clean(a, actor));
        text_wrap(stdout, text, strlen(clock) + 4, (size_t)c->out.width);
        fputs(hue_off(&c->out, hue), stdout);
    }
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply r = {0};
    AUTO(listing) struct listing events = {0};
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    const char *id = job_id(&c->arena, p->args[0]);
    struct call q = {.path = job_path(&c->arena, id, "")};
    if (job_call(c, client, id, &q, &r, &e) != OK)
        return client_fail(client, &e);
    if (list_all(client, job_path(&c->arena, id, "/events?"), EVENTS_MAX, &events, &e) != OK)
        return client_fail(client, &e);
    if (c->json) {
        printf("{\"job\":%s,\"events\":", jv_dump(r.json, &c->arena));
        printf("[");
        for (size_t i = 0; i < events.items.n; i++)
            printf("%s%s", i > 0 ? "," : "", jv_dump(events.items.items[i], &c->arena));
        printf("]}\n");
        return EXIT_DONE;
    }
    print_facts(c, r.json);
    print_events(c, &events);
    return EXIT_DONE;
}

static const char *const examples[] = {"drover show j-17", NULL};
const struct verb verb_show = {
    .name = "show",
    .summary = "show one job: facts, reason and the timeline of its events",
    .arg = {"ID", ARG_ONE, ARG_JOB},
    .examples = examples,
    .run = run,
};
