/* Files of the web UI and the API pages, read into memory once at start-up.
 *
 * Layout: SHARE/web/… is served from /, SHARE/docs/… from /docs/…. A path is looked up in the
 * table of what was read, so that nothing outside the folder can be named. Files under /assets/
 * carry their hash in their name and may be kept for ever; all others carry an ETag.
 *
 * Threads: const after loading; serving from any thread. */
#ifndef SURFACE_STATIC_FILES_H
#define SURFACE_STATIC_FILES_H

#include "io/http.h"

#include <stdbool.h>

struct static_files;
enum { STATIC_FILE_MAX = 16 << 20, STATIC_TOTAL_MAX = 64 << 20 };

/* share NULL: "share" beside the running program. What cannot be read is left out. */
struct static_files *static_files_load(const char *share);
void static_files_destroy(struct static_files *f); /* NULL is fine */
/* Answers when the request's path names a file; false: it does not. */
bool static_files_serve(struct static_files *f, struct http_request *q);
/* Answers with this page, or, when the UI is not built, with one that says how to build it. */
void static_files_page(struct static_files *f, struct http_request *q, const char *path);

#endif
