/* The link to the server. Both sides say what is, not what happened: after a reconnect everything
 * that matters is said again and every message may come twice. The server sets the pace of logs:
 * nothing is sent before it has said from where, and at most a window is unacknowledged. */
#include "agent/node.h"
#include "agent/files.h"
#include "agent/stream.h"
#include "files/sync.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    BACKOFF_LEAST_MS = 200,
    BACKOFF_MOST_MS = 5000,
    BACKOFF_LOCAL_MS = 500, /* asking a socket of this host costs nobody anything */
    CONNECT_TIMEOUT_MS = 5000,
    MESSAGE_MAX = SYNC_MESSAGE_MAX, /* from the server: a start is below 2 MiB, a tree is not */
    HELLO_BYTES_MAX = 7 << 20,      /* the server takes 8 MiB */
    FRAME_BYTES = 128 << 10,        /* of spool in one frame */
    WINDOW_BYTES = 1 << 20,         /* unacknowledged, per attempt */
    FLIGHT_BYTES = 8 << 20,         /* of all logs on their way: protects the server's inbox */
    FLIGHT_US = 1000000,            /* what is on its way longer than that has arrived */
    TURN_BYTES = 1 << 20,           /* of all logs before others get the loop */
    VERDICT_US = 2 * 1000000,
    VERDICT_LOOK_US = 20 * 1000,
    REFUSED_WAIT_S = 60,
    REMOVED_GRACE_US = 10 * 1000000,
    SAY_CUT_US = 5 * 1000000
};
#define SAY_AGAIN_US (INT64_C(600) * US_PER_S)
_Static_assert(FRAME_BYTES >= 65536 + 16, "a frame takes the longest record");

/* Give or take half of it, so that many agents do not come back to a server in one moment. */
static int64_t jitter(int64_t us)
{
    return us / 2 + (int64_t)random_below((uint64_t)us);
}

static void later(struct agent *g)
{
    int most = g->config.local ? BACKOFF_LOCAL_MS : BACKOFF_MOST_MS, ms = g->backoff_ms;
    g->connect_at = mono_us() + jitter(ms * US_PER_MS);
    g->backoff_ms = ms * 2 < most ? ms * 2 : most;
}

void link_down(struct agent *g)
{
    if (g->ws == NULL)
        return;
    if (g->reading) { /* its own callback is on the stack: link_read() closes it */
        g->broken = true;
        return;
    }
    ws_client_close(g->ws);
    g->ws = NULL;
    if (g->welcome)
        g->since_us = g->cut_us = now_us();
    g->welcome = g->broken = false;
    later(g);
    for (struct attempt *a = g->first; a != NULL; a = a->next)
        a->ship = false;
}

static bool send_text(struct agent *g, const struct buf *text)
{
    struct err e;
    if (g->ws == NULL || g->broken)
        return false;
    if (!text->overflow && ws_client_send(g->ws, text->data, text->len, false, &e) == OK)
        return true;
    log_warning("agent", "the link broke while sending: %s", e.text);
    link_down(g);
    return false;
}

/* ---- connecting ---- */

static void say_hello(struct agent *g)
{
    AUTO(buf) struct buf text = {0};
    struct json j = json_to(&text);
    gpu_sample(g->gpus, g->sample);
    struct hello h = {.name = g->config.name != NULL ? g->config.name : g->host.name,
                      .boot_id = g->boot_id,
                      .gpu_note = g->sample->note[0] != '\0' ? g->sample->note : NULL,
                      .host = &g->host,
                      .groups = &g->groups,
                      .isolating = &g->isolating};
    hello_write(&h, &j);
    for (struct attempt *a = g->first; a != NULL; a = a->next)
        a->ship = false;
    /* Live ones first: what is not in the list does not run, as the server sees it. Ended ones that
     * find no room follow as messages of their own. */
    bool more = false;
    for (int live = 1; live >= 0; live--)
        for (struct attempt *a = g->first; a != NULL; a = a->next) {
            if (a->journal_us == 0 || attempt_live(a) != (live == 1))
                continue;
            a->report = text.len > HELLO_BYTES_MAX;
            more |= a->report;
            if (a->report)
                continue;
            json_open(&j, '{');
            attempt_json(a, &j);
            json_close(&j, '}');
        }
    json_close(&j, ']');
    json_kbool(&j, "more", more);
    json_close(&j, '}');
    send_text(g, &text);
}

/* Every connection of this node's programs to the server is made here, with the node's credential.
 */
