/* Rules of the request head; see http_guard.h.
 *
 * They exist because two programs that read one request differently can be played against each
 * other (request smuggling): whatever could be read in two ways is refused.
 */
#include "io/http_guard.h"

#include "base/str.h"

#include <string.h>
#include <strings.h>

enum { LENGTH_DIGITS_MAX = 18 }; /* fits int64_t */

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_token_char((unsigned char)s[i]))
            return false;
    }
    return n > 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

const char *http_guard_method(const char *method)
{
    size_t n = strlen(method);
    return is_token(method, n) && n <= 32 ? NULL : "The method is not a token.";
}

const char *http_guard_target(const char *target, size_t n)
{
    if (n == 0 || target[0] != '/')
        return "The request target must start with a slash.";
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)target[i];
        if (c <= 0x20 || c == 0x7f || c == '#')
            return "The request target has a character that must be escaped.";
    }
    const char *query = memchr(target, '?', n);
    size_t n_path = query != NULL ? (size_t)(query - target) : n;
    for (size_t i = 0; i < n_path; i++) {
        if (target[i] != '%')
            continue;
        if (n_path - i < 3 || hex_value(target[i + 1]) < 0 || hex_value(target[i + 2]) < 0)
            return "The path has a broken percent escape.";
        i += 2;
    }
    return NULL;
}

ptrdiff_t http_percent_decode(const char *s, size_t n, bool plus, char *to)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '%') {
            int high = n - i >= 3 ? hex_value(s[i + 1]) : -1;
            int low = n - i >= 3 ? hex_value(s[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            c = (unsigned char)(high << 4 | low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        /* A query value may hold text with line breaks; a path may not. */
        if (c == 0 || c == 0x7f || (c < 0x20 && !(plus && (c == '\t' || c == '\n' || c == '\r'))))
            return -1;
        to[len++] = (char)c;
    }
    to[len] = '\0';
    return utf8_len(to, len) == (size_t)-1 ? -1 : (ptrdiff_t)len;
}

/* ---- fields ---- */

static const char *host_rule(struct http_guard *g, const char *value, size_t n)
{
    if (++g->hosts > 1)
        return "There is more than one Host.";
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)value[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c != '\0' && strchr("-._~!$&'()*+;=:[]%", c) != NULL);
        if (!good)
            return "The Host is not a host name.";
    }
    return NULL;
}

static const char *length_rule(struct http_guard *g, const char *value, size_t n)
{
    if (++g->lengths > 1)
        return "There is more than one Content-Length.";
    if (n == 0 || n > LENGTH_DIGITS_MAX)
        return "The Content-Length is not a number.";
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9')
            return "The Content-Length is not a number.";
        g->length = g->length * 10 + (value[i] - '0');
    }
    return NULL;
}

static const char *coding_rule(struct http_guard *g, const char *value, size_t n)
{
    if (++g->codings > 1)
        return "There is more than one Transfer-Encoding.";
    if (n != 7 || strncasecmp(value, "chunked", 7) != 0)
        return "The only transfer coding here is chunked.";
    return NULL;
}

static const char *expect_rule(struct http_guard *g, const char *value, size_t n)
{
    if (n != 12 || strncasecmp(value, "100-continue", 12) != 0)
        return "The only expectation here is 100-continue.";
    g->expects_continue = true;
    return NULL;
}

static const struct field_rule {
    const char *name;
    const char *(*check)(struct http_guard *g, const char *value, size_t n);
} field_rules[] = {
    {"Host", host_rule},
    {"Content-Length", length_rule},
    {"Transfer-Encoding", coding_rule},
    {"Expect", expect_rule},
};

