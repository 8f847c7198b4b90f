/* The running agent's own state, shared by its loop (agent.c) and its link (link.c) only. */
#ifndef AGENT_NODE_H
#define AGENT_NODE_H

#include "agent/agent.h"
#include "agent/attempt.h"
#include "agent/claims.h"
#include "agent/gpu_use.h"
#include "agent/groups.h"
#include "agent/dialer.h"
#include "agent/host.h"
#include "agent/isolation.h"
#include "agent/join.h"
#include "agent/journal.h"
#include "agent/launch.h"
#include "agent/message.h"
#include "agent/page.h"
#include "io/ws.h"

enum { STREAMS_MAX = 256 }; /* helpers at once: protects the host's process table */

struct agent {
    struct agent_config config;
    struct credential credential;       /* of a server on another host */
    char *data_path, *path, *jobs_path; /* DATA, DATA/agent, DATA/agent/jobs, absolute */
    int dir, jobs, lock;
    char boot_id[BOOT_ID_SIZE];
    struct attempt_home home;
    struct journal *journal;
    struct groups groups;
    struct host_facts host;
    struct host_meter meter;
    struct node_user user;
    struct isolating isolating;
    struct gpu_source *gpus;
    struct gpu_sample *sample;
    struct claims claims;
    struct gpu_use gpu_use;
    struct launcher launcher;
    int64_t launcher_at; /* mono: not started again before */
    bool launcher_full;

    struct attempt *first; /* all attempts, newest first */
    struct map by_id, by_watch;
    size_t n;
    bool held_changed; /* the set of GPUs that jobs hold */
    bool had_any;
    int64_t sync_at; /* mono: the journal is not tried again before */

    int epoll, inotify, signals;
    bool ending;     /* leave the loop */
    int64_t look_at; /* mono: all files are looked at again */

    pid_t streams[STREAMS_MAX]; /* helpers that run; 0: free */

    /* link */
    struct dialer *dialer; /* a try to connect that is under way */
    struct ws_client *ws;
    bool welcome;         /* this connection is the server's choice */
    bool reading, broken; /* inside its callback; to be closed when that returns */
    bool bye;             /* the server stops: an idle local agent ends */
    int backoff_ms;
    bool gpus_known;   /* the GPU source has come to a first verdict */
    int64_t begun_at;  /* mono */
    int refused;       /* tries in a row that found no server */
    int64_t said_at;   /* mono: why there is no link was told; 0: not since the last one */
    int64_t since_us;  /* wall clock: there is a link, or none, since; 0: not yet */
    char why[256];     /* there is none */
    struct page *page; /* NULL: none */
    int64_t cut_us;    /* wall clock: the last link ended; 0: there was none or there is one */
    bool refusal;      /* the server said on the link that it does not want this agent */
    bool removed;      /* the node is not of the fleet any more: jobs end, then the agent does */
    int64_t connect_at, heard_at, ping_at, sample_at; /* mono */
    int64_t sample_us;                                /* between samples */
    int64_t silent_us;         /* no sign of life for so long: the link is dead */
    struct attempt *ship_next; /* whose turn it is to send its log */
    uint8_t *frame;
    size_t flight; /* log bytes sent and not acknowledged since flight_at */
    int64_t flight_at;
};

struct attempt *agent_find(struct agent *g, int64_t id);
struct attempt *agent_add(struct agent *g, int64_t id);
int agent_begin(struct agent *g, struct err *e);
void agent_end(struct agent *g);
int agent_start_launcher(struct agent *g, struct err *e);
bool agent_idle(const struct agent *g);               /* no live attempt */
void agent_watch(struct agent *g, struct attempt *a); /* its folder */
void agent_watch_fd(struct agent *g, int fd, int what, int64_t id);
enum { ON_LINK = 1, ON_LAUNCHER, ON_INOTIFY, ON_SIGNAL, ON_SHIM, ON_DIALED, ON_PAGE };

int agent_dial(const struct agent_config *c, const char *path, const char *protocol,
               struct ws_client **out, struct err *e);
void link_step(struct agent *g, int64_t now); /* connects, pings, finds silence */
void link_dialed(struct agent *g);
void link_read(struct agent *g);
bool link_pending(const struct agent *g); /* link_read() has work that epoll does not show */
void link_reports(struct agent *g);
bool link_ship(struct agent *g); /* true: there is more to send at once */
void link_sample(struct agent *g, int64_t now);
void link_down(struct agent *g);
int64_t link_next(const struct agent *g); /* mono time of its next duty */

#endif