int agent_dial(const struct agent_config *c, const char *path, const char *protocol,
               struct ws_client **out, struct err *e)
{
    struct ws_client_config w = {.to = &c->to,
                                 .path = path,
                                 .bearer = c->token,
                                 .protocol = protocol,
                                 .timeout_ms = CONNECT_TIMEOUT_MS,
                                 .message_max = MESSAGE_MAX};
    return ws_client_connect(&w, out, e);
}

/* Whether why there is no link is to be logged: the first time that it is more than a moment, and
 * then now and again. */
static bool worth_saying(struct agent *g, bool at_once)
{
    int64_t now = mono_us();
    if (!(at_once || ++g->refused >= 3) || (g->said_at != 0 && now - g->said_at < SAY_AGAIN_US))
        return false;
    g->said_at = now;
    return true;
}

/* The server does not want this agent as it is: nothing changes soon, so it is asked slowly. */
static void not_wanted(struct agent *g, const struct err *e)
{
    if (strcmp(e->code, "AGENT_REMOVED") == 0 && !g->removed) {
        log_error("agent", "%s: its jobs are ended, then this agent ends", e->text);
        g->removed = true;
        credential_forget(g->dir);
        for (struct attempt *a = g->first; a != NULL; a = a->next)
            if (attempt_live(a))
                attempt_stop(&g->home, a, STOP_CANCELLED, REMOVED_GRACE_US);
    } else if (worth_saying(g, true)) {
        log_error("agent", "the server refuses this agent: %s. Jobs go on; asking again every %d s",
                  e->text, REFUSED_WAIT_S);
    }
    g->connect_at = mono_us() + jitter(REFUSED_WAIT_S * US_PER_S);
}

static void no_link(struct agent *g, const struct err *e)
{
    snprintf(g->why, sizeof(g->why), "%.250s", e->text);
    if (e->kind == ERR_UNAUTHENTICATED || e->kind == ERR_FORBIDDEN) {
        not_wanted(g, e);
        return;
    }
    if (worth_saying(g, false))
        log_info("agent", "no server yet: %s", e->text);
    later(g);
    if (e->retry_after_s > 0) /* it is there and has too much to do */
        g->connect_at = mono_us() + jitter(e->retry_after_s * US_PER_S);
}

static void connect_now(struct agent *g)
{
    struct err e;
    struct stat st;
    if (fstat(g->dir, &st) == 0 && st.st_nlink == 0) {
        /* whoever took the folder away has no use for us, and jobs could not be told any more */
        log_info("agent", "the data folder is gone: ending");
        g->ending = true;
        return;
    }
    if (dialer_start(&g->config, "/v1/agent/link", "drover-agent.1", &g->dialer, &e) != OK) {
        g->dialer = NULL;
        no_link(g, &e);
        return;
    }
    agent_watch_fd(g, dialer_fd(g->dialer), ON_DIALED, 0);
}

void link_dialed(struct agent *g)
{
    struct err e = {0};
    struct dialer *d = TAKE(g->dialer);
    if (d == NULL)
        return;
    epoll_ctl(g->epoll, EPOLL_CTL_DEL, dialer_fd(d), NULL);
    if (dialer_take(d, &g->ws, &e) != OK) {
        g->ws = NULL;
        no_link(g, &e);
        return;
    }
    if (g->cut_us != 0 && now_us() - g->cut_us > SAY_CUT_US)
        log_info("agent", "connected again after %lld s",
                 (long long)((now_us() - g->cut_us) / US_PER_S));
    g->refused = 0;
    g->said_at = 0;
    g->heard_at = mono_us();
    g->ping_at = g->heard_at + g->silent_us / 4;
    agent_watch_fd(g, ws_client_fd(g->ws), ON_LINK, 0);
    say_hello(g);
}

/* The hello says why there is no GPU list, so the first one waits a moment for the verdict. */
static bool gpus_known(struct agent *g, int64_t now)
{
    if (g->gpus_known || now > g->begun_at + VERDICT_US)
        return true;
    gpu_sample(g->gpus, g->sample);
    g->gpus_known = g->sample->ready;
    if (!g->gpus_known)
        g->connect_at = now + VERDICT_LOOK_US;
    return g->gpus_known;
}

void link_step(struct agent *g, int64_t now)
{
    struct err e;
    if (g->ws == NULL && g->dialer == NULL && !g->removed && now >= g->connect_at &&
        gpus_known(g, now))
        connect_now(g);
    if (g->ws == NULL)
        return;
    if (now - g->heard_at > g->silent_us) {
        log_warning("agent", "the server has been silent for %d s: connecting again",
                    (int)(g->silent_us / US_PER_S));
        link_down(g);
    } else if (now >= g->ping_at) {
        g->ping_at = now + g->silent_us / 4;
        if (ws_client_ping(g->ws, &e) != OK)
            link_down(g);
    }
}

