/* Terminal, texts and tables. A table is laid out in columns of the terminal, not in bytes: CJK
 * takes two. When it does not fit, columns that may shrink give way (the widest first), then
 * optional ones go; a pipe gets everything.
 */
#include "cli/out.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct term term_of(int fd)
{
    struct term t = {.tty = isatty(fd) == 1};
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR");
    t.colour = t.tty && (none == NULL || *none == '\0') &&
               (term == NULL || strcmp(term, "dumb") != 0);
    struct winsize size;
    int64_t columns = 0;
    if (t.tty && ioctl(fd, TIOCGWINSZ, &size) == 0) {
        t.width = size.ws_col;
        t.height = size.ws_row;
    }
    if (t.tty && t.width == 0)
        t.width = getenv("COLUMNS") != NULL && str_int(getenv("COLUMNS"), &columns) && columns > 0
                      ? (int)columns
                      : 80;
    return t;
}

const char *hue_on(const struct term *t, enum hue hue)
{
    static const char *const codes[] = {
        [HUE_NONE] = "",         [HUE_DIM] = "\033[2m",    [HUE_BOLD] = "\033[1m",
        [HUE_RED] = "\033[31m",  [HUE_GREEN] = "\033[32m", [HUE_YELLOW] = "\033[33m",
        [HUE_BLUE] = "\033[34m",
    };
    return t->colour ? codes[hue] : "";
}

const char *hue_off(const struct term *t, enum hue hue)
{
    return t->colour && hue != HUE_NONE ? "\033[0m" : "";
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the translation of a checked format */
void say(FILE *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(to, err_tr(fmt), ap);
    va_end(ap);
}

char *text_of(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = arena_vprintf(a, err_tr(fmt), ap);
    va_end(ap);
    return s;
}
#pragma GCC diagnostic pop

/* ---- text ---- */

char *text_clean(struct arena *a, const char *s)
{
    if (s == NULL)
        return arena_strdup(a, "");
    size_t n = strlen(s);
    char *clean = arena_alloc(a, 3 * n + 1);
    n = utf8_clean(s, n, clean);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)clean[i];
        if (c < 0x20 || c == 0x7f)
            clean[i] = ' ';
        else if (c == 0xc2 && (unsigned char)clean[i + 1] < 0xa0) /* C1 controls */
            clean[i] = clean[i + 1] = ' ';
    }
    return clean;
}

