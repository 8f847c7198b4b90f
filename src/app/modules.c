/* The list of rooms that are on, from the lowest to the highest. */
#include "app/parts.h"

#include "core/event.h"
#include "core/router.h"
#include "fleet/fleet.h"
#include "identity/identity.h"
#include "jobs/jobs.h"
#include "notify/notify.h"
#include "providers/providers.h"
#include "surface/surface.h"

const struct module *const app_modules[] = {
    &app_module,
    &app_tls_module,
    &event_module,
    &request_module,
    &notify_module,
    &identity_module,
    &fleet_module,
    &jobs_module,
    &providers_module,
    /* routes */
    &common_module,
    &platform_accounts_module,
    &platform_recovery_module,
    &platform_providers_module,
    &platform_submit_module,
    &platform_tasks_module,
    &training_gpu_module,
    &training_keys_module,
    &baremetal_gpu_module,
    &native_accounts_module,
    &native_recovery_module,
    &native_secrets_module,
    &native_tokens_module,
    &native_audit_module,
    &native_link_module,
    &native_agents_module,
    &native_jobs_module,
    &native_streams_module,
    &native_files_module,
    &native_fleet_module,
    &native_system_module,
    &platform_live_module,
    NULL,
};
