/* drover-agent: the program on each GPU host. See agent/agent.h. */
#include "agent/agent.h"
#include "agent/stream.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "gpu/gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: drover-agent --server unix:PATH|http://HOST:PORT --data DIR [options]\n"
    "Runs jobs on this host for a Drover server.\n"
    "\n"
    "  --server WHERE       the server: unix:PATH on this host, or http://HOST:PORT\n"
    "  --data DIR           folder for this agent's state and the logs of running jobs\n"
    "  --token-file FILE    the credential for a server on another host\n"
    "  --gpu SOURCE         nvml (default), simulated[:N], or none\n"
    "  --name NAME          of this node (default: the host's name)\n"
    "  --shim PATH          drover-shim (default: beside this program)\n"
    "  --log-level LEVEL    debug, info (default), warning, error\n"
    "  --local              belongs to a server on this host and ends with it\n"
    "  --once-idle-exit     ends when every job it was given is done and forgotten\n"
    "  --version, --help\n";

enum { TOKEN_MAX = 4096, EXIT_USAGE = 2, EXIT_TAKEN = 75 };

static int fail(const char *text)
{
    fprintf(stderr, "drover-agent: %s\nTry drover-agent --help.\n", text);
    return EXIT_USAGE;
}

/* "http://HOST:PORT" or "http://[V6]:PORT"; host is cut out of a copy that lives for ever. */
static bool parse_http(const char *url, struct agent_config *c)
{
    char *host = mem_strdup(url + strlen("http://")), *port = strrchr(host, ':');
    int64_t n;
    if (port == NULL)
        return false;
    *port++ = '\0';
    size_t len = strlen(port);
    if (len > 0 && port[len - 1] == '/')
        port[len - 1] = '\0';
    if (!str_int(port, &n) || n < 1 || n > 65535 || *host == '\0')
        return false;
    len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        host++;
    }
    c->server_host = host;
    c->server_port = (uint16_t)n;
    return true;
}

static char *read_token(const char *path)
{
    char *text = mem_alloc(TOKEN_MAX + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, TOKEN_MAX) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? strcspn(text, "\r\n \t") : 0] = '\0';
    return text;
}

/* drover-shim beside this program. */
static char *own_shim(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        return mem_strdup("drover-shim");
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    return mem_printf("%s/drover-shim", path);
}

int main(int argc, char **argv)
{
    if (gpu_helper_wanted(argc, argv))
        return gpu_helper_main(argc, argv);
    enum {
        STREAM = 128,
        SERVER = 256,
        TOKEN,
        DATA,
        GPU,
        NAME,
        SHIM,
        LEVEL,
        LOCAL,
        ONCE,
        VERSION,
        HELP
    };
    static const struct option options[] = {{"server", required_argument, NULL, SERVER},
                                            {"token-file", required_argument, NULL, TOKEN},
                                            {"data", required_argument, NULL, DATA},
                                            {"gpu", required_argument, NULL, GPU},
                                            {"name", required_argument, NULL, NAME},
                                            {"shim", required_argument, NULL, SHIM},
                                            {"log-level", required_argument, NULL, LEVEL},
                                            {"local", no_argument, NULL, LOCAL},
                                            {"once-idle-exit", no_argument, NULL, ONCE},
                                            {"stream", no_argument, NULL, STREAM},
                                            {"version", no_argument, NULL, VERSION},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    static struct agent_config c = {.gpu = "nvml"}; /* its texts live as long as the program */
    enum log_level level = LOG_INFO;
    bool stream = false;
    c.argv = argv;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case SERVER:
            if (str_starts(optarg, "unix:") && optarg[5] != '\0')
                c.server_unix = optarg + 5;
            else if (!str_starts(optarg, "http://") || !parse_http(optarg, &c))
                return fail("--server must be unix:PATH or http://HOST:PORT");
            break;
        case TOKEN:
            c.token = read_token(optarg);
            if (*c.token == '\0')
                return fail("--token-file: the file cannot be read or is empty");
            break;
        case DATA:
            c.data = optarg;
            break;
        case GPU:
            c.gpu = optarg;
            break;
        case NAME:
            c.name = optarg;
            break;
        case SHIM:
            c.shim = optarg;
            break;
        case LEVEL:
            if (!log_level_parse(optarg, &level))
                return fail("--log-level must be debug, info, warning or error");
            break;
        case LOCAL:
            c.local = true;
            break;
        case STREAM: /* for the agent's own use: agent/stream.h */
            stream = true;
            break;
        case ONCE:
            c.once_idle_exit = true;
            break;
        case VERSION:
            puts("drover-agent " DROVER_VERSION);
            return 0;
        case HELP:
            fputs(usage, stdout);
            return 0;
        default:
            return fail("unknown option");
        }
    if (optind < argc)
        return fail("unexpected argument");
    if (c.data == NULL || (c.server_unix == NULL && c.server_host == NULL))
        return fail("--server and --data are needed");
    static char *beside; /* lives as long as the program */
    if (c.shim == NULL)
        c.shim = beside = own_shim();
    if (access(c.shim, X_OK) != 0)
        return fail("drover-shim is not beside this program: build it, or name it with --shim");
    log_setup(level, false, NULL);
    if (stream)
        return stream_main(&c);
    struct err e;
    int k = agent_run(&c, &e);
    if (k == OK)
        return 0;
    log_error("agent", "%s", e.text);
    return k == ERR_CONFLICT ? EXIT_TAKEN : 1;
}
