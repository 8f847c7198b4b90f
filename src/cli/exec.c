/* drover exec and drover shell: a command or a shell in a running job, as one of its processes.
 *
 * What must stay true: the terminal is given back as it was, however this ends; standard output and
 * standard error stay apart and byte for byte without a terminal; the exit code is the command's.
 */
#include "cli/stream.h"

#include "base/json.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

static struct termios terminal_was;
static bool terminal_raw;

static void terminal_back(void)
{
    if (terminal_raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_was);
    terminal_raw = false;
}

static void terminal_take(void)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &terminal_was) != 0)
        return;
    raw = terminal_was;
    cfmakeraw(&raw);
    atexit(terminal_back);
    terminal_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static void write_size(struct json *j)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0)
        return;
    json_kint(j, "rows", size.ws_row);
    json_kint(j, "cols", size.ws_col);
}

static const char *ask_body(struct cli *c, const struct parsed *p, bool shell, bool tty)
{
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "kind", shell ? "shell" : "exec");
    if (!shell) {
        json_key(&j, "argv");
        json_open(&j, '[');
        for (size_t i = 0; i < p->n_command; i++)
            json_text(&j, p->command[i]);
        json_close(&j, ']');
    }
    json_kbool(&j, "tty", tty);
    if (tty) {
        write_size(&j);
        const char *term = getenv("TERM");
        if (term != NULL && strlen(term) < 64)
            json_ktext(&j, "term", term);
    }
    json_close(&j, '}');
    const char *text = arena_strdup(&c->arena, buf_str(&b));
    buf_fini(&b);
    return text;
}

static int say_size(struct session *s, struct err *e)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "type", "resize");
    write_size(&j);
    json_close(&j, '}');
    return duplex_say(&s->d, b.data, b.len, e);
}

/* Signals that came to us go on to what we run. A second one of those that end ends us. */
static int pass_signals(struct session *s, int fd, int *seen, struct err *e)
{
    struct signalfd_siginfo info;
    int rc = OK;
    while (rc == OK && read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        char text[60];
        if (info.ssi_signo == SIGWINCH) {
            rc = say_size(s, e);
            continue;
        }
        if (++*seen > 1)
            return err_set(e, ERR_UNAVAILABLE, "interrupted");
        int n = snprintf(text, sizeof(text), "{\"type\":\"signal\",\"signal\":%d}",
                         (int)info.ssi_signo);
        rc = duplex_say(&s->d, text, (size_t)n, e);
    }
    return rc;
}

static int serve(struct session *s, bool tty, bool feeds, struct err *e)
{
    sigset_t mask;
    int seen = 0, rc = OK;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    if (tty)
        sigaddset(&mask, SIGWINCH);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    AUTO(fd) int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!feeds)
        rc = duplex_end(&s->d, DUPLEX_IN, e);
    while (rc == OK && (!s->over || !duplex_flushed(&s->d))) {
        struct pollfd extra = {.fd = signals, .events = POLLIN};
        rc = duplex_step(&s->d, &extra, 1, 1000, e);
        if (rc == OK && extra.revents != 0)
            rc = pass_signals(s, signals, &seen, e);
    }
    /* The last word may have come together with the end of the connection. */
    return s->over && duplex_flushed(&s->d) ? OK : rc;
}

static int run_in_job(struct cli *c, const struct parsed *p, bool shell)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    struct session s;
    char stream[STREAM_NAME_SIZE];
    bool tty = shell || opt_given(p, "tty");
    const char *id = job_id(&c->arena, p->args[0]);
    if (!shell && p->n_command == 0) {
        err_set(&e, ERR_INVALID, "what to run follows --: drover exec %s -- nvidia-smi", id);
        return usage_error(c, p->verb, &e);
    }
    if (tty && !isatty(STDIN_FILENO)) {
        err_set(&e, ERR_INVALID,
                shell ? "a shell needs a terminal here; without one: drover exec %s -- sh"
                      : "--tty needs a terminal here; leave it out: drover exec %s -- …",
                id);
        return usage_error(c, p->verb, &e);
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = client_open(c->server, &client, &e);
    if (rc == OK)
        rc = stream_ask(c, client, id, ask_body(c, p, shell, tty), stream, &e);
    if (rc == OK)
        rc = session_open(client, stream, &s, &e);
    if (rc != OK)
        return client_fail(client, &e);
    bool feeds = !opt_given(p, "no-stdin");
    s.d.channel[DUPLEX_IN].from = feeds ? STDIN_FILENO : -1;
    s.d.channel[DUPLEX_OUT].to = STDOUT_FILENO;
    s.d.channel[DUPLEX_ERR].to = STDERR_FILENO;
    rc = session_wait(&s, &e);
    if (rc == OK) {
        if (tty)
            terminal_take();
        rc = serve(&s, tty, feeds, &e);
        terminal_back();
    }
    if (rc == OK && s.error.kind != OK) {
        e = s.error;
        rc = e.kind;
    }
    session_close(&s);
    if (rc != OK)
        return client_fail(client, &e);
    return s.exit_code;
}

static int run_exec(struct cli *c, const struct parsed *p)
{
    return run_in_job(c, p, false);
}

static int run_shell(struct cli *c, const struct parsed *p)
{
    return run_in_job(c, p, true);
}

static const struct opt exec_opts[] = {
    {"tty", 't', OPT_FLAG, NULL, "with a terminal, for programs that draw on it"},
    {"no-stdin", 'n', OPT_FLAG, NULL, "give it no input (in a loop that reads its own)"},
    {0},
};
static const char *const exec_examples[] = {
    "drover exec j-17 -- nvidia-smi",
    "drover exec -t j-17 -- htop",
    "drover exec j-17 -- tar c checkpoints | tar x -C /backup",
    NULL,
};
const struct verb verb_exec = {
    .name = "exec",
    .summary = "run a command inside a running job",
    .about =
        "The command is a process of the job: its user, folders, environment, GPUs and limits, "
        "and it ends with it. Input, output and errors are passed byte for byte, and the exit "
        "code is the command's.",
    .arg = {"JOB", ARG_ONE, ARG_JOB},
    .command = true,
    .opts = exec_opts,
    .examples = exec_examples,
    .run = run_exec,
};

static const char *const shell_examples[] = {"drover shell j-17", NULL};
const struct verb verb_shell = {
    .name = "shell",
    .summary = "open a shell inside a running job",
    .about = "$SHELL of the job, else bash, else sh, in the job's folder. exit or Ctrl-D ends the "
             "shell; the job goes on.",
    .arg = {"JOB", ARG_ONE, ARG_JOB},
    .examples = shell_examples,
    .run = run_shell,
};
