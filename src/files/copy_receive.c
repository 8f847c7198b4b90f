/* The receiving side of a copy. What must stay true: nothing is made outside the target, whatever
 * the sender lists: every part of a path is checked and opened without following a link; a file has
 * its own name only when all of it is there and its hash is right. */
#include "files/copy.h"

#include "files/wire.h"

#include "base/mem.h"
#include "io/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ASKED_AHEAD = 32, NAME_MAX_BYTES = 255 };

struct item {
    char kind;
    uint32_t mode;
    uint64_t size, from; /* from: where the file goes on */
    int64_t mtime_us;
    uint32_t number; /* of a file in the sender's list */
    char *path, *target;
};

struct receiver {
    int in, out;
    const struct copy_ops *ops;
    struct copy_progress progress;
    struct arena arena;
    char name[NAME_MAX_BYTES + 1]; /* what the sender calls the thing */
    struct item *items;
    size_t n, cap;
    int dir;         /* that holds the thing */
    char *root_name; /* of the thing in it */
    uint8_t block[WIRE_BLOCK_MAX];
};

/* ---- the list ---- */

static bool path_is_good(const char *path)
{
    if (*path == '\0')
        return true;
    for (;;) {
        size_t n = strcspn(path, "/");
        if (n == 0 || n > NAME_MAX_BYTES || (n == 1 && path[0] == '.') ||
            (n == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        if (path[n] == '\0')
            return true;
        path += n + 1;
    }
}

static int read_text(struct receiver *r, size_t n, size_t max, char **out, struct err *e)
{
    if (n > max)
        return err_set(e, ERR_UPSTREAM, "the other side of the copy sent what is no list");
    char *text = arena_alloc(&r->arena, n + 1);
    int rc = wire_read(r->in, text, n, e);
    if (rc == OK && strlen(text) != n)
        rc = err_set(e, ERR_UPSTREAM, "the other side of the copy sent what is no list");
    *out = text;
    return rc;
}

static struct item *item_add(struct receiver *r)
{
    if (r->n == r->cap) {
        r->cap = r->cap > 0 ? r->cap * 2 : 256;
        r->items = mem_realloc(r->items, r->cap * sizeof(*r->items));
    }
    r->items[r->n] = (struct item){0};
    return &r->items[r->n++];
}

static int read_list(struct receiver *r, struct err *e)
{
    uint32_t number = 0;
    for (size_t count = 0; count <= COPY_ENTRIES_MAX + 2; count++) {
        uint8_t head[WIRE_ENTRY];
        struct wire_entry x;
        char *path = NULL, *text = NULL;
        int rc = wire_read(r->in, head, sizeof(head), e);
        if (rc != OK)
            return rc;
        wire_entry_get(head, &x);
        rc = read_text(r, x.path_n, COPY_PATH_MAX, &path, e);
        if (rc == OK && strchr("lwxn", x.kind) != NULL)
            rc = read_text(r, (size_t)x.size, COPY_PATH_MAX, &text, e);
        if (rc != OK)
            return rc;
        if (x.kind == 'e')
            return OK;
        if (!path_is_good(path) || strchr("dflwxn", x.kind) == NULL)
            return err_set(e, ERR_UPSTREAM,
                           "the other side of the copy lists a path that leads "
                           "elsewhere");
        if (x.kind == 'x')
            return err_set(e, ERR_NOT_FOUND, "%s: %s", r->name, text);
        if (x.kind == 'n') {
            if (strchr(path, '/') == NULL)
                snprintf(r->name, sizeof(r->name), "%s", path);
            continue;
        }
        if (x.kind == 'w') {
            if (r->ops->left_out != NULL)
                r->ops->left_out(r->ops->ctx, path, text);
            continue;
        }
        struct item *it = item_add(r);
        *it = (struct item){.kind = x.kind,
                            .mode = x.mode & 0777,
                            .size = x.size,
                            .mtime_us = x.mtime_us,
                            .path = path,
                            .target = text};
        if (x.kind == 'f') {
            it->number = number++;
            r->progress.total += x.size;
            r->progress.files_total++;
        }
    }
    return err_set(e, ERR_TOO_LARGE, "more than %d files at once", COPY_ENTRIES_MAX);
}

/* ---- places ---- */

/* Opens the folder that holds path, and tells the last part. Makes nothing. */
static int open_parent(struct receiver *r, const char *path, char last[NAME_MAX_BYTES + 1])
{
    int at = dup(r->dir);
    const char *part = r->root_name, *rest = path;
    for (;;) {
        size_t n = strcspn(part, "/");
        memcpy(last, part, n);
        last[n] = '\0';
        /* after the thing's own name come the parts of the path below it */
        if (part == r->root_name ? *rest == '\0' : part[n] == '\0')
            return at;
        int next = openat(at, last, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int why = errno;
        close(at);
        errno = why;
        if (next < 0)
            return -1;
        at = next;
        part = part == r->root_name ? rest : part + n + 1;
    }
}

static const char *shown(const struct receiver *r, const struct item *it)
{
    return it->path[0] != '\0' ? it->path : r->root_name;
}

static int place_error(const struct receiver *r, const struct item *it, struct err *e)
{
    return err_sys(e, "cannot write %s", shown(r, it));
}

static int make_folder(struct receiver *r, const struct item *it, struct err *e)
{
    char last[NAME_MAX_BYTES + 1];
    AUTO(fd) int parent = open_parent(r, it->path, last);
    struct stat st;
    if (parent < 0)
        return place_error(r, it, e);
    if (mkdirat(parent, last, 0700 | it->mode) == 0)
        return OK;
    if (errno != EEXIST || fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return place_error(r, it, e);
    if (S_ISDIR(st.st_mode))
        return OK;
    return err_set(e, ERR_CONFLICT, "%s is there already and is no folder", shown(r, it));
}

static int make_link(struct receiver *r, const struct item *it, struct err *e)
{
    char last[NAME_MAX_BYTES + 1];
    AUTO(fd) int parent = open_parent(r, it->path, last);
    struct stat st;
    if (parent < 0)
        return place_error(r, it, e);
    if (fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
        unlinkat(parent, last, 0);
    return symlinkat(it->target, parent, last) == 0 ? OK : place_error(r, it, e);
}

static void part_name(const char *last, char to[NAME_MAX_BYTES + 1])
{
    size_t most = NAME_MAX_BYTES - 1 - strlen(COPY_PART_SUFFIX);
    snprintf(to, NAME_MAX_BYTES + 1, ".%.*s%s", (int)most, last, COPY_PART_SUFFIX);
}

static struct timespec time_of(int64_t us)
{
    int64_t s = us / 1000000;
    return (struct timespec){.tv_sec = s, .tv_nsec = (us - s * 1000000) * 1000};
}

/* Whether it must be asked for, and from where. */
static int look(struct receiver *r, struct item *it, bool *wanted, struct err *e)
{
    char last[NAME_MAX_BYTES + 1], part[NAME_MAX_BYTES + 1];
    AUTO(fd) int parent = open_parent(r, it->path, last);
    struct stat st;
    if (parent < 0)
        return place_error(r, it, e);
    *wanted = true;
    if (fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(st.st_mode))
            return err_set(e, ERR_CONFLICT, "%s is there already and is a folder", shown(r, it));
        int64_t mtime = st.st_mtim.tv_sec * INT64_C(1000000) + st.st_mtim.tv_nsec / 1000;
        if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == it->size && mtime == it->mtime_us)
            *wanted = false;
    }
    part_name(last, part);
    if (*wanted && fstatat(parent, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
        (uint64_t)st.st_size <= it->size)
        it->from = (uint64_t)st.st_size;
    return OK;
}

/* ---- contents ---- */

static int ask(struct receiver *r, uint32_t number, uint64_t from, struct err *e)
{
    uint8_t q[WIRE_QUESTION] = {0};
    wire_put(q, number, 4);
    wire_put(q + 8, from, 8);
    return wire_write(r->out, q, sizeof(q), e);
}

/* The hash of what lies there already. */
static int hash_prefix(struct receiver *r, int fd, uint64_t n, struct hash *h, struct err *e)
{
    hash_begin(h);
    for (uint64_t at = 0; at < n;) {
        uint64_t left = n - at;
        ssize_t got = pread(fd, r->block, left < WIRE_BLOCK_MAX ? (size_t)left : WIRE_BLOCK_MAX,
                            (off_t)at);
        if (got <= 0)
            return err_sys(e, "cannot read what was copied before");
        hash_add(h, r->block, (size_t)got);
        at += (uint64_t)got;
    }
    return OK;
}

/* Reads one answer into the file. *same: the hash is right. */
static int take_answer(struct receiver *r, int fd, const struct item *it, bool *same,
                       char **refused, struct err *e)
{
    struct hash h;
    uint64_t at = it->from;
    uint8_t head[4], theirs[HASH_SIZE], ours[HASH_SIZE];
    int rc = hash_prefix(r, fd, it->from, &h, e);
    if (rc == OK && ftruncate(fd, (off_t)it->from) != 0)
        rc = err_sys(e, "cannot write %s", shown(r, it));
    while (rc == OK && (rc = wire_read(r->in, head, sizeof(head), e)) == OK) {
        uint32_t n = (uint32_t)wire_get(head, 4);
        if (n == 0)
            break;
        if (n == WIRE_NO_MORE) {
            rc = wire_read(r->in, head, sizeof(head), e);
            return rc == OK ? read_text(r, (size_t)wire_get(head, 4), COPY_PATH_MAX, refused, e)
                            : rc;
        }
        if (n > WIRE_BLOCK_MAX)
            return err_set(e, ERR_UPSTREAM, "the other side of the copy sent what is no answer");
        rc = wire_read(r->in, r->block, n, e);
        if (rc != OK)
            break;
        hash_add(&h, r->block, n);
        for (size_t put = 0; put < n && rc == OK;) {
            ssize_t wrote = pwrite(fd, r->block + put, n - put, (off_t)at);
            if (wrote <= 0) {
                rc = err_sys(e, "cannot write %s", shown(r, it));
                break;
            }
            put += (size_t)wrote;
            at += (uint64_t)wrote;
        }
        r->progress.done += n;
        if (r->ops->progress != NULL)
            r->ops->progress(r->ops->ctx, &r->progress);
    }
    if (rc == OK)
        rc = wire_read(r->in, theirs, sizeof(theirs), e);
    if (rc != OK)
        return rc;
    hash_end(&h, ours);
    *same = memcmp(theirs, ours, sizeof(ours)) == 0;
    return OK;
}

static int finish(struct receiver *r, const struct item *it, int parent, int fd, const char *part,
                  const char *last, struct err *e)
{
    struct timespec times[2] = {time_of(it->mtime_us), time_of(it->mtime_us)};
    if (fchmod(fd, it->mode) != 0 || futimens(fd, times) != 0 ||
        renameat(parent, part, parent, last) != 0)
        return place_error(r, it, e);
    return OK;
}

/* One file whose question was sent. *again: what was there was not its beginning. */
static int take_file(struct receiver *r, struct item *it, bool *again, struct err *e)
{
    char last[NAME_MAX_BYTES + 1], part[NAME_MAX_BYTES + 1], *refused = NULL;
    bool same = false;
    AUTO(fd) int parent = open_parent(r, it->path, last);
    if (parent < 0)
        return place_error(r, it, e);
    part_name(last, part);
    AUTO(fd) int fd = openat(parent, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return place_error(r, it, e);
    int rc = take_answer(r, fd, it, &same, &refused, e);
    if (rc != OK)
        return rc;
    *again = false;
    if (refused != NULL) {
        unlinkat(parent, part, 0);
        if (r->ops->left_out != NULL)
            r->ops->left_out(r->ops->ctx, shown(r, it), refused);
        return OK;
    }
    if (!same) {
        *again = it->from > 0;
        if (*again) {
            r->progress.done -= it->from;
            it->from = 0;
            return OK;
        }
        unlinkat(parent, part, 0);
        return err_set(e, ERR_CORRUPT, "%s changed while it was copied: try again", shown(r, it));
    }
    r->progress.files++;
    return finish(r, it, parent, fd, part, last, e);
}

static int take_files(struct receiver *r, struct err *e)
{
    AUTO(mem) size_t *wanted = mem_alloc((r->n + 1) * sizeof(*wanted));
    size_t n = 0, asked = 0;
    int rc = OK;
    for (size_t i = 0; i < r->n && rc == OK; i++) {
        struct item *it = &r->items[i];
        bool want = false;
        if (it->kind != 'f')
            continue;
        rc = look(r, it, &want, e);
        if (want)
            wanted[n++] = i;
        r->progress.done += want ? it->from : it->size;
        r->progress.files += want ? 0 : 1;
    }
    if (rc == OK && r->ops->progress != NULL)
        r->ops->progress(r->ops->ctx, &r->progress);
    for (size_t done = 0; done < n && rc == OK; done++) {
        for (; asked < n && asked < done + ASKED_AHEAD && rc == OK; asked++) {
            const struct item *it = &r->items[wanted[asked]];
            rc = ask(r, it->number, it->from, e);
        }
        bool again = false;
        struct item *it = &r->items[wanted[done]];
        if (rc == OK)
            rc = take_file(r, it, &again, e);
        if (rc != OK || !again)
            continue;
        /* Asked once more from its beginning, after those that were asked already. */
        wanted = mem_realloc(wanted, (n + 2) * sizeof(*wanted));
        memmove(wanted + asked + 1, wanted + asked, (n - asked) * sizeof(*wanted));
        wanted[asked] = wanted[done];
        n++;
    }
    return rc;
}

/* Folders get their modes and times last: files were still coming into them. */
static int finish_folders(struct receiver *r, struct err *e)
{
    for (size_t i = r->n; i-- > 0;) {
        const struct item *it = &r->items[i];
        char last[NAME_MAX_BYTES + 1];
        if (it->kind != 'd')
            continue;
        AUTO(fd) int parent = open_parent(r, it->path, last);
        AUTO(fd)
        int fd = parent >= 0 ? openat(parent, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                             : -1;
        struct timespec times[2] = {time_of(it->mtime_us), time_of(it->mtime_us)};
        if (fd < 0 || fchmod(fd, it->mode) != 0 || futimens(fd, times) != 0)
            return place_error(r, it, e);
    }
    return OK;
}

/* Where the thing goes: into a folder that is there, or under the name that was given. */
static int open_target(struct receiver *r, const char *target, struct err *e)
{
    struct stat st;
    size_t n = strlen(target);
    bool folder = stat(target, &st) == 0 && S_ISDIR(st.st_mode);
    if (folder) {
        r->dir = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
        /* what has no name ("cp JOB:. DIR") becomes the folder itself */
        r->root_name = arena_strdup(&r->arena, r->name[0] != '\0' ? r->name : ".");
        return r->dir >= 0 ? OK : err_sys(e, "cannot open %s", target);
    }
    while (n > 1 && target[n - 1] == '/')
        n--;
    char *path = arena_strndup(&r->arena, target, n), *slash = strrchr(path, '/');
    r->root_name = slash != NULL ? slash + 1 : path;
    const char *dir = slash == NULL ? "." : slash == path ? "/" : path;
    if (slash != NULL && slash != path)
        *slash = '\0';
    if (strlen(r->root_name) > NAME_MAX_BYTES || *r->root_name == '\0')
        return err_set(e, ERR_INVALID, "%s is no name for a file", target);
    r->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return r->dir >= 0 ? OK : err_sys(e, "cannot open the folder %s", dir);
}

int copy_receive(int in, int out, const char *target, const struct copy_ops *ops, struct err *e)
{
    struct receiver *r = mem_alloc(sizeof(*r));
    r->in = in;
    r->out = out;
    r->ops = ops;
    r->dir = -1;
    int rc = read_list(r, e);
    if (rc == OK)
        rc = open_target(r, target, e);
    for (size_t i = 0; i < r->n && rc == OK; i++)
        if (r->items[i].kind == 'd')
            rc = make_folder(r, &r->items[i], e);
    if (rc == OK)
        rc = take_files(r, e);
    for (size_t i = 0; i < r->n && rc == OK; i++)
        if (r->items[i].kind == 'l')
            rc = make_link(r, &r->items[i], e);
    if (rc == OK)
        rc = finish_folders(r, e);
    if (rc == OK)
        rc = ask(r, WIRE_NO_MORE, 0, e);
    if (r->dir >= 0)
        close(r->dir);
    mem_free(r->items);
    arena_fini(&r->arena);
    mem_free(r);
    return rc;
}
