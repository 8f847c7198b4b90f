/* What `drover submit` sends (JobSpec of the native API), from a job file and from options; an
 * option wins over the file, lists of pairs (env, labels) are merged. Threads: any. */
#ifndef CLI_SPEC_H
#define CLI_SPEC_H

#include "cli/verb.h"

struct pair {
    const char *name, *value;
    struct pair *next;
};
enum { SPEC_ABSENT = -1, GPU_TYPES_MAX = 32 };
struct spec {
    const char *name, *cwd, *image, *priority;
    const char *code; /* tree of its folder */
    const char **out; /* kept at its end */
    size_t n_out;
    const char **command;
    size_t n_command;
    const char *gpu_types[GPU_TYPES_MAX];
    size_t n_gpu_types;
    int64_t gpus, cpus, memory_mib, time_limit_s, retries; /* SPEC_ABSENT: not said */
    struct pair *env, *labels;
    struct pair *secrets; /* variable → name of a secret */
};

void spec_init(struct spec *s);
/* Reads the text of a job file; name is for errors: "job.yaml:3: …". */
int spec_from_yaml(struct spec *s, const char *name, const char *text, size_t n, struct arena *a,
                   struct err *e);
int spec_from_options(struct spec *s, const struct parsed *p, struct arena *a, struct err *e);
/* JSON text of the JobSpec. ERR_INVALID: no command. */
int spec_write(const struct spec *s, struct buf *to, struct err *e);

#endif
