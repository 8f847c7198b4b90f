/* drover submit: a job from options or a file, and staying with it if asked.
 *
 * Every submit carries an Idempotency-Key, so a repeat after a lost answer gives the same job.
 */
#include "cli/context.h"
#include "cli/spec.h"
#include "cli/sync.h"

#include "base/world.h"
#include "cli/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUT_MAX = 100 };

/* The whole file, or standard input for "-". */
static int read_file(const char *path, struct buf *to, struct err *e)
{
    AUTO(fd) int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "reading %s", path);
    char part[8192];
    ssize_t n;
    to->max = YAML_SIZE_MAX + 1;
    while ((n = read(fd, part, sizeof(part))) > 0)
        if (!buf_add(to, part, (size_t)n))
            break;
    return n < 0 ? err_sys(e, "reading %s", path) : OK;
}

/* On the server's own machine a job runs where its submitter stands, as a shell would; elsewhere
 * this machine's folders mean nothing. */
static int settle_cwd(struct cli *c, const struct client *client, struct spec *s, struct err *e)
{
    bool is_here = client_server(client)->unix_path[0] != '\0';
    char here[4096];
    if (s->cwd != NULL && s->cwd[0] == '/')
        return OK;
    if (s->cwd != NULL && !is_here)
        return err_set(e, ERR_INVALID,
                       "the directory %s is relative to this machine, and the job runs "
                       "elsewhere: give a path that begins with /",
                       s->cwd);
    if (s->image != NULL || !is_here)
        return OK;
    if (getcwd(here, sizeof(here)) == NULL)
        return s->cwd == NULL ? OK : err_sys(e, "finding the present folder");
    const char *path = s->cwd == NULL ? here : arena_printf(&c->arena, "%s/%s", here, s->cwd);
    char *real = realpath(path, NULL); /* without . and .. */
    s->cwd = arena_strdup(&c->arena, real != NULL ? real : path);
    free(real);
    return OK;
}

/* --sync and --out: the job gets a folder of its own. */
static int add_files(struct cli *c, struct client *client, const struct parsed *p, struct spec *s,
                     struct err *e)
{
    const char *dir = opt_text(p, "sync");
    char id[TREE_ID_SIZE];
    s->out = arena_alloc(&c->arena, OUT_MAX * sizeof(*s->out));
    for (const struct given *g = NULL; (g = opt_next(p, "out", g)) != NULL && s->n_out < OUT_MAX;)
        s->out[s->n_out++] = g->text;
    if (dir == NULL)
        return OK;
    int k = sync_folder(c, client, dir, id, e);
    if (k == OK)
        s->code = arena_strdup(&c->arena, id);
    return k;
}

static int build_spec(struct cli *c, struct client *client, const struct parsed *p, struct buf *to,
                      struct err *e)
{
    struct spec s;
    spec_init(&s);
    if (p->n_args > 0) {
        struct buf text = {0};
        int k = read_file(p->args[0], &text, e);
        if (k == OK)
            k = spec_from_yaml(&s, p->args[0], buf_str(&text), text.len, &c->arena, e);
        buf_fini(&text);
        if (k != OK)
            return k;
    }
    int k = spec_from_options(&s, p, &c->arena, e);
    if (k == OK)
        k = add_files(c, client, p, &s, e);
    if (k == OK && s.code == NULL && s.n_out == 0)
        k = settle_cwd(c, client, &s, e);
    /* Who names a type wants one of it. */
    if (s.n_gpu_types > 0 && s.gpus == SPEC_ABSENT)
        s.gpus = 1;
    return k == OK ? spec_write(&s, to, e) : k;
}

/* Follows or waits as asked; gives the exit code. */
static int stay(struct cli *c, struct client *client, const struct parsed *p, const char *id)
{
    struct err e = {0};
    AUTO(jv) struct jv *job = NULL;
    enum follow_end end;
    int k;
    if (opt_given(p, "follow")) {
        struct follow f = {.id = id, .patient = true};
        k = follow_job(c, client, &f, &end, &job, &e);
    } else {
        k = wait_job(c, client, id, &end, &job, &e);
    }
    if (k != OK)
        return client_fail(client, &e);
    if (end == FOLLOW_INTERRUPTED)
        return stopped_following(id);
    if (c->json)
        printf("%s\n", jv_dump(job, &c->arena));
    else
        print_job_line(stderr, &c->err, c, job);
    int code = job_exit_code(job);
    return opt_given(p, "wait") ? code : code != 0 ? EXIT_FAILED_ : EXIT_DONE;
}

static void print_submitted(FILE *to, const struct term *t, struct cli *c, const struct jv *job)
{
    const struct jv *notes = jv_get(job, "notes");
    print_job_line(to, t, c, job);
    for (size_t i = 0; i < jv_len(notes); i++) {
        const char *note = jv_text(jv_at(notes, i), NULL);
        say(to, "  note: %s\n", text_clean(&c->arena, note));
    }
}

