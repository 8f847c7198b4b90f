/* The native views of jobs, log lines and events, and what their computed members say. */
#include "surface/native/views.h"

#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int native_bad_cursor(struct err *e)
{
    return err_set(e, ERR_MALFORMED, "the cursor is not one that a list gave");
}

void native_hint(struct request *q, const char *fmt, ...)
{
    va_list ap;
    struct err e;
    va_start(ap, fmt);
    err_setv(&e, ERR_INVALID, fmt, ap);
    va_end(ap);
    q->hint = arena_strdup(q->arena, e.text);
}

/* ---- jobs ---- */

#define JOB(wire, m, ...)     SAME(struct job_shown, wire, j.m, __VA_ARGS__)
#define MADE(wire, m, T, ...) FIELD(struct job_shown, wire, m, T, __VA_ARGS__)

VIEW(job_view, struct job_shown, "Job", &job_record, 0, JOB("id", id), JOB("uuid", uuid),
     JOB("name", name), JOB("kind", kind), JOB("state", state), JOB("reason", reason),
     JOB("owner", owner_email),
     MADE("owner_id", j.owner, T_ID, .flags = F_NULL, .prefix = "u",
          .doc = "null: the server's own host"),
     MADE("priority", priority_word, T_TEXT, .doc = "low, normal, high or urgent"),
     JOB("priority_value", priority), JOB("command", command), JOB("env", env),
     JOB("secrets", secrets), JOB("cwd", cwd), JOB("image", image), JOB("gpus", gpus),
     JOB("gpu_type", gpu_type), JOB("cpus", cpus), JOB("memory_mib", memory_mib),
     JOB("time_limit_s", time_limit_s), JOB("retries", retries), JOB("attempt", attempt),
     JOB("labels", labels), JOB("node", node_id, .doc = "where it runs"),
     MADE("node_name", node_name, T_TEXT, .flags = F_NULL), JOB("gpu_ids", gpu_ids),
     JOB("exit_code", exit_code), JOB("signal", signal), JOB("end_reason", end_reason),
     JOB("created_at", created_at), JOB("started_at", started_at), JOB("ended_at", ended_at),
     MADE("waited_s", waited_s, T_INT, .flags = F_NULL, .doc = "in the queue, the last time"),
     MADE("ran_s", ran_s, T_INT, .flags = F_NULL, .doc = "null: it has not started"),
     MADE("position", position, T_INT, .flags = F_NULL,
          .doc = "place in the queue from 1; null when it is not queued, and in lists behind the "
                 "first 20,000"),
     MADE("cost", cost, T_REAL, .flags = F_NULL, .doc = "null: own hosts have no price"),
     MADE("currency", currency, T_TEXT, .flags = F_NULL), JOB("simulated", simulated),
     MADE("cpus_counted", cpus_counted, T_INT,
          .doc = "threads of a host that the scheduler counts for it: `cpus`, or when that is null "
                 "1 without GPUs and 0 with"),
     MADE("notes", notes, T_TEXTS,
          .doc = "what its submitter should know: a limit that its node does not enforce"),
     MADE("log_lines", log_lines, T_INT, .flags = F_NULL,
          .doc = "of its newest try; null in lists and in answers to changes"));

static int64_t seconds(int64_t from, int64_t to)
{
    return to > from ? (to - from) / US_PER_S : 0;
}

static void job_times(struct job_shown *s)
{
    const struct job *j = &s->j;
    int64_t now = now_us();
    int64_t left = j->started_at != 0 ? j->started_at : j->ended_at != 0 ? j->ended_at : now;
    s->waited_s = seconds(j->queued_at, left);
    s->ran_s = j->started_at != 0 ? seconds(j->started_at, j->ended_at != 0 ? j->ended_at : now)
                                  : INT_NULL;
}

static bool node_enforces(const struct node *n, const char *limit)
{
    for (size_t i = 0; i < n->enforces.n; i++)
        if (strcmp(n->enforces.items[i], limit) == 0)
            return true;
    return false;
}

/* The nodes that may run it, or do, and let it pass this limit; "" when all hold it. */
static const char *nodes_without(const struct job *j, const struct fleet_snapshot *fleet,
                                 const char *limit, struct arena *a)
{
    enum { NAMES_MAX = 200 };
    AUTO(buf) struct buf names = {0};
    for (size_t i = 0; i < fleet->n_nodes && names.len < NAMES_MAX; i++) {
        const struct node *n = &fleet->nodes[i].node;
        bool may_run = j->node_id != 0 ? n->id == j->node_id : n->state == NODE_ONLINE;
        if (may_run && !node_enforces(n, limit))
            buf_printf(&names, "%s%s", names.len > 0 ? ", " : "", n->name);
    }
    return arena_strdup(a, buf_str(&names));
}

