/* Texts that the program made in English and stored, told in the reader's language.
 *
 * Rows, spools and agents hold one language, so that they can be read, searched and compared; a
 * reader's language is known only when somebody reads. So the table of translations is used
 * backwards: the format that made a text is recognised by its fixed words, what stood in for its
 * conversions is taken out (and told in turn), and both are put together again. This needs nothing
 * from who writes a text but a row for its format, and works for rows of older versions and for
 * agents of other versions alike. What no format made is left as it is.
 *
 * A text that is made of two ("failed: exit code 3") is told in parts. The longest fixed words win;
 * formats that are almost nothing but conversions are not recognised.
 */
#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum {
    CAPTURES_MAX = 12,
    LETTERS_MIN = 4, /* fixed letters that a format must have to be recognised by */
    DEPTH_MAX = 4,
    PARTS_MAX = 60, /* looked up for one text: bounds what a text made to be slow can cost */
    LONGEST = 4096, /* a stored sentence is far shorter */
};

struct capture {
    const char *at;
    size_t n;
};

struct conversion {
    size_t len; /* of its text in the format */
    bool number;
};

/* The conversion at a '%'; len 2 and kind "%%" are told by the caller. */
static struct conversion conversion_at(const char *s)
{
    size_t n = 1 + strspn(s + 1, "-+ #0123456789.*'");
    n += strspn(s + n, "hlzjt");
    return (struct conversion){n + (s[n] != '\0'), s[n] != 's' && s[n] != 'c'};
}

/* How many bytes at s a number could have. */
static size_t digits_of(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] != '\0' && strchr("-+.0123456789", s[i]) != NULL)
        i++;
    return i;
}

/* The fixed words at s, up to the next conversion, with %% as %. */
static size_t fixed_words(const char *s, char *to, size_t room, size_t *took)
{
    size_t n = 0, i = 0;
    while (s[i] != '\0' && n + 1 < room) {
        if (s[i] == '%' && s[i + 1] != '%')
            break;
        i += s[i] == '%';
        to[n++] = s[i++];
    }
    to[n] = '\0';
    *took = i;
    return n;
}

/* Whether the whole of text was made by the rest of a format. */
static bool matches(const char *fmt, const char *text, size_t n, struct capture *captures,
                    size_t n_captures)
{
    char words[ERR_TEXT_MAX];
    size_t took, fixed = fixed_words(fmt, words, sizeof(words), &took);
    if (fixed > n || memcmp(words, text, fixed) != 0)
        return false;
    fmt += took;
    text += fixed;
    n -= fixed;
    if (*fmt == '\0')
        return n == 0;
    if (n_captures == CAPTURES_MAX)
        return false;
    struct conversion c = conversion_at(fmt);
    fmt += c.len;
    fixed = fixed_words(fmt, words, sizeof(words), &took);
    if (*fmt == '\0') {
        captures[n_captures] = (struct capture){text, n};
        return !c.number || (n > 0 && digits_of(text, n) == n);
    }
    /* A number that the next conversion follows at once takes all its digits. */
    size_t first = c.number && fixed == 0 ? digits_of(text, n) : 0;
    for (size_t i = first; i + fixed <= n; i++) {
        if (c.number && (i == 0 || digits_of(text, i) < i)) {
            if (i > 0)
                return false;
            continue;
        }
        if (memcmp(text + i, words, fixed) != 0)
            continue;
        captures[n_captures] = (struct capture){text, i};
        if (matches(fmt, text + i, n - i, captures, n_captures + 1))
            return true;
    }
    return false;
}

static size_t letters_of(const char *fmt)
{
    size_t letters = 0;
    while (*fmt != '\0') {
        if (*fmt == '%' && fmt[1] != '%') {
            fmt += conversion_at(fmt).len;
            continue;
        }
        letters += (unsigned char)*fmt > ' ' && strchr("%:;,.\"'", *fmt) == NULL;
        fmt++;
    }
    return letters;
}

struct search {
    const char *text;
    size_t n, letters;
    const struct err_text *best;
    struct capture captures[CAPTURES_MAX];
};

static void look(const struct err_text *row, void *ctx)
{
    struct search *s = ctx;
    struct capture captures[CAPTURES_MAX];
    const char *first = row->en;
    if (*first != '%' && *first != *s->text)
        return;
    if (strchr(first, '%') == NULL) {
        /* Words without a conversion: the whole text or nothing. */
        if (strlen(first) == s->n && memcmp(first, s->text, s->n) == 0) {
            s->best = row;
            s->letters = (size_t)-1;
        }
        return;
    }
    size_t letters = letters_of(first);
    if (letters < LETTERS_MIN || letters <= s->letters ||
        !matches(first, s->text, s->n, captures, 0))
        return;
    s->best = row;
    s->letters = letters;
    memcpy(s->captures, captures, sizeof(captures));
}

struct limits {
    int depth, parts;
};
static bool tell(struct buf *to, const char *text, size_t n, struct limits *l);

static void tell_or_copy(struct buf *to, const char *text, size_t n, struct limits *l)
{
    if (!tell(to, text, n, l))
        buf_add(to, text, n);
}

static void fill_in(struct buf *to, const char *zh, const struct capture *captures,
                    struct limits *l)
{
    for (size_t i = 0; *zh != '\0'; zh++) {
        if (*zh != '%') {
            buf_addc(to, *zh);
        } else if (zh[1] == '%') {
            buf_addc(to, *zh++);
        } else {
            tell_or_copy(to, captures[i].at, captures[i].n, l);
            i++;
            zh += conversion_at(zh).len - 1;
        }
    }
}

/* Two sentences in one, at the first place where a half is known. */
static bool tell_halves(struct buf *to, const char *text, size_t n, struct limits *l)
{
    static const struct {
        const char *en, *zh;
    } joints[] = {{"; ", "；"}, {": ", "："}};
    for (size_t k = 0; k < ARRAY_LEN(joints); k++)
        for (size_t i = 1; i + 2 < n; i++) {
            if (memcmp(text + i, joints[k].en, 2) != 0)
                continue;
            AUTO(buf) struct buf left = {0}, right = {0};
            bool known = tell(&left, text, i, l);
            known |= tell(&right, text + i + 2, n - i - 2, l);
            if (!known)
                continue;
            buf_add(to, left.len > 0 ? left.data : text, left.len > 0 ? left.len : i);
            buf_adds(to, joints[k].zh);
            buf_add(to, right.len > 0 ? right.data : text + i + 2,
                    right.len > 0 ? right.len : n - i - 2);
            return true;
        }
    return false;
}

/* False: nothing was recognised and nothing was written. */
static bool tell(struct buf *to, const char *text, size_t n, struct limits *l)
{
    struct search s = {.text = text, .n = n};
    if (n == 0 || n > LONGEST || l->depth >= DEPTH_MAX || l->parts >= PARTS_MAX)
        return false;
    bool told = true;
    l->depth++;
    l->parts++;
    err_texts_each(look, &s);
    if (s.best == NULL)
        told = tell_halves(to, text, n, l);
    else if (s.letters == (size_t)-1)
        buf_adds(to, s.best->zh);
    else
        fill_in(to, s.best->zh, s.captures, l);
    l->depth--;
    return told;
}

void err_retell(struct buf *to, const char *en)
{
    struct limits l = {0};
    if (err_lang() == LANG_EN)
        buf_adds(to, en);
    else
        tell_or_copy(to, en, strlen(en), &l);
}
