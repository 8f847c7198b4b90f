/* Every parser of outside bytes in the agent's room on one input: used by the unit test with a
 * fixed corpus and by tests/fuzz/fuzz_spool.c. Aborts when a promise is broken; reads beyond the
 * input are the sanitizers' to find, so the input is copied to a block of exactly its size. */
#ifndef UNIT_AGENT_PARSERS_H
#define UNIT_AGENT_PARSERS_H

#include "agent/folder.h"
#include "agent/journal.h"
#include "agent/message.h"
#include "base/spool.h"

#include <stdlib.h>
#include <string.h>

enum { AGENT_PARSERS = 7 };

static inline void agent_must(bool true_)
{
    if (!true_)
        abort();
}

static inline void agent_try_spool(const uint8_t *p, size_t n)
{
    bool bad;
    size_t whole = spool_whole(p, n, &bad), at = 0;
    struct spool_record r;
    agent_must(whole <= n);
    for (long took; at < whole; at += (size_t)took) {
        took = spool_decode(p + at, n - at, &r);
        agent_must(took >= SPOOL_HEAD_SIZE && r.len <= SPOOL_TEXT_MAX && r.stream >= SPOOL_OUT &&
                   r.stream <= SPOOL_SYSTEM && (size_t)took == SPOOL_HEAD_SIZE + r.len);
        uint8_t head[SPOOL_HEAD_SIZE];
        spool_encode_head(head, r.stream, r.flags, r.len, r.time_us);
        agent_must(memcmp(head, p + at, sizeof(head)) == 0);
    }
    agent_must(at == whole);
    agent_must(!bad || spool_decode(p + whole, n - whole, &r) == SPOOL_BAD);
}

static inline void agent_try_spec(char *p, size_t n)
{
    struct spec s;
    if (!spec_parse(p, n, &s))
        return;
    agent_must(s.argc > 0 && s.argv[s.argc] == NULL && s.env[s.envc] == NULL && s.memory_mib >= 0);
    for (size_t i = 0; i < s.argc; i++)
        agent_must(s.argv[i] >= p && s.argv[i] + strlen(s.argv[i]) < p + n);
    for (size_t i = 0; i < s.envc; i++)
        agent_must(strchr(s.env[i], '=') != NULL);
    spec_fini(&s);
}

static inline void agent_try_message(const char *p, size_t n)
{
    struct message m;
    struct err e;
    struct node_user user = {"/root", "root"};
    struct groups groups = {.version = "none"};
    if (message_read(p, n, &m, &e) != OK)
        return;
    if (m.kind == MESSAGE_START) {
        AUTO(buf) struct buf spec = {0};
        struct attempt *a = attempt_create(m.id);
        agent_must(m.id > 0);
        if (start_read(m.attempt, &groups, &user, &(struct isolating){0}, a, &spec, &e) == OK) {
            struct spec s;
            agent_must(spec_parse(spec.data, spec.len, &s) && s.id == m.id && s.argc > 0);
            spec_fini(&s);
        }
        attempt_destroy(a);
    }
    message_fini(&m);
}

static inline void agent_parsers_try(int which, const uint8_t *data, size_t n)
{
    char *p = malloc(n > 0 ? n : 1);
    struct started started;
    struct exit_record x;
    struct journal_record r;
    enum stop_why why;
    int64_t grace;
    char text[EXIT_MAX];
    agent_must(p != NULL);
    if (n > 0)
        memcpy(p, data, n);
    switch (which) {
    case 0:
        agent_try_spool((uint8_t *)p, n);
        break;
    case 1:
        agent_try_spec(p, n);
        break;
    case 2:
        if (started_parse(p, n, &started) && !started.claimed)
            agent_must(started.shim > 0 && strlen(started.boot_id) < BOOT_ID_SIZE);
        break;
    case 3:
        if (exit_parse(p, n, &x)) {
            agent_must(x.reason < END_REASONS && strlen(x.detail) < DETAIL_SIZE && x.code <= 255);
            agent_must(exit_format(&x, text) < EXIT_MAX);
        }
        break;
    case 4:
        if (stop_parse(p, n, &why, &grace))
            agent_must(grace >= 0 && why != STOP_NONE);
        break;
    case 5:
        if (n >= JOURNAL_RECORD_SIZE && journal_decode((uint8_t *)p, &r))
            agent_must(strlen(r.boot_id) < BOOT_ID_SIZE);
        break;
    case 6:
        agent_try_message(p, n);
        break;
    }
    free(p);
}

#endif
