/* The agent's own page: what this host and its link are like, also while no server answers. Read
 * only: `/` for people, `/status.json`, `/metrics` (Prometheus text). On loopback unless a token is
 * demanded. HTTP/1.1 as far as a browser and curl need it: GET, one request a connection.
 *
 * Threads: the agent's loop; nothing here blocks. */
#ifndef AGENT_PAGE_H
#define AGENT_PAGE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct page;
/* where: "ADDRESS:PORT". ERR_INVALID: not on loopback without a token. */
int page_open(struct agent *g, const char *where, const char *token, struct page **out,
              struct err *e);
void page_close(struct page *p);              /* NULL is fine */
void page_event(struct agent *g, int64_t id); /* of ON_PAGE */

#endif
