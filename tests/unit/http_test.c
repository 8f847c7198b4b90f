/* The HTTP server as a client sees it: an in-process server with a small application, and raw
 * sockets. */
#include "io/http.h"
#include "io/http_guard.h"
#include "io/pool.h"

#include "base/str.h"

#include "unit/net_help.h"

#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <zlib.h>

/* ---- the application ---- */

static struct http_request *held; /* of /hold: the test answers it */
static atomic_int held_n, gone_n, served_n, closed_n;
static struct http_stream *stream; /* of /stream */
static struct pool *workers;
static char json[2900], page[200000];

static void answer(struct http_request *q, int status, const char *body)
{
    struct http_answer a = {
        .status = status, .type = "text/plain", .body = body, .n = strlen(body)};
    http_respond(q, &a);
}

static void answer_late(void *ctx)
{
    usleep(30000);
    answer(ctx, 200, "late");
}

static void stream_closed(void *ctx)
{
    atomic_fetch_add(&closed_n, 1);
}

static const struct http_stream_ops stream_ops = {.closed = stream_closed};

static int64_t app_head(void *ctx, struct http_request *q)
{
    const char *path = http_path(q);
    http_set_user(q, http_arena(q));
    if (strcmp(path, "/refused") == 0) {
        answer(q, 401, "who are you");
        return -1;
    }
    if (strcmp(path, "/small") == 0)
        return 10;
    return strcmp(path, "/echo") == 0 ? 20 << 20 : 0;
}

static void app_serve(void *ctx, struct http_request *q)
{
    const char *path = http_path(q);
    struct arena *a = http_arena(q);
    atomic_fetch_add(&served_n, 1);
    if (http_too_large(q)) {
        answer(q, 413, "too much");
    } else if (strcmp(path, "/json") == 0 || strcmp(path, "/page") == 0) {
        bool is_page = path[1] == 'p';
        http_respond(q, &(struct http_answer){.status = 200,
                                              .type = is_page ? "text/html; charset=utf-8"
                                                              : "application/json",
                                              .headers = {{"Cache-Control", "no-cache"}},
                                              .n_headers = 1,
                                              .body = is_page ? page : json,
                                              .n = is_page ? sizeof(page) : sizeof(json),
                                              .body_static = is_page,
                                              .etag = true});
    } else if (strcmp(path, "/echo") == 0) {
        size_t n;
        const char *body = http_body(q, &n);
        http_respond(q,
                     &(struct http_answer){
                         .status = 200, .type = "application/octet-stream", .body = body, .n = n});
    } else if (strcmp(path, "/late") == 0) {
        if (!pool_run(workers, answer_late, q))
            answer(q, 503, "full");
    } else if (strcmp(path, "/hold") == 0) {
        held = q;
        atomic_fetch_add(&held_n, 1);
    } else if (strcmp(path, "/stream") == 0) {
        struct http_answer head = {.status = 200, .type = "text/event-stream"};
        stream = http_respond_stream(q, &head, &stream_ops, NULL);
        atomic_fetch_add(&held_n, 1);
    } else if (strcmp(path, "/storm-stream") == 0) {
        struct http_answer head = {.status = 200, .type = "text/event-stream", .body = "x", .n = 1};
        http_stream_end(http_respond_stream(q, &head, NULL, NULL));
    } else if (strcmp(path, "/who") == 0) {
        uid_t uid = 12345;
        pid_t pid = 0;
        bool is_unix = http_peer_unix(q, &uid, &pid);
        answer(q, 200,
               arena_printf(a, "%s %d %d %d %zu", http_peer(q), is_unix, is_unix ? (int)uid : -1,
                            is_unix ? pid == getpid() : -1, http_listener_index(q)));
    } else if (strcmp(path, "/close") == 0) {
        http_respond(q, &(struct http_answer){.status = 204, .close = true});
    } else {
        answer(q, 200,
               arena_printf(a, "%s|%s|%s|%s", http_method(q), path, http_target(q), http_query(q)));
    }
}

static void app_gone(void *ctx, struct http_request *q)
{
    CHECK(http_user(q) == http_arena(q));
    atomic_fetch_add(&gone_n, 1);
}

static struct http_server *server;
static uint16_t port;
static char socket_path[64];

static struct http_config config_make(void)
{
    snprintf(socket_path, sizeof(socket_path), "/tmp/drover-http-test-%d.sock", (int)getpid());
    for (size_t i = 0; i < sizeof(json); i++)
        json[i] = "{\"utilization\": 0.5}, "[i % 21];
    for (size_t i = 0; i < sizeof(page); i++)
        page[i] = (char)('a' + i % 23);
    return (struct http_config){
        .listeners = {{.host = "127.0.0.1"}, {.unix_path = socket_path}},
        .n_listeners = 2,
        .app = {.head = app_head, .serve = app_serve, .gone = app_gone},
    };
}

