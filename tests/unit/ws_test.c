/* WebSocket on both sides: our server against hand-made frames, our client against our server. */
#include "io/ws.h"
#include "io/ws_frames.h"

#include "base/str.h"

#include "unit/net_help.h"

#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- a server that echoes ---- */

static atomic_int opened_n, closed_n, closed_code;
static struct ws *_Atomic last;
static struct ws_limits limits;
static struct http_server *server;
static uint16_t port;
static char socket_path[64];

/* All that are open, as an embedder keeps them: under a lock that `closed` takes. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ws *all[600];
static size_t n_all;

static void on_opened(struct ws *ws, void *ctx)
{
    pthread_mutex_lock(&all_lock);
    all[n_all++] = ws;
    pthread_mutex_unlock(&all_lock);
    atomic_store(&last, ws);
    atomic_fetch_add(&opened_n, 1);
}

static void on_message(struct ws *ws, void *ctx, const char *data, size_t n, bool binary)
{
    if (!binary && n == 4 && memcmp(data, "quit", 4) == 0)
        ws_close(ws, 4003, "as you wish");
    else if (binary)
        ws_send_binary(ws, data, n);
    else
        ws_send_text(ws, data, n);
}

static void on_closed(struct ws *ws, void *ctx, int code)
{
    pthread_mutex_lock(&all_lock);
    for (size_t i = 0; i < n_all; i++) {
        if (all[i] == ws)
            all[i] = all[--n_all];
    }
    pthread_mutex_unlock(&all_lock);
    atomic_store(&last, NULL);
    atomic_store(&closed_code, code);
    atomic_fetch_add(&closed_n, 1);
}

static const struct ws_ops ops = {.message = on_message, .closed = on_closed};

static int64_t app_head(void *ctx, struct http_request *q)
{
    return 0;
}

static void app_serve(void *ctx, struct http_request *q)
{
    if (strcmp(http_path(q), "/denied") == 0)
        http_respond(q, &(struct http_answer){.status = 401});
    else
        ws_accept(q, "drover-test.1", &ops, &limits, NULL, on_opened);
}

static void up(void)
{
    struct err e = {0};
    snprintf(socket_path, sizeof(socket_path), "/tmp/drover-ws-test-%d.sock", (int)getpid());
    struct http_config c = {
        .listeners = {{.host = "127.0.0.1"}, {.unix_path = socket_path}},
        .n_listeners = 2,
        .app = {.head = app_head, .serve = app_serve},
    };
    atomic_store(&opened_n, 0);
    atomic_store(&closed_n, 0);
    atomic_store(&closed_code, 0);
    CHECK_OK(http_server_start(&c, &server, &e), &e);
    if (e.kind != OK)
        exit(1);
    port = http_server_port(server, 0);
}

static void down(void)
{
    http_server_stop(server);
    ws_loop_stop();
    CHECK_INT(ws_open_count(), 0);
    limits = (struct ws_limits){0};
}

/* ---- a client made by hand ---- */

#define ASK(extra)                                                                                 \
    "GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"   \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" extra

