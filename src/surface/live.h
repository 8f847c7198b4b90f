/* The live channel: one hub for all WebSockets of people (contract 13).
 *
 *   /v1/ws                               native forms (src/surface/native/views.h)
 *   /ws, /api/gpu/ws, /api/v1/ws         documented forms (contract 13.2)
 *   /api/gpu/tasks/{task_id}/ws          one task, without topics (contract 13.1)
 *
 * A credential that is refused does not end the handshake: the socket opens and is closed at once
 * with 4001 (none), 4003 (bad, or not allowed) or 4004 (no such task), because browsers see a
 * close code but no status. Other codes: 4000 too many connections of one user, 1013 a reader
 * with more than 1 MiB waiting, 1001 nothing heard for half an hour.
 *
 * Threads: any. */
#ifndef SURFACE_LIVE_H
#define SURFACE_LIVE_H

#include "core/route.h"

/* Handlers of WS routes (ROUTE_LIVE | ROUTE_NO_TX | ROUTE_STREAM). */
handler_fn live_native_socket, live_documented_socket, live_task_socket;

/* What people subscribe to. */
enum topic_kind {
    TOPIC_UNKNOWN,
    TOPIC_JOBS,    /* jobs: own ones, administrators all */
    TOPIC_JOB,     /* job:j-17 */
    TOPIC_LOG,     /* log:j-17 */
    TOPIC_TASKS,   /* tasks: own jobs in the documented words */
    TOPIC_TASK,    /* task:<uuid> */
    TOPIC_GPU,     /* gpu */
    TOPIC_GPU_ONE, /* gpu:gpu-001 */
    TOPIC_NODES,   /* nodes */
    TOPIC_EVENTS,  /* events: operators */
};
/* *ref: what stands behind the colon, or "". */
enum topic_kind topic_parse(const char *name, const char **ref);

#endif
