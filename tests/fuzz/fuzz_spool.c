/* Any bytes as a spool, a spec, the small files of an attempt's folder, a journal record and a
 * message of the server: nothing is read beyond its end and what is taken keeps its bounds. The
 * first byte chooses. The unit test "agent" runs a fixed corpus of the same. */
#include "unit/agent_parsers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        agent_parsers_try(data[0] % AGENT_PARSERS, data + 1, size - 1);
    return 0;
}
