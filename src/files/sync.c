/* Both directions of a sync. What must stay true: a chunk is sent only with the hash of the bytes
 * that are sent, and taken only when its hash is right; at most SYNC_AHEAD bytes are asked for and
 * not answered yet; a file has its name only when all of it is there. */
#include "files/sync.h"

#include "files/ignore.h"

#include "base/world.h"
#include "io/ws.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SYNC_AHEAD = 4 << 20,
    ASK_HASHES = 16384, /* of one question what is missing */
    SILENT_S = 60,
    DEPTH_MAX = 100,
    IGNORE_MAX = 256 << 10,
};

/* ---- questions and answers ---- */

struct line { /* the connection */
    struct ws_client *ws;
    struct buf answer; /* messages that came, a u32 length before each */
};

static void on_message(void *ctx, const char *data, size_t n, bool binary)
{
    struct line *l = ctx;
    uint32_t len = (uint32_t)n;
    buf_add(&l->answer, &len, sizeof(len));
    buf_add(&l->answer, data, n);
}

static int ask(struct line *l, char op, const void *a, size_t n, const void *b, size_t m,
               struct err *e)
{
    AUTO(buf) struct buf q = {.max = SYNC_MESSAGE_MAX};
    buf_addc(&q, op);
    buf_add(&q, a, n);
    buf_add(&q, b, m);
    return ws_client_send(l->ws, q.data, q.len, true, e);
}

/* The next answer; take_done() when it has been used. */
static int take(struct line *l, char op, const uint8_t **p, size_t *n, struct err *e)
{
    uint32_t len = 0;
    int64_t until = mono_us() + SILENT_S * US_PER_S;
    while (l->answer.len < sizeof(len)) {
        struct pollfd one = {.fd = ws_client_fd(l->ws), .events = POLLIN};
        if (ws_client_pending(l->ws) || poll(&one, 1, 1000) > 0) {
            int rc = ws_client_pump(l->ws, on_message, l, e);
            if (rc != OK && l->answer.len < sizeof(len))
                return rc;
        }
        if (mono_us() > until)
            return err_set(e, ERR_UNAVAILABLE, "the server has been silent for too long");
    }
    memcpy(&len, l->answer.data, sizeof(len));
    const uint8_t *text = (const uint8_t *)l->answer.data + sizeof(len);
    if (len < 1 || text[0] != (uint8_t)op) {
        if (len > 0 && text[0] == 'E')
            return err_set(e, ERR_CONFLICT, "%.*s", (int)(len - 1), (const char *)text + 1);
        return err_set(e, ERR_UPSTREAM, "the server's answer is not understood");
    }
    *p = text + 1;
    *n = len - 1;
    return OK;
}

static void take_done(struct line *l)
{
    uint32_t len;
    memcpy(&len, l->answer.data, sizeof(len));
    buf_drop_front(&l->answer, sizeof(len) + len);
}

/* ---- a folder becomes a tree ---- */

struct push {
    struct line line;
    const char *dir;
    const char *const *only;
    size_t n_only;
    const struct sync_ops *ops;
    struct ignore ignore;
    struct arena arena;
    struct tree tree;
    size_t cap;
    struct sync_progress progress;
};

static void leave_out(struct push *p, const char *path, const char *why)
{
    if (p->ops->left_out != NULL)
        p->ops->left_out(p->ops->ctx, path, why);
}

static struct tree_entry *entry_add(struct push *p, char kind, const char *path)
{
    if (p->tree.n == p->cap) {
        p->cap = p->cap > 0 ? p->cap * 2 : 1024;
        p->tree.entries = mem_realloc(p->tree.entries, p->cap * sizeof(*p->tree.entries));
    }
    struct tree_entry *x = &p->tree.entries[p->tree.n++];
    *x = (struct tree_entry){.kind = kind, .path = arena_strdup(&p->arena, path)};
    return x;
}

/* A path that a glob names, or below one that it names. */
static bool chosen(const struct push *p, const char *path)
{
    char part[TREE_PATH_MAX + 1];
    for (size_t i = 0; i < p->n_only; i++)
        for (size_t n = strcspn(path, "/");; n += 1 + strcspn(path + n + 1, "/")) {
            snprintf(part, sizeof(part), "%.*s", (int)n, path);
            if (fnmatch(p->only[i], part, FNM_PATHNAME) == 0)
                return true;
            if (path[n] == '\0')
                break;
        }
    return p->n_only == 0;
}

