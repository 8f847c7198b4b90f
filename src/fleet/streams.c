/* The relay between people's WebSockets and agents'.
 *
 * What must stay true: only the grant's user and only an agent take the two ends of a connection;
 * what one side sends is passed on in order or both sides are closed; a side's handle is used under
 * the lock that `closed` takes, so it is never used after it is gone. */
#include "fleet/streams.h"

#include "fleet/fleet_parts.h"

#include "base/str.h"
#include "base/world.h"
#include "core/route.h"
#include "identity/identity.h"
#include "io/duplex.h"

#include <stdio.h>
#include <string.h>

enum {
    STREAM_BACKLOG = 1 << 20, /* waiting for one side: three channels' windows and their words */
    GRANT_S = 60,             /* until it is first used */
    GRANT_MANY_S = 3600,      /* after the last use of one that may be used again */
    AGENT_S = 15,             /* the agent's time to answer */
};

struct grant {
    struct grant *next;
    char id[STREAM_ID_SIZE];
    int64_t user, node, attempt;
    bool many;
    char *request;
    int64_t until_us; /* mono */
};

struct pipe_side {
    struct stream_pipe *pipe;
    struct ws *ws; /* NULL: not there yet, or gone */
};
enum { USER, AGENT };
struct stream_pipe {
    struct stream_pipe *next;
    struct streams *streams;
    char id[STREAM_ID_SIZE];
    struct principal who;
    int64_t node, attempt;
    char *request;
    struct pipe_side side[2];
    bool claimed;               /* the agent's side is taken */
    bool over;                  /* one side has gone */
    int refs;                   /* sockets that will still call closed */
    int64_t begun_us, moved_us; /* mono */
};

struct streams {
    struct fleet *fleet;
    pthread_mutex_t lock;
    struct grant *grants;
    struct stream_pipe *pipes;
    size_t n_grants, n_pipes;
    int64_t user_max, all_max, idle_us;
};

struct streams *streams_create(struct fleet *f)
{
    struct streams *s = mem_alloc(sizeof(*s));
    s->fleet = f;
    pthread_mutex_init(&s->lock, NULL);
    s->user_max = setting_int(f->house, "STREAMS_PER_USER");
    s->all_max = setting_int(f->house, "STREAMS_MAX");
    s->idle_us = setting_int(f->house, "STREAM_IDLE_TIMEOUT") * US_PER_S;
    return s;
}

static void grant_free(struct grant *g)
{
    mem_free(g->request);
    mem_free(g);
}

/* The sockets are closed by now. NULL is fine. */
void streams_destroy(struct streams *s)
{
    if (s == NULL)
        return;
    while (s->grants != NULL) {
        struct grant *next = s->grants->next;
        grant_free(s->grants);
        s->grants = next;
    }
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

/* ---- grants ---- */

static const char *id_make(char to[STREAM_ID_SIZE])
{
    uint8_t bytes[16];
    random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(to + 2 * i, 3, "%02x", bytes[i]);
    return to;
}

/* Under the lock. */
static int check_room(const struct streams *s, int64_t user, struct err *e)
{
    int64_t own = 0;
    for (const struct stream_pipe *p = s->pipes; p != NULL; p = p->next)
        own += p->who.user_id == user;
    if (own >= s->user_max)
        return err_set(e, ERR_LIMITED, "you have %lld streams open: close one first",
                       (long long)own);
    if ((int64_t)s->n_pipes >= s->all_max)
        return err_set(e, ERR_LIMITED, "the server has %lld streams open: try again later",
                       (long long)s->all_max);
    return OK;
}

int fleet_stream_grant(struct fleet *f, const struct stream_ask *ask, char id[STREAM_ID_SIZE],
                       struct err *e)
{
    struct streams *s = f->streams;
    struct grant *g = mem_alloc(sizeof(*g));
    *g = (struct grant){.user = ask->user,
                        .node = ask->node,
                        .attempt = ask->attempt,
                        .many = ask->many,
                        .request = mem_strdup(ask->request),
                        .until_us = mono_us() + GRANT_S * US_PER_S};
    id_make(g->id);
    pthread_mutex_lock(&s->lock);
    int rc = check_room(s, ask->user, e);
    if (rc == OK && s->n_grants >= (size_t)s->all_max * 4)
        rc = err_set(e, ERR_LIMITED, "the server has %lld streams open: try again later",
                     (long long)s->all_max);
    if (rc == OK) {
        memcpy(id, g->id, STREAM_ID_SIZE);
        g->next = s->grants;
        s->grants = g;
        s->n_grants++;
    }
    pthread_mutex_unlock(&s->lock);
    if (rc != OK)
        grant_free(g);
    return rc;
}

/* Under the lock. */
static void grant_drop(struct streams *s, struct grant **at)
{
    struct grant *g = *at;
    *at = g->next;
    s->n_grants--;
    grant_free(g);
}

/* ---- pipes ---- */

/* Under the lock. */
static void pipe_put(struct stream_pipe *p)
{
    struct streams *s = p->streams;
    if (--p->refs > 0)
        return;
    for (struct stream_pipe **at = &s->pipes; *at != NULL; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            s->n_pipes--;
            break;
        }
    mem_free(p->request);
    mem_free(p);
}

/* Under the lock. */
static void pipe_close(struct stream_pipe *p, int code, const char *why)
{
    p->over = true;
    for (int i = 0; i < 2; i++)
        if (p->side[i].ws != NULL)
            ws_close(p->side[i].ws, code, why);
}

/* Tells the person why there is nothing to talk to. Under the lock. */
static void pipe_refuse(struct stream_pipe *p, const char *text)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "error");
    json_ktext(&j, "kind", err_row(ERR_UNAVAILABLE)->name);
    json_ktext(&j, "text", text);
    json_close(&j, '}');
    if (p->side[USER].ws != NULL)
        ws_send_text(p->side[USER].ws, b.data, b.len);
    pipe_close(p, 1000, "refused");
}

