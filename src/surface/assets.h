/* The files of the web interface and of the API's pages, held in memory: read once at start-up,
 * so that a request costs no disk and no path of a request ever reaches the file system.
 *
 * Threads: any after assets_load(). */
#ifndef SURFACE_ASSETS_H
#define SURFACE_ASSETS_H

#include "base/err.h"
#include "base/mem.h"
#include "io/http.h"

enum {
    ASSETS_BYTES_MAX = 64 << 20, /* all files together: they stay in memory */
    ASSETS_FILES_MAX = 4000,
};

struct asset {
    char *bytes;
    size_t n;
    const char *type;
    bool immutable; /* its name carries a hash of its content */
};
struct assets;
/* SHARE/web is served from /, SHARE/docs from /docs/. Folders that are missing are none. */
int assets_load(const char *share, struct assets **out, struct err *e);
void assets_destroy(struct assets *a); /* NULL is fine */
size_t assets_count(const struct assets *a);
const struct asset *asset_find(const struct assets *a, const char *path); /* "/index.html" */
/* Answers a file, or the interface's shell for a page of it. False: neither. */
bool assets_serve(const struct assets *a, struct http_request *q);

/* The headers that pages carry (content security and the like). */
size_t asset_page_headers(struct http_header_pair *to);

/* Whether Accept prefers text/html to JSON; NULL: not sent. */
bool accept_prefers_html(const char *accept);
/* Whether this path may be one of the interface's own pages ("/jobs/j-1"): no API, no file. */
bool path_is_page(const char *path);
const char *asset_type(const char *name);
bool asset_is_hashed(const char *path);

#endif
