/* The sending side of a copy. What must stay true: what is listed is a path below the root, found
 * without following links; a file that changes while it is sent is caught by its hash. */
#include "files/copy.h"

#include "files/wire.h"

#include "base/mem.h"
#include "io/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct sender {
    int in, out;
    const struct copy_ops *ops;
    struct copy_progress progress;
    const char *root; /* as named; "" parts lie below */
    struct vec files; /* char *: paths of the files, by number */
    size_t n_entries;
    struct buf path;    /* of the entry in hand, below the root */
    struct buf waiting; /* entries not written yet */
};

static int flush_list(struct sender *s, struct err *e)
{
    int rc = wire_write(s->out, s->waiting.data, s->waiting.len, e);
    buf_reset(&s->waiting);
    return rc;
}

static int put_entry(struct sender *s, const struct wire_entry *x, const char *path,
                     const char *text, struct err *e)
{
    uint8_t head[WIRE_ENTRY];
    wire_entry_put(x, head);
    buf_add(&s->waiting, head, sizeof(head));
    buf_add(&s->waiting, path, x->path_n);
    if (text != NULL)
        buf_adds(&s->waiting, text);
    return s->waiting.len >= WIRE_BLOCK_MAX ? flush_list(s, e) : OK;
}

static int put_note(struct sender *s, char kind, const char *path, const char *text, struct err *e)
{
    struct wire_entry x = {.kind = kind, .path_n = strlen(path), .size = strlen(text)};
    if (kind == 'w' && s->ops->left_out != NULL)
        s->ops->left_out(s->ops->ctx, path, text);
    return put_entry(s, &x, path, text, e);
}

static int list_one(struct sender *s, int parent, const char *name, int depth, struct err *e);

static int list_folder(struct sender *s, int fd, int depth, struct err *e)
{
    struct dirent **names = NULL;
    if (depth >= COPY_DEPTH_MAX) {
        close(fd);
        return put_note(s, 'w', buf_str(&s->path), "too deep", e);
    }
    int n = scandirat(fd, ".", &names, NULL, alphasort), rc = OK;
    if (n < 0)
        rc = put_note(s, 'w', buf_str(&s->path), strerror(errno), e);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        size_t len = s->path.len;
        if (rc == OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            buf_printf(&s->path, "%s%s", len > 0 ? "/" : "", name);
            if (s->path.len > COPY_PATH_MAX)
                rc = put_note(s, 'w', "", "a path is too long", e);
            else
                rc = list_one(s, fd, name, depth + 1, e);
            s->path.len = len;
            if (s->path.data != NULL)
                s->path.data[len] = '\0';
        }
        free(names[i]);
    }
    free(names);
    close(fd);
    return rc;
}

static int list_link(struct sender *s, int parent, const char *name, struct wire_entry *x,
                     struct err *e)
{
    char target[COPY_PATH_MAX + 1];
    ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);
    if (n < 0)
        return put_note(s, 'w', buf_str(&s->path), strerror(errno), e);
    target[n] = '\0';
    x->kind = 'l';
    x->size = (uint64_t)n;
    return put_entry(s, x, buf_str(&s->path), target, e);
}

static int list_one(struct sender *s, int parent, const char *name, int depth, struct err *e)
{
    struct stat st;
    const char *path = buf_str(&s->path);
    if (++s->n_entries > COPY_ENTRIES_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d files at once", COPY_ENTRIES_MAX);
    /* Only the thing itself may be named through a link. */
    if (fstatat(parent, name, &st, depth > 0 ? AT_SYMLINK_NOFOLLOW : 0) != 0)
        return put_note(s, depth > 0 ? 'w' : 'x', path, strerror(errno), e);
    struct wire_entry x = {.mode = st.st_mode & 0777,
                           .mtime_us = st.st_mtim.tv_sec * INT64_C(1000000) +
                                       st.st_mtim.tv_nsec / 1000,
                           .path_n = s->path.len};
    if (S_ISLNK(st.st_mode))
        return list_link(s, parent, name, &x, e);
    if (S_ISREG(st.st_mode)) {
        x.kind = 'f';
        x.size = (uint64_t)st.st_size;
        s->progress.total += x.size;
        vec_push(&s->files, mem_strdup(path));
        return put_entry(s, &x, path, NULL, e);
    }
    if (!S_ISDIR(st.st_mode))
        return put_note(s, depth > 0 ? 'w' : 'x', path, "neither a file nor a folder", e);
    x.kind = 'd';
    int fd = openat(parent, name,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth > 0 ? O_NOFOLLOW : 0));
    if (fd < 0)
        return put_note(s, depth > 0 ? 'w' : 'x', path, strerror(errno), e);
    int rc = put_entry(s, &x, path, NULL, e);
    if (rc != OK) {
        close(fd);
        return rc;
    }
    return list_folder(s, fd, depth, e);
}

