/* Messages out of frames. libwslay cuts the bytes into frames; the rules about their order,
 * masks, sizes and text are kept here, because libwslay's own message layer does not look at the
 * mask and answers by itself.
 *
 * A message is never larger than message_max, checked from a frame's head before its payload is
 * stored; each control payload is at most 125 bytes.
 */
#include "io/ws_frames.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include <string.h>
#include <wslay/wslay.h>

enum { KEEP_MESSAGE_MAX = 16 << 10 }; /* between messages no more memory is kept */

struct ws_reader {
    wslay_frame_context_ptr frames;
    const struct ws_reader_ops *ops;
    void *ctx;
    bool masked;
    size_t message_max;

    const char *in; /* what feed was given and is not read yet */
    size_t n_in;

    bool in_frame;      /* a frame's head is there, its payload not all */
    uint64_t got;       /* of its payload */
    int message_opcode; /* 0: no message is open */
    struct buf message;
    char control[WS_CONTROL_MAX];
    size_t n_control;
    int fault;
};

static ssize_t reader_recv(uint8_t *to, size_t n, int flags, void *ctx)
{
    struct ws_reader *r = ctx;
    if (r->n_in == 0)
        return -1;
    n = n < r->n_in ? n : r->n_in;
    memcpy(to, r->in, n);
    r->in += n;
    r->n_in -= n;
    return (ssize_t)n;
}

struct ws_reader *ws_reader_create(bool masked, size_t message_max, const struct ws_reader_ops *ops,
                                   void *ctx)
{
    struct ws_reader *r = mem_alloc(sizeof(*r));
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = reader_recv};
    if (wslay_frame_context_init(&r->frames, &callbacks, r) != 0) {
        mem_free(r);
        return NULL;
    }
    r->masked = masked;
    r->message_max = message_max;
    r->message.max = message_max;
    r->ops = ops;
    r->ctx = ctx;
    return r;
}

void ws_reader_destroy(struct ws_reader *r)
{
    if (r == NULL)
        return;
    wslay_frame_context_free(r->frames);
    buf_fini(&r->message);
    mem_free(r);
}

static bool is_control(int opcode)
{
    return opcode >= WS_CLOSE;
}

/* A frame's head has come. */
static int frame_begin(struct ws_reader *r, const struct wslay_frame_iocb *f)
{
    if (f->rsv != 0 || (f->mask != 0) != r->masked)
        return WS_PROTOCOL_ERROR;
    if (is_control(f->opcode)) {
        bool known = f->opcode == WS_CLOSE || f->opcode == WS_PING || f->opcode == WS_PONG;
        if (!known || !f->fin || f->payload_length > WS_CONTROL_MAX)
            return WS_PROTOCOL_ERROR;
        r->n_control = 0;
        return 0;
    }
    bool continues = f->opcode == WSLAY_CONTINUATION_FRAME;
    if (f->opcode > WS_BINARY || continues != (r->message_opcode != 0))
        return WS_PROTOCOL_ERROR;
    if (!continues)
        r->message_opcode = f->opcode;
    if (f->payload_length > r->message_max - r->message.len)
        return WS_TOO_BIG;
    return 0;
}

