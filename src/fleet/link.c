/* The link to agents: one WebSocket each, an inbox each, a few workers for all.
 *
 * Callbacks of the socket run on the stream loop and must not block, so they only put messages
 * into the link's inbox; a worker takes the whole inbox of one link at a time. Everything on the
 * link is state that both sides repeat after a reconnect, so losing a message loses nothing.
 *
 * What must stay true: messages of one node are handled in order, by one worker at a time; memory
 * of an inbox is bounded: an agent that sends faster than we work is not read from. */
#include "fleet/fleet_parts.h"

#include "base/log.h"
#include "base/world.h"
#include "core/route.h"
#include "io/pool.h"

#include <stdlib.h>
#include <string.h>

enum {
    INBOX_MAX = 32 << 20, /* bytes waiting of one agent; beyond it the link is cut */
    ATTEMPTS_BATCH = 512, /* reports of one transaction */
    /* After a restart all agents come at once, each with all it knows: so many a second of other
     * hosts, the rest is asked to come a little later. */
    ACCEPT_PER_S = 100,
    ACCEPT_LATER_S = 3,
};

struct message {
    struct message *next;
    size_t n;
    bool binary;
    char data[];
};

struct link {
    struct fleet *fleet;
    struct ws *ws;        /* NULL once closed; under the fleet's lock */
    int64_t node;         /* 0 until hello */
    int64_t joined;       /* the node of its credential; 0: it came by the server's own socket */
    pthread_mutex_t lock; /* the inbox */
    struct message *first, **last;
    size_t waiting;
    bool scheduled, closed;
    atomic_int refs;
};

static void link_put(struct link *l)
{
    if (atomic_fetch_sub(&l->refs, 1) > 1)
        return;
    while (l->first != NULL) {
        struct message *next = l->first->next;
        mem_free(l->first);
        l->first = next;
    }
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

/* ---- handling ---- */

struct hello_call {
    struct link *link;
    const struct jv *message;
    int64_t node;
};

static int hello_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct hello_call *c = ctx;
    return node_hello(tx, c->message, c->link->joined, &c->node, e);
}

/* Revisions of the link that are a neighbour of ours: each keeps what the one before could do. */
static int link_speaks(const struct link *l, const struct jv *hello, struct err *e)
{
    int64_t theirs = jv_get_int(hello, "link", 1);
    const char *version = jv_get_text(hello, "version");
    if (theirs >= LINK_REVISION - 1 && theirs <= LINK_REVISION + 1)
        return OK;
    return err_code(e, ERR_CONFLICT, theirs < LINK_REVISION ? "AGENT_TOO_OLD" : "AGENT_TOO_NEW",
                    theirs < LINK_REVISION
                        ? "agent %.40s is too old for this server (link %lld, the server has %d): "
                          "update it"
                        : "agent %.40s is too new for this server (link %lld, the server has %d): "
                          "update the server first",
                    version != NULL ? version : "?", (long long)theirs, LINK_REVISION);
}

/* Says why before it closes: a close frame has no room for a sentence. */
static void link_refuse(struct link *l, const struct err *why)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "refused");
    json_ktext(&j, "code", why->code);
    json_ktext(&j, "text", why->text);
    json_close(&j, '}');
    pthread_mutex_lock(&l->fleet->lock);
    if (l->ws != NULL) {
        ws_send_text(l->ws, b.data, b.len);
        ws_close(l->ws, 1008, "refused");
    }
    pthread_mutex_unlock(&l->fleet->lock);
}

static void link_hello(struct link *l, const struct jv *v)
{
    struct fleet *f = l->fleet;
    struct hello_call call = {l, v, 0};
    struct err e = {0};
    if (link_speaks(l, v, &e) != OK || store_tx(house_store(f->house), hello_tx, &call, &e) != OK) {
        log_warning("fleet", "hello of an agent: %s", e.text);
        link_refuse(l, &e);
        return;
    }
    struct ws *stale = NULL;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->links.n; i++) {
        struct link *other = f->links.items[i];
        if (other != l && other->node == call.node) {
            other->node = 0; /* the agent came back before its old socket was noticed dead */
            stale = other->ws;
            if (stale != NULL)
                ws_close(stale, 1008, "another link of this node is newer");
        }
    }
    l->node = call.node;
    pthread_mutex_unlock(&f->lock);
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "welcome");
    json_kint(&j, "node", l->node);
    json_kint(&j, "sample_ms", f->sample_ms);
    json_kint(&j, "silent_ms", f->silent_s * 1000);
    json_kint(&j, "link", LINK_REVISION);
    json_ktext(&j, "version", DROVER_VERSION);
    json_close(&j, '}');
    fleet_send(f, l->node, b.data, b.len);
    buf_fini(&b);
    fleet_refresh(f);
    if (f->ops != NULL)
        f->ops->online(f->ops_ctx, l->node, v);
}

