/* The WebSocket client of the agent and the command line: a blocking handshake with a time
 * limit, then non-blocking reads and bounded writes on the caller's thread.
 *
 * A write that ran out of
 * time may have left half a frame: the connection is of no use after that and says so.
 */
#include "io/ws.h"

#include "io/ask.h"
#include "io/ws_frames.h"

#include "base/str.h"
#include "base/world.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_TIMEOUT_MS = 10000,
    DEFAULT_MESSAGE_MAX = 1 << 20,
    READ_BYTES = 64 << 10,
    PUMP_BYTES_MAX = 4 << 20, /* one pump call gives the caller's loop a turn after this */
    MASK_BYTES = 16 << 10,
};

struct ws_client {
    struct dial *dial;
    int timeout_ms;
    struct ws_reader *reader;
    pthread_mutex_t send_lock;
    bool broken; /* under send_lock */
    /* the pumping thread only */
    void (*fn)(void *ctx, const char *data, size_t n, bool binary);
    void *ctx;
    int peer_code; /* 0: the peer has not closed */
};

/* ---- the handshake ---- */

static int shake_hands(const struct ws_client *c, const struct ws_client_config *config,
                       int64_t deadline_us, struct err *e)
{
    char key[WS_KEY_SIZE], accept[WS_ACCEPT_SIZE], value[256], more[512];
    AUTO(mem) struct ask_head *head = mem_alloc(sizeof(*head));
    snprintf(more, sizeof(more),
             "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: %s\r\n%s%s%s",
             ws_key_make(key), config->protocol != NULL ? "Sec-WebSocket-Protocol: " : "",
             config->protocol != NULL ? config->protocol : "",
             config->protocol != NULL ? "\r\n" : "");
    struct ask ask = {.path = config->path, .bearer = config->bearer, .more = more};
    int kind = ask_send(c->dial, config->to, &ask, deadline_us, head, e);
    if (kind != OK)
        return kind;
    if (head->status != 101)
        return ask_problem(c->dial, head, deadline_us, e);
    if (!str_eq(ask_value(head, "Sec-WebSocket-Accept", value), ws_key_accept(key, accept)))
        return err_set(e, ERR_UPSTREAM, "the server's answer is not a WebSocket's");
    const char *protocol = ask_value(head, "Sec-WebSocket-Protocol", value);
    if (config->protocol != NULL && !str_eq(protocol, config->protocol))
        return err_set(e, ERR_UPSTREAM, "the server does not speak %s", config->protocol);
    return OK;
}

/* ---- frames ---- */

/* send_lock is held. */
static int send_frame(struct ws_client *c, int opcode, const void *p, size_t n, struct err *e)
{
    if (c->broken)
        return err_set(e, ERR_UNAVAILABLE, "the connection to the server is lost");
    int64_t deadline_us = mono_us() + c->timeout_ms * US_PER_MS;
    uint8_t mask[4], head[WS_HEAD_MAX];
    random_bytes(mask, sizeof(mask));
    size_t n_head = ws_frame_head(head, opcode, n, mask);
    AUTO(mem) char *part = mem_alloc(WS_HEAD_MAX + (n < MASK_BYTES ? n : MASK_BYTES));
    memcpy(part, head, n_head);
    size_t done = 0, len = n_head;
    int kind = OK;
    do {
        size_t step = n - done < MASK_BYTES ? n - done : MASK_BYTES;
        for (size_t i = 0; i < step; i++)
            part[len + i] = (char)(((const uint8_t *)p)[done + i] ^ mask[(done + i) % 4]);
        kind = dial_write(c->dial, part, len + step, deadline_us, e);
        done += step;
        len = 0;
    } while (kind == OK && done < n);
    c->broken = kind != OK;
    return kind;
}

static int send_locked(struct ws_client *c, int opcode, const void *p, size_t n, struct err *e)
{
    pthread_mutex_lock(&c->send_lock);
    int kind = send_frame(c, opcode, p, n, e);
    pthread_mutex_unlock(&c->send_lock);
    return kind;
}