static struct texts job_notes(const struct job *j, const struct fleet_snapshot *fleet,
                              struct arena *a)
{
    struct texts notes = {.items = arena_alloc(a, 2 * sizeof(char *))};
    struct err note;
    bool own = strcmp(j->provider, "local") == 0;
    const char *memory = own && j->memory_mib != INT_NULL ? nodes_without(j, fleet, "memory", a)
                                                          : "";
    const char *cpu = own && j->cpus != INT_NULL ? nodes_without(j, fleet, "cpu", a) : "";
    if (*memory != '\0') {
        err_set(&note, ERR_INVALID,
                "the memory limit is not enforced on %s: the job may use more there", memory);
        notes.items[notes.n++] = arena_strdup(a, note.text);
    }
    if (*cpu != '\0') {
        err_set(&note, ERR_INVALID,
                "the CPU limit is not enforced on %s: the job may use more threads there", cpu);
        notes.items[notes.n++] = arena_strdup(a, note.text);
    }
    return notes;
}

static void job_fill(const struct job *j, const struct fleet_snapshot *fleet, int64_t ahead,
                     struct arena *a, struct job_shown *out)
{
    *out = (struct job_shown){.j = *j,
                              .priority_word = priority_word(j->priority),
                              .position = ahead >= 0 ? ahead + 1 : INT_NULL,
                              .log_lines = j->attempt == 0 ? 0 : INT_NULL,
                              .cost = NAN,
                              .cpus_counted = job_counted_cpus(j),
                              .notes = job_notes(j, fleet, a)};
    job_times(out);
    const struct snap_node *n = j->node_id != 0 ? snapshot_node(fleet, j->node_id) : NULL;
    if (n != NULL)
        out->node_name = arena_strdup(a, n->node.name);
}

int job_show(struct tx *tx, const struct job *j, bool lines, struct arena *a, struct job_shown *out,
             struct err *e)
{
    struct house *h = tx_house(tx);
    int64_t ahead, attempt = 0;
    struct logs_stat st;
    int rc = job_position(tx, j, &ahead, e);
    if (rc != OK)
        return rc;
    AUTO(fleet_snapshot) const struct fleet_snapshot *fleet = fleet_snapshot_get(fleet_of(h));
    job_fill(j, fleet, ahead, a, out);
    if (!lines || j->attempt == 0)
        return OK;
    rc = job_last_attempt(tx, j->id, &attempt, e);
    if (rc == OK && attempt != 0 && logs_stat(jobs_logs(jobs_of(h)), attempt, &st, NULL) == OK)
        out->log_lines = st.lines;
    return rc;
}

int jobs_show(struct tx *tx, const struct list *rows, struct arena *a, struct list *out,
              struct err *e)
{
    const struct job *j = rows->items;
    struct job_shown *shown = arena_alloc(a, (rows->n + 1) * sizeof(*shown));
    int64_t *ahead = arena_alloc(a, (rows->n + 1) * sizeof(*ahead));
    int rc = job_positions(tx, rows, ahead, e);
    if (rc != OK)
        return rc;
    AUTO(fleet_snapshot)
    const struct fleet_snapshot *fleet = fleet_snapshot_get(fleet_of(tx_house(tx)));
    for (size_t i = 0; i < rows->n; i++)
        job_fill(&j[i], fleet, ahead[i], a, &shown[i]);
    *out = (struct list){shown, rows->n};
    return OK;
}

/* ---- finding a job, and near ones ---- */

enum { NEAR_LOOKED_AT = 200, NEAR_MAX = 2, WORD_MAX = 40 };

/* Edits from a to b (insert, delete, replace); large when either is long. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), row[WORD_MAX + 1];
    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX;
    for (int k = 0; k <= m; k++)
        row[k] = k;
    for (int i = 1; i <= n; i++) {
        int corner = row[0];
        row[0] = i;
        for (int k = 1; k <= m; k++) {
            int up = row[k], best = corner + (a[i - 1] != b[k - 1]);
            if (up + 1 < best)
                best = up + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            row[k] = best;
            corner = up;
        }
    }
    return row[m];
}

static void hint_near_job(struct request *q, struct tx *tx, const char *ref)
{
    struct list rows = {0};
    struct err e = {0};
    char id[ID_TEXT_SIZE];
    struct job_filter f = {
        .who = &q->who, .everyone = principal_is_admin(&q->who), .limit = NEAR_LOOKED_AT};
    if (job_list(tx, &f, q->arena, &rows, &e) != OK)
        return;
    const struct job *j = rows.items, *best = NULL;
    int least = NEAR_MAX + 1;
    for (size_t i = 0; i < rows.n; i++) {
        int by_id = distance(ref, id_text("j", j[i].id, id)), by_name = distance(ref, j[i].name);
        int d = by_id < by_name ? by_id : by_name;
        if (d < least) {
            least = d;
            best = &j[i];
        }
    }
    if (best != NULL)
        native_hint(q, "Did you mean %s (%s, %s, %s)?", id_text("j", best->id, id), best->name,
                    best->owner == q->who.user_id ? err_tr("yours") : best->owner_email,
                    err_tr(job_state_names[best->state]));
}

int native_job(struct request *q, struct tx *tx, const char *ref, struct job *out, struct err *e)
{
    int rc = job_find(tx, ref, &q->who, q->arena, out, e);
    if (rc == ERR_NOT_FOUND)
        hint_near_job(q, tx, ref);
    return rc;
}

/* ---- lines ---- */

