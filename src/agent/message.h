/* What travels on the link to the server, protocol drover-agent.1: reading what it says, writing
 * what the agent says. Everything read is checked against bounds before it is used.
 * Threads: one. */
#ifndef AGENT_MESSAGE_H
#define AGENT_MESSAGE_H

#include "agent/attempt.h"
#include "agent/claims.h"
#include "agent/gpu_use.h"
#include "agent/host.h"
#include "agent/isolation.h"
#include "gpu/gpu.h"

enum message_kind {
    MESSAGE_WELCOME,
    MESSAGE_START,
    MESSAGE_STOP,
    MESSAGE_LOG_FROM,
    MESSAGE_LOG_ACK,
    MESSAGE_FORGET,
    MESSAGE_BYE,
    MESSAGE_STREAM_OPEN,
    MESSAGE_REFUSED,
    MESSAGE_KINDS
};
struct message {
    enum message_kind kind;
    int64_t id; /* of the attempt */
    int64_t node, sample_ms, silent_ms;
    uint64_t offset;
    int64_t grace_us;
    enum stop_why why;
    struct err refusal;       /* of MESSAGE_REFUSED */
    const struct jv *attempt; /* of MESSAGE_START: for start_read; lives as long as root */
    const char *stream;       /* of MESSAGE_STREAM_OPEN, and its request */
    const struct jv *request;
    struct jv *root;
};
int message_read(const char *data, size_t n, struct message *out, struct err *e);
void message_fini(struct message *m);

/* Who runs the jobs on this node, for the base of their environment. */
struct node_user {
    char home[1024], user[256];
    const char *work; /* where a job begins that names no folder; NULL or "": home */
};
void node_user_find(struct node_user *u);
/* Turns a start message into a spec and fills a->gpus. An error is why it can never run here. */
int start_read(const struct jv *attempt, const struct groups *groups, const struct node_user *user,
               const struct isolating *isolating, struct attempt *a, struct buf *spec,
               struct err *e);

enum { SILENT_MS = 45 * 1000 }; /* where the server does not say */
enum { LINK_REVISION = 2 };     /* of the protocol; a server takes its neighbours */
struct hello {
    const char *name, *boot_id, *gpu_note;
    const struct host_facts *host;
    const struct groups *groups;
    const struct isolating *isolating;
};
/* Opens the hello up to its list of attempts: the caller adds them and closes with "]}". */
void hello_write(const struct hello *h, struct json *to);
void sample_write(const struct gpu_sample *gpus, struct claims *claims, struct gpu_use *use,
                  struct host_meter *meter, const char *disk, struct json *to);
/* 'L', attempt, offset: before the spool's bytes. */
enum { LOG_FRAME_HEAD = 17 };
void log_frame_head(int64_t id, uint64_t offset, uint8_t to[LOG_FRAME_HEAD]);

#endif
