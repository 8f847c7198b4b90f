/* drover serve: builds the house, opens the doors, says where they are, waits for a signal, and
 * leaves in order. */
#include "app/app.h"
#include "app/parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "core/route.h"
#include "fleet/fleet.h"
#include "gpu/gpu.h"
#include "identity/identity.h"
#include "io/http.h"
#include "io/ws.h"
#include "logs/logs.h"
#include "surface/surface.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct setting app_settings[] = {
    {"SERVER_HOST", "API_HOST", SET_TEXT, "127.0.0.1", .doc = "listen address"},
    {"SERVER_PORT", "PORT,API_PORT", SET_INT, "8080", 0, 65535,
     .doc = "main port; 0: any free one"},
    {"COMPAT_PORT", NULL, SET_INT, "8000", 0, 65535,
     .doc = "second port with the same routes; 0: off"},
    {"LOG_LEVEL", NULL, SET_TEXT, "INFO", .doc = "DEBUG, INFO, WARNING, ERROR or CRITICAL"},
    {"LOG_FORMAT", NULL, SET_TEXT, "text", .doc = "text or json"},
    {"LOG_FILE", NULL, SET_TEXT, NULL,
     .doc = "log file, rotated at 10 MiB; default: standard error"},
    {"GPU_SIMULATE", NULL, SET_WORD, "off", .words = "on|off|auto",
     .doc = "four simulated GPUs instead of the host's; the demo has them"},
    {"LOCAL_AGENT", NULL, SET_BOOL, "on", .doc = "run jobs on the server's own host"},
    {"JOB_ISOLATION", NULL, SET_WORD, "strict", .words = "strict|basic|off",
     .doc = "how jobs on the server's own host are kept apart: docs/isolation.md"},
    {"JOB_USER", NULL, SET_TEXT, NULL,
     .doc = "account that jobs run as when the server is root; default: drover-job where there is "
            "one, else a number for each user"},
    {"JOB_PROFILING", NULL, SET_BOOL, "false",
     .doc = "jobs may use perf, bpf, userfaultfd and io_uring"},
};
const struct module app_module = {
    .name = "app",
    .settings = app_settings,
    .n_settings = ARRAY_LEN(app_settings),
};

static const char usage[] =
    "usage: drover serve [--data DIR] [--demo]\n"
    "Runs the server and, beside it, the agent of this host.\n"
    "\n"
    "  --data DIR        where state, logs and the socket live (default ./data)\n"
    "  --demo            example accounts and simulated GPUs; everything simulated says so\n"
    "  --print-openapi   writes the OpenAPI document and ends\n"
    "  --print-routes    writes every route with who may call it, and ends\n"
    "  --help            this text\n"
    "\n"
    "It ends with 0 when it was told to stop, 1 when it cannot start, 2 for wrong usage, 65 when "
    "its\n"
    "database is damaged: restarting will not help.\n"
    "\n"
    "It listens where SERVER_HOST, SERVER_PORT and COMPAT_PORT say (127.0.0.1, 8080, 8000).\n"
    "Settings come from the environment and from .env; docs/settings.md lists them.\n";

enum { EXIT_DAMAGED = 65 }; /* EX_DATAERR of sysexits.h */

struct options {
    const char *data;
    bool demo, print_openapi, print_routes;
};

/* 0: go on; else the exit status + 1. */
static int read_options(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage, stdout);
            return 1;
        }
        if (strcmp(a, "--demo") == 0) {
            o->demo = true;
        } else if (strcmp(a, "--print-openapi") == 0) {
            o->print_openapi = true;
        } else if (strcmp(a, "--print-routes") == 0) {
            o->print_routes = true;
        } else if (strcmp(a, "--data") == 0 && i + 1 < argc) {
            o->data = argv[++i];
        } else if (str_starts(a, "--data=")) {
            o->data = a + strlen("--data=");
        } else {
            fprintf(stderr, "drover serve: %s: %s\nTry: drover serve --help\n", a,
                    strcmp(a, "--data") == 0 ? "needs a folder" : "no such option");
            return 3;
        }
    }
    return 0;
}

struct server {
    struct house *house;
    struct router *router;
    struct http_server *http;
    struct local_agent *agent;
    char *socket_path;
    bool compat; /* the second port is open */
};

