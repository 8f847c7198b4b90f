/* Foreign bytes as a tree: an error with a text, or a tree that is written back as the same bytes.
 */
#include "files/tree.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf text = {0};
    struct tree t;
    struct err e = {0};
    if (tree_parse((const char *)data, n, &a, &t, &e) != OK) {
        if (e.text[0] == '\0')
            abort();
        return 0;
    }
    if (tree_write(&t, &text, &e) != OK || text.len != n || memcmp(text.data, data, n) != 0)
        abort();
    return 0;
}
