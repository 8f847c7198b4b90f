/* Reading an attempt's spool back from its chunk files. What must stay true: only whole records
 * leave this file, and offsets are those the shim gave them: a chunk's name is its offset, and
 * where a chunk with the name of the present offset exists, it is the continuation. */
#include "agent/attempt.h"

#include "base/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void add_chunk(struct attempt *a, uint64_t start)
{
    if (a->n_chunks == a->cap_chunks) {
        a->cap_chunks = a->cap_chunks > 0 ? a->cap_chunks * 2 : 4;
        a->chunks = mem_realloc(a->chunks, a->cap_chunks * sizeof(*a->chunks));
    }
    a->chunks[a->n_chunks++] = start;
}

static int by_value(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static void list_chunks(struct attempt *a, int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again >= 0 ? fdopendir(again) : NULL;
    uint64_t start;
    a->n_chunks = 0;
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;)
        if (spool_chunk_parse(f->d_name, &start))
            add_chunk(a, start);
    if (d != NULL)
        closedir(d);
    else if (again >= 0)
        close(again);
    if (a->n_chunks > 0)
        qsort(a->chunks, a->n_chunks, sizeof(*a->chunks), by_value);
}

/* Whole records at `at` bytes into the chunk. *bad: what follows them is none and never will be. */
static size_t read_chunk(int dir, uint64_t start, uint64_t at, void *to, size_t max, bool *bad)
{
    char name[SPOOL_NAME_SIZE];
    spool_chunk_name(start, name);
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    size_t n = 0;
    *bad = false;
    for (ssize_t got;
         fd >= 0 && n < max && (got = pread(fd, (char *)to + n, max - n, (off_t)(at + n))) > 0;)
        n += (size_t)got;
    return spool_whole(to, n, bad);
}

/* The chunk that holds offset, and whether a later one begins exactly there. */
static size_t find_chunk(const struct attempt *a, uint64_t offset)
{
    size_t i = a->n_chunks;
    while (i > 0 && a->chunks[i - 1] > offset)
        i--;
    return i - 1; /* (size_t)-1: none */
}

static bool chunk_exists(int dir, uint64_t start)
{
    char name[SPOOL_NAME_SIZE];
    spool_chunk_name(start, name);
    return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

size_t attempt_read_log(const struct attempt_home *h, struct attempt *a, uint64_t from, void *to,
                        size_t max)
{
    AUTO(fd) int dir = attempt_open(h, a->id);
    bool bad;
    if (dir < 0)
        return 0;
    if (a->n_chunks == 0)
        list_chunks(a, dir);
    size_t i = find_chunk(a, from);
    if (i == (size_t)-1)
        return 0;
    size_t n = read_chunk(dir, a->chunks[i], from - a->chunks[i], to, max, &bad);
    if (n == 0 && from > a->chunks[a->n_chunks - 1] && chunk_exists(dir, from)) {
        add_chunk(a, from);
        n = read_chunk(dir, from, 0, to, max, &bad);
    }
    if (from + n > a->end)
        a->end = from + n;
    return n;
}

void attempt_scan_log(const struct attempt_home *h, struct attempt *a)
{
    enum { BLOCK = 256 << 10 };
    AUTO(fd) int dir = attempt_open(h, a->id);
    if (dir < 0)
        return;
    list_chunks(a, dir);
    a->more = true;
    if (a->n_chunks == 0)
        return;
    /* Earlier chunks are complete: the next one's name says where they end. */
    uint64_t start = a->chunks[a->n_chunks - 1], at = 0;
    AUTO(mem) char *block = mem_alloc(BLOCK);
    bool bad = false;
    for (size_t n; !bad && (n = read_chunk(dir, start, at, block, BLOCK, &bad)) > 0;)
        at += n;
    if (start + at > a->end)
        a->end = start + at;
}

void attempt_free_log(const struct attempt_home *h, struct attempt *a, uint64_t offset)
{
    size_t gone = 0;
    while (gone + 1 < a->n_chunks && a->chunks[gone + 1] <= offset)
        gone++;
    AUTO(fd) int dir = gone > 0 ? attempt_open(h, a->id) : -1;
    if (dir < 0)
        return;
    for (size_t i = 0; i < gone; i++) {
        char name[SPOOL_NAME_SIZE];
        spool_chunk_name(a->chunks[i], name);
        unlinkat(dir, name, 0);
    }
    memmove(a->chunks, a->chunks + gone, (a->n_chunks - gone) * sizeof(*a->chunks));
    a->n_chunks -= gone;
}