int64_t link_next(const struct agent *g)
{
    if (g->ws == NULL) /* a dialer says by itself when it is done */
        return g->dialer != NULL || g->removed ? INT64_MAX : g->connect_at;
    return g->welcome && g->sample_at < g->ping_at ? g->sample_at : g->ping_at;
}

/* ---- what the server says ---- */

static void refuse_old(struct agent *g, int64_t id, bool exactly)
{
    AUTO(buf) struct buf text = {0};
    struct json j = json_to(&text);
    struct attempt a = {.id = id,
                        .state = exactly ? ATTEMPT_ENDED : ATTEMPT_REFUSED,
                        .exit = {.reason = exactly ? END_SUPERVISOR_LOST : END_START_FAILED,
                                 .code = -1,
                                 .ended_us = now_us()}};
    snprintf(a.exit.detail, sizeof(a.exit.detail), "%s",
             exactly ? "this attempt has ended before and was forgotten: it does not run again"
                     : "this attempt is older than the node remembers: it may have run already");
    json_open(&j, '{');
    json_ktext(&j, "type", "attempt");
    attempt_json(&a, &j);
    json_close(&j, '}');
    send_text(g, &text);
}

static void on_start(struct agent *g, const struct message *m)
{
    struct err e;
    bool exactly;
    AUTO(buf) struct buf spec = {0};
    struct attempt *a = agent_find(g, m->id);
    if (a != NULL) {
        a->report = true; /* said again: it may have missed the first answer */
        return;
    }
    if (journal_forgotten(g->journal, m->id, &exactly)) {
        refuse_old(g, m->id, exactly);
        return;
    }
    a = agent_add(g, m->id);
    a->ship = true;
    snprintf(a->boot_id, sizeof(a->boot_id), "%s", g->boot_id);
    char work[4096];
    struct node_user user = g->user;
    user.work = files_work(g, m->attempt, m->id, work);
    int why = start_read(m->attempt, &g->groups, &user, &g->isolating, a, &spec, &e);
    int disk = why == OK ? attempt_prepare(&g->home, a, spec.data, spec.len) : 0;
    if (why == OK && disk == 0)
        disk = files_begin(g, a, m->attempt);
    if (disk != 0)
        why = err_set(&e, ERR_FULL, "the node's disk does not take the job: %s", strerror(disk));
    if (why != OK) {
        a->n_gpus = 0;
        attempt_end(&g->home, a, END_START_FAILED, "%s", e.text);
    }
    journal_add(g->journal, why == OK ? JOURNAL_ACCEPTED : JOURNAL_REFUSED, m->id);
    g->held_changed = true;
}

static void on_message(void *ctx, const char *data, size_t n, bool binary)
{
    struct agent *g = ctx;
    struct message m;
    struct err e;
    if (binary || message_read(data, n, &m, &e) != OK) {
        log_warning("agent", "a message of the server is not understood: %s",
                    binary ? "it is binary" : e.text);
        return;
    }
    struct attempt *a = m.kind == MESSAGE_START ? NULL : agent_find(g, m.id);
    bool exactly = false;
    switch (m.kind) {
    case MESSAGE_WELCOME:
        g->welcome = true;
        g->bye = false;
        g->since_us = now_us();
        g->cut_us = 0;
        g->backoff_ms = BACKOFF_LEAST_MS;
        g->sample_us = m.sample_ms * 1000;
        g->silent_us = m.silent_ms * 1000;
        g->ping_at = mono_us() + g->silent_us / 4;
        g->sample_at = mono_us();
        gpu_source_interval(g->gpus, (int)m.sample_ms);
        break;
    case MESSAGE_START:
        on_start(g, &m);
        break;
    case MESSAGE_STOP:
        if (a != NULL)
            attempt_stop(&g->home, a, m.why, m.grace_us);
        else if (journal_forgotten(g->journal, m.id, &exactly) && exactly)
            refuse_old(g, m.id, true);
        break;
    case MESSAGE_LOG_FROM:
        if (a != NULL) {
            uint64_t least = a->n_chunks > 0 ? a->chunks[0] : 0;
            a->sent = a->acked = m.offset > least ? m.offset : least;
            a->ship = a->more = true;
        }
        break;
    case MESSAGE_LOG_ACK:
        if (a != NULL && m.offset > a->acked) {
            uint64_t step = m.offset - a->acked;
            g->flight -= step < g->flight ? (size_t)step : g->flight;
            a->acked = m.offset;
            attempt_free_log(&g->home, a, m.offset);
        }
        break;
    case MESSAGE_FORGET:
        if (a != NULL && attempt_live(a) && !a->forget)
            attempt_stop(&g->home, a, STOP_CANCELLED, 0);
        if (a != NULL)
            a->forget = true;
        break;
    case MESSAGE_BYE:
        g->bye = true;
        break;
    case MESSAGE_STREAM_OPEN:
        stream_start(g, a, &m);
        break;
    case MESSAGE_REFUSED:
        link_down(g);
        not_wanted(g, &m.refusal);
        g->refusal = true;
        break;
    case MESSAGE_KINDS:
        break;
    }
    message_fini(&m);
}

