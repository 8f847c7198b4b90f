/* Sending code and getting results. */
#include "cli/sync.h"

#include "base/world.h"
#include "io/ws.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHOW_US = 200 * 1000, LEFT_OUT_SHOWN = 20 };

struct shown {
    struct cli *c;
    int64_t at;
    size_t left_out;
    struct sync_progress last;
};

static void on_progress(void *ctx, const struct sync_progress *p)
{
    struct shown *s = ctx;
    s->last = *p;
    if (!s->c->err.tty || mono_us() - s->at < SHOW_US)
        return;
    s->at = mono_us();
    fprintf(stderr, "\r%s %.1f / %.1f MiB\033[K",
            text_bar(&s->c->arena, p->total > 0 ? (double)p->done / (double)p->total : 1, 20),
            (double)p->done / (1 << 20), (double)p->total / (1 << 20));
}

static void on_left_out(void *ctx, const char *path, const char *why)
{
    struct shown *s = ctx;
    if (++s->left_out <= LEFT_OUT_SHOWN)
        say(stderr, "left out: %s (%s)\n", text_clean(&s->c->arena, path), why);
}

/* A cheap call, which also renews a sign-in that has run out. */
static int greet(struct client *client, struct err *e)
{
    AUTO(reply) struct reply r = {0};
    struct call q = {.path = "/v1/jobs?limit=1"};
    return client_call(client, &q, &r, e);
}

int sync_folder(struct cli *c, struct client *client, const char *dir, char id[TREE_ID_SIZE],
                struct err *e)
{
    struct shown s = {.c = c};
    struct sync_ops ops = {on_progress, on_left_out, &s};
    struct ws_client *ws = NULL;
    int rc = greet(client, e);
    if (rc == OK)
        rc = client_socket(client, "/v1/files", SYNC_PROTOCOL, SYNC_MESSAGE_MAX, &ws, e);
    if (rc == OK)
        rc = sync_push(ws, dir, NULL, 0, &ops, id, e);
    ws_client_close(ws);
    if (c->err.tty && s.at != 0)
        fputs("\r\033[K", stderr);
    if (rc == OK && !c->json)
        say(stderr, "code %.12s: %.1f MiB were sent\n", id, (double)s.last.done / (1 << 20));
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    remove(path);
    return 0;
}

static int fetch(struct client *client, const char *job, const char *tree, const char *dir,
                 const struct sync_ops *ops, struct err *e)
{
    char path[120];
    struct ws_client *ws = NULL;
    snprintf(path, sizeof(path), "/v1/jobs/%s/files", job);
    int rc = client_socket(client, path, SYNC_PROTOCOL, SYNC_MESSAGE_MAX, &ws, e);
    if (rc == OK)
        rc = sync_fetch(ws, tree, dir, ops, e);
    ws_client_close(ws);
    return rc;
}

int sync_results(struct cli *c, struct client *client, const char *job, const char *path,
                 const char *target, struct err *e)
{
    AUTO(reply) struct reply r = {0};
    struct shown s = {.c = c};
    struct sync_ops ops = {on_progress, on_left_out, &s};
    struct call q = {.path = job_path(&c->arena, job, "/files")};
    struct stat st;
    int rc = job_call(c, client, job, &q, &r, e);
    if (rc != OK)
        return rc;
    const char *tree = jv_get_text(r.json, "result"), *note = jv_get_text(r.json, "note");
    if (tree == NULL && note != NULL)
        return err_set(e, ERR_NOT_FOUND, "%s left no results: %s", job,
                       text_clean(&c->arena, note));
    if (tree == NULL)
        return err_set(e, ERR_NOT_FOUND,
                       "%s has ended and nothing was kept: submit with --out PATH to keep results",
                       job);
    bool folder = stat(target, &st) == 0 && S_ISDIR(st.st_mode);
    if (strcmp(path, ".") == 0) {
        if (!folder && mkdir(target, 0777) != 0)
            return err_sys(e, "cannot make %s", target);
        return fetch(client, job, tree, target, &ops, e);
    }
    /* One path of it: all comes beside the target, then that one gets its place. */
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    const char *to = folder ? arena_printf(&c->arena, "%s/%s", target, base) : target;
    char *part = arena_printf(&c->arena, "%s.drover-part-XXXXXX", to);
    if (mkdtemp(part) == NULL)
        return err_sys(e, "cannot write beside %s", to);
    rc = fetch(client, job, tree, part, &ops, e);
    const char *from = arena_printf(&c->arena, "%s/%s", part, path);
    if (rc == OK && lstat(from, &st) != 0)
        rc = err_set(e, ERR_NOT_FOUND,
                     "%s is not among the results of %s: drover cp %s: DIR gets "
                     "them all",
                     path, job, job);
    if (rc == OK && rename(from, to) != 0)
        rc = err_sys(e, "cannot write %s", to);
    nftw(part, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}
