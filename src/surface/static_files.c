/* Files in memory. */
#include "surface/static_files.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct static_file {
    char *data;
    size_t n;
    const char *type;
    bool kept; /* its name carries its hash */
};
struct static_files {
    struct map by_path;
    struct vec all;
    size_t total;
};

static const struct {
    const char *suffix, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".txt", "text/plain; charset=utf-8"},
    {".webmanifest", "application/manifest+json"},
};

static const char *type_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_ends(name, types[i].suffix))
            return types[i].type;
    return NULL; /* maps of sources and the like are not served */
}

static void load_file(struct static_files *f, const char *path, const char *url)
{
    const char *type = type_of(url);
    struct stat st;
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (type == NULL || fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    size_t n = (size_t)st.st_size, got = 0;
    if (n > STATIC_FILE_MAX || f->total + n > STATIC_TOTAL_MAX) {
        log_warning("surface", "%s is too large to be served", path);
        return;
    }
    struct static_file *file = mem_alloc(sizeof(*file));
    file->data = mem_alloc(n + 1);
    while (got < n) {
        ssize_t k = read(fd, file->data + got, n - got);
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    file->n = got;
    file->type = type;
    file->kept = str_starts(url, "/assets/");
    f->total += n;
    vec_push(&f->all, file);
    map_put(&f->by_path, url, file);
}

static void load_folder(struct static_files *f, const char *folder, const char *url, int depth)
{
    DIR *d = depth < 8 ? opendir(folder) : NULL;
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        AUTO(mem) char *path = mem_printf("%s/%s", folder, e->d_name);
        AUTO(mem) char *name = mem_printf("%s/%s", url, e->d_name);
        struct stat st;
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            load_folder(f, path, name, depth + 1);
        else
            load_file(f, path, name);
    }
    closedir(d);
}

struct static_files *static_files_load(const char *share)
{
    struct static_files *f = mem_alloc(sizeof(*f));
    char self[4096];
    AUTO(mem) char *beside = NULL;
    if (share == NULL) {
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        self[n > 0 ? n : 0] = '\0';
        char *slash = strrchr(self, '/');
        if (slash != NULL)
            *slash = '\0';
        beside = mem_printf("%s/share", self);
        if (access(beside, R_OK) != 0) {
            mem_free(beside);
            beside = mem_printf("%s/../share/drover", self);
        }
        share = beside;
    }
    AUTO(mem) char *web = mem_printf("%s/web", share);
    AUTO(mem) char *docs = mem_printf("%s/docs", share);
    load_folder(f, web, "", 0);
    load_folder(f, docs, "/docs", 0);
    return f;
}

void static_files_destroy(struct static_files *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->all.n; i++) {
        struct static_file *file = f->all.items[i];
        mem_free(file->data);
        mem_free(file);
    }
    vec_fini(&f->all);
    map_fini(&f->by_path);
    mem_free(f);
}

/* Scripts only from ourselves; Element Plus sets style attributes, so styles may be inline. */
static const char policy[] =
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data: blob:; connect-src 'self' ws: wss:; worker-src 'self' blob:; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'self'";

/* As for every other answer: the caller's own when it is a UUID, else a new one. */
static void answer_with_id(struct http_request *q, struct http_answer *a)
{
    char id[UUID_TEXT_SIZE];
    const char *sent = http_header(q, "X-Request-ID");
    a->headers[a->n_headers++] = (struct http_header_pair){
        "X-Request-ID", sent != NULL && uuid_is(sent) ? sent : uuid_v4(id)};
    http_respond(q, a);
}

static void answer_file(struct http_request *q, const struct static_file *file)
{
    struct http_answer a = {.status = 200,
                            .type = file->type,
                            .body = file->data,
                            .n = file->n,
                            .body_static = true,
                            .etag = true};
    a.headers[a.n_headers++] = (struct http_header_pair){
        "Cache-Control", file->kept ? "public, max-age=31536000, immutable" : "no-cache"};
    a.headers[a.n_headers++] = (struct http_header_pair){"X-Content-Type-Options", "nosniff"};
    a.headers[a.n_headers++] = (struct http_header_pair){"Referrer-Policy", "same-origin"};
    if (str_starts(file->type, "text/html"))
        a.headers[a.n_headers++] = (struct http_header_pair){"Content-Security-Policy", policy};
    answer_with_id(q, &a);
}

bool static_files_serve(struct static_files *f, struct http_request *q)
{
    const char *path = http_path(q);
    const struct static_file *file = map_get(&f->by_path, path);
    if (file == NULL)
        return false;
    answer_file(q, file);
    return true;
}

void static_files_page(struct static_files *f, struct http_request *q, const char *path)
{
    const struct static_file *file = map_get(&f->by_path, path);
    if (file != NULL) {
        answer_file(q, file);
        return;
    }
    static const char missing[] =
        "<!doctype html><meta charset=utf-8><title>Drover</title><h1>Drover</h1>"
        "<p>The server runs; its pages are not built. Build them with <code>make build</code>, "
        "then start it again.<p>服务已运行，但页面尚未构建：请执行 <code>make build</code> "
        "后重启。";
    struct http_answer a = {.status = 200,
                            .type = "text/html; charset=utf-8",
                            .body = missing,
                            .n = sizeof(missing) - 1,
                            .body_static = true};
    answer_with_id(q, &a);
}