/* A folder on the way to what a glob may name. */
static bool on_the_way(const struct push *p, const char *path)
{
    for (size_t i = 0; i < p->n_only; i++) {
        char part[TREE_PATH_MAX + 1];
        const char *glob = p->only[i];
        size_t parts = 1;
        for (const char *c = path; *c != '\0'; c++)
            parts += *c == '/';
        size_t n = 0;
        while (parts > 0 && glob[n] != '\0') {
            n += strcspn(glob + n, "/");
            if (--parts > 0 && glob[n] == '/')
                n++;
        }
        snprintf(part, sizeof(part), "%.*s", (int)n, glob);
        if (glob[n] == '/' && fnmatch(part, path, FNM_PATHNAME) == 0)
            return true;
    }
    return false;
}

static int hash_file(struct push *p, int fd, struct tree_entry *x, struct err *e)
{
    AUTO(mem) uint8_t *block = mem_alloc(CHUNK_MAX);
    AUTO(buf) struct buf hashes = {.max = TREE_TEXT_MAX};
    for (;;) {
        size_t n = 0;
        ssize_t got = 0;
        while (n < CHUNK_MAX && (got = read(fd, block + n, CHUNK_MAX - n)) > 0)
            n += (size_t)got;
        if (got < 0)
            return err_sys(e, "cannot read %s", x->path);
        if (n == 0)
            break;
        uint8_t sum[HASH_SIZE];
        hash_of(block, n, sum);
        buf_add(&hashes, sum, sizeof(sum));
        x->size += (int64_t)n;
        x->n_hashes++;
        if (n < CHUNK_MAX)
            break;
    }
    x->hashes = arena_memdup(&p->arena, hashes.data, hashes.len);
    return hashes.overflow ? err_set(e, ERR_TOO_LARGE, "%s is too large", x->path) : OK;
}

static void read_ignore(struct push *p, int dir, const char *name, const char *folder)
{
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    AUTO(mem) char *text = mem_alloc(IGNORE_MAX);
    ssize_t n = fd >= 0 ? read(fd, text, IGNORE_MAX) : 0;
    if (n > 0)
        ignore_add(&p->ignore, folder, text, (size_t)n);
}

static int walk(struct push *p, int dir, const char *folder, int depth, struct err *e);

static int walk_one(struct push *p, int dir, const char *name, const char *path, int depth,
                    struct err *e)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return OK; /* it has just gone */
    bool folder = S_ISDIR(st.st_mode), wanted = chosen(p, path);
    if ((p->n_only == 0 && ignore_has(&p->ignore, path, folder)) ||
        (!wanted && !(folder && on_the_way(p, path))))
        return OK;
    if (strlen(path) > TREE_PATH_MAX || depth > DEPTH_MAX) {
        leave_out(p, path, err_tr("its path is too long"));
    } else if (S_ISLNK(st.st_mode)) {
        char target[TREE_PATH_MAX + 2];
        ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        if (!tree_link_inside(path, target))
            leave_out(p, path, err_tr("a link that leads outside"));
        else
            entry_add(p, 'l', path)->target = arena_strdup(&p->arena, target);
    } else if (folder) {
        AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            leave_out(p, path, strerror(errno));
            return OK;
        }
        entry_add(p, 'd', path)->mode = st.st_mode & 0777;
        return walk(p, fd, path, depth + 1, e);
    } else if (S_ISREG(st.st_mode)) {
        AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
            leave_out(p, path, strerror(errno));
            return OK;
        }
        struct tree_entry *x = entry_add(p, 'f', path);
        x->mode = st.st_mode & 0777;
        p->progress.files++;
        return hash_file(p, fd, x, e);
    } else {
        leave_out(p, path, err_tr("neither a file nor a folder"));
    }
    return OK;
}