static int join(void)
{
    int fd = dial(port);
    puts_to(fd, ASK("Sec-WebSocket-Version: 13\r\n\r\n"));
    struct reply *r = get_reply_of(fd, true);
    CHECK_INT(r->status, 101);
    CHECK_STR(reply_header(r, "Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CHECK(reply_header(r, "Sec-WebSocket-Protocol") == NULL);
    reply_free(r);
    return fd;
}

/* first: FIN, RSV and opcode */
static void put_frame(int fd, int first, const void *p, size_t n)
{
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t head[WS_HEAD_MAX];
    size_t k = ws_frame_head(head, 0, n, mask);
    head[0] = (uint8_t)first;
    char *masked = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        masked[i] = (char)(((const uint8_t *)p)[i] ^ mask[i % 4]);
    put(fd, head, k);
    put(fd, masked, n);
    free(masked);
}

struct frame {
    int first; /* -1: the connection ended */
    size_t n;
    char *p;
};

static struct frame get_frame(int fd)
{
    uint8_t h[8];
    struct frame f = {.first = -1};
    if (get(fd, h, 2) != 2)
        return f;
    CHECK((h[1] & 0x80) == 0);
    size_t n = h[1] & 0x7f, more = n == 126 ? 2 : n == 127 ? 8 : 0;
    f.first = h[0];
    if (more > 0) {
        get(fd, h, more);
        n = 0;
        for (size_t i = 0; i < more; i++)
            n = n << 8 | h[i];
    }
    f.n = n;
    f.p = calloc(1, n + 1);
    CHECK_INT(get(fd, f.p, n), n);
    return f;
}

static int close_code(const struct frame *f)
{
    return f->first == 0x88 && f->n >= 2 ? (uint8_t)f->p[0] << 8 | (uint8_t)f->p[1] : -1;
}

/* Reads until the close frame and the end after it. */
static int get_close(int fd)
{
    for (;;) {
        struct frame f = get_frame(fd);
        int code = close_code(&f), first = f.first;
        free(f.p);
        if (first == -1)
            return -1;
        if (first == 0x88) {
            CHECK(is_closed(fd));
            return code;
        }
    }
}

TEST(handshakes_that_are_wrong_get_a_plain_answer)
{
    static const struct {
        const char *why, *bytes;
        int status;
    } rows[] = {
        {"no upgrade at all", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426},
        {"no version", ASK("\r\n"), 426},
        {"an old version", ASK("Sec-WebSocket-Version: 8\r\n\r\n"), 426},
        {"no key",
         "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\n\r\n",
         400},
        {"a short key",
         "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n",
         400},
        {"a key that is no base64",
         "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ********************==**\r\n\r\n",
         400},
        {"another upgrade",
         "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\n\r\n",
         426},
        {"a POST",
         "POST / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
         426},
        {"HTTP/1.0",
         "GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
         426},
    };
    up();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = dial(port);
        puts_to(fd, rows[i].bytes);
        struct reply *r = get_reply(fd);
        if (r->status != rows[i].status)
            FAIL_("%s: answered %d", rows[i].why, r->status);
        if (r->status == 426)
            CHECK_STR(reply_header(r, "Sec-WebSocket-Version"), "13");
        reply_free(r);
        close(fd);
    }
    CHECK_INT(atomic_load(&opened_n), 0);
    down();
}

TEST(messages_of_all_sizes_come_back)
{
    up();
    int fd = join();
    WAIT_FOR(ws_open_count() == 1);
    static const size_t sizes[] = {0, 1, 125, 126, 127, 4095, 4096, 65535, 65536, 300000, 1 << 20};
    char *data = malloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (char)('a' + i % 25);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int opcode = 1; opcode <= 2; opcode++) {
            data[0] = opcode == 2 ? (char)0xff : 'x';
            put_frame(fd, 0x80 | opcode, data, sizes[i]);
            struct frame f = get_frame(fd);
            CHECK_INT(f.first, 0x80 | opcode);
            CHECK_INT(f.n, sizes[i]);
            CHECK(f.n == sizes[i] && memcmp(f.p, data, f.n) == 0);
            free(f.p);
        }
    }
    free(data);
    /* Ended by the client: the code comes back. */
    put_frame(fd, 0x88,
              "\x03\xe8"
              "bye",
              5);
    CHECK_INT(get_close(fd), 1000);
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    CHECK_INT(atomic_load(&closed_code), 1000);
    down();
}

TEST(pieces_are_put_together)
{
    up();
    int fd = join();
    put_frame(fd, 0x01, "\xe4\xb8", 2); /* a character across two frames */
    put_frame(fd, 0x89, "beat", 4);     /* a ping between them */
    put_frame(fd, 0x00, "\xad", 1);
    put_frame(fd, 0x80, "", 0);
    struct frame f = get_frame(fd);
    CHECK_INT(f.first, 0x8a);
    CHECK_STR(f.p, "beat");
    free(f.p);
    f = get_frame(fd);
    CHECK_INT(f.first, 0x81);
    CHECK_STR(f.p, "中");
    free(f.p);
    /* Byte by byte, too. */
    static const uint8_t bytes[] = {0x81, 0x83, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2, 'c' ^ 3};
    for (size_t i = 0; i < sizeof(bytes); i++) {
        put(fd, bytes + i, 1);
        usleep(500);
    }
    f = get_frame(fd);
    CHECK_STR(f.p, "abc");
    free(f.p);
    put_frame(fd, 0x81, "quit", 4);
    CHECK_INT(get_close(fd), 4003);
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    CHECK_INT(atomic_load(&closed_code), 4003);
    down();
}

