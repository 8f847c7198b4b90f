/* Static files from memory, and which paths are pages of the web interface. */
#include "surface/assets.h"

#include "base/str.h"
#include "base/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct assets {
    struct map by_path;
    size_t bytes, files;
};

static const struct {
    const char *ending, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".map", "application/json"},
    {".webmanifest", "application/manifest+json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".jpg", "image/jpeg"},
    {".webp", "image/webp"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".woff", "font/woff"},
    {".txt", "text/plain; charset=utf-8"},
    {".wasm", "application/wasm"},
};

const char *asset_type(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_ends(name, types[i].ending))
            return types[i].type;
    return "application/octet-stream";
}

/* Vite writes assets/NAME-HASH.ext with eight characters of base64url. */
bool asset_is_hashed(const char *path)
{
    enum { HASH = 8 };
    const char *dot = strrchr(path, '.');
    if (!str_starts(path, "/assets/") || dot == NULL ||
        dot - path < (ptrdiff_t)(strlen("/assets/") + 2 + HASH) || dot[-HASH - 1] != '-')
        return false;
    for (const char *c = dot - HASH; c < dot; c++)
        if (!((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') ||
              *c == '_' || *c == '-'))
            return false;
    return true;
}

/* The weight that Accept gives a type: of its own name, else of a wildcard; exact tells which. */
static double accept_weight(const char *accept, const char *type, const char *any, bool *exact)
{
    double best = -1;
    int rank = 0; /* 3 the name, 2 its group, 1 everything */
    for (const char *s = accept; *s != '\0';) {
        s += strspn(s, " ,\t");
        size_t n = strcspn(s, ","), name = strcspn(s, ",; \t");
        int r = 0;
        if (name == strlen(type) && strncasecmp(s, type, name) == 0)
            r = 3;
        else if (name == strlen(any) && strncasecmp(s, any, name) == 0)
            r = 2;
        else if (name == 3 && strncmp(s, "*/*", 3) == 0)
            r = 1;
        if (r > rank) {
            double q = 1;
            for (const char *p = s + name; p + 2 < s + n; p++)
                if (*p == ';') {
                    p += 1 + strspn(p + 1, " \t");
                    if ((*p == 'q' || *p == 'Q') && p[1] == '=')
                        q = strtod(p + 2, NULL);
                    p--;
                }
            rank = r;
            best = q;
        }
        s += n;
    }
    *exact = rank == 3;
    return best;
}

bool accept_prefers_html(const char *accept)
{
    bool html_named, json_named;
    if (accept == NULL)
        return false;
    double html = accept_weight(accept, "text/html", "text/*", &html_named);
    double json = accept_weight(accept, "application/json", "application/*", &json_named);
    return html_named && html > 0 && (html > json || (html >= json && !json_named));
}

bool path_is_page(const char *path)
{
    static const char *const others[] = {"/api", "/v1", "/auth", "/ws", "/assets", "/docs"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        size_t n = strlen(others[i]);
        if (strncmp(path, others[i], n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return false;
    }
    const char *last = strrchr(path, '/');
    return last != NULL && strchr(last, '.') == NULL;
}

/* ---- loading ---- */

static int read_all(int fd, size_t n, char *to, const char *name, struct err *e)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = read(fd, to + at, n - at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, "cannot read %s", name);
        if (got == 0)
            return err_set(e, ERR_IO, "%s became shorter while it was read", name);
        at += (size_t)got;
    }
    return OK;
}

static int load_file(struct assets *a, const char *file, const char *path, struct err *e)
{
    AUTO(fd) int fd = open(file, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_sys(e, "cannot open %s", file);
    size_t n = (size_t)st.st_size;
    if (a->bytes + n > ASSETS_BYTES_MAX || a->files == ASSETS_FILES_MAX)
        return err_set(e, ERR_TOO_LARGE, "the web files are more than %d MiB or %d files",
                       ASSETS_BYTES_MAX >> 20, ASSETS_FILES_MAX);
    struct asset *made = mem_alloc(sizeof(*made));
    made->bytes = mem_alloc(n + 1);
    made->n = n;
    made->type = asset_type(path);
    made->immutable = asset_is_hashed(path);
    int rc = read_all(fd, n, made->bytes, file, e);
    struct asset *old = rc == OK ? map_put(&a->by_path, path, made) : made;
    if (old != NULL) {
        mem_free(old->bytes);
        mem_free(old);
    }
    a->bytes += n;
    a->files++;
    return rc;
}

static int load_folder(struct assets *a, const char *dir, const char *at, int depth, struct err *e)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return errno == ENOENT ? OK : err_sys(e, "cannot read the folder %s", dir);
    int rc = OK;
    struct dirent *entry;
    while (rc == OK && (entry = readdir(d)) != NULL) {
        const char *name = entry->d_name;
        struct stat st;
        if (name[0] == '.' || str_ends(name, ".gz"))
            continue; /* the server compresses by itself */
        AUTO(mem) char *file = mem_printf("%s/%s", dir, name);
        AUTO(mem) char *path = mem_printf("%s/%s", at, name);
        if (stat(file, &st) != 0)
            rc = err_sys(e, "cannot look at %s", file);
        else if (S_ISDIR(st.st_mode) && depth < 8)
            rc = load_folder(a, file, path, depth + 1, e);
        else if (S_ISREG(st.st_mode))
            rc = load_file(a, file, path, e);
    }
    closedir(d);
    return rc;
}

int assets_load(const char *share, struct assets **out, struct err *e)
{
    struct assets *a = mem_alloc(sizeof(*a));
    AUTO(mem) char *web = mem_printf("%s/web", share);
    AUTO(mem) char *docs = mem_printf("%s/docs", share);
    int rc = load_folder(a, web, "", 0, e);
    if (rc == OK)
        rc = load_folder(a, docs, "/docs", 0, e);
    if (rc != OK) {
        assets_destroy(a);
        return rc;
    }
    *out = a;
    return OK;
}

void assets_destroy(struct assets *a)
{
    if (a == NULL)
        return;
    size_t at = 0;
    void *v;
    while (map_next(&a->by_path, &at, NULL, &v)) {
        mem_free(((struct asset *)v)->bytes);
        mem_free(v);
    }
    map_fini(&a->by_path);
    mem_free(a);
}

size_t assets_count(const struct assets *a)
{
    return a->by_path.n;
}

const struct asset *asset_find(const struct assets *a, const char *path)
{
    return map_get(&a->by_path, path);
}

/* ---- answering ---- */

size_t asset_page_headers(struct http_header_pair *to)
{
    static const struct http_header_pair headers[] = {
        /* Element Plus and the log view set styles of elements; no script is inline. */
        {"Content-Security-Policy",
         "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
         "font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
         "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "same-origin"},
    };
    memcpy(to, headers, sizeof(headers));
    return ARRAY_LEN(headers);
}

bool assets_serve(const struct assets *a, struct http_request *q)
{
    const char *path = http_path(q);
    const struct asset *file = asset_find(a, path);
    if (file == NULL && path_is_page(path) && accept_prefers_html(http_header(q, "Accept")))
        file = asset_find(a, "/index.html");
    if (file == NULL)
        return false;
    struct http_answer answer = {.status = 200,
                                 .type = file->type,
                                 .body = file->bytes,
                                 .n = file->n,
                                 .body_static = true,
                                 .etag = true};
    answer.n_headers = asset_page_headers(answer.headers);
    answer.headers[answer.n_headers++] = (struct http_header_pair){
        "Cache-Control", file->immutable ? "public, max-age=31536000, immutable" : "no-cache"};
    char id[UUID_TEXT_SIZE]; /* as every other answer: the caller's own when it is a UUID */
    const char *sent = http_header(q, "X-Request-ID");
    answer.headers[answer.n_headers++] = (struct http_header_pair){
        "X-Request-ID", sent != NULL && uuid_is(sent) ? sent : uuid_v4(id)};
    http_respond(q, &answer);
    return true;
}
