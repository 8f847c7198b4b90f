/* When code is fetched and results are sent. What must stay true: an attempt is launched only with
 * all of its code; its end is told only when its results are kept, or cannot be. */
#include "agent/files.h"

#include "agent/stream.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "files/sync.h"
#include "io/json_in.h"
#include "io/ws.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDER_FILES "files"       /* what is asked for, as it came */
#define FOLDER_KEPT  "files.done"  /* the results were sent */
#define FOLDER_WHY   "files.error" /* why a helper failed */
enum {
    FILES_TEXT_MAX = 128 << 10,
    WHY_MAX = 400,
    TRIES_MAX = 5,
    AGAIN_US = 2 * 1000000,
    OUT_MAX = 100,
    KEEP_MAX_S = 600, /* sending results takes at most this long */
};

static bool asks(const struct jv *attempt)
{
    return jv_get_text(attempt, "code") != NULL || jv_len(jv_get(attempt, "out")) > 0;
}

static void work_path(const struct agent *g, int64_t id, char *to)
{
    snprintf(to, 4096, "%s/work/%lld", g->path, (long long)id);
}

const char *files_work(const struct agent *g, const struct jv *attempt, int64_t id, char *to)
{
    to[0] = '\0';
    if (asks(attempt))
        work_path(g, id, to);
    return to;
}

static void take(struct attempt *a, const struct jv *files)
{
    a->files = jv_get_text(files, "code") != NULL ? FILES_FETCH : FILES_READY;
    a->has_out = jv_len(jv_get(files, "out")) > 0;
}

int files_begin(struct agent *g, struct attempt *a, const struct jv *attempt)
{
    char path[4096];
    AUTO(buf) struct buf b = {0};
    AUTO(arena) struct arena arena = {0};
    if (!asks(attempt))
        return 0;
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "code", jv_get_text(attempt, "code"));
    json_key(&j, "out");
    json_raw(&j,
             jv_len(jv_get(attempt, "out")) > 0 ? jv_dump(jv_get(attempt, "out"), &arena) : "[]");
    json_close(&j, '}');
    snprintf(path, sizeof(path), "%s/work", g->path);
    mkdir(path, 0711);
    work_path(g, a->id, path);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return errno;
    AUTO(fd) int dir = attempt_open(&g->home, a->id);
    if (dir < 0 || folder_write(dir, FOLDER_FILES, b.data, b.len) != 0)
        return errno;
    take(a, attempt);
    return 0;
}

/* NULL: the attempt has none. */
static struct jv *read_files(const struct agent *g, int64_t id)
{
    AUTO(fd) int dir = attempt_open(&g->home, id);
    AUTO(mem) char *text = mem_alloc(FILES_TEXT_MAX + 1);
    ssize_t n = dir >= 0 ? folder_read(dir, FOLDER_FILES, text, FILES_TEXT_MAX) : -1;
    struct jv *v = NULL;
    if (n <= 0 || jv_parse(text, (size_t)n, &v, NULL, NULL) != OK)
        return NULL;
    return v;
}

void files_recover(struct agent *g, struct attempt *a)
{
    AUTO(jv) struct jv *v = read_files(g, a->id);
    AUTO(fd) int dir = attempt_open(&g->home, a->id);
    if (v == NULL)
        return;
    take(a, v);
    if (a->have_started)
        a->files = FILES_READY;
    if (dir >= 0 && faccessat(dir, FOLDER_KEPT, F_OK, 0) == 0)
        a->has_out = false;
}

/* ---- helpers ---- */

static void start(struct agent *g, struct attempt *a, const char *what)
{
    char work[4096];
    AUTO(jv) struct jv *v = read_files(g, a->id);
    AUTO(buf) struct buf b = {0};
    AUTO(arena) struct arena arena = {0};
    struct json j = json_to(&b);
    if (v == NULL) { /* the folder went: the attempt ends by that */
        a->has_out = false;
        a->files = FILES_READY;
        return;
    }
    work_path(g, a->id, work);
    json_open(&j, '{');
    json_ktext(&j, "files", what);
    json_ktext(&j, "jobs", g->jobs_path);
    json_kint(&j, "attempt", a->id);
    json_ktext(&j, "work", work);
    json_key(&j, "what");
    json_raw(&j, jv_dump(v, &arena));
    json_close(&j, '}');
    a->files_pid = stream_spawn(g, &b);
    if (a->files_pid <= 0)
        a->files_at = mono_us() + AGAIN_US;
}