/* The last part of a path as people name it: "a/b/" is b, "." is nothing. */
static void base_name(const char *path, char to[256])
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    snprintf(to, 256, "%.*s", (int)(n - from), path + from);
    if (strcmp(to, ".") == 0 || strcmp(to, "..") == 0)
        to[0] = '\0';
}

static int put_list(struct sender *s, struct err *e)
{
    char name[256];
    base_name(s->root, name);
    int rc = put_note(s, 'n', name, "", e);
    if (rc == OK)
        rc = list_one(s, AT_FDCWD, s->root, 0, e);
    struct wire_entry last = {.kind = 'e'};
    if (rc == OK)
        rc = put_entry(s, &last, "", NULL, e);
    return rc == OK ? flush_list(s, e) : rc;
}

/* ---- contents ---- */

static void tell(struct sender *s)
{
    if (s->ops->progress != NULL)
        s->ops->progress(s->ops->ctx, &s->progress);
}

/* The folders of a path may have been exchanged for links since the list was made. */
static int open_below(const char *root, const char *path, int flags)
{
    if (*path == '\0')
        return open(root, flags | O_CLOEXEC);
    int at = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0) {
        size_t n = strcspn(path, "/");
        char part[256];
        if (n >= sizeof(part)) {
            close(at);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(part, path, n);
        part[n] = '\0';
        bool last = path[n] == '\0';
        int next = openat(at, part, (last ? flags : O_PATH | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC);
        int why = errno;
        close(at);
        errno = why;
        if (last)
            return next;
        at = next;
        path += n + 1;
    }
    return -1;
}

static int answer_not(struct sender *s, const char *why, struct err *e)
{
    uint8_t head[8];
    wire_put(head, WIRE_NO_MORE, 4);
    wire_put(head + 4, strlen(why), 4);
    int rc = wire_write(s->out, head, sizeof(head), e);
    return rc == OK ? wire_write(s->out, why, strlen(why), e) : rc;
}

static int answer(struct sender *s, const char *path, uint64_t from, uint8_t *block, struct err *e)
{
    AUTO(fd) int fd = open_below(s->root, path, O_RDONLY | O_NONBLOCK);
    struct hash h;
    uint64_t at = 0;
    uint8_t sum[HASH_SIZE + 4] = {0};
    ssize_t n = -1;
    if (fd < 0)
        return answer_not(s, strerror(errno), e);
    hash_begin(&h);
    while ((n = read(fd, block + 4, WIRE_BLOCK_MAX)) > 0) {
        hash_add(&h, block + 4, (size_t)n);
        uint64_t end = at + (uint64_t)n;
        size_t skip = from > at ? (size_t)(from < end ? from - at : (uint64_t)n) : 0;
        at = end;
        if (skip == (size_t)n)
            continue;
        /* the length stands right before the bytes, in place of the last ones that are not sent */
        wire_put(block + skip, (uint64_t)n - skip, 4);
        int rc = wire_write(s->out, block + skip, 4 + (size_t)n - skip, e);
        if (rc != OK)
            return rc;
        s->progress.done += (uint64_t)n - skip;
        tell(s);
    }
    if (n < 0)
        return answer_not(s, strerror(errno), e);
    s->progress.files++;
    hash_end(&h, sum + 4);
    tell(s);
    return wire_write(s->out, sum, sizeof(sum), e);
}

static int answers(struct sender *s, struct err *e)
{
    AUTO(mem) uint8_t *block = mem_alloc(WIRE_BLOCK_MAX + 4);
    for (;;) {
        uint8_t q[WIRE_QUESTION];
        int rc = wire_read(s->in, q, sizeof(q), e);
        if (rc != OK)
            return rc;
        uint32_t number = (uint32_t)wire_get(q, 4);
        if (number == WIRE_NO_MORE)
            return OK;
        if (number >= s->files.n)
            return err_set(e, ERR_UPSTREAM, "the other side asks for a file that was not listed");
        rc = answer(s, s->files.items[number], wire_get(q + 8, 8), block, e);
        if (rc != OK)
            return rc;
    }
}

int copy_send(int in, int out, const char *path, const struct copy_ops *ops, struct err *e)
{
    struct sender s = {.in = in, .out = out, .ops = ops, .root = path};
    int rc = put_list(&s, e);
    s.progress.files_total = s.files.n;
    if (rc == OK) {
        tell(&s);
        rc = answers(&s, e);
    }
    for (size_t i = 0; i < s.files.n; i++)
        mem_free(s.files.items[i]);
    vec_fini(&s.files);
    buf_fini(&s.path);
    buf_fini(&s.waiting);
    return rc;
}
