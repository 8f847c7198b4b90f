/* What copy_send.c and copy_receive.c share: reading and writing whole pieces. Not public. */
#ifndef FILES_WIRE_H
#define FILES_WIRE_H

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>

enum { WIRE_ENTRY = 24, WIRE_QUESTION = 16, WIRE_BLOCK_MAX = 128 << 10 };
#define WIRE_NO_MORE UINT32_MAX

static inline void wire_put(uint8_t *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}
static inline uint64_t wire_get(const uint8_t *from, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | from[i];
    return v;
}

struct wire_entry {
    char kind;
    uint32_t mode;
    uint64_t size;
    int64_t mtime_us;
    size_t path_n;
};
void wire_entry_put(const struct wire_entry *x, uint8_t to[WIRE_ENTRY]);
void wire_entry_get(const uint8_t from[WIRE_ENTRY], struct wire_entry *x);

/* Whole pieces; ERR_UNAVAILABLE when the other side ends before. */
int wire_read(int fd, void *to, size_t n, struct err *e);
int wire_write(int fd, const void *p, size_t n, struct err *e);

#endif