static const char *why_of(struct agent *g, int64_t id, char to[WHY_MAX + 1])
{
    AUTO(fd) int dir = attempt_open(&g->home, id);
    ssize_t n = dir >= 0 ? folder_read(dir, FOLDER_WHY, to, WHY_MAX) : -1;
    if (n <= 0)
        snprintf(to, WHY_MAX, "its helper ended");
    return to;
}

static void kept(struct agent *g, struct attempt *a)
{
    AUTO(fd) int dir = attempt_open(&g->home, a->id);
    if (dir >= 0)
        folder_write(dir, FOLDER_KEPT, "", 0);
    a->has_out = false;
    a->report = true;
}

void files_ended(struct agent *g, struct attempt *a, int status)
{
    char why[WHY_MAX + 1];
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    a->files_pid = 0;
    a->files_at = mono_us() + AGAIN_US * ++a->files_tries;
    if (good && a->files == FILES_FETCH) {
        a->files = FILES_READY;
        a->files_tries = 0;
    } else if (good) {
        kept(g, a);
    } else if (a->files_tries >= TRIES_MAX && a->files == FILES_FETCH) {
        a->files = FILES_READY;
        if (attempt_live(a) && attempt_claim(&g->home, a))
            attempt_end(&g->home, a, END_START_FAILED, "its code could not be fetched: %s",
                        why_of(g, a->id, why));
    } else if (a->files_tries >= TRIES_MAX) {
        log_warning("agent", "attempt %lld: its results are lost: %s", (long long)a->id,
                    why_of(g, a->id, why));
        kept(g, a);
    }
}

void files_step(struct agent *g, int64_t now)
{
    for (struct attempt *a = g->first; a != NULL; a = a->next) {
        if (a->state == ATTEMPT_ENDED && a->has_out && a->exit.started_us <= 0 &&
            a->started.job <= 0)
            kept(g, a); /* it never ran */
        if (a->files_pid > 0 || now < a->files_at || a->journal_us == 0)
            continue;
        if (a->files == FILES_FETCH && a->launch == LAUNCH_WANTED && attempt_live(a))
            start(g, a, "fetch");
        else if (attempt_keeps(a))
            start(g, a, "keep");
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    remove(path);
    return 0;
}

void files_remove(const struct agent *g, int64_t id)
{
    char path[4096];
    work_path(g, id, path);
    if (access(path, F_OK) == 0)
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- in the helper ---- */

static int move(const struct agent_config *config, const struct jv *order, struct err *e)
{
    static const struct sync_ops quiet;
    const struct jv *what = jv_get(order, "what"), *list = jv_get(what, "out");
    const char *work = jv_get_text(order, "work"), *only[OUT_MAX];
    char path[80], id[TREE_ID_SIZE];
    struct ws_client *ws = NULL;
    size_t n = 0;
    snprintf(path, sizeof(path), "/v1/agent/files/%lld",
             (long long)jv_get_int(order, "attempt", 0));
    int rc = agent_dial(config, path, SYNC_PROTOCOL, &ws, e);
    if (rc != OK)
        return rc;
    if (str_eq(jv_get_text(order, "files"), "fetch")) {
        rc = sync_fetch(ws, jv_get_text(what, "code"), work, &quiet, e);
    } else {
        alarm(KEEP_MAX_S);
        for (; n < jv_len(list) && n < OUT_MAX; n++)
            only[n] = jv_text(jv_at(list, n), NULL);
        rc = sync_push(ws, work, only, n, &quiet, id, e);
        if (rc == OK && id[0] == '\0')
            rc = sync_no_results(ws, "the job left nothing at the paths that --out names", e);
        else if (rc != OK && rc != ERR_UNAVAILABLE)
            rc = sync_no_results(ws, e->text, e);
    }
    ws_client_close(ws);
    return rc;
}

int files_helper(const struct agent_config *config, const struct jv *order)
{
    struct err e = {0};
    char path[4096];
    if (move(config, order, &e) == OK)
        return 0;
    snprintf(path, sizeof(path), "%s/%lld", jv_get_text(order, "jobs"),
             (long long)jv_get_int(order, "attempt", 0));
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        folder_write(dir, FOLDER_WHY, e.text, strnlen(e.text, WHY_MAX));
    log_warning("agent", "files of attempt %lld: %s", (long long)jv_get_int(order, "attempt", 0),
                e.text);
    return 1;
}
