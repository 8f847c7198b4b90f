/* Moving bytes between descriptors and a WebSocket, by credit.
 *
 * What must stay true: nothing is read from a descriptor before its bytes may be sent, so what is
 * held here is at most a window a channel; bytes of a channel keep their order and its end comes
 * after them. Descriptors may be blocking ones that are shared with other programs (a terminal), so
 * they are only touched when poll(2) says so, and written in pieces that a ready pipe takes. */
#include "io/duplex.h"

#include "base/json.h"
#include "base/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EXTRA_MAX = 8,
    CREDIT_STEP = DUPLEX_WINDOW / 4, /* credit is told in steps of this */
    PIPE_PIECE = 4096,               /* a pipe that poll calls writable takes this much */
    PING_US = 20 * 1000000,
    SILENT_US = 90 * 1000000,
};

void duplex_init(struct duplex *d, struct ws_client *ws,
                 void (*word)(void *ctx, const char *type, const struct jv *message), void *ctx)
{
    *d = (struct duplex){.ws = ws, .word = word, .ctx = ctx};
    d->heard_us = d->pinged_us = mono_us();
    for (int i = 0; i < DUPLEX_CHANNELS; i++)
        d->channel[i] = (struct duplex_channel){
            .from = -1, .to = -1, .credit = DUPLEX_WINDOW, .in = {.max = 2 * DUPLEX_WINDOW}};
}

void duplex_fini(struct duplex *d)
{
    for (int i = 0; i < DUPLEX_CHANNELS; i++)
        buf_fini(&d->channel[i].in);
}

int duplex_say(struct duplex *d, const char *json, size_t n, struct err *e)
{
    return ws_client_send(d->ws, json, n, false, e);
}

int duplex_end(struct duplex *d, int channel, struct err *e)
{
    uint8_t frame = (uint8_t)channel;
    d->channel[channel].from = -1;
    return ws_client_send(d->ws, &frame, 1, true, e);
}

bool duplex_flushed(const struct duplex *d)
{
    for (int i = 0; i < DUPLEX_CHANNELS; i++)
        if (d->channel[i].in.len > 0)
            return false;
    return true;
}

/* ---- what comes ---- */

static void to_end(struct duplex_channel *c)
{
    if (c->to < 0)
        return;
    if (shutdown(c->to, SHUT_WR) != 0 && errno == ENOTSOCK && c->to > STDERR_FILENO)
        close(c->to);
    c->to = -1;
}

static void take_data(struct duplex *d, const uint8_t *p, size_t n)
{
    if (n < 1 || p[0] >= DUPLEX_CHANNELS || d->channel[p[0]].ended) {
        err_set(&d->fault, ERR_UPSTREAM, "the other end of the stream sent what is no frame");
        return;
    }
    struct duplex_channel *c = &d->channel[p[0]];
    if (n == 1) {
        c->ended = true;
        return;
    }
    c->got += n - 1;
    if (c->deaf || (c->to < 0 && c->in.len == 0)) {
        c->owed += n - 1;
        return;
    }
    if (c->in.len + c->owed + n - 1 > DUPLEX_WINDOW)
        err_set(&d->fault, ERR_UPSTREAM, "the other end of the stream sent more than was welcome");
    else
        buf_add(&c->in, p + 1, n - 1);
}

static void take_word(struct duplex *d, const char *data, size_t n)
{
    AUTO(jv) struct jv *v = NULL;
    const char *type = jv_parse(data, n, &v, NULL, NULL) == OK ? jv_get_text(v, "type") : NULL;
    if (type == NULL) {
        err_set(&d->fault, ERR_UPSTREAM, "the other end of the stream sent what is no message");
        return;
    }
    if (strcmp(type, "credit") != 0) {
        d->word(d->ctx, type, v);
        return;
    }
    int64_t channel = jv_get_int(v, "channel", -1), bytes = jv_get_int(v, "bytes", -1);
    if (channel < 0 || channel >= DUPLEX_CHANNELS || bytes < 0 ||
        d->channel[channel].credit + (uint64_t)bytes > DUPLEX_WINDOW)
        err_set(&d->fault, ERR_UPSTREAM, "the other end of the stream gave credit for nothing");
    else
        d->channel[channel].credit += (size_t)bytes;
}

static void on_message(void *ctx, const char *data, size_t n, bool binary)
{
    struct duplex *d = ctx;
    if (d->fault.kind != OK)
        return;
    if (binary)
        take_data(d, (const uint8_t *)data, n);
    else
        take_word(d, data, n);
}

static int give_credit(struct duplex *d, int channel, struct err *e)
{
    struct duplex_channel *c = &d->channel[channel];
    char text[80];
    if (c->owed < CREDIT_STEP || c->ended)
        return OK;
    int n = snprintf(text, sizeof(text), "{\"type\":\"credit\",\"channel\":%d,\"bytes\":%zu}",
                     channel, c->owed);
    c->owed = 0;
    return duplex_say(d, text, (size_t)n, e);
}

