/* Reading and writing trees. What must stay true: a tree that parses can be made below a folder
 * without anything leaving it: parents of every entry are folders of the tree, never links. */
#include "files/tree.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char first_line[] = "drover-tree 1\n";

static void escape(struct buf *to, const char *s)
{
    for (; *s != '\0'; s++)
        if (*s > ' ' && *s < 0x7f && *s != '%')
            buf_addc(to, *s);
        else
            buf_printf(to, "%%%02X", (unsigned char)*s);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* NULL: not as escape() writes it. */
static char *unescape(const char *s, size_t n, struct arena *a)
{
    char *out = arena_alloc(a, n + 1), *to = out;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '%') {
            if (s[i] <= ' ' || s[i] >= 0x7f)
                return NULL;
            *to++ = s[i];
            continue;
        }
        int hi = i + 2 < n ? hex_digit(s[i + 1]) : -1;
        int lo = i + 2 < n ? hex_digit(s[i + 2]) : -1;
        char c = (char)(hi * 16 + lo);
        if (hi < 0 || lo < 0 || c == '\0' || (c > ' ' && c < 0x7f && c != '%'))
            return NULL;
        *to++ = c;
        i += 2;
    }
    return out;
}

static bool path_is_good(const char *path)
{
    size_t all = strlen(path);
    if (all == 0 || all > TREE_PATH_MAX)
        return false;
    for (;;) {
        size_t n = strcspn(path, "/");
        if (n == 0 || n > 255 || (n == 1 && path[0] == '.') ||
            (n == 2 && memcmp(path, "..", 2) == 0))
            return false;
        if (path[n] == '\0')
            return true;
        path += n + 1;
    }
}

bool tree_link_inside(const char *path, const char *target)
{
    size_t depth = 0;
    if (*target == '\0' || *target == '/' || strlen(target) > TREE_PATH_MAX)
        return false;
    for (const char *c = path; *c != '\0'; c++)
        depth += *c == '/';
    while (strncmp(target, "../", 3) == 0 || strcmp(target, "..") == 0) {
        if (depth-- == 0)
            return false;
        target += target[2] == '/' ? 3 : 2;
    }
    if (*target == '\0')
        return true;
    for (;;) { /* a ".." behind another link would count from where that one leads */
        size_t n = strcspn(target, "/");
        if (n == 2 && memcmp(target, "..", 2) == 0)
            return false;
        if (target[n] == '\0')
            return true;
        target += n + 1;
    }
}

struct parser {
    struct arena *a;
    size_t line;
    const struct tree_entry *folders[TREE_PATH_MAX / 2]; /* around the last entry */
    size_t depth;
};

static int bad(const struct parser *p, struct err *e, const char *rule)
{
    return err_set(e, ERR_INVALID, "line %zu of the tree: %s", p->line, rule);
}

static size_t chunks_of(int64_t size)
{
    return (size_t)((size + CHUNK_MAX - 1) / CHUNK_MAX);
}

static int parse_hashes(struct parser *p, const char *s, size_t n, struct tree_entry *x,
                        struct err *e)
{
    x->n_hashes = chunks_of(x->size);
    if (x->n_hashes == 0)
        return n == 1 && *s == '-' ? OK : bad(p, e, "an empty file has no hashes");
    if (n != x->n_hashes * (2 * HASH_SIZE + 1) - 1)
        return bad(p, e, "a file has a hash for each MiB");
    uint8_t(*to)[HASH_SIZE] = arena_alloc(p->a, x->n_hashes * HASH_SIZE);
    for (size_t i = 0; i < x->n_hashes; i++, s += 2 * HASH_SIZE + 1)
        if (!hash_parse(s, (size_t)2 * HASH_SIZE, to[i]) ||
            (i + 1 < x->n_hashes && s[2 * HASH_SIZE] != ','))
            return bad(p, e, "a hash is 64 hexadecimal digits");
    x->hashes = (const uint8_t(*)[HASH_SIZE])to;
    return OK;
}

static bool parse_mode(const char *s, size_t n, unsigned *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '7')
            return false;
        *out = *out * 8 + (unsigned)(s[i] - '0');
    }
    return n > 0 && n <= 3 && (n == 1 || s[0] != '0');
}

/* Its parent is the innermost listed folder, or the root. */
static bool take_place(struct parser *p, const struct tree_entry *x)
{
    const char *slash = strrchr(x->path, '/');
    size_t n = slash != NULL ? (size_t)(slash - x->path) : 0;
    while (p->depth > 0) {
        const char *top = p->folders[p->depth - 1]->path;
        if (strlen(top) <= n && strncmp(top, x->path, strlen(top)) == 0 &&
            x->path[strlen(top)] == '/')
            break;
        p->depth--;
    }
    bool good = p->depth == 0 ? n == 0 : strlen(p->folders[p->depth - 1]->path) == n;
    if (good && x->kind == 'd')
        p->folders[p->depth++] = x;
    return good;
}

