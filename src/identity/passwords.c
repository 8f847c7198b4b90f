/* What a password must be, and passwords that the program makes up. */
#include "identity/parts.h"

#include "base/str.h"
#include "identity/words.h"

#include <string.h>

enum { PASSWORD_CHARS_MIN = 8, PASSWORD_BYTES_MAX = 1024 };

int password_rules(const char *password, const char *email, struct err *e)
{
    size_t bytes = strnlen(password, PASSWORD_BYTES_MAX + 1);
    if (bytes > PASSWORD_BYTES_MAX)
        return err_code(e, ERR_INVALID, "WEAK_PASSWORD", "a password has at most %d bytes",
                        PASSWORD_BYTES_MAX);
    size_t chars = utf8_len(password, bytes);
    if (chars == (size_t)-1)
        return err_code(e, ERR_INVALID, "WEAK_PASSWORD", "a password must be UTF-8 text");
    if (chars < PASSWORD_CHARS_MIN)
        return err_code(e, ERR_INVALID, "WEAK_PASSWORD", "a password has at least %d characters",
                        PASSWORD_CHARS_MIN);
    if (email != NULL && email[0] != '\0' && strcasestr(password, email) != NULL)
        return err_code(e, ERR_INVALID, "WEAK_PASSWORD",
                        "a password must not contain the e-mail address");
    return OK;
}

int password_prepare(const char *password, const char *email, struct arena *a, const char **hash,
                     struct err *e)
{
    int rc = password_rules(password, email, e);
    if (rc != OK)
        return rc;
    char *made = arena_alloc(a, PASSWORD_HASH_SIZE);
    if ((rc = password_hash(password, made, e)) == OK)
        *hash = made;
    return rc;
}

const char *password_generate(struct arena *a)
{
    return arena_printf(a, "%s-%s-%s-%d", password_words[random_below(PASSWORD_WORDS)],
                        password_words[random_below(PASSWORD_WORDS)],
                        password_words[random_below(PASSWORD_WORDS)],
                        (int)(1000 + random_below(9000)));
}