static int setup_log(struct house *h, struct err *e)
{
    enum log_level level;
    const char *text = setting_text(h, "LOG_LEVEL");
    if (!log_level_parse(text, &level))
        return err_set(e, ERR_INVALID, "LOG_LEVEL must be a level such as INFO, not \"%s\"", text);
    log_setup(level, strcmp(setting_text(h, "LOG_FORMAT"), "json") == 0,
              setting_text(h, "LOG_FILE"));
    return OK;
}

static void raise_descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static int open_doors(struct server *s, struct err *e)
{
    struct house *h = s->house;
    const char *host = setting_text(h, "SERVER_HOST");
    struct http_config config = {.app = router_app(s->router)};
    uint16_t port = (uint16_t)setting_int(h, "SERVER_PORT");
    uint16_t compat = (uint16_t)setting_int(h, "COMPAT_PORT");
    config.listeners[config.n_listeners++] = (struct http_listener){.host = host, .port = port};
    config.listeners[config.n_listeners++] = (struct http_listener){.unix_path = s->socket_path};
    s->compat = compat != 0 && compat != port;
    if (s->compat)
        config.listeners[config.n_listeners++] = (struct http_listener){.host = host,
                                                                        .port = compat};
    int rc = app_tls_files(h, &config.tls, e);
    if (rc != OK)
        return rc;
    router_agents_certified(s->router, config.tls.client_ca != NULL);
    for (size_t i = 0; i < config.n_listeners; i++)
        config.listeners[i].tls = config.tls.cert != NULL && config.listeners[i].host != NULL;
    rc = http_server_start(&config, &s->http, e);
    if (rc != OK && s->compat && !setting_given(h, "COMPAT_PORT")) {
        /* nobody asked for the second port: a neighbour that has it is no reason not to start */
        log_warning("app", "without the second port %u: %s", compat, e->text);
        s->compat = false;
        config.n_listeners--;
        rc = http_server_start(&config, &s->http, e);
    }
    if (rc != OK)
        return err_wrap(e, "cannot listen on %s:%u (choose another with SERVER_PORT)", host, port);
    if (config.tls.cert != NULL)
        app_tls_serving(s->http);
    return OK;
}

static int server_open(struct server *s, const struct options *o, struct err *e)
{
    err_translate_with(logs_texts_zh); /* rooms without a module */
    err_translate_with(gpu_texts);
    int rc = house_create(app_modules, &s->house, e);
    if (rc != OK)
        return rc;
    if (o->data != NULL)
        setting_override(s->house, "DATA_DIR", o->data);
    if (o->demo)
        setting_override(s->house, "SEED_DEMO", "true");
    if ((rc = house_start(s->house, e)) != OK || (rc = setup_log(s->house, e)) != OK)
        return rc;
    if ((rc = router_create(s->house, &s->router, e)) != OK)
        return rc;
    router_prefixes(s->router, surface_prefixes, n_surface_prefixes);
    router_authenticator(s->router, identity_authenticate);
    router_auditor(s->router, identity_audit);
    surface_attach(s->house, s->router);
    return OK;
}

static void server_close(struct server *s)
{
    struct fleet *fleet = s->house != NULL ? fleet_of(s->house) : NULL;
    if (fleet != NULL)
        fleet_bye(fleet);
    local_agent_stop(s->agent);
    app_tls_serving(NULL);
    http_server_stop(s->http);
    ws_loop_stop();
    if (fleet != NULL)
        fleet_links_end(fleet);
    if (s->house != NULL)
        house_stop(s->house);
    router_destroy(s->router);
    house_destroy(s->house);
    if (s->socket_path != NULL)
        unlink(s->socket_path);
    mem_free(s->socket_path);
}