static void up_with(struct http_config c)
{
    struct err e = {0};
    atomic_store(&held_n, 0);
    atomic_store(&gone_n, 0);
    atomic_store(&served_n, 0);
    atomic_store(&closed_n, 0);
    workers = pool_create("test", 2, 100);
    CHECK_OK(http_server_start(&c, &server, &e), &e);
    if (e.kind != OK)
        exit(1);
    port = http_server_port(server, 0);
}

static void up(void)
{
    up_with(config_make());
}

static void down(void)
{
    http_server_stop(server);
    pool_destroy(workers);
    server = NULL;
}

static struct reply *ask(const char *request)
{
    int fd = dial(port);
    puts_to(fd, request);
    struct reply *r = get_reply(fd);
    close(fd);
    return r;
}

#define HOST "Host: x\r\n"

/* ---- ordinary requests ---- */

TEST(a_request_is_read_and_answered)
{
    up();
    struct reply *r = ask("GET /a%20b/%E4%B8%AD?x=1&y=%20z HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r->status, 200);
    CHECK_STR(r->body, "GET|/a b/中|/a%20b/%E4%B8%AD?x=1&y=%20z|x=1&y=%20z");
    CHECK(reply_header(r, "Date") != NULL);
    reply_free(r);
    r = ask("OPTIONS /x HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(r->body, "OPTIONS|/x|/x|");
    reply_free(r);
    r = ask("BREW /pot?a=b?c HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(r->body, "BREW|/pot|/pot?a=b?c|a=b?c");
    reply_free(r);
    down();
    CHECK_INT(atomic_load(&gone_n), 3);
}

TEST(connections_are_kept_and_pipelining_keeps_the_order)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /late?1 HTTP/1.1\r\n" HOST "\r\n"
                "GET /two HTTP/1.1\r\n" HOST "\r\n"
                "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
                "GET /four HTTP/1.1\r\n" HOST "\r\n");
    const char *want[] = {"late", "GET|/two|/two|", "hello", "GET|/four|/four|"};
    for (size_t i = 0; i < 4; i++) {
        struct reply *r = get_reply(fd);
        CHECK_STR(r->body, want[i]);
        reply_free(r);
    }
    for (int i = 0; i < 100; i++) {
        puts_to(fd, "GET /again HTTP/1.1\r\n" HOST "\r\n");
        struct reply *r = get_reply(fd);
        CHECK_INT(r->status, 200);
        reply_free(r);
    }
    puts_to(fd, "GET /close HTTP/1.1\r\n" HOST "\r\n");
    struct reply *r = get_reply(fd);
    CHECK_INT(r->status, 204);
    reply_free(r);
    CHECK(is_closed(fd));
    close(fd);
    struct http_server_stats stats;
    http_server_stats(server, &stats);
    CHECK_INT(stats.requests, 105);
    CHECK_INT(stats.accepted, 1);
    down();
}

TEST(head_is_told_as_get_and_has_no_body)
{
    up();
    int fd = dial(port);
    puts_to(fd, "HEAD /json HTTP/1.1\r\n" HOST "\r\nHEAD /x HTTP/1.1\r\n" HOST "\r\n"
                "GET /y HTTP/1.1\r\n" HOST "\r\n");
    struct reply *r = get_reply_of(fd, true);
    CHECK_INT(r->status, 200);
    CHECK_STR(reply_header(r, "Content-Length"), "2900");
    CHECK(reply_header(r, "ETag") != NULL);
    reply_free(r);
    r = get_reply_of(fd, true);
    CHECK_STR(reply_header(r, "Content-Length"), "10");
    reply_free(r);
    r = get_reply(fd);
    CHECK_STR(r->body, "GET|/y|/y|");
    reply_free(r);
    close(fd);
    down();
}

TEST(bytes_may_come_one_by_one)
{
    up();
    int fd = dial(port);
    const char *request = "POST /echo?q HTTP/1.1\r\nHost: here:80\r\nX-Long:  a b \t\r\n"
                          "Transfer-Encoding: chunked\r\n\r\n"
                          "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\n";
    for (const char *p = request; *p != '\0'; p++) {
        put(fd, p, 1);
        if ((p - request) % 16 == 0)
            usleep(300);
    }
    struct reply *r = get_reply(fd);
    CHECK_INT(r->status, 200);
    CHECK_STR(r->body, "abc0123456789");
    reply_free(r);
    close(fd);
    down();
}

TEST(large_bodies_come_whole)
{
    up();
    size_t n = 3 << 20;
    char *body = malloc(n);
    for (size_t i = 0; i < n; i++)
        body[i] = (char)(i * 7 + i / 1000);
    int fd = dial(port);
    char head[200];
    int k = snprintf(head, sizeof(head),
                     "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     n);
    put(fd, head, (size_t)k);
    char line[64];
    get_line(fd, line, sizeof(line));
    CHECK_STR(line, "HTTP/1.1 100 Continue\r\n");
    get_line(fd, line, sizeof(line));
    put(fd, body, n);
    struct reply *r = get_reply(fd);
    CHECK_INT(r->n, n);
    CHECK(r->n == n && memcmp(r->body, body, n) == 0);
    reply_free(r);
    close(fd);
    free(body);
    down();
}

/* ---- what is refused ---- */

#define REQ(extra) "POST /echo HTTP/1.1\r\n" HOST extra "\r\n"

TEST(requests_that_can_be_read_in_two_ways_are_refused)
{
    static const struct {
        const char *why, *bytes;
        size_t n; /* 0: up to the NUL */
    } rows[] = {
        {"CL with TE", REQ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n", 0},
        {"TE with CL", REQ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n") "0\r\n\r\n", 0},
        {"two lengths", REQ("Content-Length: 4\r\nContent-Length: 5\r\n") "abcd", 0},
        {"the same length twice", REQ("Content-Length: 4\r\nContent-Length: 4\r\n") "abcd", 0},
        {"a list of lengths", REQ("Content-Length: 4, 4\r\n") "abcd", 0},
        {"a signed length", REQ("Content-Length: +4\r\n") "abcd", 0},
        {"a negative length", REQ("Content-Length: -1\r\n"), 0},
        {"a hex length", REQ("Content-Length: 0x4\r\n") "abcd", 0},
        {"an empty length", REQ("Content-Length:\r\n"), 0},
        {"a huge length", REQ("Content-Length: 99999999999999999999999\r\n"), 0},
        {"another coding", REQ("Transfer-Encoding: gzip\r\n"), 0},
        {"two codings", REQ("Transfer-Encoding: gzip, chunked\r\n") "0\r\n\r\n", 0},
        {"coding twice", REQ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 0},
        {"a masked coding", REQ("Transfer-Encoding: xchunked\r\n") "0\r\n\r\n", 0},
        {"a quoted coding", REQ("Transfer-Encoding: \"chunked\"\r\n") "0\r\n\r\n", 0},
        {"a blank before the colon", REQ("Transfer-Encoding : chunked\r\n") "0\r\n\r\n", 0},
        {"a folded line", REQ("X-A: b\r\n Transfer-Encoding: chunked\r\n"), 0},
        {"a folded first line", "GET / HTTP/1.1\r\n X: y\r\n" HOST "\r\n", 0},
        {"a NUL in a value", REQ("X-A: b\0c\r\n"), sizeof(REQ("X-A: b\0c\r\n")) - 1},
        {"a NUL in the last value", "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 30},
        {"a NUL before a value", REQ("X-A: \0b\r\n"), sizeof(REQ("X-A: \0b\r\n")) - 1},
        {"a NUL in a name", REQ("X\0A: b\r\n"), sizeof(REQ("X\0A: b\r\n")) - 1},
        {"a line that starts with NUL", REQ("\0X: b\r\n"), sizeof(REQ("\0X: b\r\n")) - 1},
        {"a NUL in the target", "GET /a\0b HTTP/1.1\r\n" HOST "\r\n", 31},
        {"a NUL in the method", "GE\0T / HTTP/1.1\r\n" HOST "\r\n", 28},
        {"a bare CR", REQ("X-A: b\rTransfer-Encoding: chunked\r\n"), 0},
        {"a bare LF", "GET / HTTP/1.1\r\n" HOST "X-A: b\nX-B: c\r\n\r\n", 0},
        {"bare LFs at the end", "GET / HTTP/1.1\r\n" HOST "X-A: b\n\n", 0},
        {"a bare LF after the first line", "GET / HTTP/1.1\n" HOST "\r\n", 0},
        {"a control byte", REQ("X-A: b\x01\r\n"), 0},
        {"a DEL", REQ("X-A: \x7f\r\n"), 0},
        {"no host", "GET / HTTP/1.1\r\nX: y\r\n\r\n", 0},
        {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 0},
        {"a host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0},
        {"a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 0},
        {"absolute form", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"authority form", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 0},
        {"asterisk form", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0},
        {"no slash", "GET a HTTP/1.1\r\n" HOST "\r\n", 0},
        {"a fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 0},
        {"a blank in the target", "GET /a b HTTP/1.1\r\n" HOST "\r\n", 0},
        {"two blanks", "GET  / HTTP/1.1\r\n" HOST "\r\n", 0},
        {"an escaped NUL", "GET /a%00b HTTP/1.1\r\n" HOST "\r\n", 0},
        {"an escaped line break", "GET /a%0d%0ab HTTP/1.1\r\n" HOST "\r\n", 0},
        {"half an escape", "GET /a%2 HTTP/1.1\r\n" HOST "\r\n", 0},
        {"a broken escape", "GET /a%zz HTTP/1.1\r\n" HOST "\r\n", 0},
        {"an escape that is not UTF-8", "GET /a%ff HTTP/1.1\r\n" HOST "\r\n", 0},
        {"a header without a colon", REQ("Transfer-Encoding chunked\r\n"), 0},
        {"an empty header name", REQ(": x\r\n"), 0},
        {"TE in HTTP/1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
        {"no version", "GET /\r\n" HOST "\r\n", 0},
        {"a chunk size that is no number", REQ("Transfer-Encoding: chunked\r\n") "zz\r\n", 0},
        {"a signed chunk size", REQ("Transfer-Encoding: chunked\r\n") "+1\r\na\r\n0\r\n\r\n", 0},
        {"a chunk that is too short", REQ("Transfer-Encoding: chunked\r\n") "1\r\nab\r\n0\r\n\r\n",
         0},
        {"another expectation", REQ("Expect: tea\r\nContent-Length: 1\r\n") "a", 0},
    };
    up();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = dial(port);
        size_t n = rows[i].n > 0 ? rows[i].n : strlen(rows[i].bytes);
        put(fd, rows[i].bytes, n);
        /* What a confused server would take for a second request. */
        puts_to(fd, "GET /smuggled HTTP/1.1\r\n" HOST "\r\n");
        struct reply *r = get_reply(fd);
        bool refused = r->status == 400 || r->status == 413 || r->status == 0;
        if (!refused)
            FAIL_("%s: answered %d: %s", rows[i].why, r->status, r->body ? r->body : "");
        reply_free(r);
        if (!is_closed(fd))
            FAIL_("%s: the connection stays open", rows[i].why);
        close(fd);
    }
    CHECK_INT(atomic_load(&served_n), 0);
    down();
}

TEST(heads_have_a_limit)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET / HTTP/1.1\r\n" HOST "X-Big: ");
    for (int i = 0; i < 20; i++)
        put(fd, page, 1000);
    puts_to(fd, "\r\n\r\n");
    struct reply *r = get_reply(fd);
    CHECK_INT(r->status, 431);
    reply_free(r);
    close(fd);
    fd = dial(port);
    puts_to(fd, "GET /");
    for (int i = 0; i < 20; i++)
        put(fd, page, 1000);
    r = get_reply(fd);
    CHECK_INT(r->status, 414);
    reply_free(r);
    close(fd);
    /* A browser's head with a large token still fits. */
    char request[5000];
    snprintf(request, sizeof(request),
             "GET /x?a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8 HTTP/1.1\r\n" HOST
             "Authorization: Bearer %.2500s\r\nCookie: a=b; c=d\r\nAccept: */*\r\n\r\n",
             page);
    r = ask(request);
    CHECK_INT(r->status, 200);
    reply_free(r);
    down();
}

TEST(a_head_of_any_size_gets_an_answer)
{
    up();
    int n200 = 0, n431 = 0;
    for (int size = 200; size<8600; size += size> 5000 ? 20 : 200) {
        for (int many = 0; many < 2; many++) {
            char request[9000];
            int n = snprintf(request, sizeof(request), "GET /json HTTP/1.1\r\n" HOST);
            while (n < size) {
                int part = many ? 60 : size - n;
                n += snprintf(request + n, sizeof(request) - (size_t)n, "X-%d: %.*s\r\n", n, part,
                              page);
            }
            snprintf(request + n, sizeof(request) - (size_t)n, "\r\n");
            struct reply *r = ask(request);
            n200 += r->status == 200;
            n431 += r->status == 431;
            if (r->status != 200 && r->status != 431)
                FAIL_("a head of %d bytes (%s) is answered %d", n, many ? "many" : "one",
                      r->status);
            reply_free(r);
        }
    }
    CHECK(n200 > 30 && n431 > 30);
    down();
}

TEST(bodies_have_a_limit)
{
    up();
    int fd = dial(port);
    /* A small unwelcome body is read and the connection lives on. */
    puts_to(fd, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 20\r\n\r\n01234567890123456789"
                "POST /small HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                "14\r\n01234567890123456789\r\n0\r\n\r\n"
                "POST /small HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789"
                "POST /refused HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789"
                "GET /refused HTTP/1.1\r\n" HOST "\r\n"
                "GET /end HTTP/1.1\r\n" HOST "\r\n");
    const int want[] = {413, 413, 200, 401, 401, 200};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct reply *r = get_reply(fd);
        CHECK_INT(r->status, want[i]);
        reply_free(r);
    }
    close(fd);
    /* A large one, and one that waits for a word, get the answer at once. */
    fd = dial(port);
    puts_to(fd, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 1000000000000\r\n\r\n");
    struct reply *r = get_reply(fd);
    CHECK_INT(r->status, 413);
    CHECK_STR(r->body, "too much");
    reply_free(r);
    CHECK(is_closed(fd));
    close(fd);
    fd = dial(port);
    puts_to(fd, "POST /refused HTTP/1.1\r\n" HOST "Content-Length: 100\r\n"
                "Expect: 100-continue\r\n\r\n");
    r = get_reply(fd);
    CHECK_INT(r->status, 401);
    reply_free(r);
    CHECK(is_closed(fd));
    close(fd);
    /* Endless chunks end. */
    fd = dial(port);
    puts_to(fd, "POST /small HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 200; i++) {
        puts_to(fd, "10000\r\n");
        put(fd, page, 65536);
        puts_to(fd, "\r\n");
    }
    CHECK(is_closed(fd));
    close(fd);
    down();
}

/* ---- compression, ETag ---- */

static size_t gunzip(const struct reply *r, char *to, size_t max)
{
    z_stream z = {.next_in = (unsigned char *)r->body,
                  .avail_in = (unsigned)r->n,
                  .next_out = (unsigned char *)to,
                  .avail_out = (unsigned)max};
    inflateInit2(&z, 15 + 16);
    int rc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return rc == Z_STREAM_END ? z.total_out : 0;
}

TEST(texts_are_compressed_when_welcome)
{
    static char out[sizeof(page)];
    up();
    for (int i = 0; i < 2; i++) {
        struct reply *r = ask("GET /page HTTP/1.1\r\n" HOST
                              "Accept-Encoding: br, gzip;q=0.8\r\n\r\n");
        CHECK_STR(reply_header(r, "Content-Encoding"), "gzip");
        CHECK_STR(reply_header(r, "Vary"), "Accept-Encoding");
        CHECK(r->n < sizeof(page) / 10);
        CHECK_INT(gunzip(r, out, sizeof(out)), sizeof(page));
        CHECK(memcmp(out, page, sizeof(page)) == 0);
        reply_free(r);
        r = ask("GET /json HTTP/1.1\r\n" HOST "Accept-Encoding: *\r\n\r\n");
        CHECK_INT(gunzip(r, out, sizeof(out)), sizeof(json));
        CHECK(memcmp(out, json, sizeof(json)) == 0);
        reply_free(r);
    }
    const char *plain[] = {"", "Accept-Encoding: br\r\n", "Accept-Encoding: gzip;q=0\r\n",
                           "Accept-Encoding: gzip;q=0.000, *\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        char request[200];
        snprintf(request, sizeof(request), "GET /json HTTP/1.1\r\n" HOST "%s\r\n", plain[i]);
        struct reply *r = ask(request);
        CHECK(reply_header(r, "Content-Encoding") == NULL);
        CHECK_STR(reply_header(r, "Vary"), "Accept-Encoding");
        CHECK(r->n == sizeof(json) && memcmp(r->body, json, r->n) == 0);
        reply_free(r);
    }
    struct reply *r = ask("GET /x HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n");
    CHECK(reply_header(r, "Content-Encoding") == NULL);
    CHECK(reply_header(r, "Vary") == NULL);
    reply_free(r);
    down();
}

TEST(what_a_client_has_is_not_sent_again)
{
    up();
    struct reply *r = ask("GET /json HTTP/1.1\r\n" HOST "\r\n");
    char etag[64], packed[64], request[300];
    snprintf(etag, sizeof(etag), "%s", reply_header(r, "ETag"));
    reply_free(r);
    r = ask("GET /json HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n");
    snprintf(packed, sizeof(packed), "%s", reply_header(r, "ETag"));
    reply_free(r);
    CHECK(etag[0] == '"' && strcmp(etag, packed) != 0);
    const struct {
        const char *encoding, *match;
        int status;
    } rows[] = {
        {"identity", etag, 304},
        {"gzip", packed, 304},
        {"identity", packed, 200},
        {"gzip", etag, 200},
        {"identity", "*", 304},
        {"identity", "\"other\"", 200},
        {"identity", "\"a, b\", W/%s", 304},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char match[100];
        const char *format = rows[i].match;
        const char *hole = strstr(format, "%s");
        if (hole != NULL)
            snprintf(match, sizeof(match), "%.*s%s", (int)(hole - format), format, etag);
        else
            snprintf(match, sizeof(match), "%s", format);
        snprintf(request, sizeof(request),
                 "GET /json HTTP/1.1\r\n" HOST "Accept-Encoding: %s\r\nIf-None-Match: %s\r\n\r\n",
                 rows[i].encoding, match);
        r = ask(request);
        if (r->status != rows[i].status)
            FAIL_("row %zu: %d", i, r->status);
        CHECK(reply_header(r, "ETag") != NULL);
        CHECK_STR(reply_header(r, "Cache-Control"), "no-cache");
        reply_free(r);
    }
    down();
}

/* ---- answering later ---- */

TEST(answers_may_come_from_other_threads)
{
    up();
    enum { N = 40 };
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = dial(port);
        puts_to(fds[i], "GET /late HTTP/1.1\r\n" HOST "\r\n");
    }
    for (int i = 0; i < N; i++) {
        struct reply *r = get_reply(fds[i]);
        CHECK_STR(r->body, "late");
        reply_free(r);
        close(fds[i]);
    }
    down();
    CHECK_INT(atomic_load(&gone_n), N);
}

TEST(a_client_may_leave_while_its_answer_is_made)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /hold HTTP/1.1\r\n" HOST "X-Mark: still here\r\n\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    close(fd);
    usleep(20000);
    CHECK_STR(http_header(held, "x-mark"), "still here");
    CHECK_INT(atomic_load(&gone_n), 0);
    answer(held, 200, "nobody reads this");
    WAIT_FOR(atomic_load(&gone_n) == 1);
    struct http_server_stats stats;
    for (int i = 0; i < 500; i++) {
        http_server_stats(server, &stats);
        if (stats.connections == 0)
            break;
        usleep(2000);
    }
    CHECK_INT(stats.connections, 0);
    down();
}

TEST(stop_answers_what_waits)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /hold HTTP/1.1\r\n" HOST "X-Mark: kept\r\n\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    struct http_request *q = held;
    int idle = dial(port);
    int64_t began = ms_now();
    http_server_stop(server);
    CHECK(ms_now() - began < 3000);
    struct reply *r = get_reply(fd);
    CHECK_INT(r->status, 503);
    reply_free(r);
    CHECK(is_closed(fd));
    CHECK(is_closed(idle));
    close(fd);
    close(idle);
    /* The one who held it may still read it, and answers into the void. */
    CHECK_INT(atomic_load(&gone_n), 0);
    CHECK_STR(http_path(q), "/hold");
    CHECK_STR(http_header(q, "X-Mark"), "kept");
    answer(q, 200, "too late");
    CHECK_INT(atomic_load(&gone_n), 1);
    pool_destroy(workers);
}

TEST(a_stream_after_stop_is_closed_at_once)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    http_server_stop(server);
    struct http_answer head = {.status = 200, .type = "text/event-stream"};
    http_respond_stream(held, &head, &stream_ops, NULL);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    close(fd);
    pool_destroy(workers);
    usleep(20000); /* the thread that told it ends */
}

/* ---- streams ---- */

TEST(a_stream_is_read_as_it_is_written)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    struct reply *r = get_reply_of(fd, true);
    CHECK_INT(r->status, 200);
    CHECK_STR(reply_header(r, "Content-Type"), "text/event-stream");
    CHECK_STR(reply_header(r, "Transfer-Encoding"), "chunked");
    reply_free(r);
    char line[64];
    CHECK(http_stream_write(stream, "data: 1\n\n", 9));
    get_line(fd, line, sizeof(line));
    CHECK_STR(line, "9\r\n");
    get_line(fd, line, sizeof(line));
    CHECK_STR(line, "data: 1\n");
    get(fd, line, 3);
    http_stream_end(stream);
    get_line(fd, line, sizeof(line));
    CHECK_STR(line, "0\r\n");
    get(fd, line, 2);
    CHECK(is_closed(fd));
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    down();
}

TEST(a_stream_notices_that_its_reader_left)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    fd = dial(port);
    puts_to(fd, "HEAD /stream HTTP/1.1\r\n" HOST "\r\n");
    struct reply *r = get_reply_of(fd, true);
    CHECK_INT(r->status, 200);
    reply_free(r);
    CHECK(is_closed(fd));
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 2);
    down();
}

