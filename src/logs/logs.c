/* The store of logs: which ones are open, who waits for them, and the calls of the header.
 *
 * Locks: l->lock (the table and the list of least recent use) is never held while a trail's own
 * lock is taken, so a log that is being read from a slow disk stops nobody else. A trail with pins
 * is not closed. Watches have their own locks, held while fn runs: that is what makes
 * logs_unwatch() a promise.
 */
#include "logs/logs.h"

#include "logs/trail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_MAX_DEFAULT = 128, LEVEL_DEFAULT = 3, BUCKETS = 256, WATCH_BUCKETS = 64 };

struct watch {
    struct watch *next;
    int64_t attempt;
    logs_watch_fn *fn;
    void *ctx;
};

struct logs {
    struct trail_home home;
    int lock_fd;
    int64_t floor_mib;
    int open_max;
    pthread_mutex_t lock;
    struct trail *buckets[BUCKETS];
    struct trail *newest, *oldest;
    int open;
    struct {
        pthread_mutex_t lock;
        struct watch *first;
    } watches[WATCH_BUCKETS];
};

static long real_pwrite(int fd, const void *p, size_t n, int64_t at)
{
    return pwrite(fd, p, n, (off_t)at);
}

static const struct logs_disk real_disk = {real_pwrite, fdatasync};

int logs_open(const char *dir, const struct logs_settings *settings, struct logs **out,
              struct err *e)
{
    static const struct logs_settings defaults;
    const struct logs_settings *s = settings != NULL ? settings : &defaults;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_sys(e, "making the folder of logs %s", dir);
    AUTO(fd) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return err_sys(e, "opening the folder of logs %s", dir);
    AUTO(fd) int lock_fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd < 0)
        return err_sys(e, "opening %s/lock", dir);
    if (flock(lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return err_set(e, ERR_CONFLICT, "the folder of logs %s is used by another process",
                           dir);
        return err_sys(e, "locking %s/lock", dir);
    }
    struct logs *l = mem_alloc(sizeof(*l));
    l->home.dir_fd = dir_fd;
    l->lock_fd = lock_fd;
    dir_fd = lock_fd = -1;
    l->floor_mib = s->floor_mib;
    l->home.codec = codec_create(s->level != 0 ? s->level : LEVEL_DEFAULT);
    l->home.disk = s->disk != NULL ? *s->disk : real_disk;
    l->open_max = s->open_max > 0 ? s->open_max : OPEN_MAX_DEFAULT;
    pthread_mutex_init(&l->lock, NULL);
    for (int i = 0; i < WATCH_BUCKETS; i++)
        pthread_mutex_init(&l->watches[i].lock, NULL);
    *out = l;
    return OK;
}

