/* Foreign bytes as a job file: whatever it is, an error with a line or a job that can be written.
 */
#include "cli/spec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf json = {0};
    struct err e = {0};
    struct spec s;
    spec_init(&s);
    if (spec_from_yaml(&s, "fuzz", (const char *)data, n, &a, &e) == OK)
        spec_write(&s, &json, &e);
    else if (e.text[0] == '\0')
        abort();
    return 0;
}