static void on_message(struct ws *ws, void *ctx, const char *data, size_t n, bool binary)
{
    struct pipe_side *from = ctx;
    struct stream_pipe *p = from->pipe;
    pthread_mutex_lock(&p->streams->lock);
    struct ws *to = p->side[from == &p->side[USER] ? AGENT : USER].ws;
    p->moved_us = mono_us();
    if (to == NULL)
        ws_close(ws, 1008, "nobody is there yet");
    else if (binary ? !ws_send_binary(to, data, n) : !ws_send_text(to, data, n))
        pipe_close(p, 1013, "too slow");
    pthread_mutex_unlock(&p->streams->lock);
}

static void on_closed(struct ws *ws, void *ctx, int code)
{
    struct pipe_side *side = ctx;
    struct stream_pipe *p = side->pipe;
    struct streams *s = p->streams;
    pthread_mutex_lock(&s->lock);
    side->ws = NULL;
    /* An agent that goes has said all; a person who goes ends what was begun. */
    if (!p->over && side == &p->side[AGENT] && code != 1000)
        pipe_refuse(p, "the node closed the stream");
    else
        pipe_close(p, 1000, "the other side has left");
    pipe_put(p);
    pthread_mutex_unlock(&s->lock);
}

static const struct ws_ops pipe_ops = {on_message, on_closed};
static const struct ws_limits pipe_limits = {
    .message_max = DUPLEX_MESSAGE_MAX, .backlog_max = STREAM_BACKLOG, .ping_s = 20, .silent_s = 90};

static bool tell_agent(struct stream_pipe *p)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "stream_open");
    json_kint(&j, "id", p->attempt);
    json_ktext(&j, "stream", p->id);
    json_key(&j, "request");
    json_raw(&j, p->request);
    json_close(&j, '}');
    return fleet_send(p->streams->fleet, p->node, b.data, b.len);
}

static void user_opened(struct ws *ws, void *ctx)
{
    struct pipe_side *side = ctx;
    struct stream_pipe *p = side->pipe;
    pthread_mutex_lock(&p->streams->lock);
    side->ws = ws;
    if (!tell_agent(p))
        pipe_refuse(p, "the job's node does not answer: try again when it is back");
    pthread_mutex_unlock(&p->streams->lock);
}

static void agent_opened(struct ws *ws, void *ctx)
{
    struct pipe_side *side = ctx;
    struct stream_pipe *p = side->pipe;
    pthread_mutex_lock(&p->streams->lock);
    side->ws = ws;
    if (p->over)
        ws_close(ws, 1001, "the other side has left");
    pthread_mutex_unlock(&p->streams->lock);
}

static int accept_side(struct request *q, struct stream_pipe *p, int which)
{
    struct streams *s = p->streams;
    if (ws_accept(q->http, DUPLEX_PROTOCOL, &pipe_ops, &pipe_limits, &p->side[which],
                  which == USER ? user_opened : agent_opened) == NULL) {
        pthread_mutex_lock(&s->lock);
        pipe_close(p, 1011, "refused");
        pipe_put(p);
        pthread_mutex_unlock(&s->lock);
    }
    return REQUEST_TAKEN;
}

