/* A stream's helper: one process between the server's WebSocket and something in a job.
 *
 *   exec, shell   a command with pipes, or with a terminal
 *   tcp           a connection to a port of the job's 127.0.0.1
 *   read, write   files, copied by a child that has entered the job (files/copy.h)
 *
 * Words to the person: opened; exit {code, signal}; error {kind, text}. From the person: resize
 * {rows, cols}; signal {signal}.
 *
 * What must stay true: what runs in the job is a process of the job (agent/enter.h); it ends when
 * the person goes, when the job ends, and when this process dies; nothing of the agent's credential
 * is in the memory of a process that the job could look into. */
#include "agent/stream.h"

#include "agent/enter.h"
#include "agent/files.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "files/copy.h"
#include "io/duplex.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
    ORDER_MAX = 1 << 20,
    CONNECT_MS = 10000,
    KILL_AFTER_US = 3 * 1000000, /* between the signal that asks and the one that does not */
    OUTPUT_AFTER_US = 1000000,   /* output of what outlives the command */
    GOODBYE_US = 10 * 1000000,   /* for the person to take the last word */
    TEXT_SIZE = 512,
};

struct helper {
    const struct agent_config *config;
    struct jv *order;
    const struct jv *request;
    const char *jobs;
    int64_t attempt;
    struct ws_client *ws;
    struct duplex d;
    struct enter x;
    bool entered; /* x is open */
    int master;   /* of the terminal; -1 */
    pid_t child;  /* its session and group too */
    int child_fd; /* pidfd */
    int status;   /* the child's texts about failures */
};

/* ---- words ---- */

static void say_error(struct helper *h, const struct err *why)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "error");
    json_ktext(&j, "kind", err_row(why->kind)->name);
    json_ktext(&j, "text", why->text);
    json_close(&j, '}');
    duplex_say(&h->d, b.data, b.len, NULL);
}

static int say_opened(struct helper *h, struct err *e)
{
    static const char text[] = "{\"type\":\"opened\"}";
    h->d.open = true;
    return duplex_say(&h->d, text, sizeof(text) - 1, e);
}

static void say_exit(struct helper *h, int status)
{
    char text[100];
    int n = WIFSIGNALED(status)
                ? snprintf(text, sizeof(text), "{\"type\":\"exit\",\"code\":null,\"signal\":%d}",
                           WTERMSIG(status))
                : snprintf(text, sizeof(text), "{\"type\":\"exit\",\"code\":%d,\"signal\":null}",
                           WEXITSTATUS(status));
    duplex_say(&h->d, text, (size_t)n, NULL);
}

static void set_size(int tty, const struct jv *from)
{
    int64_t rows = jv_get_int(from, "rows", 24), cols = jv_get_int(from, "cols", 80);
    struct winsize size = {.ws_row = (unsigned short)(rows > 0 && rows < 10000 ? rows : 24),
                           .ws_col = (unsigned short)(cols > 0 && cols < 10000 ? cols : 80)};
    ioctl(tty, TIOCSWINSZ, &size);
}

static void on_word(void *ctx, const char *type, const struct jv *m)
{
    struct helper *h = ctx;
    if (str_eq(type, "resize") && h->master >= 0)
        set_size(h->master, m);
    int64_t sig = jv_get_int(m, "signal", 0);
    if (str_eq(type, "signal") && h->child > 0 && sig > 0 && sig < 32)
        kill(-h->child, (int)sig);
}

/* ---- the child ---- */

