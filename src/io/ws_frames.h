/* WebSocket frames and the opening handshake's key, for both sides; no sockets here.
 *
 * Sources: RFC 6455 sections 1.3 (key), 5 (frames), 7.4 (close codes), 8.1 (UTF-8).
 * Threads: a reader belongs to one thread at a time.
 */
#ifndef IO_WS_FRAMES_H
#define IO_WS_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_opcode { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum {
    WS_NORMAL = 1000,
    WS_GOING_AWAY = 1001,
    WS_PROTOCOL_ERROR = 1002,
    WS_NO_CODE = 1005, /* never on the wire */
    WS_LOST = 1006,    /* never on the wire */
    WS_BAD_TEXT = 1007,
    WS_TOO_BIG = 1009,
    WS_TRY_LATER = 1013,
};
enum { WS_HEAD_MAX = 14, WS_CONTROL_MAX = 125, WS_KEY_SIZE = 25, WS_ACCEPT_SIZE = 29 };

struct ws_reader;
struct ws_reader_ops {
    void (*message)(void *ctx, const char *data, size_t n, bool binary);
    void (*ping)(void *ctx, const char *data, size_t n);
    void (*pong)(void *ctx);              /* may be NULL */
    void (*closing)(void *ctx, int code); /* WS_NO_CODE: the peer gave none */
};
/* masked: whether the peer's frames must be masked (they come from a client) or must not be. */
struct ws_reader *ws_reader_create(bool masked, size_t message_max, const struct ws_reader_ops *ops,
                                   void *ctx);
void ws_reader_destroy(struct ws_reader *r); /* NULL is fine */
/* 0; else the code to close with, and the reader takes no more. */
int ws_reader_feed(struct ws_reader *r, const char *p, size_t n);

/* A frame's head; mask NULL: unmasked. Returns its length. */
size_t ws_frame_head(uint8_t to[WS_HEAD_MAX], int opcode, size_t n, const uint8_t mask[4]);
/* The payload of a close frame. Returns its length. */
size_t ws_close_payload(char to[WS_CONTROL_MAX], int code, const char *reason);

/* A fresh Sec-WebSocket-Key, and the Sec-WebSocket-Accept that answers a key. */
const char *ws_key_make(char to[WS_KEY_SIZE]);
bool ws_key_valid(const char *key);
const char *ws_key_accept(const char *key, char to[WS_ACCEPT_SIZE]);

#endif
