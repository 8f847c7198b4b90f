/* A small HTTP client. Everything it reads comes from outside and is bounded. */
#include "io/ask.h"

#include "base/str.h"
#include "base/world.h"
#include "io/json_in.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { PROBLEM_MAX = 16 << 10, PIECE = 16 << 10, RETRY_MAX_S = 3600 };

/* Nothing of the configuration may add a line of its own. */
static bool is_field_text(const char *s)
{
    for (; s != NULL && *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

/* Byte for byte, so that nothing of what follows is taken from where poll() would see it. */
static int take_head(struct dial *d, struct ask_head *h, int64_t deadline_us, struct err *e)
{
    for (size_t n = 0, got; n < ASK_HEAD_MAX;) {
        int kind = dial_wait(d, h->text + n, 1, deadline_us, &got, e);
        if (kind != OK)
            return kind;
        h->text[++n] = '\0';
        if (n >= 4 && memcmp(h->text + n - 4, "\r\n\r\n", 4) == 0) {
            if (sscanf(h->text, "HTTP/1.%*1[01] %3d", &h->status) != 1)
                break;
            return OK;
        }
    }
    return err_set(e, ERR_UPSTREAM, "the server's answer is not HTTP");
}

int ask_send(struct dial *d, const struct dial_to *to, const struct ask *a, int64_t deadline_us,
             struct ask_head *out, struct err *e)
{
    if (!is_field_text(a->path) || strchr(a->path, ' ') != NULL || !is_field_text(to->host) ||
        !is_field_text(a->bearer))
        return err_set(e, ERR_INVALID, "the address of the server is not valid");
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "%s %s HTTP/1.1\r\n",
               a->method != NULL ? a->method
               : a->body != NULL ? "POST"
                                 : "GET",
               a->path);
    if (to->unix_path[0] != '\0')
        buf_adds(&b, "Host: localhost\r\n");
    else
        buf_printf(&b, strchr(to->host, ':') != NULL ? "Host: [%s]:%u\r\n" : "Host: %s:%u\r\n",
                   to->host, to->port);
    if (a->bearer != NULL)
        buf_printf(&b, "Authorization: Bearer %s\r\n", a->bearer);
    if (a->body != NULL)
        buf_printf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                   strlen(a->body));
    buf_adds(&b, a->more != NULL ? a->more : "Connection: close\r\n");
    buf_adds(&b, "\r\n");
    if (a->body != NULL)
        buf_adds(&b, a->body);
    int kind = dial_write(d, b.data, b.len, deadline_us, e);
    return kind != OK ? kind : take_head(d, out, deadline_us, e);
}

const char *ask_value(const struct ask_head *h, const char *name, char to[256])
{
    size_t n = strlen(name);
    to[0] = '\0';
    for (const char *line = strstr(h->text, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *value = line + n + 1;
        value += strspn(value, " \t");
        size_t len = strcspn(value, "\r\n");
        while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
            len--;
        snprintf(to, 256, "%.*s", (int)len, value);
        return to;
    }
    return to;
}

int ask_body(struct dial *d, const struct ask_head *h, size_t most, int64_t deadline_us,
             ask_sink *sink, void *ctx, struct err *e)
{
    char value[256], piece[PIECE];
    int64_t length = -1, taken = 0;
    if (*ask_value(h, "Transfer-Encoding", value) != '\0')
        return err_set(e, ERR_UPSTREAM,
                       "the server's answer comes in chunks, which is not expected");
    if (*ask_value(h, "Content-Length", value) != '\0' &&
        (!str_int(value, &length) || length < 0 || (uint64_t)length > most))
        return err_set(e, ERR_TOO_LARGE, "the server's answer is too long (%.40s bytes)", value);
    while (length < 0 || taken < length) {
        size_t want = length < 0 || length - taken > PIECE ? PIECE : (size_t)(length - taken), got;
        int kind = dial_wait(d, piece, want, deadline_us, &got, e);
        if (kind == ERR_UNAVAILABLE && length < 0)
            return OK; /* its end is the connection's */
        if (kind != OK)
            return kind;
        taken += (int64_t)got;
        if ((uint64_t)taken > most)
            return err_set(e, ERR_TOO_LARGE, "the server's answer is too long");
        if ((kind = sink(ctx, piece, got, e)) != OK)
            return kind;
    }
    return OK;
}

static int into_buf(void *ctx, const void *p, size_t n, struct err *e)
{
    return buf_add(ctx, p, n) ? OK : err_set(e, ERR_TOO_LARGE, "the server's answer is too long");
}

static enum err_kind kind_of(int status)
{
    static const struct {
        int status;
        enum err_kind kind;
    } rows[] = {{400, ERR_MALFORMED},   {401, ERR_UNAUTHENTICATED}, {403, ERR_FORBIDDEN},
                {404, ERR_NOT_FOUND},   {409, ERR_CONFLICT},        {413, ERR_TOO_LARGE},
                {422, ERR_INVALID},     {429, ERR_LIMITED},         {502, ERR_UNAVAILABLE},
                {503, ERR_UNAVAILABLE}, {504, ERR_UNAVAILABLE}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].status == status)
            return rows[i].kind;
    return ERR_UPSTREAM;
}

int ask_problem(struct dial *d, const struct ask_head *h, int64_t deadline_us, struct err *e)
{
    char value[256];
    AUTO(buf) struct buf body = {.max = PROBLEM_MAX};
    AUTO(jv) struct jv *v = NULL;
    struct err ignored;
    enum err_kind kind = kind_of(h->status);
    if (ask_body(d, h, PROBLEM_MAX - 1, deadline_us, into_buf, &body, &ignored) == OK &&
        body.len > 0)
        jv_parse(body.data, body.len, &v, NULL, &ignored);
    const char *text = jv_get_text(v, "detail"), *code = jv_get_text(v, "code");
    if (text != NULL)
        err_code(e, kind, code != NULL ? code : "", "%.400s", text);
    else
        err_set(e, kind, "the server answered %d", h->status);
    int64_t after;
    if (e != NULL && str_int(ask_value(h, "Retry-After", value), &after) && after > 0)
        e->retry_after_s = after < RETRY_MAX_S ? (int)after : RETRY_MAX_S;
    return kind;
}

int ask_once(const struct dial_to *to, const struct ask *a, size_t most, int timeout_ms,
             struct buf *body, struct err *e)
{
    AUTO(dial) struct dial *d = NULL;
    int64_t deadline_us = mono_us() + timeout_ms * US_PER_MS;
    AUTO(mem) struct ask_head *h = mem_alloc(sizeof(*h));
    int kind = dial_open(to, deadline_us, &d, e);
    if (kind == OK)
        kind = ask_send(d, to, a, deadline_us, h, e);
    if (kind != OK)
        return kind;
    if (h->status < 200 || h->status > 299)
        return ask_problem(d, h, deadline_us, e);
    return ask_body(d, h, most, deadline_us, into_buf, body, e);
}
