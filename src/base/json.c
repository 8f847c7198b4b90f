/* The direct JSON writer. */
#include "base/json.h"

#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void before_value(struct json *j)
{
    if (j->keyed) {
        j->keyed = false;
        return;
    }
    uint64_t bit = UINT64_C(1) << (j->depth & 63);
    if (j->filled & bit)
        buf_addc(j->to, ',');
    j->filled |= bit;
}

void json_open(struct json *j, char bracket)
{
    before_value(j);
    buf_addc(j->to, bracket);
    if (++j->depth >= JSON_DEPTH_MAX)
        abort(); /* our own tables nest a handful of levels: a loop in a view */
    j->filled &= ~(UINT64_C(1) << j->depth);
}

void json_close(struct json *j, char bracket)
{
    j->depth--;
    buf_addc(j->to, bracket);
}

static void quoted(struct buf *b, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    buf_addc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(b, s + from, i - from);
        from = i + 1;
        switch (c) {
        case '"':
            buf_add(b, "\\\"", 2);
            break;
        case '\\':
            buf_add(b, "\\\\", 2);
            break;
        case '\n':
            buf_add(b, "\\n", 2);
            break;
        case '\t':
            buf_add(b, "\\t", 2);
            break;
        case '\r':
            buf_add(b, "\\r", 2);
            break;
        default: {
            char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            buf_add(b, u, 6);
        }
        }
    }
    buf_add(b, s + from, n - from);
    buf_addc(b, '"');
}

void json_textn(struct json *j, const char *s, size_t n)
{
    before_value(j);
    if (utf8_len(s, n) == (size_t)-1) {
        char *clean = mem_alloc(3 * n + 1);
        size_t m = utf8_clean(s, n, clean);
        quoted(j->to, clean, m);
        mem_free(clean);
        return;
    }
    quoted(j->to, s, n);
}

void json_text(struct json *j, const char *s)
{
    if (s == NULL)
        json_null(j);
    else
        json_textn(j, s, strlen(s));
}

void json_key(struct json *j, const char *key)
{
    before_value(j);
    quoted(j->to, key, strlen(key));
    buf_addc(j->to, ':');
    j->keyed = true;
}

void json_int(struct json *j, int64_t v)
{
    before_value(j);
    buf_printf(j->to, "%lld", (long long)v);
}

const char *json_real_text(double v, char to[32])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(to, 32, "%.*g", digits, v);
        if (strtod(to, NULL) == v)
            break;
    }
    if (strpbrk(to, ".eEn") == NULL)
        memcpy(to + strlen(to), ".0", 3);
    return to;
}

void json_real(struct json *j, double v)
{
    if (!isfinite(v)) {
        json_null(j);
        return;
    }
    char text[32];
    before_value(j);
    buf_adds(j->to, json_real_text(v, text));
}

void json_bool(struct json *j, bool v)
{
    before_value(j);
    buf_adds(j->to, v ? "true" : "false");
}

void json_null(struct json *j)
{
    before_value(j);
    buf_adds(j->to, "null");
}

void json_time(struct json *j, int64_t us)
{
    char text[TIME_TEXT_SIZE];
    json_text(j, time_format(us, text));
}

void json_raw(struct json *j, const char *text)
{
    before_value(j);
    buf_adds(j->to, text);
}

void json_ktext(struct json *j, const char *key, const char *s)
{
    json_key(j, key);
    json_text(j, s);
}

void json_kint(struct json *j, const char *key, int64_t v)
{
    json_key(j, key);
    json_int(j, v);
}

void json_kreal(struct json *j, const char *key, double v)
{
    json_key(j, key);
    json_real(j, v);
}

void json_kbool(struct json *j, const char *key, bool v)
{
    json_key(j, key);
    json_bool(j, v);
}

void json_ktime(struct json *j, const char *key, int64_t us)
{
    json_key(j, key);
    json_time(j, us);
}

void json_knull(struct json *j, const char *key)
{
    json_key(j, key);
    json_null(j);
}
