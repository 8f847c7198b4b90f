/* Facts about this host from /proc and statvfs. Threads: one. */
#ifndef AGENT_HOST_H
#define AGENT_HOST_H

#include "base/json.h"

struct host_meter {
    long long busy, all; /* CPU ticks at the last reading */
};
struct host_facts {
    char name[256], os[128], kernel[128];
    long long cpus, memory_mib;
};
void host_facts(struct host_facts *f);
/* Writes {"cpu_percent":…} with the load since the last call. disk: a path on the disk that is
 * measured. */
void host_sample(struct host_meter *m, const char *disk, struct json *to);

#endif
