/* drover: the command line, and with `serve` the server. */
#include "cli/cli.h"

#ifdef WITH_SERVE
#include "app/app.h"

static const struct opt serve_opts[] = {
    {"data", 0, OPT_TEXT, "DIR", "where state, logs and the socket live (default ./data)"},
    {"demo", 0, OPT_FLAG, NULL, "example accounts and simulated GPUs; everything says so"},
    {"print-openapi", 0, OPT_FLAG, NULL, "write the OpenAPI document and end"},
    {0},
};
static const char *const serve_examples[] = {
    "drover serve",
    "SERVER_PORT=9000 drover serve --data /srv/drover",
    NULL,
};
static const struct verb serve = {
    .name = "serve",
    .summary = "run the server, and beside it the agent of this host",
    .about = "It listens where SERVER_HOST, SERVER_PORT and COMPAT_PORT say (127.0.0.1, 8080, "
             "8000). Settings come from the environment and from .env.",
    .opts = serve_opts,
    .examples = serve_examples,
    .raw = app_serve,
};
static const struct verb *const hooks[] = {&serve, NULL};
#else
static const struct verb *const hooks[] = {NULL};
#endif

int main(int argc, char **argv)
{
    return cli_main(argc, argv, hooks);
}
