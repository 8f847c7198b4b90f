/* Memory: arenas for what lives as long as one piece of work, buffers that demand a maximum,
 * and scope clean-up.
 *
 * Allocation never returns NULL: a process that cannot get a page ends with a message, because
 * every input-sized allocation is capped by its caller before it is made, so running out means
 * a limit was wrong. (docs/adr/0005)
 *
 * Threads: an arena or a buffer belongs to one thread at a time.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Scope clean-up: AUTO(job) struct job *j = NULL; calls job_destroy(&-style) at scope end.
 * Each type that wants it defines static inline void auto_NAME(T **p). */
#define AUTO(name) __attribute__((cleanup(auto_##name)))
/* Hands an owned pointer over: the variable becomes NULL. */
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

void *mem_alloc(size_t size);              /* zeroed */
void *mem_realloc(void *old, size_t size); /* tail not zeroed */
char *mem_strdup(const char *s);           /* NULL gives NULL */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void mem_free(void *p); /* NULL is fine */
static inline void auto_mem(void *p)
{
    mem_free(*(void **)p);
}
void auto_fd_close(int *fd); /* AUTO(fd) int fd = -1; */
static inline void auto_fd(int *fd)
{
    auto_fd_close(fd);
}

/* ---- arena ---- */

struct arena_chunk;
struct arena {
    struct arena_chunk *head;
    size_t used_total; /* bytes handed out */
};
void arena_fini(struct arena *a);                   /* gives everything back */
void arena_reset(struct arena *a);                  /* keeps one chunk for reuse */
void *arena_alloc(struct arena *a, size_t size);    /* zeroed, aligned to 16 */
char *arena_strdup(struct arena *a, const char *s); /* NULL gives NULL */
char *arena_strndup(struct arena *a, const char *s, size_t n);
void *arena_memdup(struct arena *a, const void *p, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
static inline void auto_arena(struct arena *a)
{
    arena_fini(a);
}

/* ---- buffer: bytes that grow up to a maximum ---- */

struct buf {
    char *data; /* always NUL-terminated once anything was added; may be NULL when empty */
    size_t len;
    size_t cap;
    size_t max;    /* 0 in a zeroed struct means BUF_MAX_DEFAULT */
    bool overflow; /* something did not fit: what is there is a prefix */
};
enum { BUF_MAX_DEFAULT = 64 << 20 };
void buf_fini(struct buf *b);
void buf_reset(struct buf *b);                        /* keeps the memory */
bool buf_add(struct buf *b, const void *p, size_t n); /* false and overflow when full */
bool buf_adds(struct buf *b, const char *s);
bool buf_addc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
char *buf_reserve(struct buf *b, size_t n); /* room for n more; NULL when full */
const char *buf_str(const struct buf *b);   /* "" when empty */
void buf_drop_front(struct buf *b, size_t n);
char *buf_take(struct buf *b, size_t *len); /* caller frees with mem_free */
static inline void auto_buf(struct buf *b)
{
    buf_fini(b);
}

/* ---- vector of pointers ---- */

struct vec {
    void **items;
    size_t n, cap;
};
void vec_push(struct vec *v, void *p);
void vec_fini(struct vec *v); /* the items are the caller's */

/* ---- map from a string to a pointer; keys are copied ---- */

struct map_slot;
struct map {
    struct map_slot *slots;
    size_t n, cap, tombs;
};
void map_fini(struct map *m);
void *map_get(const struct map *m, const char *key);        /* NULL: not there */
void *map_put(struct map *m, const char *key, void *value); /* gives the old value */
void *map_del(struct map *m, const char *key);              /* gives the old value */
/* Iterates in no order: start with *at = 0; false at the end. */
bool map_next(const struct map *m, size_t *at, const char **key, void **value);

#endif