int ws_client_send(struct ws_client *c, const void *data, size_t n, bool binary, struct err *e)
{
    return send_locked(c, binary ? WS_BINARY : WS_TEXT, data, n, e);
}

int ws_client_ping(struct ws_client *c, struct err *e)
{
    return send_locked(c, WS_PING, "", 0, e);
}

static void on_message(void *ctx, const char *data, size_t n, bool binary)
{
    struct ws_client *c = ctx;
    if (c->peer_code == 0)
        c->fn(c->ctx, data, n, binary);
}

static void on_ping(void *ctx, const char *data, size_t n)
{
    /* A pong that cannot be sent shows at the next read. */
    send_locked(ctx, WS_PONG, data, n, NULL);
}

static void on_closing(void *ctx, int code)
{
    struct ws_client *c = ctx;
    c->peer_code = code;
}

static const struct ws_reader_ops reader_ops = {
    .message = on_message,
    .ping = on_ping,
    .closing = on_closing,
};

static void send_close(struct ws_client *c, int code)
{
    char payload[WS_CONTROL_MAX];
    size_t n = ws_close_payload(payload, code, NULL);
    send_locked(c, WS_CLOSE, payload, n, NULL);
}

int ws_client_pump(struct ws_client *c,
                   void (*fn)(void *ctx, const char *data, size_t n, bool binary), void *ctx,
                   struct err *e)
{
    AUTO(mem) char *part = mem_alloc(READ_BYTES);
    c->fn = fn;
    c->ctx = ctx;
    for (size_t total = 0; total < PUMP_BYTES_MAX;) {
        size_t n;
        int kind = dial_read(c->dial, part, READ_BYTES, &n, e);
        if (kind != OK || n == 0)
            return kind;
        total += n;
        int fault = ws_reader_feed(c->reader, part, n);
        if (fault != 0) {
            send_close(c, fault);
            return err_set(e, ERR_UPSTREAM, "the server sent what is not WebSocket (%d)", fault);
        }
        if (c->peer_code != 0) {
            send_close(c, c->peer_code);
            return err_set(e, ERR_UNAVAILABLE, "the server closed the connection (%d)",
                           c->peer_code);
        }
        if (n < READ_BYTES && !dial_pending(c->dial))
            return OK;
    }
    return OK;
}

int ws_client_fd(const struct ws_client *c)
{
    return dial_fd(c->dial);
}

bool ws_client_pending(const struct ws_client *c)
{
    return dial_pending(c->dial);
}

static void client_free(struct ws_client *c)
{
    dial_close(c->dial);
    ws_reader_destroy(c->reader);
    pthread_mutex_destroy(&c->send_lock);
    mem_free(c);
}

int ws_client_connect(const struct ws_client_config *config, struct ws_client **out, struct err *e)
{
    struct ws_client *c = mem_alloc(sizeof(*c));
    c->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : DEFAULT_TIMEOUT_MS;
    pthread_mutex_init(&c->send_lock, NULL);
    size_t message_max = config->message_max > 0 ? config->message_max : DEFAULT_MESSAGE_MAX;
    c->reader = ws_reader_create(false, message_max, &reader_ops, c);
    int64_t deadline_us = mono_us() + c->timeout_ms * US_PER_MS;
    int kind = c->reader != NULL ? OK : err_set(e, ERR_INTERNAL, "no WebSocket can be opened now");
    if (kind == OK)
        kind = dial_open(config->to, deadline_us, &c->dial, e);
    if (kind == OK)
        kind = shake_hands(c, config, deadline_us, e);
    if (kind != OK) {
        client_free(c);
        return kind;
    }
    *out = c;
    return OK;
}

void ws_client_close(struct ws_client *c)
{
    if (c == NULL)
        return;
    if (c->peer_code == 0) {
        c->timeout_ms = 1000; /* a peer that does not read must not hold us up */
        send_close(c, WS_NORMAL);
    }
    client_free(c);
}
