/* The patterns of .gitignore. A pattern is matched part by part; within a part by wildcards. */
#include "files/ignore.h"

#include <fnmatch.h>
#include <string.h>

struct ignore_rule {
    struct ignore_rule *next;
    const char *folder, *pattern;
    bool takes_back, folders_only, anchored;
};

static void add_line(struct ignore *g, const char *folder, const char *s, size_t n)
{
    while (n > 0 && (s[n - 1] == '\r' || (s[n - 1] == ' ' && !(n > 1 && s[n - 2] == '\\'))))
        n--;
    if (n == 0 || *s == '#')
        return;
    struct ignore_rule *r = arena_alloc(&g->arena, sizeof(*r));
    if (*s == '!') {
        r->takes_back = true;
        s++;
        n--;
    }
    if (n > 0 && s[n - 1] == '/') {
        r->folders_only = true;
        n--;
    }
    if (n > 0 && *s == '/') {
        r->anchored = true;
        s++;
        n--;
    }
    if (n == 0)
        return;
    r->anchored |= memchr(s, '/', n) != NULL;
    r->pattern = arena_strndup(&g->arena, s, n);
    r->folder = arena_strdup(&g->arena, folder);
    if (g->last != NULL)
        g->last->next = r;
    else
        g->first = r;
    g->last = r;
}

void ignore_add(struct ignore *g, const char *folder, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end != NULL ? (size_t)(end - text) - at : n - at;
        add_line(g, folder, text + at, len);
        at += len + 1;
    }
}

/* Whole pattern against whole path; "**" takes any number of parts. budget bounds the tries of a
 * pattern with many of them. */
static bool fits(const char *pattern, const char *path, int *budget)
{
    if (--*budget < 0)
        return false;
    size_t n = strcspn(pattern, "/"), m = strcspn(path, "/");
    if (n == 2 && memcmp(pattern, "**", 2) == 0) {
        if (pattern[n] == '\0')
            return *path != '\0';
        for (const char *at = path;; at += strcspn(at, "/") + 1) {
            if (fits(pattern + n + 1, at, budget))
                return true;
            if (at[strcspn(at, "/")] == '\0')
                return false;
        }
    }
    char a[1025], b[1025];
    if (n >= sizeof(a) || m >= sizeof(b))
        return false;
    memcpy(a, pattern, n);
    memcpy(b, path, m);
    a[n] = b[m] = '\0';
    if (fnmatch(a, b, 0) != 0)
        return false;
    if (pattern[n] == '\0' || path[m] == '\0')
        return pattern[n] == '\0' && path[m] == '\0';
    return fits(pattern + n + 1, path + m + 1, budget);
}

static bool rule_has(const struct ignore_rule *r, const char *path, bool is_folder)
{
    int budget = 1000;
    size_t n = strlen(r->folder);
    if (r->folders_only && !is_folder)
        return false;
    if (n > 0 && (strncmp(path, r->folder, n) != 0 || path[n] != '/'))
        return false;
    path += n > 0 ? n + 1 : 0;
    if (r->anchored)
        return fits(r->pattern, path, &budget);
    const char *slash = strrchr(path, '/');
    return fits(r->pattern, slash != NULL ? slash + 1 : path, &budget);
}

bool ignore_has(const struct ignore *g, const char *path, bool is_folder)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    bool out = false;
    if (strcmp(name, ".git") == 0)
        return true;
    for (const struct ignore_rule *r = g->first; r != NULL; r = r->next)
        if (rule_has(r, path, is_folder))
            out = !r->takes_back;
    return out;
}

void ignore_fini(struct ignore *g)
{
    arena_fini(&g->arena);
}
