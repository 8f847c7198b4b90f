/* Text: strict numbers, UTF-8, small helpers.
 * Threads: any. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whole text must be one decimal number in range; no sign "+", no blanks. */
bool str_int(const char *s, int64_t *out);
/* Whole text must be one finite number (JSON's grammar). */
bool str_real(const char *s, double *out);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
bool str_eq(const char *a, const char *b);        /* NULLs are equal to each other only */
bool str_eq_nocase(const char *a, const char *b); /* ASCII */
/* Length in code points; (size_t)-1 if s is not UTF-8 (overlongs and surrogates refused). */
size_t utf8_len(const char *s, size_t n);
/* Copies n bytes as UTF-8, each bad byte replaced by U+FFFD; to has room for 3 * n + 1. */
size_t utf8_clean(const char *s, size_t n, char *to);
/* Bytes of s, at most max, that end between two characters: to cut a text without breaking one. */
size_t utf8_fit(const char *s, size_t max);
/* Columns of a terminal that s takes (East Asian wide characters count two). */
size_t utf8_width(const char *s);
/* Constant-time comparison of n bytes. */
bool mem_equal_secret(const void *a, const void *b, size_t n);
/* "90", "90s", "15m", "2h", "1d12h" to microseconds. False: not a duration. */
bool duration_parse(const char *s, int64_t *us);
/* "42s", "18:04", "3:07:12", "2d 04:10": for people. */
enum { DURATION_TEXT_SIZE = 32 };
const char *duration_format(int64_t us, char to[DURATION_TEXT_SIZE]);
/* "512", "64K", "24G", "1.5T" (powers of 1024) to bytes. */
bool bytes_parse(const char *s, int64_t *bytes);

#endif