static uint64_t little64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void link_log(struct link *l, const struct message *m)
{
    const unsigned char *p = (const unsigned char *)m->data;
    if (m->n < 17 || p[0] != 'L' || l->node == 0 || l->fleet->ops == NULL)
        return;
    l->fleet->ops->log(l->fleet->ops_ctx, l->node, (int64_t)little64(p + 1), little64(p + 9),
                       p + 17, m->n - 17);
}

static void reports_flush(struct link *l, struct vec *reports)
{
    if (reports->n > 0 && l->node != 0 && l->fleet->ops != NULL)
        l->fleet->ops->attempts(l->fleet->ops_ctx, l->node,
                                (const struct jv *const *)reports->items, reports->n);
    for (size_t i = 0; i < reports->n; i++)
        jv_free(reports->items[i]);
    reports->n = 0;
}

static void link_text(struct link *l, const struct message *m, struct vec *reports, bool *sampled)
{
    struct jv *v = NULL;
    struct err e;
    if (jv_parse(m->data, m->n, &v, NULL, &e) != OK || jv_kind(v) != JV_OBJECT) {
        log_warning("fleet", "an agent sent what is not a message: %s", e.text);
        jv_free(v);
        return;
    }
    const char *type = jv_get_text(v, "type");
    if (type != NULL && strcmp(type, "attempt") == 0) {
        vec_push(reports, v); /* many reports share one transaction */
        if (reports->n >= ATTEMPTS_BATCH)
            reports_flush(l, reports);
        return;
    }
    reports_flush(l, reports);
    if (type != NULL && strcmp(type, "hello") == 0) {
        link_hello(l, v);
    } else if (type != NULL && strcmp(type, "sample") == 0 && l->node != 0) {
        live_take(l->fleet, l->node, v);
        *sampled = true;
    }
    jv_free(v);
}

static void link_work(void *ctx)
{
    struct link *l = ctx;
    struct vec reports = {0};
    bool sampled = false;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        struct message *m = l->first;
        l->first = NULL;
        l->last = &l->first;
        l->waiting = 0;
        bool last = m == NULL, closed = l->closed;
        if (last && !closed)
            l->scheduled = false;
        pthread_mutex_unlock(&l->lock);
        while (m != NULL) {
            struct message *next = m->next;
            if (atomic_load(&l->fleet->stopping)) {
                /* state that the agent will tell the next server again */
            } else if (m->binary) {
                reports_flush(l, &reports);
                link_log(l, m);
            } else {
                link_text(l, m, &reports, &sampled);
            }
            mem_free(m);
            m = next;
        }
        reports_flush(l, &reports);
        if (!last)
            continue;
        if (sampled)
            fleet_refresh(l->fleet);
        if (closed && l->node != 0 && l->fleet->ops != NULL && !atomic_load(&l->fleet->stopping))
            l->fleet->ops->offline(l->fleet->ops_ctx, l->node);
        break;
    }
    vec_fini(&reports);
    link_put(l);
}

/* Under l->lock. */
static void link_schedule(struct link *l)
{
    if (l->scheduled)
        return;
    l->scheduled = true;
    atomic_fetch_add(&l->refs, 1);
    if (!pool_run(l->fleet->pool, link_work, l)) {
        l->scheduled = false;
        atomic_fetch_sub(&l->refs, 1);
    }
}

/* ---- callbacks of the socket: the stream loop's thread ---- */

static void link_message(struct ws *ws, void *ctx, const char *data, size_t n, bool binary)
{
    struct link *l = ctx;
    struct message *m = mem_alloc(sizeof(*m) + n + 1);
    m->n = n;
    m->binary = binary;
    memcpy(m->data, data, n);
    pthread_mutex_lock(&l->lock);
    if (l->waiting + n > INBOX_MAX) {
        pthread_mutex_unlock(&l->lock);
        mem_free(m);
        ws_close(ws, 1013, "too much at once");
        return;
    }
    *l->last = m;
    l->last = &m->next;
    l->waiting += n + sizeof(*m);
    link_schedule(l);
    pthread_mutex_unlock(&l->lock);
}

