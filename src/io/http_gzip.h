/* gzip in memory. Threads: any. */
#ifndef IO_HTTP_GZIP_H
#define IO_HTTP_GZIP_H

#include <stddef.h>

/* level 1 (fast) .. 9. Gives memory for free(); NULL when there is none. */
void *gzip_bytes(const void *p, size_t n, int level, size_t *out_n);

#endif
