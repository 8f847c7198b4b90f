/* One mail, composed and sent.
 *
 * What must stay true: nothing that came from outside can add a header or a command (line ends and
 * angle brackets are refused in addresses, everything else is encoded); a password goes only over
 * TLS or to this machine. */
#include "io/smtp.h"

#include "base/str.h"
#include "base/world.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { CONNECT_S = 15, ADDRESS_MAX = 320, ENCODED_LINE = 76, WORD_BYTES = 42 };

/* ---- composing ---- */

static void base64(struct buf *to, const void *p, size_t n, size_t line)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = p;
    size_t column = 0;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)s[i] << 16 | (i + 1 < n ? (unsigned)s[i + 1] << 8 : 0) |
                     (i + 2 < n ? s[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63],
                        i + 1 < n ? digits[v >> 6 & 63] : '=', i + 2 < n ? digits[v & 63] : '='};
        buf_add(to, four, 4);
        column += 4;
        if (line != 0 && column >= line && i + 3 < n) {
            buf_adds(to, "\r\n");
            column = 0;
        }
    }
}

static bool plain(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 32 || (unsigned char)*s > 126)
            return false;
    return true;
}

/* As it is when it is plain ASCII, else as encoded words that end between two characters. */
static void header_text(struct buf *to, const char *s)
{
    if (plain(s)) {
        buf_adds(to, s);
        return;
    }
    for (bool first = true; *s != '\0'; first = false) {
        size_t n = utf8_fit(s, WORD_BYTES);
        n = n > 0 ? n : 1;
        buf_adds(to, first ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
        base64(to, s, n, 0);
        buf_adds(to, "?=");
        s += n;
    }
}

const char *smtp_address(const char *from, struct arena *a)
{
    const char *open = strrchr(from, '<'), *close = open != NULL ? strchr(open, '>') : NULL;
    return close != NULL ? arena_strndup(a, open + 1, (size_t)(close - open - 1)) : from;
}

static void from_header(struct buf *to, const char *from, const char *address)
{
    size_t name = address == from ? 0 : strcspn(from, "<");
    while (name > 0 && from[name - 1] == ' ')
        name--;
    if (name == 0) {
        buf_adds(to, address);
        return;
    }
    AUTO(mem) char *text = mem_printf("%.*s", (int)name, from);
    header_text(to, text);
    buf_printf(to, " <%s>", address);
}

void smtp_compose(const struct smtp_mail *m, struct buf *out)
{
    AUTO(arena) struct arena a = {0};
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const char *address = smtp_address(m->from, &a), *at = strrchr(address, '@');
    time_t seconds = (time_t)(m->at / US_PER_S);
    struct tm t;
    gmtime_r(&seconds, &t);
    buf_adds(out, "From: ");
    from_header(out, m->from, address);
    buf_printf(out, "\r\nTo: %s\r\nSubject: ", m->to);
    header_text(out, m->subject);
    /* names of days and months are not the locale's */
    buf_printf(out, "\r\nDate: %s, %02d %s %d %02d:%02d:%02d +0000\r\n", days[t.tm_wday], t.tm_mday,
               months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
    buf_printf(out, "Message-ID: <%s@%s>\r\n", m->id, at != NULL ? at + 1 : "localhost");
    buf_adds(out, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Content-Transfer-Encoding: base64\r\nAuto-Submitted: auto-generated\r\n\r\n");
    base64(out, m->text, strlen(m->text), ENCODED_LINE);
    buf_adds(out, "\r\n");
}

/* ---- checking ---- */

static bool address_good(const char *s)
{
    size_t n = strnlen(s, ADDRESS_MAX + 1);
    return n >= 3 && n <= ADDRESS_MAX && strpbrk(s, " <>\r\n\t\"") == NULL && plain(s) &&
           strchr(s, '@') != NULL;
}

/* The host of a URL, without credentials and port. */
static const char *host_of(const char *url, struct arena *a)
{
    const char *s = strstr(url, "://");
    s = s != NULL ? s + 3 : url;
    size_t n = strcspn(s, "/?#");
    const char *part = arena_strndup(a, s, n), *sign = strrchr(part, '@');
    part = sign != NULL ? sign + 1 : part;
    if (part[0] == '[')
        return arena_strndup(a, part + 1, strcspn(part + 1, "]"));
    return arena_strndup(a, part, strcspn(part, ":"));
}

static bool is_here(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "127.", 4) == 0;
}

int smtp_check(const struct smtp_server *s, const char *from, struct err *e)
{
    AUTO(arena) struct arena a = {0};
    if ((!str_starts(s->url, "smtp://") && !str_starts(s->url, "smtps://")) ||
        host_of(s->url, &a)[0] == '\0')
        return err_set(e, ERR_INVALID,
                       "SMTP_URL looks like smtp://user:password@mail.example.com:587");
    if (!address_good(smtp_address(from, &a)) || strpbrk(from, "\r\n") != NULL)
        return err_set(e, ERR_INVALID, "MAIL_FROM looks like Drover <drover@example.com>");
    return OK;
}

/* ---- sending ---- */

struct upload {
    const char *at;
    size_t left;
};

static size_t upload_more(char *to, size_t size, size_t n, void *ctx)
{
    struct upload *u = ctx;
    size_t take = size * n < u->left ? size * n : u->left;
    memcpy(to, u->at, take);
    u->at += take;
    u->left -= take;
    return take;
}

/* What the server says is not kept: the conversation may hold the password. */
static size_t swallow(char *p, size_t size, size_t n, void *ctx)
{
    (void)p;
    (void)ctx;
    return size * n;
}

static long tls_of(const struct smtp_server *s)
{
    AUTO(arena) struct arena a = {0};
    if (s->tls == SMTP_TLS_OFF)
        return CURLUSESSL_NONE;
    return s->tls == SMTP_TLS_AUTO && is_here(host_of(s->url, &a)) ? CURLUSESSL_TRY
                                                                   : CURLUSESSL_ALL;
}

int smtp_send(const struct smtp_server *s, const struct smtp_mail *m, struct err *e)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf text = {0};
    char why[CURL_ERROR_SIZE] = "";
    if (!address_good(m->to))
        return err_code(e, ERR_UPSTREAM, SMTP_REFUSED, "not an address that mail can go to");
    smtp_compose(m, &text);
    struct upload body = {buf_str(&text), text.len};
    CURL *h = curl_easy_init();
    if (h == NULL)
        return err_set(e, ERR_INTERNAL, "libcurl does not start");
    struct curl_slist *to = curl_slist_append(NULL, arena_printf(&a, "<%s>", m->to));
    curl_easy_setopt(h, CURLOPT_URL, s->url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_USE_SSL, tls_of(s));
    if (s->ca_file != NULL && *s->ca_file != '\0')
        curl_easy_setopt(h, CURLOPT_CAINFO, s->ca_file);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(h, CURLOPT_TIMEOUT, (long)s->timeout_s);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(h, CURLOPT_MAIL_FROM, arena_printf(&a, "<%s>", smtp_address(m->from, &a)));
    curl_easy_setopt(h, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(h, CURLOPT_READFUNCTION, upload_more);
    curl_easy_setopt(h, CURLOPT_READDATA, &body);
    curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, swallow);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, swallow);
    CURLcode code = curl_easy_perform(h);
    long reply = 0;
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &reply);
    curl_slist_free_all(to);
    curl_easy_cleanup(h);
    if (code == CURLE_OK)
        return OK;
    const char *text_of = why[0] != '\0' ? why : curl_easy_strerror(code);
    bool for_good = reply >= 550 && reply <= 554 && code != CURLE_LOGIN_DENIED;
    return for_good
               ? err_code(e, ERR_UPSTREAM, SMTP_REFUSED, "the mail server refuses: %s", text_of)
               : err_set(e, ERR_UPSTREAM, "the mail server: %s", text_of);
}