static int walk(struct push *p, int dir, const char *folder, int depth, struct err *e)
{
    struct dirent **names = NULL;
    if (p->n_only == 0) {
        read_ignore(p, dir, ".gitignore", folder);
        read_ignore(p, dir, ".droverignore", folder);
    }
    int n = scandirat(dir, ".", &names, NULL, alphasort), rc = OK;
    if (n < 0)
        rc = err_sys(e, "cannot read the folder %s", *folder != '\0' ? folder : p->dir);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (rc == OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            AUTO(mem) char *path = mem_printf("%s%s%s", folder, *folder != '\0' ? "/" : "", name);
            rc = walk_one(p, dir, name, path, depth, e);
            if (rc == OK && p->tree.n > TREE_ENTRIES_MAX)
                rc = err_set(e, ERR_TOO_LARGE,
                             "too many files at once (at most %d): leave some out with "
                             ".droverignore",
                             TREE_ENTRIES_MAX);
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

/* ---- sending ---- */

struct piece { /* a chunk, and a place where it can be read */
    const uint8_t *hash;
    const struct tree_entry *file;
    size_t index;
    bool missing;
};

static int piece_order(const void *a, const void *b)
{
    return memcmp(((const struct piece *)a)->hash, ((const struct piece *)b)->hash, HASH_SIZE);
}

static size_t piece_size(const struct piece *c)
{
    int64_t left = c->file->size - (int64_t)c->index * CHUNK_MAX;
    return left < CHUNK_MAX ? (size_t)left : CHUNK_MAX;
}

static int find_missing(struct push *p, struct piece *c, size_t n, struct err *e)
{
    for (size_t at = 0; at < n; at += ASK_HASHES) {
        size_t some = n - at < ASK_HASHES ? n - at : ASK_HASHES, got = 0;
        AUTO(buf) struct buf q = {0};
        const uint8_t *flags = NULL;
        for (size_t i = 0; i < some; i++)
            buf_add(&q, c[at + i].hash, HASH_SIZE);
        int rc = ask(&p->line, 'M', q.data, q.len, "", 0, e);
        if (rc == OK)
            rc = take(&p->line, 'M', &flags, &got, e);
        if (rc == OK && got != some)
            rc = err_set(e, ERR_UPSTREAM, "the server's answer is not understood");
        if (rc != OK)
            return rc;
        for (size_t i = 0; i < some; i++) {
            c[at + i].missing = flags[i] != 0;
            p->progress.total += flags[i] != 0 ? (int64_t)piece_size(&c[at + i]) : 0;
        }
        take_done(&p->line);
    }
    return OK;
}

static int take_kept(struct push *p, size_t *ahead, size_t down_to, struct vec *sizes, size_t *at,
                     struct err *e)
{
    while (*ahead > down_to) {
        const uint8_t *none;
        size_t n;
        int rc = take(&p->line, 'P', &none, &n, e);
        if (rc != OK)
            return rc;
        take_done(&p->line);
        size_t size = (size_t)(uintptr_t)sizes->items[(*at)++];
        *ahead -= size;
        p->progress.done += (int64_t)size;
        if (p->ops->progress != NULL)
            p->ops->progress(p->ops->ctx, &p->progress);
    }
    return OK;
}

static int send_missing(struct push *p, int root, const struct piece *c, size_t n, struct err *e)
{
    AUTO(mem) uint8_t *block = mem_alloc(CHUNK_MAX);
    struct vec sizes = {0};
    size_t ahead = 0, acked = 0;
    int rc = OK;
    for (size_t i = 0; i < n && rc == OK; i++) {
        uint8_t sum[HASH_SIZE];
        size_t size = piece_size(&c[i]);
        if (!c[i].missing)
            continue;
        AUTO(fd) int fd = openat(root, c[i].file->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        ssize_t got = fd >= 0 ? pread(fd, block, size, (off_t)c[i].index * CHUNK_MAX) : -1;
        if (got == (ssize_t)size)
            hash_of(block, size, sum);
        if (got != (ssize_t)size || memcmp(sum, c[i].hash, HASH_SIZE) != 0) {
            rc = err_set(e, ERR_CONFLICT, "%s changed while it was read: try again",
                         c[i].file->path);
            break;
        }
        rc = ask(&p->line, 'P', c[i].hash, HASH_SIZE, block, size, e);
        vec_push(&sizes, (void *)(uintptr_t)size);
        ahead += size;
        if (rc == OK)
            rc = take_kept(p, &ahead, SYNC_AHEAD, &sizes, &acked, e);
    }
    if (rc == OK)
        rc = take_kept(p, &ahead, 0, &sizes, &acked, e);
    vec_fini(&sizes);
    return rc;
}

static int send_tree(struct push *p, int root, char id[TREE_ID_SIZE], struct err *e)
{
    size_t n = 0, all = 0;
    for (size_t i = 0; i < p->tree.n; i++)
        all += p->tree.entries[i].n_hashes;
    AUTO(buf) struct buf text = {0};
    AUTO(mem) struct piece *c = mem_alloc((all + 1) * sizeof(*c));
    int rc = tree_write(&p->tree, &text, e);
    for (size_t i = 0; i < p->tree.n; i++)
        for (size_t h = 0; h < p->tree.entries[i].n_hashes; h++)
            c[n++] = (struct piece){p->tree.entries[i].hashes[h], &p->tree.entries[i], h, false};
    qsort(c, n, sizeof(*c), piece_order);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || memcmp(c[i].hash, c[i - 1].hash, HASH_SIZE) != 0)
            c[kept++] = c[i];
    if (rc == OK)
        rc = find_missing(p, c, kept, e);
    if (rc == OK)
        rc = send_missing(p, root, c, kept, e);
    const uint8_t *answer = NULL;
    size_t len = 0;
    if (rc == OK)
        rc = ask(&p->line, 'C', text.data, text.len, "", 0, e);
    if (rc == OK)
        rc = take(&p->line, 'C', &answer, &len, e);
    if (rc == OK && len != TREE_ID_SIZE - 1)
        rc = err_set(e, ERR_UPSTREAM, "the server's answer is not understood");
    if (rc != OK)
        return rc;
    memcpy(id, answer, len);
    id[len] = '\0';
    take_done(&p->line);
    return OK;
}

int sync_push(struct ws_client *ws, const char *dir, const char *const *only, size_t n,
              const struct sync_ops *ops, char id[TREE_ID_SIZE], struct err *e)
{
    struct push p = {.line = {.ws = ws, .answer = {.max = 64 << 20}},
                     .dir = dir,
                     .only = only,
                     .n_only = n,
                     .ops = ops};
    AUTO(fd) int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = root >= 0 ? walk(&p, root, "", 0, e) : err_sys(e, "cannot read the folder %s", dir);
    bool any = n == 0;
    for (size_t i = 0; i < p.tree.n; i++)
        any |= chosen(&p, p.tree.entries[i].path);
    id[0] = '\0';
    if (rc == OK && any)
        rc = send_tree(&p, root, id, e);
    ignore_fini(&p.ignore);
    arena_fini(&p.arena);
    mem_free(p.tree.entries);
    buf_fini(&p.line.answer);
    return rc;
}

/* ---- a tree becomes a folder ---- */

struct fetch {
    struct line line;
    const struct sync_ops *ops;
    struct sync_progress progress;
    int root;
};

/* The tree's own folders are the parents, so the last part alone could be a link; and that is not
 * followed either. A name that is there is replaced. */
static int open_new(struct fetch *f, const char *path, char part[TREE_PATH_MAX + 16], struct err *e)
{
    snprintf(part, TREE_PATH_MAX + 16, "%s.drover-part", path);
    unlinkat(f->root, part, 0);
    int fd = openat(f->root, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        err_sys(e, "cannot write %s", path);
    return fd;
}

static int take_chunk(struct fetch *f, int fd, const struct tree_entry *x, size_t index,
                      struct err *e)
{
    const uint8_t *p = NULL;
    size_t n = 0;
    uint8_t sum[HASH_SIZE];
    int rc = take(&f->line, 'G', &p, &n, e);
    if (rc != OK)
        return rc;
    hash_of(p, n, sum);
    if (memcmp(sum, x->hashes[index], HASH_SIZE) != 0)
        return err_set(e, ERR_CORRUPT, "%s came with other bytes than were stored", x->path);
    if (pwrite(fd, p, n, (off_t)index * CHUNK_MAX) != (ssize_t)n)
        return err_sys(e, "cannot write %s", x->path);
    take_done(&f->line);
    f->progress.done += (int64_t)n;
    if (f->ops->progress != NULL)
        f->ops->progress(f->ops->ctx, &f->progress);
    return OK;
}

static int fetch_files(struct fetch *f, const struct tree *t, struct err *e)
{
    size_t ask_file = 0, ask_chunk = 0, ahead = 0;
    int rc = OK;
    for (size_t i = 0; i < t->n && rc == OK; i++) {
        const struct tree_entry *x = &t->entries[i];
        char part[TREE_PATH_MAX + 16];
        if (x->kind != 'f')
            continue;
        AUTO(fd) int fd = open_new(f, x->path, part, e);
        if (fd < 0)
            return e->kind;
        for (size_t c = 0; c < x->n_hashes && rc == OK; c++) {
            while (ahead < SYNC_AHEAD / CHUNK_MAX && ask_file < t->n && rc == OK) {
                const struct tree_entry *y = &t->entries[ask_file];
                if (ask_chunk < y->n_hashes) {
                    rc = ask(&f->line, 'G', y->hashes[ask_chunk++], HASH_SIZE, "", 0, e);
                    ahead++;
                } else {
                    ask_file++;
                    ask_chunk = 0;
                }
            }
            if (rc == OK)
                rc = take_chunk(f, fd, x, c, e);
            ahead--;
        }
        f->progress.files++;
        if (rc == OK &&
            (fchmod(fd, x->mode) != 0 || renameat(f->root, part, f->root, x->path) != 0))
            rc = err_sys(e, "cannot write %s", x->path);
    }
    return rc;
}

static int make_folders(struct fetch *f, const struct tree *t, struct err *e)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->entries[i].kind == 'd' && mkdirat(f->root, t->entries[i].path, 0700) != 0) {
            struct stat st;
            if (errno != EEXIST ||
                fstatat(f->root, t->entries[i].path, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
                !S_ISDIR(st.st_mode))
                return err_sys(e, "cannot make the folder %s", t->entries[i].path);
        }
    return OK;
}

static int finish(struct fetch *f, const struct tree *t, struct err *e)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->entries[i].kind == 'l') {
            unlinkat(f->root, t->entries[i].path, 0);
            if (symlinkat(t->entries[i].target, f->root, t->entries[i].path) != 0)
                return err_sys(e, "cannot make the link %s", t->entries[i].path);
        }
    for (size_t i = t->n; i-- > 0;)
        if (t->entries[i].kind == 'd')
            fchmodat(f->root, t->entries[i].path, t->entries[i].mode, 0);
    return OK;
}

