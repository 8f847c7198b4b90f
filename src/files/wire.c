/* Whole pieces over descriptors, and the head of an entry. */
#include "files/wire.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int cut(struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "the copy was cut off by the other side");
}

int wire_read(int fd, void *to, size_t n, struct err *e)
{
    uint8_t *at = to;
    while (n > 0) {
        ssize_t got = read(fd, at, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return cut(e);
        at += got;
        n -= (size_t)got;
    }
    return OK;
}

int wire_write(int fd, const void *p, size_t n, struct err *e)
{
    const uint8_t *at = p;
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return cut(e);
        at += put;
        n -= (size_t)put;
    }
    return OK;
}

void wire_entry_put(const struct wire_entry *x, uint8_t to[WIRE_ENTRY])
{
    to[0] = (uint8_t)x->kind;
    to[1] = 0;
    wire_put(to + 2, x->path_n, 2);
    wire_put(to + 4, x->mode, 4);
    wire_put(to + 8, x->size, 8);
    wire_put(to + 16, (uint64_t)x->mtime_us, 8);
}

void wire_entry_get(const uint8_t from[WIRE_ENTRY], struct wire_entry *x)
{
    x->kind = (char)from[0];
    x->path_n = (size_t)wire_get(from + 2, 2);
    x->mode = (uint32_t)wire_get(from + 4, 4);
    x->size = wire_get(from + 8, 8);
    x->mtime_us = (int64_t)wire_get(from + 16, 8);
}
