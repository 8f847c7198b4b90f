/* The rules for what a request may look like, without any socket: used by the server before its
 * embedder sees a request, by the unit tests and by the fuzzer.
 *
 * Sources: RFC 9110 section 5.5 and 5.6.2, RFC 9112 sections 3.2, 5, 6.3 and 11.2, RFC 3986.
 * A rule answers NULL when it is kept, else one short sentence for the 400 answer.
 *
 * Threads: any; nothing is shared.
 */
#ifndef IO_HTTP_GUARD_H
#define IO_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Collects what single fields say about the whole; start zeroed. */
struct http_guard {
    int hosts, lengths, codings;
    int64_t length; /* of Content-Length, when lengths is 1 */
    bool expects_continue;
};
const char *http_guard_method(const char *method);
/* Origin-form only: starts with "/", no blanks, controls or "#"; escapes are whole. */
const char *http_guard_target(const char *target, size_t n);
const char *http_guard_field(struct http_guard *g, const char *name, size_t n_name,
                             const char *value, size_t n_value);
const char *http_guard_end(const struct http_guard *g, bool http11);

/* Decodes %XX, and + to a blank when plus. `to` has room for n + 1 and may be s itself.
 * The length; -1: a broken escape, %00, another control byte, or not UTF-8. */
ptrdiff_t http_percent_decode(const char *s, size_t n, bool plus, char *to);

/* The pairs of a query string, one a call; *at starts at its text and moves on. Name and value are
 * decoded into `to`, which has room for strlen(*at) + 2; empty pairs are passed over. */
enum http_pair { HTTP_PAIR_END, HTTP_PAIR, HTTP_PAIR_BAD };
enum http_pair http_query_next(const char **at, char *to, const char **name, const char **value);

/* One member of a comma-separated list, trimmed; false at the end. *at moves on. */
bool http_list_next(const char **at, const char **item, size_t *n);
/* Whether a list has the token (case does not matter; parameters after ";" are ignored). */
bool http_list_has(const char *list, const char *token);
/* Whether an Accept-Encoding value welcomes gzip (q is not 0). */
bool http_gzip_welcome(const char *accept_encoding);

#endif