__attribute__((format(printf, 2, 3))) static _Noreturn void child_fail(int status, const char *fmt,
                                                                       ...)
{
    char text[TEXT_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    _exit(write(status, text, strlen(text)) > 0 ? 126 : 125);
}

/* Neither memory nor descriptors of the helper are of use to anybody in the job. */
static void child_forget(struct helper *h)
{
    if (h->config->token != NULL)
        explicit_bzero((char *)(uintptr_t)h->config->token, strlen(h->config->token));
    prctl(PR_SET_DUMPABLE, 0);
    close(ws_client_fd(h->ws));
}

static void child_signals(void)
{
    for (int i = 1; i < 32; i++)
        signal(i, SIG_DFL);
}

/* Between this process and one that is in the job's pid namespace: waits for it and ends as it
 * did. */
static void child_again(int status)
{
    pid_t pid = fork();
    if (pid < 0)
        child_fail(status, "cannot make a process in the job: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return;
    }
    close(status);
    int how = 0;
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        signal(passed[i], SIG_IGN);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        continue;
    if (WIFSIGNALED(how)) {
        signal(WTERMSIG(how), SIG_DFL);
        kill(getpid(), WTERMSIG(how));
    }
    _exit(WEXITSTATUS(how));
}

static void child_exec(const struct helper *h, int status)
{
    char term[80], **argv;
    const char *asked = jv_get_text(h->request, "term");
    const struct jv *list = jv_get(h->request, "argv");
    snprintf(term, sizeof(term), "TERM=%s", asked != NULL ? asked : "xterm-256color");
    const char *const more[] = {h->master >= 0 ? term : NULL, NULL};
    environ = enter_environ(&h->x, more);
    if (str_eq(jv_get_text(h->request, "kind"), "shell")) {
        const char *const shells[] = {getenv("SHELL"), "/bin/bash", "/bin/sh"};
        for (size_t i = 0; i < ARRAY_LEN(shells); i++)
            if (shells[i] != NULL && shells[i][0] == '/')
                execl(shells[i], shells[i], NULL);
        child_fail(status, "the job has no shell: neither $SHELL nor /bin/bash nor /bin/sh");
    }
    argv = mem_alloc((jv_len(list) + 1) * sizeof(*argv));
    for (size_t i = 0; i < jv_len(list); i++)
        argv[i] = (char *)(uintptr_t)jv_text(jv_at(list, i), NULL);
    execvp(argv[0], argv);
    if (errno == ENOENT)
        child_fail(status, "command not found: %.300s", argv[0]);
    child_fail(status, "cannot run %.300s: %s", argv[0], strerror(errno));
}

static void child_copy(const struct helper *h, int status)
{
    struct err e = {0};
    static const struct copy_ops quiet;
    const char *path = jv_get_text(h->request, "path");
    bool reads = str_eq(jv_get_text(h->request, "kind"), "read");
    signal(SIGPIPE, SIG_IGN);
    int rc = reads ? copy_send(STDIN_FILENO, STDOUT_FILENO, path, &quiet, &e)
                   : copy_receive(STDIN_FILENO, STDOUT_FILENO, path, &quiet, &e);
    if (rc != OK)
        child_fail(status, "%s", e.text);
    _exit(0);
}

struct ends {
    int child[3]; /* standard descriptors of the child */
    int own[3];   /* our ends of them; with a terminal: its master twice, and -1 */
};

static _Noreturn void child_main(struct helper *h, const struct ends *t, int status, bool copies)
{
    bool again = false;
    setsid();
    child_signals();
    child_forget(h);
    if (h->master >= 0 && ioctl(t->child[0], TIOCSCTTY, 0) != 0)
        child_fail(status, "cannot take the terminal: %s", strerror(errno));
    for (int i = 0; i < 3; i++) {
        if (dup2(t->child[i], i) < 0)
            child_fail(status, "cannot connect it: %s", strerror(errno));
        if (t->own[i] >= 0) /* or its input would never end */
            close(t->own[i]);
    }
    const char *why = enter_job(&h->x, &again);
    if (why != NULL)
        child_fail(status, "cannot %s: %s", why, strerror(errno));
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the identity, whose change takes it back */
    if (copies)
        child_copy(h, status);
    if (again)
        child_again(status);
    child_exec(h, status);
    _exit(127);
}

/* ---- a command, a copy ---- */

static int make_terminal(struct helper *h, struct ends *t, struct err *e)
{
    h->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (h->master < 0 || grantpt(h->master) != 0 || unlockpt(h->master) != 0)
        return err_sys(e, "cannot make a terminal");
    int slave = ioctl(h->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return err_sys(e, "cannot open the terminal");
    set_size(h->master, h->request);
    *t = (struct ends){{slave, slave, slave},
                       {fcntl(h->master, F_DUPFD_CLOEXEC, 3), h->master, -1}};
    return OK;
}

static int make_pipes(struct ends *t, struct err *e)
{
    for (int i = 0; i < 3; i++) {
        int p[2];
        if (pipe2(p, O_CLOEXEC) != 0)
            return err_sys(e, "cannot make the command's pipes");
        t->child[i] = p[i == 0 ? 0 : 1];
        t->own[i] = p[i == 0 ? 1 : 0];
        fcntl(t->own[i], F_SETFL, O_NONBLOCK);
    }
    return OK;
}

static int start_child(struct helper *h, bool copies, struct err *e)
{
    int status[2];
    struct ends t = {{-1, -1, -1}, {-1, -1, -1}};
    int rc = jv_get_bool(h->request, "tty", false) && !copies ? make_terminal(h, &t, e)
                                                              : make_pipes(&t, e);
    if (rc == OK && pipe2(status, O_CLOEXEC) != 0)
        rc = err_sys(e, "cannot make a pipe");
    if (rc != OK)
        return rc;
    h->child = fork();
    if (h->child == 0)
        child_main(h, &t, status[1], copies);
    for (int i = 0; i < 3; i++)
        if (i == 0 || t.child[i] != t.child[0])
            close(t.child[i]);
    close(status[1]);
    h->status = status[0];
    if (h->child < 0)
        return err_sys(e, "cannot make a process");
    h->child_fd = (int)syscall(SYS_pidfd_open, h->child, 0);
    if (h->child_fd < 0)
        return err_sys(e, "cannot watch the process");
    h->d.channel[DUPLEX_IN].to = t.own[0];
    h->d.channel[DUPLEX_OUT].from = t.own[1];
    h->d.channel[DUPLEX_ERR].from = t.own[2];
    return OK;
}

/* What the child could not do, if anything. Blocks until it has executed or ended. */
static bool child_failure(struct helper *h, struct err *e)
{
    char text[TEXT_SIZE];
    size_t n = 0;
    for (ssize_t got; n < sizeof(text) - 1;) {
        got = read(h->status, text + n, sizeof(text) - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    if (n > 0)
        err_set(e, ERR_CONFLICT, "%s", text);
    return n > 0;
}

static void end_child(struct helper *h, int sig)
{
    if (h->child > 0)
        kill(-h->child, sig);
}

/* Moves bytes until the child has ended and told all. False: the person has gone. */
static bool serve_child(struct helper *h, int *status, struct err *e)
{
    int64_t ended_at = 0, kill_at = 0;
    for (;;) {
        struct pollfd extra[] = {{.fd = h->child_fd, .events = POLLIN},
                                 {.fd = kill_at == 0 ? h->x.pidfd : -1, .events = POLLIN}};
        size_t n = ended_at == 0 ? 2 : 0;
        int rc = duplex_step(&h->d, extra, n, kill_at != 0 || ended_at != 0 ? 50 : 1000, e);
        int64_t now = mono_us();
        if (rc != OK)
            return false;
        if (n > 0 && extra[0].revents != 0 && waitpid(h->child, status, WNOHANG) == h->child)
            ended_at = now;
        if (n > 0 && extra[1].revents != 0 && ended_at == 0) { /* the job's end is its end */
            end_child(h, SIGTERM);
            kill_at = now + KILL_AFTER_US;
        }
        if (kill_at != 0 && now >= kill_at && ended_at == 0)
            end_child(h, SIGKILL);
        bool quiet = h->d.channel[DUPLEX_OUT].from < 0 && h->d.channel[DUPLEX_ERR].from < 0;
        if (ended_at != 0 && (quiet || now - ended_at > OUTPUT_AFTER_US))
            return true;
    }
}

/* The person has gone: what was run for them goes too. */
static void abandon_child(struct helper *h)
{
    int status;
    end_child(h, SIGHUP);
    end_child(h, SIGTERM);
    int64_t until = mono_us() + KILL_AFTER_US;
    for (pid_t got = 0; got == 0 && mono_us() < until;) {
        struct pollfd p = {.fd = h->child_fd, .events = POLLIN};
        poll(&p, 1, 100);
        got = waitpid(h->child, &status, WNOHANG);
    }
    end_child(h, SIGKILL);
}

static int run_child(struct helper *h, bool copies, struct err *e)
{
    int status = 0, rc = start_child(h, copies, e);
    if (rc == OK && !copies && child_failure(h, e))
        rc = e->kind;
    if (rc == OK)
        rc = say_opened(h, e);
    if (rc != OK)
        return rc;
    if (!serve_child(h, &status, e)) {
        abandon_child(h);
        return OK;
    }
    if (copies && child_failure(h, e))
        return e->kind;
    say_exit(h, status);
    return OK;
}

/* ---- a port ---- */

static int connect_within(int fd, const struct sockaddr *to, socklen_t n)
{
    int fault = 0;
    socklen_t size = sizeof(fault);
    if (connect(fd, to, n) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, CONNECT_MS) <= 0)
        return ETIMEDOUT;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size);
    return fault;
}

static int connect_port(uint16_t port, int *out, struct err *e)
{
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const struct {
        const struct sockaddr *address;
        socklen_t n;
    } tries[] = {{(struct sockaddr *)&v4, sizeof(v4)}, {(struct sockaddr *)&v6, sizeof(v6)}};
    int first = 0;
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        int fd = socket(tries[i].address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int why = fd >= 0 ? connect_within(fd, tries[i].address, tries[i].n) : errno;
        if (why == 0) {
            int one = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            *out = fd;
            return OK;
        }
        if (fd >= 0)
            close(fd);
        first = first != 0 ? first : why;
    }
    if (first == ECONNREFUSED)
        return err_set(e, ERR_UNAVAILABLE, "nothing listens on port %d in the job", port);
    return err_set(e, ERR_UNAVAILABLE, "port %d of the job: %s", port, strerror(first));
}

static int run_tcp(struct helper *h, struct err *e)
{
    int fd = -1;
    const char *why = enter_network(&h->x);
    if (why != NULL)
        return err_sys(e, "cannot %s", why);
    int rc = connect_port((uint16_t)jv_get_int(h->request, "port", 0), &fd, e);
    if (rc == OK)
        rc = say_opened(h, e);
    if (rc != OK)
        return rc;
    struct duplex_channel *in = &h->d.channel[DUPLEX_IN], *out = &h->d.channel[DUPLEX_OUT];
    in->to = out->from = fd;
    while ((in->to >= 0 || out->from >= 0) && !(in->deaf && out->from < 0) &&
           duplex_step(&h->d, NULL, 0, 1000, e) == OK)
        continue;
    if (!h->d.closed)
        say_exit(h, 0);
    close(fd);
    return OK;
}

/* ---- from the order to the end ---- */

static int run(struct helper *h, struct err *e)
{
    const char *why = jv_get_text(h->order, "why"), *kind = jv_get_text(h->request, "kind");
    if (why != NULL)
        return err_set(e, ERR_CONFLICT, "%s", why);
    int rc = enter_open(h->jobs, h->attempt, &h->x, e);
    if (rc != OK)
        return rc;
    h->entered = true;
    if (str_eq(kind, "tcp"))
        return run_tcp(h, e);
    if (str_eq(kind, "exec") || str_eq(kind, "shell"))
        return run_child(h, false, e);
    if (str_eq(kind, "read") || str_eq(kind, "write"))
        return run_child(h, true, e);
    return err_set(e, ERR_INVALID,
                   "this node's agent does not know streams of the kind %.40s: it "
                   "is older than the server",
                   kind != NULL ? kind : "(none)");
}

static int read_order(struct helper *h, struct err *e)
{
    AUTO(buf) struct buf text = {.max = ORDER_MAX};
    char part[8192];
    for (ssize_t n; (n = read(STDIN_FILENO, part, sizeof(part))) > 0;)
        buf_add(&text, part, (size_t)n);
    int rc = jv_parse(buf_str(&text), text.len, &h->order, NULL, e);
    if (rc != OK)
        return rc;
    if (jv_get_text(h->order, "files") != NULL)
        return OK;
    h->request = jv_get(h->order, "request");
    h->jobs = jv_get_text(h->order, "jobs");
    h->attempt = jv_get_int(h->order, "attempt", 0);
    const char *stream = jv_get_text(h->order, "stream");
    if (stream == NULL || h->jobs == NULL || jv_kind(h->request) != JV_OBJECT ||
        strspn(stream, "0123456789abcdef") != strlen(stream))
        return err_set(e, ERR_INVALID, "the order of a stream is incomplete");
    return OK;
}

int stream_main(const struct agent_config *config)
{
    struct helper *h = mem_alloc(sizeof(*h));
    struct err e = {0};
    char path[120];
    *h = (struct helper){.config = config, .master = -1, .child_fd = -1, .status = -1};
    signal(SIGPIPE, SIG_IGN);
    int rc = read_order(h, &e);
    if (rc == OK && jv_get_text(h->order, "files") != NULL) {
        int status = files_helper(config, h->order);
        jv_free(h->order);
        mem_free(h);
        return status;
    }
    if (rc == OK) {
        snprintf(path, sizeof(path), "/v1/agent/streams/%s", jv_get_text(h->order, "stream"));
        rc = agent_dial(config, path, DUPLEX_PROTOCOL, &h->ws, &e);
    }
    if (rc != OK) {
        log_warning("agent", "a stream: %s", e.text);
        return 1;
    }
    duplex_init(&h->d, h->ws, on_word, h);
    rc = run(h, &e);
    if (rc != OK)
        say_error(h, &e);
    /* The last words must arrive: the person's side closes when it has them. */
    for (int64_t until = mono_us() + GOODBYE_US; !h->d.closed && mono_us() < until;)
        duplex_step(&h->d, NULL, 0, 500, &e);
    ws_client_close(h->ws);
    if (h->entered)
        enter_close(&h->x);
    duplex_fini(&h->d);
    jv_free(h->order);
    mem_free(h);
    return 0;
}