int sync_fetch(struct ws_client *ws, const char *id, const char *dir, const struct sync_ops *ops,
               struct err *e)
{
    struct fetch f = {.line = {.ws = ws, .answer = {.max = 64 << 20}}, .ops = ops};
    AUTO(arena) struct arena a = {0};
    struct tree t = {0};
    const uint8_t *text = NULL;
    size_t n = 0;
    f.root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = f.root >= 0 ? ask(&f.line, 'T', id, strlen(id), "", 0, e)
                         : err_sys(e, "cannot open the folder %s", dir);
    if (rc == OK)
        rc = take(&f.line, 'T', &text, &n, e);
    if (rc == OK)
        rc = tree_parse((const char *)text, n, &a, &t, e);
    if (rc == OK) {
        take_done(&f.line);
        f.progress.total = t.bytes;
        rc = make_folders(&f, &t, e);
    }
    if (rc == OK)
        rc = fetch_files(&f, &t, e);
    if (rc == OK)
        rc = finish(&f, &t, e);
    if (f.root >= 0)
        close(f.root);
    buf_fini(&f.line.answer);
    return rc;
}

int sync_no_results(struct ws_client *ws, const char *why, struct err *e)
{
    struct line l = {.ws = ws, .answer = {.max = 1 << 20}};
    const uint8_t *p;
    size_t n;
    int rc = ask(&l, 'X', why, strlen(why), "", 0, e);
    if (rc == OK)
        rc = take(&l, 'X', &p, &n, e);
    buf_fini(&l.answer);
    return rc;
}