static void say_hello(const struct server *s, int64_t began_us)
{
    struct house *h = s->house;
    const char *host = setting_text(h, "SERVER_HOST");
    bool v6 = strchr(host, ':') != NULL, zh = strcmp(setting_text(h, "DEFAULT_LANG"), "zh") == 0;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    const char *shown = any ? "127.0.0.1" : host;
    char url[300];
    snprintf(url, sizeof(url), "%s://%s%s%s:%u",
             setting_text(h, "TLS_CERT_FILE") != NULL ? "https" : "http", v6 && !any ? "[" : "",
             shown, v6 && !any ? "]" : "", http_server_port(s->http, 0));
    const char *password = identity_first_password(h);
    bool simulated = str_starts(app_gpu_source(h), "simulated");
    if (simulated)
        puts(zh ? "演示：4 张模拟 GPU；一切模拟的内容都带有标记。"
                : "Demo: 4 simulated GPUs; everything simulated is marked so.");
    printf(zh ? "Drover %s 已就绪，用时 %lld 毫秒\n" : "Drover %s is up in %lld ms\n",
           DROVER_VERSION, (long long)((mono_us() - began_us) / US_PER_MS));
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    char cwd[4096];
    const char *program = n > 0 ? path : "drover";
    if (getcwd(cwd, sizeof(cwd)) != NULL && str_starts(path, cwd) && path[strlen(cwd)] == '/')
        program = path + strlen(cwd) + 1;
    bool relative = program[0] != '/';
    const char *example = access("examples/train_tiny.py", R_OK) == 0
                              ? "python3 examples/train_tiny.py"
                              : "openssl speed -seconds 1 sha256";
    /* the command must work as printed, also when it is pasted into another shell's prompt */
    bool given = strcmp(house_data_dir(h), "./data") != 0 && strcmp(house_data_dir(h), "data") != 0;
    char env[4200] = "";
    if (given)
        snprintf(env, sizeof(env), "DROVER_DATA=%s ", house_data_dir(h));
    printf("  web     %s", url);
    if (password != NULL)
        printf(zh ? "        登录名 admin@localhost，密码 %s（仅显示一次）"
                  : "        sign in as admin@localhost, password %s (shown once)",
               password);
    else if (!setting_bool(h, "FIRST_USER_IS_ADMIN"))
        printf(zh ? "\n  登录    用原来的账号；忘了密码：%s%s%s user passwd admin@localhost"
                  : "\n  sign in as before; a lost password: %s%s%s user passwd admin@localhost",
               env, relative ? "./" : "", program);
    printf("\n  try     %s%s%s submit %s--follow -- %s\n", env, relative ? "./" : "", program,
           simulated ? "--gpus 1 " : "", example);
    printf(zh ? "  stop    Ctrl-C        数据在 %s\n" : "  stop    Ctrl-C        data in %s\n",
           house_data_dir(h));
    fflush(stdout);
}

static int print_openapi(struct server *s)
{
    size_t n;
    const char *text = router_openapi(s->router, &n);
    fwrite(text, 1, n, stdout);
    putchar('\n');
    return ferror(stdout) || fflush(stdout) != 0 ? 1 : 0;
}

static void print_route(const struct route *t, const struct surface *s, void *ctx)
{
    printf("%s\t%s\t%s\t%s\t%s\t%u\t%s\n", t->method, t->path, access_names[t->access], s->name,
           t->name, t->permission, t->flags & ROUTE_STRICT_LIMIT ? "sign-in" : "-");
}

static int print_routes(struct server *s)
{
    routes_each(s->house, print_route, NULL);
    return ferror(stdout) || fflush(stdout) != 0 ? 1 : 0;
}

int app_serve(int argc, char **argv)
{
    int64_t began_us = mono_us();
    struct options o = {0};
    int rc = read_options(argc, argv, &o);
    if (rc != 0)
        return rc - 1;
    /* signals are taken by this thread alone, in sigwait below */
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stops, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    umask(077);

    char temp[] = "/tmp/drover-openapi-XXXXXX";
    if ((o.print_openapi || o.print_routes) && o.data == NULL)
        o.data = mkdtemp(temp);
    struct server s = {0};
    struct err e = {0};
    int status = 1;
    if (server_open(&s, &o, &e) != OK)
        goto failed;
    if (o.print_openapi || o.print_routes) {
        status = o.print_routes ? print_routes(&s) : print_openapi(&s);
        server_close(&s);
        return status;
    }
    char *real = realpath(house_data_dir(s.house), NULL);
    s.socket_path = mem_printf("%s/drover.sock", real);
    free(real);
    if (open_doors(&s, &e) != OK)
        goto failed;
    if (setting_bool(s.house, "LOCAL_AGENT"))
        s.agent = local_agent_start(s.house, s.socket_path);
    say_hello(&s, began_us);
    for (;;) {
        int sig = 0;
        if (sigwait(&stops, &sig) != 0)
            continue;
        if (sig != SIGHUP)
            break;
        app_tls_reload(true);
    }
    log_info("app", "stopping: running jobs go on and are found again at the next start");
    server_close(&s);
    return 0;
failed:
    fprintf(stderr, "drover serve: %s\n", e.text);
    server_close(&s);
    return strcmp(e.code, STORE_DAMAGED) == 0 ? EXIT_DAMAGED : status;
}