const char *const stream_words[] = {"out", "err", "system", NULL};

VIEW(line_view, struct line_shown, "Line", NULL, 0,
     FIELD(struct line_shown, "n", n, T_INT, .doc = "line number from 1 in its try"),
     FIELD(struct line_shown, "offset", offset, T_INT, .doc = "where it stands in its try's log"),
     FIELD(struct line_shown, "at", at, T_TIME),
     FIELD(struct line_shown, "stream", stream, T_ENUM, .names = stream_words,
           .doc = "system: Drover's own remarks"),
     FIELD(struct line_shown, "text", text, T_TEXT, .doc = "bytes that are no UTF-8 are U+FFFD"),
     FIELD(struct line_shown, "attempt", attempt, T_INT, .doc = "which try of the job, from 1"),
     FIELD(struct line_shown, "partial", partial, T_BOOL,
           .doc = "the line goes on in a later item with the same n"));

void line_show(const struct log_line *l, int64_t attempt, struct arena *a, struct line_shown *out)
{
    const char *text = l->text;
    if (memchr(text, '\0', l->len) != NULL) {
        /* a text in JSON may hold it, but many readers stop there */
        size_t nuls = 0;
        for (size_t i = 0; i < l->len; i++)
            nuls += text[i] == '\0';
        char *to = arena_alloc(a, l->len + 2 * nuls + 1), *at = to;
        for (size_t i = 0; i < l->len; i++)
            if (text[i] == '\0') {
                memcpy(at, "\xef\xbf\xbd", 3);
                at += 3;
            } else {
                *at++ = text[i];
            }
        text = to;
    }
    if (l->stream == SPOOL_SYSTEM && err_lang() != LANG_EN) {
        AUTO(buf) struct buf told = {0};
        err_retell(&told, text);
        text = arena_strdup(a, buf_str(&told));
    }
    *out = (struct line_shown){.n = l->n,
                               .offset = (int64_t)l->offset,
                               .at = l->at_us,
                               .stream = (int)l->stream - SPOOL_OUT,
                               .text = text,
                               .attempt = attempt,
                               .partial = l->partial};
}

/* ---- events ---- */

static void event_id(struct json *j, const void *obj)
{
    const struct event *ev = obj;
    char text[EVENT_POS_TEXT];
    json_text(j, event_pos_text((struct event_pos){ev->tx, ev->id}, text));
}

#define EVENT(wire, m, ...) SAME(struct event, wire, m, __VA_ARGS__)
VIEW(event_view, struct event, "Event", &event_record, 0,
     COMPUTED("id", event_id,
              "{\"type\":\"string\",\"description\":\"place in the log, for `after`\"}"),
     EVENT("at", at), EVENT("type", type), EVENT("source_type", source_type),
     EVENT("source_id", source_id), EVENT("severity", severity), EVENT("actor", actor),
     EVENT("summary", summary),
     EVENT("data", data, .schema = "{\"type\":\"object\",\"description\":\"the facts\"}"));
PAGE_VIEW(events_view, "EventList", &event_view);

int native_events(struct request *q, struct tx *tx, struct event_filter *f, const char *after,
                  struct err *e)
{
    struct native_page out = {0};
    char pos[EVENT_POS_TEXT];
    if (after != NULL && !event_pos_parse(after, &f->after))
        return native_bad_cursor(e);
    int64_t limit = f->limit++; /* one more tells whether there is one */
    int rc = event_list(tx, f, q->arena, &out.items, e);
    if (rc != OK)
        return rc;
    if ((int64_t)out.items.n > limit) {
        struct event *items = out.items.items;
        if (f->newest)
            out.items.items = items + 1;
        out.items.n = (size_t)limit;
        const struct event *last = (const struct event *)out.items.items + limit - 1;
        if (!f->newest)
            out.next_cursor = arena_strdup(
                q->arena, event_pos_text((struct event_pos){last->tx, last->id}, pos));
    }
    return request_answer(q, 200, &events_view, &out);
}
