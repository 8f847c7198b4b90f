/* drover port-forward: ports of this machine's loopback address that lead into a running job.
 *
 * One stream is asked for a forwarded port and opened again for each connection, in a thread of its
 * own. What must stay true: only the loopback address is listened on. */
#include "cli/forward.h"

#include "base/json.h"
#include "base/str.h"
#include "io/thread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORTS_MAX = 16, CONNECTIONS_MAX = 60, BACKLOG = 64 };

struct forward {
    struct cli *c;
    struct client *client;
    const char *job;
    uint16_t port; /* in the job */
    uint16_t local;
    int listener;
    pthread_mutex_t lock; /* stream, and the client's calls */
    char stream[STREAM_NAME_SIZE];
    atomic_int open;
};

struct connection {
    struct forward *f;
    int fd;
};

static int ask_again(struct forward *f, struct err *e)
{
    char body[80];
    snprintf(body, sizeof(body), "{\"kind\":\"tcp\",\"port\":%u}", f->port);
    return stream_ask(f->c, f->client, f->job, body, f->stream, e);
}

/* The grant may be gone: the server was started again, or nobody connected for long. */
static int open_session(struct forward *f, struct session *s, struct err *e)
{
    char stream[STREAM_NAME_SIZE];
    for (int again = 0;; again++) {
        pthread_mutex_lock(&f->lock);
        memcpy(stream, f->stream, sizeof(stream));
        pthread_mutex_unlock(&f->lock);
        int rc = session_open(f->client, stream, s, e);
        if (rc != ERR_NOT_FOUND || again > 0)
            return rc;
        pthread_mutex_lock(&f->lock);
        rc = strcmp(stream, f->stream) == 0 ? ask_again(f, e) : OK;
        pthread_mutex_unlock(&f->lock);
        if (rc != OK)
            return rc;
    }
}

static void *serve(void *ctx)
{
    struct connection *x = ctx;
    struct forward *f = x->f;
    struct session s = {0};
    struct err e = {0};
    int one = 1;
    setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(x->fd, F_SETFL, O_NONBLOCK);
    int rc = open_session(f, &s, &e);
    struct duplex_channel *in = &s.d.channel[DUPLEX_IN], *out = &s.d.channel[DUPLEX_OUT];
    if (rc == OK) {
        in->from = out->to = x->fd;
        rc = session_wait(&s, &e);
    }
    if (rc == OK) {
        while (rc == OK && !s.over && (in->from >= 0 || out->to >= 0) &&
               !(out->deaf && in->from < 0))
            rc = duplex_step(&s.d, NULL, 0, 1000, &e);
        while (rc == OK && !duplex_flushed(&s.d))
            rc = duplex_step(&s.d, NULL, 0, 1000, &e);
    }
    if (rc != OK && !s.over)
        fprintf(stderr, "%u: %s\n", f->local, e.text);
    session_close(&s);
    close(x->fd);
    mem_free(x);
    atomic_fetch_sub(&f->open, 1);
    return NULL;
}

static void take(struct forward *f)
{
    int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
    pthread_t thread;
    if (fd < 0)
        return;
    struct connection *x = mem_alloc(sizeof(*x));
    *x = (struct connection){f, fd};
    bool room = atomic_fetch_add(&f->open, 1) < CONNECTIONS_MAX;
    if (room && thread_start(&thread, "forward", serve, x, NULL) == OK) {
        pthread_detach(thread);
        return;
    }
    say(stderr, "%u: too many connections at once\n", f->local);
    atomic_fetch_sub(&f->open, 1);
    close(fd);
    mem_free(x);
}

static int listen_on(struct forward *f, struct err *e)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(f->local), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(a);
    int one = 1;
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(f->listener, BACKLOG) != 0 ||
        getsockname(f->listener, (struct sockaddr *)&a, &n) != 0)
        return err_set(e, ERR_CONFLICT, "cannot listen on 127.0.0.1:%u: %s", f->local,
                       strerror(errno));
    f->local = ntohs(a.sin_port);
    return OK;
}

