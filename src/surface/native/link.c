/* The door of the agents. */
#include "surface/surface.h"

#include "fleet/fleet.h"

static int agent_link(struct request *q, struct tx *tx, struct err *e)
{
    return fleet_link_accept(fleet_of(q->house), q, e);
}

static const struct route link_routes[] = {
    {.method = "WS",
     .path = "/v1/agent/link",
     .name = "agent_link",
     .summary = "The link of a node's agent",
     .access = ACCESS_AGENT,
     .flags = ROUTE_STREAM | ROUTE_NO_TX | ROUTE_NO_LIMIT,
     .handle = agent_link},
};
const struct module native_link_module = {
    .name = "agent link",
    .surface = &native_surface,
    .routes = link_routes,
    .n_routes = ARRAY_LEN(link_routes),
};
