/* What must hold for any bytes given to the rules of a request's head: shared by the fuzzer, which
 * searches, and the unit test, which runs a fixed set. */
#ifndef TESTS_HTTP_GUARD_CHECK_H
#define TESTS_HTTP_GUARD_CHECK_H

#include "io/http_guard.h"
#include "io/ws_frames.h"

#include "base/str.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static inline void must_be_clean_text(const char *s, size_t n, bool query)
{
    MUST(utf8_len(s, n) != (size_t)-1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        MUST(c != 0 && c != 0x7f);
        MUST(c >= 0x20 || (query && (c == '\t' || c == '\n' || c == '\r')));
    }
}

static inline void check_target(const char *s, size_t n)
{
    if (http_guard_target(s, n) != NULL)
        return;
    MUST(n > 0 && s[0] == '/' && memchr(s, '\0', n) == NULL && memchr(s, ' ', n) == NULL);
    const char *mark = memchr(s, '?', n);
    size_t n_path = mark != NULL ? (size_t)(mark - s) : n;
    char *to = malloc(n_path + 1);
    ptrdiff_t len = http_percent_decode(s, n_path, false, to);
    MUST(len <= (ptrdiff_t)n_path);
    if (len >= 0) {
        MUST(to[len] == '\0' && to[0] == '/');
        must_be_clean_text(to, (size_t)len, false);
    }
    free(to);
}

static inline void check_query(const char *text)
{
    const char *at = text, *name, *value;
    size_t n = strlen(text), pairs = 0;
    char *to = malloc(n + 2);
    for (;;) {
        const char *before = at;
        enum http_pair got = http_query_next(&at, to, &name, &value);
        if (got == HTTP_PAIR_END)
            break;
        MUST(at > before && at <= text + n && ++pairs <= n);
        if (got == HTTP_PAIR_BAD)
            continue;
        must_be_clean_text(name, strlen(name), true);
        must_be_clean_text(value, strlen(value), true);
        MUST(strlen(name) + strlen(value) <= n);
    }
    free(to);
}

/* Lines "name:value"; what the rules let pass can be read in one way only. */
static inline void check_fields(const char *s, size_t n)
{
    struct http_guard g = {0};
    const char *fault = NULL;
    int lengths = 0, codings = 0;
    for (const char *end = s + n; s < end && fault == NULL;) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        stop = stop != NULL ? stop : end;
        const char *colon = memchr(s, ':', (size_t)(stop - s));
        if (colon != NULL) {
            size_t n_name = (size_t)(colon - s), n_value = (size_t)(stop - colon - 1);
            fault = http_guard_field(&g, s, n_name, colon + 1, n_value);
            if (fault == NULL) {
                MUST(memchr(colon + 1, '\0', n_value) == NULL);
                MUST(memchr(colon + 1, '\r', n_value) == NULL);
                lengths += n_name == 14 && strncasecmp(s, "content-length", 14) == 0;
                codings += n_name == 17 && strncasecmp(s, "transfer-encoding", 17) == 0;
            }
        }
        s = stop + 1;
    }
    if (fault != NULL || http_guard_end(&g, true) != NULL)
        return;
    MUST(g.hosts == 1 && lengths + codings <= 1 && g.length >= 0);
    MUST(lengths == g.lengths && codings == g.codings);
}

static inline void check_lists(const char *text)
{
    const char *at = text, *item;
    size_t n;
    while (http_list_next(&at, &item, &n))
        MUST(n > 0 && item >= text && item + n <= text + strlen(text));
    http_gzip_welcome(text);
    http_list_has(text, "gzip");
}

static inline void check_message(void *ctx, const char *data, size_t n, bool binary)
{
    MUST(n <= 1000 && (binary || utf8_len(data, n) != (size_t)-1));
}

static inline void check_ping(void *ctx, const char *data, size_t n)
{
    MUST(n <= WS_CONTROL_MAX);
}

static inline void check_closing(void *ctx, int code)
{
    MUST(code == WS_NO_CODE || (code >= 1000 && code <= 4999 && code != WS_LOST));
}

/* The same frames in two cuts end the same way. */
static inline void check_frames(const uint8_t *data, size_t size)
{
    static const struct ws_reader_ops ops = {
        .message = check_message, .ping = check_ping, .closing = check_closing};
    int fault[2] = {0, 0};
    for (int cut = 0; cut < 2; cut++) {
        struct ws_reader *r = ws_reader_create(true, 1000, &ops, NULL);
        size_t step = cut == 0 ? size : 3;
        for (size_t at = 0; at < size && fault[cut] == 0; at += step) {
            size_t n = size - at < step ? size - at : step;
            fault[cut] = ws_reader_feed(r, (const char *)data + at, n);
        }
        ws_reader_destroy(r);
    }
    MUST(fault[0] == fault[1]);
}

static inline void http_guard_check(const uint8_t *data, size_t size)
{
    if (size < 1)
        return;
    int which = data[0] % 5;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (which == 0)
        check_target(text, size - 1);
    else if (which == 1)
        check_query(text);
    else if (which == 2)
        check_fields(text, size - 1);
    else if (which == 3)
        check_lists(text);
    else
        check_frames(data + 1, size - 1);
    free(text);
}

#endif
