/* Raw sockets for tests of the server: what a client would send, byte by byte. */
#ifndef TESTS_NET_HELP_H
#define TESTS_NET_HELP_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline int64_t ms_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline int dial_unix(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void put(int fd, const void *p, size_t n)
{
    const char *s = p;
    while (n > 0) {
        ssize_t k = send(fd, s, n, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        s += k;
        n -= (size_t)k;
    }
}

static inline void puts_to(int fd, const char *s)
{
    put(fd, s, strlen(s));
}

/* One answer, read to its end; head keeps its lines. */
struct reply {
    int status; /* 0: the connection ended without an answer */
    char head[8192];
    char *body;
    size_t n;
};

static inline const char *reply_header(const struct reply *r, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);
    for (const char *line = strstr(r->head, "\r\n"); line != NULL;
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) != 0 || line[2 + n] != ':')
            continue;
        const char *v = line + 3 + n;
        v += strspn(v, " ");
        snprintf(value, sizeof(value), "%.*s", (int)strcspn(v, "\r"), v);
        return value;
    }
    return NULL;
}

static inline size_t get(int fd, void *p, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t k = recv(fd, (char *)p + got, n - got, 0);
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    return got;
}

static inline void get_line(int fd, char *to, size_t max)
{
    size_t n = 0;
    while (n + 1 < max && get(fd, to + n, 1) == 1) {
        if (to[n++] == '\n')
            break;
    }
    to[n] = '\0';
}

static inline struct reply *get_reply_of(int fd, bool head_only)
{
    struct reply *r = calloc(1, sizeof(*r));
    size_t n = 0;
    while (n + 1 < sizeof(r->head) && (n < 4 || memcmp(r->head + n - 4, "\r\n\r\n", 4) != 0)) {
        if (get(fd, r->head + n, 1) != 1)
            return r;
        n++;
    }
    sscanf(r->head, "HTTP/1.1 %d", &r->status);
    if (r->status == 100) {
        free(r);
        return get_reply_of(fd, head_only);
    }
    if (head_only || r->status == 304 || r->status == 204)
        return r;
    if (reply_header(r, "Transfer-Encoding") != NULL) {
        for (;;) {
            char line[64];
            get_line(fd, line, sizeof(line));
            size_t k = strtoul(line, NULL, 16);
            r->body = realloc(r->body, r->n + k + 1);
            get(fd, r->body + r->n, k);
            r->n += k;
            r->body[r->n] = '\0';
            get_line(fd, line, sizeof(line));
            if (k == 0)
                return r;
        }
    }
    const char *length = reply_header(r, "Content-Length");
    size_t want = length != NULL ? strtoul(length, NULL, 10) : 0;
    r->body = calloc(1, want + 1);
    r->n = get(fd, r->body, want);
    return r;
}

static inline struct reply *get_reply(int fd)
{
    return get_reply_of(fd, false);
}

static inline void reply_free(struct reply *r)
{
    free(r->body);
    free(r);
}

/* Whether the server closes its side within 3 s; what it still sends is passed over. */
static inline bool is_closed(int fd)
{
    for (int64_t until = ms_now() + 3000; ms_now() < until;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char c[4096];
        if (poll(&p, 1, 100) <= 0)
            continue;
        ssize_t n = recv(fd, c, sizeof(c), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return true;
    }
    return false;
}

/* Waits for at most 5 s. */
#define WAIT_FOR(cond)                                                                             \
    do {                                                                                           \
        for (int64_t until_ = ms_now() + 5000; !(cond) && ms_now() < until_;)                      \
            usleep(2000);                                                                          \
        CHECK(cond);                                                                               \
    } while (0)

#endif
