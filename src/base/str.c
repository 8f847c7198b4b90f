/* Text helpers. */
#include "base/str.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wchar.h>

bool str_int(const char *s, int64_t *out)
{
    const char *at = *s == '-' ? s + 1 : s;
    if (*at == '\0')
        return false;
    for (const char *p = at; *p != '\0'; p++)
        if (*p < '0' || *p > '9')
            return false;
    errno = 0;
    long long value = strtoll(s, NULL, 10);
    if (errno != 0)
        return false;
    *out = value;
    return true;
}

bool str_real(const char *s, double *out)
{
    const char *p = *s == '-' ? s + 1 : s;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p != '\0'; p++)
        if (!((*p >= '0' && *p <= '9') || *p == '.' || *p == 'e' || *p == 'E' || *p == '+' ||
              *p == '-'))
            return false;
    char *end;
    double value = strtod(s, &end);
    if (*end != '\0' || !isfinite(value))
        return false;
    *out = value;
    return true;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool str_eq(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool str_eq_nocase(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcasecmp(a, b) == 0);
}

/* Length of the UTF-8 sequence at s (n bytes left), 0 if it is not one; *cp the code point. */
static size_t utf8_one(const unsigned char *s, size_t n, uint32_t *cp)
{
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < len)
        return 0;
    uint32_t v = s[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (s[i] & 0x3fu);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *cp = v;
    return len;
}

size_t utf8_len(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        uint32_t cp;
        size_t len = utf8_one((const unsigned char *)s + i, n - i, &cp);
        if (len == 0)
            return (size_t)-1;
        i += len;
    }
    return count;
}

size_t utf8_fit(const char *s, size_t max)
{
    size_t n = strnlen(s, max + 1);
    if (n <= max)
        return n;
    for (n = max; n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80;)
        n--;
    return n;
}

size_t utf8_clean(const char *s, size_t n, char *to)
{
    char *at = to;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_one((const unsigned char *)s + i, n - i, &cp);
        if (len == 0) {
            memcpy(at, "\xef\xbf\xbd", 3);
            at += 3;
            i++;
            continue;
        }
        memcpy(at, s + i, len);
        at += len;
        i += len;
    }
    *at = '\0';
    return (size_t)(at - to);
}

static bool is_wide(uint32_t cp)
{
    return (cp >= 0x1100 && cp <= 0x115f) || (cp >= 0x2e80 && cp <= 0x303e) ||
           (cp >= 0x3041 && cp <= 0xa4cf) || (cp >= 0xac00 && cp <= 0xd7a3) ||
           (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0xfe30 && cp <= 0xfe6f) ||
           (cp >= 0xff00 && cp <= 0xff60) || (cp >= 0xffe0 && cp <= 0xffe6) ||
           (cp >= 0x1f300 && cp <= 0x1f64f) || (cp >= 0x1f900 && cp <= 0x1f9ff) ||
           (cp >= 0x20000 && cp <= 0x3fffd);
}

size_t utf8_width(const char *s)
{
    size_t width = 0, n = strlen(s);
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t len = utf8_one((const unsigned char *)s + i, n - i, &cp);
        if (len == 0) {
            len = 1;
            cp = '?';
        }
        bool combining = (cp >= 0x300 && cp <= 0x36f) || cp == 0x200d || (cp & ~0xfu) == 0xfe00;
        width += combining || cp < 0x20 ? 0 : is_wide(cp) ? 2 : 1;
        i += len;
    }
    return width;
}

bool mem_equal_secret(const void *a, const void *b, size_t n)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char diff = 0;
    for (size_t i = 0; i < n; i++)
        diff |= (unsigned char)(x[i] ^ y[i]);
    return diff == 0;
}

bool duration_parse(const char *s, int64_t *us)
{
    int64_t total = 0;
    if (*s == '\0')
        return false;
    while (*s != '\0') {
        int64_t value = 0;
        if (*s < '0' || *s > '9')
            return false;
        for (; *s >= '0' && *s <= '9'; s++) {
            value = value * 10 + (*s - '0');
            if (value > INT64_C(100000000000))
                return false;
        }
        int64_t unit = 1;
        switch (*s) {
        case 'd':
            unit = 86400;
            break;
        case 'h':
            unit = 3600;
            break;
        case 'm':
            unit = 60;
            break;
        case 's':
        case '\0':
            break;
        default:
            return false;
        }
        if (*s != '\0')
            s++;
        if (value * unit > INT64_C(1000000000000))
            return false;
        total += value * unit * 1000000;
    }
    *us = total;
    return true;
}

const char *duration_format(int64_t us, char to[DURATION_TEXT_SIZE])
{
    long long s = us / 1000000;
    if (s < 0)
        s = 0;
    if (s < 60)
        snprintf(to, DURATION_TEXT_SIZE, "%llds", s);
    else if (s < 3600)
        snprintf(to, DURATION_TEXT_SIZE, "%lld:%02lld", s / 60, s % 60);
    else if (s < 86400)
        snprintf(to, DURATION_TEXT_SIZE, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(to, DURATION_TEXT_SIZE, "%lldd %02lld:%02lld", s / 86400, s / 3600 % 24,
                 s / 60 % 60);
    return to;
}

bool bytes_parse(const char *s, int64_t *bytes)
{
    char *end;
    if (*s < '0' || *s > '9')
        return false;
    double value = strtod(s, &end);
    static const char units[] = "KMGTP";
    if (*end != '\0') {
        const char *u = strchr(units, *end >= 'a' ? *end - 32 : *end);
        if (u == NULL)
            return false;
        for (const char *p = units; p <= u; p++)
            value *= 1024;
        end++;
        if (*end == 'i')
            end++;
        if (*end == 'B' || *end == 'b')
            end++;
    }
    if (*end != '\0' || !(value < 9e18))
        return false;
    *bytes = (int64_t)value;
    return true;
}