static void link_closed(struct ws *ws, void *ctx, int code)
{
    struct link *l = ctx;
    struct fleet *f = l->fleet;
    pthread_mutex_lock(&f->lock);
    l->ws = NULL;
    for (size_t i = 0; i < f->links.n; i++)
        if (f->links.items[i] == l) {
            f->links.items[i] = f->links.items[--f->links.n];
            break;
        }
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&l->lock);
    l->closed = true;
    link_schedule(l);
    pthread_mutex_unlock(&l->lock);
    link_put(l);
}

static const struct ws_ops link_ws_ops = {link_message, link_closed};

static void link_opened(struct ws *ws, void *ctx)
{
    struct link *l = ctx;
    pthread_mutex_lock(&l->fleet->lock);
    l->ws = ws;
    vec_push(&l->fleet->links, l);
    pthread_mutex_unlock(&l->fleet->lock);
}

/* True: not now. */
static bool accept_later(struct fleet *f)
{
    int64_t now = mono_us();
    pthread_mutex_lock(&f->lock);
    if (now - f->accept_at >= US_PER_S) {
        f->accept_at = now;
        f->accepted = 0;
    }
    bool later = f->accepted >= ACCEPT_PER_S;
    f->accepted += !later;
    pthread_mutex_unlock(&f->lock);
    return later;
}

int fleet_link_accept(struct fleet *f, struct request *q, struct err *e)
{
    if (q->who.node_id != 0 && accept_later(f)) {
        int rc = err_set(e, ERR_UNAVAILABLE, "too many agents come at once; try again in %d s",
                         ACCEPT_LATER_S);
        e->retry_after_s = ACCEPT_LATER_S;
        return rc;
    }
    struct ws_limits limits = {.message_max = 8 << 20,
                               .backlog_max = 64 << 20,
                               .ping_s = (int)(f->silent_s + 3) / 4,
                               .silent_s = (int)f->silent_s};
    struct link *l = mem_alloc(sizeof(*l));
    l->fleet = f;
    l->joined = q->who.node_id;
    l->last = &l->first;
    atomic_init(&l->refs, 1);
    pthread_mutex_init(&l->lock, NULL);
    if (ws_accept(q->http, "drover-agent.1", &link_ws_ops, &limits, l, link_opened) == NULL)
        link_put(l);
    return REQUEST_TAKEN;
}

bool fleet_send(struct fleet *f, int64_t node, const char *json, size_t n)
{
    bool sent = false;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->links.n && !sent; i++) {
        struct link *l = f->links.items[i];
        if (l->node == node && l->ws != NULL)
            sent = ws_send_text(l->ws, json, n);
    }
    pthread_mutex_unlock(&f->lock);
    return sent;
}

bool fleet_connected(struct fleet *f, int64_t node)
{
    bool found = false;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->links.n && !found; i++)
        found = ((struct link *)f->links.items[i])->node == node;
    pthread_mutex_unlock(&f->lock);
    return found;
}

void fleet_link_again(struct fleet *f, int64_t node)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->links.n; i++) {
        struct link *l = f->links.items[i];
        if (l->node == node && l->ws != NULL)
            ws_close(l->ws, 1012, "say it again");
    }
    pthread_mutex_unlock(&f->lock);
}

void link_cut(struct fleet *f, int64_t node, const char *why)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->links.n; i++) {
        struct link *l = f->links.items[i];
        if ((l->node == node || l->joined == node) && l->ws != NULL)
            ws_close(l->ws, 1008, why);
    }
    pthread_mutex_unlock(&f->lock);
}

void fleet_links_end(struct fleet *f)
{
    pool_destroy(f->pool);
    f->pool = NULL;
}

void fleet_bye(struct fleet *f)
{
    static const char bye[] = "{\"type\":\"bye\"}";
    atomic_store(&f->stopping, true);
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->links.n; i++) {
        struct link *l = f->links.items[i];
        if (l->ws != NULL)
            ws_send_text(l->ws, bye, sizeof(bye) - 1);
    }
    pthread_mutex_unlock(&f->lock);
}
