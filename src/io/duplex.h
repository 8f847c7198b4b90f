/* A WebSocket client's connection as a few channels of bytes, each between descriptors of two
 * machines, with credit, so that a slow reader at one end stops the writer at the other end and
 * nothing in between has to hold more than a window.
 *
 * Wire, sub-protocol drover-stream.1 (docs/code-and-results.md):
 *   binary   u8 channel, bytes; no bytes: this channel ends
 *   text     {"type":"credit","channel":n,"bytes":n}   so many bytes were taken
 *            any other type is a word between the two ends
 * A sender has at most DUPLEX_WINDOW bytes of a channel out that were not credited.
 *
 * Descriptors: `from` is read and never closed here; `to` is written, and at its channel's end a
 * socket is shut down for writing, another one is closed, unless it is one of the standard three.
 * Threads: one. SIGPIPE must be ignored. */
#ifndef IO_DUPLEX_H
#define IO_DUPLEX_H

#include "base/err.h"
#include "base/mem.h"
#include "io/json_in.h"
#include "io/ws.h"

#include <poll.h>

#define DUPLEX_PROTOCOL "drover-stream.1"
enum {
    DUPLEX_IN,  /* towards the job */
    DUPLEX_OUT, /* from it */
    DUPLEX_ERR,
    DUPLEX_CHANNELS
};
enum {
    DUPLEX_WINDOW = 256 << 10,
    DUPLEX_FRAME_MAX = 64 << 10,
    DUPLEX_MESSAGE_MAX = DUPLEX_FRAME_MAX + 1024,
};

struct duplex_channel {
    int from, to;       /* -1: none */
    size_t credit;      /* bytes that may still be sent */
    bool ended;         /* the peer sends no more on it */
    bool deaf;          /* `to` broke: what comes is thrown away */
    struct buf in;      /* received, not written yet */
    size_t owed;        /* written, not credited yet */
    uint64_t sent, got; /* bytes in all */
};
struct duplex {
    struct ws_client *ws; /* the caller's */
    struct duplex_channel channel[DUPLEX_CHANNELS];
    bool open; /* the peer is there: data may be sent */
    bool closed;
    int64_t heard_us, pinged_us; /* mono */
    /* A word of the peer, with its type. May set `open`. */
    void (*word)(void *ctx, const char *type, const struct jv *message);
    void *ctx;
    struct err fault; /* set while a message is read */
    uint8_t frame[1 + DUPLEX_FRAME_MAX];
};

void duplex_init(struct duplex *d, struct ws_client *ws,
                 void (*word)(void *ctx, const char *type, const struct jv *message), void *ctx);
void duplex_fini(struct duplex *d);
/* One round of waiting and moving bytes. extra (n of them, at most 8) are the caller's own
 * descriptors, polled beside. ERR_UNAVAILABLE: the peer has closed or is gone (d->closed). */
int duplex_step(struct duplex *d, struct pollfd *extra, size_t n, int timeout_ms, struct err *e);
int duplex_say(struct duplex *d, const char *json, size_t n, struct err *e);
/* Ends a channel of ours without waiting for the end of its `from`. */
int duplex_end(struct duplex *d, int channel, struct err *e);
/* All that came has been written. */
bool duplex_flushed(const struct duplex *d);

#endif
