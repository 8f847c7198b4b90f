/* Chunks and trees on the server's disk. What must stay true: a name is put only on bytes that have
 * its hash; a chunk that a kept tree names is not removed. */
#include "files/blobs.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PLACE_SIZE = 32 + HASH_HEX_SIZE, DAY_S = 86400 };

struct blobs {
    int dir;
    int64_t max;
    _Atomic int64_t bytes;
    atomic_uint serial;      /* of temporary names */
    pthread_mutex_t keeping; /* trees are kept, or swept: never both */
};

int blobs_open(const char *dir, int64_t bytes_max, struct blobs **out, struct err *e)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_sys(e, "cannot make %s", dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "cannot open %s", dir);
    struct blobs *b = mem_alloc(sizeof(*b));
    b->dir = fd;
    b->max = bytes_max;
    pthread_mutex_init(&b->keeping, NULL);
    *out = b;
    return OK;
}

void blobs_close(struct blobs *b)
{
    if (b == NULL)
        return;
    close(b->dir);
    pthread_mutex_destroy(&b->keeping);
    mem_free(b);
}

int64_t blobs_bytes(const struct blobs *b)
{
    return atomic_load(&b->bytes);
}

static const char *place_of(int64_t owner, const uint8_t hash[HASH_SIZE], char to[PLACE_SIZE])
{
    char hex[HASH_HEX_SIZE];
    snprintf(to, PLACE_SIZE, "%lld/%.2s/%s", (long long)owner, hash_hex(hash, hex), hex);
    return to;
}

static const char *tree_place(int64_t owner, const char *id, char to[PLACE_SIZE])
{
    snprintf(to, PLACE_SIZE, "%lld/trees/%s", (long long)owner, id);
    return to;
}

static int full(const struct blobs *b, struct err *e)
{
    return err_set(e, ERR_FULL,
                   "the store of code and results is full (%lld MiB, FILES_MAX_MIB): what is not "
                   "used goes after FILES_KEEP_DAYS",
                   (long long)(b->max >> 20));
}

