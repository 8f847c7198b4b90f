/* The event log and the bus that reads it.
 *
 * What must stay true: an event is written in the transaction of its change; readers never see
 * an event appear before one they have already read (see event.h for the order). */
#include "core/house_parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const severity_names[] = {"info", "warning", "error", NULL};

RECORD(event_record, struct event, "events", MEMBER(struct event, id, T_ID, .prefix = "e"),
       MEMBER(struct event, tx, T_INT), MEMBER(struct event, uuid, T_UUID),
       MEMBER(struct event, at, T_TIME, .doc = "when it happened"),
       MEMBER(struct event, type, T_TEXT, .doc = "what happened, such as job.status.changed"),
       MEMBER(struct event, source_type, T_TEXT, .doc = "kind of the thing it happened to"),
       MEMBER(struct event, source_id, T_TEXT, .doc = "the thing it happened to"),
       MEMBER(struct event, owner, T_INT),
       MEMBER(struct event, severity, T_ENUM, .names = severity_names),
       MEMBER(struct event, actor, T_TEXT, .doc = "who did it"),
       MEMBER(struct event, summary, T_TEXT, .flags = M_TOLD, .doc = "one sentence"),
       MEMBER(struct event, data, T_JSON, .doc = "the facts"));

static const struct migration event_migrations[] = {
    {.id = 1001,
     .name = "events",
     .script = "CREATE TABLE events(id $ID, tx $INT NOT NULL, uuid $TEXT NOT NULL,"
               " at $INT NOT NULL, type $TEXT NOT NULL, source_type $TEXT NOT NULL,"
               " source_id $TEXT NOT NULL, owner $INT NOT NULL, severity $TEXT NOT NULL,"
               " actor $TEXT NOT NULL, summary $TEXT NOT NULL, data $TEXT NOT NULL);"
               "CREATE INDEX events_source ON events(source_type, source_id, id);"
               "CREATE INDEX events_order ON events(tx, id);"},
    {.id = 1003,
     .name = "events by owner",
     .script = "CREATE INDEX events_owner ON events(owner, tx, id);"},
    {0},
};
static const struct record *const event_records[] = {&event_record, NULL};
static void wake_after_commit(void *ctx)
{
    bus_wake(ctx);
}

int event_emit(struct tx *tx, const struct event *ev, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    struct event full = *ev;
    full.id = 0;
    full.uuid = uuid_v7(uuid);
    full.at = now_us();
    if (full.data == NULL)
        full.data = "{}";
    if (full.actor == NULL)
        full.actor = "system";
    if (full.summary == NULL)
        full.summary = "";
    int rc = tx_commit_order(tx, &full.tx, e);
    if (rc == OK)
        rc = record_insert(tx, &event_record, &full, NULL, e);
    struct house *h = tx_house(tx);
    if (rc == OK && h != NULL && h->bus != NULL)
        tx_after_commit(tx, wake_after_commit, h->bus);
    return rc;
}

const char *event_pos_text(struct event_pos p, char to[EVENT_POS_TEXT])
{
    snprintf(to, EVENT_POS_TEXT, "%lld:%lld", (long long)p.tx, (long long)p.id);
    return to;
}

bool event_pos_parse(const char *s, struct event_pos *out)
{
    char copy[EVENT_POS_TEXT];
    const char *colon = strchr(s, ':');
    if (colon == NULL || (size_t)(colon - s) >= sizeof(copy))
        return false;
    memcpy(copy, s, (size_t)(colon - s));
    copy[colon - s] = '\0';
    return str_int(copy, &out->tx) && str_int(colon + 1, &out->id) && out->tx >= 0 && out->id >= 0;
}

int event_read(struct tx *tx, struct event_pos after, int64_t limit, struct arena *a,
               struct list *out, struct err *e)
{
    int64_t below;
    int rc = tx_visible_below(tx, &below, e);
    if (rc != OK)
        return rc;
    return record_list(tx, &event_record,
                       "WHERE (tx > ?1 OR (tx = ?1 AND id > ?2)) AND tx < ?3"
                       " ORDER BY tx, id LIMIT ?4",
                       ARGS(v_int(after.tx), v_int(after.id), v_int(below), v_int(limit)), a, out,
                       e);
}

int event_list(struct tx *tx, const struct event_filter *f, struct arena *a, struct list *out,
               struct err *e)
{
    int64_t below;
    int rc = tx_visible_below(tx, &below, e);
    if (rc != OK)
        return rc;
    struct value args[8];
    size_t n = 0;
    AUTO(buf) struct buf sql = {0};
    args[n++] = v_int(below);
    buf_adds(&sql, "WHERE tx < ?1");
    if (f->after.tx > 0 || f->after.id > 0) {
        args[n++] = v_int(f->after.tx);
        args[n++] = v_int(f->after.id);
        buf_printf(&sql, " AND (tx > ?%zu OR (tx = ?%zu AND id > ?%zu))", n - 1, n - 1, n);
    }
    if (f->source_type != NULL) {
        args[n++] = v_text(f->source_type);
        buf_printf(&sql, " AND source_type = ?%zu", n);
    }
    if (f->source_id != NULL) {
        args[n++] = v_text(f->source_id);
        buf_printf(&sql, " AND source_id = ?%zu", n);
    }
    if (f->owner >= 0) {
        args[n++] = v_int(f->owner);
        buf_printf(&sql,
                   f->fleet_too ? " AND ((owner = ?%zu AND owner > 0) OR"
                                  " source_type NOT IN ('job', 'user'))"
                                : " AND owner = ?%zu",
                   n);
    }
    args[n++] = v_int(f->limit);
    const char *down = f->newest ? " DESC" : "";
    buf_printf(&sql, " ORDER BY tx%s, id%s LIMIT ?%zu", down, down, n);
    struct list l;
    rc = record_list(tx, &event_record, sql_intern(buf_str(&sql), "", ""), args, n, a, &l, e);
    if (rc != OK)
        return rc;
    struct event *items = l.items;
    for (size_t i = 0; f->newest && i < l.n / 2; i++) {
        struct event other = items[i];
        items[i] = items[l.n - 1 - i];
        items[l.n - 1 - i] = other;
    }
    *out = l;
    return OK;
}

