/* What a person sees: the terminal's size and colours, tables that fit it, texts in their language.
 *
 * Text that came from elsewhere (names, reasons) goes through table cells or text_clean(), so that
 * nobody's job name can move the cursor of somebody else's terminal.
 *
 * Threads: one. */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>

struct term {
    bool tty;
    bool colour;
    int width, height; /* columns and rows; 0: no limit */
};
struct term term_of(int fd);

enum hue { HUE_NONE, HUE_DIM, HUE_BOLD, HUE_RED, HUE_GREEN, HUE_YELLOW, HUE_BLUE };
const char *hue_on(const struct term *t, enum hue hue); /* "" without colour */
const char *hue_off(const struct term *t, enum hue hue);

/* Prints in the person's language; the format is the key (err_tr). */
void say(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *text_of(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Without control characters; bad UTF-8 as U+FFFD. NULL gives "". */
char *text_clean(struct arena *a, const char *s);
/* At most `width` columns, cut with an ellipsis. */
char *text_fit(struct arena *a, const char *s, size_t width);
/* Breaks at blanks (or between wide characters) into lines of `width`, each after the first
 * indented. width 0: one line. */
void text_wrap(FILE *to, const char *s, size_t indent, size_t width);
void pad(FILE *to, size_t columns);

struct column {
    const char *title;
    bool right;
    int least;     /* when the table is too wide: may shrink to this; 0: keeps its width */
    bool optional; /* may be left out when shrinking is not enough; the last such goes first */
};
struct cell {
    const char *text; /* NULL: a dash */
    enum hue hue;
};
enum { COLUMNS_MAX = 16 };
struct table {
    struct arena *a;
    const struct column *columns; /* ends with a row without title */
    size_t n_columns, n_rows;
    struct vec rows; /* of struct cell[n_columns] */
};
struct table table_new(struct arena *a, const struct column *columns);
/* A new row of n_columns empty cells to fill in. */
struct cell *table_row(struct table *t);
void table_print(FILE *to, struct table *t, const struct term *term);
void table_fini(struct table *t);

/* Numbers for people, in the arena. */
const char *text_ago(struct arena *a, int64_t us);   /* "18:04", "42s"; NULL when < 0 */
const char *text_clock(struct arena *a, int64_t us); /* local: 14:02:11, or with its date */
const char *text_mib(struct arena *a, int64_t mib);  /* 512M, 24.0G */
const char *text_bar(struct arena *a, double share, int cells); /* "██████▌   " */

#endif