struct forward *forward_open(struct cli *c, struct client *client, const char *job, uint16_t local,
                             uint16_t port, struct err *e)
{
    struct forward *f = mem_alloc(sizeof(*f)); /* connections have it until the program ends */
    f->c = c;
    f->client = client;
    f->job = job;
    f->port = port;
    f->local = local;
    pthread_mutex_init(&f->lock, NULL);
    int rc = listen_on(f, e);
    if (rc == OK)
        rc = ask_again(f, e);
    if (rc == OK)
        return f;
    if (f->listener >= 0)
        close(f->listener);
    mem_free(f);
    return NULL;
}

uint16_t forward_local(const struct forward *f)
{
    return f->local;
}

bool forward_step(struct forward *const *f, size_t n, int timeout_ms)
{
    struct pollfd p[PORTS_MAX];
    for (size_t i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = f[i]->listener, .events = POLLIN};
    if (poll(p, n, timeout_ms) < 0)
        return errno == EINTR && !client_nap(f[0]->client, 0);
    for (size_t i = 0; i < n; i++)
        if (p[i].revents != 0)
            take(f[i]);
    return !client_nap(f[0]->client, 0);
}

/* "8888", "9000:8888", ":8888" (any free port here) */
static int read_ports(const char *word, uint16_t *local, uint16_t *port, struct err *e)
{
    const char *colon = strchr(word, ':');
    char first[16] = "0";
    int64_t a = 0, b = 0;
    if (colon != NULL && colon > word)
        snprintf(first, sizeof(first), "%.*s", (int)(colon - word), word);
    bool good = str_int(colon != NULL ? colon + 1 : word, &b) && b > 0 && b <= 65535;
    good = good && str_int(first, &a) && a >= 0 && a <= 65535;
    if (!good)
        return err_set(e, ERR_INVALID,
                       "a port is written 8888, or 9000:8888 for port 9000 here, not \"%s\"", word);
    *port = (uint16_t)b;
    *local = (uint16_t)(colon != NULL ? a : b);
    return OK;
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    struct forward *f[PORTS_MAX];
    size_t n = 0;
    const char *id = job_id(&c->arena, p->args[0]);
    if (p->n_args < 2 || p->n_args > PORTS_MAX) {
        err_set(&e, ERR_INVALID, "name the job's port: drover port-forward %s 8888", id);
        return usage_error(c, p->verb, &e);
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = client_open(c->server, &client, &e);
    if (rc == OK)
        client_catch_interrupt(client);
    for (size_t i = 1; i < p->n_args && rc == OK; i++) {
        uint16_t local = 0, port = 0;
        rc = read_ports(p->args[i], &local, &port, &e);
        if (rc != OK)
            return usage_error(c, p->verb, &e);
        f[n] = forward_open(c, client, id, local, port, &e);
        rc = f[n] != NULL ? OK : e.kind;
        if (rc == OK) {
            printf("127.0.0.1:%u -> %s:%u\n", f[n]->local, id, port);
            n++;
        }
    }
    if (rc != OK)
        return client_fail(client, &e);
    fflush(stdout);
    while (forward_step(f, n, 1000))
        continue;
    _exit(EXIT_INTERRUPTED); /* connections end with the process */
}

static const char *const examples[] = {
    "drover port-forward j-17 8888",
    "drover port-forward j-17 9000:8888 6006",
    NULL,
};
const struct verb verb_port_forward = {
    .name = "port-forward",
    .summary = "reach a port of a running job from here",
    .about =
        "Listens on 127.0.0.1 and connects to 127.0.0.1 in the job, through the server, so that "
        "neither side needs an open port. LOCAL:PORT chooses another port here, :PORT any free "
        "one. Goes on until Ctrl-C.",
    .arg = {"JOB PORT", ARG_MANY, ARG_JOB},
    .examples = examples,
    .run = run,
};