int event_tail(struct tx *tx, struct event_pos *out, struct err *e)
{
    int64_t below;
    int rc = tx_visible_below(tx, &below, e);
    if (rc != OK)
        return rc;
    struct rows *r = tx_query(tx,
                              "SELECT tx, id FROM events WHERE tx < ?1"
                              " ORDER BY tx DESC, id DESC LIMIT 1",
                              ARGS(v_int(below)));
    struct event_pos p = {0, 0};
    if (rows_next(r))
        p = (struct event_pos){row_int(r, 0), row_int(r, 1)};
    rc = rows_end(r, e);
    if (rc == OK)
        *out = p;
    return rc;
}

/* ---- the bus ---- */

struct bus {
    struct house *house;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool due, stop, runs;
    struct event_pos at;
    struct map counts; /* type → struct count; under lock */
};
struct count {
    uint64_t n;
};

enum { BUS_BATCH = 500, BUS_POLL_MS = 500 };

void bus_wake(struct bus *b)
{
    pthread_mutex_lock(&b->lock);
    b->due = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

static void bus_count(struct bus *b, const char *type)
{
    pthread_mutex_lock(&b->lock);
    struct count *c = map_get(&b->counts, type);
    if (c == NULL) {
        c = mem_alloc(sizeof(*c));
        map_put(&b->counts, type, c);
    }
    c->n++;
    pthread_mutex_unlock(&b->lock);
}

static void event_metrics(struct house *h, void *state, struct buf *out)
{
    struct bus *b = h->bus;
    size_t at = 0;
    const char *type;
    void *v;
    buf_adds(out, "# HELP gpuplat_events_total Events told since the start, by their type.\n"
                  "# TYPE gpuplat_events_total counter\n");
    pthread_mutex_lock(&b->lock);
    while (map_next(&b->counts, &at, &type, &v))
        buf_printf(out, "gpuplat_events_total{subject=\"%s\"} %llu\n", type,
                   (unsigned long long)((struct count *)v)->n);
    pthread_mutex_unlock(&b->lock);
}

static void bus_call(struct bus *b, const struct event *ev)
{
    struct house *h = b->house;
    bus_count(b, ev->type);
    for (size_t i = 0; i < h->started; i++)
        for (size_t k = 0; k < h->modules[i]->n_subscriptions; k++) {
            const struct subscription *s = &h->modules[i]->subscriptions[k];
            if (str_starts(ev->type, s->type))
                s->fn(h, h->states[i], ev);
        }
}

struct bus_read {
    struct bus *bus;
    struct arena *arena;
    struct list events;
};

static int bus_read_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct bus_read *r = ctx;
    return event_read(tx, r->bus->at, BUS_BATCH, r->arena, &r->events, e);
}

static int bus_tail_tx(struct tx *tx, void *ctx, struct err *e)
{
    return event_tail(tx, &((struct bus *)ctx)->at, e);
}

static void *bus_main(void *ctx)
{
    struct bus *b = ctx;
    struct arena arena = {0};
    bool retry = false; /* a read failed: what it missed must not wait for the next event */
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        if (!b->due) {
            /* another replica's events arrive without a wake: look now and then */
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += BUS_POLL_MS * 1000000L;
            if (until.tv_nsec >= 1000000000L) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000L;
            }
            pthread_cond_timedwait(&b->wake, &b->lock, &until);
        }
        bool woken = b->due;
        b->due = false;
        pthread_mutex_unlock(&b->lock);
        if (woken || retry || store_kind(house_store(b->house)) == STORE_POSTGRES) {
            struct bus_read r = {b, &arena, {0}};
            struct err e = {0};
            retry = false;
            do {
                arena_reset(&arena);
                r.events = (struct list){0};
                if (store_read(house_store(b->house), bus_read_tx, &r, &e) != OK) {
                    log_warning("events", "reading the log: %s", e.text);
                    retry = true;
                    break;
                }
                const struct event *ev = r.events.items;
                for (size_t i = 0; i < r.events.n; i++) {
                    bus_call(b, &ev[i]);
                    b->at = (struct event_pos){ev[i].tx, ev[i].id};
                }
            } while (r.events.n == BUS_BATCH && !house_stopping(b->house));
        }
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    arena_fini(&arena);
    return NULL;
}

struct bus *bus_create(struct house *h)
{
    struct bus *b = mem_alloc(sizeof(*b));
    b->house = h;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    struct err e = {0};
    if (store_read(house_store(h), bus_tail_tx, b, &e) != OK)
        log_warning("events", "the end of the log is not known: %s", e.text);
    return b;
}

void bus_start(struct bus *b)
{
    b->runs = pthread_create(&b->thread, NULL, bus_main, b) == 0;
}

void bus_stop(struct bus *b)
{
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    if (b->runs)
        pthread_join(b->thread, NULL);
    b->runs = false;
}

void bus_destroy(struct bus *b)
{
    if (b == NULL)
        return;
    size_t at = 0;
    void *v;
    while (map_next(&b->counts, &at, NULL, &v))
        mem_free(v);
    map_fini(&b->counts);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->wake);
    mem_free(b);
}

const struct module event_module = {
    .name = "events",
    .migrations = event_migrations,
    .records = event_records,
    .metrics = event_metrics,
};