TEST(a_stream_that_is_not_read_is_closed)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    bool open = true;
    size_t written = 0, backlog = 0;
    while (open && written < 200 << 20) {
        open = http_stream_write(stream, page, 10000);
        written += 10000;
        size_t b = open ? http_stream_backlog(stream) : 0;
        backlog = b > backlog ? b : backlog;
    }
    CHECK(!open);
    CHECK(backlog > 500000 && backlog <= 1 << 20);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    close(fd);
    down();
}

TEST(stop_ends_streams)
{
    up();
    int fd = dial(port);
    puts_to(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    http_stream_write(stream, "x", 1);
    down();
    CHECK_INT(atomic_load(&closed_n), 1);
    struct reply *r = get_reply(fd);
    CHECK_STR(r->body, "x");
    reply_free(r);
    CHECK(is_closed(fd));
    close(fd);
}

/* ---- listeners, limits ---- */

TEST(the_unix_socket_tells_who_is_there)
{
    up();
    struct stat st;
    CHECK_INT(stat(socket_path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    int fd = dial_unix(socket_path);
    puts_to(fd, "GET /who HTTP/1.1\r\n" HOST "\r\n");
    struct reply *r = get_reply(fd);
    char want[64];
    snprintf(want, sizeof(want), "unix 1 %d 1 1", (int)getuid());
    CHECK_STR(r->body, want);
    reply_free(r);
    close(fd);
    r = ask("GET /who HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(r->body, "127.0.0.1 0 -1 -1 0");
    reply_free(r);
    /* A second server must not take the socket from a living one. */
    struct http_config c = config_make();
    c.listeners[0] = c.listeners[1];
    c.n_listeners = 1;
    struct err e = {0};
    struct http_server *second = NULL;
    CHECK_INT(http_server_start(&c, &second, &e), ERR_CONFLICT);
    fd = dial_unix(socket_path);
    CHECK(fd >= 0);
    close(fd);
    down();
    CHECK(stat(socket_path, &st) != 0);
    /* One that a dead process left behind is replaced. */
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
    CHECK_INT(bind(stale, (struct sockaddr *)&a, sizeof(a)), 0);
    close(stale);
    up();
    fd = dial_unix(socket_path);
    CHECK(fd >= 0);
    close(fd);
    down();
}

TEST(a_port_that_is_taken_is_an_error)
{
    up();
    struct http_config c = config_make();
    c.listeners[0].port = port;
    c.n_listeners = 1;
    struct err e = {0};
    struct http_server *second = NULL;
    CHECK(http_server_start(&c, &second, &e) != OK);
    CHECK(strstr(e.text, "127.0.0.1 port") != NULL);
    down();
}

TEST(version_six_of_ip_is_served_where_it_is_there)
{
    struct http_config c = config_make();
    c.listeners[0].host = "::1";
    c.n_listeners = 1;
    struct err e = {0};
    struct http_server *six = NULL;
    if (http_server_start(&c, &six, &e) != OK) {
        printf("# skipped: %s\n", e.text);
        return;
    }
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6,
                             .sin6_port = htons(http_server_port(six, 0)),
                             .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    CHECK_INT(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    puts_to(fd, "GET /who HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    struct reply *r = get_reply(fd);
    CHECK_STR(r->body, "::1 0 -1 -1 0");
    reply_free(r);
    close(fd);
    http_server_stop(six);
}

TEST(idle_connections_are_closed_in_the_end)
{
    struct http_config c = config_make();
    c.idle_timeout_s = 1;
    up_with(c);
    int fd = dial(port);
    puts_to(fd, "GET /x HTTP/1.1\r\n" HOST "\r\n");
    struct reply *r = get_reply(fd);
    CHECK_INT(r->status, 200);
    reply_free(r);
    int64_t began = ms_now();
    CHECK(is_closed(fd));
    CHECK(ms_now() - began > 500);
    /* One whose answer is being made is not idle. */
    int held_fd = dial(port);
    puts_to(held_fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(atomic_load(&held_n) == 1);
    usleep(2200000);
    answer(held, 200, "at last");
    r = get_reply(held_fd);
    CHECK_STR(r->body, "at last");
    reply_free(r);
    close(held_fd);
    close(fd);
    down();
}

TEST(slow_clients_are_cut_off)
{
    struct http_config c = config_make();
    c.head_timeout_s = 1;
    c.body_timeout_s = 1;
    up_with(c);
    int idle = dial(port), head = dial(port), line = dial(port), body = dial(port);
    puts_to(head, "GET / HTTP/1.1\r\nX-A");
    puts_to(line, "GE");
    puts_to(body, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc");
    /* A byte now and then does not help. */
    int64_t until = ms_now() + 4500;
    bool head_cut = false, line_cut = false;
    while (ms_now() < until && !(head_cut && line_cut)) {
        usleep(200000);
        char c1;
        if (!head_cut && send(head, "a", 1, MSG_NOSIGNAL) < 0)
            head_cut = true;
        if (!line_cut && send(line, "T", 1, MSG_NOSIGNAL) < 0)
            line_cut = true;
        head_cut = head_cut || recv(head, &c1, 1, MSG_DONTWAIT) == 0;
        line_cut = line_cut || recv(line, &c1, 1, MSG_DONTWAIT) == 0;
    }
    CHECK(head_cut);
    CHECK(line_cut);
    CHECK(is_closed(body));
    /* One that has not begun is only idle. */
    puts_to(idle, "GET /x HTTP/1.1\r\n" HOST "\r\n");
    struct reply *r = get_reply(idle);
    CHECK_INT(r->status, 200);
    reply_free(r);
    close(idle);
    close(head);
    close(line);
    close(body);
    down();
}

TEST(too_many_connections_are_told_so)
{
    struct http_config c = config_make();
    c.max_connections = 20;
    up_with(c);
    int fds[200], n503 = 0, n200 = 0;
    for (int i = 0; i < 200; i++)
        fds[i] = dial(port);
    usleep(100000);
    /* The host itself is let in all the same. */
    int local = dial_unix(socket_path);
    puts_to(local, "GET /x HTTP/1.1\r\n" HOST "\r\n");
    struct reply *own = get_reply(local);
    CHECK_INT(own->status, 200);
    reply_free(own);
    close(local);
    for (int i = 0; i < 200; i++)
        puts_to(fds[i], "GET /x HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 200; i++) {
        struct reply *r = get_reply(fds[i]);
        n503 += r->status == 503;
        n200 += r->status == 200;
        reply_free(r);
        close(fds[i]);
    }
    CHECK(n503 > 0);
    CHECK(n200 <= 84);
    struct http_server_stats stats;
    for (int i = 0; i < 1000; i++) {
        http_server_stats(server, &stats);
        if (stats.connections == 0)
            break;
        usleep(2000);
    }
    CHECK_INT(stats.connections, 0);
    struct reply *r = ask("GET /x HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r->status, 200);
    reply_free(r);
    down();
}

/* ---- everything at once ---- */

static atomic_bool storm_over;

static void *storm_client(void *ctx)
{
    static const char *const requests[] = {
        "GET /late HTTP/1.1\r\n" HOST "\r\n",
        "GET /json HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789",
        "POST /small HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n14\r\n"
        "01234567890123456789\r\n0\r\n\r\n",
        "GET /page HTTP/1.1\r\n" HOST "\r\n",
        "GET /storm-stream HTTP/1.1\r\n" HOST "\r\n",
        "BAD\r\n\r\n",
    };
    uint32_t state = (uint32_t)(uintptr_t)ctx;
    while (!atomic_load(&storm_over)) {
        int fd = dial(port);
        for (int i = 0; fd >= 0 && i < 5; i++) {
            state = state * 1664525 + 1013904223;
            const char *request = requests[(state >> 16) % ARRAY_LEN(requests)];
            /* Some leave half way, some do not wait for the answer. */
            size_t n = strlen(request), part = (state >> 8) % 7 == 0 ? n / 2 : n;
            put(fd, request, part);
            char some[600];
            if ((state >> 12) % 3 != 0)
                (void)!recv(fd, some, sizeof(some), (state >> 13) % 2 ? MSG_DONTWAIT : 0);
            if (part < n)
                break;
        }
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

TEST(a_storm_of_clients_leaves_nothing_behind)
{
    for (int round = 0; round < 3; round++) {
        up();
        pthread_t clients[6];
        atomic_store(&storm_over, false);
        for (uintptr_t i = 0; i < ARRAY_LEN(clients); i++)
            pthread_create(&clients[i], NULL, storm_client, (void *)(i * 77 + 1));
        usleep(400000);
        int64_t began = ms_now();
        /* In the last rounds it stops while they go on. */
        if (round > 0)
            http_server_stop(server);
        CHECK(ms_now() - began < 4000);
        atomic_store(&storm_over, true);
        for (size_t i = 0; i < ARRAY_LEN(clients); i++)
            pthread_join(clients[i], NULL);
        if (round == 0)
            http_server_stop(server);
        pool_destroy(workers);
        CHECK(atomic_load(&served_n) > 10);
        CHECK(atomic_load(&gone_n) >= atomic_load(&served_n));
    }
}

/* ---- the pool ---- */

static atomic_int worked;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void work_behind_gate(void *ctx)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    atomic_fetch_add(&worked, 1);
}

TEST(a_pool_says_when_it_is_full_and_finishes_what_it_took)
{
    pthread_mutex_lock(&gate);
    struct pool *p = pool_create("two", 2, 3);
    int taken = 0;
    for (int i = 0; i < 2; i++)
        taken += pool_run(p, work_behind_gate, NULL);
    WAIT_FOR(pool_waiting(p) == 0);
    for (int i = 0; i < 10; i++)
        taken += pool_run(p, work_behind_gate, NULL);
    CHECK_INT(taken, 5);
    CHECK_INT(pool_waiting(p), 3);
    pthread_mutex_unlock(&gate);
    pool_destroy(p);
    CHECK_INT(atomic_load(&worked), 5);
}

TEST_MAIN
