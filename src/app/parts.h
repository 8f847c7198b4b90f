/* What the files of app/ share. */
#ifndef APP_PARTS_H
#define APP_PARTS_H

#include "core/house.h"
#include "io/http.h"

#include <stdbool.h>

extern const struct module *const app_modules[];
extern const struct module app_tls_module;
extern const struct module app_module; /* settings of the program as a whole */

/* The agent of this host: started when none answers, started again when it dies. */
struct local_agent;
struct local_agent *local_agent_start(struct house *h, const char *socket_path);
/* Leaves a running agent alone (it holds jobs, or ends by itself after the server's bye). */
void local_agent_stop(struct local_agent *a);

/* tls.c: the certificate files of the settings; the server whose files are looked after (NULL: none
 * any more); another look at them. */
int app_tls_files(struct house *h, struct http_tls *out, struct err *e);
void app_tls_serving(struct http_server *s);
void app_tls_reload(bool in_any_case);

/* "simulated:4", "nvml" or "none", by GPU_SIMULATE, the demo, and what the host has. */
const char *app_gpu_source(const struct house *h);

#endif