void logs_close(struct logs *l)
{
    if (l == NULL)
        return;
    while (l->newest != NULL) {
        struct trail *t = l->newest;
        l->newest = t->older;
        trail_destroy(t);
    }
    for (int i = 0; i < WATCH_BUCKETS; i++) {
        while (l->watches[i].first != NULL) {
            struct watch *w = l->watches[i].first;
            l->watches[i].first = w->next;
            mem_free(w);
        }
        pthread_mutex_destroy(&l->watches[i].lock);
    }
    codec_destroy(l->home.codec);
    auto_fd_close(&l->home.dir_fd);
    auto_fd_close(&l->lock_fd);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

/* ---- the table of open logs; l->lock is held ---- */

static void list_remove(struct logs *l, struct trail *t)
{
    *(t->newer != NULL ? &t->newer->older : &l->newest) = t->older;
    *(t->older != NULL ? &t->older->newer : &l->oldest) = t->newer;
    t->newer = t->older = NULL;
}

static void list_add_newest(struct logs *l, struct trail *t)
{
    t->older = l->newest;
    *(l->newest != NULL ? &l->newest->newer : &l->oldest) = t;
    l->newest = t;
}

static void table_remove(struct logs *l, struct trail *t)
{
    struct trail **at = &l->buckets[(uint64_t)t->attempt % BUCKETS];
    while (*at != t)
        at = &(*at)->next_in_bucket;
    *at = t->next_in_bucket;
    list_remove(l, t);
    l->open--;
}

/* Takes the logs that may be closed out of the table; the caller destroys the chain unlocked. */
static struct trail *table_shrink(struct logs *l)
{
    struct trail *closing = NULL;
    struct trail *t = l->oldest;
    while (l->open > l->open_max && t != NULL) {
        struct trail *newer = t->newer;
        if (t->pins == 0) {
            table_remove(l, t);
            t->next_in_bucket = closing;
            closing = t;
        }
        t = newer;
    }
    return closing;
}

static void destroy_chain(struct trail *t)
{
    while (t != NULL) {
        struct trail *next = t->next_in_bucket;
        trail_destroy(t);
        t = next;
    }
}

static void unpin(struct logs *l, struct trail *t)
{
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_lock(&l->lock);
    bool last = --t->pins == 0 && t->gone;
    struct trail *closing = table_shrink(l);
    pthread_mutex_unlock(&l->lock);
    if (last)
        trail_destroy(t);
    destroy_chain(closing);
}

/* Finds or opens the attempt's log and gives it locked; unpin() gives it back. */
static int pin(struct logs *l, int64_t attempt, struct trail **out, struct err *e)
{
    if (attempt < 0)
        return err_set(e, ERR_INVALID, "%" PRId64 " is no attempt", attempt);
    for (;;) {
        pthread_mutex_lock(&l->lock);
        struct trail **bucket = &l->buckets[(uint64_t)attempt % BUCKETS], *t = *bucket;
        while (t != NULL && t->attempt != attempt)
            t = t->next_in_bucket;
        if (t == NULL) {
            t = trail_create(&l->home, attempt);
            t->next_in_bucket = *bucket;
            *bucket = t;
            l->open++;
        } else {
            list_remove(l, t);
        }
        list_add_newest(l, t);
        t->pins++;
        struct trail *closing = table_shrink(l);
        pthread_mutex_unlock(&l->lock);
        destroy_chain(closing);
        pthread_mutex_lock(&t->lock);
        if (t->gone) {
            unpin(l, t);
            continue;
        }
        int k = t->loaded ? OK : trail_load(t, e);
        if (k != OK) {
            unpin(l, t);
            return k;
        }
        *out = t;
        return OK;
    }
}

/* ---- watches ---- */

static void wake(struct logs *l, int64_t attempt, uint64_t bytes, bool ended)
{
    size_t i = (uint64_t)attempt % WATCH_BUCKETS;
    pthread_mutex_lock(&l->watches[i].lock);
    for (struct watch *w = l->watches[i].first; w != NULL; w = w->next)
        if (w->attempt == attempt)
            w->fn(w->ctx, attempt, bytes, ended);
    pthread_mutex_unlock(&l->watches[i].lock);
}

void logs_watch(struct logs *l, int64_t attempt, logs_watch_fn *fn, void *ctx)
{
    struct watch *w = mem_alloc(sizeof(*w));
    *w = (struct watch){.attempt = attempt, .fn = fn, .ctx = ctx};
    size_t i = (uint64_t)attempt % WATCH_BUCKETS;
    pthread_mutex_lock(&l->watches[i].lock);
    w->next = l->watches[i].first;
    l->watches[i].first = w;
    pthread_mutex_unlock(&l->watches[i].lock);
}

void logs_unwatch(struct logs *l, int64_t attempt, logs_watch_fn *fn, void *ctx)
{
    size_t i = (uint64_t)attempt % WATCH_BUCKETS;
    struct watch *found = NULL;
    pthread_mutex_lock(&l->watches[i].lock);
    for (struct watch **at = &l->watches[i].first; *at != NULL; at = &(*at)->next) {
        if ((*at)->attempt == attempt && (*at)->fn == fn && (*at)->ctx == ctx) {
            found = *at;
            *at = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&l->watches[i].lock);
    mem_free(found);
}

/* ---- the calls ---- */

bool logs_room(struct logs *l, struct disk_room *out)
{
    return disk_room_of(l->home.dir_fd, l->floor_mib, out);
}

int logs_append(struct logs *l, int64_t attempt, uint64_t offset, const void *bytes, size_t n,
                uint64_t *have, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, e);
    if (k != OK)
        return k;
    uint64_t before = trail_bytes(t);
    struct disk_room room;
    if (logs_room(l, &room) && room.free < room.floor / 2)
        k = err_set(e, ERR_FULL, "the disk of the logs is almost full");
    else if (n > LOGS_APPEND_MAX)
        k = err_set(e, ERR_TOO_LARGE, "%zu bytes of log at once are too many (at most %d)", n,
                    (int)LOGS_APPEND_MAX);
    else
        k = trail_append(t, offset, bytes, n, e);
    uint64_t after = trail_bytes(t);
    if (have != NULL)
        *have = trail_have(t);
    unpin(l, t);
    if (after > before)
        wake(l, attempt, after, false);
    return k;
}

int logs_durable(struct logs *l, int64_t attempt, uint64_t *offset, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, e);
    if (k != OK)
        return k;
    *offset = t->durable;
    unpin(l, t);
    return OK;
}

int logs_sync(struct logs *l, int64_t attempt, uint64_t *offset, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, e);
    if (k != OK)
        return k;
    k = trail_sync(t, e);
    if (k == OK && offset != NULL)
        *offset = t->durable;
    unpin(l, t);
    return k;
}

int logs_end(struct logs *l, int64_t attempt, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, e);
    if (k != OK)
        return k;
    bool was_complete = t->complete;
    k = trail_end(t, e);
    uint64_t bytes = trail_bytes(t);
    unpin(l, t);
    if (k == OK && !was_complete)
        wake(l, attempt, bytes, true);
    return k;
}

int logs_delete(struct logs *l, int64_t attempt, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, NULL);
    if (k != OK) {
        /* A log that cannot be read can be removed all the same. */
        t = trail_create(&l->home, attempt);
        k = trail_unlink(t, e);
        trail_destroy(t);
        return k;
    }
    k = trail_unlink(t, e);
    pthread_mutex_lock(&l->lock);
    table_remove(l, t);
    t->gone = true;
    pthread_mutex_unlock(&l->lock);
    unpin(l, t);
    return k;
}

int logs_stat(struct logs *l, int64_t attempt, struct logs_stat *out, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, e);
    if (k != OK)
        return k;
    struct stat seg = {0};
    if (t->seg_fd >= 0 && fstat(t->seg_fd, &seg) != 0)
        k = err_sys(e, "reading the log of attempt %" PRId64, attempt);
    else
        *out = (struct logs_stat){.have = trail_have(t),
                                  .bytes = trail_bytes(t),
                                  .durable = t->durable,
                                  .stored = (uint64_t)seg.st_size +
                                            (t->raw_fd >= 0 ? t->raw_size : 0),
                                  .lines = t->counted.next - 1,
                                  .first_us = t->first_us,
                                  .last_us = t->last_us,
                                  .complete = t->complete};
    unpin(l, t);
    return k;
}

int logs_read(struct logs *l, int64_t attempt, const struct logs_query *query, struct arena *a,
              struct logs_page *out, struct err *e)
{
    struct trail *t;
    int k = pin(l, attempt, &t, e);
    if (k != OK)
        return k;
    k = trail_read(t, query, a, out, e);
    unpin(l, t);
    return k;
}