/* Writes what waits; the descriptor is ready. */
static void drain(struct duplex_channel *c)
{
    size_t piece = c->in.len;
    int flags = fcntl(c->to, F_GETFL);
    if (piece > PIPE_PIECE && (flags & O_NONBLOCK) == 0)
        piece = PIPE_PIECE;
    ssize_t n = write(c->to, c->in.data, piece);
    if (n > 0) {
        buf_drop_front(&c->in, (size_t)n);
        c->owed += (size_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->deaf = true;
        c->owed += c->in.len;
        buf_reset(&c->in);
        to_end(c);
    }
}

/* ---- what goes ---- */

static int feed(struct duplex *d, int channel, struct err *e)
{
    struct duplex_channel *c = &d->channel[channel];
    size_t most = c->credit < DUPLEX_FRAME_MAX ? c->credit : DUPLEX_FRAME_MAX;
    ssize_t n = read(c->from, d->frame + 1, most);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return OK;
    if (n <= 0) /* also the EIO of a terminal whose other side was closed */
        return duplex_end(d, channel, e);
    d->frame[0] = (uint8_t)channel;
    c->credit -= (size_t)n;
    c->sent += (uint64_t)n;
    return ws_client_send(d->ws, d->frame, (size_t)n + 1, true, e);
}

static int keep_alive(struct duplex *d, struct err *e)
{
    int64_t now = mono_us();
    if (now - d->heard_us > SILENT_US)
        return err_set(e, ERR_UNAVAILABLE, "the server has been silent for too long");
    if (now - d->pinged_us < PING_US)
        return OK;
    d->pinged_us = now;
    return ws_client_ping(d->ws, e);
}

static int hear(struct duplex *d, struct err *e)
{
    d->heard_us = mono_us();
    d->fault.kind = OK;
    int rc = ws_client_pump(d->ws, on_message, d, e);
    if (rc == OK && d->fault.kind != OK) {
        *e = d->fault;
        rc = d->fault.kind;
    }
    return rc;
}

static int move(struct duplex *d, const struct pollfd *p, const int *what, size_t n, struct err *e)
{
    int rc = OK;
    for (size_t i = 0; i < n && rc == OK; i++) {
        struct duplex_channel *c = &d->channel[what[i] >> 1];
        if (p[i].revents == 0)
            continue;
        if (what[i] & 1)
            drain(c);
        else
            rc = feed(d, what[i] >> 1, e);
    }
    for (int i = 0; i < DUPLEX_CHANNELS && rc == OK; i++) {
        struct duplex_channel *c = &d->channel[i];
        if (c->ended && c->in.len == 0)
            to_end(c);
        rc = give_credit(d, i, e);
    }
    return rc;
}

int duplex_step(struct duplex *d, struct pollfd *extra, size_t n_extra, int timeout_ms,
                struct err *e)
{
    struct pollfd p[1 + EXTRA_MAX + 2 * DUPLEX_CHANNELS];
    int what[2 * DUPLEX_CHANNELS]; /* channel * 2, + 1 for writing */
    size_t own = 1 + n_extra, n = 0;
    p[0] = (struct pollfd){.fd = ws_client_fd(d->ws), .events = POLLIN};
    for (size_t i = 0; i < n_extra; i++)
        p[1 + i] = extra[i];
    for (int i = 0; i < DUPLEX_CHANNELS; i++) {
        const struct duplex_channel *c = &d->channel[i];
        if (c->from >= 0 && c->credit > 0 && d->open) {
            p[own + n] = (struct pollfd){.fd = c->from, .events = POLLIN};
            what[n++] = i * 2;
        }
        if (c->to >= 0 && c->in.len > 0) {
            p[own + n] = (struct pollfd){.fd = c->to, .events = POLLOUT};
            what[n++] = i * 2 + 1;
        }
    }
    bool pending = ws_client_pending(d->ws);
    if (poll(p, own + n, pending ? 0 : timeout_ms) < 0) {
        if (errno != EINTR)
            return err_sys(e, "poll");
        for (size_t i = 0; i < own + n; i++)
            p[i].revents = 0;
    }
    for (size_t i = 0; i < n_extra; i++)
        extra[i].revents = p[1 + i].revents;
    int rc = move(d, p + own, what, n, e);
    if (rc == OK && (p[0].revents != 0 || pending)) {
        rc = hear(d, e);
        if (rc == OK) /* what has ended and has nothing waiting ends at once */
            rc = move(d, NULL, NULL, 0, e);
    }
    if (rc == OK)
        rc = keep_alive(d, e);
    d->closed |= rc != OK;
    return rc;
}