void link_read(struct agent *g)
{
    struct err e;
    if (g->ws == NULL)
        return;
    g->heard_at = mono_us();
    g->reading = true;
    int k = ws_client_pump(g->ws, on_message, g, &e);
    g->reading = false;
    if (k != OK)
        log_info("agent", "the link is down: %s", e.text);
    if (k != OK)
        snprintf(g->why, sizeof(g->why), "%.250s", e.text);
    if (k != OK || g->broken)
        link_down(g);
    if (g->refusal) /* link_down() thought that it was worth trying again soon */
        g->connect_at = mono_us() + jitter(REFUSED_WAIT_S * US_PER_S);
    g->refusal = false;
}

bool link_pending(const struct agent *g)
{
    return g->ws != NULL && ws_client_pending(g->ws);
}

/* ---- what the agent says ---- */

void link_reports(struct agent *g)
{
    for (struct attempt *a = g->first; a != NULL && g->ws != NULL; a = a->next) {
        if (!a->report || a->journal_us == 0)
            continue; /* what is not durable here is not said */
        AUTO(buf) struct buf text = {0};
        struct json j = json_to(&text);
        json_open(&j, '{');
        json_ktext(&j, "type", "attempt");
        attempt_json(a, &j);
        json_close(&j, '}');
        if (send_text(g, &text))
            a->report = false;
    }
}

/* One frame of one attempt. Returns its bytes. */
static size_t ship_one(struct agent *g, struct attempt *a)
{
    struct err e;
    if (!a->ship || !a->more || a->journal_us == 0)
        return 0;
    size_t used = a->sent > a->acked ? (size_t)(a->sent - a->acked) : 0;
    size_t room = used < WINDOW_BYTES ? WINDOW_BYTES - used : 0;
    if (room == 0 || g->flight >= FLIGHT_BYTES)
        return 0;
    size_t n = attempt_read_log(&g->home, a, a->sent, g->frame + LOG_FRAME_HEAD, FRAME_BYTES);
    if (n == 0) {
        a->more = false; /* until the folder says that something was written */
        return 0;
    }
    if (n > room)
        return 0; /* the next acknowledgement makes room for whole records */
    log_frame_head(a->id, a->sent, g->frame);
    if (ws_client_send(g->ws, g->frame, LOG_FRAME_HEAD + n, true, &e) != OK) {
        log_warning("agent", "the link broke while sending a log: %s", e.text);
        link_down(g);
        return 0;
    }
    a->sent += n;
    g->flight += n;
    return n;
}

bool link_ship(struct agent *g)
{
    size_t total = 0, idle = 0;
    /* An acknowledgement says "durable" and may be long in coming for the end of a quiet log, so
     * it cannot be waited for before other logs are sent. */
    if (mono_us() >= g->flight_at + FLIGHT_US) {
        g->flight_at = mono_us();
        g->flight = 0;
    }
    while (g->ws != NULL && g->welcome && idle < g->n && g->n > 0 && total < TURN_BYTES) {
        struct attempt *a = g->ship_next != NULL ? g->ship_next : g->first;
        g->ship_next = a->next;
        size_t n = ship_one(g, a);
        total += n;
        idle = n > 0 ? 0 : idle + 1;
    }
    return total >= TURN_BYTES;
}

void link_sample(struct agent *g, int64_t now)
{
    AUTO(buf) struct buf text = {0};
    struct json j = json_to(&text);
    if (g->ws == NULL || !g->welcome || now < g->sample_at)
        return;
    /* On a fixed beat; beats that were missed are not made up for. */
    g->sample_at += g->sample_us;
    if (g->sample_at <= now)
        g->sample_at = now + g->sample_us;
    gpu_sample(g->gpus, g->sample);
    sample_write(g->sample, &g->claims, &g->gpu_use, &g->meter, g->path, &j);
    send_text(g, &text);
}
