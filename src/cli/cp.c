/* drover cp: files and folders between here and a job. */
#include "cli/stream.h"
#include "cli/sync.h"

#include "base/json.h"
#include "base/world.h"
#include "files/copy.h"
#include "io/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHOW_US = 200 * 1000 };

/* "j-17:path" or "17:path". False: a path of this machine. */
static bool is_remote(struct cli *c, const char *word, const char **job, const char **path)
{
    const char *colon = strchr(word, ':');
    const char *digits = strncmp(word, "j-", 2) == 0 ? word + 2 : word;
    if (colon == NULL || colon == digits ||
        strspn(digits, "0123456789") != (size_t)(colon - digits))
        return false;
    *job = job_id(&c->arena, arena_strndup(&c->arena, word, (size_t)(colon - word)));
    *path = colon[1] != '\0' ? colon + 1 : ".";
    return true;
}

/* The copy itself blocks, so it has a thread, and a socket pair to the stream. */
struct copy {
    const char *path;
    bool sends;
    int fd; /* the thread's end */
    struct err e;
    pthread_mutex_t lock; /* progress */
    struct copy_progress progress;
    size_t left_out;
};

static void on_progress(void *ctx, const struct copy_progress *p)
{
    struct copy *x = ctx;
    pthread_mutex_lock(&x->lock);
    x->progress = *p;
    pthread_mutex_unlock(&x->lock);
}

static void on_left_out(void *ctx, const char *path, const char *why)
{
    struct copy *x = ctx;
    AUTO(arena) struct arena a = {0};
    x->left_out++;
    fprintf(stderr, "\r%s: %s\n", text_clean(&a, path), text_clean(&a, why));
}

static void *copy_main(void *ctx)
{
    struct copy *x = ctx;
    struct copy_ops ops = {on_progress, on_left_out, x};
    if (x->sends)
        copy_send(x->fd, x->fd, x->path, &ops, &x->e);
    else
        copy_receive(x->fd, x->fd, x->path, &ops, &x->e);
    shutdown(x->fd, SHUT_RDWR);
    return NULL;
}

static void show(struct cli *c, struct copy *x, int64_t begun, bool last)
{
    pthread_mutex_lock(&x->lock);
    struct copy_progress p = x->progress;
    pthread_mutex_unlock(&x->lock);
    double s = (double)(mono_us() - begun) / 1e6, mib = (double)p.done / (1 << 20);
    if (c->err.tty)
        fprintf(stderr, "\r%s %.1f / %.1f MiB  %zu / %zu  %.1f MiB/s \033[K%s",
                text_bar(&c->arena, p.total > 0 ? (double)p.done / (double)p.total : 1, 20), mib,
                (double)p.total / (1 << 20), p.files, p.files_total, s > 0 ? mib / s : 0,
                last ? "\n" : "");
    else if (last)
        say(stderr, "%zu files, %.1f MiB\n", p.files, mib);
}

static int move(struct cli *c, struct session *s, struct copy *x, struct err *e)
{
    int pair[2], rc = OK;
    pthread_t thread;
    int64_t begun = mono_us(), shown = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return err_sys(e, "cannot begin the copy");
    x->fd = pair[1];
    pthread_mutex_init(&x->lock, NULL);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    if ((rc = thread_start(&thread, "copy", copy_main, x, e)) != OK)
        return rc;
    s->d.channel[DUPLEX_IN].from = s->d.channel[DUPLEX_OUT].to = pair[0];
    rc = session_wait(s, e);
    while (rc == OK && !(s->over && duplex_flushed(&s->d))) {
        rc = duplex_step(&s->d, NULL, 0, 200, e);
        if (c->err.tty && mono_us() - shown > SHOW_US) {
            shown = mono_us();
            show(c, x, begun, false);
        }
    }
    shutdown(pair[0], SHUT_RDWR);
    pthread_join(thread, NULL);
    if (x->e.kind == OK && s->error.kind == OK)
        show(c, x, begun, true);
    else if (c->err.tty)
        fputc('\n', stderr);
    close(pair[0]);
    close(pair[1]);
    /* Whoever failed first knows why; a cut is only what the other side saw of it. */
    if (x->e.kind != OK && (s->error.kind == OK || x->e.kind != ERR_UNAVAILABLE))
        *e = x->e;
    else if (s->error.kind != OK)
        *e = s->error;
    else
        return s->over ? OK : rc;
    return e->kind;
}

static const char *ask_body(struct cli *c, bool reads, const char *path)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "kind", reads ? "read" : "write");
    json_ktext(&j, "path", path);
    json_close(&j, '}');
    return arena_strdup(&c->arena, buf_str(&b));
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    struct session s;
    struct copy x = {0};
    char stream[STREAM_NAME_SIZE];
    const char *job = NULL, *path = NULL;
    bool from = p->n_args == 2 && is_remote(c, p->args[0], &job, &path);
    bool to = p->n_args == 2 && is_remote(c, p->args[1], &job, &path);
    if (from == to) {
        err_set(&e, ERR_INVALID,
                from ? "one of the two is a place here, the other JOB:PATH"
                     : "name two places, one of them in a job: drover cp "
                       "j-17:out.csv .");
        return usage_error(c, p->verb, &e);
    }
    x.sends = to;
    x.path = p->args[from ? 1 : 0];
    if (to && access(x.path, R_OK) != 0) {
        err_sys(&e, "%s", x.path);
        return client_fail(NULL, &e);
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = client_open(c->server, &client, &e);
    if (rc == OK)
        rc = stream_ask(c, client, job, ask_body(c, from, path), stream, &e);
    if (rc == ERR_CONFLICT && from) { /* it does not run: what it left, if it has ended */
        struct err other = {0};
        rc = sync_results(c, client, job, path, x.path, &other);
        if (rc == OK)
            return EXIT_DONE;
        if (strstr(e.text, "running") != NULL || rc != ERR_NOT_FOUND)
            e = other;
    }
    if (rc == OK)
        rc = session_open(client, stream, &s, &e);
    if (rc != OK)
        return client_fail(client, &e);
    rc = move(c, &s, &x, &e);
    session_close(&s);
    if (rc != OK)
        return client_fail(client, &e);
    return x.left_out > 0 ? EXIT_FAILED_ : EXIT_DONE;
}

static const char *const examples[] = {
    "drover cp j-17:checkpoints/best.pt .",
    "drover cp data j-17:/tmp/data",
    NULL,
};
const struct verb verb_cp = {
    .name = "cp",
    .summary = "copy files and folders from or to a job",
    .about = "From a job that has ended come the results that submit --out has kept. Paths in the "
             "job count from its working folder. Folders are copied with all that is in "
             "them, with modes and times. A copy that was cut goes on where it was when the same "
             "command is given again.",
    .arg = {"FROM TO", ARG_MANY, ARG_FILE},
    .examples = examples,
    .run = run,
};