TEST(frames_that_break_the_rules_end_the_connection)
{
    static const struct {
        const char *why;
        const char *bytes; /* the mask is 0 */
        size_t n;
        int code;
    } rows[] = {
#define ROW(why, bytes, code) {why, bytes, sizeof(bytes) - 1, code}
        ROW("not masked",
            "\x81\x01"
            "a",
            1002),
        ROW("a reserved bit",
            "\xc1\x81\0\0\0\0"
            "a",
            1002),
        ROW("an unknown opcode",
            "\x83\x81\0\0\0\0"
            "a",
            1002),
        ROW("an unknown control opcode", "\x8b\x80\0\0\0\0", 1002),
        ROW("a ping in pieces", "\x09\x80\0\0\0\0", 1002),
        ROW("a long ping", "\x89\xfe\0\x7e\0\0\0\0", 1002),
        ROW("a continuation of nothing",
            "\x80\x81\0\0\0\0"
            "a",
            1002),
        ROW("a new message inside one",
            "\x01\x81\0\0\0\0"
            "a\x81\x81\0\0\0\0"
            "b",
            1002),
        ROW("a length that is too long",
            "\x81\xfe\0\x01\0\0\0\0"
            "a",
            1002),
        ROW("a negative length", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1002),
        ROW("text that is not UTF-8", "\x81\x82\0\0\0\0\xc0\x80", 1007),
        ROW("a surrogate", "\x81\x83\0\0\0\0\xed\xa0\x80", 1007),
        ROW("text cut inside a character", "\x81\x82\0\0\0\0\xe4\xb8", 1007),
        ROW("a close code of one byte", "\x88\x81\0\0\0\0\x03", 1002),
        ROW("a close code that is not for the wire", "\x88\x82\0\0\0\0\x03\xed", 1002),
        ROW("a close reason that is not UTF-8", "\x88\x83\0\0\0\0\x03\xe8\xff", 1007),
        ROW("a large message",
            "\x82\xff\0\0\0\0\0\x20\0\0\0\0\0\0"
            "a",
            1009),
        ROW("a huge message",
            "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"
            "a",
            1009),
        ROW("a close without a code", "\x88\x80\0\0\0\0", -1),
    };
    up();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = join();
        put(fd, rows[i].bytes, rows[i].n);
        int code = get_close(fd);
        if (code != rows[i].code)
            FAIL_("%s: closed with %d", rows[i].why, code);
        close(fd);
        WAIT_FOR(atomic_load(&closed_n) == (int)i + 1);
    }
    /* Many pieces make a large message, too. */
    limits.message_max = 1000;
    int fd = join();
    char part[300] = "";
    put_frame(fd, 0x02, part, sizeof(part));
    for (int i = 0; i < 3; i++)
        put_frame(fd, 0x00, part, sizeof(part));
    CHECK_INT(get_close(fd), 1009);
    close(fd);
    down();
}

TEST(a_peer_that_is_gone_is_told_as_lost)
{
    up();
    int fd = join();
    WAIT_FOR(atomic_load(&opened_n) == 1);
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    CHECK_INT(atomic_load(&closed_code), 1006);
    down();
}

TEST(a_slow_reader_is_closed)
{
    limits.backlog_max = 200000;
    up();
    int fd = join();
    WAIT_FOR(atomic_load(&last) != NULL);
    struct ws *ws = atomic_load(&last);
    char *data = calloc(1, 10000);
    size_t sent = 0;
    while (ws_send_binary(ws, data, 10000) && sent < 100 << 20)
        sent += 10000;
    CHECK(sent < 100 << 20);
    CHECK(!ws_send_text(ws, "x", 1));
    CHECK(ws_backlog(ws) <= 210000);
    free(data);
    /* When it reads again, it finds out why. */
    CHECK_INT(get_close(fd), 1013);
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    CHECK_INT(atomic_load(&closed_code), 1013);
    down();
}

TEST(silence_is_broken_by_pings_and_ends_the_connection)
{
    limits = (struct ws_limits){.ping_s = 1, .silent_s = 2};
    up();
    int fd = join(), alive = join();
    int64_t until = ms_now() + 4000;
    int pings = 0;
    while (ms_now() < until) {
        struct pollfd p = {.fd = alive, .events = POLLIN};
        if (poll(&p, 1, 100) <= 0)
            continue;
        struct frame f = get_frame(alive);
        CHECK_INT(f.first, 0x89);
        put_frame(alive, 0x8a, f.p, f.n);
        free(f.p);
        pings++;
    }
    CHECK(pings >= 2);
    CHECK_INT(get_close(fd), 1001);
    close(fd);
    WAIT_FOR(atomic_load(&closed_n) == 1);
    CHECK_INT(ws_open_count(), 1);
    close(alive);
    down();
}

