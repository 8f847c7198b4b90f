/* The server alone: a fixed 2.9 KB JSON from memory, as a yardstick against bench/http_peer.c
 * (the same bytes from the bare library) and as the server of tests/system/http_idle.py.
 *
 *   http_bench [PORT [THREADS]]      prints "port N", serves until SIGTERM
 */
#include "io/http.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char json[2900];

static int64_t bench_head(void *ctx, struct http_request *q)
{
    return 0;
}

static void bench_serve(void *ctx, struct http_request *q)
{
    http_respond(q, &(struct http_answer){.status = 200,
                                          .type = "application/json",
                                          .body = json,
                                          .n = sizeof(json),
                                          .body_static = true});
}

int main(int argc, char **argv)
{
    memset(json, ' ', sizeof(json));
    memcpy(json, "{\"gpus\":[", 9);
    memcpy(json + sizeof(json) - 2, "]}", 2);
    struct http_config c = {
        .listeners = {{.host = "127.0.0.1", .port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 0)}},
        .n_listeners = 1,
        .app = {.head = bench_head, .serve = bench_serve},
        .threads = argc > 2 ? atoi(argv[2]) : 2,
    };
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    struct http_server *server = NULL;
    struct err e = {0};
    if (http_server_start(&c, &server, &e) != OK) {
        fprintf(stderr, "http_bench: %s\n", e.text);
        return 1;
    }
    printf("port %u\n", http_server_port(server, 0));
    fflush(stdout);
    int sig;
    sigwait(&ends, &sig);
    http_server_stop(server);
    return 0;
}
