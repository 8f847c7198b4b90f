/* Any bytes as a request target, a query, header lines, a list or WebSocket frames (the first
 * byte chooses): the promises of http_guard_check.h hold. */
#include "fuzz/http_guard_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    http_guard_check(data, size);
    return 0;
}