static int run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(client) struct client *client = NULL;
    AUTO(buf) struct buf body = {0};
    AUTO(reply) struct reply r = {0};
    char key[UUID_TEXT_SIZE];
    if (p->has_command && p->n_args > 0) {
        err_set(&e, ERR_INVALID, "give a job file or a command, not both");
        return usage_error(c, p->verb, &e);
    }
    if (client_open(c->server, &client, &e) != OK)
        return client_fail(NULL, &e);
    if (build_spec(c, client, p, &body, &e) != OK)
        return usage_error(c, p->verb, &e); /* also a file that cannot be read */
    const char *given = opt_text(p, "idempotency-key");
    struct call q = {.path = "/v1/jobs",
                     .body = buf_str(&body),
                     .idempotency_key = given != NULL ? given : uuid_v4(key)};
    if (client_call(client, &q, &r, &e) != OK)
        return client_fail(client, &e);
    const char *id = jv_get_text(r.json, "id");
    if (id == NULL) {
        err_set(&e, ERR_UPSTREAM, "the server's answer has no job id");
        return client_fail(client, &e);
    }
    id = arena_strdup(&c->arena, id);
    bool stays = opt_given(p, "follow") || opt_given(p, "wait");
    if (c->json)
        print_json(&r);
    else
        print_submitted(stays ? stderr : stdout, stays ? &c->err : &c->out, c, r.json);
    fflush(stdout);
    return stays ? stay(c, client, p, id) : EXIT_DONE;
}

static const struct opt opts[] = {
    {"name", 'n', OPT_TEXT, "NAME", "name of the job; from the command if not given"},
    {"gpus", 'g', OPT_INT, "N", "GPUs, all on one node (default 0)", 0, 1024},
    {"gpu-type", 0, OPT_TEXT, "T[,T]",
     "any of these types, such as RTX4090,A6000; one GPU if not said"},
    {"image", 0, OPT_TEXT, "IMAGE", "run in this container image"},
    {"env", 'e', OPT_TEXT, "K=V", "variable for the job; K alone takes it along from here",
     .many = true},
    {"secret", 0, OPT_TEXT, "NAME[=VAR]", "put a secret into a variable (drover secret set NAME)",
     .many = true},
    {"cwd", 0, OPT_TEXT, "DIR", "working directory; on the server's own host relative to here"},
    {"sync", 0, OPT_TEXT, "DIR", "send this folder along: the job runs in a copy of it"},
    {"out", 'o', OPT_TEXT, "PATH", "keep this of the job's folder at its end (also out/*.csv)",
     .many = true},
    {"cpus", 0, OPT_INT, "N", "CPU threads (not given: 1 is counted without GPUs, none with)", 1,
     65536},
    {"memory", 'm', OPT_BYTES, "SIZE", "memory limit, such as 4G, where the node enforces it"},
    {"time", 't', OPT_DURATION, "TIME", "time limit, such as 90s, 15m, 2h, 1d12h"},
    {"priority", 'p', OPT_TEXT, "P", "low, normal, high, urgent, or 1 to 10",
     .choices = "low normal high urgent"},
    {"retries", 0, OPT_INT, "N", "start again up to N times when it fails", 0, 10},
    {"label", 'l', OPT_TEXT, "K=V", "label to find it by", .many = true},
    {"follow", 'f', OPT_FLAG, NULL, "print its output until it ends (Ctrl-C: job goes on)"},
    {"wait", 'w', OPT_FLAG, NULL, "wait for its end and exit with its exit code"},
    {"idempotency-key", 0, OPT_TEXT, "KEY", "a repeat with the same key gives the same job"},
    {0},
};
static const char *const examples[] = {
    "drover submit --gpus 1 --follow -- python3 train.py --epochs 3",
    "drover submit --gpus 2 --gpu-type RTX4090,A6000 --time 2h -- ./run.sh",
    "drover submit job.yaml --env LR=0.01",
    "drover submit --sync . --out checkpoints --gpus 1 -- python3 train.py",
    "drover submit --wait -- make test && echo passed",
    NULL,
};
const struct verb verb_submit = {
    .name = "submit",
    .summary = "run a command as a job, or the job that a file describes",
    .about = "A job file is YAML with the same words: name, command (a list, or one text for the "
             "shell), env, cwd, image, gpus, gpu_type, cpus, memory, time, priority, retries, "
             "labels. Options win over the file. With --follow the exit code is 0 when the job "
             "completes and 1 when it does not, with --wait it is the job's own (128 + n for "
             "signal n); 130 after Ctrl-C.",
    .arg = {"FILE", ARG_OPTIONAL, ARG_FILE},
    .command = true,
    .opts = opts,
    .examples = examples,
    .run = run,
};