/* By a temporary name in the same folder; makes the folders. */
static int put_file(struct blobs *b, const char *place, const void *p, size_t n, bool sync,
                    struct err *e)
{
    char part[PLACE_SIZE + 24], folder[PLACE_SIZE];
    if (atomic_load(&b->bytes) + (int64_t)n > b->max)
        return full(b, e);
    for (const char *slash = strchr(place, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof(folder), "%.*s", (int)(slash - place), place);
        mkdirat(b->dir, folder, 0700);
    }
    snprintf(part, sizeof(part), "%s.%u", place, atomic_fetch_add(&b->serial, 1));
    AUTO(fd) int fd = openat(b->dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) { /* of an earlier process */
        unlinkat(b->dir, part, 0);
        fd = openat(b->dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd < 0 || write(fd, p, n) != (ssize_t)n || (sync && fsync(fd) != 0) ||
        renameat(b->dir, part, b->dir, place) != 0) {
        int rc = err_sys(e, "cannot write to the store of code and results");
        unlinkat(b->dir, part, 0);
        return rc;
    }
    atomic_fetch_add(&b->bytes, (int64_t)n);
    return OK;
}

static bool touch(struct blobs *b, const char *place)
{
    return utimensat(b->dir, place, NULL, 0) == 0;
}

bool blob_has(struct blobs *b, int64_t owner, const uint8_t hash[HASH_SIZE])
{
    char place[PLACE_SIZE];
    return touch(b, place_of(owner, hash, place));
}

int blob_put(struct blobs *b, int64_t owner, const uint8_t hash[HASH_SIZE], const void *p, size_t n,
             struct err *e)
{
    char place[PLACE_SIZE];
    uint8_t sum[HASH_SIZE];
    hash_of(p, n, sum);
    if (n == 0 || n > CHUNK_MAX || memcmp(sum, hash, HASH_SIZE) != 0)
        return err_set(e, ERR_INVALID, "the bytes of a chunk do not have its hash");
    if (blob_has(b, owner, hash))
        return OK;
    return put_file(b, place_of(owner, hash, place), p, n, false, e);
}

static int read_file(struct blobs *b, const char *place, size_t max, struct buf *out, struct err *e)
{
    struct stat st;
    AUTO(fd) int fd = openat(b->dir, place, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0)
        return errno == ENOENT ? err_set(e, ERR_NOT_FOUND,
                                         "it is not in the store of code and results (any more)")
                               : err_sys(e, "cannot read the store of code and results");
    size_t n = (size_t)st.st_size;
    out->max = out->len + max + 1;
    char *to = n <= max ? buf_reserve(out, n) : NULL;
    if (to == NULL || pread(fd, to, n, 0) != (ssize_t)n)
        return err_set(e, ERR_CORRUPT, "a file of the store of code and results is damaged");
    out->len += n;
    return OK;
}

/* Its bytes are what its name says; what is not goes, so that it is asked for again. */
static int read_checked(struct blobs *b, const char *place, const uint8_t hash[HASH_SIZE],
                        size_t max, struct buf *out, struct err *e)
{
    uint8_t sum[HASH_SIZE];
    size_t from = out->len;
    int rc = read_file(b, place, max, out, e);
    if (rc != OK)
        return rc;
    hash_of(out->data + from, out->len - from, sum);
    if (memcmp(sum, hash, HASH_SIZE) == 0)
        return OK;
    log_error("files", "%s is damaged: removed", place);
    unlinkat(b->dir, place, 0);
    return err_set(e, ERR_CORRUPT, "a file of the store of code and results is damaged");
}

int blob_read(struct blobs *b, int64_t owner, const uint8_t hash[HASH_SIZE], struct buf *out,
              struct err *e)
{
    char place[PLACE_SIZE];
    return read_checked(b, place_of(owner, hash, place), hash, CHUNK_MAX, out, e);
}

static bool id_hash(const char *id, uint8_t to[HASH_SIZE])
{
    return hash_parse(id, strlen(id), to);
}

static int check_chunks(struct blobs *b, int64_t owner, const struct tree *t, struct err *e)
{
    for (size_t i = 0; i < t->n; i++)
        for (size_t h = 0; h < t->entries[i].n_hashes; h++) {
            char place[PLACE_SIZE];
            struct stat st;
            int64_t left = t->entries[i].size - (int64_t)h * CHUNK_MAX;
            int64_t want = left < CHUNK_MAX ? left : CHUNK_MAX;
            place_of(owner, t->entries[i].hashes[h], place);
            if (fstatat(b->dir, place, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_size != want)
                return err_set(e, ERR_CONFLICT, "a part of %s was not sent: try again",
                               t->entries[i].path);
        }
    return OK;
}

int tree_keep(struct blobs *b, int64_t owner, const char *text, size_t n, char id[TREE_ID_SIZE],
              struct err *e)
{
    AUTO(arena) struct arena a = {0};
    struct tree t;
    uint8_t sum[HASH_SIZE];
    char place[PLACE_SIZE];
    int rc = tree_parse(text, n, &a, &t, e);
    if (rc != OK)
        return rc;
    hash_of(text, n, sum);
    hash_hex(sum, id);
    pthread_mutex_lock(&b->keeping);
    rc = check_chunks(b, owner, &t, e);
    /* One flush for all its chunks, however many they are. */
    if (rc == OK && !touch(b, tree_place(owner, id, place))) {
        rc = syncfs(b->dir) == 0 ? put_file(b, place, text, n, true, e)
                                 : err_sys(e, "cannot write to the store of code and results");
        if (rc == OK && syncfs(b->dir) != 0)
            rc = err_sys(e, "cannot write to the store of code and results");
    }
    pthread_mutex_unlock(&b->keeping);
    return rc;
}

bool tree_there(struct blobs *b, int64_t owner, const char *id)
{
    char place[PLACE_SIZE];
    uint8_t sum[HASH_SIZE];
    return id_hash(id, sum) && touch(b, tree_place(owner, id, place));
}

int tree_load(struct blobs *b, int64_t owner, const char *id, struct buf *out, struct err *e)
{
    char place[PLACE_SIZE];
    uint8_t sum[HASH_SIZE];
    if (!id_hash(id, sum))
        return err_set(e, ERR_INVALID, "the id of a tree has 64 hexadecimal digits");
    touch(b, tree_place(owner, id, place));
    return read_checked(b, place, sum, TREE_TEXT_MAX, out, e);
}

/* ---- sweeping ---- */

static void each(struct blobs *b, const char *folder,
                 void (*fn)(struct blobs *b, const char *place, const char *name,
                            const struct stat *st, void *ctx),
                 void *ctx)
{
    int fd = openat(b->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;) {
        char place[PLACE_SIZE + 300];
        struct stat st;
        if (f->d_name[0] == '.' || fstatat(dirfd(d), f->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        snprintf(place, sizeof(place), "%s/%s", folder, f->d_name);
        fn(b, place, f->d_name, &st, ctx);
    }
    if (d != NULL)
        closedir(d);
}

struct sweep {
    int64_t keep_s, now_s, bytes;
    struct map named; /* chunks of the trees that stay */
};

static void sweep_tree(struct blobs *b, const char *place, const char *name, const struct stat *st,
                       void *ctx)
{
    struct sweep *s = ctx;
    AUTO(buf) struct buf text = {0};
    AUTO(arena) struct arena a = {0};
    struct tree t = {0};
    char hex[HASH_HEX_SIZE];
    if (s->now_s - st->st_mtim.tv_sec > s->keep_s) {
        unlinkat(b->dir, place, 0);
        return;
    }
    s->bytes += st->st_size;
    if (read_file(b, place, TREE_TEXT_MAX, &text, NULL) != OK ||
        tree_parse(buf_str(&text), text.len, &a, &t, NULL) != OK)
        return;
    for (size_t i = 0; i < t.n; i++)
        for (size_t h = 0; h < t.entries[i].n_hashes; h++)
            map_put(&s->named, hash_hex(t.entries[i].hashes[h], hex), s);
}

static void sweep_chunk(struct blobs *b, const char *place, const char *name, const struct stat *st,
                        void *ctx)
{
    struct sweep *s = ctx;
    if (map_get(&s->named, name) == NULL && s->now_s - st->st_mtim.tv_sec > DAY_S)
        unlinkat(b->dir, place, 0);
    else
        s->bytes += st->st_size;
}

static void sweep_folder(struct blobs *b, const char *place, const char *name,
                         const struct stat *st, void *ctx)
{
    if (S_ISDIR(st->st_mode) && strlen(name) == 2)
        each(b, place, sweep_chunk, ctx);
}

static void sweep_owner(struct blobs *b, const char *place, const char *name, const struct stat *st,
                        void *ctx)
{
    struct sweep *s = ctx;
    char trees[PLACE_SIZE];
    if (!S_ISDIR(st->st_mode))
        return;
    snprintf(trees, sizeof(trees), "%.20s/trees", name);
    pthread_mutex_lock(&b->keeping);
    each(b, trees, sweep_tree, s);
    each(b, name, sweep_folder, s);
    map_fini(&s->named);
    s->named = (struct map){0};
    pthread_mutex_unlock(&b->keeping);
}

void blobs_sweep(struct blobs *b, int64_t keep_us)
{
    struct sweep s = {.keep_s = keep_us / US_PER_S, .now_s = now_us() / US_PER_S};
    each(b, ".", sweep_owner, &s);
    atomic_store(&b->bytes, s.bytes);
}