/* "/" sorts before all else, so that what is in a folder follows it. */
static int path_order(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    int x = *a == '/' ? 1 : *a == '\0' ? 0 : (unsigned char)*a + 1;
    int y = *b == '/' ? 1 : *b == '\0' ? 0 : (unsigned char)*b + 1;
    return x - y;
}

static int parse_line(struct parser *p, const char *s, size_t n, struct tree_entry *x,
                      struct err *e)
{
    const char *word[5];
    size_t len[5], words = 0;
    for (const char *at = s; words < 5; at += len[words++] + 1) {
        word[words] = at;
        len[words] = strcspn(at, " \n");
        if (at + len[words] >= s + n) {
            words++;
            break;
        }
    }
    *x = (struct tree_entry){.kind = s[0]};
    size_t want = s[0] == 'd' || s[0] == 'l' ? 3 : s[0] == 'f' ? 5 : 0;
    if (want == 0 || words != want || len[0] != 1 || word[want - 1] + len[want - 1] != s + n)
        return bad(p, e, "d MODE PATH, f MODE SIZE HASHES PATH, or l TARGET PATH");
    x->path = unescape(word[want - 1], len[want - 1], p->a);
    if (x->path == NULL || !path_is_good(x->path))
        return bad(p, e, "a path is relative, without . and .., and escaped");
    if (x->kind == 'l') {
        x->target = unescape(word[1], len[1], p->a);
        if (x->target == NULL || !tree_link_inside(x->path, x->target))
            return bad(p, e, "a link leads to a place inside");
    } else if (!parse_mode(word[1], len[1], &x->mode)) {
        return bad(p, e, "a mode is 0 to 777");
    }
    if (x->kind == 'f') {
        char number[24];
        snprintf(number, sizeof(number), "%.*s", (int)len[2], word[2]);
        if (len[2] > 20 || !str_int(number, &x->size) || x->size < 0 || x->size > TREE_FILE_MAX)
            return bad(p, e, "a size is 0 to 1 TiB");
        return parse_hashes(p, word[3], len[3], x, e);
    }
    return OK;
}

int tree_parse(const char *text, size_t n, struct arena *a, struct tree *out, struct err *e)
{
    struct parser p = {.a = a, .line = 1};
    size_t head = sizeof(first_line) - 1, lines = 0;
    if (n < head || memcmp(text, first_line, head) != 0)
        return bad(&p, e, "it begins with drover-tree 1");
    if (n > TREE_TEXT_MAX || memchr(text, '\0', n) != NULL || text[n - 1] != '\n')
        return bad(&p, e, "a tree is at most 8 MiB of text that ends with a line");
    char *copy = arena_strndup(a, text, n);
    for (const char *c = copy + head; *c != '\0'; c++)
        lines += *c == '\n';
    if (lines > TREE_ENTRIES_MAX)
        return bad(&p, e, "a tree has at most 100,000 entries");
    struct tree t = {.entries = arena_alloc(a, (lines + 1) * sizeof(*t.entries))};
    for (const char *at = copy + head; *at != '\0';) {
        size_t len = strcspn(at, "\n");
        struct tree_entry *x = &t.entries[t.n];
        p.line++;
        int rc = len > 0 ? parse_line(&p, at, len, x, e) : bad(&p, e, "it is empty");
        if (rc != OK)
            return rc;
        if (t.n > 0 && path_order(x[-1].path, x->path) >= 0)
            return bad(&p, e, "paths are sorted and stand once");
        if (!take_place(&p, x))
            return bad(&p, e, "the folder that holds it is not listed");
        t.bytes += x->size;
        t.n++;
        at += len + 1;
    }
    *out = t;
    return OK;
}

static int entry_order(const void *a, const void *b)
{
    return path_order(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

int tree_write(const struct tree *t, struct buf *to, struct err *e)
{
    char hex[HASH_HEX_SIZE];
    qsort(t->entries, t->n, sizeof(*t->entries), entry_order);
    to->max = TREE_TEXT_MAX;
    buf_adds(to, first_line);
    for (size_t i = 0; i < t->n; i++) {
        const struct tree_entry *x = &t->entries[i];
        buf_addc(to, x->kind);
        if (x->kind == 'l') {
            buf_addc(to, ' ');
            escape(to, x->target);
        } else {
            buf_printf(to, " %o", x->mode & 0777);
        }
        if (x->kind == 'f') {
            buf_printf(to, " %lld %s", (long long)x->size, x->n_hashes == 0 ? "-" : "");
            for (size_t h = 0; h < x->n_hashes; h++)
                buf_printf(to, "%s%s", h > 0 ? "," : "", hash_hex(x->hashes[h], hex));
        }
        buf_addc(to, ' ');
        escape(to, x->path);
        buf_addc(to, '\n');
    }
    if (to->overflow || t->n > TREE_ENTRIES_MAX)
        return err_set(e, ERR_TOO_LARGE,
                       "too many files at once (at most %d): leave some out with .droverignore",
                       TREE_ENTRIES_MAX);
    return OK;
}
