/* State machines as tables. A transition that is not listed is refused. */
#ifndef CORE_MACHINE_H
#define CORE_MACHINE_H

#include "base/err.h"

#include <stddef.h>

struct transition {
    int from, on, to;
};
struct machine {
    const char *name;          /* "job" */
    const char *const *states; /* names by value */
    const char *const *events;
    const struct transition *rows;
    size_t n;
};
/* ERR_CONFLICT with "job is completed: cancel is not possible" when no row fits. */
int machine_next(const struct machine *m, int from, int on, int *to, struct err *e);

#endif