TEST(many_sockets_share_one_loop)
{
    up();
    enum { N = 500 };
    int *fds = calloc(N, sizeof(int));
    for (int i = 0; i < N; i++)
        fds[i] = join();
    CHECK_INT(ws_open_count(), N);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            put_frame(fds[i], 0x81, "hi", 2);
        for (int i = 0; i < N; i++) {
            struct frame f = get_frame(fds[i]);
            CHECK_STR(f.p, "hi");
            free(f.p);
        }
    }
    http_server_stop(server);
    CHECK_INT(ws_open_count(), N);
    ws_loop_stop();
    CHECK_INT(atomic_load(&closed_n), N);
    CHECK_INT(atomic_load(&closed_code), 1001);
    for (int i = 0; i < N; i++) {
        CHECK_INT(get_close(fds[i]), 1001);
        close(fds[i]);
    }
    free(fds);
}

static atomic_bool sending_over;

static void *send_to_all(void *ctx)
{
    static const char text[] = "0123456789";
    for (unsigned round = 0; !atomic_load(&sending_over); round++) {
        pthread_mutex_lock(&all_lock);
        for (size_t i = 0; i < n_all; i++)
            ws_send_text(all[i], text, round % sizeof(text));
        pthread_mutex_unlock(&all_lock);
        usleep(500);
    }
    return NULL;
}

TEST(many_threads_send_while_sockets_come_and_go)
{
    up();
    enum { N = 20, THREADS = 4 };
    pthread_t threads[THREADS];
    int fds[N], frames = 0;
    atomic_store(&sending_over, false);
    for (int i = 0; i < N; i++)
        fds[i] = join();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, send_to_all, NULL);
    for (int round = 0; round < 300; round++) {
        int i = round % N;
        for (int k = 0; k < 10; k++) {
            struct frame f = get_frame(fds[i]);
            CHECK_INT(f.first, 0x81);
            CHECK(f.n <= 10 && memcmp(f.p, "0123456789", f.n) == 0);
            frames++;
            free(f.p);
        }
        if (round % 3 == 0) {
            close(fds[i]);
            fds[i] = join();
        }
    }
    CHECK_INT(frames, 3000);
    http_server_stop(server);
    ws_loop_stop();
    atomic_store(&sending_over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(ws_open_count(), 0);
    CHECK_INT(n_all, 0);
    CHECK_INT(atomic_load(&opened_n), atomic_load(&closed_n));
    for (int i = 0; i < N; i++)
        close(fds[i]);
}

/* ---- our client ---- */

struct got {
    char *data;
    size_t n;
    bool binary;
    int messages;
};

static void on_got(void *ctx, const char *data, size_t n, bool binary)
{
    struct got *g = ctx;
    free(g->data);
    g->data = malloc(n + 1);
    memcpy(g->data, data, n);
    g->data[n] = '\0';
    g->n = n;
    g->binary = binary;
    g->messages++;
}

static int pump_one(struct ws_client *c, struct got *g, struct err *e)
{
    int had = g->messages;
    for (int64_t until = ms_now() + 5000; ms_now() < until && g->messages == had;) {
        struct pollfd p = {.fd = ws_client_fd(c), .events = POLLIN};
        if (poll(&p, 1, 100) <= 0)
            continue;
        int kind = ws_client_pump(c, on_got, g, e);
        if (kind != OK)
            return kind;
    }
    return OK;
}

static void talk(const struct ws_client_config *config)
{
    struct err e = {0};
    struct ws_client *c = NULL;
    CHECK_OK(ws_client_connect(config, &c, &e), &e);
    if (c == NULL)
        return;
    struct got g = {0};
    static const size_t sizes[] = {0, 1, 125, 126, 16384, 65536, 1 << 20};
    char *data = malloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (char)('a' + i % 23);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        CHECK_OK(ws_client_send(c, data, sizes[i], i % 2 == 0, &e), &e);
        CHECK_OK(ws_client_ping(c, &e), &e);
        CHECK_OK(pump_one(c, &g, &e), &e);
        CHECK_INT(g.n, sizes[i]);
        CHECK(g.n == sizes[i] && memcmp(g.data, data, g.n) == 0);
        CHECK_INT(g.binary, i % 2 == 0);
    }
    free(data);
    CHECK_OK(ws_client_send(c, "quit", 4, false, &e), &e);
    CHECK_INT(pump_one(c, &g, &e), ERR_UNAVAILABLE);
    CHECK(strstr(e.text, "4003") != NULL);
    free(g.data);
    ws_client_close(c);
}