int fleet_stream_user(struct fleet *f, struct request *q, const char *id, struct err *e)
{
    struct streams *s = f->streams;
    struct stream_pipe *p = NULL;
    int rc = OK;
    pthread_mutex_lock(&s->lock);
    struct grant **at = &s->grants;
    while (*at != NULL && !(strcmp((*at)->id, id) == 0 && (*at)->user == q->who.user_id))
        at = &(*at)->next;
    struct grant *g = *at;
    if (g == NULL || g->until_us < mono_us())
        rc = err_set(e, ERR_NOT_FOUND, "there is no such stream, or it was not used in time");
    if (rc == OK)
        rc = check_room(s, g->user, e);
    if (rc == OK) {
        p = mem_alloc(sizeof(*p));
        *p = (struct stream_pipe){.next = s->pipes,
                                  .streams = s,
                                  .who = q->who,
                                  .node = g->node,
                                  .attempt = g->attempt,
                                  .request = mem_strdup(g->request),
                                  .refs = 1,
                                  .begun_us = mono_us(),
                                  .moved_us = mono_us()};
        p->side[USER].pipe = p->side[AGENT].pipe = p;
        id_make(p->id);
        s->pipes = p;
        s->n_pipes++;
        g->until_us = mono_us() + GRANT_MANY_S * US_PER_S;
        if (!g->many)
            grant_drop(s, at);
    }
    pthread_mutex_unlock(&s->lock);
    return rc == OK ? accept_side(q, p, USER) : rc;
}

int fleet_stream_agent(struct fleet *f, struct request *q, const char *id, struct err *e)
{
    struct streams *s = f->streams;
    pthread_mutex_lock(&s->lock);
    struct stream_pipe *p = s->pipes;
    while (p != NULL && strcmp(p->id, id) != 0)
        p = p->next;
    /* An agent of another host may take its own node's only; node 0: the server's own socket. */
    if (p != NULL && (p->claimed || p->over || (q->who.node_id != 0 && q->who.node_id != p->node)))
        p = NULL;
    if (p != NULL) {
        p->claimed = true;
        p->refs++;
    }
    pthread_mutex_unlock(&s->lock);
    if (p == NULL)
        return err_set(e, ERR_NOT_FOUND, "nobody waits for this stream");
    return accept_side(q, p, AGENT);
}

size_t fleet_streams_open(struct fleet *f)
{
    pthread_mutex_lock(&f->streams->lock);
    size_t n = f->streams->n_pipes;
    pthread_mutex_unlock(&f->streams->lock);
    return n;
}

/* Whose credential is not good any more loses what it opened. Asked without the lock, because it
 * may read the store. */
static void drop_revoked(struct streams *s)
{
    struct seen {
        char id[STREAM_ID_SIZE];
        struct principal who;
    };
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    AUTO(mem) struct seen *seen = mem_alloc((s->n_pipes + 1) * sizeof(*seen));
    for (const struct stream_pipe *p = s->pipes; p != NULL; p = p->next, n++) {
        memcpy(seen[n].id, p->id, STREAM_ID_SIZE);
        seen[n].who = p->who;
    }
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++) {
        if (identity_still_holds(s->fleet->house, &seen[i].who))
            continue;
        pthread_mutex_lock(&s->lock);
        for (struct stream_pipe *p = s->pipes; p != NULL; p = p->next)
            if (strcmp(p->id, seen[i].id) == 0 && !p->over)
                pipe_refuse(p, "your sign-in has ended");
        pthread_mutex_unlock(&s->lock);
    }
}

/* Duty: grants that nobody used, agents that did not answer, streams in which nothing moves. */
void streams_sweep(struct house *h, void *state)
{
    struct streams *s = ((struct fleet *)state)->streams;
    int64_t now = mono_us();
    drop_revoked(s);
    pthread_mutex_lock(&s->lock);
    for (struct grant **at = &s->grants; *at != NULL;)
        if ((*at)->until_us < now)
            grant_drop(s, at);
        else
            at = &(*at)->next;
    for (struct stream_pipe *p = s->pipes; p != NULL; p = p->next)
        if (!p->claimed && !p->over && now - p->begun_us > AGENT_S * US_PER_S)
            pipe_refuse(p, "the job's node did not open the stream in time");
        else if (!p->over && now - p->moved_us > s->idle_us)
            pipe_refuse(p, "nothing moved in this stream for too long: it was closed");
    pthread_mutex_unlock(&s->lock);
}