/* Bytes of the character at s. */
static size_t char_len(const char *s)
{
    size_t n = 1;
    while (((unsigned char)s[n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* The bytes of s that take at most `width` columns. */
static size_t prefix_of(const char *s, size_t width)
{
    char one[16];
    size_t at = 0, used = 0;
    while (s[at] != '\0') {
        size_t n = char_len(s + at);
        snprintf(one, sizeof(one), "%.*s", (int)n, s + at);
        size_t w = utf8_width(one);
        if (used + w > width)
            break;
        used += w;
        at += n;
    }
    return at;
}

char *text_fit(struct arena *a, const char *s, size_t width)
{
    if (utf8_width(s) <= width)
        return arena_strdup(a, s);
    if (width == 0)
        return arena_strdup(a, "");
    return arena_printf(a, "%.*s…", (int)prefix_of(s, width - 1), s);
}

void pad(FILE *to, size_t columns)
{
    fprintf(to, "%*s", (int)columns, "");
}

void text_wrap(FILE *to, const char *s, size_t indent, size_t width)
{
    size_t room = width > indent + 10 ? width - indent : (size_t)-1;
    for (bool first = true; *s != '\0'; first = false) {
        if (!first) {
            fputc('\n', to);
            pad(to, indent);
        }
        size_t fits = prefix_of(s, room), n = fits;
        if (s[fits] != '\0' && s[fits] != ' ') {
            /* Back to a blank, unless the line would be cut between wide characters. */
            size_t blank = fits;
            while (blank > 0 && s[blank] != ' ')
                blank--;
            if (blank > 0 && ((unsigned char)s[fits] < 0x80 || blank * 2 > fits))
                n = blank;
        }
        if (n == 0)
            n = char_len(s);
        fwrite(s, 1, n, to);
        s += n;
        s += strspn(s, " ");
    }
    fputc('\n', to);
}

/* ---- tables ---- */

struct table table_new(struct arena *a, const struct column *columns)
{
    struct table t = {.a = a, .columns = columns};
    while (t.n_columns < COLUMNS_MAX && columns[t.n_columns].title != NULL)
        t.n_columns++;
    return t;
}

struct cell *table_row(struct table *t)
{
    struct cell *row = arena_alloc(t->a, t->n_columns * sizeof(*row));
    vec_push(&t->rows, row);
    t->n_rows++;
    return row;
}

void table_fini(struct table *t)
{
    vec_fini(&t->rows);
}

enum { GAP = 2 };

static size_t width_of(const size_t *width, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += width[i] > 0 ? width[i] + GAP : 0;
    return sum > 0 ? sum - GAP : 0;
}

/* Takes from the widest of the columns that may shrink. False: that is not enough. */
static bool shrink(const struct table *t, size_t *width, size_t most)
{
    while (width_of(width, t->n_columns) > most) {
        size_t widest = t->n_columns;
        for (size_t i = 0; i < t->n_columns; i++)
            if (t->columns[i].least > 0 && width[i] > (size_t)t->columns[i].least &&
                (widest == t->n_columns || width[i] > width[widest]))
                widest = i;
        if (widest == t->n_columns)
            return false;
        width[widest]--;
    }
    return true;
}

/* Makes the columns fit into `most`; 0 wide means left out. */
static void squeeze(const struct table *t, size_t *width, size_t most)
{
    size_t natural[COLUMNS_MAX];
    memcpy(natural, width, sizeof(natural));
    while (!shrink(t, width, most)) {
        size_t last = t->n_columns;
        for (size_t i = 0; i < t->n_columns; i++)
            if (t->columns[i].optional && natural[i] > 0)
                last = i;
        if (last == t->n_columns)
            return;
        natural[last] = 0;
        memcpy(width, natural, sizeof(natural));
    }
}

static void print_cell(FILE *to, struct table *t, size_t i, const char *s, enum hue hue,
                       const size_t *width, const struct term *term)
{
    bool is_last = true;
    for (size_t j = i + 1; j < t->n_columns; j++)
        is_last &= width[j] == 0;
    char *fit = text_fit(t->a, s, width[i]);
    size_t fill = width[i] - utf8_width(fit);
    if (t->columns[i].right)
        pad(to, fill);
    fprintf(to, "%s%s%s", hue_on(term, hue), fit, hue_off(term, hue));
    if (!t->columns[i].right && !is_last)
        pad(to, fill);
    if (!is_last)
        pad(to, GAP);
}

void table_print(FILE *to, struct table *t, const struct term *term)
{
    size_t width[COLUMNS_MAX] = {0};
    for (size_t i = 0; i < t->n_columns; i++) {
        width[i] = utf8_width(err_tr(t->columns[i].title));
        for (size_t r = 0; r < t->n_rows; r++) {
            struct cell *c = &((struct cell *)t->rows.items[r])[i];
            c->text = c->text != NULL && *c->text != '\0' ? text_clean(t->a, c->text) : "–";
            size_t w = utf8_width(c->text);
            if (w > width[i])
                width[i] = w;
        }
    }
    if (term->width > 0)
        squeeze(t, width, (size_t)term->width);
    for (size_t i = 0; i < t->n_columns; i++)
        if (width[i] > 0)
            print_cell(to, t, i, err_tr(t->columns[i].title), HUE_DIM, width, term);
    fputc('\n', to);
    for (size_t r = 0; r < t->n_rows; r++) {
        for (size_t i = 0; i < t->n_columns; i++) {
            const struct cell *c = &((struct cell *)t->rows.items[r])[i];
            if (width[i] > 0)
                print_cell(to, t, i, c->text, c->hue, width, term);
        }
        fputc('\n', to);
    }
}

/* ---- numbers ---- */

const char *text_ago(struct arena *a, int64_t us)
{
    char text[DURATION_TEXT_SIZE];
    return us < 0 ? NULL : arena_strdup(a, duration_format(us, text));
}

const char *text_clock(struct arena *a, int64_t us)
{
    time_t then = (time_t)(us / US_PER_S), now = (time_t)(now_us() / US_PER_S);
    struct tm at, today;
    localtime_r(&then, &at);
    localtime_r(&now, &today);
    bool same = at.tm_year == today.tm_year && at.tm_yday == today.tm_yday;
    char text[32];
    strftime(text, sizeof(text), same ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &at);
    return arena_strdup(a, text);
}

const char *text_mib(struct arena *a, int64_t mib)
{
    if (mib < 1024)
        return arena_printf(a, "%" PRId64 "M", mib);
    if (mib % 1024 == 0)
        return arena_printf(a, "%" PRId64 "G", mib / 1024);
    return arena_printf(a, "%.1fG", (double)mib / 1024);
}

const char *text_bar(struct arena *a, double share, int cells)
{
    static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    int eighths = (int)(share * cells * 8 + 0.5);
    AUTO(buf) struct buf b = {0};
    for (int i = 0; i < eighths / 8; i++)
        buf_adds(&b, "█");
    buf_adds(&b, parts[eighths % 8]);
    for (int i = (eighths + 7) / 8; i < cells; i++)
        buf_adds(&b, "·");
    return arena_strdup(a, buf_str(&b));
}