TEST(our_client_and_our_server_talk)
{
    up();
    struct dial_to tcp = {.host = "127.0.0.1", .port = port}, local = {0};
    snprintf(local.unix_path, sizeof(local.unix_path), "%s", socket_path);
    talk(&(struct ws_client_config){.to = &tcp,
                                    .path = "/link",
                                    .bearer = "drv_x",
                                    .protocol = "drover-test.1",
                                    .timeout_ms = 5000});
    talk(&(struct ws_client_config){.to = &local, .path = "/link", .protocol = "drover-test.1"});
    /* Closed by the client. */
    struct ws_client_config config = {.to = &local, .path = "/link"};
    struct err e = {0};
    struct ws_client *c = NULL;
    CHECK_OK(ws_client_connect(&config, &c, &e), &e);
    WAIT_FOR(ws_open_count() == 1);
    ws_client_close(c);
    WAIT_FOR(ws_open_count() == 0);
    CHECK_INT(atomic_load(&closed_code), 1000);
    /* Stopped by the server. */
    CHECK_OK(ws_client_connect(&config, &c, &e), &e);
    WAIT_FOR(ws_open_count() == 1);
    down();
    struct got g = {0};
    CHECK_INT(pump_one(c, &g, &e), ERR_UNAVAILABLE);
    ws_client_close(c);
    ws_client_close(NULL);
}

TEST(our_client_says_why_it_cannot_connect)
{
    up();
    struct dial_to tcp = {.host = "127.0.0.1", .port = port}, local = {0};
    snprintf(local.unix_path, sizeof(local.unix_path), "%s", socket_path);
    struct err e = {0};
    struct ws_client *c = NULL;
    struct ws_client_config config = {.to = &tcp, .path = "/denied"};
    CHECK_INT(ws_client_connect(&config, &c, &e), ERR_UNAUTHENTICATED);
    config = (struct ws_client_config){.to = &tcp, .path = "/link", .protocol = "other"};
    CHECK_INT(ws_client_connect(&config, &c, &e), ERR_UPSTREAM);
    config = (struct ws_client_config){.to = &local, .path = "/x\r\nY: z"};
    CHECK_INT(ws_client_connect(&config, &c, &e), ERR_INVALID);
    down();
    config = (struct ws_client_config){.to = &tcp, .path = "/link"};
    CHECK_INT(ws_client_connect(&config, &c, &e), ERR_UNAVAILABLE);
    config = (struct ws_client_config){.to = &local, .path = "/link"};
    CHECK_INT(ws_client_connect(&config, &c, &e), ERR_UNAVAILABLE);
    CHECK(c == NULL);
}

TEST(our_client_does_not_wait_for_ever)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(a);
    CHECK_INT(bind(listener, (struct sockaddr *)&a, n), 0);
    CHECK_INT(listen(listener, 5), 0);
    getsockname(listener, (struct sockaddr *)&a, &n);
    struct ws_client_config config = {
        .to = &(struct dial_to){.host = "127.0.0.1", .port = ntohs(a.sin_port)},
        .path = "/",
        .timeout_ms = 300};
    struct err e = {0};
    struct ws_client *c = NULL;
    int64_t began = ms_now();
    CHECK_INT(ws_client_connect(&config, &c, &e), ERR_UPSTREAM_TIMEOUT);
    CHECK(ms_now() - began < 2000);
    close(listener);
}

TEST(keys_are_answered_as_the_standard_says)
{
    char to[WS_ACCEPT_SIZE], key[WS_KEY_SIZE];
    CHECK_STR(ws_key_accept("dGhlIHNhbXBsZSBub25jZQ==", to), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CHECK(ws_key_valid(ws_key_make(key)));
    CHECK(!ws_key_valid("") && !ws_key_valid(NULL));
}

TEST_MAIN