static bool close_code_valid(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static int take_close(struct ws_reader *r)
{
    int code = WS_NO_CODE;
    if (r->n_control == 1)
        return WS_PROTOCOL_ERROR;
    if (r->n_control >= 2) {
        code = (unsigned char)r->control[0] << 8 | (unsigned char)r->control[1];
        if (!close_code_valid(code))
            return WS_PROTOCOL_ERROR;
        if (utf8_len(r->control + 2, r->n_control - 2) == (size_t)-1)
            return WS_BAD_TEXT;
    }
    r->ops->closing(r->ctx, code);
    return 0;
}

/* A frame's payload is whole. */
static int frame_end(struct ws_reader *r, const struct wslay_frame_iocb *f)
{
    switch (f->opcode) {
    case WS_CLOSE:
        return take_close(r);
    case WS_PING:
        r->ops->ping(r->ctx, r->control, r->n_control);
        return 0;
    case WS_PONG:
        if (r->ops->pong != NULL)
            r->ops->pong(r->ctx);
        return 0;
    default:
        break;
    }
    if (!f->fin)
        return 0;
    bool binary = r->message_opcode == WS_BINARY;
    if (!binary && utf8_len(buf_str(&r->message), r->message.len) == (size_t)-1)
        return WS_BAD_TEXT;
    r->message_opcode = 0;
    r->ops->message(r->ctx, buf_str(&r->message), r->message.len, binary);
    if (r->message.cap > KEEP_MESSAGE_MAX)
        buf_fini(&r->message);
    else
        buf_reset(&r->message);
    return 0;
}

static int frame_part(struct ws_reader *r, const struct wslay_frame_iocb *f)
{
    int fault = 0;
    if (!r->in_frame) {
        r->in_frame = true;
        r->got = 0;
        fault = frame_begin(r, f);
    }
    if (fault != 0)
        return fault;
    if (is_control(f->opcode)) {
        memcpy(r->control + r->n_control, f->data, f->data_length);
        r->n_control += f->data_length;
    } else if (f->data_length > 0) {
        buf_add(&r->message, f->data, f->data_length);
    }
    r->got += f->data_length;
    if (r->got < f->payload_length)
        return 0;
    r->in_frame = false;
    return frame_end(r, f);
}

int ws_reader_feed(struct ws_reader *r, const char *p, size_t n)
{
    r->in = p;
    r->n_in = n;
    while (r->fault == 0) {
        struct wslay_frame_iocb f = {0};
        ssize_t got = wslay_frame_recv(r->frames, &f);
        if (got >= 0)
            r->fault = frame_part(r, &f);
        else if (got != WSLAY_ERR_WANT_READ)
            r->fault = WS_PROTOCOL_ERROR;
        else if (r->n_in == 0)
            break;
    }
    return r->fault;
}

/* ---- writing ---- */

size_t ws_frame_head(uint8_t to[WS_HEAD_MAX], int opcode, size_t n, const uint8_t mask[4])
{
    size_t len = 2;
    uint8_t masked = mask != NULL ? 0x80 : 0;
    to[0] = (uint8_t)(0x80 | opcode);
    if (n < 126) {
        to[1] = (uint8_t)(masked | n);
    } else if (n < 65536) {
        to[1] = masked | 126;
        to[len++] = (uint8_t)(n >> 8);
        to[len++] = (uint8_t)n;
    } else {
        to[1] = masked | 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            to[len++] = (uint8_t)((uint64_t)n >> shift);
    }
    if (mask != NULL) {
        memcpy(to + len, mask, 4);
        len += 4;
    }
    return len;
}

size_t ws_close_payload(char to[WS_CONTROL_MAX], int code, const char *reason)
{
    if (code == WS_NO_CODE || code == WS_LOST)
        return 0;
    size_t n = reason != NULL ? strlen(reason) : 0;
    if (n > WS_CONTROL_MAX - 2)
        n = WS_CONTROL_MAX - 2;
    /* Cut at a character, never inside one. */
    while (n > 0 && utf8_len(reason, n) == (size_t)-1)
        n--;
    to[0] = (char)(code >> 8);
    to[1] = (char)code;
    if (n > 0)
        memcpy(to + 2, reason, n);
    return n + 2;
}

/* ---- the key: base64(SHA-1(key + a fixed text)) ---- */

static uint32_t rol(uint32_t v, int bits)
{
    return v << bits | v >> (32 - bits);
}

static void sha1_block(uint32_t h[5], const uint8_t block[64])
{
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[i * 4] << 24 | (uint32_t)block[i * 4 + 1] << 16 |
               (uint32_t)block[i * 4 + 2] << 8 | block[i * 4 + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        static const uint32_t k[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        uint32_t f = i < 20              ? (b & c) | (~b & d)
                     : i < 40 || i >= 60 ? b ^ c ^ d
                                         : (b & c) | (b & d) | (c & d);
        uint32_t t = rol(a, 5) + f + e + k[i / 20] + w[i];
        e = d;
        d = c;
        c = rol(b, 30);
        b = a;
        a = t;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* Of texts up to 119 bytes, which is all that a key needs. */
static void sha1_short(const char *s, size_t n, uint8_t out[20])
{
    uint8_t blocks[128] = {0};
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(blocks, s, n);
    blocks[n] = 0x80;
    size_t total = n + 9 <= 64 ? 64 : 128;
    for (int i = 0; i < 4; i++)
        blocks[total - 1 - (size_t)i] = (uint8_t)((uint64_t)n * 8 >> (8 * i));
    for (size_t at = 0; at < total; at += 64)
        sha1_block(h, blocks + at);
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64(const uint8_t *p, size_t n, char *to)
{
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0);
        *to++ = base64_digits[v >> 18];
        *to++ = base64_digits[v >> 12 & 63];
        *to++ = i + 1 < n ? base64_digits[v >> 6 & 63] : '=';
        *to++ = i + 2 < n ? base64_digits[v & 63] : '=';
    }
    *to = '\0';
}

const char *ws_key_make(char to[WS_KEY_SIZE])
{
    uint8_t nonce[16];
    random_bytes(nonce, sizeof(nonce));
    base64(nonce, sizeof(nonce), to);
    return to;
}

bool ws_key_valid(const char *key)
{
    if (key == NULL || strlen(key) != WS_KEY_SIZE - 1 || strcmp(key + 22, "==") != 0)
        return false;
    return strspn(key, base64_digits) == 22;
}

const char *ws_key_accept(const char *key, char to[WS_ACCEPT_SIZE])
{
    char text[WS_KEY_SIZE + 40];
    uint8_t digest[20];
    size_t n = strlen(key);
    memcpy(text, key, n);
    memcpy(text + n, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1_short(text, n + 36, digest);
    base64(digest, sizeof(digest), to);
    return to;
}
