/* The APIs as views of one domain model. Each surface is an envelope; each file below it is a
 * module of routes. The path decides the envelope, also for errors (contract 1.6). */
#ifndef SURFACE_SURFACE_H
#define SURFACE_SURFACE_H

#include "core/route.h"

extern const struct surface platform_surface, training_surface, inference_surface,
    baremetal_surface, native_surface;

/* Which surface answers a path that no route has; the last row is the rest. */
extern const struct surface_prefix surface_prefixes[];
extern const size_t n_surface_prefixes;

/* Modules of routes, for the list in app/modules.c. */
extern const struct module platform_accounts_module, platform_recovery_module;
extern const struct module native_accounts_module, native_recovery_module, native_tokens_module,
    native_audit_module;
extern const struct module platform_providers_module, platform_submit_module, platform_tasks_module,
    platform_live_module, training_gpu_module, training_keys_module;
extern const struct module baremetal_gpu_module;
extern const struct module native_jobs_module, native_fleet_module, native_system_module;
extern const struct module native_secrets_module;
extern const struct module native_link_module, native_streams_module, native_files_module,
    native_agents_module;
extern const struct module common_module; /* /, /health, /ready, /metrics, documents */

/* Static files, the live hub and whatever else hangs on the router. After house_start. */
void surface_attach(struct house *h, struct router *r);

#endif