const char *http_guard_field(struct http_guard *g, const char *name, size_t n_name,
                             const char *value, size_t n_value)
{
    if (!is_token(name, n_name))
        return "A header's name is not a token.";
    for (size_t i = 0; i < n_value; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return "A header has a control byte.";
    }
    for (size_t i = 0; i < sizeof(field_rules) / sizeof(field_rules[0]); i++) {
        const struct field_rule *r = &field_rules[i];
        if (strlen(r->name) != n_name || strncasecmp(r->name, name, n_name) != 0)
            continue;
        while (n_value > 0 && (value[n_value - 1] == ' ' || value[n_value - 1] == '\t'))
            n_value--;
        return r->check(g, value, n_value);
    }
    return NULL;
}

const char *http_guard_end(const struct http_guard *g, bool http11)
{
    if (http11 && g->hosts == 0)
        return "HTTP/1.1 needs a Host.";
    if (g->codings > 0 && g->lengths > 0)
        return "Content-Length and Transfer-Encoding exclude each other.";
    if (g->codings > 0 && !http11)
        return "HTTP/1.0 has no Transfer-Encoding.";
    return NULL;
}

/* ---- lists and queries ---- */

enum http_pair http_query_next(const char **at, char *to, const char **name, const char **value)
{
    const char *s = *at;
    while (*s == '&')
        s++;
    *at = s;
    if (*s == '\0')
        return HTTP_PAIR_END;
    size_t n = strcspn(s, "&");
    *at = s + n;
    const char *eq = memchr(s, '=', n);
    size_t n_name = eq != NULL ? (size_t)(eq - s) : n;
    ptrdiff_t len = http_percent_decode(s, n_name, true, to);
    if (len < 0)
        return HTTP_PAIR_BAD;
    char *second = to + len + 1;
    *second = '\0';
    if (eq != NULL && http_percent_decode(eq + 1, n - n_name - 1, true, second) < 0)
        return HTTP_PAIR_BAD;
    *name = to;
    *value = second;
    return HTTP_PAIR;
}

bool http_list_next(const char **at, const char **item, size_t *n)
{
    const char *s = *at;
    s += strspn(s, " \t,");
    if (*s == '\0')
        return false;
    const char *end = s;
    for (bool quoted = false; *end != '\0' && (quoted || *end != ','); end++) {
        if (*end == '"')
            quoted = !quoted;
    }
    *at = end;
    while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *item = s;
    *n = (size_t)(end - s);
    return true;
}

/* The member without its parameters. */
static size_t bare_length(const char *item, size_t n)
{
    const char *semicolon = memchr(item, ';', n);
    n = semicolon != NULL ? (size_t)(semicolon - item) : n;
    while (n > 0 && (item[n - 1] == ' ' || item[n - 1] == '\t'))
        n--;
    return n;
}

bool http_list_has(const char *list, const char *token)
{
    const char *item;
    size_t n, n_token = strlen(token);
    while (list != NULL && http_list_next(&list, &item, &n)) {
        if (bare_length(item, n) == n_token && strncasecmp(item, token, n_token) == 0)
            return true;
    }
    return false;
}

/* True for "q=0", "q=0.0" and so on in the parameters. */
static bool weight_is_zero(const char *item, size_t n)
{
    const char *end = item + n;
    for (const char *s = item; (s = memchr(s, ';', (size_t)(end - s))) != NULL;) {
        s++;
        while (s < end && (*s == ' ' || *s == '\t'))
            s++;
        if (end - s < 3 || (s[0] | 0x20) != 'q' || s[1] != '=')
            continue;
        for (s += 2; s < end && (*s == '0' || *s == '.'); s++)
            ;
        return s == end || *s == ';' || *s == ' ';
    }
    return false;
}

bool http_gzip_welcome(const char *accept_encoding)
{
    const char *at = accept_encoding, *item;
    size_t n;
    bool any = false;
    while (at != NULL && http_list_next(&at, &item, &n)) {
        size_t bare = bare_length(item, n);
        if ((bare == 4 && strncasecmp(item, "gzip", 4) == 0) ||
            (bare == 6 && strncasecmp(item, "x-gzip", 6) == 0))
            return !weight_is_zero(item, n);
        if (bare == 1 && *item == '*')
            any = !weight_is_zero(item, n);
    }
    return any;
}
