/* Arenas, buffers, vectors and maps. */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void out_of_memory(size_t size)
{
    fprintf(stderr, "drover: out of memory (asked for %zu bytes)\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *p = calloc(1, size > 0 ? size : 1);
    if (p == NULL)
        out_of_memory(size);
    return p;
}

void *mem_realloc(void *old, size_t size)
{
    void *p = realloc(old, size > 0 ? size : 1);
    if (p == NULL)
        out_of_memory(size);
    return p;
}

char *mem_strdup(const char *s)
{
    if (s == NULL)
        return NULL;
    size_t n = strlen(s) + 1;
    return memcpy(mem_alloc(n), s, n);
}

char *mem_printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = NULL;
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0)
        out_of_memory(0);
    return s;
}

void mem_free(void *p)
{
    free(p);
}

void auto_fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* ---- arena ---- */

enum { ARENA_CHUNK = 8192, ARENA_ALIGN = 16 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(ARENA_ALIGN) char data[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct arena_chunk *c = a->head;
    if (c == NULL || c->size - c->used < size) {
        size_t want = size > ARENA_CHUNK ? size : ARENA_CHUNK;
        c = malloc(sizeof(*c) + want);
        if (c == NULL)
            out_of_memory(want);
        c->used = 0;
        c->size = want;
        c->next = a->head;
        a->head = c;
    }
    void *p = c->data + c->used;
    c->used += size;
    a->used_total += size;
    return memset(p, 0, size);
}

void arena_fini(struct arena *a)
{
    while (a->head != NULL) {
        struct arena_chunk *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used_total = 0;
}

void arena_reset(struct arena *a)
{
    if (a->head == NULL)
        return;
    struct arena_chunk *keep = a->head;
    a->head = keep->next;
    arena_fini(a);
    if (keep->size > 16 * ARENA_CHUNK) {
        free(keep);
        return;
    }
    keep->next = NULL;
    keep->used = 0;
    a->head = keep;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *copy = arena_alloc(a, n + 1);
    if (n > 0)
        memcpy(copy, s, n);
    return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s == NULL ? NULL : arena_strndup(a, s, strlen(s));
}

void *arena_memdup(struct arena *a, const void *p, size_t n)
{
    void *copy = arena_alloc(a, n);
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *s = arena_alloc(a, (size_t)(n < 0 ? 0 : n) + 1);
    if (n >= 0)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return s;
}

/* ---- buffer ---- */

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->overflow = false;
    if (b->data != NULL)
        b->data[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t max = b->max > 0 ? b->max : BUF_MAX_DEFAULT;
    if (n > max || b->len > max - n) {
        b->overflow = true;
        return NULL;
    }
    if (b->len + n + 1 > b->cap) {
        size_t cap = b->cap > 0 ? b->cap : 256;
        while (cap < b->len + n + 1)
            cap *= 2;
        b->data = mem_realloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

bool buf_add(struct buf *b, const void *p, size_t n)
{
    char *to = buf_reserve(b, n);
    if (to == NULL)
        return false;
    if (n > 0)
        memcpy(to, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool buf_adds(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

bool buf_addc(struct buf *b, char c)
{
    return buf_add(b, &c, 1);
}

bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *to = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (to != NULL) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return to != NULL;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool ok = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return ok;
}

const char *buf_str(const struct buf *b)
{
    return b->len > 0 ? b->data : "";
}

void buf_drop_front(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_reset(b);
        return;
    }
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

char *buf_take(struct buf *b, size_t *len)
{
    if (b->data == NULL)
        buf_add(b, "", 0);
    char *data = TAKE(b->data);
    if (len != NULL)
        *len = b->len;
    *b = (struct buf){.max = b->max};
    return data;
}

/* ---- vector ---- */

void vec_push(struct vec *v, void *p)
{
    if (v->n == v->cap) {
        v->cap = v->cap > 0 ? v->cap * 2 : 8;
        v->items = mem_realloc(v->items, v->cap * sizeof(*v->items));
    }
    v->items[v->n++] = p;
}

void vec_fini(struct vec *v)
{
    free(v->items);
    *v = (struct vec){0};
}

/* ---- map: open addressing with tombstones ---- */

struct map_slot {
    char *key; /* NULL: never used, or a tombstone when dead */
    void *value;
    size_t hash;
    bool dead;
};

static size_t map_hash(const char *s)
{
    size_t h = 1469598103934665603ULL;
    for (; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211ULL;
    return h;
}

static struct map_slot *map_find(const struct map *m, const char *key, size_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (s->key == NULL && !s->dead)
            return NULL;
        if (s->key != NULL && s->hash == hash && strcmp(s->key, key) == 0)
            return s;
    }
}

static void map_rehash(struct map *m, size_t cap)
{
    struct map_slot *old = m->slots;
    size_t old_cap = m->cap;
    m->slots = mem_alloc(cap * sizeof(*m->slots));
    m->cap = cap;
    m->tombs = 0;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].key == NULL)
            continue;
        size_t at = old[i].hash & (cap - 1);
        while (m->slots[at].key != NULL)
            at = (at + 1) & (cap - 1);
        m->slots[at] = old[i];
    }
    free(old);
}

void *map_get(const struct map *m, const char *key)
{
    struct map_slot *s = map_find(m, key, map_hash(key));
    return s != NULL ? s->value : NULL;
}

void *map_put(struct map *m, const char *key, void *value)
{
    size_t hash = map_hash(key);
    struct map_slot *s = map_find(m, key, hash);
    if (s != NULL) {
        void *old = s->value;
        s->value = value;
        return old;
    }
    if ((m->n + m->tombs + 1) * 4 > m->cap * 3)
        map_rehash(m, m->cap == 0 ? 16 : (m->n + 1) * 4 > m->cap * 2 ? m->cap * 2 : m->cap);
    size_t at = hash & (m->cap - 1);
    while (m->slots[at].key != NULL)
        at = (at + 1) & (m->cap - 1);
    if (m->slots[at].dead)
        m->tombs--;
    m->slots[at] = (struct map_slot){mem_strdup(key), value, hash, false};
    m->n++;
    return NULL;
}

void *map_del(struct map *m, const char *key)
{
    struct map_slot *s = map_find(m, key, map_hash(key));
    if (s == NULL)
        return NULL;
    void *old = s->value;
    free(s->key);
    *s = (struct map_slot){.dead = true};
    m->n--;
    m->tombs++;
    return old;
}

bool map_next(const struct map *m, size_t *at, const char **key, void **value)
{
    for (; *at < m->cap; (*at)++) {
        struct map_slot *s = &m->slots[*at];
        if (s->key == NULL)
            continue;
        if (key != NULL)
            *key = s->key;
        if (value != NULL)
            *value = s->value;
        (*at)++;
        return true;
    }
    return false;
}

void map_fini(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        free(m->slots[i].key);
    free(m->slots);
    *m = (struct map){0};
}
